// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Foreign files: what a pool keeps for the next server. */
#include <errno.h>

#include "internal.h"

int pagedkv_file_keep(struct pagedkv_pool *pool, const struct pagedkv_file *file, int fd)
{
	if (!pool || !file || pkv_check_name(file->name))
		return -EINVAL;
	return pool->backend->file_keep(pool->priv, file, fd);
}

int pagedkv_file_take(struct pagedkv_pool *pool, const char *name, uint64_t fingerprint,
		      uint64_t *bytes)
{
	uint64_t unused;

	if (!pool || !name || pkv_check_name(name))
		return -EINVAL;
	return pool->backend->file_take(pool->priv, name, fingerprint, bytes ? bytes : &unused);
}

int pagedkv_file_drop(struct pagedkv_pool *pool, const char *name)
{
	if (!pool || !name || pkv_check_name(name))
		return -EINVAL;
	return pool->backend->file_drop(pool->priv, name);
}

int pagedkv_file_list(struct pagedkv_pool *pool, uint64_t *cursor, struct pagedkv_file *out,
		      uint32_t nr)
{
	if (!pool || !cursor || (nr && !out))
		return -EINVAL;
	return pool->backend->file_list(pool->priv, cursor, out, nr < INT32_MAX ? nr : INT32_MAX);
}
