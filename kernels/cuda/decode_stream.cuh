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
 * A row that lies in one warp's range is written out. Of the warps of a block that share a row the
 * last to come adds up what they laid into shared memory, and of blocks that share one, the last to
 * come adds up records in memory: both in the line's order, so that a call gives the same bits
 * again whoever was how fast.
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

template <class T, int kDim, int kBlocks>
struct StreamMemory : TileShape<T, kDim, kBlocks> {
  using TileShape<T, kDim, kBlocks>::kHalf;
  using TileShape<T, kDim, kBlocks>::kLaid;
  static constexpr uint32_t kHalves = (kBlocks == 1 ? 24576 : 16384) / kHalf;
  static_assert(kLaid * sizeof(float) <= kHalves * kHalf, "a part takes the ring's place");
  alignas(128) uint8_t ring[kStreamWarps][kHalves][kHalf];
  // Of the rows that end in a warp, or in the block. A warp that others go on after leaves its part
  // in place of its ring.
  alignas(16) float parts[kStreamWarps][kLaid];
  // A part is laid: of the row that goes on after the warp, in its ring, or of the other, in parts.
  uint64_t laid[kStreamWarps][2];
  uint32_t nr_laid[kStreamWarps];  // of the row that the block has from this warp on
  uint64_t step[kMostAhead];       // all warps have done a tile: the n-th in step[n % kMostAhead]
};

template <class T, int kDim, int kBlocks>
class StreamWarp {
 public:
  using Memory = StreamMemory<T, kDim, kBlocks>;
  using Math = TileMath<T, kDim, kBlocks>;
  static constexpr uint32_t kHalves = Memory::kHalves, kHalf = Memory::kHalf;

  __device__ StreamWarp(const DecodeArgs& a, Memory* m, const Stretches& blocks)
      : a_(a),
        m_(m),
        blocks_(blocks),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        math_(a, lane_) {
    ring_ = SharedAddress(m->ring[warp_]);
  }

  // The tiles [from, end) of the line, the first of which is in `place`.
  __device__ void Run(const StreamPlace& place, const StreamBatch& batch, uint32_t from,
                      uint32_t end) {
    if (from >= end) return;
    end_ = end;
    load_ = place;
    load_batch_ = batch;
    load_at_ = from;
    FindTable();
    NextSlots();
    uint32_t put = 0, get = 0;
#pragma unroll 1
    for (uint32_t i = 0; i < kHalves; i++) LoadHalf(&put);
    StreamPlace now = place;
    StreamBatch now_batch = batch;
    uint32_t at = from;
#pragma unroll 1
    while (true) {
      math_.Begin(now.first_query, now.head);
      if (a_.parts != nullptr && at == now.begin) math_.TakeParts(now.first_query, now.head);
      const uint32_t stop = min(end, now.begin + now.tiles);
#pragma unroll 1
      for (; at < stop; at++) {
        KeepStep(at - from);
        Tile(&put, &get, at - now.begin, now.context);
        EndStep(at - from);
      }
      math_.End();
      if (IsHere(now, from, end)) math_.Write(now.first_query, now.head);
      if (at >= end) break;
      now.Next(a_, &now_batch, lane_);
    }
#pragma unroll 1
    for (uint32_t i = 0; i < 2; i++) {
      const StreamPlace p = i == 0 ? after_ : before_;
      if (p.tiles != 0 && AddUpBlocks(p)) math_.Write(p.first_query, p.head);
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
    if (load_at_ >= end_) return;
    if (load_at_ == load_.begin + load_.tiles) {
      load_.Next(a_, &load_batch_, lane_);
      FindTable();
      NextSlots();
    } else if (load_at_ - load_.begin - slots_from_ == 32) {
      NextSlots();
    }
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

  __device__ __forceinline__ void Tile(uint32_t* put, uint32_t* get, uint32_t tile,
                                       uint32_t context) {
    asm volatile("cp.async.wait_group %0;" ::"n"(kHalves - 1) : "memory");
    __syncwarp();
    uint32_t operands[Math::kSteps][4], p[kBlocks][2];
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

  // The tiles [from, end) of the line have something of the row. True: here is all of it. False:
  // another warp will have that.
  __device__ __forceinline__ bool IsHere(const StreamPlace& p, uint32_t from, uint32_t end) {
    const uint32_t row_end = p.begin + p.tiles;
    if (p.begin >= from && row_end <= end) return true;
    const uint32_t begin = blocks_.Begin(blockIdx.x), block_end = blocks_.Begin(blockIdx.x + 1);
    const Stretches warps(block_end - begin, kStreamWarps);
    const uint32_t first = warps.Of(max(p.begin, begin) - begin);
    const uint32_t last = warps.Of(min(row_end, block_end) - 1 - begin);
    if (first < last && !AddUpWarps(first, last)) return false;
    if (p.begin >= begin && row_end <= block_end) return true;
    math_.Lay(RecordOf(p, blockIdx.x));
    if (p.begin < begin)
      before_ = p;
    else
      after_ = p;
    return false;
  }

  // Of the block's warps that have parts of a row the last one to come adds them up.
  __device__ __forceinline__ bool AddUpWarps(uint32_t first, uint32_t last) {
    const auto part_of = [&](uint32_t warp) {
      return warp == last ? m_->parts[warp] : reinterpret_cast<float*>(m_->ring[warp]);
    };
    math_.Lay(part_of(warp_));
    BarrierArrive(&m_->laid[warp_][warp_ == last]);
    __syncwarp();
    uint32_t before = 0;
    if (lane_ == 0) before = atomicAdd(m_->nr_laid + first, 1);
    before = __shfl_sync(0xffffffff, before, 0);
    if (before < last - first) return false;
    // all have come: this only orders what they laid before what is read here
    for (uint32_t warp = first; warp <= last; warp++) {
      BarrierWait(&m_->laid[warp][warp == last], 0);
    }
    math_.template AddUp<false>(last - first + 1, [&](uint32_t i) { return part_of(first + i); });
    return true;
  }

  // Rows that span blocks: a block leaves what it has of them in memory. It has two records, of the
  // row that began before it, and of the one that begins in it and goes on.
  __device__ __forceinline__ float* RecordOf(const StreamPlace& p, uint32_t block) const {
    return a_.records + (uint64_t{block} * 2 + (blocks_.Of(p.begin) == block)) * Memory::kLaid;
  }

  // Of the blocks that have parts of a row the last one to come adds them up. Not before the warp's
  // last tile: to be sure that others see a record takes long while the memory is busy.
  __device__ __forceinline__ bool AddUpBlocks(const StreamPlace& p) {
    const uint32_t first = blocks_.Of(p.begin), last = blocks_.Of(p.begin + p.tiles - 1);
    __syncwarp();
    uint32_t before = 0, *counter = a_.counters + first;
    if (lane_ == 0) {
      // releases what the warp wrote, acquires what the others did
      asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
                   : "=r"(before)
                   : "l"(counter)
                   : "memory");
    }
    before = __shfl_sync(0xffffffff, before, 0);
    if (before < last - first) return false;
    if (lane_ == 0) *counter = 0;
    __syncwarp();
    math_.template AddUp<true>(last - first + 1, [&](uint32_t i) {
      return a_.records + (uint64_t{first + i} * 2 + (i == 0)) * Memory::kLaid;
    });
    return true;
  }

  const DecodeArgs& a_;
  Memory* m_;
  const Stretches& blocks_;
  const uint32_t lane_, warp_;
  uint32_t ring_;
  uint32_t end_;
  StreamPlace load_;
  StreamBatch load_batch_;
  uint32_t load_at_, slots_, slots_from_;
  const uint32_t* table_;
  bool values_ = false;
  StreamPlace before_ = {}, after_ = {};  // of the block's two records, those that are this warp's
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

template <class T, int kDim, int kBlocks>
__global__ void __launch_bounds__(kStreamThreads, 1)
    StreamKernel(const __grid_constant__ DecodeArgs a) {
  using Memory = StreamMemory<T, kDim, kBlocks>;
  extern __shared__ __align__(128) uint8_t shared[];
  Memory* m = reinterpret_cast<Memory*>(shared);
  const uint32_t warp = threadIdx.x / 32;
  uint32_t* sums = reinterpret_cast<uint32_t*>(m->ring);
  StreamLine line;
  StreamBatch batch;
  StreamPlace place;
  uint32_t from, end, blocks;
  if (threadIdx.x < kStreamWarps) {
    m->nr_laid[threadIdx.x] = 0;
    BarrierInit(&m->laid[threadIdx.x][0], 32);
    BarrierInit(&m->laid[threadIdx.x][1], 32);
    if (threadIdx.x < kMostAhead) BarrierInit(&m->step[threadIdx.x], kStreamWarps);
  }
#pragma unroll 1
  for (bool early = true;; early = false) {
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
  __syncthreads();  // the ring is where the sums are
  const Stretches stretches(line.total, blocks);
  StreamWarp<T, kDim, kBlocks>(a, m, stretches).Run(place, batch, from, end);
}

template <class T, int kDim, int kBlocks>
cudaError_t LaunchStream(const DecodeArgs& a, uint32_t grid, cudaStream_t stream) {
  auto* kernel = StreamKernel<T, kDim, kBlocks>;
  constexpr size_t kShared = sizeof(StreamMemory<T, kDim, kBlocks>);
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
  }
  return a.group <= 8 ? LaunchStream<T, 128, 1>(a, grid, stream)
                      : LaunchStream<T, 128, 2>(a, grid, stream);
}

}  // namespace pagedkv

#endif
