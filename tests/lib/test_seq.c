// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of sequences. Random operations of a server on a pool in which
 * little fits, checked against what each token's content has to be, with and
 * without moves that fail.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server.h"

#define NR_REQUESTS	12U
#define NR_FAMILIES	3U
#define MAX_LEN		48U

struct fuzz {
	struct server s;
	struct request r[NR_REQUESTS];
	uint64_t rng;
};

static uint32_t draw(struct fuzz *f, uint32_t below)
{
	return (uint32_t)(next_random(&f->rng) % below);
}

/* Prompts of a family begin alike, so that they share prefixes. */
static void make_prompt(struct fuzz *f, uint32_t *tokens, uint32_t nr)
{
	uint64_t family = draw(f, NR_FAMILIES);
	uint32_t common = draw(f, nr + 1);

	for (uint32_t i = 0; i < nr; i++)
		tokens[i] = i < common ? (uint32_t)next_random(&family) : draw(f, 1000);
}

static struct request *pick(struct fuzz *f, bool alive)
{
	uint32_t start = draw(f, NR_REQUESTS);

	for (uint32_t i = 0; i < NR_REQUESTS; i++) {
		struct request *r = &f->r[(start + i) % NR_REQUESTS];

		if (r->alive == alive)
			return r;
	}
	return NULL;
}

/* No room: what a scheduler does is to preempt, and then to give up a request. */
static void make_room(struct fuzz *f)
{
	struct request *r = pick(f, true);

	if (!r)
		return;
	if (draw(f, 2) && pagedkv_seq_state(f->s.pool, r->seq) == PAGEDKV_SEQ_RUNNING)
		assert_int_equal(pagedkv_advise(f->s.pool, r->seq, PAGEDKV_COLD), 0);
	else
		server_free(&f->s, r);
}

static void admit(struct fuzz *f)
{
	struct request *r = pick(f, false);
	uint32_t tokens[MAX_LEN];
	uint32_t nr = draw(f, MAX_LEN);
	int ret;

	if (!r)
		return;
	make_prompt(f, tokens, nr);
	ret = server_admit(&f->s, r, tokens, nr, draw(f, 8) ? 0 : PAGEDKV_SEQ_NO_PREFIX);
	if (ret == -ENOSPC)
		make_room(f);
	else if (ret)
		assert_int_equal(ret, -EIO);
	else if (draw(f, 2))
		assert_true(server_publish(&f->s, r) >= 0);
}

static void use(struct fuzz *f, struct request *r)
{
	uint32_t tokens[8], nr = 1 + draw(f, 8);
	struct request *child = pick(f, false);
	int ret = 0;

	if (pagedkv_seq_state(f->s.pool, r->seq) != PAGEDKV_SEQ_RUNNING) {
		ret = server_resume(&f->s, r);
		if (ret == -ENOSPC)
			make_room(f);
		return;
	}
	server_verify(&f->s, r);
	switch (draw(f, 7)) {
	case 0:
	case 1:
		for (uint32_t i = 0; i < nr; i++)
			tokens[i] = draw(f, 1000);
		if (r->len + nr <= 2 * MAX_LEN)
			ret = server_append(&f->s, r, tokens, nr);
		if (ret == -ENOSPC)
			make_room(f);
		break;
	case 2:
		if (child)
			assert_int_equal(server_fork(&f->s, r, child), 0);
		break;
	case 3:
		assert_int_equal(server_truncate(&f->s, r, draw(f, r->len + 1)), 0);
		break;
	case 4:
		assert_int_equal(pagedkv_advise(f->s.pool, r->seq, PAGEDKV_COLD), 0);
		break;
	case 5:
		assert_true(server_publish(&f->s, r) >= 0);
		if (!draw(f, 4))
			assert_int_equal(pagedkv_advise(f->s.pool, r->seq, PAGEDKV_DONTNEED), 0);
		break;
	default:
		server_free(&f->s, r);
	}
}

static void run(const struct geometry *g, uint64_t seed, fault_fn fault, uint32_t nr_ops)
{
	struct fuzz *f = calloc(1, sizeof(*f));
	struct pagedkv_stats st;

	assert_non_null(f);
	server_open(&f->s, g);
	f->s.fault = fault;
	f->s.fault_rng = seed;
	f->rng = seed;
	for (uint32_t i = 0; i < nr_ops; i++) {
		struct request *r = pick(f, true);

		if (!r || !draw(f, 4))
			admit(f);
		else
			use(f, r);
		if (!draw(f, 3))
			server_run_moves(&f->s);
		server_check(&f->s);
	}
	st = server_stats(&f->s);
	/* It was a run worth the name. */
	assert_true(st.hits > 0 && st.forks > 0 && (g->page_tokens == 1 || st.copies > 0));
	if (g->host) {
		assert_true(st.moves[PAGEDKV_DEVICE][PAGEDKV_HOST] > 0);
		assert_true(st.moves[PAGEDKV_HOST][PAGEDKV_DEVICE] > 0);
	}
	if (g->disk) {
		assert_true(st.moves[PAGEDKV_HOST][PAGEDKV_DISK] > 0);
		assert_true(st.moves[PAGEDKV_DISK][PAGEDKV_DEVICE] > 0);
	}
	if (fault)
		assert_true(st.aborts > 0 && st.losses > 0);
	for (uint32_t i = 0; i < NR_REQUESTS; i++)
		if (f->r[i].alive)
			server_free(&f->s, &f->r[i]);
	server_run_moves(&f->s);
	server_check(&f->s);
	st = server_stats(&f->s);
	assert_int_equal(st.nr_seqs, 0);
	assert_int_equal(st.nr_moves, 0);
	assert_int_equal(st.nr_pages, st.nr_cached);
	server_close(&f->s);
	free(f);
}

static int some_fail(struct server *s, const struct pagedkv_move *m, uint32_t *flags)
{
	uint64_t x = next_random(&s->fault_rng);

	if (x % 4 || (m->kind == PAGEDKV_MOVE_COPY && x % 16))
		return 0;
	/* Now and then the source itself is bad. */
	if (m->kind == PAGEDKV_MOVE_OUT && m->src_tier != PAGEDKV_DEVICE && x & 64)
		*flags = PAGEDKV_COMMIT_SOURCE_BAD;
	return -EIO;
}

/* A run looks at all invariants 10,000 times, a minute's work for a kernel that watches itself. */
static uint64_t nr_seeds(void)
{
	return getenv("VM_SLOWER") ? 2 : 8;
}

static void test_three_tiers(void **state)
{
	const struct geometry g = {
		.page_tokens = 4, .device = 24, .host = 16, .disk = 40, .low = 2,
	};

	(void)state;
	for (uint64_t seed = 1; seed <= nr_seeds(); seed++)
		run(&g, seed, NULL, 10000);
}

static void test_device_and_host(void **state)
{
	const struct geometry g = { .page_tokens = 1, .device = 120, .host = 100 };

	(void)state;
	run(&g, 11, NULL, 10000);
}

static void test_device_alone(void **state)
{
	const struct geometry g = { .page_tokens = 8, .device = 20 };

	(void)state;
	run(&g, 21, NULL, 10000);
}

static void test_failing_moves(void **state)
{
	const struct geometry g = {
		.page_tokens = 4, .device = 24, .host = 16, .disk = 40, .low = 2,
	};

	(void)state;
	for (uint64_t seed = 1; seed <= nr_seeds(); seed++)
		run(&g, seed, some_fail, 10000);
}

/* A step of many sequences: deltas of all, and nothing of the tables is left unsaid. */
static void test_large_step(void **state)
{
	enum { NR = 64, PAGES = 8 };
	const struct geometry g = { .page_tokens = 2, .device = NR * PAGES };
	struct pagedkv_seq_params p = { .size = sizeof(p) };
	struct pagedkv_delta deltas[NR];
	struct pagedkv_op ops[NR] = { 0 };
	struct pagedkv_step step = {
		.ops = ops, .nr_ops = NR, .deltas = deltas, .max_deltas = NR,
	};
	uint32_t table[NR][PAGES], slots[PAGES];
	struct server s;

	(void)state;
	server_open(&s, &g);
	for (int i = 0; i < NR; i++)
		assert_int_equal(pagedkv_seq_create(s.pool, &ops[i].seq, &p, NULL), 0);
	for (uint32_t t = 0; t < 2 * PAGES; t++) {
		for (int i = 0; i < NR; i++)
			ops[i].arg = 1;
		assert_int_equal(pagedkv_step(s.pool, &step), 0);
		assert_int_equal(step.nr_done, NR);
		assert_int_equal(step.nr_deltas, t % 2 ? 0 : NR);
		for (uint32_t i = 0; i < step.nr_deltas; i++)
			for (int k = 0; k < NR; k++)
				if (ops[k].seq == deltas[i].seq)
					table[k][deltas[i].index] = deltas[i].slot;
	}
	for (int i = 0; i < NR; i++) {
		assert_int_equal(pagedkv_seq_table(s.pool, ops[i].seq, 0, slots, PAGES), PAGES);
		assert_memory_equal(slots, table[i], sizeof(slots));
	}
	server_check(&s);
	server_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_three_tiers),
		cmocka_unit_test(test_device_and_host),
		cmocka_unit_test(test_device_alone),
		cmocka_unit_test(test_failing_moves),
		cmocka_unit_test(test_large_step),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
