// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Memory policy is set with mbind(2) itself: libnuma's helpers print and may exit on failure.
 */
#include "arena.h"

#include <errno.h>
#include <inttypes.h>
#include <numaif.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES	((size_t)2 << 20)
#define MAX_NODES	1024
#define WORD_BITS	(8 * sizeof(unsigned long))

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif

struct pkvrt_arena {
	void *base;
	size_t bytes;
	size_t page_bytes;
	enum pkvrt_arena_pages pages;
	int node;
	int prefaulted;
	int owned;	/* we mapped it */
};

struct nodemask {
	unsigned long w[MAX_NODES / WORD_BITS];
};

/* Nodes that this process may use; an empty mask where the kernel has no NUMA. */
static void allowed_nodes(struct nodemask *mask)
{
	*mask = (struct nodemask){ 0 };
	if (get_mempolicy(NULL, mask->w, MAX_NODES, NULL, MPOL_F_MEMS_ALLOWED))
		*mask = (struct nodemask){ 0 };
}

static int mask_has(const struct nodemask *mask, int node)
{
	return node < MAX_NODES && (mask->w[node / WORD_BITS] >> (node % WORD_BITS)) & 1;
}

static int place(struct pkvrt_arena *a, int node)
{
	struct nodemask mask, one = { 0 };
	int mode = MPOL_INTERLEAVE;
	size_t i;

	a->node = PKVRT_NODE_ANY;
	if (node == PKVRT_NODE_ANY)
		return 0;
	allowed_nodes(&mask);
	for (i = 0; i < MAX_NODES / WORD_BITS && !mask.w[i]; i++)
		;
	if (i == MAX_NODES / WORD_BITS)	/* no NUMA: node 0 is all there is */
		return node > 0 ? -EINVAL : 0;
	if (node >= 0) {
		if (!mask_has(&mask, node))
			return -EINVAL;
		one.w[node / WORD_BITS] = 1ul << (node % WORD_BITS);
		mask = one;
		mode = MPOL_BIND;
	}
	/* The kernel reads maxnode - 1 bits. */
	if (mbind(a->base, a->bytes, mode, mask.w, MAX_NODES + 1, 0))
		return errno == EPERM || errno == ENOSYS ? 0 : -errno;
	a->node = node;
	return 0;
}

static int prefault(struct pkvrt_arena *a)
{
	size_t step = (size_t)sysconf(_SC_PAGESIZE), off;

	if (!madvise(a->base, a->bytes, MADV_POPULATE_WRITE))
		goto done;
	if (errno != EINVAL)
		return errno == EFAULT || errno == EHWPOISON ? -ENOMEM : -errno;
	/* Linux before 5.14. Adding nothing keeps what an adopted range holds. */
	for (off = 0; off < a->bytes; off += step)
		__atomic_fetch_add((unsigned char *)a->base + off, 0, __ATOMIC_RELAXED);
done:
	a->prefaulted = 1;
	return 0;
}

/* Placed and touched: policy must be set before the first touch. */
static int settle(struct pkvrt_arena *a, const struct pkvrt_arena_params *p)
{
	int ret = place(a, p->node);

	if (!ret && (p->flags & PKVRT_ARENA_PREFAULT))
		ret = prefault(a);
	return ret;
}

static int check_params(const struct pkvrt_arena_params *p)
{
	if (!p || p->size != sizeof(*p) || !p->bytes)
		return -EINVAL;
	if (p->flags & ~(PKVRT_ARENA_PREFAULT | PKVRT_ARENA_NO_HUGE))
		return -EINVAL;
	if (p->node < PKVRT_NODE_INTERLEAVE || p->node >= MAX_NODES)
		return -EINVAL;
	return p->bytes > SIZE_MAX / 2 ? -EOVERFLOW : 0;
}

static void *map_anon(size_t bytes, int flags)
{
	void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	return m == MAP_FAILED ? NULL : m;
}

/* A mapping that starts on a huge page boundary, so that none of it is left to small pages. */
static void *map_aligned(size_t bytes)
{
	char *m = map_anon(bytes + HUGE_BYTES, 0), *base;
	size_t head;

	if (!m)
		return NULL;
	base = (char *)(((uintptr_t)m + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	head = (size_t)(base - m);
	if (head)
		munmap(m, head);
	munmap(base + bytes, HUGE_BYTES - head);
	return base;
}

static int map_arena(struct pkvrt_arena *a, const struct pkvrt_arena_params *p)
{
	size_t small = (size_t)sysconf(_SC_PAGESIZE);
	int want_huge = !(p->flags & PKVRT_ARENA_NO_HUGE) && p->bytes >= HUGE_BYTES;

	if (want_huge) {
		a->bytes = (p->bytes + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
		a->page_bytes = HUGE_BYTES;
		a->pages = PKVRT_ARENA_HUGETLB;
		/* Reserved here and now: a later touch cannot fail for want of pages. */
		a->base = map_anon(a->bytes, MAP_HUGETLB | 21 << MAP_HUGE_SHIFT);
		if (a->base)
			return 0;
		a->base = map_aligned(a->bytes);
		if (!a->base)
			return -ENOMEM;
		a->pages = PKVRT_ARENA_THP;
		if (!madvise(a->base, a->bytes, MADV_HUGEPAGE))
			return 0;
		a->pages = PKVRT_ARENA_SMALL;
		a->page_bytes = small;
		return 0;
	}
	a->bytes = (p->bytes + small - 1) & ~(small - 1);
	a->page_bytes = small;
	a->pages = PKVRT_ARENA_SMALL;
	a->base = map_anon(a->bytes, 0);
	return a->base ? 0 : -ENOMEM;
}

int pkvrt_arena_create(struct pkvrt_arena **out, const struct pkvrt_arena_params *p)
{
	struct pkvrt_arena *a;
	int ret;

	*out = NULL;
	ret = check_params(p);
	if (ret)
		return ret;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->owned = 1;
	ret = map_arena(a, p);
	if (ret)
		goto free;
	ret = settle(a, p);
	if (ret)
		goto unmap;
	*out = a;
	return 0;
unmap:
	munmap(a->base, a->bytes);
free:
	free(a);
	return ret;
}

int pkvrt_arena_adopt(struct pkvrt_arena **out, void *base, const struct pkvrt_arena_params *p)
{
	size_t small = (size_t)sysconf(_SC_PAGESIZE);
	struct pkvrt_arena *a;
	int ret;

	*out = NULL;
	ret = check_params(p);
	if (ret)
		return ret;
	if (!base || (uintptr_t)base % small)
		return -EINVAL;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->base = base;
	a->bytes = p->bytes;
	a->page_bytes = small;
	a->pages = PKVRT_ARENA_SMALL;
	if (!(p->flags & PKVRT_ARENA_NO_HUGE) && !madvise(base, p->bytes, MADV_HUGEPAGE)) {
		a->pages = PKVRT_ARENA_THP;
		a->page_bytes = HUGE_BYTES;
	}
	ret = settle(a, p);
	if (ret) {
		free(a);
		return ret;
	}
	*out = a;
	return 0;
}

void pkvrt_arena_destroy(struct pkvrt_arena *a)
{
	if (!a)
		return;
	if (a->owned)
		munmap(a->base, a->bytes);
	free(a);
}

void *pkvrt_arena_base(const struct pkvrt_arena *a)
{
	return a->base;
}

size_t pkvrt_arena_bytes(const struct pkvrt_arena *a)
{
	return a->bytes;
}

/* Bytes of [start, end) under transparent huge pages, from smaps: whole mappings are counted. */
static size_t thp_bytes(uintptr_t start, uintptr_t end)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	uintptr_t lo, hi;
	size_t sum = 0, kib;
	char line[512];
	int inside = 0;

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &lo, &hi) == 2)
			inside = lo < end && hi > start;
		else if (inside && sscanf(line, "AnonHugePages: %zu kB", &kib) == 1)
			sum += kib << 10;
	}
	fclose(f);
	return sum < end - start ? sum : end - start;
}

void pkvrt_arena_report(const struct pkvrt_arena *a, struct pkvrt_arena_report *r)
{
	uintptr_t start = (uintptr_t)a->base;

	*r = (struct pkvrt_arena_report){
		.pages = a->pages,
		.page_bytes = a->page_bytes,
		.huge_bytes = a->pages == PKVRT_ARENA_HUGETLB ? a->bytes : 0,
		.node = a->node,
		.prefaulted = a->prefaulted,
	};
	if (a->pages == PKVRT_ARENA_THP)
		r->huge_bytes = thp_bytes(start, start + a->bytes);
}
