/* SPDX-License-Identifier: MIT */
/*
 * Records: what a block leaves in memory of a row that it shares with other blocks. [group][dim]
 * sums, then [group] maxima and weights. A part of the line has two: of the row that began before
 * it, and of the one that begins in it and goes on.
 */
#ifndef PAGEDKV_CUDA_DECODE_RECORD_CUH
#define PAGEDKV_CUDA_DECODE_RECORD_CUH

#include "decode_math.cuh"
#include "decode_plan.cuh"
#include "decode_tile.cuh"

namespace pagedkv {

// A whole number of float4.
template <int kDim>
__device__ __forceinline__ uint32_t RecordFloats(const DecodeArgs& a) {
  return (a.group * (kDim + 2) + 3) / 4 * 4;
}

template <int kDim>
__device__ __forceinline__ float* RecordOf(const DecodeArgs& a, uint32_t part, bool begins) {
  return a.records + (uint64_t{part} * 2 + begins) * RecordFloats<kDim>(a);
}

// Counts a record of the row whose first part of the line is `first`, which this thread's warp or
// block has written and met a barrier since. True for the last one of `nr`: now all can be read.
__device__ __forceinline__ bool RecordsAreWhole(const DecodeArgs& a, uint32_t first, uint32_t nr) {
  uint32_t before;
  // releases what was written before the barrier, acquires what the others did
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
               : "=r"(before)
               : "l"(a.counters + first)
               : "memory");
  if (before != nr - 1) return false;
  a.counters[first] = 0;
  return true;
}

// Dims 4 * unit to 4 * unit + 3 of a row's column of q.
template <class T, int kDim>
__device__ __forceinline__ void WriteUnit(const DecodeArgs& a, uint32_t row, uint32_t column,
                                          uint32_t unit, float4 sum, float max, float weight) {
  const uint32_t seq = row / a.nr_kv_heads, head = row - seq * a.nr_kv_heads;
  const uint64_t at =
      uint64_t{__ldg(a.query_start + seq)} * a.group * a.nr_kv_heads + head * a.group + column;
  const float f = StreamInverse(a, head, weight);
  uint2 halves = {StreamPack<T>(a, sum.x * f, sum.y * f), StreamPack<T>(a, sum.z * f, sum.w * f)};
  reinterpret_cast<uint2*>(a.out)[at * (kDim / 4) + unit] = halves;
  if (a.lse != nullptr && unit == 0) {
    a.lse[at] = LogSumExp(max, weight);
  }
}

}  // namespace pagedkv

#endif
