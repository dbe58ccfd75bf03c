/* SPDX-License-Identifier: MIT */
/*
 * Decode attention at the speed of the memory, for the common call: one query token a sequence,
 * pages of whole tiles of 16 tokens, no window, cap or slopes. One launch.
 *
 * The line of all rows' tiles (decode_line.cuh) is cut into as many equal ranges as there are
 * warps. Each warp is alone with its range: it has a ring of half tiles (K or V of 16 tokens) in
 * shared memory that it fills by asynchronous copies and empties by matrix instructions, on and on
 * over the ends of rows. The warps of a block wait for each other only to keep step.
 *
 * The ring is short. What a multiprocessor asks for beyond what the memory needs to be busy only
 * makes everybody's copies come later, and of what all ask for some get much more than others.
 * Where each query head has K and V of its own a longer one is better: rows and pages are many
 * times more.
 *
 * A row that lies in one warp's range is written out. Where warps of a block share a row, those
 * that end with it add up what all laid into shared memory, each some of it. Where blocks share
 * one, those before its end leave their sums in memory, and the one where it ends waits for them
 * when its warps are done: no counter, no fence. It may wait, for blocks begin in order, and those
 * before it wait for nobody after them. All adds up in the line's order, so that a call gives the
 * same bits again whoever was how fast.
 */
#ifndef PAGEDKV_CUDA_DECODE_STREAM_CUH
#define PAGEDKV_CUDA_DECODE_STREAM_CUH

#include "barrier.cuh"
#include "decode_line.cuh"
#include "decode_math.cuh"
#include "decode_plan.cuh"
#include "decode_tile.cuh"
#include "launch.cuh"

namespace pagedkv {

constexpr uint32_t kStreamWarps = 8;
constexpr uint32_t kStreamThreads = kStreamWarps * 32;
constexpr uint32_t kStreamMaxSequences = 32768;
constexpr uint32_t kMostAhead = 4;     // tiles of a warp before another of its block, 2^n
constexpr uint32_t kShortShare = 512;  // tiles of a block
constexpr uint32_t kRingBytes = 8192, kLongRingBytes = 16384;  // of a warp
// The blocks that begin last: what they would plan early comes too late. They are the ones on
// whose multiprocessors the launch before this one ends.
constexpr uint32_t kLateBlocks = 12;
constexpr uint32_t kAwaitNs = 100;  // from one look for another block's sums to the next

template <class T, int kDim, int kBlocks, uint32_t kRing>
struct StreamMemory : TileShape<T, kDim, kBlocks> {
  using Shape = TileShape<T, kDim, kBlocks>;
  using Part = float4[Shape::kLaid];
  static constexpr uint32_t kHalves = kRing / Shape::kHalf;
  static constexpr uint32_t kQueries = kHalves / 2;  // rows that a warp has asked for, not begun
  static_assert(kHalves % 2 == 0, "whole tiles");
  static_assert(kMostAhead <= kStreamWarps, "a thread each sets up the barriers");
  // A warp that ends with a row leaves its part of it in place of its ring.
  union alignas(128) Ring {
    uint8_t halves[kHalves][Shape::kHalf];
    Part part;
  };
  Ring ring[kStreamWarps];
  Part parts[kStreamWarps];  // of the rows that end in a warp that goes on
  // The block's part of the row that began in another one and ends in it, and where that is. No
  // tiles: there is none.
  Part before;
  StreamPlace before_place;
  alignas(16) uint8_t q[kStreamWarps][kQueries][Shape::kRows * kDim * 2];
  uint64_t laid[kStreamWarps][2];  // a part is there: of ring, or of parts
  uint64_t step[kMostAhead];       // all warps have done a tile: the n-th in step[n % kMostAhead]
};

template <class T, int kDim, int kBlocks, uint32_t kRing>
class StreamWarp {
 public:
  using Memory = StreamMemory<T, kDim, kBlocks, kRing>;
  using Math = TileMath<T, kDim, kBlocks>;
  using Shape = typename Memory::Shape;
  static constexpr uint32_t kHalves = Memory::kHalves, kHalf = Memory::kHalf;

  __device__ StreamWarp(const DecodeArgs& a, Memory* m, const Stretches& blocks)
      : a_(a),
        m_(m),
        blocks_(blocks),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        math_(a, lane_) {
    ring_ = SharedAddress(m->ring[warp_].halves);
  }

  // The tiles [from, end) of the line, the first of which is in `place`.
  __device__ __forceinline__ void Run(const StreamPlace& place, const StreamBatch& batch,
                                      uint32_t from, uint32_t end) {
    end_ = end;
    load_ = place;
    load_batch_ = batch;
    load_at_ = from;
    BeginLoads();
    uint32_t put = 0, get = 0;
#pragma unroll 1
    for (uint32_t i = 0; i < kHalves; i++) LoadHalf(&put);
    StreamPlace now = place;
    StreamBatch now_batch = batch;
    uint32_t at = from;
#pragma unroll 1
    while (true) {
      const uint32_t stop = min(end, now.begin + now.tiles);
      KeepStep(at - from);
      WaitHalf();
      BeginRow(now, at == now.begin);
#pragma unroll 1
      while (true) {
        Tile(&put, &get, at - now.begin, now.context);
        EndStep(at - from);
        if (++at == stop) break;
        KeepStep(at - from);
        WaitHalf();
      }
      math_.End();
      EndRow(now, from, end);
      if (at >= end) break;
      now.Next(a_, &now_batch, lane_);
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
  }

  // All warps of the block together, after their tiles: the row that began in another block.
  __device__ __forceinline__ void EndBefore() {
    __syncthreads();
    const StreamPlace& p = m_->before_place;
    if (p.tiles == 0) return;
    const uint32_t first_block = blocks_.Of(p.begin);
#pragma unroll 1
    for (uint32_t i = warp_; i < Shape::kUnits * 4; i += kStreamWarps) {
      const uint32_t unit = i / 4 * Shape::kUnitLaid, first = i % 4;
      TileSum<1> sum, part;
#pragma unroll 1
      for (uint32_t block = first_block; block < blockIdx.x; block++) {
        WaitUntil([&] {
          const bool there = part.Take(LeftBy(block) + unit, first, lane_);
          // some blocks end much earlier than others, which need the memory
          if (!there) __nanosleep(kAwaitNs);
          return there;
        });
        sum.Add(part);
      }
      part.Load(m_->before + unit, first, lane_);
      sum.Add(part);
      sum.template Write<T, kDim>(a_, p.first_query, p.head, i / 4, first, lane_);
    }
    __syncthreads();
    float4* left = LeftBy(first_block);
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < (blockIdx.x - first_block) * Shape::kLaid;
         i += kStreamThreads) {
      __stcg(left + i, float4{0, 0, 0, 0});
    }
  }

 private:
  // --- copies, some tiles ahead of the arithmetic ---

  __device__ __forceinline__ void FindTable() {
    const uint64_t row = a_.table_rows != nullptr ? __ldg(a_.table_rows + load_.seq) : load_.seq;
    table_ = a_.table + row * a_.table_row_slots;
  }

  // What the table names for a tile of the row.
  __device__ __forceinline__ uint32_t SlotOf(uint32_t tile) const {
    const uint32_t token = tile * kTile;
    return token < load_.context ? __ldg(table_ + a_.by_page(token)) : 0;
  }

  // Of a row, or of what the warp has of it. Slots are known for 32 tiles, one a lane, and asked
  // for for 32 more.
  __device__ __forceinline__ void BeginLoads() {
    FindTable();
    slots_from_ = load_at_ - load_.begin;
    slots_ = SlotOf(slots_from_ + lane_);
    next_slots_ = SlotOf(slots_from_ + 32 + lane_);
    has_query_ = false;
  }

  __device__ __forceinline__ void NextLoad() {
    load_at_++;
    if (load_at_ >= end_) return;
    if (load_at_ == load_.begin + load_.tiles) {
      load_.Next(a_, &load_batch_, lane_);
      BeginLoads();
    } else if (load_at_ - load_.begin - slots_from_ == 32) {
      slots_from_ += 32;
      slots_ = next_slots_;
      next_slots_ = SlotOf(slots_from_ + 32 + lane_);
    }
  }

  // q of the row whose first half tile is asked for together with it.
  __device__ __forceinline__ void LoadQuery() {
    has_query_ = true;
    CopyQuery<kDim>(a_, SharedAddress(m_->q[warp_][put_query_]), load_.first_query, load_.head,
                    lane_);
    if (++put_query_ == Memory::kQueries) put_query_ = 0;
  }

  // The next half tile: K, then V. An empty group of copies at the end keeps the count right.
  __device__ __forceinline__ void LoadHalf(uint32_t* put) {
    if (load_at_ < end_) {
      if (!has_query_) LoadQuery();
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

  // --- the block's warps keep step ---

  // Before the n-th tile and after it. Chance gives some warps more of the memory's speed than
  // others: without this they end far apart. Their ranges differ by a tile at most, so nobody waits
  // for one that has none left.
  __device__ __forceinline__ void KeepStep(uint32_t n) {
    BarrierWait(&m_->step[n % kMostAhead], ~(n / kMostAhead) & 1);
  }
  __device__ __forceinline__ void EndStep(uint32_t n) {
    if (lane_ == 0) BarrierArrive(&m_->step[n % kMostAhead]);
  }

  // --- arithmetic ---

  __device__ __forceinline__ void WaitHalf() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kHalves - 1) : "memory");
    __syncwarp();
  }

  // A row's first tile here has come, and with it q.
  __device__ __forceinline__ void BeginRow(const StreamPlace& p, bool is_first) {
    const uint32_t q = SharedAddress(m_->q[warp_][get_query_]);
    if (++get_query_ == Memory::kQueries) get_query_ = 0;
    math_.Begin(p.head, [&](uint32_t row, uint32_t byte) {
      return SharedLoad(q + StreamSwizzled<kDim * 2>(row, byte / 16) + byte % 16);
    });
    if (a_.parts != nullptr && is_first) math_.TakeParts(p.first_query, p.head);
  }

  // One whose K has come.
  __device__ __forceinline__ void Tile(uint32_t* put, uint32_t* get, uint32_t tile,
                                       uint32_t context) {
    uint32_t operands[Math::kSteps][4], p[kBlocks][2];
    math_.LoadK(operands, ring_ + *get * kHalf);
    __syncwarp();
    LoadHalf(put);
    if (++*get == kHalves) *get = 0;
    math_.Score(operands, p, tile, context);
    WaitHalf();
    math_.LoadV(operands, ring_ + *get * kHalf);
    __syncwarp();
    LoadHalf(put);
    if (++*get == kHalves) *get = 0;
    math_.Add(operands, p);
  }

  // --- ends of rows ---

  // The tiles [from, end) of the line have something of the row.
  __device__ __forceinline__ void EndRow(const StreamPlace& p, uint32_t from, uint32_t end) {
    const uint32_t row_end = p.begin + p.tiles;
    if (p.begin >= from && row_end <= end) {
      math_.Write(p.first_query, p.head);
      return;
    }
    const uint32_t begin = blocks_.Begin(blockIdx.x), block_end = blocks_.Begin(blockIdx.x + 1);
    const Stretches warps(block_end - begin, kStreamWarps);
    const uint32_t first = warps.Of(max(p.begin, begin) - begin);
    const uint32_t last = warps.Of(min(row_end, block_end) - 1 - begin);
    const Share share = row_end > block_end ? kGoesOn : p.begin < begin ? kEnds : kWhole;
    if (share == kEnds && warp_ == first && lane_ == 0) m_->before_place = p;
    if (first < last) {
      AddUpWarps(p, share, first, last);
    } else if (share == kGoesOn) {
      math_.Lay([&](uint32_t i, float4 x) { LeaveSum(LeftBy(blockIdx.x) + i, x); });
    } else {
      math_.Lay([&](uint32_t i, float4 x) { m_->before[i] = x; });
    }
  }

  // What a block has of a row that does not lie in one warp: all of it; or not its beginning, but
  // its end; or not its end.
  enum Share { kWhole, kEnds, kGoesOn };

  // The block's warps [first, last] have parts of a row. All but the last one end with it.
  __device__ __forceinline__ void AddUpWarps(const StreamPlace& p, Share share, uint32_t first,
                                             uint32_t last) {
    const auto part_of = [&](uint32_t warp) {
      return warp == last ? m_->parts[warp] : m_->ring[warp].part;
    };
    float4* own = part_of(warp_);
    math_.Lay([&](uint32_t i, float4 x) { own[i] = x; });
    BarrierArrive(&m_->laid[warp_][warp_ == last]);
    if (warp_ == last) return;
    for (uint32_t warp = first; warp <= last; warp++) {
      BarrierWait(&m_->laid[warp][warp == last], 0);
    }
#pragma unroll 1
    for (uint32_t unit = warp_ - first; unit < Shape::kUnits; unit += last - first) {
      const uint32_t at = unit * Shape::kUnitLaid;
      TileSum<4> sum;
#pragma unroll 2
      for (uint32_t warp = first; warp <= last; warp++) {
        TileSum<4> part;
        part.Load(part_of(warp) + at, 0, lane_);
        sum.Add(part);
      }
      if (share == kWhole) {
        sum.template Write<T, kDim>(a_, p.first_query, p.head, unit, 0, lane_);
      } else if (share == kEnds) {
        sum.Lay(lane_, [&](uint32_t i, float4 x) { m_->before[at + i] = x; });
      } else {
        sum.Lay(lane_, [&](uint32_t i, float4 x) { LeaveSum(LeftBy(blockIdx.x) + at + i, x); });
      }
    }
  }

  // What a block leaves of the row that goes on after it.
  __device__ __forceinline__ float4* LeftBy(uint32_t block) const {
    return reinterpret_cast<float4*>(a_.records) + block * Shape::kLaid;
  }

  const DecodeArgs& a_;
  Memory* m_;
  const Stretches& blocks_;
  const uint32_t lane_, warp_;
  uint32_t ring_;
  uint32_t end_;
  StreamPlace load_;
  StreamBatch load_batch_;
  uint32_t load_at_, slots_, next_slots_, slots_from_;
  const uint32_t* table_;
  uint32_t put_query_ = 0, get_query_ = 0;
  bool has_query_, values_ = false;
  Math math_;
};

// How many blocks share a line. All of a long one, where the memory's speed is what counts. Of a
// short one where rows may be alike, so many that blocks have whole rows or rows have whole blocks,
// if that leaves few blocks idle: sums of rows that span blocks take longer than what that costs.
__device__ __forceinline__ uint32_t StreamBlocks(const DecodeArgs& a, uint32_t total) {
  const uint32_t rows = a.nr_seqs * a.nr_kv_heads, most = gridDim.x;
  uint32_t nr = most;
  if (total % rows == 0 && total <= most * kShortShare) {
    const uint32_t of_block = (rows + most - 1) / most;
    const uint32_t whole = rows > most ? (rows + of_block - 1) / of_block : most / rows * rows;
    if (whole >= most - most / 16) nr = whole;
  }
  // at least a tile for each warp
  return min(nr, (total + kStreamWarps - 1) / kStreamWarps);
}

template <class T, int kDim, int kBlocks, uint32_t kRing>
__global__ void __launch_bounds__(kStreamThreads, 1)
    StreamKernel(const __grid_constant__ DecodeArgs a) {
  using Memory = StreamMemory<T, kDim, kBlocks, kRing>;
  extern __shared__ __align__(128) uint8_t shared[];
  Memory* m = reinterpret_cast<Memory*>(shared);
  const uint32_t warp = threadIdx.x / 32;
  uint32_t* sums = reinterpret_cast<uint32_t*>(m->ring);
  StreamLine line;
  StreamBatch batch;
  StreamPlace place;
  uint32_t from, end, blocks;
  if (threadIdx.x < kStreamWarps) {
    if (threadIdx.x == 0) m->before_place.tiles = 0;
    BarrierInit(&m->laid[threadIdx.x][0], 32);
    BarrierInit(&m->laid[threadIdx.x][1], 32);
    if (threadIdx.x < kMostAhead) BarrierInit(&m->step[threadIdx.x], kStreamWarps);
  }
#pragma unroll 1
  for (bool early = blockIdx.x + kLateBlocks < gridDim.x;; early = false) {
    if (!early) {
      asm volatile("griddepcontrol.wait;" ::: "memory");
      asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    }
    line.Measure(a, sums, &batch, early);
    blocks = StreamBlocks(a, line.total);
    if (blockIdx.x >= blocks) {
      if (early) continue;
      return;
    }
    const Stretches stretches(line.total, blocks);
    const uint32_t begin = stretches.Begin(blockIdx.x);
    const Stretches own(stretches.Begin(blockIdx.x + 1) - begin, kStreamWarps);
    from = begin + own.Begin(warp), end = begin + own.Begin(warp + 1);
    place = line.Find(a, sums, from, &batch, early);
    if (!early) break;
    Foresee<Memory::kRowBytes>(a, place, from, end);
  }
  __syncthreads();  // the ring is where the batches' sums are
  const Stretches stretches(line.total, blocks);
  StreamWarp<T, kDim, kBlocks, kRing> tiles(a, m, stretches);
  if (from < end) tiles.Run(place, batch, from, end);
  tiles.EndBefore();
}

template <class T, int kDim, int kBlocks, uint32_t kRing = kRingBytes>
cudaError_t LaunchStream(const DecodeArgs& a, uint32_t grid, cudaStream_t stream) {
  auto* kernel = StreamKernel<T, kDim, kBlocks, kRing>;
  constexpr size_t kShared = sizeof(StreamMemory<T, kDim, kBlocks, kRing>);
  static_assert(kShared <= 232448, "shared memory");
  return LaunchEarly(kernel, grid, kStreamThreads, kShared, stream, a);
}

template <class T>
cudaError_t LaunchStreamOf(uint32_t head_dim, const DecodeArgs& a, uint32_t grid,
                           cudaStream_t stream) {
  if constexpr (kElementBytes<T> == 2) {
    if (head_dim == 64) {
      return a.group <= 8 ? LaunchStream<T, 64, 1>(a, grid, stream)
                          : LaunchStream<T, 64, 2>(a, grid, stream);
    }
    if (a.group == 1) return LaunchStream<T, 128, 1, kLongRingBytes>(a, grid, stream);
  }
  return a.group <= 8 ? LaunchStream<T, 128, 1>(a, grid, stream)
                      : LaunchStream<T, 128, 2>(a, grid, stream);
}

}  // namespace pagedkv

#endif
