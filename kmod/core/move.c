// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Moves: copies in flight between slots, and the decision which pages make
 * room. This file alone adds and gives up copies of a page because of a move.
 *
 * Life of a move: begin_*() reserves the destination slot and, except for
 * copy-on-write, queues it; pkv_moves_fetch() hands it to an executor;
 * pkv_move_commit() ends it. A queued move that nobody wants any more is
 * cancelled; a fetched one runs to its commit, which then decides what the
 * copy is still good for. A page has at most one move.
 *
 * The source keeps its copy until the commit, so an executor may die at any
 * point: pkv_moves_requeue() plans its moves anew.
 */
#include <linux/slab.h>
#include <linux/string.h>

#include "internal.h"

/* How many pages a look for a spare copy may pass over. */
#define SCAN	64

/* ------------------------------------------------------------ descriptors */

/* Make sure that @nr more moves can begin. */
int pkv_moves_reserve(struct pkv_pool *pool, u32 nr)
{
	u32 cap = pool->cap_moves;
	struct pkv_move *moves;

	if (cap - pool->nr_moves >= nr)
		return 0;
	if (nr > PKV_MAX_SLOTS)
		return -EOVERFLOW;
	cap = max3(64U, 2 * cap, pool->nr_moves + nr);
	moves = kvcalloc(cap, sizeof(*moves), PKV_GFP);
	if (!moves)
		return -ENOMEM;
	if (pool->fresh_move)
		memcpy(moves, pool->moves, pool->fresh_move * sizeof(*moves));
	kvfree(pool->moves);
	pool->moves = moves;
	pool->cap_moves = cap;
	return 0;
}

static struct pkv_move *move_alloc(struct pkv_class *c, u32 kind, u32 page)
{
	struct pkv_pool *pool = c->pool;
	struct pkv_move *m;
	u32 index = pool->free_move;

	if (index != PKV_NONE) {
		pool->free_move = pool->moves[index].next;
	} else {
		index = pool->fresh_move++;
		pool->moves[index].gen = 1;
	}
	m = &pool->moves[index];
	m->page = page;
	m->source = PKV_NONE;
	m->follow_slot = PKV_NONE;
	m->kind = kind;
	m->class_id = c->id;
	m->dirty = 0;
	m->prev = PKV_NONE;
	m->next = PKV_NONE;
	c->pages[page].move = index;
	pool->nr_moves++;
	return m;
}

static void move_free(struct pkv_class *c, struct pkv_move *m)
{
	struct pkv_pool *pool = c->pool;

	c->pages[m->page].move = PKV_NONE;
	m->state = PKV_MOVE_FREE;
	m->gen++;
	m->next = pool->free_move;
	pool->free_move = (u32)(m - pool->moves);
	pool->nr_moves--;
}

static void enqueue(struct pkv_pool *pool, struct pkv_move *m)
{
	u32 index = (u32)(m - pool->moves);

	m->state = PKV_MOVE_QUEUED;
	m->next = PKV_NONE;
	m->prev = pool->queue_tail;
	if (m->prev == PKV_NONE)
		pool->queue_head = index;
	else
		pool->moves[m->prev].next = index;
	pool->queue_tail = index;
	pool->nr_queued++;
}

static void dequeue(struct pkv_pool *pool, struct pkv_move *m)
{
	if (m->prev == PKV_NONE)
		pool->queue_head = m->next;
	else
		pool->moves[m->prev].next = m->next;
	if (m->next == PKV_NONE)
		pool->queue_tail = m->prev;
	else
		pool->moves[m->next].prev = m->prev;
	pool->nr_queued--;
}

/* ------------------------------------------------------------------ begin */

/* Needs a reserved move and a free slot in @dst_tier; takes @id off its list. */
static void begin_out(struct pkv_class *c, u32 id, u32 dst_tier)
{
	struct pkv_page *p = &c->pages[id];
	struct pkv_move *m;

	pkv_page_unlist(c, id);
	m = move_alloc(c, PKV_MOVE_OUT, id);
	m->src_tier = pkv_page_fastest(p);
	m->src_slot = p->slot[m->src_tier];
	m->dst_tier = dst_tier;
	m->dst_slot = pkv_tier_alloc(&c->tiers[dst_tier]);
	c->tiers[m->src_tier].nr_leaving++;
	c->pool->nr_evictions++;
	enqueue(c->pool, m);
}

static void begin_in_to(struct pkv_class *c, u32 id, u32 dst_slot)
{
	struct pkv_page *p = &c->pages[id];
	struct pkv_move *m = move_alloc(c, PKV_MOVE_IN, id);

	m->src_tier = pkv_page_fastest(p);
	m->src_slot = p->slot[m->src_tier];
	m->dst_tier = PKV_DEVICE;
	m->dst_slot = dst_slot;
	enqueue(c->pool, m);
}

/*
 * Bring a held page to the device; needs a reserved move and a free device
 * slot. While the page is on its way between lower tiers, the load follows.
 */
void pkv_move_begin_in(struct pkv_class *c, u32 id)
{
	struct pkv_page *p = &c->pages[id];
	u32 slot = pkv_tier_alloc(&c->tiers[PKV_DEVICE]);

	if (p->move == PKV_NONE) {
		pkv_page_unlist(c, id);
		begin_in_to(c, id, slot);
	} else {
		c->pool->moves[p->move].follow_slot = slot;
	}
}

/*
 * Copy-on-write: page @id, which has its device slot, gets the content of
 * @source. Takes over one hold on @source. Needs a reserved move.
 */
u32 pkv_move_begin_copy(struct pkv_class *c, u32 source, u32 id, u64 owner)
{
	struct pkv_move *m = move_alloc(c, PKV_MOVE_COPY, id);

	m->source = source;
	m->owner = owner;
	m->src_tier = PKV_DEVICE;
	m->src_slot = c->pages[source].slot[PKV_DEVICE];
	m->dst_tier = PKV_DEVICE;
	m->dst_slot = c->pages[id].slot[PKV_DEVICE];
	m->state = PKV_MOVE_FETCHED;
	c->pool->counters.copies++;
	return c->pages[id].move;
}

/* -------------------------------------------------------------------- end */

static bool is_dead(const struct pkv_page *p)
{
	return !p->refs && !p->holds && !(p->flags & PKV_PAGE_INDEXED);
}

/* An unlisted page without a move: has it lost its last copy? */
static void note_loss(struct pkv_class *c, u32 id)
{
	struct pkv_page *p = &c->pages[id];

	if (is_dead(p) || (p->flags & PKV_PAGE_LOST) || pkv_page_fastest(p) != PKV_NR_TIERS)
		return;
	if (p->flags & PKV_PAGE_INDEXED)
		pkv_index_remove(c, id);
	p->flags |= PKV_PAGE_LOST;
	c->nr_lost++;
	c->pool->counters.losses++;
}

/* The load that was to follow a move begins, or its slot is given back. */
static void follow(struct pkv_class *c, u32 id, u32 slot)
{
	struct pkv_page *p = &c->pages[id];

	if (slot == PKV_NONE)
		return;
	if (p->holds && p->slot[PKV_DEVICE] == PKV_NONE && !(p->flags & PKV_PAGE_LOST))
		begin_in_to(c, id, slot);
	else
		pkv_tier_free(&c->tiers[PKV_DEVICE], slot);
}

static void end_out(struct pkv_class *c, struct pkv_move *m, bool ok, bool source_bad)
{
	struct pkv_move old = *m;
	struct pkv_page *p = &c->pages[old.page];
	struct pkv_tier *dst = &c->tiers[old.dst_tier];

	move_free(c, m);
	c->tiers[old.src_tier].nr_leaving--;
	c->pool->nr_evictions--;
	if (ok && !old.dirty && dst->state != PKV_TIER_OFFLINE && !is_dead(p)) {
		p->slot[old.dst_tier] = old.dst_slot;
		if (!p->holds)
			pkv_page_drop_copy(c, old.page, old.src_tier);
		c->pool->counters.moves[old.src_tier][old.dst_tier]++;
	} else {
		pkv_tier_free(dst, old.dst_slot);
	}
	/* A held page stays on the device: sequences and copies read it there. */
	if (source_bad && (old.src_tier != PKV_DEVICE || !p->holds))
		pkv_page_drop_copy(c, old.page, old.src_tier);
	note_loss(c, old.page);
	follow(c, old.page, old.follow_slot);
	pkv_page_settle(c, old.page);
}

static void end_in(struct pkv_class *c, struct pkv_move *m, bool ok)
{
	struct pkv_move old = *m;
	struct pkv_page *p = &c->pages[old.page];

	move_free(c, m);
	if (ok && !old.dirty && !is_dead(p)) {
		p->slot[PKV_DEVICE] = old.dst_slot;
		c->pool->counters.moves[old.src_tier][PKV_DEVICE]++;
	} else {
		if (!ok)
			pkv_page_drop_copy(c, old.page, old.src_tier);
		note_loss(c, old.page);
		follow(c, old.page, old.dst_slot);
	}
	pkv_page_settle(c, old.page);
}

static void end_copy(struct pkv_class *c, struct pkv_move *m, bool ok)
{
	u32 id = m->page, source = m->source;
	struct pkv_page *p = &c->pages[id];

	move_free(c, m);
	if (ok)
		c->pool->counters.moves[PKV_DEVICE][PKV_DEVICE]++;
	else
		pkv_page_drop_copy(c, id, PKV_DEVICE);
	note_loss(c, id);
	pkv_page_settle(c, id);
	if (!ok && p->holds)
		pkv_seqs_break(c, id);
	pkv_page_unhold(c, source);
}

static void end(struct pkv_class *c, struct pkv_move *m, bool ok, bool source_bad)
{
	if (!ok)
		c->pool->counters.aborts++;
	switch (m->kind) {
	case PKV_MOVE_OUT:
		end_out(c, m, ok, source_bad);
		break;
	case PKV_MOVE_IN:
		end_in(c, m, ok);
		break;
	default:
		end_copy(c, m, ok);
	}
}

/* Take a queued move back. The page is unlisted; the caller settles it. */
static void cancel(struct pkv_class *c, struct pkv_move *m)
{
	u32 id = m->page, follow_slot = m->follow_slot;

	dequeue(c->pool, m);
	pkv_tier_free(&c->tiers[m->dst_tier], m->dst_slot);
	if (m->kind == PKV_MOVE_OUT) {
		c->tiers[m->src_tier].nr_leaving--;
		c->pool->nr_evictions--;
	}
	c->pool->counters.cancels++;
	move_free(c, m);
	follow(c, id, follow_slot);
}

/* The holds or references of an unlisted page changed: is its move still wanted? */
void pkv_move_unwanted(struct pkv_class *c, u32 id)
{
	struct pkv_page *p = &c->pages[id];
	struct pkv_move *m;

	if (p->move == PKV_NONE)
		return;
	m = &c->pool->moves[p->move];
	if (!p->holds && m->follow_slot != PKV_NONE) {
		pkv_tier_free(&c->tiers[PKV_DEVICE], m->follow_slot);
		m->follow_slot = PKV_NONE;
	}
	if (m->state != PKV_MOVE_QUEUED)
		return;
	if (m->kind == PKV_MOVE_OUT ? p->holds || is_dead(p) : !p->holds)
		cancel(c, m);
}

/* The device copy of a page is about to be written: its copy in flight is worthless. */
void pkv_move_written(struct pkv_class *c, u32 id)
{
	u32 index = c->pages[id].move;

	if (index != PKV_NONE && c->pool->moves[index].kind == PKV_MOVE_OUT)
		c->pool->moves[index].dirty = 1;
}

/* ---------------------------------------------------------------- reclaim */

/* No more copies than this in @tier can be of pages that have a faster one. */
static u32 max_spare(const struct pkv_tier *t)
{
	u32 spare = pkv_tier_used(t) - t->nr_leaving;
	u32 i;

	for (i = 0; i < PKV_NR_PRIORITIES; i++)
		spare -= t->idle[i].nr;
	return spare;
}

/* Give up a copy in @tier of a page that has a faster one. */
static bool drop_spare(struct pkv_class *c, u32 tier)
{
	u32 id = c->twins.head;
	u32 faster, n;

	if (!max_spare(&c->tiers[tier]))
		return false;
	for (n = 0; id != PKV_NONE && n < SCAN; n++, id = c->pages[id].next) {
		if (c->pages[id].slot[tier] == PKV_NONE)
			continue;
		pkv_page_unlist(c, id);
		pkv_page_drop_copy(c, id, tier);
		pkv_page_settle(c, id);
		return true;
	}
	for (faster = PKV_DEVICE; faster < tier; faster++) {
		id = c->policy->victim(c, faster, PKV_NONE);
		for (n = 0; id != PKV_NONE && n < SCAN; n++) {
			if (c->pages[id].slot[tier] != PKV_NONE) {
				/* Its list is that of its fastest copy: it stays there. */
				pkv_page_drop_copy(c, id, tier);
				return true;
			}
			id = c->policy->victim(c, faster, id);
		}
	}
	return false;
}

static void drop_cached(struct pkv_class *c, u32 id)
{
	pkv_page_unlist(c, id);
	pkv_index_remove(c, id);
	pkv_page_settle(c, id);
	c->pool->counters.drops++;
}

static void drop(struct pkv_class *c, u32 id, u32 tier)
{
	if (!pkv_page_has_slower(&c->pages[id], tier)) {
		drop_cached(c, id);
		return;
	}
	pkv_page_unlist(c, id);
	pkv_page_drop_copy(c, id, tier);
	pkv_page_settle(c, id);
}

/* Give up a copy in @tier that needs no move. */
static bool drop_any(struct pkv_class *c, u32 tier)
{
	u32 id = c->policy->droppable(c, tier);

	if (id == PKV_NONE)
		return false;
	drop(c, id, tier);
	return true;
}

/* Give up a copy in @tier of an idle page that has a slower one. */
static bool drop_above(struct pkv_class *c, u32 tier)
{
	u32 id = c->policy->victim(c, tier, PKV_NONE);
	u32 n;

	for (n = 0; id != PKV_NONE && n < SCAN; n++, id = c->policy->victim(c, tier, id)) {
		if (!pkv_page_has_slower(&c->pages[id], tier))
			continue;
		drop(c, id, tier);
		return true;
	}
	return false;
}

/* May @tier have a slot if one of its absent ones gets its memory back? */
static bool provide(struct pkv_class *c, u32 tier)
{
	struct pkv_tier *t = &c->tiers[tier];

	return t->nr_absent && pkv_tier_used(t) < t->limit && c->pool->provide &&
	       c->pool->provide(c->pool, c->id, tier) && pkv_tier_avail(t);
}

/*
 * A tier under @tier with a free slot: the next one if it has any, gets memory
 * for one or can drop what it has twice, then the one below; then whatever
 * caches less than this.
 */
static u32 room_below(struct pkv_class *c, u32 tier)
{
	u32 lower;

	for (lower = tier + 1; lower < PKV_NR_TIERS; lower++) {
		if (c->tiers[lower].state != PKV_TIER_ONLINE)
			continue;
		if (pkv_tier_avail(&c->tiers[lower]) || provide(c, lower) ||
		    (drop_spare(c, lower) && pkv_tier_avail(&c->tiers[lower])))
			return lower;
	}
	for (lower = tier + 1; lower < PKV_NR_TIERS; lower++) {
		if (c->tiers[lower].state != PKV_TIER_ONLINE)
			continue;
		if (drop_any(c, lower) && pkv_tier_avail(&c->tiers[lower]))
			return lower;
	}
	return PKV_NONE;
}

enum evicted {
	EVICTED,	/* the slot is free, or will be */
	NOWHERE,	/* no room below, and nothing to drop */
	NOT_NOW,	/* too many moves in flight */
	NO_MEMORY,	/* for one more move */
};

/* Let page @id leave @tier, or another one that needs no room. */
static enum evicted evict(struct pkv_class *c, u32 id, u32 tier)
{
	u32 dst;

	if (pkv_page_has_slower(&c->pages[id], tier)) {
		drop(c, id, tier);
		return EVICTED;
	}
	dst = room_below(c, tier);
	if (dst == PKV_NONE)
		return drop_any(c, tier) ? EVICTED : NOWHERE;
	if (c->pool->nr_evictions >= c->pool->max_moves)
		return NOT_NOW;
	if (pkv_moves_reserve(c->pool, 1))
		return NO_MEMORY;
	begin_out(c, id, dst);
	return EVICTED;
}

/* Are fewer than @target slots within the limit free or about to be? */
static bool is_short(const struct pkv_tier *t, u32 target)
{
	u32 stay = pkv_tier_used(t) - t->nr_leaving;

	if (t->state != PKV_TIER_ONLINE)
		return t->nr_leaving < target;
	return (u64)stay + target > t->limit;
}

/* Evict from @tier until @target slots are free or about to be. EVICTED, or what ended it. */
static enum evicted reclaim(struct pkv_class *c, u32 tier, u32 target)
{
	struct pkv_tier *t = &c->tiers[tier];
	enum evicted rc = EVICTED;
	u32 id;

	while (tier && is_short(t, target) && drop_spare(c, tier))
		;
	while (rc == EVICTED && is_short(t, target)) {
		id = c->policy->victim(c, tier, PKV_NONE);
		rc = id == PKV_NONE ? NOWHERE : evict(c, id, tier);
	}
	return rc;
}

/* See that @nr device slots are free: 0, -EAGAIN (evictions under way), -ENOSPC, -ENOMEM. */
int pkv_make_room(struct pkv_class *c, u32 nr)
{
	struct pkv_tier *t = &c->tiers[PKV_DEVICE];
	enum evicted rc;

	if (pkv_tier_avail(t) >= nr)
		return 0;
	if (nr > t->limit)
		return -ENOSPC;
	rc = reclaim(c, PKV_DEVICE, nr);
	if (pkv_tier_avail(t) >= nr)
		return 0;
	if (rc == NOT_NOW || !is_short(t, nr))
		return -EAGAIN;
	return rc == NO_MEMORY ? -ENOMEM : -ENOSPC;
}

static void reclaim_class(struct pkv_class *c, bool always)
{
	u32 tier = PKV_NR_TIERS;

	/* From the bottom up, so that a tier finds room below. */
	while (tier--) {
		struct pkv_tier *t = &c->tiers[tier];

		if (always || is_short(t, t->low))
			reclaim(c, tier, t->high);
	}
}

void pkv_reclaim_below_low(struct pkv_pool *pool)
{
	u32 i;

	for (i = 0; i < pool->nr_classes; i++)
		reclaim_class(&pool->classes[i], false);
}

void pkv_moves_reclaim(struct pkv_pool *pool)
{
	u32 i;

	lockdep_assert_held(pool->lock);
	for (i = 0; i < pool->nr_classes; i++)
		reclaim_class(&pool->classes[i], true);
}

void pkv_moves_demote(struct pkv_pool *pool, u32 class_id, u32 tier, u32 nr)
{
	struct pkv_class *c;
	struct pkv_tier *t;
	u32 stay;

	lockdep_assert_held(pool->lock);
	if (class_id >= pool->nr_classes || tier >= PKV_NR_TIERS)
		return;
	c = &pool->classes[class_id];
	t = &c->tiers[tier];
	if (t->state != PKV_TIER_ONLINE)
		return;
	stay = pkv_tier_used(t) - t->nr_leaving;
	nr = min(nr, stay);
	/* The target counts from the limit, which absent slots may fill too. */
	reclaim(c, tier, stay < t->limit ? t->limit - stay + nr : nr);
}

/*
 * Take queued evictions of cached pages back until @target slots of @tier are
 * free: those into it, and those out of it, whose pages go.
 */
static void drop_queued(struct pkv_class *c, u32 tier, u32 target)
{
	struct pkv_pool *pool = c->pool;
	u32 index = pool->queue_head;

	while (index != PKV_NONE && c->tiers[tier].nr_free < target) {
		struct pkv_move *m = &pool->moves[index];
		bool out_of = m->src_tier == tier;
		u32 id = m->page;

		index = m->next;
		if (m->class_id != c->id || m->kind != PKV_MOVE_OUT ||
		    (!out_of && m->dst_tier != tier) || !pkv_page_cached(&c->pages[id]))
			continue;
		cancel(c, m);
		pkv_page_settle(c, id);
		if (out_of)
			drop(c, id, tier);
	}
}

void pkv_moves_drop(struct pkv_pool *pool, u32 class_id, u32 tier, u32 nr)
{
	struct pkv_class *c;
	struct pkv_tier *t;
	u32 target;

	lockdep_assert_held(pool->lock);
	if (class_id >= pool->nr_classes || tier >= PKV_NR_TIERS)
		return;
	c = &pool->classes[class_id];
	t = &c->tiers[tier];
	target = t->nr_free + min(nr, pkv_tier_used(t));
	while (tier && t->nr_free < target && drop_spare(c, tier))
		;
	while (t->nr_free < target && drop_above(c, tier))
		;
	drop_queued(c, tier, target);
	while (t->nr_free < target && drop_any(c, tier))
		;
}

/* -------------------------------------------------------------- executors */

void pkv_move_describe(struct pkv_pool *pool, u32 index, struct pkv_move_desc *out)
{
	const struct pkv_move *m = &pool->moves[index];
	const struct pkv_page *p = &pool->classes[m->class_id].pages[m->page];

	memset(out, 0, sizeof(*out));
	out->id = pkv_handle(m->gen, index);
	out->class_id = m->class_id;
	out->kind = m->kind;
	out->src_tier = m->src_tier;
	out->src_slot = m->src_slot;
	out->dst_tier = m->dst_tier;
	out->dst_slot = m->dst_slot;
	if (p->flags & PKV_PAGE_INDEXED)
		out->key = p->key;
}

u32 pkv_moves_fetch(struct pkv_pool *pool, u32 executor, struct pkv_move_desc *out, u32 max)
{
	u32 n = 0;

	lockdep_assert_held(pool->lock);
	while (n < max && pool->queue_head != PKV_NONE) {
		u32 index = pool->queue_head;
		struct pkv_move *m = &pool->moves[index];

		dequeue(pool, m);
		m->state = PKV_MOVE_FETCHED;
		m->executor = executor;
		pkv_move_describe(pool, index, &out[n++]);
	}
	return n;
}

/* A move that was fetched under this id, and has not ended; or NULL. */
static struct pkv_move *find_fetched(struct pkv_pool *pool, u64 id)
{
	u32 index = (u32)id;
	struct pkv_move *m;

	if (index >= pool->fresh_move)
		return NULL;
	m = &pool->moves[index];
	return m->state == PKV_MOVE_FETCHED && m->gen == (u32)(id >> 32) ? m : NULL;
}

int pkv_move_commit(struct pkv_pool *pool, u64 id, int status, bool source_bad)
{
	struct pkv_move *m;

	lockdep_assert_held(pool->lock);
	m = find_fetched(pool, id);
	if (!m)
		return -ESTALE;
	end(&pool->classes[m->class_id], m, !status, status && source_bad);
	pkv_seqs_advance(pool);
	pkv_reclaim_below_low(pool);
	return 0;
}

/* A fetched move that was not run: plan it anew, under another name. */
static void requeue(struct pkv_class *c, struct pkv_move *m)
{
	u32 id = m->page;

	/* The source may have gone with its tier, and the tier be back. */
	if (c->tiers[m->dst_tier].state != PKV_TIER_ONLINE ||
	    c->pages[id].slot[m->src_tier] != m->src_slot) {
		end(c, m, false, false);
		return;
	}
	m->gen++;
	m->dirty = 0;
	enqueue(c->pool, m);
	pkv_move_unwanted(c, id);
	pkv_page_settle(c, id);
}

int pkv_move_requeue(struct pkv_pool *pool, u64 id)
{
	struct pkv_move *m;

	lockdep_assert_held(pool->lock);
	m = find_fetched(pool, id);
	if (!m || m->kind == PKV_MOVE_COPY)
		return -ESTALE;
	requeue(&pool->classes[m->class_id], m);
	pkv_seqs_advance(pool);
	return 0;
}

void pkv_moves_requeue(struct pkv_pool *pool, u32 executor)
{
	u32 i;

	lockdep_assert_held(pool->lock);
	for (i = 0; i < pool->fresh_move; i++) {
		struct pkv_move *m = &pool->moves[i];

		if (m->state == PKV_MOVE_FETCHED && m->kind != PKV_MOVE_COPY &&
		    m->executor == executor)
			requeue(&pool->classes[m->class_id], m);
	}
	pkv_seqs_advance(pool);
}

/* The copies of a dead client will never be committed. */
void pkv_moves_drop_owner(struct pkv_pool *pool, u64 owner)
{
	u32 i;

	for (i = 0; i < pool->fresh_move; i++) {
		struct pkv_move *m = &pool->moves[i];

		if (m->state == PKV_MOVE_FETCHED && m->kind == PKV_MOVE_COPY &&
		    m->owner == owner)
			end(&pool->classes[m->class_id], m, false, false);
	}
}

/*
 * A tier may not be written any more (READONLY) or is gone (OFFLINE): end the
 * queued moves that need it, and give up its copies. A fetched move ends by
 * itself: what it brings away from the tier is still good, but from a device
 * whose memory is another one.
 */
void pkv_moves_quit_tier(struct pkv_class *c, u32 tier, u32 state)
{
	struct pkv_pool *pool = c->pool;
	bool gone = state == PKV_TIER_OFFLINE;
	u32 id;

	for (id = 0; id < c->fresh_page; id++) {
		struct pkv_page *p = &c->pages[id];
		struct pkv_move *m;

		if (!(p->flags & PKV_PAGE_LIVE))
			continue;
		m = p->move == PKV_NONE ? NULL : &pool->moves[p->move];
		if (m && m->state == PKV_MOVE_QUEUED &&
		    (m->dst_tier == tier || (gone && m->src_tier == tier))) {
			dequeue(pool, m);
			end(c, m, false, gone && m->src_tier == tier);
		} else if (m && gone && (m->dst_tier == tier || tier == PKV_DEVICE)) {
			/*
			 * Written to what is gone, whatever is there by its commit; or
			 * read from what has come.
			 */
			m->dirty = 1;
		}
		if (!gone || !(p->flags & PKV_PAGE_LIVE) || p->slot[tier] == PKV_NONE)
			continue;
		pkv_page_unlist(c, id);
		pkv_page_drop_copy(c, id, tier);
		if (p->move == PKV_NONE)
			note_loss(c, id);
		pkv_page_settle(c, id);
	}
	pkv_seqs_advance(pool);
}

/*
 * A tier that was gone may be written again: whoever still reads what it held
 * then may find something else there.
 */
void pkv_moves_return_tier(struct pkv_class *c, u32 tier)
{
	u32 id;

	for (id = 0; id < c->fresh_page; id++) {
		struct pkv_page *p = &c->pages[id];
		struct pkv_move *m;

		if (!(p->flags & PKV_PAGE_LIVE) || p->move == PKV_NONE)
			continue;
		m = &c->pool->moves[p->move];
		if (m->src_tier == tier && p->slot[tier] != m->src_slot)
			m->dirty = 1;
	}
}
