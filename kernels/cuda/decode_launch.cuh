/* SPDX-License-Identifier: MIT */
/* Launches the instances of the decode kernel for one type of K and V: one source file a type. */
#ifndef PAGEDKV_CUDA_DECODE_LAUNCH_CUH
#define PAGEDKV_CUDA_DECODE_LAUNCH_CUH

#include "decode_kernel.cuh"
#include "launch.cuh"

namespace pagedkv {

template <class T, int kDim, int kBlocks>
cudaError_t LaunchDecode(const DecodeArgs& a, uint32_t grid, cudaStream_t stream) {
  using Sizes = DecodeShape<T, kDim, kBlocks>;
  auto* kernel = DecodeKernel<T, kDim, kBlocks>;
  constexpr size_t kShared = sizeof(DecodeMemory<T, kDim, kBlocks>) * Sizes::kGroups;
  return LaunchEarly(kernel, grid, Sizes::kThreads, kShared, stream, a);
}

// How many rows of q, in blocks of 8, one pass over K and V serves: all of them where it can.
inline uint32_t DecodeBlocks(uint32_t rows) { return rows <= 8 ? 1 : rows <= 16 ? 2 : 4; }

template <class T>
cudaError_t LaunchDecodeOf(uint32_t head_dim, uint32_t blocks, const DecodeArgs& a, uint32_t grid,
                           cudaStream_t stream) {
  switch (head_dim * 16 + blocks) {
#define PAGEDKV_DECODE_CASE(dim, nr) \
  case dim * 16 + nr:                \
    return LaunchDecode<T, dim, nr>(a, grid, stream)
#define PAGEDKV_DECODE_DIM(dim) \
  PAGEDKV_DECODE_CASE(dim, 1);  \
  PAGEDKV_DECODE_CASE(dim, 2);  \
  PAGEDKV_DECODE_CASE(dim, 4)
    PAGEDKV_DECODE_DIM(128);
    PAGEDKV_DECODE_DIM(64);
    PAGEDKV_DECODE_DIM(80);
    PAGEDKV_DECODE_DIM(96);
    PAGEDKV_DECODE_DIM(256);
#undef PAGEDKV_DECODE_DIM
#undef PAGEDKV_DECODE_CASE
    default:
      return cudaErrorNotSupported;
  }
}

extern template cudaError_t LaunchDecodeOf<Bf16>(uint32_t, uint32_t, const DecodeArgs&, uint32_t,
                                                 cudaStream_t);
extern template cudaError_t LaunchDecodeOf<F16>(uint32_t, uint32_t, const DecodeArgs&, uint32_t,
                                                cudaStream_t);
extern template cudaError_t LaunchDecodeOf<E4m3>(uint32_t, uint32_t, const DecodeArgs&, uint32_t,
                                                 cudaStream_t);

}  // namespace pagedkv

#endif
