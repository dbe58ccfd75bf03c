// SPDX-License-Identifier: MIT
#include <algorithm>
#include <atomic>

#include "decode_cluster.cuh"
#include "decode_cluster.h"
#include "decode_stream.h"

namespace pagedkv {
namespace {

constexpr uint32_t kLogBlocks = 1;     // of a cluster: all multiprocessors have room for such
constexpr uint32_t kFewLogBlocks = 3;  // for fewer rows than kFewRows: less to add up in memory
constexpr uint32_t kFewRows = 8;
// Of a warp. With more, memory is all that counts. Of several sequences this kernel is better by a
// few percent where lengths are alike, and the stream kernel by a fifth where they are not.
constexpr uint32_t kMostTiles = 8, kMostTilesOfOne = 128;
constexpr uint32_t kMaxUnits = 16 * 128 / 4 / kClusterSlices;  // of a slice
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
  if (nr_seqs == 1) return {ClusterKernel<T, kDim, kBlocks, 0>, kShared, nr};
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
uint32_t AskClusters(const Instance& i, int device, uint32_t log_blocks) {
  int sms = 0, nr = 0;
  cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
  const EarlyLaunch launch(i.kernel, 1u << log_blocks, kClusterThreads, i.shared, nullptr,
                           1u << log_blocks);
  if (launch.Clusters(i.kernel, &nr) != cudaSuccess) {
    cudaGetLastError();  // nobody else's error
    return 0;
  }
  const int clusters = std::min(nr, sms >> log_blocks);
  return (clusters << log_blocks) * 4 >= sms * 3 ? clusters : 0;
}

uint32_t NrClusters(const Instance& i, uint32_t log_blocks) {
  static std::atomic<uint32_t> known[kMaxDevices][kInstances][2];  // 1 + the answer
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess || device >= kMaxDevices) return 0;
  std::atomic<uint32_t>& answer = known[device][i.nr][log_blocks == kLogBlocks];
  if (answer == 0) answer = 1 + AskClusters(i, device, log_blocks);
  return answer - 1;
}

struct Room {
  uint32_t log_blocks, clusters;
};

Room RoomOf(const Instance& i, uint64_t rows) {
  if (rows < kFewRows) {
    const uint32_t clusters = NrClusters(i, kFewLogBlocks);
    if (clusters != 0) return {kFewLogBlocks, clusters};
  }
  return {kLogBlocks, NrClusters(i, kLogBlocks)};
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
  const Room room = RoomOf(InstanceOf(a), rows);
  const uint64_t blocks = uint64_t{room.clusters} << room.log_blocks;
  const uint64_t warps = blocks * kClusterWarps;
  if (rows * tiles > warps * (a.nr_seqs == 1 ? kMostTilesOfOne : kMostTiles)) return false;
  if (a.nr_seqs == 1) return rows <= blocks;
  // rows of one length leave few warps without work; rows of others can be given several
  return rows * 2 <= warps && warps / rows * rows * 16 >= warps * 15;
}

size_t ClusterBytes(uint32_t grid) {
  return size_t{grid >> kLogBlocks} * kClusterSlices * ClusterSumFloats(kMaxUnits) * sizeof(float);
}

cudaError_t Cluster(const pkv_cuda_attention& a, const DecodeArgs& d, float* sums) {
  const Instance i = InstanceOf(a);
  const uint64_t rows = uint64_t{a.nr_seqs} * a.layout->nr_kv_heads;
  const Room room = RoomOf(i, rows);
  const uint64_t blocks = uint64_t{room.clusters} << room.log_blocks;
  // as many as have tiles
  uint64_t row_blocks = (MostTiles(a) + kClusterWarps - 1) / kClusterWarps;
  uint64_t most = (rows * MostTiles(a) + kClusterWarps - 1) / kClusterWarps;
  if (a.nr_seqs == 1) {
    row_blocks = std::min(row_blocks, blocks / rows);
    most = rows * row_blocks;
  }
  const uint32_t nr = static_cast<uint32_t>(std::min(blocks, most));
  const uint32_t cluster = 1u << room.log_blocks, grid = (nr + cluster - 1) / cluster * cluster;
  ClusterArgs c = {};
  c.a = d;
  c.sums = sums;
  c.nr_warps = grid * kClusterWarps;
  c.log_blocks = room.log_blocks;
  c.max_context = a.max_context_tokens;
  c.by_warps = FastDiv(c.nr_warps);
  c.by_row_blocks = FastDiv(static_cast<uint32_t>(row_blocks));
  const EarlyLaunch launch(i.kernel, grid, kClusterThreads, i.shared,
                           static_cast<cudaStream_t>(a.stream), cluster);
  return launch.Launch(i.kernel, c);
}

}  // namespace pagedkv
