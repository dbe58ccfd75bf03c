/* SPDX-License-Identifier: MIT */
/*
 * Roofs to hold kernels against: reading, and copying, with 16-byte accesses, eight in flight a
 * thread, and nothing else.
 */
#ifndef KERNELS_CUDA_ROOF_CUH
#define KERNELS_CUDA_ROOF_CUH

#include <cuda_runtime.h>

#include <cstdint>

namespace pagedkv {

constexpr int kRoofThreads = 512;
constexpr int kRoofUnroll = 8;

// Blocks of kRoofThreads for `bytes`: one pass each where that fills the device less than `waves`
// times.
inline int RoofBlocks(size_t bytes, int waves = 2) {
  int device = 0, sms = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
  size_t all = (bytes / 16 + kRoofThreads * kRoofUnroll - 1) / (kRoofThreads * kRoofUnroll);
  size_t most = static_cast<size_t>(sms) * waves * (2048 / kRoofThreads);
  return static_cast<int>(all < most ? (all ? all : 1) : most);
}

// Reads nr 16-byte words. `sink` is never written: the xor of what was read just might be `never`.
static __global__ void __launch_bounds__(kRoofThreads)
    ReadRoofKernel(const uint4* __restrict__ data, size_t nr, uint32_t never, uint32_t* sink) {
  size_t step = static_cast<size_t>(gridDim.x) * kRoofThreads * kRoofUnroll;
  uint32_t mix = 0;
  for (size_t at = static_cast<size_t>(blockIdx.x) * kRoofThreads * kRoofUnroll + threadIdx.x;
       at < nr; at += step) {
    uint4 v[kRoofUnroll];
#pragma unroll
    for (int i = 0; i < kRoofUnroll; i++) {
      size_t j = at + static_cast<size_t>(i) * kRoofThreads;
      v[i] = j < nr ? __ldcs(data + j) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < kRoofUnroll; i++) {
      mix ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
    }
  }
  if (mix == never) *sink = mix;
}

inline cudaError_t ReadRoof(const void* data, size_t bytes, uint32_t* sink, cudaStream_t stream) {
  ReadRoofKernel<<<RoofBlocks(bytes), kRoofThreads, 0, stream>>>(static_cast<const uint4*>(data),
                                                                 bytes / 16, 0x9e3779b9u, sink);
  return cudaGetLastError();
}

// Copies nr 16-byte words.
static __global__ void __launch_bounds__(kRoofThreads)
    CopyRoofKernel(uint4* __restrict__ dst, const uint4* __restrict__ src, size_t nr) {
  size_t step = static_cast<size_t>(gridDim.x) * kRoofThreads * kRoofUnroll;
  for (size_t at = static_cast<size_t>(blockIdx.x) * kRoofThreads * kRoofUnroll + threadIdx.x;
       at < nr; at += step) {
    uint4 v[kRoofUnroll];
#pragma unroll
    for (int i = 0; i < kRoofUnroll; i++) {
      size_t j = at + static_cast<size_t>(i) * kRoofThreads;
      if (j < nr) v[i] = __ldcs(src + j);
    }
#pragma unroll
    for (int i = 0; i < kRoofUnroll; i++) {
      size_t j = at + static_cast<size_t>(i) * kRoofThreads;
      if (j < nr) __stcs(dst + j, v[i]);
    }
  }
}

inline cudaError_t CopyRoof(void* dst, const void* src, size_t bytes, cudaStream_t stream) {
  CopyRoofKernel<<<RoofBlocks(bytes), kRoofThreads, 0, stream>>>(
      static_cast<uint4*>(dst), static_cast<const uint4*>(src), bytes / 16);
  return cudaGetLastError();
}

}  // namespace pagedkv

#endif
