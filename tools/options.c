// SPDX-License-Identifier: GPL-2.0-only
/*
 * The options of `pagedkv run`. A new one is a line here, a member in options.h and a line in
 * pagedkv-run.8.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "options.h"
#include "optparse.h"
#include "why.h"
#include "workload.h"

#define MAX_PAGES	(1u << 28)
#define MAX_PAGE_TOKENS	1024u
#define MIN_TOKENS	16u
#define DEFAULT_TOKENS	2048u
#define DEFAULT_REQUESTS 200u

static const char *const policies[] = {
	"paged", "orca-max", "orca-pow2", "orca-oracle", "static", NULL
};
static const char *const preempts[] = { "auto", "swap", "recompute", NULL };
static const char *const kv_types[] = { "f32", "bf16", NULL };
static const char *const models[] = { "small", "llama-8b", NULL };
static const char *const computes[] = { "auto", "cpu", "cuda", NULL };
static const char *const backends[] = { "auto", "kmod", "embedded", NULL };

/* Requests a second; 0 and inf: all at once. */
static int set_rate(const char *text, void *out, const char **cause)
{
	double v;

	if (!strcmp(text, "inf"))
		v = 0;
	else if (!pkv_parse_real(text, &v) || (v && (v < PKVRT_MIN_RATE || v > PKVRT_MAX_RATE))) {
		*cause = "is not 0, 0.001 to 1e9, or inf";
		return -EINVAL;
	}
	*(double *)out = v ? v : INFINITY;
	return 0;
}

#define AT(member) offsetof(struct pkv_options, member)
#define SWITCH(n, member, text) PKV_OPT_SWITCH(n, AT(member), text)
#define VALUE(n, t, member, a, text) PKV_OPT_VALUE(n, t, AT(member), a, text)
#define RANGE(n, t, member, lo, hi, a, text) PKV_OPT_RANGE(n, t, AT(member), lo, hi, a, text)
#define WORDS(n, member, w, a, text) PKV_OPT_WORDS(n, AT(member), w, a, text)

static const struct pkv_opt table[] = {
	PKV_OPT_HEADING("Workload"),
	RANGE("requests", COUNT, nr_requests, 1, PKVRT_MAX_REQUESTS, "N",
	      "so many requests (default 200; of a trace, all)"),
	PKV_OPT_SET("rate", set_rate, AT(rate), "R",
	      "R arrivals a second, Poisson; 0 or inf: all at once\n"
	      "(default: a trace's own times, else all at once)"),
	VALUE("seed", NUMBER, seed, "N",
	      "seed of all that is random (default 0)"),
	VALUE("trace", TEXT, trace, "FILE",
	      "take requests from FILE: Mooncake JSON lines, Azure CSV,\n"
	      "or CSV of prompt,output lengths; told by content\n"
	      "(default: lengths drawn like those of ShareGPT)"),
	RANGE("max-tokens", SIZE, max_tokens, MIN_TOKENS, PKVRT_MAX_TOKENS, "N",
	      "leave out requests with prompt + output above N (default\n"
	      "2048; with --lengths-only and --trace, no limit)"),
	RANGE("shared-prefix", SIZE, shared_prefix_tokens, 0, PKVRT_MAX_TOKENS, "N",
	      "start every prompt with the same N tokens (default 0)"),
	RANGE("n", COUNT, nr_samples, 1, 64, "N",
	      "sample N sequences from each prompt (default 1)"),
	RANGE("beam", COUNT, beam_width, 1, 64, "N",
	      "beam search of width N (default 1: none)"),
	RANGE("temperature", REAL, temperature, 0, 100, "T",
	      "sampling temperature, 0 is greedy (default 0; with --n\n"
	      "above 1, 1)"),
	WORDS("model", model, models, "SHAPE",
	      "small (3 million weights) or llama-8b, the shape of\n"
	      "Llama-3-8B, for a GPU (default small)"),
	SWITCH("lengths-only", lengths_only,
	       "manage pages only, run no model: for large traces"),
	PKV_OPT_HEADING("Memory"),
	RANGE("device-pages", SIZE, device_pages, 1, MAX_PAGES, "N",
	      "pages of the device tier (default: a third of what the\n"
	      "requests would fill at once)"),
	RANGE("host-pages", SIZE, host_pages, 0, MAX_PAGES, "N",
	      "pages of the host tier, 0 for none (default: so that\n"
	      "some swapping reaches the disk)"),
	VALUE("disk", TEXT, disk, "FILE",
	      "disk tier in FILE, made if it is not there; its pages\n"
	      "outlive the run (default: a temporary file)"),
	RANGE("disk-pages", SIZE, disk_pages, 0, MAX_PAGES, "N",
	      "pages of the disk tier, 0 for none (default: all that\n"
	      "the other tiers can't hold)"),
	RANGE("page-tokens", POWER, page_tokens, 1, MAX_PAGE_TOKENS, "N",
	      "tokens of a page, a power of two (default 16)"),
	WORDS("kv-dtype", kv_type, kv_types, "TYPE",
	      "of keys and values: f32 or bf16 (default bf16)"),
	PKV_OPT_HEADING("Scheduling"),
	WORDS("policy", policy, policies, "POLICY",
	      "paged, orca-max, orca-pow2, orca-oracle or static\n"
	      "(default paged)"),
	WORDS("preempt", preempt, preempts, "HOW",
	      "auto, swap or recompute (default auto: the cheaper, by\n"
	      "costs measured at the start)"),
	SWITCH("no-prefix-cache", no_prefix_cache,
	       "don't reuse pages of equal prefixes"),
	RANGE("max-batch", COUNT, max_batch, 1, 65536, "N",
	      "at most N sequences in a step (default 256)"),
	RANGE("token-budget", SIZE, token_budget, 1, 1u << 20, "N",
	      "at most N tokens in a step (default 2560)"),
	PKV_OPT_HEADING("Machine"),
	WORDS("backend", backend, backends, "WHICH",
	      "page manager: auto, kmod or embedded (default auto)"),
	WORDS("device", compute, computes, "WHICH",
	      "where the model runs and the device tier lies: auto, cpu or\n"
	      "cuda (default auto: a GPU where there is one)"),
	RANGE("threads", COUNT, nr_threads, 0, 4096, "N",
	      "compute threads (default 0: one a processor)"),
	PKV_OPT_HEADING("Output"),
	SWITCH("no-verify", no_verify,
	       "don't run again with unlimited memory to compare tokens"),
	SWITCH("json", json,
	       "print the report as one JSON object"),
	VALUE("report", TEXT, report, "FILE",
	      "draw the run into FILE: HTML if it ends in .html, else SVG"),
	SWITCH("quiet", quiet,
	       "show no progress"),
	SWITCH("help", help,
	       "print this text"),
};

static const struct pkv_opts options = {
	.command = "run",
	.about =
		"Serve a batch of generation requests with a small transformer whose KV cache is\n"
		"larger than the device tier, so that pages swap between device, host and disk;\n"
		"then report how well, and whether every token is the one that unlimited memory\n"
		"gives. Exit status: 0 yes, 1 no or the job broke, 2 bad usage or input.\n",
	.table = table,
	.nr = sizeof(table) / sizeof(table[0]),
	.help = offsetof(struct pkv_options, help),
};

/* What one option alone can't tell. */
static int cross_check(const struct pkv_options *o, char *why, size_t why_len)
{
	const char *cause = NULL;

	if (o->nr_samples > 1 && o->beam_width > 1)
		cause = "--n and --beam can't be used together";
	else if (o->beam_width > 1 && o->temperature)
		cause = "--beam and --temperature can't be used together";
	else if (o->disk && !o->disk_pages)
		cause = "--disk names a file for a tier that --disk-pages 0 leaves out";
	else if (o->max_tokens && o->shared_prefix_tokens > o->max_tokens - MIN_TOKENS)
		cause = "--shared-prefix leaves fewer than 16 of --max-tokens to a request";
	else if (o->report && o->trace && !strcmp(o->report, o->trace))
		cause = "--report and --trace name the same file";
	else if (o->report && o->disk && !strcmp(o->report, o->disk))
		cause = "--report and --disk name the same file";
	else if (o->trace && o->disk && !strcmp(o->trace, o->disk))
		cause = "--trace and --disk name the same file";
	return cause ? pkvrt_why(why, why_len, -EINVAL, "%s", cause) : 0;
}

static void set_defaults(struct pkv_options *o)
{
	*o = (struct pkv_options){
		.nr_samples = 1,
		.beam_width = 1,
		.temperature = -1,
		.device_pages = PKV_AUTO,
		.host_pages = PKV_AUTO,
		.disk_pages = PKV_AUTO,
		.page_tokens = 16,
		.kv_type = PKV_KV_BF16,
		.max_batch = 256,
		.token_budget = 2560,
	};
}

/* Defaults that depend on other options. */
static void set_dependent(struct pkv_options *o)
{
	if (!o->nr_requests && !o->trace)
		o->nr_requests = DEFAULT_REQUESTS;
	if (!o->max_tokens && !(o->trace && o->lengths_only))
		o->max_tokens = DEFAULT_TOKENS;
	if (o->temperature < 0)
		o->temperature = o->nr_samples > 1 ? 1 : 0;
}

int pkv_options_parse(struct pkv_options *o, int argc, char **argv, char *why, size_t why_len)
{
	int err;

	set_defaults(o);
	err = pkv_opts_parse(&options, o, argc, argv, NULL, why, why_len);
	if (err || o->help)
		return err;
	set_dependent(o);
	return cross_check(o, why, why_len);
}

void pkv_options_help(FILE *out)
{
	pkv_opts_help(out, &options);
}

const char *pkv_policy_name(uint32_t policy)
{
	return policies[policy];
}
