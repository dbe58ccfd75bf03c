/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The main job, once: pool, tiers, disk, swap engine, model and scheduler are set up, a
 * workload is served, all is taken down, and the report and every token remain.
 */
#ifndef PKVRT_JOB_H
#define PKVRT_JOB_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloc.h"
#include "executor.h"
#include "gpu.h"
#include "report.h"
#include "sched.h"
#include "workload.h"

#define PKVRT_JOB_AUTO	UINT32_MAX

/* Sizes of the three tiers, in pages. */
struct pkvrt_job_tiers {
	uint32_t nr_pages[PAGEDKV_NR_TIERS];
};

struct pkvrt_job_params {
	const struct pkvrt_workload *workload;
	struct pkvrt_job_tiers tiers;	/* none of them AUTO: see pkvrt_job_size() */
	uint32_t page_tokens;
	uint32_t max_tokens;		/* longest sequence: a region of Orca Max and static */
	enum pkvrt_policy policy;
	enum pkvrt_preempt preempt;
	struct pkvrt_shape shape;
	double temperature;		/* of samples; 0 is greedy */
	bool use_prefix;
	bool lengths_only;
	uint32_t budget_tokens;		/* of a step */
	uint32_t max_batch;		/* sequences of a step */
	uint32_t backend;		/* enum pagedkv_backend */

	/* with a model */
	struct pkvrt_model model;
	uint64_t seed;			/* of its weights */
	uint32_t kv_dtype;
	unsigned int nr_threads;
	const char *disk;		/* NULL: an unlinked file in $TMPDIR */
	const struct pkvrt_gpu_ops *gpu;	/* NULL: the CPU is the device */
	int gpu_device;			/* its number */
	const char *device_name;	/* for the report; the caller's for as long as that */
};

/* Tokens of every request and sequence, in order; an unfinished request has none. */
struct pkvrt_job_output {
	uint32_t nr_reqs, nr_seqs;
	uint32_t **tokens;	/* [nr_reqs * nr_seqs]; NULL: unfinished. Owned. */
};

struct pkvrt_job_hooks {
	void *ctx;
	/* All is set up, the first step is next. What failed before was an input. May be NULL. */
	void (*started)(void *ctx);
	/* Some times a second; its t_ns is wall time, and its map is empty. May be NULL. */
	void (*progress)(void *ctx, const struct pkvrt_sample *sample);
	const volatile sig_atomic_t *stop;	/* may be NULL; not 0: end now */
};

/**
 * pkvrt_job_size - choose the sizes of tiers that are AUTO
 *
 * Device: a third of what all requests hold when they are finished. Host: a quarter of the
 * device. Disk: all that the other two can't hold, and an eighth. At least what the largest
 * request needs. 0, -EOVERFLOW.
 */
int pkvrt_job_size(const struct pkvrt_workload *w, const struct pkvrt_shape *shape,
		   uint32_t page_tokens, struct pkvrt_job_tiers *tiers);

/** Pages of all requests together, each with all its tokens; and of the largest one. */
uint64_t pkvrt_job_wanted_pages(const struct pkvrt_workload *w, const struct pkvrt_shape *shape,
				uint32_t page_tokens);
uint64_t pkvrt_job_largest_pages(const struct pkvrt_workload *w, const struct pkvrt_shape *shape,
				 uint32_t page_tokens);

/**
 * Slots of the disk image that @p names, when it is there and fits the job; 0 otherwise (then
 * pkvrt_job_run() makes it, or says what is wrong with it).
 */
uint32_t pkvrt_job_image_slots(const struct pkvrt_job_params *p);

/** Tiers in which nothing ever leaves the device. */
void pkvrt_job_size_unlimited(const struct pkvrt_workload *w, const struct pkvrt_shape *shape,
			      uint32_t page_tokens, struct pkvrt_job_tiers *tiers);

/**
 * pkvrt_job_run - serve the workload
 * @report: the caller zeroes it, and frees report->series with pkvrt_series_exit()
 * @out: NULL, or to be freed with pkvrt_job_output_exit()
 * @why: one line about a failure, PKVRT_WHY_LEN
 *
 * Return: 0 (report->interrupted when @hooks->stop ended it), or -errno: nothing in @report
 * but its series is valid then.
 */
int pkvrt_job_run(const struct pkvrt_job_params *p, const struct pkvrt_job_hooks *hooks,
		  struct pkvrt_report *report, struct pkvrt_job_output *out, char *why,
		  size_t why_len);

void pkvrt_job_output_exit(struct pkvrt_job_output *o);

/** Compare what both have finished, into report->identical and its companions. */
void pkvrt_job_compare(const struct pkvrt_job_output *a, const struct pkvrt_job_output *b,
		       const struct pkvrt_workload *w, struct pkvrt_report *report);

#endif
