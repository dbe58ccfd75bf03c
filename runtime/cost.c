// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Measures the two ways back from a preemption, once, at start. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cost.h"
#include "executor.h"
#include "io.h"

#define SWAP_SAMPLE_NS 3000000u

bool pkvrt_cost_prefers_swap(const struct pkvrt_cost *c, uint64_t nr_pages, uint64_t nr_tokens)
{
	double swap_s = 2.0 * (double)nr_pages * (double)c->page_bytes / c->swap_bytes_per_s;
	double recompute_s = (double)nr_tokens / c->recompute_tokens_per_s;

	return swap_s <= recompute_s;
}

static double rate(double amount, uint64_t ns)
{
	return amount * 1e9 / (double)(ns ? ns : 1);
}

void pkvrt_cost_measure_swap(struct pkvrt_cost *c, const void *src, void *dst, size_t bytes)
{
	uint64_t begin, now;
	double done = 0;

	memcpy(dst, src, bytes);	/* faults the pages in */
	begin = pkvrt_now_ns();
	do {
		memcpy(dst, src, bytes);
		__asm__ volatile("" : : "r"(dst) : "memory");
		done += (double)bytes;
		now = pkvrt_now_ns();
	} while (now - begin < SWAP_SAMPLE_NS);
	c->swap_bytes_per_s = rate(done, now - begin);
}

int pkvrt_cost_measure_recompute(struct pkvrt_cost *c, struct pkvrt_executor *ex,
				 const uint32_t *slots, uint32_t nr_slots, uint32_t nr_tokens,
				 uint32_t vocab)
{
	uint32_t *tokens = malloc((nr_tokens + 1) * sizeof(*tokens));
	struct pkvrt_chunk chunk = {
		.tokens = tokens,
		.nr_tokens = nr_tokens,
		.slots = slots,
		.nr_slots = nr_slots,
	};
	uint64_t begin;
	int err;

	if (!tokens)
		return -ENOMEM;
	for (uint32_t i = 0; i < nr_tokens; i++)
		tokens[i] = i % vocab;
	err = pkvrt_executor_step(ex, &chunk, 1);	/* warms caches up */
	begin = pkvrt_now_ns();
	if (!err)
		err = pkvrt_executor_step(ex, &chunk, 1);
	c->recompute_tokens_per_s = rate(nr_tokens, pkvrt_now_ns() - begin);
	free(tokens);
	return err;
}
