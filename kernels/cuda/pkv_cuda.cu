// SPDX-License-Identifier: MIT
// The C interface: checks of arguments, and errno. cudaError_t stops here.
#include <pagedkv/pkv_cuda.h>

#include <cuda_runtime.h>

#include <cerrno>

namespace {

int ErrnoOf(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return 0;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return -ENODEV;
    case cudaErrorMemoryAllocation:
      return -ENOMEM;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
      return -EINVAL;
    default:
      return -EIO;
  }
}

}  // namespace

int pkv_cuda_device_check(void) {
  int device, major;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return ErrnoOf(error);
  }
  return major == 9 ? 0 : -ENODEV;
}
