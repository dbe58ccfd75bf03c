// SPDX-License-Identifier: GPL-2.0-only
/* Moves: eviction and reload, what a failed copy means, the eventfd, and waiting. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server.h"

#define PAGE	4U

static void draw_tokens(uint32_t *tokens, uint32_t nr, uint64_t seed)
{
	for (uint32_t i = 0; i < nr; i++)
		tokens[i] = (uint32_t)next_random(&seed);
}

static bool is_readable(struct server *s)
{
	struct pollfd p = { .fd = pagedkv_moves_fd(s->pool), .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* A request that fills the device, preempted; then another that pushes it out. */
static void push_out(struct server *s, struct request *a, struct request *b, uint32_t nr)
{
	uint32_t tokens[MAX_TOKENS];

	draw_tokens(tokens, nr, 1);
	assert_int_equal(server_admit(s, a, tokens, nr, 0), 0);
	assert_int_equal(pagedkv_advise(s->pool, a->seq, PAGEDKV_COLD), 0);
	draw_tokens(tokens, nr, 2);
	assert_int_equal(server_admit(s, b, tokens, nr, 0), 0);
}

static void test_out_and_in(void **state)
{
	const struct geometry g = { .page_tokens = PAGE, .device = 8, .host = 4, .disk = 12 };
	struct request a = { 0 }, b = { 0 };
	struct pagedkv_seq_info info;
	struct pagedkv_stats st;
	struct server s;

	(void)state;
	server_open(&s, &g);
	push_out(&s, &a, &b, 8 * PAGE);
	assert_int_equal(pagedkv_seq_get_info(s.pool, a.seq, &info), 0);
	assert_int_equal(info.state, PAGEDKV_SEQ_COLD);
	assert_int_equal(info.nr_missing, 8);
	/* Nothing can be evicted for it: its place is held. */
	assert_int_equal(server_resume(&s, &a), -ENOSPC);
	assert_int_equal(pagedkv_advise(s.pool, b.seq, PAGEDKV_COLD), 0);
	assert_int_equal(server_resume(&s, &a), 0);
	server_free(&s, &a);
	assert_int_equal(server_resume(&s, &b), 0);
	st = server_stats(&s);
	assert_true(st.moves[PAGEDKV_DEVICE][PAGEDKV_DISK] > 0);
	assert_true(st.moves[PAGEDKV_DEVICE][PAGEDKV_HOST] > 0);
	server_check(&s);
	server_close(&s);
}

static void test_pinned_stays(void **state)
{
	const struct geometry g = { .page_tokens = PAGE, .device = 8, .host = 8 };
	struct request a = { 0 }, b = { 0 };
	uint32_t tokens[MAX_TOKENS];
	struct server s;

	(void)state;
	server_open(&s, &g);
	draw_tokens(tokens, MAX_TOKENS, 3);
	assert_int_equal(server_admit(&s, &a, tokens, 6 * PAGE, 0), 0);
	assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_PIN), 0);
	assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_COLD), 0);
	assert_int_equal(server_admit(&s, &b, tokens + 100, 3 * PAGE, 0), -ENOSPC);
	assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_WILLNEED), 0);
	server_verify(&s, &a);
	assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_COLD), 0);
	assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_UNPIN), 0);
	assert_int_equal(server_admit(&s, &b, tokens + 100, 3 * PAGE, 0), 0);
	server_check(&s);
	server_close(&s);
}

/* Published pages that went to a slower tier are hits still: the sequence loads. */
static void test_hit_in_slower_tier(void **state)
{
	const struct geometry g = { .page_tokens = PAGE, .device = 8, .host = 8, .disk = 8 };
	uint32_t tokens[MAX_TOKENS], per_tier[PAGEDKV_NR_TIERS], hit;
	struct pagedkv_seq_params p = { .size = sizeof(p), .tokens = tokens };
	struct request a = { 0 }, b = { 0 }, c = { 0 };
	struct server s;

	(void)state;
	server_open(&s, &g);
	draw_tokens(tokens, MAX_TOKENS, 5);
	assert_int_equal(server_admit(&s, &a, tokens, 6 * PAGE, 0), 0);
	assert_int_equal(server_publish(&s, &a), 6);
	server_free(&s, &a);
	assert_int_equal(server_admit(&s, &b, tokens + 100, 8 * PAGE, 0), 0);
	p.nr_tokens = 6 * PAGE + 1;
	assert_int_equal(pagedkv_prefix_match(s.pool, &p, &hit, per_tier), 0);
	assert_int_equal(hit, 6 * PAGE);
	assert_int_equal(per_tier[PAGEDKV_DEVICE], 0);
	assert_int_equal(per_tier[PAGEDKV_HOST] + per_tier[PAGEDKV_DISK], 6);
	server_free(&s, &b);
	assert_int_equal(server_admit(&s, &c, tokens, 6 * PAGE + 1, 0), 0);
	assert_int_equal(c.hit_tokens, 6 * PAGE);
	server_check(&s);
	server_close(&s);
}

/* ---------------------------------------------------------------- failure */

static int fail_out(struct server *s, const struct pagedkv_move *m, uint32_t *flags)
{
	(void)s;
	(void)flags;
	return m->kind == PAGEDKV_MOVE_OUT ? -EIO : 0;
}

static int fail_in(struct server *s, const struct pagedkv_move *m, uint32_t *flags)
{
	(void)s;
	(void)flags;
	return m->kind == PAGEDKV_MOVE_IN ? -EIO : 0;
}

static int fail_copy(struct server *s, const struct pagedkv_move *m, uint32_t *flags)
{
	(void)s;
	(void)flags;
	return m->kind == PAGEDKV_MOVE_COPY ? -EIO : 0;
}

static void test_failed_out_keeps_page(void **state)
{
	const struct geometry g = { .page_tokens = PAGE, .device = 8, .host = 8 };
	struct pagedkv_seq_params p = { .size = sizeof(p) };
	uint32_t tokens[MAX_TOKENS];
	struct request a = { 0 };
	struct server s;
	pagedkv_seq_t seq;

	(void)state;
	server_open(&s, &g);
	draw_tokens(tokens, MAX_TOKENS, 7);
	assert_int_equal(server_admit(&s, &a, tokens, 8 * PAGE, 0), 0);
	assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_COLD), 0);
	s.fault = fail_out;
	assert_int_equal(pagedkv_seq_create(s.pool, &seq, &p, NULL), 0);
	assert_int_equal(one_op(s.pool, seq, PAGEDKV_OP_APPEND, 1, NULL), -ENOBUFS);
	assert_int_equal(pagedkv_pool_set_limit(s.pool, 0, PAGEDKV_DEVICE, 8), 0);
	for (int i = 0; i < 3; i++) {
		struct pagedkv_op op = { .seq = seq, .type = PAGEDKV_OP_APPEND, .arg = PAGE };
		struct pagedkv_delta delta;
		struct pagedkv_step step = {
			.ops = &op, .nr_ops = 1, .deltas = &delta, .max_deltas = 1,
		};

		assert_int_equal(pagedkv_step(s.pool, &step), -EAGAIN);
		assert_true(server_run_moves(&s) > 0);
	}
	assert_int_equal(server_resume(&s, &a), 0);
	assert_true(server_stats(&s).aborts >= 3);
	server_check(&s);
	server_close(&s);
}

/* The only copy can't be read: BROKEN, truncate, recompute, and right again. */
static void test_failed_in_breaks(void **state)
{
	const struct geometry g = { .page_tokens = PAGE, .device = 8, .host = 8 };
	struct request a = { 0 }, b = { 0 };
	struct pagedkv_seq_info info;
	struct server s;

	(void)state;
	server_open(&s, &g);
	push_out(&s, &a, &b, 8 * PAGE);
	server_free(&s, &b);
	s.fault = fail_in;
	assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_WILLNEED), 1);
	assert_int_equal(pagedkv_seq_state(s.pool, a.seq), PAGEDKV_SEQ_LOADING);
	assert_int_equal(pagedkv_seq_wait(s.pool, a.seq, 0), -ETIMEDOUT);
	assert_true(server_run_moves(&s) > 0);
	assert_int_equal(pagedkv_seq_wait(s.pool, a.seq, 0), 0);
	assert_int_equal(pagedkv_seq_state(s.pool, a.seq), PAGEDKV_SEQ_BROKEN);
	assert_int_equal(pagedkv_seq_get_info(s.pool, a.seq, &info), 0);
	assert_int_equal(info.lost_tokens, 0);
	assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_WILLNEED), -EIO);
	s.fault = NULL;
	assert_int_equal(server_resume(&s, &a), 0);
	assert_int_equal(a.len, 8 * PAGE);
	server_verify(&s, &a);
	assert_true(server_stats(&s).losses > 0);
	server_check(&s);
	server_close(&s);
}

/* A tier that goes takes only what it alone had. */
static void test_offline_tier(void **state)
{
	const struct geometry g = { .page_tokens = PAGE, .device = 8, .host = 4, .disk = 8 };
	struct request a = { 0 }, b = { 0 };
	struct server s;

	(void)state;
	server_open(&s, &g);
	push_out(&s, &a, &b, 8 * PAGE);
	server_free(&s, &b);
	assert_int_equal(pagedkv_tier_set_state(s.pool, 0, PAGEDKV_DISK,
						PAGEDKV_TIER_OFFLINE), 0);
	assert_true(server_stats(&s).losses > 0);
	assert_int_equal(server_resume(&s, &a), 0);
	assert_int_equal(a.len, 8 * PAGE);
	server_verify(&s, &a);
	server_check(&s);
	server_close(&s);
}

static void test_failed_copy_breaks(void **state)
{
	const struct geometry g = { .page_tokens = PAGE, .device = 8 };
	struct request a = { 0 }, b = { 0 };
	uint32_t tokens[MAX_TOKENS];
	struct pagedkv_seq_info info;
	struct server s;

	(void)state;
	server_open(&s, &g);
	draw_tokens(tokens, MAX_TOKENS, 9);
	assert_int_equal(server_admit(&s, &a, tokens, PAGE + 2, 0), 0);
	assert_int_equal(server_fork(&s, &a, &b), 0);
	s.fault = fail_copy;
	assert_int_equal(server_append(&s, &b, tokens + PAGE + 2, 1), -EIO);
	assert_int_equal(pagedkv_seq_get_info(s.pool, b.seq, &info), 0);
	assert_int_equal(info.state, PAGEDKV_SEQ_BROKEN);
	assert_int_equal(info.lost_tokens, PAGE);
	server_verify(&s, &a);
	s.fault = NULL;
	assert_int_equal(server_resume(&s, &b), 0);
	assert_int_equal(server_append(&s, &b, tokens + PAGE + 2, 1), 0);
	server_verify(&s, &b);
	server_check(&s);
	server_close(&s);
}

/* --------------------------------------------------------------- the queue */

/* Readable exactly while something is queued, through partial fetches and the owner's read. */
static void test_eventfd(void **state)
{
	const struct geometry g = { .page_tokens = PAGE, .device = 8, .host = 8 };
	struct request a = { 0 }, b = { 0 };
	struct pagedkv_move moves[8];
	struct pagedkv_commit done[8] = { 0 };
	struct server s;
	uint64_t count;

	(void)state;
	server_open(&s, &g);
	assert_false(is_readable(&s));
	push_out(&s, &a, &b, 8 * PAGE);
	assert_false(is_readable(&s));
	server_free(&s, &b);
	assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_WILLNEED), 1);
	assert_true(is_readable(&s));
	assert_int_equal(pagedkv_moves_fetch(s.pool, moves, 3), 3);
	assert_true(is_readable(&s));
	assert_int_equal(pagedkv_moves_fetch(s.pool, moves + 3, 5), 5);
	assert_false(is_readable(&s));
	assert_int_equal(server_stats(&s).nr_moves, 8);
	assert_int_equal(server_stats(&s).nr_queued, 0);
	for (int i = 0; i < 8; i++)
		done[i].id = moves[i].id;
	/* One unknown among them: the others count. */
	done[7].id ^= 1ULL << 40;
	assert_int_equal(pagedkv_moves_commit(s.pool, done, 8), -ESTALE);
	assert_int_equal(pagedkv_seq_state(s.pool, a.seq), PAGEDKV_SEQ_LOADING);
	done[7].id = moves[7].id;
	assert_int_equal(pagedkv_moves_commit(s.pool, done + 7, 1), 0);
	assert_int_equal(pagedkv_seq_state(s.pool, a.seq), PAGEDKV_SEQ_RUNNING);
	assert_int_equal(pagedkv_moves_commit(s.pool, done, 1), -ESTALE);

	/* An owner that reads the fd itself loses nothing. */
	server_free(&s, &a);
	for (int i = 0; i < 2; i++) {
		push_out(&s, &a, &b, 8 * PAGE);
		server_free(&s, &b);
		assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_WILLNEED), 1);
		assert_int_equal(read(pagedkv_moves_fd(s.pool), &count, sizeof(count)),
				 sizeof(count));
		assert_int_equal(server_run_moves(&s), 8);
		server_free(&s, &a);
	}
	pagedkv_moves_stop(s.pool);
	assert_true(is_readable(&s));
	assert_int_equal(pagedkv_moves_fetch(s.pool, moves, 1), -ECANCELED);
	assert_true(is_readable(&s));
	server_close(&s);
}

/* After a stop what was fetched still commits; what was not is nobody's to wait for. */
static void test_stop_with_moves(void **state)
{
	const struct geometry g = { .page_tokens = PAGE, .device = 8, .host = 8 };
	struct request a = { 0 }, b = { 0 };
	struct pagedkv_commit done = { 0 };
	struct pagedkv_move m;
	struct server s;

	(void)state;
	server_open(&s, &g);
	push_out(&s, &a, &b, 8 * PAGE);
	server_free(&s, &b);
	assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_WILLNEED), 1);
	assert_int_equal(pagedkv_moves_fetch(s.pool, &m, 1), 1);
	pagedkv_moves_stop(s.pool);
	assert_int_equal(pagedkv_seq_wait(s.pool, a.seq, 0), -ETIMEDOUT);
	assert_int_equal(pagedkv_moves_wait(s.pool, 0), -ETIMEDOUT);
	done.id = m.id;
	assert_int_equal(pagedkv_moves_commit(s.pool, &done, 1), 0);
	assert_int_equal(pagedkv_seq_wait(s.pool, a.seq, UINT64_MAX), -ECANCELED);
	assert_int_equal(pagedkv_moves_wait(s.pool, UINT64_MAX), -ECANCELED);
	server_close(&s);
}

/* ------------------------------------------------------------------- waits */

static void *wait_for_seq(void *arg)
{
	struct server *s = ((void **)arg)[0];
	struct request *r = ((void **)arg)[1];

	return (void *)(intptr_t)pagedkv_seq_wait(s->pool, r->seq, UINT64_MAX);
}

static void *wait_for_moves(void *arg)
{
	struct server *s = ((void **)arg)[0];

	return (void *)(intptr_t)pagedkv_moves_wait(s->pool, UINT64_MAX);
}

/* Whatever ends the wait, before it begins or during it, the waiter comes back. */
static void wake(void (*what)(struct server *, struct request *), int expect_seq)
{
	const struct geometry g = { .page_tokens = PAGE, .device = 8, .host = 8 };
	struct request a = { 0 }, b = { 0 };
	struct server s;
	void *arg[2] = { &s, &a }, *result;
	pthread_t seq_waiter, moves_waiter;

	server_open(&s, &g);
	push_out(&s, &a, &b, 8 * PAGE);
	server_free(&s, &b);
	assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_WILLNEED), 1);
	assert_int_equal(pthread_create(&seq_waiter, NULL, wait_for_seq, arg), 0);
	assert_int_equal(pthread_create(&moves_waiter, NULL, wait_for_moves, arg), 0);
	what(&s, &a);
	pthread_join(seq_waiter, &result);
	assert_int_equal((intptr_t)result, expect_seq);
	pthread_join(moves_waiter, &result);
	server_close(&s);
}

static void by_commit(struct server *s, struct request *r)
{
	(void)r;
	server_run_moves(s);
}

static void by_cold(struct server *s, struct request *r)
{
	assert_int_equal(pagedkv_advise(s->pool, r->seq, PAGEDKV_COLD), 0);
}

static void by_free(struct server *s, struct request *r)
{
	server_free(s, r);
}

static void by_stop(struct server *s, struct request *r)
{
	(void)r;
	pagedkv_moves_stop(s->pool);
}

static void test_wake_ups(void **state)
{
	(void)state;
	for (int i = 0; i < 50; i++) {
		wake(by_commit, 0);
		wake(by_cold, 0);
		wake(by_free, -ESTALE);
		wake(by_stop, -ECANCELED);
	}
}

static void test_time_out(void **state)
{
	const struct geometry g = { .page_tokens = PAGE, .device = 8, .host = 8 };
	struct request a = { 0 }, b = { 0 };
	struct server s;

	(void)state;
	server_open(&s, &g);
	push_out(&s, &a, &b, 8 * PAGE);
	server_free(&s, &b);
	assert_int_equal(pagedkv_advise(s.pool, a.seq, PAGEDKV_WILLNEED), 1);
	assert_int_equal(pagedkv_seq_wait(s.pool, a.seq, 1000000), -ETIMEDOUT);
	assert_int_equal(pagedkv_moves_wait(s.pool, 1000000), -ETIMEDOUT);
	server_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_out_and_in),
		cmocka_unit_test(test_pinned_stays),
		cmocka_unit_test(test_hit_in_slower_tier),
		cmocka_unit_test(test_failed_out_keeps_page),
		cmocka_unit_test(test_failed_in_breaks),
		cmocka_unit_test(test_offline_tier),
		cmocka_unit_test(test_failed_copy_breaks),
		cmocka_unit_test(test_eventfd),
		cmocka_unit_test(test_stop_with_moves),
		cmocka_unit_test(test_wake_ups),
		cmocka_unit_test(test_time_out),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
