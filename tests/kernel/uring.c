// SPDX-License-Identifier: GPL-2.0-only
/* Executors and waiters over io_uring: parked commands, their cancellation, and their deaths. */
#include <pthread.h>
#include <signal.h>

#include "../kselftest_harness.h"
#include "kit.h"
#include "ring.h"

#define NAME	"uring"
#define NR	8U

struct worker {
	int pool;
	unsigned int sqe_flags;
	struct io_uring ring;
	struct pagedkv_io_moves io;
	struct pagedkv_io_move moves[NR];
	struct pagedkv_io_commit commits[NR];
};

static int start(struct worker *w, int pool)
{
	memset(w, 0, sizeof(*w));
	w->pool = pool;
	return io_uring_queue_init(16, &w->ring, 0);
}

static void submit(struct worker *w, uint32_t op, uint64_t arg, uint32_t flags, uint32_t reserved)
{
	struct pagedkv_uring_cmd cmd = { .arg = arg, .flags = flags, .reserved = reserved };
	struct io_uring_sqe *sqe = prep_command(&w->ring, w->pool, op, &cmd);

	sqe->flags = (uint8_t)w->sqe_flags;
	sqe->user_data = arg;
	io_uring_submit(&w->ring);
}

/* Commit the first @nr_done of the last fetch, and fetch. */
static void next_round(struct worker *w, uint32_t nr_done)
{
	for (uint32_t i = 0; i < nr_done; i++)
		w->commits[i] = (struct pagedkv_io_commit) { .id = w->moves[i].id };
	w->io = (struct pagedkv_io_moves) {
		.size = sizeof(w->io),
		.commits = user_ptr(w->commits), .nr_commits = nr_done,
		.moves = user_ptr(w->moves), .max_moves = NR,
	};
	submit(w, PAGEDKV_URING_MOVES, user_ptr(&w->io), 0, 0);
}

#define NOT_YET	(-EALREADY)

static int poll_result(struct worker *w)
{
	struct io_uring_cqe *cqe;
	int res;

	if (io_uring_peek_cqe(&w->ring, &cqe))
		return NOT_YET;
	res = cqe->res;
	io_uring_cqe_seen(&w->ring, cqe);
	return res;
}

static int result(struct worker *w)
{
	struct io_uring_cqe *cqe;
	int ret = io_uring_wait_cqe(&w->ring, &cqe);

	if (ret)
		return ret;
	ret = cqe->res;
	io_uring_cqe_seen(&w->ring, cqe);
	return ret;
}

static int quiesce(int pool)
{
	struct pagedkv_io_empty arg = { .size = sizeof(arg) };

	return call(pool, PAGEDKV_CMD_QUIESCE, &arg);
}

FIXTURE(uring)
{
	int dev, pool;
	uint64_t cold, other, features;
};

FIXTURE_SETUP(uring)
{
	struct pagedkv_io_info info = { .size = sizeof(info) };

	self->dev = open_device();
	ASSERT_GE(self->dev, 0);
	ASSERT_EQ(0, call(self->dev, PAGEDKV_CMD_INFO, &info));
	self->features = info.out_features;
	if (!(self->features & PAGEDKV_IO_F_URING))
		SKIP(return, "not with this kernel");
	destroy_pool(self->dev, NAME);
	self->pool = create_pool(self->dev, NAME, 64, 64);
	ASSERT_GE(self->pool, 0);
	ASSERT_EQ(0, create_seq(self->pool, NULL, 0, &self->cold, NULL));
	ASSERT_EQ(0, append(self->pool, self->cold, 60 * PAGE_TOKENS));
	ASSERT_EQ(0, create_seq(self->pool, NULL, 0, &self->other, NULL));
}

FIXTURE_TEARDOWN(uring)
{
	if (!(self->features & PAGEDKV_IO_F_URING))
		return;
	EXPECT_EQ(0, check_pool(self->pool));
	close(self->pool);
	destroy_pool(self->dev, NAME);
	close(self->dev);
}

/* 26 evictions for the room of @other. */
static int plan(int pool, uint64_t cold, uint64_t other)
{
	int ret = advise(pool, cold, PAGEDKV_IO_COLD);

	return ret ? ret : append(pool, other, 30 * PAGE_TOKENS);
}

static int plan_all(int pool, uint64_t cold, uint64_t other)
{
	return plan(pool, cold, other) == -EAGAIN ? 0 : -EPROTO;
}

TEST_F(uring, there_already)
{
	struct worker w;

	ASSERT_EQ(0, start(&w, self->pool));
	ASSERT_EQ(0, plan_all(self->pool, self->cold, self->other));
	next_round(&w, 0);
	EXPECT_EQ((int)NR, result(&w));
	EXPECT_EQ(NR, w.io.out_nr_moves);
	next_round(&w, NR);
	EXPECT_EQ((int)NR, result(&w));
	EXPECT_EQ(0U, w.io.out_nr_stale);
	EXPECT_EQ((uint64_t)NR, pool_stats(self->pool).out_moves[0][1]);
	io_uring_queue_exit(&w.ring);
}

TEST_F(uring, parks_until_planned)
{
	struct worker w;
	int n, total = 0;

	ASSERT_EQ(0, start(&w, self->pool));
	next_round(&w, 0);
	EXPECT_EQ(NOT_YET, poll_result(&w));
	ASSERT_EQ(0, plan_all(self->pool, self->cold, self->other));
	n = result(&w);
	EXPECT_EQ((int)NR, n);
	while (n > 0) {
		total += n;
		next_round(&w, (uint32_t)n);
		n = poll_result(&w);
	}
	EXPECT_EQ(NOT_YET, n);
	EXPECT_GE(total, 26);
	EXPECT_EQ(0, append(self->pool, self->other, 30 * PAGE_TOKENS));
	EXPECT_EQ(0, quiesce(self->pool));
	EXPECT_EQ(-ECANCELED, result(&w));
	io_uring_queue_exit(&w.ring);
}

/* Two executors park; what is planned goes to each once. */
TEST_F(uring, two_executors)
{
	struct worker w[2];
	int second = open_pool(self->dev, NAME, 0), n[2];

	ASSERT_EQ(0, start(&w[0], self->pool));
	ASSERT_EQ(0, start(&w[1], second));
	next_round(&w[0], 0);
	next_round(&w[1], 0);
	ASSERT_EQ(0, plan_all(self->pool, self->cold, self->other));
	n[0] = result(&w[0]);
	n[1] = result(&w[1]);
	EXPECT_EQ((int)NR, n[0]);
	EXPECT_EQ((int)NR, n[1]);
	for (int i = 0; i < n[0]; i++)
		for (int j = 0; j < n[1]; j++)
			EXPECT_NE(w[0].moves[i].id, w[1].moves[j].id);
	/* The second one goes, with what it has; the first one gets that too. */
	io_uring_queue_exit(&w[1].ring);
	close(second);
	EXPECT_EQ(-ESTALE, commit(self->pool, w[1].moves, NR));
	EXPECT_EQ(0, commit(self->pool, w[0].moves, NR));
	for (n[1] = 0; (n[0] = fetch(self->pool, w[0].moves, NR)) > 0; n[1] += n[0])
		EXPECT_EQ(0, commit(self->pool, w[0].moves, (uint32_t)n[0]));
	EXPECT_GE(n[1], (int)NR);
	EXPECT_EQ(0, append(self->pool, self->other, 30 * PAGE_TOKENS));
	io_uring_queue_exit(&w[0].ring);
}

TEST_F(uring, seq_wait)
{
	struct pagedkv_io_move moves[64];
	struct worker w;
	int n;

	ASSERT_EQ(0, start(&w, self->pool));
	submit(&w, PAGEDKV_URING_SEQ_WAIT, self->cold, 0, 0);
	EXPECT_EQ(0, result(&w));
	submit(&w, PAGEDKV_URING_SEQ_WAIT, self->cold + (1ULL << 32), 0, 0);
	EXPECT_EQ(-ESTALE, result(&w));
	ASSERT_EQ(0, plan_all(self->pool, self->cold, self->other));
	while ((n = fetch(self->pool, moves, 64)) > 0)
		ASSERT_EQ(0, commit(self->pool, moves, (uint32_t)n));
	ASSERT_EQ(1, advise(self->pool, self->cold, PAGEDKV_IO_WILLNEED));
	submit(&w, PAGEDKV_URING_SEQ_WAIT, self->cold, 0, 0);
	EXPECT_EQ(NOT_YET, poll_result(&w));
	while ((n = fetch(self->pool, moves, 4)) > 0) {
		EXPECT_EQ(NOT_YET, poll_result(&w));
		ASSERT_EQ(0, commit(self->pool, moves, (uint32_t)n));
	}
	EXPECT_EQ(0, result(&w));
	EXPECT_EQ(1, seq_state(self->pool, self->cold));
	io_uring_queue_exit(&w.ring);
}

TEST_F(uring, quiesce_and_stop)
{
	struct pagedkv_io_empty stop = { .size = sizeof(stop) };
	struct worker w, bystander;
	int second = open_pool(self->dev, NAME, 0);

	ASSERT_EQ(0, start(&w, self->pool));
	ASSERT_EQ(0, start(&bystander, second));
	next_round(&bystander, 0);
	for (int i = 0; i < 3; i++)
		next_round(&w, 0);
	EXPECT_EQ(0, quiesce(self->pool));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(-ECANCELED, result(&w));
	next_round(&w, 0);
	EXPECT_EQ(NOT_YET, poll_result(&w));
	EXPECT_EQ(0, call(self->pool, PAGEDKV_CMD_MOVES_STOP, &stop));
	EXPECT_EQ(-ECANCELED, result(&w));
	next_round(&w, 0);
	EXPECT_EQ(-ECANCELED, result(&w));
	EXPECT_EQ(NOT_YET, poll_result(&bystander));
	EXPECT_EQ(0, quiesce(second));
	EXPECT_EQ(-ECANCELED, result(&bystander));
	io_uring_queue_exit(&w.ring);
	io_uring_queue_exit(&bystander.ring);
	close(second);
}

TEST_F(uring, bad_commands)
{
	struct worker w;

	ASSERT_EQ(0, start(&w, self->pool));
	submit(&w, PAGEDKV_CMD_MOVES, user_ptr(&w.io), 0, 0);
	EXPECT_EQ(-ENOTTY, result(&w));
	submit(&w, PAGEDKV_URING_MOVES, user_ptr(&w.io), 1, 0);
	EXPECT_EQ(-EOPNOTSUPP, result(&w));
	submit(&w, PAGEDKV_URING_MOVES, user_ptr(&w.io), 0, 1);
	EXPECT_EQ(-EINVAL, result(&w));
	submit(&w, PAGEDKV_URING_MOVES, 0x10, 0, 0);
	EXPECT_EQ(-EFAULT, result(&w));
	submit(&w, PAGEDKV_URING_MOVES, user_ptr(&w.io), 0, 0);
	EXPECT_EQ(-EINVAL, result(&w));
	w.io.size = sizeof(w.io);
	w.io.flags = 4;
	submit(&w, PAGEDKV_URING_MOVES, user_ptr(&w.io), 0, 0);
	EXPECT_EQ(-EOPNOTSUPP, result(&w));
	w.io.flags = 0;
	submit(&w, PAGEDKV_URING_MOVES, user_ptr(&w.io), 0, 0);
	EXPECT_EQ(0, result(&w));
	ASSERT_EQ(0, plan_all(self->pool, self->cold, self->other));
	w.io.moves = 0x10;
	w.io.max_moves = 4;
	submit(&w, PAGEDKV_URING_MOVES, user_ptr(&w.io), 0, 0);
	EXPECT_EQ(-EFAULT, result(&w));
	/* They are planned anew. */
	EXPECT_EQ(0U, pool_stats(self->pool).out_nr_moves - pool_stats(self->pool).out_nr_queued);
	io_uring_queue_exit(&w.ring);
}

/* An executor over io_uring, with rounds as fast as they come. */
static void execute(int to_parent)
{
	struct worker w;
	int pool = open_pool(open_device(), NAME, 0);
	int n = 0;

	if (start(&w, pool))
		_exit(1);
	for (;;) {
		next_round(&w, n > 0 ? (uint32_t)n : 0);
		if (to_parent >= 0 && write(to_parent, "r", 1) != 1)
			_exit(1);
		to_parent = -1;
		n = result(&w);
		if (n < 0)
			_exit(2);
	}
}

static uint32_t nr_clients(int pool)
{
	struct pagedkv_io_pool_info info = { .size = sizeof(info) };

	return call(pool, PAGEDKV_CMD_POOL_INFO, &info) ? 0 : info.out_nr_clients;
}

/* The file of a killed executor goes a little after it, with its ring. */
static bool is_alone(int pool)
{
	uint64_t give_up = now_ns() + 10000000000ULL;

	while (nr_clients(pool) != 1 && now_ns() < give_up)
		usleep(1000);
	return nr_clients(pool) == 1;
}

/* An executor that closes its ring and its file takes its commands along. */
TEST_F(uring, ring_closes)
{
	int second = open_pool(self->dev, NAME, 0);
	struct worker w, next;

	ASSERT_EQ(0, start(&w, second));
	for (int i = 0; i < 4; i++)
		next_round(&w, 0);
	close(second);
	io_uring_queue_exit(&w.ring);
	EXPECT_TRUE(is_alone(self->pool));
	ASSERT_EQ(0, start(&next, self->pool));
	next_round(&next, 0);
	ASSERT_EQ(0, plan_all(self->pool, self->cold, self->other));
	EXPECT_EQ((int)NR, result(&next));
	io_uring_queue_exit(&next.ring);
}

/* A ring is closed, its pool file stays: its commands go, and take nothing along. */
TEST_F(uring, ring_closes_alone)
{
	int second = open_pool(self->dev, NAME, 0), n, total = 0;
	struct pagedkv_io_move moves[64];
	struct worker w;

	ASSERT_EQ(0, start(&w, second));
	for (int i = 0; i < 4; i++)
		next_round(&w, 0);
	io_uring_queue_exit(&w.ring);
	ASSERT_EQ(0, plan_all(self->pool, self->cold, self->other));
	while ((n = fetch(self->pool, moves, 64)) > 0) {
		EXPECT_EQ(0, commit(self->pool, moves, (uint32_t)n));
		total += n;
	}
	EXPECT_GE(total, 26);
	EXPECT_EQ(0U, pool_stats(self->pool).out_nr_moves);
	/* Nothing of them holds the file. */
	close(second);
	EXPECT_TRUE(is_alone(self->pool));
}

/* Parked by one who has no descriptor of the pool any more, and dies. */
static void park_registered(int to_parent)
{
	int pool = open_pool(open_device(), NAME, 0);
	struct worker w;

	if (start(&w, pool) || io_uring_register_files(&w.ring, &pool, 1))
		_exit(1);
	close(pool);
	w.pool = 0;
	w.sqe_flags = IOSQE_FIXED_FILE;
	next_round(&w, 0);
	if (poll_result(&w) != NOT_YET || write(to_parent, "r", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

TEST_F(uring, killed_without_descriptor)
{
	int pipe_fd[2], status;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe(pipe_fd));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		park_registered(pipe_fd[1]);
	close(pipe_fd[1]);
	ASSERT_EQ(1, read(pipe_fd[0], &byte, 1));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(is_alone(self->pool));
	close(pipe_fd[0]);
}

/* exec() waits for what is pending, and so that has to end. */
static int exec_with_pending(unsigned int ring_flags)
{
	struct worker w;
	int status;
	pid_t pid = fork();

	if (!pid) {
		memset(&w, 0, sizeof(w));
		w.pool = open_pool(open_device(), NAME, 0);
		if (io_uring_queue_init(16, &w.ring, ring_flags))
			_exit(1);
		next_round(&w, 0);
		next_round(&w, 0);
		execl("/bin/sh", "sh", "-c", "exit 7", NULL);
		_exit(2);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -EPROTO;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EPROTO;
}

TEST_F(uring, exec_with_pending)
{
	EXPECT_EQ(7, exec_with_pending(0));
	EXPECT_EQ(7, exec_with_pending(IORING_SETUP_COOP_TASKRUN));
	EXPECT_EQ(7, exec_with_pending(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN));
	EXPECT_TRUE(is_alone(self->pool));
}

static void *submit_and_go(void *arg)
{
	next_round(arg, 0);
	return NULL;
}

/* The commands of a thread that is gone end when they are due, and take nothing. */
TEST_F(uring, thread_exits)
{
	struct pagedkv_io_move moves[64];
	struct worker w;
	pthread_t thread;

	ASSERT_EQ(0, start(&w, self->pool));
	ASSERT_EQ(0, pthread_create(&thread, NULL, submit_and_go, &w));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_EQ(0, plan_all(self->pool, self->cold, self->other));
	EXPECT_EQ(-ECANCELED, result(&w));
	EXPECT_EQ(26, fetch(self->pool, moves, 64));
	io_uring_queue_exit(&w.ring);
}

/* Woken for the only move, and killed before it could look: another one gets it. */
static void park_deferred(int to_parent)
{
	struct worker w;

	memset(&w, 0, sizeof(w));
	w.pool = open_pool(open_device(), NAME, 0);
	if (io_uring_queue_init(16, &w.ring,
				IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN))
		_exit(1);
	next_round(&w, 0);
	if (write(to_parent, "r", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

TEST_F(uring, killed_once_woken)
{
	int pipe_fd[2], status;
	struct worker w;
	char byte;
	pid_t pid;
	int pool;

	ASSERT_EQ(0, pipe(pipe_fd));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		park_deferred(pipe_fd[1]);
	ASSERT_EQ(1, read(pipe_fd[0], &byte, 1));
	pool = open_pool(self->dev, NAME, 0);
	ASSERT_EQ(0, start(&w, pool));
	next_round(&w, 0);
	ASSERT_EQ(0, advise(self->pool, self->cold, PAGEDKV_IO_COLD));
	ASSERT_EQ(-EAGAIN, append(self->pool, self->other, 5 * PAGE_TOKENS));
	EXPECT_EQ(1U, pool_stats(self->pool).out_nr_queued);
	EXPECT_EQ(NOT_YET, poll_result(&w));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(1, result(&w));
	EXPECT_EQ(0, commit(pool, w.moves, 1));
	EXPECT_EQ(0, append(self->pool, self->other, 5 * PAGE_TOKENS));
	io_uring_queue_exit(&w.ring);
	close(pool);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

TEST_F(uring, killed_while_parked)
{
	struct pagedkv_io_move moves[64];
	int pipe_fd[2], status, n;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe(pipe_fd));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		execute(pipe_fd[1]);
	ASSERT_EQ(1, read(pipe_fd[0], &byte, 1));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(is_alone(self->pool));
	ASSERT_EQ(0, plan_all(self->pool, self->cold, self->other));
	while ((n = fetch(self->pool, moves, 64)) > 0)
		EXPECT_EQ(0, commit(self->pool, moves, (uint32_t)n));
	EXPECT_EQ(0, append(self->pool, self->other, 30 * PAGE_TOKENS));
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/* Executors die at any point of their rounds while a client makes work for them. */
TEST_F_TIMEOUT(uring, killed_many_times, 600)
{
	struct pagedkv_io_move moves[64];
	uint64_t seq[2];
	int n, status;

	ASSERT_EQ(0, one_op(self->pool, self->cold, PAGEDKV_IO_OP_FREE, 0, NULL));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, create_seq(self->pool, NULL, 0, &seq[i], NULL));
		while ((n = append(self->pool, seq[i], 40 * PAGE_TOKENS)) == -EAGAIN)
			while ((n = fetch(self->pool, moves, 64)) > 0)
				ASSERT_EQ(0, commit(self->pool, moves, (uint32_t)n));
		ASSERT_EQ(0, n);
		ASSERT_EQ(0, advise(self->pool, seq[i], PAGEDKV_IO_COLD));
	}
	for (unsigned int i = 0; i < 1000; i++) {
		pid_t pid = fork();

		ASSERT_GE(pid, 0);
		if (!pid)
			execute(-1);
		advise(self->pool, seq[i & 1], PAGEDKV_IO_WILLNEED);
		usleep(i * 53 % 3000);
		advise(self->pool, seq[i & 1], PAGEDKV_IO_COLD);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status)) { TH_LOG("exit %d", WEXITSTATUS(status)); }
	}
	EXPECT_TRUE(is_alone(self->pool));
	while ((n = fetch(self->pool, moves, 64)) > 0)
		EXPECT_EQ(0, commit(self->pool, moves, (uint32_t)n));
	EXPECT_EQ(0U, pool_stats(self->pool).out_nr_moves);
	EXPECT_EQ(0U, pool_stats(self->pool).out_losses);
	EXPECT_LT(0U, pool_stats(self->pool).out_moves[1][0]);
}

TEST_HARNESS_MAIN
