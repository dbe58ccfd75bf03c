// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* See buddy.h. Blocks never merge past the one they were carved as: its buddy isn't there. */
#include <errno.h>
#include <stdlib.h>

#include "buddy.h"

#define NONE UINT32_MAX

static void push(struct pkvrt_buddy *b, uint32_t page, uint32_t order)
{
	uint32_t head = b->head[order];

	b->order[page] = (uint8_t)(order + 1);
	b->prev[page] = NONE;
	b->next[page] = head;
	if (head != NONE)
		b->prev[head] = page;
	b->head[order] = page;
}

static void unlink_block(struct pkvrt_buddy *b, uint32_t page)
{
	uint32_t order = b->order[page] - 1u;

	if (b->prev[page] != NONE)
		b->next[b->prev[page]] = b->next[page];
	else
		b->head[order] = b->next[page];
	if (b->next[page] != NONE)
		b->prev[b->next[page]] = b->prev[page];
	b->order[page] = 0;
}

int pkvrt_buddy_init(struct pkvrt_buddy *b, uint32_t nr_pages, uint32_t max_order)
{
	uint32_t page = 0;

	*b = (struct pkvrt_buddy){ .nr_pages = nr_pages, .max_order = max_order };
	if (!nr_pages || nr_pages == NONE || max_order >= PKVRT_BUDDY_ORDERS)
		return -EINVAL;
	b->next = malloc(nr_pages * sizeof(*b->next));
	b->prev = malloc(nr_pages * sizeof(*b->prev));
	b->order = calloc(nr_pages, sizeof(*b->order));
	if (!b->next || !b->prev || !b->order) {
		pkvrt_buddy_exit(b);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < PKVRT_BUDDY_ORDERS; i++)
		b->head[i] = NONE;
	for (uint32_t order = max_order + 1; order-- > 0;) {
		while (nr_pages - page >= 1u << order) {
			push(b, page, order);
			page += 1u << order;
		}
	}
	b->nr_free = nr_pages;
	return 0;
}

void pkvrt_buddy_exit(struct pkvrt_buddy *b)
{
	free(b->next);
	free(b->prev);
	free(b->order);
	*b = (struct pkvrt_buddy){ 0 };
}

int64_t pkvrt_buddy_alloc(struct pkvrt_buddy *b, uint32_t order)
{
	uint32_t found = order;
	uint32_t page;

	while (found <= b->max_order && b->head[found] == NONE)
		found++;
	if (found > b->max_order)
		return -ENOSPC;
	page = b->head[found];
	unlink_block(b, page);
	while (found > order) {
		found--;
		push(b, page + (1u << found), found);
	}
	b->nr_free -= 1u << order;
	return page;
}

void pkvrt_buddy_free(struct pkvrt_buddy *b, uint32_t page, uint32_t order)
{
	b->nr_free += 1u << order;
	while (order < b->max_order) {
		uint32_t buddy = page ^ (1u << order);

		if (buddy >= b->nr_pages || b->order[buddy] != order + 1)
			break;
		unlink_block(b, buddy);
		page &= buddy;
		order++;
	}
	push(b, page, order);
}

uint32_t pkvrt_buddy_order(uint32_t nr_pages)
{
	return nr_pages <= 1 ? 0 : 32u - (uint32_t)__builtin_clz(nr_pages - 1);
}
