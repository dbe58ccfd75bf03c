// SPDX-License-Identifier: GPL-2.0-only
/*
 * All calls from any thread: servers that share a pool, the mover, and a
 * reader of everything there is to read. The thread sanitizer watches.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server.h"

#define NR_WORKERS	4U
#define NR_OPS		400U
#define PROMPT		24U

struct worker {
	struct server *s;
	uint64_t rng;
	uint32_t nr_admitted, nr_resumed;
	pthread_t thread;
};

/* The pool is large enough for all, so no one has to give up a request of another's. */
static const struct geometry shared = {
	.page_tokens = 4, .device = 48, .host = 48, .disk = 96, .low = 4,
};

static uint32_t draw(struct worker *w, uint32_t below)
{
	return (uint32_t)(next_random(&w->rng) % below);
}

/* One request's life: admitted, appended to, published, preempted, brought back, freed. */
static void serve_one(struct worker *w, uint32_t nr)
{
	struct request r = { 0 }, child = { 0 };
	uint32_t tokens[PROMPT + 8];
	uint64_t family = draw(w, 3);
	int ret;

	for (uint32_t i = 0; i < PROMPT + 8; i++)
		tokens[i] = i < nr ? (uint32_t)next_random(&family) : draw(w, 1000);
	ret = server_admit(w->s, &r, tokens, PROMPT, 0);
	if (ret) {
		assert_int_equal(ret, -ENOSPC);
		return;
	}
	w->nr_admitted++;
	assert_true(server_publish(w->s, &r) >= 0);
	assert_int_equal(server_fork(w->s, &r, &child), 0);
	if (!server_append(w->s, &r, tokens + PROMPT, 1 + draw(w, 8)))
		server_verify(w->s, &r);
	assert_int_equal(server_truncate(w->s, &child, draw(w, PROMPT)), 0);
	server_verify(w->s, &child);
	server_free(w->s, &child);
	assert_int_equal(pagedkv_seq_set_priority(w->s->pool, r.seq, draw(w, 4)), 0);
	assert_int_equal(pagedkv_advise(w->s->pool, r.seq, PAGEDKV_COLD), 0);
	if (!server_resume(w->s, &r))
		w->nr_resumed++;
	if (!draw(w, 4))
		assert_int_equal(pagedkv_advise(w->s->pool, r.seq, PAGEDKV_DONTNEED), 0);
	server_free(w->s, &r);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (uint32_t i = 0; i < NR_OPS; i++)
		serve_one(w, draw(w, PROMPT));
	return NULL;
}

struct reader {
	struct server *s;
	int stop;
	uint32_t nr_looks;
	pthread_t thread;
};

static void *look(void *arg)
{
	struct reader *r = arg;
	struct pagedkv_map_entry e[16];

	do {
		struct pagedkv_stats st = server_stats(r->s);
		uint32_t cursor = 0, nr = 0;
		int n;

		assert_true(st.nr_seqs <= 2 * NR_WORKERS);
		while ((n = pagedkv_map(r->s->pool, 0, &cursor, e, 16)) > 0)
			nr += (uint32_t)n;
		assert_true(nr <= 48 + 48 + 96);
		server_check(r->s);
		pagedkv_moves_wait(r->s->pool, 100000);
		r->nr_looks++;
	} while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE));
	return NULL;
}

static void test_shared_pool(void **state)
{
	struct worker w[NR_WORKERS] = { 0 };
	struct server s;
	struct reader r = { .s = &s };
	struct pagedkv_stats st;
	uint32_t nr_admitted = 0, nr_resumed = 0;

	(void)state;
	server_open(&s, &shared);
	server_start_mover(&s);
	assert_int_equal(pthread_create(&r.thread, NULL, look, &r), 0);
	for (uint32_t i = 0; i < NR_WORKERS; i++) {
		w[i].s = &s;
		w[i].rng = i;
		assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	for (uint32_t i = 0; i < NR_WORKERS; i++) {
		pthread_join(w[i].thread, NULL);
		nr_admitted += w[i].nr_admitted;
		nr_resumed += w[i].nr_resumed;
	}
	__atomic_store_n(&r.stop, 1, __ATOMIC_RELEASE);
	pthread_join(r.thread, NULL);
	server_stop_mover(&s);
	server_check(&s);
	st = server_stats(&s);
	assert_int_equal(st.nr_seqs, 0);
	assert_true(nr_admitted > NR_WORKERS * NR_OPS / 2);
	assert_true(nr_resumed > NR_WORKERS * NR_OPS / 2);
	assert_true(st.hits > 0 && st.moves[PAGEDKV_DEVICE][PAGEDKV_HOST] > 0);
	assert_true(r.nr_looks > 0);
	server_close(&s);
}

/* Pools of one handle come and go from several threads. */
static void *make_pools(void *arg)
{
	struct pagedkv_pool_params p = server_params(&shared);
	struct pagedkv_pool *pool;

	for (int i = 0; i < 50; i++) {
		assert_int_equal(pagedkv_pool_create(arg, &pool, &p), 0);
		pagedkv_pool_destroy(pool);
	}
	assert_int_equal(pagedkv_pool_create(arg, &pool, &p), 0);
	return NULL;
}

static void test_many_pools(void **state)
{
	pthread_t threads[NR_WORKERS];
	struct pagedkv *kv;

	(void)state;
	assert_int_equal(pagedkv_open(&kv, NULL), 0);
	for (uint32_t i = 0; i < NR_WORKERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, make_pools, kv), 0);
	for (uint32_t i = 0; i < NR_WORKERS; i++)
		pthread_join(threads[i], NULL);
	pagedkv_close(kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared_pool),
		cmocka_unit_test(test_many_pools),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
