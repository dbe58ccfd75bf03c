// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Pools: their life, limits, tiers, host memory and salt. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "internal.h"

#define DEFAULT_MAX_SEQS	65536U
#define DEFAULT_MAX_MOVES	1024U
#define DEFAULT_MODE		0600U

/* Letters, digits, '.', '_' and '-', no leading '.': it may become a file's name. */
int pkv_check_name(const char *name)
{
	size_t n;

	if (!name)
		return 0;
	n = strnlen(name, PAGEDKV_NAME_BYTES);
	if (!n || n == PAGEDKV_NAME_BYTES || name[0] == '.')
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		char c = name[i];
		bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			     (c >= '0' && c <= '9');

		if (!alnum && c != '.' && c != '_' && c != '-')
			return -EINVAL;
	}
	return 0;
}

/* No tier may need more bytes than a file offset or an address can tell. */
static int check_class(const struct pagedkv_class_params *c)
{
	uint64_t bytes;

	for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
		if (__builtin_mul_overflow(c->page_bytes, c->nr_slots[t], &bytes) ||
		    bytes > INT64_MAX)
			return -EOVERFLOW;
	return 0;
}

static bool is_zero(const uint8_t *p, size_t n)
{
	uint8_t any = 0;

	for (size_t i = 0; i < n; i++)
		any |= p[i];
	return !any;
}

static int draw_salt(uint8_t salt[PAGEDKV_SALT_BYTES])
{
	ssize_t n;

	if (!is_zero(salt, PAGEDKV_SALT_BYTES))
		return 0;
	do {
		n = getrandom(salt, PAGEDKV_SALT_BYTES, 0);
	} while (n < 0 && errno == EINTR);
	return n == PAGEDKV_SALT_BYTES ? 0 : -EOPNOTSUPP;
}

/* Take the caller's params, fill in the defaults, check what needs no backend. */
static int take_params(struct pagedkv_pool_params *p, const struct pagedkv_pool_params *from)
{
	int ret = pkv_params_get(p, sizeof(*p), sizeof(*p), from);

	if (ret)
		return ret;
	p->nr_classes = p->nr_classes ? p->nr_classes : 1;
	p->max_seqs = p->max_seqs ? p->max_seqs : DEFAULT_MAX_SEQS;
	p->max_moves = p->max_moves ? p->max_moves : DEFAULT_MAX_MOVES;
	p->nr_ranks = p->nr_ranks ? p->nr_ranks : 1;
	p->mode = p->mode ? p->mode : DEFAULT_MODE;
	if (p->nr_classes > PAGEDKV_MAX_CLASSES || p->mode & ~0666U)
		return -EINVAL;
	if (p->nr_ranks > 1)
		return -EOPNOTSUPP;
	ret = pkv_check_name(p->name);
	for (uint32_t i = 0; !ret && i < p->nr_classes; i++)
		ret = check_class(&p->classes[i]);
	return ret ? ret : draw_salt(p->salt);
}

/* Enter @pool into its handle's list; a name is taken once where pools can't be shared. */
static int link_pool(struct pagedkv *kv, struct pagedkv_pool *pool)
{
	int ret = 0;

	pthread_mutex_lock(&kv->lock);
	for (struct pagedkv_pool *q = kv->pools; q && pool->name; q = q->next)
		if (!(kv->backend->features & PAGEDKV_F_PERSISTENT) && q->name &&
		    !strcmp(q->name, pool->name))
			ret = -EOPNOTSUPP;
	if (!ret) {
		pool->kv = kv;
		pool->next = kv->pools;
		if (kv->pools)
			kv->pools->prev = pool;
		kv->pools = pool;
	}
	pthread_mutex_unlock(&kv->lock);
	return ret;
}

static void unlink_pool(struct pagedkv_pool *pool)
{
	struct pagedkv *kv = pool->kv;

	pthread_mutex_lock(&kv->lock);
	if (pool->prev)
		pool->prev->next = pool->next;
	else
		kv->pools = pool->next;
	if (pool->next)
		pool->next->prev = pool->prev;
	pthread_mutex_unlock(&kv->lock);
}

static void set_geometry(struct pagedkv_pool *pool, const struct pagedkv_pool_params *p)
{
	pool->nr_classes = p->nr_classes;
	memcpy(pool->salt, p->salt, sizeof(pool->salt));
	for (uint32_t i = 0; i < p->nr_classes; i++) {
		pool->page_tokens[i] = p->classes[i].page_tokens;
		pool->max_pages[i] = p->classes[i].nr_slots[PAGEDKV_DEVICE];
		pkv_hash_root(&pool->root[i], p->salt, i, p->classes[i].page_tokens,
			      p->fingerprint);
	}
}

/* A handle of a pool that @get, the backend's create or open, gives; it completes @p. */
static int make_pool(struct pagedkv *kv, struct pagedkv_pool **out, struct pagedkv_pool_params *p,
		     int (*get)(void **priv, void *dev, struct pagedkv_pool_params *p))
{
	struct pagedkv_pool *pool;
	int ret;

	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	pool->backend = kv->backend;
	ret = get(&pool->priv, kv->dev, p);
	if (ret)
		goto free_pool;
	set_geometry(pool, p);
	ret = pkv_chains_init(&pool->chains, p->max_seqs);
	if (ret)
		goto destroy;
	if (p->name) {
		pool->name = strdup(p->name);
		if (!pool->name) {
			ret = -ENOMEM;
			goto exit_chains;
		}
	}
	ret = link_pool(kv, pool);
	if (ret)
		goto free_name;
	*out = pool;
	return 0;

free_name:
	free(pool->name);
exit_chains:
	pkv_chains_exit(&pool->chains);
destroy:
	pool->backend->pool_destroy(pool->priv);
free_pool:
	free(pool);
	return ret;
}

int pagedkv_pool_create(struct pagedkv *kv, struct pagedkv_pool **out,
			const struct pagedkv_pool_params *params)
{
	struct pagedkv_pool_params p;
	int ret;

	if (!kv || !out)
		return -EINVAL;
	*out = NULL;
	ret = take_params(&p, params);
	return ret ? ret : make_pool(kv, out, &p, kv->backend->pool_create);
}

int pagedkv_pool_open(struct pagedkv *kv, struct pagedkv_pool **out,
		      struct pagedkv_pool_params *params)
{
	struct pagedkv_pool_params p;
	int ret;

	if (!kv || !out)
		return -EINVAL;
	*out = NULL;
	ret = pkv_params_get(&p, sizeof(p), sizeof(p), params);
	if (!ret)
		ret = p.name ? pkv_check_name(p.name) : -EINVAL;
	if (ret)
		return ret;
	if (!kv->backend->pool_open)
		return -EOPNOTSUPP;
	ret = make_pool(kv, out, &p, kv->backend->pool_open);
	return ret ? ret : pkv_params_put(params, &p, sizeof(p), sizeof(p));
}

void pagedkv_pool_destroy(struct pagedkv_pool *pool)
{
	if (!pool)
		return;
	unlink_pool(pool);
	pool->backend->pool_destroy(pool->priv);
	pkv_chains_exit(&pool->chains);
	free(pool->name);
	free(pool);
}

int pagedkv_pool_remove(struct pagedkv *kv, const char *name)
{
	if (!kv || !name || pkv_check_name(name))
		return -EINVAL;
	return kv->backend->pool_remove(kv->dev, name);
}

static bool has_tier(const struct pagedkv_pool *pool, uint32_t class_id, uint32_t tier)
{
	return pool && class_id < pool->nr_classes && tier < PAGEDKV_NR_TIERS;
}

int pagedkv_pool_set_limit(struct pagedkv_pool *pool, uint32_t class_id, uint32_t tier,
			   uint32_t limit)
{
	if (!has_tier(pool, class_id, tier))
		return -EINVAL;
	return pool->backend->set_limit(pool->priv, class_id, tier, limit);
}

int pagedkv_pool_set_ceiling(struct pagedkv_pool *pool, uint32_t class_id, uint32_t tier,
			     uint32_t limit)
{
	if (!has_tier(pool, class_id, tier))
		return -EINVAL;
	if (!pool->backend->set_ceiling)
		return -EOPNOTSUPP;
	return pool->backend->set_ceiling(pool->priv, class_id, tier, limit);
}

int pagedkv_tier_set_state(struct pagedkv_pool *pool, uint32_t class_id, uint32_t tier,
			   uint32_t state)
{
	if (!has_tier(pool, class_id, tier) || state > PAGEDKV_TIER_OFFLINE)
		return -EINVAL;
	return pool->backend->set_tier_state(pool->priv, class_id, tier, state);
}

int pagedkv_host_map(struct pagedkv_pool *pool, uint32_t class_id, void **addr, size_t *len)
{
	if (!has_tier(pool, class_id, PAGEDKV_HOST) || !addr || !len)
		return -EINVAL;
	return pool->backend->host_map(pool->priv, class_id, addr, len);
}

void pagedkv_pool_salt(struct pagedkv_pool *pool, uint8_t salt[PAGEDKV_SALT_BYTES])
{
	if (pool && salt)
		memcpy(salt, pool->salt, PAGEDKV_SALT_BYTES);
}
