/* SPDX-License-Identifier: MIT */
/*
 * What the files of kernels/ share among themselves.
 */
#ifndef PKV_KERNELS_H
#define PKV_KERNELS_H

#include <pagedkv/attention.h>

/* What the CPU computes with; pages of any dtype can be copied. */
static inline int pkv_cpu_dtype(uint32_t dtype)
{
	return dtype == PKV_F32 || dtype == PKV_BF16;
}

/* Are table_start's rows ascending, and is there a table if they hold anything? 0 or -EINVAL */
int pkv_table_check(const uint32_t *table, const uint64_t *table_start, uint32_t nr_seqs);

/* Neighbouring items of one kv head and one sequence: what a version works on at a time. */
struct pkv_attention_run {
	uint32_t seq;
	uint32_t kv_head;
	uint32_t first;		/* query tokens [first, end) of the batch */
	uint32_t end;
};

struct pkv_attention_version {
	const char *name;
	void (*run)(const struct pkv_attention *a, const struct pkv_attention_run *run);
};

extern const struct pkv_attention_version pkv_attention_portable;
extern const struct pkv_attention_version pkv_attention_avx2;
extern const struct pkv_attention_version pkv_attention_avx512;

/* The tokens of the context that query token t of sequence s sees. */
static inline uint32_t pkv_visible_tokens(const struct pkv_attention *a, uint32_t s, uint32_t t)
{
	return a->context_tokens[s] - (a->query_start[s + 1] - 1 - t);
}

/* Where K of position pos of sequence s lies, for one kv head; V is kv_stride_bytes further. */
static inline const char *pkv_key_at(const struct pkv_attention *a, uint32_t s, uint32_t kv_head,
				     uint32_t pos)
{
	const struct pkv_kv_layout *l = a->layout;
	uint64_t slot = a->table[a->table_start[s] + pos / l->page_tokens];

	return (const char *)a->base + slot * l->page_stride_bytes +
	       a->layer * l->layer_stride_bytes + kv_head * l->head_stride_bytes +
	       pos % l->page_tokens * l->token_stride_bytes;
}

#endif
