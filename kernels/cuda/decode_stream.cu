// SPDX-License-Identifier: MIT
#include "decode_stream.cuh"
#include "decode_stream.h"

namespace pagedkv {

bool StreamTakes(const pkv_cuda_attention& a, const DecodeArgs& d) {
  const uint32_t dtype = a.layout->dtype, dim = a.layout->head_dim;
  const bool halves = dtype == a.q_dtype && (dim == 64 || dim == 128);
  // the line's tiles are counted in 32 bits
  const uint64_t tiles =
      uint64_t{a.nr_seqs} * a.layout->nr_kv_heads * (uint64_t{a.max_context_tokens} / kTile + 1);
  return tiles >> 32 == 0 && (halves || (dtype == PKV_E4M3 && dim == 128)) &&
         a.max_query_tokens == 1 && d.whole_tiles && d.window == 0 && d.softcap == 0 &&
         d.alibi == nullptr && d.first_token % a.layout->page_tokens == 0 &&
         a.nr_seqs <= kStreamMaxSequences;
}

size_t StreamBytes(uint32_t grid) {
  return size_t{grid} * sizeof(StreamMemory<F16, 128, 2, kRingBytes>::Part);
}

cudaError_t Stream(const pkv_cuda_attention& a, DecodeArgs d, float* sums, uint32_t grid) {
  d.records = sums;
  cudaStream_t stream = static_cast<cudaStream_t>(a.stream);
  d.table += d.first_token / a.layout->page_tokens;
  switch (a.layout->dtype) {
    case PKV_BF16:
      return LaunchStreamOf<Bf16>(a.layout->head_dim, d, grid, stream);
    case PKV_F16:
      return LaunchStreamOf<F16>(a.layout->head_dim, d, grid, stream);
    default:
      return LaunchStreamOf<E4m3>(a.layout->head_dim, d, grid, stream);
  }
}

}  // namespace pagedkv
