// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Looking into a pool: counters, a map of its pages, the invariant walk. */
#include <errno.h>
#include <string.h>

#include "internal.h"

int pagedkv_get_stats(struct pagedkv_pool *pool, uint32_t class_id, struct pagedkv_stats *st)
{
	struct pagedkv_stats now;
	int ret;

	if (!pool || class_id >= pool->nr_classes)
		return -EINVAL;
	ret = pkv_params_check(st, sizeof(now));
	if (ret)
		return ret;
	memset(&now, 0, sizeof(now));
	pool->backend->stats(pool->priv, class_id, &now);
	return pkv_params_put(st, &now, sizeof(now), sizeof(now));
}

int pagedkv_map(struct pagedkv_pool *pool, uint32_t class_id, uint32_t *cursor,
		struct pagedkv_map_entry *out, uint32_t nr)
{
	if (!pool || class_id >= pool->nr_classes || !cursor || (nr && !out))
		return -EINVAL;
	return pool->backend->map(pool->priv, class_id, cursor, out,
				  nr < INT32_MAX ? nr : INT32_MAX);
}

int pagedkv_check(struct pagedkv_pool *pool, const char **why)
{
	const char *reason = NULL;
	int ret;

	if (!pool)
		return -EINVAL;
	ret = pool->backend->check(pool->priv, &reason);
	if (why)
		*why = reason;
	return ret;
}
