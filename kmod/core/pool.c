// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* A pool: its classes, limits and the life of both. */
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "internal.h"

/* The budget of core.h: a descriptor, an index bucket and a bit of each bitmap level. */
static_assert(sizeof(struct pkv_page) <= 56, "a page's metadata must stay under 64 bytes");
static_assert(sizeof(struct pkv_seq) <= 64, "a sequence is one cache line");

static int check_class(const struct pkv_class_params *p)
{
	u32 tier;

	if (!is_power_of_2(p->page_tokens) || p->page_tokens > 1024 || !p->nr_slots[PKV_DEVICE])
		return -EINVAL;
	for (tier = 0; tier < PKV_NR_TIERS; tier++) {
		if (p->nr_slots[tier] > PKV_MAX_SLOTS)
			return -EOVERFLOW;
		if (p->low[tier] > p->high[tier] || p->high[tier] > p->nr_slots[tier])
			return -EINVAL;
	}
	return 0;
}

static void class_exit(struct pkv_class *c)
{
	u32 tier;

	for (tier = 0; tier < PKV_NR_TIERS; tier++)
		pkv_tier_exit(&c->tiers[tier]);
	kvfree(c->buckets);
	kvfree(c->pages);
}

static int class_init(struct pkv_class *c, struct pkv_pool *pool, u32 id,
		      const struct pkv_class_params *p)
{
	u32 tier;
	int rc;

	c->pool = pool;
	c->id = id;
	c->page_tokens = p->page_tokens;
	c->page_shift = ilog2(p->page_tokens);
	c->policy = &pkv_policy_lru;
	c->free_page = PKV_NONE;
	c->twins.head = PKV_NONE;
	c->twins.tail = PKV_NONE;
	c->twins.scan = PKV_NONE;
	for (tier = 0; tier < PKV_NR_TIERS; tier++) {
		c->nr_pages += p->nr_slots[tier];
		rc = pkv_tier_init(&c->tiers[tier], p->nr_slots[tier], p->low[tier],
				   p->high[tier]);
		if (rc)
			return rc;
	}
	/* Touched as pages are first used: a large pool starts at once. */
	c->pages = kvmalloc_array(c->nr_pages, sizeof(*c->pages), PKV_GFP);
	if (!c->pages)
		return -ENOMEM;
	return pkv_index_init(c);
}

int pkv_pool_init(struct pkv_pool *pool, const struct pkv_pool_params *params,
		  struct mutex *lock)
{
	u32 i;
	int rc;

	memset(pool, 0, sizeof(*pool));
	if (!params->nr_classes || params->nr_classes > PKV_MAX_CLASSES ||
	    !params->max_seqs || params->max_seqs > PKV_MAX_SEQS || !params->max_moves ||
	    params->max_moves > 65536 || params->nr_ranks != 1)
		return -EINVAL;
	for (i = 0; i < params->nr_classes; i++) {
		rc = check_class(&params->classes[i]);
		if (rc)
			return rc;
	}
	pool->lock = lock;
	pool->nr_classes = params->nr_classes;
	pool->max_seqs = params->max_seqs;
	pool->max_moves = params->max_moves;
	pool->free_seq = PKV_NONE;
	pool->free_move = PKV_NONE;
	pool->loading_head = PKV_NONE;
	pool->loading_tail = PKV_NONE;
	pool->queue_head = PKV_NONE;
	pool->queue_tail = PKV_NONE;
	for (i = 0; i < params->nr_classes; i++) {
		rc = class_init(&pool->classes[i], pool, i, &params->classes[i]);
		if (rc) {
			pkv_pool_exit(pool);
			return rc;
		}
	}
	return 0;
}

void pkv_pool_exit(struct pkv_pool *pool)
{
	u32 i;

	for (i = 0; i < pool->fresh_seq; i++)
		kvfree(pool->seqs[i].table);
	kvfree(pool->seqs);
	kvfree(pool->moves);
	for (i = 0; i < pool->nr_classes; i++)
		class_exit(&pool->classes[i]);
	memset(pool, 0, sizeof(*pool));
}

int pkv_pool_set_limit(struct pkv_pool *pool, u32 class_id, u32 tier, u32 limit)
{
	lockdep_assert_held(pool->lock);
	if (class_id >= pool->nr_classes || tier >= PKV_NR_TIERS ||
	    limit > pool->classes[class_id].tiers[tier].nr_slots)
		return -EINVAL;
	pool->classes[class_id].tiers[tier].limit = limit;
	pkv_reclaim_below_low(pool);
	return 0;
}

/* The device can't be without memory: it has other memory now. */
static int forget_device(struct pkv_class *c)
{
	u32 id;

	for (id = 0; id < c->fresh_page; id++)
		if ((c->pages[id].flags & PKV_PAGE_LIVE) && c->pages[id].holds)
			return -EBUSY;
	pkv_moves_quit_tier(c, PKV_DEVICE, PKV_TIER_OFFLINE);
	return 0;
}

int pkv_pool_set_tier_state(struct pkv_pool *pool, u32 class_id, u32 tier, u32 state)
{
	struct pkv_class *c;

	lockdep_assert_held(pool->lock);
	if (class_id >= pool->nr_classes || tier >= PKV_NR_TIERS || state > PKV_TIER_OFFLINE)
		return -EINVAL;
	c = &pool->classes[class_id];
	if (tier == PKV_DEVICE)
		return state == PKV_TIER_OFFLINE ? forget_device(c) : -EINVAL;
	c->tiers[tier].state = state;
	if (state != PKV_TIER_ONLINE)
		pkv_moves_quit_tier(c, tier, state);
	else
		pkv_moves_return_tier(c, tier);
	return 0;
}

static struct pkv_tier *tier_with_slots(struct pkv_pool *pool, u32 class_id, u32 tier, u32 first,
					u32 nr)
{
	struct pkv_tier *t;

	lockdep_assert_held(pool->lock);
	if (class_id >= pool->nr_classes || tier == PKV_DEVICE || tier >= PKV_NR_TIERS)
		return NULL;
	t = &pool->classes[class_id].tiers[tier];
	return first < t->nr_slots && nr <= t->nr_slots - first ? t : NULL;
}

int pkv_slots_withdraw(struct pkv_pool *pool, u32 class_id, u32 tier, u32 first, u32 nr)
{
	struct pkv_tier *t = tier_with_slots(pool, class_id, tier, first, nr);

	return t ? pkv_tier_withdraw(t, first, nr) : -EINVAL;
}

void pkv_slots_restore(struct pkv_pool *pool, u32 class_id, u32 tier, u32 first, u32 nr)
{
	struct pkv_tier *t = tier_with_slots(pool, class_id, tier, first, nr);

	if (t)
		pkv_tier_restore(t, first, nr);
}

u64 pkv_pool_metadata_bytes(const struct pkv_pool *pool)
{
	u64 bytes = 0;
	u32 i, tier;

	for (i = 0; i < pool->nr_classes; i++) {
		const struct pkv_class *c = &pool->classes[i];

		bytes += c->nr_pages * (u64)sizeof(*c->pages);
		bytes += ((u64)c->bucket_mask + 1) * sizeof(*c->buckets);
		for (tier = 0; tier < PKV_NR_TIERS; tier++)
			bytes += pkv_tier_metadata_bytes(&c->tiers[tier]);
	}
	return bytes;
}
