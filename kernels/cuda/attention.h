/* SPDX-License-Identifier: MIT */
#ifndef KERNELS_CUDA_ATTENTION_H
#define KERNELS_CUDA_ATTENTION_H

#include <pagedkv/pkv_cuda.h>

namespace pagedkv {

// Outside, the name alone is the C call's.
using pkv_cuda_attention = struct ::pkv_cuda_attention;

}  // namespace pagedkv

#endif
