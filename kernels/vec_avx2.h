/* SPDX-License-Identifier: MIT */
/*
 * Vectors of 8 floats: AVX2 and FMA. See attention_kernel.h.
 */
#include <immintrin.h>

#define VEC_LANES	8
#define VEC_ROWS	2

typedef __m256 vec;

static inline vec vec_set1(float x)
{
	return _mm256_set1_ps(x);
}

static inline vec vec_load(const float *p)
{
	return _mm256_loadu_ps(p);
}

static inline void vec_store(float *p, vec v)
{
	_mm256_storeu_ps(p, v);
}

static inline vec vec_load_f32(const char *p)
{
	return _mm256_loadu_ps((const float *)p);
}

static inline vec vec_load_bf16(const char *p)
{
	__m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));

	return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

static inline vec vec_mul(vec a, vec b)
{
	return _mm256_mul_ps(a, b);
}

static inline vec vec_add(vec a, vec b)
{
	return _mm256_add_ps(a, b);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
	return _mm256_fmadd_ps(a, b, c);
}

/* A NaN in b wins. */
static inline vec vec_max(vec a, vec b)
{
	return _mm256_max_ps(a, b);
}

/* value where x >= limit or x is NaN, else y */
static inline vec vec_select_not_below(vec x, vec limit, vec value, vec y)
{
	return _mm256_blendv_ps(y, value, _mm256_cmp_ps(x, limit, _CMP_NLT_UQ));
}

static inline vec vec_round(vec v)
{
	return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^n of whole numbers n in [-126, 127] */
static inline vec vec_pow2(vec n)
{
	__m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));

	return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

static inline float vec_sum(vec v)
{
	__m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	x = _mm_add_ps(x, _mm_movehl_ps(x, x));
	return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}

static inline float vec_max_lane(vec v)
{
	__m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

	x = _mm_max_ps(x, _mm_movehl_ps(x, x));
	return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}

/* The sums of four vectors. Each is added up in the same order. */
static inline void vec_sum4(float *out, vec a, vec b, vec c, vec d)
{
	vec ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
	vec cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
	vec abcd = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));

	_mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(abcd),
				      _mm256_extractf128_ps(abcd, 1)));
}
