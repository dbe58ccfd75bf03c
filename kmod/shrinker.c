// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shrinker: what the kernel takes back from host tiers when it is short of
 * memory, the whole machine or a memcg.
 *
 * Memory of free slots goes at once. If that is not enough, cold pages are
 * asked to leave: a worker plans their moves to the disk, or gives up what is
 * only cached or there as well; an executor commits, and the next scan finds
 * free slots. A scan that could do no more than ask waits a moment for that,
 * because reclaim ends in an OOM kill when nothing comes of it.
 *
 * Where nobody will carry moves out, because the pool has no client or because
 * moves wait and nobody fetches them, what is only cached is given up instead:
 * a prefix that has to be computed again costs less than a kill. How long they
 * waited is counted in moments of scans, not told by a clock: the machine that
 * stood still for a second, as a virtual one may, gave no executor a chance.
 *
 * A pool is found twice: by its creator's memcg, to which its memory is
 * charged, and in the list of all pools, for the whole machine's reclaim,
 * which asks node by node. The memcg's list has one entry a pool, on whichever
 * node that lies: a memcg's reclaim asks for all nodes.
 *
 * A scan may run in any task that allocates, inside this module too, with any
 * of its locks held: it takes a pool's lock only if that is free or gets free
 * within a moment, refers to no pool (whose last reference it could not give up
 * here) but uses the pool's entry, for whose users the pool's end waits, and
 * allocates nothing.
 */
#include <linux/completion.h>
#include <linux/memcontrol.h>
#include <linux/refcount.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "pkv.h"
#include "compat.h"
#include "trace.h"

/* Pages that one scan is asked for: a unit's. */
#define BATCH		(PMD_SIZE >> PAGE_SHIFT)

/* Pools that one scan tries. */
#define MAX_POOLS	16

/* How long a host tier is let alone after nothing was found in all of it. */
#define BARREN_JIFFIES	(HZ / 10)

/* How long a scan waits for pages to leave, or for a pool's lock. */
#define LEAVE_JIFFIES	(HZ / 50)

/*
 * Moments, of LEAVE_JIFFIES at least, that moves may wait while no executor
 * comes before none is hoped for: while nobody carries any out, and while
 * somebody does, on a disk that may be slow.
 */
#define MAX_VAIN	12U
#define MAX_VAIN_BUSY	100U

/* A pool, as the shrinker knows it. */
struct pkv_shrinkee {
	struct list_head memcg_node;	/* on by_memcg */
	struct list_head node;		/* on pools */
	struct pkv_kpool *pool;
	refcount_t users;		/* scans, and the pool itself */
	struct completion unused;
};

static struct shrinker *shrinker;
static struct kmem_cache *cache;
static struct list_lru by_memcg;
static LIST_HEAD(pools);
static DEFINE_SPINLOCK(pools_lock);

/* ------------------------------------------------------------ what is there */

static bool has_disk(const struct pkv_class *c)
{
	const struct pkv_tier *disk = &c->tiers[PKV_DISK];

	return disk->nr_slots && READ_ONCE(disk->state) == PKV_TIER_ONLINE;
}

/* Will somebody carry out what is planned? As far as one can tell. */
static bool has_executor(const struct pkv_kpool *pool)
{
	return READ_ONCE(pool->nr_clients) && !READ_ONCE(pool->is_deserted);
}

/* Pages of the host tier that may leave it, or are about to. */
static u32 nr_cold(const struct pkv_kpool *pool, u32 class_id)
{
	const struct pkv_class *c = &pool->core.classes[class_id];
	const struct pkv_tier *t = &c->tiers[PKV_HOST];
	u32 nr = READ_ONCE(t->nr_leaving), i;

	for (i = 0; i < PKV_NR_PRIORITIES; i++)
		nr += READ_ONCE(t->idle[i].nr);
	return has_disk(c) && has_executor(pool) ? nr : min(nr, READ_ONCE(c->nr_cached));
}

static bool is_barren(const struct pkv_host *host, const struct pkv_tier *t, int nid)
{
	return time_before(jiffies, READ_ONCE(host->barren_until)) &&
	       READ_ONCE(host->barren_nid) == nid &&
	       READ_ONCE(t->nr_free) <= READ_ONCE(host->barren_free);
}

/* Is there memory of this class on the node? */
static bool may_be_on(const struct pkv_kpool *pool, u32 class_id, int nid)
{
	u32 node = pool->classes[class_id].host_node;

	return pool->host[class_id].file &&
	       (nid == NUMA_NO_NODE || node == PAGEDKV_IO_NONE || node == nid);
}

/* Pages that could be given back, now or after a while. A guess: without the pool's lock. */
static unsigned long count_pool(const struct pkv_kpool *pool, int nid)
{
	unsigned long nr = 0;
	u64 used, resident;
	u32 i;

	for (i = 0; i < pool->core.nr_classes; i++) {
		const struct pkv_class *c = &pool->core.classes[i];
		const struct pkv_host *host = &pool->host[i];
		u64 page_bytes = pool->classes[i].page_bytes;

		if (!may_be_on(pool, i, nid) || is_barren(host, &c->tiers[PKV_HOST], nid))
			continue;
		resident = pkv_host_resident_bytes(host);
		used = pkv_tier_used(&c->tiers[PKV_HOST]) * page_bytes;
		if (resident > used)
			nr += (resident - used) >> PAGE_SHIFT;
		nr += (nr_cold(pool, i) * page_bytes) >> PAGE_SHIFT;
	}
	return nr;
}

/* ---------------------------------------------------------------- entries */

static bool is_whole_machine(const struct shrink_control *sc)
{
	return !sc->memcg || !parent_mem_cgroup(sc->memcg);
}

static enum lru_status add_count(PKV_LIST_LRU_WALK_ARGS)
{
	const struct pkv_shrinkee *s = container_of(item, struct pkv_shrinkee, memcg_node);
	unsigned long *sum = arg;

	*sum += count_pool(s->pool, NUMA_NO_NODE);
	return LRU_SKIP;
}

static enum lru_status use_first(PKV_LIST_LRU_WALK_ARGS)
{
	struct pkv_shrinkee **first = arg;

	*first = container_of(item, struct pkv_shrinkee, memcg_node);
	refcount_inc(&(*first)->users);
	return LRU_ROTATE;
}

/* The next entry of those that reclaim asks for, to be unused again; or NULL. */
static struct pkv_shrinkee *use_next(const struct shrink_control *sc)
{
	struct pkv_shrinkee *s = NULL;
	unsigned long one = 1;

	if (!is_whole_machine(sc)) {
		list_lru_walk_one(&by_memcg, sc->nid, sc->memcg, use_first, &s, &one);
		return s;
	}
	spin_lock(&pools_lock);
	s = list_first_entry_or_null(&pools, struct pkv_shrinkee, node);
	if (s) {
		list_move_tail(&s->node, &pools);
		refcount_inc(&s->users);
	}
	spin_unlock(&pools_lock);
	return s;
}

static void unuse(struct pkv_shrinkee *s)
{
	if (refcount_dec_and_test(&s->users))
		complete(&s->unused);
}

int pkv_shrinker_add(struct pkv_kpool *pool)
{
	/* Charged, because its memcg is that of the list which it goes to. */
	struct pkv_shrinkee *s = kmem_cache_alloc_lru(cache, &by_memcg, GFP_KERNEL_ACCOUNT);

	if (!s)
		return -ENOMEM;
	INIT_LIST_HEAD(&s->memcg_node);
	s->pool = pool;
	refcount_set(&s->users, 1);
	init_completion(&s->unused);
	pool->shrinkee = s;
	spin_lock(&pools_lock);
	list_add_tail(&s->node, &pools);
	spin_unlock(&pools_lock);
	pkv_list_lru_add(&by_memcg, &s->memcg_node);
	return 0;
}

/* Waits for those who scan it. */
void pkv_shrinker_remove(struct pkv_kpool *pool)
{
	struct pkv_shrinkee *s = pool->shrinkee;

	if (!s)
		return;
	pkv_list_lru_del(&by_memcg, &s->memcg_node);
	spin_lock(&pools_lock);
	list_del(&s->node);
	spin_unlock(&pools_lock);
	unuse(s);
	wait_for_completion(&s->unused);
	kmem_cache_free(cache, s);
}

/* -------------------------------------------------------------- cold pages */

static void demote_pool(struct pkv_kpool *pool)
{
	u32 i;

	pkv_enter(pool);
	for (i = 0; i < pool->core.nr_classes; i++) {
		if (has_executor(pool))
			pkv_moves_demote(&pool->core, i, PKV_HOST, pool->host[i].nr_wanted);
		else
			pkv_moves_drop(&pool->core, i, PKV_HOST, pool->host[i].nr_wanted);
		pool->host[i].nr_wanted = 0;
	}
	pkv_leave(pool);
}

static bool is_wanted(const struct pkv_kpool *pool)
{
	u32 i;

	for (i = 0; i < pool->core.nr_classes; i++)
		if (READ_ONCE(pool->host[i].nr_wanted))
			return true;
	return false;
}

/* Plans moves, for which memory may be allocated: not in a scan. */
static void demote_all(struct work_struct *work)
{
	struct pkv_kpool *pool;
	u32 id = 0;

	while ((pool = pkv_kpool_next(&id))) {
		if (is_wanted(pool))
			demote_pool(pool);
		pkv_kpool_put(pool);
		id++;
	}
}

static DECLARE_WORK(demotion, demote_all);

/* Slots that are on their way to be free. */
static u32 nr_coming(const struct pkv_kpool *pool, u32 class_id)
{
	u32 nr = pool->host[class_id].nr_wanted;

	if (has_executor(pool))
		nr += pool->core.classes[class_id].tiers[PKV_HOST].nr_leaving;
	return nr;
}

/* Ask for slots of the host tier, for @nr_pages more; those on their way are counted. */
static u32 want_slots(struct pkv_kpool *pool, u32 class_id, unsigned long nr_pages)
{
	struct pkv_host *host = &pool->host[class_id];
	u64 nr = DIV_ROUND_UP_ULL((u64)nr_pages << PAGE_SHIFT,
				  pool->classes[class_id].page_bytes);
	u32 coming = nr_coming(pool, class_id);
	u32 more;

	nr = min_t(u64, nr, nr_cold(pool, class_id));
	if (nr <= coming || pkv_units_are_pinned(host))
		return 0;
	more = nr - coming;
	WRITE_ONCE(host->nr_wanted, host->nr_wanted + more);
	pool->shrink.demotes += more;
	queue_work(system_unbound_wq, &demotion);
	return more;
}

/* ------------------------------------------------------------------- scan */

struct scan {
	unsigned long nr_pages;	/* that are to be given back */
	unsigned long nr_freed;
	int nid;
	bool has_more;		/* the sweep of a tier isn't at its end */
	bool is_leaving;	/* slots of the pool are about to be free */
	bool has_waited;	/* for a pool's lock: no more for others */
	u32 nr_free;		/* that the pool has by now */
};

static void scan_class(struct pkv_kpool *pool, u32 class_id, struct scan *scan, u64 *wanted)
{
	const struct pkv_tier *t = &pool->core.classes[class_id].tiers[PKV_HOST];
	struct pkv_host *host = &pool->host[class_id];

	scan->nr_freed += pkv_units_give_back(pool, class_id, scan->nid,
					      scan->nr_pages - scan->nr_freed);
	scan->nr_free += t->nr_free;
	if (scan->nr_freed >= scan->nr_pages)
		return;
	if (host->nr_fruitless < host->nr_units) {
		scan->has_more = true;
		return;
	}
	*wanted += want_slots(pool, class_id, scan->nr_pages - scan->nr_freed);
	if (nr_coming(pool, class_id)) {
		scan->is_leaving = true;
	} else {
		WRITE_ONCE(host->barren_free, t->nr_free);
		WRITE_ONCE(host->barren_nid, scan->nid);
		WRITE_ONCE(host->barren_until, jiffies + BARREN_JIFFIES);
	}
}

/* Nothing is hoped for, once moves waited in vain, until an executor comes. */
static void look_for_executor(struct pkv_kpool *pool)
{
	bool is_busy = pool->core.nr_moves > pool->core.nr_queued;

	if (!pool->core.nr_queued ||
	    (pool->nr_vain && time_before(jiffies, pool->vain_at + LEAVE_JIFFIES)))
		return;
	pool->vain_at = jiffies;
	if (++pool->nr_vain > (is_busy ? MAX_VAIN_BUSY : MAX_VAIN))
		WRITE_ONCE(pool->is_deserted, true);
}

/* Somebody opened the pool, fetched moves or commits some; under the pool's lock. */
void pkv_executor_came(struct pkv_kpool *pool)
{
	pool->nr_vain = 0;
	WRITE_ONCE(pool->is_deserted, false);
}

/* Who waits may hold what others need: so for no longer than a moment. */
static bool may_wait(void)
{
	return !(current->flags & (PF_KSWAPD | PF_WQ_WORKER)) && !signal_pending(current);
}

/*
 * Take the lock, if it can be had soon. A reclaim that gives up at once goes
 * through all its tries while a holder does one thing, and ends in a kill.
 */
static bool lock_soon(struct pkv_kpool *pool, struct scan *scan)
{
	unsigned long until = jiffies + LEAVE_JIFFIES;
	DEFINE_WAIT_FUNC(wait, woken_wake_function);
	bool locked = mutex_trylock(&pool->lock);

	if (locked || scan->has_waited || READ_ONCE(pool->holder) == current)
		return locked;
	scan->has_waited = true;
	add_wait_queue(&pool->changed, &wait);
	while (!locked && may_wait() && time_before(jiffies, until)) {
		wait_woken(&wait, TASK_INTERRUPTIBLE, 1);
		locked = mutex_trylock(&pool->lock);
	}
	remove_wait_queue(&pool->changed, &wait);
	return locked;
}

static void scan_pool(struct pkv_kpool *pool, struct scan *scan)
{
	unsigned long before = scan->nr_freed;
	u64 wanted = 0;
	u32 i;

	scan->is_leaving = false;
	scan->nr_free = 0;
	if (!lock_soon(pool, scan))
		return;
	pool->shrink.scans++;
	look_for_executor(pool);
	for (i = 0; i < pool->core.nr_classes && scan->nr_freed < scan->nr_pages; i++)
		if (may_be_on(pool, i, scan->nid))
			scan_class(pool, i, scan, &wanted);
	mutex_unlock(&pool->lock);
	trace_pagedkv_shrink(pool->id, scan->nr_freed - before, wanted);
}

static u32 nr_free_slots(const struct pkv_kpool *pool)
{
	u32 nr = 0, i;

	for (i = 0; i < pool->core.nr_classes; i++)
		nr += READ_ONCE(pool->core.classes[i].tiers[PKV_HOST].nr_free);
	return nr;
}

/* Give an executor a moment. */
static void wait_for_slots(struct pkv_kpool *pool, u32 nr_free)
{
	DEFINE_WAIT_FUNC(wait, woken_wake_function);
	long left = LEAVE_JIFFIES;

	add_wait_queue(&pool->changed, &wait);
	while (left && nr_free_slots(pool) <= nr_free && may_wait())
		left = wait_woken(&wait, TASK_INTERRUPTIBLE, left);
	remove_wait_queue(&pool->changed, &wait);
}

static unsigned long scan_objects(struct shrinker *self, struct shrink_control *sc)
{
	struct scan scan = {
		.nr_pages = sc->nr_to_scan,
		.nid = is_whole_machine(sc) ? sc->nid : NUMA_NO_NODE,
	};
	struct pkv_shrinkee *s;
	u32 n;

	/* It takes locks of the page cache. */
	if (!(sc->gfp_mask & __GFP_FS))
		return SHRINK_STOP;
	for (n = 0; n < MAX_POOLS && scan.nr_freed < scan.nr_pages; n++) {
		s = use_next(sc);
		if (!s)
			break;
		scan_pool(s->pool, &scan);
		if (!scan.nr_freed && scan.is_leaving)
			wait_for_slots(s->pool, scan.nr_free);
		unuse(s);
	}
	sc->nr_scanned = max(scan.nr_freed, sc->nr_to_scan);
	return scan.nr_freed || scan.has_more ? scan.nr_freed : SHRINK_STOP;
}

static unsigned long count_objects(struct shrinker *self, struct shrink_control *sc)
{
	unsigned long nr = 0, all = ULONG_MAX;
	const struct pkv_shrinkee *s;
	bool is_empty;

	if (!is_whole_machine(sc)) {
		/* Only this answer lets the memcg forget that it has pools here. */
		is_empty = !list_lru_count_one(&by_memcg, sc->nid, sc->memcg);
		list_lru_walk_one(&by_memcg, sc->nid, sc->memcg, add_count, &nr, &all);
		return is_empty ? SHRINK_EMPTY : nr;
	}
	spin_lock(&pools_lock);
	list_for_each_entry(s, &pools, node)
		nr += count_pool(s->pool, sc->nid);
	spin_unlock(&pools_lock);
	return nr ? nr : SHRINK_EMPTY;
}

/* ------------------------------------------------------------------- life */

int pkv_shrinker_init(void)
{
	int ret = -ENOMEM;

	cache = KMEM_CACHE(pkv_shrinkee, SLAB_ACCOUNT);
	if (!cache)
		return -ENOMEM;
	shrinker = pkv_shrinker_alloc(SHRINKER_MEMCG_AWARE | SHRINKER_NUMA_AWARE);
	if (!shrinker)
		goto destroy_cache;
	shrinker->count_objects = count_objects;
	shrinker->scan_objects = scan_objects;
	shrinker->batch = BATCH;
	ret = pkv_shrinker_register(shrinker);
	/* Asked for from the first pool on, and not before. */
	if (!ret)
		ret = list_lru_init_memcg(&by_memcg, shrinker);
	if (ret)
		goto free_shrinker;
	return 0;

free_shrinker:
	pkv_shrinker_free(shrinker);
destroy_cache:
	kmem_cache_destroy(cache);
	return ret;
}

/* No scan and no demotion after this. */
void pkv_shrinker_stop(void)
{
	pkv_shrinker_free(shrinker);
	cancel_work_sync(&demotion);
}

/* The last pool is gone. */
void pkv_shrinker_exit(void)
{
	list_lru_destroy(&by_memcg);
	kmem_cache_destroy(cache);
}
