// SPDX-License-Identifier: MIT
/*
 * Paged attention as one would explain it: for each query token and head all
 * scores, their softmax, the weighted sum of V; in double.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

static double element(const struct pkv_kv_layout *l, const char *row, uint32_t d)
{
	uint16_t half;
	uint32_t bits;
	float f;

	if (l->dtype == PKV_F32) {
		memcpy(&f, row + d * sizeof(f), sizeof(f));
		return f;
	}
	memcpy(&half, row + d * sizeof(half), sizeof(half));
	bits = (uint32_t)half << 16;
	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* One query token t of sequence s, one query head; p has room for its visible tokens. */
static void attend(const struct pkv_attention *a, uint32_t s, uint32_t t, uint32_t q_head,
		   double *p)
{
	const struct pkv_kv_layout *l = a->layout;
	uint32_t kv_head = q_head / (a->nr_q_heads / l->nr_kv_heads);
	const float *q = a->q + t * a->q_row_floats + (size_t)q_head * l->head_dim;
	float *out = a->out + ((size_t)t * a->nr_q_heads + q_head) * l->head_dim;
	uint32_t nr = pkv_visible_tokens(a, s, t);
	double max = -INFINITY, sum = 0;

	for (uint32_t i = 0; i < nr; i++) {
		const char *k = pkv_key_at(a, s, kv_head, i);
		double dot = 0;

		for (uint32_t d = 0; d < l->head_dim; d++)
			dot += (double)q[d] * element(l, k, d);
		p[i] = dot * (double)a->scale;
		max = fmax(max, p[i]);
	}
	for (uint32_t i = 0; i < nr; i++) {
		p[i] = exp(p[i] - max);
		sum += p[i];
	}
	for (uint32_t d = 0; d < l->head_dim; d++) {
		double acc = 0;

		for (uint32_t i = 0; i < nr; i++)
			acc += p[i] * element(l, pkv_key_at(a, s, kv_head, i) + l->kv_stride_bytes,
					      d);
		out[d] = (float)(acc / sum);
	}
	if (a->lse)
		a->lse[(size_t)t * a->nr_q_heads + q_head] = (float)(max + log(sum));
}

int pkv_attention_reference(const struct pkv_attention *a)
{
	int err = pkv_attention_check(a);
	uint32_t longest = 1;
	double *p;

	if (err)
		return err;
	for (uint32_t s = 0; s < a->nr_seqs; s++)
		if (a->context_tokens[s] > longest)
			longest = a->context_tokens[s];
	p = calloc(longest, sizeof(*p));
	if (!p)
		return -ENOMEM;

	for (uint32_t s = 0; s < a->nr_seqs; s++)
		for (uint32_t t = a->query_start[s]; t < a->query_start[s + 1]; t++)
			for (uint32_t h = 0; h < a->nr_q_heads; h++)
				attend(a, s, t, h, p);
	free(p);
	return 0;
}
