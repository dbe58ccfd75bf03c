/* SPDX-License-Identifier: MIT */
/*
 * Barriers in shared memory (mbarriers) and the named barriers of a block, for kernels whose warps
 * have different roles.
 *
 * An mbarrier's phase ends when the expected arrivals and the expected bytes have come; waiters
 * name the parity of the phase whose end they wait for: 0 for the first. Waiting for parity 1 of a
 * new barrier returns at once, which is how a producer finds all stages of a ring empty at first.
 */
#ifndef PAGEDKV_CUDA_BARRIER_CUH
#define PAGEDKV_CUDA_BARRIER_CUH

#include <stdint.h>

namespace pagedkv {

__device__ __forceinline__ uint32_t SharedAddress(const void *p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void BarrierInit(uint64_t *barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)),
               "r"(arrivals)
               : "memory");
}

// Makes the init of barriers visible to the copy engine; a __syncthreads() must follow.
__device__ __forceinline__ void BarrierInitFence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void BarrierArrive(uint64_t *barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier))
               : "memory");
}

__device__ __forceinline__ void BarrierArriveExpect(uint64_t *barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                   SharedAddress(barrier)),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ bool BarrierTryWait(uint64_t *barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.b32 %0, 1, 0, p;\n"
      "}\n"
      : "=r"(done)
      : "r"(SharedAddress(barrier)), "r"(parity)
      : "memory");
  return done != 0;
}

// Waits until done() is true.
template <class Done>
__device__ __forceinline__ void WaitUntil(Done done) {
#ifdef PAGEDKV_BOUND_WAITS
  // For bringing kernels up: a wait that nothing ends becomes a wrong result instead of a hang.
  for (uint32_t tries = 1 << 20; !done() && tries > 0; tries--) {
  }
#else
  while (!done()) {
  }
#endif
}

__device__ __forceinline__ void BarrierWait(uint64_t *barrier, uint32_t parity) {
  WaitUntil([&] { return BarrierTryWait(barrier, parity); });
}

// Named barriers: id 0 is __syncthreads()'s.
__device__ __forceinline__ void NamedBarrierSync(uint32_t id, uint32_t threads) {
  asm volatile("barrier.cta.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void NamedBarrierArrive(uint32_t id, uint32_t threads) {
  asm volatile("barrier.cta.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Orders this thread's ordinary accesses to shared memory with later ones of the tensor cores and
// of the copy engine.
__device__ __forceinline__ void AsyncProxyFence() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace pagedkv

#endif
