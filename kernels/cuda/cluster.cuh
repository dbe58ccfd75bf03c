/* SPDX-License-Identifier: MIT */
/*
 * Clusters of thread blocks: meeting, and stores to the shared memory of another block that tell a
 * barrier there of their bytes. A block must not end before the stores that come to it.
 */
#ifndef PAGEDKV_CUDA_CLUSTER_CUH
#define PAGEDKV_CUDA_CLUSTER_CUH

#include <cstdint>

#include "barrier.cuh"

namespace pagedkv {

__device__ __forceinline__ void ClusterArrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

__device__ __forceinline__ void ClusterWait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// The place in block `rank` of the cluster that `address` is in this block.
__device__ __forceinline__ uint32_t ClusterAddress(uint32_t address, uint32_t rank) {
  uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  return there;
}

__device__ __forceinline__ void ClusterStore(uint32_t to, float4 x, uint32_t barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, "
      "[%5];" ::"r"(to),
      "r"(__float_as_uint(x.x)), "r"(__float_as_uint(x.y)), "r"(__float_as_uint(x.z)),
      "r"(__float_as_uint(x.w)), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ void ClusterStore(uint32_t to, float2 x, uint32_t barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, "
      "[%3];" ::"r"(to),
      "r"(__float_as_uint(x.x)), "r"(__float_as_uint(x.y)), "r"(barrier)
      : "memory");
}

// Has a phase of a barrier of this block ended, and with it other blocks' stores?
__device__ __forceinline__ bool ClusterBarrierTryWait(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
      "selp.b32 %0, 1, 0, p;\n"
      "}\n"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}

__device__ __forceinline__ void ClusterBarrierWait(uint32_t barrier, uint32_t parity) {
  WaitUntil([&] { return ClusterBarrierTryWait(barrier, parity); });
}

}  // namespace pagedkv

#endif
