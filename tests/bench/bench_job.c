// SPDX-License-Identifier: GPL-2.0-only
/*
 * The main job on the CPU model: output tokens a second of the paged policy beside Orca's three
 * and static batching at equal memory, and of three times oversubscribed memory beside
 * unlimited. What is compared runs in turns, and the best of three rounds counts: machines
 * change their speed.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <pagedkv/cache.h>

#include "job.h"

#define NR_REQUESTS	200u	/* as the main job's default */
#define NR_FOR_POLICIES	48u	/* the baselines are slow */
#define NR_ROUNDS	3
#define PAGE_TOKENS	16u
#define MAX_TOKENS	2048u

#define UNLIMITED	PKVRT_NR_POLICIES	/* paged, with memory for all */
#define NR_RUNS		7

/* Two comparisons: oversubscribed beside unlimited, and all policies at equal memory. */
static const int runs[NR_RUNS] = {
	UNLIMITED, PKVRT_POLICY_PAGED,
	PKVRT_POLICY_PAGED, PKVRT_POLICY_ORCA_MAX, PKVRT_POLICY_ORCA_POW2,
	PKVRT_POLICY_ORCA_ORACLE, PKVRT_POLICY_STATIC,
};

static int run(const struct pkvrt_workload *w, int which, struct pkvrt_report *r)
{
	static const struct pkvrt_shape shape = { .nr_seqs = 1 };
	struct pkvrt_job_params p = {
		.workload = w,
		.tiers.nr_pages = { PKVRT_JOB_AUTO, PKVRT_JOB_AUTO, PKVRT_JOB_AUTO },
		.page_tokens = PAGE_TOKENS,
		.max_tokens = MAX_TOKENS,
		.policy = which == UNLIMITED ? PKVRT_POLICY_PAGED : (enum pkvrt_policy)which,
		.shape = shape,
		.use_prefix = true,
		.budget_tokens = 2560,
		.max_batch = 256,
		.backend = PAGEDKV_BACKEND_EMBEDDED,
		.model = pkvrt_model_default(),
		.seed = 1,
		.kv_dtype = PKV_BF16,
	};
	char why[PKVRT_WHY_LEN];
	int err;

	if (which == UNLIMITED)
		pkvrt_job_size_unlimited(w, &shape, PAGE_TOKENS, &p.tiers);
	else
		pkvrt_job_size(w, &shape, PAGE_TOKENS, &p.tiers);
	memset(r, 0, sizeof(*r));
	err = pkvrt_job_run(&p, NULL, r, NULL, why, sizeof(why));
	pkvrt_series_exit(&r->series);
	if (err)
		fprintf(stderr, "%s\n", why);
	return err;
}

static void print(const char *name, double value, const char *peer, double peer_value)
{
	printf("%s: %.0f tokens/s (%s: %.0f, x%.2f)\n", name, value, peer, peer_value,
	       value / peer_value);
}

/* The better of some rounds of each run in [first, last], which take turns. */
static int compare(uint32_t nr_reqs, int first, int last, double *best, double *batch)
{
	struct pkvrt_workload_params wp = {
		.nr_requests = nr_reqs,
		.seed = 1,
		.rate = INFINITY,
		.max_total_tokens = MAX_TOKENS,
	};
	struct pkvrt_workload *w;
	char why[PKVRT_WHY_LEN];
	int err = pkvrt_workload_create(&w, &wp, why, sizeof(why));

	if (err) {
		fprintf(stderr, "%s\n", why);
		return err;
	}
	for (int round = 0; round < NR_ROUNDS; round++) {
		for (int i = first; i <= last && !err; i++) {
			struct pkvrt_report r;

			err = run(w, runs[i], &r);
			if (err)
				break;
			best[i] = fmax(best[i], (double)r.nr_tokens * 1e9 / (double)r.elapsed_ns);
			batch[i] = r.mean_batch;
		}
	}
	pkvrt_workload_destroy(w);
	return err;
}

int main(void)
{
	double best[NR_RUNS] = { 0 }, batch[NR_RUNS] = { 0 };

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (compare(NR_REQUESTS, 0, 1, best, batch))
		return 1;
	print("job.oversubscribed3", best[1], "unlimited memory", best[0]);
	if (compare(NR_FOR_POLICIES, 2, NR_RUNS - 1, best, batch))
		return 1;
	for (int i = 3; i < NR_RUNS; i++) {
		const char *peer = pkvrt_policy_name(runs[i]);
		char name[64];

		snprintf(name, sizeof(name), "job.paged.vs.%s", peer);
		print(name, best[2], peer, best[i]);
		printf("job.batch.vs.%s: %.1f requests (%s: %.1f, x%.2f)\n", peer, batch[2], peer,
		       batch[i], batch[2] / batch[i]);
	}
	return 0;
}
