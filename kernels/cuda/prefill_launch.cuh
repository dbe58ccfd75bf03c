/* SPDX-License-Identifier: MIT */
/*
 * What a prefill needs on the host: maps for the copy engine, and the launch.
 */
#ifndef PAGEDKV_CUDA_PREFILL_LAUNCH_CUH
#define PAGEDKV_CUDA_PREFILL_LAUNCH_CUH

#include <cuda.h>
#include <cuda_runtime.h>
#include <pagedkv/pkv_cuda.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "launch.cuh"
#include "prefill.cuh"

namespace pagedkv {

// The outermost dimension of the maps counts units of bytes that both slots and heads are multiples
// of.
inline uint64_t PrefillUnit(const pkv_kv_layout& layout) {
  return std::gcd(layout.page_stride_bytes, layout.head_stride_bytes);
}

inline uint64_t PrefillUnits(const pkv_kv_layout& layout, uint32_t nr_slots) {
  const uint64_t unit = PrefillUnit(layout);
  return (nr_slots - uint64_t{1}) * (layout.page_stride_bytes / unit) +
         (layout.nr_kv_heads - uint64_t{1}) * (layout.head_stride_bytes / unit) + 1;
}

// Maps made once a call: encoding is arithmetic on the host, well under a microsecond.
class PrefillMaps {
 public:
  explicit PrefillMaps(bool half)
      : type_(half ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16) {}

  // [part of q][token][head][64 elements of the head dim], boxes of a tile's rows
  bool MapQ(CUtensorMap* map, const pkv_cuda_attention& a, uint32_t tile_tokens) const {
    const uint32_t dim = a.layout->head_dim;
    const cuuint64_t sizes[4] = {64, a.nr_q_heads, a.nr_tokens, dim / 64};
    const cuuint64_t strides[3] = {dim * 2, a.q_row_elements * 2, 128};
    const cuuint32_t box[4] = {64, a.nr_q_heads / a.layout->nr_kv_heads, tile_tokens, 1};
    return MapBoxes(map, type_, 4, a.q, sizes, strides, box);
  }

  // [unit][8 tokens][part of the head dim][token][64 elements], boxes of copy_tokens tokens
  bool MapKv(CUtensorMap* map, const pkv_cuda_attention& a, const void* base,
             uint32_t copy_tokens) const {
    const pkv_kv_layout& l = *a.layout;
    const cuuint64_t sizes[5] = {64, 8, l.head_dim / 64, l.page_tokens / 8,
                                 PrefillUnits(l, a.nr_slots)};
    const cuuint64_t strides[4] = {l.token_stride_bytes, 128, 8 * l.token_stride_bytes,
                                   PrefillUnit(l)};
    const cuuint32_t box[5] = {64, 8, l.head_dim / 64, copy_tokens / 8, 1};
    return MapBoxes(map, type_, 5, base, sizes, strides, box);
  }

 private:
  CUtensorMapDataType type_;
};

template <typename Config>
PrefillParams MakePrefillParams(const pkv_cuda_attention& a) {
  const pkv_kv_layout& l = *a.layout;
  const uint32_t group = a.nr_q_heads / l.nr_kv_heads;
  const uint64_t unit = PrefillUnit(l);
  PrefillParams p = {};
  p.query_start = a.query_start;
  p.context_tokens = a.context_tokens;
  p.table = a.table;
  p.table_rows = a.table_rows;
  p.table_row_slots = a.table_row_slots;
  p.out = a.out;
  p.lse = a.lse;
  p.next_tile = static_cast<uint32_t*>(a.workspace);
  p.nr_seqs = a.nr_seqs;
  p.nr_kv_heads = l.nr_kv_heads;
  p.group = group;
  p.group_inverse = 65535 / group + 1;
  p.tile_tokens = Config::kRows / group;
  p.page_tokens = l.page_tokens;
  p.copy_tokens = std::gcd(l.page_tokens, static_cast<uint32_t>(Config::kBlockN));
  p.slot_units = static_cast<uint32_t>(l.page_stride_bytes / unit);
  p.head_units = static_cast<uint32_t>(l.head_stride_bytes / unit);
  p.nr_units = static_cast<uint32_t>(PrefillUnits(l, a.nr_slots));
  p.scale = a.scale;
  p.scale_log2 = a.scale * kLog2E;
  return p;
}

// No more tiles than this, all kv heads counted.
template <typename Config>
uint64_t PrefillTilesAtMost(const pkv_cuda_attention& a) {
  const uint32_t tile_tokens = Config::kRows / (a.nr_q_heads / a.layout->nr_kv_heads);
  return (uint64_t{a.nr_tokens} / tile_tokens + a.nr_seqs) * a.layout->nr_kv_heads;
}

template <typename Config>
cudaError_t LaunchPrefill(const pkv_cuda_attention& a, uint32_t nr_sms) {
  const pkv_kv_layout& l = *a.layout;
  const PrefillParams p = MakePrefillParams<Config>(a);
  const uint8_t* k = static_cast<const uint8_t*>(a.base) + a.layer * l.layer_stride_bytes;
  const PrefillMaps maps(std::is_same_v<typename Config::T, __half>);
  CUtensorMap q_map, k_map, v_map;
  if (!maps.MapQ(&q_map, a, p.tile_tokens) || !maps.MapKv(&k_map, a, k, p.copy_tokens) ||
      !maps.MapKv(&v_map, a, k + l.kv_stride_bytes, p.copy_tokens)) {
    return cudaErrorInvalidValue;
  }
  const auto kernel = PrefillKernel<Config>;
  constexpr int kSharedBytes = sizeof(PrefillShared<Config>);
  static_assert(kSharedBytes <= 227 << 10, "more shared memory than a block can have");
  const uint32_t blocks =
      static_cast<uint32_t>(std::min<uint64_t>(nr_sms, PrefillTilesAtMost<Config>(a)));
  return LaunchEarly(kernel, blocks, Config::kThreads, kSharedBytes,
                     static_cast<cudaStream_t>(a.stream), p, q_map, k_map, v_map);
}

}  // namespace pagedkv

#endif
