/* SPDX-License-Identifier: MIT */
/*
 * Attention over a paged KV cache: decode and (chunked) prefill in one call.
 *
 * A call is a ragged batch of sequences. Sequence s brings the query tokens
 * [query_start[s], query_start[s + 1]), which are the last ones of its context of
 * context_tokens[s] tokens, and whose K and V are in the cache already. Attention
 * is causal: a query token sees the context up to and including itself.
 *
 * Invariance, which every implementation holds: the output of a query token is a
 * function of its own q, its context's K and V, scale and page_tokens, bit for
 * bit. Neither the rest of the batch, the chunk it came in, where its pages lie
 * nor how the work was split over threads can be seen in it. This is what makes
 * "the same tokens with and without swapping" a proof. It holds among calls that
 * run the same version (pkv_attention_version()) on one machine.
 *
 * Unused token places of a page are never read.
 */
#ifndef PAGEDKV_KERNELS_ATTENTION_H
#define PAGEDKV_KERNELS_ATTENTION_H

#include <pagedkv/cache.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pkv_attention {
	const struct pkv_kv_layout *layout;
	const void *base;		/* slot 0 of the arena */
	uint32_t nr_slots;		/* of the arena */
	uint32_t layer;
	uint32_t nr_q_heads;		/* a multiple of nr_kv_heads, at most 16 times */
	uint32_t nr_seqs;
	uint32_t nr_tokens;		/* query tokens: query_start[nr_seqs] */
	float scale;			/* of q.k before the softmax, finite */
	const uint32_t *query_start;	/* [nr_seqs + 1], ascending from 0 */
	const uint32_t *context_tokens;	/* [nr_seqs], each >= its query tokens */
	const uint32_t *table;		/* slots of all block tables */
	const uint64_t *table_start;	/* [nr_seqs + 1], ascending: rows of table */
	const float *q;			/* [nr_tokens][nr_q_heads][head_dim], see q_row_floats */
	uint64_t q_row_floats;		/* floats from one token of q to the next */
	float *out;			/* [nr_tokens][nr_q_heads][head_dim], contiguous */
	float *lse;			/* [nr_tokens][nr_q_heads] log-sum-exp of scores, or NULL */
};

/**
 * pkv_attention_check - the one place that checks arguments
 *
 * Return: 0, or -EINVAL for any argument that the kernels could not obey.
 */
int pkv_attention_check(const struct pkv_attention *a);

/**
 * pkv_attention_nr_items - how many items of work a call has
 *
 * An item is one query token of one kv head; items of one kv head are
 * neighbours, in order of query token, so that a range of items reuses pages.
 */
uint64_t pkv_attention_nr_items(const struct pkv_attention *a);

/**
 * pkv_attention_items - do the items [first, end) of a checked call
 *
 * Threads may share one call by taking ranges that do not overlap.
 */
void pkv_attention_items(const struct pkv_attention *a, uint64_t first, uint64_t end);

/**
 * pkv_attention - check, then do the whole call. Return: 0 or -EINVAL
 */
int pkv_attention(const struct pkv_attention *a);

/**
 * pkv_attention_reference - the same in plain loops with double sums
 *
 * What every other version is held against. Slow. Return: 0, -EINVAL or -ENOMEM.
 */
int pkv_attention_reference(const struct pkv_attention *a);

/**
 * pkv_attention_version - name of the version in use
 *
 * The best that the CPU can run, of "avx512", "avx2" and "portable", unless the
 * environment's PAGEDKV_KERNELS or pkv_attention_use() says otherwise.
 */
const char *pkv_attention_version(void);

/**
 * pkv_attention_use - choose a version by name, or with NULL the default again
 *
 * Not to be called while another thread is in a kernel.
 *
 * Return: 0; -EINVAL for an unknown name; -EOPNOTSUPP when the CPU can't run it.
 */
int pkv_attention_use(const char *name);

#ifdef __cplusplus
}
#endif

#endif
