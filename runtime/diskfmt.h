/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Format of a disk image, version 1. Little-endian everywhere.
 *
 *	0		superblock, 4096 bytes
 *	4096		slot headers, 64 bytes each, padded to whole blocks of 4096
 *	data		pages, nr_slots of page_bytes; starts at a multiple of 2 MiB
 *
 * 64 headers share a block and are written together. A header is never torn into a wrong one: it
 * lies in one sector, its CRC covers it, and it names its own slot and image.
 */
#ifndef PKVRT_DISKFMT_H
#define PKVRT_DISKFMT_H

#include <stddef.h>
#include <stdint.h>

#define PKVRT_FMT_VERSION	1u
#define PKVRT_FMT_BLOCK		4096u
#define PKVRT_FMT_HEADER	64u
#define PKVRT_FMT_PER_BLOCK	(PKVRT_FMT_BLOCK / PKVRT_FMT_HEADER)
#define PKVRT_FMT_MAX_SLOTS	(UINT32_MAX - 1ull)
#define PKVRT_FMT_MAX_PAGE	(1ull << 30)
#define PKVRT_FMT_NAME		64u

enum pkvrt_fmt_state {
	PKVRT_FMT_CREATING = 1,	/* creation was not carried through: holds nothing */
	PKVRT_FMT_READY = 2,
};

/* The superblock, in this machine's byte order. */
struct pkvrt_fmt_super {
	enum pkvrt_fmt_state state;
	uint32_t version;	/* of the image; set by decoding also when it is not ours */
	uint64_t page_bytes, nr_slots;
	uint64_t model_fp;
	uint64_t image_id;	/* random: headers of an earlier image do not count */
	uint8_t salt[32];
	char pool_name[PKVRT_FMT_NAME];
};

/* A slot header, in this machine's byte order. */
struct pkvrt_fmt_header {
	int valid;		/* vouches for a page; else the rest but generation is 0 */
	uint32_t slot;
	uint64_t generation;	/* counts the stores into this slot */
	uint8_t key[16];
	uint32_t data_bytes;
	uint32_t data_crc;	/* CRC32C */
};

uint32_t pkvrt_crc32c(const void *buf, size_t len_bytes);

/* Offsets of an image. -EOVERFLOW when it would not fit into a file, -EINVAL for bad geometry. */
int pkvrt_fmt_layout(uint64_t page_bytes, uint64_t nr_slots, uint64_t *data_offset_bytes,
		     uint64_t *total_bytes);

void pkvrt_fmt_put_super(uint8_t block[PKVRT_FMT_BLOCK], const struct pkvrt_fmt_super *s);

/* 0, -EMEDIUMTYPE (no magic), -EPROTONOSUPPORT (version), -EBADMSG (damaged). */
int pkvrt_fmt_get_super(const uint8_t block[PKVRT_FMT_BLOCK], struct pkvrt_fmt_super *s);

void pkvrt_fmt_put_header(uint8_t raw[PKVRT_FMT_HEADER], const struct pkvrt_fmt_super *s,
			  const struct pkvrt_fmt_header *h);

/* 0 (also for a header that was never written), or -EBADMSG: torn, damaged, or not of here. */
int pkvrt_fmt_get_header(const uint8_t raw[PKVRT_FMT_HEADER], const struct pkvrt_fmt_super *s,
			 uint32_t slot, struct pkvrt_fmt_header *h);

#endif
