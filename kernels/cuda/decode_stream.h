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

// Bytes of records in the workspace.
size_t StreamRecordBytes(const pkv_cuda_attention& a, uint32_t grid);

// Launches one kernel. Uses d.counters and d.records.
cudaError_t Stream(const pkv_cuda_attention& a, DecodeArgs d, uint32_t grid);

}  // namespace pagedkv

#endif
