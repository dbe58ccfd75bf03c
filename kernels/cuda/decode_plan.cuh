/* SPDX-License-Identifier: MIT */
/*
 * Who computes what in decode attention, found out on the device.
 *
 * A row is what one pass over K and V serves: up to kRows rows of q (query heads of one kv head,
 * times query tokens) of one sequence. Its tokens are cut into leaves at fixed positions. A leaf
 * is always computed in the same way, and the leaves of a row are always added up in order, so a
 * query token's result depends on its own context alone.
 *
 * All rows, weighted by their tiles of 16 tokens, form a line: sequence, kv head, block of rows.
 * Each group of warps of the grid takes an equal stretch of it, moved to the nearest end of a leaf.
 * So at most one row that begins in a stretch goes on in the next one.
 */
#ifndef PAGEDKV_CUDA_DECODE_PLAN_CUH
#define PAGEDKV_CUDA_DECODE_PLAN_CUH

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace pagedkv {

// Division by a number below 2^31 that is known before the launch.
struct FastDiv {
  uint32_t divisor, factor, shift;

  FastDiv() = default;
  explicit FastDiv(uint32_t d) : divisor(d), shift(0) {
    while ((uint64_t{1} << shift) < d) shift++;
    factor = static_cast<uint32_t>((((uint64_t{1} << shift) - d) << 32) / d + 1);
  }
  __device__ __forceinline__ uint32_t operator()(uint32_t n) const {  // n < 2^31
    return (__umulhi(n, factor) + n) >> shift;
  }
};

struct DecodeArgs {
  // [slot][kv head][128 bytes of a row][token][those], boxes of 16 tokens, if `boxes`
  CUtensorMap k_map, v_map;
  const char* k;  // slot 0, this layer
  const char* v;
  uint64_t page_stride, head_stride, token_stride;
  const uint32_t* table;
  uint64_t table_row_slots;
  const uint32_t* table_rows;
  const uint32_t* query_start;
  const uint32_t* context_tokens;
  const char* q;
  uint64_t q_row_bytes;
  char* out;
  float* lse;
  const float* alibi;
  const float* k_scale;
  const float* v_scale;
  // of stretches; or, zero between calls, what the stream kernel's blocks leave for others
  float* records;
  uint32_t* counters;
  // Sums of what comes before first_token, in nr_parts parts, and where to leave sums in place of
  // outputs, in one part, or NULL: [part][nr_tokens][query heads][head_dim], then
  // [part][nr_tokens][query heads] maxima, which are whole numbers, and weights.
  const float* parts;
  float* parts_out;
  float scale, softcap;
  uint32_t nr_seqs, nr_kv_heads, group, head_dim, window;
  uint32_t nr_slots;
  uint32_t longest_tiles;  // of a context, at most
  uint32_t first_token;  // what comes before is left out
  uint32_t nr_parts;
  // 0, or all query tokens are of one sequence with this context and see all of it
  uint32_t one_context;
  uint32_t nr_tokens;
  uint32_t q_is_bf16;
  uint32_t boxes;            // the copy engine copies
  uint32_t whole_tiles;      // page_tokens is a multiple of 16
  uint32_t stretch_records;  // record places of a stretch
  uint32_t record_rows;
  FastDiv by_page, by_group;
};

constexpr uint32_t kTile = 16;    // tokens of a matrix instruction
constexpr uint32_t kStep = 32;    // tokens of a stage
constexpr uint32_t kChunk = 64;   // tokens that the warps of a group take together
constexpr uint32_t kRowCost = 4;  // of beginning a row, in tiles

// Leaves are of 128 tokens at first, so that few sequences fill the device, and larger later, so
// that there are few to add up. All are whole chunks.
__host__ __device__ __forceinline__ uint32_t LeafOf(uint32_t token) {
  if (token < 4096) return token / 128;
  if (token < 8192) return 32 + (token - 4096) / 256;
  if (token < 32768) return 48 + (token - 8192) / 512;
  return 96 + (token - 32768) / 2048;
}

__host__ __device__ __forceinline__ uint32_t LeafStart(uint32_t leaf) {
  if (leaf < 32) return leaf * 128;
  if (leaf < 48) return 4096 + (leaf - 32) * 256;
  if (leaf < 96) return 8192 + (leaf - 48) * 512;
  return 32768 + (leaf - 96) * 2048;
}

// Groups of warps in a block. Few rows of q leave room for more.
constexpr uint32_t DecodeGroups(uint32_t dim, uint32_t blocks) {
  return blocks == 4 || dim == 256 ? 2 : blocks == 2 ? 3 : 4;
}

// A record: [rows][dim] sums, then [rows] maxima and weights, a multiple of 16 bytes.
__host__ __device__ __forceinline__ uint32_t DecodeRecordFloats(uint32_t rows, uint32_t dim) {
  return rows * dim + (rows + 1) / 2 * 4;
}

// The rows of one sequence.
struct Shape {
  uint32_t context, queries;
  uint32_t start;         // first token that any query token sees
  uint32_t leaf, leaves;  // first leaf, and how many
  uint32_t weight;        // of one row
  uint32_t rows;          // kv heads times blocks
  uint32_t blocks;
};

template <uint32_t kRows>
__device__ __forceinline__ Shape ShapeOf(const DecodeArgs& a, uint32_t context, uint32_t queries) {
  Shape s;
  s.context = context;
  s.queries = queries;
  uint32_t first_end = context >= queries ? context - queries + 1 : 0;
  s.start = a.first_token;
  if (a.window != 0 && first_end > a.window) s.start = max(s.start, first_end - a.window);
  s.start = min(s.start, context);
  uint32_t tiles = (context + kTile - 1) / kTile - s.start / kTile;
  s.leaf = LeafOf(s.start);
  s.leaves = context > s.start ? LeafOf(context - 1) + 1 - s.leaf : 1;
  s.weight = kRowCost + tiles;
  s.blocks = (queries * a.group + kRows - 1) / kRows;
  s.rows = a.nr_kv_heads * s.blocks;
  return s;
}

// The leaf, counted from the row's first, whose beginning is nearest to `weight` into the row.
__device__ __forceinline__ uint32_t NearestLeaf(const Shape& s, uint32_t weight) {
  if (weight <= kRowCost) return 0;
  uint32_t token = (weight - kRowCost) * kTile + s.start / kTile * kTile;
  uint32_t leaf = LeafOf(token), begin = LeafStart(leaf), end = LeafStart(leaf + 1);
  leaf += (token - begin) * 2 >= end - begin;
  return min(max(leaf, s.leaf) - s.leaf, s.leaves);
}

// The line's weight cut into equal stretches.
struct Stretches {
  uint32_t each, over;

  __device__ Stretches(uint32_t total, uint32_t nr) : each(total / nr), over(total - each * nr) {}
  __device__ uint32_t Begin(uint32_t i) const { return i * each + min(i, over); }
  // Which stretch has this place?
  __device__ uint32_t Of(uint32_t place) const {
    uint32_t longer = over * (each + 1);
    return place < longer ? place / (each + 1) : over + (place - longer) / max(each, 1u);
  }
};

// At most `most` stretches, none smaller than the smallest leaf.
__device__ __forceinline__ uint32_t NrStretches(uint32_t total, uint32_t most) {
  return min(most, max(total / (128 / kTile), 1u));
}

// A place on the line. `before` is the weight of all sequences before seq.
struct Place {
  uint32_t seq, row, leaf, before;
};

__device__ __forceinline__ uint32_t WarpSum(uint32_t x) { return __reduce_add_sync(0xffffffff, x); }

__device__ __forceinline__ uint32_t WarpScan(uint32_t x, uint32_t lane) {
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    uint32_t y = __shfl_up_sync(0xffffffff, x, d);
    if (lane >= d) x += y;
  }
  return x;
}

// The 32 sequences from `batch` on, one a lane.
struct Batch {
  uint32_t context, first_query, queries;

  __device__ void Load(const DecodeArgs& a, uint32_t batch, uint32_t lane) {
    uint32_t s = batch + lane;
    context = first_query = queries = 0;
    if (a.one_context != 0) {
      context = lane == 0 ? a.one_context : 0;
      queries = lane == 0 ? a.nr_tokens : 0;
    } else if (s < a.nr_seqs) {
      context = __ldg(a.context_tokens + s);
      first_query = __ldg(a.query_start + s);
      queries = __ldg(a.query_start + s + 1) - first_query;
    }
  }
  template <uint32_t kRows>
  __device__ uint32_t Weight(const DecodeArgs& a) const {
    if (queries == 0) return 0;
    Shape s = ShapeOf<kRows>(a, context, queries);
    return s.weight * s.rows;
  }
};

// The place at `weight`, which is in the batch whose sequences before it weigh `before`.
template <uint32_t kRows>
__device__ Place PlaceIn(const DecodeArgs& a, const Batch& b, uint32_t batch, uint32_t before,
                         uint32_t weight, uint32_t lane) {
  uint32_t own = b.Weight<kRows>(a);
  uint32_t end = before + WarpScan(own, lane);
  uint32_t past = __ballot_sync(0xffffffff, end > weight);
  if (past == 0) return Place{a.nr_seqs, 0, 0, 0};
  int at = __ffs(past) - 1;
  Shape s = ShapeOf<kRows>(a, __shfl_sync(0xffffffff, b.context, at),
                           __shfl_sync(0xffffffff, b.queries, at));
  Place p;
  p.seq = batch + at;
  p.before = __shfl_sync(0xffffffff, end - own, at);
  p.row = (weight - p.before) / s.weight;
  p.leaf = NearestLeaf(s, weight - p.before - p.row * s.weight);
  return p;
}

struct Plan {
  Place begin, end;
  uint32_t total;
};

// Up to 32 sequences: any warp by itself.
template <uint32_t kRows>
__device__ Plan PlanFew(const DecodeArgs& a, uint32_t stretch, uint32_t most, uint32_t lane) {
  Batch b;
  b.Load(a, 0, lane);
  Plan plan;
  plan.total = WarpSum(b.Weight<kRows>(a));
  const Stretches stretches(plan.total, NrStretches(plan.total, most));
  plan.begin = PlaceIn<kRows>(a, b, 0, 0, stretches.Begin(stretch), lane);
  plan.end = PlaceIn<kRows>(a, b, 0, 0, stretches.Begin(stretch + 1), lane);
  return plan;
}

// More: warps add up the weights of 32 sequences each into a word of shared memory.
template <uint32_t kRows>
__device__ __forceinline__ void SumBatches(const DecodeArgs& a, uint32_t* sums, uint32_t warp,
                                           uint32_t nr_warps, uint32_t lane) {
  const uint32_t nr_batches = (a.nr_seqs + 31) / 32;
#pragma unroll 1
  for (uint32_t i = warp; i < nr_batches; i += nr_warps) {
    Batch b;
    b.Load(a, i * 32, lane);
    uint32_t sum = WarpSum(b.Weight<kRows>(a));
    if (lane == 0) sums[i] = sum;
  }
}

template <uint32_t kRows>
__device__ __forceinline__ Plan PlanMany(const DecodeArgs& a, const uint32_t* sums,
                                         uint32_t stretch, uint32_t most, uint32_t lane) {
  const uint32_t nr_batches = (a.nr_seqs + 31) / 32;
  Plan plan;
  plan.total = 0;
  for (uint32_t i = lane; i < nr_batches; i += 32) plan.total += sums[i];
  plan.total = WarpSum(plan.total);
  const Stretches stretches(plan.total, NrStretches(plan.total, most));
#pragma unroll 1
  for (int side = 0; side < 2; side++) {
    uint32_t weight = stretches.Begin(stretch + side), before = 0;
    Place p = {a.nr_seqs, 0, 0, 0};
    for (uint32_t i = 0; i < nr_batches; i += 32) {
      uint32_t own = i + lane < nr_batches ? sums[i + lane] : 0;
      uint32_t end = before + WarpScan(own, lane);
      uint32_t past = __ballot_sync(0xffffffff, end > weight);
      if (past != 0) {
        int at = __ffs(past) - 1;
        Batch b;
        b.Load(a, (i + at) * 32, lane);
        p = PlaceIn<kRows>(a, b, (i + at) * 32, __shfl_sync(0xffffffff, end - own, at), weight,
                           lane);
        break;
      }
      before = __shfl_sync(0xffffffff, end, 31);
    }
    if (side == 0)
      plan.begin = p;
    else
      plan.end = p;
  }
  return plan;
}

// The part of a row that one group computes.
struct Piece {
  uint32_t head, block;
  uint32_t table_row, first_query;  // of the sequence
  uint32_t context, queries;
  uint32_t begin, end;          // tokens
  uint32_t row_leaf, leaves;    // of the whole row: its first leaf, and how many
  uint32_t leaf, piece_leaves;  // of this piece, the first one counted from row_leaf
  uint32_t row_stretch;         // in which the row begins: no two rows that go on have the same
};

// The pieces of one stretch, in order. All lanes of a warp hold the same.
template <uint32_t kRows>
class Walk {
 public:
  __device__ Walk(const DecodeArgs& a, const Plan& plan, uint32_t most, uint32_t lane)
      : a_(a),
        stretches_(plan.total, NrStretches(plan.total, most)),
        at_(plan.begin),
        end_(plan.end),
        lane_(lane),
        batch_at_(~0u),
        seq_at_(~0u) {}

  __device__ bool Next(Piece* p) {
    while (at_.seq < a_.nr_seqs && Before()) {
      LoadSeq();
      if (at_.row >= shape_.rows) {
        at_.before += shape_.rows * shape_.weight;
        at_.seq++;
        at_.row = at_.leaf = 0;
        continue;
      }
      bool last = at_.seq == end_.seq && at_.row == end_.row;
      bool any = Fill(p, last ? end_.leaf : shape_.leaves);
      at_.row++;
      at_.leaf = 0;
      if (any) return true;
    }
    return false;
  }

 private:
  __device__ bool Before() const {
    if (at_.seq != end_.seq) return at_.seq < end_.seq;
    if (at_.row != end_.row) return at_.row < end_.row;
    return at_.leaf < end_.leaf;
  }

  __device__ void LoadSeq() {
    if (seq_at_ == at_.seq) return;
    seq_at_ = at_.seq;
    uint32_t batch = seq_at_ / 32 * 32;
    if (batch != batch_at_) {
      batch_at_ = batch;
      batch_.Load(a_, batch, lane_);
      table_row_ = batch + lane_;
      if (a_.table_rows != nullptr && table_row_ < a_.nr_seqs) {
        table_row_ = __ldg(a_.table_rows + table_row_);
      }
    }
    int from = seq_at_ - batch;
    uint32_t queries = __shfl_sync(0xffffffff, batch_.queries, from);
    shape_ = ShapeOf<kRows>(a_, __shfl_sync(0xffffffff, batch_.context, from), queries);
    if (queries == 0) shape_.rows = 0;
    first_query_ = __shfl_sync(0xffffffff, batch_.first_query, from);
    seq_table_row_ = __shfl_sync(0xffffffff, table_row_, from);
  }

  // Leaves [at_.leaf, leaf_end) of the row, as far as the block's rows see anything of them.
  __device__ bool Fill(Piece* p, uint32_t leaf_end) {
    p->head = shape_.blocks == 1 ? at_.row : at_.row / shape_.blocks;
    p->block = at_.row - p->head * shape_.blocks;
    uint32_t end = shape_.context;
    if (a_.one_context == 0 && p->block + 1 < shape_.blocks) {
      uint32_t token = a_.by_group((p->block + 1) * kRows - 1);
      end = end + token + 1 > shape_.queries ? end + token + 1 - shape_.queries : 0;
    }
    p->leaves = end > shape_.start ? LeafOf(end - 1) + 1 - shape_.leaf : 1;
    leaf_end = min(leaf_end, p->leaves);
    if (at_.leaf >= leaf_end) return false;
    p->leaf = at_.leaf;
    p->piece_leaves = leaf_end - at_.leaf;
    p->begin = max(shape_.start, LeafStart(shape_.leaf + at_.leaf));
    p->end = min(end, LeafStart(shape_.leaf + leaf_end));
    p->row_leaf = shape_.leaf;
    p->table_row = seq_table_row_;
    p->first_query = first_query_;
    p->context = shape_.context;
    p->queries = shape_.queries;
    p->row_stretch = stretches_.Of(at_.before + at_.row * shape_.weight);
    return true;
  }

  const DecodeArgs& a_;
  const Stretches stretches_;
  Place at_;
  const Place end_;
  const uint32_t lane_;
  Batch batch_;
  uint32_t table_row_;
  uint32_t batch_at_, seq_at_;
  Shape shape_;
  uint32_t first_query_, seq_table_row_;
};

}  // namespace pagedkv

#endif
