// SPDX-License-Identifier: GPL-2.0-only
/* Files that a pool keeps: the same contract on both backends; only how long differs. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "server.h"

#define PRINT	0xfeedf00d12345678ULL

static const struct geometry small = { .page_tokens = 4, .device = 8 };

static int set_up(void **state)
{
	struct server *s = calloc(1, sizeof(*s));

	server_open(s, &small);
	*state = s;
	return 0;
}

static int tear_down(void **state)
{
	server_close(*state);
	free(*state);
	return 0;
}

static struct pagedkv_file named(const char *name)
{
	struct pagedkv_file f = { .bytes = 64, .fingerprint = PRINT };

	strcpy(f.name, name);
	return f;
}

static int keep(struct pagedkv_pool *pool, const char *name, int fd)
{
	struct pagedkv_file f = named(name);

	return pagedkv_file_keep(pool, &f, fd);
}

static int make_memory(const char *content)
{
	int fd = memfd_create("allocation", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
	return fd;
}

static void expect_content(int fd, const char *content)
{
	char buf[64] = { 0 };

	assert_int_equal(pread(fd, buf, sizeof(buf) - 1, 0), strlen(content));
	assert_string_equal(buf, content);
}

/* The write end of a pipe goes to @pool alone: the reader sees when it is closed. */
static int keep_pipe(struct pagedkv_pool *pool)
{
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(keep(pool, "pipe", p[1]), 0);
	close(p[1]);
	return p[0];
}

static bool is_open(int reader)
{
	struct pollfd p = { .fd = reader };

	return poll(&p, 1, 0) == 0;
}

static void expect_end(int reader)
{
	struct pollfd p = { .fd = reader };

	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_true(p.revents & POLLHUP);
	close(reader);
}

static void test_keep_and_take(void **state)
{
	struct server *s = *state;
	int fd = make_memory("keys and values"), taken, again;
	uint64_t bytes = 0;

	assert_int_equal(keep(s->pool, "kv.0", fd), 0);
	close(fd);
	taken = pagedkv_file_take(s->pool, "kv.0", PRINT, &bytes);
	assert_true(taken >= 0);
	assert_int_equal(bytes, 64);
	assert_int_equal(fcntl(taken, F_GETFD), FD_CLOEXEC);
	expect_content(taken, "keys and values");
	/* It is the same open file, and the pool still has it. */
	again = pagedkv_file_take(s->pool, "kv.0", PRINT, NULL);
	assert_true(again >= 0 && again != taken);
	assert_int_equal(lseek(taken, 5, SEEK_SET), 5);
	assert_int_equal(lseek(again, 0, SEEK_CUR), 5);
	close(taken);
	assert_int_equal(pagedkv_file_drop(s->pool, "kv.0"), 0);
	expect_content(again, "keys and values");
	close(again);
}

static void test_contract(void **state)
{
	struct pagedkv_file f = named("x");
	struct server *s = *state;
	int fd = make_memory("x"), taken;

	assert_int_equal(pagedkv_file_keep(NULL, &f, fd), -EINVAL);
	assert_int_equal(pagedkv_file_keep(s->pool, NULL, fd), -EINVAL);
	assert_int_equal(keep(s->pool, "", fd), -EINVAL);
	assert_int_equal(keep(s->pool, ".x", fd), -EINVAL);
	assert_int_equal(keep(s->pool, "a/b", fd), -EINVAL);
	memset(f.name, 'x', sizeof(f.name));
	assert_int_equal(pagedkv_file_keep(s->pool, &f, fd), -EINVAL);
	f.name[sizeof(f.name) - 1] = 0;
	assert_int_equal(pagedkv_file_keep(s->pool, &f, fd), 0);
	assert_int_equal(pagedkv_file_drop(s->pool, f.name), 0);
	assert_int_equal(pagedkv_file_take(NULL, "x", 0, NULL), -EINVAL);
	assert_int_equal(pagedkv_file_take(s->pool, NULL, 0, NULL), -EINVAL);
	assert_int_equal(pagedkv_file_take(s->pool, "", 0, NULL), -EINVAL);
	assert_int_equal(pagedkv_file_take(s->pool, "x", PRINT, NULL), -ENOENT);
	assert_int_equal(pagedkv_file_drop(NULL, "x"), -EINVAL);
	assert_int_equal(pagedkv_file_drop(s->pool, NULL), -EINVAL);
	assert_int_equal(pagedkv_file_drop(s->pool, "x"), -ENOENT);

	assert_int_equal(keep(s->pool, "x", fd), 0);
	assert_int_equal(keep(s->pool, "x", fd), -EEXIST);
	assert_int_equal(keep(s->pool, "y", fd), 0);
	assert_int_equal(pagedkv_file_take(s->pool, "x", PRINT + 1, NULL), -EACCES);
	assert_int_equal(pagedkv_file_take(s->pool, "x", 0, NULL), -EACCES);
	taken = pagedkv_file_take(s->pool, "x", PRINT, NULL);
	assert_true(taken >= 0);
	close(taken);
	close(fd);
}

static void test_kinds(void **state)
{
	const int flags = O_RDONLY | O_CLOEXEC;
	struct server *s = *state;
	const int good[] = { open("/dev/zero", flags), open("/proc/self/status", flags) };
	const int bad[] = {
		open("/", flags | O_DIRECTORY), eventfd(0, EFD_CLOEXEC),
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
	};
	int fd = open("/", O_PATH | O_CLOEXEC);

	for (int i = 0; i < 2; i++) {
		assert_int_equal(keep(s->pool, "x", good[i]), 0);
		assert_int_equal(pagedkv_file_drop(s->pool, "x"), 0);
		close(good[i]);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(keep(s->pool, "x", bad[i]), -ELOOP);
		close(bad[i]);
	}
	assert_int_equal(keep(s->pool, "x", fd), -EBADF);
	close(fd);
	assert_int_equal(keep(s->pool, "x", fd), -EBADF);
	assert_int_equal(keep(s->pool, "x", -1), -EBADF);
	assert_int_equal(pagedkv_file_drop(s->pool, "x"), -ENOENT);
}

/* As many as there may be, told piece by piece. */
static void test_many(void **state)
{
	struct pagedkv_file out[48];
	struct server *s = *state;
	int fd = make_memory("x"), n, total = 0;
	uint64_t cursor = 0;
	struct rlimit limit;
	char name[16];

	/* The embedded backend needs a descriptor for each. */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < PAGEDKV_MAX_FILES + 32)
		skip();
	for (unsigned int i = 0; i < PAGEDKV_MAX_FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		assert_int_equal(keep(s->pool, name, fd), 0);
	}
	assert_int_equal(keep(s->pool, "over", fd), -EDQUOT);
	while ((n = pagedkv_file_list(s->pool, &cursor, out, 48)) > 0)
		for (int i = 0; i < n; i++) {
			snprintf(name, sizeof(name), "f%d", total++);
			assert_string_equal(out[i].name, name);
			assert_int_equal(out[i].bytes, 64);
			assert_int_equal(out[i].fingerprint, PRINT);
			assert_int_equal(pagedkv_file_drop(s->pool, name), 0);
		}
	assert_int_equal(n, 0);
	assert_int_equal(total, PAGEDKV_MAX_FILES);
	/* A new one is behind the cursor. */
	assert_int_equal(keep(s->pool, "f0", fd), 0);
	assert_int_equal(pagedkv_file_list(s->pool, &cursor, out, 48), 1);
	cursor = 0;
	assert_int_equal(pagedkv_file_list(s->pool, &cursor, NULL, 0), 0);
	assert_int_equal(pagedkv_file_list(s->pool, &cursor, NULL, 1), -EINVAL);
	assert_int_equal(pagedkv_file_list(s->pool, NULL, out, 1), -EINVAL);
	assert_int_equal(pagedkv_file_list(NULL, &cursor, out, 1), -EINVAL);
	close(fd);
}

/* It is closed once it is dropped, and with a pool that nothing refers to. */
static void test_end(void **state)
{
	struct pagedkv_pool_params p = server_params(&small);
	struct server *s = *state;
	struct pagedkv_pool *pool;
	int reader = keep_pipe(s->pool);

	assert_true(is_open(reader));
	assert_int_equal(pagedkv_file_drop(s->pool, "pipe"), 0);
	expect_end(reader);
	assert_int_equal(pagedkv_pool_create(s->kv, &pool, &p), 0);
	reader = keep_pipe(pool);
	assert_true(is_open(reader));
	pagedkv_pool_destroy(pool);
	expect_end(reader);
}

/* With the module a name keeps it beyond its user; in a process nothing does. */
static void test_next_server(void **state)
{
	struct pagedkv_pool_params p = server_params(&small);
	struct server *s = *state;
	struct pagedkv_pool *pool;
	int fd = make_memory("keys and values"), reader;

	p.name = "warm";
	assert_int_equal(pagedkv_pool_create(s->kv, &pool, &p), 0);
	assert_int_equal(keep(pool, "kv.0", fd), 0);
	close(fd);
	reader = keep_pipe(pool);
	pagedkv_pool_destroy(pool);
	if (!on_kmod(s)) {
		expect_end(reader);
		return;
	}
	assert_true(is_open(reader));
	assert_int_equal(pagedkv_pool_create(s->kv, &pool, &p), 0);
	fd = pagedkv_file_take(pool, "kv.0", PRINT, NULL);
	assert_true(fd >= 0);
	expect_content(fd, "keys and values");
	close(fd);
	assert_int_equal(pagedkv_pool_remove(s->kv, "warm"), 0);
	assert_true(is_open(reader));
	pagedkv_pool_destroy(pool);
	expect_end(reader);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(test_keep_and_take),
		CASE(test_contract),
		CASE(test_kinds),
		CASE(test_many),
		CASE(test_end),
		CASE(test_next_server),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
