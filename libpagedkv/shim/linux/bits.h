/* SPDX-License-Identifier: MIT */
#ifndef PKV_SHIM_BITS_H
#define PKV_SHIM_BITS_H

#define BIT(nr)	(1UL << (nr))

#endif
