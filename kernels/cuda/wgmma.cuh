/* SPDX-License-Identifier: MIT */
/*
 * Hopper's matrix instruction, wgmma: D += A B for a warpgroup's 64 rows of A, with float sums in
 * registers. B lies in shared memory; A there too or in registers.
 *
 * All tiles in shared memory are in the 128-byte swizzle that the copy engine writes: rows of 128
 * bytes (64 elements) in groups of 8 rows (1 KiB, aligned so), in which the 16-byte chunk c of row
 * r is at place c ^ (r % 8).
 *
 * The sums: thread t of a warpgroup holds of row 16 * (t / 32) + t % 32 / 4 the columns
 * 8 * j + 2 * (t % 4) + {0, 1} in d[4 * j + {0, 1}], and of the row 8 below in d[4 * j + {2, 3}].
 * A in registers (16 columns): a[0] those two rows' first, a[1] the row 8 below, a[2] and a[3] the
 * same 8 columns on. So sums of columns 16 * k.. become A by packing pairs.
 */
#ifndef PAGEDKV_CUDA_WGMMA_CUH
#define PAGEDKV_CUDA_WGMMA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

namespace pagedkv {

// A tile in shared memory. group_bytes are from 8 rows to the next 8. Of a tile whose rows run
// along the sum (K-major) atom_bytes is not used; of one whose rows run across it (MN-major) it is
// from 64 columns to the next 64.
struct WgmmaTile {
  uint32_t low, high;

  __device__ __forceinline__ WgmmaTile(uint32_t address, uint32_t atom_bytes, uint32_t group_bytes)
      : low(address >> 4 | atom_bytes >> 4 << 16), high(1u << 30 | group_bytes >> 4) {}

  // The tile of the same form that begins so many bytes further.
  __device__ __forceinline__ WgmmaTile Next(uint32_t bytes) const {
    WgmmaTile next = *this;
    next.low += bytes >> 4;
    return next;
  }

  // The instruction's descriptor of the tile that begins so many bytes further.
  __device__ __forceinline__ uint64_t At(uint32_t bytes) const {
    uint64_t descriptor;
    asm("mov.b64 %0, {%1, %2};" : "=l"(descriptor) : "r"(low + (bytes >> 4)), "r"(high));
    return descriptor;
  }
};

__device__ __forceinline__ void WgmmaFence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void WgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int kPending>
__device__ __forceinline__ void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Keeps the compiler from moving uses of sums over this point.
template <int n>
__device__ __forceinline__ void WgmmaPin(float (&d)[n]) {
#pragma unroll
  for (int i = 0; i < n; i++) asm volatile("" : "+f"(d[i])::"memory");
}

template <int n>
__device__ __forceinline__ void WgmmaPin(uint32_t (&a)[n]) {
#pragma unroll
  for (int i = 0; i < n; i++) asm volatile("" : "+r"(a[i])::"memory");
}

// Wgmma<T, n>: Begin() and Add() multiply A and B from shared memory, both K-major; Begin() begins
// the sums. Registers() takes A from registers and B MN-major, and adds. All are 16 deep.
template <typename T, int n>
struct Wgmma;

#define PAGEDKV_WGMMA_N48(Type, name)                                                              \
  template <>                                                                                      \
  struct Wgmma<Type, 48> {                                                                         \
    static __device__ __forceinline__ void Begin(float (&d)[24], uint64_t a, uint64_t b) {         \
      asm volatile(                                                                                \
          "{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"                                               \
          "wgmma.mma_async.sync.aligned.m64n48k16.f32." name "." name                              \
          " {"                                                                                     \
          "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"                  \
          "%16, %17, %18, %19, %20, %21, %22, %23"                                                 \
          "}, %24, %25, p, 1, 1, 0, 0;\n}\n"                                                       \
          : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3]), "=f"(d[4]), "=f"(d[5]), "=f"(d[6]),    \
            "=f"(d[7]), "=f"(d[8]), "=f"(d[9]), "=f"(d[10]), "=f"(d[11]), "=f"(d[12]),             \
            "=f"(d[13]), "=f"(d[14]), "=f"(d[15]), "=f"(d[16]), "=f"(d[17]), "=f"(d[18]),          \
            "=f"(d[19]), "=f"(d[20]), "=f"(d[21]), "=f"(d[22]), "=f"(d[23])                        \
          : "l"(a), "l"(b));                                                                       \
    }                                                                                              \
    static __device__ __forceinline__ void Add(float (&d)[24], uint64_t a, uint64_t b) {           \
      asm volatile(                                                                                \
          "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                               \
          "wgmma.mma_async.sync.aligned.m64n48k16.f32." name "." name                              \
          " {"                                                                                     \
          "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"                  \
          "%16, %17, %18, %19, %20, %21, %22, %23"                                                 \
          "}, %24, %25, p, 1, 1, 0, 0;\n}\n"                                                       \
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),    \
            "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),             \
            "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),          \
            "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23])                        \
          : "l"(a), "l"(b));                                                                       \
    }                                                                                              \
    static __device__ __forceinline__ void Registers(float (&d)[24], const uint32_t* a,            \
                                                     uint64_t b) {                                 \
      asm volatile("wgmma.mma_async.sync.aligned.m64n48k16.f32." name "." name                     \
                   " {"                                                                            \
                   "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"         \
                   "%16, %17, %18, %19, %20, %21, %22, %23"                                        \
                   "}, {%24, %25, %26, %27}, %28, 1, 1, 1, 1;\n"                                   \
                   : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]),       \
                     "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),     \
                     "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), \
                     "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23])  \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                          \
    }                                                                                              \
  };

PAGEDKV_WGMMA_N48(__nv_bfloat16, "bf16")
PAGEDKV_WGMMA_N48(__half, "f16")
#undef PAGEDKV_WGMMA_N48

#define PAGEDKV_WGMMA_N64(Type, name)                                                           \
  template <>                                                                                   \
  struct Wgmma<Type, 64> {                                                                      \
    static __device__ __forceinline__ void Begin(float (&d)[32], uint64_t a, uint64_t b) {      \
      asm volatile(                                                                             \
          "{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"                                            \
          "wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name                           \
          " {"                                                                                  \
          "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"               \
          "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"      \
          "}, %32, %33, p, 1, 1, 0, 0;\n}\n"                                                    \
          : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3]), "=f"(d[4]), "=f"(d[5]), "=f"(d[6]), \
            "=f"(d[7]), "=f"(d[8]), "=f"(d[9]), "=f"(d[10]), "=f"(d[11]), "=f"(d[12]),          \
            "=f"(d[13]), "=f"(d[14]), "=f"(d[15]), "=f"(d[16]), "=f"(d[17]), "=f"(d[18]),       \
            "=f"(d[19]), "=f"(d[20]), "=f"(d[21]), "=f"(d[22]), "=f"(d[23]), "=f"(d[24]),       \
            "=f"(d[25]), "=f"(d[26]), "=f"(d[27]), "=f"(d[28]), "=f"(d[29]), "=f"(d[30]),       \
            "=f"(d[31])                                                                         \
          : "l"(a), "l"(b));                                                                    \
    }                                                                                           \
    static __device__ __forceinline__ void Add(float (&d)[32], uint64_t a, uint64_t b) {        \
      asm volatile(                                                                             \
          "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                            \
          "wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name                           \
          " {"                                                                                  \
          "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"               \
          "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"      \
          "}, %32, %33, p, 1, 1, 0, 0;\n}\n"                                                    \
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
            "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),          \
            "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),       \
            "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),       \
            "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),       \
            "+f"(d[31])                                                                         \
          : "l"(a), "l"(b));                                                                    \
    }                                                                                           \
    static __device__ __forceinline__ void Registers(float (&d)[32], const uint32_t* a,         \
                                                     uint64_t b) {                              \
      asm volatile(                                                                             \
          "wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name                           \
          " {"                                                                                  \
          "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"               \
          "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"      \
          "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;\n"                                         \
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
            "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),          \
            "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),       \
            "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),       \
            "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),       \
            "+f"(d[31])                                                                         \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                \
    }                                                                                           \
  };

PAGEDKV_WGMMA_N64(__nv_bfloat16, "bf16")
PAGEDKV_WGMMA_N64(__half, "f16")
#undef PAGEDKV_WGMMA_N64

#define PAGEDKV_WGMMA_N96(Type, name)                                                           \
  template <>                                                                                   \
  struct Wgmma<Type, 96> {                                                                      \
    static __device__ __forceinline__ void Begin(float (&d)[48], uint64_t a, uint64_t b) {      \
      asm volatile(                                                                             \
          "{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"                                            \
          "wgmma.mma_async.sync.aligned.m64n96k16.f32." name "." name                           \
          " {"                                                                                  \
          "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"               \
          "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"     \
          "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"      \
          "}, %48, %49, p, 1, 1, 0, 0;\n}\n"                                                    \
          : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3]), "=f"(d[4]), "=f"(d[5]), "=f"(d[6]), \
            "=f"(d[7]), "=f"(d[8]), "=f"(d[9]), "=f"(d[10]), "=f"(d[11]), "=f"(d[12]),          \
            "=f"(d[13]), "=f"(d[14]), "=f"(d[15]), "=f"(d[16]), "=f"(d[17]), "=f"(d[18]),       \
            "=f"(d[19]), "=f"(d[20]), "=f"(d[21]), "=f"(d[22]), "=f"(d[23]), "=f"(d[24]),       \
            "=f"(d[25]), "=f"(d[26]), "=f"(d[27]), "=f"(d[28]), "=f"(d[29]), "=f"(d[30]),       \
            "=f"(d[31]), "=f"(d[32]), "=f"(d[33]), "=f"(d[34]), "=f"(d[35]), "=f"(d[36]),       \
            "=f"(d[37]), "=f"(d[38]), "=f"(d[39]), "=f"(d[40]), "=f"(d[41]), "=f"(d[42]),       \
            "=f"(d[43]), "=f"(d[44]), "=f"(d[45]), "=f"(d[46]), "=f"(d[47])                     \
          : "l"(a), "l"(b));                                                                    \
    }                                                                                           \
    static __device__ __forceinline__ void Add(float (&d)[48], uint64_t a, uint64_t b) {        \
      asm volatile(                                                                             \
          "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                            \
          "wgmma.mma_async.sync.aligned.m64n96k16.f32." name "." name                           \
          " {"                                                                                  \
          "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"               \
          "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"     \
          "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"      \
          "}, %48, %49, p, 1, 1, 0, 0;\n}\n"                                                    \
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
            "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),          \
            "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),       \
            "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),       \
            "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),       \
            "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]),       \
            "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]),       \
            "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])                     \
          : "l"(a), "l"(b));                                                                    \
    }                                                                                           \
    static __device__ __forceinline__ void Registers(float (&d)[48], const uint32_t* a,         \
                                                     uint64_t b) {                              \
      asm volatile(                                                                             \
          "wgmma.mma_async.sync.aligned.m64n96k16.f32." name "." name                           \
          " {"                                                                                  \
          "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"               \
          "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"     \
          "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"      \
          "}, {%48, %49, %50, %51}, %52, 1, 1, 1, 1;\n"                                         \
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
            "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),          \
            "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),       \
            "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),       \
            "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),       \
            "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]),       \
            "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]),       \
            "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])                     \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                \
    }                                                                                           \
  };

PAGEDKV_WGMMA_N96(__nv_bfloat16, "bf16")
PAGEDKV_WGMMA_N96(__half, "f16")
#undef PAGEDKV_WGMMA_N96

#define PAGEDKV_WGMMA_N128(Type, name)                                                          \
  template <>                                                                                   \
  struct Wgmma<Type, 128> {                                                                     \
    static __device__ __forceinline__ void Begin(float (&d)[64], uint64_t a, uint64_t b) {      \
      asm volatile(                                                                             \
          "{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"                                            \
          "wgmma.mma_async.sync.aligned.m64n128k16.f32." name "." name                          \
          " {"                                                                                  \
          "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"               \
          "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"     \
          "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"     \
          "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"      \
          "}, %64, %65, p, 1, 1, 0, 0;\n}\n"                                                    \
          : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3]), "=f"(d[4]), "=f"(d[5]), "=f"(d[6]), \
            "=f"(d[7]), "=f"(d[8]), "=f"(d[9]), "=f"(d[10]), "=f"(d[11]), "=f"(d[12]),          \
            "=f"(d[13]), "=f"(d[14]), "=f"(d[15]), "=f"(d[16]), "=f"(d[17]), "=f"(d[18]),       \
            "=f"(d[19]), "=f"(d[20]), "=f"(d[21]), "=f"(d[22]), "=f"(d[23]), "=f"(d[24]),       \
            "=f"(d[25]), "=f"(d[26]), "=f"(d[27]), "=f"(d[28]), "=f"(d[29]), "=f"(d[30]),       \
            "=f"(d[31]), "=f"(d[32]), "=f"(d[33]), "=f"(d[34]), "=f"(d[35]), "=f"(d[36]),       \
            "=f"(d[37]), "=f"(d[38]), "=f"(d[39]), "=f"(d[40]), "=f"(d[41]), "=f"(d[42]),       \
            "=f"(d[43]), "=f"(d[44]), "=f"(d[45]), "=f"(d[46]), "=f"(d[47]), "=f"(d[48]),       \
            "=f"(d[49]), "=f"(d[50]), "=f"(d[51]), "=f"(d[52]), "=f"(d[53]), "=f"(d[54]),       \
            "=f"(d[55]), "=f"(d[56]), "=f"(d[57]), "=f"(d[58]), "=f"(d[59]), "=f"(d[60]),       \
            "=f"(d[61]), "=f"(d[62]), "=f"(d[63])                                               \
          : "l"(a), "l"(b));                                                                    \
    }                                                                                           \
    static __device__ __forceinline__ void Add(float (&d)[64], uint64_t a, uint64_t b) {        \
      asm volatile(                                                                             \
          "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                            \
          "wgmma.mma_async.sync.aligned.m64n128k16.f32." name "." name                          \
          " {"                                                                                  \
          "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"               \
          "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"     \
          "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"     \
          "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"      \
          "}, %64, %65, p, 1, 1, 0, 0;\n}\n"                                                    \
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
            "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),          \
            "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),       \
            "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),       \
            "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),       \
            "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]),       \
            "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]),       \
            "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),       \
            "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]),       \
            "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]),       \
            "+f"(d[61]), "+f"(d[62]), "+f"(d[63])                                               \
          : "l"(a), "l"(b));                                                                    \
    }                                                                                           \
    static __device__ __forceinline__ void Registers(float (&d)[64], const uint32_t* a,         \
                                                     uint64_t b) {                              \
      asm volatile(                                                                             \
          "wgmma.mma_async.sync.aligned.m64n128k16.f32." name "." name                          \
          " {"                                                                                  \
          "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"               \
          "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"     \
          "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"     \
          "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"      \
          "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;\n"                                         \
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), \
            "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]),          \
            "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]),       \
            "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),       \
            "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]),       \
            "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]),       \
            "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]),       \
            "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),       \
            "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]),       \
            "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]),       \
            "+f"(d[61]), "+f"(d[62]), "+f"(d[63])                                               \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                \
    }                                                                                           \
  };

PAGEDKV_WGMMA_N128(__nv_bfloat16, "bf16")
PAGEDKV_WGMMA_N128(__half, "f16")
#undef PAGEDKV_WGMMA_N128

}  // namespace pagedkv

#endif
