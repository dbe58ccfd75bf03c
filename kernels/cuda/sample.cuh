/* SPDX-License-Identifier: MIT */
#ifndef KERNELS_CUDA_SAMPLE_CUH
#define KERNELS_CUDA_SAMPLE_CUH

#include <cuda_runtime.h>
#include <pagedkv/pkv_cuda.h>

namespace pagedkv {

// Of checked arguments.
cudaError_t Sample(const struct pkv_cuda_sample& s);

}  // namespace pagedkv

#endif
