/* SPDX-License-Identifier: MIT */
/* What the launchers of attention share on the host: launches and maps for the copy engine. */
#ifndef PAGEDKV_CUDA_LAUNCH_CUH
#define PAGEDKV_CUDA_LAUNCH_CUH

#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace pagedkv {

// Launches a kernel that waits for the one before it by itself (griddepcontrol.wait), so that its
// blocks may be placed early.
template <class Args>
cudaError_t LaunchEarly(void (*kernel)(Args), uint32_t grid, uint32_t threads, size_t shared_bytes,
                        cudaStream_t stream, const Args& args) {
  cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(shared_bytes));
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(grid);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, args);
}

// The driver's cuTensorMapEncodeTiled(), without linking against the driver. NULL: there is none.
inline PFN_cuTensorMapEncodeTiled_v12000 TensorMapEncoder() {
  static const PFN_cuTensorMapEncodeTiled_v12000 encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                         cudaEnableDefault, &result);
    if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) found = nullptr;
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(found);
  }();
  return encode;
}

// A map of boxes whose inner rows are of 128 bytes, swizzled. False: the driver takes no such map.
inline bool MapBoxes(CUtensorMap* map, CUtensorMapDataType type, uint32_t rank, const void* base,
                     const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box) {
  const cuuint32_t steps[5] = {1, 1, 1, 1, 1};
  const PFN_cuTensorMapEncodeTiled_v12000 encode = TensorMapEncoder();
  return encode != nullptr &&
         encode(map, type, rank, const_cast<void*>(base), sizes, strides, box, steps,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace pagedkv

#endif
