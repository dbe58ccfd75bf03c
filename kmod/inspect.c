// SPDX-License-Identifier: GPL-2.0-only
/* Looking at a pool: statistics, the map of its pages, and the walk over all invariants. */
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "pkv.h"

/* Pages that are looked at in one go under the pool's lock, and that a chunk tells of. */
#define MAP_SCAN	4096U
#define MAP_CHUNK	128U

static void tier_stats(struct pagedkv_io_tier_stats *st, const struct pkv_tier *t)
{
	u32 i;

	st->nr_slots = t->nr_slots;
	/* Those without memory get it back when they are needed. */
	st->nr_free = t->nr_free + t->nr_absent;
	st->nr_idle = 0;
	for (i = 0; i < PKV_NR_PRIORITIES; i++)
		st->nr_idle += t->idle[i].nr;
	st->nr_leaving = t->nr_leaving;
	st->limit = t->limit;
	st->state = t->state;
}

static void pool_stats(struct pagedkv_io_stats *st, const struct pkv_pool *core)
{
	u32 i;

	st->out_nr_seqs = core->nr_seqs;
	st->out_nr_loading = 0;
	for (i = core->loading_head; i != PKV_NONE; i = core->seqs[i].next)
		st->out_nr_loading++;
	st->out_nr_moves = core->nr_moves;
	st->out_nr_queued = core->nr_queued;
	st->out_allocs = core->counters.allocs;
	st->out_frees = core->counters.frees;
	st->out_forks = core->counters.forks;
	st->out_copies = core->counters.copies;
	st->out_lookups = core->counters.lookups;
	st->out_hits = core->counters.hits;
	st->out_drops = core->counters.drops;
	st->out_aborts = core->counters.aborts;
	st->out_cancels = core->counters.cancels;
	st->out_losses = core->counters.losses;
	memcpy(st->out_moves, core->counters.moves, sizeof(st->out_moves));
	st->out_metadata_bytes = pkv_pool_metadata_bytes(core);
}

int pkv_ioctl_stats(struct pkv_call *call)
{
	struct pagedkv_io_stats *arg = call->arg;
	struct pkv_kpool *pool = pkv_client_of(call)->pool;
	const struct pkv_class *c;
	u32 i;

	if (arg->class_id >= pool->core.nr_classes || arg->reserved)
		return -EINVAL;
	c = &pool->core.classes[arg->class_id];
	pkv_enter(pool);
	pool_stats(arg, &pool->core);
	arg->out_nr_pages = c->nr_live;
	arg->out_nr_cached = c->nr_cached;
	arg->out_nr_indexed = c->nr_indexed;
	arg->out_nr_lost = c->nr_lost;
	for (i = 0; i < PKV_NR_TIERS; i++)
		tier_stats(&arg->out_tiers[i], &c->tiers[i]);
	pkv_leave_unchanged(pool);
	return 0;
}

static void map_entry(struct pagedkv_io_map_entry *e, const struct pkv_page *page)
{
	memcpy(e->slot, page->slot, sizeof(e->slot));
	e->refs = page->refs;
	e->holds = page->holds;
	e->flags = 0;
	if (page->flags & PKV_PAGE_INDEXED)
		e->flags |= PAGEDKV_IO_MAP_PUBLISHED;
	if (page->move != PKV_NONE)
		e->flags |= PAGEDKV_IO_MAP_MOVING;
	if (page->flags & PKV_PAGE_LOST)
		e->flags |= PAGEDKV_IO_MAP_LOST;
	e->priority = (page->flags & PKV_PAGE_PRIO_MASK) >> PKV_PAGE_PRIO_SHIFT;
}

/* Live pages from *@cursor on; false at the end of the class. */
static bool map_chunk(struct pkv_kpool *pool, u32 class_id, u32 *cursor,
		      struct pagedkv_io_map_entry *out, u32 max, u32 *nr)
{
	const struct pkv_class *c = &pool->core.classes[class_id];
	u32 id = *cursor, n = 0, end;
	bool more;

	pkv_enter(pool);
	end = id < c->fresh_page ? id + min(c->fresh_page - id, MAP_SCAN) : id;
	for (; id < end && n < max; id++)
		if (c->pages[id].flags & PKV_PAGE_LIVE)
			map_entry(&out[n++], &c->pages[id]);
	more = id < c->fresh_page;
	pkv_leave_unchanged(pool);
	*cursor = id;
	*nr = n;
	return more;
}

int pkv_ioctl_map(struct pkv_call *call)
{
	struct pagedkv_io_map *arg = call->arg;
	struct pkv_kpool *pool = pkv_client_of(call)->pool;
	struct pagedkv_io_map_entry __user *to = u64_to_user_ptr(arg->entries);
	struct pagedkv_io_map_entry *buf;
	bool more = true;
	int ret = 0;
	u32 n;

	if (arg->class_id >= pool->core.nr_classes)
		return -EINVAL;
	buf = kmalloc_array(MAP_CHUNK, sizeof(*buf), GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	arg->out_nr = 0;
	while (more && arg->out_nr < arg->nr) {
		more = map_chunk(pool, arg->class_id, &arg->cursor, buf,
				 min(arg->nr - arg->out_nr, MAP_CHUNK), &n);
		if (copy_to_user(to + arg->out_nr, buf, n * sizeof(*buf))) {
			ret = -EFAULT;
			break;
		}
		arg->out_nr += n;
		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		cond_resched();
	}
	kfree(buf);
	return ret;
}

int pkv_ioctl_check(struct pkv_call *call)
{
	struct pagedkv_io_check *arg = call->arg;
	struct pkv_client *client = pkv_client_of(call);
	const char *why = "";
	int ret;

	if (!pkv_kpool_is_owner(client->pool, client->opener))
		return -EPERM;
	pkv_enter(client->pool);
	ret = pkv_pool_check(&client->pool->core, &why);
	pkv_leave_unchanged(client->pool);
	memset(arg->out_why, 0, sizeof(arg->out_why));
	strscpy((char *)arg->out_why, why, sizeof(arg->out_why));
	return ret;
}
