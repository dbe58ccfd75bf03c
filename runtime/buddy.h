/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * A buddy allocator over the pages [0, nr_pages): blocks of 2^order pages, aligned to their
 * size. A number of pages that is no power of two is carved greedily, largest blocks first.
 */
#ifndef PKVRT_BUDDY_H
#define PKVRT_BUDDY_H

#include <stdint.h>

#define PKVRT_BUDDY_ORDERS	28

struct pkvrt_buddy {
	uint32_t nr_pages;
	uint32_t nr_free;
	uint32_t max_order;			/* of the largest block */
	uint32_t head[PKVRT_BUDDY_ORDERS];	/* free blocks, newest first */
	uint32_t *next, *prev;			/* of a free block, by its first page */
	uint8_t *order;				/* order + 1 of the free block that starts here */
};

/** @max_order < PKVRT_BUDDY_ORDERS. 0, -EINVAL, -ENOMEM. */
int pkvrt_buddy_init(struct pkvrt_buddy *b, uint32_t nr_pages, uint32_t max_order);
void pkvrt_buddy_exit(struct pkvrt_buddy *b);

/** The first page of a block of 2^order pages, or -ENOSPC. */
int64_t pkvrt_buddy_alloc(struct pkvrt_buddy *b, uint32_t order);
/** @page and @order as allocated. */
void pkvrt_buddy_free(struct pkvrt_buddy *b, uint32_t page, uint32_t order);

/** The order of the smallest block with room for @nr_pages > 0. */
uint32_t pkvrt_buddy_order(uint32_t nr_pages);

#endif
