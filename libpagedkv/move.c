// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Moves: what the owner of the memory copies, and waiting for it. */
#include <errno.h>

#include "internal.h"

int pagedkv_moves_fetch(struct pagedkv_pool *pool, struct pagedkv_move *out, uint32_t max)
{
	if (!pool || (max && !out))
		return -EINVAL;
	return pool->backend->moves_fetch(pool->priv, out, max < INT32_MAX ? max : INT32_MAX);
}

/* Looked at before anything is committed, so that a bad item changes nothing. */
static int check_commit(const struct pagedkv_commit *c)
{
	if (c->flags & ~PAGEDKV_COMMIT_SOURCE_BAD)
		return -EOPNOTSUPP;
	if (c->status > 0 || (!c->status && c->flags))
		return -EINVAL;
	return 0;
}

int pagedkv_moves_commit(struct pagedkv_pool *pool, const struct pagedkv_commit *items,
			 uint32_t nr)
{
	int ret;

	if (!pool || (nr && !items))
		return -EINVAL;
	for (uint32_t i = 0; i < nr; i++) {
		ret = check_commit(&items[i]);
		if (ret)
			return ret;
	}
	return pool->backend->moves_commit(pool->priv, items, nr);
}

int pagedkv_moves_fd(struct pagedkv_pool *pool)
{
	return pool ? pool->backend->moves_fd(pool->priv) : -EINVAL;
}

void pagedkv_moves_stop(struct pagedkv_pool *pool)
{
	if (pool)
		pool->backend->moves_stop(pool->priv);
}

int pagedkv_moves_wait(struct pagedkv_pool *pool, uint64_t timeout_ns)
{
	return pool ? pool->backend->moves_wait(pool->priv, timeout_ns) : -EINVAL;
}
