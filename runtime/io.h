/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * I/O on one file through io_uring, driven by one thread (the caller's): queue requests, then
 * poll or wait. Neighbouring requests become one larger command. Each request may carry a
 * deadline.
 *
 * Life of a request: queue -> done() once -> released() once. done() says how it ended, at the
 * latest at the deadline (-ETIMEDOUT). released() says that the kernel holds neither the buffer
 * nor the file range any more; after a deadline it may come much later, and until then nobody
 * may reuse either: a late read would scribble over the buffer, a late write over the file.
 * The request's memory belongs to this layer from queue to the return of released().
 *
 * Where io_uring is forbidden (seccomp), or has no locked memory left, the same calls run preadv,
 * pwritev and fdatasync at once, so that a program works there, slower and without deadlines: see
 * PKVRT_IO_CAP_URING.
 */
#ifndef PKVRT_IO_H
#define PKVRT_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "regions.h"

enum pkvrt_io_kind {
	PKVRT_IO_READ,
	PKVRT_IO_WRITE,
	PKVRT_IO_SYNC,		/* fdatasync: covers writes that were done before it was queued */
};

struct pkvrt_io_req {
	enum pkvrt_io_kind kind;
	uint64_t offset_bytes;	/* in the file; unused for SYNC */
	void *buf;
	uint32_t len_bytes;	/* > 0 unless SYNC */
	uint64_t deadline_ns;	/* absolute CLOCK_MONOTONIC; 0 is never */
	int urgent;		/* before all that is not; a SYNC always is */
	void (*done)(struct pkvrt_io_req *req, int res);	/* 0 or -errno */
	void (*released)(struct pkvrt_io_req *req);		/* may be NULL */

	/* private to io.c */
	TAILQ_ENTRY(pkvrt_io_req) link;
	int res;
	int is_done;
	int alone;		/* not to be merged */
};

TAILQ_HEAD(pkvrt_io_list, pkvrt_io_req);

/* One command as the kernel sees it: one or more neighbouring requests. */
struct pkvrt_io_view {
	enum pkvrt_io_kind kind;
	uint64_t offset_bytes;
	const struct iovec *iov;
	unsigned int nr_iov;
	uint64_t serial;	/* counts commands from 0 */
};

enum pkvrt_io_fault {
	PKVRT_FAULT_NONE,
	PKVRT_FAULT_ERROR,	/* fails with -arg, nothing transferred */
	PKVRT_FAULT_SHORT,	/* transfers arg bytes at most, this time */
	PKVRT_FAULT_HANG,	/* stays out until pkvrt_io_unhang() */
	PKVRT_FAULT_FLIP,	/* a read whose bit number arg comes back inverted */
};

/* Hooks for tests, under the real path. Each may be NULL. */
struct pkvrt_io_hooks {
	/* Before a command goes out: choose its fault. */
	enum pkvrt_io_fault (*issue)(void *ctx, const struct pkvrt_io_view *v, uint64_t *arg);
	/* When it came back; @res is bytes or -errno, after the fault. */
	void (*complete)(void *ctx, const struct pkvrt_io_view *v, int res);
	void *ctx;
};

struct pkvrt_io_params {
	size_t size;		/* sizeof(struct pkvrt_io_params) */
	int fd;			/* stays the caller's */
	unsigned int queue_depth;	/* commands in flight, some urgent ones aside; 0 is 64 */
	uint32_t merge_bytes;	/* largest merged command; 0 is 1 MiB; 1 merges nothing */
	uint32_t align_bytes;	/* what O_DIRECT wants of a continued short transfer; 0 is 1 */
	const struct pkvrt_io_hooks *hooks;	/* NULL outside tests; must outlive the ring */
};

#define PKVRT_IO_MAX_REGIONS	PKVRT_REGIONS_MAX

#define PKVRT_IO_CAP_URING	(1u << 0)	/* io_uring, not the synchronous fallback */
#define PKVRT_IO_CAP_FIXED_BUF	(1u << 1)	/* buffers are registered */
#define PKVRT_IO_CAP_FIXED_FILE	(1u << 2)	/* the file is registered */

struct pkvrt_io_stats {
	uint64_t nr_requests;		/* done, whatever the result */
	uint64_t nr_commands;		/* issued to the kernel, continuations included */
	uint64_t nr_merged;		/* requests that shared a command with the one before */
	uint64_t nr_short;		/* transfers continued after a short result */
	uint64_t nr_errors;		/* requests that ended with an error */
	uint64_t nr_late;		/* of those, with -ETIMEDOUT */
	uint64_t read_bytes, write_bytes;
	unsigned int nr_inflight;	/* commands in the kernel now, late ones included */
	unsigned int nr_quarantined;	/* requests done but not released now */
};

struct pkvrt_io;

/**
 * pkvrt_io_create - set a ring up for one file
 *
 * A system that refuses to register the file is no error; see pkvrt_io_caps().
 *
 * Return: 0, -EINVAL (bad params), -ENOMEM, or what io_uring_setup(2) says, save -EPERM,
 * -ENOSYS and -ENOMEM, which choose the synchronous fallback.
 */
int pkvrt_io_create(struct pkvrt_io **out, const struct pkvrt_io_params *p);

/**
 * pkvrt_io_destroy - end the ring
 * @grace_ns: how long to wait for commands still in the kernel
 *
 * Requests that have not ended end with -ECANCELED, and all are released. After the grace the
 * kernel may still hold commands: it has its own references to file and memory, so the arena may
 * be unmapped, but must not be used for anything else. NULL is fine.
 *
 * Return: number of commands that the kernel kept.
 */
unsigned int pkvrt_io_destroy(struct pkvrt_io *io, uint64_t grace_ns);

/**
 * pkvrt_io_register - pin the memory that buffers lie in, once, before the first request
 * @regions: at most PKVRT_IO_MAX_REGIONS; must stay mapped until pkvrt_io_destroy()
 *
 * Only speed: buffers elsewhere work as well.
 *
 * Return: 0, -EINVAL, -EBUSY (done already), -EOPNOTSUPP (no ring), -ENOMEM (RLIMIT_MEMLOCK),
 * -EFAULT.
 */
int pkvrt_io_register(struct pkvrt_io *io, const struct iovec *regions, unsigned int nr);

/* Hand a request in. Nothing is called back from here; errors come through done(). */
void pkvrt_io_queue(struct pkvrt_io *io, struct pkvrt_io_req *req);

/* Issue what is queued; nothing is called back. Return 0, or -errno when the ring itself fails. */
int pkvrt_io_push(struct pkvrt_io *io);

/**
 * pkvrt_io_poll - issue what is queued, take what has come back, end what is late
 *
 * Callbacks run from here and may queue more, which is issued before the return.
 *
 * Return: number of requests done or released, or -errno when the ring itself fails.
 */
int pkvrt_io_poll(struct pkvrt_io *io);

/**
 * pkvrt_io_wait - pkvrt_io_poll(), sleeping until something happens
 * @until_ns: absolute CLOCK_MONOTONIC; the nearest deadline of a request ends the sleep as well
 *
 * Return: as pkvrt_io_poll(); 0 when the time ran out or the watched fd woke it.
 */
int pkvrt_io_wait(struct pkvrt_io *io, uint64_t until_ns);

/* Let readability of @fd (an eventfd) end pkvrt_io_wait(). -1 ends watching. Return 0 or -errno. */
int pkvrt_io_watch(struct pkvrt_io *io, int fd);

unsigned int pkvrt_io_caps(const struct pkvrt_io *io);
void pkvrt_io_stats(const struct pkvrt_io *io, struct pkvrt_io_stats *s);

/* Requests queued or in flight (done ones in quarantine not counted). */
unsigned int pkvrt_io_pending(const struct pkvrt_io *io);

/* For tests: let the commands go that PKVRT_FAULT_HANG held back; they really run now. */
void pkvrt_io_unhang(struct pkvrt_io *io);

uint64_t pkvrt_now_ns(void);	/* CLOCK_MONOTONIC */

#endif
