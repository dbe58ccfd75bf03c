/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Memory registered with a ring, in pieces of the size that the kernel takes as one buffer. */
#ifndef PKVRT_REGIONS_H
#define PKVRT_REGIONS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define PKVRT_REGIONS_MAX	4
#define PKVRT_REGIONS_CHUNKS	1024u

struct pkvrt_region {
	uintptr_t start;
	size_t bytes;
	unsigned int first;	/* index of its first chunk */
};

struct pkvrt_regions {
	struct pkvrt_region list[PKVRT_REGIONS_MAX];
	unsigned int nr;
};

/*
 * Note @nr regions, at most PKVRT_REGIONS_MAX, and cut them into chunks[PKVRT_REGIONS_CHUNKS].
 * Returns the number of chunks, or -EINVAL: none, or too many.
 */
int pkvrt_regions_cut(struct pkvrt_regions *r, const struct iovec *regions, unsigned int nr,
		      struct iovec *chunks);

/* The chunk that @iov lies in as a whole, or -1. */
int pkvrt_regions_index(const struct pkvrt_regions *r, const struct iovec *iov);

#endif
