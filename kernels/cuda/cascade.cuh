/* SPDX-License-Identifier: MIT */
/*
 * Attention to the shared tokens of a cascade: rows are the call's query tokens, whatever their
 * sequence, times the query heads of one kv head, and every row sees all of the tokens. Sums are
 * left for the kernel that goes on with what each sequence has of its own.
 *
 * A block has one tile of rows of one kv head and one stretch of the tokens, so that a few tiles
 * occupy the whole device. It works as a prefill does whose tile sees a whole number of pages, with
 * that one's producer of K and V and its consumers' steps: see prefill.cuh. Nothing is merged here:
 * sums of stretches are parts, which the next kernel adds up where it begins a row, beside its wait
 * for the first tokens from memory.
 *
 * Sums are relative to whole powers of two, as the decode kernel wants them: scaling is exact then.
 */
#ifndef PAGEDKV_CUDA_CASCADE_CUH
#define PAGEDKV_CUDA_CASCADE_CUH

#include "prefill.cuh"

namespace pagedkv {

// One tile's q, and so one stage more than a prefill.
template <typename T, int kHeadDim>
using CascadeConfig = PrefillConfig<T, kHeadDim, 2, 128, 6, 1, true, true, false>;

struct CascadeArgs {
  CUtensorMap q_map, k_map, v_map;
  PrefillParams p;
  uint32_t nr_tokens;  // rows of q
  uint32_t shared_tokens;
  uint32_t nr_tiles;  // of a kv head
  uint32_t nr_parts;
  float* parts;  // as in DecodeArgs
};

// What one block does. Those of a kv head are of equal index modulo the number of heads, as a
// prefill's are, and those with the same tokens follow each other.
struct CascadeWork {
  uint32_t head, first_token, part;
  uint32_t begin, end;  // blocks of tokens

  __device__ __forceinline__ CascadeWork(const CascadeArgs& a, uint32_t block_tokens) {
    const uint32_t i = blockIdx.x / a.p.nr_kv_heads;
    head = blockIdx.x - i * a.p.nr_kv_heads;
    part = i / a.nr_tiles;
    first_token = (i - part * a.nr_tiles) * a.p.tile_tokens;
    const uint32_t blocks = (a.shared_tokens + block_tokens - 1) / block_tokens;
    const uint32_t each = blocks / a.nr_parts, over = blocks - each * a.nr_parts;
    begin = part * each + min(part, over);
    end = begin + each + (part < over);
  }
};

// The producer warp: q, then K and V from the stretch's last block to its first.
template <typename Config>
__device__ __forceinline__ void CascadeProduce(const CascadeArgs& a, const CascadeWork& work,
                                               PrefillShared<Config>& shared) {
  const PrefillParams& p = a.p;
  if (threadIdx.x % 32 == 0) {
    BarrierArriveExpect(&shared.q_full[0], p.group * p.tile_tokens * 128 * Config::kParts);
#pragma unroll
    for (int part = 0; part < Config::kParts; part++) {
      CopyBox4(SharedAddress(shared.q[0]) + part * Config::kRows * 128, &a.q_map, &shared.q_full[0],
               work.head * p.group, work.first_token, part);
    }
  }
  __syncwarp();
  const uint32_t row = p.table_rows == nullptr ? 0 : p.table_rows[0];
  const PrefillSource source = {p.table + row * p.table_row_slots, a.shared_tokens,
                                work.head * p.head_units};
  RingPlace<Config::kStages> place;
  uint32_t n = work.end - 1;
  PrefillPiece piece = FindPiece<Config>(p, source, n);
  PrefillPiece next = n > work.begin ? FindPiece<Config>(p, source, n - 1) : piece;
  LoadBlock<Config>(p, shared, place, &a.k_map, piece);
  for (; n > work.begin; n--) {
    // The block table is read a block ahead.
    const PrefillPiece after = n > work.begin + 1 ? FindPiece<Config>(p, source, n - 2) : next;
    LoadBlock<Config>(p, shared, place, &a.k_map, next);
    LoadBlock<Config>(p, shared, place, &a.v_map, piece);
    piece = next;
    next = after;
  }
  LoadBlock<Config>(p, shared, place, &a.v_map, piece);
}

template <typename Config>
__device__ __forceinline__ void CascadeStore(const CascadeArgs& a, const CascadeWork& work,
                                             const PrefillConsumer<Config>& c) {
  const PrefillParams& p = a.p;
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t nr_rows = min(p.tile_tokens, a.nr_tokens - work.first_token) * p.group;
  const uint64_t heads = p.nr_kv_heads * p.group, all = a.nr_tokens * heads;
  float2* pairs = reinterpret_cast<float2*>(a.parts + a.nr_parts * all * Config::kHeadDim);
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float total = c.sum[r] + __shfl_xor_sync(0xffffffff, c.sum[r], 1);
    total += __shfl_xor_sync(0xffffffff, total, 2);
    const uint32_t row = c.warpgroup * 64 + threadIdx.x % 128 / 32 * 16 + r * 8 + lane / 4;
    if (row >= nr_rows) continue;
    const float whole = ceilf(c.base[r]);
    const float f = whole == -INFINITY ? 0 : Exp2(c.base[r] - whole);
    const uint32_t token = row / p.group;
    const uint64_t at = work.part * all + (work.first_token + token) * heads + work.head * p.group +
                        row - token * p.group;
    float* to = a.parts + at * Config::kHeadDim + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < Config::kHeadDim / 8; j++) {
      const float* o = &c.out[4 * j + 2 * r];
      *reinterpret_cast<float2*>(to + j * 8) = {o[0] * f, o[1] * f};
    }
    if (lane % 4 == 0) pairs[at] = {whole, total * f};
  }
}

// A warpgroup of consumers: all of the stretch's blocks as one stream.
template <typename Config>
__device__ __forceinline__ void CascadeConsume(const CascadeArgs& a, const CascadeWork& work,
                                               PrefillConsumer<Config>& c) {
  constexpr int kBlockN = Config::kBlockN;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    c.base[r] = -INFINITY;
    c.sum[r] = 0;
    c.limit[r] =
        static_cast<int32_t>(a.shared_tokens - 1) - static_cast<int32_t>(threadIdx.x % 4 * 2);
  }
  c.fresh = true;
  c.lowest = static_cast<int32_t>(a.shared_tokens - 1);
  c.zero_begin = c.zero_end = 0;  // pages are whole: the rest of the last block is zeros already
  c.ClearOutput();
  BarrierWait(&c.shared.q_full[0], 0);
  if (Config::kTurns && c.warpgroup == Config::kWarpgroups - 1) c.PassTurn();
  uint32_t n = work.end - 1;
  const uint32_t k = c.AwaitStage();
  c.template IssueScores<kBlockN>(0, k);
  c.template AwaitScores<kBlockN, 0>(k);
  c.template Mask<kBlockN>(n);
  c.template Softmax<kBlockN, true>([] {});
  while (n > work.begin) c.template Step<kBlockN, false>(--n);
  const uint32_t v = c.AwaitStage();
  c.IssueOutput(v);
  c.AwaitOutput(v);
  CascadeStore<Config>(a, work, c);
}

template <typename Config>
__global__ void __launch_bounds__(Config::kThreads, 1)
    CascadeKernel(const __grid_constant__ CascadeArgs a) {
  extern __shared__ __align__(1024) uint8_t raw[];
  PrefillShared<Config>& shared = *reinterpret_cast<PrefillShared<Config>*>(raw);
  if (threadIdx.x == 0) {
    BarrierInit(&shared.q_full[0], 1);
    for (int i = 0; i < Config::kStages; i++) {
      BarrierInit(&shared.full[i], 1);
      BarrierInit(&shared.empty[i], 4 * Config::kWarpgroups);
    }
    BarrierInitFence();
    for (const CUtensorMap* map : {&a.q_map, &a.k_map, &a.v_map}) {
      asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
    }
  }
  const CascadeWork work(a, Config::kBlockN);
  __syncthreads();
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  if (threadIdx.x < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Config::kProducerRegisters));
    if (threadIdx.x < 32) CascadeProduce<Config>(a, work, shared);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Config::kConsumerRegisters));
    const uint32_t warpgroup = Uniform(threadIdx.x / 128 - 1);
    PrefillConsumer<Config> consumer{
        a.p, shared, warpgroup, WgmmaTile(SharedAddress(shared.q) + warpgroup * 64 * 128, 0, 1024),
        WgmmaTile(SharedAddress(shared.ring), Config::kPartBytes, Config::kGroupBytes)};
    CascadeConsume<Config>(a, work, consumer);
  }
}

}  // namespace pagedkv

#endif
