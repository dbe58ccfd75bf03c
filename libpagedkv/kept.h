/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Files that an embedded pool keeps, with the kernel module's rules: here a
 * descriptor of this process each. The caller locks.
 */
#ifndef PKV_KEPT_H
#define PKV_KEPT_H

#include "pagedkv.h"

/* All zero: empty. */
struct pkv_kept {
	struct pkv_kept_file *first;	/* by id */
	uint32_t nr;
	uint64_t next_id;
};

/** -EBADF, -ELOOP, -EEXIST, -EDQUOT, -ENOMEM. */
int pkv_kept_add(struct pkv_kept *kept, const struct pagedkv_file *file, int fd);
/** A new descriptor. -ENOENT, -EACCES, -ENOMEM. */
int pkv_kept_take(const struct pkv_kept *kept, const char *name, uint64_t fingerprint,
		  uint64_t *bytes);
/** -ENOENT. */
int pkv_kept_drop(struct pkv_kept *kept, const char *name);
uint32_t pkv_kept_list(const struct pkv_kept *kept, uint64_t *cursor, struct pagedkv_file *out,
		       uint32_t nr);
void pkv_kept_exit(struct pkv_kept *kept);

#endif
