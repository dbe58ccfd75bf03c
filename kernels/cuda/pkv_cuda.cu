// SPDX-License-Identifier: MIT
// The C interface: checks of arguments, and errno. cudaError_t stops here.
#include <cuda_runtime.h>
#include <pagedkv/pkv_cuda.h>

#include <cerrno>
#include <cmath>
#include <cstdint>

#include "cache.cuh"
#include "decode.h"
#include "pages.cuh"
#include "prefill.h"
#include "rowwise.cuh"
#include "sample.cuh"
#include "upload.cuh"

namespace {

int ErrnoOf(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return 0;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return -ENODEV;
    case cudaErrorMemoryAllocation:
      return -ENOMEM;
    case cudaErrorNotSupported:
      return -EOPNOTSUPP;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
      return -EINVAL;
    default:
      return -EIO;
  }
}

bool Aligned(const void* p, size_t to) { return reinterpret_cast<uintptr_t>(p) % to == 0; }

// Of rows of activations.
bool IsFloat(uint32_t dtype) { return dtype == PKV_F32 || dtype == PKV_BF16 || dtype == PKV_F16; }

// A tensor whose rows of nr_elements threads access 16 bytes at a time.
bool IsRows(const void* data, uint32_t dtype, uint64_t row_elements, uint64_t nr_elements) {
  return data && Aligned(data, 16) && IsFloat(dtype) && row_elements % 8 == 0 &&
         row_elements >= nr_elements;
}

// Do all rows of head_dim begin at multiples of `align` bytes?
int CheckStrides(const struct pkv_kv_layout& l, uint64_t align) {
  for (uint64_t stride : {l.page_stride_bytes, l.layer_stride_bytes, l.kv_stride_bytes,
                          l.head_stride_bytes, l.token_stride_bytes})
    if (stride % align) return -EOPNOTSUPP;
  return 0;
}

// Are the block tables and what says how long each sequence is there?
template <class T>
bool HasBlockTables(const T& t) {
  return t.query_start && t.context_tokens && t.table && t.table_row_slots;
}

bool SlotsInside(const uint32_t* slots, uint32_t nr, uint32_t nr_slots) {
  if (!slots) return nr <= nr_slots;
  for (uint32_t i = 0; i < nr; i++)
    if (slots[i] >= nr_slots) return false;
  return true;
}

// More query tokens of a sequence than this are a prefill's.
constexpr uint32_t kDecodeTokens = 8;

// Prefill's workspace comes first and is of one size for a layout, so that neither kernel finds the
// other's leavings where it wants zeros.
uint64_t PrefillBytes(const struct pkv_cuda_attention& a) {
  return (pagedkv::PrefillWorkspace(a) + 255) / 256 * 256;
}

bool IsPrefill(const struct pkv_cuda_attention& a) {
  return a.max_query_tokens > kDecodeTokens && pagedkv::PrefillTakes(a);
}

// All but the pointers.
int CheckSizes(const struct pkv_cuda_attention* a) {
  if (!a || a->size != sizeof(*a) || (a->flags & ~PKV_CUDA_INVARIANT)) return -EINVAL;
  const struct pkv_kv_layout* l = a->layout;
  if (pkv_kv_layout_check(l) || a->layer >= l->nr_layers || !a->nr_q_heads ||
      a->nr_q_heads % l->nr_kv_heads || a->nr_q_heads / l->nr_kv_heads > PKV_MAX_GROUP ||
      a->q_row_elements % 8 || a->q_row_elements < uint64_t{a->nr_q_heads} * l->head_dim ||
      !std::isfinite(a->scale) || !(a->softcap >= 0) || !std::isfinite(a->softcap) ||
      (a->q_dtype != PKV_BF16 && a->q_dtype != PKV_F16))
    return -EINVAL;
  if (l->dtype == PKV_F32 || (l->dtype == PKV_F16 && a->q_dtype != PKV_F16)) return -EOPNOTSUPP;
  return CheckStrides(*l, 16);
}

uint64_t WorkspaceBytes(const struct pkv_cuda_attention& a) {
  return PrefillBytes(a) + pagedkv::DecodeWorkspace(a);
}

}  // namespace

uint64_t pkv_cuda_attention_workspace(const struct pkv_cuda_attention* a) {
  return CheckSizes(a) ? 0 : WorkspaceBytes(*a);
}

int pkv_cuda_attention(const struct pkv_cuda_attention* a) {
  int err = CheckSizes(a);
  if (err) return err;
  if (!a->nr_seqs || !a->nr_tokens) return 0;
  if (!a->base || !a->q || !a->out || !HasBlockTables(*a) || !a->workspace ||
      !Aligned(a->base, 16) || !Aligned(a->q, 16) || !Aligned(a->out, 16) ||
      !Aligned(a->workspace, 256) || a->workspace_bytes < WorkspaceBytes(*a))
    return -EINVAL;
  struct pkv_cuda_attention part = *a;
  if (IsPrefill(*a)) return ErrnoOf(pagedkv::Prefill(part));
  part.workspace = static_cast<char*>(a->workspace) + PrefillBytes(*a);
  part.workspace_bytes -= PrefillBytes(*a);
  return ErrnoOf(pagedkv::Decode(part));
}

int pkv_cuda_device_check(void) {
  int device, major;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return ErrnoOf(error);
  }
  return major == 9 ? 0 : -ENODEV;
}

int pkv_cuda_cache_write(const struct pkv_cuda_cache_write* w) {
  if (!w || w->size != sizeof(*w) || w->flags) return -EINVAL;
  const struct pkv_kv_layout* l = w->layout;
  if (pkv_kv_layout_check(l) || !w->base || !Aligned(w->base, 16)) return -EINVAL;
  int err = CheckStrides(*l, l->dtype == PKV_E4M3 ? 8 : 16);
  if (err) return err;
  if (w->layer >= l->nr_layers || w->rotary_dim % 16 || w->rotary_dim > l->head_dim ||
      (w->rotary_dim && (!w->rotation || !Aligned(w->rotation, 16))))
    return -EINVAL;
  if (!w->nr_tokens) return 0;
  uint64_t kv_row = uint64_t{l->nr_kv_heads} * l->head_dim;
  uint64_t q_row = uint64_t{w->nr_q_heads} * l->head_dim;
  if (!w->nr_seqs || !HasBlockTables(*w) ||
      !IsRows(w->k, w->src_dtype, w->k_row_elements, kv_row) ||
      !IsRows(w->v, w->src_dtype, w->v_row_elements, kv_row))
    return -EINVAL;
  if (w->nr_q_heads && (!IsRows(w->q, w->src_dtype, w->q_row_elements, q_row) ||
                        !IsRows(w->q_out, w->q_out_dtype, w->q_out_row_elements, q_row)))
    return -EINVAL;
  if (w->nr_q_heads && w->q == w->q_out &&
      (w->src_dtype != w->q_out_dtype || w->q_row_elements != w->q_out_row_elements))
    return -EINVAL;
  return ErrnoOf(pagedkv::CacheWrite(*w));
}

int pkv_cuda_page_copy(const struct pkv_cuda_page_copy* c) {
  if (!c || c->size != sizeof(*c) || (c->flags & ~PKV_CUDA_HOST_LISTS) || c->reserved)
    return -EINVAL;
  const struct pkv_kv_layout *a = c->src_layout, *b = c->dst_layout;
  if (pkv_kv_layout_check(a) || pkv_kv_layout_check(b) || a->dtype != b->dtype ||
      a->nr_layers != b->nr_layers || a->nr_kv_heads != b->nr_kv_heads ||
      a->head_dim != b->head_dim || a->page_tokens != b->page_tokens)
    return -EINVAL;
  if (!c->nr_copies) return 0;
  if (!c->src_base || !c->dst_base || !Aligned(c->src_base, 16) || !Aligned(c->dst_base, 16))
    return -EINVAL;
  bool host = c->flags & PKV_CUDA_HOST_LISTS;
  if (!SlotsInside(host ? c->src_slots : nullptr, host || !c->src_slots ? c->nr_copies : 0,
                   c->nr_src_slots) ||
      !SlotsInside(host ? c->dst_slots : nullptr, host || !c->dst_slots ? c->nr_copies : 0,
                   c->nr_dst_slots))
    return -EINVAL;
  if (!pagedkv::PageCopyTakes(*a, *b)) return -EOPNOTSUPP;
  return ErrnoOf(pagedkv::PageCopy(*c));
}

int pkv_cuda_upload(const struct pkv_cuda_upload* u) {
  if (!u || u->size != sizeof(*u) || u->reserved) return -EINVAL;
  if (!u->bytes && !u->nr_deltas) return 0;
  if (!u->host || !u->device || !Aligned(u->device, 16)) return -EINVAL;
  if (u->nr_deltas) {
    uint64_t deltas_bytes = uint64_t{u->nr_deltas} * sizeof(struct pkv_cuda_delta);
    if (!u->table || u->deltas_offset % 4 || u->deltas_offset > u->bytes ||
        u->bytes - u->deltas_offset < deltas_bytes || !Aligned(u->host, 4))
      return -EINVAL;
    const struct pkv_cuda_delta* deltas = reinterpret_cast<const struct pkv_cuda_delta*>(
        static_cast<const char*>(u->host) + u->deltas_offset);
    bool inside = true;
    for (uint32_t i = 0; i < u->nr_deltas; i++)
      inside &= deltas[i].row < u->nr_rows && deltas[i].index < u->table_row_slots;
    if (!inside) return -EINVAL;
  }
  return ErrnoOf(pagedkv::Upload(*u));
}

int pkv_cuda_sample(const struct pkv_cuda_sample* s) {
  if (!s || s->size != sizeof(*s) || !IsFloat(s->dtype) || !s->vocab ||
      s->vocab > PKV_CUDA_MAX_VOCAB || s->row_elements < s->vocab)
    return -EINVAL;
  if (!s->nr_rows) return 0;
  if (!s->logits || !Aligned(s->logits, pkv_dtype_bytes(s->dtype)) || !s->draws || !s->tokens ||
      s->nr_rows > INT32_MAX / 8)
    return -EINVAL;
  return ErrnoOf(pagedkv::Sample(*s));
}

int pkv_cuda_rms_norm(const struct pkv_cuda_rms_norm* n) {
  if (!n || n->size != sizeof(*n) || !n->nr_elements || n->nr_elements % 8 ||
      !std::isfinite(n->eps))
    return -EINVAL;
  if (!n->nr_rows) return 0;
  if (n->nr_rows > INT32_MAX || !IsRows(n->x, n->x_dtype, n->x_row_elements, n->nr_elements) ||
      (n->add && !IsRows(n->add, n->add_dtype, n->add_row_elements, n->nr_elements)) ||
      (n->out && (!IsRows(n->out, n->out_dtype, n->out_row_elements, n->nr_elements) ||
                  !IsRows(n->weight, n->weight_dtype, n->nr_elements, n->nr_elements))) ||
      (!n->add && !n->out))
    return -EINVAL;
  return ErrnoOf(pagedkv::RmsNorm(*n));
}

int pkv_cuda_swiglu(const struct pkv_cuda_swiglu* s) {
  if (!s || s->size != sizeof(*s) || s->reserved || !s->nr_elements || s->nr_elements % 8)
    return -EINVAL;
  if (!s->nr_rows) return 0;
  if (s->nr_rows > INT32_MAX ||
      !IsRows(s->gate, s->src_dtype, s->src_row_elements, s->nr_elements) ||
      !IsRows(s->up, s->src_dtype, s->src_row_elements, s->nr_elements) ||
      !IsRows(s->out, s->out_dtype, s->out_row_elements, s->nr_elements))
    return -EINVAL;
  return ErrnoOf(pagedkv::Swiglu(*s));
}

int pkv_cuda_gather_rows(const struct pkv_cuda_gather_rows* g) {
  if (!g || g->size != sizeof(*g) || !g->nr_elements || g->nr_elements % 8) return -EINVAL;
  if (!g->nr_rows) return 0;
  if (g->nr_rows > INT32_MAX || !g->rows ||
      !IsRows(g->table, g->table_dtype, g->table_row_elements, g->nr_elements) ||
      !IsRows(g->out, g->out_dtype, g->out_row_elements, g->nr_elements))
    return -EINVAL;
  return ErrnoOf(pagedkv::GatherRows(*g));
}
