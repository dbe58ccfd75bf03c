// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <stdarg.h>
#include <stdio.h>

#include "why.h"

int pkvrt_why(char *why, size_t why_len, int err, const char *fmt, ...)
{
	va_list args;

	if (!why || !why_len)
		return err;
	va_start(args, fmt);
	vsnprintf(why, why_len, fmt, args);
	va_end(args);
	for (char *c = why; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	return err;
}
