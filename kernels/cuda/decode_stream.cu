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

size_t StreamRecordBytes(const pkv_cuda_attention& a, uint32_t grid) {
  const size_t group = a.nr_q_heads / a.layout->nr_kv_heads, rows = (group + 7) / 8 * 8;
  return size_t{grid} * 2 * rows * (a.layout->head_dim + 2) * sizeof(float);
}

cudaError_t Stream(const pkv_cuda_attention& a, DecodeArgs d, uint32_t grid) {
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
