/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The device tier of a GPU: struct pkvrt_device by copy engines, streams and events.
 *
 * Large pages go straight between device memory and host memory. Small ones pass a buffer in
 * device memory: a kernel gathers or scatters them, and the copy engine moves what lies side by
 * side in host memory as one piece. No kernel ever touches host memory. Host memory should be
 * pinned (the engine does that): a copy of other memory makes begin() wait for it.
 *
 * Order against compute. A page that goes out must not be read before the kernels that write it
 * have run, and a slot that is given a page must not be written while kernels still read what was
 * there. So a server that launches without waiting calls pkvrt_gpu_copier_after() with its compute
 * stream, after launching a step and before the pagedkv_step() that follows it: moves that come of
 * that call or of later ones then wait, on the device, for all that the stream held at that moment.
 * A server whose steps block needs none of it. The other way round needs no event: a sequence is
 * running only when its moves are committed, and they are committed when their copies have ended.
 */
#ifndef PKVRT_CUDA_COPIER_H
#define PKVRT_CUDA_COPIER_H

#include <stddef.h>
#include <stdint.h>

#include "../device.h"

#ifdef __cplusplus
extern "C" {
#endif

struct pkvrt_gpu_copier;

struct pkvrt_gpu_copier_params {
	size_t size;			/* sizeof(struct pkvrt_gpu_copier_params) */
	int device;			/* its number, as CUDA counts */
	void *base;			/* slot 0, a device address; 16-byte aligned */
	uint64_t page_bytes;		/* a multiple of 16 */
	uint32_t nr_slots;		/* copies of others fail with -EINVAL */
};

/* Return: 0, -EINVAL, -ENOMEM, -ENODEV, -EIO. */
int pkvrt_gpu_copier_create(struct pkvrt_gpu_copier **out,
			    const struct pkvrt_gpu_copier_params *p);

/* Waits for copies under way. The engine must have ended. NULL is fine. */
void pkvrt_gpu_copier_destroy(struct pkvrt_gpu_copier *c);

/* Fill @dev; @c must outlive it. */
void pkvrt_gpu_copier_device(struct pkvrt_gpu_copier *c, struct pkvrt_device *dev);

/**
 * pkvrt_gpu_copier_after - copies that begin from now on wait for what a stream holds now
 * @stream: a cudaStream_t of the same device
 *
 * From any thread. Of two calls with different streams the later one alone counts.
 *
 * Return: 0, -EINVAL, -EIO.
 */
int pkvrt_gpu_copier_after(struct pkvrt_gpu_copier *c, void *stream);

#ifdef __cplusplus
}
#endif

#endif
