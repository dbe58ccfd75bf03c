/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Swap or recompute? What a preempted group costs either way, by speeds measured at start.
 */
#ifndef PKVRT_COST_H
#define PKVRT_COST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pkvrt_executor;

struct pkvrt_cost {
	double swap_bytes_per_s;	/* one way, device to host */
	double recompute_tokens_per_s;	/* prefill */
	uint64_t page_bytes;
};

/** Is swapping @nr_pages out and in again cheaper than computing @nr_tokens again? */
bool pkvrt_cost_prefers_swap(const struct pkvrt_cost *c, uint64_t nr_pages, uint64_t nr_tokens);

/**
 * pkvrt_cost_measure_swap - time copies of pages from @src to @dst, a few milliseconds
 *
 * @src, @dst: @bytes each, a multiple of page_bytes; what is in @dst is lost.
 */
void pkvrt_cost_measure_swap(struct pkvrt_cost *c, const void *src, void *dst, size_t bytes);

/**
 * pkvrt_cost_measure_recompute - time one prefill chunk; it writes to the slots given
 *
 * Return: 0, -ENOMEM, or what the executor said.
 */
int pkvrt_cost_measure_recompute(struct pkvrt_cost *c, struct pkvrt_executor *ex,
				 const uint32_t *slots, uint32_t nr_slots, uint32_t nr_tokens,
				 uint32_t vocab);

#endif
