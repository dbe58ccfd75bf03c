/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Device memory that can outlive its process: an allocation of the driver's, mapped at one range
 * of addresses, and named by a file descriptor. Whoever holds the descriptor (a pool's kept files,
 * another process) holds the memory; the next server maps it again and finds what was there.
 *
 * All functions return 0 or -errno and never print.
 */
#ifndef PKVRT_CUDA_MEMORY_H
#define PKVRT_CUDA_MEMORY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pkvrt_gpu_memory;

/**
 * pkvrt_gpu_memory_create - allocate, map and zero device memory
 * @device: its number, as CUDA counts
 * @bytes: rounded up to what the device allocates, 2 MiB
 *
 * Return: 0, -EINVAL, -ENOMEM, -ENODEV, -EOPNOTSUPP (no virtual memory management), -EIO.
 */
int pkvrt_gpu_memory_create(struct pkvrt_gpu_memory **out, int device, uint64_t bytes);

/**
 * pkvrt_gpu_memory_map - map memory that another process allocated, or this one
 * @bytes: as it was created with, or less
 * @fd: of pkvrt_gpu_memory_export(), and still the caller's
 *
 * Return: as above; -EINVAL too for a descriptor that stands for no such memory. What only looks
 * like the driver's may be any error.
 */
int pkvrt_gpu_memory_map(struct pkvrt_gpu_memory **out, int device, uint64_t bytes, int fd);

/**
 * pkvrt_gpu_memory_export - a descriptor of the memory
 *
 * Return: a new descriptor, closed on execve; or -errno.
 */
int pkvrt_gpu_memory_export(const struct pkvrt_gpu_memory *m);

/* Work that uses the memory must have ended. NULL is fine. */
void pkvrt_gpu_memory_destroy(struct pkvrt_gpu_memory *m);

void *pkvrt_gpu_memory_base(const struct pkvrt_gpu_memory *m);	/* a device address */
uint64_t pkvrt_gpu_memory_bytes(const struct pkvrt_gpu_memory *m);

#ifdef __cplusplus
}
#endif

#endif
