// SPDX-License-Identifier: GPL-2.0-only
/* /proc/pagedkv: that it tells the truth, to those whom it concerns. */
#include <dirent.h>
#include <signal.h>
#include <stddef.h>

#include "../kselftest_harness.h"
#include "kit.h"

static char text[1 << 20];

/* The whole file, @chunk bytes a read; -errno, or its length. */
static int slurp(const char *path, size_t chunk)
{
	int fd = open(path, O_RDONLY);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while (len + chunk < sizeof(text) && (n = read(fd, text + len, chunk)) > 0)
		len += (size_t)n;
	text[len] = 0;
	close(fd);
	return (int)len;
}

static const char *pool_file(uint32_t id, const char *name)
{
	static char path[64];

	snprintf(path, sizeof(path), "/proc/pagedkv/%u/%s", id, name);
	return path;
}

/* Lines of a pool's file below the heading; the file is in @text. */
static int nr_lines(uint32_t id, const char *name)
{
	int n = -1;

	if (slurp(pool_file(id, name), 4096) < 0)
		return -1;
	for (const char *p = text; *p; p++)
		n += *p == '\n';
	return n;
}

static uint64_t number(const char *file, const char *key)
{
	const char *at;

	if (slurp(file, 4096) < 0)
		return UINT64_MAX;
	at = strstr(text, key);
	return at ? strtoull(at + strlen(key), NULL, 10) : UINT64_MAX;
}

static uint32_t id_of(int pool)
{
	struct pagedkv_io_pool_info info = { .size = sizeof(info) };

	return call(pool, PAGEDKV_CMD_POOL_INFO, &info) ? 0 : info.out_id;
}

FIXTURE(proc)
{
	int dev, pool;
	uint32_t id;
};

FIXTURE_SETUP(proc)
{
	self->dev = open_device();
	ASSERT_GE(self->dev, 0);
	destroy_pool(self->dev, "proc");
	self->pool = create_pool(self->dev, "proc", 256, 16);
	ASSERT_GE(self->pool, 0);
	self->id = id_of(self->pool);
	ASSERT_NE(0, self->id);
}

FIXTURE_TEARDOWN(proc)
{
	close(self->pool);
	destroy_pool(self->dev, "proc");
	close(self->dev);
}

TEST_F(proc, version_and_pools)
{
	char line[128];

	EXPECT_LT(0, slurp("/proc/pagedkv/version", 64));
	EXPECT_LT(0, slurp("/proc/pagedkv/pools", 64));
	snprintf(line, sizeof(line), "\n%u proc 0 0 0600 1 1 1 %016x\n", self->id, 0);
	EXPECT_NE(NULL, strstr(text, line)) { TH_LOG("%s", text); }
}

TEST_F(proc, maps)
{
	struct pagedkv_io_key keys[2];
	uint64_t a, child;

	EXPECT_EQ(0, nr_lines(self->id, "maps"));
	ASSERT_EQ(0, create_seq(self->pool, NULL, 0, &a, NULL));
	ASSERT_EQ(0, append(self->pool, a, 6 * PAGE_TOKENS));
	EXPECT_EQ(1, nr_lines(self->id, "maps"));
	EXPECT_NE(NULL, strstr(text, "\n0 0-5 0-5 - - 1 held 0\n")) { TH_LOG("%s", text); }
	make_keys(keys, 2, 3);
	ASSERT_EQ(2, publish(self->pool, a, keys, 2));
	EXPECT_EQ(2, nr_lines(self->id, "maps"));
	EXPECT_NE(NULL, strstr(text, "\n0 0-1 0-1 - - 1 held 1\n")) { TH_LOG("%s", text); }
	ASSERT_EQ(0, one_op(self->pool, a, PAGEDKV_IO_OP_FORK, 0, &child));
	EXPECT_EQ(2, nr_lines(self->id, "maps"));
	EXPECT_NE(NULL, strstr(text, "\n0 2-5 2-5 - - 2 held 0\n")) { TH_LOG("%s", text); }
	ASSERT_EQ(0, one_op(self->pool, a, PAGEDKV_IO_OP_FREE, 0, NULL));
	ASSERT_EQ(0, one_op(self->pool, child, PAGEDKV_IO_OP_FREE, 0, NULL));
	EXPECT_EQ(1, nr_lines(self->id, "maps"));
	EXPECT_NE(NULL, strstr(text, "\n0 0-1 0-1 - - 0 cached 1\n")) { TH_LOG("%s", text); }
}

TEST_F(proc, sequences_and_limits)
{
	char line[128];
	uint64_t a, b;

	ASSERT_EQ(0, create_seq(self->pool, NULL, 0, &a, NULL));
	ASSERT_EQ(0, create_seq(self->pool, NULL, 0, &b, NULL));
	ASSERT_EQ(0, append(self->pool, a, 20));
	EXPECT_EQ(2, nr_lines(self->id, "sequences"));
	snprintf(line, sizeof(line), "\n%u.%u ", (uint32_t)a, (uint32_t)(a >> 32));
	EXPECT_NE(NULL, strstr(text, line)) { TH_LOG("%s", text); }
	EXPECT_NE(NULL, strstr(text, " 0 running 20 2 1 0\n")) { TH_LOG("%s", text); }
	EXPECT_EQ(3, nr_lines(self->id, "limits"));
	EXPECT_NE(NULL, strstr(text, "\n0 device 256 256 256 2 0 0 online 16 4096\n"));
	EXPECT_NE(NULL, strstr(text, "\n0 host 16 16 16 0 0 0 online 16 4096\n"));
}

TEST_F(proc, tables)
{
	char line[128];
	uint64_t a, b, child;

	EXPECT_EQ(0, nr_lines(self->id, "tables"));
	ASSERT_EQ(0, create_seq(self->pool, NULL, 0, &a, NULL));
	ASSERT_EQ(0, create_seq(self->pool, NULL, 0, &b, NULL));
	EXPECT_EQ(0, nr_lines(self->id, "tables"));
	ASSERT_EQ(0, append(self->pool, a, 3 * PAGE_TOKENS));
	ASSERT_EQ(0, append(self->pool, b, 2 * PAGE_TOKENS));
	ASSERT_EQ(0, append(self->pool, a, PAGE_TOKENS));
	EXPECT_EQ(3, nr_lines(self->id, "tables"));
	snprintf(line, sizeof(line), "\n%u.%u 0 0-2 0-2\n%u.%u 0 3-3 5-5\n", (uint32_t)a,
		 (uint32_t)(a >> 32), (uint32_t)a, (uint32_t)(a >> 32));
	EXPECT_NE(NULL, strstr(text, line)) { TH_LOG("%s", text); }
	snprintf(line, sizeof(line), "\n%u.%u 0 0-1 3-4\n", (uint32_t)b, (uint32_t)(b >> 32));
	EXPECT_NE(NULL, strstr(text, line)) { TH_LOG("%s", text); }
	ASSERT_EQ(0, one_op(self->pool, a, PAGEDKV_IO_OP_FORK, 0, &child));
	EXPECT_EQ(5, nr_lines(self->id, "tables"));
	ASSERT_EQ(0, one_op(self->pool, a, PAGEDKV_IO_OP_FREE, 0, NULL));
	ASSERT_EQ(0, one_op(self->pool, b, PAGEDKV_IO_OP_FREE, 0, NULL));
	EXPECT_EQ(2, nr_lines(self->id, "tables"));
	snprintf(line, sizeof(line), "\n%u.%u 0 0-2 0-2\n", (uint32_t)child,
		 (uint32_t)(child >> 32));
	EXPECT_NE(NULL, strstr(text, line)) { TH_LOG("%s", text); }
}

TEST_F(proc, files)
{
	int fd = open("/dev/null", O_RDWR);

	EXPECT_EQ(0, nr_lines(self->id, "files"));
	EXPECT_EQ(0, strcmp(text, "name bytes fingerprint uid\n"));
	ASSERT_EQ(0, keep_file(self->pool, "kv.0", fd, 4096, 0xabc));
	ASSERT_EQ(0, keep_file(self->pool, "kv.1", fd, UINT64_MAX, UINT64_MAX));
	close(fd);
	EXPECT_EQ(2, nr_lines(self->id, "files"));
	EXPECT_NE(NULL, strstr(text, "\nkv.0 4096 0000000000000abc 0\n"
			       "kv.1 18446744073709551615 ffffffffffffffff 0\n")) {
		TH_LOG("%s", text);
	}
	ASSERT_EQ(0, drop_file(self->pool, "kv.0"));
	EXPECT_EQ(1, nr_lines(self->id, "files"));
}

/* Read byte by byte or at once, it is the same. */
TEST_F(proc, any_read_size)
{
	static const char *const files[] = { "maps", "sequences", "tables", "files" };
	static char whole[sizeof(text)];
	int fd = open("/dev/null", O_RDWR);
	char name[16];
	uint64_t seq;

	for (int i = 0; i < 60; i++) {
		ASSERT_EQ(0, create_seq(self->pool, NULL, 0, &seq, NULL));
		ASSERT_EQ(0, append(self->pool, seq, 1 + i % 3 * PAGE_TOKENS));
		if (i % 3 == 1)
			ASSERT_EQ(0, one_op(self->pool, seq, PAGEDKV_IO_OP_FREE, 0, NULL));
		snprintf(name, sizeof(name), "f%d", i);
		ASSERT_EQ(0, keep_file(self->pool, name, fd, 1, 2));
	}
	close(fd);
	for (int f = 0; f < 4; f++) {
		const char *path = pool_file(self->id, files[f]);

		ASSERT_LT(100, slurp(path, 65536));
		memcpy(whole, text, sizeof(text));
		ASSERT_LT(100, slurp(path, 1));
		EXPECT_EQ(0, strcmp(whole, text));
		ASSERT_LT(100, slurp(path, 97));
		EXPECT_EQ(0, strcmp(whole, text));
	}
}

TEST_F(proc, sums)
{
	uint64_t pools = number("/proc/pagedkv/stat", "pools ");
	uint64_t allocs = number("/proc/pagedkv/stat", "\nallocs ");
	uint64_t kb = number("/proc/pagedkv/meminfo", "HostTotal:");
	uint64_t seq;
	int pool = create_pool(self->dev, NULL, 8, 256);

	ASSERT_GE(pool, 0);
	EXPECT_EQ(pools + 1, number("/proc/pagedkv/stat", "pools "));
	EXPECT_EQ(kb + 1024, number("/proc/pagedkv/meminfo", "HostTotal:"));
	ASSERT_EQ(0, create_seq(pool, NULL, 0, &seq, NULL));
	ASSERT_EQ(0, append(pool, seq, 3 * PAGE_TOKENS));
	EXPECT_EQ(allocs + 3, number("/proc/pagedkv/stat", "\nallocs "));
	close(pool);
	EXPECT_EQ(pools, number("/proc/pagedkv/stat", "pools "));
	EXPECT_EQ(kb, number("/proc/pagedkv/meminfo", "HostTotal:"));
	EXPECT_LT(0, slurp("/proc/pagedkv/tiers", 4096));
}

/* An open file of a pool that goes is no way to it any more. */
TEST_F(proc, pool_goes)
{
	int pool = create_pool(self->dev, NULL, 8, 0), fd;
	uint32_t id = id_of(pool);
	char byte;

	fd = open(pool_file(id, "maps"), O_RDONLY);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(1, read(fd, &byte, 1));
	close(pool);
	EXPECT_GT(0, read(fd, &byte, 1));
	close(fd);
	EXPECT_EQ(-ENOENT, slurp(pool_file(id, "maps"), 1));
}

static uint32_t root_id;
static int try_proc(void)
{
	static const char *const files[] = { "pools", "stat", "meminfo", "tiers", "version" };
	char path[64];

	if (slurp(pool_file(root_id, "maps"), 64) != -EACCES ||
	    slurp(pool_file(root_id, "sequences"), 64) != -EACCES ||
	    slurp(pool_file(root_id, "tables"), 64) != -EACCES ||
	    slurp(pool_file(root_id, "files"), 64) != -EACCES ||
	    slurp(pool_file(root_id, "limits"), 64) != -EACCES)
		return -1;
	for (int i = 0; i < 5; i++) {
		snprintf(path, sizeof(path), "/proc/pagedkv/%s", files[i]);
		if (slurp(path, 64) < 0 || strstr(text, "proc"))
			return -2;
	}
	return number("/proc/pagedkv/stat", "pools ") ? -3 : 0;
}

TEST_F(proc, other_users)
{
	root_id = self->id;
	EXPECT_EQ(0, as(1002, 1002, true, try_proc));
}

/* -------------------------------------------------------- debugfs, tracing */

TEST_F(proc, check)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/debug/pagedkv/%u/check", self->id);
	if (access("/sys/kernel/debug/pagedkv", F_OK))
		SKIP(return, "no debugfs");
	EXPECT_LT(0, slurp(path, 64));
	EXPECT_EQ(0, strcmp(text, "ok\n")) { TH_LOG("%s", text); }
}

#define TRACING	"/sys/kernel/tracing"

static int write_to(const char *path, const char *what)
{
	int fd = open(path, O_WRONLY | O_TRUNC), ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, what, strlen(what)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

TEST_F(proc, trace)
{
	static const char *const events[] = {
		"pagedkv_alloc: pool=%u nr=50", "pagedkv_fork: pool=%u nr=1",
		"pagedkv_miss: pool=%u nr=3", "pagedkv_free: pool=%u nr=",
		"pagedkv_move_begin: pool=%u client=", "pagedkv_move_commit: pool=%u id=",
		"pagedkv_evict: pool=%u nr=", "pagedkv_hold: pool=%u ns=",
	};
	struct pagedkv_io_key keys[3];
	struct pagedkv_io_move moves[16];
	uint64_t a = 0, b = 0, child = 0;
	char line[128];
	int n;

	if (access(TRACING "/events/pagedkv", F_OK))
		SKIP(return, "no tracing");
	ASSERT_EQ(0, write_to(TRACING "/trace", ""));
	ASSERT_EQ(0, write_to(TRACING "/events/pagedkv/enable", "1"));
	make_keys(keys, 3, 77);
	EXPECT_EQ(0, create_seq(self->pool, keys, 3, &a, NULL));
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(0, append(self->pool, a, 50 * PAGE_TOKENS));
	EXPECT_EQ(0, one_op(self->pool, a, PAGEDKV_IO_OP_FORK, 0, &child));
	EXPECT_EQ(0, one_op(self->pool, child, PAGEDKV_IO_OP_FREE, 0, NULL));
	EXPECT_EQ(0, advise(self->pool, a, PAGEDKV_IO_COLD));
	EXPECT_EQ(0, create_seq(self->pool, NULL, 0, &b, NULL));
	EXPECT_EQ(0, append(self->pool, b, 50 * PAGE_TOKENS));
	EXPECT_EQ(-EAGAIN, append(self->pool, b, 10 * PAGE_TOKENS));
	while ((n = fetch(self->pool, moves, 16)) > 0)
		EXPECT_EQ(0, commit(self->pool, moves, (uint32_t)n));
	EXPECT_EQ(0, one_op(self->pool, b, PAGEDKV_IO_OP_FREE, 0, NULL));
	EXPECT_EQ(0, write_to(TRACING "/events/pagedkv/enable", "0"));
	EXPECT_LT(0, slurp(TRACING "/trace", 4096));
	for (unsigned int i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		snprintf(line, sizeof(line), events[i], self->id);
		EXPECT_NE(NULL, strstr(text, line)) { TH_LOG("%s", line); }
	}
}

/* Bug: whoever looked at a pool kept its name for it when its last client had gone. */
TEST_F(proc, readers_keep_no_name)
{
	struct pagedkv_io_pool_create p;
	int pool, status;
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid)
		for (;;)
			slurp("/proc/pagedkv/stat", 4096);
	pool_params(&p, "brief", 8, 0, 0);
	p.flags = 0;
	for (int i = 0; i < 10000; i++) {
		pool = create_pool_with(self->dev, &p);
		EXPECT_LE(0, pool) {
			TH_LOG("pool %d", i);
		}
		if (pool < 0)
			break;
		close(pool);
	}
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
}

TEST_HARNESS_MAIN
