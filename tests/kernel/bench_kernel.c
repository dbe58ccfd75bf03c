// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a call of the module costs, beside what it is measured against. The two
 * take turns, because machines change their speed; figures are medians.
 */
#include <signal.h>
#include <sys/syscall.h>

#include "kit.h"
#include "pagedkv.h"
#include "ring.h"

#define NR_SEQS		1024U
#define NR_TURNS	9

static void die(const char *what, long ret)
{
	fprintf(stderr, "bench_kernel: %s: %ld\n", what, ret);
	exit(1);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts @v. */
static double median(double *v, int nr)
{
	qsort(v, (size_t)nr, sizeof(*v), by_size);
	return v[nr / 2];
}

/* What is measured: @nr calls a turn, after what the clock does not see. */
struct side {
	void (*prepare)(void *arg);	/* may be NULL */
	void (*call)(void *arg);
	void *arg;
	uint32_t nr;
};

/* ns a call. */
static double take_turn(const struct side *s)
{
	uint64_t start;

	if (s->prepare)
		s->prepare(s->arg);
	start = now_ns();
	for (uint32_t i = 0; i < s->nr; i++)
		s->call(s->arg);
	return (double)(now_ns() - start) / s->nr;
}

static void compare(const char *name, const struct side *ours, const char *peer,
		    const struct side *theirs)
{
	double a[NR_TURNS], b[NR_TURNS], ratio[NR_TURNS];

	take_turn(ours);
	take_turn(theirs);
	for (int i = 0; i < NR_TURNS; i++) {
		a[i] = take_turn(ours);
		b[i] = take_turn(theirs);
		ratio[i] = a[i] / b[i];
	}
	printf("%s: %.2f us (%s: %.2f, %.2f)\n", name, median(a, NR_TURNS) / 1e3, peer,
	       median(b, NR_TURNS) / 1e3, median(ratio, NR_TURNS));
	fflush(stdout);
}

/* A figure that has a limit for a peer. */
static void hold_against(const char *name, double figure, const char *unit, double limit)
{
	printf("%s: %.3g %s (limit: %g, %.2f)\n", name, figure, unit, limit, figure / limit);
	fflush(stdout);
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

/* The ioctl with the least to do: one struct in, the lock, a number out. */
static void bench_null(int dev)
{
	struct one_seq o = { .pool = create_pool(dev, NULL, 8, 0) };
	const struct side ours = { .call = ask_state, .arg = &o, .nr = 20000 };
	const struct side theirs = { .call = ask_parent, .nr = 20000 };

	if (o.pool < 0 || create_seq(o.pool, NULL, 0, &o.seq, NULL))
		die("pool", o.pool);
	compare("null ioctl", &ours, "getppid", &theirs);
	close(o.pool);
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

static void bench_step(void)
{
	static struct stepper embedded, kmod;
	const struct side ours = { .call = step, .arg = &kmod, .nr = 64 };
	const struct side theirs = { .call = step, .arg = &embedded, .nr = 64 };

	stepper_open(&embedded, PAGEDKV_BACKEND_EMBEDDED);
	stepper_open(&kmod, PAGEDKV_BACKEND_KMOD);
	compare("a step of 1024 sequences", &ours, "embedded", &theirs);
	pagedkv_close(embedded.kv);
	pagedkv_close(kmod.kv);
}

/* ------------------------------------------------------------- round trip */

#define TRIP	"bench_trip"
#define NR_TRIPS	1024U	/* pages on the device; as many others wait for them to give way */

static void submit_moves(struct io_uring *ring, struct pagedkv_io_moves *io)
{
	struct pagedkv_uring_cmd cmd = { .arg = user_ptr(io) };

	/* The ring's first file. */
	prep_command(ring, 0, PAGEDKV_URING_MOVES, &cmd)->flags = IOSQE_FIXED_FILE;
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
	unsigned int flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	int pool = open_pool(open_device(), TRIP, 0);
	struct io_uring_cqe *cqe;
	struct io_uring ring;

	if (pool < 0 || io_uring_queue_init(4, &ring, flags) ||
	    io_uring_register_files(&ring, &pool, 1))
		die("executor", pool);
	for (;;) {
		submit_moves(&ring, &io);
		io_uring_submit_and_wait(&ring, 1);
		if (io_uring_peek_cqe(&ring, &cqe) || cqe->res < 0)
			_exit(1);
		io.nr_commits = (uint32_t)cqe->res;
		io_uring_cqe_seen(&ring, cqe);
		for (uint32_t i = 0; i < io.nr_commits; i++)
			commits[i].id = moves[i].id;
	}
}

/* Two sets of sequences of a page each, of which the device can hold one. */
struct trip {
	int pool;
	pid_t executor;
	uint64_t seqs[2][NR_TRIPS];
	uint32_t set, next;	/* which goes in, and how far it has come */
};

static void wait_a_move(int pool)
{
	struct pagedkv_io_moves_wait w = { .size = sizeof(w), .deadline_ns = UINT64_MAX };

	call(pool, PAGEDKV_CMD_MOVES_WAIT, &w);
}

/* The set that is on the device may give way: it has copies below, which cost nothing. */
static void turn_trip(void *arg)
{
	struct trip *t = arg;

	for (uint32_t i = 0; i < NR_TRIPS; i++)
		advise(t->pool, t->seqs[t->set][i], PAGEDKV_IO_COLD);
	t->set = !t->set;
	t->next = 0;
}

/* Ask for a page; an executor fetches the move and commits it; go on. */
static void make_trip(void *arg)
{
	struct trip *t = arg;
	uint64_t seq = t->seqs[t->set][t->next++];
	struct pagedkv_io_seq_wait w = {
		.size = sizeof(w), .seq = seq, .deadline_ns = UINT64_MAX,
	};
	int ret;

	while ((ret = advise(t->pool, seq, PAGEDKV_IO_WILLNEED)) == -EAGAIN)
		wait_a_move(t->pool);
	if (ret != 1)
		die("load", ret);
	ret = call(t->pool, PAGEDKV_CMD_SEQ_WAIT, &w);
	if (ret)
		die("wait", ret);
}

static void open_trip(struct trip *t, int dev)
{
	int ret;

	t->pool = create_pool(dev, TRIP, NR_TRIPS, 2 * NR_TRIPS);
	if (t->pool < 0)
		die(TRIP, t->pool);
	t->executor = fork();
	if (!t->executor)
		execute();
	for (t->set = 0; t->set < 2; t->set++) {
		for (uint32_t i = 0; i < NR_TRIPS; i++) {
			uint64_t *seq = &t->seqs[t->set][i];

			ret = create_seq(t->pool, NULL, 0, seq, NULL);
			while (!ret && (ret = append(t->pool, *seq, 1)) == -EAGAIN)
				ret = (wait_a_move(t->pool), 0);
			if (ret)
				die("sequence", ret);
			advise(t->pool, *seq, PAGEDKV_IO_COLD);
		}
	}
	t->set = 1;
}

struct ping {
	int to[2], from[2];
	pid_t echo;
};

static void make_ping(void *arg)
{
	struct ping *p = arg;
	char byte = 0;

	if (write(p->to[1], &byte, 1) != 1 || read(p->from[0], &byte, 1) != 1)
		die("pipe", 0);
}

static void open_ping(struct ping *p)
{
	char byte;

	if (pipe(p->to) || pipe(p->from))
		die("pipe", errno);
	p->echo = fork();
	if (!p->echo)
		while (read(p->to[0], &byte, 1) == 1 && write(p->from[1], &byte, 1) == 1)
			;
}

static void bench_trip(int dev)
{
	static struct trip t;
	struct ping p;
	const struct side ours = {
		.prepare = turn_trip, .call = make_trip, .arg = &t, .nr = NR_TRIPS,
	};
	const struct side theirs = { .call = make_ping, .arg = &p, .nr = NR_TRIPS };

	open_trip(&t, dev);
	open_ping(&p);
	compare("a move fetched and committed", &ours, "pipe ping-pong", &theirs);
	kill(t.executor, SIGKILL);
	kill(p.echo, SIGKILL);
	waitpid(t.executor, NULL, 0);
	waitpid(p.echo, NULL, 0);
	close(t.pool);
	destroy_pool(dev, TRIP);
}

/* ------------------------------------------------------------------- size */

static void bench_size(int dev)
{
	struct pagedkv_io_pool_create params;
	double ms, slowest = 0, bytes = 0;
	uint64_t start;
	int pool;

	for (int i = 0; i < NR_TURNS; i++) {
		pool_params(&params, NULL, 4000000, 0, 0);
		start = now_ns();
		pool = create_pool_with(dev, &params);
		ms = (double)(now_ns() - start) / 1e6;
		if (pool < 0)
			die("large pool", pool);
		/* The first one is, whose memory nobody has touched since the machine started. */
		if (ms > slowest)
			slowest = ms;
		bytes = (double)pool_stats(pool).out_metadata_bytes / 4e6;
		close(pool);
	}
	hold_against("a pool of 4 million pages, slowest", slowest, "ms", 1000);
	hold_against("metadata of a page", bytes, "bytes", 64);
}

/* ------------------------------------------------------- the lock, and /proc */

#define HOLDS		"/sys/kernel/tracing/events/pagedkv/pagedkv_hold/enable"
#define TRACE		"/sys/kernel/tracing/trace"
#define FILL_PAGES	65536U
#define MAX_HOLDS	8192U

static void write_to(const char *path, const char *what)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	if (fd < 0 || write(fd, what, strlen(what)) != (ssize_t)strlen(what))
		die(path, -errno);
	close(fd);
}

static void fill_pool(int pool, uint32_t nr_pages)
{
	static struct pagedkv_io_delta deltas[FILL_PAGES];
	struct pagedkv_io_op op = { .arg = FILL_PAGES * PAGE_TOKENS };
	struct pagedkv_io_step s = {
		.size = sizeof(s), .ops = user_ptr(&op), .nr_ops = 1,
		.deltas = user_ptr(deltas), .max_deltas = FILL_PAGES,
	};
	uint64_t seq = 0;
	int ret = 0;

	for (uint32_t i = 0; !ret && i < nr_pages; i += FILL_PAGES) {
		ret = create_seq(pool, NULL, 0, &seq, NULL);
		op.seq = seq;
		if (!ret)
			ret = call(pool, PAGEDKV_CMD_STEP, &s);
	}
	if (ret)
		die("fill", ret);
}

/* All that /proc says of a pool. */
static void read_pool(uint32_t id)
{
	static const char *const files[] = { "maps", "tables", "sequences", "limits" };
	static char text[65536];
	char path[64];

	for (int i = 0; i < 4; i++) {
		int fd;

		snprintf(path, sizeof(path), "/proc/pagedkv/%u/%s", id, files[i]);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			die(path, -errno);
		while (read(fd, text, sizeof(text)) > 0)
			;
		close(fd);
	}
}

/* What was traced, in us, in order: how many. */
static uint32_t read_holds(double *us)
{
	FILE *f = fopen(TRACE, "r");
	char line[256], *at;
	uint32_t nr = 0;

	while (f && nr < MAX_HOLDS && fgets(line, sizeof(line), f)) {
		at = strstr(line, " ns=");
		if (at)
			us[nr++] = strtod(at + 4, NULL) / 1e3;
	}
	if (f)
		fclose(f);
	return nr;
}

/*
 * Each reading does the same, hold by hold: the middle one of each tells what
 * it takes, without what the machine did meanwhile. The longest of them.
 */
static double longest_hold(const double us[NR_TURNS][MAX_HOLDS], uint32_t nr)
{
	double turns[NR_TURNS], longest = 0;

	for (uint32_t i = 0; i < nr; i++) {
		for (int t = 0; t < NR_TURNS; t++)
			turns[t] = us[t][i];
		if (median(turns, NR_TURNS) > longest)
			longest = turns[NR_TURNS / 2];
	}
	return longest;
}

static void bench_proc(int dev)
{
	static double us[NR_TURNS][MAX_HOLDS];
	struct pagedkv_io_pool_info info = { .size = sizeof(info) };
	int pool = create_pool(dev, NULL, 1U << 20, 0);
	uint32_t nr, first = 0;

	if (pool < 0 || call(pool, PAGEDKV_CMD_POOL_INFO, &info))
		die("pool", pool);
	fill_pool(pool, 1U << 20);
	for (int i = 0; i < NR_TURNS; i++) {
		write_to(TRACE, "");
		write_to(HOLDS, "1");
		read_pool(info.out_id);
		write_to(HOLDS, "0");
		nr = read_holds(us[i]);
		first = i ? first : nr;
		if (nr < 1024 || nr == MAX_HOLDS || nr != first)
			die("holds", nr);
	}
	fprintf(stderr, "bench_kernel: reading all of the pool takes its lock %u times\n", first);
	hold_against("the lock held by a read of a million pages in /proc, longest",
		     longest_hold(us, first), "us", 1000);
	close(pool);
}

int main(void)
{
	int dev = open_device();

	if (dev < 0)
		die("/dev/pagedkv", dev);
	bench_null(dev);
	bench_step();
	bench_trip(dev);
	bench_size(dev);
	bench_proc(dev);
	return 0;
}
