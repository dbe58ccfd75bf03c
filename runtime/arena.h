/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Host arena: the memory of the host tier. One mapping, huge pages where they are to be had,
 * placed on a NUMA node or spread over all of them.
 *
 * All functions return 0 or -errno and never print. Not thread-safe for one arena.
 */
#ifndef PKVRT_ARENA_H
#define PKVRT_ARENA_H

#include <stddef.h>

enum pkvrt_arena_pages {
	PKVRT_ARENA_SMALL,	/* base pages */
	PKVRT_ARENA_THP,	/* transparent huge pages, as far as the kernel gave them */
	PKVRT_ARENA_HUGETLB,	/* reserved huge pages, all of it */
};

/* Values of pkvrt_arena_params.node beside a node number. */
#define PKVRT_NODE_ANY		(-1)	/* the kernel's policy (local to the first toucher) */
#define PKVRT_NODE_INTERLEAVE	(-2)	/* spread page by page over all allowed nodes */

#define PKVRT_ARENA_PREFAULT	(1u << 0)	/* touch all of it now */
#define PKVRT_ARENA_NO_HUGE	(1u << 1)	/* do not ask for huge pages */

struct pkvrt_arena_params {
	size_t size;		/* sizeof(struct pkvrt_arena_params) */
	size_t bytes;		/* rounded up to the page size got */
	int node;		/* node number or PKVRT_NODE_* */
	unsigned int flags;	/* PKVRT_ARENA_* */
};

/* What was got, for reports. */
struct pkvrt_arena_report {
	enum pkvrt_arena_pages pages;
	size_t page_bytes;	/* 4096, or the huge page size */
	size_t huge_bytes;	/* bytes backed by huge pages at this moment */
	int node;		/* node number or PKVRT_NODE_*: ANY when there is no NUMA here */
	int prefaulted;
};

struct pkvrt_arena;

/**
 * pkvrt_arena_create - map an arena
 * @out: the arena, NULL on failure; ends with pkvrt_arena_destroy()
 * @p: size and placement
 *
 * Fewer huge pages than wanted is no error (see the report); a node that does not exist is.
 *
 * Return: 0, -EINVAL (size, flags, zero bytes, no such node), -ENOMEM, -EOVERFLOW.
 */
int pkvrt_arena_create(struct pkvrt_arena **out, const struct pkvrt_arena_params *p);

/**
 * pkvrt_arena_adopt - place a range that somebody else mapped
 * @out: the arena; destroying it leaves the mapping alone
 * @base: page-aligned start of a private or shared mapping of at least @p->bytes
 * @p: as above; the mapping's kind of pages is kept, huge pages are advised
 *
 * Return: as pkvrt_arena_create().
 */
int pkvrt_arena_adopt(struct pkvrt_arena **out, void *base, const struct pkvrt_arena_params *p);

void pkvrt_arena_destroy(struct pkvrt_arena *a);	/* NULL is fine */

void *pkvrt_arena_base(const struct pkvrt_arena *a);
size_t pkvrt_arena_bytes(const struct pkvrt_arena *a);
void pkvrt_arena_report(const struct pkvrt_arena *a, struct pkvrt_arena_report *r);

#endif
