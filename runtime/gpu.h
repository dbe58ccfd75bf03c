/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The GPU's parts of the runtime as one shared object, libpagedkv_gpu.so, that is loaded when
 * somebody asks for a GPU: a program starts where there is neither CUDA nor a GPU, and one that
 * asks for none loads nothing of it. A server that links the library itself can as well call the
 * functions behind this table: cuda/memory.h and cuda/copier.h say what they do.
 */
#ifndef PKVRT_GPU_H
#define PKVRT_GPU_H

#include <stddef.h>
#include <stdint.h>

#include "cuda/copier.h"
#include "cuda/memory.h"
#include "device.h"
#include "executor.h"

#define PKVRT_GPU_LIBRARY	"libpagedkv_gpu.so.0"
#define PKVRT_GPU_TABLE		"pkvrt_gpu_table"	/* the symbol, a struct pkvrt_gpu_ops */

struct pkvrt_gpu_ops {
	uint32_t size;		/* sizeof(struct pkvrt_gpu_ops); another size is another version */
	/*
	 * Is this device there, and can the kernels run on it? 0 and its name; -ENODEV: none, or of
	 * another architecture; -EIO.
	 */
	int (*probe)(int device, char *name, size_t name_len);
	/* Bytes a second that large copies to pinned memory make. 0, -ENOMEM, -EIO. */
	int (*copy_rate)(int device, double *bytes_per_s);

	int (*memory_create)(struct pkvrt_gpu_memory **out, int device, uint64_t bytes);
	int (*memory_map)(struct pkvrt_gpu_memory **out, int device, uint64_t bytes, int fd);
	int (*memory_export)(const struct pkvrt_gpu_memory *m);
	void (*memory_destroy)(struct pkvrt_gpu_memory *m);
	void *(*memory_base)(const struct pkvrt_gpu_memory *m);

	int (*copier_create)(struct pkvrt_gpu_copier **out,
			     const struct pkvrt_gpu_copier_params *p);
	void (*copier_destroy)(struct pkvrt_gpu_copier *c);
	void (*copier_device)(struct pkvrt_gpu_copier *c, struct pkvrt_device *dev);
	int (*copier_after)(struct pkvrt_gpu_copier *c, void *stream);

	/* Of pkvrt_executor_create(): give it as params.create. */
	int (*executor_create)(struct pkvrt_executor **out,
			       const struct pkvrt_executor_params *p);
};

/**
 * pkvrt_gpu_load - load the library and look for a GPU
 * @out: its functions, for the life of the process
 * @name: the device's, empty on failure
 * @why: one line about a failure
 *
 * Return: 0; -ENOENT without the library; -ENODEV without a GPU that it can use; -EIO.
 */
int pkvrt_gpu_load(const struct pkvrt_gpu_ops **out, int device, char *name, size_t name_len,
		   char *why, size_t why_len);

#endif
