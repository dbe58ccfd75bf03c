// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whose is what, and until when: SIGKILL of clients and executors, names that
 * outlive their users, files that are passed on, other users.
 */
#include <poll.h>
#include <stddef.h>
#include <sys/eventfd.h>

#include "../kselftest_harness.h"
#include "kit.h"

#define NAME	"life"
#define NR_KEYS	4U

FIXTURE(life)
{
	int dev, pool;
	struct pagedkv_io_stats before;
};

FIXTURE_SETUP(life)
{
	self->dev = open_device();
	ASSERT_GE(self->dev, 0);
	destroy_pool(self->dev, NAME);
	self->pool = create_pool(self->dev, NAME, 64, 64);
	ASSERT_GE(self->pool, 0);
	self->before = pool_stats(self->pool);
}

FIXTURE_TEARDOWN(life)
{
	EXPECT_EQ(0, check_pool(self->pool));
	close(self->pool);
	destroy_pool(self->dev, NAME);
	close(self->dev);
}

/* A client that has all kinds of things: published and private pages, a fork, a copy. */
static void be_busy(int to_parent, void *arg)
{
	struct pagedkv_io_key keys[NR_KEYS];
	int dev = open_device();
	int pool = open_pool(dev, NAME, 0);
	uint64_t a, b, child;
	bool good;

	make_keys(keys, NR_KEYS, *(uint64_t *)arg);
	good = !create_seq(pool, NULL, 0, &a, NULL) && !append(pool, a, 100) &&
	       publish(pool, a, keys, NR_KEYS) == (int)NR_KEYS &&
	       !create_seq(pool, NULL, 0, &b, NULL) && !append(pool, b, 70) &&
	       !one_op(pool, a, PAGEDKV_IO_OP_FORK, 0, &child) && !append(pool, child, 3) &&
	       !advise(pool, b, PAGEDKV_IO_COLD);
	tell_parent(to_parent, good);
}

TEST_F(life, killed_client)
{
	struct pagedkv_io_key keys[NR_KEYS];
	struct pagedkv_io_match m = { .size = sizeof(m), .nr_keys = NR_KEYS };
	struct pagedkv_io_stats now;
	uint64_t seed = 11;

	ASSERT_EQ(0, kill_at(be_busy, &seed));
	now = pool_stats(self->pool);
	EXPECT_EQ(0U, now.out_nr_seqs);
	EXPECT_EQ(0U, now.out_nr_moves);
	EXPECT_EQ(NR_KEYS, now.out_nr_cached);
	EXPECT_EQ(NR_KEYS, now.out_nr_pages);
	make_keys(keys, NR_KEYS, seed);
	m.keys = user_ptr(keys);
	EXPECT_EQ(0, call(self->pool, PAGEDKV_CMD_MATCH, &m));
	EXPECT_EQ(NR_KEYS, m.out_nr);
}

/* Another client's things are not touched by it. */
TEST_F(life, killed_beside_another)
{
	uint64_t mine, seed = 12;

	ASSERT_EQ(0, create_seq(self->pool, NULL, 0, &mine, NULL));
	ASSERT_EQ(0, append(self->pool, mine, 40));
	ASSERT_EQ(0, kill_at(be_busy, &seed));
	EXPECT_EQ(1U, pool_stats(self->pool).out_nr_seqs);
	EXPECT_EQ(1, seq_state(self->pool, mine));
	EXPECT_EQ(0, append(self->pool, mine, 40));
}

/* Fill the device, so that evictions are planned for what goes cold. */
static int plan_evictions(int pool, uint64_t *cold, uint64_t *other)
{
	int ret;

	ret = create_seq(pool, NULL, 0, cold, NULL);
	if (!ret)
		ret = append(pool, *cold, 60 * PAGE_TOKENS);
	if (!ret)
		ret = advise(pool, *cold, PAGEDKV_IO_COLD);
	if (!ret)
		ret = create_seq(pool, NULL, 0, other, NULL);
	return ret ? ret : append(pool, *other, 30 * PAGE_TOKENS);
}

struct executor {
	int pool;
	struct pagedkv_io_move *fetched;	/* shared with the parent */
	int nr;
};

static void execute_and_stay(int to_parent, void *arg)
{
	struct executor *e = arg;
	int pool = open_pool(open_device(), NAME, 0);

	e->nr = fetch(pool, e->fetched, 8);
	*(int *)(e->fetched + 8) = e->nr;
	tell_parent(to_parent, e->nr > 0);
}

TEST_F(life, killed_executor)
{
	struct pagedkv_io_move *shared, moves[64];
	struct executor e = { .pool = self->pool };
	uint64_t cold, other;
	int n, total = 0;

	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, shared);
	e.fetched = shared;
	ASSERT_EQ(-EAGAIN, plan_evictions(self->pool, &cold, &other));
	ASSERT_EQ(0, kill_at(execute_and_stay, &e));
	n = *(int *)(shared + 8);
	ASSERT_GT(n, 0);
	/* Its ids are nobody's, the moves are planned anew, and another one goes on. */
	EXPECT_EQ(-ESTALE, commit(self->pool, shared, (uint32_t)n));
	while ((n = fetch(self->pool, moves, 64)) > 0) {
		EXPECT_EQ(0, commit(self->pool, moves, (uint32_t)n));
		total += n;
	}
	EXPECT_GT(total, 8);
	EXPECT_EQ(0, append(self->pool, other, 30 * PAGE_TOKENS));
	EXPECT_EQ(0U, pool_stats(self->pool).out_losses);
	munmap(shared, 4096);
}

/* A pool of pages on the device, which somebody may find again. */
static int keep_device(int pool)
{
	int fd = memfd_create("device", MFD_CLOEXEC), ret;

	ret = keep_file(pool, "device", fd, 0, 0);
	close(fd);
	return ret;
}

static void name_and_die(int to_parent, void *arg)
{
	struct pagedkv_io_key keys[NR_KEYS];
	int pool = create_pool(open_device(), arg, 16, 16);
	uint64_t seq;
	size_t len;
	char *host = map_host(pool, &len);

	make_keys(keys, NR_KEYS, 5);
	if (host)
		strcpy(host, "still here");
	tell_parent(to_parent, host && (strcmp(arg, "stays") || !keep_device(pool)) &&
		    !create_seq(pool, NULL, 0, &seq, NULL) &&
	    !append(pool, seq, NR_KEYS * PAGE_TOKENS) &&
	    publish(pool, seq, keys, NR_KEYS) == (int)NR_KEYS);
}

TEST_F(life, named_pool_stays)
{
	struct pagedkv_io_key keys[NR_KEYS];
	uint32_t hits;
	uint64_t seq;
	size_t len;
	char *host;
	int pool;

	ASSERT_EQ(0, kill_at(name_and_die, "stays"));
	pool = open_pool(self->dev, "stays", 0);
	ASSERT_GE(pool, 0);
	make_keys(keys, NR_KEYS, 5);
	EXPECT_EQ(0, create_seq(pool, keys, NR_KEYS, &seq, &hits));
	EXPECT_EQ(NR_KEYS, hits);
	host = map_host(pool, &len);
	ASSERT_NE(NULL, host);
	EXPECT_EQ(0, strcmp(host, "still here"));
	EXPECT_EQ(0, destroy_pool(self->dev, "stays"));
	EXPECT_EQ(-ENOENT, open_pool(self->dev, "stays", 0));
	EXPECT_EQ(-ENOENT, destroy_pool(self->dev, "stays"));
	/* Its last client still has it, and its name is free. */
	EXPECT_EQ(1, seq_state(pool, seq));
	close(pool);
	pool = create_pool(self->dev, "stays", 16, 16);
	ASSERT_GE(pool, 0);
	EXPECT_EQ(0, destroy_pool(self->dev, "stays"));
	close(pool);
}

/* Nobody keeps the device's memory: its pages are not what they were. */
TEST_F(life, device_goes)
{
	struct pagedkv_io_tier_state t = { .size = sizeof(t), .state = 2 };
	struct pagedkv_io_key keys[NR_KEYS];
	uint32_t hits;
	uint64_t seq;
	int pool;

	make_keys(keys, NR_KEYS, 5);
	ASSERT_EQ(0, kill_at(name_and_die, "goes"));
	pool = open_pool(self->dev, "goes", 0);
	ASSERT_GE(pool, 0);
	EXPECT_EQ(0, create_seq(pool, keys, NR_KEYS, &seq, &hits));
	EXPECT_EQ(0U, hits);
	EXPECT_EQ(0, append(pool, seq, NR_KEYS * PAGE_TOKENS));
	EXPECT_EQ((int)NR_KEYS, publish(pool, seq, keys, NR_KEYS));
	/* Or it was kept, and the server can't map it. */
	EXPECT_EQ(-EBUSY, call(pool, PAGEDKV_CMD_TIER_STATE, &t));
	EXPECT_EQ(0, one_op(pool, seq, PAGEDKV_IO_OP_FREE, 0, NULL));
	EXPECT_EQ(0, call(pool, PAGEDKV_CMD_TIER_STATE, &t));
	EXPECT_EQ(0, create_seq(pool, keys, NR_KEYS, &seq, &hits));
	EXPECT_EQ(0U, hits);
	EXPECT_EQ(0, check_pool(pool));
	EXPECT_EQ(0, destroy_pool(self->dev, "goes"));
	close(pool);
}

/* Without PERSIST a name goes with its last user. */
TEST_F(life, named_for_a_while)
{
	struct pagedkv_io_pool_create p;
	int pool, second;

	pool_params(&p, "while", 8, 0, 0);
	p.flags = 0;
	pool = create_pool_with(self->dev, &p);
	ASSERT_GE(pool, 0);
	EXPECT_EQ(-EEXIST, create_pool_with(self->dev, &p));
	second = open_pool(self->dev, "while", 0);
	ASSERT_GE(second, 0);
	close(pool);
	EXPECT_EQ(-EEXIST, create_pool_with(self->dev, &p));
	close(second);
	EXPECT_EQ(-ENOENT, open_pool(self->dev, "while", 0));
}

/* A client lives in whoever has its file: passed over a socket, its opener gone. */
TEST_F(life, passed_on)
{
	int pair[2], fd, status;
	uint64_t seq = 0;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		fd = open_pool(open_device(), NAME, 0);
		_exit(create_seq(fd, NULL, 0, &seq, NULL) || append(fd, seq, 33) ||
		      write(pair[1], &seq, sizeof(seq)) != sizeof(seq) || send_fd(pair[1], fd));
	}
	ASSERT_EQ(sizeof(seq), read(pair[0], &seq, sizeof(seq)));
	fd = receive_fd(pair[0]);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_EQ(1, seq_state(fd, seq));
	EXPECT_EQ(0, append(fd, seq, 1));
	EXPECT_EQ(1U, pool_stats(self->pool).out_nr_seqs);
	close(fd);
	EXPECT_EQ(0U, pool_stats(self->pool).out_nr_seqs);
	close(pair[0]);
	close(pair[1]);
}

/* Inherited over fork: the parent's close is not the end, nor is the child's. */
TEST_F(life, inherited)
{
	int fd = open_pool(self->dev, NAME, 0), status;
	uint64_t seq;
	pid_t pid;

	ASSERT_EQ(0, create_seq(fd, NULL, 0, &seq, NULL));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(append(fd, seq, 20) != 0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, seq_state(fd, seq));
	EXPECT_EQ(2U, pool_stats(self->pool).out_nr_pages);
	close(fd);
	EXPECT_EQ(0U, pool_stats(self->pool).out_nr_pages);
}

/* ------------------------------------------------------------ other users */

static int try_device(void)
{
	int fd = open_device();

	return fd < 0 ? fd : 0;
}

static int try_pool(void)
{
	int dev = open_device(), fd;

	if (dev < 0)
		return dev;
	fd = open_pool(dev, "others", 0);
	return fd < 0 ? fd : 0;
}

static int try_destroy(void)
{
	int dev = open_device();

	return dev < 0 ? dev : destroy_pool(dev, "others");
}

/* How many pools a user sees: of others' only what their mode lets him read. */
static int try_list(void)
{
	struct pagedkv_io_pool_entry entries[8];
	struct pagedkv_io_pool_list l = {
		.size = sizeof(l), .entries = user_ptr(entries), .nr = 8,
	};
	int dev = open_device();

	if (dev < 0)
		return dev;
	return call(dev, PAGEDKV_CMD_POOL_LIST, &l) ? -EPROTO : -(int)l.out_nr;
}

static int try_limits(void)
{
	int dev = open_device();
	int fd = create_pool(dev, NULL, 8, 0);
	struct pagedkv_io_set_limit l = { .size = sizeof(l), .limit = 4 };
	int ret;

	if (fd < 0)
		return fd;
	/* The owner may limit himself, and let go again; a ceiling is not his to set. */
	ret = call(fd, PAGEDKV_CMD_SET_LIMIT, &l);
	l.limit = 8;
	if (!ret)
		ret = call(fd, PAGEDKV_CMD_SET_LIMIT, &l);
	l.flags = PAGEDKV_IO_LIMIT_CEILING;
	return ret ? -EPROTO : call(fd, PAGEDKV_CMD_SET_LIMIT, &l);
}

TEST_F(life, other_users)
{
	struct pagedkv_io_pool_create p;
	int pool;

	ASSERT_EQ(0, chown("/dev/pagedkv", 0, 900));
	EXPECT_EQ(-EACCES, as(1003, 1003, false, try_device));
	EXPECT_EQ(0, as(1001, 1001, true, try_device));
	pool_params(&p, "others", 8, 0, 0);
	pool = create_pool_with(self->dev, &p);
	ASSERT_GE(pool, 0);
	EXPECT_EQ(-EACCES, as(1001, 1001, true, try_pool));
	EXPECT_EQ(0, as(1001, 1001, true, try_list));
	EXPECT_EQ(-EPERM, as(1001, 1001, true, try_destroy));
	EXPECT_EQ(-EPERM, as(1001, 1001, true, try_limits));
	close(pool);
	EXPECT_EQ(0, destroy_pool(self->dev, "others"));
	/* Readable is not yet openable. */
	p.mode = 0604;
	pool = create_pool_with(self->dev, &p);
	EXPECT_EQ(-EACCES, as(1001, 1001, true, try_pool));
	EXPECT_EQ(-1, as(1001, 1001, true, try_list));
	close(pool);
	EXPECT_EQ(0, destroy_pool(self->dev, "others"));
	p.mode = 0606;
	pool = create_pool_with(self->dev, &p);
	EXPECT_EQ(0, as(1001, 1001, true, try_pool));
	close(pool);
	EXPECT_EQ(0, destroy_pool(self->dev, "others"));
}

/* What an administrator has set, the owner can't go above. */
static int try_above(void)
{
	struct pagedkv_io_set_limit l = { .size = sizeof(l), .limit = 3 };
	int fd = open_pool(open_device(), "ceiling", 0);

	if (fd < 0 || call(fd, PAGEDKV_CMD_SET_LIMIT, &l))
		return -EPROTO;
	l.limit = 5;
	return call(fd, PAGEDKV_CMD_SET_LIMIT, &l);
}

static int own_ceiling(void)
{
	struct pagedkv_io_set_limit l = {
		.size = sizeof(l), .flags = PAGEDKV_IO_LIMIT_CEILING, .limit = 4,
	};
	int dev = open_device();
	int fd = create_pool(dev, "ceiling", 8, 0);

	if (fd < 0)
		return fd;
	return call(fd, PAGEDKV_CMD_SET_LIMIT, &l) == -EPERM ? 0 : -EPROTO;
}

TEST_F(life, ceilings)
{
	struct pagedkv_io_set_limit l = {
		.size = sizeof(l), .flags = PAGEDKV_IO_LIMIT_CEILING, .limit = 4,
	};
	int admin;

	ASSERT_EQ(0, chown("/dev/pagedkv", 0, 900));
	ASSERT_EQ(0, as(1001, 1001, true, own_ceiling));
	admin = open_pool(self->dev, "ceiling", 0);
	ASSERT_GE(admin, 0);
	EXPECT_EQ(0, call(admin, PAGEDKV_CMD_SET_LIMIT, &l));
	EXPECT_EQ(4U, pool_stats(admin).out_tiers[0].limit);
	EXPECT_EQ(-EPERM, as(1001, 1001, true, try_above));
	close(admin);
	EXPECT_EQ(0, destroy_pool(self->dev, "ceiling"));
}

/* Identity is the opener's of the device, whatever its user has become since. */
TEST_F(life, identity_is_the_openers)
{
	struct pagedkv_io_pool_info info = { .size = sizeof(info) };
	int status, pool;
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid) {
		if (setgroups(0, NULL) || setgid(1003) || setuid(1003))
			_exit(2);
		pool = create_pool(self->dev, NULL, 8, 0);
		_exit(pool < 0 || call(pool, PAGEDKV_CMD_POOL_INFO, &info) || info.out_uid);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* ---------------------------------------------------------------- waiting */

TEST_F(life, eventfd_and_poll)
{
	struct pagedkv_io_moves_eventfd arg = { .size = sizeof(arg) };
	struct pollfd p[2] = { { .events = POLLIN }, { .fd = self->pool, .events = POLLIN } };
	struct pagedkv_io_move moves[64];
	uint64_t cold, other, count;
	int n;

	p[0].fd = eventfd(0, EFD_NONBLOCK);
	arg.fd = p[0].fd;
	ASSERT_EQ(0, call(self->pool, PAGEDKV_CMD_MOVES_EVENTFD, &arg));
	EXPECT_EQ(0, poll(p, 2, 0));
	ASSERT_EQ(-EAGAIN, plan_evictions(self->pool, &cold, &other));
	EXPECT_EQ(2, poll(p, 2, 0));
	EXPECT_EQ(sizeof(count), read(p[0].fd, &count, sizeof(count)));
	EXPECT_EQ(1U, count);
	/* Raised again by the fetch that leaves some. */
	n = fetch(self->pool, moves, 2);
	ASSERT_EQ(2, n);
	EXPECT_EQ(2, poll(p, 2, 0));
	EXPECT_EQ(0, commit(self->pool, moves, 2));
	EXPECT_EQ(sizeof(count), read(p[0].fd, &count, sizeof(count)));
	while ((n = fetch(self->pool, moves, 64)) > 0)
		EXPECT_EQ(0, commit(self->pool, moves, (uint32_t)n));
	EXPECT_EQ(0, p[0].fd < 0 ? -1 : poll(p + 1, 1, 0));
	arg.fd = -1;
	EXPECT_EQ(0, call(self->pool, PAGEDKV_CMD_MOVES_EVENTFD, &arg));
	arg.fd = self->dev;
	EXPECT_EQ(-EINVAL, call(self->pool, PAGEDKV_CMD_MOVES_EVENTFD, &arg));
	arg.fd = 999;
	EXPECT_EQ(-EBADF, call(self->pool, PAGEDKV_CMD_MOVES_EVENTFD, &arg));
	close(p[0].fd);
}

static void on_alarm(int sig)
{
	(void)sig;
}

/* A wait ends by its time, by a signal, by a stop and by the last move's commit. */
TEST_F(life, waits)
{
	struct pagedkv_io_seq_wait w = { .size = sizeof(w) };
	struct pagedkv_io_empty stop = { .size = sizeof(stop) };
	struct sigaction act = { .sa_handler = on_alarm };
	struct pagedkv_io_move moves[64];
	uint64_t cold, other;
	int n, status;
	pid_t pid;

	ASSERT_EQ(-EAGAIN, plan_evictions(self->pool, &cold, &other));
	while ((n = fetch(self->pool, moves, 64)) > 0)
		ASSERT_EQ(0, commit(self->pool, moves, (uint32_t)n));
	ASSERT_EQ(0, one_op(self->pool, other, PAGEDKV_IO_OP_FREE, 0, NULL));
	ASSERT_EQ(1, advise(self->pool, cold, PAGEDKV_IO_WILLNEED));
	w.seq = cold;
	EXPECT_EQ(-ETIMEDOUT, call(self->pool, PAGEDKV_CMD_SEQ_WAIT, &w));
	w.deadline_ns = now_ns() + 1000000;
	EXPECT_EQ(-ETIMEDOUT, call(self->pool, PAGEDKV_CMD_SEQ_WAIT, &w));
	EXPECT_GE(now_ns(), w.deadline_ns);
	w.deadline_ns = UINT64_MAX;
	sigaction(SIGALRM, &act, NULL);
	alarm(1);
	EXPECT_EQ(-EINTR, call(self->pool, PAGEDKV_CMD_SEQ_WAIT, &w));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(-call(self->pool, PAGEDKV_CMD_SEQ_WAIT, &w));
	while ((n = fetch(self->pool, moves, 64)) > 0)
		EXPECT_EQ(0, commit(self->pool, moves, (uint32_t)n));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, seq_state(self->pool, cold));
	/* Another load, which nobody will fetch. */
	ASSERT_EQ(0, advise(self->pool, cold, PAGEDKV_IO_COLD));
	ASSERT_EQ(0, create_seq(self->pool, NULL, 0, &other, NULL));
	while (append(self->pool, other, 30 * PAGE_TOKENS) == -EAGAIN)
		while ((n = fetch(self->pool, moves, 64)) > 0)
			ASSERT_EQ(0, commit(self->pool, moves, (uint32_t)n));
	ASSERT_EQ(0, one_op(self->pool, other, PAGEDKV_IO_OP_FREE, 0, NULL));
	ASSERT_EQ(1, advise(self->pool, cold, PAGEDKV_IO_WILLNEED));
	EXPECT_EQ(0, call(self->pool, PAGEDKV_CMD_MOVES_STOP, &stop));
	EXPECT_EQ(-ECANCELED, call(self->pool, PAGEDKV_CMD_SEQ_WAIT, &w));
}

/* ------------------------------------------------------------- many deaths */

static void churn(void *arg)
{
	uint64_t rng = (uintptr_t)arg, seq, child;
	struct pagedkv_io_key keys[NR_KEYS];
	struct pagedkv_io_move moves[8];
	int pool = open_pool(open_device(), NAME, 0);
	int n;

	for (;;) {
		rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
		make_keys(keys, NR_KEYS, rng >> 60);
		if (create_seq(pool, keys, NR_KEYS, &seq, NULL))
			seq = 0;
		append(pool, seq, (rng >> 40) % 100);
		publish(pool, seq, keys, NR_KEYS);
		one_op(pool, seq, PAGEDKV_IO_OP_FORK, 0, &child);
		advise(pool, seq, PAGEDKV_IO_COLD);
		n = fetch(pool, moves, 8);
		if (n > 0 && rng >> 63)
			commit(pool, moves, (uint32_t)n);
		advise(pool, seq, PAGEDKV_IO_WILLNEED);
		if (rng >> 62 & 1)
			one_op(pool, seq, PAGEDKV_IO_OP_FREE, 0, NULL);
	}
}

/* Clients that are executors too, killed anywhere. */
TEST_F_TIMEOUT(life, killed_many_times, 600)
{
	struct pagedkv_io_move moves[64];
	unsigned int deaths = 1000, status;
	pid_t pids[2] = { 0, 0 };
	int n;

	for (unsigned int i = 0; i < deaths; i++) {
		pid_t *pid = &pids[i & 1];

		if (*pid) {
			kill(*pid, SIGKILL);
			ASSERT_EQ(*pid, waitpid(*pid, (int *)&status, 0));
		}
		*pid = fork();
		ASSERT_GE(*pid, 0);
		if (!*pid) {
			churn((void *)(uintptr_t)(i + 1));
			_exit(0);
		}
		usleep(i * 37 % 5000);
	}
	for (int i = 0; i < 2; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], (int *)&status, 0);
	}
	while ((n = fetch(self->pool, moves, 64)) > 0)
		EXPECT_EQ(0, commit(self->pool, moves, (uint32_t)n));
	EXPECT_EQ(0U, pool_stats(self->pool).out_nr_seqs);
	EXPECT_EQ(0U, pool_stats(self->pool).out_nr_moves);
	EXPECT_EQ(0U, pool_stats(self->pool).out_losses);
	EXPECT_EQ(pool_stats(self->pool).out_nr_cached, pool_stats(self->pool).out_nr_pages);
}

TEST_HARNESS_MAIN
