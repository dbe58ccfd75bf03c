// SPDX-License-Identifier: MIT
/* Memory for the page manager in user space: see linux/slab.h. */
#include <linux/slab.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES	(2UL << 20)

int (*pkv_shim_fail_alloc)(void);
long pkv_shim_nr_allocated;

void *pkv_shim_alloc(size_t nr, size_t size, bool zero)
{
	size_t bytes;
	void *p;

	if (__builtin_mul_overflow(nr, size, &bytes))
		return NULL;
	if (pkv_shim_fail_alloc && pkv_shim_fail_alloc())
		return NULL;
	if (bytes < HUGE_BYTES) {
		p = zero ? calloc(1, bytes ? bytes : 1) : malloc(bytes ? bytes : 1);
	} else if (posix_memalign(&p, HUGE_BYTES, bytes)) {
		p = NULL;
	} else {
		madvise(p, bytes, MADV_HUGEPAGE);
		if (zero)
			memset(p, 0, bytes);
	}
	if (p)
		__atomic_add_fetch(&pkv_shim_nr_allocated, 1, __ATOMIC_RELAXED);
	return p;
}

void pkv_shim_free(const void *p)
{
	if (!p)
		return;
	__atomic_sub_fetch(&pkv_shim_nr_allocated, 1, __ATOMIC_RELAXED);
	free((void *)(uintptr_t)p);
}
