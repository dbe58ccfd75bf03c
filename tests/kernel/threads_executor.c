// SPDX-License-Identifier: GPL-2.0-only
/* Executors of threads.c: they copy pages between tiers, fail at some, and go away in between. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>

#include "threads.h"

void open_executor(struct executor *e)
{
	memcpy(e->tiers, places[e->place].tiers, sizeof(e->tiers));
	e->fd = open_pool(open_device(), places[e->place].name, 0);
	e->tiers[1] = map_host(e->fd, &e->host_bytes);
	if (e->fd < 0 || !e->tiers[1] || (e->by_ring && io_uring_queue_init(8, &e->ring, 0)))
		fail("an executor: %d", e->fd);
}

void close_executor(struct executor *e)
{
	struct pagedkv_io_empty arg = { .size = sizeof(arg) };

	if (e->by_ring) {
		call(e->fd, PAGEDKV_CMD_QUIESCE, &arg);
		io_uring_queue_exit(&e->ring);
	}
	munmap(e->tiers[1], e->host_bytes);
	close(e->fd);
}

/* Copy a page; sometimes that fails, and leaves rubbish behind. */
static int copy_page(struct executor *e, const struct pagedkv_io_move *m)
{
	uint8_t *to = e->tiers[m->dst_tier] + (size_t)m->dst_slot * PAGE_BYTES;
	const uint8_t *from = e->tiers[m->src_tier] + (size_t)m->src_slot * PAGE_BYTES;

	if (!dice(&e->rng, 8))
		sched_yield();
	/* Long enough for a tier to go, come back, and be filled. */
	if (!dice(&e->rng, 256))
		pace(40);
	if (dice(&e->rng, 100)) {
		memcpy(to, from, PAGE_BYTES / 2);
		if (!dice(&e->rng, 8))
			sched_yield();
		memcpy(to + PAGE_BYTES / 2, from + PAGE_BYTES / 2, PAGE_BYTES / 2);
		return 0;
	}
	memset(to, 0xa5, PAGE_BYTES);
	count(ERRORS, 1);
	return -EIO;
}

/* Run what was fetched, into commits for the next round. */
static void run_moves(struct executor *e, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		struct pagedkv_io_commit *c = &e->commits[i];

		*c = (struct pagedkv_io_commit) {
			.id = e->moves[i].id, .status = copy_page(e, &e->moves[i]),
		};
		/* A source that can't be read: a load's, or an eviction's from below. */
		if (c->status && e->moves[i].src_tier && dice(&e->rng, 2))
			c->flags = PAGEDKV_IO_COMMIT_SOURCE_BAD;
	}
	count(MOVES, nr);
}

static void prepare(struct executor *e, uint32_t nr_commits)
{
	e->io = (struct pagedkv_io_moves) {
		.size = sizeof(e->io),
		.commits = user_ptr(e->commits), .nr_commits = nr_commits,
		.moves = user_ptr(e->moves), .max_moves = 1 + dice(&e->rng, NR_MOVES),
	};
}

/* Moves fetched; 0 when there may be some now, -ECANCELED at the end. */
static int round_by_call(struct executor *e)
{
	struct pollfd p[2] = { { .fd = e->fd, .events = POLLIN }, { .fd = stop_pipe[0] } };
	int ret = call(e->fd, PAGEDKV_CMD_MOVES, &e->io);

	if (ret || e->io.out_nr_moves)
		return ret ? ret : (int)e->io.out_nr_moves;
	poll(p, 2, -1);
	return p[1].revents ? -ECANCELED : 0;
}

static int round_by_ring(struct executor *e)
{
	struct pagedkv_uring_cmd cmd = { .arg = user_ptr(&e->io) };
	struct pollfd p[2] = { { .fd = e->ring.ring_fd, .events = POLLIN },
			       { .fd = stop_pipe[0] } };
	struct pagedkv_io_empty quiesce = { .size = sizeof(quiesce) };
	struct io_uring_cqe *cqe;
	int ret;

	prep_command(&e->ring, e->fd, PAGEDKV_URING_MOVES, &cmd);
	io_uring_submit(&e->ring);
	if (io_uring_peek_cqe(&e->ring, &cqe)) {
		poll(p, 2, -1);
		if (p[1].revents)
			call(e->fd, PAGEDKV_CMD_QUIESCE, &quiesce);
	}
	ret = io_uring_wait_cqe(&e->ring, &cqe);
	if (ret)
		return ret;
	ret = cqe->res;
	io_uring_cqe_seen(&e->ring, cqe);
	return ret;
}

static void *be_executor(void *arg)
{
	struct executor *e = arg;
	uint32_t nr = 0;
	int ret;

	open_executor(e);
	while (!has_failed()) {
		prepare(e, nr);
		ret = e->by_ring ? round_by_ring(e) : round_by_call(e);
		if (e->io.out_nr_stale || (ret < 0 && ret != -ECANCELED))
			fail("a round of moves: %d, %u stale", ret, e->io.out_nr_stale);
		if (ret < 0)
			break;
		nr = (uint32_t)ret;
		if (nr && !dice(&e->rng, 100)) {
			/* It goes, with what it has; another one will run that. */
			close_executor(e);
			open_executor(e);
			count(REQUEUED, nr);
			nr = 0;
		}
		run_moves(e, nr);
	}
	close_executor(e);
	return NULL;
}

/* A process of executors, one a pool; by ring where the kernel can. */
void be_executors(bool by_ring, uint64_t seed)
{
	static struct executor executors[MAX_POOLS];
	pthread_t threads[MAX_POOLS];

	for (uint32_t i = 0; i < nr_places; i++) {
		executors[i].place = i;
		executors[i].by_ring = by_ring;
		executors[i].rng = mix(seed << 16 | 0x8000 | by_ring << 8 | i);
		if (pthread_create(&threads[i], NULL, be_executor, &executors[i]))
			fail("no thread");
	}
	for (uint32_t i = 0; i < nr_places; i++)
		pthread_join(threads[i], NULL);
}

/* The moves that are left, and those that they lead to. */
void drain(struct executor *e)
{
	do {
		e->io.max_moves = NR_MOVES;
		e->io.out_nr_moves = 0;
		if (call(e->fd, PAGEDKV_CMD_MOVES, &e->io))
			fail("draining");
		run_moves(e, e->io.out_nr_moves);
		e->io.nr_commits = e->io.out_nr_moves;
	} while (e->io.nr_commits && !has_failed());
}
