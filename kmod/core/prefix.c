// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The prefix index: from a key, the 128-bit name of a page's whole history, to
 * the page. Buckets are chained through the pages, at most one page a bucket
 * on average. Keys are hashes already, so their low bits choose the bucket.
 *
 * A lookup in a pool of millions is two cache misses, bucket and page. Keys of
 * a prompt come together, so the misses of several overlap: three stages run
 * at a distance of AHEAD keys.
 */
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "internal.h"

#define AHEAD	8U

int pkv_index_init(struct pkv_class *c)
{
	u32 nr = (u32)rounddown_pow_of_two(c->nr_pages);

	c->buckets = kvmalloc_array(nr, sizeof(*c->buckets), PKV_GFP);
	if (!c->buckets)
		return -ENOMEM;
	memset(c->buckets, 0xff, nr * sizeof(*c->buckets));
	c->bucket_mask = nr - 1;
	return 0;
}

static u32 *bucket_of(struct pkv_class *c, const struct pkv_key *key)
{
	return &c->buckets[(u32)key->lo & c->bucket_mask];
}

static bool key_equal(const struct pkv_key *a, const struct pkv_key *b)
{
	return a->lo == b->lo && a->hi == b->hi;
}

static u32 find_one(struct pkv_class *c, const struct pkv_key *key)
{
	u32 id = *bucket_of(c, key);

	while (id != PKV_NONE && !key_equal(&c->pages[id].key, key))
		id = c->pages[id].hash_next;
	return id;
}

static void prefetch_page(struct pkv_class *c, const struct pkv_key *key)
{
	u32 id = *bucket_of(c, key);

	if (id != PKV_NONE) {
		prefetchw(&c->pages[id]);
		prefetchw(&c->pages[id].next);
	}
}

/* The leading keys that are known; their pages into @pages unless it is NULL. */
u32 pkv_index_find(struct pkv_class *c, const struct pkv_key *keys, u32 nr, u32 *pages)
{
	u32 i, id;

	for (i = 0; i < min(nr, 2 * AHEAD); i++)
		prefetch(bucket_of(c, &keys[i]));
	for (i = 0; i < min(nr, AHEAD); i++)
		prefetch_page(c, &keys[i]);
	for (i = 0; i < nr; i++) {
		if (i + 2 * AHEAD < nr)
			prefetch(bucket_of(c, &keys[i + 2 * AHEAD]));
		if (i + AHEAD < nr)
			prefetch_page(c, &keys[i + AHEAD]);
		id = find_one(c, &keys[i]);
		if (id == PKV_NONE)
			break;
		if (pages)
			pages[i] = id;
	}
	return i;
}

static void insert(struct pkv_class *c, u32 id, const struct pkv_key *key)
{
	struct pkv_page *p = &c->pages[id];
	u32 *bucket = bucket_of(c, key);

	p->key = *key;
	p->hash_next = *bucket;
	*bucket = id;
	p->flags |= PKV_PAGE_INDEXED;
	c->nr_indexed++;
}

/* Forget a page's key. An idle page that nobody refers to is freed by settling it. */
void pkv_index_remove(struct pkv_class *c, u32 id)
{
	struct pkv_page *p = &c->pages[id];
	u32 *link = bucket_of(c, &p->key);

	while (*link != id)
		link = &c->pages[*link].hash_next;
	*link = p->hash_next;
	if (!p->refs)
		c->nr_cached--;
	p->flags &= ~PKV_PAGE_INDEXED;
	c->nr_indexed--;
}

u32 pkv_prefix_match(struct pkv_pool *pool, u32 class_id, const struct pkv_key *keys,
		     u32 nr_keys, u32 per_tier[PKV_NR_TIERS])
{
	struct pkv_class *c;
	u32 found, tier, i, id;

	lockdep_assert_held(pool->lock);
	if (per_tier)
		memset(per_tier, 0, PKV_NR_TIERS * sizeof(*per_tier));
	if (class_id >= pool->nr_classes)
		return 0;
	c = &pool->classes[class_id];
	found = pkv_index_find(c, keys, nr_keys, NULL);
	for (i = 0; per_tier && i < found; i++) {
		id = find_one(c, &keys[i]);
		tier = pkv_page_fastest(&c->pages[id]);
		if (tier < PKV_NR_TIERS)
			per_tier[tier]++;
	}
	return found;
}

int pkv_prefix_publish(struct pkv_pool *pool, u64 handle, u32 first,
		       const struct pkv_key *keys, u32 nr_keys)
{
	struct pkv_class *c;
	struct pkv_seq *seq;
	u32 i, id;
	int published = 0;

	lockdep_assert_held(pool->lock);
	seq = pkv_seq_find(pool, handle);
	if (!seq)
		return -ESTALE;
	c = &pool->classes[seq->class_id];
	if ((u64)first + nr_keys > seq->len >> c->page_shift)
		return -EINVAL;
	for (i = 0; i < nr_keys; i++) {
		id = seq->table[first + i];
		if (c->pages[id].flags & (PKV_PAGE_INDEXED | PKV_PAGE_LOST))
			continue;
		if (find_one(c, &keys[i]) != PKV_NONE)
			continue;
		insert(c, id, &keys[i]);
		published++;
	}
	return published;
}

int pkv_seq_forget(struct pkv_pool *pool, u64 handle)
{
	struct pkv_class *c;
	struct pkv_seq *seq;
	u32 i, id;

	lockdep_assert_held(pool->lock);
	seq = pkv_seq_find(pool, handle);
	if (!seq)
		return -ESTALE;
	c = &pool->classes[seq->class_id];
	for (i = 0; i < seq->nr_pages; i++) {
		id = seq->table[i];
		if (c->pages[id].refs == 1 && (c->pages[id].flags & PKV_PAGE_INDEXED))
			pkv_index_remove(c, id);
	}
	return 0;
}

int pkv_prefix_adopt(struct pkv_pool *pool, u32 class_id, u32 tier, u32 slot,
		     const struct pkv_key *key)
{
	struct pkv_class *c;
	u32 id;
	int rc;

	lockdep_assert_held(pool->lock);
	if (class_id >= pool->nr_classes || tier == PKV_DEVICE || tier >= PKV_NR_TIERS)
		return -EINVAL;
	c = &pool->classes[class_id];
	if (slot >= c->tiers[tier].nr_slots)
		return -EINVAL;
	if (find_one(c, key) != PKV_NONE)
		return -EEXIST;
	rc = pkv_tier_take(&c->tiers[tier], slot);
	if (rc)
		return rc;
	id = pkv_page_alloc(c, 0);
	if (id == PKV_NONE) {
		pkv_tier_free(&c->tiers[tier], slot);
		return -ENOSPC;
	}
	c->pages[id].slot[tier] = slot;
	insert(c, id, key);
	c->nr_cached++;
	pkv_page_settle(c, id);
	return 0;
}
