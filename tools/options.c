// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table of options and what is made of it: getopt's table, the parser, the help text.
 * A new option is a line here, a member in options.h and a line in pagedkv-run.8.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "why.h"
#include "workload.h"

#define MAX_PAGES	(1u << 28)
#define MAX_PAGE_TOKENS	1024u
#define MIN_TOKENS	16u
#define DEFAULT_TOKENS	2048u
#define DEFAULT_REQUESTS 200u
#define FIRST_VAL	256	/* getopt's value of the table's first option */

enum type {
	GROUP,		/* a heading of the help text */
	FLAG,		/* bool */
	COUNT,		/* uint32_t, decimal */
	SIZE,		/* uint32_t, decimal, with K, M or G for powers of 1024 */
	POWER,		/* uint32_t, a power of two */
	NUMBER,		/* uint64_t, decimal */
	RATE,		/* double, requests a second; 0 and inf: all at once */
	REAL,		/* double from 0 to max */
	CHOICE,		/* uint32_t, index of a word */
	PATH,		/* const char * */
};

static const char *const policies[] = {
	"paged", "orca-max", "orca-pow2", "orca-oracle", "static", NULL
};
static const char *const preempts[] = { "auto", "swap", "recompute", NULL };
static const char *const kv_types[] = { "f32", "bf16", NULL };
static const char *const computes[] = { "auto", "cpu", NULL };
static const char *const backends[] = { "auto", "kmod", "embedded", NULL };

struct spec {
	const char *name;
	enum type type;
	size_t offset;		/* into struct pkv_options */
	const char *arg;	/* what the help text calls the argument */
	const char *help;	/* lines after the first are indented by the printer */
	uint32_t min, max;
	const char *const *words;
};

#define AT(member) offsetof(struct pkv_options, member)
#define HEADING(n) \
	{ .name = n, .type = GROUP }
#define SWITCH(n, member, text) \
	{ .name = n, .type = FLAG, .offset = AT(member), .help = text }
#define VALUE(n, t, member, a, text) \
	{ .name = n, .type = t, .offset = AT(member), .arg = a, .help = text }
#define RANGE(n, t, member, lo, hi, a, text) \
	{ .name = n, .type = t, .offset = AT(member), .arg = a, .help = text, .min = lo, .max = hi }
#define WORDS(n, member, w, a, text) \
	{ .name = n, .type = CHOICE, .offset = AT(member), .arg = a, .help = text, .words = w }

static const struct spec specs[] = {
	HEADING("Workload"),
	RANGE("requests", COUNT, nr_requests, 1, PKVRT_MAX_REQUESTS, "N",
	      "so many requests (default 200; of a trace, all)"),
	VALUE("rate", RATE, rate, "R",
	      "R arrivals a second, Poisson; 0 or inf: all at once\n"
	      "(default: a trace's own times, else all at once)"),
	VALUE("seed", NUMBER, seed, "N",
	      "seed of all that is random (default 0)"),
	VALUE("trace", PATH, trace, "FILE",
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
	SWITCH("lengths-only", lengths_only,
	       "manage pages only, run no model: for large traces"),
	HEADING("Memory"),
	RANGE("device-pages", SIZE, device_pages, 1, MAX_PAGES, "N",
	      "pages of the device tier (default: a third of what the\n"
	      "requests would fill at once)"),
	RANGE("host-pages", SIZE, host_pages, 0, MAX_PAGES, "N",
	      "pages of the host tier, 0 for none (default: so that\n"
	      "some swapping reaches the disk)"),
	VALUE("disk", PATH, disk, "FILE",
	      "disk tier in FILE, made if it is not there; its pages\n"
	      "outlive the run (default: a temporary file)"),
	RANGE("disk-pages", SIZE, disk_pages, 0, MAX_PAGES, "N",
	      "pages of the disk tier, 0 for none (default: all that\n"
	      "the other tiers can't hold)"),
	RANGE("page-tokens", POWER, page_tokens, 1, MAX_PAGE_TOKENS, "N",
	      "tokens of a page, a power of two (default 16)"),
	WORDS("kv-dtype", kv_type, kv_types, "TYPE",
	      "of keys and values: f32 or bf16 (default bf16)"),
	HEADING("Scheduling"),
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
	HEADING("Machine"),
	WORDS("backend", backend, backends, "WHICH",
	      "page manager: auto, kmod or embedded (default auto)"),
	WORDS("device", compute, computes, "WHICH",
	      "where the model runs: auto or cpu (default auto)"),
	RANGE("threads", COUNT, nr_threads, 0, 4096, "N",
	      "compute threads (default 0: one a processor)"),
	HEADING("Output"),
	SWITCH("no-verify", no_verify,
	       "don't run again with unlimited memory to compare tokens"),
	SWITCH("json", json,
	       "print the report as one JSON object"),
	VALUE("report", PATH, report, "FILE",
	      "draw the run into FILE: HTML if it ends in .html, else SVG"),
	SWITCH("quiet", quiet,
	       "show no progress"),
	SWITCH("help", help,
	       "print this text"),
};

#define NR_SPECS (sizeof(specs) / sizeof(specs[0]))

static int refuse(char *why, size_t why_len, const struct spec *s, const char *value,
		  const char *cause)
{
	return pkvrt_why(why, why_len, -EINVAL, "--%s: '%.64s' %s", s->name, value, cause);
}

/* Decimal digits and nothing else. */
static bool parse_u64(const char *text, const char **end, uint64_t *out)
{
	uint64_t v = 0;

	*end = text;
	for (; **end >= '0' && **end <= '9'; (*end)++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(**end - '0'), &v))
			return false;
	*out = v;
	return *end != text;
}

/* One of K, M, G in either case, at most: the shift it stands for. */
static unsigned int parse_suffix(const char **end)
{
	static const char letters[] = "kmg";
	const char *at = **end ? strchr(letters, **end | 0x20) : NULL;

	if (!at)
		return 0;
	(*end)++;
	return 10 * (unsigned int)(at - letters + 1);
}

static bool parse_size(const struct spec *s, const char *text, uint64_t *out)
{
	unsigned int shift;
	const char *end;

	if (!parse_u64(text, &end, out))
		return false;
	shift = s->type == SIZE ? parse_suffix(&end) : 0;
	if (*end || *out > (UINT64_MAX >> shift))
		return false;
	*out <<= shift;
	return true;
}

static int set_u32(const struct spec *s, const char *text, uint32_t *out, char *why,
		   size_t why_len)
{
	char cause[80];
	uint64_t v;

	if (parse_size(s, text, &v) && v >= s->min && v <= s->max &&
	    (s->type != POWER || !(v & (v - 1)))) {
		*out = (uint32_t)v;
		return 0;
	}
	snprintf(cause, sizeof(cause), "is not a %s from %u to %u%s",
		 s->type == POWER ? "power of two" : "whole number", s->min, s->max,
		 s->type == SIZE ? " (K, M, G: powers of 1024)" : "");
	return refuse(why, why_len, s, text, cause);
}

/* A plain decimal: no sign, no hexadecimal, no "nan". */
static bool parse_real(const char *text, double *out)
{
	char *end;

	if (strspn(text, "0123456789.e-+") != strlen(text) || !strpbrk(text, "0123456789") ||
	    *text == '-' || *text == '+')
		return false;
	*out = strtod(text, &end);
	return !*end && isfinite(*out);
}

static int set_rate(const struct spec *s, const char *text, double *out, char *why,
		    size_t why_len)
{
	double v;

	if (!strcmp(text, "inf"))
		v = 0;
	else if (!parse_real(text, &v) || (v && (v < PKVRT_MIN_RATE || v > PKVRT_MAX_RATE)))
		return refuse(why, why_len, s, text, "is not 0, 0.001 to 1e9, or inf");
	*out = v ? v : INFINITY;
	return 0;
}

static int set_choice(const struct spec *s, const char *text, uint32_t *out, char *why,
		      size_t why_len)
{
	char cause[128] = "is not";

	for (uint32_t i = 0; s->words[i]; i++) {
		if (!strcmp(text, s->words[i])) {
			*out = i;
			return 0;
		}
	}
	for (uint32_t i = 0; s->words[i]; i++) {
		size_t len = strlen(cause);

		snprintf(cause + len, sizeof(cause) - len, "%s %s",
			 !i ? "" : s->words[i + 1] ? "," : " or", s->words[i]);
	}
	return refuse(why, why_len, s, text, cause);
}

static int set(struct pkv_options *o, const struct spec *s, const char *text, char *why,
	       size_t why_len)
{
	void *at = (char *)o + s->offset;
	const char *end;

	switch (s->type) {
	case FLAG:
		*(bool *)at = true;
		return 0;
	case COUNT:
	case SIZE:
	case POWER:
		return set_u32(s, text, at, why, why_len);
	case NUMBER:
		if (!parse_u64(text, &end, at) || *end)
			return refuse(why, why_len, s, text,
				      "is not a whole number from 0 to 18446744073709551615");
		return 0;
	case RATE:
		return set_rate(s, text, at, why, why_len);
	case REAL:
		if (!parse_real(text, at) || *(double *)at > s->max)
			return refuse(why, why_len, s, text, "is not a number from 0 to 100");
		return 0;
	case CHOICE:
		return set_choice(s, text, at, why, why_len);
	case PATH:
		if (!*text)
			return refuse(why, why_len, s, text, "is not a file name");
		*(const char **)at = text;
		return 0;
	case GROUP:
		break;
	}
	return -EINVAL;
}

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

/* getopt's table; its last entry ends it. */
static void make_table(struct option *table)
{
	for (size_t i = 0; i < NR_SPECS; i++) {
		if (specs[i].type == GROUP)
			continue;
		*table++ = (struct option){
			.name = specs[i].name,
			.has_arg = specs[i].type == FLAG ? no_argument : required_argument,
			.val = FIRST_VAL + (int)i,
		};
	}
	*table = (struct option){ 0 };
}

/* After getopt_long() said '?' or ':': what was wrong, in the user's words. */
static int refuse_word(int said, char **argv, char *why, size_t why_len)
{
	const char *word = argv[optind - 1];

	if (said == ':')
		return pkvrt_why(why, why_len, -EINVAL, "--%s needs a value",
				 specs[optopt - FIRST_VAL].name);
	if (optopt >= FIRST_VAL)
		return pkvrt_why(why, why_len, -EINVAL, "--%s takes no value",
				 specs[optopt - FIRST_VAL].name);
	if (optopt)
		return pkvrt_why(why, why_len, -EINVAL,
				 "unknown option '-%c': see 'pagedkv run --help'", optopt);
	return pkvrt_why(why, why_len, -EINVAL, "unknown option '%.64s': see 'pagedkv run --help'",
			 word);
}

int pkv_options_parse(struct pkv_options *o, int argc, char **argv, char *why, size_t why_len)
{
	struct option table[NR_SPECS + 1];
	int val, err;

	set_defaults(o);
	make_table(table);
	opterr = 0;
	optind = 0;	/* glibc: start over, from any state */
	while ((val = getopt_long(argc, argv, "+:h", table, NULL)) != -1) {
		if (val == '?' || val == ':')
			return refuse_word(val, argv, why, why_len);
		if (val == 'h') {
			o->help = true;
			continue;
		}
		err = set(o, &specs[val - FIRST_VAL], optarg, why, why_len);
		if (err)
			return err;
	}
	if (o->help)
		return 0;
	if (optind < argc)
		return pkvrt_why(why, why_len, -EINVAL, "'%.64s' is not an option, and no other "
				 "arguments are taken", argv[optind]);
	set_dependent(o);
	return cross_check(o, why, why_len);
}

static void print_option(FILE *out, const struct spec *s)
{
	const char *line = s->help, *end;
	char left[40];

	snprintf(left, sizeof(left), "--%s%s%s", s->name, s->arg ? " " : "", s->arg ? s->arg : "");
	while ((end = strchr(line, '\n'))) {
		fprintf(out, "  %-20s %.*s\n", left, (int)(end - line), line);
		left[0] = '\0';
		line = end + 1;
	}
	fprintf(out, "  %-20s %s\n", left, line);
}

void pkv_options_help(FILE *out)
{
	fputs("usage: pagedkv run [OPTION]...\n\n"
	      "Serve a batch of generation requests with a small transformer whose KV cache is\n"
	      "larger than the device tier, so that pages swap between device, host and disk;\n"
	      "then report how well, and whether every token is the one that unlimited memory\n"
	      "gives. Exit status: 0 yes, 1 no or the job broke, 2 bad usage or input.\n", out);
	for (size_t i = 0; i < NR_SPECS; i++) {
		if (specs[i].type == GROUP)
			fprintf(out, "\n%s:\n", specs[i].name);
		else
			print_option(out, &specs[i]);
	}
}

const char *pkv_policy_name(uint32_t policy)
{
	return policies[policy];
}
