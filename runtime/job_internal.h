/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the main job's files share: everything that is set up, and taken down in reverse. */
#ifndef PKVRT_JOB_INTERNAL_H
#define PKVRT_JOB_INTERNAL_H

#include <pagedkv.h>
#include <pagedkv/cache.h>

#include "arena.h"
#include "device.h"
#include "disk.h"
#include "engine.h"
#include "gpu.h"
#include "job.h"

struct pkvrt_job {
	const struct pkvrt_job_params *p;
	const struct pkvrt_job_hooks *hooks;
	struct pkvrt_report *report;
	struct pkvrt_job_output *out;
	char *why;
	size_t why_len;

	uint64_t page_bytes;
	struct pagedkv *kv;
	struct pagedkv_pool *pool;	/* NULL: a policy that does without */
	/* the device tier, with a model: main memory, or a GPU's */
	void *device_base;		/* slot 0 */
	struct pkvrt_arena *device;
	struct pkvrt_device_cpu device_cpu;
	struct pkvrt_gpu_memory *gpu_memory;
	struct pkvrt_gpu_copier *gpu_copier;
	struct pkvrt_disk *disk;	/* until the engine has it */
	uint8_t salt[PAGEDKV_SALT_BYTES];
	struct pkvrt_engine *engine;
	struct pkvrt_executor *ex;
	struct pkvrt_lengths lengths;
	struct pkvrt_alloc *alloc;
	struct pkvrt_metrics metrics;
	struct pkvrt_sched *sched;
	struct pkvrt_cost cost;
	uint64_t start_ns, next_progress_ns;	/* CLOCK_MONOTONIC */
};

/* job_setup.c */
int pkvrt_job_setup(struct pkvrt_job *j);
void pkvrt_job_teardown(struct pkvrt_job *j);

/* job_device.c: the device tier's memory, who copies to and from it, and how fast that is */
int pkvrt_job_make_device(struct pkvrt_job *j);
void pkvrt_job_free_device(struct pkvrt_job *j);
void pkvrt_job_copies(struct pkvrt_job *j, struct pkvrt_device *dev);
int pkvrt_job_measure_swap(struct pkvrt_job *j);

/* job_report.c: after each step, and at the end */
int pkvrt_job_watch(void *job, const struct pkvrt_sched *s);
void pkvrt_job_finish_report(struct pkvrt_job *j);

#endif
