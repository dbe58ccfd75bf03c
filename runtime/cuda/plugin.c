// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The table that libpagedkv_gpu.so shows. */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "../gpu.h"
#include "error.h"
#include "executor_gpu.h"

#define RATE_BYTES	((size_t)32 << 20)
#define RATE_COPIES	4

/* The kernels are for one architecture. */
static int probe(int device, char *name, size_t name_len)
{
	struct cudaDeviceProp prop;
	int nr = 0;
	cudaError_t err = cudaGetDeviceCount(&nr);

	if (err == cudaErrorNoDevice || err == cudaErrorInsufficientDriver || device >= nr)
		return -ENODEV;
	if (!err)
		err = cudaGetDeviceProperties(&prop, device);
	if (err)
		return pkvrt_cuda_errno(err);
	if (prop.major != 9 || prop.minor != 0)
		return -ENODEV;
	snprintf(name, name_len, "%s", prop.name);
	return 0;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static cudaError_t time_copies(void *host, void *memory, double *bytes_per_s)
{
	cudaError_t err = cudaMemcpy(host, memory, RATE_BYTES, cudaMemcpyDefault);
	double start = seconds();

	for (int i = 0; i < RATE_COPIES && !err; i++)
		err = cudaMemcpyAsync(host, memory, RATE_BYTES, cudaMemcpyDefault, NULL);
	if (!err)
		err = cudaStreamSynchronize(NULL);
	*bytes_per_s = RATE_COPIES * (double)RATE_BYTES / (seconds() - start);
	return err;
}

static int copy_rate(int device, double *bytes_per_s)
{
	void *host = NULL, *memory = NULL;
	cudaError_t err = cudaSetDevice(device);

	if (!err)
		err = cudaMallocHost(&host, RATE_BYTES);
	if (!err)
		err = cudaMalloc(&memory, RATE_BYTES);
	if (!err)
		err = time_copies(host, memory, bytes_per_s);
	cudaFree(memory);
	cudaFreeHost(host);
	return pkvrt_cuda_errno(err);
}

const struct pkvrt_gpu_ops pkvrt_gpu_table = {
	.size = sizeof(pkvrt_gpu_table),
	.probe = probe,
	.copy_rate = copy_rate,
	.memory_create = pkvrt_gpu_memory_create,
	.memory_map = pkvrt_gpu_memory_map,
	.memory_export = pkvrt_gpu_memory_export,
	.memory_destroy = pkvrt_gpu_memory_destroy,
	.memory_base = pkvrt_gpu_memory_base,
	.copier_create = pkvrt_gpu_copier_create,
	.copier_destroy = pkvrt_gpu_copier_destroy,
	.copier_device = pkvrt_gpu_copier_device,
	.copier_after = pkvrt_gpu_copier_after,
	.executor_create = pkvrt_executor_gpu_create,
};
