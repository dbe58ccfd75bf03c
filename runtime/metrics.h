/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What a run is measured by.
 *
 * Shares of the device tier, weighted by time, while it is saturated: from the first
 * admission that memory refused to the last request's admission (all of the run when memory
 * never refused). In per cent of the pool's token places:
 *   token      hold a computed token of a running sequence
 *   reserved   will hold one of a sequence that has the place
 *   internal   never will: more was asked for than is used, or a last page stays part empty
 *   rounding   what a buddy allocator added to get to a power of two
 *   external   belong to nobody, in pieces too small for the request at the head
 *   free       belong to no running sequence
 */
#ifndef PKVRT_METRICS_H
#define PKVRT_METRICS_H

#include <stdbool.h>
#include <stdint.h>

/* One moment, in token places. */
struct pkvrt_places {
	uint64_t nr_places;	/* of the pool */
	uint64_t token, reserved, internal, rounding, external, free;
	uint64_t nr_pages;	/* in block tables, shared ones once for each table */
	uint64_t nr_unique;	/* and once */
};

/* Sums over a window of time. */
struct pkvrt_window {
	double seconds;
	double token, reserved, internal, rounding, external, free;	/* share x seconds */
	double pages, unique;
	double groups, seqs;	/* in the batch x seconds */
	uint64_t nr_steps;
};

struct pkvrt_metrics {
	/* counters */
	uint64_t nr_steps;
	uint64_t output_tokens;		/* of finished and running requests, padding excluded */
	uint64_t padding_tokens;	/* static: computed and thrown away */
	uint64_t computed_tokens;
	uint64_t recomputed_tokens;	/* of these, had been computed before */
	uint64_t prompt_tokens;		/* asked of the prefix cache at admission */
	uint64_t hit_tokens;		/* found */
	uint64_t nr_swap_preempts, nr_recompute_preempts;
	uint64_t nr_broken;		/* sequences that had lost a page */
	uint64_t nr_waits;		/* iterations that had to wait for a move */
	uint64_t wait_ns;
	uint32_t nr_done, nr_rejected;

	struct pkvrt_window saturated, whole;
	bool is_saturated;		/* memory has refused an admission */
	bool is_draining;		/* every request has been admitted once */

	/* a request each, seconds */
	double *ttft, *tpot;
	uint32_t nr_ttft, nr_tpot, cap;

	uint64_t start_ns, end_ns;	/* of the run, on the compute side's clock */
};

/** 0, -ENOMEM. @nr_reqs: requests at most. */
int pkvrt_metrics_init(struct pkvrt_metrics *m, uint32_t nr_reqs);
void pkvrt_metrics_exit(struct pkvrt_metrics *m);

/* What there was during one step. */
struct pkvrt_tick {
	struct pkvrt_places places;
	uint32_t nr_groups, nr_seqs;	/* in the batch */
	uint64_t begin_ns, end_ns;
};

void pkvrt_metrics_step(struct pkvrt_metrics *m, const struct pkvrt_tick *t);
/** A request has ended with @nr_tokens tokens. */
void pkvrt_metrics_request(struct pkvrt_metrics *m, uint64_t arrival_ns, uint64_t first_ns,
			   uint64_t last_ns, uint32_t nr_tokens);

/** The window that the shares are taken from. */
const struct pkvrt_window *pkvrt_metrics_window(const struct pkvrt_metrics *m);

/** The @pct-th percentile (nearest rank), sorting @values in place; 0 of none. */
double pkvrt_percentile(double *values, uint32_t nr, double pct);

#endif
