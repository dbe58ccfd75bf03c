/* SPDX-License-Identifier: MIT */
#ifndef PKV_SHIM_ERRNO_H
#define PKV_SHIM_ERRNO_H

#include_next <linux/errno.h>

#endif
