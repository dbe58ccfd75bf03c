/* SPDX-License-Identifier: MIT */
/* The kernel's short integer names for code that also builds in user space. */
#ifndef PKV_SHIM_TYPES_H
#define PKV_SHIM_TYPES_H

#include_next <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef unsigned int gfp_t;

#endif
