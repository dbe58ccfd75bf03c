// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything at once: processes with several threads step, fork, free, publish, match, advise, load
 * and go away on one pool or on several, while executors copy pages between tiers (and fail, and
 * die), an administrator changes limits and takes tiers away, pools come and go, and readers look
 * at all of it. For THREADS_SECONDS (20), from THREADS_SEED (1).
 *
 * Every token has a tag of its own, or its prompt's, and fills its part of a page with it. The
 * pages are real: the device and the disk are memory that all share, the host tier is the module's.
 * So a page that is somebody else's, out of date or half copied is seen by whoever reads it next.
 *
 * A seed decides what each thread does, not which one comes first.
 */
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>

#include "../kselftest_harness.h"
#include "threads.h"

static const char * const count_names[NR_COUNTS] = {
	"operations", "forks", "pages hit", "pages published", "loads", "losses",
	"pages verified", "clients reopened", "moves", "moves failed", "moves left to others",
	"reads", "walks", "changes", "pools made",
};

struct shared *shared;
struct place places[MAX_POOLS];
uint32_t nr_places;
int stop_pipe[2];

uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

uint32_t dice(uint64_t *rng, uint32_t sides)
{
	*rng += 0x9e3779b97f4a7c15ULL;
	return (uint32_t)(mix(*rng) >> 33) % sides;
}

void count(enum count what, uint64_t nr)
{
	__atomic_fetch_add(&shared->counts[what], nr, __ATOMIC_RELAXED);
}

/* The first one is told; all stop. */
void fail(const char *fmt, ...)
{
	va_list ap;

	if (__atomic_exchange_n(&shared->failed, 1, __ATOMIC_RELAXED))
		return;
	va_start(ap, fmt);
	vsnprintf(shared->why, sizeof(shared->why), fmt, ap);
	va_end(ap);
}

bool has_failed(void)
{
	return __atomic_load_n(&shared->failed, __ATOMIC_RELAXED);
}

bool is_over(void)
{
	return has_failed() || now_ns() >= shared->stop_ns;
}

/* A moment, or the end. */
void pace(uint32_t ms)
{
	struct pollfd p = { .fd = stop_pipe[0] };

	poll(&p, 1, (int)ms);
}

/* With the lower tiers gone and the device wanted as a whole, nothing stays cached. */
static void forget_all(struct executor *e)
{
	uint64_t handle = 0;

	set_tier(e->fd, 2, 2);
	set_tier(e->fd, 1, 2);
	if (create_seq(e->fd, NULL, 0, &handle, NULL))
		fail("creating at the end");
	for (uint32_t i = 0; i < places[e->place].nr_slots[0]; i++)
		if (append(e->fd, handle, PAGE_TOKENS))
			fail("page %u at the end", i);
	if (one_op(e->fd, handle, PAGEDKV_IO_OP_FREE, 0, NULL))
		fail("freeing at the end");
}

FIXTURE(threads)
{
	int dev, fds[MAX_POOLS];
	pid_t pids[NR_PROCESSES + 6];
	uint32_t nr_pids;
};

FIXTURE_VARIANT(threads)
{
	uint32_t nr_pools, nr_slots[3];
};

FIXTURE_VARIANT_ADD(threads, one_pool)
{
	.nr_pools = 1, .nr_slots = { 128, 64, 256 },
};

FIXTURE_VARIANT_ADD(threads, three_pools)
{
	.nr_pools = 3, .nr_slots = { 64, 32, 128 },
};

FIXTURE_SETUP(threads)
{
	static const char * const names[MAX_POOLS] = { "threads0", "threads1", "threads2" };
	struct pagedkv_io_pool_create p;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	ASSERT_NE(MAP_FAILED, shared);
	ASSERT_EQ(0, pipe(stop_pipe));
	self->dev = open_device();
	ASSERT_GE(self->dev, 0);
	nr_places = variant->nr_pools;
	for (uint32_t i = 0; i < nr_places; i++) {
		struct place *place = &places[i];

		place->name = names[i];
		destroy_pool(self->dev, place->name);
		memcpy(place->nr_slots, variant->nr_slots, sizeof(place->nr_slots));
		pool_params(&p, place->name, place->nr_slots[0], place->nr_slots[1],
			    place->nr_slots[2]);
		p.max_moves = 32;
		for (uint32_t t = 0; t < 3; t++) {
			p.classes[0].low[t] = place->nr_slots[t] / 16;
			p.classes[0].high[t] = place->nr_slots[t] / 8;
			place->tiers[t] = mmap(NULL, (size_t)place->nr_slots[t] * PAGE_BYTES,
					       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
					       -1, 0);
			ASSERT_NE(MAP_FAILED, place->tiers[t]);
		}
		self->fds[i] = create_pool_with(self->dev, &p);
		ASSERT_GE(self->fds[i], 0);
	}
}

FIXTURE_TEARDOWN(threads)
{
	for (uint32_t i = 0; i < nr_places; i++) {
		close(self->fds[i]);
		EXPECT_EQ(0, destroy_pool(self->dev, places[i].name));
	}
	close(self->dev);
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 10) : otherwise;
}

/* What is done by the process of this number; the executors are the last two. */
static void be_process(uint32_t i, uint64_t seed)
{
	if (i < NR_PROCESSES)
		be_clients(i, seed);
	else if (i < NR_PROCESSES + 2)
		be_reader(i - NR_PROCESSES, seed);
	else if (i == NR_PROCESSES + 2)
		be_administrator(seed);
	else if (i == NR_PROCESSES + 3)
		be_landlord(seed);
	else
		be_executors(i == NR_PROCESSES + 5, seed);
}

static bool has_uring(int dev)
{
	struct pagedkv_io_info info = { .size = sizeof(info) };

	return !call(dev, PAGEDKV_CMD_INFO, &info) && info.out_features & PAGEDKV_IO_F_URING;
}

static void report(uint64_t seed)
{
	printf("# seed %lu", (long)seed);
	for (int i = 0; i < NR_COUNTS; i++)
		printf(", %lu %s", (long)shared->counts[i], count_names[i]);
	printf("\n");
}

/* The runner's limit is the one that counts: how long this takes is asked for. */
TEST_F_TIMEOUT(threads, all_at_once, 86400)
{
	uint64_t seconds = setting("THREADS_SECONDS", 20), seed = setting("THREADS_SEED", 1);
	uint32_t nr = NR_PROCESSES + 5 + has_uring(self->dev), hits = 0;
	static struct executor last = { .rng = 1 };
	int status;

	/* Half of the time is the other variant's. */
	shared->stop_ns = now_ns() + seconds * 1000000000 / 2;
	fflush(stdout);
	for (uint32_t i = 0; i < nr; i++) {
		self->pids[i] = fork();
		ASSERT_GE(self->pids[i], 0);
		if (!self->pids[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(stop_pipe[1]);
			be_process(i, seed + variant->nr_pools);
			_exit(0);
		}
	}
	for (uint32_t i = 0; i < nr; i++) {
		if (i == NR_PROCESSES + 4)
			close(stop_pipe[1]);
		ASSERT_EQ(self->pids[i], waitpid(self->pids[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	report(seed);
	ASSERT_FALSE(has_failed()) { TH_LOG("%s", shared->why); }
	for (int i = 0; i < NR_COUNTS; i++) {
		EXPECT_LT(0, shared->counts[i]) {
			TH_LOG("no %s", count_names[i]);
		}
	}
	for (last.place = 0; last.place < nr_places; last.place++) {
		struct pagedkv_io_stats now;

		open_executor(&last);
		memset(&last.io, 0, sizeof(last.io));
		last.io.size = sizeof(last.io);
		last.io.commits = user_ptr(last.commits);
		last.io.moves = user_ptr(last.moves);
		drain(&last);
		now = pool_stats(last.fd);
		EXPECT_EQ(0, now.out_nr_seqs);
		EXPECT_EQ(0, now.out_nr_moves);
		EXPECT_EQ(0, now.out_nr_lost);
		EXPECT_EQ(now.out_nr_pages, now.out_nr_cached);
		hits += check_prompts(&last);
		forget_all(&last);
		now = pool_stats(last.fd);
		EXPECT_EQ(0, now.out_nr_pages);
		EXPECT_EQ(0, now.out_nr_moves);
		EXPECT_EQ(now.out_allocs, now.out_frees);
		for (uint32_t t = 0; t < 3; t++)
			EXPECT_EQ(places[last.place].nr_slots[t], now.out_tiers[t].nr_free);
		EXPECT_EQ(0, check_pool(last.fd));
		close_executor(&last);
		EXPECT_FALSE(has_failed()) { TH_LOG("%s", shared->why); }
	}
	EXPECT_LT(0, hits);
}

TEST_HARNESS_MAIN
