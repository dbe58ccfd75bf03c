/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* The cause of a refusal, for people: one line, whatever was in the input that it quotes. */
#ifndef PKVRT_WHY_H
#define PKVRT_WHY_H

#include <stddef.h>

#define PKVRT_WHY_LEN	512	/* room that any cause needs at most */

/**
 * pkvrt_why - format a cause into @why; control characters become '?'
 * @why: may be NULL: nothing is written then
 *
 * Return: @err, so that a refusal is one statement.
 */
__attribute__((format(printf, 4, 5)))
int pkvrt_why(char *why, size_t why_len, int err, const char *fmt, ...);

#endif
