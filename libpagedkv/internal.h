/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The library's own view of its handles.
 *
 * Locks: pagedkv.lock (the list of pools), a backend's own for each pool, and
 * pkv_chains.lock. No two of them are ever held at once, so they have no order.
 */
#ifndef PKV_INTERNAL_H
#define PKV_INTERNAL_H

#include "chain.h"

#define PKV_MAX_PROMPT_TOKENS	(1U << 30)

struct pagedkv {
	const struct pkv_backend *backend;
	void *dev;			/* what the backend opened */
	pthread_mutex_t lock;
	struct pagedkv_pool *pools;	/* under lock */
};

struct pagedkv_pool {
	struct pagedkv *kv;
	struct pagedkv_pool *prev, *next;	/* under kv->lock */
	const struct pkv_backend *backend;
	void *priv;			/* the backend's */
	uint32_t nr_classes;
	uint32_t page_tokens[PAGEDKV_MAX_CLASSES];
	uint32_t max_pages[PAGEDKV_MAX_CLASSES];	/* of a sequence: all must fit the device */
	struct pkv_digest root[PAGEDKV_MAX_CLASSES];	/* H(0) */
	uint8_t salt[PAGEDKV_SALT_BYTES];
	char *name;			/* NULL: anonymous */
	struct pkv_chains chains;
};

/**
 * Take a params struct that may be of an older or a later version: @src starts
 * with its size. What it lacks of @known bytes becomes zero.
 * -EINVAL (NULL, under @min), -E2BIG (a later version's field is not zero).
 */
int pkv_params_get(void *dst, size_t known, size_t min, const void *src);
/** Fill an output struct that starts with its size; that stays as it is. Errors as above. */
int pkv_params_put(void *dst, const void *src, size_t known, size_t min);
/** May a pool, or a file that it keeps, be called so? NULL is fine. -EINVAL. */
int pkv_check_name(const char *name);
/** Whether pkv_params_put() would fill @dst. */
int pkv_params_check(const void *dst, size_t min);

#endif
