/* SPDX-License-Identifier: MIT */
#ifndef PKV_SHIM_MINMAX_H
#define PKV_SHIM_MINMAX_H

#define min(a, b) ({ __typeof__(a) _a = (a); __typeof__(b) _b = (b); _a < _b ? _a : _b; })
#define max(a, b) ({ __typeof__(a) _a = (a); __typeof__(b) _b = (b); _a > _b ? _a : _b; })

#endif
