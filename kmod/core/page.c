// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * A page: who refers to it, who holds it on the device, which tiers have a
 * copy of it, and on which list that puts it.
 *
 * The list follows from the page's state, so every change has the same form:
 * pkv_page_unlist(), change, pkv_page_settle(). A page that nothing needs any
 * more is freed by settle, and only there.
 */
#include "internal.h"

void pkv_list_add_tail(struct pkv_class *c, struct pkv_page_list *l, u32 id)
{
	struct pkv_page *p = &c->pages[id];

	p->next = PKV_NONE;
	p->prev = l->tail;
	if (l->tail == PKV_NONE)
		l->head = id;
	else
		c->pages[l->tail].next = id;
	l->tail = id;
	l->nr++;
}

void pkv_list_del(struct pkv_class *c, struct pkv_page_list *l, u32 id)
{
	struct pkv_page *p = &c->pages[id];

	if (p->prev == PKV_NONE)
		l->head = p->next;
	else
		c->pages[p->prev].next = p->next;
	if (p->next == PKV_NONE)
		l->tail = p->prev;
	else
		c->pages[p->next].prev = p->prev;
	p->prev = PKV_NONE;
	p->next = PKV_NONE;
	l->nr--;
}

/* A descriptor without copies; the caller gives it its first one. PKV_NONE: none left. */
u32 pkv_page_alloc(struct pkv_class *c, u32 priority)
{
	struct pkv_page *p;
	u32 id;

	if (c->free_page != PKV_NONE) {
		id = c->free_page;
		c->free_page = c->pages[id].hash_next;
	} else if (c->fresh_page < c->nr_pages) {
		id = c->fresh_page++;
	} else {
		return PKV_NONE;
	}
	p = &c->pages[id];
	p->slot[PKV_DEVICE] = PKV_NONE;
	p->slot[PKV_HOST] = PKV_NONE;
	p->slot[PKV_DISK] = PKV_NONE;
	p->refs = 0;
	p->holds = 0;
	p->flags = PKV_PAGE_LIVE | priority << PKV_PAGE_PRIO_SHIFT;
	p->hash_next = PKV_NONE;
	p->prev = PKV_NONE;
	p->next = PKV_NONE;
	p->move = PKV_NONE;
	c->nr_live++;
	c->pool->counters.allocs++;
	return id;
}

/* The fastest tier that has a copy, or PKV_NR_TIERS. */
u32 pkv_page_fastest(const struct pkv_page *p)
{
	u32 tier = PKV_DEVICE;

	while (tier < PKV_NR_TIERS && p->slot[tier] == PKV_NONE)
		tier++;
	return tier;
}

static bool has_lower_copy(const struct pkv_page *p)
{
	return p->slot[PKV_HOST] != PKV_NONE || p->slot[PKV_DISK] != PKV_NONE;
}

/* Take a page off its list, before anything that decides the list changes. */
void pkv_page_unlist(struct pkv_class *c, u32 id)
{
	struct pkv_page *p = &c->pages[id];

	if (p->flags & PKV_PAGE_IDLE)
		c->policy->busy(c, id, pkv_page_fastest(p));
	else if (p->flags & PKV_PAGE_TWIN)
		pkv_list_del(c, &c->twins, id);
	p->flags &= ~(PKV_PAGE_IDLE | PKV_PAGE_TWIN);
}

static void destroy(struct pkv_class *c, u32 id)
{
	struct pkv_page *p = &c->pages[id];
	u32 tier;

	for (tier = 0; tier < PKV_NR_TIERS; tier++)
		if (p->slot[tier] != PKV_NONE)
			pkv_tier_free(&c->tiers[tier], p->slot[tier]);
	if (p->flags & PKV_PAGE_LOST)
		c->nr_lost--;
	p->flags = 0;
	p->hash_next = c->free_page;
	c->free_page = id;
	c->nr_live--;
	c->pool->counters.frees++;
}

/* Put an unlisted page where its state says: a list, no list, or away. */
void pkv_page_settle(struct pkv_class *c, u32 id)
{
	struct pkv_page *p = &c->pages[id];

	if (p->move != PKV_NONE)
		return;
	if (p->holds) {
		if (p->slot[PKV_DEVICE] != PKV_NONE && has_lower_copy(p)) {
			p->flags |= PKV_PAGE_TWIN;
			pkv_list_add_tail(c, &c->twins, id);
		}
	} else if (!p->refs && !(p->flags & PKV_PAGE_INDEXED)) {
		destroy(c, id);
	} else if (!(p->flags & PKV_PAGE_LOST)) {
		p->flags |= PKV_PAGE_IDLE;
		c->policy->idle(c, id, pkv_page_fastest(p));
	}
}

void pkv_page_hold(struct pkv_class *c, u32 id)
{
	struct pkv_page *p = &c->pages[id];

	if (p->holds) {
		p->holds++;
		return;
	}
	pkv_page_unlist(c, id);
	p->holds = 1;
	pkv_move_unwanted(c, id);
	pkv_page_settle(c, id);
}

void pkv_page_unhold(struct pkv_class *c, u32 id)
{
	struct pkv_page *p = &c->pages[id];

	if (p->holds > 1) {
		p->holds--;
		return;
	}
	pkv_page_unlist(c, id);
	p->holds = 0;
	pkv_move_unwanted(c, id);
	pkv_page_settle(c, id);
}

/* A sequence lets go of a page that it held @nr_holds times. */
void pkv_page_put(struct pkv_class *c, u32 id, u32 nr_holds)
{
	struct pkv_page *p = &c->pages[id];

	if (--p->refs || p->holds > nr_holds) {
		if (pkv_page_cached(p))
			c->nr_cached++;
		if (nr_holds && p->holds == nr_holds) {
			p->holds = 1;
			pkv_page_unhold(c, id);
		} else {
			p->holds -= nr_holds;
		}
		return;
	}
	if (p->flags & PKV_PAGE_INDEXED)
		c->nr_cached++;
	pkv_page_unlist(c, id);
	p->holds = 0;
	pkv_move_unwanted(c, id);
	pkv_page_settle(c, id);
}

/* Give up one copy; an unlisted page whose other state the caller settles. */
void pkv_page_drop_copy(struct pkv_class *c, u32 id, u32 tier)
{
	struct pkv_page *p = &c->pages[id];

	if (p->slot[tier] == PKV_NONE)
		return;
	pkv_tier_free(&c->tiers[tier], p->slot[tier]);
	p->slot[tier] = PKV_NONE;
}

/* The device copy is about to be written: the others are stale. */
void pkv_page_drop_lower(struct pkv_class *c, u32 id)
{
	pkv_page_unlist(c, id);
	pkv_page_drop_copy(c, id, PKV_HOST);
	pkv_page_drop_copy(c, id, PKV_DISK);
	pkv_page_settle(c, id);
}
