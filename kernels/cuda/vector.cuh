/* SPDX-License-Identifier: MIT */
/*
 * Eight elements of any dtype at a time, as floats. The dtype is a launch's, so that the branch is
 * the same for all threads and costs nothing beside the access.
 */
#ifndef KERNELS_CUDA_VECTOR_CUH
#define KERNELS_CUDA_VECTOR_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <pagedkv/cache.h>

#include <cstdint>

namespace pagedkv {

constexpr int kVector = 8;

struct Vector {
  float x[kVector];
};

// Eight elements as they lie in memory, for a kernel that has many loads in flight.
struct RawFloats {
  float4 low, high;

  __device__ __forceinline__ void Load(const void* data, uint64_t at) {
    const float4* p = reinterpret_cast<const float4*>(static_cast<const float*>(data) + at);
    low = p[0], high = p[1];
  }
  __device__ __forceinline__ Vector Floats(uint32_t) const {
    return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
  }
};

// Of BF16 or F16.
struct RawHalves {
  uint4 bits;

  __device__ __forceinline__ void Load(const void* data, uint64_t at) {
    bits = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(data) + at);
  }
  __device__ __forceinline__ Vector Floats(uint32_t dtype) const {
    Vector v;
    uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (dtype == PKV_BF16) {
        v.x[2 * i] = __uint_as_float(words[i] << 16);
        v.x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
      } else {
        float2 f = __half22float2(*reinterpret_cast<const __half2*>(&words[i]));
        v.x[2 * i] = f.x;
        v.x[2 * i + 1] = f.y;
      }
    }
    return v;
  }
};

// Elements [at, at + 8) of data; at is a multiple of 8. Not of E4M3, which is only ever stored.
__device__ __forceinline__ Vector LoadVector(const void* data, uint32_t dtype, uint64_t at) {
  if (dtype == PKV_F32) {
    RawFloats raw;
    raw.Load(data, at);
    return raw.Floats(dtype);
  }
  RawHalves raw;
  raw.Load(data, at);
  return raw.Floats(dtype);
}

// Rounds to nearest even; E4M3 saturates.
__device__ __forceinline__ void StoreVector(void* data, uint32_t dtype, uint64_t at,
                                            const Vector& v) {
  if (dtype == PKV_F32) {
    float4* p = reinterpret_cast<float4*>(static_cast<float*>(data) + at);
    p[0] = make_float4(v.x[0], v.x[1], v.x[2], v.x[3]);
    p[1] = make_float4(v.x[4], v.x[5], v.x[6], v.x[7]);
    return;
  }
  if (dtype == PKV_E4M3) {
    uint32_t words[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      uint32_t low = __nv_cvt_float2_to_fp8x2(make_float2(v.x[4 * i], v.x[4 * i + 1]),
                                              __NV_SATFINITE, __NV_E4M3);
      uint32_t high = __nv_cvt_float2_to_fp8x2(make_float2(v.x[4 * i + 2], v.x[4 * i + 3]),
                                               __NV_SATFINITE, __NV_E4M3);
      words[i] = low | high << 16;
    }
    *reinterpret_cast<uint2*>(static_cast<uint8_t*>(data) + at) = make_uint2(words[0], words[1]);
    return;
  }
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if (dtype == PKV_BF16) {
      __nv_bfloat162 pair = __floats2bfloat162_rn(v.x[2 * i], v.x[2 * i + 1]);
      words[i] = *reinterpret_cast<uint32_t*>(&pair);
    } else {
      __half2 pair = __floats2half2_rn(v.x[2 * i], v.x[2 * i + 1]);
      words[i] = *reinterpret_cast<uint32_t*>(&pair);
    }
  }
  *reinterpret_cast<uint4*>(static_cast<uint16_t*>(data) + at) =
      make_uint4(words[0], words[1], words[2], words[3]);
}

// What a store and a load of it would make of x.
__device__ __forceinline__ float Rounded(float x, uint32_t dtype) {
  if (dtype == PKV_BF16) return __bfloat162float(__float2bfloat16_rn(x));
  if (dtype == PKV_F16) return __half2float(__float2half_rn(x));
  return x;
}

}  // namespace pagedkv

#endif
