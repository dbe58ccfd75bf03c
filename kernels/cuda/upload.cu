// SPDX-License-Identifier: MIT
// A step's arrays and deltas of its block tables: one copy, then one launch that applies the
// deltas.
#include <algorithm>
#include <cstdint>

#include "upload.cuh"

namespace pagedkv {
namespace {

constexpr int kThreads = 256;
constexpr uint32_t kMaxBlocks = 264;

__global__ void __launch_bounds__(kThreads)
    ApplyDeltasKernel(const struct pkv_cuda_delta* __restrict__ deltas, uint32_t nr,
                      uint32_t* __restrict__ table, uint64_t row_slots) {
  for (uint32_t i = blockIdx.x * kThreads + threadIdx.x; i < nr; i += gridDim.x * kThreads) {
    struct pkv_cuda_delta d = deltas[i];
    table[d.row * row_slots + d.index] = d.slot;
  }
}

}  // namespace

cudaError_t Upload(const struct pkv_cuda_upload& u) {
  cudaStream_t stream = static_cast<cudaStream_t>(u.stream);
  cudaError_t error = cudaMemcpyAsync(u.device, u.host, u.bytes, cudaMemcpyHostToDevice, stream);
  if (error != cudaSuccess || !u.nr_deltas) return error;
  uint32_t blocks = std::min((u.nr_deltas + kThreads - 1) / kThreads, kMaxBlocks);
  const char* deltas = static_cast<const char*>(u.device) + u.deltas_offset;
  ApplyDeltasKernel<<<blocks, kThreads, 0, stream>>>(
      reinterpret_cast<const struct pkv_cuda_delta*>(deltas), u.nr_deltas, u.table,
      u.table_row_slots);
  return cudaGetLastError();
}

}  // namespace pagedkv
