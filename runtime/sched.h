/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The scheduler: which sequences compute which tokens in the next iteration.
 *
 * Iteration-level batching with a token budget: every running sequence decodes one token,
 * prompts fill what is left in chunks. FCFS within priorities. Memory is given
 * optimistically; when it runs out, the group that arrived last (of the lowest priority) is
 * preempted whole: its pages go cold and may be swapped out, or are given up and recomputed,
 * whichever the cost model says is cheaper. Preempted groups go before waiting ones, and are
 * called back as soon as there is room, so that their pages travel while others compute.
 *
 * A page that is lost on the way is recomputed from the tokens, which the scheduler keeps.
 *
 * Memory calls an iteration: one step, and one more when sequences fork (their children get
 * their first page in the next one).
 */
#ifndef PKVRT_SCHED_H
#define PKVRT_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "alloc.h"
#include "cost.h"
#include "executor.h"
#include "group.h"
#include "metrics.h"
#include "workload.h"

struct pkvrt_sched;

/*
 * Who computes. Chunks are complete: tokens, block tables, draws. In "lengths" there is no
 * model: time is virtual and draws are seeded noise.
 */
struct pkvrt_compute_ops {
	int (*step)(void *ctx, struct pkvrt_chunk *chunks, unsigned int nr_chunks);
	uint64_t (*now_ns)(void *ctx);
	/* Nothing to do before @until_ns. May return early. */
	void (*idle)(void *ctx, uint64_t until_ns);
};

struct pkvrt_compute {
	const struct pkvrt_compute_ops *ops;
	void *ctx;
	uint32_t vocab;
};

/* Virtual time: a step takes base + its tokens' worth. */
struct pkvrt_lengths {
	uint64_t now_ns;
	uint64_t step_ns;
	uint64_t token_ns;
	uint32_t vocab;		/* tokens drawn are below it */
};

/** A compute side without a model; @l is the caller's, its costs set. */
struct pkvrt_compute pkvrt_compute_lengths(struct pkvrt_lengths *l);
/** The model's; @ex is borrowed. Time is CLOCK_MONOTONIC. */
struct pkvrt_compute pkvrt_compute_model(struct pkvrt_executor *ex, uint32_t vocab);

enum pkvrt_preempt {
	PKVRT_PREEMPT_AUTO,
	PKVRT_PREEMPT_SWAP,
	PKVRT_PREEMPT_RECOMPUTE,
};

struct pkvrt_sched_hooks {
	void *ctx;
	/* Another shape than the default for a request. */
	void (*shape)(void *ctx, uint32_t req, struct pkvrt_shape *shape);
	/* A request has all its output: tokens of sequence @seq. */
	int (*output)(void *ctx, uint32_t req, uint32_t seq, const uint32_t *tokens,
		      uint32_t nr_tokens);
	/* After every iteration; a value other than 0 stops the run: -ECANCELED. */
	int (*step)(void *ctx, const struct pkvrt_sched *s);
};

struct pkvrt_sched_params {
	const struct pkvrt_workload *workload;
	struct pkvrt_alloc *alloc;
	struct pkvrt_compute compute;
	struct pkvrt_shape shape;
	float temperature;		/* of samples; 0: greedy */
	uint32_t budget_tokens;		/* of an iteration */
	uint32_t max_batch;		/* sequences in an iteration, 0: the budget */
	uint32_t watermark_pages;	/* kept free at admission */
	enum pkvrt_preempt preempt;
	struct pkvrt_cost cost;		/* for AUTO */
	bool use_prefix;
	uint64_t wait_ns;		/* longest wait for moves before a page counts as lost */
	struct pkvrt_metrics *metrics;	/* filled on the way; borrowed */
	struct pkvrt_sched_hooks hooks;
};

/** 0, -EINVAL, -ENOMEM. */
int pkvrt_sched_create(struct pkvrt_sched **out, const struct pkvrt_sched_params *p);
void pkvrt_sched_destroy(struct pkvrt_sched *s);

/** One iteration. 1: there is more to do, 0: all requests have ended, or -errno. */
int pkvrt_sched_step(struct pkvrt_sched *s);
/** All of them. 0, -ECANCELED (a hook stopped it), or -errno. */
int pkvrt_sched_run(struct pkvrt_sched *s);

/* What a progress display shows. */
struct pkvrt_sched_view {
	uint64_t now_ns;		/* since the start */
	uint32_t nr_reqs, nr_done, nr_rejected;
	uint32_t nr_waiting, nr_running, nr_loading, nr_swapped;
	uint64_t output_tokens, computed_tokens;
};
void pkvrt_sched_look(const struct pkvrt_sched *s, struct pkvrt_sched_view *v);

#endif
