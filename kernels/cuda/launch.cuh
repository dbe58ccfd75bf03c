/* SPDX-License-Identifier: MIT */
/* What the launchers of attention share on the host: launches and maps for the copy engine. */
#ifndef PAGEDKV_CUDA_LAUNCH_CUH
#define PAGEDKV_CUDA_LAUNCH_CUH

#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace pagedkv {

// A launch that may be placed before the kernel before it has ended, which it waits for by itself
// (griddepcontrol.wait): of clusters of `cluster` blocks, if more than 1.
class EarlyLaunch {
 public:
  template <class... Args>
  EarlyLaunch(void (*kernel)(Args...), uint32_t grid, uint32_t threads, size_t shared_bytes,
              cudaStream_t stream, uint32_t cluster = 1) {
    error_ = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shared_bytes));
    attributes_[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes_[0].val.programmaticStreamSerializationAllowed = 1;
    attributes_[1].id = cudaLaunchAttributeClusterDimension;
    attributes_[1].val.clusterDim.x = cluster;
    attributes_[1].val.clusterDim.y = attributes_[1].val.clusterDim.z = 1;
    config_.gridDim = dim3(grid);
    config_.blockDim = dim3(threads);
    config_.dynamicSmemBytes = shared_bytes;
    config_.stream = stream;
    config_.attrs = attributes_;
    config_.numAttrs = cluster > 1 ? 2 : 1;
  }
  EarlyLaunch(const EarlyLaunch&) = delete;
  EarlyLaunch& operator=(const EarlyLaunch&) = delete;

  template <class... Args>
  cudaError_t Launch(void (*kernel)(Args...), const Args&... args) const {
    return error_ != cudaSuccess ? error_ : cudaLaunchKernelEx(&config_, kernel, args...);
  }

  // How many clusters the device has room for at a time.
  template <class... Args>
  cudaError_t Clusters(void (*kernel)(Args...), int* nr) const {
    return error_ != cudaSuccess ? error_ : cudaOccupancyMaxActiveClusters(nr, kernel, &config_);
  }

 private:
  cudaError_t error_;
  cudaLaunchAttribute attributes_[2] = {};
  cudaLaunchConfig_t config_ = {};
};

template <class... Args>
cudaError_t LaunchEarly(void (*kernel)(Args...), uint32_t grid, uint32_t threads,
                        size_t shared_bytes, cudaStream_t stream, const Args&... args) {
  return EarlyLaunch(kernel, grid, threads, shared_bytes, stream).Launch(kernel, args...);
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
