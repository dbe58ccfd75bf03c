/* SPDX-License-Identifier: MIT */
/*
 * Prefill attention on Hopper: causal, over a paged cache, for ragged batches.
 *
 * A block takes tiles of query rows (see prefill_tiles.cuh) one after the other. Row r of a tile is
 * query token r / group of it and query head r % group of its kv head, so that all rows share K and
 * V. One warp, the producer, finds the next tile, and has the copy engine bring the tile's q and
 * then blocks of kBlockN tokens of K and V, from the last that the tile sees to the first, into a
 * ring of stages in shared memory. Each warpgroup of consumers holds 64 rows: their scores, the
 * running maximum and sum of the softmax, and the output, all in registers.
 *
 * A stage holds kBlockN tokens as groups of 8 tokens, each with its 64-element parts of the head
 * dim one after the other: [token / 8][dim / 64][token % 8][dim % 64], swizzled within 1 KiB. One
 * copy of a 5-dimensional box brings a page's tokens so, and the matrix instruction reads K along
 * the head dim and V across it from the same layout. Tokens past the last that the tile sees are
 * read as zeros, by whole pages; within a page, what lies past the context is cut from the scores
 * by causality, and V there is overwritten with zeros, for it may be NaN and 0 * NaN is NaN.
 */
#ifndef PAGEDKV_CUDA_PREFILL_CUH
#define PAGEDKV_CUDA_PREFILL_CUH

#include <cuda.h>
#include <stdint.h>

#include <type_traits>

#include "barrier.cuh"
#include "prefill_tiles.cuh"
#include "softmax.cuh"
#include "wgmma.cuh"

namespace pagedkv {

// What a kernel is compiled for.
template <typename T_, int kHeadDim_, int kWarpgroups_, int kBlockN_, int kStages_, int kQSlots_,
          bool kOverlap_, bool kTurns_, bool kNarrow_>
struct PrefillConfig {
  using T = T_;
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kWarpgroups = kWarpgroups_;  // of consumers
  static constexpr int kRows = 64 * kWarpgroups;    // of a tile
  static constexpr int kBlockN = kBlockN_;          // tokens of a KV block
  static constexpr int kStages = kStages_;          // of the ring: a block of K or of V each
  static constexpr int kQSlots = kQSlots_;          // tiles whose q is in shared memory
  static constexpr bool kOverlap = kOverlap_;       // the next scores while this softmax goes on
  static constexpr bool kTurns = kTurns_;           // warpgroups issue products in turns
  static constexpr bool kNarrow = kNarrow_;         // a tile's last block only as wide as needed
  static constexpr int kParts = kHeadDim / 64;
  // In a stage: from 8 tokens to the next 8, from 64 dims to the next 64.
  static constexpr int kGroupBytes = 1024 * kParts;
  static constexpr int kPartBytes = 1024;
  static constexpr int kThreads = 128 * (kWarpgroups + 1);
  static constexpr int kQBytes = kRows * kHeadDim * 2;
  static constexpr int kStageBytes = kBlockN * kHeadDim * 2;
  static constexpr int kProducerRegisters = kWarpgroups == 2 ? 40 : 32;
  static constexpr int kConsumerRegisters = kWarpgroups == 2 ? 232 : 160;
  // Whoever asks for more registers than the block began with waits for ever.
  static constexpr int kFirstRegisters = (64 << 10) / kThreads / 8 * 8;
  static_assert(kProducerRegisters + kWarpgroups * kConsumerRegisters <=
                    (1 + kWarpgroups) * kFirstRegisters,
                "more registers than a block has");
};

// What consumers need to know of a tile.
struct PrefillWork {
  uint32_t nr_blocks;  // 0: there are no more tiles
  uint32_t kv_head;
  uint32_t first_token;
  uint32_t nr_tokens;
  uint32_t first_position;
  uint32_t zero_begin;  // rows of V to zero in the last block
  uint32_t zero_end;
  uint32_t last_width;  // tokens that the tile sees of the last block
};

template <typename Config>
struct PrefillShared {
  alignas(1024) uint8_t q[Config::kQSlots][Config::kQBytes];
  alignas(1024) uint8_t ring[Config::kStages][Config::kStageBytes];
  alignas(16) PrefillWork work[Config::kQSlots];
  uint64_t q_full[Config::kQSlots];
  uint64_t q_empty[Config::kQSlots];
  uint64_t full[Config::kStages];
  uint64_t empty[Config::kStages];
};

struct PrefillParams {
  const uint32_t* query_start;
  const uint32_t* context_tokens;
  const uint32_t* table;
  const uint32_t* table_rows;
  uint64_t table_row_slots;
  void* out;
  float* lse;
  uint32_t* next_tile;  // [nr_kv_heads + 1], see PrefillDealer
  uint32_t nr_seqs;
  uint32_t nr_kv_heads;
  uint32_t group;
  uint32_t group_inverse;  // row / group is row * group_inverse >> 16
  uint32_t tile_tokens;
  uint32_t page_tokens;
  uint32_t copy_tokens;  // of one copy: divides page_tokens and kBlockN
  uint32_t slot_units;   // in the outermost dimension of the maps of K and V
  uint32_t head_units;
  uint32_t nr_units;
  float scale;
  float scale_log2;  // scale * log2(e)
};

// Copies a box to shared memory; its bytes count towards the barrier's phase.
__device__ __forceinline__ void CopyBox5(uint32_t to, const CUtensorMap* map, uint64_t* barrier,
                                         uint32_t c3, uint32_t c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %3, %3, %4, %5}], [%2];" ::"r"(to),
      "l"(map), "r"(SharedAddress(barrier)), "r"(0), "r"(c3), "r"(c4)
      : "memory");
}

__device__ __forceinline__ void CopyBox4(uint32_t to, const CUtensorMap* map, uint64_t* barrier,
                                         uint32_t c1, uint32_t c2, uint32_t c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
      "l"(map), "r"(SharedAddress(barrier)), "r"(0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

// A place in a ring, and the parity of the phase in which it is filled.
template <int kPlaces>
struct RingPlace {
  uint32_t index = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ void Advance() {
    if (++index == kPlaces) {
      index = 0;
      parity ^= 1;
    }
  }
};

// Of a value that all lanes have alike: lets the compiler know, and keep it in a uniform register.
__device__ __forceinline__ uint32_t Uniform(uint32_t x) { return __shfl_sync(0xffffffff, x, 0); }

// ---- the producer warp

// Where the K and V of a tile lie.
struct PrefillSource {
  const uint32_t* row;  // the sequence's block table
  uint32_t end;         // tokens that the tile sees
  uint32_t head_unit;
};

// What one lane has copied of a block: copy_tokens tokens of a page.
struct PrefillPiece {
  uint32_t group;  // of 8 tokens, in the page
  uint32_t unit;
};

template <typename Config>
__device__ __forceinline__ PrefillPiece FindPiece(const PrefillParams& p,
                                                  const PrefillSource& source, uint32_t n) {
  const uint32_t token = n * Config::kBlockN + threadIdx.x % 32 * p.copy_tokens;
  if (token >= source.end) return {0, p.nr_units};  // past the arena: zeros
  const uint32_t page = token / p.page_tokens;
  return {(token - page * p.page_tokens) / 8, source.row[page] * p.slot_units + source.head_unit};
}

// Has the copy engine bring a block of K or V into the next stage.
template <typename Config>
__device__ __forceinline__ void LoadBlock(const PrefillParams& p, PrefillShared<Config>& shared,
                                          RingPlace<Config::kStages>& place, const CUtensorMap* map,
                                          const PrefillPiece& piece) {
  const uint32_t lane = threadIdx.x % 32;
  uint64_t* full = &shared.full[place.index];
  BarrierWait(&shared.empty[place.index], place.parity ^ 1);
  if (lane == 0) BarrierArriveExpect(full, Config::kStageBytes);
  __syncwarp();
  const uint32_t to =
      SharedAddress(shared.ring[place.index]) + lane * p.copy_tokens / 8 * Config::kGroupBytes;
  if (lane * p.copy_tokens < Config::kBlockN) {
    CopyBox5(to, map, full, piece.group, piece.unit);
  }
  place.Advance();
}

// Tells the consumers of a tile, and has its q brought.
template <typename Config>
__device__ __forceinline__ void PublishTile(const PrefillParams& p, PrefillShared<Config>& shared,
                                            uint32_t slot, const CUtensorMap* q_map,
                                            const PrefillTile& tile, uint32_t kv_head,
                                            uint32_t nr_blocks) {
  const uint32_t end = tile.first_position + tile.nr_tokens;
  // Tokens that the last copy brings and that are not in the context.
  const uint32_t begin = (nr_blocks - 1) * Config::kBlockN;
  const uint32_t brought = (end - begin + p.copy_tokens - 1) / p.copy_tokens * p.copy_tokens;
  shared.work[slot] = {nr_blocks,
                       kv_head,
                       tile.first_token,
                       tile.nr_tokens,
                       tile.first_position,
                       min(tile.context_tokens - begin, brought),
                       brought,
                       end - begin};
  BarrierArriveExpect(&shared.q_full[slot], p.group * p.tile_tokens * 128 * Config::kParts);
#pragma unroll
  for (int part = 0; part < Config::kParts; part++) {
    CopyBox4(SharedAddress(shared.q[slot]) + part * Config::kRows * 128, q_map,
             &shared.q_full[slot], kv_head * p.group, tile.first_token, part);
  }
}

template <typename Config>
__device__ __forceinline__ void PrefillProduce(const PrefillParams& p, const CUtensorMap* q_map,
                                               const CUtensorMap* k_map, const CUtensorMap* v_map,
                                               PrefillShared<Config>& shared) {
  const uint32_t lane = threadIdx.x % 32;
  // The launch before may run until here: whatever is read or written comes after this.
  asm volatile("griddepcontrol.wait;" ::: "memory");
  PrefillTiles tiles(p.query_start, p.context_tokens, p.nr_seqs, p.tile_tokens, Config::kBlockN);
  PrefillDealer dealer(p.next_tile, p.nr_kv_heads, tiles.nr_tiles());
  RingPlace<Config::kQSlots> slot;
  RingPlace<Config::kStages> place;
  PrefillPiece before = {};  // of the tile whose first tokens' V is still to be brought
  bool pending = false;
  while (dealer.Deal()) {
    const PrefillTile tile = tiles.Find(dealer.index());
    const uint32_t kv_head = dealer.head();
    dealer.Ask();
    const uint32_t row = p.table_rows == nullptr ? tile.seq : p.table_rows[tile.seq];
    const PrefillSource source = {p.table + row * p.table_row_slots,
                                  tile.first_position + tile.nr_tokens, kv_head * p.head_units};
    const uint32_t nr_blocks = (source.end + Config::kBlockN - 1) / Config::kBlockN;
    BarrierWait(&shared.q_empty[slot.index], slot.parity ^ 1);
    if (lane == 0) PublishTile<Config>(p, shared, slot.index, q_map, tile, kv_head, nr_blocks);
    __syncwarp();
    slot.Advance();
    PrefillPiece piece = FindPiece<Config>(p, source, nr_blocks - 1);
    PrefillPiece next = nr_blocks > 1 ? FindPiece<Config>(p, source, nr_blocks - 2) : piece;
    LoadBlock<Config>(p, shared, place, k_map, piece);
    if (pending) LoadBlock<Config>(p, shared, place, v_map, before);
    for (uint32_t n = nr_blocks - 1; n > 0; n--) {
      // The block table is read a block ahead.
      const PrefillPiece after = n > 1 ? FindPiece<Config>(p, source, n - 2) : next;
      if (!Config::kOverlap) LoadBlock<Config>(p, shared, place, v_map, piece);
      LoadBlock<Config>(p, shared, place, k_map, next);
      if (Config::kOverlap) LoadBlock<Config>(p, shared, place, v_map, piece);
      piece = next;
      next = after;
    }
    before = piece;
    pending = Config::kOverlap;
    if (!pending) LoadBlock<Config>(p, shared, place, v_map, before);
  }
  if (pending) LoadBlock<Config>(p, shared, place, v_map, before);
  BarrierWait(&shared.q_empty[slot.index], slot.parity ^ 1);
  if (lane == 0) {
    shared.work[slot.index].nr_blocks = 0;
    BarrierArrive(&shared.q_full[slot.index]);
  }
  dealer.Finish();
}

// ---- the consumer warpgroups

template <typename T>
__device__ __forceinline__ uint32_t PackPair(float low, float high) {
  uint32_t pair;
  if constexpr (std::is_same_v<T, __half>) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
}

template <typename Config>
struct PrefillConsumer {
  using T = typename Config::T;
  using Shared = PrefillShared<Config>;
  static constexpr int kBlockN = Config::kBlockN;
  static constexpr int kHeadDim = Config::kHeadDim;
  static constexpr int kNarrowN = Config::kNarrow ? kBlockN / 2 : kBlockN;
  // What this thread's weights in a row of a block may add up to: less than half precision holds.
  static constexpr float kMostWeight = 8192.0f;
  static constexpr float kMostWeightLog2 = 13.0f;

  const PrefillParams& p;
  Shared& shared;
  uint32_t warpgroup;      // of consumers, from 0
  WgmmaTile q_tile;        // of this warpgroup's rows in the first slot
  WgmmaTile ring_tile;     // the first stage: K and V are described alike
  uint32_t row_tokens[2];  // of this thread's two rows: query tokens in the tile
  uint32_t lowest_token;   // of the warpgroup's rows
  RingPlace<Config::kStages> place;
  RingPlace<Config::kQSlots> slot;
  uint32_t zero_begin;
  uint32_t zero_end;  // of the next V, if more than zero_begin
  int32_t limit[2];   // of this thread's two rows: the last visible token, less its first column
  int32_t lowest;     // the last token that all rows of the warpgroup see
  float out[kHeadDim / 2];
  float scores[kBlockN / 2];
  uint32_t weights[kBlockN / 4];  // of the softmax, not yet divided by their sum, as T
  float base[2];  // of this thread's rows: what exponents are relative to; -inf: nothing seen yet
  float sum[2];   // of this thread's columns
  float shrink[2];
  bool rescale;
  bool fresh;  // the warp has a row that has seen nothing yet

  __device__ __forceinline__ void Release(uint64_t* empty) {
    if (threadIdx.x % 32 == 0) BarrierArrive(empty);
  }

  // Begins scores = q K of the first kWidth tokens of the block in a stage.
  template <int kWidth>
  __device__ __forceinline__ void IssueScores(uint32_t q_slot, uint32_t stage) {
    float(&some)[kWidth / 2] = reinterpret_cast<float(&)[kWidth / 2]>(scores);
    const WgmmaTile q = q_tile.Next(q_slot * Config::kQBytes);
    const WgmmaTile k = ring_tile.Next(stage * Config::kStageBytes);
    WgmmaFence();
    Wgmma<T, kWidth>::Begin(some, q.At(0), k.At(0));
#pragma unroll
    for (int i = 1; i < kHeadDim / 16; i++) {
      Wgmma<T, kWidth>::Add(some, q.At(i / 4 * Config::kRows * 128 + i % 4 * 32),
                            k.At(i / 4 * Config::kPartBytes + i % 4 * 32));
    }
    WgmmaCommit();
  }

  template <int kWidth, int kPending>
  __device__ __forceinline__ void AwaitScores(uint32_t stage) {
    WgmmaWait<kPending>();
    WgmmaPin(reinterpret_cast<float(&)[kWidth / 2]>(scores));
    Release(&shared.empty[stage]);
  }

  // Begins out += weights V of the block in a stage.
  __device__ __forceinline__ void IssueOutput(uint32_t stage) {
    const WgmmaTile v = ring_tile.Next(stage * Config::kStageBytes);
    WgmmaPin(out);
    WgmmaFence();
#pragma unroll
    for (int i = 0; i < kBlockN / 16; i++) {
      Wgmma<T, kHeadDim>::Registers(out, &weights[4 * i], v.At(i * 2 * Config::kGroupBytes));
    }
    WgmmaCommit();
    WgmmaPin(out);
  }

  __device__ __forceinline__ void AwaitOutput(uint32_t stage) {
    WgmmaWait<0>();
    WgmmaPin(out);
    Release(&shared.empty[stage]);
  }

  // Zeroes what the tile's last block holds of V past the context. Every warpgroup does so for
  // itself, so that none has to wait for another.
  __device__ __forceinline__ void ZeroPastContext(uint32_t stage) {
    if (zero_begin >= zero_end) return;
    constexpr uint32_t kChunks = kHeadDim / 8;  // of 16 bytes
    const uint32_t chunks = (zero_end - zero_begin) * kChunks;
    for (uint32_t i = threadIdx.x % 128; i < chunks; i += 128) {
      const uint32_t token = zero_begin + i / kChunks;
      const uint32_t chunk = i % kChunks;
      uint8_t* to = shared.ring[stage] + token / 8 * Config::kGroupBytes +
                    chunk / 8 * Config::kPartBytes + token % 8 * 128 + chunk % 8 * 16;
      *reinterpret_cast<uint4*>(to) = make_uint4(0, 0, 0, 0);
    }
    AsyncProxyFence();
    NamedBarrierSync(1 + Config::kWarpgroups + warpgroup, 128);
    zero_end = zero_begin;
  }

  // Cuts scores that causality forbids from block n.
  template <int kWidth>
  __device__ __forceinline__ void Mask(uint32_t n) {
    const int32_t first = static_cast<int32_t>(n * kBlockN);
    if (first + kWidth - 1 <= lowest) return;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      // Columns 0, 1, 8, 9, 16, ... are this thread's; a bit of each that the row sees.
      const int32_t last = limit[r] - first;
      const int32_t seen = (last >> 3) * 2 + ((last & 7) != 0) + 1;
      const uint32_t visible = seen >= 32 ? ~0u : (1u << max(seen, 0)) - 1;
#pragma unroll
      for (int i = 0; i < kWidth / 4; i++) {
        float& s = scores[i / 2 * 4 + 2 * r + i % 2];
        s = visible & (1u << i) ? s : -INFINITY;
      }
    }
  }

  // May the weights of a row, by the present base, be more than kMostWeight? Positive floats are
  // ordered as their bits are, and one instruction compares three integers.
  template <int kWidth>
  __device__ __forceinline__ bool Exceeds() const {
    bool exceeds = false;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      int32_t most[2] = {};
#pragma unroll
      for (int j = 0; j < kWidth / 8; j++) {
        most[j % 2] = __vimax3_s32(most[j % 2], __float_as_int(scores[4 * j + 2 * r]),
                                   __float_as_int(scores[4 * j + 2 * r + 1]));
      }
      const float peak = __int_as_float(max(most[0], most[1]));
      exceeds = exceeds || !(fmaf(peak, p.scale_log2, -base[r]) <= kMostWeightLog2);
    }
    return __any_sync(0xffffffff, exceeds);
  }

  // Raises the base of the exponents to the rows' maxima so far, and says in shrink what the sums
  // so far are worth by the new base.
  template <int kWidth>
  __device__ __forceinline__ void Raise() {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float peak = -INFINITY;
#pragma unroll
      for (int j = 0; j < kWidth / 8; j++) {
        peak = fmaxf(peak, fmaxf(scores[4 * j + 2 * r], scores[4 * j + 2 * r + 1]));
      }
      peak = fmaxf(peak, __shfl_xor_sync(0xffffffff, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(0xffffffff, peak, 2));
      const float to = fmaxf(base[r], peak * p.scale_log2);
      shrink[r] = to == -INFINITY ? 0.0f : Exp2(base[r] - to);
      sum[r] *= shrink[r];
      base[r] = to;
    }
    fresh = __any_sync(0xffffffff, base[0] == -INFINITY || base[1] == -INFINITY);
  }

  // Weights of 16 tokens, as the next product takes them, and what they add to the rows' sums.
  __device__ __forceinline__ void Weigh(uint32_t* to, const float* of, const float (&bases)[2],
                                        float (&added)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float low = Exp2(fmaf(of[2 * i], p.scale_log2, -bases[i % 2]));
      const float high = Exp2(fmaf(of[2 * i + 1], p.scale_log2, -bases[i % 2]));
      added[i % 2 * 2] += low;
      added[i % 2 * 2 + 1] += high;
      to[i] = PackPair<T>(low, high);
    }
  }

  // Turns a block's scores into weights; the scores stay. between() goes between those of the first
  // kEarly * 16 tokens and the others: until then the product before may still read weights.
  template <int kWidth, int kEarly, typename Between>
  __device__ __forceinline__ void WeighBlock(float (&added)[4], Between between) {
    float bases[2];
#pragma unroll
    for (int r = 0; r < 2; r++) bases[r] = base[r] == -INFINITY ? 0.0f : base[r];
#pragma unroll
    for (int i = 0; i < 4; i++) added[i] = 0;
    uint32_t early[kBlockN / 4];
#pragma unroll
    for (int i = 0; i < kEarly; i++) Weigh(&early[4 * i], &scores[8 * i], bases, added);
    between();
#pragma unroll
    for (int i = 0; i < 4 * kEarly; i++) {
      // In a register of its own until here: the product before holds those of weights.
      asm volatile("mov.b32 %0, %1;" : "=r"(weights[i]) : "r"(early[i]));
    }
#pragma unroll
    for (int i = kEarly; i < kWidth / 16; i++) {
      Weigh(&weights[4 * i], &scores[8 * i], bases, added);
    }
#pragma unroll
    for (int i = kWidth / 4; i < kBlockN / 4; i++) weights[i] = 0;
  }

  // Turns scores into weights, and adds these to the sums.
  //
  // The base need not be the maximum, only close enough that weights, sums and output are in range:
  // it is raised when weights might be more than kMostWeight. Most blocks so do without maxima
  // across lanes, and without a rescaled output. Where products go on meanwhile, nothing is looked
  // for before: weights that turn out to be too much are made anew, from a higher base. So nothing
  // has to be known of all scores before the first exponential, and all else goes on in the shadow
  // of the exponentials, which take longest. kFirst: of a tile.
  template <int kWidth, bool kFirst, typename Between>
  __device__ __forceinline__ void Softmax(Between between) {
    // The product before ends after about three quarters of the exponentials of a whole block.
    constexpr int kMost = Config::kOverlap ? kBlockN / 16 * 3 / 4 : 0;
    constexpr int kEarly = kWidth / 16 < kMost ? kWidth / 16 : kMost;
    float added[4];
    rescale = kFirst || fresh || (!Config::kOverlap && Exceeds<kWidth>());
    if (rescale) Raise<kWidth>();
    WeighBlock<kWidth, kEarly>(added, between);
    if (Config::kOverlap && !kFirst) {
      const bool in_range =
          added[0] + added[1] <= kMostWeight && added[2] + added[3] <= kMostWeight;
      if (__builtin_expect(!__all_sync(0xffffffff, rescale || in_range), 0)) {
        rescale = true;
        Raise<kWidth>();
        WeighBlock<kWidth, 0>(added, [] {});
      }
    }
    sum[0] += added[0] + added[1];
    sum[1] += added[2] + added[3];
  }

  __device__ __forceinline__ void RescaleOutput() {
    if (!rescale) return;
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; i++) out[i] *= shrink[i / 2 % 2];
  }

  __device__ __forceinline__ void TakeTurn() {
    if constexpr (Config::kTurns) NamedBarrierSync(1 + warpgroup, 256);
  }

  __device__ __forceinline__ void PassTurn() {
    if constexpr (Config::kTurns) {
      NamedBarrierArrive(1 + (warpgroup + 1) % Config::kWarpgroups, 256);
    }
  }

  // Sets out on a tile. Returns the number of its last block.
  __device__ __forceinline__ uint32_t Begin(const PrefillWork& work) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      base[r] = -INFINITY;
      sum[r] = 0;
      fresh = true;
      limit[r] = static_cast<int32_t>(work.first_position + row_tokens[r]) -
                 static_cast<int32_t>(threadIdx.x % 4 * 2);
    }
    lowest = static_cast<int32_t>(Uniform(work.first_position) + lowest_token);
    zero_begin = Uniform(work.zero_begin);
    zero_end = Uniform(work.zero_end);
    return Uniform(work.nr_blocks) - 1;
  }

  __device__ __forceinline__ void ClearOutput() {
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; i++) out[i] = 0;
  }

  // A stage whose block is here.
  __device__ __forceinline__ uint32_t AwaitStage() {
    const uint32_t stage = place.index;
    BarrierWait(&shared.full[stage], place.parity);
    place.Advance();
    return stage;
  }

  // Issues the scores of the next block, block n, and the output of this one, so that the softmax
  // of the one goes on while the tensor cores work. With kNext, block n is the last of the next
  // tile.
  template <int kWidth, bool kNext>
  __device__ __forceinline__ void Step(uint32_t n) {
    RingPlace<Config::kQSlots> to = slot;
    if (kNext) to.Advance();
    const uint32_t k = AwaitStage();
    const uint32_t v_parity = place.parity;
    const uint32_t v = AwaitStage();
    ZeroPastContext(v);
    TakeTurn();
    IssueScores<kWidth>(to.index, k);
    IssueOutput(v);
    PassTurn();
    AwaitScores<kWidth, 1>(k);
    const float last_base[2] = {base[0], base[1]}, last_sum[2] = {sum[0], sum[1]};
    if (kNext) Begin(shared.work[to.index]);
    Mask<kWidth>(n);
    Softmax<kWidth, kNext>([&] {
      // It passes at once. But the compiler moves nothing over its loop, and so can't put off the
      // first weights until after the wait for the output.
      BarrierWait(&shared.full[v], v_parity);
      WgmmaWait<0>();
      WgmmaPin(out);
      WgmmaPin(weights);
    });
    Release(&shared.empty[v]);
    if (kNext) {
      Store(slot.index, last_base, last_sum);
      BarrierArrive(&shared.q_empty[slot.index]);
      ClearOutput();
      slot = to;
    }
    if (!kNext) RescaleOutput();
  }

  // All tiles as one stream of blocks.
  __device__ __forceinline__ void RunOverlapped() {
    BarrierWait(&shared.q_full[0], 0);
    if (Uniform(shared.work[0].nr_blocks) == 0) return;
    if (Config::kTurns && warpgroup == Config::kWarpgroups - 1) PassTurn();
    uint32_t n = Begin(shared.work[0]);
    ClearOutput();
    const uint32_t k = AwaitStage();
    IssueScores<kBlockN>(0, k);
    AwaitScores<kBlockN, 0>(k);
    Mask<kBlockN>(n);
    Softmax<kBlockN, true>([] {});
    for (;;) {
      while (n > 0) Step<kBlockN, false>(--n);
      RingPlace<Config::kQSlots> to = slot;
      to.Advance();
      BarrierWait(&shared.q_full[to.index], to.parity);
      const uint32_t nr_blocks = Uniform(shared.work[to.index].nr_blocks);
      if (nr_blocks == 0) break;
      n = nr_blocks - 1;
      if (Config::kNarrow && Uniform(shared.work[to.index].last_width) <= kNarrowN) {
        Step<kNarrowN, true>(n);
      } else {
        Step<kBlockN, true>(n);
      }
    }
    const uint32_t v = AwaitStage();
    ZeroPastContext(v);
    IssueOutput(v);
    AwaitOutput(v);
    Store(slot.index, base, sum);
  }

  // Scores, softmax and output of block n, one after the other.
  template <int kWidth>
  __device__ __forceinline__ void PlainStep(uint32_t n) {
    const uint32_t k = AwaitStage();
    IssueScores<kWidth>(slot.index, k);
    AwaitScores<kWidth, 0>(k);
    Mask<kWidth>(n);
    Softmax<kWidth, false>([] {});
    RescaleOutput();
    const uint32_t v = AwaitStage();
    ZeroPastContext(v);
    IssueOutput(v);
    AwaitOutput(v);
  }

  // The same without overlap: less registers, other warpgroups fill the gaps.
  __device__ __forceinline__ void RunPlain() {
    for (;; slot.Advance()) {
      BarrierWait(&shared.q_full[slot.index], slot.parity);
      const PrefillWork& work = shared.work[slot.index];
      if (Uniform(work.nr_blocks) == 0) return;
      uint32_t n = Begin(work);
      ClearOutput();
      if (Config::kNarrow && Uniform(work.last_width) <= kNarrowN) {
        PlainStep<kNarrowN>(n);
      } else {
        PlainStep<kBlockN>(n);
      }
      while (n > 0) PlainStep<kBlockN>(--n);
      Store(slot.index, base, sum);
      BarrierArrive(&shared.q_empty[slot.index]);
    }
  }

  // Writes a tile's output, by way of where its q was, so that rows go out whole.
  __device__ __forceinline__ void Store(uint32_t of, const float (&bases)[2],
                                        const float (&sums)[2]) {
    constexpr uint32_t kRowBytes = kHeadDim * 2, kWarpBytes = 16 * kRowBytes;
    const PrefillWork& work = shared.work[of];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    const uint32_t nr_rows = work.nr_tokens * p.group;
    const uint32_t nr_heads = p.nr_kv_heads * p.group;
    const uint64_t first =
        static_cast<uint64_t>(work.first_token) * nr_heads + work.kv_head * p.group;
    float inverse[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float total = sums[r] + __shfl_xor_sync(0xffffffff, sums[r], 1);
      total += __shfl_xor_sync(0xffffffff, total, 2);
      inverse[r] = 1.0f / total;
      const uint32_t row = warpgroup * 64 + warp * 16 + r * 8 + lane / 4;
      if (p.lse != nullptr && row < nr_rows && lane % 4 == 0) {
        p.lse[first + row_tokens[r] * (nr_heads - p.group) + row] =
            (bases[r] + log2f(total)) * kLn2;
      }
    }
    // A warp's 16 rows; chunk c of 16 bytes of row r is at place c ^ (r % 8).
    constexpr uint32_t kWarpsAPart = 64 * 128 / kWarpBytes;
    uint8_t* stage = shared.q[of] + warp / kWarpsAPart * (Config::kRows * 128) +
                     warpgroup * 64 * 128 + warp % kWarpsAPart * kWarpBytes;
    NamedBarrierSync(1 + Config::kWarpgroups + warpgroup, 128);  // all have done with q
    const uint32_t row8 = lane % 16;
#pragma unroll
    for (int j = 0; j < kHeadDim / 8; j += 2) {
      uint32_t w[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float* o = &out[4 * (j + i / 2) + 2 * (i % 2)];
        w[i] = PackPair<T>(o[0] * inverse[i % 2], o[1] * inverse[i % 2]);
      }
      const uint32_t to =
          SharedAddress(stage) + row8 * kRowBytes + ((j + lane / 16) ^ (row8 % 8)) * 16;
      asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to),
                   "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3])
                   : "memory");
    }
    __syncwarp();
    constexpr uint32_t kChunks = kRowBytes / 16, kRowsAtOnce = 32 / kChunks;
#pragma unroll
    for (uint32_t i = 0; i < 16; i += kRowsAtOnce) {
      const uint32_t in_warp = i + lane / kChunks, chunk = lane % kChunks;
      const uint32_t row = warpgroup * 64 + warp * 16 + in_warp;
      const uint4 bytes = *reinterpret_cast<const uint4*>(stage + in_warp * kRowBytes +
                                                          (chunk ^ (in_warp % 8)) * 16);
      const uint32_t token = row * p.group_inverse >> 16;
      if (row < nr_rows) {
        uint8_t* to = static_cast<uint8_t*>(p.out) +
                      (first + token * (nr_heads - p.group) + row) * kRowBytes + chunk * 16;
        *reinterpret_cast<uint4*>(to) = bytes;
      }
    }
    AsyncProxyFence();
    __syncwarp();
  }

  __device__ __forceinline__ void Run() {
    const uint32_t in_group = threadIdx.x % 128;
    const uint32_t row = warpgroup * 64 + in_group / 32 * 16 + in_group % 32 / 4;
    row_tokens[0] = row / p.group;
    row_tokens[1] = (row + 8) / p.group;
    lowest_token = Uniform(warpgroup * 64 / p.group);
    if constexpr (Config::kOverlap) {
      RunOverlapped();
    } else {
      RunPlain();
    }
  }
};

template <typename Config>
__global__ void __launch_bounds__(Config::kThreads, 1)
    PrefillKernel(const __grid_constant__ PrefillParams p,
                  const __grid_constant__ CUtensorMap q_map,
                  const __grid_constant__ CUtensorMap k_map,
                  const __grid_constant__ CUtensorMap v_map) {
  extern __shared__ __align__(1024) uint8_t raw[];
  PrefillShared<Config>& shared = *reinterpret_cast<PrefillShared<Config>*>(raw);
  if (threadIdx.x == 0) {
    asm volatile("griddepcontrol.launch_dependents;");  // they wait for this launch's end
    for (int i = 0; i < Config::kQSlots; i++) {
      BarrierInit(&shared.q_full[i], 1);
      // every lane reads the tile's work, and speaks for itself: see HasRead() in decode_kernel.cuh
      BarrierInit(&shared.q_empty[i], 128 * Config::kWarpgroups);
    }
    for (int i = 0; i < Config::kStages; i++) {
      BarrierInit(&shared.full[i], 1);
      BarrierInit(&shared.empty[i], 4 * Config::kWarpgroups);
    }
    BarrierInitFence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Config::kProducerRegisters));
    if (threadIdx.x < 32) PrefillProduce<Config>(p, &q_map, &k_map, &v_map, shared);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Config::kConsumerRegisters));
    const uint32_t warpgroup = Uniform(threadIdx.x / 128 - 1);
    PrefillConsumer<Config> consumer{
        p, shared, warpgroup, WgmmaTile(SharedAddress(shared.q) + warpgroup * 64 * 128, 0, 1024),
        WgmmaTile(SharedAddress(shared.ring), Config::kPartBytes, Config::kGroupBytes)};
    consumer.Run();
  }
}

}  // namespace pagedkv

#endif
