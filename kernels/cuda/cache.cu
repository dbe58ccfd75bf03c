// SPDX-License-Identifier: MIT
// Writing new tokens into pages, rotated. A thread has one pair of vectors, those that a rotation
// mixes (dims i and i + rotary_dim / 2 on) or two that it leaves alone, in several heads of one
// token. It loads all of them before it looks up where they go, so that both take the memory's
// latency at once, and the rotation once.
#include "cache.cuh"
#include "vector.cuh"

namespace pagedkv {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kHeads = 4;  // of a thread, at once

struct Write {
  struct pkv_cuda_cache_write w;
  struct pkv_kv_layout layout;
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

// The place of a token, and its rotation.
struct Place {
  uint64_t offset;  // of its rows in the arena, head 0's K
  const float* rotation;
};

__device__ Place PlaceOf(const Write& job, uint32_t seq, uint32_t token) {
  const struct pkv_cuda_cache_write& w = job.w;
  const struct pkv_kv_layout& l = job.layout;
  uint32_t position = w.context_tokens[seq] - (w.query_start[seq + 1] - token);
  uint64_t row = w.table_rows ? w.table_rows[seq] : seq;
  uint32_t page = position / l.page_tokens;
  uint64_t slot = w.table[row * w.table_row_slots + page];
  return {slot * l.page_stride_bytes + w.layer * l.layer_stride_bytes +
              (position - page * l.page_tokens) * l.token_stride_bytes,
          w.rotation + static_cast<uint64_t>(position) * w.rotary_dim};
}

// By a vector of cosines and sines in turn.
__device__ __forceinline__ void Rotate(const float (&r)[2 * kVector], Vector* a, Vector* b) {
#pragma unroll
  for (int i = 0; i < kVector; i++) {
    float c = r[2 * i], s = r[2 * i + 1], x = a->x[i], y = b->x[i];
    a->x[i] = x * c - y * s;
    b->x[i] = x * s + y * c;
  }
}

__device__ __forceinline__ void Scale(float by, Vector* v) {
#pragma unroll
  for (int i = 0; i < kVector; i++) v->x[i] *= by;
}

// Row `token` of q, k or v, whichever has `head` of all of theirs, and its own number there.
__device__ __forceinline__ const void* RowOf(const Write& job, uint32_t token, uint32_t head,
                                             uint64_t* at) {
  const struct pkv_cuda_cache_write& w = job.w;
  uint32_t k = head - w.nr_q_heads, v = k - job.layout.nr_kv_heads;
  bool is_q = head < w.nr_q_heads, is_k = !is_q && k < job.layout.nr_kv_heads;
  *at = token * (is_q   ? w.q_row_elements
                 : is_k ? w.k_row_elements
                        : w.v_row_elements) +
        static_cast<uint64_t>(is_q   ? head
                              : is_k ? k
                                     : v) *
            job.layout.head_dim;
  return is_q ? w.q : is_k ? w.k : w.v;
}

__device__ __forceinline__ void StorePair(const Write& job, const Place& place, uint32_t token,
                                          uint32_t head, Pair pair, bool both, Vector a, Vector b) {
  const struct pkv_cuda_cache_write& w = job.w;
  const struct pkv_kv_layout& l = job.layout;
  if (head < w.nr_q_heads) {
    uint64_t to = token * w.q_out_row_elements + static_cast<uint64_t>(head) * l.head_dim;
    StoreVector(w.q_out, w.q_out_dtype, to + pair.first, a);
    if (both) StoreVector(w.q_out, w.q_out_dtype, to + pair.second, b);
    return;
  }
  head -= w.nr_q_heads;
  bool is_v = head >= l.nr_kv_heads;
  if (is_v) head -= l.nr_kv_heads;
  const float* scales = is_v ? w.v_scale : w.k_scale;
  if (l.dtype == PKV_E4M3 && scales) {
    float by = 1 / scales[head];
    Scale(by, &a);
    Scale(by, &b);
  }
  char* to = static_cast<char*>(w.base) + place.offset + (is_v ? l.kv_stride_bytes : 0) +
             head * l.head_stride_bytes;
  StoreVector(to, l.dtype, pair.first, a);
  if (both) StoreVector(to, l.dtype, pair.second, b);
}

// Threads: (pair of a head, heads, tokens).
template <class Raw>
__global__ void __launch_bounds__(kThreads) CacheWriteKernel(const __grid_constant__ Write job) {
  const struct pkv_cuda_cache_write& w = job.w;
  uint32_t token = blockIdx.x * blockDim.z + threadIdx.z;
  if (token >= w.nr_tokens) return;
  uint32_t nr_heads = w.nr_q_heads + 2 * job.layout.nr_kv_heads;
  Pair pair = PairOf(threadIdx.x, w.rotary_dim, job.layout.head_dim);
  bool both = pair.second < job.layout.head_dim, rotated = pair.first < w.rotary_dim;
  Place place;
  float rotation[2 * kVector];
  bool found = false;

  for (uint32_t first = threadIdx.y; first < nr_heads; first += kHeads * blockDim.y) {
    Raw a[kHeads], b[kHeads];
#pragma unroll
    for (uint32_t i = 0; i < kHeads; i++) {
      uint32_t head = first + i * blockDim.y;
      if (head >= nr_heads) continue;
      uint64_t at;
      const void* row = RowOf(job, token, head, &at);
      a[i].Load(row, at + pair.first);
      if (both) b[i].Load(row, at + pair.second);
    }
    if (!found) {
      uint32_t seq = SeqOf(w.query_start, w.nr_seqs, token);
      if (seq == w.nr_seqs) return;
      place = PlaceOf(job, seq, token);
      const float4* r = reinterpret_cast<const float4*>(place.rotation + 2 * pair.first);
      for (int i = 0; rotated && i < kVector / 2; i++) {
        float4 v = r[i];
        rotation[4 * i] = v.x, rotation[4 * i + 1] = v.y;
        rotation[4 * i + 2] = v.z, rotation[4 * i + 3] = v.w;
      }
      found = true;
    }
#pragma unroll
    for (uint32_t i = 0; i < kHeads; i++) {
      uint32_t head = first + i * blockDim.y;
      if (head >= nr_heads) continue;
      Vector x = a[i].Floats(w.src_dtype), y = both ? b[i].Floats(w.src_dtype) : Vector{};
      if (rotated && head < w.nr_q_heads + job.layout.nr_kv_heads) Rotate(rotation, &x, &y);
      StorePair(job, place, token, head, pair, both, x, y);
    }
  }
}

}  // namespace

cudaError_t CacheWrite(const struct pkv_cuda_cache_write& w) {
  Write job = {w, *w.layout};
  job.w.layout = nullptr;
  uint32_t head_dim = w.layout->head_dim;
  uint32_t nr_heads = w.nr_q_heads + 2 * w.layout->nr_kv_heads;
  dim3 threads;
  threads.x = w.rotary_dim / 2 / kVector + ((head_dim - w.rotary_dim) / kVector + 1) / 2;
  threads.y = std::min((nr_heads + kHeads - 1) / kHeads, kThreads / threads.x);
  threads.z = std::min(kThreads / (threads.x * threads.y), 64u);
  uint32_t blocks = (w.nr_tokens + threads.z - 1) / threads.z;
  cudaStream_t stream = static_cast<cudaStream_t>(w.stream);
  if (w.src_dtype == PKV_F32)
    CacheWriteKernel<RawFloats><<<blocks, threads, 0, stream>>>(job);
  else
    CacheWriteKernel<RawHalves><<<blocks, threads, 0, stream>>>(job);
  return cudaGetLastError();
}

}  // namespace pagedkv
