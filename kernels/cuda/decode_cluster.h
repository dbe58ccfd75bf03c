/* SPDX-License-Identifier: MIT */
/* Decode attention of few rows, by clusters of thread blocks: decode_cluster.cuh. */
#ifndef PAGEDKV_CUDA_DECODE_CLUSTER_H
#define PAGEDKV_CUDA_DECODE_CLUSTER_H

#include "attention.h"
#include "decode_plan.cuh"

namespace pagedkv {

// May the call go here? Calls that the stream kernel takes too, with few rows that are not long,
// where the device has room for clusters over most of it.
bool ClusterTakes(const pkv_cuda_attention& a, const DecodeArgs& d);

// Bytes of sums in the workspace, for any call. They are zero between calls.
size_t ClusterBytes(uint32_t grid);

// Launches one kernel.
cudaError_t Cluster(const pkv_cuda_attention& a, const DecodeArgs& d, float* sums);

}  // namespace pagedkv

#endif
