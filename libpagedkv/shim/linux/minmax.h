/* SPDX-License-Identifier: MIT */
#ifndef PKV_SHIM_MINMAX_H
#define PKV_SHIM_MINMAX_H

/* Each argument is evaluated once; both have one type, as in the kernel. */
#define min(a, b)	({ __typeof__(a) min_a = (a), min_b = (b); min_a < min_b ? min_a : min_b; })
#define max(a, b)	({ __typeof__(a) max_a = (a), max_b = (b); max_a > max_b ? max_a : max_b; })
#define max3(a, b, c)	\
	({ __typeof__(a) max3_ab = max(a, b), max3_c = (c); max3_ab > max3_c ? max3_ab : max3_c; })

#endif
