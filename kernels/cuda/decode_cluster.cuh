/* SPDX-License-Identifier: MIT */
/*
 * Decode attention of few rows, where not the memory's speed counts but the chain of waits from the
 * launch to the last output: for the calls that decode_stream.cuh takes. One launch, of clusters of
 * thread blocks.
 *
 * A row (a sequence and a kv head) gets whole warps, as many as its tiles are worth: no warp has
 * two rows, and as few tiles as can be are the most that any warp has. The warps of a row take its
 * tiles by turns, from block to block where it has whole blocks, so that all multiprocessors get
 * alike. The rows of one sequence have their places before its length is known.
 *
 * The parts of a row's warps are added up in the block. Where a row has several blocks of a
 * cluster, each takes some eighths of the row, its slices, and the blocks store their sums of a
 * slice into the shared memory of the block that takes it. Where a row has several clusters, all
 * but the last leave their sums in memory, and the last one waits for these: no counter, no fence.
 * It may wait, for clusters begin in order, and those before it wait for nobody.
 */
#ifndef PAGEDKV_CUDA_DECODE_CLUSTER_CUH
#define PAGEDKV_CUDA_DECODE_CLUSTER_CUH

#include "barrier.cuh"
#include "cluster.cuh"
#include "decode_math.cuh"
#include "decode_plan.cuh"
#include "decode_sum.cuh"
#include "decode_tile.cuh"
#include "launch.cuh"

namespace pagedkv {

constexpr uint32_t kClusterWarps = 8;  // of a block
constexpr uint32_t kLogClusterWarps = 3;
constexpr uint32_t kClusterThreads = kClusterWarps * 32;
constexpr uint32_t kClusterSlices = 8;
constexpr uint32_t kClusterMostBatches = 2;  // of 32 sequences

struct ClusterArgs {
  DecodeArgs a;
  float* sums;          // of clusters, for others
  uint32_t nr_warps;    // of the grid, at least as many as rows
  uint32_t log_blocks;  // of a cluster
  uint32_t max_context;
  FastDiv by_warps;       // of the grid
  FastDiv by_row_blocks;  // of one sequence: blocks of each row
};

// What a cluster leaves of a slice, by units of four sums: these, then each unit's maximum and
// weight.
__host__ __device__ constexpr uint32_t ClusterSumFloats(uint32_t units) { return units * 6; }

template <class T, int kDim, int kBlocks>
struct ClusterMemory : TileShape<T, kDim, kBlocks> {
  using Shape = TileShape<T, kDim, kBlocks>;
  static constexpr uint32_t kHalves = (kBlocks == 1 ? 24576 : 16384) / Shape::kHalf;
  static constexpr uint32_t kUnits = Shape::kRows * kDim / 4 / kClusterSlices;  // of a slice
  static constexpr uint32_t kScales = kBlocks + 1;  // columns that a slice may have some of
  static constexpr uint32_t kSlots = 14;  // blocks of a row times slices of each: of seven, two
  static_assert(Shape::kPart * 4 <= kHalves * Shape::kHalf, "a part takes the ring's place");
  alignas(128) uint8_t ring[kClusterWarps][kHalves][Shape::kHalf];
  // Of a row that began in a block before this one, and of one that began in this one.
  float4 sums[2][kSlots][kUnits];
  float2 scales[2][kSlots][kScales];  // maximum and weight
  uint64_t arrived[2];
};

// n / d, for n below 2^22; `inverse` is about 1 / d.
__device__ __forceinline__ uint32_t Quotient(uint32_t n, uint32_t d, float inverse) {
  uint32_t q = static_cast<uint32_t>(static_cast<float>(n) * inverse);
  q -= q * d > n;
  return q + ((q + 1) * d <= n);
}

__device__ __forceinline__ float Inverse(uint32_t d) {
  return __fdividef(1.f, static_cast<float>(d));
}

// What is there after a wait for another kernel: the compiler does not load it before.
__device__ __forceinline__ uint32_t LoadNow(const uint32_t* at) {
  uint32_t x;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(at) : "memory");
  return x;
}

// A warp's part of a row.
struct ClusterPart {
  uint32_t head, context, first_query, table_row;
  uint32_t first, warps;      // of the row
  uint32_t begin, end, step;  // tiles
};

// The rows of the call, and who has them. All warps find the same.
template <uint32_t kBatches>
class ClusterPlan {
 public:
  __device__ explicit ClusterPlan(const ClusterArgs& c, uint32_t lane) : c_(c), lane_(lane) {}

  __device__ __forceinline__ bool Find(uint32_t warp, ClusterPart* p) {
    Load();
    uint32_t total = 0;
#pragma unroll
    for (uint32_t j = 0; j < kBatches; j++) total += tiles_[j];
    total = WarpSum(total) * c_.a.nr_kv_heads;
    if (total == 0) return false;
    uint32_t share = c_.by_warps(total + c_.nr_warps - 1);
#pragma unroll 1
    while (Share(share) > c_.nr_warps) share++;
    Widen(share, total);
    return Take(warp, p);
  }

 private:
  __device__ __forceinline__ void Load() {
    const DecodeArgs& a = c_.a;
#pragma unroll
    for (uint32_t j = 0; j < kBatches; j++) {
      tiles_[j] = context_[j] = first_query_[j] = table_row_[j] = 0;
      const uint32_t s = j * 32 + lane_;
      if (s >= a.nr_seqs) continue;
      context_[j] = LoadNow(a.context_tokens + s);
      first_query_[j] = LoadNow(a.query_start + s);
      const uint32_t next = LoadNow(a.query_start + s + 1);
      table_row_[j] = a.table_rows != nullptr ? LoadNow(a.table_rows + s) : s;
      context_[j] = min(context_[j], c_.max_context);
      tiles_[j] = next != first_query_[j] ? max(1u, (context_[j] + kTile - 1) / kTile) : 0;
    }
  }

  // Warps for each sequence's rows, of at most `share` tiles each. Returns how many in all.
  __device__ __forceinline__ uint32_t Share(uint32_t share) {
    const float inverse = Inverse(share);
    uint32_t sum = 0;
#pragma unroll
    for (uint32_t j = 0; j < kBatches; j++) {
      warps_[j] = j * 32 < c_.a.nr_seqs ? Quotient(tiles_[j] + share - 1, share, inverse) : 0;
      sum += warps_[j];
    }
    return WarpSum(sum) * c_.a.nr_kv_heads;
  }

  // Gives rows the warps that are left, as far as that can be done evenly; then only whole blocks,
  // where no warp's share becomes larger.
  __device__ __forceinline__ void Widen(uint32_t share, uint32_t total) {
    const float each = __fdividef(static_cast<float>(c_.nr_warps), static_cast<float>(total));
    uint32_t wide[kBatches], sum = 0;
#pragma unroll
    for (uint32_t j = 0; j < kBatches; j++) {
      // the product may be just below a whole number
      const uint32_t even = static_cast<uint32_t>(static_cast<float>(tiles_[j]) * each + 1e-3f);
      wide[j] = max(warps_[j], min(even, tiles_[j]));
      sum += wide[j];
    }
    const bool fits = WarpSum(sum) * c_.a.nr_kv_heads <= c_.nr_warps;
#pragma unroll
    for (uint32_t j = 0; j < kBatches; j++) {
      if (fits) warps_[j] = wide[j];
      const uint32_t blocks = warps_[j] / kClusterWarps * kClusterWarps;
      if (blocks * share >= tiles_[j]) warps_[j] = blocks;
    }
  }

  __device__ __forceinline__ bool Take(uint32_t warp, ClusterPart* p) const {
    uint32_t before = 0, tiles = 0, at = 0;
    p->warps = 0;
#pragma unroll
    for (uint32_t j = 0; j < kBatches; j++) {
      if (p->warps == 0 && j * 32 < c_.a.nr_seqs) {
        const uint32_t own = warps_[j] * c_.a.nr_kv_heads;
        const uint32_t end = before + (c_.a.nr_seqs == 1 ? own : WarpScan(own, lane_));
        const uint32_t past = __ballot_sync(0xffffffff, end > warp);
        const int who = past == 0 ? 31 : __ffs(past) - 1;
        if (past != 0) {
          p->context = __shfl_sync(0xffffffff, context_[j], who);
          p->first_query = __shfl_sync(0xffffffff, first_query_[j], who);
          p->table_row = __shfl_sync(0xffffffff, table_row_[j], who);
          p->warps = __shfl_sync(0xffffffff, warps_[j], who);
          tiles = __shfl_sync(0xffffffff, tiles_[j], who);
          at = warp - __shfl_sync(0xffffffff, end - own, who);
        }
        before = __shfl_sync(0xffffffff, end, 31);
      }
    }
    if (p->warps == 0) return false;
    Spread(tiles, at, warp, p);
    return true;
  }

  // The tiles of a row by turns; `at` is the warp's place in the sequence. Where the row has whole
  // blocks, turns go from block to block, so that none has much more than others.
  __device__ __forceinline__ void Spread(uint32_t tiles, uint32_t at, uint32_t warp,
                                         ClusterPart* p) const {
    p->head = Quotient(at, p->warps, Inverse(p->warps));
    const uint32_t i = at - p->head * p->warps;
    p->first = warp - i;
    const bool whole = (p->first | p->warps) % kClusterWarps == 0;
    p->begin = whole ? i % kClusterWarps * (p->warps / kClusterWarps) + i / kClusterWarps : i;
    p->end = tiles;
    p->step = p->warps;
  }

  const ClusterArgs& c_;
  const uint32_t lane_;
  uint32_t tiles_[kBatches], warps_[kBatches];
  uint32_t context_[kBatches], first_query_[kBatches], table_row_[kBatches];
};

// What the block table names for a tile of a part, or 0 where it has none.
__device__ __forceinline__ uint32_t SlotOf(const DecodeArgs& a, const ClusterPart& p,
                                           uint32_t tile) {
  if (tile * kTile >= p.context) return 0;
  return __ldg(a.table + p.table_row * a.table_row_slots + a.by_page(tile * kTile));
}

// The rows of one sequence: each has its place whatever the length is, so that what the table names
// for a warp's tiles is read together with the length.
class ClusterOne {
 public:
  __device__ explicit ClusterOne(const ClusterArgs& c, uint32_t lane) : c_(c), lane_(lane) {}

  __device__ __forceinline__ bool Find(uint32_t warp, ClusterPart* p, uint32_t* slot) const {
    const DecodeArgs& a = c_.a;
    const uint32_t block = warp / kClusterWarps, in_block = warp % kClusterWarps;
    p->head = c_.by_row_blocks(block);
    const uint32_t row_block = block - p->head * c_.by_row_blocks.divisor;
    if (p->head >= a.nr_kv_heads) return false;
    const auto place = [&](uint32_t blocks) {  // by turns from block to block
      p->step = blocks * kClusterWarps;
      p->begin = in_block * blocks + row_block;
      return p->begin + lane_ * p->step;
    };
    uint32_t tile = place(c_.by_row_blocks.divisor);
    const bool known = a.table_rows == nullptr;
    *slot = 0;
    if (known && tile < (c_.max_context + kTile - 1) / kTile) {
      *slot = LoadNow(a.table + a.by_page(tile * kTile));
    }
    p->table_row = known ? 0 : LoadNow(a.table_rows);
    p->context = min(LoadNow(a.context_tokens), c_.max_context);
    p->first_query = LoadNow(a.query_start);
    if (LoadNow(a.query_start + 1) == p->first_query) return false;
    p->end = max(1u, (p->context + kTile - 1) / kTile);
    // a short one needs fewer blocks
    const uint32_t enough = (p->end + kClusterWarps - 1) / kClusterWarps;
    const uint32_t blocks = min(c_.by_row_blocks.divisor, enough);
    if (row_block >= blocks) return false;
    p->first = p->head * c_.by_row_blocks.divisor * kClusterWarps;
    p->warps = blocks * kClusterWarps;
    tile = place(blocks);
    if (!known || blocks != c_.by_row_blocks.divisor) *slot = SlotOf(a, *p, tile);
    return true;
  }

 private:
  const ClusterArgs& c_;
  const uint32_t lane_;
};

// Goes over a warp's tiles of its row.
template <class T, int kDim, int kBlocks>
class ClusterWarp {
 public:
  using Memory = ClusterMemory<T, kDim, kBlocks>;
  using Math = TileMath<T, kDim, kBlocks>;
  static constexpr uint32_t kHalves = Memory::kHalves, kHalf = Memory::Shape::kHalf;

  __device__ ClusterWarp(const DecodeArgs& a, uint8_t* ring, const ClusterPart& part, uint32_t lane)
      : a_(a), part_(part), ring_(SharedAddress(ring)), lane_(lane), math_(a, lane) {}

  // `slot` is what the table names where this lane's turn is.
  __device__ __forceinline__ void Run(uint32_t slot) {
    slots_ = slot;
    load_at_ = part_.begin;
    slots_left_ = 32;
    uint32_t put = 0, get = 0;
#pragma unroll 1
    for (uint32_t i = 0; i < kHalves; i++) LoadHalf(&put);
    const char* q = QueryOf<kDim>(a_, part_.first_query, part_.head);
    math_.Begin(part_.head, [&](uint32_t row, uint32_t byte) {
      return __ldg(reinterpret_cast<const uint32_t*>(q + row * (kDim * 2) + byte));
    });
#pragma unroll 1
    for (uint32_t tile = part_.begin; tile < part_.end; tile += part_.step) {
      uint32_t operands[Math::kSteps][4], p[kBlocks][2];
      NextHalf();
      math_.LoadK(operands, ring_ + get * kHalf);
      LoadInstead(&get, &put);
      math_.Score(operands, p, tile, part_.context);
      NextHalf();
      math_.LoadV(operands, ring_ + get * kHalf);
      LoadInstead(&get, &put);
      math_.Add(operands, p);
    }
    math_.End();
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncwarp();
  }

  __device__ __forceinline__ const Math& math() const { return math_; }

 private:
  // The slots of the next 32 tiles, one a lane.
  __device__ __forceinline__ void NextSlots() {
    slots_left_ = 32;
    slots_ = SlotOf(a_, part_, load_at_ + lane_ * part_.step);
  }

  // The next half tile: K, then V. An empty group of copies at the end keeps the count right.
  __device__ __forceinline__ void LoadHalf(uint32_t* put) {
    if (load_at_ < part_.end) {
      const uint32_t slot = __shfl_sync(0xffffffff, slots_, 32 - slots_left_);
      CopyHalf<Memory::Shape::kRowBytes>(a_, ring_ + *put * kHalf, values_ ? a_.v : a_.k, slot,
                                         part_.head, load_at_, part_.context, lane_);
      if (values_) {
        load_at_ += part_.step;
        if (--slots_left_ == 0 && load_at_ < part_.end) NextSlots();
      }
      values_ = !values_;
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    if (++*put == kHalves) *put = 0;
  }

  __device__ __forceinline__ void NextHalf() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kHalves - 1) : "memory");
    __syncwarp();
  }

  __device__ __forceinline__ void LoadInstead(uint32_t* get, uint32_t* put) {
    __syncwarp();
    LoadHalf(put);
    if (++*get == kHalves) *get = 0;
  }

  const DecodeArgs& a_;
  const ClusterPart& part_;
  const uint32_t ring_, lane_;
  uint32_t load_at_, slots_, slots_left_;
  bool values_ = false;
  Math math_;
};

// A float4 of a row, added up of parts.
struct ClusterSum {
  static constexpr uint32_t kAtOnce = 8;
  float4 sum = {0, 0, 0, 0};
  float max = -INFINITY, weight = 0;

  // load(i, &s, &v) fills in the maximum and the weight of part i, and its sum, or says that they
  // are not there yet.
  template <class Load>
  __device__ __forceinline__ void Add(uint32_t nr, Load load) {
#pragma unroll 1
    for (uint32_t at = 0; at < nr; at += kAtOnce) {
      float2 s[kAtOnce];
      float4 v[kAtOnce];
      WaitUntil([&] { return LoadAll(at, nr, load, s, v); });
      Fold(s, v);
    }
  }

 private:
  template <class Load>
  __device__ __forceinline__ static bool LoadAll(uint32_t at, uint32_t nr, Load load,
                                                 float2 (&s)[kAtOnce], float4 (&v)[kAtOnce]) {
    bool all = true;
#pragma unroll
    for (uint32_t i = 0; i < kAtOnce; i++) {
      s[i] = {-INFINITY, 0};
      v[i] = {0, 0, 0, 0};
      if (at + i < nr) all &= load(at + i, &s[i], &v[i]);
    }
    return all;
  }

  __device__ __forceinline__ void Fold(const float2 (&s)[kAtOnce], const float4 (&v)[kAtOnce]) {
    float peak = max;
#pragma unroll
    for (uint32_t i = 0; i < kAtOnce; i++) peak = fmaxf(peak, s[i].x);
    const float base = peak == -INFINITY ? 0 : peak;
    const float shrink = Exp2(max - base);
    max = peak;
    weight *= shrink;
    sum = {sum.x * shrink, sum.y * shrink, sum.z * shrink, sum.w * shrink};
#pragma unroll
    for (uint32_t i = 0; i < kAtOnce; i++) {
      const float f = Exp2(s[i].x - base);
      weight = fmaf(s[i].y, f, weight);
      sum.x = fmaf(v[i].x, f, sum.x);
      sum.y = fmaf(v[i].y, f, sum.y);
      sum.z = fmaf(v[i].z, f, sum.z);
      sum.w = fmaf(v[i].w, f, sum.w);
    }
  }
};

// Adds up a row that more than one warp has parts of. Blocks of the row are counted from its first
// one in this cluster on, its warps from the first one in this block on.
template <class T, int kDim, int kBlocks>
class ClusterSums {
 public:
  using Memory = ClusterMemory<T, kDim, kBlocks>;
  using Shape = typename Memory::Shape;
  static constexpr uint32_t kRowUnits = kDim / 4;  // float4 of a row of q

  __device__ ClusterSums(const ClusterArgs& c, Memory* m, const ClusterPart& part, uint32_t warp)
      : c_(c), a_(c.a), m_(m), part_(part), lane_(threadIdx.x % 32) {
    const uint32_t last = part.first + part.warps - 1, first_block = part.first / kClusterWarps;
    const uint32_t block = warp / kClusterWarps, begin = block >> c.log_blocks << c.log_blocks;
    const uint32_t log_warps = c.log_blocks + kLogClusterWarps;
    cluster_ = warp >> log_warps;
    first_cluster_ = part.first >> log_warps;
    nr_clusters_ = (last >> log_warps) - first_cluster_ + 1;
    const uint32_t from = max(first_block, begin);
    nr_blocks_ = min(last / kClusterWarps, begin + (1u << c.log_blocks) - 1) - from + 1;
    begins_ = from == first_block;
    rank_ = from - begin;
    block_ = block - from;
    const uint32_t first_warp = max(part.first, block * kClusterWarps);
    nr_warps_ = min(last + 1, (block + 1) * kClusterWarps) - first_warp;
    first_warp_ = first_warp % kClusterWarps;
    warp_ = warp - first_warp;
    units_ = a_.group * kRowUnits / kClusterSlices;
    by_units_ = Inverse(units_);
    by_blocks_ = Inverse(nr_blocks_);
    slots_ = FirstSlice(1);
  }

  __device__ __forceinline__ void Run() {
    if (nr_warps_ > 1)
      NamedBarrierSync(1 + first_warp_, nr_warps_ * 32);
    else
      __syncwarp();
    const bool whole = nr_blocks_ == 1 && nr_clusters_ == 1;
    const uint32_t from = FirstSlice(block_), to = FirstSlice(block_ + 1);
    if (!whole && warp_ == 0 && lane_ == 0 && from < to) Expect(from, to);
#pragma unroll 1
    for (uint32_t i = warp_ * 32 + lane_; i < a_.group * kRowUnits; i += nr_warps_ * 32) {
      const uint32_t column = i / kRowUnits, unit = i % kRowUnits;
      ClusterSum s;
      s.Add(nr_warps_, [&](uint32_t w, float2* scale, float4* value) {
        const float* part = PartAt(w);
        *value = *reinterpret_cast<const float4*>(part + column * Shape::kPitch + unit * 4);
        part += Shape::kRows * Shape::kPitch + column;
        *scale = {part[0], part[Shape::kRows]};
        return true;
      });
      if (whole)
        WriteOut(i, s);
      else
        Send(i, s);
    }
    if (whole || from >= to) return;
    ClusterBarrierWait(SharedAddress(&m_->arrived[Side(block_)]), 0);
#pragma unroll 1
    for (uint32_t slice = from + warp_; slice < to; slice += nr_warps_) {
      AddBlocks(slice, slice - from);
    }
  }

 private:
  __device__ __forceinline__ const float* PartAt(uint32_t w) const {
    return reinterpret_cast<const float*>(m_->ring[first_warp_ + w]);
  }

  // Where sums come in: a block may have parts of a row that began before it and of one that did
  // not.
  __device__ __forceinline__ uint32_t Side(uint32_t block) const {
    return begins_ && block == 0 ? 1 : 0;
  }

  // Block b takes the slices [FirstSlice(b), FirstSlice(b + 1)), which may be none.
  __device__ __forceinline__ uint32_t FirstSlice(uint32_t block) const {
    return Quotient(block * kClusterSlices + nr_blocks_ - 1, nr_blocks_, by_blocks_);
  }
  __device__ __forceinline__ uint32_t TakerOf(uint32_t slice) const {
    return slice * nr_blocks_ / kClusterSlices;
  }

  __device__ __forceinline__ uint32_t FirstColumn(uint32_t slice) const {
    return slice * units_ / kRowUnits;
  }
  __device__ __forceinline__ uint32_t NrColumns(uint32_t slice) const {
    return ((slice + 1) * units_ - 1) / kRowUnits - FirstColumn(slice) + 1;
  }

  // All that comes in, before or after this.
  __device__ __forceinline__ void Expect(uint32_t from, uint32_t to) {
    uint32_t bytes = 0;
#pragma unroll 1
    for (uint32_t slice = from; slice < to; slice++) {
      bytes += units_ * sizeof(float4) + NrColumns(slice) * sizeof(float2);
    }
    BarrierArriveExpect(&m_->arrived[Side(block_)], bytes * nr_blocks_);
  }

  // The block's sum of unit `i` of the row, to the block that takes its slice.
  __device__ __forceinline__ void Send(uint32_t i, const ClusterSum& s) {
    const uint32_t slice = Quotient(i, units_, by_units_), in_slice = i - slice * units_;
    const uint32_t taker = TakerOf(slice), side = Side(taker), rank = rank_ + taker;
    const uint32_t slot = block_ * slots_ + slice - FirstSlice(taker);
    const uint32_t barrier = ClusterAddress(SharedAddress(&m_->arrived[side]), rank);
    ClusterStore(ClusterAddress(SharedAddress(&m_->sums[side][slot][in_slice]), rank), s.sum,
                 barrier);
    if (in_slice == 0 || i % kRowUnits == 0) {
      const uint32_t at = i / kRowUnits - FirstColumn(slice);
      ClusterStore(ClusterAddress(SharedAddress(&m_->scales[side][slot][at]), rank),
                   float2{s.max, s.weight}, barrier);
    }
  }

  // The sums of a slice that have come in. The row's last cluster waits for what those before it
  // leave: they have begun before it, and wait for nobody.
  __device__ __forceinline__ void AddBlocks(uint32_t slice, uint32_t slot) {
    const uint32_t side = Side(block_), last = first_cluster_ + nr_clusters_ - 1;
#pragma unroll 1
    for (uint32_t u = lane_; u < units_; u += 32) {
      const uint32_t i = slice * units_ + u, at = i / kRowUnits - FirstColumn(slice);
      ClusterSum s;
      s.Add(nr_blocks_, [&](uint32_t b, float2* scale, float4* value) {
        *scale = m_->scales[side][b * slots_ + slot][at];
        *value = m_->sums[side][b * slots_ + slot][u];
        return true;
      });
      if (cluster_ != last) {
        float* sums = SumsOf(cluster_, slice);
        LeaveSum(ValueAt(sums, u), s.sum);
        LeaveSum(ScaleAt(sums, u), float2{s.max, s.weight});
        continue;
      }
      s.Add(nr_clusters_ - 1, [&](uint32_t b, float2* scale, float4* value) {
        float* sums = SumsOf(first_cluster_ + b, slice);
        const bool there = TakeSum(ValueAt(sums, u), value);
        return TakeSum(ScaleAt(sums, u), scale) && there;
      });
      WriteOut(i, s);
#pragma unroll 1
      for (uint32_t b = first_cluster_; b < last; b++) {
        float* sums = SumsOf(b, slice);
        __stcg(ValueAt(sums, u), float4{0, 0, 0, 0});
        __stcg(ScaleAt(sums, u), float2{0, 0});
      }
    }
  }

  // At most one row goes on past a cluster's end.
  __device__ __forceinline__ float* SumsOf(uint32_t cluster, uint32_t slice) const {
    return c_.sums + (cluster * kClusterSlices + slice) * ClusterSumFloats(units_);
  }
  __device__ __forceinline__ float4* ValueAt(float* sums, uint32_t unit) const {
    return reinterpret_cast<float4*>(sums) + unit;
  }
  __device__ __forceinline__ float2* ScaleAt(float* sums, uint32_t unit) const {
    return reinterpret_cast<float2*>(sums + units_ * 4) + unit;
  }

  __device__ __forceinline__ void WriteOut(uint32_t i, const ClusterSum& s) const {
    const uint64_t row =
        uint64_t{part_.first_query} * a_.group * a_.nr_kv_heads + part_.head * a_.group;
    const float f = StreamInverse(a_, part_.head, s.weight);
    uint2 halves = {StreamPack<T>(a_, s.sum.x * f, s.sum.y * f),
                    StreamPack<T>(a_, s.sum.z * f, s.sum.w * f)};
    reinterpret_cast<uint2*>(a_.out)[row * kRowUnits + i] = halves;
    if (a_.lse != nullptr && i % kRowUnits == 0) {
      a_.lse[row + i / kRowUnits] = LogSumExp(s.max, s.weight);
    }
  }

  const ClusterArgs& c_;
  const DecodeArgs& a_;
  Memory* m_;
  const ClusterPart& part_;
  const uint32_t lane_;
  uint32_t cluster_, first_cluster_, nr_clusters_;
  uint32_t rank_, block_, nr_blocks_;  // rank_: of block 0
  bool begins_;                        // the row, in block 0
  uint32_t warp_, first_warp_, nr_warps_;
  uint32_t units_, slots_;  // of a slice; slices of a block
  float by_units_, by_blocks_;
};

// Touches all lines of a launch's arguments, which are in constant memory that is cold at first.
__device__ __forceinline__ void ClusterTouch(const ClusterArgs& c) {
  const uint64_t pointers =
      reinterpret_cast<uint64_t>(c.a.k) ^ reinterpret_cast<uint64_t>(c.a.query_start) ^
      reinterpret_cast<uint64_t>(c.a.lse) ^ reinterpret_cast<uint64_t>(c.a.records) ^
      reinterpret_cast<uint64_t>(c.a.parts);
  const uint32_t words = c.a.nr_seqs ^ c.a.nr_slots ^ c.a.by_page.divisor ^ c.nr_warps;
  const uint32_t all = static_cast<uint32_t>(pointers >> 32) ^ static_cast<uint32_t>(pointers);
  if ((all ^ words) == 0x9e3779b9) __nanosleep(1);  // else nothing would be read
}

template <class T, int kDim, int kBlocks, uint32_t kBatches>
__global__ void __launch_bounds__(kClusterThreads, 1)
    ClusterKernel(const __grid_constant__ ClusterArgs c) {
  using Memory = ClusterMemory<T, kDim, kBlocks>;
  extern __shared__ __align__(128) uint8_t shared[];
  Memory* m = reinterpret_cast<Memory*>(shared);
  const uint32_t lane = threadIdx.x % 32, in_block = threadIdx.x / 32;
  const uint32_t warp = blockIdx.x * kClusterWarps + in_block;
  if (threadIdx.x == 0) {
    BarrierInit(&m->arrived[0], 1);
    BarrierInit(&m->arrived[1], 1);
    BarrierInitFence();
  }
  __syncwarp();
  ClusterArrive();
  ClusterPart part;
  uint32_t slot = 0;
  bool any;
  ClusterTouch(c);
  ClusterWait();
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  if constexpr (kBatches == 0) {
    any = ClusterOne(c, lane).Find(warp, &part, &slot);
  } else {
    any = ClusterPlan<kBatches>(c, lane).Find(warp, &part);
    if (any) slot = SlotOf(c.a, part, part.begin + lane * part.step);
  }
  if (!any) return;
  {
    ClusterWarp<T, kDim, kBlocks> tiles(c.a, m->ring[in_block][0], part, lane);
    tiles.Run(slot);
    if (part.warps == 1) {
      tiles.math().Write(part.first_query, part.head);
      return;
    }
    tiles.math().Put(reinterpret_cast<float*>(m->ring[in_block]));
  }
  ClusterSums<T, kDim, kBlocks>(c, m, part, warp).Run();
}

}  // namespace pagedkv

#endif
