/* SPDX-License-Identifier: MIT */
/*
 * Vectors of 4 floats in the compiler's own terms, for every CPU. See attention_kernel.h.
 */
#include <stdint.h>
#include <string.h>

#define VEC_LANES	4
#define VEC_ROWS	2

typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_int __attribute__((vector_size(16)));

static inline vec vec_set1(float x)
{
	return (vec){ x, x, x, x };
}

static inline vec vec_load(const float *p)
{
	vec v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void vec_store(float *p, vec v)
{
	memcpy(p, &v, sizeof(v));
}

static inline vec vec_load_f32(const char *p)
{
	vec v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline vec vec_load_bf16(const char *p)
{
	uint16_t half[4];

	memcpy(half, p, sizeof(half));
	return (vec)((vec_int){ half[0], half[1], half[2], half[3] } << 16);
}

static inline vec vec_mul(vec a, vec b)
{
	return a * b;
}

static inline vec vec_add(vec a, vec b)
{
	return a + b;
}

static inline vec vec_fma(vec a, vec b, vec c)
{
	return a * b + c;
}

static inline vec vec_select(vec_int mask, vec a, vec b)
{
	return (vec)((mask & (vec_int)a) | (~mask & (vec_int)b));
}

/* A NaN in b wins. */
static inline vec vec_max(vec a, vec b)
{
	return vec_select(a > b, a, b);
}

/* value where x >= limit or x is NaN, else y */
static inline vec vec_select_not_below(vec x, vec limit, vec value, vec y)
{
	return vec_select(x < limit, y, value);
}

/* Of numbers in [-126, 1]; a conversion cuts towards zero. */
static inline vec vec_round(vec v)
{
	return __builtin_convertvector(__builtin_convertvector(v - 0.5f, vec_int), vec);
}

/* 2^n of whole numbers n in [-126, 127] */
static inline vec vec_pow2(vec n)
{
	return (vec)((__builtin_convertvector(n, vec_int) + 127) << 23);
}

static inline float vec_sum(vec v)
{
	return (v[0] + v[2]) + (v[1] + v[3]);
}

static inline float vec_max_lane(vec v)
{
	float low = v[0] > v[1] ? v[0] : v[1];
	float high = v[2] > v[3] ? v[2] : v[3];

	return low > high ? low : high;
}

/* The sums of four vectors. Each is added up in the same order. */
static inline void vec_sum4(float *out, vec a, vec b, vec c, vec d)
{
	out[0] = vec_sum(a);
	out[1] = vec_sum(b);
	out[2] = vec_sum(c);
	out[3] = vec_sum(d);
}
