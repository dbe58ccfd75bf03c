/* SPDX-License-Identifier: MIT */
/*
 * Which tiles a prefill has, and in which order blocks take them.
 *
 * A tile is a run of tile_tokens query tokens of one sequence (fewer at its end) with the query
 * heads of one kv head. What it costs is the number of KV blocks that its last token sees. Each kv
 * head's tiles go out longest first, so that the last ones to finish are short: in levels of cost,
 * the highest first, within a level by sequence and by token.
 *
 * The order follows from query_start and context_tokens alone: how many tiles of a sequence lie
 * under a cost has a closed form. A warp walks the levels with the indices that it is given; there
 * is no list of tiles, no sorting and no pass before the kernel.
 *
 * A block stays with one kv head as long as that has tiles, then helps where there are some left.
 * Blocks of equal index modulo the number of heads run in the same part of the chip, as long as
 * that number divides or is divided by the parts: they read the same pages at about the same time,
 * and such reads are merged before they reach the L2 cache.
 */
#ifndef PAGEDKV_CUDA_PREFILL_TILES_CUH
#define PAGEDKV_CUDA_PREFILL_TILES_CUH

#include <stdint.h>

namespace pagedkv {

struct PrefillTile {
  uint32_t seq;
  uint32_t first_token;  // row of q
  uint32_t nr_tokens;
  uint32_t first_position;  // of first_token in its context
  uint32_t context_tokens;
};

// The tiles of one kv head, alike for all. All calls are by one whole warp, with the same arguments
// in all lanes.
class PrefillTiles {
 public:
  __device__ PrefillTiles(const uint32_t* query_start, const uint32_t* context_tokens,
                          uint32_t nr_seqs, uint32_t tile_tokens, uint32_t block_tokens)
      : query_start_(query_start),
        context_tokens_(context_tokens),
        nr_seqs_(nr_seqs),
        tile_tokens_(tile_tokens) {
    uint32_t longest = 0, mine = 0;
    for (uint32_t s = threadIdx.x % 32; s < nr_seqs; s += 32) {
      const uint32_t query = query_start[s + 1] - query_start[s];
      if (query == 0) continue;
      longest = max(longest, context_tokens[s]);
      mine += (query + tile_tokens - 1) / tile_tokens;
    }
    longest = __reduce_max_sync(kAllLanes, longest);
    nr_tiles_ = __reduce_add_sync(kAllLanes, mine);
    const uint32_t blocks = (longest + block_tokens - 1) / block_tokens;
    const uint32_t levels = nr_seqs <= 64 ? 64 : nr_seqs <= 256 ? 16 : 8;
    level_tokens_ = max(1u, (blocks + levels - 1) / levels) * block_tokens;
    level_ = (longest + level_tokens_ - 1) / level_tokens_;
  }

  __device__ uint32_t nr_tiles() const { return nr_tiles_; }

  // The tile of an index below nr_tiles(). Indices near each other are found fast.
  __device__ PrefillTile Find(uint32_t index) {
    while (index < base_) {
      level_++;
      count_ = TilesOfLevel();
      base_ -= count_;
    }
    while (index - base_ >= count_) {
      base_ += count_;
      level_--;
      count_ = TilesOfLevel();
    }
    return FindInLevel(index - base_);
  }

 private:
  static constexpr uint32_t kAllLanes = 0xffffffff;

  // How many tiles of a sequence see no more than `tokens` tokens.
  __device__ uint32_t TilesUpTo(uint32_t query, uint32_t context, uint32_t tokens) const {
    if (context <= tokens) return (query + tile_tokens_ - 1) / tile_tokens_;
    const uint32_t before = context - query;
    return tokens <= before ? 0 : (tokens - before) / tile_tokens_;
  }

  // How many tiles of sequence s are in this level.
  __device__ uint32_t TilesOf(uint32_t s) const {
    const uint32_t query = query_start_[s + 1] - query_start_[s];
    const uint32_t context = context_tokens_[s];
    return TilesUpTo(query, context, (level_ + 1) * level_tokens_) -
           TilesUpTo(query, context, level_ * level_tokens_);
  }

  __device__ uint32_t TilesOfLevel() const {
    uint32_t mine = 0;
    for (uint32_t s = threadIdx.x % 32; s < nr_seqs_; s += 32) mine += TilesOf(s);
    return __reduce_add_sync(kAllLanes, mine);
  }

  // Tile `rank` of the level, all sequences counted.
  __device__ PrefillTile FindInLevel(uint32_t rank) const {
    const uint32_t lane = threadIdx.x % 32;
    PrefillTile tile;
    for (uint32_t first = 0;; first += 32) {
      const uint32_t s = first + lane;
      const uint32_t mine = s < nr_seqs_ ? TilesOf(s) : 0;
      uint32_t through = mine;
#pragma unroll
      for (uint32_t d = 1; d < 32; d *= 2) {
        const uint32_t other = __shfl_up_sync(kAllLanes, through, d);
        if (lane >= d) through += other;
      }
      const uint32_t sum = __shfl_sync(kAllLanes, through, 31);
      if (rank >= sum) {
        rank -= sum;
        continue;
      }
      const uint32_t owner = __ffs(__ballot_sync(kAllLanes, through > rank)) - 1;
      rank -= __shfl_sync(kAllLanes, through - mine, owner);
      tile.seq = first + owner;
      break;
    }
    const uint32_t start = query_start_[tile.seq];
    const uint32_t query = query_start_[tile.seq + 1] - start;
    const uint32_t context = context_tokens_[tile.seq];
    const uint32_t below = TilesUpTo(query, context, level_ * level_tokens_);
    const uint32_t offset = (below + rank) * tile_tokens_;
    tile.first_token = start + offset;
    tile.nr_tokens = min(tile_tokens_, query - offset);
    tile.first_position = context - query + offset;
    tile.context_tokens = context;
    return tile;
  }

  const uint32_t* query_start_;
  const uint32_t* context_tokens_;
  uint32_t nr_seqs_;
  uint32_t tile_tokens_;
  uint32_t nr_tiles_;
  uint32_t level_tokens_;
  uint32_t level_;      // the one above the highest at first
  uint32_t base_ = 0;   // index of the level's first tile
  uint32_t count_ = 0;  // tiles of the level
};

// Deals a block its tiles: a head and an index in the head's tiles. Also by one whole warp.
class PrefillDealer {
 public:
  __device__ PrefillDealer(uint32_t* next, uint32_t nr_heads, uint32_t nr_tiles)
      : next_(next), nr_heads_(nr_heads), nr_tiles_(nr_tiles), head_(blockIdx.x % nr_heads) {
    index_ = blockIdx.x / nr_heads;  // the first is dealt without asking
  }

  // Is there another tile? Then head() and index() say which.
  __device__ bool Deal() {
    index_ = __shfl_sync(kAllLanes, index_, 0);
    while (index_ >= nr_tiles_) {
      if (!FindHead()) return false;
      Ask();
      index_ = __shfl_sync(kAllLanes, index_, 0);
    }
    return true;
  }

  // Asks for the next tile; the answer travels until Deal().
  __device__ void Ask() {
    if (threadIdx.x % 32 == 0) index_ = atomicAdd(&next_[head_], 1) + Dealt(head_);
  }

  // Call once, at the end: the last block makes the counters ready for the next call.
  __device__ void Finish() {
    uint32_t last = 0;
    if (threadIdx.x % 32 == 0) {
      __threadfence();
      last = atomicAdd(&next_[nr_heads_], 1) == gridDim.x - 1;
    }
    if (!__shfl_sync(kAllLanes, last, 0)) return;
    for (uint32_t h = threadIdx.x % 32; h <= nr_heads_; h += 32) next_[h] = 0;
  }

  __device__ uint32_t head() const { return head_; }
  __device__ uint32_t index() const { return index_; }

 private:
  static constexpr uint32_t kAllLanes = 0xffffffff;

  // How many tiles of a head were dealt without asking.
  __device__ uint32_t Dealt(uint32_t head) const {
    return (gridDim.x + nr_heads_ - 1 - head) / nr_heads_;
  }

  // Chooses the head that has most tiles left.
  __device__ bool FindHead() {
    uint32_t best = 0;  // tiles left, then the head
    for (uint32_t h = threadIdx.x % 32; h < nr_heads_; h += 32) {
      const uint32_t taken = __ldcg(&next_[h]) + Dealt(h);
      if (taken < nr_tiles_) best = max(best, min(nr_tiles_ - taken, 0xffffu) << 16 | h);
    }
    best = __reduce_max_sync(kAllLanes, best);
    head_ = best & 0xffff;
    return best >> 16 != 0;
  }

  uint32_t* next_;  // [nr_heads] tiles that were asked for, and how many blocks are done
  uint32_t nr_heads_;
  uint32_t nr_tiles_;
  uint32_t head_;
  uint32_t index_;  // in lane 0, until Deal()
};

}  // namespace pagedkv

#endif
