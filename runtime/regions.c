// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "regions.h"

#include <errno.h>

#define CHUNK_SHIFT	30	/* the kernel takes 1 GiB in one registered buffer */

int pkvrt_regions_cut(struct pkvrt_regions *r, const struct iovec *regions, unsigned int nr,
		      struct iovec *chunks)
{
	const size_t chunk = (size_t)1 << CHUNK_SHIFT;
	unsigned int i, nr_chunks = 0;
	size_t off, left;

	r->nr = 0;
	for (i = 0; i < nr; i++) {
		r->list[i] = (struct pkvrt_region){
			(uintptr_t)regions[i].iov_base, regions[i].iov_len, nr_chunks
		};
		for (off = 0; off < regions[i].iov_len; off += chunk) {
			if (nr_chunks == PKVRT_REGIONS_CHUNKS)
				return -EINVAL;
			left = regions[i].iov_len - off;
			chunks[nr_chunks++] = (struct iovec){
				(char *)regions[i].iov_base + off, left < chunk ? left : chunk
			};
		}
	}
	r->nr = nr;
	return nr_chunks ? (int)nr_chunks : -EINVAL;
}

int pkvrt_regions_index(const struct pkvrt_regions *r, const struct iovec *iov)
{
	uintptr_t start, last;
	unsigned int i;

	for (i = 0; i < r->nr; i++) {
		start = (uintptr_t)iov->iov_base - r->list[i].start;
		last = start + iov->iov_len - 1;
		if ((uintptr_t)iov->iov_base < r->list[i].start || last >= r->list[i].bytes)
			continue;
		if (start >> CHUNK_SHIFT != last >> CHUNK_SHIFT)
			return -1;
		return (int)(r->list[i].first + (start >> CHUNK_SHIFT));
	}
	return -1;
}
