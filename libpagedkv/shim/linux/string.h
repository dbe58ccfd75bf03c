/* SPDX-License-Identifier: MIT */
#ifndef PKV_SHIM_STRING_H
#define PKV_SHIM_STRING_H

#include <string.h>

#endif
