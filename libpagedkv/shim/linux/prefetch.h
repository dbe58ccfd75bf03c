/* SPDX-License-Identifier: MIT */
#ifndef PKV_SHIM_PREFETCH_H
#define PKV_SHIM_PREFETCH_H

static inline void prefetch(const void *p)
{
	__builtin_prefetch(p);
}

static inline void prefetchw(const void *p)
{
	__builtin_prefetch(p, 1);
}

#endif
