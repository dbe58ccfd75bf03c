// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The main job's device tier: main memory, or the memory of a GPU. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "job_internal.h"
#include "why.h"

#define SWAP_SAMPLE_BYTES	((uint64_t)4 << 20)
#define UNKNOWN_SWAP		25e9	/* bytes a second of a tier too small to measure with */

static int make_cpu(struct pkvrt_job *j, uint64_t bytes)
{
	struct pkvrt_arena_params ap = {
		.size = sizeof(ap),
		.bytes = bytes,
		.node = PKVRT_NODE_ANY,
		.flags = PKVRT_ARENA_PREFAULT,
	};
	int err = pkvrt_arena_create(&j->device, &ap);

	if (err)
		return err;
	j->device_base = pkvrt_arena_base(j->device);
	j->device_cpu = (struct pkvrt_device_cpu){ j->device_base, j->page_bytes };
	return 0;
}

static int make_gpu(struct pkvrt_job *j, uint64_t bytes)
{
	const struct pkvrt_gpu_ops *gpu = j->p->gpu;
	struct pkvrt_gpu_copier_params cp = {
		.size = sizeof(cp),
		.device = j->p->gpu_device,
		.page_bytes = j->page_bytes,
		.nr_slots = j->p->tiers.nr_pages[PAGEDKV_DEVICE],
	};
	int err = gpu->memory_create(&j->gpu_memory, j->p->gpu_device, bytes);

	if (err)
		return err;
	cp.base = j->device_base = gpu->memory_base(j->gpu_memory);
	return gpu->copier_create(&j->gpu_copier, &cp);
}

int pkvrt_job_make_device(struct pkvrt_job *j)
{
	uint32_t nr = j->p->tiers.nr_pages[PAGEDKV_DEVICE];
	size_t bytes;
	int err = __builtin_mul_overflow(j->page_bytes, nr, &bytes) ? -EOVERFLOW : 0;

	if (!err)
		err = j->p->gpu ? make_gpu(j, bytes) : make_cpu(j, bytes);
	return err ? pkvrt_why(j->why, j->why_len, err,
			       "device tier of %u pages of %" PRIu64 " bytes: %s", nr,
			       j->page_bytes, strerror(-err)) : 0;
}

/* Engine and executor have ended. */
void pkvrt_job_free_device(struct pkvrt_job *j)
{
	if (j->p->gpu) {
		j->p->gpu->copier_destroy(j->gpu_copier);
		j->p->gpu->memory_destroy(j->gpu_memory);
	}
	pkvrt_arena_destroy(j->device);
}

void pkvrt_job_copies(struct pkvrt_job *j, struct pkvrt_device *dev)
{
	if (j->p->gpu)
		j->p->gpu->copier_device(j->gpu_copier, dev);
	else
		pkvrt_device_cpu_init(dev, &j->device_cpu);
}

int pkvrt_job_measure_swap(struct pkvrt_job *j)
{
	uint64_t most = j->page_bytes * (j->p->tiers.nr_pages[PAGEDKV_DEVICE] / 2), half = most;
	char *base = j->device_base;

	if (j->p->gpu)
		return j->p->gpu->copy_rate(j->p->gpu_device, &j->cost.swap_bytes_per_s);
	if (half > SWAP_SAMPLE_BYTES)
		half = j->page_bytes * (SWAP_SAMPLE_BYTES / j->page_bytes + 1);
	if (half && half <= most)
		pkvrt_cost_measure_swap(&j->cost, base, base + half, half);
	else
		j->cost.swap_bytes_per_s = UNKNOWN_SWAP;
	return 0;
}
