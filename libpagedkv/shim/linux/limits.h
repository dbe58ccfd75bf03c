/* SPDX-License-Identifier: MIT */
#ifndef PKV_SHIM_LIMITS_H
#define PKV_SHIM_LIMITS_H

#include_next <linux/limits.h>

#ifndef U32_MAX
#define U8_MAX	((__u8)~0U)
#define U16_MAX	((__u16)~0U)
#define U32_MAX	((__u32)~0U)
#define U64_MAX	((__u64)~0ULL)
#endif

#endif
