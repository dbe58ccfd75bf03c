// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every allocation of a server's life fails once, in turn. Whichever it is,
 * the call says so, nothing has changed, nothing leaks, and the next try works.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "server.h"

static long countdown = -1;	/* allocations until the one that fails; negative: none */
static bool counting;		/* only inside calls of the library */

static bool fail_now(void)
{
	return counting && countdown >= 0 && countdown-- == 0;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
	return fail_now() ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t nr, size_t size);
void *__wrap_calloc(size_t nr, size_t size);
void *__wrap_calloc(size_t nr, size_t size)
{
	return fail_now() ? NULL : __real_calloc(nr, size);
}

int __real_posix_memalign(void **p, size_t align, size_t size);
int __wrap_posix_memalign(void **p, size_t align, size_t size);
int __wrap_posix_memalign(void **p, size_t align, size_t size)
{
	return fail_now() ? ENOMEM : __real_posix_memalign(p, align, size);
}

char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
char *__wrap_strdup(const char *s)
{
	return fail_now() ? NULL : __real_strdup(s);
}

void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return fail_now() ? MAP_FAILED : __real_mmap(addr, len, prot, flags, fd, offset);
}

int __real_eventfd(unsigned int value, int flags);
int __wrap_eventfd(unsigned int value, int flags);
int __wrap_eventfd(unsigned int value, int flags)
{
	return fail_now() ? -1 : __real_eventfd(value, flags);
}

/*
 * CALL, and once more if it ran out of memory: then it must have been the
 * failure that was asked for, and the second try must not fail for memory.
 */
#define CALL(result, call)							\
	do {									\
		counting = true;						\
		(result) = (call);						\
		if ((result) == -ENOMEM || (result) == -EAGAIN) {		\
			assert_int_equal(countdown, -1);			\
			(result) = (call);					\
		}								\
		counting = false;						\
		assert_int_not_equal((result), -ENOMEM);			\
	} while (0)

#define MUST(call) do { int ret_; CALL(ret_, call); assert_int_equal(ret_, 0); } while (0)

enum { PAGE = 1, DEVICE = 400, HOST = 400, LEN = 300, NR_FORKS = 70 };

static void run_moves(struct pagedkv_pool *pool)
{
	struct pagedkv_move moves[16];
	struct pagedkv_commit done[16] = { 0 };
	int n, ret;

	for (;;) {
		CALL(n, pagedkv_moves_fetch(pool, moves, 16));
		if (n <= 0)
			return;
		for (int i = 0; i < n; i++)
			done[i].id = moves[i].id;
		CALL(ret, pagedkv_moves_commit(pool, done, (uint32_t)n));
		assert_int_equal(ret, 0);
	}
}

static void step_one(struct pagedkv_pool *pool, struct pagedkv_op *op)
{
	static struct pagedkv_delta deltas[LEN];
	struct pagedkv_move copy;
	struct pagedkv_step step = {
		.ops = op, .nr_ops = 1, .deltas = deltas, .max_deltas = LEN,
		.copies = &copy, .max_copies = 1,
	};
	int ret;

	/* EAGAIN may be real here: evictions have to run first. */
	for (;;) {
		counting = true;
		ret = pagedkv_step(pool, &step);
		counting = false;
		if (ret != -EAGAIN && ret != -ENOMEM)
			break;
		run_moves(pool);
	}
	assert_int_equal(ret, 0);
	assert_int_equal(step.nr_done, 1);
}

static void live(struct pagedkv_pool *pool)
{
	static uint32_t tokens[LEN];
	struct pagedkv_seq_params p = { .size = sizeof(p), .tokens = tokens, .nr_tokens = LEN };
	struct pagedkv_op op = { .type = PAGEDKV_OP_APPEND, .arg = LEN };
	struct pagedkv_publish item = { .tokens = tokens, .nr_tokens = LEN };
	const struct pagedkv_file file = { .name = "x" };
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), ret;
	pagedkv_seq_t first, second;
	const char *why;
	uint32_t hit;

	MUST(pagedkv_seq_create(pool, &first, &p, &hit));
	op.seq = first;
	step_one(pool, &op);
	item.seq = first;
	MUST(pagedkv_publish(pool, &item, 1));
	assert_int_equal(item.result, LEN);
	MUST(pagedkv_seq_create(pool, &second, &p, &hit));
	assert_int_equal(hit, LEN - 1);
	for (int i = 0; i < NR_FORKS; i++) {
		op = (struct pagedkv_op) { .seq = first, .type = PAGEDKV_OP_FORK };
		step_one(pool, &op);
		op = (struct pagedkv_op) { .seq = op.out_seq, .type = PAGEDKV_OP_FREE };
		if (i % 2)
			step_one(pool, &op);
	}
	MUST(pagedkv_file_keep(pool, &file, fd));
	MUST(pagedkv_file_drop(pool, "x"));
	close(fd);
	op = (struct pagedkv_op) { .seq = second, .type = PAGEDKV_OP_FREE };
	step_one(pool, &op);
	MUST(pagedkv_check(pool, &why));
	CALL(ret, pagedkv_advise(pool, first, PAGEDKV_COLD));
	assert_int_equal(ret, 0);
}

/* A second sequence pushes cold pages out; then they come back. */
static void swap(struct pagedkv_pool *pool)
{
	struct pagedkv_seq_params p = { .size = sizeof(p) };
	struct pagedkv_op op = { .type = PAGEDKV_OP_APPEND, .arg = LEN };
	pagedkv_seq_t a, b;
	const char *why;
	int ret;

	MUST(pagedkv_seq_create(pool, &a, &p, NULL));
	op.seq = a;
	step_one(pool, &op);
	MUST(pagedkv_advise(pool, a, PAGEDKV_COLD));
	MUST(pagedkv_seq_create(pool, &b, &p, NULL));
	op = (struct pagedkv_op) { .seq = b, .type = PAGEDKV_OP_APPEND, .arg = LEN };
	step_one(pool, &op);
	op = (struct pagedkv_op) { .seq = b, .type = PAGEDKV_OP_FREE };
	step_one(pool, &op);
	CALL(ret, pagedkv_advise(pool, a, PAGEDKV_WILLNEED));
	assert_int_equal(ret, 1);
	run_moves(pool);
	assert_int_equal(pagedkv_seq_state(pool, a), PAGEDKV_SEQ_RUNNING);
	MUST(pagedkv_check(pool, &why));
}

static struct pagedkv_pool_params params(void)
{
	const struct geometry g = { .page_tokens = PAGE, .device = DEVICE, .host = HOST };
	struct pagedkv_pool_params p = server_params(&g);

	p.name = "sweep";
	p.max_seqs = 1000;
	return p;
}

/* A life with allocation @nth failing; true while there was such a one. */
static bool try(long nth, void (*what)(struct pagedkv_pool *))
{
	/* Only there are the page manager's allocations this process's. */
	struct pagedkv_params here = { .size = sizeof(here), .backend = PAGEDKV_BACKEND_EMBEDDED };
	struct pagedkv_pool_params p = params();
	struct pagedkv_pool *pool;
	struct pagedkv *kv;
	void *addr;
	size_t len;

	countdown = nth;
	MUST(pagedkv_open(&kv, &here));
	MUST(pagedkv_pool_create(kv, &pool, &p));
	MUST(pagedkv_host_map(pool, 0, &addr, &len));
	what(pool);
	pagedkv_close(kv);
	return countdown < 0;
}

static long sweep(void (*what)(struct pagedkv_pool *))
{
	long nth = 0;

	while (try(nth, what))
		nth++;
	countdown = -1;
	return nth;
}

static void test_sweep_life(void **state)
{
	(void)state;
	/* At least: two handles, pool, four tables of two tiers, chains, name, mapping, eventfd. */
	assert_true(sweep(live) > 20);
}

static void test_sweep_swap(void **state)
{
	(void)state;
	assert_true(sweep(swap) > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sweep_life),
		cmocka_unit_test(test_sweep_swap),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
