/* SPDX-License-Identifier: MIT */
#ifndef PKV_SHIM_COMPILER_H
#define PKV_SHIM_COMPILER_H

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

#endif
