// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The invariant walk: recounts from the sequences, pages and moves what every
 * counter, list and bitmap claims. For tests, debugfs and pagedkv_check().
 */
#include <linux/bitops.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "internal.h"

struct walk {
	struct pkv_class *c;
	unsigned long *used[PKV_NR_TIERS];	/* slots seen with an owner */
	u32 nr_used[PKV_NR_TIERS];
	u32 *refs, *holds;			/* recounted, a page each */
	u32 nr_moves;				/* of pages of the class */
	const char *why;
};

static bool broken(struct walk *w, const char *why)
{
	if (!w->why)
		w->why = why;
	return false;
}

#define CHECK(cond, why)	do { if (!(cond)) return broken(w, why); } while (0)

static bool own_slot(struct walk *w, u32 tier, u32 slot)
{
	const struct pkv_tier *t = &w->c->tiers[tier];

	CHECK(slot < t->nr_slots, "a slot lies outside its tier");
	CHECK(!pkv_tier_slot_is_free(t, slot), "a slot in use is marked free");
	CHECK(!__test_and_set_bit(slot, w->used[tier]), "a slot has two owners");
	w->nr_used[tier]++;
	return true;
}

static bool count_seqs(struct walk *w)
{
	struct pkv_pool *pool = w->c->pool;
	u32 i, k, alive = 0;

	for (i = 0; i < pool->fresh_seq; i++) {
		const struct pkv_seq *seq = &pool->seqs[i];

		if (seq->state == PKV_SEQ_FREE)
			continue;
		alive++;
		if (seq->class_id != w->c->id)
			continue;
		CHECK(seq->nr_pages == ((u64)seq->len + w->c->page_tokens - 1) >> w->c->page_shift,
		      "a sequence's pages don't fit its length");
		CHECK(seq->nr_pages <= seq->cap, "a block table is longer than its memory");
		for (k = 0; k < seq->nr_pages; k++) {
			u32 id = seq->table[k];

			CHECK(id < w->c->fresh_page, "a block table names no page");
			w->refs[id]++;
			w->holds[id] += pkv_seq_holds(seq);
			CHECK(seq->state != PKV_SEQ_RUNNING ||
			      w->c->pages[id].slot[PKV_DEVICE] != PKV_NONE,
			      "a running sequence has a page without a device slot");
		}
	}
	CHECK(alive == pool->nr_seqs, "the count of sequences is off");
	return true;
}

static bool check_move(struct walk *w, u32 index, u32 leaving[PKV_NR_TIERS])
{
	const struct pkv_move *m = &w->c->pool->moves[index];
	const struct pkv_page *p = &w->c->pages[m->page];

	CHECK(m->page < w->c->fresh_page && (p->flags & PKV_PAGE_LIVE), "a move of no page");
	CHECK(p->move == index, "a page does not know its move");
	if (m->kind == PKV_MOVE_COPY) {
		CHECK(p->slot[PKV_DEVICE] == m->dst_slot, "a copy goes elsewhere than its page");
		CHECK(m->source < w->c->fresh_page, "a copy of no page");
		CHECK(w->c->pages[m->source].slot[PKV_DEVICE] == m->src_slot,
		      "a copy reads elsewhere than its source");
		w->holds[m->source]++;
		return true;
	}
	CHECK(p->slot[m->src_tier] == m->src_slot ||
	      (p->slot[m->src_tier] == PKV_NONE && m->state == PKV_MOVE_FETCHED),
	      "a move reads elsewhere than its page");
	if (m->kind == PKV_MOVE_OUT)
		leaving[m->src_tier]++;
	CHECK(m->follow_slot == PKV_NONE || own_slot(w, PKV_DEVICE, m->follow_slot),
	      "a load that follows has no slot");
	return own_slot(w, m->dst_tier, m->dst_slot);
}

static bool check_moves(struct walk *w)
{
	struct pkv_pool *pool = w->c->pool;
	u32 leaving[PKV_NR_TIERS] = { 0 };
	u32 i, tier, queued = 0, alive = 0, evictions = 0;

	w->nr_moves = 0;
	for (i = 0; i < pool->fresh_move; i++) {
		if (pool->moves[i].state == PKV_MOVE_FREE)
			continue;
		alive++;
		queued += pool->moves[i].state == PKV_MOVE_QUEUED;
		evictions += pool->moves[i].kind == PKV_MOVE_OUT;
		if (pool->moves[i].class_id != w->c->id)
			continue;
		w->nr_moves++;
		if (!check_move(w, i, leaving))
			return false;
	}
	CHECK(alive == pool->nr_moves, "the count of moves is off");
	CHECK(queued == pool->nr_queued, "the count of queued moves is off");
	CHECK(evictions == pool->nr_evictions, "the count of evictions is off");
	for (tier = 0; tier < PKV_NR_TIERS; tier++)
		CHECK(leaving[tier] == w->c->tiers[tier].nr_leaving,
		      "the count of leaving slots is off");
	return true;
}

static bool check_page(struct walk *w, u32 id)
{
	const struct pkv_page *p = &w->c->pages[id];
	u32 tier, fastest = pkv_page_fastest(p);
	bool lower = p->slot[PKV_HOST] != PKV_NONE || p->slot[PKV_DISK] != PKV_NONE;

	CHECK(p->refs == w->refs[id], "a page's references are off");
	CHECK(p->holds == w->holds[id], "a page's holds are off");
	for (tier = 0; tier < PKV_NR_TIERS; tier++)
		if (p->slot[tier] != PKV_NONE && !own_slot(w, tier, p->slot[tier]))
			return false;
	CHECK(p->refs || p->holds || (p->flags & PKV_PAGE_INDEXED) || p->move != PKV_NONE,
	      "a page that nothing needs is alive");
	CHECK(!(p->flags & PKV_PAGE_LOST) == (fastest != PKV_NR_TIERS || p->move != PKV_NONE),
	      "a page without a copy is not lost, or a lost one has a copy");
	CHECK(!(p->flags & PKV_PAGE_LOST) || !(p->flags & PKV_PAGE_INDEXED),
	      "a lost page can be found by its key");
	CHECK(!(p->flags & PKV_PAGE_IDLE) == (p->holds || p->move != PKV_NONE ||
					      (p->flags & PKV_PAGE_LOST)),
	      "a page is idle and held, or neither");
	CHECK(!(p->flags & PKV_PAGE_TWIN) == (!p->holds || p->move != PKV_NONE || !lower ||
					      p->slot[PKV_DEVICE] == PKV_NONE),
	      "the list of pages with spare copies is off");
	return true;
}

static bool check_pages(struct walk *w)
{
	struct pkv_class *c = w->c;
	u32 id, tier, live = 0, cached = 0, indexed = 0, lost = 0, moving = 0;

	for (id = 0; id < c->fresh_page; id++) {
		if (!(c->pages[id].flags & PKV_PAGE_LIVE)) {
			CHECK(!w->refs[id] && !w->holds[id], "a freed page is in use");
			continue;
		}
		if (!check_page(w, id))
			return false;
		live++;
		cached += pkv_page_cached(&c->pages[id]);
		indexed += !!(c->pages[id].flags & PKV_PAGE_INDEXED);
		lost += !!(c->pages[id].flags & PKV_PAGE_LOST);
		moving += c->pages[id].move != PKV_NONE;
	}
	/* Each move's page knows it, so as many pages as moves is one to one. */
	CHECK(moving == w->nr_moves, "a page names a move that is not its own");
	CHECK(live == c->nr_live, "the count of pages is off");
	CHECK(cached == c->nr_cached, "the count of cached pages is off");
	CHECK(indexed == c->nr_indexed, "the count of published pages is off");
	CHECK(lost == c->nr_lost, "the count of lost pages is off");
	for (tier = 0; tier < PKV_NR_TIERS; tier++) {
		CHECK(w->nr_used[tier] == pkv_tier_used(&c->tiers[tier]),
		      "the count of free slots is off");
		CHECK(pkv_tier_is_sane(&c->tiers[tier]), "a bitmap of free slots is off");
	}
	return true;
}

static bool check_list(struct walk *w, const struct pkv_page_list *l, u32 flag, u32 tier, u32 prio)
{
	u32 id = l->head, prev = PKV_NONE, n = 0;
	bool scanned = true;

	while (id != PKV_NONE) {
		const struct pkv_page *p = &w->c->pages[id];

		CHECK(n++ < l->nr, "a list is longer than its count");
		CHECK(p->flags & flag, "a page is on a list that its state does not say");
		CHECK(p->prev == prev, "a list is broken");
		CHECK(flag != PKV_PAGE_IDLE ||
		      (pkv_page_fastest(p) == tier && pkv_page_priority(p) == prio),
		      "a page is on another tier's or priority's list");
		scanned &= id != l->scan;
		CHECK(flag != PKV_PAGE_IDLE || !scanned ||
		      !(pkv_page_cached(p) || pkv_page_has_slower(p, tier)),
		      "a page that can be dropped was passed over");
		prev = id;
		id = p->next;
	}
	CHECK(n == l->nr && l->tail == prev, "a list is shorter than its count");
	CHECK(scanned == (l->scan == PKV_NONE), "a list's scan stands outside of it");
	return true;
}

static bool check_lists(struct walk *w)
{
	u32 tier, prio, idle = 0, id, flagged = 0;

	if (!check_list(w, &w->c->twins, PKV_PAGE_TWIN, 0, 0))
		return false;
	for (tier = 0; tier < PKV_NR_TIERS; tier++) {
		for (prio = 0; prio < PKV_NR_PRIORITIES; prio++) {
			const struct pkv_page_list *l = &w->c->tiers[tier].idle[prio];

			if (!check_list(w, l, PKV_PAGE_IDLE, tier, prio))
				return false;
			idle += l->nr;
		}
	}
	for (id = 0; id < w->c->fresh_page; id++)
		flagged += (w->c->pages[id].flags & (PKV_PAGE_LIVE | PKV_PAGE_IDLE)) ==
			   (PKV_PAGE_LIVE | PKV_PAGE_IDLE);
	CHECK(idle == flagged, "an idle page is on no list");
	return true;
}

static bool check_index(struct walk *w)
{
	u32 bucket, id, n = 0;

	for (bucket = 0; bucket <= w->c->bucket_mask; bucket++) {
		for (id = w->c->buckets[bucket]; id != PKV_NONE; id = w->c->pages[id].hash_next) {
			CHECK(n++ < w->c->nr_indexed, "the index has more pages than published");
			CHECK(w->c->pages[id].flags & PKV_PAGE_INDEXED,
			      "the index has a page that is not published");
			CHECK(((u32)w->c->pages[id].key.lo & w->c->bucket_mask) == bucket,
			      "a page is in another key's bucket");
		}
	}
	CHECK(n == w->c->nr_indexed, "a published page is not in the index");
	return true;
}

static void walk_exit(struct walk *w)
{
	u32 tier;

	for (tier = 0; tier < PKV_NR_TIERS; tier++)
		kvfree(w->used[tier]);
	kvfree(w->refs);
	kvfree(w->holds);
}

static int walk_init(struct walk *w, struct pkv_class *c)
{
	u32 tier;

	memset(w, 0, sizeof(*w));
	w->c = c;
	for (tier = 0; tier < PKV_NR_TIERS; tier++) {
		w->used[tier] = kvcalloc(BITS_TO_LONGS(c->tiers[tier].nr_slots) + 1, sizeof(long),
					 PKV_GFP);
		if (!w->used[tier])
			return -ENOMEM;
	}
	w->refs = kvcalloc(c->nr_pages, sizeof(u32), PKV_GFP);
	w->holds = kvcalloc(c->nr_pages, sizeof(u32), PKV_GFP);
	return w->refs && w->holds ? 0 : -ENOMEM;
}

int pkv_pool_check(struct pkv_pool *pool, const char **why)
{
	struct walk w;
	int rc = 0;
	u32 i;

	lockdep_assert_held(pool->lock);
	for (i = 0; i < pool->nr_classes && !rc; i++) {
		rc = walk_init(&w, &pool->classes[i]);
		if (!rc && !(count_seqs(&w) && check_moves(&w) && check_pages(&w) &&
			     check_lists(&w) && check_index(&w))) {
			*why = w.why;
			rc = -EUCLEAN;
		}
		walk_exit(&w);
	}
	return rc;
}
