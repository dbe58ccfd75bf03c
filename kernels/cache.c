// SPDX-License-Identifier: MIT
/*
 * Layout of pages, writing tokens into them, copying them. Memory-bound: the
 * compiler's own vectors of the base instruction set are as fast as memory here,
 * so that there is one version only.
 */
#include <pagedkv/cache.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "kernels.h"

#define PAGE_BYTES_MAX	(UINT64_C(1) << 40)

size_t pkv_dtype_bytes(uint32_t dtype)
{
	switch (dtype) {
	case PKV_F32:
		return 4;
	case PKV_BF16:
	case PKV_F16:
		return 2;
	case PKV_E4M3:
		return 1;
	default:
		return 0;
	}
}

static bool counts_valid(const struct pkv_kv_layout *l)
{
	return pkv_dtype_bytes(l->dtype) && l->nr_layers && l->nr_kv_heads && l->page_tokens &&
	       l->head_dim && l->head_dim % 8 == 0 && l->head_dim <= PKV_MAX_HEAD_DIM &&
	       !l->reserved;
}

int pkv_kv_layout_init(struct pkv_kv_layout *layout, uint32_t dtype, uint32_t nr_layers,
		       uint32_t nr_kv_heads, uint32_t head_dim, uint32_t page_tokens)
{
	struct pkv_kv_layout l = {
		.dtype = dtype,
		.nr_layers = nr_layers,
		.nr_kv_heads = nr_kv_heads,
		.head_dim = head_dim,
		.page_tokens = page_tokens,
	};

	if (!layout || !counts_valid(&l))
		return -EINVAL;

	l.token_stride_bytes = head_dim * pkv_dtype_bytes(dtype);
	if (__builtin_mul_overflow(l.token_stride_bytes, page_tokens, &l.head_stride_bytes) ||
	    __builtin_mul_overflow(l.head_stride_bytes, nr_kv_heads, &l.kv_stride_bytes) ||
	    __builtin_mul_overflow(l.kv_stride_bytes, 2, &l.layer_stride_bytes) ||
	    __builtin_mul_overflow(l.layer_stride_bytes, nr_layers, &l.page_stride_bytes) ||
	    l.page_stride_bytes > PAGE_BYTES_MAX)
		return -EOVERFLOW;

	*layout = l;
	return 0;
}

/* Adds (count - 1) * stride to *sum. False when the stride or the sum is not usable. */
static bool add_extent(const struct pkv_kv_layout *l, uint64_t *sum, uint64_t count,
		       uint64_t stride)
{
	size_t element = pkv_dtype_bytes(l->dtype);
	uint64_t extent;

	if (stride % element || stride < l->head_dim * element)
		return false;
	if (__builtin_mul_overflow(count - 1, stride, &extent) ||
	    __builtin_add_overflow(*sum, extent, sum))
		return false;
	return *sum <= INT64_MAX;
}

int pkv_kv_layout_check(const struct pkv_kv_layout *l)
{
	uint64_t sum = 0;

	if (!l || !counts_valid(l))
		return -EINVAL;
	if (!add_extent(l, &sum, UINT64_C(1) << 32, l->page_stride_bytes) ||
	    !add_extent(l, &sum, l->nr_layers, l->layer_stride_bytes) ||
	    !add_extent(l, &sum, 2, l->kv_stride_bytes) ||
	    !add_extent(l, &sum, l->nr_kv_heads, l->head_stride_bytes) ||
	    !add_extent(l, &sum, l->page_tokens, l->token_stride_bytes))
		return -EINVAL;
	return 0;
}

int pkv_table_check(const uint32_t *table, const uint64_t *table_start, uint32_t nr_seqs)
{
	if (!table_start || table_start[0] != 0)
		return -EINVAL;
	for (uint32_t s = 0; s < nr_seqs; s++)
		if (table_start[s] > table_start[s + 1])
			return -EINVAL;
	return table || !table_start[nr_seqs] ? 0 : -EINVAL;
}

int pkv_cache_write_check(const struct pkv_cache_write *w)
{
	uint64_t row_floats;

	if (!w || pkv_kv_layout_check(w->layout) || !pkv_cpu_dtype(w->layout->dtype) ||
	    w->layer >= w->layout->nr_layers)
		return -EINVAL;
	if (!w->nr_tokens)
		return 0;
	row_floats = (uint64_t)w->layout->nr_kv_heads * w->layout->head_dim;
	if (!w->base || !w->k || !w->v || !w->seq_of || !w->positions ||
	    w->kv_row_floats < row_floats ||
	    pkv_table_check(w->table, w->table_start, w->nr_seqs))
		return -EINVAL;

	for (uint32_t i = 0; i < w->nr_tokens; i++) {
		uint32_t seq = w->seq_of[i];
		uint64_t page = w->positions[i] / w->layout->page_tokens;

		if (seq >= w->nr_seqs || page >= w->table_start[seq + 1] - w->table_start[seq] ||
		    w->table[w->table_start[seq] + page] >= w->nr_slots)
			return -EINVAL;
	}
	return 0;
}

/* Rounds to nearest even. A NaN keeps its upper bits and is made quiet: it stays one. */
static inline uint16_t bf16_of(uint32_t bits)
{
	uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
	uint32_t quiet = (bits >> 16) | 0x40;

	return (bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded;
}

static void store_row(const struct pkv_kv_layout *l, char *dst, const float *src)
{
	uint16_t row[PKV_MAX_HEAD_DIM];
	uint32_t bits[PKV_MAX_HEAD_DIM];

	if (l->dtype == PKV_F32) {
		memcpy(dst, src, l->head_dim * sizeof(*src));
		return;
	}
	memcpy(bits, src, l->head_dim * sizeof(*src));
	for (uint32_t i = 0; i < l->head_dim; i++)
		row[i] = bf16_of(bits[i]);
	memcpy(dst, row, l->head_dim * sizeof(*row));
}

void pkv_cache_write_tokens(const struct pkv_cache_write *w, uint32_t first, uint32_t end)
{
	const struct pkv_kv_layout *l = w->layout;

	for (uint32_t i = first; i < end; i++) {
		const uint32_t *row = w->table + w->table_start[w->seq_of[i]];
		char *place = (char *)w->base +
			      row[w->positions[i] / l->page_tokens] * l->page_stride_bytes +
			      w->layer * l->layer_stride_bytes +
			      w->positions[i] % l->page_tokens * l->token_stride_bytes;

		for (uint32_t h = 0; h < l->nr_kv_heads; h++) {
			size_t at = i * w->kv_row_floats + (size_t)h * l->head_dim;

			store_row(l, place + h * l->head_stride_bytes, w->k + at);
			store_row(l, place + h * l->head_stride_bytes + l->kv_stride_bytes,
				  w->v + at);
		}
	}
}

int pkv_cache_write(const struct pkv_cache_write *w)
{
	int err = pkv_cache_write_check(w);

	if (!err)
		pkv_cache_write_tokens(w, 0, w->nr_tokens);
	return err;
}

static bool contiguous(const struct pkv_kv_layout *l)
{
	struct pkv_kv_layout packed;

	return !pkv_kv_layout_init(&packed, l->dtype, l->nr_layers, l->nr_kv_heads, l->head_dim,
				   l->page_tokens) &&
	       !memcmp(&packed, l, sizeof(packed));
}

static void copy_rows(const struct pkv_kv_layout *l, const char *src, char *dst)
{
	size_t row_bytes = l->head_dim * pkv_dtype_bytes(l->dtype);

	for (uint32_t layer = 0; layer < l->nr_layers; layer++)
		for (uint32_t kv = 0; kv < 2; kv++)
			for (uint32_t h = 0; h < l->nr_kv_heads; h++)
				for (uint32_t t = 0; t < l->page_tokens; t++) {
					uint64_t at = layer * l->layer_stride_bytes +
						      kv * l->kv_stride_bytes +
						      h * l->head_stride_bytes +
						      t * l->token_stride_bytes;

					memcpy(dst + at, src + at, row_bytes);
				}
}

int pkv_page_copy(const struct pkv_kv_layout *l, const void *src_base, uint32_t nr_src_slots,
		  void *dst_base, uint32_t nr_dst_slots, const struct pkv_page_copy *copies,
		  size_t nr_copies)
{
	bool whole;

	if (pkv_kv_layout_check(l))
		return -EINVAL;
	if (!nr_copies)
		return 0;
	if (!src_base || !dst_base || !copies)
		return -EINVAL;
	for (size_t i = 0; i < nr_copies; i++)
		if (copies[i].src >= nr_src_slots || copies[i].dst >= nr_dst_slots)
			return -EINVAL;

	whole = contiguous(l);
	for (size_t i = 0; i < nr_copies; i++) {
		const char *src = (const char *)src_base + copies[i].src * l->page_stride_bytes;
		char *dst = (char *)dst_base + copies[i].dst * l->page_stride_bytes;

		if (src == dst)
			continue;
		if (whole)
			memcpy(dst, src, l->page_stride_bytes);
		else
			copy_rows(l, src, dst);
	}
	return 0;
}
