/* SPDX-License-Identifier: GPL-2.0-only */
/* Commands of a pool's file over io_uring, which liburing doesn't know. */
#ifndef PAGEDKV_RING_H
#define PAGEDKV_RING_H

#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include <linux/pagedkv.h>

/* The next entry of @ring, filled in and not yet submitted. */
static inline struct io_uring_sqe *prep_command(struct io_uring *ring, int fd, uint32_t op,
						const struct pagedkv_uring_cmd *cmd)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		abort();
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = fd;
	sqe->cmd_op = op;
	memcpy(sqe->cmd, cmd, sizeof(*cmd));
	return sqe;
}

#endif
