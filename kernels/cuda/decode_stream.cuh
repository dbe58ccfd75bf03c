/* SPDX-License-Identifier: MIT */
/*
 * Decode attention at the speed of the memory, for the common call: one query token a sequence,
 * pages of whole tiles of 16 tokens, no window, cap or slopes. One launch.
 *
 * The line of all rows' tiles (decode_line.cuh) is cut into as many equal ranges as there are
 * warps. Each warp is alone with its range: it has a ring of half tiles (K or V of 16 tokens) in
 * shared memory that it fills by asynchronous copies and empties by matrix instructions, on and on
 * over the ends of rows, and waits for nobody.
 *
 * A row that lies in one warp's range is written out. The others' sums are added up first in the
 * block, then, where a row spans blocks, through records in memory by the last block to come.
 */
#ifndef PAGEDKV_CUDA_DECODE_STREAM_CUH
#define PAGEDKV_CUDA_DECODE_STREAM_CUH

#include "barrier.cuh"
#include "decode_line.cuh"
#include "decode_math.cuh"
#include "decode_plan.cuh"
#include "decode_record.cuh"
#include "decode_tile.cuh"
#include "launch.cuh"

namespace pagedkv {

constexpr uint32_t kStreamWarps = 8;
constexpr uint32_t kStreamThreads = kStreamWarps * 32;
constexpr uint32_t kStreamMaxSequences = 32768;
constexpr uint32_t kNoRow = ~0u;

// A row that a warp has a part of, and the blocks that have parts of it.
struct StreamRow {
  uint32_t row, first, last;
};

template <class T, int kDim, int kBlocks>
struct StreamMemory : TileShape<T, kDim, kBlocks> {
  using TileShape<T, kDim, kBlocks>::kHalf;
  using TileShape<T, kDim, kBlocks>::kPart;
  static constexpr uint32_t kHalves = (kBlocks == 1 ? 24576 : 16384) / kHalf;
  alignas(128) uint8_t ring[kStreamWarps][kHalves][kHalf];
  float parts[kStreamWarps][kPart];
  StreamRow rows[kStreamWarps * 2];  // of the first and the last part of each warp
  uint32_t last[2];
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
    m->rows[warp_ * 2].row = m->rows[warp_ * 2 + 1].row = kNoRow;
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
      const bool is_begun = at != now.begin;
      math_.Begin(now.first_query, now.head);
      if (a_.parts != nullptr && !is_begun) math_.TakeParts(now.first_query, now.head);
      const uint32_t stop = min(end, now.begin + now.tiles);
#pragma unroll 1
      for (; at < stop; at++) Tile(&put, &get, at - now.begin, now.context);
      EndRow(now, is_begun, at < now.begin + now.tiles);
      if (at >= end) break;
      now.Next(a_, &now_batch, lane_);
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

  __device__ __forceinline__ void EndRow(const StreamPlace& p, bool is_begun, bool goes_on) {
    math_.End();
    if (!is_begun && !goes_on)
      math_.Write(p.first_query, p.head);
    else
      Keep(p, !is_begun);
  }

  // For the block: at the end in place of the ring, before it apart.
  __device__ __forceinline__ void Keep(const StreamPlace& p, bool last) {
    float* part = m_->parts[warp_];
    if (last) {
      asm volatile("cp.async.wait_all;" ::: "memory");
      __syncwarp();
      part = reinterpret_cast<float*>(m_->ring[warp_]);
    }
    math_.Put(part);
    if (lane_ == 0) {
      m_->rows[warp_ * 2 + last] = StreamRow{p.seq * a_.nr_kv_heads + p.head, blocks_.Of(p.begin),
                                             blocks_.Of(p.begin + p.tiles - 1)};
    }
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
  Math math_;
};

// What the warps of a block left of rows that they share with others.
template <class T, int kDim, int kBlocks>
class StreamSums {
 public:
  using Memory = StreamMemory<T, kDim, kBlocks>;
  static constexpr uint32_t kRows = Memory::kRows, kPitch = Memory::kPitch;

  __device__ StreamSums(const DecodeArgs& a, Memory* m) : a_(a), m_(m) {}

  __device__ void Run() {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __syncthreads();
    const uint32_t row = lane < kStreamWarps * 2 ? m_->rows[lane].row : kNoRow;
    const uint32_t valid = __ballot_sync(0xffffffff, row != kNoRow);
    const uint32_t below = valid & ((1u << lane) - 1);
    const uint32_t before = __shfl_sync(0xffffffff, row, below == 0 ? lane : 31 - __clz(below));
    const uint32_t heads =
        __ballot_sync(0xffffffff, row != kNoRow && (below == 0 || before != row));
    const uint32_t nr = __popc(heads);
    // few rows are shared by many warps each
    const uint32_t team = nr <= 1 ? kStreamWarps : nr == 2 ? 4 : nr <= 4 ? 2 : 1;
    for (uint32_t i = warp / team; i < nr; i += kStreamWarps / team) {
      uint32_t first = heads;
      for (uint32_t j = 0; j < i; j++) first &= first - 1;
      const uint32_t from = __ffs(first) - 1;
      first &= first - 1;
      const uint32_t to = first == 0 ? 32 : __ffs(first) - 1;
      uint32_t members = valid & ~((1u << from) - 1);
      if (to < 32) members &= (1u << to) - 1;
      AddUp(from, members, threadIdx.x % (team * 32), team * 32);
    }
    Settle();
  }

 private:
  __device__ __forceinline__ const float* PartAt(uint32_t i) const {
    return i % 2 == 0 ? m_->parts[i / 2] : reinterpret_cast<const float*>(m_->ring[i / 2]);
  }

  __device__ void AddUp(uint32_t from, uint32_t members, uint32_t thread, uint32_t threads) {
    const StreamRow r = m_->rows[from];
    float* record = RecordOf<kDim>(a_, blockIdx.x, r.first == blockIdx.x);
    for (uint32_t i = thread; i < a_.group * (kDim / 4); i += threads) {
      const uint32_t column = i / (kDim / 4), unit = i % (kDim / 4);
      float max = -INFINITY, weight = 0;
#pragma unroll 1
      for (uint32_t left = members; left != 0; left &= left - 1) {
        max = fmaxf(max, PartAt(__ffs(left) - 1)[kRows * kPitch + column]);
      }
      float4 sum = {0, 0, 0, 0};
#pragma unroll 1
      for (uint32_t left = members; left != 0; left &= left - 1) {
        const float* part = PartAt(__ffs(left) - 1);
        const float m = part[kRows * kPitch + column];
        const float f = m == -INFINITY ? 0 : Exp2(m - max);
        const float4 x = *reinterpret_cast<const float4*>(part + column * kPitch + unit * 4);
        weight = fmaf(part[kRows * (kPitch + 1) + column], f, weight);
        sum.x = fmaf(x.x, f, sum.x);
        sum.y = fmaf(x.y, f, sum.y);
        sum.z = fmaf(x.z, f, sum.z);
        sum.w = fmaf(x.w, f, sum.w);
      }
      if (r.first == r.last) {
        WriteUnit<T, kDim>(a_, r.row, column, unit, sum, max, weight);
        continue;
      }
      __stcg(reinterpret_cast<float4*>(record) + i, sum);
      if (unit == 0) {
        __stcg(reinterpret_cast<float2*>(record + a_.group * kDim) + column, float2{max, weight});
      }
    }
  }

  // Tells of this block's records; the last block to come adds up a row's.
  __device__ void Settle() {
    __syncthreads();
    // rows that span blocks are the first and the last that this one has
    if (threadIdx.x < 2) {
      bool last = false;
      const StreamRow r = EdgeRow(threadIdx.x);
      if (r.row != kNoRow) {
        last = RecordsAreWhole(a_, r.first, r.last - r.first + 1);
      }
      m_->last[threadIdx.x] = last;
    }
    __syncthreads();
    for (uint32_t side = 0; side < 2; side++) {
      if (m_->last[side]) AddUpBlocks(EdgeRow(side));
    }
  }

  // The row that began before this block (0), or that begins here and goes on (1).
  __device__ StreamRow EdgeRow(uint32_t side) const {
    StreamRow found = {kNoRow, 0, 0};
    for (uint32_t i = 0; i < kStreamWarps * 2; i++) {
      const StreamRow r = m_->rows[i];
      if (r.row == kNoRow || r.first == r.last) continue;
      if ((r.first == blockIdx.x) == (side == 1)) found = r;
    }
    return found;
  }

  __device__ void AddUpBlocks(const StreamRow& r) {
    const uint32_t nr = r.last - r.first + 1, units = a_.group * (kDim / 4);
    // teams of whole warps, each with some of the records; kDim / 4 threads have a column
    const uint32_t teams = max(1u, kStreamThreads / ((units + 31) / 32 * 32));
    const uint32_t per_team = kStreamThreads / teams;
    const uint32_t team = min(threadIdx.x / per_team, teams - 1);
    float* shared = reinterpret_cast<float*>(m_->ring);
    for (uint32_t base = 0; base < units; base += per_team) {
      const uint32_t i = base + threadIdx.x - team * per_team;
      const uint32_t column = i / (kDim / 4);
      float max = -INFINITY, weight = 0;
      float4 sum = {0, 0, 0, 0};
      if (i < units) {
        constexpr uint32_t kAtOnce = 8;
        for (uint32_t at = team; at < nr; at += teams * kAtOnce) {
          float2 s[kAtOnce];
          float4 v[kAtOnce];
          float peak = max;
#pragma unroll
          for (uint32_t u = 0; u < kAtOnce; u++) {
            const uint32_t b = at + u * teams;
            s[u] = {-INFINITY, 0};
            v[u] = {0, 0, 0, 0};
            if (b < nr) {
              const float* record = RecordOf<kDim>(a_, r.first + b, b == 0);
              s[u] = __ldcg(reinterpret_cast<const float2*>(record + a_.group * kDim) + column);
              v[u] = __ldcg(reinterpret_cast<const float4*>(record) + i);
            }
          }
#pragma unroll
          for (uint32_t u = 0; u < kAtOnce; u++) peak = fmaxf(peak, s[u].x);
          float f = max == -INFINITY ? 0 : Exp2(max - peak);
          max = peak;
          weight *= f;
          sum = {sum.x * f, sum.y * f, sum.z * f, sum.w * f};
#pragma unroll
          for (uint32_t u = 0; u < kAtOnce; u++) {
            f = s[u].x == -INFINITY ? 0 : Exp2(s[u].x - peak);
            weight = fmaf(s[u].y, f, weight);
            sum.x = fmaf(v[u].x, f, sum.x);
            sum.y = fmaf(v[u].y, f, sum.y);
            sum.z = fmaf(v[u].z, f, sum.z);
            sum.w = fmaf(v[u].w, f, sum.w);
          }
        }
      }
      if (teams == 1) {
        if (i < units) WriteUnit<T, kDim>(a_, r.row, column, i % (kDim / 4), sum, max, weight);
        continue;
      }
      __syncthreads();
      if (i < units) {
        float* mine = shared + (team * per_team + i) * 8;
        *reinterpret_cast<float4*>(mine) = sum;
        mine[4] = max;
        mine[5] = weight;
      }
      __syncthreads();
      if (team == 0 && i < units) {
        for (uint32_t t = 1; t < teams; t++) {
          const float* other = shared + (t * per_team + i) * 8;
          const float4 x = *reinterpret_cast<const float4*>(other);
          const float peak = fmaxf(max, other[4]);
          const float f = max == -INFINITY ? 0 : Exp2(max - peak);
          const float h = other[4] == -INFINITY ? 0 : Exp2(other[4] - peak);
          max = peak;
          weight = weight * f + other[5] * h;
          sum = {sum.x * f + x.x * h, sum.y * f + x.y * h, sum.z * f + x.z * h,
                 sum.w * f + x.w * h};
        }
        WriteUnit<T, kDim>(a_, r.row, column, i % (kDim / 4), sum, max, weight);
      }
    }
    __syncthreads();
  }

  const DecodeArgs& a_;
  Memory* m_;
};

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
#pragma unroll 1
  for (bool early = kForeseenTiles != 0;; early = false) {
    if (!early) {
      asm volatile("griddepcontrol.wait;" ::: "memory");
      asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    }
    line.Measure(a, sums, &batch, early);
    // at least a tile for each warp
    blocks = min(gridDim.x, (line.total + kStreamWarps - 1) / kStreamWarps);
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
  if (a.nr_seqs > 32) __syncthreads();  // the ring is where the sums are
  const Stretches stretches(line.total, blocks);
  StreamWarp<T, kDim, kBlocks>(a, m, stretches).Run(place, batch, from, end);
  StreamSums<T, kDim, kBlocks>(a, m).Run();
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
