/* SPDX-License-Identifier: MIT */
/*
 * Decode attention: few query tokens a sequence, bound by the speed of the memory. Any number of
 * query tokens is right, and all of them have the same bits however a sequence is fed.
 */
#ifndef PAGEDKV_CUDA_DECODE_H
#define PAGEDKV_CUDA_DECODE_H

#include <cuda_runtime.h>

#include "attention.h"

namespace pagedkv {

// Bytes of workspace for a call with these sizes and bounds; its pointers are not looked at.
size_t DecodeWorkspace(const pkv_cuda_attention& a);

// How many of them, from the workspace's begin, are zero between calls: the same for all calls.
size_t DecodeKept();

// Launches one kernel, or two for shared tokens. cudaErrorNotSupported where no kernel here takes
// the call: other head dims, q of another type than bf16 or fp16 K and V, more than 8192 sequences,
// shared tokens with a window or slopes.
cudaError_t Decode(const pkv_cuda_attention& a);

}  // namespace pagedkv

#endif
