// SPDX-License-Identifier: GPL-2.0-only
/*
 * The main job on the CPU model: output tokens a second of the paged policy beside Orca's three
 * and static batching at equal memory, and of three times oversubscribed memory beside
 * unlimited. What is compared runs in turns, and the better of two rounds counts: machines
 * change their speed.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <pagedkv/cache.h>

#include "job.h"

#define NR_REQUESTS	48u
#define NR_ROUNDS	2
#define PAGE_TOKENS	16u
#define MAX_TOKENS	2048u

/* The runs of a round: every policy at equal memory, then paged with memory for all. */
#define UNLIMITED	PKVRT_NR_POLICIES
#define NR_RUNS		(PKVRT_NR_POLICIES + 1)

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
		.kv_dtype = PKV_F32,
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

int main(void)
{
	struct pkvrt_workload_params wp = {
		.nr_requests = NR_REQUESTS,
		.seed = 1,
		.rate = INFINITY,
		.max_total_tokens = MAX_TOKENS,
	};
	double best[NR_RUNS] = { 0 }, batch[NR_RUNS] = { 0 };
	struct pkvrt_workload *w;
	char why[PKVRT_WHY_LEN];
	int err = pkvrt_workload_create(&w, &wp, why, sizeof(why));

	if (err) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	for (int i = 0; i < NR_ROUNDS * NR_RUNS && !err; i++) {
		struct pkvrt_report r;

		err = run(w, i % NR_RUNS, &r);
		if (err)
			break;
		best[i % NR_RUNS] = fmax(best[i % NR_RUNS],
					 (double)r.nr_tokens * 1e9 / (double)r.elapsed_ns);
		batch[i % NR_RUNS] = r.mean_batch;
	}
	pkvrt_workload_destroy(w);
	if (err)
		return 1;
	for (int i = PKVRT_POLICY_ORCA_MAX; i < PKVRT_NR_POLICIES; i++) {
		char name[64];

		snprintf(name, sizeof(name), "job.paged.vs.%s", pkvrt_policy_name(i));
		print(name, best[PKVRT_POLICY_PAGED], pkvrt_policy_name(i), best[i]);
		printf("job.batch.vs.%s: %.1f requests (%s: %.1f, x%.2f)\n",
		       pkvrt_policy_name(i), batch[PKVRT_POLICY_PAGED], pkvrt_policy_name(i),
		       batch[i], batch[PKVRT_POLICY_PAGED] / batch[i]);
	}
	print("job.oversubscribed3", best[PKVRT_POLICY_PAGED], "unlimited memory",
	      best[UNLIMITED]);
	return 0;
}
