// SPDX-License-Identifier: GPL-2.0-only
/*
 * Layouts, cache writes with their rounding, and page copies.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <pagedkv/cache.h>

#include "random.h"

static void test_layout(void **state)
{
	struct pkv_kv_layout l;

	(void)state;
	/* Llama-3-8B: design.md's 2 MiB a page of 16 tokens */
	assert_int_equal(pkv_kv_layout_init(&l, PKV_BF16, 32, 8, 128, 16), 0);
	assert_int_equal(l.page_stride_bytes, 2 << 20);
	assert_int_equal(l.token_stride_bytes, 256);
	assert_int_equal(l.head_stride_bytes, 4096);
	assert_int_equal(l.kv_stride_bytes, 32768);
	assert_int_equal(l.layer_stride_bytes, 65536);
	assert_int_equal(pkv_kv_layout_check(&l), 0);

	assert_int_equal(pkv_kv_layout_init(&l, PKV_E4M3 + 1, 32, 8, 128, 16), -EINVAL);
	assert_int_equal(pkv_kv_layout_init(&l, PKV_F32, 0, 8, 128, 16), -EINVAL);
	assert_int_equal(pkv_kv_layout_init(&l, PKV_F32, 32, 0, 128, 16), -EINVAL);
	assert_int_equal(pkv_kv_layout_init(&l, PKV_F32, 32, 8, 0, 16), -EINVAL);
	assert_int_equal(pkv_kv_layout_init(&l, PKV_F32, 32, 8, 100, 16), -EINVAL);
	assert_int_equal(pkv_kv_layout_init(&l, PKV_F32, 32, 8, 264, 16), -EINVAL);
	assert_int_equal(pkv_kv_layout_init(&l, PKV_F32, 32, 8, 128, 0), -EINVAL);
	assert_int_equal(pkv_kv_layout_init(NULL, PKV_F32, 32, 8, 128, 16), -EINVAL);
	assert_int_equal(pkv_kv_layout_init(&l, PKV_F32, UINT32_MAX, UINT32_MAX, 256, UINT32_MAX),
			 -EOVERFLOW);
	assert_int_equal(pkv_kv_layout_init(&l, PKV_F32, 1 << 20, 64, 256, 1 << 20), -EOVERFLOW);
	assert_int_equal(pkv_kv_layout_check(NULL), -EINVAL);
	assert_int_equal(pkv_dtype_bytes(PKV_F32), 4);
	assert_int_equal(pkv_dtype_bytes(PKV_BF16), 2);
	assert_int_equal(pkv_dtype_bytes(PKV_F16), 2);
	assert_int_equal(pkv_dtype_bytes(PKV_E4M3), 1);
	assert_int_equal(pkv_dtype_bytes(7), 0);
}

static uint32_t bits_of(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

static float float_of(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* Of the two neighbours of f in bf16 the nearer one, of equally near ones the even one. */
static uint16_t nearest_bf16(float f)
{
	uint16_t low = (uint16_t)(bits_of(f) >> 16), high = low + 1;
	double to_low = fabs((double)f - (double)float_of((uint32_t)low << 16));
	double to_high;

	/* past the largest finite one the next step would be 2^128 */
	if ((high & 0x7fff) == 0x7f80)
		to_high = 0x1p128 - fabs((double)f);
	else
		to_high = fabs((double)f - (double)float_of((uint32_t)high << 16));
	if (to_low == to_high)
		return low & 1 ? high : low;
	return to_low < to_high ? low : high;
}

static uint32_t interesting_bits(uint32_t i)
{
	static const uint32_t edges[] = {
		0, 0x80000000, 0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff,
		0x7f7fffff, 0x7f7f8000, 0x7f7f7fff, 0x00000001, 0x00008000, 0x00018000, 0x807fffff,
	};

	return i < sizeof(edges) / sizeof(edges[0]) ? edges[i] : (uint32_t)random_bits();
}

static void test_bf16(void **state)
{
	uint32_t position = 0, seq = 0, table = 0;
	uint64_t table_start[] = { 0, 1 };
	struct pkv_kv_layout l;
	uint16_t page[2 * 256];
	float k[256], v[256];
	struct pkv_cache_write w = {
		.layout = &l, .base = page, .nr_slots = 1, .nr_tokens = 1, .nr_seqs = 1, .k = k,
		.v = v, .kv_row_floats = 256, .seq_of = &seq, .positions = &position,
		.table = &table, .table_start = table_start,
	};

	(void)state;
	assert_int_equal(pkv_kv_layout_init(&l, PKV_BF16, 1, 1, 256, 1), 0);
	for (uint32_t round = 0; round < 400; round++) {
		for (uint32_t i = 0; i < 256; i++) {
			k[i] = float_of(interesting_bits(round * 256 + i));
			v[i] = random_float();
		}
		k[255] = float_of(0x7f800001 | (uint32_t)(random_bits() & 0x807fffff));
		k[254] = round & 1 ? INFINITY : -INFINITY;
		assert_int_equal(pkv_cache_write(&w), 0);
		for (uint32_t i = 0; i < 256; i++) {
			assert_int_equal(page[256 + i], nearest_bf16(v[i]));
			if (isnan(k[i]))
				assert_true(isnan(float_of((uint32_t)page[i] << 16)));
			else if (isinf(k[i]))
				assert_int_equal(page[i], bits_of(k[i]) >> 16);
			else
				assert_int_equal(page[i], nearest_bf16(k[i]));
		}
	}
}

/* Writes go to the bytes of their tokens, layer and heads, and to no others. */
static void check_places(bool layer_major)
{
	enum { LAYERS = 3, HEADS = 2, DIM = 24, PAGE = 5, SLOTS = 7, TOKENS = 12 };
	uint32_t table[] = { 6, 2, 0, 5, 3 }, seq_of[TOKENS], positions[TOKENS];
	uint64_t table_start[] = { 0, 3, 3, 5 };
	static float arena[SLOTS * LAYERS * 2 * HEADS * PAGE * DIM];
	float want[sizeof(arena) / sizeof(arena[0])];
	float k[TOKENS][HEADS * DIM + 3], v[TOKENS][HEADS * DIM + 3];
	struct pkv_kv_layout l;
	struct pkv_cache_write w = {
		.layout = &l, .base = arena, .nr_slots = SLOTS, .layer = 1, .nr_tokens = TOKENS,
		.nr_seqs = 3, .k = &k[0][0], .v = &v[0][0], .kv_row_floats = HEADS * DIM + 3,
		.seq_of = seq_of, .positions = positions, .table = table,
		.table_start = table_start,
	};

	assert_int_equal(pkv_kv_layout_init(&l, PKV_F32, LAYERS, HEADS, DIM, PAGE), 0);
	if (layer_major) {
		l.head_stride_bytes = DIM * 4;
		l.token_stride_bytes = HEADS * DIM * 4;
		l.page_stride_bytes = PAGE * HEADS * DIM * 4;
		l.kv_stride_bytes = SLOTS * l.page_stride_bytes;
		l.layer_stride_bytes = 2 * l.kv_stride_bytes;
	}
	memset(arena, 0xa5, sizeof(arena));
	memcpy(want, arena, sizeof(want));
	for (uint32_t i = 0; i < TOKENS; i++) {
		seq_of[i] = i < 7 ? 0 : 2;
		positions[i] = i < 7 ? 4 + i : i - 7 + 2;
		for (uint32_t d = 0; d < HEADS * DIM; d++) {
			uint32_t page = table[table_start[seq_of[i]] + positions[i] / PAGE];
			size_t at = (page * l.page_stride_bytes + l.layer_stride_bytes +
				     d / DIM * l.head_stride_bytes +
				     positions[i] % PAGE * l.token_stride_bytes) / 4 + d % DIM;

			k[i][d] = want[at] = random_float();
			v[i][d] = want[at + l.kv_stride_bytes / 4] = random_float();
		}
	}
	assert_int_equal(pkv_cache_write_check(&w), 0);
	pkv_cache_write_tokens(&w, 5, TOKENS);
	pkv_cache_write_tokens(&w, 0, 5);
	assert_memory_equal(arena, want, sizeof(want));

	positions[3] = 15;
	assert_int_equal(pkv_cache_write(&w), -EINVAL);
	positions[3] = 7;
	seq_of[3] = 3;
	assert_int_equal(pkv_cache_write(&w), -EINVAL);
	seq_of[3] = 1;
	assert_int_equal(pkv_cache_write(&w), -EINVAL);
	seq_of[3] = 0;
	w.nr_slots = 6;
	assert_int_equal(pkv_cache_write(&w), -EINVAL);
	w.nr_slots = SLOTS;
	w.layer = 3;
	assert_int_equal(pkv_cache_write(&w), -EINVAL);
	w.layer = 0;
	w.kv_row_floats = HEADS * DIM - 1;
	assert_int_equal(pkv_cache_write(&w), -EINVAL);
	w.nr_tokens = 0;
	assert_int_equal(pkv_cache_write(&w), 0);
	assert_int_equal(pkv_cache_write(NULL), -EINVAL);
	assert_memory_equal(arena, want, sizeof(want));
}

static void test_places(void **state)
{
	(void)state;
	check_places(false);
	check_places(true);
}

/* Copies of strided pages must leave their neighbours' rows alone. */
static void check_copy(bool layer_major)
{
	enum { LAYERS = 2, HEADS = 2, DIM = 8, PAGE = 3, SLOTS = 6 };
	static uint16_t arena[SLOTS * LAYERS * 2 * HEADS * PAGE * DIM];
	static uint16_t want[sizeof(arena) / sizeof(arena[0])];
	struct pkv_page_copy copies[] = { { 1, 4 }, { 2, 2 }, { 4, 0 }, { 3, 5 } };
	struct pkv_kv_layout l;

	assert_int_equal(pkv_kv_layout_init(&l, PKV_BF16, LAYERS, HEADS, DIM, PAGE), 0);
	if (layer_major) {
		l.head_stride_bytes = DIM * 2;
		l.token_stride_bytes = HEADS * DIM * 2;
		l.page_stride_bytes = PAGE * HEADS * DIM * 2;
		l.kv_stride_bytes = SLOTS * l.page_stride_bytes;
		l.layer_stride_bytes = 2 * l.kv_stride_bytes;
	}
	for (size_t i = 0; i < sizeof(arena) / sizeof(arena[0]); i++)
		want[i] = arena[i] = (uint16_t)random_bits();
	for (uint32_t c = 0; c < 4; c++)
		for (uint32_t part = 0; part < LAYERS * 2 * HEADS * PAGE; part++)
			for (uint32_t d = 0; d < DIM; d++) {
				size_t at = (part / (2 * HEADS * PAGE) * l.layer_stride_bytes +
					     part / (HEADS * PAGE) % 2 * l.kv_stride_bytes +
					     part / PAGE % HEADS * l.head_stride_bytes +
					     part % PAGE * l.token_stride_bytes) / 2 + d;

				want[copies[c].dst * l.page_stride_bytes / 2 + at] =
					want[copies[c].src * l.page_stride_bytes / 2 + at];
			}
	assert_int_equal(pkv_page_copy(&l, arena, SLOTS, arena, SLOTS, copies, 4), 0);
	assert_memory_equal(arena, want, sizeof(want));

	assert_int_equal(pkv_page_copy(&l, arena, 4, arena, SLOTS, copies, 4), -EINVAL);
	assert_int_equal(pkv_page_copy(&l, arena, SLOTS, arena, 5, copies, 4), -EINVAL);
	assert_int_equal(pkv_page_copy(&l, NULL, SLOTS, arena, SLOTS, copies, 4), -EINVAL);
	assert_int_equal(pkv_page_copy(NULL, arena, SLOTS, arena, SLOTS, copies, 4), -EINVAL);
	assert_int_equal(pkv_page_copy(&l, NULL, 0, NULL, 0, NULL, 0), 0);
	assert_memory_equal(arena, want, sizeof(want));
}

static void test_copy(void **state)
{
	(void)state;
	check_copy(false);
	check_copy(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_bf16),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_copy),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	random_start();
	return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
