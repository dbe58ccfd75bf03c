/* SPDX-License-Identifier: GPL-2.0-only */
/* The memory experiment of the PagedAttention paper, shared by its benchmark and its test. */
#ifndef PKV_MEMORY_SHARES_H
#define PKV_MEMORY_SHARES_H

#include <stdbool.h>
#include <stdint.h>

#include "job.h"

/**
 * The paper's ShareGPT lengths when $PAGEDKV_TRACES (default ../shared/traces) has them, else
 * @nr drawn ones. Its first @nr, too; 0: all, or 20,000. 0, or an error that was printed.
 */
int memory_workload(struct pkvrt_workload **out, uint32_t nr);

/** @nr drawn lengths, wherever traces are. */
int memory_draw(struct pkvrt_workload **out, uint32_t nr);

/** Serve it with 983 pages of 16. The report has no series. 0, or an error that was printed. */
int memory_run(const struct pkvrt_workload *w, enum pkvrt_policy policy, uint32_t nr_seqs,
	       bool is_beam, struct pkvrt_report *r);

#endif
