/* SPDX-License-Identifier: MIT */
/*
 * Attention as pkv_cuda.h defines it, in plain loops and float32: what the fast kernels are held
 * against. A block computes one query head of one query token; its warps take the context's tokens
 * in turns, each with its own running softmax.
 */
#ifndef KERNELS_CUDA_REFERENCE_CUH
#define KERNELS_CUDA_REFERENCE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "attention.h"

namespace pagedkv {

constexpr int kReferenceWarps = 8;

struct ReferenceParams {
  pkv_cuda_attention a;  // layout, a host pointer, is not used
  pkv_kv_layout layout;
  float *out;  // [rows][nr_q_heads][head_dim]
  float *lse;  // [rows][nr_q_heads], or NULL
  uint32_t first_row;
  uint32_t row_step;
};

__device__ inline float ReferenceLoad(uint32_t dtype, const uint8_t *row, uint32_t i) {
  if (dtype == PKV_BF16) return reinterpret_cast<const __nv_bfloat16 *>(row)[i];
  if (dtype == PKV_F16) return reinterpret_cast<const __half *>(row)[i];
  return static_cast<float>(reinterpret_cast<const __nv_fp8_e4m3 *>(row)[i]);
}

// Row i of the grid is query token first_row + i * row_step.
static __global__ void ReferenceKernel(ReferenceParams p) {
  const pkv_cuda_attention &a = p.a;
  const pkv_kv_layout &l = p.layout;
  const uint32_t row = p.first_row + blockIdx.x * p.row_step, head = blockIdx.y;
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t kv_head = head / (a.nr_q_heads / l.nr_kv_heads);
  uint32_t s = 0;
  while (s < a.nr_seqs && a.query_start[s + 1] <= row) s++;
  if (s == a.nr_seqs) return;
  const uint32_t context = a.context_tokens[s];
  const uint32_t position = context - (a.query_start[s + 1] - row);
  const uint32_t *table =
      a.table + (a.table_rows == nullptr ? s : a.table_rows[s]) * a.table_row_slots;
  const float k_scale = l.dtype == PKV_E4M3 && a.k_scale != nullptr ? a.k_scale[kv_head] : 1;
  const float v_scale = l.dtype == PKV_E4M3 && a.v_scale != nullptr ? a.v_scale[kv_head] : 1;
  const uint8_t *q = static_cast<const uint8_t *>(a.q) +
                     (row * a.q_row_elements + uint64_t{head} * l.head_dim) * 2;
  float max = -INFINITY, sum = 0, acc[8] = {};
  const uint32_t first = a.window != 0 && position + 1 > a.window ? position + 1 - a.window : 0;
  for (uint32_t t = first + warp; t <= position && context > 0; t += kReferenceWarps) {
    const uint8_t *k = static_cast<const uint8_t *>(a.base) +
                       table[t / l.page_tokens] * l.page_stride_bytes +
                       a.layer * l.layer_stride_bytes + kv_head * l.head_stride_bytes +
                       t % l.page_tokens * l.token_stride_bytes;
    float score = 0;
    for (uint32_t i = lane; i < l.head_dim; i += 32) {
      score += ReferenceLoad(a.q_dtype, q, i) * ReferenceLoad(l.dtype, k, i);
    }
    for (int d = 16; d > 0; d /= 2) score += __shfl_xor_sync(0xffffffff, score, d);
    score *= a.scale * k_scale;
    if (a.softcap != 0) score = a.softcap * tanhf(score / a.softcap);
    if (a.alibi != nullptr) {
      score += a.alibi[head] * (static_cast<float>(t) - static_cast<float>(position));
    }
    const float peak = fmaxf(max, score);
    const float shrink = expf(max - peak), weight = expf(score - peak);
    max = peak;
    sum = sum * shrink + weight;
    for (uint32_t i = lane, j = 0; i < l.head_dim; i += 32, j++) {
      acc[j] = acc[j] * shrink + weight * ReferenceLoad(l.dtype, k + l.kv_stride_bytes, i);
    }
  }
  __shared__ float maxima[kReferenceWarps], sums[kReferenceWarps];
  __shared__ float parts[kReferenceWarps][PKV_MAX_HEAD_DIM];
  if (lane == 0) {
    maxima[warp] = max;
    sums[warp] = sum;
  }
  for (uint32_t i = lane, j = 0; i < l.head_dim; i += 32, j++) parts[warp][i] = acc[j];
  __syncthreads();
  float peak = -INFINITY, total = 0;
  for (int w = 0; w < kReferenceWarps; w++) peak = fmaxf(peak, maxima[w]);
  for (int w = 0; w < kReferenceWarps; w++) {
    if (sums[w] > 0) total += sums[w] * expf(maxima[w] - peak);
  }
  const uint64_t at = uint64_t{blockIdx.x} * a.nr_q_heads + head;
  for (uint32_t i = threadIdx.x; i < l.head_dim; i += blockDim.x) {
    float o = 0;
    for (int w = 0; w < kReferenceWarps; w++) {
      if (sums[w] > 0) o += parts[w][i] * expf(maxima[w] - peak);
    }
    p.out[at * l.head_dim + i] = total > 0 ? o / total * v_scale : 0;
  }
  if (threadIdx.x == 0 && p.lse != nullptr) p.lse[at] = total > 0 ? peak + logf(total) : -INFINITY;
}

// Computes every row_step'th row from first_row on: out and lse have a row for each of them.
inline cudaError_t Reference(const pkv_cuda_attention &a, float *out, float *lse,
                             uint32_t first_row = 0, uint32_t row_step = 1) {
  if (a.nr_tokens <= first_row) return cudaSuccess;
  const ReferenceParams p = {a, *a.layout, out, lse, first_row, row_step};
  const dim3 grid((a.nr_tokens - first_row + row_step - 1) / row_step, a.nr_q_heads);
  ReferenceKernel<<<grid, 32 * kReferenceWarps, 0, static_cast<cudaStream_t>(a.stream)>>>(p);
  return cudaGetLastError();
}

}  // namespace pagedkv

#endif
