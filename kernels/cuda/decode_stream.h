/* SPDX-License-Identifier: MIT */
/* The common call of decode attention at the speed of the memory: decode_stream.cuh. */
#ifndef PAGEDKV_CUDA_DECODE_STREAM_H
#define PAGEDKV_CUDA_DECODE_STREAM_H

#include "attention.h"
#include "decode_plan.cuh"

namespace pagedkv {

// May the call go here, or what of it comes after d.first_token? Results are right to rounding, but
// not the same bits in another batch.
bool StreamTakes(const pkv_cuda_attention& a, const DecodeArgs& d);

// Bytes of sums in the workspace, for any call. They are zero between calls.
size_t StreamBytes(uint32_t grid);

// Launches one kernel.
cudaError_t Stream(const pkv_cuda_attention& a, DecodeArgs d, float* sums, uint32_t grid);

}  // namespace pagedkv

#endif
