// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The driver's functions are found at run time: a program must start where there is no driver.
 */
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include <cudaTypedefs.h>

#include "error.h"

struct driver {
	PFN_cuMemGetAllocationGranularity_v10020 granularity;
	PFN_cuMemCreate_v10020 create;
	PFN_cuMemRelease_v10020 release;
	PFN_cuMemAddressReserve_v10020 reserve;
	PFN_cuMemAddressFree_v10020 unreserve;
	PFN_cuMemMap_v10020 map;
	PFN_cuMemUnmap_v10020 unmap;
	PFN_cuMemSetAccess_v10020 set_access;
	PFN_cuMemExportToShareableHandle_v10020 export_handle;
	PFN_cuMemImportFromShareableHandle_v10020 import_handle;
};

struct pkvrt_gpu_memory {
	struct driver driver;
	int device;
	uint64_t bytes;
	CUmemGenericAllocationHandle handle;
	CUdeviceptr base;
	int is_mapped;
};

static int find(void *out, const char *name)
{
	enum cudaDriverEntryPointQueryResult found;
	void *fn = NULL;
	cudaError_t err;

	err = cudaGetDriverEntryPointByVersion(name, &fn, 12000, cudaEnableDefault, &found);
	if (err)
		return pkvrt_cuda_errno(err);
	if (found != cudaDriverEntryPointSuccess || !fn)
		return -EOPNOTSUPP;
	*(void **)out = fn;
	return 0;
}

/* Makes the device's context current too, and with it the driver's own initialisation. */
static int open_driver(struct driver *d, int device)
{
	cudaError_t err = cudaSetDevice(device);
	int ret;

	if (err)
		return pkvrt_cuda_errno(err);
	ret = find(&d->granularity, "cuMemGetAllocationGranularity");
	if (!ret)
		ret = find(&d->create, "cuMemCreate");
	if (!ret)
		ret = find(&d->release, "cuMemRelease");
	if (!ret)
		ret = find(&d->reserve, "cuMemAddressReserve");
	if (!ret)
		ret = find(&d->unreserve, "cuMemAddressFree");
	if (!ret)
		ret = find(&d->map, "cuMemMap");
	if (!ret)
		ret = find(&d->unmap, "cuMemUnmap");
	if (!ret)
		ret = find(&d->set_access, "cuMemSetAccess");
	if (!ret)
		ret = find(&d->export_handle, "cuMemExportToShareableHandle");
	if (!ret)
		ret = find(&d->import_handle, "cuMemImportFromShareableHandle");
	return ret;
}

static CUmemAllocationProp properties(int device)
{
	return (CUmemAllocationProp){
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
		.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device },
	};
}

/* Of @bytes, rounded up: the range, and what is to lie there. */
static int begin(struct pkvrt_gpu_memory **out, int device, uint64_t bytes)
{
	CUmemAllocationProp prop = properties(device);
	struct pkvrt_gpu_memory *m;
	size_t unit = 0;
	int ret;

	*out = NULL;
	if (device < 0 || !bytes)
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->device = device;
	ret = open_driver(&m->driver, device);
	if (!ret)
		ret = pkvrt_cuda_driver_errno(m->driver.granularity(
			&unit, &prop, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
	if (!ret && (!unit || bytes > UINT64_MAX - unit))
		ret = -EINVAL;
	if (ret) {
		free(m);
		return ret;
	}
	m->bytes = (bytes + unit - 1) / unit * unit;
	*out = m;
	return 0;
}

/* The allocation is there: give it addresses. */
static int map(struct pkvrt_gpu_memory *m)
{
	CUmemAccessDesc access = {
		.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = m->device },
		.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};
	CUresult err = m->driver.reserve(&m->base, m->bytes, 0, 0, 0);

	if (!err)
		err = m->driver.map(m->base, m->bytes, 0, m->handle, 0);
	m->is_mapped = !err;
	if (!err)
		err = m->driver.set_access(m->base, m->bytes, &access, 1);
	return pkvrt_cuda_driver_errno(err);
}

static int zero(const struct pkvrt_gpu_memory *m)
{
	cudaError_t err = cudaMemset((void *)m->base, 0, m->bytes);

	return pkvrt_cuda_errno(err ? err : cudaDeviceSynchronize());
}

int pkvrt_gpu_memory_create(struct pkvrt_gpu_memory **out, int device, uint64_t bytes)
{
	CUmemAllocationProp prop = properties(device);
	struct pkvrt_gpu_memory *m;
	int ret = begin(&m, device, bytes);

	*out = NULL;
	if (ret)
		return ret;
	ret = pkvrt_cuda_driver_errno(m->driver.create(&m->handle, m->bytes, &prop, 0));
	if (ret)
		m->handle = 0;
	if (!ret)
		ret = map(m);
	if (!ret)
		ret = zero(m);
	if (ret) {
		pkvrt_gpu_memory_destroy(m);
		return ret;
	}
	*out = m;
	return 0;
}

int pkvrt_gpu_memory_map(struct pkvrt_gpu_memory **out, int device, uint64_t bytes, int fd)
{
	struct pkvrt_gpu_memory *m;
	int ret;

	*out = NULL;
	/* The driver takes a number that is no descriptor for a fault of its own. */
	if (fcntl(fd, F_GETFD) < 0)
		return -EINVAL;
	ret = begin(&m, device, bytes);
	if (ret)
		return ret;
	ret = pkvrt_cuda_driver_errno(m->driver.import_handle(
		&m->handle, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	if (ret)
		m->handle = 0;
	if (!ret)
		ret = map(m);
	if (ret) {
		pkvrt_gpu_memory_destroy(m);
		return ret;
	}
	*out = m;
	return 0;
}

int pkvrt_gpu_memory_export(const struct pkvrt_gpu_memory *m)
{
	int fd = -1, ret;

	ret = pkvrt_cuda_driver_errno(m->driver.export_handle(
		&fd, m->handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	if (ret)
		return ret;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

void pkvrt_gpu_memory_destroy(struct pkvrt_gpu_memory *m)
{
	if (!m)
		return;
	if (m->is_mapped)
		m->driver.unmap(m->base, m->bytes);
	if (m->base)
		m->driver.unreserve(m->base, m->bytes);
	if (m->handle)
		m->driver.release(m->handle);
	free(m);
}

void *pkvrt_gpu_memory_base(const struct pkvrt_gpu_memory *m)
{
	return (void *)m->base;
}

uint64_t pkvrt_gpu_memory_bytes(const struct pkvrt_gpu_memory *m)
{
	return m->bytes;
}
