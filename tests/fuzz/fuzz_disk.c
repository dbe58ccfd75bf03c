// SPDX-License-Identifier: GPL-2.0-only
/*
 * Arbitrary bytes as a disk image: open, scan, load all that is vouched for, overwrite some of it,
 * and open again. Checksums would stop nearly every input at the door, so those of superblock and
 * headers are made right first where the input's first byte asks for it.
 *
 * Input: 1 byte of flags, then the start of the file; SMALL pages keep images short.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk.h"
#include "diskfmt.h"

#define SMALL		4096u
#define MAX_SLOTS	64u
#define FIX_SUPER	1u
#define FIX_HEADERS	2u
#define WHOLE_FILE	4u	/* as long as its superblock says, if that is little */
#define SEC		1000000000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct load {
	struct pkvrt_disk_op op;
	int ended;
};

static void ended(struct pkvrt_disk_op *op)
{
	((struct load *)op->user)->ended = 1;
}

static int run_op(struct pkvrt_disk *d, enum pkvrt_disk_kind kind, uint32_t slot, void *buf)
{
	struct load l = { .op = {
		.kind = kind, .slot = slot, .buf = buf, .done = ended, .user = &l,
	} };

	pkvrt_disk_submit(d, &l.op);
	while (!l.ended)
		if (pkvrt_disk_wait(d, pkvrt_now_ns() + SEC) < 0)
			abort();
	return l.op.res;
}

struct seen {
	struct pkvrt_disk *disk;
	void *page;
	unsigned int nr, nr_loaded;
};

static int found(void *ctx, uint32_t slot, const struct pkvrt_key *key)
{
	struct seen *s = ctx;

	(void)key;
	if (s->nr++ < MAX_SLOTS)
		s->nr_loaded += !run_op(s->disk, PKVRT_DISK_LOAD, slot, s->page);
	return 0;
}

/* The checksum at @at, as the format wants it: over the rest, with the field taken as 0. */
static void fix_crc(uint8_t *raw, size_t len, size_t at)
{
	uint32_t crc;

	memset(raw + at, 0, 4);
	crc = pkvrt_crc32c(raw, len);
	memcpy(raw + at, &crc, 4);
}

static size_t build(uint8_t flags, uint8_t *file, size_t len, size_t room)
{
	struct pkvrt_fmt_super s;
	uint64_t offset, total;
	size_t at;

	if (flags & FIX_SUPER && len >= PKVRT_FMT_BLOCK)
		fix_crc(file, PKVRT_FMT_BLOCK, 12);
	for (at = PKVRT_FMT_BLOCK; flags & FIX_HEADERS && at + PKVRT_FMT_HEADER <= len;
	     at += PKVRT_FMT_HEADER)
		fix_crc(file + at, PKVRT_FMT_HEADER, 4);
	if (!(flags & WHOLE_FILE) || len < PKVRT_FMT_BLOCK || pkvrt_fmt_get_super(file, &s) ||
	    pkvrt_fmt_layout(s.page_bytes, s.nr_slots, &offset, &total) || total > room)
		return len;
	return total > len ? total : len;
}

static void use_image(const char *path, uint64_t model_fp)
{
	struct pkvrt_disk_params p = {
		.size = sizeof(p), .path = path, .page_bytes = SMALL, .model_fp = model_fp,
		.queue_depth = 4,
	};
	struct seen s = { .page = aligned_alloc(SMALL, SMALL) }, again = s;
	char why[PKVRT_DISK_WHY_MAX];
	struct pkvrt_disk_info info;

	if (!s.page)
		return;
	memset(s.page, 0, SMALL);
	if (pkvrt_disk_open(&s.disk, &p, why, sizeof(why))) {
		if (!why[0] || strchr(why, '\n'))
			abort();
		free(s.page);
		return;
	}
	pkvrt_disk_info(s.disk, &info);
	pkvrt_disk_scan(s.disk, found, &s);
	/* Whatever the old headers were, what is stored now is what is found and loaded. */
	if (run_op(s.disk, PKVRT_DISK_STORE, (uint32_t)(info.nr_slots - 1), s.page))
		abort();
	pkvrt_disk_close(s.disk, SEC);
	again.page = s.page;
	if (pkvrt_disk_open(&again.disk, &p, why, sizeof(why)))
		abort();
	pkvrt_disk_scan(again.disk, found, &again);
	if (!again.nr || run_op(again.disk, PKVRT_DISK_LOAD, (uint32_t)(info.nr_slots - 1), s.page))
		abort();
	pkvrt_disk_close(again.disk, SEC);
	free(s.page);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const size_t room = (size_t)4 << 20;
	uint64_t model_fp = 0;
	char path[64];
	uint8_t *file;
	size_t len;
	int fd;

	if (!size || size > room)
		return -1;
	fd = memfd_create("image", MFD_CLOEXEC);
	file = malloc(size);
	if (fd < 0 || !file)
		goto out;
	memcpy(file, data + 1, size - 1);
	len = build(data[0], file, size - 1, room);
	if (write(fd, file, size - 1) != (ssize_t)(size - 1) || ftruncate(fd, (off_t)len))
		goto out;
	/* The image's own model, so that this door is open. */
	if (size - 1 >= 56)
		memcpy(&model_fp, file + 48, sizeof(model_fp));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	use_image(path, model_fp);
out:
	free(file);
	if (fd >= 0)
		close(fd);
	return 0;
}
