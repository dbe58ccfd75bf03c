/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Options of `pagedkv run`. Parsing is a function of argv alone: nothing is opened, printed or
 * exited from.
 */
#ifndef PKV_OPTIONS_H
#define PKV_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <pagedkv.h>

#define PKV_AUTO	UINT32_MAX	/* a number of pages that was not given */

enum pkv_policy {
	PKV_POLICY_PAGED,
	PKV_POLICY_ORCA_MAX,
	PKV_POLICY_ORCA_POW2,
	PKV_POLICY_ORCA_ORACLE,
	PKV_POLICY_STATIC,
};

enum pkv_preempt {
	PKV_PREEMPT_AUTO,
	PKV_PREEMPT_SWAP,
	PKV_PREEMPT_RECOMPUTE,
};

enum pkv_kv_type {
	PKV_KV_F32,
	PKV_KV_BF16,
};

enum pkv_model {
	PKV_MODEL_SMALL,
	PKV_MODEL_LLAMA_8B,
};

enum pkv_compute {
	PKV_COMPUTE_AUTO,
	PKV_COMPUTE_CPU,
	PKV_COMPUTE_CUDA,
};

/* Strings are borrowed from argv. Enumerations are stored as uint32_t. */
struct pkv_options {
	/* workload */
	uint32_t nr_requests;		/* 0: all of a trace; never 0 without one */
	double rate;			/* as in struct pkvrt_workload_params: 0 unset, INFINITY */
	uint64_t seed;
	const char *trace;		/* NULL: drawn lengths */
	uint32_t max_tokens;		/* prompt + output of a request; 0: no limit */
	uint32_t shared_prefix_tokens;
	uint32_t nr_samples;		/* sequences sampled from a prompt, at least 1 */
	uint32_t beam_width;		/* 1: no beam search */
	double temperature;		/* 0: greedy */
	uint32_t model;			/* enum pkv_model */
	bool lengths_only;

	/* memory */
	uint32_t device_pages;		/* PKV_AUTO or at least 1 */
	uint32_t host_pages;		/* PKV_AUTO, or 0 for no host tier */
	uint32_t disk_pages;		/* PKV_AUTO, or 0 for no disk tier */
	const char *disk;		/* NULL: a temporary file without a name */
	uint32_t page_tokens;		/* a power of two */
	uint32_t kv_type;		/* enum pkv_kv_type */

	/* scheduling */
	uint32_t policy;		/* enum pkv_policy */
	uint32_t preempt;		/* enum pkv_preempt */
	bool no_prefix_cache;
	uint32_t max_batch;		/* sequences */
	uint32_t token_budget;		/* tokens a step */

	/* machine */
	uint32_t backend;		/* enum pagedkv_backend */
	uint32_t compute;		/* enum pkv_compute */
	uint32_t nr_threads;		/* 0: one a processor */

	/* output */
	bool no_verify;
	bool json;
	const char *report;		/* NULL: no picture */
	bool quiet;
	bool help;			/* nothing else has been checked then */
};

/**
 * pkv_options_parse - argv of a subcommand, argv[0] its name
 * @why: on failure one line that names option, value and what is allowed
 *
 * Sets what was not given to its default, so that @o needs no second look. Not thread-safe
 * (getopt_long).
 *
 * Return: 0 or -EINVAL.
 */
int pkv_options_parse(struct pkv_options *o, int argc, char **argv, char *why, size_t why_len);

/* The text of `pagedkv run --help`. */
void pkv_options_help(FILE *out);

/* The word for an enum pkv_policy, as given to --policy. */
const char *pkv_policy_name(uint32_t policy);

#endif
