// SPDX-License-Identifier: MIT
#include "decode_deal.cuh"
#include "decode_stream.h"

namespace pagedkv {

// Below as many tiles a warp a launch is a chain of waits and little else.
#ifndef PAGEDKV_DEAL_ROWS
#define PAGEDKV_DEAL_ROWS 32
#endif
#ifndef PAGEDKV_DEAL_LEAST
#define PAGEDKV_DEAL_LEAST 12
#endif

bool DealTakes(const pkv_cuda_attention& a, const DecodeArgs& d, uint32_t grid) {
  const uint64_t rows = uint64_t{a.nr_seqs} * a.layout->nr_kv_heads;
  // one warp adds up a row's records
  return d.group <= 8 && d.parts == nullptr && a.nr_seqs <= kDealMaxSequences &&
         rows >= PAGEDKV_DEAL_ROWS && grid * (1 + kDealtChunks) < kDealCounter &&
         rows * d.longest_tiles >= uint64_t{PAGEDKV_DEAL_LEAST} * kDealWarps * grid;
}

uint32_t DealNrParts(uint32_t grid) { return grid * (1 + kDealtChunks); }

cudaError_t Deal(const pkv_cuda_attention& a, const DecodeArgs& d, uint32_t grid) {
  cudaStream_t stream = static_cast<cudaStream_t>(a.stream);
  switch (a.layout->dtype) {
    case PKV_BF16:
      return LaunchDealOf<Bf16>(a.layout->head_dim, d, grid, stream);
    case PKV_F16:
      return LaunchDealOf<F16>(a.layout->head_dim, d, grid, stream);
    default:
      return LaunchDealOf<E4m3>(a.layout->head_dim, d, grid, stream);
  }
}

}  // namespace pagedkv
