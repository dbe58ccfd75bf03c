// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every allocation of every kind of call failed in turn, the first, the
 * second and so on until a call is over before its turn comes: it fails with
 * ENOMEM and has changed nothing, or does without; then it works.
 */
#include <poll.h>
#include <sys/eventfd.h>

#include "../kselftest_harness.h"
#include "kit.h"
#include "ring.h"

#define NAME	"faults"
#define MANY	3000U	/* device slots */

/* What there is when the call comes; made anew for each of its allocations. */
struct state {
	int dev, pool;
	uint64_t seq;		/* runs, with two pages */
	uint64_t cold;		/* twenty, evicted to the host tier */
	struct pagedkv_io_move moves[64];
	int nr_moves;
	int fd;			/* what the call made */
	int other_fd;		/* what it needs */
	uint8_t *mem;
	size_t len;
	struct io_uring ring;
	bool has_ring;
	struct pagedkv_io_moves round;
};

struct operation {
	void (*prepare)(struct state *s);
	int (*run)(struct state *s);
	int want;	/* its result when nothing fails */
};

/* ----------------------------------------------------------------- failing */

static bool set_parameter(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, value, strlen(value)) > 0;

	if (fd >= 0)
		close(fd);
	return done;
}

/* Allocations that may wait fail too, of any order, and nobody says so in the log. */
static bool set_up_failures(void)
{
	return set_parameter("/sys/kernel/debug/failslab/ignore-gfp-wait", "N") &&
	       set_parameter("/sys/kernel/debug/failslab/verbose", "0") &&
	       set_parameter("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N") &&
	       set_parameter("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N") &&
	       set_parameter("/sys/kernel/debug/fail_page_alloc/min-order", "0") &&
	       set_parameter("/sys/kernel/debug/fail_page_alloc/verbose", "0");
}

/* The result of the call while its @nth allocation fails; *@failed: there was one. */
static int run_failing(const struct operation *op, struct state *s, unsigned int nth, bool *failed)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	char text[16] = { 0 };
	int len = snprintf(text, sizeof(text), "%u", nth), ret;

	if (fd < 0 || pwrite(fd, text, (size_t)len, 0) != len)
		abort();
	ret = op->run(s);
	/* 0 once it has failed, else what was left to count. */
	if (pread(fd, text, sizeof(text) - 1, 0) <= 0)
		abort();
	*failed = atoi(text) == 0;
	if (pwrite(fd, "0", 1, 0) != 1)
		abort();
	close(fd);
	return ret;
}

/* ------------------------------------------------------------------- state */

/* What must be the same after a call that failed. */
struct counts {
	char stat[1024], meminfo[1024];
	int nr_files;
};

static void read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, size - 1);

	text[n < 0 ? 0 : n] = '\0';
	close(fd);
}

static struct counts count(void)
{
	struct counts c;
	char *end;

	memset(&c, 0, sizeof(c));
	read_text("/proc/pagedkv/stat", c.stat, sizeof(c.stat));
	/* Pools, sequences, moves; what has happened so far is another matter. */
	end = strstr(c.stat, "allocs");
	if (end)
		memset(end, 0, (size_t)(c.stat + sizeof(c.stat) - end));
	read_text("/proc/pagedkv/meminfo", c.meminfo, sizeof(c.meminfo));
	c.nr_files = dup(0);
	close(c.nr_files);
	return c;
}

/* Run all moves; once more where the one failure hits. */
static void settle(struct state *s)
{
	do {
		s->nr_moves = fetch(s->pool, s->moves, 64);
		while (s->nr_moves > 0 &&
		       commit(s->pool, s->moves, (uint32_t)s->nr_moves) == -ENOMEM)
			continue;
	} while (s->nr_moves > 0 || s->nr_moves == -ENOMEM);
}

static void begin(struct state *s)
{
	struct pagedkv_io_key keys[20];

	memset(s, 0, sizeof(*s));
	s->fd = s->other_fd = -1;
	s->dev = open_device();
	destroy_pool(s->dev, NAME);
	destroy_pool(s->dev, NAME "2");
	s->pool = create_pool(s->dev, NAME, 32, 32);
	make_keys(keys, 20, 7);
	if (s->pool < 0 || create_seq(s->pool, NULL, 0, &s->cold, NULL) ||
	    append(s->pool, s->cold, 20 * PAGE_TOKENS) ||
	    publish(s->pool, s->cold, keys, 20) != 20 ||
	    create_seq(s->pool, NULL, 0, &s->seq, NULL) || append(s->pool, s->seq, 2 * PAGE_TOKENS))
		abort();
}

static void finish(struct state *s)
{
	if (s->has_ring)
		io_uring_queue_exit(&s->ring);
	if (s->mem)
		munmap(s->mem, s->len);
	if (s->fd >= 0)
		close(s->fd);
	if (s->other_fd >= 0)
		close(s->other_fd);
	if (s->pool >= 0)
		close(s->pool);
	destroy_pool(s->dev, NAME);
	destroy_pool(s->dev, NAME "2");
	close(s->dev);
}

static bool is_same(const struct counts *a, const struct counts *b)
{
	return !strcmp(a->stat, b->stat) && !strcmp(a->meminfo, b->meminfo) &&
	       a->nr_files == b->nr_files;
}

/* Returns whether an allocation was failed. */
static bool fail_one(struct __test_metadata *_metadata, const struct operation *op,
		     unsigned int nth)
{
	struct counts before, after;
	struct state s;
	bool failed;
	int ret;

	begin(&s);
	if (op->prepare)
		op->prepare(&s);
	before = count();
	ret = run_failing(op, &s, nth, &failed);
	if (ret != op->want) {
		after = count();
		EXPECT_TRUE(failed);
		EXPECT_EQ(-ENOMEM, ret) { TH_LOG("at allocation %u", nth); }
		EXPECT_TRUE(is_same(&before, &after)) {
			TH_LOG("at allocation %u, %d files before and %d after:\n%s%s%s%s", nth,
			       before.nr_files, after.nr_files, before.stat, before.meminfo,
			       after.stat, after.meminfo);
		}
		EXPECT_EQ(op->want, op->run(&s)) { TH_LOG("after allocation %u failed", nth); }
	}
	if (s.pool >= 0)
		EXPECT_EQ(0, check_pool(s.pool));
	finish(&s);
	return failed;
}

FIXTURE(faults)
{
	bool can;
};

FIXTURE_SETUP(faults)
{
	self->can = !access("/proc/thread-self/fail-nth", W_OK) && set_up_failures();
	if (!self->can)
		SKIP(return, "a kernel without fault injection");
	ASSERT_EQ(0, access("/dev/pagedkv", R_OK | W_OK));
}

FIXTURE_TEARDOWN(faults)
{
}

static void fail_each(struct __test_metadata *_metadata, const struct operation *op)
{
	unsigned int nth = 1;
	struct counts before = count(), after;

	while (fail_one(_metadata, op, nth))
		nth++;
	TH_LOG("%u allocations", nth - 1);
	after = count();
	EXPECT_TRUE(is_same(&before, &after));
}

#define FAULTS(_name, ...) \
	TEST_F_TIMEOUT(faults, _name, 900) \
	{ \
		static const struct operation op = { __VA_ARGS__ }; \
		(void)self; \
		fail_each(_metadata, &op); \
	}

/* ------------------------------------------------------------------- pools */

static int open_again(struct state *s)
{
	int fd = open_device();

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}
FAULTS(device, .run = open_again)

/* With a host tier of 2 MiB and one of a few pages. */
static int make_pool(struct state *s)
{
	struct pagedkv_io_pool_create p;
	int ret;

	pool_params(&p, NAME "2", 64, 512, 64);
	p.nr_classes = 2;
	p.classes[1] = p.classes[0];
	p.classes[1].nr_slots[1] = 40;
	ret = create_pool_with(s->dev, &p);
	if (ret < 0)
		return ret;
	s->fd = ret;
	return 0;
}
FAULTS(pool_create, .run = make_pool)

static int open_again_pool(struct state *s)
{
	s->fd = open_pool(s->dev, NAME, 0);
	return s->fd < 0 ? s->fd : 0;
}
FAULTS(pool_open, .run = open_again_pool)

static int forget_pool(struct state *s)
{
	return destroy_pool(s->dev, NAME);
}
FAULTS(pool_destroy, .run = forget_pool)

/* Teardown can't fail. */
static void let_go_of_name(struct state *s)
{
	settle(s);
	destroy_pool(s->dev, NAME);
	advise(s->pool, s->cold, PAGEDKV_IO_COLD);
	append(s->pool, s->seq, 20 * PAGE_TOKENS);
	s->nr_moves = fetch(s->pool, s->moves, 3);
}

static int close_pool(struct state *s)
{
	int fd = s->pool;

	s->pool = -1;
	return close(fd) ? -errno : 0;
}
FAULTS(release, .prepare = let_go_of_name, .run = close_pool)

/* --------------------------------------------------------------- sequences */

static int make_seqs(struct state *s)
{
	struct pagedkv_io_key keys[300];
	uint64_t seq;
	int ret;

	make_keys(keys, 300, 7);
	ret = create_seq(s->pool, keys, 300, &seq, NULL);
	if (!ret)
		ret = one_op(s->pool, seq, PAGEDKV_IO_OP_FREE, 0, NULL);
	return ret;
}
FAULTS(seq_create, .run = make_seqs)

/* As many as the first table of them has room for. */
static void fill_seqs(struct state *s)
{
	uint64_t seq;

	for (int i = 2; i < 64; i++)
		if (create_seq(s->pool, NULL, 0, &seq, NULL))
			abort();
}
static int one_more_seq(struct state *s)
{
	uint64_t seq;

	return create_seq(s->pool, NULL, 0, &seq, NULL);
}
FAULTS(seq_create_many, .prepare = fill_seqs, .run = one_more_seq)

static int match_many(struct state *s)
{
	struct pagedkv_io_key keys[300];
	struct pagedkv_io_match m = { .size = sizeof(m), .keys = user_ptr(keys), .nr_keys = 300 };
	int ret;

	make_keys(keys, 300, 7);
	ret = call(s->pool, PAGEDKV_CMD_MATCH, &m);
	return ret ? ret : (int)m.out_nr;
}
FAULTS(match, .run = match_many, .want = 20)

static int publish_two(struct state *s)
{
	struct pagedkv_io_key keys[2];

	make_keys(keys, 2, 8);
	return publish(s->pool, s->seq, keys, 2);
}
FAULTS(publish, .run = publish_two, .want = 2)

/* A client's first step gets its buffers. */
static void open_second(struct state *s)
{
	close(s->pool);
	s->pool = open_pool(s->dev, NAME, 0);
	if (s->pool < 0 || create_seq(s->pool, NULL, 0, &s->seq, NULL))
		abort();
}

static int append_some(struct state *s)
{
	return append(s->pool, s->seq, 9 * PAGE_TOKENS);
}
FAULTS(first_step, .prepare = open_second, .run = append_some)

/* More changes than a buffer has room for, in one append. */
static void make_large_pool(struct state *s)
{
	close(s->pool);
	s->pool = create_pool(s->dev, NAME "2", MANY, 0);
	if (s->pool < 0 || create_seq(s->pool, NULL, 0, &s->seq, NULL) ||
	    append(s->pool, s->seq, 1))
		abort();
}

static int append_many(struct state *s)
{
	static struct pagedkv_io_delta deltas[MANY];
	struct pagedkv_io_op op = {
		.seq = s->seq, .type = PAGEDKV_IO_OP_APPEND, .arg = MANY * PAGE_TOKENS - 1,
	};
	struct pagedkv_io_step step = {
		.size = sizeof(step), .ops = user_ptr(&op), .nr_ops = 1,
		.deltas = user_ptr(deltas), .max_deltas = MANY,
	};

	return call(s->pool, PAGEDKV_CMD_STEP, &step);
}
FAULTS(large_append, .prepare = make_large_pool, .run = append_many)

static int fork_seq(struct state *s)
{
	uint64_t child;

	return one_op(s->pool, s->cold, PAGEDKV_IO_OP_FORK, 0, &child);
}
FAULTS(fork, .run = fork_seq)

/* --------------------------------------------------------------------- moves */

static void cool(struct state *s)
{
	if (advise(s->pool, s->cold, PAGEDKV_IO_COLD))
		abort();
}

static int plan(struct state *s)
{
	return append(s->pool, s->seq, 20 * PAGE_TOKENS);
}
FAULTS(evict, .prepare = cool, .run = plan, .want = -EAGAIN)

static void evict(struct state *s)
{
	cool(s);
	while (plan(s) == -EAGAIN)
		settle(s);
	if (one_op(s->pool, s->seq, PAGEDKV_IO_OP_TRUNCATE, 1, NULL))
		abort();
}

static int load(struct state *s)
{
	return advise(s->pool, s->cold, PAGEDKV_IO_WILLNEED);
}
FAULTS(load, .prepare = evict, .run = load, .want = 1)

/* Ten that are fetched, and others to fetch. */
static void evict_partly(struct state *s)
{
	cool(s);
	if (plan(s) != -EAGAIN)
		abort();
	s->nr_moves = fetch(s->pool, s->moves, 5);
}

static int commit_and_fetch(struct state *s)
{
	struct pagedkv_io_commit items[5] = { 0 };
	struct pagedkv_io_moves m = {
		.size = sizeof(m), .commits = user_ptr(items), .nr_commits = 5,
		.moves = user_ptr(s->moves), .max_moves = 64,
	};
	int ret;

	for (int i = 0; i < 5; i++)
		items[i].id = s->moves[i].id;
	ret = call(s->pool, PAGEDKV_CMD_MOVES, &m);
	return ret ? ret : m.out_nr_stale ? -ESTALE : 0;
}

static int set_eventfd(struct state *s)
{
	struct pagedkv_io_moves_eventfd arg = { .size = sizeof(arg), .fd = s->other_fd };

	return call(s->pool, PAGEDKV_CMD_MOVES_EVENTFD, &arg);
}

static void make_eventfd(struct state *s)
{
	s->other_fd = eventfd(0, EFD_NONBLOCK);
}
FAULTS(eventfd, .prepare = make_eventfd, .run = set_eventfd)

/* Commits stand when the fetch behind them finds no memory. */
TEST_F_TIMEOUT(faults, commit_and_fetch, 900)
{
	static const struct operation op = { .run = commit_and_fetch };
	bool failed = true;

	(void)self;
	for (unsigned int nth = 1; failed; nth++) {
		struct state s;
		uint32_t nr;
		int ret;

		begin(&s);
		evict_partly(&s);
		nr = pool_stats(s.pool).out_nr_moves;
		ret = run_failing(&op, &s, nth, &failed);
		if (ret) {
			EXPECT_TRUE(failed);
			EXPECT_EQ(-ENOMEM, ret);
			EXPECT_GE(nr, pool_stats(s.pool).out_nr_moves);
			/* None was fetched on the way. */
			EXPECT_GE(5U, pool_stats(s.pool).out_nr_moves -
				      pool_stats(s.pool).out_nr_queued);
		}
		EXPECT_EQ(0, check_pool(s.pool));
		finish(&s);
	}
}

/* ---------------------------------------------------------------- mappings */

static void open_zeroes(struct state *s)
{
	s->other_fd = open("/dev/full", O_RDWR | O_CLOEXEC);
}

/* The kernel writes there: an answer instead of a signal. */
static int map_and_touch(struct state *s)
{
	if (!s->mem)
		s->mem = map_host(s->pool, &s->len);
	if (!s->mem)
		return -errno;
	if (read(s->other_fd, s->mem, s->len) == (ssize_t)s->len)
		return 0;
	return errno == EFAULT ? -ENOMEM : -errno;
}
FAULTS(mmap, .prepare = open_zeroes, .run = map_and_touch)

/* ---------------------------------------------------------------- io_uring */

static void open_ring(struct state *s)
{
	if (io_uring_queue_init(8, &s->ring, 0))
		abort();
	s->has_ring = true;
}

/* A command, what it comes to, and the result of both. */
static int submit(struct state *s, uint32_t op, uint64_t arg)
{
	struct pagedkv_uring_cmd cmd = { .arg = arg };

	prep_command(&s->ring, s->pool, op, &cmd);
	return io_uring_submit(&s->ring) == 1 ? 0 : -ENOMEM;
}

static int complete(struct state *s)
{
	struct io_uring_cqe *cqe;
	int ret;

	if (io_uring_wait_cqe(&s->ring, &cqe))
		return -EPROTO;
	ret = cqe->res;
	io_uring_cqe_seen(&s->ring, cqe);
	return ret;
}

static int park_and_quiesce(struct state *s)
{
	struct pagedkv_io_empty arg = { .size = sizeof(arg) };
	int ret, again;

	s->round = (struct pagedkv_io_moves) {
		.size = sizeof(s->round), .moves = user_ptr(s->moves), .max_moves = 64,
	};
	ret = submit(s, PAGEDKV_URING_MOVES, user_ptr(&s->round));
	again = call(s->pool, PAGEDKV_CMD_QUIESCE, &arg);
	/* One that could not go in stays in the ring. */
	if (ret)
		io_uring_submit(&s->ring);
	if (ret && !again)
		again = call(s->pool, PAGEDKV_CMD_QUIESCE, &arg);
	if (again)
		return again;
	again = complete(s);
	return ret ? ret : again;
}
FAULTS(uring_moves, .prepare = open_ring, .run = park_and_quiesce, .want = -ECANCELED)

static void load_and_open_ring(struct state *s)
{
	evict(s);
	if (load(s) != 1)
		abort();
	open_ring(s);
}

static int wait_for_seq(struct state *s)
{
	int ret = submit(s, PAGEDKV_URING_SEQ_WAIT, s->cold);

	if (ret)
		io_uring_submit(&s->ring);
	settle(s);
	return ret ? complete(s), ret : complete(s);
}

TEST_F_TIMEOUT(faults, uring_seq_wait, 900)
{
	static const struct operation op = { .run = wait_for_seq };
	bool failed = true;

	(void)self;
	for (unsigned int nth = 1; failed; nth++) {
		struct state s;
		int ret;

		begin(&s);
		load_and_open_ring(&s);
		ret = run_failing(&op, &s, nth, &failed);
		if (ret) {
			EXPECT_TRUE(failed);
			EXPECT_EQ(-ENOMEM, ret);
		}
		settle(&s);
		EXPECT_EQ(1, seq_state(s.pool, s.cold));
		EXPECT_EQ(0, check_pool(s.pool));
		finish(&s);
	}
}

/* -------------------------------------------------------------------- looks */

static int look(struct state *s)
{
	struct pagedkv_io_map_entry entries[64];
	struct pagedkv_io_map m = { .size = sizeof(m), .entries = user_ptr(entries), .nr = 64 };
	struct pagedkv_io_check c = { .size = sizeof(c) };
	int ret = call(s->pool, PAGEDKV_CMD_MAP, &m);

	return ret ? ret : call(s->pool, PAGEDKV_CMD_CHECK, &c);
}
FAULTS(map_and_check, .run = look)

static int read_file(const char *format, uint32_t id)
{
	char path[64], text[4096];
	int fd, ret;

	snprintf(path, sizeof(path), format, id);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = read(fd, text, sizeof(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static int read_files(struct state *s)
{
	static const char *const files[] = {
		"/proc/pagedkv/pools", "/proc/pagedkv/stat", "/proc/pagedkv/meminfo",
		"/proc/pagedkv/tiers", "/proc/pagedkv/version", "/proc/pagedkv/%u/maps",
		"/proc/pagedkv/%u/sequences", "/proc/pagedkv/%u/limits",
		"/sys/kernel/debug/pagedkv/%u/check",
	};
	struct pagedkv_io_pool_info info = { .size = sizeof(info) };
	int ret = call(s->pool, PAGEDKV_CMD_POOL_INFO, &info);

	for (size_t i = 0; !ret && i < sizeof(files) / sizeof(files[0]); i++)
		ret = read_file(files[i], info.out_id);
	return ret;
}
FAULTS(files, .run = read_files)

TEST_HARNESS_MAIN
