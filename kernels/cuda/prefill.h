/* SPDX-License-Identifier: MIT */
/*
 * Prefill attention on Hopper's matrix units, see prefill.cuh for how it works.
 */
#ifndef PAGEDKV_CUDA_PREFILL_H
#define PAGEDKV_CUDA_PREFILL_H

#include <cuda_runtime_api.h>
#include <stddef.h>

#include "attention.h"

namespace pagedkv {

// Does Prefill() take this call? It takes head dims 64 and 128, KV of q's type (bf16 or f16) in
// pages of a multiple of 8 tokens, and neither window, soft-cap nor ALiBi, nor invariance.
bool PrefillTakes(const pkv_cuda_attention& a);

// Bytes of workspace: zeroed once, and left zeroed by every call.
size_t PrefillWorkspace(const pkv_cuda_attention& a);

// The kernels for it, which all take the same calls: see prefill.cu. kAny: whichever is fastest.
enum class PrefillKind { kAny, kLong, kShort };

// Launches a call that PrefillTakes() takes. No synchronisation, can be captured into a graph.
cudaError_t Prefill(const pkv_cuda_attention& a, PrefillKind kind = PrefillKind::kAny);

}  // namespace pagedkv

#endif
