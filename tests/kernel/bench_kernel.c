// SPDX-License-Identifier: GPL-2.0-only
/* What a call of the module costs, beside what it is measured against. */
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include "kit.h"
#include "pagedkv.h"

#define NR_SEQS		1024U
#define NR_ROUNDS	5

static void die(const char *what, long ret)
{
	fprintf(stderr, "bench_kernel: %s: %ld\n", what, ret);
	exit(1);
}

/* The best of some rounds of @nr calls, a call's ns. */
static double best(void (*f)(void *), void *arg, uint32_t nr)
{
	double least = 1e18;

	for (int round = 0; round < NR_ROUNDS; round++) {
		uint64_t start = now_ns();

		for (uint32_t i = 0; i < nr; i++)
			f(arg);
		if ((double)(now_ns() - start) / nr < least)
			least = (double)(now_ns() - start) / nr;
	}
	return least;
}

static void report(const char *name, double ours, const char *peer, double theirs, double target)
{
	printf("%s: %.2f x %s (%.0f ns, %.0f ns; target <= %.1f x)\n", name, ours / theirs, peer,
	       ours, theirs, target);
}

/* ------------------------------------------------------------ null, step */

struct one_seq {
	int pool;
	uint64_t seq;
};

static void ask_state(void *arg)
{
	struct one_seq *o = arg;

	if (seq_state(o->pool, o->seq) != 1)
		die("state", 0);
}

static void ask_parent(void *arg)
{
	(void)arg;
	syscall(SYS_getppid);
}

struct stepper {
	struct pagedkv *kv;
	struct pagedkv_pool *pool;
	struct pagedkv_op ops[NR_SEQS];
	struct pagedkv_delta deltas[NR_SEQS];
};

static void stepper_open(struct stepper *s, uint32_t backend)
{
	struct pagedkv_params p = { .size = sizeof(p), .backend = backend };
	struct pagedkv_pool_params g = { .size = sizeof(g) };
	struct pagedkv_seq_params q = { .size = sizeof(q) };
	int ret;

	g.classes[0].page_tokens = PAGE_TOKENS;
	g.classes[0].nr_slots[0] = 1U << 17;
	ret = pagedkv_open(&s->kv, &p);
	if (!ret)
		ret = pagedkv_pool_create(s->kv, &s->pool, &g);
	for (uint32_t i = 0; !ret && i < NR_SEQS; i++) {
		ret = pagedkv_seq_create(s->pool, &s->ops[i].seq, &q, NULL);
		s->ops[i].type = PAGEDKV_OP_APPEND;
		s->ops[i].arg = 1;
	}
	if (ret)
		die("pool", ret);
}

static void step(void *arg)
{
	struct stepper *s = arg;
	struct pagedkv_step st = {
		.ops = s->ops, .nr_ops = NR_SEQS, .deltas = s->deltas, .max_deltas = NR_SEQS,
	};
	int ret = pagedkv_step(s->pool, &st);

	if (ret)
		die("step", ret);
}

/* ------------------------------------------------------------- round trip */

#define TRIP	"bench_trip"

static void submit_moves(struct io_uring *ring, int pool, struct pagedkv_io_moves *io)
{
	struct pagedkv_uring_cmd cmd = { .arg = user_ptr(io) };
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		die("sqe", 0);
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = pool;
	sqe->cmd_op = PAGEDKV_URING_MOVES;
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
}

/* Commits what it has and waits for more, in one call a round. */
static void execute(void)
{
	struct pagedkv_io_move moves[4];
	struct pagedkv_io_commit commits[4] = { 0 };
	struct pagedkv_io_moves io = {
		.size = sizeof(io), .commits = user_ptr(commits),
		.moves = user_ptr(moves), .max_moves = 4,
	};
	int pool = open_pool(open_device(), TRIP, 0);
	struct io_uring_cqe *cqe;
	struct io_uring ring;

	if (pool < 0 || io_uring_queue_init(4, &ring, IORING_SETUP_COOP_TASKRUN))
		die("executor", pool);
	for (;;) {
		submit_moves(&ring, pool, &io);
		io_uring_submit_and_wait(&ring, 1);
		if (io_uring_peek_cqe(&ring, &cqe) || cqe->res < 0)
			_exit(1);
		io.nr_commits = (uint32_t)cqe->res;
		io_uring_cqe_seen(&ring, cqe);
		for (uint32_t i = 0; i < io.nr_commits; i++)
			commits[i].id = moves[i].id;
	}
}

struct trip {
	int pool;
	uint64_t seq[2];
	uint32_t turn;
};

static void wait_for(struct trip *t, uint64_t seq)
{
	struct pagedkv_io_seq_wait w = {
		.size = sizeof(w), .seq = seq, .deadline_ns = now_ns() + 10000000000ULL,
	};
	int ret = call(t->pool, PAGEDKV_CMD_SEQ_WAIT, &w);

	if (ret)
		die("wait", ret);
}

/* One page in, for which the other one's gives way without a copy. */
static void make_trip(void *arg)
{
	struct trip *t = arg;
	uint64_t in = t->seq[++t->turn & 1];
	int ret;

	advise(t->pool, t->seq[~t->turn & 1], PAGEDKV_IO_COLD);
	while ((ret = advise(t->pool, in, PAGEDKV_IO_WILLNEED)) == -EAGAIN) {
		struct pagedkv_io_moves_wait w = { .size = sizeof(w), .deadline_ns = UINT64_MAX };

		call(t->pool, PAGEDKV_CMD_MOVES_WAIT, &w);
	}
	if (ret < 0)
		die("load", ret);
	if (ret)
		wait_for(t, in);
}

static double trips(int dev)
{
	struct trip t = { .pool = create_pool(dev, TRIP, 1, 2) };
	double ns;
	pid_t pid;

	if (t.pool < 0)
		die(TRIP, t.pool);
	pid = fork();
	if (!pid)
		execute();
	for (int i = 0; i < 2; i++) {
		create_seq(t.pool, NULL, 0, &t.seq[i], NULL);
		while (append(t.pool, t.seq[i], 1) == -EAGAIN)
			;
		advise(t.pool, t.seq[i], PAGEDKV_IO_COLD);
	}
	ns = best(make_trip, &t, 2000);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(t.pool);
	destroy_pool(dev, TRIP);
	return ns;
}

struct ping {
	int to[2], from[2];
};

static void make_ping(void *arg)
{
	struct ping *p = arg;
	char byte = 0;

	if (write(p->to[1], &byte, 1) != 1 || read(p->from[0], &byte, 1) != 1)
		die("pipe", 0);
}

static double pings(void)
{
	struct ping p;
	char byte;
	double ns;
	pid_t pid;

	if (pipe(p.to) || pipe(p.from))
		die("pipe", errno);
	pid = fork();
	if (!pid)
		while (read(p.to[0], &byte, 1) == 1 && write(p.from[1], &byte, 1) == 1)
			;
	ns = best(make_ping, &p, 2000);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return ns;
}

/* -------------------------------------------------------------------- size */

static void large_pool(int dev)
{
	struct pagedkv_io_pool_create p;
	struct pagedkv_io_stats st;
	uint64_t start;
	int pool;

	pool_params(&p, NULL, 4000000, 0, 0);
	start = now_ns();
	pool = create_pool_with(dev, &p);
	if (pool < 0)
		die("large pool", pool);
	printf("pool of 4 million pages: %.3f s (target < 1 s)\n",
	       (double)(now_ns() - start) / 1e9);
	st = pool_stats(pool);
	printf("metadata of a page: %.1f bytes (target <= 64)\n",
	       (double)st.out_metadata_bytes / 4e6);
	close(pool);
}

int main(void)
{
	static struct stepper here, there;
	struct one_seq o;
	int dev = open_device();

	if (dev < 0)
		die("/dev/pagedkv", dev);
	o.pool = create_pool(dev, NULL, 8, 0);
	if (o.pool < 0 || create_seq(o.pool, NULL, 0, &o.seq, NULL))
		die("pool", o.pool);
	report("a sequence's state by ioctl", best(ask_state, &o, 20000), "getppid",
	       best(ask_parent, NULL, 20000), 2.5);
	stepper_open(&here, PAGEDKV_BACKEND_EMBEDDED);
	stepper_open(&there, PAGEDKV_BACKEND_KMOD);
	report("a step of 1024 sequences", best(step, &there, 100), "the embedded one",
	       best(step, &here, 100), 1.5);
	report("a move's fetch and commit", trips(dev), "a pipe's ping-pong", pings(), 1.2);
	large_pool(dev);
	pagedkv_close(here.kv);
	pagedkv_close(there.kv);
	return 0;
}
