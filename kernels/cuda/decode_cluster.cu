// SPDX-License-Identifier: MIT
#include <algorithm>
#include <atomic>

#include "decode_cluster.cuh"
#include "decode_cluster.h"
#include "decode_stream.h"

namespace pagedkv {
namespace {

constexpr uint32_t kLogBlocks = 3;   // of a cluster
constexpr uint32_t kLeastTiles = 2;  // of a warp
constexpr uint32_t kMostTiles = 64;  // more, and the memory is all that counts
constexpr uint32_t kWarpsOfRow = 4;  // with fewer, shares are too unequal
constexpr int kMaxDevices = 64;

struct Instance {
  void (*kernel)(ClusterArgs);
  size_t shared;
  uint32_t nr;  // below kInstances
};

template <class T, int kDim, int kBlocks>
Instance InstanceOf(uint32_t nr_seqs, uint32_t nr) {
  constexpr size_t kShared = sizeof(ClusterMemory<T, kDim, kBlocks>);
  static_assert(kShared <= 232448, "shared memory");
  // most calls have few sequences, and a shorter way to their rows
  if (nr_seqs <= 32) return {ClusterKernel<T, kDim, kBlocks, 1>, kShared, nr};
  return {ClusterKernel<T, kDim, kBlocks, kClusterMostBatches>, kShared, nr};
}

constexpr uint32_t kInstances = 10;  // with the same room for clusters

template <class T>
Instance InstanceOf(uint32_t head_dim, uint32_t group, uint32_t nr_seqs, uint32_t nr) {
  if constexpr (kElementBytes<T> == 2) {
    if (head_dim == 64) {
      return group <= 8 ? InstanceOf<T, 64, 1>(nr_seqs, nr) : InstanceOf<T, 64, 2>(nr_seqs, nr + 1);
    }
  }
  return group <= 8 ? InstanceOf<T, 128, 1>(nr_seqs, nr + 2)
                    : InstanceOf<T, 128, 2>(nr_seqs, nr + 3);
}

Instance InstanceOf(const pkv_cuda_attention& a) {
  const uint32_t dim = a.layout->head_dim, group = a.nr_q_heads / a.layout->nr_kv_heads;
  switch (a.layout->dtype) {
    case PKV_BF16:
      return InstanceOf<Bf16>(dim, group, a.nr_seqs, 0);
    case PKV_F16:
      return InstanceOf<F16>(dim, group, a.nr_seqs, 4);
    default:
      return InstanceOf<E4m3>(dim, group, a.nr_seqs, 6);
  }
}

// How many clusters the device has room for at a time; 0: it has none for most of it.
uint32_t AskClusters(const Instance& i, int device) {
  int sms = 0, nr = 0;
  cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
  const EarlyLaunch launch(i.kernel, 1u << kLogBlocks, kClusterThreads, i.shared, nullptr,
                           1u << kLogBlocks);
  if (launch.Clusters(i.kernel, &nr) != cudaSuccess) {
    cudaGetLastError();  // nobody else's error
    return 0;
  }
  const int clusters = std::min(nr, sms >> kLogBlocks);
  return (clusters << kLogBlocks) * 4 >= sms * 3 ? clusters : 0;
}

uint32_t NrClusters(const Instance& i) {
  static std::atomic<uint32_t> known[kMaxDevices][kInstances];  // 1 + the answer
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess || device >= kMaxDevices) return 0;
  std::atomic<uint32_t>& answer = known[device][i.nr];
  if (answer == 0) answer = 1 + AskClusters(i, device);
  return answer - 1;
}

uint64_t MostTiles(const pkv_cuda_attention& a) {
  return std::max<uint64_t>(1, (uint64_t{a.max_context_tokens} + kTile - 1) / kTile);
}

}  // namespace

bool ClusterTakes(const pkv_cuda_attention& a, const DecodeArgs& d) {
  const uint64_t rows = uint64_t{a.nr_seqs} * a.layout->nr_kv_heads, tiles = MostTiles(a);
  // before the device is asked
  if (a.nr_seqs > kClusterMostBatches * 32 || tiles >= 1 << 22 || d.parts != nullptr ||
      !StreamTakes(a, d))
    return false;
  const uint64_t warps = uint64_t{NrClusters(InstanceOf(a))} * kClusterWarps << kLogBlocks;
  return rows * kWarpsOfRow <= warps && rows * tiles <= warps * kMostTiles;
}

size_t ClusterRecordBytes(const pkv_cuda_attention& a, uint32_t grid) {
  const uint32_t units =
      a.nr_q_heads / a.layout->nr_kv_heads * (a.layout->head_dim / 4) / kClusterSlices;
  return (size_t{grid} >> kLogBlocks) * 2 * kClusterSlices * ClusterRecordFloats(units) *
         sizeof(float);
}

cudaError_t Cluster(const pkv_cuda_attention& a, const DecodeArgs& d) {
  const Instance i = InstanceOf(a);
  const uint64_t rows = uint64_t{a.nr_seqs} * a.layout->nr_kv_heads;
  const uint64_t most = rows * ((MostTiles(a) + kLeastTiles - 1) / kLeastTiles);
  constexpr uint32_t kWarps = kClusterWarps << kLogBlocks;
  const uint32_t clusters =
      static_cast<uint32_t>(std::min<uint64_t>(NrClusters(i), (most + kWarps - 1) / kWarps));
  ClusterArgs c = {};
  c.a = d;
  c.nr_warps = clusters * kWarps;
  c.log_blocks = kLogBlocks;
  c.least = kLeastTiles;
  c.ahead = d.table_rows == nullptr;
  c.max_context = a.max_context_tokens;
  c.by_warps = FastDiv(c.nr_warps);
  const EarlyLaunch launch(i.kernel, clusters << kLogBlocks, kClusterThreads, i.shared,
                           static_cast<cudaStream_t>(a.stream), 1u << kLogBlocks);
  return launch.Launch(i.kernel, c);
}

}  // namespace pagedkv
