/* SPDX-License-Identifier: MIT */
#ifndef KERNELS_CUDA_PAGES_CUH
#define KERNELS_CUDA_PAGES_CUH

#include <cuda_runtime.h>
#include <pagedkv/pkv_cuda.h>

namespace pagedkv {

// Can PageCopy() take these layouts? Of two that are alike but for their strides.
bool PageCopyTakes(const struct pkv_kv_layout& src, const struct pkv_kv_layout& dst);

// Of checked arguments that it takes.
cudaError_t PageCopy(const struct pkv_cuda_page_copy& c);

}  // namespace pagedkv

#endif
