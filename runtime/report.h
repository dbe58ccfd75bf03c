/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What a run has shown: filled by the scheduler and the command, printed by tools/report.c,
 * drawn by tools/picture.c.
 */
#ifndef PKVRT_REPORT_H
#define PKVRT_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "series.h"

/* Was every token the one that a run with unlimited memory gives? */
enum pkvrt_identical {
	PKVRT_NOT_COMPARED,
	PKVRT_IDENTICAL,
	PKVRT_DIFFERENT,
};

/* Moves from one tier to another. GB/s is bytes over the time in which any was in flight. */
struct pkvrt_flow {
	uint64_t bytes;		/* committed */
	uint64_t nr_moves;	/* committed */
	uint64_t nr_errors;	/* aborted: each was a miss */
	uint64_t busy_ns;	/* with at least one in flight */
};

/*
 * Shares of the device tier, averaged over time, in percent; with free_pct they add up to 100.
 * As in the PagedAttention paper's Fig. 2, but the part of a region that only rounding up to a
 * power of two has added (Orca's buddy allocator) is told apart.
 */
struct pkvrt_shares {
	double token_pct;	/* token states in use */
	double reserved_pct;	/* reserved for tokens that will come */
	double internal_pct;	/* reserved for tokens that never come; the unused end of pages */
	double rounding_pct;	/* rounded up to a power of two */
	double external_pct;	/* free, but in pieces too small for the request at the head */
	double free_pct;	/* free and usable */
};

/**
 * struct pkvrt_report - the figures of one run
 * @policy: its name as given to --policy
 * @workload: where the requests are from, pkvrt_source_name()
 * @device: what computed, "CPU" or the name of a GPU; NULL with lengths_only
 * @nr_requests: asked for
 * @nr_finished: with all their tokens
 * @nr_failed: can't ever be served, longer than the tier for instance
 * @nr_prompt_tokens: of the finished ones
 * @nr_tokens: output tokens, of all sequences of all requests
 * @nr_dropped: requests of the trace that were left out: too long, or of 0 tokens
 * @elapsed_ns: first arrival to last token
 * @nr_steps: batches run
 * @mean_batch: sequences in a batch, averaged over steps
 * @page_tokens: of a page
 * @page_bytes: of a page
 * @nr_slots: of each tier
 * @peak_slots: most in use at once, a tier
 * @wanted_slots: pages of all requests together, each with all its tokens
 * @peak_demand_slots: most that all admitted requests had need of at once, wherever they were
 * @pages_shared_pct: pages saved by sharing, of those that would be needed without, averaged
 *	over time
 * @nr_preempt_swap, @nr_preempt_recompute: sequence groups preempted, by what became of them
 * @recomputed_tokens: tokens whose K and V had to be computed once more
 * @prefix_lookup_tokens: prompt tokens looked up in the prefix cache
 * @prefix_hit_tokens: of these found
 * @checksum_errors, @late_ios: loads from disk that were made misses
 * @ttft_ns, @tpot_ns: time to first token, and per output token after it: [0] p50, [1] p99
 * @identical: of all tokens; @nr_compared requests were compared, @nr_different differ,
 *	@first_different is the id of the first of these
 * @lengths_only: no model ran, so that there are no tokens to compare
 * @interrupted: ended by the user; the figures are of what was done by then
 * @series: borrowed by printers; owned by who made the report
 */
struct pkvrt_report {
	const char *policy;
	const char *workload;
	const char *device;
	uint32_t nr_requests;
	uint32_t nr_finished;
	uint32_t nr_failed;
	uint32_t nr_dropped;
	uint64_t nr_prompt_tokens;
	uint64_t nr_tokens;
	uint64_t elapsed_ns;
	uint64_t nr_steps;
	double mean_batch;

	uint32_t page_tokens;
	uint64_t page_bytes;
	uint32_t nr_slots[PAGEDKV_NR_TIERS];
	uint32_t peak_slots[PAGEDKV_NR_TIERS];
	uint64_t wanted_slots;
	uint32_t peak_demand_slots;
	struct pkvrt_shares shares;
	double pages_shared_pct;

	uint64_t nr_preempt_swap;
	uint64_t nr_preempt_recompute;
	uint64_t recomputed_tokens;
	uint64_t prefix_lookup_tokens;
	uint64_t prefix_hit_tokens;
	struct pkvrt_flow flows[PAGEDKV_NR_TIERS][PAGEDKV_NR_TIERS];	/* [from][to] */
	uint64_t checksum_errors;
	uint64_t late_ios;

	uint64_t ttft_ns[2];
	uint64_t tpot_ns[2];

	enum pkvrt_identical identical;
	uint32_t nr_compared;
	uint32_t nr_different;
	uint32_t first_different;
	bool lengths_only;
	bool interrupted;

	struct pkvrt_series series;
};

#endif
