// SPDX-License-Identifier: MIT
#include "decode_launch.cuh"

namespace pagedkv {

template cudaError_t LaunchDecodeOf<F16>(uint32_t, uint32_t, const DecodeArgs&, uint32_t,
                                         cudaStream_t);

}  // namespace pagedkv
