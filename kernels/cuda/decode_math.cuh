/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic of decode attention: what differs between the types of K and V. Scores are
 * S = K Q^T, tokens by rows of q, and the output O^T = V^T P^T, dims by rows of q, so that few rows
 * of q fill the narrow side of a matrix instruction (16 x 8 x 16).
 */
#ifndef PAGEDKV_CUDA_DECODE_MATH_CUH
#define PAGEDKV_CUDA_DECODE_MATH_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "softmax.cuh"

namespace pagedkv {

struct Bf16 {};
struct F16 {};
struct E4m3 {};

template <class T>
constexpr uint32_t kElementBytes = 2;
template <>
constexpr uint32_t kElementBytes<E4m3> = 1;

__device__ __forceinline__ void LoadMatrix4(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

__device__ __forceinline__ void LoadMatrix4Trans(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

__device__ __forceinline__ void LoadMatrix2(uint32_t (&r)[2], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(address)
               : "memory");
}

__device__ __forceinline__ uint32_t SharedLoad(uint32_t address) {
  uint32_t x;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(x) : "r"(address) : "memory");
  return x;
}

// c += a b, fp32 sums; halves are bf16 for T = Bf16 and fp16 else.
template <class T>
__device__ __forceinline__ void Multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                         uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void Multiply<Bf16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                               uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <class T>
__device__ __forceinline__ uint32_t PackHalves(float low, float high) {
  __half2 h = __floats2half2_rn(low, high);
  return reinterpret_cast<uint32_t&>(h);
}

template <>
__device__ __forceinline__ uint32_t PackHalves<Bf16>(float low, float high) {
  __nv_bfloat162 h = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<uint32_t&>(h);
}

// Two e4m3 bytes to two halves.
__device__ __forceinline__ uint32_t Widen(uint32_t pair) {
  uint32_t h;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(h) : "h"(static_cast<uint16_t>(pair)));
  return h;
}

__device__ __forceinline__ uint32_t Bf16ToF16(uint32_t pair) {
  float2 f = __bfloat1622float2(reinterpret_cast<__nv_bfloat162&>(pair));
  return PackHalves<F16>(f.x, f.y);
}

// 2^x of a whole x <= 0, exactly; 0 from 2^-127 on, and for NaN (no tokens yet on both sides).
__device__ __forceinline__ float PowerOfTwo(float x) {
  return __int_as_float((static_cast<int>(fmaxf(x, -127.f)) + 127) << 23);
}

// Where 16-byte unit `unit` of row `row` lies in a stage: tiles of 16 rows, in them 128 bytes of
// each row, swizzled as the copy engine does it, so that no two of eight neighbouring rows have the
// same unit in the same banks. What one line of memory has stays together: copies that split lines
// cost the memory system half as much again.
template <uint32_t kRow>
__device__ __forceinline__ uint32_t Swizzled(uint32_t row, uint32_t unit) {
  static_assert(kRow % 128 == 0, "whole lines");
  return row / 16 * (16 * kRow) + unit / 8 * 2048 + row % 16 * 128 + ((unit % 8) ^ (row % 8)) * 16;
}

// From the address of a row's unit 0 or 1, that of the unit `byte` / 16 further on.
__device__ __forceinline__ uint32_t SwizzledPlus(uint32_t address, uint32_t byte) {
  return (address ^ (byte % 128)) + byte / 128 * 2048;
}

// The scores of kTiles x 16 tokens: s[tile][n] is 16 tokens x 8 rows of q. `k` is where the first
// one's row begins, rows of kRow bytes; rows of q are kQRow bytes apart.
template <class T, int kDim, int kBlocks, int kTiles, uint32_t kRow, uint32_t kQRow>
__device__ __forceinline__ void Scores(float (&s)[kTiles][kBlocks][4], uint32_t k, uint32_t q,
                                       bool q_is_bf16, uint32_t lane) {
#pragma unroll
  for (int h = 0; h < kTiles; h++) {
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) s[h][n][i] = 0;
    }
  }
  constexpr int kBatch = 4;  // loads in flight, in 16 dims
  const uint32_t k_lane = k + Swizzled<kRow>(lane % 16, kElementBytes<T> == 2 ? lane / 16 : 0);
#pragma unroll
  for (int first = 0; first < kDim / 16; first += kBatch) {
    uint32_t a[kBatch][kTiles][4];
#pragma unroll
    for (int i = 0; i < kBatch; i++) {
      const uint32_t at = SwizzledPlus(k_lane, (first + i) * 16 * kElementBytes<T>);
      if (first + i >= kDim / 16) continue;
#pragma unroll
      for (int h = 0; h < kTiles; h++) {
        if constexpr (kElementBytes<T> == 2) {
          LoadMatrix4(a[i][h], at + h * 16 * kRow);
        } else {
          // a lane's four bytes are dims 4 t to 4 t + 3 (t = lane % 4), and q's are taken so too
          uint32_t r[2];
          LoadMatrix2(r, at + h * 16 * kRow);
          a[i][h][0] = Widen(r[0]);
          a[i][h][1] = Widen(r[1]);
          a[i][h][2] = Widen(r[0] >> 16);
          a[i][h][3] = Widen(r[1] >> 16);
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
      uint32_t b[kBatch][2];
#pragma unroll
      for (int i = 0; i < kBatch; i++) {
        if (first + i >= kDim / 16) continue;
        const uint32_t row = q + n * 8 * kQRow + (first + i) * 32;
        if constexpr (kElementBytes<T> == 2) {
          LoadMatrix2(b[i], row + (lane % 8) * kQRow + lane / 8 % 2 * 16);
        } else {
#pragma unroll
          for (int j = 0; j < 2; j++) {
            b[i][j] = SharedLoad(row + lane / 4 * kQRow + lane % 4 * 8 + j * 4);
            if (q_is_bf16) b[i][j] = Bf16ToF16(b[i][j]);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kBatch; i++) {
        if (first + i >= kDim / 16) continue;
#pragma unroll
        for (int h = 0; h < kTiles; h++) Multiply<T>(s[h][n], a[i][h], b[i][0], b[i][1]);
      }
    }
  }
}

// V^T of 32 tokens, the block'th 16 dims: operands of two matrix instructions.
template <class T, uint32_t kRow>
__device__ __forceinline__ void LoadV(uint32_t (&a)[2][4], uint32_t v, uint32_t block,
                                      uint32_t lane) {
  if constexpr (kElementBytes<T> == 2) {
    const uint32_t at = v + Swizzled<kRow>(lane % 8 + lane / 16 * 8, block * 2 + lane / 8 % 2);
    LoadMatrix4Trans(a[0], at);
    LoadMatrix4Trans(a[1], at + 16 * kRow);
  } else {
    // four times 8 tokens; a lane gets dims 2 g and 2 g + 1 of two tokens
    uint32_t r[4];
    LoadMatrix4Trans(r, v + Swizzled<kRow>(lane, block));
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        uint32_t pairs = __byte_perm(r[h * 2 + i], 0, 0x3120);
        a[h][i * 2] = Widen(pairs);
        a[h][i * 2 + 1] = Widen(pairs >> 16);
      }
    }
  }
}

// Zeros for tokens outside [begin, end) of the 32: what is there was never written, or is not ours.
__device__ __forceinline__ void MaskV(uint32_t (&a)[2][4], uint32_t begin, uint32_t end,
                                      uint32_t lane) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const uint32_t token = h * 16 + i * 8 + lane % 4 * 2;
      uint32_t mask = token >= begin && token < end ? 0xffff : 0;
      mask |= token + 1 >= begin && token + 1 < end ? 0xffff0000 : 0;
      a[h][i * 2] &= mask;
      a[h][i * 2 + 1] &= mask;
    }
  }
}

// An operand of ones.
template <class T>
constexpr uint32_t kOnes = 0x3c003c00;
template <>
constexpr uint32_t kOnes<Bf16> = 0x3f803f80;

// Of the rows of V^T P^T, g is dim DimOf<T>(g, 0) and g + 8 DimOf<T>(g, 1).
template <class T>
__device__ __forceinline__ uint32_t DimOf(uint32_t g, uint32_t upper) {
  return kElementBytes<T> == 2 ? g + upper * 8 : g * 2 + upper;
}

}  // namespace pagedkv

#endif
