// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "pages.h"

namespace pagedkv {

constexpr int kThreads = 256;
constexpr int kLoads = 4;  // in flight in a thread
constexpr uint64_t kPartVectors = kThreads * kLoads;

// A block copies one part, 16 KiB, of one page.
__global__ void __launch_bounds__(kThreads) CopyPagesKernel(const __grid_constant__ pkvrt_pages p) {
  const uint64_t page_vectors = p.page_bytes / sizeof(uint4);
  const uint32_t parts = static_cast<uint32_t>((page_vectors + kPartVectors - 1) / kPartVectors);
  const uint32_t page = blockIdx.x / parts;
  const uint64_t first = (blockIdx.x % parts) * kPartVectors + threadIdx.x;
  const uint4* from = static_cast<const uint4*>(p.from) + p.src[page] * page_vectors;
  uint4* to = static_cast<uint4*>(p.to) + p.dst[page] * page_vectors;
  uint4 part[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; i++) {
    if (first + i * kThreads < page_vectors) part[i] = __ldcs(from + first + i * kThreads);
  }
#pragma unroll
  for (int i = 0; i < kLoads; i++) {
    if (first + i * kThreads < page_vectors) to[first + i * kThreads] = part[i];
  }
}

static cudaError_t CopyPages(const pkvrt_pages& p, cudaStream_t stream) {
  const uint64_t parts = (p.page_bytes / sizeof(uint4) + kPartVectors - 1) / kPartVectors;
  if (!p.nr) return cudaSuccess;
  if (p.nr > PKVRT_PAGES_MAX || p.page_bytes % sizeof(uint4) || parts * p.nr > INT32_MAX) {
    return cudaErrorInvalidValue;
  }
  CopyPagesKernel<<<static_cast<unsigned>(parts * p.nr), kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace pagedkv

cudaError_t pkvrt_pages_load(void) {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, pagedkv::CopyPagesKernel);
}

cudaError_t pkvrt_pages_copy(const struct pkvrt_pages* p, cudaStream_t stream) {
  return pagedkv::CopyPages(*p, stream);
}
