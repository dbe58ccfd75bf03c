/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Arenas as servers lay them out, for the CUDA tests.
 */
#ifndef TESTS_KERNELS_CUDA_LAYOUTS_CUH
#define TESTS_KERNELS_CUDA_LAYOUTS_CUH

#include <pagedkv/cache.h>

enum Arrangement {
  kPageMajor,   // [slot][layer][K, V][head][token][dim]
  kTokenMajor,  // [slot][layer][K, V][token][head][dim]
  kLayerMajor,  // [layer][K, V][slot][head][token][dim]
  kNrArrangements,
};

inline struct pkv_kv_layout Arranged(Arrangement how, uint32_t dtype, uint32_t nr_layers,
                                     uint32_t nr_heads, uint32_t dim, uint32_t page_tokens,
                                     uint32_t nr_slots) {
  struct pkv_kv_layout l;
  if (pkv_kv_layout_init(&l, dtype, nr_layers, nr_heads, dim, page_tokens)) abort();
  if (how == kTokenMajor) {
    l.head_stride_bytes = l.token_stride_bytes;
    l.token_stride_bytes *= nr_heads;
  } else if (how == kLayerMajor) {
    l.page_stride_bytes = l.kv_stride_bytes;
    l.kv_stride_bytes *= nr_slots;
    l.layer_stride_bytes = 2 * l.kv_stride_bytes;
  }
  return l;
}

// Of the whole arena, however it is laid out.
inline uint64_t ArenaBytes(const struct pkv_kv_layout& l, uint32_t nr_slots) {
  return pkv_dtype_bytes(l.dtype) * l.head_dim * l.page_tokens * l.nr_kv_heads * 2 * l.nr_layers *
         nr_slots;
}

// Where a token's row of dims begins.
inline uint64_t PlaceOf(const struct pkv_kv_layout& l, uint64_t slot, uint32_t layer, uint32_t kv,
                        uint32_t head, uint32_t token) {
  return slot * l.page_stride_bytes + layer * l.layer_stride_bytes + kv * l.kv_stride_bytes +
         head * l.head_stride_bytes + token * l.token_stride_bytes;
}

#endif
