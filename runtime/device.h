/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the engine needs of a device that holds pages: copies of whole pages between device slots
 * and host memory, begun in batches and polled. CUDA implements it with streams and events; the
 * CPU "device" is plain memory and copies at once.
 */
#ifndef PKVRT_DEVICE_H
#define PKVRT_DEVICE_H

#include <stddef.h>
#include <stdint.h>

enum pkvrt_copy_kind {
	PKVRT_COPY_OUT,		/* device slot -> host memory */
	PKVRT_COPY_IN,		/* host memory -> device slot */
	PKVRT_COPY_DEVICE,	/* device slot -> device slot */
};

struct pkvrt_copy {
	enum pkvrt_copy_kind kind;
	uint32_t src_slot;	/* OUT, DEVICE */
	uint32_t dst_slot;	/* IN, DEVICE */
	void *host;		/* OUT, IN */
};

/* Called by the engine's thread alone. */
struct pkvrt_device {
	void *ctx;
	/*
	 * Start @nr copies, in any order; none reads what another writes. 0 and a ticket, or
	 * -errno: none was started. Must not wait for the copies.
	 */
	int (*begin)(void *ctx, const struct pkvrt_copy *copies, unsigned int nr,
		     uint64_t *ticket);
	/* 1: all of the ticket's copies are done, and it ends; 0: not yet; -errno: failed, ends. */
	int (*poll)(void *ctx, uint64_t ticket);
	/*
	 * Both or neither. Host memory that copies will use, touched already, is made ready for the
	 * device; until unpin, which comes when no copy uses it any more. 0 or -errno. By whoever
	 * makes and ends the engine.
	 */
	int (*pin)(void *ctx, void *base, size_t bytes);
	void (*unpin)(void *ctx, void *base);
};

/* A device in plain memory: slot after slot. */
struct pkvrt_device_cpu {
	void *base;
	size_t page_bytes;
};

/* Fill @dev; @cpu must outlive it. */
void pkvrt_device_cpu_init(struct pkvrt_device *dev, struct pkvrt_device_cpu *cpu);

#endif
