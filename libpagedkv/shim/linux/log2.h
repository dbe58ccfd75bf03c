/* SPDX-License-Identifier: MIT */
#ifndef PKV_SHIM_LOG2_H
#define PKV_SHIM_LOG2_H

#include <linux/types.h>

static inline bool is_power_of_2(unsigned long n)
{
	return n && !(n & (n - 1));
}

static inline unsigned int ilog2(unsigned long n)
{
	return 8 * (unsigned int)sizeof(n) - 1 - (unsigned int)__builtin_clzl(n);
}

/* The largest power of two that is not above @n; @n is not zero. */
static inline unsigned long rounddown_pow_of_two(unsigned long n)
{
	return 1UL << ilog2(n);
}

#endif
