// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory, as in the PagedAttention paper: shares of a pool of 983 pages of 16 tokens, and the
 * batch that fits in it, for the paged policy and Orca's three, under a saturated queue. No
 * model and no clock: lengths alone decide. The peer's figures are the paper's own.
 *
 * Lengths are the paper's ShareGPT ones where PAGEDKV_TRACES has them, else drawn alike.
 */
#include <stdio.h>
#include <stdlib.h>

#include "memory_shares.h"

static void print(const char *name, double value, const char *unit, double peer)
{
	printf("%s: %.2f %s (SOSP '23 paper: %.2f, x%.2f)\n", name, value, unit, peer,
	       value / peer);
}

int main(void)
{
	static const struct {
		enum pkvrt_policy policy;
		double token_pct, batch;
	} peers[] = {
		{ PKVRT_POLICY_PAGED, 96.3, 30.42 },
		{ PKVRT_POLICY_ORCA_MAX, 20.4, 7.00 },
		{ PKVRT_POLICY_ORCA_POW2, 26.8, 9.81 },
		{ PKVRT_POLICY_ORCA_ORACLE, 38.2, 13.62 },
	};
	static const struct {
		uint32_t n;
		double sample_pct, beam_pct;
	} shared[] = {
		{ 2, 16.2, 44.3 }, { 4, 26.0, 57.0 }, { 6, 30.5, 66.3 },
	};
	struct pkvrt_workload *w;
	struct pkvrt_report r;
	char name[64];
	int err = memory_workload(&w, 0);

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (err)
		return 1;
	printf("# %u requests, mean %.1f in, %.1f out\n", w->nr_reqs,
	       (double)w->sum_prompt_tokens / w->nr_reqs,
	       (double)w->sum_output_tokens / w->nr_reqs);
	for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]) && !err; i++) {
		err = memory_run(w, peers[i].policy, 1, false, &r);
		snprintf(name, sizeof(name), "memory.%s.token_share", r.policy);
		print(name, r.shares.token_pct, "%", peers[i].token_pct);
		snprintf(name, sizeof(name), "memory.%s.mean_batch", r.policy);
		print(name, r.mean_batch, "requests", peers[i].batch);
		printf("# %s: reserved %.1f internal %.1f rounding %.1f external %.1f free %.1f\n",
		       r.policy, r.shares.reserved_pct, r.shares.internal_pct,
		       r.shares.rounding_pct, r.shares.external_pct, r.shares.free_pct);
	}
	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]) && !err; i++) {
		err = memory_run(w, PKVRT_POLICY_PAGED, shared[i].n, false, &r);
		snprintf(name, sizeof(name), "memory.parallel%u.saved", shared[i].n);
		print(name, r.pages_shared_pct, "%", shared[i].sample_pct);
	}
	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]) && !err; i++) {
		err = memory_run(w, PKVRT_POLICY_PAGED, shared[i].n, true, &r);
		snprintf(name, sizeof(name), "memory.beam%u.saved", shared[i].n);
		print(name, r.pages_shared_pct, "%", shared[i].beam_pct);
	}
	pkvrt_workload_destroy(w);
	return err ? 1 : 0;
}
