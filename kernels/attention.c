// SPDX-License-Identifier: MIT
/*
 * The calls of attention.h: checks, the choice of a version, and cutting a range
 * of items into runs of one sequence and one kv head.
 */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

struct choice {
	const struct pkv_attention_version *version;
	int (*runs_here)(void);
};

static int always(void)
{
	return 1;
}

#ifdef __x86_64__
static int has_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

/* Best first. */
static const struct choice choices[] = {
#ifdef __x86_64__
	{ &pkv_attention_avx512, has_avx512 },
	{ &pkv_attention_avx2, has_avx2 },
#endif
	{ &pkv_attention_portable, always },
};

#define NR_CHOICES	(sizeof(choices) / sizeof(choices[0]))

static _Atomic(const struct pkv_attention_version *) in_use;

static const struct pkv_attention_version *best_version(void)
{
	for (size_t i = 0; i < NR_CHOICES - 1; i++)
		if (choices[i].runs_here())
			return choices[i].version;
	return choices[NR_CHOICES - 1].version;
}

static int find_version(const char *name, const struct pkv_attention_version **out)
{
	for (size_t i = 0; i < NR_CHOICES; i++) {
		if (strcmp(choices[i].version->name, name))
			continue;
		if (!choices[i].runs_here())
			return -EOPNOTSUPP;
		*out = choices[i].version;
		return 0;
	}
	return -EINVAL;
}

static const struct pkv_attention_version *default_version(void)
{
	const struct pkv_attention_version *v;
	const char *name = getenv("PAGEDKV_KERNELS");

	if (name && !find_version(name, &v))
		return v;
	return best_version();
}

static const struct pkv_attention_version *current_version(void)
{
	const struct pkv_attention_version *v = atomic_load_explicit(&in_use, memory_order_relaxed);

	if (!v) {
		v = default_version();
		atomic_store_explicit(&in_use, v, memory_order_relaxed);
	}
	return v;
}

const char *pkv_attention_version(void)
{
	return current_version()->name;
}

int pkv_attention_use(const char *name)
{
	const struct pkv_attention_version *v = NULL;

	if (name) {
		int err = find_version(name, &v);

		if (err)
			return err;
	}
	atomic_store_explicit(&in_use, v, memory_order_relaxed);
	return 0;
}

static int check_seq(const struct pkv_attention *a, uint32_t s)
{
	uint64_t nr_pages = a->table_start[s + 1] - a->table_start[s];
	const uint32_t *row = a->table + a->table_start[s];
	uint64_t nr_used;

	if (a->query_start[s] > a->query_start[s + 1] ||
	    a->context_tokens[s] < a->query_start[s + 1] - a->query_start[s])
		return -EINVAL;
	if (a->query_start[s] == a->query_start[s + 1])
		return 0;
	nr_used = ((uint64_t)a->context_tokens[s] + a->layout->page_tokens - 1) /
		  a->layout->page_tokens;
	if (nr_used > nr_pages)
		return -EINVAL;
	for (uint64_t i = 0; i < nr_used; i++)
		if (row[i] >= a->nr_slots)
			return -EINVAL;
	return 0;
}

int pkv_attention_check(const struct pkv_attention *a)
{
	uint32_t nr_kv_heads;

	if (!a || pkv_kv_layout_check(a->layout) || !pkv_cpu_dtype(a->layout->dtype) ||
	    a->layer >= a->layout->nr_layers)
		return -EINVAL;
	nr_kv_heads = a->layout->nr_kv_heads;
	if (!a->nr_q_heads || a->nr_q_heads % nr_kv_heads ||
	    a->nr_q_heads / nr_kv_heads > PKV_MAX_GROUP || !isfinite(a->scale))
		return -EINVAL;
	if (!a->query_start || a->query_start[0] != 0 || a->query_start[a->nr_seqs] != a->nr_tokens)
		return -EINVAL;
	if (!a->nr_seqs)
		return 0;
	if (!a->context_tokens || pkv_table_check(a->table, a->table_start, a->nr_seqs))
		return -EINVAL;
	if (a->nr_tokens && (!a->base || !a->q || !a->out ||
			     a->q_row_floats < (uint64_t)a->nr_q_heads * a->layout->head_dim))
		return -EINVAL;

	for (uint32_t s = 0; s < a->nr_seqs; s++)
		if (check_seq(a, s))
			return -EINVAL;
	return 0;
}

uint64_t pkv_attention_nr_items(const struct pkv_attention *a)
{
	return (uint64_t)a->nr_tokens * a->layout->nr_kv_heads;
}

/* The sequence that query token t belongs to: the last one that starts at or before it. */
static uint32_t seq_of_token(const struct pkv_attention *a, uint32_t t)
{
	uint32_t low = 0, high = a->nr_seqs;

	while (high - low > 1) {
		uint32_t mid = low + (high - low) / 2;

		if (a->query_start[mid] <= t)
			low = mid;
		else
			high = mid;
	}
	return low;
}

void pkv_attention_items(const struct pkv_attention *a, uint64_t first, uint64_t end)
{
	const struct pkv_attention_version *version = current_version();

	while (first < end) {
		struct pkv_attention_run run = {
			.kv_head = (uint32_t)(first / a->nr_tokens),
			.first = (uint32_t)(first % a->nr_tokens),
		};
		uint64_t left = end - first;

		run.seq = seq_of_token(a, run.first);
		run.end = a->query_start[run.seq + 1];
		if (run.end - run.first > left)
			run.end = run.first + (uint32_t)left;
		version->run(a, &run);
		first += run.end - run.first;
	}
}

int pkv_attention(const struct pkv_attention *a)
{
	int err = pkv_attention_check(a);

	if (!err && a->nr_tokens)
		pkv_attention_items(a, 0, pkv_attention_nr_items(a));
	return err;
}
