// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every version of paged attention this CPU can run, against the reference and
 * against itself: the output of a query token must not depend, in one bit, on the
 * batch, the chunk, the places of pages, or the split of the work.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <pagedkv/attention.h>

#include "random.h"

#define MAX_SEQS	8
#define GUARD_FLOATS	16

/* A batch with everything it points to. */
struct batch {
	struct pkv_kv_layout layout;
	struct pkv_attention a;
	uint32_t query_start[MAX_SEQS + 1];
	uint32_t context[MAX_SEQS];
	uint64_t table_start[MAX_SEQS + 1];
	uint32_t *table;
	char *arena;
	float *q;
	float *out;
	float *lse;
};

struct shape {
	uint32_t dtype;
	uint32_t head_dim;
	uint32_t nr_kv_heads;
	uint32_t group;
	uint32_t page_tokens;
	uint32_t nr_seqs;
	uint32_t max_context;
	uint32_t max_query;
	float q_size;
	bool layer_major;
};

static const char *const versions[] = { "portable", "avx2", "avx512" };

static void *take(size_t bytes)
{
	void *p = malloc(bytes ? bytes : 1);

	assert_non_null(p);
	return p;
}

static size_t out_floats(const struct batch *b)
{
	return (size_t)b->a.nr_tokens * b->a.nr_q_heads * b->layout.head_dim;
}

/* Outputs and the floats after them hold a pattern that no result may leave or touch. */
static void poison(struct batch *b)
{
	size_t nr = out_floats(b) + GUARD_FLOATS;

	memset(b->out, 0xa5, nr * sizeof(*b->out));
	memset(b->lse, 0xa5, ((size_t)b->a.nr_tokens * b->a.nr_q_heads + GUARD_FLOATS) *
	       sizeof(*b->lse));
}

static void check_guard(const struct batch *b)
{
	uint32_t want;

	memset(&want, 0xa5, sizeof(want));
	for (size_t i = 0; i < GUARD_FLOATS; i++) {
		assert_memory_equal(&b->out[out_floats(b) + i], &want, sizeof(want));
		assert_memory_equal(&b->lse[(size_t)b->a.nr_tokens * b->a.nr_q_heads + i], &want,
				    sizeof(want));
	}
}

static void make_layout(struct batch *b, const struct shape *s, uint32_t nr_slots)
{
	struct pkv_kv_layout *l = &b->layout;

	assert_int_equal(pkv_kv_layout_init(l, s->dtype, 2, s->nr_kv_heads, s->head_dim,
					    s->page_tokens), 0);
	if (!s->layer_major)
		return;
	/* [layer][K,V][slot][token][kv head][dim] */
	l->head_stride_bytes = s->head_dim * pkv_dtype_bytes(s->dtype);
	l->token_stride_bytes = l->head_stride_bytes * s->nr_kv_heads;
	l->page_stride_bytes = l->token_stride_bytes * s->page_tokens;
	l->kv_stride_bytes = l->page_stride_bytes * nr_slots;
	l->layer_stride_bytes = 2 * l->kv_stride_bytes;
}

static void fill_cache(struct batch *b, uint32_t seq)
{
	uint32_t nr = b->context[seq];
	size_t row = (size_t)b->layout.nr_kv_heads * b->layout.head_dim;
	float *kv = take(2 * nr * row * sizeof(*kv));
	uint32_t *seq_of = take(nr * sizeof(*seq_of));
	uint32_t *positions = take(nr * sizeof(*positions));
	struct pkv_cache_write w = {
		.layout = &b->layout, .base = b->arena, .nr_slots = b->a.nr_slots,
		.layer = b->a.layer, .nr_tokens = nr, .nr_seqs = b->a.nr_seqs,
		.k = kv, .v = kv + nr * row, .kv_row_floats = row, .seq_of = seq_of,
		.positions = positions, .table = b->table, .table_start = b->table_start,
	};

	for (size_t i = 0; i < 2 * nr * row; i++)
		kv[i] = random_float();
	for (uint32_t i = 0; i < nr; i++) {
		seq_of[i] = seq;
		positions[i] = i;
	}
	assert_int_equal(pkv_cache_write(&w), 0);
	free(kv);
	free(seq_of);
	free(positions);
}

/* Contexts and queries of random lengths, some empty; pages in random order among NaNs. */
static void make_batch(struct batch *b, const struct shape *s)
{
	uint32_t nr_pages = 0, nr_slots;
	uint64_t floats;
	uint32_t *slots;

	memset(b, 0, sizeof(*b));
	for (uint32_t i = 0; i < s->nr_seqs; i++) {
		uint32_t query = i % 5 == 4 ? 0 : random_in(1, s->max_query);
		uint32_t context = random_in(query, s->max_context);

		b->context[i] = context;
		b->query_start[i + 1] = b->query_start[i] + query;
		nr_pages += (context + s->page_tokens - 1) / s->page_tokens;
		b->table_start[i + 1] = nr_pages;
	}
	nr_slots = nr_pages + random_in(1, 5);
	make_layout(b, s, nr_slots);
	slots = take(nr_slots * sizeof(*slots));
	for (uint32_t i = 0; i < nr_slots; i++)
		slots[i] = i;
	random_shuffle(slots, nr_slots);
	b->table = slots;
	b->arena = take((size_t)nr_slots * s->page_tokens * s->nr_kv_heads * s->head_dim * 4 *
			pkv_dtype_bytes(s->dtype));
	memset(b->arena, 0xff, (size_t)nr_slots * s->page_tokens * s->nr_kv_heads * s->head_dim *
	       4 * pkv_dtype_bytes(s->dtype));

	b->a = (struct pkv_attention){
		.layout = &b->layout, .base = b->arena, .nr_slots = nr_slots,
		.layer = random_in(0, 1), .nr_q_heads = s->nr_kv_heads * s->group,
		.nr_seqs = s->nr_seqs, .nr_tokens = b->query_start[s->nr_seqs],
		.scale = 1 / sqrtf(s->head_dim), .query_start = b->query_start,
		.context_tokens = b->context, .table = slots, .table_start = b->table_start,
	};
	b->a.q_row_floats = b->a.nr_q_heads * s->head_dim + random_in(0, 3);
	floats = b->a.nr_tokens * b->a.q_row_floats;
	b->q = take(floats * sizeof(float));
	for (uint64_t i = 0; i < floats; i++)
		b->q[i] = random_float() * s->q_size;
	b->out = take((out_floats(b) + GUARD_FLOATS) * sizeof(float));
	b->lse = take(((size_t)b->a.nr_tokens * b->a.nr_q_heads + GUARD_FLOATS) * sizeof(float));
	b->a.q = b->q;
	b->a.out = b->out;
	b->a.lse = b->lse;
	for (uint32_t i = 0; i < s->nr_seqs; i++)
		fill_cache(b, i);
	poison(b);
}

static void free_batch(struct batch *b)
{
	free(b->table);
	free(b->arena);
	free(b->q);
	free(b->out);
	free(b->lse);
}

static void assert_close(const float *got, const float *want, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (!(fabsf(got[i] - want[i]) <= 2e-5f + 2e-5f * fabsf(want[i])))
			fail_msg("float %zu is %.9g, reference %.9g", i, (double)got[i],
				 (double)want[i]);
}

static void compare_to_reference(const struct shape *s)
{
	size_t nr, nr_lse;
	struct batch b;
	float *want, *want_lse;

	make_batch(&b, s);
	nr = out_floats(&b);
	nr_lse = (size_t)b.a.nr_tokens * b.a.nr_q_heads;
	want = take(nr * sizeof(*want));
	want_lse = take(nr_lse * sizeof(*want));
	assert_int_equal(pkv_attention_reference(&b.a), 0);
	check_guard(&b);
	memcpy(want, b.out, nr * sizeof(*want));
	memcpy(want_lse, b.lse, nr_lse * sizeof(*want));
	poison(&b);
	assert_int_equal(pkv_attention(&b.a), 0);
	check_guard(&b);
	assert_close(b.out, want, nr);
	assert_close(b.lse, want_lse, nr_lse);

	b.a.lse = NULL;
	memset(b.out, 0xa5, nr * sizeof(*b.out));
	assert_int_equal(pkv_attention(&b.a), 0);
	assert_close(b.out, want, nr);
	free(want);
	free(want_lse);
	free_batch(&b);
}

static void test_reference(void **state)
{
	static const uint32_t dims[] = { 64, 80, 96, 128, 256, 8, 16, 24, 40, 104, 248 };
	static const uint32_t page_tokens[] = { 16, 1, 3, 32, 7, 64, 128 };

	assert_int_equal(pkv_attention_use(*state), 0);
	for (uint32_t group = 1; group <= PKV_MAX_GROUP; group++) {
		for (uint32_t i = 0; i < 11; i++) {
			struct shape s = {
				.dtype = (group + i) & 1, .head_dim = dims[i],
				.nr_kv_heads = random_in(1, 2), .group = group,
				.page_tokens = page_tokens[random_in(0, 6)], .nr_seqs = 6,
				.max_context = random_in(1, 70), .q_size = random_in(0, 1) ? 1 : 20,
				.layer_major = random_in(0, 1),
			};

			s.max_query = random_in(1, s.max_context < 12 ? s.max_context : 12);
			compare_to_reference(&s);
		}
	}
}

/* Both dtypes at the sizes that models have, long enough for many blocks. */
static void test_reference_long(void **state)
{
	assert_int_equal(pkv_attention_use(*state), 0);
	for (uint32_t dtype = PKV_F32; dtype <= PKV_BF16; dtype++) {
		struct shape s = {
			.dtype = dtype, .head_dim = 128, .nr_kv_heads = 2, .group = 4,
			.page_tokens = 16, .nr_seqs = 3, .max_context = 400, .max_query = 30,
			.q_size = 3,
		};

		compare_to_reference(&s);
	}
}

/*
 * Scores of hundreds: weights of far tokens must become zero, not garbage, and where
 * all scores are far below zero nothing beside the context may weigh anything.
 */
static void check_extreme(uint32_t max_context, uint32_t max_query)
{
	struct batch b;
	struct shape s = {
		.dtype = PKV_F32, .head_dim = 64, .nr_kv_heads = 1, .group = 2, .page_tokens = 16,
		.nr_seqs = 4, .max_context = max_context, .max_query = max_query, .q_size = 1,
	};
	float *want;

	make_batch(&b, &s);
	b.a.scale = 100;
	want = take(out_floats(&b) * sizeof(*want));
	assert_int_equal(pkv_attention_reference(&b.a), 0);
	memcpy(want, b.out, out_floats(&b) * sizeof(*want));
	poison(&b);
	assert_int_equal(pkv_attention(&b.a), 0);
	for (size_t i = 0; i < out_floats(&b); i++)
		assert_true(fabsf(b.out[i] - want[i]) < 1e-3f);
	free(want);
	free_batch(&b);
}

static void test_reference_extreme(void **state)
{
	assert_int_equal(pkv_attention_use(*state), 0);
	check_extreme(200, 9);
	for (uint32_t i = 0; i < 10; i++)
		check_extreme(2, 2);
}

/* One query token alone in a batch, its pages moved to other slots of another arena. */
static void attend_alone(const struct batch *b, uint32_t seq, uint32_t t, float *out, float *lse)
{
	uint32_t visible = b->context[seq] - (b->query_start[seq + 1] - 1 - t);
	uint32_t nr_pages = (visible + b->layout.page_tokens - 1) / b->layout.page_tokens;
	uint32_t nr_slots = nr_pages + random_in(0, 3);
	struct pkv_page_copy *copies = take(nr_pages * sizeof(*copies));
	size_t bytes = nr_slots * b->layout.page_stride_bytes;
	uint32_t *slots = take(nr_slots * sizeof(*slots));
	uint32_t query_start[] = { 0, 1 };
	uint64_t table_start[] = { 0, nr_pages };
	struct pkv_attention a = b->a;
	char *arena = take(bytes);

	memset(arena, 0xff, bytes);
	for (uint32_t i = 0; i < nr_slots; i++)
		slots[i] = i;
	random_shuffle(slots, nr_slots);
	for (uint32_t i = 0; i < nr_pages; i++) {
		copies[i].src = b->table[b->table_start[seq] + i];
		copies[i].dst = slots[i];
	}
	assert_int_equal(pkv_page_copy(&b->layout, b->arena, b->a.nr_slots, arena, nr_slots, copies,
				       nr_pages), 0);
	a.base = arena;
	a.nr_slots = nr_slots;
	a.nr_seqs = 1;
	a.nr_tokens = 1;
	a.query_start = query_start;
	a.context_tokens = &visible;
	a.table = slots;
	a.table_start = table_start;
	a.q = b->q + t * b->a.q_row_floats;
	a.out = out;
	a.lse = lse;
	assert_int_equal(pkv_attention(&a), 0);
	free(copies);
	free(slots);
	free(arena);
}

static void check_alone(const struct batch *b)
{
	size_t heads = b->a.nr_q_heads, row = heads * b->layout.head_dim;
	float *out = take(row * sizeof(*out)), *lse = take(heads * sizeof(*lse));

	for (uint32_t s = 0; s < b->a.nr_seqs; s++)
		for (uint32_t t = b->query_start[s]; t < b->query_start[s + 1]; t++) {
			attend_alone(b, s, t, out, lse);
			assert_memory_equal(out, b->out + t * row, row * sizeof(*out));
			assert_memory_equal(lse, b->lse + t * heads, heads * sizeof(*lse));
		}
	free(out);
	free(lse);
}

/* The same call in random ranges of items, in random order. */
static void check_split(struct batch *b)
{
	uint64_t nr = pkv_attention_nr_items(&b->a);
	size_t bytes = out_floats(b) * sizeof(float);
	uint32_t cuts[32], order[32];
	float *want = take(bytes);
	uint32_t nr_cuts = 0;

	memcpy(want, b->out, bytes);
	poison(b);
	for (uint64_t at = 0; at < nr && nr_cuts < 31; at += random_in(1, (uint32_t)nr / 8 + 1))
		cuts[nr_cuts++] = (uint32_t)at;
	cuts[nr_cuts] = (uint32_t)nr;
	for (uint32_t i = 0; i < nr_cuts; i++)
		order[i] = i;
	random_shuffle(order, nr_cuts);
	for (uint32_t i = 0; i < nr_cuts; i++)
		pkv_attention_items(&b->a, cuts[order[i]], cuts[order[i] + 1]);
	check_guard(b);
	assert_memory_equal(b->out, want, bytes);
	free(want);
}

/* The same contexts with each sequence's queries cut in two calls. */
static void check_chunks(struct batch *b)
{
	size_t row = (size_t)b->a.nr_q_heads * b->layout.head_dim, bytes = out_floats(b) * 4;
	float *want = take(bytes), *part = take(bytes);
	uint32_t start[2][MAX_SEQS + 1] = { { 0 } }, context[MAX_SEQS];
	float *q = take(b->a.nr_tokens * b->a.q_row_floats * sizeof(*q));

	memcpy(want, b->out, bytes);
	for (uint32_t s = 0; s < b->a.nr_seqs; s++) {
		uint32_t nr = b->query_start[s + 1] - b->query_start[s];
		uint32_t head = random_in(0, nr);

		start[0][s + 1] = start[0][s] + head;
		start[1][s + 1] = start[1][s] + nr - head;
	}
	for (uint32_t half = 0; half < 2; half++) {
		struct pkv_attention a = b->a;

		for (uint32_t s = 0; s < a.nr_seqs; s++) {
			uint32_t nr = start[half][s + 1] - start[half][s];
			uint32_t tail = half ? 0 : start[1][s + 1] - start[1][s];
			uint32_t from = half ? b->query_start[s + 1] - nr : b->query_start[s];

			context[s] = b->context[s] - tail;
			memcpy(q + start[half][s] * a.q_row_floats, b->q + from * a.q_row_floats,
			       nr * a.q_row_floats * sizeof(*q));
		}
		a.q = q;
		a.out = part;
		a.lse = NULL;
		a.query_start = start[half];
		a.nr_tokens = start[half][a.nr_seqs];
		a.context_tokens = context;
		assert_int_equal(pkv_attention(&a), 0);
		for (uint32_t s = 0; s < a.nr_seqs; s++) {
			uint32_t nr = start[half][s + 1] - start[half][s];
			uint32_t from = half ? b->query_start[s + 1] - nr : b->query_start[s];

			assert_memory_equal(part + start[half][s] * row, want + from * row,
					    nr * row * sizeof(*part));
		}
	}
	free(want);
	free(part);
	free(q);
}

static void test_invariance(void **state)
{
	static const uint32_t dims[] = { 64, 80, 128, 256 };

	assert_int_equal(pkv_attention_use(*state), 0);
	for (uint32_t i = 0; i < 32; i++) {
		struct batch b;
		struct shape s = {
			.dtype = i & 1, .head_dim = dims[i / 2 % 4], .nr_kv_heads = random_in(1, 3),
			.group = i < 16 ? 1 + i % 8 : i - 15, .page_tokens = random_in(1, 20),
			.nr_seqs = MAX_SEQS, .max_context = random_in(20, 120), .max_query = 20,
			.q_size = 4, .layer_major = false,
		};

		make_batch(&b, &s);
		assert_int_equal(pkv_attention(&b.a), 0);
		check_alone(&b);
		check_chunks(&b);
		check_split(&b);
		free_batch(&b);
	}
}

static void test_empty(void **state)
{
	struct pkv_kv_layout layout;
	uint32_t query_start[] = { 0, 0, 0 }, context[] = { 0, 5 };
	uint64_t table_start[] = { 0, 0, 0 };
	struct pkv_attention a = {
		.layout = &layout, .nr_q_heads = 2, .scale = 1, .query_start = query_start,
	};

	assert_int_equal(pkv_attention_use(*state), 0);
	assert_int_equal(pkv_kv_layout_init(&layout, PKV_F32, 1, 1, 64, 16), 0);
	assert_int_equal(pkv_attention(&a), 0);
	a.nr_seqs = 2;
	a.context_tokens = context;
	a.table_start = table_start;
	assert_int_equal(pkv_attention(&a), 0);
	assert_int_equal(pkv_attention_nr_items(&a), 0);
}

#define REFUSED(field, value) \
	do { \
		struct batch bad = b; \
		bad.layout = b.layout; \
		bad.a.layout = &bad.layout; \
		bad.a.query_start = bad.query_start; \
		bad.a.context_tokens = bad.context; \
		bad.a.table_start = bad.table_start; \
		assert_int_equal(pkv_attention_check(&bad.a), 0); \
		bad.field = (value); \
		assert_int_equal(pkv_attention_check(&bad.a), -EINVAL); \
		assert_int_equal(pkv_attention(&bad.a), -EINVAL); \
		assert_int_equal(pkv_attention_reference(&bad.a), -EINVAL); \
	} while (0)

static void test_bad_arguments(void **state)
{
	struct shape s = {
		.dtype = PKV_F32, .head_dim = 64, .nr_kv_heads = 2, .group = 2, .page_tokens = 4,
		.nr_seqs = 3, .max_context = 20, .max_query = 4, .q_size = 1,
	};
	struct batch b;

	(void)state;
	make_batch(&b, &s);
	REFUSED(a.layout, NULL);
	REFUSED(a.base, NULL);
	REFUSED(a.q, NULL);
	REFUSED(a.out, NULL);
	REFUSED(a.table, NULL);
	REFUSED(a.table_start, NULL);
	REFUSED(a.query_start, NULL);
	REFUSED(a.context_tokens, NULL);
	REFUSED(a.layer, 2);
	REFUSED(a.nr_slots, 0);
	REFUSED(a.nr_q_heads, 0);
	REFUSED(a.nr_q_heads, 3);
	REFUSED(a.nr_q_heads, 34);
	REFUSED(a.nr_tokens, b.a.nr_tokens + 1);
	REFUSED(a.q_row_floats, 255);
	REFUSED(a.scale, NAN);
	REFUSED(a.scale, INFINITY);
	REFUSED(query_start[0], 1);
	REFUSED(query_start[1], b.a.nr_tokens + 1);
	REFUSED(context[0], b.query_start[1] - 1);
	REFUSED(context[2], UINT32_MAX);
	REFUSED(table_start[1], 0);
	REFUSED(table_start[1], UINT64_MAX);
	REFUSED(layout.dtype, 2);
	REFUSED(layout.head_dim, 0);
	REFUSED(layout.head_dim, 12);
	REFUSED(layout.head_dim, 264);
	REFUSED(layout.page_tokens, 0);
	REFUSED(layout.nr_kv_heads, 0);
	REFUSED(layout.token_stride_bytes, 255);
	REFUSED(layout.token_stride_bytes, 258);
	REFUSED(layout.page_stride_bytes, UINT64_MAX - 3);
	b.table[0] = b.a.nr_slots;
	assert_int_equal(pkv_attention_check(&b.a), -EINVAL);
	assert_int_equal(pkv_attention_check(NULL), -EINVAL);
	free_batch(&b);
}

static void test_choice(void **state)
{
	(void)state;
	assert_int_equal(pkv_attention_use("abacus"), -EINVAL);
	assert_int_equal(pkv_attention_use("portable"), 0);
	assert_string_equal(pkv_attention_version(), "portable");
	assert_int_equal(setenv("PAGEDKV_KERNELS", "portable", 1), 0);
	assert_int_equal(pkv_attention_use(NULL), 0);
	assert_string_equal(pkv_attention_version(), "portable");
	assert_int_equal(setenv("PAGEDKV_KERNELS", "abacus", 1), 0);
	assert_int_equal(pkv_attention_use(NULL), 0);
	assert_non_null(pkv_attention_version());
	assert_int_equal(unsetenv("PAGEDKV_KERNELS"), 0);
	assert_int_equal(pkv_attention_use(NULL), 0);
}

#define OF_EACH_VERSION	5

int main(void)
{
	static const struct CMUnitTest of_version[OF_EACH_VERSION] = {
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_reference_long),
		cmocka_unit_test(test_reference_extreme),
		cmocka_unit_test(test_invariance),
		cmocka_unit_test(test_empty),
	};
	struct CMUnitTest tests[3 * OF_EACH_VERSION + 2];
	char names[3 * OF_EACH_VERSION][64];
	size_t nr = 0;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	random_start();
	for (size_t v = 0; v < 3; v++) {
		if (pkv_attention_use(versions[v]))
			continue;
		for (size_t i = 0; i < OF_EACH_VERSION; i++, nr++) {
			tests[nr] = of_version[i];
			tests[nr].initial_state = (void *)versions[v];
			snprintf(names[nr], sizeof(names[nr]), "%s of %s", of_version[i].name,
				 versions[v]);
			tests[nr].name = names[nr];
		}
	}
	tests[nr++] = (struct CMUnitTest)cmocka_unit_test(test_bad_arguments);
	tests[nr++] = (struct CMUnitTest)cmocka_unit_test(test_choice);
	return _cmocka_run_group_tests("attention", tests, nr, NULL, NULL);
}
