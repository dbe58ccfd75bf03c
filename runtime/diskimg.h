/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The image behind a disk tier: opened or created, checked, locked, its headers read. Everything
 * in it is taken as hostile.
 */
#ifndef PKVRT_DISKIMG_H
#define PKVRT_DISKIMG_H

#include "disk.h"
#include "diskfmt.h"

struct pkvrt_diskimg {
	int fd;
	int created;
	int direct;		/* O_DIRECT is on */
	struct pkvrt_fmt_super super;
	uint64_t data_offset_bytes;
	uint64_t nr_blocks;	/* of headers */
	uint8_t *headers;	/* as on disk, whole blocks; untouched where all zero */
	size_t headers_bytes;
};

/* See pkvrt_disk_open(). On failure @img holds nothing. */
int pkvrt_diskimg_open(struct pkvrt_diskimg *img, const struct pkvrt_disk_params *p,
		       char *why, size_t why_len);
/*
 * Let others have the image now. Closing alone does so later, when the ring and the last I/O have
 * let go of the file: right while the kernel may still write, slow otherwise.
 */
void pkvrt_diskimg_unlock(struct pkvrt_diskimg *img);
void pkvrt_diskimg_close(struct pkvrt_diskimg *img);

#endif
