// SPDX-License-Identifier: MIT
// Arithmetic on one row at a time: a block a row, its threads as many as the row's length says, so
// that sums are in the same order whatever the batch.
#include <cstdint>

#include "rowwise.cuh"
#include "vector.cuh"

namespace pagedkv {
namespace {

constexpr int kMaxThreads = 512;

int RowThreads(uint32_t nr_elements) {
  uint32_t nr_vectors = nr_elements / kVector;
  uint32_t threads = (nr_vectors + 31) / 32 * 32;
  return static_cast<int>(threads < kMaxThreads ? threads : kMaxThreads);
}

// The sum over the block, the same in all threads, added in one order.
__device__ float BlockSum(float x) {
  __shared__ float sums[kMaxThreads / 32];
#pragma unroll
  for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (int i = 0; i < static_cast<int>(blockDim.x) / 32; i++) sum += sums[i];
  return sum;
}

__global__ void __launch_bounds__(kMaxThreads) RmsNormKernel(struct pkv_cuda_rms_norm n) {
  uint64_t row = blockIdx.x;
  uint64_t x_at = row * n.x_row_elements;
  uint64_t add_at = row * n.add_row_elements;
  float square = 0;
  for (uint32_t i = threadIdx.x * kVector; i < n.nr_elements; i += blockDim.x * kVector) {
    Vector x = LoadVector(n.x, n.x_dtype, x_at + i);
    if (n.add) {
      Vector add = LoadVector(n.add, n.add_dtype, add_at + i);
#pragma unroll
      for (int j = 0; j < kVector; j++) x.x[j] = Rounded(x.x[j] + add.x[j], n.x_dtype);
      StoreVector(n.x, n.x_dtype, x_at + i, x);
    }
#pragma unroll
    for (int j = 0; j < kVector; j++) square += x.x[j] * x.x[j];
  }
  if (!n.out) return;

  float scale = 1 / sqrtf(BlockSum(square) / static_cast<float>(n.nr_elements) + n.eps);
  // each thread reads what it wrote itself
  for (uint32_t i = threadIdx.x * kVector; i < n.nr_elements; i += blockDim.x * kVector) {
    Vector x = LoadVector(n.x, n.x_dtype, x_at + i);
    Vector weight = LoadVector(n.weight, n.weight_dtype, i);
#pragma unroll
    for (int j = 0; j < kVector; j++) x.x[j] = x.x[j] * scale * weight.x[j];
    StoreVector(n.out, n.out_dtype, row * n.out_row_elements + i, x);
  }
}

__global__ void __launch_bounds__(kMaxThreads) SwigluKernel(struct pkv_cuda_swiglu s) {
  uint64_t row = blockIdx.x;
  for (uint32_t i = threadIdx.x * kVector; i < s.nr_elements; i += blockDim.x * kVector) {
    Vector gate = LoadVector(s.gate, s.src_dtype, row * s.src_row_elements + i);
    Vector up = LoadVector(s.up, s.src_dtype, row * s.src_row_elements + i);
#pragma unroll
    for (int j = 0; j < kVector; j++) gate.x[j] = gate.x[j] / (1 + expf(-gate.x[j])) * up.x[j];
    StoreVector(s.out, s.out_dtype, row * s.out_row_elements + i, gate);
  }
}

__global__ void __launch_bounds__(kMaxThreads) GatherRowsKernel(struct pkv_cuda_gather_rows g) {
  uint64_t row = blockIdx.x;
  uint64_t from = g.rows[row];
  for (uint32_t i = threadIdx.x * kVector; i < g.nr_elements; i += blockDim.x * kVector) {
    Vector v = {};
    if (from < g.nr_table_rows)
      v = LoadVector(g.table, g.table_dtype, from * g.table_row_elements + i);
    StoreVector(g.out, g.out_dtype, row * g.out_row_elements + i, v);
  }
}

}  // namespace

cudaError_t RmsNorm(const struct pkv_cuda_rms_norm& n) {
  RmsNormKernel<<<n.nr_rows, RowThreads(n.nr_elements), 0, static_cast<cudaStream_t>(n.stream)>>>(
      n);
  return cudaGetLastError();
}

cudaError_t Swiglu(const struct pkv_cuda_swiglu& s) {
  SwigluKernel<<<s.nr_rows, RowThreads(s.nr_elements), 0, static_cast<cudaStream_t>(s.stream)>>>(s);
  return cudaGetLastError();
}

cudaError_t GatherRows(const struct pkv_cuda_gather_rows& g) {
  GatherRowsKernel<<<g.nr_rows, RowThreads(g.nr_elements), 0,
                     static_cast<cudaStream_t>(g.stream)>>>(g);
  return cudaGetLastError();
}

}  // namespace pagedkv
