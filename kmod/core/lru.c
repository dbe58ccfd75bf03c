// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The default policy: least recently used, priority by priority.
 *
 * A page enters its tier's list when its last hold goes, which is its last
 * use; so the head of a list is the oldest. A sequence gives its pages up from
 * the last to the first: the end of a prefix leaves before its beginning, as
 * it must, since a match needs every page before it.
 */
#include "internal.h"

static struct pkv_page_list *list_of(struct pkv_class *c, u32 page, u32 tier)
{
	return &c->tiers[tier].idle[pkv_page_priority(&c->pages[page])];
}

static void lru_idle(struct pkv_class *c, u32 page, u32 tier)
{
	struct pkv_page_list *l = list_of(c, page, tier);

	pkv_list_add_tail(c, l, page);
	if (l->scan == PKV_NONE)
		l->scan = page;
}

static void lru_busy(struct pkv_class *c, u32 page, u32 tier)
{
	struct pkv_page_list *l = list_of(c, page, tier);

	if (l->scan == page)
		l->scan = c->pages[page].next;
	pkv_list_del(c, l, page);
}

static u32 lru_victim(struct pkv_class *c, u32 tier, u32 prev)
{
	u32 priority = 0;

	if (prev != PKV_NONE) {
		if (c->pages[prev].next != PKV_NONE)
			return c->pages[prev].next;
		priority = pkv_page_priority(&c->pages[prev]) + 1;
	}
	for (; priority < PKV_NR_PRIORITIES; priority++)
		if (c->tiers[tier].idle[priority].head != PKV_NONE)
			return c->tiers[tier].idle[priority].head;
	return PKV_NONE;
}

/*
 * The pages of one preempted sequence may stand before any that can be
 * dropped, so the search goes on where the last one ended. It passes each page
 * once: what can't be dropped stays so for as long as it is listed.
 */
static u32 lru_droppable(struct pkv_class *c, u32 tier)
{
	u32 priority;

	for (priority = 0; priority < PKV_NR_PRIORITIES; priority++) {
		struct pkv_page_list *l = &c->tiers[tier].idle[priority];

		while (l->scan != PKV_NONE) {
			const struct pkv_page *p = &c->pages[l->scan];

			if (pkv_page_cached(p) || pkv_page_has_slower(p, tier))
				return l->scan;
			l->scan = p->next;
		}
	}
	return PKV_NONE;
}

const struct pkv_policy pkv_policy_lru = {
	.name = "lru",
	.idle = lru_idle,
	.busy = lru_busy,
	.victim = lru_victim,
	.droppable = lru_droppable,
};
