/* SPDX-License-Identifier: MIT */
/*
 * The paged KV cache as kernels see it: where a page's parts lie, writing new
 * tokens into pages, and copying pages. Plain C, no types of any device: the
 * CPU versions implement this interface, and so does every GPU.
 *
 * A page holds page_tokens tokens of K and V of all layers. Its place is a slot
 * of an arena: slot s begins at base + s * page_stride_bytes. A block table is a
 * sequence's list of slots in order of position; token position p lies in the
 * table's entry p / page_tokens, at token p % page_tokens of that page.
 */
#ifndef PAGEDKV_KERNELS_CACHE_H
#define PAGEDKV_KERNELS_CACHE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum pkv_dtype {
	PKV_F32 = 0,
	PKV_BF16 = 1,
	PKV_F16 = 2,		/* GPU kernels alone */
	PKV_E4M3 = 3,		/* the same: fp8 with a scale a head */
};

#define PKV_MAX_HEAD_DIM	256	/* head_dim is a multiple of 8 up to this */
#define PKV_MAX_GROUP		16	/* query heads that share one kv head */

/**
 * struct pkv_kv_layout - where K and V lie in a page
 *
 * The dims of one token of one head are contiguous. All strides are in bytes,
 * so that page-major arenas ([layer][K,V][kv head][token][dim], what
 * pkv_kv_layout_init() makes) and others are described alike.
 */
struct pkv_kv_layout {
	uint32_t dtype;			/* enum pkv_dtype */
	uint32_t nr_layers;
	uint32_t nr_kv_heads;
	uint32_t head_dim;
	uint32_t page_tokens;
	uint32_t reserved;		/* must be 0 */
	uint64_t page_stride_bytes;	/* one slot to the next */
	uint64_t layer_stride_bytes;	/* within a page, one layer to the next */
	uint64_t kv_stride_bytes;	/* K to V */
	uint64_t head_stride_bytes;
	uint64_t token_stride_bytes;
};

/**
 * pkv_kv_layout_init - describe contiguous page-major pages
 *
 * Sets every field. page_stride_bytes is then the size of a page in bytes.
 *
 * Return: 0; -EINVAL for a dtype, head_dim or count out of range (zero counts
 * included); -EOVERFLOW when a page would pass 1 TiB.
 */
int pkv_kv_layout_init(struct pkv_kv_layout *layout, uint32_t dtype, uint32_t nr_layers,
		       uint32_t nr_kv_heads, uint32_t head_dim, uint32_t page_tokens);

/**
 * pkv_kv_layout_check - is this a layout that the kernels can work on?
 *
 * Strides may come in any order of size (a server with one tensor a layer has
 * layer_stride_bytes > page_stride_bytes); that they make no two elements share
 * a place is the caller's to know.
 *
 * Return: 0; -EINVAL as for pkv_kv_layout_init(), for a stride that is smaller than
 * a row of head_dim or not a multiple of the element, or when an offset within an
 * arena of 2^32 slots could pass 2^63.
 */
int pkv_kv_layout_check(const struct pkv_kv_layout *layout);

/**
 * pkv_dtype_bytes - size in bytes of one element, 0 for an unknown dtype
 */
size_t pkv_dtype_bytes(uint32_t dtype);

/**
 * struct pkv_cache_write - store the K and V of new tokens of one layer
 *
 * Token i goes to position positions[i] of the sequence whose block table starts
 * at table[table_start[seq_of[i]]]. bf16 is rounded to nearest even; a NaN stays
 * a NaN. No two tokens may have the same place.
 */
struct pkv_cache_write {
	const struct pkv_kv_layout *layout;
	void *base;			/* slot 0 of the arena */
	uint32_t nr_slots;		/* of the arena */
	uint32_t layer;
	uint32_t nr_tokens;
	uint32_t nr_seqs;
	const float *k;			/* [nr_tokens][nr_kv_heads][head_dim], see kv_row_floats */
	const float *v;			/* the same */
	uint64_t kv_row_floats;		/* floats from one token's row of k or v to the next */
	const uint32_t *seq_of;		/* [nr_tokens] */
	const uint32_t *positions;	/* [nr_tokens] */
	const uint32_t *table;		/* slots of all block tables */
	const uint64_t *table_start;	/* [nr_seqs + 1], ascending: rows of table */
};

/**
 * pkv_cache_write_check - Return: 0, or -EINVAL for any argument that
 * pkv_cache_write_tokens() could not obey (a NULL, a position past its block
 * table's row, a slot past the arena, ...)
 */
int pkv_cache_write_check(const struct pkv_cache_write *w);

/**
 * pkv_cache_write_tokens - write tokens [first, end) of a checked request
 *
 * Threads may share one request by taking ranges that do not overlap.
 */
void pkv_cache_write_tokens(const struct pkv_cache_write *w, uint32_t first, uint32_t end);

/**
 * pkv_cache_write - check, then write all tokens. Return: 0 or -EINVAL
 */
int pkv_cache_write(const struct pkv_cache_write *w);

struct pkv_page_copy {
	uint32_t src;
	uint32_t dst;
};

/**
 * pkv_page_copy - copy whole pages, in order
 * @src_base: slot 0 of the arena copied from
 * @dst_base: slot 0 of the arena copied to; may be the same
 *
 * Contiguous pages are copied whole; others row by row, so that bytes between
 * their rows, which may belong to other pages, are left alone. A page may be copied
 * onto itself.
 *
 * Return: 0; -EINVAL for a slot past its arena, in which case nothing is copied.
 */
int pkv_page_copy(const struct pkv_kv_layout *layout, const void *src_base, uint32_t nr_src_slots,
		  void *dst_base, uint32_t nr_dst_slots, const struct pkv_page_copy *copies,
		  size_t nr_copies);

#ifdef __cplusplus
}
#endif

#endif
