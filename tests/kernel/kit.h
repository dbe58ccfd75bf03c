/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs of this folder share: calls of /dev/pagedkv, without the library. */
#ifndef PAGEDKV_KIT_H
#define PAGEDKV_KIT_H

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/pagedkv.h>

#define PAGE_TOKENS	16U

/* A kernel that watches itself is slow, and a guest has a limit of its own for each program. */
#ifdef TEST_TIMEOUT_DEFAULT
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 300
#endif

static inline uint64_t user_ptr(const void *p)
{
	return (uintptr_t)p;
}

/* 0 or more, or -errno. */
static inline int call(int fd, unsigned long cmd, void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

static inline int open_device(void)
{
	int fd = open("/dev/pagedkv", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* One class of 16-token pages of 4 KiB: @device, @host and @disk slots. */
static inline void pool_params(struct pagedkv_io_pool_create *p, const char *name,
			       uint32_t device, uint32_t host, uint32_t disk)
{
	memset(p, 0, sizeof(*p));
	p->size = sizeof(*p);
	if (name) {
		p->flags = PAGEDKV_IO_POOL_PERSIST;
		strncpy((char *)p->name, name, sizeof(p->name) - 1);
	}
	p->mode = 0600;
	p->nr_classes = 1;
	p->max_seqs = 4096;
	p->max_moves = 1024;
	p->nr_ranks = 1;
	p->classes[0].page_tokens = PAGE_TOKENS;
	p->classes[0].nr_slots[0] = device;
	p->classes[0].nr_slots[1] = host;
	p->classes[0].nr_slots[2] = disk;
	p->classes[0].host_node = PAGEDKV_IO_NONE;
	p->classes[0].page_bytes = 4096;
}

static inline int create_pool_with(int dev, struct pagedkv_io_pool_create *p)
{
	int ret = call(dev, PAGEDKV_CMD_POOL_CREATE, p);

	return ret ? ret : p->out_fd;
}

static inline int create_pool(int dev, const char *name, uint32_t device, uint32_t host)
{
	struct pagedkv_io_pool_create p;

	pool_params(&p, name, device, host, 0);
	return create_pool_with(dev, &p);
}

static inline int open_pool(int dev, const char *name, uint64_t fingerprint)
{
	struct pagedkv_io_pool_open p = { .size = sizeof(p), .fingerprint = fingerprint };
	int ret;

	strncpy((char *)p.name, name, sizeof(p.name) - 1);
	ret = call(dev, PAGEDKV_CMD_POOL_OPEN, &p);
	return ret ? ret : p.out_fd;
}

static inline int destroy_pool(int dev, const char *name)
{
	struct pagedkv_io_pool_destroy p = { .size = sizeof(p) };

	strncpy((char *)p.name, name, sizeof(p.name) - 1);
	return call(dev, PAGEDKV_CMD_POOL_DESTROY, &p);
}

static inline int create_seq(int pool, const struct pagedkv_io_key *keys, uint32_t nr,
			     uint64_t *seq, uint32_t *hits)
{
	struct pagedkv_io_seq_create c = {
		.size = sizeof(c), .priority = 1, .keys = user_ptr(keys), .nr_keys = nr,
	};
	int ret = call(pool, PAGEDKV_CMD_SEQ_CREATE, &c);

	if (ret)
		return ret;
	*seq = c.out_seq;
	if (hits)
		*hits = c.out_nr_hits;
	return 0;
}

/* One operation in a step of its own; @out_seq may be NULL. */
static inline int one_op(int pool, uint64_t seq, uint32_t type, uint32_t arg, uint64_t *out_seq)
{
	struct pagedkv_io_op op = { .seq = seq, .type = type, .arg = arg };
	struct pagedkv_io_delta deltas[64];
	struct pagedkv_io_move copies[1];
	struct pagedkv_io_step s = {
		.size = sizeof(s), .ops = user_ptr(&op), .nr_ops = 1,
		.deltas = user_ptr(deltas), .max_deltas = 64,
		.copies = user_ptr(copies), .max_copies = 1,
	};
	int ret = call(pool, PAGEDKV_CMD_STEP, &s);

	if (!ret && out_seq)
		*out_seq = op.out_seq;
	return ret;
}

static inline int append(int pool, uint64_t seq, uint32_t tokens)
{
	return one_op(pool, seq, PAGEDKV_IO_OP_APPEND, tokens, NULL);
}

static inline int advise(int pool, uint64_t seq, uint32_t advice)
{
	struct pagedkv_io_advise a = { .size = sizeof(a), .seq = seq, .advice = advice };

	return call(pool, PAGEDKV_CMD_ADVISE, &a);
}

static inline int seq_state(int pool, uint64_t seq)
{
	struct pagedkv_io_seq_state s = { .size = sizeof(s), .seq = seq };

	return call(pool, PAGEDKV_CMD_SEQ_STATE, &s);
}

/* Keys that belong to nobody else: @seed tells them apart. */
static inline void make_keys(struct pagedkv_io_key *keys, uint32_t nr, uint64_t seed)
{
	for (uint32_t i = 0; i < nr; i++) {
		keys[i].lo = (seed + 1) * 0x9e3779b97f4a7c15ULL + i;
		keys[i].hi = seed;
	}
}

static inline int publish(int pool, uint64_t seq, const struct pagedkv_io_key *keys, uint32_t nr)
{
	struct pagedkv_io_publication item = {
		.seq = seq, .keys = user_ptr(keys), .nr_keys = nr,
	};
	struct pagedkv_io_publish p = {
		.size = sizeof(p), .items = user_ptr(&item), .nr = 1,
	};
	int ret = call(pool, PAGEDKV_CMD_PUBLISH, &p);

	return ret ? ret : item.out_result;
}

static inline int fetch(int pool, struct pagedkv_io_move *moves, uint32_t max)
{
	struct pagedkv_io_moves m = {
		.size = sizeof(m), .moves = user_ptr(moves), .max_moves = max,
	};
	int ret = call(pool, PAGEDKV_CMD_MOVES, &m);

	return ret ? ret : (int)m.out_nr_moves;
}

/* 0, -errno, or -ESTALE when an id is unknown. */
static inline int commit(int pool, const struct pagedkv_io_move *moves, uint32_t nr)
{
	struct pagedkv_io_commit items[64] = { 0 };
	struct pagedkv_io_moves m = {
		.size = sizeof(m), .commits = user_ptr(items), .nr_commits = nr,
	};
	int ret;

	for (uint32_t i = 0; i < nr; i++)
		items[i].id = moves[i].id;
	ret = call(pool, PAGEDKV_CMD_MOVES, &m);
	return ret ? ret : m.out_nr_stale ? -ESTALE : 0;
}

static inline struct pagedkv_io_stats pool_stats(int pool)
{
	struct pagedkv_io_stats s = { .size = sizeof(s) };

	if (call(pool, PAGEDKV_CMD_STATS, &s))
		memset(&s, 0xff, sizeof(s));
	return s;
}

static inline int check_pool(int pool)
{
	struct pagedkv_io_check c = { .size = sizeof(c) };
	int ret = call(pool, PAGEDKV_CMD_CHECK, &c);

	if (ret == -EUCLEAN)
		printf("# %s\n", c.out_why);
	return ret;
}

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Host slots of class 0, mapped; NULL when that fails. */
static inline void *map_host(int pool, size_t *len)
{
	struct pagedkv_io_host_map h = { .size = sizeof(h) };
	void *p;

	if (call(pool, PAGEDKV_CMD_HOST_MAP, &h))
		return NULL;
	*len = h.out_bytes;
	p = mmap(NULL, h.out_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, pool,
		 (off_t)h.out_offset);
	return p == MAP_FAILED ? NULL : p;
}

static inline void set_name(uint8_t *to, const char *name)
{
	for (int i = 0; name[i] && i < PAGEDKV_IO_NAME_BYTES - 1; i++)
		to[i] = (uint8_t)name[i];
}

/* Files that a pool keeps; 0, a new descriptor, or -errno. */
static inline int keep_file(int pool, const char *name, int fd, uint64_t bytes,
			    uint64_t fingerprint)
{
	struct pagedkv_io_file_keep k = {
		.size = sizeof(k), .bytes = bytes, .fingerprint = fingerprint, .fd = fd,
	};

	set_name(k.name, name);
	return call(pool, PAGEDKV_CMD_FILE_KEEP, &k);
}

static inline int take_file(int pool, const char *name, uint64_t fingerprint)
{
	struct pagedkv_io_file_take t = { .size = sizeof(t), .fingerprint = fingerprint };
	int ret;

	set_name(t.name, name);
	ret = call(pool, PAGEDKV_CMD_FILE_TAKE, &t);
	return ret ? ret : t.out_fd;
}

static inline int drop_file(int pool, const char *name)
{
	struct pagedkv_io_file_drop d = { .size = sizeof(d) };

	set_name(d.name, name);
	return call(pool, PAGEDKV_CMD_FILE_DROP, &d);
}

/* Run @work in a child, and kill it once it says that it is where it should be. */
static inline int kill_at(void (*work)(int to_parent, void *arg), void *arg)
{
	int pipe_fd[2], status;
	char byte;
	pid_t pid;

	if (pipe(pipe_fd))
		return -errno;
	pid = fork();
	if (!pid) {
		close(pipe_fd[0]);
		work(pipe_fd[1], arg);
		for (;;)
			pause();
	}
	close(pipe_fd[1]);
	if (pid < 0 || read(pipe_fd[0], &byte, 1) != 1) {
		close(pipe_fd[0]);
		return -EPROTO;
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	close(pipe_fd[0]);
	return WIFSIGNALED(status) && byte == 'y' ? 0 : -EPROTO;
}

/* In the child: @good or not, from here on it may be killed. */
static inline void tell_parent(int to_parent, bool good)
{
	if (write(to_parent, good ? "y" : "n", 1) != 1)
		_exit(1);
}

/* A descriptor over a socket. */
static inline int send_fd(int to, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(to, &m, 0) == 1 ? 0 : -errno;
}

static inline int receive_fd(int from)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(from, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		return -EPROTO;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

/* Run as another user, or not in the device's group (900); the result of @what, 0 to -127. */
static inline int as(uid_t uid, gid_t gid, bool in_group, int (*what)(void))
{
	gid_t group = 900;
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (setgroups(in_group ? 1 : 0, &group) || setgid(gid) || setuid(uid))
			_exit(255);
		_exit(-what() & 0x7f);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPROTO;
}

#endif
