// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <cuda_bf16.h>

#include "weights.h"

namespace pagedkv {

constexpr int kThreads = 256;

// As pkvrt_mix64().
__device__ inline uint64_t Mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

__global__ void __launch_bounds__(kThreads)
    FillMatrixKernel(__nv_bfloat16* to, pkvrt_matrix m, bool turned) {
  const uint64_t nr = m.nr_in * m.nr_out;
  for (uint64_t i = blockIdx.x * uint64_t{kThreads} + threadIdx.x; i < nr;
       i += gridDim.x * uint64_t{kThreads}) {
    const uint64_t at = turned ? i % m.nr_in * m.nr_out + i / m.nr_in : i;
    const int32_t x = static_cast<int32_t>(Mix64(m.stream + at) >> 32);
    to[i] = __float2bfloat16(static_cast<float>(x) * m.scale);
  }
}

__global__ void __launch_bounds__(kThreads)
    FillRowsKernel(__nv_bfloat16* to, uint64_t nr, uint64_t seed) {
  for (uint64_t i = blockIdx.x * uint64_t{kThreads} + threadIdx.x; i < nr;
       i += gridDim.x * uint64_t{kThreads}) {
    const int32_t x = static_cast<int32_t>(Mix64(seed + i) >> 32);
    to[i] = __float2bfloat16(static_cast<float>(x) * 0x1p-32f);
  }
}

__global__ void __launch_bounds__(kThreads)
    CompareRowsKernel(const uint16_t* a, const uint16_t* b, uint64_t row, uint32_t nr_a,
                      uint32_t a_shift, uint32_t* nr_different) {
  const uint16_t* x = a + (blockIdx.x + uint64_t{a_shift}) % nr_a * row;
  const uint16_t* y = b + blockIdx.x * row;
  int differs = 0;
  for (uint64_t i = threadIdx.x; i < row; i += kThreads) differs |= x[i] != y[i];
  differs = __syncthreads_or(differs);
  if (!threadIdx.x && differs) atomicAdd(nr_different, 1u);
}

}  // namespace pagedkv

cudaError_t pkvrt_gpu_matrix_fill(void* to, struct pkvrt_matrix matrix, int turned,
                                  cudaStream_t stream) {
  pagedkv::FillMatrixKernel<<<2048, pagedkv::kThreads, 0, stream>>>(static_cast<__nv_bfloat16*>(to),
                                                                    matrix, turned);
  return cudaGetLastError();
}

cudaError_t pkvrt_gpu_rows_fill(void* to, uint64_t nr, uint64_t seed, cudaStream_t stream) {
  pagedkv::FillRowsKernel<<<1024, pagedkv::kThreads, 0, stream>>>(static_cast<__nv_bfloat16*>(to),
                                                                  nr, seed);
  return cudaGetLastError();
}

cudaError_t pkvrt_gpu_rows_compare(const void* a, const void* b, uint64_t row_bytes,
                                   uint32_t nr_rows, uint32_t nr_a, uint32_t a_shift,
                                   uint32_t* nr_different, cudaStream_t stream) {
  if (!nr_rows || row_bytes % 2) return nr_rows ? cudaErrorInvalidValue : cudaSuccess;
  pagedkv::CompareRowsKernel<<<nr_rows, pagedkv::kThreads, 0, stream>>>(
      static_cast<const uint16_t*>(a), static_cast<const uint16_t*>(b), row_bytes / 2, nr_a,
      a_shift, nr_different);
  return cudaGetLastError();
}
