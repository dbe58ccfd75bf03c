// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files that a pool keeps for the next server: they outlive who gave them, go
 * to those who may have them, and are closed when nobody can have them any more.
 */
#include <linux/dma-buf.h>
#include <linux/io_uring.h>
#include <linux/udmabuf.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "../kselftest_harness.h"
#include "kit.h"

#define NAME		"foreign"
#define PRINT		0xfeedf00d12345678ULL
#define BYTES		(4U << 20)
#define MODULE		"/modules/pagedkv.ko"	/* in tests/vm's guests */

FIXTURE(foreign)
{
	int dev, pool;
};

FIXTURE_SETUP(foreign)
{
	self->dev = open_device();
	ASSERT_GE(self->dev, 0);
	destroy_pool(self->dev, NAME);
	self->pool = create_pool(self->dev, NAME, 8, 0);
	ASSERT_GE(self->pool, 0);
}

FIXTURE_TEARDOWN(foreign)
{
	EXPECT_EQ(0, check_pool(self->pool));
	close(self->pool);
	destroy_pool(self->dev, NAME);
	close(self->dev);
}

static uint32_t word(uint32_t i)
{
	return (i + 1) * 2654435761U;
}

/* A memfd with content that is nobody else's. */
static int make_memory(void)
{
	int fd = (int)syscall(SYS_memfd_create, "allocation", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint32_t *p;

	if (fd < 0 || ftruncate(fd, BYTES))
		return -1;
	p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -1;
	for (uint32_t i = 0; i < BYTES / 4; i++)
		p[i] = word(i);
	munmap(p, BYTES);
	return fd;
}

static bool is_intact(int fd)
{
	uint32_t *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	bool good = p != MAP_FAILED;

	for (uint32_t i = 0; good && i < BYTES / 4; i++)
		good = p[i] == word(i);
	if (p != MAP_FAILED)
		munmap(p, BYTES);
	return good;
}

/* The write end of a pipe goes to @pool and nowhere else: @reader sees when it is closed. */
static int keep_pipe(int pool, const char *name, int *reader)
{
	int p[2], ret;

	if (pipe2(p, O_CLOEXEC))
		return -errno;
	ret = keep_file(pool, name, p[1], 0, 0);
	close(p[1]);
	*reader = p[0];
	return ret;
}

static bool is_open(int reader)
{
	struct pollfd p = { .fd = reader };

	return poll(&p, 1, 0) == 0;
}

/* It ends, if not at once: what a killed process had goes a little after it. */
static bool ends(int reader)
{
	struct pollfd p = { .fd = reader };
	bool ended = poll(&p, 1, 20000) == 1 && p.revents & POLLHUP;

	close(reader);
	return ended;
}

static int list_files(int pool, struct pagedkv_io_file_entry *entries, uint32_t nr,
		      uint64_t *cursor)
{
	struct pagedkv_io_file_list l = {
		.size = sizeof(l), .cursor = *cursor, .entries = user_ptr(entries), .nr = nr,
	};
	int ret = call(pool, PAGEDKV_CMD_FILE_LIST, &l);

	*cursor = l.cursor;
	return ret ? ret : (int)l.out_nr;
}

static int nr_files(int pool)
{
	static struct pagedkv_io_file_entry entries[PAGEDKV_IO_MAX_FILES + 1];
	uint64_t cursor = 0;

	return list_files(pool, entries, PAGEDKV_IO_MAX_FILES + 1, &cursor);
}

/* --------------------------------------------------------------- keep, take */

static void keep_and_die(int to_parent, void *arg)
{
	int pool = create_pool(open_device(), arg, 8, 0);
	int fd = make_memory();

	tell_parent(to_parent, pool >= 0 && fd >= 0 && !keep_file(pool, "kv.0", fd, BYTES, PRINT));
}

/* Warm restart: the server is killed, the next one finds its memory as it was. */
TEST_F(foreign, outlives_its_giver)
{
	struct pagedkv_io_file_take t = { .size = sizeof(t), .name = "kv.0", .fingerprint = PRINT };
	struct stat st;
	int pool, fd;

	ASSERT_EQ(0, kill_at(keep_and_die, "warm"));
	EXPECT_EQ(-EACCES, open_pool(self->dev, "warm", PRINT));
	pool = open_pool(self->dev, "warm", 0);
	ASSERT_GE(pool, 0);
	ASSERT_EQ(0, call(pool, PAGEDKV_CMD_FILE_TAKE, &t));
	fd = t.out_fd;
	EXPECT_EQ(BYTES, t.out_bytes);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ(BYTES, st.st_size);
	EXPECT_TRUE(is_intact(fd));
	close(fd);
	/* Once more: it is still there, also when this client is gone and the name is not. */
	close(pool);
	pool = open_pool(self->dev, "warm", 0);
	fd = take_file(pool, "kv.0", PRINT);
	EXPECT_TRUE(is_intact(fd));
	/* Taken, it is the taker's, whatever becomes of the pool. */
	EXPECT_EQ(0, destroy_pool(self->dev, "warm"));
	close(pool);
	EXPECT_TRUE(is_intact(fd));
	close(fd);
}

/* What is taken is the very file that was given: one offset, one set of flags. */
TEST_F(foreign, the_same_file)
{
	int fd = make_memory(), a, b;

	ASSERT_EQ(0, keep_file(self->pool, "x", fd, 0, 1));
	a = take_file(self->pool, "x", 1);
	b = take_file(self->pool, "x", 1);
	ASSERT_GE(a, 0);
	ASSERT_GE(b, 0);
	EXPECT_NE(a, b);
	EXPECT_EQ(77, lseek(fd, 77, SEEK_SET));
	EXPECT_EQ(77, lseek(a, 0, SEEK_CUR));
	EXPECT_EQ(77, lseek(b, 0, SEEK_CUR));
	close(a);
	close(b);
	close(fd);
}

TEST_F(foreign, fingerprint)
{
	int fd = make_memory(), taken;

	ASSERT_EQ(0, keep_file(self->pool, "x", fd, BYTES, PRINT));
	EXPECT_EQ(-EACCES, take_file(self->pool, "x", 0));
	EXPECT_EQ(-EACCES, take_file(self->pool, "x", PRINT + 1));
	EXPECT_EQ(-EACCES, take_file(self->pool, "x", PRINT ^ 1ULL << 63));
	taken = take_file(self->pool, "x", PRINT);
	EXPECT_GE(taken, 0);
	close(taken);
	close(fd);
}

TEST_F(foreign, names)
{
	char longest[PAGEDKV_IO_NAME_BYTES];
	struct pagedkv_io_file_keep k = { .size = sizeof(k) };
	int fd = make_memory(), other = make_memory(), taken;

	memset(longest, 'n', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	EXPECT_EQ(0, keep_file(self->pool, longest, fd, 0, 0));
	taken = take_file(self->pool, longest, 0);
	EXPECT_GE(taken, 0);
	close(taken);
	EXPECT_EQ(-EINVAL, keep_file(self->pool, "", fd, 0, 0));
	EXPECT_EQ(-EINVAL, keep_file(self->pool, ".x", fd, 0, 0));
	EXPECT_EQ(-EINVAL, keep_file(self->pool, "a/b", fd, 0, 0));
	EXPECT_EQ(-EINVAL, keep_file(self->pool, "a b", fd, 0, 0));
	EXPECT_EQ(-EINVAL, take_file(self->pool, "", 0));
	EXPECT_EQ(-EINVAL, drop_file(self->pool, "../x"));
	k.fd = fd;
	memset(k.name, 'n', sizeof(k.name));
	EXPECT_EQ(-EINVAL, call(self->pool, PAGEDKV_CMD_FILE_KEEP, &k));
	memcpy(k.name, "a\0b", 4);
	EXPECT_EQ(-EINVAL, call(self->pool, PAGEDKV_CMD_FILE_KEEP, &k));
	/* A name is taken until it is dropped; a file may have two, and pools have their own. */
	EXPECT_EQ(0, keep_file(self->pool, "x", fd, 0, 1));
	EXPECT_EQ(-EEXIST, keep_file(self->pool, "x", fd, 0, 1));
	EXPECT_EQ(-EEXIST, keep_file(self->pool, "x", other, 0, 2));
	EXPECT_EQ(0, keep_file(self->pool, "y", fd, 0, 1));
	EXPECT_EQ(-ENOENT, take_file(self->pool, "z", 0));
	EXPECT_EQ(-ENOENT, drop_file(self->pool, "z"));
	EXPECT_EQ(0, drop_file(self->pool, "x"));
	EXPECT_EQ(-ENOENT, drop_file(self->pool, "x"));
	EXPECT_EQ(-ENOENT, take_file(self->pool, "x", 1));
	EXPECT_EQ(0, keep_file(self->pool, "x", other, 0, 2));
	EXPECT_EQ(3, nr_files(self->pool));
	close(fd);
	close(other);
}

/* The table is full, and is read piece by piece while it changes. */
TEST_F(foreign, many)
{
	struct pagedkv_io_file_entry entries[7];
	int fd = make_memory(), reader, total = 0, n;
	uint64_t cursor = 0;
	char name[16];

	ASSERT_EQ(0, keep_pipe(self->pool, "pipe", &reader));
	for (unsigned int i = 1; i < PAGEDKV_IO_MAX_FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		ASSERT_EQ(0, keep_file(self->pool, name, fd, i, i + PRINT));
	}
	EXPECT_EQ(-EDQUOT, keep_file(self->pool, "over", fd, 0, 0));
	EXPECT_EQ(PAGEDKV_IO_MAX_FILES, nr_files(self->pool));
	EXPECT_EQ(0, drop_file(self->pool, "pipe"));
	EXPECT_TRUE(ends(reader));
	while ((n = list_files(self->pool, entries, 7, &cursor)) > 0) {
		for (int i = 0; i < n; i++) {
			snprintf(name, sizeof(name), "f%d", ++total);
			EXPECT_EQ(0, strcmp(name, (char *)entries[i].name));
			EXPECT_EQ((uint64_t)total, entries[i].bytes);
			EXPECT_EQ((uint64_t)total + PRINT, entries[i].fingerprint);
			EXPECT_EQ(0U, entries[i].uid);
			EXPECT_EQ(0U, entries[i].reserved);
		}
		/* What was told goes, and what is not told yet stays where it was. */
		ASSERT_EQ(0, drop_file(self->pool, (char *)entries[n - 1].name));
	}
	EXPECT_EQ(0, n);
	EXPECT_EQ((int)PAGEDKV_IO_MAX_FILES - 1, total);
	EXPECT_EQ(0, list_files(self->pool, entries, 7, &cursor));
	cursor = UINT64_MAX;
	EXPECT_EQ(0, list_files(self->pool, entries, 7, &cursor));
	cursor = 0;
	EXPECT_EQ(0, list_files(self->pool, entries, 0, &cursor));
	EXPECT_EQ(0, keep_file(self->pool, "room", fd, 0, 0));
	close(fd);
}

/* ------------------------------------------------------------ kinds of file */

static int open_ring(void)
{
	struct io_uring_params p = { 0 };

	return (int)syscall(__NR_io_uring_setup, 4, &p);
}

/* What may refer to a pool in turn is not kept, and nothing of it either. */
TEST_F(foreign, refused)
{
	int other = create_pool(self->dev, NULL, 8, 0), pair[2], fd;
	struct pollfd p;
	const struct {
		const char *what;
		int fd;
	} kinds[] = {
		{ "its own pool", self->pool },
		{ "another pool", other },
		{ "the device", self->dev },
		{ "io_uring", open_ring() },
		{ "a socket", socket(AF_UNIX, SOCK_STREAM, 0) },
		{ "a datagram socket", socket(AF_UNIX, SOCK_DGRAM, 0) },
		{ "another socket", socket(AF_NETLINK, SOCK_RAW, 0) },
		{ "epoll", epoll_create1(0) },
		{ "an eventfd", eventfd(0, 0) },
		{ "a timer", timerfd_create(CLOCK_MONOTONIC, 0) },
		{ "a folder", open("/", O_RDONLY | O_DIRECTORY) },
	};

	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		ASSERT_GE(kinds[i].fd, 0) { TH_LOG("%s", kinds[i].what); }
		EXPECT_EQ(-ELOOP, keep_file(self->pool, "x", kinds[i].fd, 0, 0)) {
			TH_LOG("%s", kinds[i].what);
		}
		if (i > 2)
			close(kinds[i].fd);
	}
	EXPECT_EQ(-EBADF, keep_file(self->pool, "x", -1, 0, 0));
	EXPECT_EQ(-EBADF, keep_file(self->pool, "x", 999, 0, 0));
	fd = open("/", O_PATH);
	EXPECT_EQ(-EBADF, keep_file(self->pool, "x", fd, 0, 0));
	close(fd);
	EXPECT_EQ(0, nr_files(self->pool));
	/* Nobody but its owner refers to what was refused: a socket, a pool. */
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	EXPECT_EQ(-ELOOP, keep_file(self->pool, "x", pair[1], 0, 0));
	close(pair[1]);
	p = (struct pollfd) { .fd = pair[0] };
	EXPECT_EQ(1, poll(&p, 1, 0));
	close(pair[0]);
	ASSERT_EQ(0, keep_pipe(other, "last", &fd));
	EXPECT_EQ(-ELOOP, keep_file(other, "x", other, 0, 0));
	EXPECT_EQ(-ELOOP, keep_file(other, "x", self->pool, 0, 0));
	close(other);
	EXPECT_TRUE(ends(fd));
}

TEST_F(foreign, kinds)
{
	static const char *const paths[] = { "/dev/zero", "/proc/self/status", "/dev/nvme0n1" };
	int fd, taken;

	for (int i = 0; i < 3; i++) {
		fd = open(paths[i], O_RDONLY);
		if (fd < 0)
			continue;
		EXPECT_EQ(0, keep_file(self->pool, "x", fd, 0, 0)) { TH_LOG("%s", paths[i]); }
		taken = take_file(self->pool, "x", 0);
		EXPECT_GE(taken, 0);
		close(taken);
		EXPECT_EQ(0, drop_file(self->pool, "x"));
		close(fd);
	}
}

/* A dma-buf, which is how most drivers export an allocation: memory that outlives descriptors. */
TEST_F(foreign, dma_buf)
{
	struct udmabuf_create c = { .size = BYTES };
	int driver = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), fd;

	if (driver < 0)
		SKIP(return, "no udmabuf in this kernel");
	c.memfd = make_memory();
	ASSERT_EQ(0, fcntl(c.memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	fd = ioctl(driver, UDMABUF_CREATE, &c);
	ASSERT_GE(fd, 0);
	close(c.memfd);
	close(driver);
	EXPECT_EQ(0, keep_file(self->pool, "gpu", fd, BYTES, PRINT));
	close(fd);
	fd = take_file(self->pool, "gpu", PRINT);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(BYTES, lseek(fd, 0, SEEK_END));
	EXPECT_TRUE(is_intact(fd));
	close(fd);
}

/* ------------------------------------------------------------------ the end */

static void keep_unnamed(int to_parent, void *arg)
{
	int pool = create_pool(open_device(), NULL, 8, 0);

	tell_parent(to_parent, !keep_file(pool, "w", *(int *)arg, 0, 0) &&
		    is_open(((int *)arg)[1]));
}

/* Nobody can have it any more, so it is closed: the other end of a pipe sees that. */
TEST_F(foreign, really_closed)
{
	int pool, client, reader, p[2], ends_of_child[2];

	/* Dropped. */
	ASSERT_EQ(0, keep_pipe(self->pool, "w", &reader));
	EXPECT_TRUE(is_open(reader));
	EXPECT_EQ(0, drop_file(self->pool, "w"));
	EXPECT_TRUE(ends(reader));
	/* The last client of a pool without a name. */
	pool = create_pool(self->dev, NULL, 8, 0);
	ASSERT_EQ(0, keep_pipe(pool, "w", &reader));
	client = dup(pool);
	close(pool);
	EXPECT_TRUE(is_open(reader));
	close(client);
	EXPECT_TRUE(ends(reader));
	/* A name that is destroyed: at once, or with the last client. */
	pool = create_pool(self->dev, "gone", 8, 0);
	ASSERT_EQ(0, keep_pipe(pool, "w", &reader));
	close(pool);
	EXPECT_TRUE(is_open(reader));
	pool = open_pool(self->dev, "gone", 0);
	ASSERT_GE(pool, 0);
	EXPECT_EQ(0, destroy_pool(self->dev, "gone"));
	EXPECT_TRUE(is_open(reader));
	close(pool);
	EXPECT_TRUE(ends(reader));
	pool = create_pool(self->dev, "gone", 8, 0);
	ASSERT_EQ(0, keep_pipe(pool, "w", &reader));
	close(pool);
	EXPECT_TRUE(is_open(reader));
	EXPECT_EQ(0, destroy_pool(self->dev, "gone"));
	EXPECT_TRUE(ends(reader));
	/* Killed. */
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	ends_of_child[0] = p[1];
	ends_of_child[1] = p[0];
	ASSERT_EQ(0, kill_at(keep_unnamed, ends_of_child));
	close(p[1]);
	EXPECT_TRUE(ends(p[0]));
}

/* Where nothing can be written there is no descriptor either; and where none is free. */
TEST_F(foreign, nowhere_to_put_it)
{
	struct rlimit none = { 1, 1 };
	struct pagedkv_io_file_take *t = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int reader, next = dup(0);

	ASSERT_NE(MAP_FAILED, t);
	ASSERT_EQ(0, keep_pipe(self->pool, "w", &reader));
	t->size = sizeof(*t);
	t->name[0] = 'w';
	ASSERT_EQ(0, mprotect(t, 4096, PROT_READ));
	EXPECT_EQ(-EFAULT, call(self->pool, PAGEDKV_CMD_FILE_TAKE, t));
	munmap(t, 4096);
	EXPECT_EQ(next + 2, dup(0));
	EXPECT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(-EMFILE, take_file(self->pool, "w", 0));
	EXPECT_EQ(0, drop_file(self->pool, "w"));
	EXPECT_TRUE(ends(reader));
}

/* ------------------------------------------------------------------- others */

static int try_take(void)
{
	int dev = open_device(), pool, fd;

	if (dev < 0)
		return dev;
	pool = open_pool(dev, "others", 0);
	if (pool < 0)
		return pool;
	fd = take_file(pool, "x", PRINT);
	return fd < 0 ? fd : is_intact(fd) ? 0 : -EPROTO;
}

TEST_F(foreign, other_users)
{
	struct pagedkv_io_pool_create p;
	int fd = make_memory(), pool;

	ASSERT_EQ(0, chown("/dev/pagedkv", 0, 900));
	pool_params(&p, "others", 8, 0, 0);
	for (int i = 0; i < 3; i++) {
		p.mode = i == 0 ? 0600 : i == 1 ? 0604 : 0606;
		pool = create_pool_with(self->dev, &p);
		ASSERT_GE(pool, 0);
		ASSERT_EQ(0, keep_file(pool, "x", fd, BYTES, PRINT));
		EXPECT_EQ(i == 2 ? 0 : -EACCES, as(1002, 1002, true, try_take));
		EXPECT_EQ(-EACCES, as(1003, 1003, false, try_take));
		close(pool);
		EXPECT_EQ(0, destroy_pool(self->dev, "others"));
	}
	close(fd);
}

/* A pool's descriptor is the right to it: who gets it passed may take, whoever he is. */
TEST_F(foreign, passed_on)
{
	int pair[2], fd = make_memory(), status;
	pid_t pid;

	ASSERT_EQ(0, keep_file(self->pool, "x", fd, BYTES, PRINT));
	close(fd);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		int pool;

		close(self->pool);
		close(self->dev);
		if (setgroups(0, NULL) || setgid(1003) || setuid(1003))
			_exit(1);
		pool = receive_fd(pair[1]);
		fd = take_file(pool, "x", PRINT);
		_exit(!is_intact(fd) || keep_file(pool, "y", fd, 0, 0));
	}
	ASSERT_EQ(0, send_fd(pair[0], self->pool));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(2, nr_files(self->pool));
	close(pair[0]);
	close(pair[1]);
}

/* -------------------------------------------------------------- all at once */

#define NR_NAMES	8U

/* A few names, kept, taken and dropped by whoever comes first. */
static void scramble(uint64_t rng, int writer, unsigned int rounds)
{
	int pool = open_pool(open_device(), NAME, 0), fd;
	char name[2] = { 0 };

	for (unsigned int i = 0; i < rounds; i++) {
		rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
		name[0] = (char)('a' + (rng >> 40) % NR_NAMES);
		switch (rng >> 62) {
		case 0:
			keep_file(pool, name, writer, 0, 7);
			break;
		case 1:
			drop_file(pool, name);
			break;
		case 2:
			nr_files(pool);
			break;
		default:
			fd = take_file(pool, name, 7);
			if (fd >= 0)
				close(fd);
		}
	}
}

static void drop_all(int pool)
{
	char name[2] = { 0 };

	for (unsigned int i = 0; i < NR_NAMES; i++) {
		name[0] = (char)('a' + i);
		drop_file(pool, name);
	}
}

TEST_F_TIMEOUT(foreign, at_once, 100)
{
	pid_t pids[4];
	int p[2], status;

	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		ASSERT_GE(pids[i], 0);
		if (!pids[i]) {
			scramble((uint64_t)i + 1, p[1], 3000);
			_exit(0);
		}
	}
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	close(p[1]);
	drop_all(self->pool);
	EXPECT_EQ(0, nr_files(self->pool));
	EXPECT_TRUE(ends(p[0]));
}

TEST_F_TIMEOUT(foreign, killed_anywhere, 100)
{
	int p[2], status;
	pid_t pid;

	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	for (unsigned int i = 0; i < 200; i++) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			scramble(i + 1, p[1], UINT32_MAX);
			_exit(0);
		}
		usleep(i * 37 % 3000);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status));
	}
	close(p[1]);
	drop_all(self->pool);
	EXPECT_EQ(0, nr_files(self->pool));
	EXPECT_TRUE(ends(p[0]));
}

/* ---------------------------------------------------------------- the module */

/* What a client holds goes a little after it. */
static int unload(void)
{
	int ret;

	for (int i = 0; i < 1000; i++) {
		ret = (int)syscall(SYS_delete_module, "pagedkv", O_NONBLOCK) ? -errno : 0;
		if (ret != -EAGAIN && ret != -EBUSY)
			break;
		usleep(10000);
	}
	return ret;
}

/* The module goes while a named pool keeps a file, which goes with it; not under a client. */
TEST(module_goes)
{
	int dev, pool, reader, module = open(MODULE, O_RDONLY | O_CLOEXEC);

	if (module < 0)
		SKIP(return, "no " MODULE);
	dev = open_device();
	pool = create_pool(dev, "unload", 8, 0);
	ASSERT_GE(pool, 0);
	ASSERT_EQ(0, keep_pipe(pool, "w", &reader));
	close(dev);
	EXPECT_NE(0, syscall(SYS_delete_module, "pagedkv", O_NONBLOCK));
	close(pool);
	EXPECT_TRUE(is_open(reader));
	ASSERT_EQ(0, unload());
	EXPECT_TRUE(ends(reader));
	ASSERT_EQ(0, syscall(SYS_finit_module, module, "", 0));
	EXPECT_EQ(0, chown("/dev/pagedkv", 0, 900));
	close(module);
	dev = open_device();
	ASSERT_GE(dev, 0);
	EXPECT_EQ(-ENOENT, open_pool(dev, "unload", 0));
	close(dev);
}

TEST_HARNESS_MAIN
