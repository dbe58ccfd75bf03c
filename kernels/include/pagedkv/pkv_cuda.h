/* SPDX-License-Identifier: MIT */
/*
 * The CUDA kernels as a C interface without CUDA types: paged attention, cache writes, page copies
 * and sampling on a Hopper GPU.
 *
 * Pointers marked device are addresses in the memory of the current CUDA device; all else is host
 * memory, read before the call returns. A stream is a cudaStream_t, NULL the default one. Calls
 * launch work on it and return: nothing here waits for the device, so every call can be captured
 * into a graph. Whoever calls keeps device memory alive until the stream has passed.
 *
 * What lies in device memory can't be checked on the host: a block table that names a slot past the
 * arena, or a context longer than its row, is the caller's fault. Unused token places of a page
 * are never read.
 *
 * Return values: 0; -EINVAL for an argument that is wrong; -EOPNOTSUPP for one that is right but
 * that no kernel here takes; -ENODEV when there is no device of this architecture; -EIO when the
 * device reported an error (it may be one of earlier work on the device).
 */
#ifndef PAGEDKV_PKV_CUDA_H
#define PAGEDKV_PKV_CUDA_H

#include <pagedkv/cache.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * pkv_cuda_device_check - can the current device run what is here?
 *
 * Return: 0; -ENODEV without a device of this architecture; -EIO.
 */
int pkv_cuda_device_check(void);

/* The same bits for a sequence whatever the batch, the chunks, the split and the pages' places. */
#define PKV_CUDA_INVARIANT	(1u << 0)

/**
 * struct pkv_cuda_attention - attention of a ragged batch over a paged cache
 *
 * Sequence s brings the query tokens [query_start[s], query_start[s + 1]), the last ones of its
 * context of context_tokens[s] tokens, whose K and V are in the cache already. Attention is causal:
 * a query token sees the context up to and including itself. A sequence without query tokens has
 * no output; one with an empty context has zeros, and -inf as its log-sum-exp.
 *
 * Scores are scale * q.k, then softcap * tanh(score / softcap), then plus alibi[head] times (k's
 * position - q's position); with a window, q sees the last window tokens, itself among them.
 */
struct pkv_cuda_attention {
	uint32_t size;			/* sizeof(struct pkv_cuda_attention) */
	uint32_t flags;			/* PKV_CUDA_* */
	const struct pkv_kv_layout *layout;	/* dtype BF16, F16 or E4M3; strides of 16 bytes */
	const void *base;		/* device: slot 0 of the arena, 16-byte aligned */
	uint32_t nr_slots;
	uint32_t layer;
	uint32_t nr_q_heads;		/* a multiple of nr_kv_heads, at most 16 times */
	uint32_t nr_seqs;
	uint32_t nr_tokens;		/* rows of q: query_start[nr_seqs] or more */
	uint32_t max_query_tokens;	/* of one sequence */
	uint32_t max_context_tokens;	/* of one sequence: an upper bound, for planning */
	uint32_t q_dtype;		/* of q and out: BF16 or F16 (F16 KV wants F16) */
	float scale;
	float softcap;			/* 0: none */
	uint32_t window;		/* tokens; 0: none */
	uint32_t reserved;		/* must be 0 */
	const float *alibi;		/* device [nr_q_heads], or NULL */
	const float *k_scale;		/* device [nr_kv_heads]: E4M3 K times this, or NULL: 1 */
	const float *v_scale;		/* device [nr_kv_heads] */
	const uint32_t *query_start;	/* device [nr_seqs + 1], ascending from 0 */
	const uint32_t *context_tokens;	/* device [nr_seqs], each >= its query tokens */
	const uint32_t *table;		/* device: block tables, rows of table_row_slots entries */
	uint64_t table_row_slots;
	const uint32_t *table_rows;	/* device [nr_seqs]: each sequence's row, or NULL: row s */
	const void *q;			/* device [nr_tokens][nr_q_heads][head_dim] */
	uint64_t q_row_elements;	/* from one token of q to the next, a multiple of 8 */
	void *out;			/* device [nr_tokens][nr_q_heads][head_dim], contiguous */
	float *lse;			/* device [nr_tokens][nr_q_heads], natural log, or NULL */
	void *workspace;		/* device, pkv_cuda_attention_workspace() bytes */
	uint64_t workspace_bytes;	/* zeroed once by the caller; calls leave it ready */
	void *stream;
};

#ifdef __cplusplus
}
#endif

#endif
