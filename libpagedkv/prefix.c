// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Naming pages: publish what is computed, adopt what a disk image kept. */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

/* One sequence of a batch: its chain as it was, then its digest goes on. */
struct publish_work {
	struct pkv_chain chain;
	struct pkv_digest h;
	uint32_t item;
};

struct publish_batch {
	struct publish_work *work;
	struct pkv_publication *pubs;	/* beside @work */
	struct pkv_prefix_key *keys;
	uint32_t nr;			/* of @work */
	uint64_t nr_keys;
};

/* Enter @item into the batch: which of its pages are not hashed yet? */
static int plan_item(const struct pagedkv_pool *pool, struct pkv_chains *chains,
		     struct publish_batch *b, const struct pagedkv_publish *item, uint32_t index)
{
	struct publish_work *w = &b->work[b->nr];
	struct pkv_publication *pub = &b->pubs[b->nr];
	uint32_t pages;
	int ret;

	ret = pkv_chain_get(chains, item->seq, &w->chain);
	if (ret)
		return ret;
	pages = item->nr_tokens / pool->page_tokens[w->chain.class_id];
	if ((item->nr_tokens && !item->tokens) || pages > pool->max_pages[w->chain.class_id])
		return -EINVAL;
	w->item = index;
	w->h = w->chain.nr_pages ? w->chain.h : pool->root[w->chain.class_id];
	pub->seq = item->seq;
	pub->first = pages;
	if (!w->chain.mute && pages > w->chain.nr_pages) {
		pub->first = w->chain.nr_pages;
		pub->nr_keys = pages - w->chain.nr_pages;
	}
	b->nr_keys += pub->nr_keys;
	b->nr++;
	return 0;
}

/* Hash what is new of every sequence; needs no lock. */
static int hash_batch(const struct pagedkv_pool *pool, struct publish_batch *b,
		      const struct pagedkv_publish *items)
{
	struct pkv_prefix_key *keys;
	size_t bytes;

	if (__builtin_mul_overflow(b->nr_keys ? b->nr_keys : 1, sizeof(*keys), &bytes))
		return -EOVERFLOW;
	b->keys = malloc(bytes);
	if (!b->keys)
		return -ENOMEM;
	keys = b->keys;
	for (uint32_t i = 0; i < b->nr; i++) {
		struct publish_work *w = &b->work[i];
		uint32_t page_tokens = pool->page_tokens[w->chain.class_id];
		struct pkv_publication *pub = &b->pubs[i];

		pub->keys = keys;
		if (!pub->nr_keys)
			continue;
		pkv_hash_pages(&w->h, items[w->item].tokens + (size_t)pub->first * page_tokens,
			       page_tokens, pub->nr_keys, keys, NULL);
		keys += pub->nr_keys;
	}
	return 0;
}

/* Tell each item its result; the first error is the batch's. */
static int finish_batch(struct pkv_chains *chains, const struct publish_batch *b,
			struct pagedkv_publish *items, uint32_t nr)
{
	for (uint32_t i = 0; i < b->nr; i++) {
		const struct pkv_publication *pub = &b->pubs[i];

		items[b->work[i].item].result = pub->result;
		if (pub->result >= 0 && pub->nr_keys)
			pkv_chain_grow(chains, &b->work[i].chain, pub->nr_keys, &b->work[i].h);
	}
	for (uint32_t i = 0; i < nr; i++)
		if (items[i].result < 0)
			return items[i].result;
	return 0;
}

int pagedkv_publish(struct pagedkv_pool *pool, struct pagedkv_publish *items, uint32_t nr)
{
	struct publish_batch b = { 0 };
	int ret;

	if (!pool || (nr && !items))
		return -EINVAL;
	if (!nr)
		return 0;
	ret = -ENOMEM;
	b.work = calloc(nr, sizeof(*b.work));
	b.pubs = calloc(nr, sizeof(*b.pubs));
	if (!b.work || !b.pubs)
		goto out;
	for (uint32_t i = 0; i < nr; i++)
		items[i].result = plan_item(pool, &pool->chains, &b, &items[i], i);
	ret = hash_batch(pool, &b, items);
	if (ret)
		goto out;
	if (b.nr)
		pool->backend->publish(pool->priv, b.pubs, b.nr);
	ret = finish_batch(&pool->chains, &b, items, nr);
out:
	free(b.keys);
	free(b.pubs);
	free(b.work);
	return ret;
}

int pagedkv_adopt(struct pagedkv_pool *pool, uint32_t class_id, uint32_t tier, uint32_t slot,
		  const uint64_t key[2])
{
	struct pkv_prefix_key k;

	if (!pool || class_id >= pool->nr_classes || tier >= PAGEDKV_NR_TIERS || !key)
		return -EINVAL;
	k.word[0] = key[0];
	k.word[1] = key[1];
	return pool->backend->adopt(pool->priv, class_id, tier, slot, &k);
}
