// SPDX-License-Identifier: MIT
#include "cascade.h"

#include <algorithm>

#include "cascade.cuh"
#include "prefill.h"
#include "prefill_launch.cuh"

namespace pagedkv {
namespace {

constexpr uint32_t kTileRows = 128, kBlockTokens = 128;
constexpr uint32_t kPassRows = 32;  // that the decode kernel has its arithmetic keep up with
constexpr uint32_t kMostParts = 16;
// About what a block of tokens costs a tile, and what beginning and ending one does, in what adding
// up another part does.
constexpr uint32_t kBlockCost = 7, kTileCost = 12;

uint32_t Group(const pkv_cuda_attention& a) { return a.nr_q_heads / a.layout->nr_kv_heads; }

uint32_t Tiles(const pkv_cuda_attention& a) {
  const uint32_t tokens = kTileRows / Group(a);
  return (a.nr_tokens + tokens - 1) / tokens;
}

template <typename Config>
cudaError_t Launch(const pkv_cuda_attention& a, uint32_t nr_sms, float* parts) {
  static_assert(Config::kRows == kTileRows && Config::kBlockN == kBlockTokens, "sizes");
  const pkv_kv_layout& l = *a.layout;
  const uint8_t* k = static_cast<const uint8_t*>(a.base) + a.layer * l.layer_stride_bytes;
  const PrefillMaps maps(std::is_same_v<typename Config::T, __half>);
  CascadeArgs c = {};
  c.p = MakePrefillParams<Config>(a);
  if (!maps.MapQ(&c.q_map, a, c.p.tile_tokens) || !maps.MapKv(&c.k_map, a, k, c.p.copy_tokens) ||
      !maps.MapKv(&c.v_map, a, k + l.kv_stride_bytes, c.p.copy_tokens)) {
    return cudaErrorInvalidValue;
  }
  c.nr_tokens = a.nr_tokens;
  c.shared_tokens = CascadeTokens(a);
  c.nr_tiles = Tiles(a);
  c.nr_parts = CascadeParts(a, nr_sms);
  c.parts = parts;
  constexpr size_t kShared = sizeof(PrefillShared<Config>);
  static_assert(kShared <= 227 << 10, "more shared memory than a block can have");
  return LaunchEarly(CascadeKernel<Config>, c.nr_tiles * c.nr_parts * l.nr_kv_heads,
                     Config::kThreads, kShared, static_cast<cudaStream_t>(a.stream), c);
}

template <typename T>
cudaError_t LaunchOf(const pkv_cuda_attention& a, uint32_t nr_sms, float* parts) {
  return a.layout->head_dim == 64 ? Launch<CascadeConfig<T, 64>>(a, nr_sms, parts)
                                  : Launch<CascadeConfig<T, 128>>(a, nr_sms, parts);
}

}  // namespace

bool CascadeTakes(const pkv_cuda_attention& a) {
  return CascadeTokens(a) >= kBlockTokens && uint64_t{a.nr_tokens} * Group(a) > kPassRows &&
         PrefillTakes(a);
}

uint32_t CascadeTokens(const pkv_cuda_attention& a) {
  return a.shared_tokens / a.layout->page_tokens * a.layout->page_tokens;
}

// Tiles of all heads and parts run in waves of a tile on each multiprocessor.
uint32_t CascadeParts(const pkv_cuda_attention& a, uint32_t nr_sms) {
  const uint64_t tiles = uint64_t{Tiles(a)} * a.layout->nr_kv_heads;
  const uint32_t blocks = (CascadeTokens(a) + kBlockTokens - 1) / kBlockTokens;
  const uint64_t most = std::min<uint64_t>(CascadeRoom(a, nr_sms) / a.nr_tokens, blocks);
  uint32_t best = 1;
  uint64_t least = UINT64_MAX;
  for (uint32_t parts = 1; parts <= most; parts++) {
    const uint64_t waves = (tiles * parts + nr_sms - 1) / nr_sms;
    const uint64_t each = (blocks + parts - 1) / parts;
    const uint64_t cost = waves * (each * kBlockCost + kTileCost) + parts;
    if (cost < least) {
      least = cost;
      best = parts;
    }
  }
  return best;
}

// Parts are many where tiles are few. Four waves of tiles leave none of the last one much idle.
uint64_t CascadeRoom(const pkv_cuda_attention& a, uint32_t nr_sms) {
  const uint64_t wave = uint64_t{nr_sms} * (kTileRows / Group(a)) / a.layout->nr_kv_heads;
  return std::max<uint64_t>(a.nr_tokens, std::min(4 * wave, uint64_t{a.nr_tokens} * kMostParts));
}

cudaError_t Cascade(const pkv_cuda_attention& a, uint32_t nr_sms, float* parts) {
  return a.q_dtype == PKV_F16 ? LaunchOf<__half>(a, nr_sms, parts)
                              : LaunchOf<__nv_bfloat16>(a, nr_sms, parts);
}

}  // namespace pagedkv
