/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Copies of pages within device memory, by a kernel. */
#ifndef PKVRT_CUDA_PAGES_H
#define PKVRT_CUDA_PAGES_H

#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PKVRT_PAGES_MAX	1024u	/* a launch takes them along as its arguments */

/* Page src[i] of one array goes to page dst[i] of another. */
struct pkvrt_pages {
	const void *from;	/* device; 16-byte aligned, as is page_bytes */
	void *to;
	uint64_t page_bytes;
	uint32_t nr;		/* at most PKVRT_PAGES_MAX */
	uint32_t reserved;
	uint32_t src[PKVRT_PAGES_MAX];
	uint32_t dst[PKVRT_PAGES_MAX];
};

/* Loads the kernel: the first launch of one that is not loaded may wait for the device. */
cudaError_t pkvrt_pages_load(void);

cudaError_t pkvrt_pages_copy(const struct pkvrt_pages *p, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
