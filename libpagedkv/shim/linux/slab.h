/* SPDX-License-Identifier: MIT */
/*
 * Kernel allocation calls over malloc. Tests count what is live and fail any
 * allocation they choose; large arrays ask for huge pages, because tables of
 * millions of pages are walked at random.
 */
#ifndef PKV_SHIM_SLAB_H
#define PKV_SHIM_SLAB_H

#include <linux/types.h>

#define GFP_KERNEL		0
#define GFP_KERNEL_ACCOUNT	0
#define __GFP_NOWARN		0
#define __GFP_RETRY_MAYFAIL	0

/* When set and it returns non-zero, the next allocation fails. Not for threads. */
extern int (*pkv_shim_fail_alloc)(void);
/* Allocations not yet freed; kept with atomics. */
extern long pkv_shim_nr_allocated;

void *pkv_shim_alloc(size_t nr, size_t size, bool zero);
void pkv_shim_free(const void *p);

#define kvmalloc_array(nr, size, gfp)	pkv_shim_alloc(nr, size, false)
#define kvcalloc(nr, size, gfp)		pkv_shim_alloc(nr, size, true)
#define kvzalloc(size, gfp)		pkv_shim_alloc(1, size, true)
#define kvfree(p)			pkv_shim_free(p)

#endif
