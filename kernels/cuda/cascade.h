/* SPDX-License-Identifier: MIT */
/*
 * The shared tokens of a cascade on Hopper's matrix units, where many rows of q share them: what
 * decode.h has its tails go on from. See cascade.cuh for how it works.
 */
#ifndef PAGEDKV_CUDA_CASCADE_H
#define PAGEDKV_CUDA_CASCADE_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#include "attention.h"

namespace pagedkv {

// Does Cascade() take the shared tokens of this call? It takes what PrefillTakes() takes, of more
// rows of q than the decode kernel serves in one pass.
bool CascadeTakes(const pkv_cuda_attention& a);

// How many tokens it takes: the shared ones' whole pages.
uint32_t CascadeTokens(const pkv_cuda_attention& a);

// In how many parts it leaves each row's sums, on so many multiprocessors.
uint32_t CascadeParts(const pkv_cuda_attention& a, uint32_t nr_sms);

// Of how many query tokens there must be room for sums, all parts counted, in this call and in all
// smaller ones, whoever takes them.
uint64_t CascadeRoom(const pkv_cuda_attention& a, uint32_t nr_sms);

// Launches one kernel that leaves the sums in `parts`, as DecodeArgs has them.
cudaError_t Cascade(const pkv_cuda_attention& a, uint32_t nr_sms, float* parts);

}  // namespace pagedkv

#endif
