/* SPDX-License-Identifier: MIT */
#ifndef KERNELS_CUDA_ROWWISE_CUH
#define KERNELS_CUDA_ROWWISE_CUH

#include <cuda_runtime.h>
#include <pagedkv/pkv_cuda.h>

namespace pagedkv {

// Of checked arguments.
cudaError_t RmsNorm(const struct pkv_cuda_rms_norm& n);
cudaError_t Swiglu(const struct pkv_cuda_swiglu& s);
cudaError_t GatherRows(const struct pkv_cuda_gather_rows& g);

}  // namespace pagedkv

#endif
