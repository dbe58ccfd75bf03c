// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory pressure, of the machine and of a memcg: the host tier gives back what
 * it does not need, nobody is killed, and no page is other than it was.
 */
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "../kselftest_harness.h"
#include "kit.h"

#define SLOT		4096UL
#define UNIT		(2UL << 20)
#define MIB		(1UL << 20)
#define DEVICE_SLOTS	64U
#define SEQ_PAGES	32U
#define GROUP		"/sys/fs/cgroup/pagedkv-pressure"
#define ROOT		"/sys/fs/cgroup"
#define PATIENCE_NS	(20ULL * 1000000000)

/* Of those that take a while where the kernel watches itself. */
#define TIMEOUT_S	200

/* ------------------------------------------------------------------ files */

static int write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC), ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* The number after @key in a file, or UINT64_MAX. */
static uint64_t number(const char *path, const char *key)
{
	char text[8192];
	int fd = open(path, O_RDONLY);
	size_t len = 0;
	ssize_t n;
	char *at;

	if (fd < 0)
		return UINT64_MAX;
	while (len < sizeof(text) - 1 && (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = 0;
	close(fd);
	at = strstr(text, key);
	return at ? strtoull(at + strlen(key), NULL, 10) : UINT64_MAX;
}

static uint64_t resident_bytes(void)
{
	return number("/proc/pagedkv/meminfo", "HostResident:") << 10;
}

/* Some small pages are in a processor's hands a little longer. */
static uint64_t resident_units(uint64_t before)
{
	return (resident_bytes() - before + UNIT / 2) / UNIT;
}

static uint64_t stat_of(const char *key)
{
	return number("/proc/pagedkv/stat", key);
}

/* Every shrinker is asked for all it has. */
static void shrink_all(void)
{
	write_to("/proc/sys/vm/drop_caches", "2");
}

/* ------------------------------------------------------------------- hogs */

struct hog {
	pid_t pid;
	int stop_fd;
};

/* Memory for as long as nobody closes @stop_fd: @bytes of it, or until @enough says so. */
static int hog(size_t bytes, bool (*enough)(void), int ready_fd, int stop_fd)
{
	volatile uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char byte;

	if (p == MAP_FAILED)
		return 2;
	for (size_t i = 0; i < bytes; i += SLOT) {
		if (enough && !(i % MIB) && enough())
			break;
		p[i] = 1;
	}
	if (write(ready_fd, "", 1) != 1)
		return 3;
	return read(stop_fd, &byte, 1) ? 4 : 0;
}

/* 0: it has its memory. */
static int begin_hog(struct hog *h, bool in_group, size_t bytes, bool (*enough)(void))
{
	int ready[2], stop[2];
	char byte;

	if (pipe(ready) || pipe(stop))
		return -errno;
	h->pid = fork();
	if (!h->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[0]);
		close(stop[1]);
		if (in_group && write_to(GROUP "/cgroup.procs", "0"))
			_exit(1);
		_exit(hog(bytes, enough, ready[1], stop[0]));
	}
	close(ready[1]);
	close(stop[0]);
	h->stop_fd = stop[1];
	if (read(ready[0], &byte, 1) != 1)
		byte = 1;
	close(ready[0]);
	return byte;
}

/* The status that it ended with: killed, if it was. */
static int end_hog(struct hog *h)
{
	int status = -1;

	close(h->stop_fd);
	waitpid(h->pid, &status, 0);
	return status;
}

/* --------------------------------------------------------------- executor */

/* A pool whose pages have contents, on all tiers. */
struct world {
	int dev, pool;
	uint8_t *device, *host;
	size_t host_len;
	int disk;
	pthread_t thread;
	int event;
	_Atomic bool stopping;
	_Atomic bool is_slow;	/* for the next moves */
	_Atomic bool is_over;	/* what goes on beside it */
	_Atomic uint32_t nr_failed;
};

static int copy_move(struct world *w, const struct pagedkv_io_move *m)
{
	uint8_t *mem[] = { w->device, w->host };
	off_t src = (off_t)m->src_slot * SLOT, dst = (off_t)m->dst_slot * SLOT;

	if (m->src_tier == 2)
		return pread(w->disk, mem[m->dst_tier] + dst, SLOT, src) != SLOT;
	if (m->dst_tier == 2)
		return pwrite(w->disk, mem[m->src_tier] + src, SLOT, dst) != SLOT;
	memcpy(mem[m->dst_tier] + dst, mem[m->src_tier] + src, SLOT);
	return 0;
}

/* As long as reclaim needs to ask for memory that often. */
static void wait_for_scans(uint32_t nr)
{
	uint64_t deadline = now_ns() + PATIENCE_NS, first = stat_of("\nshrink_scans ");

	/* Not all the time: a look at them takes the pool's lock. */
	while (stat_of("\nshrink_scans ") < first + nr && now_ns() < deadline)
		usleep(5000);
}

static void *execute(void *arg)
{
	struct pagedkv_io_move moves[64];
	struct world *w = arg;
	uint64_t count;
	int n;

	while (read(w->event, &count, sizeof(count)) > 0 && !w->stopping) {
		while ((n = fetch(w->pool, moves, 64)) > 0) {
			if (w->is_slow)
				wait_for_scans(30);
			w->is_slow = false;
			for (int i = 0; i < n; i++)
				w->nr_failed += copy_move(w, &moves[i]);
			w->nr_failed += commit(w->pool, moves, (uint32_t)n) != 0;
		}
	}
	return NULL;
}

static int begin_executor(struct world *w)
{
	struct pagedkv_io_moves_eventfd arg = { .size = sizeof(arg) };

	w->event = eventfd(1, EFD_CLOEXEC);
	arg.fd = w->event;
	return call(w->pool, PAGEDKV_CMD_MOVES_EVENTFD, &arg) ?:
	       -pthread_create(&w->thread, NULL, execute, w);
}

/* 0, with @host and @disk slots; charged to the group if there is one. */
static int begin_world(struct world *w, bool in_group, uint32_t host, uint32_t disk)
{
	struct pagedkv_io_pool_create p;

	memset(w, 0, sizeof(*w));
	w->dev = open_device();
	pool_params(&p, NULL, DEVICE_SLOTS, host, disk);
	if (in_group && write_to(GROUP "/cgroup.procs", "0"))
		return -EPROTO;
	w->pool = create_pool_with(w->dev, &p);
	if (in_group && write_to(ROOT "/cgroup.procs", "0"))
		return -EPROTO;
	if (w->pool < 0)
		return w->pool;
	w->host = map_host(w->pool, &w->host_len);
	w->device = aligned_alloc(SLOT, DEVICE_SLOTS * SLOT);
	w->disk = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (!w->host || !w->device || w->disk < 0)
		return -ENOMEM;
	return begin_executor(w);
}

static void end_world(struct world *w)
{
	uint64_t one = 1;

	w->stopping = true;
	if (write(w->event, &one, sizeof(one)) == sizeof(one))
		pthread_join(w->thread, NULL);
	munmap(w->host, w->host_len);
	close(w->pool);
	close(w->event);
	close(w->disk);
	close(w->dev);
	free(w->device);
}

/* ---------------------------------------------------------------- contents */

static uint64_t word_of(uint64_t seq, uint32_t page, uint32_t i)
{
	return (seq * SEQ_PAGES + page + 1) * 0x9e3779b97f4a7c15ULL + i;
}

static int nr_moves(int pool)
{
	return (int)pool_stats(pool).out_nr_moves;
}

static int table_of(int pool, uint64_t seq, uint32_t *slots)
{
	struct pagedkv_io_seq_table t = {
		.size = sizeof(t), .seq = seq, .slots = user_ptr(slots), .nr = SEQ_PAGES,
	};
	int ret = call(pool, PAGEDKV_CMD_SEQ_TABLE, &t);

	return ret ? ret : (int)t.out_nr;
}

/* A cold sequence of SEQ_PAGES written pages; -errno, or 0. */
static int add_seq(struct world *w, uint64_t *seq)
{
	uint64_t deadline = now_ns() + PATIENCE_NS;
	uint32_t slots[SEQ_PAGES];
	int ret;

	ret = create_seq(w->pool, NULL, 0, seq, NULL);
	if (ret)
		return ret;
	while ((ret = append(w->pool, *seq, SEQ_PAGES * PAGE_TOKENS)) == -EAGAIN) {
		if (now_ns() > deadline)
			return -ETIME;
		sched_yield();
	}
	if (ret || table_of(w->pool, *seq, slots) != SEQ_PAGES) {
		one_op(w->pool, *seq, PAGEDKV_IO_OP_FREE, 0, NULL);
		return ret ? ret : -EPROTO;
	}
	for (uint32_t p = 0; p < SEQ_PAGES; p++)
		for (uint32_t i = 0; i < SLOT / 8; i++)
			((uint64_t *)(w->device + slots[p] * SLOT))[i] = word_of(*seq, p, i);
	return advise(w->pool, *seq, PAGEDKV_IO_COLD);
}

/* Bring it to the device and look: 0, or the first page that is other than it was, plus 1. */
static int check_seq(struct world *w, uint64_t seq)
{
	uint64_t deadline = now_ns() + PATIENCE_NS;
	uint32_t slots[SEQ_PAGES];
	int state;

	while ((state = advise(w->pool, seq, PAGEDKV_IO_WILLNEED)) != 0) {
		if ((state < 0 && state != -EAGAIN) || now_ns() > deadline)
			return state < 0 ? state : -ETIME;
		sched_yield();
	}
	if (table_of(w->pool, seq, slots) != SEQ_PAGES)
		return -EPROTO;
	for (uint32_t p = 0; p < SEQ_PAGES; p++)
		for (uint32_t i = 0; i < SLOT / 8; i++)
			if (((uint64_t *)(w->device + slots[p] * SLOT))[i] != word_of(seq, p, i))
				return (int)p + 1;
	return advise(w->pool, seq, PAGEDKV_IO_COLD);
}

static int check_seqs(struct world *w, const uint64_t *seqs, uint32_t nr)
{
	int ret = 0;

	for (uint32_t i = 0; i < nr && !ret; i++) {
		ret = check_seq(w, seqs[i]);
		if (ret)
			printf("# sequence %u: %d\n", i, ret);
	}
	return ret;
}

/* Wait until the executor has done what is planned. */
static bool settled(int pool)
{
	uint64_t deadline = now_ns() + PATIENCE_NS;

	while (nr_moves(pool)) {
		if (now_ns() > deadline)
			return false;
		sched_yield();
	}
	return true;
}

/* ------------------------------------------------------------------ groups */

static bool make_group(const char *max)
{
	rmdir(GROUP);
	return (!mkdir(GROUP, 0755) || errno == EEXIST) && !write_to(GROUP "/memory.max", max);
}

static uint64_t nr_oom_kills(void)
{
	return number(GROUP "/memory.events", "oom_kill ");
}

FIXTURE(pressure)
{
	struct world w;
	uint64_t seqs[1024];
	uint64_t before;
};

FIXTURE_SETUP(pressure)
{
	self->before = resident_bytes();
	ASSERT_NE(UINT64_MAX, self->before);
	memset(&self->w, 0, sizeof(self->w));
}

FIXTURE_TEARDOWN(pressure)
{
	EXPECT_EQ(0, self->w.nr_failed);
	if (self->w.pool > 0) {
		EXPECT_EQ(0, check_pool(self->w.pool));
		end_world(&self->w);
	}
	EXPECT_EQ(self->before, resident_bytes());
	rmdir(GROUP);
}

/* ------------------------------------------------------------------- tests */

/* Free slots have no memory after it, and get it again, zeroed, when they are needed. */
TEST_F(pressure, gives_back_and_gets_again)
{
	struct world *w = &self->w;
	uint64_t before;
	uint32_t nr = 0;

	ASSERT_EQ(0, begin_world(w, false, 8 * UNIT / SLOT, 0));
	EXPECT_EQ(8, resident_units(self->before));
	memset(w->host, 0xee, w->host_len);
	for (; nr < 6; nr++)
		ASSERT_EQ(0, add_seq(w, &self->seqs[nr]));
	ASSERT_TRUE(settled(w->pool));
	shrink_all();
	EXPECT_EQ(1, resident_units(self->before));
	EXPECT_EQ(7, (stat_of("\nshrink_pages ") * SLOT + UNIT / 2) / UNIT);
	/* What nobody has a page in may be read all the same. */
	before = resident_bytes();
	EXPECT_EQ(0, w->host[5 * UNIT]);
	EXPECT_LT(before, resident_bytes());
	for (; nr < 8 * UNIT / SLOT / SEQ_PAGES; nr++)
		ASSERT_EQ(0, add_seq(w, &self->seqs[nr]));
	ASSERT_TRUE(settled(w->pool));
	EXPECT_LE(6, stat_of("\nrefills "));
	EXPECT_EQ(0, stat_of("\nrefill_fails "));
	ASSERT_EQ(0, check_seqs(w, self->seqs, nr));
}

/* What is pinned stays where the device or the disk has it. */
TEST_F(pressure, pinned_memory_stays)
{
	struct world *w = &self->w;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	struct iovec iov;
	char *text;

	ASSERT_EQ(0, begin_world(w, false, 4 * UNIT / SLOT, 0));
	iov = (struct iovec){ w->host + UNIT, 2 * UNIT };
	ASSERT_EQ(0, io_uring_queue_init(4, &ring, 0));
	ASSERT_EQ(0, io_uring_register_buffers(&ring, &iov, 1));
	shrink_all();
	EXPECT_EQ(2, resident_units(self->before));
	text = aligned_alloc(SLOT, SLOT);
	memset(text, 0x77, SLOT);
	ASSERT_EQ(SLOT, pwrite(w->disk, text, SLOT, 0));
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read_fixed(sqe, w->disk, w->host + 2 * UNIT, SLOT, 0, 0);
	ASSERT_EQ(1, io_uring_submit(&ring));
	ASSERT_EQ(0, io_uring_wait_cqe(&ring, &cqe));
	EXPECT_EQ((int)SLOT, cqe->res);
	io_uring_cqe_seen(&ring, cqe);
	EXPECT_EQ(0, memcmp(text, w->host + 2 * UNIT, SLOT));
	free(text);
	/* Pins of memory that comes anew with them. */
	ASSERT_EQ(0, io_uring_unregister_buffers(&ring));
	iov = (struct iovec){ w->host, UNIT };
	ASSERT_EQ(0, io_uring_register_buffers(&ring, &iov, 1));
	shrink_all();
	EXPECT_EQ(1, resident_units(self->before));
	io_uring_queue_exit(&ring);
}

/* Slots that begin and end within units, and such as are larger than one. */
TEST_F(pressure, slots_across_units)
{
	static const uint64_t page_bytes[] = { 1536 << 10, 5 << 20, 12 << 10 };
	struct world *w = &self->w;

	for (int i = 0; i < 3; i++) {
		uint32_t nr = (uint32_t)(24 * MIB / page_bytes[i]);
		struct pagedkv_io_move moves[64];
		struct pagedkv_io_pool_create p;
		uint64_t seq;
		int n;

		pool_params(&p, NULL, 4, nr, 0);
		p.classes[0].page_bytes = page_bytes[i];
		w->dev = open_device();
		w->pool = create_pool_with(w->dev, &p);
		ASSERT_GE(w->pool, 0);
		shrink_all();
		EXPECT_EQ(0, check_pool(w->pool));
		EXPECT_EQ(0, resident_units(self->before));
		for (uint32_t k = 0; k < (nr < 32 ? nr : 32) / 4; k++) {
			ASSERT_EQ(0, create_seq(w->pool, NULL, 0, &seq, NULL));
			while (append(w->pool, seq, 4 * PAGE_TOKENS) == -EAGAIN)
				while ((n = fetch(w->pool, moves, 64)) > 0)
					ASSERT_EQ(0, commit(w->pool, moves, (uint32_t)n));
			ASSERT_EQ(0, advise(w->pool, seq, PAGEDKV_IO_COLD));
			shrink_all();
			EXPECT_EQ(0, check_pool(w->pool));
		}
		close(w->pool);
		close(w->dev);
		w->pool = 0;
	}
}

static uint64_t wanted_bytes;

static bool is_drained(void)
{
	return resident_bytes() <= wanted_bytes;
}

/* The machine runs short: a program that takes all there is finds the pool's free memory. */
TEST_F_TIMEOUT(pressure, whole_machine, TIMEOUT_S)
{
	uint64_t total = number("/proc/meminfo", "MemTotal:") << 10;
	struct world *w = &self->w;
	struct hog h;

	ASSERT_EQ(0, begin_world(w, false, 64 * UNIT / SLOT, 0));
	for (uint32_t i = 0; i < 6; i++)
		ASSERT_EQ(0, add_seq(w, &self->seqs[i]));
	ASSERT_TRUE(settled(w->pool));
	wanted_bytes = self->before + 2 * UNIT;
	EXPECT_EQ(0, begin_hog(&h, false, total, is_drained));
	EXPECT_TRUE(is_drained());
	EXPECT_EQ(0, check_seqs(w, self->seqs, 6));
	EXPECT_EQ(0, end_hog(&h));
}

/* A memcg runs short: its pools' free memory is found. */
TEST_F_TIMEOUT(pressure, memcg, TIMEOUT_S)
{
	struct world *w = &self->w;
	uint64_t deadline;
	struct hog h;
	uint32_t nr;
	int ret;

	if (!make_group("64M"))
		SKIP(return, "no memory cgroup");
	ASSERT_EQ(0, begin_world(w, true, 24 * UNIT / SLOT, 0));
	for (nr = 0; nr < 6; nr++)
		ASSERT_EQ(0, add_seq(w, &self->seqs[nr]));
	ASSERT_TRUE(settled(w->pool));
	EXPECT_EQ(0, begin_hog(&h, true, 48 * MIB, NULL));
	EXPECT_GE(18 * MIB, resident_bytes() - self->before);
	/* There is room for some of what is asked for again, and not for all. */
	do {
		ret = add_seq(w, &self->seqs[nr]);
	} while (!ret && ++nr < 24 * UNIT / SLOT / SEQ_PAGES);
	EXPECT_EQ(-ENOSPC, ret);
	EXPECT_LE(1, stat_of("\nrefill_fails "));
	EXPECT_EQ(0, check_pool(w->pool));
	EXPECT_EQ(0, end_hog(&h));
	deadline = now_ns() + PATIENCE_NS;
	while (nr < 24 * UNIT / SLOT / SEQ_PAGES && now_ns() < deadline)
		nr += !add_seq(w, &self->seqs[nr]);
	EXPECT_EQ(24 * UNIT / SLOT / SEQ_PAGES, nr);
	ASSERT_TRUE(settled(w->pool));
	EXPECT_EQ(0, check_seqs(w, self->seqs, nr));
	EXPECT_EQ(0, nr_oom_kills());
}

#define NR_COLD		(24 * UNIT / SLOT / SEQ_PAGES)	/* sequences that fill a host tier */

static int begin_full_world(struct world *w, uint64_t *seqs)
{
	int ret = begin_world(w, true, 24 * UNIT / SLOT, 32 * UNIT / SLOT);

	for (uint32_t i = 0; i < NR_COLD && !ret; i++)
		ret = add_seq(w, &seqs[i]);
	return ret ? ret : settled(w->pool) ? 0 : -ETIME;
}

/* All slots are in use: cold pages go to the disk, and their memory is found. */
TEST_F_TIMEOUT(pressure, cold_pages_leave, TIMEOUT_S)
{
	struct world *w = &self->w;
	struct hog h;

	if (!make_group("64M"))
		SKIP(return, "no memory cgroup");
	ASSERT_EQ(0, begin_full_world(w, self->seqs));
	EXPECT_EQ(24, resident_units(self->before));
	EXPECT_EQ(0, begin_hog(&h, true, 48 * MIB, NULL));
	EXPECT_GE(18 * MIB, resident_bytes() - self->before);
	EXPECT_LE(1, stat_of("\nshrink_demotes "));
	EXPECT_EQ(0, end_hog(&h));
	EXPECT_EQ(0, nr_oom_kills());
	ASSERT_EQ(0, check_seqs(w, self->seqs, NR_COLD));
}

static void *keep_busy(void *arg)
{
	struct world *w = arg;

	while (!w->is_over) {
		w->nr_failed += check_pool(w->pool) != 0;
		usleep(2000);
	}
	return NULL;
}

/* Calls that take long have the pool's lock most of the time: reclaim gets it in between. */
TEST_F_TIMEOUT(pressure, busy_pool, TIMEOUT_S)
{
	struct world *w = &self->w;
	pthread_t thread;
	struct hog h;

	if (!make_group("160M"))
		SKIP(return, "no memory cgroup");
	ASSERT_EQ(0, begin_world(w, true, 24 * UNIT / SLOT, 2048 * UNIT / SLOT));
	for (uint32_t i = 0; i < 6; i++)
		ASSERT_EQ(0, add_seq(w, &self->seqs[i]));
	ASSERT_TRUE(settled(w->pool));
	ASSERT_EQ(0, pthread_create(&thread, NULL, keep_busy, w));
	EXPECT_EQ(0, begin_hog(&h, true, 72 * MIB, NULL));
	w->is_over = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(0, end_hog(&h));
	EXPECT_EQ(0, nr_oom_kills());
	ASSERT_EQ(0, check_seqs(w, self->seqs, 6));
}

/* They are on their way to a slow disk while others wait to be fetched: there is hope. */
TEST_F_TIMEOUT(pressure, slow_executor, TIMEOUT_S)
{
	struct world *w = &self->w;
	struct hog h;

	if (!make_group("64M"))
		SKIP(return, "no memory cgroup");
	ASSERT_EQ(0, begin_full_world(w, self->seqs));
	w->is_slow = true;
	EXPECT_EQ(0, begin_hog(&h, true, 48 * MIB, NULL));
	EXPECT_FALSE(w->is_slow);
	EXPECT_EQ(0, end_hog(&h));
	EXPECT_EQ(0, nr_oom_kills());
	ASSERT_EQ(0, check_seqs(w, self->seqs, NR_COLD));
}

/* -------------------------------------------------------- without an executor */

#define NR_CACHED	(24 * UNIT / SLOT / SEQ_PAGES)	/* prefixes */
#define NR_PLANNED	64U				/* moves to the disk */

/* What is planned, carried out here and now, without contents. */
static int run_moves(int pool)
{
	struct pagedkv_io_move moves[64];
	int n, ret;

	while ((n = fetch(pool, moves, 64)) > 0) {
		ret = commit(pool, moves, (uint32_t)n);
		if (ret)
			return ret;
	}
	return n;
}

/* A sequence of SEQ_PAGES pages; what has to leave for it leaves. */
static int add_pages(int pool, uint64_t *seq)
{
	int ret = create_seq(pool, NULL, 0, seq, NULL);

	while (!ret && (ret = append(pool, *seq, SEQ_PAGES * PAGE_TOKENS)) == -EAGAIN)
		ret = run_moves(pool);
	return ret;
}

/* SEQ_PAGES pages that are only cached. */
static int add_cached(int pool, uint32_t i)
{
	struct pagedkv_io_key keys[SEQ_PAGES];
	uint64_t seq;
	int ret = add_pages(pool, &seq);

	make_keys(keys, SEQ_PAGES, i);
	if (!ret && publish(pool, seq, keys, SEQ_PAGES) != SEQ_PAGES)
		ret = -EPROTO;
	return ret ? ret : one_op(pool, seq, PAGEDKV_IO_OP_FREE, 0, NULL);
}

/* Let the host tier have fewer slots, then all again: so many moves to the disk are planned. */
static int plan_moves(int pool, uint32_t nr)
{
	struct pagedkv_io_set_limit l = {
		.size = sizeof(l), .tier = 1, .limit = 24 * UNIT / SLOT - nr,
	};
	int ret = call(pool, PAGEDKV_CMD_SET_LIMIT, &l);

	l.limit = 24 * UNIT / SLOT;
	return ret ? ret : call(pool, PAGEDKV_CMD_SET_LIMIT, &l);
}

/*
 * A pool in the group with a cold sequence and many cached pages, of which some should go to the
 * disk; nobody carries that out. The pool, or -errno.
 */
static int begin_idle_pool(int dev, uint64_t *seq)
{
	struct pagedkv_io_pool_create p;
	int pool, ret;

	pool_params(&p, "pressure", DEVICE_SLOTS, 24 * UNIT / SLOT, 32 * UNIT / SLOT);
	if (write_to(GROUP "/cgroup.procs", "0"))
		return -EPROTO;
	pool = create_pool_with(dev, &p);
	if (write_to(ROOT "/cgroup.procs", "0"))
		return -EPROTO;
	if (pool < 0)
		return pool;
	ret = add_pages(pool, seq);
	if (!ret)
		ret = advise(pool, *seq, PAGEDKV_IO_COLD);
	for (uint32_t i = 0; !ret && i < NR_CACHED; i++)
		ret = add_cached(pool, i);
	if (!ret)
		ret = plan_moves(pool, NR_PLANNED);
	return ret ? ret : pool;
}

/* Nobody has the pool open: what is cached goes, though there is a disk. */
TEST_F_TIMEOUT(pressure, pool_without_clients, TIMEOUT_S)
{
	int dev = open_device(), pool;
	struct hog h;
	uint64_t seq;

	if (!make_group("64M"))
		SKIP(return, "no memory cgroup");
	pool = begin_idle_pool(dev, &seq);
	ASSERT_GE(pool, 0);
	EXPECT_LE(1, nr_moves(pool));
	EXPECT_EQ(24, resident_units(self->before));
	close(pool);
	EXPECT_EQ(0, begin_hog(&h, true, 48 * MIB, NULL));
	EXPECT_GE(18 * MIB, resident_bytes() - self->before);
	EXPECT_EQ(0, end_hog(&h));
	EXPECT_EQ(0, nr_oom_kills());
	/* The next server finds it in order, and can use all of it. */
	pool = open_pool(dev, "pressure", 0);
	ASSERT_GE(pool, 0);
	EXPECT_EQ(0, check_pool(pool));
	for (uint32_t i = 0; i < NR_CACHED; i++)
		EXPECT_EQ(0, add_cached(pool, NR_CACHED + i));
	EXPECT_EQ(0, check_pool(pool));
	close(pool);
	EXPECT_EQ(0, destroy_pool(dev, "pressure"));
	close(dev);
}

/* Moves are planned and nobody fetches them: what is cached goes, what a sequence needs stays. */
TEST_F_TIMEOUT(pressure, moves_that_nobody_fetches, TIMEOUT_S)
{
	int dev = open_device(), pool, state;
	struct hog h;
	uint64_t seq;

	if (!make_group("64M"))
		SKIP(return, "no memory cgroup");
	pool = begin_idle_pool(dev, &seq);
	ASSERT_GE(pool, 0);
	EXPECT_EQ(0, begin_hog(&h, true, 48 * MIB, NULL));
	EXPECT_GE(18 * MIB, resident_bytes() - self->before);
	EXPECT_EQ(0, end_hog(&h));
	EXPECT_EQ(0, nr_oom_kills());
	EXPECT_EQ(0, check_pool(pool));
	while ((state = advise(pool, seq, PAGEDKV_IO_WILLNEED)) == 1 || state == -EAGAIN)
		ASSERT_EQ(0, run_moves(pool));
	EXPECT_EQ(0, state);
	close(pool);
	EXPECT_EQ(0, destroy_pool(dev, "pressure"));
	close(dev);
}

/* The clock alone doesn't tell that nobody fetches: the machine itself may have stood still. */
TEST_F_TIMEOUT(pressure, moves_that_were_not_waited_for, TIMEOUT_S)
{
	int dev = open_device(), pool;
	uint64_t seq, cancels;
	struct hog h;

	if (!make_group("64M"))
		SKIP(return, "no memory cgroup");
	pool = begin_idle_pool(dev, &seq);
	ASSERT_GE(pool, 0);
	cancels = stat_of("\ncancels ");
	usleep(500000);
	EXPECT_EQ(0, begin_hog(&h, true, 20 * MIB, NULL));
	/* More moves were planned than the first ones, and taken back after a while. */
	EXPECT_LT(NR_PLANNED, stat_of("\ncancels ") - cancels);
	EXPECT_EQ(0, end_hog(&h));
	EXPECT_EQ(0, nr_oom_kills());
	close(pool);
	EXPECT_EQ(0, destroy_pool(dev, "pressure"));
	close(dev);
}

/* Cold pages that somebody has pinned need not leave: nothing would come of it. */
TEST_F(pressure, pinned_pages_need_not_leave)
{
	struct world *w = &self->w;
	struct io_uring ring;
	struct iovec iov;

	ASSERT_EQ(0, begin_world(w, false, UNIT / SLOT, 2 * UNIT / SLOT));
	for (uint32_t i = 0; i < UNIT / SLOT / SEQ_PAGES; i++)
		ASSERT_EQ(0, add_seq(w, &self->seqs[i]));
	ASSERT_TRUE(settled(w->pool));
	iov = (struct iovec){ w->host, w->host_len };
	ASSERT_EQ(0, io_uring_queue_init(4, &ring, 0));
	ASSERT_EQ(0, io_uring_register_buffers(&ring, &iov, 1));
	shrink_all();
	shrink_all();
	EXPECT_EQ(0, stat_of("\nshrink_demotes "));
	EXPECT_EQ(1, resident_units(self->before));
	io_uring_queue_exit(&ring);
}

/* The group that a pool was charged to is gone: its memory is its parent's to take. */
TEST_F(pressure, group_goes)
{
	struct world *w = &self->w;

	if (!make_group("64M"))
		SKIP(return, "no memory cgroup");
	ASSERT_EQ(0, begin_world(w, true, 4 * UNIT / SLOT, 0));
	ASSERT_EQ(0, rmdir(GROUP));
	shrink_all();
	EXPECT_EQ(0, resident_units(self->before));
}

#define TRACING	"/sys/kernel/tracing"

static int write_trace(const char *what)
{
	return write_to(TRACING "/events/pagedkv/pagedkv_shrink/enable", what);
}

TEST_F(pressure, trace)
{
	struct world *w = &self->w;

	if (write_trace("1"))
		SKIP(return, "no tracing");
	EXPECT_EQ(0, write_to(TRACING "/trace", ""));
	ASSERT_EQ(0, begin_world(w, false, UNIT / SLOT, 0));
	shrink_all();
	EXPECT_EQ(0, write_trace("0"));
	EXPECT_EQ(0, number(TRACING "/trace", " pages=512 wanted="));
}

/* ---------------------------------------------------------------- all at once */

struct stress {
	struct world *w;
	_Atomic bool stopping;
};

static void *shrink_on(void *arg)
{
	struct stress *s = arg;

	while (!s->stopping)
		shrink_all();
	return NULL;
}

static void *touch_on(void *arg)
{
	struct stress *s = arg;
	volatile uint8_t *p = s->w->host;

	while (!s->stopping)
		for (size_t i = 0; i < s->w->host_len; i += 16 * SLOT)
			(void)p[i];
	return NULL;
}

/* Pages come and go, their memory too, and somebody looks. */
TEST_F_TIMEOUT(pressure, while_pages_move, TIMEOUT_S)
{
	struct world *w = &self->w;
	struct stress s = { .w = w };
	pthread_t shrinker, toucher;
	const uint32_t nr = 64;

	ASSERT_EQ(0, begin_world(w, false, 3 * UNIT / SLOT, 16 * UNIT / SLOT));
	ASSERT_EQ(0, pthread_create(&shrinker, NULL, shrink_on, &s));
	ASSERT_EQ(0, pthread_create(&toucher, NULL, touch_on, &s));
	for (uint32_t round = 0; round < 4; round++) {
		for (uint32_t i = 0; i < nr; i++)
			EXPECT_EQ(0, add_seq(w, &self->seqs[i]));
		EXPECT_EQ(0, check_seqs(w, self->seqs, nr));
		for (uint32_t i = 0; i < nr; i++)
			EXPECT_EQ(0, one_op(w->pool, self->seqs[i], PAGEDKV_IO_OP_FREE, 0, NULL));
	}
	s.stopping = true;
	pthread_join(shrinker, NULL);
	pthread_join(toucher, NULL);
	ASSERT_TRUE(settled(w->pool));
}

TEST_HARNESS_MAIN
