// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Sequences: handles, and the states between which they go.
 *
 *   RUNNING --cold--> COLD --load--> LOADING --last page arrives--> RUNNING
 *   any of them --a page is lost--> BROKEN --truncate to before it--> COLD
 *
 * RUNNING and LOADING hold every page of the sequence; the others hold none.
 */
#include <linux/slab.h>
#include <linux/string.h>

#include "internal.h"

/* ---------------------------------------------------------------- handles */

struct pkv_seq *pkv_seq_find(struct pkv_pool *pool, u64 handle)
{
	u32 index = (u32)handle;
	struct pkv_seq *seq;

	if (index >= pool->fresh_seq)
		return NULL;
	seq = &pool->seqs[index];
	if (seq->state == PKV_SEQ_FREE || seq->gen != (u32)(handle >> 32))
		return NULL;
	return seq;
}

static int grow(struct pkv_pool *pool)
{
	u32 cap = min(max(64U, 2 * pool->cap_seqs), pool->max_seqs);
	struct pkv_seq *seqs = kvcalloc(cap, sizeof(*seqs), PKV_GFP);

	if (!seqs)
		return -ENOMEM;
	if (pool->fresh_seq)
		memcpy(seqs, pool->seqs, pool->fresh_seq * sizeof(*seqs));
	kvfree(pool->seqs);
	pool->seqs = seqs;
	pool->cap_seqs = cap;
	return 0;
}

/* An empty RUNNING sequence, or NULL. Pointers to other sequences may be stale after it. */
struct pkv_seq *pkv_seq_alloc(struct pkv_pool *pool)
{
	u32 index = pool->free_seq;
	struct pkv_seq *seq;
	u32 gen = 1;

	if (index != PKV_NONE) {
		pool->free_seq = pool->seqs[index].next;
		gen = pool->seqs[index].gen;
	} else {
		if (pool->fresh_seq == pool->cap_seqs && grow(pool))
			return NULL;
		index = pool->fresh_seq++;
	}
	seq = &pool->seqs[index];
	memset(seq, 0, sizeof(*seq));
	seq->gen = gen;
	seq->state = PKV_SEQ_RUNNING;
	seq->prev = PKV_NONE;
	seq->next = PKV_NONE;
	pool->nr_seqs++;
	return seq;
}

static void loading_add(struct pkv_pool *pool, struct pkv_seq *seq)
{
	u32 index = pkv_seq_index(pool, seq);

	seq->state = PKV_SEQ_LOADING;
	seq->cursor = 0;
	seq->next = PKV_NONE;
	seq->prev = pool->loading_tail;
	if (seq->prev == PKV_NONE)
		pool->loading_head = index;
	else
		pool->seqs[seq->prev].next = index;
	pool->loading_tail = index;
}

/* A loading sequence stops loading; the caller gives it its next state. */
static void loading_del(struct pkv_pool *pool, struct pkv_seq *seq)
{
	if (seq->prev == PKV_NONE)
		pool->loading_head = seq->next;
	else
		pool->seqs[seq->prev].next = seq->next;
	if (seq->next == PKV_NONE)
		pool->loading_tail = seq->prev;
	else
		pool->seqs[seq->next].prev = seq->prev;
	seq->prev = PKV_NONE;
	seq->next = PKV_NONE;
}

/* How often a sequence holds each of its pages. */
u32 pkv_seq_holds(const struct pkv_seq *seq)
{
	u32 holds = seq->flags & PKV_SEQ_PINNED ? 1 : 0;

	if (seq->state == PKV_SEQ_RUNNING || seq->state == PKV_SEQ_LOADING)
		holds++;
	return holds;
}

void pkv_seq_free(struct pkv_pool *pool, struct pkv_seq *seq)
{
	pkv_table_cut(&pool->classes[seq->class_id], seq, 0);
	if (seq->state == PKV_SEQ_LOADING)
		loading_del(pool, seq);
	kvfree(seq->table);
	seq->table = NULL;
	seq->state = PKV_SEQ_FREE;
	seq->gen++;
	seq->next = pool->free_seq;
	pool->free_seq = pkv_seq_index(pool, seq);
	pool->nr_seqs--;
}

void pkv_seqs_free_owner(struct pkv_pool *pool, u64 owner)
{
	u32 i;

	lockdep_assert_held(pool->lock);
	for (i = 0; i < pool->fresh_seq; i++)
		if (pool->seqs[i].state != PKV_SEQ_FREE && pool->seqs[i].owner == owner)
			pkv_seq_free(pool, &pool->seqs[i]);
	pkv_moves_drop_owner(pool, owner);
	pkv_seqs_advance(pool);
}

/* ----------------------------------------------------------------- states */

/* Give up the running hold, last page first: the end of a prefix is evicted first. */
static void unhold_all(struct pkv_pool *pool, struct pkv_seq *seq)
{
	struct pkv_class *c = &pool->classes[seq->class_id];
	u32 i = seq->nr_pages;

	if (seq->state == PKV_SEQ_LOADING)
		loading_del(pool, seq);
	seq->flags &= ~PKV_SEQ_TAIL_OWNED;
	while (i--)
		pkv_page_unhold(c, seq->table[i]);
}

static void break_at(struct pkv_pool *pool, struct pkv_seq *seq, u32 lost)
{
	if (seq->state == PKV_SEQ_RUNNING || seq->state == PKV_SEQ_LOADING)
		unhold_all(pool, seq);
	seq->state = PKV_SEQ_BROKEN;
	seq->cursor = lost;
}

/*
 * A page that sequences run on is lost: only a failed copy-on-write can do
 * that, so a walk over all sequences is good enough.
 */
void pkv_seqs_break(struct pkv_class *c, u32 page)
{
	struct pkv_pool *pool = c->pool;
	u32 i, k;

	for (i = 0; i < pool->fresh_seq; i++) {
		struct pkv_seq *seq = &pool->seqs[i];

		if (seq->class_id != c->id || (seq->state != PKV_SEQ_RUNNING &&
					       seq->state != PKV_SEQ_LOADING))
			continue;
		for (k = 0; k < seq->nr_pages; k++)
			if (seq->table[k] == page)
				break;
		if (k < seq->nr_pages)
			break_at(pool, seq, k);
	}
}

/* Pages have arrived, or are lost: see how far the loading sequences are. */
void pkv_seqs_advance(struct pkv_pool *pool)
{
	u32 index = pool->loading_head;

	while (index != PKV_NONE) {
		struct pkv_seq *seq = &pool->seqs[index];
		struct pkv_class *c = &pool->classes[seq->class_id];
		struct pkv_page *p = NULL;

		index = seq->next;
		for (; seq->cursor < seq->nr_pages; seq->cursor++) {
			p = &c->pages[seq->table[seq->cursor]];
			if (p->slot[PKV_DEVICE] == PKV_NONE)
				break;
		}
		if (seq->cursor == seq->nr_pages) {
			loading_del(pool, seq);
			seq->state = PKV_SEQ_RUNNING;
		} else if (p->flags & PKV_PAGE_LOST) {
			break_at(pool, seq, seq->cursor);
			/* That let go of pages; others may have come to their end. */
			index = pool->loading_head;
		}
	}
}

/* Is a held page without a device copy on its way there? */
static bool is_coming(const struct pkv_pool *pool, const struct pkv_page *p)
{
	const struct pkv_move *m;

	if (p->move == PKV_NONE)
		return false;
	m = &pool->moves[p->move];
	return m->kind == PKV_MOVE_IN || m->follow_slot != PKV_NONE;
}

/*
 * Begin the loads of held pages that are not on the device.
 * 0: all are there; 1: loads are under way; -EAGAIN, -ENOSPC, -ENOMEM.
 */
static int begin_loads(struct pkv_class *c, const u32 *table, u32 nr)
{
	struct pkv_pool *pool = c->pool;
	u32 absent = 0, missing = 0;
	int rc;
	u32 i;

	for (i = 0; i < nr; i++) {
		const struct pkv_page *p = &c->pages[table[i]];

		if (p->slot[PKV_DEVICE] != PKV_NONE)
			continue;
		absent++;
		if (!is_coming(pool, p))
			missing++;
	}
	if (!missing)
		return absent ? 1 : 0;
	rc = pkv_make_room(c, missing);
	if (!rc)
		rc = pkv_moves_reserve(pool, missing);
	if (rc)
		return rc;
	for (i = 0; i < nr; i++) {
		const struct pkv_page *p = &c->pages[table[i]];

		if (p->slot[PKV_DEVICE] == PKV_NONE && !is_coming(pool, p))
			pkv_move_begin_in(c, table[i]);
	}
	return 1;
}

int pkv_seq_load(struct pkv_pool *pool, u64 handle)
{
	struct pkv_class *c;
	struct pkv_seq *seq;
	int rc;
	u32 i;

	lockdep_assert_held(pool->lock);
	seq = pkv_seq_find(pool, handle);
	if (!seq)
		return -ESTALE;
	if (seq->state == PKV_SEQ_RUNNING || seq->state == PKV_SEQ_LOADING)
		return seq->state == PKV_SEQ_LOADING;
	if (seq->state == PKV_SEQ_BROKEN)
		return -EIO;
	c = &pool->classes[seq->class_id];
	for (i = 0; i < seq->nr_pages; i++) {
		if (c->pages[seq->table[i]].flags & PKV_PAGE_LOST) {
			break_at(pool, seq, i);
			return -EIO;
		}
	}
	for (i = 0; i < seq->nr_pages; i++)
		pkv_page_hold(c, seq->table[i]);
	rc = begin_loads(c, seq->table, seq->nr_pages);
	if (rc < 0) {
		while (i--)
			pkv_page_unhold(c, seq->table[i]);
	} else if (rc) {
		loading_add(pool, seq);
	} else {
		seq->state = PKV_SEQ_RUNNING;
	}
	pkv_reclaim_below_low(pool);
	return rc;
}

int pkv_seq_cold(struct pkv_pool *pool, u64 handle)
{
	struct pkv_seq *seq;

	lockdep_assert_held(pool->lock);
	seq = pkv_seq_find(pool, handle);
	if (!seq)
		return -ESTALE;
	if (seq->state == PKV_SEQ_BROKEN)
		return -EIO;
	if (seq->state == PKV_SEQ_COLD)
		return 0;
	unhold_all(pool, seq);
	seq->state = PKV_SEQ_COLD;
	pkv_reclaim_below_low(pool);
	return 0;
}

int pkv_seq_pin(struct pkv_pool *pool, u64 handle, bool pin)
{
	struct pkv_class *c;
	struct pkv_seq *seq;
	u32 i;

	lockdep_assert_held(pool->lock);
	seq = pkv_seq_find(pool, handle);
	if (!seq)
		return -ESTALE;
	if (pin == !!(seq->flags & PKV_SEQ_PINNED))
		return 0;
	if (pin && seq->state != PKV_SEQ_RUNNING)
		return -EBUSY;
	c = &pool->classes[seq->class_id];
	seq->flags ^= PKV_SEQ_PINNED;
	for (i = 0; i < seq->nr_pages; i++) {
		if (pin)
			pkv_page_hold(c, seq->table[i]);
		else
			pkv_page_unhold(c, seq->table[i]);
	}
	return 0;
}

int pkv_seq_set_priority(struct pkv_pool *pool, u64 handle, u32 priority)
{
	struct pkv_class *c;
	struct pkv_seq *seq;
	u32 i;

	lockdep_assert_held(pool->lock);
	if (priority >= PKV_NR_PRIORITIES)
		return -EINVAL;
	seq = pkv_seq_find(pool, handle);
	if (!seq)
		return -ESTALE;
	c = &pool->classes[seq->class_id];
	seq->priority = priority;
	for (i = 0; i < seq->nr_pages; i++) {
		struct pkv_page *p = &c->pages[seq->table[i]];

		if (p->refs != 1)
			continue;
		pkv_page_unlist(c, seq->table[i]);
		p->flags &= ~PKV_PAGE_PRIO_MASK;
		p->flags |= priority << PKV_PAGE_PRIO_SHIFT;
		pkv_page_settle(c, seq->table[i]);
	}
	return 0;
}

/* ----------------------------------------------------------------- create */

/* Refer to cached pages and hold them: the beginning of a new sequence. */
static void share(struct pkv_class *c, const u32 *table, u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		struct pkv_page *p = &c->pages[table[i]];

		if (!p->refs++)
			c->nr_cached--;
		pkv_page_hold(c, table[i]);
	}
}

static int start_with_prefix(struct pkv_pool *pool, struct pkv_seq *seq,
			     const struct pkv_key *keys, u32 nr_keys)
{
	struct pkv_class *c = &pool->classes[seq->class_id];
	u32 found;
	int rc;

	if (!nr_keys)
		return 0;
	/* Room for the whole prompt and some answer: it is about to be appended. */
	rc = pkv_table_reserve(seq, nr_keys + nr_keys / 4 + 2);
	if (rc)
		return rc;
	found = pkv_index_find(c, keys, nr_keys, seq->table);
	share(c, seq->table, found);
	seq->nr_pages = found;
	seq->len = found << c->page_shift;
	rc = begin_loads(c, seq->table, found);
	if (rc < 0)
		return rc;
	if (rc)
		loading_add(pool, seq);
	pool->counters.lookups += nr_keys;
	pool->counters.hits += found;
	return 0;
}

int pkv_seq_create(struct pkv_pool *pool, u32 class_id, const struct pkv_key *keys,
		   u32 nr_keys, u32 priority, u64 owner, u64 *out, u32 *nr_hits)
{
	struct pkv_seq *seq;
	int rc;

	lockdep_assert_held(pool->lock);
	if (class_id >= pool->nr_classes || priority >= PKV_NR_PRIORITIES ||
	    nr_keys > PKV_MAX_SEQ_TOKENS >> pool->classes[class_id].page_shift)
		return -EINVAL;
	if (pool->nr_seqs >= pool->max_seqs)
		return -EDQUOT;
	seq = pkv_seq_alloc(pool);
	if (!seq)
		return -ENOMEM;
	seq->class_id = class_id;
	seq->priority = priority;
	seq->owner = owner;
	rc = start_with_prefix(pool, seq, keys, nr_keys);
	if (rc) {
		pkv_seq_free(pool, seq);
		return rc;
	}
	*out = pkv_seq_handle(pool, seq);
	*nr_hits = seq->nr_pages;
	return 0;
}

/* ---------------------------------------------------------------- inspect */

int pkv_seq_state(struct pkv_pool *pool, u64 handle)
{
	struct pkv_seq *seq;

	lockdep_assert_held(pool->lock);
	seq = pkv_seq_find(pool, handle);
	return seq ? seq->state : -ESTALE;
}

int pkv_seq_info(struct pkv_pool *pool, u64 handle, struct pkv_seq_info *info)
{
	struct pkv_class *c;
	struct pkv_seq *seq;
	u32 i;

	lockdep_assert_held(pool->lock);
	seq = pkv_seq_find(pool, handle);
	if (!seq)
		return -ESTALE;
	c = &pool->classes[seq->class_id];
	memset(info, 0, sizeof(*info));
	info->state = seq->state;
	info->class_id = seq->class_id;
	info->len_tokens = seq->len;
	info->nr_pages = seq->nr_pages;
	info->priority = seq->priority;
	if (seq->state == PKV_SEQ_BROKEN)
		info->lost_tokens = seq->cursor << c->page_shift;
	for (i = 0; i < seq->nr_pages; i++) {
		const struct pkv_page *p = &c->pages[seq->table[i]];

		info->nr_shared += p->refs > 1;
		info->nr_missing += p->slot[PKV_DEVICE] == PKV_NONE;
	}
	return 0;
}

int pkv_seq_table(struct pkv_pool *pool, u64 handle, u32 first, u32 *slots, u32 nr)
{
	struct pkv_class *c;
	struct pkv_seq *seq;
	u32 i;

	lockdep_assert_held(pool->lock);
	seq = pkv_seq_find(pool, handle);
	if (!seq)
		return -ESTALE;
	if (seq->state != PKV_SEQ_RUNNING)
		return -EBUSY;
	if (first >= seq->nr_pages)
		return 0;
	nr = min(nr, seq->nr_pages - first);
	c = &pool->classes[seq->class_id];
	for (i = 0; i < nr; i++)
		slots[i] = c->pages[seq->table[first + i]].slot[PKV_DEVICE];
	return (int)nr;
}
