// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The embedded backend: the page manager inside this process, behind one mutex
 * a pool.
 *
 * The eventfd is raised when moves are queued and lowered by the fetch that
 * empties the queue; @raised spares the system call in between. Waiters sleep
 * on @changed and look again after every call that may have changed what they
 * wait for, so each such call ends in leave().
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "backend.h"
#include "core.h"
#include "kept.h"

#define HUGE_PAGE_BYTES	(2UL << 20)
#define NSEC_PER_SEC	1000000000ULL

SAME_SIZE(pagedkv_op, pkv_op);
SAME_FIELD(pagedkv_op, pkv_op, seq);
SAME_FIELD(pagedkv_op, pkv_op, type);
SAME_FIELD(pagedkv_op, pkv_op, arg);
SAME_FIELD(pagedkv_op, pkv_op, out_seq);

SAME_SIZE(pagedkv_delta, pkv_delta);
SAME_FIELD(pagedkv_delta, pkv_delta, seq);
SAME_FIELD(pagedkv_delta, pkv_delta, index);
SAME_FIELD(pagedkv_delta, pkv_delta, slot);

SAME_SIZE(pagedkv_move, pkv_move_desc);
SAME_FIELD(pagedkv_move, pkv_move_desc, id);
SAME_FIELD(pagedkv_move, pkv_move_desc, class_id);
SAME_FIELD(pagedkv_move, pkv_move_desc, kind);
SAME_FIELD(pagedkv_move, pkv_move_desc, src_tier);
SAME_FIELD(pagedkv_move, pkv_move_desc, src_slot);
SAME_FIELD(pagedkv_move, pkv_move_desc, dst_tier);
SAME_FIELD(pagedkv_move, pkv_move_desc, dst_slot);
SAME_FIELD(pagedkv_move, pkv_move_desc, key);

SAME_SIZE(pagedkv_step, pkv_step);
SAME_FIELD(pagedkv_step, pkv_step, ops);
SAME_FIELD(pagedkv_step, pkv_step, nr_ops);
SAME_FIELD(pagedkv_step, pkv_step, deltas);
SAME_FIELD(pagedkv_step, pkv_step, max_deltas);
SAME_FIELD(pagedkv_step, pkv_step, nr_deltas);
SAME_FIELD(pagedkv_step, pkv_step, copies);
SAME_FIELD(pagedkv_step, pkv_step, max_copies);
SAME_FIELD(pagedkv_step, pkv_step, nr_copies);
SAME_FIELD(pagedkv_step, pkv_step, nr_done);

SAME_SIZE(pagedkv_seq_info, pkv_seq_info);
SAME_FIELD(pagedkv_seq_info, pkv_seq_info, state);
SAME_FIELD(pagedkv_seq_info, pkv_seq_info, class_id);
SAME_FIELD(pagedkv_seq_info, pkv_seq_info, len_tokens);
SAME_FIELD(pagedkv_seq_info, pkv_seq_info, nr_pages);
SAME_FIELD(pagedkv_seq_info, pkv_seq_info, nr_shared);
SAME_FIELD(pagedkv_seq_info, pkv_seq_info, nr_missing);
SAME_FIELD(pagedkv_seq_info, pkv_seq_info, lost_tokens);
SAME_FIELD(pagedkv_seq_info, pkv_seq_info, priority);

SAME_SIZE(pkv_prefix_key, pkv_key);

SAME_VALUE(PAGEDKV_NR_TIERS, PKV_NR_TIERS);
SAME_VALUE(PAGEDKV_DEVICE, PKV_DEVICE);
SAME_VALUE(PAGEDKV_HOST, PKV_HOST);
SAME_VALUE(PAGEDKV_DISK, PKV_DISK);
SAME_VALUE(PAGEDKV_MAX_CLASSES, PKV_MAX_CLASSES);
SAME_VALUE(PAGEDKV_NR_PRIORITIES, PKV_NR_PRIORITIES);
SAME_VALUE(PAGEDKV_NO_SLOT, PKV_NONE);
SAME_VALUE(PAGEDKV_TIER_ONLINE, PKV_TIER_ONLINE);
SAME_VALUE(PAGEDKV_TIER_READONLY, PKV_TIER_READONLY);
SAME_VALUE(PAGEDKV_TIER_OFFLINE, PKV_TIER_OFFLINE);
SAME_VALUE(PAGEDKV_OP_APPEND, PKV_OP_APPEND);
SAME_VALUE(PAGEDKV_OP_FORK, PKV_OP_FORK);
SAME_VALUE(PAGEDKV_OP_TRUNCATE, PKV_OP_TRUNCATE);
SAME_VALUE(PAGEDKV_OP_FREE, PKV_OP_FREE);
SAME_VALUE(PAGEDKV_MOVE_OUT, PKV_MOVE_OUT);
SAME_VALUE(PAGEDKV_MOVE_IN, PKV_MOVE_IN);
SAME_VALUE(PAGEDKV_MOVE_COPY, PKV_MOVE_COPY);
SAME_VALUE(PAGEDKV_SEQ_RUNNING, PKV_SEQ_RUNNING);
SAME_VALUE(PAGEDKV_SEQ_LOADING, PKV_SEQ_LOADING);
SAME_VALUE(PAGEDKV_SEQ_COLD, PKV_SEQ_COLD);
SAME_VALUE(PAGEDKV_SEQ_BROKEN, PKV_SEQ_BROKEN);

/* Memory of a class's host tier; mapped when first asked for. */
struct host_memory {
	void *addr;
	size_t len;
};

struct embed_pool {
	struct mutex lock;		/* of all that follows */
	struct pkv_pool core;
	pthread_cond_t changed;		/* on CLOCK_MONOTONIC */
	uint32_t nr_waiters;
	uint64_t nr_commits;
	bool stopped;
	bool raised;			/* the eventfd is readable, unless the owner read it */
	int fd;
	struct host_memory host[PAGEDKV_MAX_CLASSES];
	uint64_t page_bytes[PAGEDKV_MAX_CLASSES];
	struct pkv_kept kept;
};

/* ---------------------------------------------------- lock, fd and waiters */

static void raise_fd(struct embed_pool *p)
{
	uint64_t one = 1;

	if (p->raised)
		return;
	/* An eventfd that can't be written is readable. */
	p->raised = write(p->fd, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN;
}

static void lower_fd(struct embed_pool *p)
{
	uint64_t count;

	/* Fails when the owner has read it: then it is low already. */
	if (p->raised && (read(p->fd, &count, sizeof(count)) == sizeof(count) || errno == EAGAIN))
		p->raised = false;
}

/* Unlock after a call that may have planned moves or changed what somebody waits for. */
static void leave(struct embed_pool *p)
{
	if (p->core.nr_queued)
		raise_fd(p);
	if (p->nr_waiters)
		pthread_cond_broadcast(&p->changed);
	mutex_unlock(&p->lock);
}

static struct timespec deadline_after(uint64_t timeout_ns)
{
	struct timespec t;
	uint64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &t);
	ns = (uint64_t)t.tv_nsec + timeout_ns % NSEC_PER_SEC;
	t.tv_sec += (time_t)(timeout_ns / NSEC_PER_SEC + ns / NSEC_PER_SEC);
	t.tv_nsec = (long)(ns % NSEC_PER_SEC);
	return t;
}

/* Sleep until something changes; false once the time has passed. */
static bool sleep_until(struct embed_pool *p, const struct timespec *deadline)
{
	int ret;

	p->nr_waiters++;
	__atomic_store_n(&p->lock.held, 0, __ATOMIC_RELAXED);
	ret = pthread_cond_timedwait(&p->changed, &p->lock.mutex, deadline);
	__atomic_store_n(&p->lock.holder, pthread_self(), __ATOMIC_RELAXED);
	__atomic_store_n(&p->lock.held, 1, __ATOMIC_RELAXED);
	p->nr_waiters--;
	return !ret;
}

/* Nobody will fetch what is queued, and nothing else is under way. */
static bool is_dead_end(const struct embed_pool *p)
{
	return p->stopped && p->core.nr_moves == p->core.nr_queued;
}

/* ------------------------------------------------------------------- pool */

static void set_params(struct pkv_pool_params *to, const struct pagedkv_pool_params *p)
{
	*to = (struct pkv_pool_params) {
		.nr_classes = p->nr_classes,
		.max_seqs = p->max_seqs,
		.max_moves = p->max_moves,
		.nr_ranks = p->nr_ranks,
	};
	for (uint32_t i = 0; i < p->nr_classes; i++) {
		to->classes[i].page_tokens = p->classes[i].page_tokens;
		for (int t = 0; t < PAGEDKV_NR_TIERS; t++) {
			to->classes[i].nr_slots[t] = p->classes[i].nr_slots[t];
			to->classes[i].low[t] = p->classes[i].low[t];
			to->classes[i].high[t] = p->classes[i].high[t];
		}
	}
}

static void init_condition(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

/* There is nothing to open: a pool is all there is. */
static int embed_open(void **dev)
{
	*dev = NULL;
	return 0;
}

static void embed_close(void *dev)
{
	(void)dev;
}

/* Nothing outlives its user here. */
static int embed_pool_remove(void *dev, const char *name)
{
	(void)dev;
	(void)name;
	return -EOPNOTSUPP;
}

static int embed_pool_create(void **priv, void *dev, struct pagedkv_pool_params *params)
{
	struct pkv_pool_params geometry;
	struct embed_pool *p;
	int ret;

	(void)dev;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (p->fd < 0) {
		/* Descriptors are one more table that is full. */
		ret = -ENOMEM;
		goto free_pool;
	}
	mutex_init(&p->lock);
	init_condition(&p->changed);
	set_params(&geometry, params);
	ret = pkv_pool_init(&p->core, &geometry, &p->lock);
	if (ret)
		goto exit_lock;
	for (uint32_t i = 0; i < params->nr_classes; i++)
		p->page_bytes[i] = params->classes[i].page_bytes;
	*priv = p;
	return 0;

exit_lock:
	pthread_cond_destroy(&p->changed);
	mutex_destroy(&p->lock);
	close(p->fd);
free_pool:
	free(p);
	return ret;
}

static void embed_pool_destroy(void *priv)
{
	struct embed_pool *p = priv;

	for (int i = 0; i < PAGEDKV_MAX_CLASSES; i++)
		if (p->host[i].addr)
			munmap(p->host[i].addr, p->host[i].len);
	pkv_kept_exit(&p->kept);
	pkv_pool_exit(&p->core);
	pthread_cond_destroy(&p->changed);
	mutex_destroy(&p->lock);
	close(p->fd);
	free(p);
}

static int embed_set_limit(void *priv, uint32_t class_id, uint32_t tier, uint32_t limit)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_pool_set_limit(&p->core, class_id, tier, limit);
	leave(p);
	return ret;
}

static int embed_set_tier_state(void *priv, uint32_t class_id, uint32_t tier, uint32_t state)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_pool_set_tier_state(&p->core, class_id, tier, state);
	leave(p);
	return ret;
}

/*
 * Address space with the start at a huge page, because older kernels don't
 * align by themselves. Accounted for (no MAP_NORESERVE): a tier larger than
 * the machine fails here, not by a signal in the middle of a copy.
 */
static int map_huge(struct host_memory *m, size_t bytes)
{
	uintptr_t start, end, from;
	void *addr;

	if (bytes > SIZE_MAX - HUGE_PAGE_BYTES)
		return -EOVERFLOW;
	addr = mmap(NULL, bytes + HUGE_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (addr == MAP_FAILED)
		return -ENOMEM;
	start = (uintptr_t)addr;
	end = start + bytes + HUGE_PAGE_BYTES;
	from = (start + HUGE_PAGE_BYTES - 1) & ~(HUGE_PAGE_BYTES - 1);
	if (from > start)
		munmap(addr, from - start);
	if (end > from + bytes)
		munmap((void *)(from + bytes), end - from - bytes);
	if (mprotect((void *)from, bytes, PROT_READ | PROT_WRITE)) {
		munmap((void *)from, bytes);
		return -ENOMEM;
	}
	/* Advice: without huge pages the memory is merely slower. */
	madvise((void *)from, bytes, MADV_HUGEPAGE);
	m->addr = (void *)from;
	m->len = bytes;
	return 0;
}

static int embed_host_map(void *priv, uint32_t class_id, void **addr, size_t *len)
{
	struct embed_pool *p = priv;
	struct host_memory *m = &p->host[class_id];
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t bytes;
	int ret = 0;

	/* Neither changes in a pool's life; their product was checked at its creation. */
	bytes = p->core.classes[class_id].tiers[PKV_HOST].nr_slots * p->page_bytes[class_id];
	if (!bytes)
		return -EOPNOTSUPP;
	mutex_lock(&p->lock);
	if (!m->addr)
		ret = map_huge(m, (bytes + page - 1) & ~(page - 1));
	if (!ret) {
		*addr = m->addr;
		*len = bytes;
	}
	mutex_unlock(&p->lock);
	return ret;
}

/* -------------------------------------------------------------- sequences */

static int embed_seq_create(void *priv, const struct pkv_prompt *prompt, pagedkv_seq_t *out,
			    uint32_t *nr_hits)
{
	struct embed_pool *p = priv;
	__u64 seq = 0;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_seq_create(&p->core, prompt->class_id, (const struct pkv_key *)prompt->keys,
			     prompt->nr_keys, prompt->priority, 0, &seq, nr_hits);
	leave(p);
	*out = seq;
	return ret;
}

static int embed_match(void *priv, const struct pkv_prompt *prompt,
		       uint32_t pages_per_tier[PAGEDKV_NR_TIERS])
{
	struct embed_pool *p = priv;
	uint32_t found;

	mutex_lock(&p->lock);
	found = pkv_prefix_match(&p->core, prompt->class_id, (const struct pkv_key *)prompt->keys,
				 prompt->nr_keys, pages_per_tier);
	mutex_unlock(&p->lock);
	return (int)found;
}

static void embed_publish(void *priv, struct pkv_publication *items, uint32_t nr)
{
	struct embed_pool *p = priv;

	mutex_lock(&p->lock);
	for (uint32_t i = 0; i < nr; i++)
		items[i].result = pkv_prefix_publish(&p->core, items[i].seq, items[i].first,
						     (const struct pkv_key *)items[i].keys,
						     items[i].nr_keys);
	leave(p);
}

static int embed_adopt(void *priv, uint32_t class_id, uint32_t tier, uint32_t slot,
		       const struct pkv_prefix_key *key)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_prefix_adopt(&p->core, class_id, tier, slot, (const struct pkv_key *)key);
	leave(p);
	return ret;
}

static int embed_step(void *priv, struct pagedkv_step *step)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_pool_step(&p->core, (struct pkv_step *)step);
	leave(p);
	return ret;
}

static int embed_advise(void *priv, pagedkv_seq_t seq, uint32_t advice)
{
	struct embed_pool *p = priv;
	int ret = -EINVAL;

	mutex_lock(&p->lock);
	switch (advice) {
	case PAGEDKV_WILLNEED:
		ret = pkv_seq_load(&p->core, seq);
		break;
	case PAGEDKV_COLD:
		ret = pkv_seq_cold(&p->core, seq);
		break;
	case PAGEDKV_DONTNEED:
		ret = pkv_seq_forget(&p->core, seq);
		break;
	case PAGEDKV_PIN:
	case PAGEDKV_UNPIN:
		ret = pkv_seq_pin(&p->core, seq, advice == PAGEDKV_PIN);
		break;
	}
	leave(p);
	return ret;
}

static int embed_set_priority(void *priv, pagedkv_seq_t seq, uint32_t priority)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_seq_set_priority(&p->core, seq, priority);
	mutex_unlock(&p->lock);
	return ret;
}

static int embed_seq_state(void *priv, pagedkv_seq_t seq)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_seq_state(&p->core, seq);
	mutex_unlock(&p->lock);
	return ret;
}

static int embed_seq_info(void *priv, pagedkv_seq_t seq, struct pagedkv_seq_info *info)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_seq_info(&p->core, seq, (struct pkv_seq_info *)info);
	mutex_unlock(&p->lock);
	return ret;
}

static int embed_seq_table(void *priv, pagedkv_seq_t seq, uint32_t first, uint32_t *slots,
			   uint32_t nr)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_seq_table(&p->core, seq, first, slots, nr);
	mutex_unlock(&p->lock);
	return ret;
}

static int embed_seq_wait(void *priv, pagedkv_seq_t seq, uint64_t timeout_ns)
{
	struct timespec deadline = deadline_after(timeout_ns);
	struct embed_pool *p = priv;
	bool in_time = timeout_ns;
	int ret;

	mutex_lock(&p->lock);
	for (;;) {
		ret = pkv_seq_state(&p->core, seq);
		if (ret != PKV_SEQ_LOADING) {
			ret = ret < 0 ? ret : 0;
			break;
		}
		ret = is_dead_end(p) ? -ECANCELED : -ETIMEDOUT;
		if (ret == -ECANCELED || !in_time)
			break;
		in_time = sleep_until(p, &deadline);
	}
	mutex_unlock(&p->lock);
	return ret;
}

/* ------------------------------------------------------------------ moves */

static int embed_moves_fetch(void *priv, struct pagedkv_move *out, uint32_t max)
{
	struct embed_pool *p = priv;
	int ret = -ECANCELED;

	mutex_lock(&p->lock);
	if (!p->stopped) {
		ret = (int)pkv_moves_fetch(&p->core, 0, (struct pkv_move_desc *)out, max);
		if (!p->core.nr_queued)
			lower_fd(p);
	}
	mutex_unlock(&p->lock);
	return ret;
}

static int embed_moves_commit(void *priv, const struct pagedkv_commit *items, uint32_t nr)
{
	struct embed_pool *p = priv;
	int ret = 0;

	mutex_lock(&p->lock);
	for (uint32_t i = 0; i < nr; i++) {
		int rc = pkv_move_commit(&p->core, items[i].id, items[i].status,
					 items[i].flags & PAGEDKV_COMMIT_SOURCE_BAD);

		if (rc)
			ret = rc;
		else
			p->nr_commits++;
	}
	leave(p);
	return ret;
}

static int embed_moves_fd(void *priv)
{
	struct embed_pool *p = priv;

	return p->fd;
}

static void embed_moves_stop(void *priv)
{
	struct embed_pool *p = priv;

	mutex_lock(&p->lock);
	p->stopped = true;
	raise_fd(p);
	leave(p);
}

static int embed_moves_wait(void *priv, uint64_t timeout_ns)
{
	struct timespec deadline = deadline_after(timeout_ns);
	struct embed_pool *p = priv;
	bool in_time = timeout_ns;
	uint64_t before;
	int ret;

	mutex_lock(&p->lock);
	before = p->nr_commits;
	for (;;) {
		ret = 0;
		if (p->nr_commits != before || !p->core.nr_moves)
			break;
		ret = is_dead_end(p) ? -ECANCELED : -ETIMEDOUT;
		if (ret == -ECANCELED || !in_time)
			break;
		in_time = sleep_until(p, &deadline);
	}
	mutex_unlock(&p->lock);
	return ret;
}

/* ------------------------------------------------------------- inspection */

static void tier_stats(struct pagedkv_tier_stats *st, const struct pkv_tier *t)
{
	st->nr_slots = t->nr_slots;
	st->nr_free = t->nr_free;
	st->nr_leaving = t->nr_leaving;
	st->limit = t->limit;
	st->state = t->state;
	for (int i = 0; i < PKV_NR_PRIORITIES; i++)
		st->nr_idle += t->idle[i].nr;
}

static void counter_stats(struct pagedkv_stats *st, const struct pkv_counters *c)
{
	st->allocs = c->allocs;
	st->frees = c->frees;
	st->forks = c->forks;
	st->copies = c->copies;
	st->lookups = c->lookups;
	st->hits = c->hits;
	st->drops = c->drops;
	st->aborts = c->aborts;
	st->cancels = c->cancels;
	st->losses = c->losses;
	for (int from = 0; from < PKV_NR_TIERS; from++)
		for (int to = 0; to < PKV_NR_TIERS; to++)
			st->moves[from][to] = c->moves[from][to];
}

static void embed_stats(void *priv, uint32_t class_id, struct pagedkv_stats *st)
{
	struct embed_pool *p = priv;
	const struct pkv_class *c = &p->core.classes[class_id];
	uint32_t i;

	mutex_lock(&p->lock);
	st->nr_seqs = p->core.nr_seqs;
	for (i = p->core.loading_head; i != PKV_NONE; i = p->core.seqs[i].next)
		st->nr_loading++;
	st->nr_moves = p->core.nr_moves;
	st->nr_queued = p->core.nr_queued;
	st->nr_pages = c->nr_live;
	st->nr_cached = c->nr_cached;
	st->nr_indexed = c->nr_indexed;
	st->nr_lost = c->nr_lost;
	for (i = 0; i < PKV_NR_TIERS; i++)
		tier_stats(&st->tiers[i], &c->tiers[i]);
	counter_stats(st, &p->core.counters);
	st->metadata_bytes = pkv_pool_metadata_bytes(&p->core);
	mutex_unlock(&p->lock);
}

static void map_entry(struct pagedkv_map_entry *e, const struct pkv_page *page)
{
	for (int t = 0; t < PKV_NR_TIERS; t++)
		e->slot[t] = page->slot[t];
	e->refs = page->refs;
	e->holds = page->holds;
	e->flags = 0;
	if (page->flags & PKV_PAGE_INDEXED)
		e->flags |= PAGEDKV_MAP_PUBLISHED;
	if (page->move != PKV_NONE)
		e->flags |= PAGEDKV_MAP_MOVING;
	if (page->flags & PKV_PAGE_LOST)
		e->flags |= PAGEDKV_MAP_LOST;
	e->priority = (page->flags & PKV_PAGE_PRIO_MASK) >> PKV_PAGE_PRIO_SHIFT;
}

static int embed_map(void *priv, uint32_t class_id, uint32_t *cursor,
		     struct pagedkv_map_entry *out, uint32_t nr)
{
	struct embed_pool *p = priv;
	const struct pkv_class *c = &p->core.classes[class_id];
	uint32_t id = *cursor, n = 0;

	mutex_lock(&p->lock);
	for (; id < c->fresh_page && n < nr; id++)
		if (c->pages[id].flags & PKV_PAGE_LIVE)
			map_entry(&out[n++], &c->pages[id]);
	mutex_unlock(&p->lock);
	*cursor = id;
	return (int)n;
}

static int embed_check(void *priv, const char **why)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_pool_check(&p->core, why);
	mutex_unlock(&p->lock);
	return ret;
}

/* ------------------------------------------------------------- kept files */

static int embed_file_keep(void *priv, const struct pagedkv_file *file, int fd)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_kept_add(&p->kept, file, fd);
	mutex_unlock(&p->lock);
	return ret;
}

static int embed_file_take(void *priv, const char *name, uint64_t fingerprint, uint64_t *bytes)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_kept_take(&p->kept, name, fingerprint, bytes);
	mutex_unlock(&p->lock);
	return ret;
}

static int embed_file_drop(void *priv, const char *name)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = pkv_kept_drop(&p->kept, name);
	mutex_unlock(&p->lock);
	return ret;
}

static int embed_file_list(void *priv, uint64_t *cursor, struct pagedkv_file *out, uint32_t nr)
{
	struct embed_pool *p = priv;
	int ret;

	mutex_lock(&p->lock);
	ret = (int)pkv_kept_list(&p->kept, cursor, out, nr);
	mutex_unlock(&p->lock);
	return ret;
}

const struct pkv_backend pkv_backend_embed = {
	.id = PAGEDKV_BACKEND_EMBEDDED,
	.features = 0,
	.open = embed_open,
	.close = embed_close,
	.pool_create = embed_pool_create,
	.pool_remove = embed_pool_remove,
	.pool_destroy = embed_pool_destroy,
	.set_limit = embed_set_limit,
	.set_tier_state = embed_set_tier_state,
	.host_map = embed_host_map,
	.seq_create = embed_seq_create,
	.match = embed_match,
	.publish = embed_publish,
	.adopt = embed_adopt,
	.step = embed_step,
	.advise = embed_advise,
	.set_priority = embed_set_priority,
	.seq_state = embed_seq_state,
	.seq_info = embed_seq_info,
	.seq_table = embed_seq_table,
	.seq_wait = embed_seq_wait,
	.moves_fetch = embed_moves_fetch,
	.moves_commit = embed_moves_commit,
	.moves_fd = embed_moves_fd,
	.moves_stop = embed_moves_stop,
	.moves_wait = embed_moves_wait,
	.stats = embed_stats,
	.map = embed_map,
	.check = embed_check,
	.file_keep = embed_file_keep,
	.file_take = embed_file_take,
	.file_drop = embed_file_drop,
	.file_list = embed_file_list,
};
