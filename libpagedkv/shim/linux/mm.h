/* SPDX-License-Identifier: MIT */
/* kvmalloc_array() and friends live in <linux/mm.h> in 6.1, in <linux/slab.h> later. */
#ifndef PKV_SHIM_MM_H
#define PKV_SHIM_MM_H

#include <linux/slab.h>

#endif
