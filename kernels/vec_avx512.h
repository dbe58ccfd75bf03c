/* SPDX-License-Identifier: MIT */
/*
 * Vectors of 16 floats: AVX-512 F, BW, VL and DQ. See attention_kernel.h.
 */
#include <immintrin.h>

#define VEC_LANES	16
#define VEC_ROWS	4	/* rows that the kernels keep in registers */

typedef __m512 vec;

static inline vec vec_set1(float x)
{
	return _mm512_set1_ps(x);
}

static inline vec vec_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

static inline void vec_store(float *p, vec v)
{
	_mm512_storeu_ps(p, v);
}

static inline vec vec_load_f32(const char *p)
{
	return _mm512_loadu_ps((const float *)p);
}

/* The last 8 dims of a head_dim that is not a multiple of 16, and zeros. */
static inline vec vec_load_f32_half(const char *p)
{
	return _mm512_zextps256_ps512(_mm256_loadu_ps((const float *)p));
}

static inline vec vec_load_bf16(const char *p)
{
	__m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));

	return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

static inline vec vec_load_bf16_half(const char *p)
{
	__m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));

	return _mm512_zextps256_ps512(_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)));
}

static inline vec vec_mul(vec a, vec b)
{
	return _mm512_mul_ps(a, b);
}

static inline vec vec_add(vec a, vec b)
{
	return _mm512_add_ps(a, b);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* A NaN in b wins. */
static inline vec vec_max(vec a, vec b)
{
	return _mm512_max_ps(a, b);
}

/* value where x >= limit or x is NaN, else y */
static inline vec vec_select_not_below(vec x, vec limit, vec value, vec y)
{
	return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), y, value);
}

static inline vec vec_round(vec v)
{
	return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^n of whole numbers n in [-126, 127] */
static inline vec vec_pow2(vec n)
{
	__m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));

	return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

static inline float vec_sum(vec v)
{
	return _mm512_reduce_add_ps(v);
}

static inline float vec_max_lane(vec v)
{
	return _mm512_reduce_max_ps(v);
}

/* The sums of four vectors. Each is added up in the same order. */
static inline void vec_sum4(float *out, vec a, vec b, vec c, vec d)
{
	vec ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
	vec cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
	vec abcd = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
	__m256 half = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));

	_mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half),
				      _mm256_extractf128_ps(half, 1)));
}
