// SPDX-License-Identifier: MIT
// Writing new tokens into pages, rotated. A thread has two vectors of one head of one token: those
// that a rotation mixes, dims i and i + rotary_dim / 2 on, or two that it leaves alone. It loads
// them before it looks up where they go, so that both take the memory's latency at once.
#include <cstdint>

#include "cache.cuh"
#include "vector.cuh"

namespace pagedkv {
namespace {

constexpr int kThreads = 256;

enum Part { kQ, kK, kV };

struct Write {
  struct pkv_cuda_cache_write w;
  struct pkv_kv_layout layout;
  uint32_t pairs_per_head;  // of vectors
  uint32_t pairs;           // of a token
  uint32_t tokens_per_block;
};

// Where the vectors of a pair begin within a head. `second` is head_dim where there is none.
struct Pair {
  uint32_t first;
  uint32_t second;
};

__device__ Pair PairOf(uint32_t pair, uint32_t rotary_dim, uint32_t head_dim) {
  uint32_t half = rotary_dim / 2;
  if (pair * kVector < half) return {pair * kVector, pair * kVector + half};
  uint32_t at = rotary_dim + (pair - half / kVector) * 2 * kVector;
  return {at, at + kVector};
}

// The sequence that token i is of: query_start[s] <= i < query_start[s + 1].
__device__ uint32_t SeqOf(const uint32_t* __restrict__ query_start, uint32_t nr_seqs, uint32_t i) {
  // the usual decode step: a token a sequence
  if (i < nr_seqs && query_start[i] == i && query_start[i + 1] == i + 1) return i;
  uint32_t low = 0, high = nr_seqs;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (query_start[middle + 1] <= i)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

__device__ void Rotate(const float* __restrict__ rotation, Vector* a, Vector* b) {
  // pairs of cos and sin of eight dims: 64 bytes
  float r[2 * kVector];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    float4 v = reinterpret_cast<const float4*>(rotation)[i];
    r[4 * i] = v.x, r[4 * i + 1] = v.y, r[4 * i + 2] = v.z, r[4 * i + 3] = v.w;
  }
#pragma unroll
  for (int i = 0; i < kVector; i++) {
    float c = r[2 * i], s = r[2 * i + 1], x = a->x[i], y = b->x[i];
    a->x[i] = x * c - y * s;
    b->x[i] = x * s + y * c;
  }
}

__device__ void Scale(float by, Vector* v) {
#pragma unroll
  for (int i = 0; i < kVector; i++) v->x[i] *= by;
}

__global__ void __launch_bounds__(kThreads) CacheWriteKernel(const __grid_constant__ Write job) {
  const struct pkv_cuda_cache_write& w = job.w;
  const struct pkv_kv_layout& l = job.layout;
  uint32_t token = blockIdx.x * job.tokens_per_block + threadIdx.y;
  if (token >= w.nr_tokens) return;

  uint32_t seq = w.nr_seqs, position = 0;
  uint64_t slot = 0;
  for (uint32_t at = threadIdx.x; at < job.pairs; at += blockDim.x) {
    uint32_t head = at / job.pairs_per_head;
    Pair pair = PairOf(at % job.pairs_per_head, w.rotary_dim, l.head_dim);
    Part part = head < w.nr_q_heads ? kQ : head < w.nr_q_heads + l.nr_kv_heads ? kK : kV;
    if (part != kQ) head -= w.nr_q_heads + (part == kV ? l.nr_kv_heads : 0);
    const void* src = part == kQ ? w.q : part == kK ? w.k : w.v;
    uint64_t row = part == kQ ? w.q_row_elements : part == kK ? w.k_row_elements : w.v_row_elements;
    uint64_t from = token * row + static_cast<uint64_t>(head) * l.head_dim;
    bool both = pair.second < l.head_dim;
    Vector a = LoadVector(src, w.src_dtype, from + pair.first), b = {};
    if (both) b = LoadVector(src, w.src_dtype, from + pair.second);

    if (seq == w.nr_seqs) {
      seq = SeqOf(w.query_start, w.nr_seqs, token);
      if (seq == w.nr_seqs) return;
      position = w.context_tokens[seq] - (w.query_start[seq + 1] - token);
      uint64_t table_row = w.table_rows ? w.table_rows[seq] : seq;
      slot = w.table[table_row * w.table_row_slots + position / l.page_tokens];
    }
    if (part != kV && pair.first < w.rotary_dim)
      Rotate(w.rotation + static_cast<uint64_t>(position) * w.rotary_dim + 2 * pair.first, &a, &b);

    if (part == kQ) {
      uint64_t to = token * w.q_out_row_elements + static_cast<uint64_t>(head) * l.head_dim;
      StoreVector(w.q_out, w.q_out_dtype, to + pair.first, a);
      if (both) StoreVector(w.q_out, w.q_out_dtype, to + pair.second, b);
      continue;
    }
    const float* scales = part == kK ? w.k_scale : w.v_scale;
    if (l.dtype == PKV_E4M3 && scales) {
      float by = 1 / scales[head];
      Scale(by, &a);
      Scale(by, &b);
    }
    char* place = static_cast<char*>(w.base) + slot * l.page_stride_bytes +
                  w.layer * l.layer_stride_bytes + (part == kV ? l.kv_stride_bytes : 0) +
                  head * l.head_stride_bytes + position % l.page_tokens * l.token_stride_bytes;
    StoreVector(place, l.dtype, pair.first, a);
    if (both) StoreVector(place, l.dtype, pair.second, b);
  }
}

}  // namespace

cudaError_t CacheWrite(const struct pkv_cuda_cache_write& w) {
  Write job = {w, *w.layout, 0, 0, 0};
  job.w.layout = nullptr;
  uint32_t rotated = w.rotary_dim / 2 / kVector;
  uint32_t left = (w.layout->head_dim - w.rotary_dim) / kVector;
  job.pairs_per_head = rotated + (left + 1) / 2;
  job.pairs = job.pairs_per_head * (w.nr_q_heads + 2 * w.layout->nr_kv_heads);
  // as many pairs for each thread
  uint32_t rounds = (job.pairs + kThreads - 1) / kThreads;
  uint32_t columns = ((job.pairs + rounds - 1) / rounds + 7) / 8 * 8;
  job.tokens_per_block = kThreads / columns;
  dim3 threads(columns, job.tokens_per_block);
  uint32_t blocks = (w.nr_tokens + job.tokens_per_block - 1) / job.tokens_per_block;
  CacheWriteKernel<<<blocks, threads, 0, static_cast<cudaStream_t>(w.stream)>>>(job);
  return cudaGetLastError();
}

}  // namespace pagedkv
