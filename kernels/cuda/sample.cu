// SPDX-License-Identifier: MIT
/*
 * Choosing tokens. A cluster of eight blocks has a row: each keeps an eighth of its logits in
 * shared memory, so that they are read once from the device's. Weights are integers, so that sums
 * are exact and in no order, and so a draw is the same however many threads took part.
 *
 * Limits are found without sorting. A logit's key is its bits in an order of integers. The cluster
 * narrows a range of keys, [low, high): above it all are kept, below it none. A first survey, in
 * which all logits are weighed anyway, tells the likely ones from the rest. Each round after it
 * splits the range in eight at seven pivots, counts and weighs what is at or above each, and goes
 * on with the part where the limit is crossed. Each thread remembers which of its logits are in the
 * range, and looks at no others again. The last few are ranked each by each.
 */
#include "sample.cuh"

#include <cooperative_groups.h>

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "softmax.cuh"
#include "vector.cuh"

namespace pagedkv {
namespace {

namespace cg = cooperative_groups;

constexpr uint32_t kBlocks = 8;  // a cluster
constexpr uint32_t kThreads = 512;
constexpr uint32_t kWarps = kThreads / 32;
constexpr uint32_t kPivots = 7;
constexpr uint32_t kSurveyPivots = 3;
constexpr uint32_t kFew = 128;  // that are ranked each by each
constexpr uint64_t kWeightOne = uint64_t{1} << 40;

static_assert(PKV_CUDA_MAX_VOCAB <= kBlocks * kThreads * 64,
              "a thread's logits are bits of a word");

// What is at or above a pivot.
struct Mass {
  uint64_t weight;
  uint32_t count;
};

// Blocks of a cluster leave things for each other here; two in turn save a barrier.
struct Exchange {
  Mass mass[2][kBlocks][kPivots];
  uint64_t best[kBlocks];
  uint32_t few[2][kBlocks][kFew];  // keys
  uint32_t nr_few[2][kBlocks];
  uint32_t segment_count[kBlocks * kWarps];  // of equals at the limit
  uint64_t segment_weight[kBlocks * kWarps];
};

struct Crossing {
  uint32_t key;
  Mass above, in;
};

struct Shared {
  Exchange exchange;
  Mass warp_mass[kWarps][kPivots];
  uint64_t warp_best[kWarps];
  uint32_t keys[kFew];
  uint64_t weights[kFew];
  uint32_t nr_few;  // of this block
  Crossing crossing;
  __align__(16) float logits[];  // of this block
};

__device__ __forceinline__ uint32_t KeyOf(float logit) {
  uint32_t bits = __float_as_uint(logit + 0.0f);  // -0 is 0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float LogitOf(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// Finite, so that differences are no NaN. A NaN is as unlikely as can be.
__device__ __forceinline__ float Finite(float logit) {
  return fminf(fmaxf(logit, -FLT_MAX), FLT_MAX);
}

__device__ __forceinline__ float LoadLogit(const void* logits, uint32_t dtype, uint64_t at) {
  if (dtype == PKV_F32) return static_cast<const float*>(logits)[at];
  if (dtype == PKV_BF16) return __bfloat162float(static_cast<const __nv_bfloat16*>(logits)[at]);
  return __half2float(static_cast<const __half*>(logits)[at]);
}

// The same numbers as the CPU's executor draws.
__device__ __forceinline__ uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

__device__ __forceinline__ uint64_t WarpSum(uint64_t x) {
#pragma unroll
  for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
  return x;
}

class Row {
 public:
  __device__ Row(Shared* shared, const struct pkv_cuda_sample& s)
      : shared_(shared), cluster_(cg::this_cluster()), rank_(cluster_.block_rank()) {
    // whole vectors of all dtypes
    chunk_ = ((s.vocab + kBlocks - 1) / kBlocks + 7) / 8 * 8;
    first_ = rank_ * chunk_;
    nr_ = first_ >= s.vocab ? 0 : min(chunk_, s.vocab - first_);
  }

  __device__ void Load(const struct pkv_cuda_sample& s, uint64_t row) {
    // no block writes into another's memory before that one is there
    auto started = cluster_.barrier_arrive();
    uint64_t at = row * s.row_elements + first_;
    float hottest = -INFINITY;
    uint32_t hottest_at = ~0u;
    auto keep = [&](uint32_t i, float logit) {
      logit = Finite(logit);
      // a thread's tokens ascend: of equals the first is the lowest
      if (logit > hottest) hottest = logit, hottest_at = i;
      shared_->logits[i] = logit;
    };
    bool whole = s.row_elements % kVector == 0 && reinterpret_cast<uintptr_t>(s.logits) % 16 == 0;
    uint32_t nr_vectors = whole ? nr_ / kVector : 0;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < nr_vectors; i += kThreads) {
      Vector v = LoadVector(s.logits, s.dtype, at + i * kVector);
#pragma unroll
      for (uint32_t j = 0; j < kVector; j++) keep(i * kVector + j, v.x[j]);
    }
#pragma unroll 4
    for (uint32_t i = nr_vectors * kVector + threadIdx.x; i < nr_; i += kThreads)
      keep(i, LoadLogit(s.logits, s.dtype, at + i));
    if (threadIdx.x == 0) shared_->nr_few = 0;
    // the greatest key, and of equals the lowest token
    uint64_t best =
        static_cast<uint64_t>(KeyOf(hottest)) << 32 | static_cast<uint32_t>(~(first_ + hottest_at));
    cluster_.barrier_wait(std::move(started));
#pragma unroll
    for (int i = 16; i > 0; i /= 2) best = max(best, __shfl_xor_sync(~0u, best, i));
    if (threadIdx.x % 32 == 0) shared_->warp_best[threadIdx.x / 32] = best;
    __syncthreads();
    if (threadIdx.x < kBlocks) {
      best = 0;
      for (uint32_t i = 0; i < kWarps; i++) best = max(best, shared_->warp_best[i]);
      cluster_.map_shared_rank(shared_, threadIdx.x)->exchange.best[rank_] = best;
    }
    cluster_.sync();
    best = 0;
    for (uint32_t i = 0; i < kBlocks; i++) best = max(best, shared_->exchange.best[i]);
    best_token_ = ~static_cast<uint32_t>(best);
    best_key_ = static_cast<uint32_t>(best >> 32);
    hottest_ = LogitOf(best_key_);
  }

  __device__ uint32_t best_token() const { return best_token_; }
  __device__ uint32_t best_key() const { return best_key_; }
  __device__ float hottest() const { return hottest_; }
  __device__ uint32_t rank() const { return rank_; }
  __device__ uint32_t nr() const { return nr_; }
  __device__ uint32_t first() const { return first_; }
  __device__ Shared* shared() { return shared_; }
  __device__ cg::cluster_group& cluster() { return cluster_; }

  __device__ float Logit(uint32_t i) const { return shared_->logits[i]; }

  // exp((logit - hottest) * cool) in units of 2^-40, log2 e in `cool` already.
  __device__ uint64_t Weight(float logit, float cool) const {
    return __float2ull_rn(Exp2((logit - hottest_) * cool) * static_cast<float>(kWeightOne));
  }

  // Sums what each thread of the cluster brings; all have the sums then.
  template <uint32_t nr>
  __device__ void SumMass(Mass (&mass)[nr]) {
    static_assert(nr <= kPivots, "");
    uint32_t turn = turn_++ % 2;
#pragma unroll
    for (uint32_t p = 0; p < nr; p++) {
      uint32_t count = __reduce_add_sync(~0u, mass[p].count);
      uint64_t weight = WarpSum(mass[p].weight);
      if (threadIdx.x % 32 == 0) shared_->warp_mass[threadIdx.x / 32][p] = {weight, count};
    }
    __syncthreads();
    if (threadIdx.x < kBlocks * nr) {
      uint32_t p = threadIdx.x / kBlocks;
      Mass sum = {0, 0};
      for (uint32_t i = 0; i < kWarps; i++) {
        sum.weight += shared_->warp_mass[i][p].weight;
        sum.count += shared_->warp_mass[i][p].count;
      }
      uint32_t to = threadIdx.x % kBlocks;
      cluster_.map_shared_rank(shared_, to)->exchange.mass[turn][rank_][p] = sum;
    }
    cluster_.sync();
#pragma unroll
    for (uint32_t p = 0; p < nr; p++) {
      mass[p] = {0, 0};
      for (uint32_t i = 0; i < kBlocks; i++) {
        mass[p].weight += shared_->exchange.mass[turn][i][p].weight;
        mass[p].count += shared_->exchange.mass[turn][i][p].count;
      }
    }
  }

 private:
  Shared* shared_;
  cg::cluster_group cluster_;
  uint32_t rank_, chunk_, first_, nr_;
  uint32_t turn_ = 0;
  uint32_t best_token_, best_key_;
  float hottest_;
};

// A limit: so many tokens, or so much weight, is to be kept.
struct Limit {
  bool by_weight;
  uint64_t weight;
  uint32_t count;

  __device__ bool Reached(const Mass& m) const {
    return by_weight ? m.weight >= weight : m.count >= count;
  }
};

// The keys among which a limit is crossed: [low, high) is of one key or has one token. `above` is
// the mass from high on, which has not reached the limit, `in` that from low on, which has.
struct Range {
  uint32_t low, high;
  Mass above, in;

  __device__ uint32_t count() const { return in.count - above.count; }
  // of each of its tokens
  __device__ uint64_t weight() const { return (in.weight - above.weight) / count(); }
  __device__ bool Has(uint32_t key) const { return key >= low && key < high; }
};

// The part of the range where the limit is crossed, of those between ascending pivots. mass: of
// what is at or above each and in the range.
template <uint32_t kNr>
__device__ Range PartOf(const Range& range, const Limit& limit, const uint32_t (&pivots)[kNr],
                        const Mass (&mass)[kNr]) {
  Range part = range;
#pragma unroll
  for (uint32_t p = 0; p < kNr; p++) {
    Mass m = {mass[p].weight + range.above.weight, mass[p].count + range.above.count};
    if (limit.Reached(m)) {
      part.low = pivots[p];
      part.in = m;
    } else if (part.high == range.high) {
      part.high = pivots[p];
      part.above = m;
    }
  }
  return part;
}

// What a pass over all logits of the row tells.
struct Survey {
  Mass all;
  float log_sum;  // of exp(logit - hottest)
  uint32_t pivots[kSurveyPivots];
  Mass mass[kSurveyPivots];
};

// Pivots are so many temperatures below the greatest logit. `limits`: does anybody want them?
__device__ Survey SurveyOf(Row* row, uint32_t vocab, float cool, bool limits, bool logprobs) {
  const float below[kSurveyPivots] = {8, 5, 3};
  float pivots[kSurveyPivots];
  Survey s;
#pragma unroll
  for (uint32_t p = 0; p < kSurveyPivots; p++) {
    pivots[p] = Finite(row->hottest() - below[p] * kLog2E / cool);
    s.pivots[p] = KeyOf(pivots[p]);
  }
  bool apart = logprobs && cool != kLog2E;
  Mass mass[2 + kSurveyPivots] = {};
  auto pass = [&](auto wants_limits, auto wants_apart) {
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < row->nr(); i += kThreads) {
      float logit = row->Logit(i);
      uint64_t weight = row->Weight(logit, cool);
      mass[0].weight += weight;
      if constexpr (wants_apart.value) mass[1].weight += row->Weight(logit, kLog2E);
      if constexpr (wants_limits.value) {
        if (logit < pivots[0]) continue;
#pragma unroll
        for (uint32_t p = 0; p < kSurveyPivots; p++) {
          mass[2 + p].weight += logit >= pivots[p] ? weight : 0;
          mass[2 + p].count += logit >= pivots[p];
        }
      }
    }
  };
  using Yes = std::true_type;
  using No = std::false_type;
  if (limits && apart) pass(Yes(), Yes());
  if (limits && !apart) pass(Yes(), No());
  if (!limits && apart) pass(No(), Yes());
  if (!limits && !apart) pass(No(), No());
  row->SumMass(mass);
  s.all = {mass[0].weight, vocab};
  uint64_t sum = apart ? mass[1].weight : mass[0].weight;
  s.log_sum = logf(static_cast<float>(static_cast<double>(sum) / kWeightOne));
  for (uint32_t p = 0; p < kSurveyPivots; p++) s.mass[p] = mass[2 + p];
  return s;
}

// The end of Narrow(): of at most kFew logits that are active still, all in the range, the one at
// which the limit is crossed.
__device__ void RankFew(Row* row, float cool, const Limit& limit, uint64_t active, uint32_t turn,
                        Range* range) {
  Shared* shared = row->shared();
  for (uint64_t left = active; left; left &= left - 1) {
    uint32_t key = KeyOf(row->Logit(threadIdx.x + (__ffsll(left) - 1) * kThreads));
    uint32_t at = atomicAdd(&shared->nr_few, 1);
    for (uint32_t i = 0; i < kBlocks; i++)
      row->cluster().map_shared_rank(shared, i)->exchange.few[turn][row->rank()][at] = key;
  }
  __syncthreads();
  if (threadIdx.x < kBlocks)
    row->cluster().map_shared_rank(shared, threadIdx.x)->exchange.nr_few[turn][row->rank()] =
        shared->nr_few;
  row->cluster().sync();
  if (threadIdx.x == 0) shared->nr_few = 0;
  uint32_t nr = range->count(), at = threadIdx.x, block = 0;
  uint32_t key = 0;
  if (at < nr) {
    while (at >= shared->exchange.nr_few[turn][block]) at -= shared->exchange.nr_few[turn][block++];
    key = shared->exchange.few[turn][block][at];
    shared->keys[threadIdx.x] = key;
    shared->weights[threadIdx.x] = row->Weight(LogitOf(key), cool);
  }
  __syncthreads();
  if (threadIdx.x < nr) {
    Mass above = range->above, in = range->above;
    bool first = true;  // of its equals
    for (uint32_t i = 0; i < nr; i++) {
      uint32_t other = shared->keys[i];
      uint64_t weight = shared->weights[i];
      if (other > key) above.weight += weight, above.count++;
      if (other >= key) in.weight += weight, in.count++;
      if (other == key && i < threadIdx.x) first = false;
    }
    if (first && limit.Reached(in) && !limit.Reached(above)) shared->crossing = {key, above, in};
  }
  __syncthreads();
  *range = {shared->crossing.key, shared->crossing.key + 1, shared->crossing.above,
            shared->crossing.in};
}

// Narrows the range, in which the limit is crossed, to one key or one token. turn: 0 the first
// time.
__device__ void Narrow(Row* row, float cool, const Limit& limit, uint32_t turn, Range* range) {
  uint64_t active = 0;  // this thread's logits in the range
#pragma unroll 4
  for (uint32_t i = 0; i < (row->nr() + kThreads - 1) / kThreads; i++) {
    uint32_t at = threadIdx.x + i * kThreads;
    if (at < row->nr() && range->Has(KeyOf(row->Logit(at)))) active |= uint64_t{1} << i;
  }
  while (range->count() > 1 && range->high - range->low > 1) {
    if (range->count() <= kFew) {
      RankFew(row, cool, limit, active, turn, range);
      return;
    }
    uint32_t pivots[kPivots];
    Mass mass[kPivots] = {};
    uint64_t width = range->high - range->low;
#pragma unroll
    for (uint32_t p = 0; p < kPivots; p++)
      pivots[p] = range->low + static_cast<uint32_t>(width * (p + 1) / (kPivots + 1));
    for (uint64_t left = active; left; left &= left - 1) {
      float logit = row->Logit(threadIdx.x + (__ffsll(left) - 1) * kThreads);
      uint32_t key = KeyOf(logit);
      uint64_t weight = row->Weight(logit, cool);
#pragma unroll
      for (uint32_t p = 0; p < kPivots; p++) {
        mass[p].weight += key >= pivots[p] ? weight : 0;
        mass[p].count += key >= pivots[p];
      }
    }
    row->SumMass(mass);
    *range = PartOf(*range, limit, pivots, mass);
    for (uint64_t left = active; left; left &= left - 1) {
      int i = __ffsll(left) - 1;
      if (!range->Has(KeyOf(row->Logit(threadIdx.x + i * kThreads)))) active &= ~(uint64_t{1} << i);
    }
  }
}

// What limits leave: all tokens of keys from high on, and of those of [low, high), which weigh
// `each`, the first `equals`.
struct Kept {
  uint32_t low, high;
  uint32_t equals;
  uint64_t each;
  uint64_t weight;  // of all
};

__device__ Kept KeptOf(const Range& range, uint32_t equals) {
  return {range.low, range.high, equals, range.weight(),
          range.above.weight + equals * range.weight()};
}

__device__ Kept Limits(Row* row, const struct pkv_cuda_draw& draw, const Survey& survey,
                       float cool) {
  Range everything = {0, row->best_key() + 1, {0, 0}, survey.all};
  Kept kept = {0, 0, 0, 0, survey.all.weight};
  uint32_t limited = 0;  // tokens of the range that top_k leaves, where it has a say
  if (draw.top_k && draw.top_k < survey.all.count) {
    Limit limit = {false, 0, draw.top_k};
    Range range = PartOf(everything, limit, survey.pivots, survey.mass);
    Narrow(row, cool, limit, 0, &range);
    limited = draw.top_k - range.above.count;
    kept = KeptOf(range, limited);
  }
  if (draw.top_p < 1) {
    double part = ceil(static_cast<double>(draw.top_p) * static_cast<double>(kept.weight));
    uint64_t wanted = part > 1 ? static_cast<uint64_t>(part) : 1;
    Limit limit = {true, wanted < kept.weight ? wanted : kept.weight, 0};
    // it is crossed in what top_k leaves, or above
    Range range = PartOf(everything, limit, survey.pivots, survey.mass);
    Narrow(row, cool, limit, 1, &range);
    uint64_t more = limit.weight - range.above.weight;
    uint32_t equals = static_cast<uint32_t>((more + range.weight() - 1) / range.weight());
    if (limited && range.low <= kept.low) equals = min(equals, limited);
    kept = KeptOf(range, equals);
  }
  return kept;
}

__device__ __forceinline__ uint64_t WarpScan(uint64_t x) {
#pragma unroll
  for (int i = 1; i < 32; i *= 2) {
    uint64_t other = __shfl_up_sync(~0u, x, i);
    if (static_cast<int>(threadIdx.x % 32) >= i) x += other;
  }
  return x;
}

// The sums before segment `mine` of the cluster: of equals, and of the weights kept.
__device__ void SumsBefore(const Exchange& e, const Kept& kept, uint32_t mine, uint32_t* equals,
                           uint64_t* weight) {
  constexpr uint32_t kEach = kBlocks * kWarps / 32;
  uint32_t lane = threadIdx.x % 32;
  uint64_t count = 0;
  for (uint32_t i = 0; i < kEach; i++) count += e.segment_count[lane * kEach + i];
  uint64_t before = WarpScan(count) - count;
  uint64_t sums[kEach], sum = 0;
  uint32_t equals_before[kEach];
  for (uint32_t i = 0; i < kEach; i++) {
    uint32_t nr = e.segment_count[lane * kEach + i];
    uint64_t left = before < kept.equals ? kept.equals - before : 0;
    equals_before[i] = static_cast<uint32_t>(before);
    sums[i] = sum;
    sum += e.segment_weight[lane * kEach + i] + min(left, uint64_t{nr}) * kept.each;
    before += nr;
  }
  uint64_t all_before = WarpScan(sum) - sum;
  uint32_t my_equals = 0;
  uint64_t my_weight = 0;
  for (uint32_t i = 0; i < kEach; i++) {
    if (i == mine % kEach) {
      my_equals = equals_before[i];
      my_weight = all_before + sums[i];
    }
  }
  *equals = __shfl_sync(~0u, my_equals, mine / kEach);
  *weight = __shfl_sync(~0u, my_weight, mine / kEach);
}

// The token at `target` of the kept weights laid out in order of token; only in the warp that has
// it does it return true, and then in one lane.
__device__ bool Pick(Row* row, const Kept& kept, float cool, uint64_t target, uint32_t* token) {
  uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  uint32_t length = ((row->nr() + kWarps - 1) / kWarps + 31) / 32 * 32;
  uint32_t begin = min(warp * length, row->nr()), end = min(begin + length, row->nr());
  uint32_t mine = row->rank() * kWarps + warp;
  auto weigh = [&](uint32_t at, bool* equal) -> uint64_t {
    *equal = false;
    if (at >= end) return 0;
    float logit = row->Logit(at);
    uint32_t key = KeyOf(logit);
    *equal = key >= kept.low && key < kept.high;
    return key >= kept.high ? row->Weight(logit, cool) : 0;
  };

  uint32_t nr_equal = 0;
  uint64_t weight = 0;
  bool equal;
  for (uint32_t at = begin + lane; at < end; at += 32) {
    weight += weigh(at, &equal);
    nr_equal += equal;
  }
  weight = WarpSum(weight);
  nr_equal = __reduce_add_sync(~0u, nr_equal);
  if (lane < kBlocks) {
    Exchange& e = row->cluster().map_shared_rank(row->shared(), lane)->exchange;
    e.segment_count[mine] = nr_equal;
    e.segment_weight[mine] = weight;
  }
  row->cluster().sync();

  uint32_t equals;
  SumsBefore(row->shared()->exchange, kept, mine, &equals, &weight);
  uint32_t left = equals < kept.equals ? kept.equals - equals : 0;
  if (target < weight || target >= weight + row->shared()->exchange.segment_weight[mine] +
                                       min(left, nr_equal) * kept.each)
    return false;
  for (uint32_t at = begin; at < end; at += 32) {
    uint64_t own = weigh(at + lane, &equal);
    uint32_t equal_lanes = __ballot_sync(~0u, equal);
    if (equal && equals + __popc(equal_lanes & ((1u << lane) - 1)) < kept.equals) own = kept.each;
    equals += __popc(equal_lanes);
    uint64_t sum = weight + WarpScan(own);
    uint32_t past = __ballot_sync(~0u, sum > target);
    if (past) {
      *token = row->first() + at + __ffs(past) - 1;
      return lane == static_cast<uint32_t>(__ffs(past)) - 1;
    }
    weight = __shfl_sync(~0u, sum, 31);
  }
  return false;
}

__global__ void __launch_bounds__(kThreads, 2) __cluster_dims__(kBlocks, 1, 1)
    SampleKernel(const __grid_constant__ struct pkv_cuda_sample s) {
  extern __shared__ __align__(16) char memory[];
  Row row(reinterpret_cast<Shared*>(memory), s);
  uint64_t at = blockIdx.x / kBlocks;
  struct pkv_cuda_draw draw = s.draws[at];
  row.Load(s, at);

  uint32_t token = row.best_token();
  bool mine = row.rank() == 0 && threadIdx.x == 0;
  float logit = row.hottest(), log_sum = 0;
  bool greedy = !(draw.temperature > 0) || isinf(draw.temperature);
  if (!greedy || s.logprobs) {
    float cool = greedy ? kLog2E : fminf(kLog2E / draw.temperature, FLT_MAX);
    bool limits = !greedy && (draw.top_k || draw.top_p < 1);
    Survey survey = SurveyOf(&row, s.vocab, cool, limits, s.logprobs);
    log_sum = survey.log_sum;
    if (!greedy) {
      Kept kept = Limits(&row, draw, survey, cool);
      uint64_t unit = Mix(Mix(draw.seed) ^ draw.position) >> 11 << 11;
      mine = Pick(&row, kept, cool, __umul64hi(unit, kept.weight), &token);
      if (mine) logit = row.Logit(token - row.first());
    }
  }
  if (mine) {
    s.tokens[at] = token;
    if (s.logprobs) s.logprobs[at] = logit - row.hottest() - log_sum;
  }
}

}  // namespace

cudaError_t Sample(const struct pkv_cuda_sample& s) {
  uint32_t chunk = ((s.vocab + kBlocks - 1) / kBlocks + 7) / 8 * 8;
  size_t bytes = sizeof(Shared) + chunk * sizeof(float);
  cudaError_t error = cudaFuncSetAttribute(
      SampleKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess) return error;
  SampleKernel<<<s.nr_rows * kBlocks, kThreads, bytes, static_cast<cudaStream_t>(s.stream)>>>(s);
  return cudaGetLastError();
}

}  // namespace pagedkv
