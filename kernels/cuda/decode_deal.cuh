/* SPDX-License-Identifier: MIT */
/*
 * Decode attention of batches whose rows are many: as decode_stream.cuh, but the last of the line
 * is dealt out while the kernel runs. Multiprocessors that all ask the memory for as much as they
 * can don't get the same; with fixed shares the slow ones would end late.
 *
 * The line is cut into parts: one for each block, then equal chunks that blocks claim one after the
 * other. A part is cut into a piece for each warp. A warp goes from its piece of one part on to
 * that of the next without emptying its ring of copies, and never waits for the other warps, unless
 * it is too many parts ahead of one.
 *
 * What row a warp ends in, and who has the rest of it, is arithmetic on the line. Of the warps of a
 * block that share a row the last to come adds up what the others laid into shared memory. Of
 * blocks that share a row, the last to come adds up records in memory. Both in the line's order, so
 * that a call gives the same bits again whoever was how fast.
 */
#ifndef PAGEDKV_CUDA_DECODE_DEAL_CUH
#define PAGEDKV_CUDA_DECODE_DEAL_CUH

#include "barrier.cuh"
#include "decode_line.cuh"
#include "decode_plan.cuh"
#include "decode_record.cuh"
#include "decode_tile.cuh"
#include "launch.cuh"

namespace pagedkv {

// How much of the line is dealt out, in hundredths, and in how many chunks for each block. Slower
// multiprocessors are up to a sixth slower than the mean.
#ifndef PAGEDKV_DEALT_PERCENT
#define PAGEDKV_DEALT_PERCENT 20
#endif
#ifndef PAGEDKV_DEALT_CHUNKS
#define PAGEDKV_DEALT_CHUNKS 2
#endif
#ifndef PAGEDKV_DEAL_RING
#define PAGEDKV_DEAL_RING 20480
#endif
constexpr uint32_t kDealtPercent = PAGEDKV_DEALT_PERCENT;
constexpr uint32_t kDealtChunks = PAGEDKV_DEALT_CHUNKS;
constexpr uint32_t kDealWarps = 8;
constexpr uint32_t kDealThreads = kDealWarps * 32;
constexpr uint32_t kDealMaxSequences = 8192;
constexpr uint32_t kDealCounter = 1023;   // of DecodeArgs::counters: chunks claimed
constexpr uint32_t kDealMaxRecords = 16;  // of a row of the chunks: one warp adds them up
constexpr uint32_t kMostAhead = 4;        // parts of a warp before another of its block
constexpr uint32_t kClaims = 8;
static_assert(kMostAhead + 2 < kClaims && kClaims <= kDealWarps, "one thread clears each");
constexpr uint32_t kNoPart = ~0u;

// The parts of the line.
struct DealParts {
  uint32_t blocks, piece, nr_chunks, fixed_end;
  Stretches fixed;

  // `least`: tiles of a warp's piece of a chunk.
  __device__ DealParts(uint32_t total, uint32_t nr_blocks, uint32_t longest, uint32_t least)
      : blocks(nr_blocks), fixed(0, 1) {
    piece = total / 100 * kDealtPercent / max(kDealtChunks * kDealWarps * blocks, 1u);
    if (piece < least || longest > piece * kDealWarps * kDealMaxRecords) piece = 0;
    nr_chunks = piece == 0 ? 0 : kDealtChunks * blocks;
    fixed_end = total - nr_chunks * kDealWarps * piece;
    fixed = Stretches(fixed_end, max(blocks, 1u));
  }
  __device__ __forceinline__ uint32_t Begin(uint32_t part) const {
    return part <= blocks ? fixed.Begin(part) : fixed_end + (part - blocks) * kDealWarps * piece;
  }
  __device__ __forceinline__ uint32_t Of(uint32_t tile) const {
    return tile < fixed_end ? fixed.Of(tile) : blocks + (tile - fixed_end) / (kDealWarps * piece);
  }
};

// What a warp has of a part.
struct DealPiece {
  StreamPlace place;
  uint32_t part, from, end;
};

template <class T, int kDim>
struct DealMemory : TileShape<T, kDim, 1> {
  using TileShape<T, kDim, 1>::kHalf;
  using TileShape<T, kDim, 1>::kLaid;
  static constexpr uint32_t kHalves = PAGEDKV_DEAL_RING / kHalf;
  // the copies of a piece's last tile are asked for when the arithmetic is in that piece
  static constexpr uint32_t kLeast = kHalves / 2 + 1;
  alignas(128) uint8_t ring[kDealWarps][kHalves][kHalf];
  // of the block's first, third, ... part, and of the others: what warps laid down of shared rows,
  // a row's from the number of its first warp in the part on, in the order in which they came
  alignas(16) float laid[2][kDealWarps][kLaid];
  uint32_t laid_by[2][kDealWarps];
  uint32_t came[2][kDealWarps], lie[2][kDealWarps];  // by the row's first warp
  DealPiece pieces[kDealWarps][2];
  uint32_t ended[kDealWarps];  // parts that a warp is through with
  uint32_t claims[kClaims];  // of the block's n'th part, in turns: n << 16 | chunk + 1, or n << 16
  StreamLine line;
  DealParts parts;
  uint32_t sums[kDealMaxSequences / 32];
};

__device__ __forceinline__ uint32_t SharedNow(const uint32_t* at) {
  return *static_cast<const volatile uint32_t*>(at);
}

// The chunks that a block claims, each some time before its first warp comes to it.
template <class Memory>
struct DealClaims {
  // One thread: the n'th part of this block, n from 1 on. Every block claims until it gets none: so
  // it is known which claim is the last of the launch.
  __device__ static void Claim(const DecodeArgs& a, Memory* m, uint32_t n) {
    uint32_t* counter = a.counters + kDealCounter;
    const uint32_t chunk = atomicAdd(counter, 1);
    if (chunk == m->parts.nr_chunks + m->parts.blocks - 1) *counter = 0;
    *static_cast<volatile uint32_t*>(m->claims + n % kClaims) =
        n << 16 | (min(chunk, m->parts.nr_chunks) + 1);
  }

  // A whole warp. Waits for warps that have ended fewer than n - kMostAhead parts, for they have
  // claims to take yet that would lose their places.
  __device__ static uint32_t Take(const DecodeArgs& a, Memory* m, uint32_t n) {
    const uint32_t lane = threadIdx.x % 32;
    while (__any_sync(0xffffffff, SharedNow(m->ended + lane % kDealWarps) + kMostAhead < n)) {
      __nanosleep(50);
    }
    uint32_t part = kNoPart;
    if (lane == 0) {
      uint32_t claim = SharedNow(m->claims + n % kClaims);
      while (claim >> 16 != n || (claim & 0xffff) == 0) {
        __nanosleep(50);
        claim = SharedNow(m->claims + n % kClaims);
      }
      const uint32_t chunk = (claim & 0xffff) - 1;
      if (chunk < m->parts.nr_chunks) {
        part = m->parts.blocks + chunk;
        // the first warp to come claims the part after this one
        uint32_t* next = m->claims + (n + 1) % kClaims;
        if (atomicMax(next, (n + 1) << 16) >> 16 < n + 1) Claim(a, m, n + 1);
      }
    }
    return __shfl_sync(0xffffffff, part, 0);
  }
};

// Finds a warp's piece of the block's n'th part, and notes it down: its copies begin with it now,
// its arithmetic some tiles later. Not inlined, for it is rare and large.
template <class Memory>
__device__ __noinline__ void DealNextPiece(const DecodeArgs& a, Memory* m, uint32_t n) {
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  DealPiece piece = {};
  piece.part = m->parts.nr_chunks == 0 ? kNoPart : DealClaims<Memory>::Take(a, m, n);
  if (piece.part != kNoPart) {
    piece.from = m->parts.Begin(piece.part) + warp * m->parts.piece;
    piece.end = piece.from + m->parts.piece;
    StreamBatch batch;
    if (a.nr_seqs <= 32) batch.Load(a, 0, lane);
    piece.place = m->line.Find(a, m->sums, piece.from, &batch, false);
  }
  if (lane == 0) m->pieces[warp][n % 2] = piece;
  __syncwarp();
}

template <class T, int kDim>
class DealWarp {
 public:
  using Memory = DealMemory<T, kDim>;
  using Math = TileMath<T, kDim, 1>;
  static constexpr uint32_t kHalves = Memory::kHalves, kHalf = Memory::kHalf;

  __device__ DealWarp(const DecodeArgs& a, Memory* m)
      : a_(a), m_(m), lane_(threadIdx.x % 32), warp_(threadIdx.x / 32), math_(a, lane_) {
    ring_ = SharedAddress(m->ring[warp_]);
  }

  // The tiles [from, end) of the block's own part, the first of which is in `place`, then pieces of
  // chunks.
  __device__ void Run(const StreamPlace& place, const StreamBatch& batch, uint32_t from,
                      uint32_t end) {
    if (from >= end) return;  // there are no chunks where there are so few tiles
    load_ = place;
    load_batch_ = batch;
    load_at_ = from;
    end_ = end;
    FindTable();
    NextSlots();
    uint32_t put = 0, get = 0;
#pragma unroll 1
    for (uint32_t i = 0; i < kHalves; i++) LoadHalf(&put);
    if (threadIdx.x == 0 && m_->parts.nr_chunks != 0) DealClaims<Memory>::Claim(a_, m_, 1);
    DealPiece piece = {place, blockIdx.x, from, end};
    StreamBatch now_batch = batch;
    for (n_ = 0; piece.part != kNoPart; n_++) {
      StreamPlace now = piece.place;
      uint32_t at = piece.from;
#pragma unroll 1
      while (true) {
        math_.Begin(now.first_query, now.head);
        const uint32_t stop = min(piece.end, now.begin + now.tiles);
#pragma unroll 1
        for (; at < stop; at++) Tile(&put, &get, at - now.begin, now.context);
        math_.End();
        EndRow(now, piece);
        if (at >= piece.end) break;
        now.Next(a_, &now_batch, lane_);
      }
      EndPiece();
      piece = m_->pieces[warp_][(n_ + 1) % 2];
      if (piece.part != kNoPart && now_batch.batch != piece.place.seq / 32 * 32) {
        now_batch.Load(a_, piece.place.seq / 32 * 32, lane_);
      }
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
  }

 private:
  // --- copies, some tiles ahead of the arithmetic ---

  __device__ __forceinline__ void FindTable() {
    const uint64_t row = a_.table_rows != nullptr ? __ldg(a_.table_rows + load_.seq) : load_.seq;
    table_ = a_.table + row * a_.table_row_slots;
  }

  // The slots of 32 tiles, one a lane.
  __device__ __forceinline__ void NextSlots() {
    slots_from_ = load_at_ - load_.begin;
    const uint32_t token = (slots_from_ + lane_) * kTile;
    slots_ = token < load_.context ? __ldg(table_ + a_.by_page(token)) : 0;
  }

  __device__ __forceinline__ void NextLoad() {
    load_at_++;
    if (load_at_ >= end_) {
      NextPiece();
    } else if (load_at_ == load_.begin + load_.tiles) {
      load_.Next(a_, &load_batch_, lane_);
      FindTable();
      NextSlots();
    } else if (load_at_ - load_.begin - slots_from_ == 32) {
      NextSlots();
    }
  }

  __device__ __forceinline__ void NextPiece() {
    DealNextPiece(a_, m_, ++load_n_);
    const DealPiece& piece = m_->pieces[warp_][load_n_ % 2];
    if (piece.part == kNoPart) return;
    load_ = piece.place;
    load_at_ = piece.from;
    end_ = piece.end;
    if (load_.seq / 32 * 32 != load_batch_.batch) {
      load_batch_.Load(a_, load_.seq / 32 * 32, lane_);
    }
    FindTable();
    NextSlots();
  }

  // The next half tile: K, then V. An empty group of copies at the end keeps the count right.
  __device__ __forceinline__ void LoadHalf(uint32_t* put) {
    if (load_at_ < end_) {
      const uint32_t tile = load_at_ - load_.begin;
      const uint32_t slot = __shfl_sync(0xffffffff, slots_, tile - slots_from_);
      CopyHalf<Memory::kRowBytes>(a_, ring_ + *put * kHalf, values_ ? a_.v : a_.k, slot, load_.head,
                                  tile, load_.context, lane_);
      if (values_) NextLoad();
      values_ = !values_;
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    if (++*put == kHalves) *put = 0;
  }

  // --- arithmetic ---

  __device__ __forceinline__ void Tile(uint32_t* put, uint32_t* get, uint32_t tile,
                                       uint32_t context) {
    asm volatile("cp.async.wait_group %0;" ::"n"(kHalves - 1) : "memory");
    __syncwarp();
    uint32_t operands[Math::kSteps][4], p[1][2];
    math_.LoadK(operands, ring_ + *get * kHalf);
    __syncwarp();
    LoadHalf(put);
    if (++*get == kHalves) *get = 0;
    math_.Score(operands, p, tile, context);
    asm volatile("cp.async.wait_group %0;" ::"n"(kHalves - 1) : "memory");
    __syncwarp();
    math_.LoadV(operands, ring_ + *get * kHalf);
    __syncwarp();
    LoadHalf(put);
    if (++*get == kHalves) *get = 0;
    math_.Add(operands, p);
  }

  // --- ends of rows ---

  __device__ __forceinline__ void EndRow(const StreamPlace& p, const DealPiece& piece) {
    const uint32_t row_end = p.begin + p.tiles;
    bool is_here = true, is_whole = p.begin >= piece.from && row_end <= piece.end;
    if (!is_whole) {
      const uint32_t begin = m_->parts.Begin(piece.part), end = m_->parts.Begin(piece.part + 1);
      const Stretches pieces(end - begin, kDealWarps);
      const uint32_t first = pieces.Of(max(p.begin, begin) - begin);
      const uint32_t last = pieces.Of(min(row_end, end) - 1 - begin);
      is_here = first == last || AddUp(first, last - first + 1);
      is_whole = p.begin >= begin && row_end <= end;
    }
    if (!is_here) return;
    if (is_whole)
      math_.Write(p.first_query, p.head);
    else
      Record(p, piece.part);
  }

  // True: here is the sum of all that the part has of the row. False: another warp will have it.
  __device__ __forceinline__ bool AddUp(uint32_t first, uint32_t nr) {
    const uint32_t turn = n_ % 2;
    // the part before the last one was laid in the same place
    while (n_ >= 2 &&
           __any_sync(0xffffffff,
                      lane_ < kDealWarps && SharedNow(m_->ended + lane_ % kDealWarps) + 1 < n_)) {
      __nanosleep(50);
    }
    uint32_t before = 0;
    if (lane_ == 0) before = atomicAdd(&m_->came[turn][first], 1);
    before = __shfl_sync(0xffffffff, before, 0);
    if (before + 1 < nr) {
      math_.Lay(m_->laid[turn][first + before]);
      if (lane_ == 0) m_->laid_by[turn][first + before] = warp_;
      __threadfence_block();
      __syncwarp();
      if (lane_ == 0) atomicAdd(&m_->lie[turn][first], 1);
      return false;
    }
    while (__any_sync(0xffffffff, SharedNow(&m_->lie[turn][first]) + 1 < nr)) __nanosleep(50);
    __threadfence_block();
    const uint32_t by = lane_ + 1 < nr ? m_->laid_by[turn][first + lane_] : kDealWarps;
    math_.AddUp(nr, warp_ - first, [&](uint32_t i) {
      const uint32_t at = __ffs(__ballot_sync(0xffffffff, by == first + i)) - 1;
      return m_->laid[turn][first + at];
    });
    __syncwarp();
    if (lane_ == 0) m_->came[turn][first] = m_->lie[turn][first] = 0;
    return true;
  }

  __device__ __forceinline__ void EndPiece() {
    __threadfence_block();
    __syncwarp();
    if (lane_ == 0) *static_cast<volatile uint32_t*>(m_->ended + warp_) = n_ + 1;
  }

  // For the other parts that have some of the row; the last one to come adds up.
  __device__ __forceinline__ void Record(const StreamPlace& p, uint32_t part) {
    const uint32_t first = m_->parts.Of(p.begin),
                   nr = m_->parts.Of(p.begin + p.tiles - 1) - first + 1;
    math_.PutRecord(RecordOf<kDim>(a_, part, part == first));
    __syncwarp();
    bool whole = false;
    if (lane_ == 0) whole = RecordsAreWhole(a_, first, nr);
    whole = __shfl_sync(0xffffffff, whole, 0);
    __syncwarp();
    if (!whole) return;
    const uint32_t row = p.seq * a_.nr_kv_heads + p.head, units = a_.group * (kDim / 4);
    for (uint32_t base = lane_; base < units; base += 32 * kUnitsAtOnce) {
      AddUpRecords(row, first, nr, base, units);
    }
  }

  // 4 dims of a column in each unit of 32 from `base` on.
  static constexpr uint32_t kUnitsAtOnce = 4, kRecordsAtOnce = 4;

  __device__ __forceinline__ void AddUpRecords(uint32_t row, uint32_t first, uint32_t nr,
                                               uint32_t base, uint32_t units) const {
    float max[kUnitsAtOnce], weight[kUnitsAtOnce];
    float4 sum[kUnitsAtOnce];
#pragma unroll
    for (uint32_t k = 0; k < kUnitsAtOnce; k++) {
      max[k] = -INFINITY, weight[k] = 0, sum[k] = {0, 0, 0, 0};
    }
#pragma unroll 1
    for (uint32_t at = 0; at < nr; at += kRecordsAtOnce) {
      float2 s[kUnitsAtOnce][kRecordsAtOnce];
      float4 v[kUnitsAtOnce][kRecordsAtOnce];
#pragma unroll
      for (uint32_t k = 0; k < kUnitsAtOnce; k++) {
        const uint32_t i = base + k * 32;
#pragma unroll
        for (uint32_t u = 0; u < kRecordsAtOnce; u++) {
          s[k][u] = {-INFINITY, 0};
          v[k][u] = {0, 0, 0, 0};
          if (at + u >= nr || i >= units) continue;
          const float* record = RecordOf<kDim>(a_, first + at + u, at + u == 0);
          s[k][u] =
              __ldcg(reinterpret_cast<const float2*>(record + a_.group * kDim) + i / (kDim / 4));
          v[k][u] = __ldcg(reinterpret_cast<const float4*>(record) + i);
        }
      }
#pragma unroll
      for (uint32_t k = 0; k < kUnitsAtOnce; k++) {
        float peak = max[k];
#pragma unroll
        for (uint32_t u = 0; u < kRecordsAtOnce; u++) peak = fmaxf(peak, s[k][u].x);
        float f = max[k] == -INFINITY ? 0 : Exp2(max[k] - peak);
        max[k] = peak;
        weight[k] *= f;
        sum[k] = {sum[k].x * f, sum[k].y * f, sum[k].z * f, sum[k].w * f};
#pragma unroll
        for (uint32_t u = 0; u < kRecordsAtOnce; u++) {
          f = s[k][u].x == -INFINITY ? 0 : Exp2(s[k][u].x - peak);
          weight[k] = fmaf(s[k][u].y, f, weight[k]);
          sum[k].x = fmaf(v[k][u].x, f, sum[k].x);
          sum[k].y = fmaf(v[k][u].y, f, sum[k].y);
          sum[k].z = fmaf(v[k][u].z, f, sum[k].z);
          sum[k].w = fmaf(v[k][u].w, f, sum[k].w);
        }
      }
    }
#pragma unroll
    for (uint32_t k = 0; k < kUnitsAtOnce; k++) {
      const uint32_t i = base + k * 32;
      if (i >= units) continue;
      WriteUnit<T, kDim>(a_, row, i / (kDim / 4), i % (kDim / 4), sum[k], max[k], weight[k]);
    }
  }

  const DecodeArgs& a_;
  Memory* m_;
  const uint32_t lane_, warp_;
  uint32_t ring_;
  StreamPlace load_;
  StreamBatch load_batch_;
  uint32_t load_at_, end_, load_n_ = 0, slots_, slots_from_;
  const uint32_t* table_;
  bool values_ = false;
  uint32_t n_ = 0;  // which of the block's parts the arithmetic is in
  Math math_;
};

template <class T, int kDim>
__global__ void __launch_bounds__(kDealThreads, 1)
    DealKernel(const __grid_constant__ DecodeArgs a) {
  using Memory = DealMemory<T, kDim>;
  extern __shared__ __align__(128) uint8_t shared[];
  Memory* m = reinterpret_cast<Memory*>(shared);
  const uint32_t warp = threadIdx.x / 32;
  if (threadIdx.x < kDealWarps) {
    for (uint32_t turn = 0; turn < 2; turn++) {
      m->came[turn][threadIdx.x] = m->lie[turn][threadIdx.x] = 0;
    }
    m->ended[threadIdx.x] = m->claims[threadIdx.x] = 0;
  }
  StreamLine line;
  StreamBatch batch;
  StreamPlace place;
  uint32_t from, end, blocks;
#pragma unroll 1
  for (bool early = kForeseenTiles != 0;; early = false) {
    if (!early) {
      asm volatile("griddepcontrol.wait;" ::: "memory");
      asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    }
    line.Measure(a, m->sums, &batch, early);
    // at least a tile for each warp
    blocks = min(gridDim.x, (line.total + kDealWarps - 1) / kDealWarps);
    if (blockIdx.x >= blocks) {
      if (early) continue;
      return;
    }
    const DealParts parts(line.total, blocks, a.longest_tiles, Memory::kLeast);
    const uint32_t begin = parts.Begin(blockIdx.x);
    const Stretches own(parts.Begin(blockIdx.x + 1) - begin, kDealWarps);
    from = begin + own.Begin(warp), end = begin + own.Begin(warp + 1);
    place = line.Find(a, m->sums, from, &batch, early);
    if (!early) break;
    Foresee<Memory::kRowBytes>(a, place, from, end);
  }
  if (threadIdx.x == 0) {
    m->line = line;
    m->parts = DealParts(line.total, blocks, a.longest_tiles, Memory::kLeast);
  }
  __syncthreads();
  DealWarp<T, kDim>(a, m).Run(place, batch, from, end);
}

template <class T, int kDim>
cudaError_t LaunchDeal(const DecodeArgs& a, uint32_t grid, cudaStream_t stream) {
  constexpr size_t kShared = sizeof(DealMemory<T, kDim>);
  static_assert(kShared <= 232448, "shared memory");
  return LaunchEarly(DealKernel<T, kDim>, grid, kDealThreads, kShared, stream, a);
}

template <class T>
cudaError_t LaunchDealOf(uint32_t head_dim, const DecodeArgs& a, uint32_t grid,
                         cudaStream_t stream) {
  if constexpr (kElementBytes<T> == 2) {
    if (head_dim == 64) return LaunchDeal<T, 64>(a, grid, stream);
  }
  return LaunchDeal<T, 128>(a, grid, stream);
}

}  // namespace pagedkv

#endif
