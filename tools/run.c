// SPDX-License-Identifier: GPL-2.0-only
/*
 * `pagedkv run`: the main job under limited memory, then once more under unlimited memory,
 * without swapping and without a prefix cache, to compare every token.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <pagedkv/cache.h>

#include "job.h"
#include "picture.h"
#include "print.h"
#include "progress.h"
#include "run.h"
#include "why.h"

#define EXIT_BAD_INPUT	2
#define EXIT_INTERRUPTED 130	/* as a shell says it of SIGINT */

struct run {
	const struct pkv_options *o;
	struct pkvrt_workload *w;
	struct pkvrt_job_params p;
	struct pkvrt_report report;
	struct pkvrt_job_output output;
	struct pkv_progress progress;
	bool has_started;
	char gpu[128];			/* its name */
	char why[PKVRT_WHY_LEN];
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

/* The second signal kills: a job that does not end must still be ended. */
static void catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESETHAND };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

static int complain(const struct run *r, int status)
{
	fprintf(stderr, "pagedkv run: %s\n", r->why);
	return status;
}

static int read_workload(struct run *r)
{
	const struct pkv_options *o = r->o;
	struct pkvrt_workload_params wp = {
		.trace = o->trace,
		.nr_requests = o->nr_requests,
		.seed = o->seed,
		.rate = o->rate,
		.max_total_tokens = o->max_tokens,
		.shared_prefix_tokens = o->shared_prefix_tokens,
	};

	return pkvrt_workload_create(&r->w, &wp, r->why, sizeof(r->why));
}

static int size_tiers(struct run *r)
{
	struct pkvrt_job_params *p = &r->p;
	uint32_t *nr = p->tiers.nr_pages;
	uint64_t largest = pkvrt_job_largest_pages(r->w, &p->shape, p->page_tokens);
	uint32_t image = nr[PAGEDKV_DISK] == PKV_AUTO ? pkvrt_job_image_slots(p) : 0;

	if (image)
		nr[PAGEDKV_DISK] = image;
	if (pkvrt_job_size(r->w, &p->shape, p->page_tokens, &p->tiers))
		return pkvrt_why(r->why, sizeof(r->why), -EOVERFLOW,
				 "the largest request needs more pages than a tier can have");
	if (p->policy == PKVRT_POLICY_PAGED && largest > nr[PAGEDKV_DEVICE])
		return pkvrt_why(r->why, sizeof(r->why), -EINVAL,
				 "--device-pages %u: the largest request needs %" PRIu64
				 " (--max-tokens leaves long ones out)",
				 nr[PAGEDKV_DEVICE], largest);
	return 0;
}

/* The GPU where one is asked for; and where none is, if there is one that can do it. */
static int choose_device(struct run *r)
{
	struct pkvrt_job_params *p = &r->p;
	bool must = r->o->compute == PKV_COMPUTE_CUDA;
	int err;

	p->device_name = "CPU";
	if (p->lengths_only || r->o->compute == PKV_COMPUTE_CPU)
		return 0;
	if (p->kv_dtype != PKV_BF16)
		return must ? pkvrt_why(r->why, sizeof(r->why), -EINVAL,
					"--device cuda: takes --kv-dtype bf16 alone") : 0;
	err = pkvrt_gpu_load(&p->gpu, p->gpu_device, r->gpu, sizeof(r->gpu), r->why,
			     sizeof(r->why));
	if (err) {
		p->gpu = NULL;
		return must ? err : 0;
	}
	p->device_name = r->gpu;
	return 0;
}

static int make_params(struct run *r)
{
	static const enum pkvrt_policy policies[] = {
		[PKV_POLICY_PAGED] = PKVRT_POLICY_PAGED,
		[PKV_POLICY_ORCA_MAX] = PKVRT_POLICY_ORCA_MAX,
		[PKV_POLICY_ORCA_POW2] = PKVRT_POLICY_ORCA_POW2,
		[PKV_POLICY_ORCA_ORACLE] = PKVRT_POLICY_ORCA_ORACLE,
		[PKV_POLICY_STATIC] = PKVRT_POLICY_STATIC,
	};
	static const enum pkvrt_preempt preempts[] = {
		[PKV_PREEMPT_AUTO] = PKVRT_PREEMPT_AUTO,
		[PKV_PREEMPT_SWAP] = PKVRT_PREEMPT_SWAP,
		[PKV_PREEMPT_RECOMPUTE] = PKVRT_PREEMPT_RECOMPUTE,
	};
	const struct pkv_options *o = r->o;
	struct pkvrt_job_params *p = &r->p;

	*p = (struct pkvrt_job_params){
		.workload = r->w,
		.tiers.nr_pages = { o->device_pages, o->host_pages, o->disk_pages },
		.page_tokens = o->page_tokens,
		.max_tokens = o->max_tokens ? o->max_tokens : r->w->max_total_tokens,
		.policy = policies[o->policy],
		.preempt = preempts[o->preempt],
		.shape = {
			.nr_seqs = o->beam_width > 1 ? o->beam_width : o->nr_samples,
			.is_beam = o->beam_width > 1,
		},
		.temperature = o->temperature,
		.use_prefix = !o->no_prefix_cache,
		.lengths_only = o->lengths_only,
		.budget_tokens = o->token_budget,
		.max_batch = o->max_batch,
		.backend = o->backend,
		.model = o->model == PKV_MODEL_LLAMA_8B ? pkvrt_model_llama_8b() :
			 pkvrt_model_default(),
		.seed = o->seed,
		.kv_dtype = o->kv_type == PKV_KV_BF16 ? PKV_BF16 : PKV_F32,
		.nr_threads = o->nr_threads,
		.disk = o->disk,
	};
	if (p->shape.nr_seqs > p->max_batch || p->shape.nr_seqs > p->budget_tokens)
		return pkvrt_why(r->why, sizeof(r->why), -EINVAL,
				 "%u sequences a request: over --max-batch %u or --token-budget %u",
				 p->shape.nr_seqs, p->max_batch, p->budget_tokens);
	if (p->model.max_tokens < r->w->max_total_tokens)
		p->model.max_tokens = r->w->max_total_tokens;
	if (!p->lengths_only && pkvrt_model_check(&p->model))
		return pkvrt_why(r->why, sizeof(r->why), -EINVAL,
				 "the model takes no request of %u tokens: see --max-tokens",
				 r->w->max_total_tokens);
	if (choose_device(r))
		return -ENODEV;
	return size_tiers(r);
}

/* -------------------------------------------------------------------- runs */

static void on_start(void *ctx)
{
	((struct run *)ctx)->has_started = true;
}

static void on_progress(void *ctx, const struct pkvrt_sample *sample)
{
	pkv_progress_update(&((struct run *)ctx)->progress, sample);
}

static int run_job(struct run *r, const struct pkvrt_job_params *p, const char *title,
		   struct pkvrt_report *report, struct pkvrt_job_output *output)
{
	struct pkvrt_job_hooks hooks = {
		.ctx = r,
		.started = on_start,
		.progress = on_progress,
		.stop = &stop,
	};
	int err;

	pkv_progress_init(&r->progress, stderr, r->o->quiet, title, p->tiers.nr_pages,
			  r->w->nr_reqs);
	err = pkvrt_job_run(p, &hooks, report, output, r->why, sizeof(r->why));
	pkv_progress_exit(&r->progress);
	return err;
}

/* The reference: the same requests where nothing ever has to leave the device tier. */
static int verify(struct run *r)
{
	struct pkvrt_job_params p = r->p;
	struct pkvrt_report report = { 0 };
	struct pkvrt_job_output output = { 0 };
	int err;

	p.policy = PKVRT_POLICY_PAGED;
	p.use_prefix = false;
	p.disk = NULL;
	pkvrt_job_size_unlimited(r->w, &p.shape, p.page_tokens, &p.tiers);
	err = run_job(r, &p, "unlimited memory", &report, &output);
	if (!err) {
		pkvrt_job_compare(&r->output, &output, r->w, &r->report);
		r->report.interrupted |= report.interrupted;
	}
	pkvrt_job_output_exit(&output);
	pkvrt_series_exit(&report.series);
	return err;
}

static int print_report(struct run *r)
{
	if (r->o->json)
		pkv_print_json(stdout, &r->report);
	else
		pkv_print_text(stdout, &r->report);
	if (r->o->report &&
	    pkv_picture_write(r->o->report, &r->report, r->why, sizeof(r->why)))
		return complain(r, 1);
	if (r->report.identical == PKVRT_DIFFERENT)
		return 1;
	if (r->report.nr_failed) {
		pkvrt_why(r->why, sizeof(r->why), -ENOSPC,
			  "%u of %u requests have no room in the device tier: see --device-pages",
			  r->report.nr_failed, r->report.nr_requests);
		return complain(r, 1);
	}
	return r->report.interrupted ? EXIT_INTERRUPTED : 0;
}

static int serve(struct run *r)
{
	bool compares = !r->o->no_verify && !r->o->lengths_only;
	int err = run_job(r, &r->p, "limited memory", &r->report, compares ? &r->output : NULL);

	if (err)
		return complain(r, r->has_started ? 1 : EXIT_BAD_INPUT);
	if (compares && !r->report.interrupted)
		err = verify(r);
	if (err)
		return complain(r, 1);
	return print_report(r);
}

int pkv_run(const struct pkv_options *o)
{
	struct run r = { .o = o };
	int status;

	if (o->report && pkv_picture_check(o->report, r.why, sizeof(r.why)))
		return complain(&r, EXIT_BAD_INPUT);
	if (read_workload(&r))
		return complain(&r, EXIT_BAD_INPUT);
	catch_signals();
	status = make_params(&r) ? complain(&r, EXIT_BAD_INPUT) : serve(&r);
	pkvrt_job_output_exit(&r.output);
	pkvrt_series_exit(&r.report.series);
	pkvrt_workload_destroy(r.w);
	return status;
}
