/* SPDX-License-Identifier: MIT */
/*
 * Paged attention in vectors; included once by each attention_VERSION.c after its
 * vec_VERSION.h, which gives vec, VEC_LANES, VEC_ROWS and the vec_*() below.
 *
 * The rows (query tokens x query heads of one kv head) of a run are taken a few at a
 * time over their context, BLOCK tokens at a time with an online softmax, so that
 * rows share what they read. Pages are seen only as an array of pointers to a block's
 * tokens: neither their size nor their places reach the arithmetic.
 *
 * Invariance: everything done to a row is a fixed series of operations, given its
 * number of visible tokens. Blocks begin at multiples of BLOCK of the context; each
 * dot product has one vector sum over the dims in order; each output dim one sum
 * over the tokens in order. Which rows share registers changes no operand of any of
 * these. The compiler must not fuse or reorder: this is built with
 * -ffp-contract=off, and without -ffast-math.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernels.h"

#define BLOCK		32	/* tokens of context at a time, a multiple of VEC_LANES */
#define MAX_ROWS	PKV_MAX_GROUP	/* rows at a time */
#define CHUNK		4	/* vectors of dims that the kernels keep in registers */
#define DIMS		PKV_MAX_HEAD_DIM
#define CACHE_LINE	64

#define kernel_inline	static inline __attribute__((always_inline))

struct rows {
	float q[MAX_ROWS][DIMS];	/* zero past head_dim */
	float acc[MAX_ROWS][DIMS];
	float p[MAX_ROWS][BLOCK];	/* scores, then weights of the block's tokens */
	float max[MAX_ROWS];
	float sum[MAX_ROWS];
	float rescale[MAX_ROWS];	/* of acc and sum for the new maximum */
	uint32_t visible[MAX_ROWS];
	uint32_t nr;
	uint32_t dims;			/* head_dim */
};

/* Where the tokens [begin, begin + nr) of a context lie. */
struct block {
	const char *k[BLOCK];
	const char *v[BLOCK];
	uint32_t begin;
	uint32_t nr;
};

/* exp(x) for x <= 0: 0 below -87.3, where it would not be a normal number; NaN for NaN */
kernel_inline vec vec_exp(vec x)
{
	const vec limit = vec_set1(-87.3f);
	vec clamped = vec_max(limit, x);
	vec n = vec_round(vec_mul(clamped, vec_set1(1.44269504f)));
	vec r = vec_fma(n, vec_set1(-0.693359375f), clamped);
	vec y = vec_set1(1.0f / 5040);

	r = vec_fma(n, vec_set1(2.12194440e-4f), r);
	y = vec_fma(y, r, vec_set1(1.0f / 720));
	y = vec_fma(y, r, vec_set1(1.0f / 120));
	y = vec_fma(y, r, vec_set1(1.0f / 24));
	y = vec_fma(y, r, vec_set1(1.0f / 6));
	y = vec_fma(y, r, vec_set1(0.5f));
	y = vec_fma(y, r, vec_set1(1.0f));
	y = vec_fma(y, r, vec_set1(1.0f));
	return vec_select_not_below(x, limit, vec_mul(y, vec_pow2(n)), vec_set1(0.0f));
}

kernel_inline vec load_kv(uint32_t dtype, const char *row, uint32_t dim)
{
	return dtype == PKV_F32 ? vec_load_f32(row + dim * 4) : vec_load_bf16(row + dim * 2);
}

/* The last dims of a row, when they fill half a vector. Only the widest have such. */
kernel_inline vec load_kv_tail(uint32_t dtype, const char *row, uint32_t dim)
{
#if VEC_LANES == 16
	return dtype == PKV_F32 ? vec_load_f32_half(row + dim * 4) :
				  vec_load_bf16_half(row + dim * 2);
#else
	return load_kv(dtype, row, dim);
#endif
}

/* p[first ..][t] = q . k of token t, for nr rows (a constant) and 4 tokens from t on */
kernel_inline void dot_rows_x4(uint32_t dtype, uint32_t nr, struct rows *rows, uint32_t first,
			       const char *const *k, uint32_t t)
{
	uint32_t whole = rows->dims / VEC_LANES * VEC_LANES;
	vec sum[VEC_ROWS][4];

	for (uint32_t r = 0; r < nr; r++)
		for (uint32_t i = 0; i < 4; i++)
			sum[r][i] = vec_set1(0.0f);

	for (uint32_t d = 0; d < rows->dims; d += VEC_LANES) {
		vec key[4];

		for (uint32_t i = 0; i < 4; i++)
			key[i] = d < whole ? load_kv(dtype, k[t + i], d) :
					     load_kv_tail(dtype, k[t + i], d);
		for (uint32_t r = 0; r < nr; r++) {
			vec q = vec_load(&rows->q[first + r][d]);

			for (uint32_t i = 0; i < 4; i++)
				sum[r][i] = vec_fma(q, key[i], sum[r][i]);
		}
	}
	for (uint32_t r = 0; r < nr; r++)
		vec_sum4(&rows->p[first + r][t], sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
}

/* acc = acc * rescale + sum of p[t] * v of token t, for nr rows and nr_vecs vectors of dims */
kernel_inline void add_values(uint32_t dtype, uint32_t nr, uint32_t nr_vecs, bool tail,
			      struct rows *rows, uint32_t first, const char *const *v,
			      uint32_t nr_tokens, uint32_t dim)
{
	vec acc[VEC_ROWS][CHUNK];

	for (uint32_t r = 0; r < nr; r++)
		for (uint32_t c = 0; c < nr_vecs; c++)
			acc[r][c] = vec_mul(vec_load(&rows->acc[first + r][dim + c * VEC_LANES]),
					    vec_set1(rows->rescale[first + r]));

	for (uint32_t t = 0; t < nr_tokens; t++) {
		vec value[CHUNK];

		for (uint32_t c = 0; c < nr_vecs; c++)
			value[c] = tail ? load_kv_tail(dtype, v[t], dim + c * VEC_LANES) :
					  load_kv(dtype, v[t], dim + c * VEC_LANES);
		for (uint32_t r = 0; r < nr; r++) {
			vec p = vec_set1(rows->p[first + r][t]);

			for (uint32_t c = 0; c < nr_vecs; c++)
				acc[r][c] = vec_fma(p, value[c], acc[r][c]);
		}
	}
	for (uint32_t r = 0; r < nr; r++)
		for (uint32_t c = 0; c < nr_vecs; c++)
			vec_store(&rows->acc[first + r][dim + c * VEC_LANES], acc[r][c]);
}

kernel_inline void add_all_values(uint32_t dtype, uint32_t nr, struct rows *rows, uint32_t first,
				  const char *const *v, uint32_t nr_tokens)
{
	uint32_t whole = rows->dims / VEC_LANES * VEC_LANES;
	uint32_t d = 0;

	for (; d + CHUNK * VEC_LANES <= whole; d += CHUNK * VEC_LANES)
		add_values(dtype, nr, CHUNK, false, rows, first, v, nr_tokens, d);
	for (; d < whole; d += VEC_LANES)
		add_values(dtype, nr, 1, false, rows, first, v, nr_tokens, d);
	if (d < rows->dims)
		add_values(dtype, nr, 1, true, rows, first, v, nr_tokens, d);
}

/* Turns nr scores of row r into weights, with the new maximum, sum and rescale. */
static void soften(struct rows *rows, uint32_t r, uint32_t nr, float scale)
{
	uint32_t padded = (nr + VEC_LANES - 1) / VEC_LANES * VEC_LANES;
	vec max = vec_set1(rows->max[r]), sum = vec_set1(0.0f);
	float *p = rows->p[r];
	float gap[VEC_LANES];
	vec top;

	for (uint32_t t = 0; t < padded; t += VEC_LANES) {
		vec_store(p + t, vec_mul(vec_load(p + t), vec_set1(scale)));
		for (uint32_t i = nr > t ? nr - t : 0; i < VEC_LANES; i++)
			p[t + i] = -INFINITY;
		max = vec_max(max, vec_load(p + t));
	}
	top = vec_set1(vec_max_lane(max));
	for (uint32_t t = 0; t < padded; t += VEC_LANES) {
		vec e = vec_exp(vec_add(vec_load(p + t), vec_mul(top, vec_set1(-1.0f))));

		vec_store(p + t, e);
		sum = vec_add(sum, e);
	}

	vec_store(gap, vec_exp(vec_add(vec_set1(rows->max[r]), vec_mul(top, vec_set1(-1.0f)))));
	rows->rescale[r] = gap[0];
	rows->sum[r] = rows->sum[r] * gap[0] + vec_sum(sum);
	vec_store(gap, top);
	rows->max[r] = gap[0];
}

/* Asks for the memory of nr tokens' rows. Pages end too soon for the CPU to guess them. */
kernel_inline void fetch(uint32_t dtype, uint32_t dims, const char *const *rows, uint32_t nr)
{
	uint32_t bytes = dims * (dtype == PKV_F32 ? 4 : 2);

	for (uint32_t t = 0; t < nr; t++)
		for (uint32_t at = 0; at < bytes; at += CACHE_LINE)
			__builtin_prefetch(rows[t] + at);
}

/*
 * nr rows from first on, which all see nr_tokens of block b. The first rows fetch the
 * block's V, and K of the block after it, for all.
 */
kernel_inline void attend_rows(uint32_t dtype, uint32_t nr, struct rows *rows, uint32_t first,
			       const struct block *b, const struct block *after,
			       uint32_t nr_tokens, float scale)
{
	for (uint32_t t = 0; t < nr_tokens; t += 4) {
		if (!first && t + 4 <= b->nr)
			fetch(dtype, rows->dims, b->v + t, 4);
		dot_rows_x4(dtype, nr, rows, first, b->k, t);
	}
	if (!first)
		fetch(dtype, rows->dims, after->k, after->nr);
	for (uint32_t r = first; r < first + nr; r++)
		soften(rows, r, nr_tokens, scale);
	add_all_values(dtype, nr, rows, first, b->v, nr_tokens);
}

/* How many of block b's tokens row r sees. */
static uint32_t seen(const struct rows *rows, uint32_t r, const struct block *b)
{
	if (rows->visible[r] <= b->begin)
		return 0;
	return rows->visible[r] - b->begin < BLOCK ? rows->visible[r] - b->begin : BLOCK;
}

kernel_inline void attend_block(uint32_t dtype, struct rows *rows, const struct block *b,
				const struct block *after, float scale)
{
	uint32_t first = 0;

	while (first < rows->nr) {
		uint32_t nr_tokens = seen(rows, first, b);
		uint32_t nr = 1;

		if (!nr_tokens) {
			first++;
			continue;
		}
		while (nr < VEC_ROWS && first + nr < rows->nr &&
		       seen(rows, first + nr, b) == nr_tokens)
			nr++;
		if (nr == VEC_ROWS) {
			attend_rows(dtype, VEC_ROWS, rows, first, b, after, nr_tokens, scale);
		} else if (VEC_ROWS > 2 && nr >= 2) {
			nr = 2;
			attend_rows(dtype, 2, rows, first, b, after, nr_tokens, scale);
		} else {
			nr = 1;
			attend_rows(dtype, 1, rows, first, b, after, nr_tokens, scale);
		}
		first += nr;
	}
}

/*
 * Fills in the block from begin on of a context of which nr_tokens are seen. Up to the
 * next multiple of four, where dot_rows_x4() reads but nothing looks, the last K is repeated.
 */
static void find_block(const struct pkv_attention *a, const struct pkv_attention_run *run,
		       uint32_t begin, uint32_t nr_tokens, struct block *b)
{
	const struct pkv_kv_layout *l = a->layout;
	uint32_t left = begin < nr_tokens ? nr_tokens - begin : 0;
	const char *key = NULL;
	uint32_t t, in_page = 0;

	b->begin = begin;
	b->nr = left < BLOCK ? left : BLOCK;
	for (t = 0; t < b->nr; t++) {
		if (!in_page) {
			key = pkv_key_at(a, run->seq, run->kv_head, begin + t);
			in_page = l->page_tokens - (begin + t) % l->page_tokens;
		}
		b->k[t] = key;
		b->v[t] = key + l->kv_stride_bytes;
		key += l->token_stride_bytes;
		in_page--;
	}
	for (; t % 4; t++)
		b->k[t] = b->k[t - 1];
}

static void load_rows(struct rows *rows, const struct pkv_attention *a,
		      const struct pkv_attention_run *run, uint32_t first, uint32_t end)
{
	uint32_t group = a->nr_q_heads / a->layout->nr_kv_heads;
	uint32_t dims = a->layout->head_dim;

	rows->nr = 0;
	rows->dims = dims;
	for (uint32_t t = first; t < end; t++) {
		const float *q = a->q + t * a->q_row_floats +
				 (size_t)run->kv_head * group * dims;

		for (uint32_t g = 0; g < group; g++, rows->nr++) {
			uint32_t r = rows->nr;

			memcpy(rows->q[r], q + (size_t)g * dims, dims * sizeof(*q));
			memset(rows->q[r] + dims, 0, (DIMS - dims) * sizeof(*q));
			memset(rows->acc[r], 0, sizeof(rows->acc[r]));
			rows->max[r] = -INFINITY;
			rows->sum[r] = 0;
			rows->visible[r] = pkv_visible_tokens(a, run->seq, t);
		}
	}
}

static void store_rows(const struct rows *rows, const struct pkv_attention *a,
		       const struct pkv_attention_run *run, uint32_t first)
{
	uint32_t group = a->nr_q_heads / a->layout->nr_kv_heads;

	for (uint32_t r = 0; r < rows->nr; r++) {
		size_t head = (size_t)(first + r / group) * a->nr_q_heads +
			      run->kv_head * group + r % group;
		float *out = a->out + head * rows->dims;

		for (uint32_t d = 0; d < rows->dims; d++)
			out[d] = rows->acc[r][d] / rows->sum[r];
		if (a->lse)
			a->lse[head] = rows->max[r] + logf(rows->sum[r]);
	}
}

kernel_inline void attend_tokens(uint32_t dtype, const struct pkv_attention *a,
				 const struct pkv_attention_run *run, uint32_t first, uint32_t end)
{
	uint32_t longest, nr_blocks = 0;
	struct block blocks[2];
	struct rows rows;

	load_rows(&rows, a, run, first, end);
	longest = rows.visible[rows.nr - 1];
	find_block(a, run, 0, longest, &blocks[0]);
	while (blocks[nr_blocks % 2].nr) {
		struct block *b = &blocks[nr_blocks++ % 2], *after = &blocks[nr_blocks % 2];

		find_block(a, run, b->begin + b->nr, longest, after);
		attend_block(dtype, &rows, b, after, a->scale);
	}
	store_rows(&rows, a, run, first);
}

static void attend_f32(const struct pkv_attention *a, const struct pkv_attention_run *run,
		       uint32_t first, uint32_t end)
{
	attend_tokens(PKV_F32, a, run, first, end);
}

static void attend_bf16(const struct pkv_attention *a, const struct pkv_attention_run *run,
			uint32_t first, uint32_t end)
{
	attend_tokens(PKV_BF16, a, run, first, end);
}

static void attend_run(const struct pkv_attention *a, const struct pkv_attention_run *run)
{
	uint32_t step = MAX_ROWS / (a->nr_q_heads / a->layout->nr_kv_heads);

	for (uint32_t t = run->first; t < run->end; t += step) {
		uint32_t end = run->end - t < step ? run->end : t + step;

		if (a->layout->dtype == PKV_F32)
			attend_f32(a, run, t, end);
		else
			attend_bf16(a, run, t, end);
	}
}
