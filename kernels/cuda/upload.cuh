/* SPDX-License-Identifier: MIT */
#ifndef KERNELS_CUDA_UPLOAD_CUH
#define KERNELS_CUDA_UPLOAD_CUH

#include <cuda_runtime.h>
#include <pagedkv/pkv_cuda.h>

namespace pagedkv {

// Of checked arguments.
cudaError_t Upload(const struct pkv_cuda_upload& u);

}  // namespace pagedkv

#endif
