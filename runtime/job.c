// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The main job from above, its sizes, and the comparison of two of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "job_internal.h"
#include "why.h"

static uint64_t request_pages(const struct pkvrt_request *r, const struct pkvrt_shape *shape,
			      uint32_t page_tokens)
{
	struct pkvrt_group g = {
		.prompt_tokens = r->prompt_tokens,
		.output_tokens = r->output_tokens,
		.shape = *shape,
	};

	return pkvrt_group_max_pages(&g, page_tokens);
}

static void sum_pages(const struct pkvrt_workload *w, const struct pkvrt_shape *shape,
		      uint32_t page_tokens, uint64_t *sum, uint64_t *largest)
{
	*sum = 0;
	*largest = 0;
	for (uint32_t i = 0; i < w->nr_reqs; i++) {
		uint64_t nr = request_pages(&w->reqs[i], shape, page_tokens);

		*sum += nr;
		if (nr > *largest)
			*largest = nr;
	}
}

uint64_t pkvrt_job_wanted_pages(const struct pkvrt_workload *w, const struct pkvrt_shape *shape,
				uint32_t page_tokens)
{
	uint64_t sum, largest;

	sum_pages(w, shape, page_tokens, &sum, &largest);
	return sum;
}

uint64_t pkvrt_job_largest_pages(const struct pkvrt_workload *w, const struct pkvrt_shape *shape,
				 uint32_t page_tokens)
{
	uint64_t sum, largest;

	sum_pages(w, shape, page_tokens, &sum, &largest);
	return largest;
}

static uint32_t clamp_pages(uint64_t nr)
{
	return nr < 1u << 28 ? (uint32_t)nr : 1u << 28;
}

int pkvrt_job_size(const struct pkvrt_workload *w, const struct pkvrt_shape *shape,
		   uint32_t page_tokens, struct pkvrt_job_tiers *tiers)
{
	uint32_t *nr = tiers->nr_pages;
	uint64_t sum, largest, faster;

	sum_pages(w, shape, page_tokens, &sum, &largest);
	if (largest > 1u << 28)
		return -EOVERFLOW;
	if (nr[PAGEDKV_DEVICE] == PKVRT_JOB_AUTO)
		nr[PAGEDKV_DEVICE] = clamp_pages(sum / 3 > largest ? sum / 3 : largest);
	if (nr[PAGEDKV_HOST] == PKVRT_JOB_AUTO)
		nr[PAGEDKV_HOST] = clamp_pages(nr[PAGEDKV_DEVICE] / 4 + 1);
	faster = (uint64_t)nr[PAGEDKV_DEVICE] + nr[PAGEDKV_HOST];
	if (nr[PAGEDKV_DISK] == PKVRT_JOB_AUTO)
		nr[PAGEDKV_DISK] = clamp_pages(sum > faster ? sum - faster + sum / 8 : largest);
	return 0;
}

void pkvrt_job_size_unlimited(const struct pkvrt_workload *w, const struct pkvrt_shape *shape,
			      uint32_t page_tokens, struct pkvrt_job_tiers *tiers)
{
	uint64_t sum, largest;

	sum_pages(w, shape, page_tokens, &sum, &largest);
	*tiers = (struct pkvrt_job_tiers){
		/* Room for the watermark too. */
		.nr_pages[PAGEDKV_DEVICE] = clamp_pages(sum + sum / 32 + largest),
	};
}

/* ------------------------------------------------------------------ output */

static int keep_output(void *ctx, uint32_t req, uint32_t seq, const uint32_t *tokens,
		       uint32_t nr_tokens)
{
	struct pkvrt_job *j = ctx;
	uint32_t *copy;

	if (!seq) {
		j->report->nr_finished++;
		j->report->nr_prompt_tokens += j->p->workload->reqs[req].prompt_tokens;
	}
	if (!j->out)
		return 0;
	copy = malloc(nr_tokens * sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	memcpy(copy, tokens, nr_tokens * sizeof(*copy));
	j->out->tokens[(size_t)req * j->out->nr_seqs + seq] = copy;
	return 0;
}

static int init_output(struct pkvrt_job *j)
{
	size_t nr = (size_t)j->p->workload->nr_reqs * j->p->shape.nr_seqs;

	if (!j->out)
		return 0;
	j->out->nr_reqs = j->p->workload->nr_reqs;
	j->out->nr_seqs = j->p->shape.nr_seqs;
	j->out->tokens = calloc(nr + 1, sizeof(*j->out->tokens));
	return j->out->tokens ? 0 : -ENOMEM;
}

void pkvrt_job_output_exit(struct pkvrt_job_output *o)
{
	size_t nr = (size_t)o->nr_reqs * o->nr_seqs;

	for (size_t i = 0; o->tokens && i < nr; i++)
		free(o->tokens[i]);
	free(o->tokens);
	*o = (struct pkvrt_job_output){ 0 };
}

/* 1: equal, 0: not, -1: not both are there. */
static int compare_request(const struct pkvrt_job_output *a, const struct pkvrt_job_output *b,
			   uint32_t req, uint32_t nr_tokens)
{
	bool same = true;

	for (uint32_t i = 0; i < a->nr_seqs; i++) {
		const uint32_t *x = a->tokens[(size_t)req * a->nr_seqs + i];
		const uint32_t *y = b->tokens[(size_t)req * a->nr_seqs + i];

		if (!x || !y)
			return -1;
		same &= !memcmp(x, y, nr_tokens * sizeof(*x));
	}
	return same;
}

void pkvrt_job_compare(const struct pkvrt_job_output *a, const struct pkvrt_job_output *b,
		       const struct pkvrt_workload *w, struct pkvrt_report *report)
{
	report->nr_compared = 0;
	report->nr_different = 0;
	for (uint32_t i = 0; i < w->nr_reqs; i++) {
		int same = compare_request(a, b, i, w->reqs[i].output_tokens);

		if (same < 0)
			continue;
		report->nr_compared++;
		if (!same && !report->nr_different++)
			report->first_different = i;
	}
	report->identical = !report->nr_compared ? PKVRT_NOT_COMPARED :
			    report->nr_different ? PKVRT_DIFFERENT : PKVRT_IDENTICAL;
}

/* --------------------------------------------------------------------- run */

static int make_sched(struct pkvrt_job *j)
{
	const struct pkvrt_job_params *p = j->p;
	struct pkvrt_sched_params sp = {
		.workload = p->workload,
		.alloc = j->alloc,
		.compute = p->lengths_only ? pkvrt_compute_lengths(&j->lengths) :
			   pkvrt_compute_model(j->ex, p->model.vocab),
		.shape = p->shape,
		.temperature = (float)p->temperature,
		.budget_tokens = p->budget_tokens,
		.max_batch = p->max_batch,
		.watermark_pages = p->tiers.nr_pages[PAGEDKV_DEVICE] / 100,
		.preempt = p->preempt,
		.cost = j->cost,
		.use_prefix = p->use_prefix,
		.wait_ns = 20000000000u,
		.metrics = &j->metrics,
		.hooks = {
			.ctx = j,
			.output = keep_output,
			.step = pkvrt_job_watch,
		},
	};

	return pkvrt_sched_create(&j->sched, &sp);
}

int pkvrt_job_run(const struct pkvrt_job_params *p, const struct pkvrt_job_hooks *hooks,
		  struct pkvrt_report *report, struct pkvrt_job_output *out, char *why,
		  size_t why_len)
{
	static const struct pkvrt_job_hooks no_hooks;
	struct pkvrt_job j = {
		.p = p,
		.hooks = hooks ? hooks : &no_hooks,
		.report = report,
		.out = out,
		.why = why,
		.why_len = why_len,
	};
	int err;

	if (why_len)
		why[0] = '\0';
	err = pkvrt_series_init(&report->series, PKVRT_SERIES_SAMPLES,
				p->lengths_only ? 10000000u : 1000000u);
	if (!err)
		err = init_output(&j);
	if (!err)
		err = pkvrt_metrics_init(&j.metrics, p->workload->nr_reqs);
	if (!err)
		err = pkvrt_job_setup(&j);
	if (!err)
		err = make_sched(&j);
	if (!err && j.hooks->started)
		j.hooks->started(j.hooks->ctx);
	if (!err) {
		j.start_ns = pkvrt_now_ns();
		err = pkvrt_sched_run(j.sched);
		if (err == -ECANCELED) {
			report->interrupted = true;
			err = 0;
		}
		pkvrt_job_finish_report(&j);
	}
	pkvrt_job_teardown(&j);
	pkvrt_metrics_exit(&j.metrics);
	if (err && why_len && !why[0])
		pkvrt_why(why, why_len, err, "the job ended: %s", strerror(-err));
	return err;
}
