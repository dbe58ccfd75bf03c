/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A server without a model: memory is an array, a token's K and V is a number made of all
 * tokens before it. Whoever reads a page that isn't what it should be is found out at once.
 */
#ifndef FAKE_H
#define FAKE_H

#include <stdbool.h>
#include <stdint.h>

#include <pagedkv.h>

#include "rng.h"
#include "sched.h"

struct fake_cell {
	uint64_t history;	/* of all tokens up to this one */
	uint32_t token;
	uint32_t position;
};

struct fake_config {
	uint32_t nr_pages[PAGEDKV_NR_TIERS];
	uint32_t page_tokens;
	enum pkvrt_policy policy;
	enum pkvrt_preempt preempt;
	struct pkvrt_shape shape;
	void (*shape_of)(void *ctx, uint32_t req, struct pkvrt_shape *shape);
	uint32_t budget_tokens;
	uint32_t max_batch;
	uint32_t watermark_pages;
	bool use_prefix;
	uint32_t fail_one_in;	/* moves; 0: none fails */
	uint64_t seed;		/* of failures */
};

#define FAKE_MAX_SEQS 8	/* of a request */

#define FAKE_MAX_TABLES 4096u

/* What somebody who keeps block tables between steps would have. */
struct fake_table {
	uint64_t step;
	uint32_t nr;
	uint32_t *slots;
};

struct fake {
	const struct fake_config *cfg;
	struct fake_cell *tiers[PAGEDKV_NR_TIERS];
	uint8_t *writers;	/* chunks of the step that write a slot */
	uint8_t *readers;	/* chunks that have it in their table */
	struct pkvrt_rng rng;
	struct pagedkv *kv;
	struct pagedkv_pool *pool;
	uint64_t now_ns;
	uint64_t nr_steps;
	uint64_t nr_same;	/* entries that a step did not have to tell */
	struct fake_table tables[FAKE_MAX_TABLES];
	uint64_t nr_failed_moves;
	struct pkvrt_metrics metrics;
	uint32_t nr_reqs;
	uint32_t **output;	/* [nr_reqs * FAKE_MAX_SEQS] */
	uint32_t *nr_output;
};

/** Serve @w; all checks are assertions. Ends with fake_exit(). Returns pkvrt_sched_run()'s. */
int fake_serve(struct fake *f, const struct fake_config *cfg, const struct pkvrt_workload *w);
void fake_exit(struct fake *f);

#endif
