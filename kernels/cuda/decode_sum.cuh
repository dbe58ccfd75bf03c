/* SPDX-License-Identifier: MIT */
/*
 * Sums that one multiprocessor leaves in memory for another. They tell by themselves that they are
 * there: the memory is zero before and after, and a float lies in it as the complement of its bits.
 * None that is computed has only ones. So neither side needs a counter or a fence.
 */
#ifndef PAGEDKV_CUDA_DECODE_SUM_CUH
#define PAGEDKV_CUDA_DECODE_SUM_CUH

#include <cuda_runtime.h>

#include <cstdint>

namespace pagedkv {

__device__ __forceinline__ uint32_t Veil(float x) { return max(~__float_as_uint(x), 1u); }
__device__ __forceinline__ float Unveil(uint32_t x) { return __uint_as_float(~x); }

__device__ __forceinline__ void LeaveSum(float4* at, float4 x) {
  asm volatile("st.relaxed.gpu.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(Veil(x.x)),
               "r"(Veil(x.y)), "r"(Veil(x.z)), "r"(Veil(x.w))
               : "memory");
}

__device__ __forceinline__ void LeaveSum(float2* at, float2 x) {
  asm volatile("st.relaxed.gpu.global.v2.b32 [%0], {%1, %2};" ::"l"(at), "r"(Veil(x.x)),
               "r"(Veil(x.y))
               : "memory");
}

// False: it is not there yet, or not all of it.
__device__ __forceinline__ bool TakeSum(const float4* at, float4* x) {
  uint32_t v[4];
  asm volatile("ld.relaxed.gpu.global.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "l"(at)
               : "memory");
  *x = {Unveil(v[0]), Unveil(v[1]), Unveil(v[2]), Unveil(v[3])};
  return v[0] != 0 && v[1] != 0 && v[2] != 0 && v[3] != 0;
}

__device__ __forceinline__ bool TakeSum(const float2* at, float2* x) {
  uint32_t v[2];
  asm volatile("ld.relaxed.gpu.global.v2.b32 {%0, %1}, [%2];"
               : "=r"(v[0]), "=r"(v[1])
               : "l"(at)
               : "memory");
  *x = {Unveil(v[0]), Unveil(v[1])};
  return v[0] != 0 && v[1] != 0;
}

}  // namespace pagedkv

#endif
