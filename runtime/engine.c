// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The thread owns all of struct pkvrt_engine save @shared (under @lock) and @drain_until_ns
 * (atomic). A move goes
 *
 *	parked -> copying -> ended			device and host
 *	parked -> writing -> ended			host to disk
 *	parked -> copying -> writing -> ended		device to disk, through staging
 *	parked -> reading -> copying -> ended		disk to device, through staging
 *
 * and waits as parked only while it lacks a staging page, or while its disk slot is still in the
 * hands of a late I/O. Ended means committed; the memory of a move, and its staging page, stay in
 * use until the disk has released them.
 */
#include "engine.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NSEC			1000000000ull
#define NEVER			UINT64_MAX
#define MIN_MOVES		512u
#define ENOUGH_MOVES		8192u
#define MOVES_BYTES		((uint64_t)512 << 20)	/* published pages wait for a flush */
#define MAX_MOVES		65536u
#define DEFAULT_STAGING_BYTES	((size_t)64 << 20)
#define MIN_STAGING		4u
#define DEFAULT_TIMEOUT_NS	(10 * NSEC)
#define FETCH			64u
#define COPY_BATCH_BYTES	((uint64_t)32 << 20)	/* so that its pages commit soon */
#define IDLE_NS			NSEC
#define DRAIN_LOOK_NS		(NSEC / 50)
#define COPY_LOOK_NS		100000u			/* a device's tickets have no fd */
#define CLOSE_GRACE_NS		NSEC

struct move {
	struct pagedkv_move m;
	uint64_t deadline_ns;
	struct pkvrt_engine *engine;
	struct pkvrt_disk_op op;
	void *staging;
	int on_disk;	/* the disk has op, and what op points to */
	int ended;
	TAILQ_ENTRY(move) link;	/* parked, to_copy, a batch, or free */
};

TAILQ_HEAD(move_list, move);

/* Copies under one ticket of the device. */
struct batch {
	uint64_t ticket;
	struct move_list moves;
	TAILQ_ENTRY(batch) link;
};

TAILQ_HEAD(batch_list, batch);

struct meter {
	unsigned int nr;	/* moves under way */
	uint64_t since_ns;
};

struct pkvrt_engine {
	struct pkvrt_engine_params p;
	int moves_fd;
	uint8_t *host;
	uint32_t nr_host_slots;
	struct pkvrt_arena *host_arena, *staging_arena;
	int host_pinned, staging_pinned;	/* by the device */
	void **staging;			/* free pages */
	unsigned int nr_staging;

	struct move *moves;
	struct batch *batches;
	struct pagedkv_commit *commits;
	struct pkvrt_copy *copies;
	unsigned int nr_commits;
	struct move_list free, parked, to_copy;
	struct batch_list free_batches, copying;
	unsigned int nr_inflight;	/* fetched, not committed */
	unsigned int nr_free;
	int stopping, watching;
	uint32_t disk_state;
	struct meter meters[PAGEDKV_NR_TIERS][PAGEDKV_NR_TIERS];
	struct pkvrt_engine_stats stats;

	pthread_t thread;
	_Atomic uint64_t drain_until_ns;
	pthread_mutex_t lock;
	struct pkvrt_engine_stats shared;
};

static int is_between(const struct move *mv, uint32_t a, uint32_t b)
{
	return mv->m.src_tier == a && mv->m.dst_tier == b;
}

static void *host_page(const struct pkvrt_engine *e, uint32_t slot)
{
	return e->host + (size_t)slot * e->p.page_bytes;
}

/* -- ends of a move --------------------------------------------------------------------------- */

static void meter_start(struct pkvrt_engine *e, const struct move *mv)
{
	struct meter *meter = &e->meters[mv->m.src_tier][mv->m.dst_tier];

	if (!meter->nr++)
		meter->since_ns = pkvrt_now_ns();
}

static void meter_end(struct pkvrt_engine *e, const struct move *mv, int res)
{
	struct meter *meter = &e->meters[mv->m.src_tier][mv->m.dst_tier];
	struct pkvrt_engine_pair *pair = &e->stats.pairs[mv->m.src_tier][mv->m.dst_tier];

	if (!--meter->nr)
		pair->busy_ns += pkvrt_now_ns() - meter->since_ns;
	pair->nr_errors += res != 0;
	pair->nr_moves += !res;
	pair->bytes += res ? 0 : e->p.page_bytes;
}

static void free_move(struct pkvrt_engine *e, struct move *mv)
{
	if (mv->staging)
		e->staging[e->nr_staging++] = mv->staging;
	mv->staging = NULL;
	TAILQ_INSERT_HEAD(&e->free, mv, link);
	e->nr_free++;
}

/* A tier's state never gets better while its disk is open. */
static void report_disk_state(struct pkvrt_engine *e)
{
	static const uint32_t state_of[] = {
		[PKVRT_DISK_OK] = PAGEDKV_TIER_ONLINE,
		[PKVRT_DISK_READONLY] = PAGEDKV_TIER_READONLY,
		[PKVRT_DISK_OFFLINE] = PAGEDKV_TIER_OFFLINE,
	};
	uint32_t state = state_of[e->stats.disk.state];

	if (state == e->disk_state)
		return;
	e->disk_state = state;
	pagedkv_tier_set_state(e->p.pool, e->p.class_id, PAGEDKV_DISK, state);
}

static void publish_stats(struct pkvrt_engine *e)
{
	if (e->p.disk)
		pkvrt_disk_stats(e->p.disk, &e->stats.disk);
	e->stats.nr_inflight = e->nr_inflight;
	pthread_mutex_lock(&e->lock);
	e->shared = e->stats;
	pthread_mutex_unlock(&e->lock);
	report_disk_state(e);
}

/* Whoever sees a move's end finds it in the statistics. */
static void flush_commits(struct pkvrt_engine *e)
{
	if (!e->nr_commits)
		return;
	publish_stats(e);
	/* -ESTALE: the pool gave a move up meanwhile, and there is nothing to tell it. */
	pagedkv_moves_commit(e->p.pool, e->commits, e->nr_commits);
	e->nr_commits = 0;
}

/* @mv is on no list. Its memory lives on while the disk has it. */
static void end_move(struct pkvrt_engine *e, struct move *mv, int res)
{
	int source_bad = mv->m.src_tier == PAGEDKV_DISK &&
			 (res == -EILSEQ || res == -EIO || res == -ENODATA);

	e->commits[e->nr_commits++] = (struct pagedkv_commit){
		.id = mv->m.id, .status = res,
		.flags = source_bad ? PAGEDKV_COMMIT_SOURCE_BAD : 0,
	};
	mv->ended = 1;
	e->nr_inflight--;
	meter_end(e, mv, res);
	if (!mv->on_disk)
		free_move(e, mv);
	if (e->nr_commits == e->p.max_moves)
		flush_commits(e);
}

/* -- disk ------------------------------------------------------------------------------------- */

static void disk_done(struct pkvrt_disk_op *op)
{
	struct move *mv = op->user;
	struct pkvrt_engine *e = mv->engine;

	/* A page read into staging goes on when the disk has let go of it. */
	if (op->res || op->kind != PKVRT_DISK_LOAD)
		end_move(e, mv, op->res);
}

static void disk_released(struct pkvrt_disk_op *op)
{
	struct move *mv = op->user;
	struct pkvrt_engine *e = mv->engine;

	mv->on_disk = 0;
	if (mv->ended)
		free_move(e, mv);
	else
		TAILQ_INSERT_TAIL(&e->to_copy, mv, link);
}

static void start_disk(struct pkvrt_engine *e, struct move *mv, void *buf)
{
	int load = mv->m.src_tier == PAGEDKV_DISK;
	int keyed = mv->m.key[0] || mv->m.key[1];

	mv->op = (struct pkvrt_disk_op){
		.kind = load ? PKVRT_DISK_LOAD : keyed ? PKVRT_DISK_STORE : PKVRT_DISK_SWAP_OUT,
		.slot = load ? mv->m.src_slot : mv->m.dst_slot,
		.buf = buf,
		.deadline_ns = mv->deadline_ns,
		.done = disk_done,
		.released = disk_released,
		.user = mv,
	};
	memcpy(mv->op.key.b, mv->m.key, sizeof(mv->op.key.b));
	mv->on_disk = 1;
	pkvrt_disk_submit(e->p.disk, &mv->op);
}

/* -- device ----------------------------------------------------------------------------------- */

static struct pkvrt_copy copy_of(const struct pkvrt_engine *e, const struct move *mv)
{
	struct pkvrt_copy c = { .kind = PKVRT_COPY_DEVICE };

	if (mv->m.src_tier == PAGEDKV_DEVICE)
		c.src_slot = mv->m.src_slot;
	if (mv->m.dst_tier == PAGEDKV_DEVICE)
		c.dst_slot = mv->m.dst_slot;
	if (mv->m.src_tier != PAGEDKV_DEVICE) {
		c.kind = PKVRT_COPY_IN;
		c.host = mv->staging ? mv->staging : host_page(e, mv->m.src_slot);
	} else if (mv->m.dst_tier != PAGEDKV_DEVICE) {
		c.kind = PKVRT_COPY_OUT;
		c.host = mv->staging ? mv->staging : host_page(e, mv->m.dst_slot);
	}
	return c;
}

static void end_batch(struct pkvrt_engine *e, struct batch *b, int res)
{
	struct move *mv;

	while ((mv = TAILQ_FIRST(&b->moves))) {
		TAILQ_REMOVE(&b->moves, mv, link);
		if (!res && mv->m.dst_tier == PAGEDKV_DISK)
			start_disk(e, mv, mv->staging);
		else
			end_move(e, mv, res);
	}
	TAILQ_INSERT_HEAD(&e->free_batches, b, link);
}

static unsigned int poll_batches(struct pkvrt_engine *e)
{
	struct batch *b, *next;
	unsigned int nr = 0;
	int ret;

	for (b = TAILQ_FIRST(&e->copying); b; b = next) {
		next = TAILQ_NEXT(b, link);
		ret = e->p.device.poll(e->p.device.ctx, b->ticket);
		if (!ret)
			continue;
		TAILQ_REMOVE(&e->copying, b, link);
		end_batch(e, b, ret < 0 ? ret : 0);
		nr++;
	}
	return nr;
}

static unsigned int start_copies(struct pkvrt_engine *e)
{
	unsigned int nr, max = (unsigned int)(COPY_BATCH_BYTES / e->p.page_bytes), total = 0;
	struct batch *b;
	struct move *mv;
	int ret;

	while (!TAILQ_EMPTY(&e->to_copy)) {
		b = TAILQ_FIRST(&e->free_batches);
		TAILQ_REMOVE(&e->free_batches, b, link);
		TAILQ_INIT(&b->moves);
		for (nr = 0; (!nr || nr < max) && (mv = TAILQ_FIRST(&e->to_copy)); nr++) {
			TAILQ_REMOVE(&e->to_copy, mv, link);
			TAILQ_INSERT_TAIL(&b->moves, mv, link);
			e->copies[nr] = copy_of(e, mv);
		}
		total += nr;
		ret = e->p.device.begin(e->p.device.ctx, e->copies, nr, &b->ticket);
		if (ret) {
			end_batch(e, b, ret);
			continue;
		}
		TAILQ_INSERT_TAIL(&e->copying, b, link);
		/* Plain memory has copied already: let these go before the next batch. */
		poll_batches(e);
		flush_commits(e);
	}
	return total;
}

/* -- beginnings ------------------------------------------------------------------------------- */

static int check_move(const struct pkvrt_engine *e, const struct pagedkv_move *m)
{
	if (m->class_id != e->p.class_id || m->src_tier >= PAGEDKV_NR_TIERS ||
	    m->dst_tier >= PAGEDKV_NR_TIERS)
		return -EOPNOTSUPP;
	/* Between host and disk pages only go down; what comes up goes to the device. */
	if (m->src_tier != PAGEDKV_DEVICE && m->dst_tier != PAGEDKV_DEVICE &&
	    !(m->src_tier == PAGEDKV_HOST && m->dst_tier == PAGEDKV_DISK))
		return -EOPNOTSUPP;
	if ((m->src_tier == PAGEDKV_DISK || m->dst_tier == PAGEDKV_DISK) && !e->p.disk)
		return -EOPNOTSUPP;
	if ((m->src_tier == PAGEDKV_HOST && m->src_slot >= e->nr_host_slots) ||
	    (m->dst_tier == PAGEDKV_HOST && m->dst_slot >= e->nr_host_slots))
		return -EOPNOTSUPP;
	return 0;
}

/* Begin a move that is on no list: 1, or 0 when it has to wait. */
static int try_begin(struct pkvrt_engine *e, struct move *mv)
{
	const struct pagedkv_move *m = &mv->m;
	int from_disk = m->src_tier == PAGEDKV_DISK, to_disk = m->dst_tier == PAGEDKV_DISK;

	if ((from_disk || to_disk) &&
	    pkvrt_disk_slot_busy(e->p.disk, from_disk ? m->src_slot : m->dst_slot))
		return 0;
	if (is_between(mv, PAGEDKV_HOST, PAGEDKV_DISK)) {
		start_disk(e, mv, host_page(e, m->src_slot));
		return 1;
	}
	if (from_disk || to_disk) {
		if (!e->nr_staging)
			return 0;
		mv->staging = e->staging[--e->nr_staging];
	}
	if (from_disk)
		start_disk(e, mv, mv->staging);
	else
		TAILQ_INSERT_TAIL(&e->to_copy, mv, link);
	return 1;
}

static void begin(struct pkvrt_engine *e, const struct pagedkv_move *m)
{
	struct move *mv = TAILQ_FIRST(&e->free);
	int ret = check_move(e, m);

	TAILQ_REMOVE(&e->free, mv, link);
	e->nr_free--;
	*mv = (struct move){
		.m = *m, .engine = e, .deadline_ns = pkvrt_now_ns() + e->p.timeout_ns,
	};
	if (ret == -EOPNOTSUPP) {	/* the tiers may not even be ours to index */
		mv->m.src_tier %= PAGEDKV_NR_TIERS;
		mv->m.dst_tier %= PAGEDKV_NR_TIERS;
	}
	e->nr_inflight++;
	meter_start(e, mv);
	if (ret)
		end_move(e, mv, ret);
	else if (!try_begin(e, mv))
		TAILQ_INSERT_TAIL(&e->parked, mv, link);
}

static unsigned int retry_parked(struct pkvrt_engine *e)
{
	uint64_t now = TAILQ_EMPTY(&e->parked) ? 0 : pkvrt_now_ns();
	struct move *mv, *next;
	unsigned int nr = 0;

	for (mv = TAILQ_FIRST(&e->parked); mv; mv = next) {
		next = TAILQ_NEXT(mv, link);
		TAILQ_REMOVE(&e->parked, mv, link);
		nr++;
		if (mv->deadline_ns <= now) {
			/* Only late I/O holds staging or a slot for so long. */
			pkvrt_disk_blame(e->p.disk);
			end_move(e, mv, -ETIMEDOUT);
		} else if (!try_begin(e, mv)) {
			nr--;
			if (next)
				TAILQ_INSERT_BEFORE(next, mv, link);
			else
				TAILQ_INSERT_TAIL(&e->parked, mv, link);
		}
	}
	return nr;
}

static unsigned int fetch(struct pkvrt_engine *e)
{
	struct pagedkv_move got[FETCH];
	unsigned int total = 0;
	uint32_t max;
	int i, nr;

	while (!e->stopping && e->nr_free) {
		max = e->nr_free < FETCH ? e->nr_free : FETCH;
		nr = pagedkv_moves_fetch(e->p.pool, got, max);
		if (nr < 0)
			e->stopping = 1;
		for (i = 0; i < nr; i++)
			begin(e, &got[i]);
		if (nr <= 0)
			break;
		total += (unsigned int)nr;
	}
	return total;
}

/* -- the thread ------------------------------------------------------------------------------- */

/* With no room for more moves, or none to come, a readable fd must not keep us awake. */
static void watch(struct pkvrt_engine *e)
{
	int want = !e->stopping && e->nr_free;

	if (want == e->watching)
		return;
	e->watching = want;
	if (e->p.disk && pkvrt_disk_watch(e->p.disk, want ? e->moves_fd : -1))
		e->watching = !want;	/* again, next time around */
}

static uint64_t sleep_until(struct pkvrt_engine *e)
{
	uint64_t now = pkvrt_now_ns();
	uint64_t until = now + (e->stopping || !e->watching ? DRAIN_LOOK_NS : IDLE_NS);
	struct move *mv;

	if (!TAILQ_EMPTY(&e->copying))
		return now + COPY_LOOK_NS;
	TAILQ_FOREACH(mv, &e->parked, link)
		if (mv->deadline_ns < until)
			until = mv->deadline_ns;
	return until;
}

static void sleep_without_disk(struct pkvrt_engine *e, uint64_t until)
{
	uint64_t now = pkvrt_now_ns(), span = until > now ? until - now : 0;
	struct timespec ts = { .tv_sec = (time_t)(span / NSEC), .tv_nsec = (long)(span % NSEC) };
	struct pollfd pfd = { .fd = e->watching ? e->moves_fd : -1, .events = POLLIN };

	ppoll(&pfd, 1, &ts, NULL);
}

/* What cannot be ended is cut off. Afterwards nothing is in flight. */
static void abort_moves(struct pkvrt_engine *e)
{
	struct pkvrt_disk *disk = e->p.disk;
	struct batch *b;
	struct move *mv;

	/* The ends of disk operations may put moves on to_copy: so the disk goes first. */
	publish_stats(e);
	e->p.disk = NULL;
	pkvrt_disk_close(disk, CLOSE_GRACE_NS);
	TAILQ_CONCAT(&e->parked, &e->to_copy, link);
	while ((mv = TAILQ_FIRST(&e->parked))) {
		TAILQ_REMOVE(&e->parked, mv, link);
		end_move(e, mv, -ECANCELED);
	}
	/* These stay on @copying: the device still uses their memory. */
	TAILQ_FOREACH(b, &e->copying, link) {
		while ((mv = TAILQ_FIRST(&b->moves))) {
			TAILQ_REMOVE(&b->moves, mv, link);
			end_move(e, mv, -ECANCELED);
		}
	}
	flush_commits(e);
}

static void *run(void *arg)
{
	struct pkvrt_engine *e = arg;
	unsigned int nr;
	uint64_t until;

	for (;;) {
		nr = fetch(e);
		nr += retry_parked(e);
		nr += start_copies(e);
		nr += poll_batches(e);
		nr += e->nr_commits;
		flush_commits(e);
		watch(e);
		publish_stats(e);
		if (e->stopping && (!e->nr_inflight ||
				    pkvrt_now_ns() >= atomic_load(&e->drain_until_ns)))
			break;
		until = nr ? 0 : sleep_until(e);
		if (e->p.disk)
			pkvrt_disk_wait(e->p.disk, until);
		else if (until)
			sleep_without_disk(e, until);
		e->stats.nr_wakeups++;
	}
	abort_moves(e);
	publish_stats(e);
	return NULL;
}

/* -- life ------------------------------------------------------------------------------------- */

static unsigned int default_moves(uint64_t page_bytes)
{
	uint64_t nr = MOVES_BYTES / page_bytes;

	return nr < MIN_MOVES ? MIN_MOVES : nr > ENOUGH_MOVES ? ENOUGH_MOVES : (unsigned int)nr;
}

static int check_params(struct pkvrt_engine *e, const struct pkvrt_engine_params *p)
{
	if (!p || p->size != sizeof(*p) || !p->pool || !p->page_bytes || !p->device.begin ||
	    !p->device.poll || p->max_moves > MAX_MOVES)
		return -EINVAL;
	if (p->disk && p->page_bytes % PKVRT_DISK_ALIGN)
		return -EINVAL;
	e->p = *p;
	if (!e->p.max_moves)
		e->p.max_moves = default_moves(p->page_bytes);
	if (!e->p.timeout_ns)
		e->p.timeout_ns = DEFAULT_TIMEOUT_NS;
	if (!e->p.staging_bytes)
		e->p.staging_bytes = DEFAULT_STAGING_BYTES;
	return 0;
}

static int alloc_tables(struct pkvrt_engine *e)
{
	unsigned int i, nr = e->p.max_moves;

	TAILQ_INIT(&e->free);
	TAILQ_INIT(&e->parked);
	TAILQ_INIT(&e->to_copy);
	TAILQ_INIT(&e->free_batches);
	TAILQ_INIT(&e->copying);
	e->moves = calloc(nr, sizeof(e->moves[0]));
	e->batches = calloc(nr, sizeof(e->batches[0]));
	e->commits = calloc(nr, sizeof(e->commits[0]));
	e->copies = calloc(nr, sizeof(e->copies[0]));
	if (!e->moves || !e->batches || !e->commits || !e->copies)
		return -ENOMEM;
	for (i = 0; i < nr; i++) {
		TAILQ_INSERT_TAIL(&e->free, &e->moves[i], link);
		TAILQ_INSERT_TAIL(&e->free_batches, &e->batches[i], link);
	}
	e->nr_free = nr;
	return 0;
}

static int map_host(struct pkvrt_engine *e)
{
	struct pkvrt_arena_params ap = {
		.size = sizeof(ap), .node = e->p.host_node, .flags = e->p.host_flags,
	};
	void *addr;
	size_t len;
	int ret = pagedkv_host_map(e->p.pool, e->p.class_id, &addr, &len);

	if (ret == -EOPNOTSUPP)
		return 0;
	if (ret)
		return ret;
	ap.bytes = len;
	ret = pkvrt_arena_adopt(&e->host_arena, addr, &ap);
	if (ret)
		return ret;
	e->host = addr;
	e->nr_host_slots = (uint32_t)(len / e->p.page_bytes);
	return 0;
}

static int alloc_staging(struct pkvrt_engine *e)
{
	size_t nr = e->p.staging_bytes / e->p.page_bytes;
	struct pkvrt_arena_params ap = {
		.size = sizeof(ap), .node = e->p.host_node, .flags = e->p.host_flags,
	};
	int ret;

	if (!e->p.disk)
		return 0;
	if (nr < MIN_STAGING)
		nr = MIN_STAGING;
	if (nr > e->p.max_moves)
		nr = e->p.max_moves;
	if (nr > SIZE_MAX / e->p.page_bytes)
		return -EINVAL;
	ap.bytes = nr * e->p.page_bytes;
	ret = pkvrt_arena_create(&e->staging_arena, &ap);
	if (ret)
		return ret;
	e->staging = calloc(nr, sizeof(e->staging[0]));
	if (!e->staging)
		return -ENOMEM;
	while (e->nr_staging < nr) {
		e->staging[e->nr_staging] = (char *)pkvrt_arena_base(e->staging_arena) +
					    e->nr_staging * e->p.page_bytes;
		e->nr_staging++;
	}
	return 0;
}

/*
 * The host tier is left alone: it is only written from, which costs hardly more unregistered, and
 * the kernel could have none of it back. Without the registration it works as well.
 */
static void register_staging(struct pkvrt_engine *e)
{
	struct iovec r = {
		pkvrt_arena_base(e->staging_arena), pkvrt_arena_bytes(e->staging_arena)
	};

	pkvrt_disk_register(e->p.disk, &r, 1);
}

static int adopt_page(void *ctx, uint32_t slot, const struct pkvrt_key *key)
{
	struct pkvrt_engine *e = ctx;
	uint64_t k[2];

	memcpy(k, key->b, sizeof(k));
	/* Twice the same key, or no room: the slot is free for others. */
	if (!pagedkv_adopt(e->p.pool, e->p.class_id, PAGEDKV_DISK, slot, k))
		e->stats.nr_adopted++;
	return 0;
}

static int start_thread(struct pkvrt_engine *e)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&e->thread, NULL, run, e);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -ret;
}

static int pin(struct pkvrt_engine *e, const struct pkvrt_arena *a, int *pinned)
{
	int ret;

	if (!a || !e->p.device.pin)
		return 0;
	ret = e->p.device.pin(e->p.device.ctx, pkvrt_arena_base(a), pkvrt_arena_bytes(a));
	*pinned = !ret;
	return ret;
}

static void unpin(struct pkvrt_engine *e, const struct pkvrt_arena *a, int pinned)
{
	if (pinned)
		e->p.device.unpin(e->p.device.ctx, pkvrt_arena_base(a));
}

static void free_engine(struct pkvrt_engine *e)
{
	/* A device that never ended its copies still writes there: better lost than reused. */
	if (TAILQ_EMPTY(&e->copying)) {
		unpin(e, e->host_arena, e->host_pinned);
		unpin(e, e->staging_arena, e->staging_pinned);
		pkvrt_arena_destroy(e->staging_arena);
	}
	pkvrt_arena_destroy(e->host_arena);
	pthread_mutex_destroy(&e->lock);
	free(e->staging);
	free(e->moves);
	free(e->batches);
	free(e->commits);
	free(e->copies);
	free(e);
}

int pkvrt_engine_create(struct pkvrt_engine **out, const struct pkvrt_engine_params *p)
{
	struct pkvrt_engine *e;
	int ret;

	*out = NULL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	pthread_mutex_init(&e->lock, NULL);
	TAILQ_INIT(&e->copying);
	atomic_init(&e->drain_until_ns, NEVER);
	ret = check_params(e, p);
	if (!ret)
		ret = alloc_tables(e);
	if (!ret)
		ret = map_host(e);
	if (!ret)
		ret = alloc_staging(e);
	if (!ret)
		ret = pin(e, e->host_arena, &e->host_pinned);
	if (!ret)
		ret = pin(e, e->staging_arena, &e->staging_pinned);
	if (ret)
		goto free;
	e->moves_fd = pagedkv_moves_fd(e->p.pool);
	e->stats.has_host = !!e->host_arena;
	if (e->host_arena)
		pkvrt_arena_report(e->host_arena, &e->stats.host);
	e->stats.has_disk = !!e->p.disk;
	if (e->p.disk) {
		register_staging(e);
		pkvrt_disk_scan(e->p.disk, adopt_page, e);
	}
	e->shared = e->stats;
	ret = start_thread(e);
	if (ret)
		goto free;
	*out = e;
	return 0;
free:
	free_engine(e);
	return ret;
}

void pkvrt_engine_destroy(struct pkvrt_engine *e, uint64_t drain_ns)
{
	uint64_t now = pkvrt_now_ns();

	if (!e)
		return;
	atomic_store(&e->drain_until_ns, drain_ns < NEVER - now ? now + drain_ns : NEVER);
	pagedkv_moves_stop(e->p.pool);
	pthread_join(e->thread, NULL);
	free_engine(e);
}

void pkvrt_engine_stats(struct pkvrt_engine *e, struct pkvrt_engine_stats *s)
{
	pthread_mutex_lock(&e->lock);
	*s = e->shared;
	pthread_mutex_unlock(&e->lock);
}
