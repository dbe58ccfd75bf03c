// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* A backend, opened; and structs that grow from version to version. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* No struct of any version comes near it: a size above is garbage. */
#define MAX_PARAMS_BYTES	4096U

int pkv_params_check(const void *dst, size_t min)
{
	uint32_t size;

	if (!dst)
		return -EINVAL;
	memcpy(&size, dst, sizeof(size));
	if (size < min)
		return -EINVAL;
	return size > MAX_PARAMS_BYTES ? -E2BIG : 0;
}

int pkv_params_get(void *dst, size_t known, size_t min, const void *src)
{
	const uint8_t *bytes = src;
	uint32_t size;
	int ret = pkv_params_check(src, min);

	if (ret)
		return ret;
	memcpy(&size, src, sizeof(size));
	for (size_t i = known; i < size; i++)
		if (bytes[i])
			return -E2BIG;
	memset(dst, 0, known);
	memcpy(dst, src, size < known ? size : known);
	return 0;
}

int pkv_params_put(void *dst, const void *src, size_t known, size_t min)
{
	uint8_t *bytes = dst;
	uint32_t size;
	int ret = pkv_params_check(dst, min);

	if (ret)
		return ret;
	memcpy(&size, dst, sizeof(size));
	memcpy(dst, src, size < known ? size : known);
	if (size > known)
		memset(bytes + known, 0, size - known);
	memcpy(dst, &size, sizeof(size));
	return 0;
}

/* AUTO may be decided by the environment: a test's, or an administrator's. */
static int decide(uint32_t *id)
{
	const char *name = getenv("PAGEDKV_BACKEND");

	if (*id != PAGEDKV_BACKEND_AUTO || !name || !strcmp(name, "auto"))
		return 0;
	if (!strcmp(name, "kmod"))
		*id = PAGEDKV_BACKEND_KMOD;
	else if (!strcmp(name, "embedded"))
		*id = PAGEDKV_BACKEND_EMBEDDED;
	else
		return -EINVAL;
	return 0;
}

static int open_backend(struct pagedkv *kv, const struct pkv_backend *backend)
{
	kv->backend = backend;
	return backend->open(&kv->dev);
}

static int choose_backend(struct pagedkv *kv, uint32_t id)
{
	int ret = decide(&id);

	if (ret)
		return ret;
	switch (id) {
	case PAGEDKV_BACKEND_AUTO:
		ret = open_backend(kv, &pkv_backend_kmod);
		return ret ? open_backend(kv, &pkv_backend_embed) : 0;
	case PAGEDKV_BACKEND_KMOD:
		return open_backend(kv, &pkv_backend_kmod);
	case PAGEDKV_BACKEND_EMBEDDED:
		return open_backend(kv, &pkv_backend_embed);
	default:
		return -EINVAL;
	}
}

int pagedkv_open(struct pagedkv **out, const struct pagedkv_params *params)
{
	struct pagedkv_params p = { .backend = PAGEDKV_BACKEND_AUTO };
	struct pagedkv *kv;
	int ret;

	if (!out)
		return -EINVAL;
	*out = NULL;
	if (params) {
		ret = pkv_params_get(&p, sizeof(p), sizeof(p), params);
		if (ret)
			return ret;
	}
	kv = calloc(1, sizeof(*kv));
	if (!kv)
		return -ENOMEM;
	ret = choose_backend(kv, p.backend);
	if (ret) {
		free(kv);
		return ret;
	}
	pthread_mutex_init(&kv->lock, NULL);
	*out = kv;
	return 0;
}

void pagedkv_close(struct pagedkv *kv)
{
	if (!kv)
		return;
	while (kv->pools)
		pagedkv_pool_destroy(kv->pools);
	kv->backend->close(kv->dev);
	pthread_mutex_destroy(&kv->lock);
	free(kv);
}

int pagedkv_get_info(struct pagedkv *kv, struct pagedkv_info *info)
{
	struct pagedkv_info now;

	if (!kv)
		return -EINVAL;
	memset(&now, 0, sizeof(now));
	now.backend = kv->backend->id;
	now.version_major = PAGEDKV_VERSION_MAJOR;
	now.version_minor = PAGEDKV_VERSION_MINOR;
	now.features = kv->backend->features;
	return pkv_params_put(info, &now, sizeof(now), sizeof(now));
}
