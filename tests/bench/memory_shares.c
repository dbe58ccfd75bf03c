// SPDX-License-Identifier: GPL-2.0-only
/* See memory_shares.h. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory_shares.h"

#define NR_PAGES	983u
#define PAGE_TOKENS	16u
#define MAX_TOKENS	2048u
#define BUDGET_TOKENS	2560u
#define NR_DRAWN	20000u

static int create(struct pkvrt_workload **out, const char *trace, uint32_t nr)
{
	char why[PKVRT_WHY_LEN];
	struct pkvrt_workload_params p = {
		.trace = trace,
		.nr_requests = nr,
		.seed = 1,
		.rate = INFINITY,
		.max_total_tokens = MAX_TOKENS,
	};
	int err = pkvrt_workload_create(out, &p, why, sizeof(why));

	if (err)
		fprintf(stderr, "%s\n", why);
	return err;
}

int memory_draw(struct pkvrt_workload **out, uint32_t nr)
{
	return create(out, NULL, nr);
}

int memory_workload(struct pkvrt_workload **out, uint32_t nr)
{
	const char *dir = getenv("PAGEDKV_TRACES");
	char path[4096];

	snprintf(path, sizeof(path), "%s/sharegpt_lengths.csv", dir ? dir : "../shared/traces");
	if (!access(path, R_OK))
		return create(out, path, nr);
	return create(out, NULL, nr ? nr : NR_DRAWN);
}

int memory_run(const struct pkvrt_workload *w, enum pkvrt_policy policy, uint32_t nr_seqs,
	       bool is_beam, struct pkvrt_report *r)
{
	struct pkvrt_job_params p = {
		.workload = w,
		.tiers.nr_pages = { NR_PAGES, 64 * NR_PAGES, 0 },
		.page_tokens = PAGE_TOKENS,
		.max_tokens = MAX_TOKENS,
		.policy = policy,
		.shape = { .nr_seqs = nr_seqs, .is_beam = is_beam },
		.temperature = nr_seqs > 1 ? 1.0 : 0.0,
		.lengths_only = true,
		.budget_tokens = BUDGET_TOKENS,
		.backend = PAGEDKV_BACKEND_EMBEDDED,
		.model = pkvrt_model_default(),
	};
	char why[PKVRT_WHY_LEN];
	int err;

	memset(r, 0, sizeof(*r));
	err = pkvrt_job_run(&p, NULL, r, NULL, why, sizeof(why));
	pkvrt_series_exit(&r->series);
	if (err)
		fprintf(stderr, "%s\n", why);
	return err;
}
