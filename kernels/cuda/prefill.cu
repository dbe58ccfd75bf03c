// SPDX-License-Identifier: MIT
#include "prefill.h"

#include "prefill_launch.cuh"

namespace pagedkv {
namespace {

// Two warpgroups that overlap softmax and products each: fastest where tiles have many blocks, and
// where there are few tiles.
template <typename T, int kHeadDim>
using Long = PrefillConfig<T, kHeadDim, 2, 128, 5, 2, true, true, true>;

// Three that do one thing after the other, in smaller blocks: starting and ending a tile counts
// less, and three share what is read of K and V.
template <typename T, int kHeadDim>
using Short = PrefillConfig<T, kHeadDim, 3, 96, 5, 2, false, false, true>;

// Its tiles are larger: fewer than these for a multiprocessor leave too much of the last ones idle.
constexpr uint32_t kShortTiles = 3;
constexpr uint32_t kShortContext = 2048;

PrefillKind ChooseKind(const pkv_cuda_attention& a, uint32_t nr_sms) {
  const bool takes_short = a.max_context_tokens <= kShortContext &&
                           PrefillTilesAtMost<Short<__half, 64>>(a) >= kShortTiles * nr_sms;
  return takes_short ? PrefillKind::kShort : PrefillKind::kLong;
}

template <typename T, int kHeadDim>
cudaError_t LaunchFor(const pkv_cuda_attention& a, PrefillKind kind, uint32_t nr_sms) {
  return kind == PrefillKind::kShort ? LaunchPrefill<Short<T, kHeadDim>>(a, nr_sms)
                                     : LaunchPrefill<Long<T, kHeadDim>>(a, nr_sms);
}

template <typename T>
cudaError_t Launch(const pkv_cuda_attention& a, PrefillKind kind, uint32_t nr_sms) {
  return a.layout->head_dim == 64 ? LaunchFor<T, 64>(a, kind, nr_sms)
                                  : LaunchFor<T, 128>(a, kind, nr_sms);
}

bool Aligned(const void* p, uintptr_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

// What the copy engine's maps can describe.
bool LayoutTakes(const pkv_kv_layout& l, uint32_t nr_slots) {
  constexpr uint64_t kMaxStride = uint64_t{1} << 40;
  const uint64_t unit = PrefillUnit(l);
  return l.page_tokens % 8 == 0 && unit % 16 == 0 && unit < kMaxStride &&
         l.token_stride_bytes % 16 == 0 && 8 * l.token_stride_bytes < kMaxStride &&
         l.kv_stride_bytes % 16 == 0 && l.layer_stride_bytes % 16 == 0 && nr_slots > 0 &&
         l.page_stride_bytes / unit < INT32_MAX && l.head_stride_bytes / unit < INT32_MAX &&
         PrefillUnits(l, nr_slots) < INT32_MAX;
}

}  // namespace

bool PrefillTakes(const pkv_cuda_attention& a) {
  const pkv_kv_layout& l = *a.layout;
  return (a.flags & PKV_CUDA_INVARIANT) == 0 && (l.head_dim == 64 || l.head_dim == 128) &&
         (l.dtype == PKV_BF16 || l.dtype == PKV_F16) && l.dtype == a.q_dtype && a.scale > 0 &&
         a.softcap == 0 && a.window == 0 && a.alibi == nullptr && Aligned(a.base, 16) &&
         Aligned(a.q, 16) && Aligned(a.out, 16) && a.q_row_elements % 8 == 0 &&
         LayoutTakes(l, a.nr_slots);
}

size_t PrefillWorkspace(const pkv_cuda_attention& a) {
  return (a.layout->nr_kv_heads + 1) * sizeof(uint32_t);
}

cudaError_t Prefill(const pkv_cuda_attention& a, PrefillKind kind) {
  if (a.nr_seqs == 0 || a.nr_tokens == 0) return cudaSuccess;
  int device = 0;
  int nr_sms = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  error = cudaDeviceGetAttribute(&nr_sms, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) return error;
  if (kind == PrefillKind::kAny) kind = ChooseKind(a, nr_sms);
  return a.q_dtype == PKV_F16 ? Launch<__half>(a, kind, nr_sms)
                              : Launch<__nv_bfloat16>(a, kind, nr_sms);
}

}  // namespace pagedkv
