// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Files that an embedded pool keeps. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kept.h"

struct pkv_kept_file {
	struct pkv_kept_file *next;
	uint64_t id;
	struct pagedkv_file what;
	int fd;
};

/* The kinds that the kernel module keeps, so that a program finds out on either backend. */
static int check_kind(int fd)
{
	struct statfs fs;
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || flags & O_PATH || fstat(fd, &st))
		return -EBADF;
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
		return 0;
	default:
		return !fstatfs(fd, &fs) && fs.f_type == DMA_BUF_MAGIC ? 0 : -ELOOP;
	}
}

/* O_CLOEXEC. -EBADF, -ENOMEM (none is free). */
static int duplicate(int fd)
{
	int ret = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (ret >= 0)
		return ret;
	return errno == EBADF ? -EBADF : -ENOMEM;
}

/* The link that leads to it, or the last one. */
static struct pkv_kept_file **find(const struct pkv_kept *kept, const char *name)
{
	struct pkv_kept_file **at = (struct pkv_kept_file **)&kept->first;

	while (*at && strcmp((*at)->what.name, name))
		at = &(*at)->next;
	return at;
}

int pkv_kept_add(struct pkv_kept *kept, const struct pagedkv_file *file, int fd)
{
	struct pkv_kept_file **at = find(kept, file->name);
	struct pkv_kept_file *f;
	int ret = check_kind(fd);

	if (ret)
		return ret;
	if (*at)
		return -EEXIST;
	if (kept->nr == PAGEDKV_MAX_FILES)
		return -EDQUOT;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->fd = duplicate(fd);
	if (f->fd < 0) {
		ret = f->fd;
		free(f);
		return ret;
	}
	f->id = kept->next_id++;
	strcpy(f->what.name, file->name);
	f->what.bytes = file->bytes;
	f->what.fingerprint = file->fingerprint;
	*at = f;
	kept->nr++;
	return 0;
}

int pkv_kept_take(const struct pkv_kept *kept, const char *name, uint64_t fingerprint,
		  uint64_t *bytes)
{
	const struct pkv_kept_file *f = *find(kept, name);
	int fd;

	if (!f)
		return -ENOENT;
	if (f->what.fingerprint != fingerprint)
		return -EACCES;
	fd = duplicate(f->fd);
	if (fd >= 0)
		*bytes = f->what.bytes;
	return fd;
}

static void drop(struct pkv_kept *kept, struct pkv_kept_file **at)
{
	struct pkv_kept_file *f = *at;

	*at = f->next;
	kept->nr--;
	close(f->fd);
	free(f);
}

int pkv_kept_drop(struct pkv_kept *kept, const char *name)
{
	struct pkv_kept_file **at = find(kept, name);

	if (!*at)
		return -ENOENT;
	drop(kept, at);
	return 0;
}

uint32_t pkv_kept_list(const struct pkv_kept *kept, uint64_t *cursor, struct pagedkv_file *out,
		       uint32_t nr)
{
	uint32_t n = 0;

	for (const struct pkv_kept_file *f = kept->first; f && n < nr; f = f->next) {
		if (f->id < *cursor)
			continue;
		out[n++] = f->what;
		*cursor = f->id + 1;
	}
	return n;
}

void pkv_kept_exit(struct pkv_kept *kept)
{
	while (kept->first)
		drop(kept, &kept->first);
}
