// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host tier: where it is, what it is charged to, that devices and disks can
 * use it, that nobody punches holes into it, and that no pool reads another's.
 */
#include <liburing.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "../kselftest_harness.h"
#include "kit.h"

#define SLOT	4096U
#define HUGE	(2U << 20)
#define DRIVE	"/dev/nvme0n1"

FIXTURE(host)
{
	int dev, pool;
	uint8_t *mem;
	size_t len;
};

FIXTURE_SETUP(host)
{
	self->dev = open_device();
	ASSERT_GE(self->dev, 0);
	self->pool = create_pool(self->dev, NULL, 8, 8 * (HUGE / SLOT) / 2);
	ASSERT_GE(self->pool, 0);
	self->mem = map_host(self->pool, &self->len);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(4UL * HUGE, self->len);
}

FIXTURE_TEARDOWN(host)
{
	munmap(self->mem, self->len);
	close(self->pool);
	close(self->dev);
}

static bool is_filled(const uint8_t *p, size_t len, uint8_t with)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != with)
			return false;
	return true;
}

TEST_F(host, mapping)
{
	struct pagedkv_io_host_map h = { .size = sizeof(h), .class_id = 1 };
	uint8_t *again;
	size_t len;

	EXPECT_TRUE(is_filled(self->mem, self->len, 0));
	memset(self->mem, 7, self->len);
	again = map_host(self->pool, &len);
	ASSERT_NE(NULL, again);
	EXPECT_TRUE(is_filled(again, len, 7));
	munmap(again, len);
	EXPECT_EQ(-EINVAL, call(self->pool, PAGEDKV_CMD_HOST_MAP, &h));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SLOT, PROT_READ, MAP_PRIVATE, self->pool, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, self->len + SLOT, PROT_READ, MAP_SHARED, self->pool, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SLOT, PROT_READ, MAP_SHARED, self->pool,
				   (off_t)self->len));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SLOT, PROT_READ, MAP_SHARED, self->pool, 1L << 48));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SLOT, PROT_READ, MAP_SHARED, self->pool, 5L << 48));
	again = mmap(NULL, SLOT, PROT_READ, MAP_SHARED, self->pool, (off_t)self->len - SLOT);
	EXPECT_NE(MAP_FAILED, again);
	EXPECT_EQ(7, again[SLOT - 1]);
	munmap(again, SLOT);
	EXPECT_EQ(-1, ftruncate(self->pool, 0));
}

TEST_F(host, no_holes)
{
	memset(self->mem, 9, self->len);
	EXPECT_EQ(-1, madvise(self->mem, HUGE, MADV_REMOVE));
	EXPECT_EQ(EPERM, errno);
	/* That one only forgets the mapping. */
	EXPECT_EQ(0, madvise(self->mem, self->len, MADV_DONTNEED));
	EXPECT_TRUE(is_filled(self->mem, self->len, 9));
}

TEST_F(host, huge_pages)
{
	struct pagedkv_io_host_map h = { .size = sizeof(h) };

	ASSERT_EQ(0, call(self->pool, PAGEDKV_CMD_HOST_MAP, &h));
	if (access("/sys/kernel/mm/transparent_hugepage", F_OK))
		SKIP(return, "a kernel without huge pages");
	EXPECT_EQ(self->len, h.out_huge_bytes);
	EXPECT_EQ(0, (uintptr_t)self->mem % HUGE);
}

TEST_F(host, direct_io)
{
	int fd = open(DRIVE, O_RDWR | O_DIRECT);

	if (fd < 0)
		SKIP(return, "no " DRIVE);
	memset(self->mem, 0x5a, HUGE);
	EXPECT_EQ(HUGE, pwrite(fd, self->mem, HUGE, 0));
	EXPECT_EQ(HUGE, pread(fd, self->mem + HUGE, HUGE, 0));
	EXPECT_TRUE(is_filled(self->mem + HUGE, HUGE, 0x5a));
	close(fd);
}

/* Long-term pins, as a GPU's driver takes them, and I/O through them after the pool is gone. */
TEST_F(host, fixed_buffers)
{
	struct iovec iov = { self->mem, self->len };
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	int fd = open(DRIVE, O_RDWR | O_DIRECT);

	if (fd < 0)
		SKIP(return, "no " DRIVE);
	ASSERT_EQ(0, io_uring_queue_init(4, &ring, 0));
	ASSERT_EQ(0, io_uring_register_buffers(&ring, &iov, 1));
	memset(self->mem, 0x33, HUGE);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_write_fixed(sqe, fd, self->mem, HUGE, HUGE, 0);
	ASSERT_EQ(1, io_uring_submit(&ring));
	ASSERT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
	EXPECT_EQ((int)HUGE, cqe->res);
	io_uring_cqe_seen(&ring, cqe);
	close(self->pool);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read_fixed(sqe, fd, self->mem + HUGE, HUGE, HUGE, 0);
	ASSERT_EQ(1, io_uring_submit(&ring));
	ASSERT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
	EXPECT_EQ((int)HUGE, cqe->res);
	io_uring_cqe_seen(&ring, cqe);
	io_uring_queue_exit(&ring);
	close(fd);
	self->pool = create_pool(self->dev, NULL, 8, 8);
}

TEST_F(host, next_pool_reads_zero)
{
	uint8_t *next;
	size_t len;
	int pool;

	for (int i = 0; i < 4; i++) {
		pool = create_pool(self->dev, NULL, 8, 2048);
		ASSERT_GE(pool, 0);
		next = map_host(pool, &len);
		ASSERT_NE(NULL, next);
		EXPECT_TRUE(is_filled(next, len, 0));
		memset(next, 0xaa, len);
		munmap(next, len);
		close(pool);
	}
}

static sigjmp_buf out_of_fault;

static void on_fault(int sig)
{
	siglongjmp(out_of_fault, sig);
}

/* The signal that touching @p is answered with, or 0. */
static int touch(volatile uint8_t *p)
{
	struct sigaction act = { .sa_handler = on_fault }, bus, segv;
	int sig;

	sigaction(SIGBUS, &act, &bus);
	sigaction(SIGSEGV, &act, &segv);
	sig = sigsetjmp(out_of_fault, 1);
	if (!sig)
		*p = 1;
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	return sig;
}

TEST_F(host, ends_with_its_pool)
{
	int status;
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	/* A child has the file, and not the mapping. */
	if (!pid)
		_exit(touch(self->mem));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGSEGV, WEXITSTATUS(status));
	EXPECT_EQ(0, touch(self->mem));
	close(self->pool);
	EXPECT_EQ(SIGBUS, touch(self->mem));
	self->pool = create_pool(self->dev, NULL, 8, 8);
}

TEST_F(host, node)
{
	struct pagedkv_io_pool_create p;
	void *pages[4];
	int where[4], pool;
	size_t len;
	uint8_t *mem;

	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "one NUMA node");
	for (uint32_t node = 0; node < 2; node++) {
		pool_params(&p, NULL, 8, 2048, 0);
		p.classes[0].host_node = node;
		pool = create_pool_with(self->dev, &p);
		ASSERT_GE(pool, 0);
		mem = map_host(pool, &len);
		ASSERT_NE(NULL, mem);
		for (int i = 0; i < 4; i++) {
			pages[i] = mem + i * (len / 4);
			*(uint8_t *)pages[i] = 1;
		}
		ASSERT_EQ(0, syscall(SYS_move_pages, 0, 4, pages, NULL, where, 0));
		for (int i = 0; i < 4; i++)
			EXPECT_EQ((int)node, where[i]);
		munmap(mem, len);
		close(pool);
	}
}

/* ---------------------------------------------------------------- charges */

/* A pool with 64 pages where 16 may be locked; then one of 16, twice, one after the other. */
static int try_memlock(void)
{
	struct rlimit few = { 16 * SLOT, 16 * SLOT };
	int dev = open_device(), pool;

	if (dev < 0 || setrlimit(RLIMIT_MEMLOCK, &few))
		return -EPROTO;
	if (create_pool(dev, NULL, 8, 64) != -ENOMEM)
		return -ERANGE;
	for (int i = 0; i < 2; i++) {
		pool = create_pool(dev, NULL, 8, 16);
		if (pool < 0)
			return pool;
		if (create_pool(dev, NULL, 8, 1) != -ENOMEM)
			return -EDOM;
		close(pool);
	}
	return 0;
}

TEST_F(host, memlock)
{
	ASSERT_EQ(0, chown("/dev/pagedkv", 0, 900));
	EXPECT_EQ(0, as(1001, 1001, true, try_memlock));
}

static int set_parameter(const char *name, const char *value)
{
	char path[128];
	int fd, ret;

	snprintf(path, sizeof(path), "/sys/module/pagedkv/parameters/%s", name);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -errno;
	ret = write(fd, value, strlen(value)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static int try_user_limits(void)
{
	int dev = open_device(), first, second;

	first = create_pool(dev, NULL, 8, 0);
	second = create_pool(dev, NULL, 8, 0);
	if (first < 0 || second < 0)
		return -EPROTO;
	return create_pool(dev, NULL, 8, 0);
}

TEST_F(host, user_limits)
{
	ASSERT_EQ(0, chown("/dev/pagedkv", 0, 900));
	ASSERT_EQ(0, set_parameter("max_pools_per_user", "2"));
	EXPECT_EQ(-EDQUOT, as(1001, 1001, true, try_user_limits));
	EXPECT_EQ(-EDQUOT, as(1001, 1001, true, try_user_limits));
	ASSERT_EQ(0, set_parameter("max_pools_per_user", "256"));
}

#define GROUP	"/sys/fs/cgroup/pagedkv-host"

static int write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static long read_number(const char *path)
{
	char text[32] = { 0 };
	int fd = open(path, O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return -1;
	close(fd);
	return strtol(text, NULL, 10);
}

/* In a group of 16 MiB: 8 fit and are charged, 32 do not, and nobody is killed for it. */
static int in_small_group(void)
{
	long before, now;
	int dev, pool;

	if (write_to(GROUP "/cgroup.procs", "0"))
		return 1;
	dev = open_device();
	if (create_pool(dev, NULL, 8, 8192) != -ENOMEM)
		return 2;
	before = read_number(GROUP "/memory.current");
	pool = create_pool(dev, NULL, 8, 2048);
	now = read_number(GROUP "/memory.current");
	if (pool < 0 || now - before < 2048L * SLOT - 65536)
		return 3;
	close(pool);
	return 0;
}

TEST_F(host, memcg)
{
	int status;
	pid_t pid;

	if (mkdir(GROUP, 0755) && errno != EEXIST)
		SKIP(return, "no cgroups");
	if (write_to(GROUP "/memory.max", "16777216"))
		SKIP(return, "no memory cgroup");
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(in_small_group());
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	rmdir(GROUP);
}

TEST_HARNESS_MAIN
