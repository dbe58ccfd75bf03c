/* SPDX-License-Identifier: MIT */
/*
 * The decode attention kernel. A persistent grid, one block a multiprocessor, in one launch. A
 * block is a few groups of warps that work alone, each at its own stretch of the work, so that
 * one's arithmetic, waits and sums hide another's:
 *
 * - One warp of a group copies K and V into a ring of stages of 32 tokens. It runs ahead over the
 * ends of rows and sequences, so that nothing ever drains the memory.
 * - The others compute, a chunk of 64 tokens at a time. For the scores they share its tokens; for
 *   the output they share the dims, each over all the tokens. So nothing is summed over warps but
 *   the maxima.
 * - A row that one group computes whole is written out. Of one that is split, the groups leave
 * their leaves' sums as records; the last to come adds them up.
 *
 * Maxima are rounded up to whole numbers (in powers of two), so that scaling sums is exact, and
 * sums of leaves depend on their order alone, not on when which maximum was known.
 */
#ifndef PAGEDKV_CUDA_DECODE_KERNEL_CUH
#define PAGEDKV_CUDA_DECODE_KERNEL_CUH

#include "barrier.cuh"
#include "decode_math.cuh"
#include "decode_plan.cuh"

namespace pagedkv {

constexpr uint32_t kDecodeShared = 232448;
constexpr uint32_t kQPlaces = 2;

// What the loading warp tells the computing ones of a piece.
struct PieceNote {
  uint32_t nr_rows;  // 0: there are no more
  Piece piece;
};

template <class T, int kDim, int kBlocks>
struct DecodeShape {
  static constexpr uint32_t kRows = kBlocks * 8;
  static constexpr uint32_t kWarps = 4;  // that compute, of each group
  static constexpr uint32_t kGroups = DecodeGroups(kDim, kBlocks);
  static constexpr uint32_t kThreads = (kWarps + 1) * kGroups * 32;
  static constexpr uint32_t kTiles = kChunk / kWarps / kTile;  // of a warp in a chunk
  static constexpr uint32_t kStepWarps = kStep / kTile / kTiles;
  // 16-byte units of a row, and rows of whole lines of 128 bytes
  static constexpr uint32_t kUnits = kDim * kElementBytes<T> / 16;
  static constexpr uint32_t kRow = kUnits <= 8 ? 128 : kUnits <= 16 ? 256 : 512;
  static constexpr uint32_t kQRow = (kDim / 8 | 1) * 16;  // an odd number of units: other banks
  static constexpr uint32_t kStage = kStep * kRow;
  static constexpr uint32_t kTileBytes = kTile * kUnits * 16;
  static constexpr uint32_t kPBlock = kChunk * 16;
  static constexpr uint32_t kQBytes = kRows * kQRow;
  static constexpr uint32_t kDimBlocks = kDim / 16;
  static constexpr uint32_t kOwnDims = (kDimBlocks + kWarps - 1) / kWarps;
  // a stage is used when this many arrivals have come, of the warps that read it
  static constexpr uint32_t kArrivals = kWarps;
  static constexpr uint32_t kShared = kDecodeShared / kGroups / 1024 * 1024;
  static constexpr uint32_t kFixed = kBlocks * kPBlock + kQPlaces * (kQBytes + sizeof(PieceNote)) +
                                     kWarps * kRows * 4 + kStep * 8 + 512;
  // A warp may wait for no more than one phase ahead: a chunk's steps of K must have a stage each.
  static constexpr uint32_t kMost = (kShared - kFixed) / (kStage + 16);
  static constexpr uint32_t kStages = kMost < 24 ? kMost : 24;
  static_assert(kStages >= kChunk / kStep, "too few stages");
};

// Of one group. The weights' place holds the plan's sums before there are weights.
template <class T, int kDim, int kBlocks>
struct alignas(1024) DecodeMemory {
  using Sizes = DecodeShape<T, kDim, kBlocks>;
  uint8_t stages[Sizes::kStages][Sizes::kStage];
  uint8_t weights[kBlocks * Sizes::kPBlock];
  uint8_t q[kQPlaces][Sizes::kQBytes];
  uint64_t full[Sizes::kStages], empty[Sizes::kStages];
  uint64_t q_full[kQPlaces], q_empty[kQPlaces];
  uint64_t row_offsets[kStep];
  float maxima[Sizes::kWarps][Sizes::kRows];
  PieceNote notes[kQPlaces];
  uint32_t last;
};

__device__ __forceinline__ void CopyAsync16(uint32_t to, const char* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

// This thread arrives at the barrier when its copies so far are there.
__device__ __forceinline__ void CopyAsyncArrive(uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(SharedAddress(barrier))
               : "memory");
}

__device__ __forceinline__ void BarrierArriveTimes(uint64_t* barrier, uint32_t times) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
               "r"(times)
               : "memory");
}

// One box of a map: 16 tokens of a head.
__device__ __forceinline__ void CopyBox(uint32_t to, const CUtensorMap* map, uint64_t* barrier,
                                        uint32_t token, uint32_t head, uint32_t slot) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %3, %5, %6}], [%2];" ::"r"(to),
      "l"(map), "r"(SharedAddress(barrier)), "r"(0), "r"(token), "r"(head), "r"(slot)
      : "memory");
}

// A place in a ring that is used over and over.
template <uint32_t kSize>
struct RingAt {
  uint32_t at = 0, parity = 0;
  __device__ __forceinline__ void Advance(uint32_t n) {  // n <= kSize
    at += n;
    if (at >= kSize) {
      at -= kSize;
      parity ^= 1;
    }
  }
  __device__ __forceinline__ RingAt Plus(uint32_t n) const {
    RingAt r = *this;
    r.Advance(n);
    return r;
  }
};

// The loading warp of a group.
template <class T, int kDim, int kBlocks>
class Loader {
 public:
  using Memory = DecodeMemory<T, kDim, kBlocks>;
  using Sizes = DecodeShape<T, kDim, kBlocks>;

  __device__ Loader(const DecodeArgs& a, Memory* m, uint32_t lane) : a_(a), m_(m), lane_(lane) {}

  __device__ void Run(const Plan& plan) {
    Walk<Sizes::kRows> walk(a_, plan, gridDim.x * Sizes::kGroups, lane_);
    Chunk next;
    bool more = NextPiece(&walk, &next);
    while (more) {
      const Chunk now = next;
      const uint32_t begin = max(now.base, now.piece.begin);
      const uint32_t end = min(now.base + kChunk, now.piece.end);
      const uint32_t first = begin < end ? now.base + (begin - now.base) / kStep * kStep : end;
      uint32_t token = first;
      // the steps of K, then those of V
      bool values = false, looked = false;
#pragma unroll 1
      while (true) {
        if (token < end) {
          LoadStep(now, values, token, max(begin, token), min(end, token + kStep));
          token += kStep;
        }
        if (!looked) {
          // the next chunk's block table is on its way while this one's copies are issued
          looked = true;
          next.base += kChunk;
          next.first = false;
          if (next.base >= next.piece.end)
            more = NextPiece(&walk, &next);
          else
            LoadSlots(&next);
        }
        if (token < end) continue;
        if (values) break;
        // after K, which takes longer to come
        if (now.first) LoadQ(now.piece);
        values = true;
        token = first;
      }
    }
    LoadQ(Piece{});  // the end
    // no copies may be in flight when the block ends
    asm volatile("cp.async.wait_all;" ::: "memory");
  }

 private:
  struct Chunk {
    Piece piece;
    uint32_t base;  // a multiple of kChunk
    bool first;
    uint32_t slot;  // with whole tiles: of tile `lane`
  };

  __device__ __forceinline__ bool NextPiece(Walk<Sizes::kRows>* walk, Chunk* c) {
    if (!walk->Next(&c->piece)) return false;
    c->base = c->piece.begin / kChunk * kChunk;
    c->first = true;
    LoadSlots(c);
    return true;
  }

  __device__ __forceinline__ uint32_t Slot(const Piece& p, uint32_t token) const {
    return __ldg(a_.table + p.table_row * a_.table_row_slots + a_.by_page(token));
  }

  __device__ __forceinline__ void LoadSlots(Chunk* c) const {
    c->slot = 0;
    if (!a_.whole_tiles) return;
    uint32_t token = c->base + lane_ * kTile;
    if (lane_ < kChunk / kTile && token + kTile > c->piece.begin && token < c->piece.end) {
      c->slot = Slot(c->piece, token);
    }
  }

  // The piece's rows of q, none of them at the end.
  __device__ __forceinline__ void LoadQ(const Piece& p) {
    BarrierWait(&m_->q_empty[q_at_.at], q_at_.parity ^ 1);
    uint32_t first = p.block * Sizes::kRows;
    uint32_t nr = min(p.queries * a_.group - first, Sizes::kRows);
    constexpr uint32_t kUnits = kDim / 8;
    uint32_t to = SharedAddress(m_->q[q_at_.at]);
#pragma unroll 1
    for (uint32_t i = lane_; i < nr * kUnits; i += 32) {
      uint32_t row = i / kUnits, unit = i % kUnits;
      uint32_t token = a_.by_group(first + row);
      uint32_t head = p.head * a_.group + (first + row - token * a_.group);
      CopyAsync16(to + row * Sizes::kQRow + unit * 16,
                  a_.q + (p.first_query + token) * a_.q_row_bytes + head * (kDim * 2) + unit * 16);
    }
    if (lane_ == 0) {
      m_->notes[q_at_.at].nr_rows = nr;
      m_->notes[q_at_.at].piece = p;
    }
    __syncwarp();
    CopyAsyncArrive(&m_->q_full[q_at_.at]);
    if (lane_ == 0) BarrierArrive(&m_->q_full[q_at_.at]);
    q_at_.Advance(1);
  }

  // A stage: K or V of the step at `token`, of which [begin, end) are the piece's.
  __device__ __forceinline__ void LoadStep(const Chunk& c, bool values, uint32_t token,
                                           uint32_t begin, uint32_t end) {
    uint64_t* full = &m_->full[at_.at];
    const uint32_t stage = SharedAddress(m_->stages[at_.at]);
    BarrierWait(&m_->empty[at_.at], at_.parity ^ 1);
    if (a_.boxes) {
      const uint32_t low = begin / kTile * kTile, nr = (end - low + kTile - 1) / kTile;
      if (lane_ == 0) BarrierArriveExpect(full, nr * Sizes::kTileBytes);
      const uint32_t tile = low + lane_ * kTile;
      const uint32_t slot = __shfl_sync(0xffffffff, c.slot, (tile - c.base) / kTile % 32);
      if (lane_ < nr) {
        CopyBox(stage + (tile - token) * Sizes::kRow, values ? &a_.v_map : &a_.k_map, full,
                tile - a_.by_page(tile) * a_.by_page.divisor, c.piece.head, slot);
      }
      __syncwarp();
    } else {
      const char* base = (values ? a_.v : a_.k) + c.piece.head * a_.head_stride;
      CopyTokens(stage, base, c, token, begin, end);
      CopyAsyncArrive(full);
    }
    at_.Advance(1);
  }

  // By 16-byte copies: any page size, any dims.
  __device__ __forceinline__ void CopyTokens(uint32_t to, const char* base, const Chunk& c,
                                             uint32_t token, uint32_t begin, uint32_t end) {
    const uint32_t own = token + lane_;
    uint32_t slot = __shfl_sync(0xffffffff, c.slot, (own - c.base) / kTile);
    const char* row_at = base;
    if (own >= begin && own < end) {
      if (!a_.whole_tiles) slot = Slot(c.piece, own);
      row_at +=
          slot * a_.page_stride + (own - a_.by_page(own) * a_.by_page.divisor) * a_.token_stride;
    }
    // through shared memory, for a lane copies parts of many rows
    __syncwarp();
    m_->row_offsets[lane_] = reinterpret_cast<uint64_t>(row_at);
    __syncwarp();
    const bool whole = begin == token && end == token + kStep;
#pragma unroll
    for (uint32_t i = 0; i < Sizes::kUnits; i++) {
      const uint32_t at = lane_ + i * 32, row = at / Sizes::kUnits, unit = at % Sizes::kUnits;
      if (whole || (token + row >= begin && token + row < end)) {
        CopyAsync16(to + Swizzled<Sizes::kRow>(row, unit),
                    reinterpret_cast<const char*>(m_->row_offsets[row]) + unit * 16);
      }
    }
  }

  const DecodeArgs& a_;
  Memory* m_;
  const uint32_t lane_;
  RingAt<Sizes::kStages> at_;
  RingAt<kQPlaces> q_at_;
};

// Sums over some tokens, as one thread holds them: columns 2 t and 2 t + 1 of each block of rows of
// q.
template <int kBlocks, int kOwnDims>
struct Sums {
  float max[kBlocks][2], weight[kBlocks][2];
  float acc[kOwnDims][kBlocks][4];

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
      max[n][0] = max[n][1] = -INFINITY;
      weight[n][0] = weight[n][1] = 0;
#pragma unroll
      for (int d = 0; d < kOwnDims; d++) {
#pragma unroll
        for (int i = 0; i < 4; i++) acc[d][n][i] = 0;
      }
    }
  }

  // The sums are from now on relative to a larger maximum.
  __device__ __forceinline__ void Raise(int n, int j, float to) {
    float f = PowerOfTwo(max[n][j] - to);
    max[n][j] = to;
    weight[n][j] *= f;
#pragma unroll
    for (int d = 0; d < kOwnDims; d++) {
      acc[d][n][j] *= f;
      acc[d][n][j + 2] *= f;
    }
  }

  __device__ __forceinline__ void Add(const Sums& leaf) {
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int j = 0; j < 2; j++) {
        Raise(n, j, fmaxf(max[n][j], leaf.max[n][j]));
        float f = PowerOfTwo(leaf.max[n][j] - max[n][j]);
        weight[n][j] = fmaf(leaf.weight[n][j], f, weight[n][j]);
#pragma unroll
        for (int d = 0; d < kOwnDims; d++) {
          acc[d][n][j] = fmaf(leaf.acc[d][n][j], f, acc[d][n][j]);
          acc[d][n][j + 2] = fmaf(leaf.acc[d][n][j + 2], f, acc[d][n][j + 2]);
        }
      }
    }
  }
};

// A computing warp.
template <class T, int kDim, int kBlocks>
class Computer {
 public:
  using Memory = DecodeMemory<T, kDim, kBlocks>;
  using Sizes = DecodeShape<T, kDim, kBlocks>;
  static constexpr int kOwnDims = Sizes::kOwnDims, kTiles = Sizes::kTiles;
  static constexpr uint32_t kWarps = Sizes::kWarps, kThreads = kWarps * 32;
  using Part = Sums<kBlocks, kOwnDims>;

  __device__ Computer(const DecodeArgs& a, Memory* m, uint32_t group)
      : a_(a),
        m_(m),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32 % kWarps),
        barrier_(group + 1) {}

  __device__ void Run() {
    RingAt<kQPlaces> q_at;
    while (true) {
      BarrierWait(&m_->q_full[q_at.at], q_at.parity);
      nr_rows_ = m_->notes[q_at.at].nr_rows;
      if (nr_rows_ == 0) break;
      piece_ = m_->notes[q_at.at].piece;
      q_ = SharedAddress(m_->q[q_at.at]);
      ComputePiece();
      BarrierArrive(&m_->q_empty[q_at.at]);
      q_at.Advance(1);
    }
  }

 private:
  __device__ __forceinline__ void Sync() { NamedBarrierSync(barrier_, kThreads); }

  // This warp is through with a stage. The copy engine waits for one lane that speaks for all;
  // 16-byte copies for each, because racecheck sees no other order between them and these reads.
  __device__ __forceinline__ void HasRead(uint64_t* empty, uint32_t times) {
    __syncwarp();
    if (lane_ == 0 || !a_.boxes) BarrierArriveTimes(empty, times);
  }

  __device__ __forceinline__ uint32_t Column(int n, int j) const {
    return n * 8 + lane_ % 4 * 2 + j;
  }

  // The first position that this row of q does not see.
  __device__ __forceinline__ uint32_t SeenEnd(uint32_t column) const {
    if (a_.one_context != 0) return piece_.context;
    uint32_t token = a_.by_group(piece_.block * Sizes::kRows + min(column, nr_rows_ - 1));
    uint32_t end = piece_.context + token + 1;
    return end > piece_.queries ? end - piece_.queries : 0;
  }

  __device__ __forceinline__ void ComputePiece() {
    const bool whole = piece_.piece_leaves == piece_.leaves;
    k_factor_ = a_.scale;
    if (a_.k_scale != nullptr) k_factor_ *= __ldg(a_.k_scale + piece_.head);
    // is there anything between the piece's begin and end that some row of q doesn't see?
    const uint32_t least_end = SeenEnd(0);
    const uint32_t greatest_start =
        a_.window != 0 ? max(SeenEnd(nr_rows_ - 1), a_.window) - a_.window : 0;
    Part row, leaf;
    row.Clear();
    leaf.Clear();
    if (whole && a_.parts != nullptr) ReadParts(&row, &leaf);
    uint32_t leaf_at = piece_.leaf;
    uint32_t leaf_end = LeafStart(piece_.row_leaf + leaf_at + 1);
    const uint32_t last = piece_.begin < piece_.end ? piece_.end : 0;
#pragma unroll 1
    for (uint32_t base = piece_.begin / kChunk * kChunk; base < last; base += kChunk) {
      const uint32_t begin = max(base, piece_.begin), end = min(base + kChunk, last);
      ComputeChunk(&leaf, base, begin, end, greatest_start <= begin && end <= least_end);
      if (base + kChunk == leaf_end || base + kChunk >= last) {
        if (whole)
          row.Add(leaf);
        else
          Record(leaf, leaf_at);
        leaf.Clear();
        leaf_at++;
        leaf_end = LeafStart(piece_.row_leaf + leaf_at + 1);
      }
    }
    if (!whole)
      Merge();
    else if (a_.parts_out == nullptr)
      Write(row);
    else
      WriteParts(row);
  }

  // Scores in powers of two, of tokens from `token` on: softcap and alibi, where there are any.
  __device__ __forceinline__ void Scale(float (&s)[kTiles][kBlocks][4], uint32_t token) const {
    if (a_.softcap == 0 && a_.alibi == nullptr) {
      const float factor = k_factor_ * kLog2E;
#pragma unroll
      for (int n = 0; n < kBlocks; n++) {
#pragma unroll
        for (int h = 0; h < kTiles; h++) {
#pragma unroll
          for (int i = 0; i < 4; i++) s[h][n][i] *= factor;
        }
      }
      return;
    }
    const float twice = a_.softcap != 0 ? __fdividef(2 * kLog2E, a_.softcap) : 0;
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const uint32_t at = piece_.block * Sizes::kRows + min(Column(n, j), nr_rows_ - 1);
        const uint32_t query = a_.by_group(at);
        const uint32_t head = piece_.head * a_.group + at - query * a_.group;
        const uint32_t own = piece_.context - piece_.queries + query;
        const float slope = a_.alibi != nullptr ? __ldg(a_.alibi + head) : 0;
#pragma unroll
        for (int h = 0; h < kTiles; h++) {
#pragma unroll
          for (int i = j; i < 4; i += 2) {
            float x = s[h][n][i] * k_factor_;
            // tanh
            if (twice != 0) x = a_.softcap * (1 - __fdividef(2, Exp2(x * twice) + 1));
            x += slope * static_cast<float>(static_cast<int32_t>(token + h * 16 + i / 2 * 8 - own));
            s[h][n][i] = x * kLog2E;
          }
        }
      }
    }
  }

  // Takes out tokens that are not the piece's, and those that a row of q does not see.
  __device__ __forceinline__ void Mask(float (&s)[kTiles][kBlocks][4], uint32_t token,
                                       uint32_t begin, uint32_t end) const {
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const uint32_t seen = SeenEnd(Column(n, j)), past = min(end, seen);
        const uint32_t first =
            a_.window != 0 && seen > a_.window ? max(begin, seen - a_.window) : begin;
#pragma unroll
        for (int h = 0; h < kTiles; h++) {
#pragma unroll
          for (int i = j; i < 4; i += 2) {
            const uint32_t own = token + h * 16 + i / 2 * 8;
            if (own < first || own >= past) s[h][n][i] = -INFINITY;
          }
        }
      }
    }
  }

  // The tokens [begin, end) of the chunk at `base`; `plain` if every row of q sees them all.
  __device__ __forceinline__ void ComputeChunk(Part* leaf, uint32_t base, uint32_t begin,
                                               uint32_t end, bool plain) {
    const uint32_t first = (begin - base) / kStep, past = (end - base + kStep - 1) / kStep;
    const uint32_t step = warp_ / Sizes::kStepWarps;
    const bool mine = step >= first && step < past;
    const uint32_t g = lane_ / 4, t = lane_ % 4, own = warp_ * kTiles * kTile;
    float s[kTiles][kBlocks][4];
    float max[kBlocks][2];
    if (mine) {
      const RingAt<Sizes::kStages> at = at_.Plus(step - first);
      BarrierWait(&m_->full[at.at], at.parity);
      Scores<T, kDim, kBlocks, kTiles, Sizes::kRow, Sizes::kQRow>(
          s, SharedAddress(m_->stages[at.at]) + (own - step * kStep) * Sizes::kRow, q_,
          a_.q_is_bf16, lane_);
      HasRead(&m_->empty[at.at], Sizes::kArrivals / Sizes::kStepWarps);
      Scale(s, base + own + g);
      if (!plain || base + own < begin || base + own + kTiles * kTile > end) {
        Mask(s, base + own + g, begin, end);
      }
#pragma unroll
      for (int n = 0; n < kBlocks; n++) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
          max[n][j] = fmaxf(s[0][n][j], s[0][n][j + 2]);
          if constexpr (kTiles == 2) {
            max[n][j] = fmaxf(max[n][j], fmaxf(s[1][n][j], s[1][n][j + 2]));
          }
        }
      }
#pragma unroll
      for (int d = 4; d < 32; d *= 2) {
#pragma unroll
        for (int n = 0; n < kBlocks; n++) {
#pragma unroll
          for (int j = 0; j < 2; j++) {
            max[n][j] = fmaxf(max[n][j], __shfl_xor_sync(0xffffffff, max[n][j], d));
          }
        }
      }
    } else {
#pragma unroll
      for (int n = 0; n < kBlocks; n++) max[n][0] = max[n][1] = -INFINITY;
    }
    if (g == 0) {
#pragma unroll
      for (int n = 0; n < kBlocks; n++) {
        *reinterpret_cast<float2*>(&m_->maxima[warp_][Column(n, 0)]) = {max[n][0], max[n][1]};
      }
    }
    Sync();
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
      float2 peak = {leaf->max[n][0], leaf->max[n][1]};
#pragma unroll
      for (int w = 0; w < static_cast<int>(kWarps); w++) {
        float2 m = *reinterpret_cast<float2*>(&m_->maxima[w][Column(n, 0)]);
        peak.x = fmaxf(peak.x, m.x);
        peak.y = fmaxf(peak.y, m.y);
      }
      leaf->Raise(n, 0, ceilf(peak.x));
      leaf->Raise(n, 1, ceilf(peak.y));
    }
    if (mine) {
#pragma unroll
      for (int n = 0; n < kBlocks; n++) {
        const uint32_t to =
            SharedAddress(m_->weights) + n * Sizes::kPBlock + (own + g) * 16 + t * 4;
        float m[2];
#pragma unroll
        for (int j = 0; j < 2; j++) m[j] = leaf->max[n][j] == -INFINITY ? 0 : leaf->max[n][j];
#pragma unroll
        for (int h = 0; h < kTiles; h++) {
#pragma unroll
          for (int i = 0; i < 4; i += 2) {
            const uint32_t pair =
                PackHalves<T>(Exp2(s[h][n][i] - m[0]), Exp2(s[h][n][i + 1] - m[1]));
            asm volatile("st.shared.b32 [%0], %1;" ::"r"(to + (h * 16 + i * 4) * 16), "r"(pair)
                         : "memory");
          }
        }
      }
    }
    Sync();
    at_.Advance(past - first);
    AddValues(leaf, begin - base, end - base);
  }

  // The weights, and V by them, of the tokens [begin, end) of a chunk.
  __device__ __forceinline__ void AddValues(Part* leaf, uint32_t begin, uint32_t end) {
    float sums[kBlocks][4];
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
      sums[n][0] = leaf->weight[n][0];
      sums[n][1] = leaf->weight[n][1];
      sums[n][2] = sums[n][3] = 0;
    }
#pragma unroll 1
    for (uint32_t step = begin / kStep * kStep; step < end; step += kStep) {
      // warps without dims wait too: none may be more than a phase ahead
      BarrierWait(&m_->full[at_.at], at_.parity);
      const uint32_t v = SharedAddress(m_->stages[at_.at]);
      const uint32_t weights = SharedAddress(m_->weights) + step * 16;
      const bool whole = begin <= step && step + kStep <= end;
      uint32_t a[kOwnDims][2][4];
#pragma unroll
      for (int d = 0; d < kOwnDims; d++) {
        const uint32_t block = warp_ + d * kWarps;
        if (Sizes::kDimBlocks % kWarps != 0 && block >= Sizes::kDimBlocks) continue;
        LoadV<T, Sizes::kRow>(a[d], v, block, lane_);
        if (!whole) MaskV(a[d], ::max(begin, step) - step, end - step, lane_);
      }
      constexpr uint32_t kOne[4] = {kOnes<T>, kOnes<T>, kOnes<T>, kOnes<T>};
#pragma unroll
      for (int n = 0; n < kBlocks; n++) {
        uint32_t b[4];
        LoadMatrix4Trans(b, weights + n * Sizes::kPBlock + lane_ * 16);
#pragma unroll
        for (int h = 0; h < 2; h++) {
#pragma unroll
          for (int d = 0; d < kOwnDims; d++) {
            const uint32_t block = warp_ + d * kWarps;
            if (Sizes::kDimBlocks % kWarps != 0 && block >= Sizes::kDimBlocks) continue;
            Multiply<T>(leaf->acc[d][n], a[d][h], b[h * 2], b[h * 2 + 1]);
          }
          Multiply<T>(sums[n], kOne, b[h * 2], b[h * 2 + 1]);
        }
      }
      HasRead(&m_->empty[at_.at], 1);
      at_.Advance(1);
    }
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
      leaf->weight[n][0] = sums[n][0];
      leaf->weight[n][1] = sums[n][1];
    }
  }

  // Calls f(n, j) for each row of q of which this thread has something, then g(n, j, d, upper, dim)
  // for each value it has of it.
  template <class F, class G>
  __device__ __forceinline__ void Each(F f, G g) const {
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int j = 0; j < 2; j++) {
        if (Column(n, j) >= nr_rows_) continue;
        auto* row = f(n, j);
#pragma unroll
        for (int d = 0; d < kOwnDims; d++) {
          const uint32_t block = warp_ + d * kWarps;
          if (Sizes::kDimBlocks % kWarps != 0 && block >= Sizes::kDimBlocks) continue;
#pragma unroll
          for (int upper = 0; upper < 2; upper++) {
            g(n, j, d, j + upper * 2, row + block * 16 + DimOf<T>(lane_ / 4, upper));
          }
        }
      }
    }
  }

  // Row `column` of the piece among all rows of out.
  __device__ __forceinline__ uint64_t OutRow(uint32_t column) const {
    uint32_t at = piece_.block * Sizes::kRows + column;
    uint32_t token = a_.by_group(at);
    return (piece_.first_query + token) * uint64_t{a_.group * a_.nr_kv_heads} +
           piece_.head * a_.group + (at - token * a_.group);
  }

  __device__ __forceinline__ uint16_t OutHalf(float x) const {
    uint32_t pair = a_.q_is_bf16 ? PackHalves<Bf16>(x, 0) : PackHalves<F16>(x, 0);
    return static_cast<uint16_t>(pair);
  }

  __device__ __forceinline__ float VFactor() const {
    return a_.v_scale != nullptr ? __ldg(a_.v_scale + piece_.head) : 1.f;
  }

  __device__ __forceinline__ void WriteLse(uint64_t out_row, float max, float weight) const {
    a_.lse[out_row] = LogSumExp(max, weight);
  }

  __device__ __forceinline__ void Write(const Part& row) const {
    const float factor = VFactor();
    float inverse = 0;
    Each(
        [&](int n, int j) {
          const uint64_t out_row = OutRow(Column(n, j));
          inverse = row.weight[n][j] > 0 ? __frcp_rn(row.weight[n][j]) * factor : 0;
          if (a_.lse != nullptr && warp_ == 0 && lane_ < 4) {
            WriteLse(out_row, row.max[n][j], row.weight[n][j]);
          }
          return reinterpret_cast<uint16_t*>(a_.out) + out_row * kDim;
        },
        [&](int n, int, int d, int i, uint16_t* at) { *at = OutHalf(row.acc[d][n][i] * inverse); });
  }

  __device__ __forceinline__ uint64_t PartsRows() const {
    return uint64_t{a_.nr_tokens} * a_.group * a_.nr_kv_heads;
  }

  // The maximum and the weight of row `at`, all parts' rows counted.
  __device__ __forceinline__ float2 PartPair(uint64_t at) const {
    return __ldcg(reinterpret_cast<const float2*>(a_.parts + a_.nr_parts * PartsRows() * kDim) +
                  at);
  }

  __device__ __forceinline__ void ReadPart(Part* row, uint32_t part) const {
    Each(
        [&](int n, int j) {
          const uint64_t at = part * PartsRows() + OutRow(Column(n, j));
          const float2 pair = PartPair(at);
          row->max[n][j] = pair.x;
          row->weight[n][j] = pair.y;
          return a_.parts + at * kDim;
        },
        [&](int n, int, int d, int i, const float* at) { row->acc[d][n][i] = __ldcg(at); });
  }

  // By way of `leaf`, which is clear before and after.
  __device__ __forceinline__ void ReadParts(Part* row, Part* leaf) const {
#pragma unroll 1
    for (uint32_t part = 0; part < a_.nr_parts; part++) {
      ReadPart(leaf, part);
      row->Add(*leaf);
      leaf->Clear();
    }
  }

  __device__ __forceinline__ void WriteParts(const Part& row) const {
    float2* pairs = reinterpret_cast<float2*>(a_.parts_out + PartsRows() * kDim);
    Each(
        [&](int n, int j) {
          const uint64_t out_row = OutRow(Column(n, j));
          if (warp_ == 0 && lane_ < 4) pairs[out_row] = float2{row.max[n][j], row.weight[n][j]};
          return a_.parts_out + out_row * kDim;
        },
        [&](int n, int, int d, int i, float* at) { *at = row.acc[d][n][i]; });
  }

  __device__ __forceinline__ uint32_t RecordFloats() const {
    return DecodeRecordFloats(a_.record_rows, kDim);
  }

  __device__ __forceinline__ float* RecordOf(uint32_t leaf) const {
    return a_.records + (uint64_t{piece_.row_stretch} * a_.stretch_records + leaf) * RecordFloats();
  }

  __device__ __forceinline__ void Record(const Part& leaf, uint32_t at) const {
    float* record = RecordOf(at);
    float2* pairs = reinterpret_cast<float2*>(record + a_.record_rows * kDim);
    Each(
        [&](int n, int j) {
          if (warp_ == 0 && lane_ < 4) {
            __stcg(pairs + Column(n, j), float2{leaf.max[n][j], leaf.weight[n][j]});
          }
          return record + Column(n, j) * kDim;
        },
        [&](int n, int, int d, int i, float* at) { __stcg(at, leaf.acc[d][n][i]); });
  }

  // Tells of this piece's records; whoever comes last adds up the row's.
  __device__ __forceinline__ void Merge() {
    Sync();
    if (threadIdx.x / 32 % kWarps == 0 && lane_ == 0) {
      // releases what the group wrote before Sync(), acquires what the others did
      uint32_t* counter = a_.counters + piece_.row_stretch;
      uint32_t before;
      asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;"
                   : "=r"(before)
                   : "l"(counter), "r"(piece_.piece_leaves)
                   : "memory");
      m_->last = before + piece_.piece_leaves == piece_.leaves;
      if (m_->last) *counter = 0;
    }
    Sync();
    if (m_->last) AddRecords();
  }

  __device__ __forceinline__ void AddRecords() const {
    const float factor = VFactor();
    const float* records = RecordOf(0);
    const uint32_t step = RecordFloats();
    constexpr uint32_t kAtOnce = 8, kQuads = kDim / 4;
#pragma unroll 1
    for (uint32_t i = warp_ * 32 + lane_; i < nr_rows_ * kQuads; i += kThreads) {
      const uint32_t column = i / kQuads, quad = i % kQuads;
      const uint64_t out_row = OutRow(column);
      const float* values = records + column * kDim + quad * 4;
      const float* scales = records + a_.record_rows * kDim + column * 2;
      float max = -INFINITY, weight = 0;
      float acc[4] = {0, 0, 0, 0};
      const uint32_t nr_parts = a_.parts != nullptr ? a_.nr_parts : 0;
#pragma unroll 1
      for (uint32_t part = 0; part < nr_parts; part++) {
        const uint64_t at = part * PartsRows() + out_row;
        const float2 pair = PartPair(at);
        const float4 x = __ldcg(reinterpret_cast<const float4*>(a_.parts + at * kDim) + quad);
        const float peak = fmaxf(max, pair.x);
        const float f = PowerOfTwo(max - peak), h = PowerOfTwo(pair.x - peak);
        max = peak;
        weight = fmaf(pair.y, h, weight * f);
        acc[0] = fmaf(x.x, h, acc[0] * f);
        acc[1] = fmaf(x.y, h, acc[1] * f);
        acc[2] = fmaf(x.z, h, acc[2] * f);
        acc[3] = fmaf(x.w, h, acc[3] * f);
      }
#pragma unroll 1
      for (uint32_t leaf = 0; leaf < piece_.leaves; leaf += kAtOnce) {
        float2 s[kAtOnce];
        float4 v[kAtOnce];
#pragma unroll
        for (uint32_t u = 0; u < kAtOnce; u++) {
          s[u] = {-INFINITY, 0};
          v[u] = {0, 0, 0, 0};
          if (leaf + u < piece_.leaves) {
            s[u] = __ldcg(reinterpret_cast<const float2*>(scales));
            v[u] = __ldcg(reinterpret_cast<const float4*>(values));
          }
          scales += step;
          values += step;
        }
        float peak = max;
#pragma unroll
        for (uint32_t u = 0; u < kAtOnce; u++) peak = fmaxf(peak, s[u].x);
        float f = PowerOfTwo(max - peak);
        max = peak;
        weight *= f;
#pragma unroll
        for (int e = 0; e < 4; e++) acc[e] *= f;
#pragma unroll
        for (uint32_t u = 0; u < kAtOnce; u++) {
          f = PowerOfTwo(s[u].x - peak);
          weight = fmaf(s[u].y, f, weight);
          acc[0] = fmaf(v[u].x, f, acc[0]);
          acc[1] = fmaf(v[u].y, f, acc[1]);
          acc[2] = fmaf(v[u].z, f, acc[2]);
          acc[3] = fmaf(v[u].w, f, acc[3]);
        }
      }
      if (a_.parts_out != nullptr) {
        reinterpret_cast<float4*>(a_.parts_out + out_row * kDim)[quad] =
            float4{acc[0], acc[1], acc[2], acc[3]};
        if (quad == 0) {
          reinterpret_cast<float2*>(a_.parts_out + PartsRows() * kDim)[out_row] = {max, weight};
        }
        continue;
      }
      const float inverse = weight > 0 ? __frcp_rn(weight) * factor : 0;
      uint2 halves;
      halves.x = OutHalf(acc[0] * inverse) | static_cast<uint32_t>(OutHalf(acc[1] * inverse)) << 16;
      halves.y = OutHalf(acc[2] * inverse) | static_cast<uint32_t>(OutHalf(acc[3] * inverse)) << 16;
      reinterpret_cast<uint2*>(a_.out + out_row * kDim * 2)[quad] = halves;
      if (a_.lse != nullptr && quad == 0) WriteLse(out_row, max, weight);
    }
  }

  const DecodeArgs& a_;
  Memory* m_;
  const uint32_t lane_, warp_, barrier_;
  Piece piece_;
  uint32_t nr_rows_, q_;
  float k_factor_;
  RingAt<Sizes::kStages> at_;
};

template <class T, int kDim, int kBlocks>
__global__ void __launch_bounds__(DecodeShape<T, kDim, kBlocks>::kThreads, 1)
    DecodeKernel(const __grid_constant__ DecodeArgs a) {
  using Memory = DecodeMemory<T, kDim, kBlocks>;
  using Sizes = DecodeShape<T, kDim, kBlocks>;
  static_assert(sizeof(Memory) * Sizes::kGroups <= kDecodeShared, "shared memory");
  static_assert(sizeof(Memory) % 1024 == 0, "alignment of stages");
  extern __shared__ __align__(1024) uint8_t shared[];
  Memory* memory = reinterpret_cast<Memory*>(shared);
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  constexpr uint32_t kComputers = Sizes::kWarps * Sizes::kGroups;
  const uint32_t group = warp < kComputers ? warp / Sizes::kWarps : warp - kComputers;
  Memory* m = memory + group;
  if (warp >= kComputers) {
    // the copy engine's bytes count from one arrival on; 16-byte copies arrive for each lane
    if (lane < Sizes::kStages) {
      BarrierInit(&m->full[lane], a.boxes ? 1 : 32);
      BarrierInit(&m->empty[lane], Sizes::kArrivals * (a.boxes ? 1 : 32));
    }
    if (lane < kQPlaces) {
      BarrierInit(&m->q_full[lane], 33);
      BarrierInit(&m->q_empty[lane], Sizes::kWarps * 32);
    }
    BarrierInitFence();
    if (a.boxes && lane < 2) {
      asm volatile("prefetch.tensormap [%0];" ::"l"(lane ? &a.v_map : &a.k_map) : "memory");
    }
  }
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  // read before any weights are written there: those wait for the loading warp of the group
  uint32_t* sums = reinterpret_cast<uint32_t*>(m->weights);
  if (a.nr_seqs > 32) {
    // each group for itself
    SumBatches<Sizes::kRows>(a, sums, warp < kComputers ? warp % Sizes::kWarps : Sizes::kWarps,
                             Sizes::kWarps + 1, lane);
  }
  __syncthreads();
  if (warp < kComputers) {
    Computer<T, kDim, kBlocks>(a, m, group).Run();
  } else {
    // stretches that follow each other are of different multiprocessors
    const uint32_t stretch = group * gridDim.x + blockIdx.x, most = gridDim.x * Sizes::kGroups;
    const Plan plan = a.nr_seqs > 32 ? PlanMany<Sizes::kRows>(a, sums, stretch, most, lane)
                                     : PlanFew<Sizes::kRows>(a, stretch, most, lane);
    Loader<T, kDim, kBlocks>(a, m, lane).Run(plan);
  }
}

}  // namespace pagedkv

#endif
