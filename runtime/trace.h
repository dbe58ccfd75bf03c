/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Trace files into requests. Used by workload.c; on its own for fuzzing. The input is
 * hostile: a line, a number, a count, a time out of bounds is one clear cause and no more.
 */
#ifndef PKVRT_TRACE_H
#define PKVRT_TRACE_H

#include <stdint.h>
#include <stdio.h>

#include "workload.h"

#define PKVRT_TRACE_LINE_MAX	(1u << 20)	/* bytes of a line; longer is refused */

/**
 * pkvrt_trace_open - open a regular file for reading; never blocks on a FIFO
 * @f: set on success; the caller closes it
 *
 * Return: 0; -EISDIR; -EINVAL neither a file nor a directory; the errno of open().
 */
int pkvrt_trace_open(FILE **f, const char *path, char *why, size_t why_len);

/**
 * pkvrt_trace_read - read requests of any known format to the end of @f, or to nr_requests
 * @name: what to call the file in @why
 * @p: limits and the shared prefix; p->trace, seed and rate are not looked at
 * @w: zeroed; on success has reqs (sorted, first at 0), hash_ids, source and nr_dropped_*.
 *	On failure what it has must still be freed
 *
 * Return: 0; -EINVAL not a trace; -E2BIG above a maximum; -ENOMEM; -EIO and the like.
 */
int pkvrt_trace_read(FILE *f, const char *name, const struct pkvrt_workload_params *p,
		     struct pkvrt_workload *w, char *why, size_t why_len);

#endif
