/* SPDX-License-Identifier: MIT */
#ifndef PKV_SHIM_BUILD_BUG_H
#define PKV_SHIM_BUILD_BUG_H

#include <assert.h>

#endif
