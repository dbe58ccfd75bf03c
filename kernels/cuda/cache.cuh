/* SPDX-License-Identifier: MIT */
#ifndef KERNELS_CUDA_CACHE_CUH
#define KERNELS_CUDA_CACHE_CUH

#include <cuda_runtime.h>
#include <pagedkv/pkv_cuda.h>

namespace pagedkv {

// Of checked arguments.
cudaError_t CacheWrite(const struct pkv_cuda_cache_write& w);

}  // namespace pagedkv

#endif
