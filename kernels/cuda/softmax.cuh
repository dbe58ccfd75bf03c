/* SPDX-License-Identifier: MIT */
/* Softmax in powers of two: what attention and sampling compute weights and log-sum-exp with. */
#ifndef PAGEDKV_CUDA_SOFTMAX_CUH
#define PAGEDKV_CUDA_SOFTMAX_CUH

#include <cmath>

namespace pagedkv {

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLn2 = 0.69314718055994531f;

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// The natural log-sum-exp of scores whose weights, 2^(score - max), add up to `weight`.
__device__ __forceinline__ float LogSumExp(float max, float weight) {
  return weight > 0 ? (max + log2f(weight)) * kLn2 : -INFINITY;
}

}  // namespace pagedkv

#endif
