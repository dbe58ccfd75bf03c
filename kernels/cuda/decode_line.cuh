/* SPDX-License-Identifier: MIT */
/*
 * The line that decode attention is cut up on: all tiles of all rows (a row is a sequence and a kv
 * head), ordered by kv head, sequence and tile. So the rows of a short sequence, which cost more
 * than their tiles, are spread over it.
 *
 * A launch may be planned before the kernel ahead of it in the stream has ended ("early"): what it
 * goes by may change yet, and nothing but hints to the L2 cache may come of it.
 */
#ifndef PAGEDKV_CUDA_DECODE_LINE_CUH
#define PAGEDKV_CUDA_DECODE_LINE_CUH

#include "decode_plan.cuh"

namespace pagedkv {

// The tiles that a warp asks the L2 cache for ahead of its launch. More would take the memory's
// time from the kernel that still runs, and gain nothing: rings are not filled faster from the
// cache.
constexpr uint32_t kForeseenTiles = 1;
static_assert(kForeseenTiles <= 15, "two lanes a tile, one for q");

// A word that earlier launches wrote. An early one is not left in the L1 cache, where it would
// be found again after it changed.
__device__ __forceinline__ uint32_t LineWord(const uint32_t* at, bool early) {
  return early ? __ldcg(at) : __ldg(at);
}

// What a warp knows of 32 sequences, one a lane.
struct StreamBatch {
  uint32_t batch, tiles, context, first_query;

  __device__ __forceinline__ void Load(const DecodeArgs& a, uint32_t first, uint32_t lane,
                                       bool early = false) {
    batch = first;
    tiles = context = first_query = 0;
    const uint32_t s = first + lane;
    if (s >= a.nr_seqs) return;
    // positions are counted from the first token that is not in the parts
    context = LineWord(a.context_tokens + s, early);
    context -= min(context, a.first_token);
    first_query = LineWord(a.query_start + s, early);
    const bool any = LineWord(a.query_start + s + 1, early) != first_query;
    tiles = any ? max(1u, (context + kTile - 1) / kTile) : 0;
  }
};

// A row, and where it begins on the line. All lanes of a warp hold the same.
struct StreamPlace {
  uint32_t seq, head, begin, tiles, context, first_query;

  __device__ __forceinline__ void Take(const StreamBatch& b, uint32_t who) {
    seq = b.batch + who;
    tiles = __shfl_sync(0xffffffff, b.tiles, who);
    context = __shfl_sync(0xffffffff, b.context, who);
    first_query = __shfl_sync(0xffffffff, b.first_query, who);
  }

  // The next row that has tiles: there must be one.
  __device__ __forceinline__ void Next(const DecodeArgs& a, StreamBatch* b, uint32_t lane) {
    begin += tiles;
    do {
      if (++seq >= a.nr_seqs) {
        seq = 0;
        head++;
      }
      if (seq / 32 * 32 != b->batch) b->Load(a, seq / 32 * 32, lane);
      Take(*b, seq % 32);
    } while (tiles == 0);
  }
};

// The line of a launch. All warps of a block come to Measure() together, and then find their places
// on it as they like.
struct StreamLine {
  uint32_t per_head, total;

  // `sums`: a word for each 32 sequences, for as long as places are looked for. `batch` becomes the
  // sequences' if there are no more than 32.
  __device__ __forceinline__ void Measure(const DecodeArgs& a, uint32_t* sums, StreamBatch* batch,
                                          bool early) {
    const uint32_t lane = threadIdx.x % 32;
    if (a.nr_seqs <= 32) {
      batch->Load(a, 0, lane, early);
      per_head = WarpSum(batch->tiles);
    } else {
      const uint32_t nr_batches = (a.nr_seqs + 31) / 32;
      __syncthreads();  // who still looks for early places
      for (uint32_t i = threadIdx.x / 32; i < nr_batches; i += blockDim.x / 32) {
        batch->Load(a, i * 32, lane, early);
        const uint32_t sum = WarpSum(batch->tiles);
        if (lane == 0) sums[i] = sum;
      }
      __syncthreads();
      per_head = 0;
      for (uint32_t i = lane; i < nr_batches; i += 32) per_head += sums[i];
      per_head = WarpSum(per_head);
    }
    total = per_head * a.nr_kv_heads;
  }

  // The row of tile `at` of the line, which must have tiles. With 32 sequences or fewer `batch` is
  // Measure()'s.
  __device__ __forceinline__ StreamPlace Find(const DecodeArgs& a, const uint32_t* sums,
                                              uint32_t at, StreamBatch* batch, bool early) const {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t head = min(at / per_head, a.nr_kv_heads - 1), in_head = at - head * per_head;
    uint32_t before = 0;
    if (a.nr_seqs > 32) {
      const uint32_t nr_batches = (a.nr_seqs + 31) / 32;
      uint32_t found_batch = 0;
      for (uint32_t i = 0; i < nr_batches; i += 32) {
        const uint32_t sum = i + lane < nr_batches ? sums[i + lane] : 0;
        const uint32_t past = before + WarpScan(sum, lane);
        const uint32_t found = __ballot_sync(0xffffffff, past > in_head);
        if (found != 0) {
          const int who = __ffs(found) - 1;
          found_batch = i + who;
          before = __shfl_sync(0xffffffff, past - sum, who);
          break;
        }
        before = __shfl_sync(0xffffffff, past, 31);
      }
      batch->Load(a, found_batch * 32, lane, early);
    }
    const uint32_t end = before + WarpScan(batch->tiles, lane);
    const uint32_t past = __ballot_sync(0xffffffff, end > in_head);
    // an early look may find that the sequences have changed since they were measured
    const int who = past == 0 ? 31 : __ffs(past) - 1;
    StreamPlace p;
    p.Take(*batch, who);
    p.begin = head * per_head + __shfl_sync(0xffffffff, end, who) - p.tiles;
    p.head = head;
    return p;
  }
};

__device__ __forceinline__ void PrefetchBytes(const char* from, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

// Asks the L2 cache for what a warp that begins with tile `from` of the line reads first. The place
// may be an early one: every address is checked to be in what the caller gave, so that a stale word
// costs a useless line and no more. All caches but this one would keep what may change yet.
template <uint32_t kRowBytes>
__device__ __forceinline__ void Foresee(const DecodeArgs& a, const StreamPlace& p, uint32_t from,
                                        uint32_t end) {
  const uint32_t lane = threadIdx.x % 32;
  if (p.seq >= a.nr_seqs) return;
  if (lane == 31 && p.first_query < a.nr_tokens) {
    const uint32_t bytes = a.group * a.head_dim * 2;
    PrefetchBytes(a.q + p.first_query * a.q_row_bytes + uint64_t{p.head} * bytes, bytes);
  }
  // which row of the tables it is can't be checked, nor where one ends that doesn't begin a row
  if (a.table_rows != nullptr || a.first_token != 0) return;
  if (lane / 2 >= min(end - from, kForeseenTiles)) return;
  const uint32_t token = (from - p.begin + lane / 2) * kTile;
  const uint32_t page = a.by_page(token), in_page = token - page * a.by_page.divisor;
  if (token >= p.context || page >= a.table_row_slots || in_page >= a.by_page.divisor) return;
  const uint32_t slot = __ldcg(a.table + p.seq * a.table_row_slots + page);
  if (slot >= a.nr_slots) return;
  const char* tile = (lane % 2 == 0 ? a.k : a.v) + slot * a.page_stride + p.head * a.head_stride +
                     in_page * a.token_stride;
  if (a.token_stride == kRowBytes) {
    PrefetchBytes(tile, kTile * kRowBytes);
  } else {
    for (uint32_t i = 0; i < kTile; i++) PrefetchBytes(tile + i * a.token_stride, kRowBytes);
  }
}

}  // namespace pagedkv

#endif
