// SPDX-License-Identifier: GPL-2.0-only
/* The contract of each call: what is taken, what is refused, and with which errno. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server.h"

static const struct geometry small = { .page_tokens = 4, .device = 8, .host = 8, .disk = 8 };

static int set_up(void **state)
{
	struct server *s = calloc(1, sizeof(*s));

	server_open(s, &small);
	*state = s;
	return 0;
}

static int tear_down(void **state)
{
	server_close(*state);
	free(*state);
	return 0;
}

/* ------------------------------------------------------------- connection */

static void test_open(void **state)
{
	struct pagedkv_params p = { .size = sizeof(p) };
	struct pagedkv *kv = (void *)&p;

	(void)state;
	assert_int_equal(pagedkv_open(NULL, NULL), -EINVAL);
	p.backend = PAGEDKV_BACKEND_KMOD;
	if (access("/dev/pagedkv", F_OK)) {
		assert_int_equal(pagedkv_open(&kv, &p), -ENOENT);
		assert_null(kv);
	}
	p.backend = 99;
	assert_int_equal(pagedkv_open(&kv, &p), -EINVAL);
	p.backend = PAGEDKV_BACKEND_EMBEDDED;
	p.size = 4;
	assert_int_equal(pagedkv_open(&kv, &p), -EINVAL);
	p.size = sizeof(p);
	assert_int_equal(pagedkv_open(&kv, &p), 0);
	pagedkv_close(kv);
	pagedkv_close(NULL);
}

static void test_info(void **state)
{
	struct server *s = *state;
	struct {
		struct pagedkv_info info;
		uint8_t later[24];
	} big = { .info.size = sizeof(big) };

	memset(big.later, 0xff, sizeof(big.later));
	assert_int_equal(pagedkv_get_info(s->kv, &big.info), 0);
	assert_int_equal(big.info.size, sizeof(big));
	assert_int_equal(big.info.backend, on_kmod(s) ? PAGEDKV_BACKEND_KMOD :
			 PAGEDKV_BACKEND_EMBEDDED);
	assert_int_equal(big.info.version_major, PAGEDKV_VERSION_MAJOR);
	assert_int_equal(big.info.version_minor, PAGEDKV_VERSION_MINOR);
	assert_int_equal(big.info.features & PAGEDKV_F_PERSISTENT,
			 on_kmod(s) ? PAGEDKV_F_PERSISTENT : 0);
	for (size_t i = 0; i < sizeof(big.later); i++)
		assert_int_equal(big.later[i], 0);
	big.info.size = sizeof(big.info) - 1;
	assert_int_equal(pagedkv_get_info(s->kv, &big.info), -EINVAL);
	big.info.size = 1U << 30;
	assert_int_equal(pagedkv_get_info(s->kv, &big.info), -E2BIG);
	assert_int_equal(pagedkv_get_info(s->kv, NULL), -EINVAL);
	assert_int_equal(pagedkv_get_info(NULL, &big.info), -EINVAL);
}

/* A params struct of a later version: zero beyond what is known, or refused. */
static void test_sizes(void **state)
{
	struct {
		struct pagedkv_pool_params p;
		uint8_t later[40];
	} big = { .p = server_params(&small) };
	struct server *s = *state;
	struct pagedkv_pool *pool;

	big.p.size = sizeof(big);
	assert_int_equal(pagedkv_pool_create(s->kv, &pool, &big.p), 0);
	pagedkv_pool_destroy(pool);
	for (size_t i = 0; i < sizeof(big.later); i++) {
		memset(big.later, 0, sizeof(big.later));
		big.later[i] = 1;
		assert_int_equal(pagedkv_pool_create(s->kv, &pool, &big.p), -E2BIG);
		assert_null(pool);
	}
	for (big.p.size = 0; big.p.size < sizeof(big.p); big.p.size++)
		assert_int_equal(pagedkv_pool_create(s->kv, &pool, &big.p), -EINVAL);
	big.p.size = UINT32_MAX;
	assert_int_equal(pagedkv_pool_create(s->kv, &pool, &big.p), -E2BIG);
}

/* ------------------------------------------------------------------- pool */

struct pool_case {
	const char *what;
	int expect;
	void (*change)(struct pagedkv_pool_params *p);
};

#define CHANGE(name, ...) \
	static void name(struct pagedkv_pool_params *p) { __VA_ARGS__; }

CHANGE(nothing, (void)p)
CHANGE(classes_default, p->nr_classes = 0)
CHANGE(classes_many, p->nr_classes = PAGEDKV_MAX_CLASSES + 1)
CHANGE(classes_huge, p->nr_classes = UINT32_MAX)
CHANGE(seqs_default, p->max_seqs = 0)
CHANGE(seqs_huge, p->max_seqs = UINT32_MAX)
CHANGE(moves_huge, p->max_moves = UINT32_MAX)
CHANGE(ranks_many, p->nr_ranks = 2)
CHANGE(mode_execute, p->mode = 0700)
CHANGE(mode_huge, p->mode = 01600)
CHANGE(tokens_zero, p->classes[0].page_tokens = 0)
CHANGE(tokens_odd, p->classes[0].page_tokens = 12)
CHANGE(tokens_huge, p->classes[0].page_tokens = 2048)
CHANGE(device_none, p->classes[0].nr_slots[PAGEDKV_DEVICE] = 0)
CHANGE(device_huge, p->classes[0].nr_slots[PAGEDKV_DEVICE] = UINT32_MAX)
CHANGE(bytes_huge, p->classes[0].page_bytes = UINT64_MAX)
CHANGE(bytes_product, p->classes[0].page_bytes = UINT64_MAX / 8 + 1)
CHANGE(bytes_signed, p->classes[0].page_bytes = (uint64_t)INT64_MAX / 8 + 1)
CHANGE(low_over_high, p->classes[0].low[PAGEDKV_DEVICE] = 3)
CHANGE(high_over_all, p->classes[0].high[PAGEDKV_DEVICE] = 9)
CHANGE(name_empty, p->name = "")
CHANGE(name_path, p->name = "../x")
CHANGE(name_slash, p->name = "a/b")
CHANGE(name_hidden, p->name = ".a")
CHANGE(name_control, p->name = "a\nb")
CHANGE(name_good, p->name = "Tenant_1.kv-cache")
CHANGE(name_long, p->name =
       "0123456789012345678901234567890123456789012345678901234567890123")
CHANGE(name_longest, p->name =
       "012345678901234567890123456789012345678901234567890123456789012")
CHANGE(second_bad, p->nr_classes = 2)
CHANGE(second_good, p->nr_classes = 2; p->classes[1] = p->classes[0])

static const struct pool_case pool_cases[] = {
	{ "as it is", 0, nothing },
	{ "classes: default", 0, classes_default },
	{ "classes: too many", -EINVAL, classes_many },
	{ "classes: huge", -EINVAL, classes_huge },
	{ "sequences: default", 0, seqs_default },
	{ "sequences: huge", -EINVAL, seqs_huge },
	{ "moves: huge", -EINVAL, moves_huge },
	{ "ranks: 2", -EOPNOTSUPP, ranks_many },
	{ "mode: execute", -EINVAL, mode_execute },
	{ "mode: huge", -EINVAL, mode_huge },
	{ "page_tokens: 0", -EINVAL, tokens_zero },
	{ "page_tokens: no power of two", -EINVAL, tokens_odd },
	{ "page_tokens: huge", -EINVAL, tokens_huge },
	{ "device: none", -EINVAL, device_none },
	{ "device: huge", -EOVERFLOW, device_huge },
	{ "page_bytes: huge", -EOVERFLOW, bytes_huge },
	{ "page_bytes: product overflows", -EOVERFLOW, bytes_product },
	{ "page_bytes: product too large for an offset", -EOVERFLOW, bytes_signed },
	{ "low over high", -EINVAL, low_over_high },
	{ "high over all", -EINVAL, high_over_all },
	{ "name: empty", -EINVAL, name_empty },
	{ "name: path", -EINVAL, name_path },
	{ "name: slash", -EINVAL, name_slash },
	{ "name: hidden", -EINVAL, name_hidden },
	{ "name: control", -EINVAL, name_control },
	{ "name: good", 0, name_good },
	{ "name: too long", -EINVAL, name_long },
	{ "name: longest", 0, name_longest },
	{ "second class: bad", -EINVAL, second_bad },
	{ "second class: good", 0, second_good },
};

static void test_pool_params(void **state)
{
	struct server *s = *state;
	struct pagedkv_pool *pool;

	for (size_t i = 0; i < sizeof(pool_cases) / sizeof(*pool_cases); i++) {
		struct pagedkv_pool_params p = server_params(&small);
		int ret;

		pool_cases[i].change(&p);
		ret = pagedkv_pool_create(s->kv, &pool, &p);
		if (ret != pool_cases[i].expect)
			fail_msg("%s: %d, not %d", pool_cases[i].what, ret, pool_cases[i].expect);
		assert_true(!ret == !!pool);
		pagedkv_pool_destroy(pool);
		if (!ret && p.name && on_kmod(s))
			assert_int_equal(pagedkv_pool_remove(s->kv, p.name), 0);
	}
	assert_int_equal(pagedkv_pool_create(s->kv, &pool, NULL), -EINVAL);
	assert_int_equal(pagedkv_pool_create(s->kv, NULL, NULL), -EINVAL);
	assert_int_equal(pagedkv_pool_create(NULL, &pool, NULL), -EINVAL);
	pagedkv_pool_destroy(NULL);
}

/* Without a kernel module a name is one pool's: it can't be shared, and nothing persists. */
static void test_pool_names(void **state)
{
	struct pagedkv_pool_params p = server_params(&small);
	struct server *s = *state;
	struct pagedkv_pool *a, *b;

	assert_int_equal(pagedkv_pool_remove(NULL, "one"), -EINVAL);
	assert_int_equal(pagedkv_pool_remove(s->kv, NULL), -EINVAL);
	assert_int_equal(pagedkv_pool_remove(s->kv, "a/b"), -EINVAL);
	if (on_kmod(s))
		return;
	assert_int_equal(pagedkv_pool_remove(s->kv, "one"), -EOPNOTSUPP);
	assert_int_equal(pagedkv_pool_set_ceiling(s->pool, 0, PAGEDKV_DEVICE, 1), -EOPNOTSUPP);
	p.name = "one";
	assert_int_equal(pagedkv_pool_create(s->kv, &a, &p), 0);
	assert_int_equal(pagedkv_pool_create(s->kv, &b, &p), -EOPNOTSUPP);
	p.name = "two";
	assert_int_equal(pagedkv_pool_create(s->kv, &b, &p), 0);
	pagedkv_pool_destroy(a);
	p.name = "one";
	assert_int_equal(pagedkv_pool_create(s->kv, &a, &p), 0);
	/* Both are left to pagedkv_close(). */
}

/* With it a name is shared, and outlives its users until it is taken away. */
static void test_persistent_pools(void **state)
{
	struct pagedkv_pool_params p = server_params(&small);
	uint8_t salt[2][PAGEDKV_SALT_BYTES];
	struct server *s = *state;
	struct pagedkv_pool *a, *b;

	if (!on_kmod(s))
		skip();
	p.name = "one";
	p.fingerprint = 7;
	assert_int_equal(pagedkv_pool_create(s->kv, &a, &p), 0);
	assert_int_equal(pagedkv_pool_create(s->kv, &b, &p), 0);
	pagedkv_pool_salt(a, salt[0]);
	pagedkv_pool_salt(b, salt[1]);
	assert_memory_equal(salt[0], salt[1], sizeof(salt[0]));
	pagedkv_pool_destroy(a);
	pagedkv_pool_destroy(b);
	assert_int_equal(pagedkv_pool_create(s->kv, &a, &p), 0);
	pagedkv_pool_salt(a, salt[1]);
	assert_memory_equal(salt[0], salt[1], sizeof(salt[0]));
	p.fingerprint = 8;
	assert_int_equal(pagedkv_pool_create(s->kv, &b, &p), -EACCES);
	p.fingerprint = 7;
	p.classes[0].nr_slots[PAGEDKV_DISK]++;
	assert_int_equal(pagedkv_pool_create(s->kv, &b, &p), -EEXIST);
	p.classes[0].nr_slots[PAGEDKV_DISK]--;
	assert_int_equal(pagedkv_pool_remove(s->kv, "one"), 0);
	assert_int_equal(pagedkv_pool_remove(s->kv, "one"), -ENOENT);
	p.fingerprint = 8;
	assert_int_equal(pagedkv_pool_create(s->kv, &b, &p), 0);
	assert_int_equal(pagedkv_pool_remove(s->kv, "one"), 0);
}

/* A pool that is there tells its geometry to who opens it. */
static void test_open_pool(void **state)
{
	struct pagedkv_pool_params p = server_params(&small), q = { .size = sizeof(q) };
	struct server *s = *state;
	struct pagedkv_pool *a, *b;

	assert_int_equal(pagedkv_pool_open(s->kv, &b, NULL), -EINVAL);
	assert_int_equal(pagedkv_pool_open(s->kv, &b, &q), -EINVAL);
	q.name = "a/b";
	assert_int_equal(pagedkv_pool_open(s->kv, &b, &q), -EINVAL);
	q.name = "open";
	assert_int_equal(pagedkv_pool_open(NULL, &b, &q), -EINVAL);
	assert_int_equal(pagedkv_pool_open(s->kv, NULL, &q), -EINVAL);
	if (!on_kmod(s)) {
		assert_int_equal(pagedkv_pool_open(s->kv, &b, &q), -EOPNOTSUPP);
		return;
	}
	assert_int_equal(pagedkv_pool_open(s->kv, &b, &q), -ENOENT);
	p.name = "open";
	p.fingerprint = 7;
	assert_int_equal(pagedkv_pool_create(s->kv, &a, &p), 0);
	assert_int_equal(pagedkv_pool_open(s->kv, &b, &q), -EACCES);
	assert_null(b);
	q.fingerprint = 7;
	assert_int_equal(pagedkv_pool_open(s->kv, &b, &q), 0);
	assert_int_equal(q.nr_classes, 1);
	assert_int_equal(q.max_seqs, p.max_seqs);
	assert_int_equal(q.mode, 0600);
	assert_memory_equal(&q.classes[0], &p.classes[0], sizeof(q.classes[0]));
	pagedkv_pool_salt(a, p.salt);
	assert_memory_equal(q.salt, p.salt, sizeof(q.salt));
	pagedkv_pool_destroy(b);
	/* What it told describes it. */
	assert_int_equal(pagedkv_pool_create(s->kv, &b, &q), 0);
	assert_int_equal(pagedkv_pool_set_ceiling(b, 0, PAGEDKV_DEVICE, 3), 0);
	assert_int_equal(pagedkv_pool_set_ceiling(b, 0, PAGEDKV_DEVICE, UINT32_MAX), -EINVAL);
	assert_int_equal(pagedkv_pool_set_ceiling(b, 1, PAGEDKV_DEVICE, 3), -EINVAL);
	assert_int_equal(pagedkv_pool_remove(s->kv, "open"), 0);
}

static void test_limits_and_tiers(void **state)
{
	struct server *s = *state;

	assert_int_equal(pagedkv_pool_set_limit(s->pool, 0, PAGEDKV_DEVICE, 4), 0);
	assert_int_equal(server_stats(s).tiers[PAGEDKV_DEVICE].limit, 4);
	assert_int_equal(pagedkv_pool_set_limit(s->pool, 0, PAGEDKV_DEVICE, 9), -EINVAL);
	assert_int_equal(pagedkv_pool_set_limit(s->pool, 1, PAGEDKV_DEVICE, 4), -EINVAL);
	assert_int_equal(pagedkv_pool_set_limit(s->pool, UINT32_MAX, 0, 4), -EINVAL);
	assert_int_equal(pagedkv_pool_set_limit(s->pool, 0, PAGEDKV_NR_TIERS, 4), -EINVAL);
	assert_int_equal(pagedkv_pool_set_limit(NULL, 0, 0, 4), -EINVAL);
	assert_int_equal(pagedkv_tier_set_state(s->pool, 0, PAGEDKV_DISK,
						PAGEDKV_TIER_READONLY), 0);
	assert_int_equal(server_stats(s).tiers[PAGEDKV_DISK].state, PAGEDKV_TIER_READONLY);
	assert_int_equal(pagedkv_tier_set_state(s->pool, 0, PAGEDKV_DEVICE,
						PAGEDKV_TIER_READONLY), -EINVAL);
	assert_int_equal(pagedkv_tier_set_state(s->pool, 0, PAGEDKV_DEVICE,
						PAGEDKV_TIER_OFFLINE), 0);
	assert_int_equal(server_stats(s).tiers[PAGEDKV_DEVICE].state, PAGEDKV_TIER_ONLINE);
	assert_int_equal(pagedkv_tier_set_state(s->pool, 0, PAGEDKV_DISK, 3), -EINVAL);
	assert_int_equal(pagedkv_tier_set_state(s->pool, 7, PAGEDKV_DISK, 0), -EINVAL);
	assert_int_equal(pagedkv_tier_set_state(NULL, 0, PAGEDKV_DISK, 0), -EINVAL);
	server_check(s);
}

static void test_host_map(void **state)
{
	struct pagedkv_pool_params p = server_params(&small);
	struct server *s = *state;
	struct pagedkv_pool *pool;
	void *addr, *again;
	size_t len;

	assert_int_equal(pagedkv_host_map(s->pool, 0, &addr, &len), 0);
	assert_int_equal(len, 8 * 4 * sizeof(uint64_t));
	assert_int_equal((uintptr_t)addr % 4096, 0);
	memset(addr, 1, len);
	assert_int_equal(pagedkv_host_map(s->pool, 0, &again, &len), 0);
	assert_ptr_equal(addr, again);
	assert_int_equal(pagedkv_host_map(s->pool, 1, &addr, &len), -EINVAL);
	assert_int_equal(pagedkv_host_map(s->pool, 0, NULL, &len), -EINVAL);
	assert_int_equal(pagedkv_host_map(s->pool, 0, &addr, NULL), -EINVAL);
	assert_int_equal(pagedkv_host_map(NULL, 0, &addr, &len), -EINVAL);
	p.classes[0].nr_slots[PAGEDKV_HOST] = 0;
	assert_int_equal(pagedkv_pool_create(s->kv, &pool, &p), 0);
	assert_int_equal(pagedkv_host_map(pool, 0, &addr, &len), -EOPNOTSUPP);
	pagedkv_pool_destroy(pool);
	/* More than any address space: refused when asked for, and the pool stays usable. */
	p.classes[0].nr_slots[PAGEDKV_HOST] = 1;
	p.classes[0].page_bytes = 1ULL << 59;
	if (on_kmod(s)) {
		/* There the memory comes with the pool. */
		assert_int_equal(pagedkv_pool_create(s->kv, &pool, &p), -ENOMEM);
		return;
	}
	assert_int_equal(pagedkv_pool_create(s->kv, &pool, &p), 0);
	assert_int_equal(pagedkv_host_map(pool, 0, &addr, &len), -ENOMEM);
	pagedkv_pool_destroy(pool);
}

static void test_salt(void **state)
{
	static const uint8_t zero[PAGEDKV_SALT_BYTES];
	uint8_t a[PAGEDKV_SALT_BYTES], b[PAGEDKV_SALT_BYTES];
	struct pagedkv_pool_params p = server_params(&small);
	struct server *s = *state;
	struct pagedkv_pool *pool;

	pagedkv_pool_salt(s->pool, a);
	assert_memory_not_equal(a, zero, sizeof(a));
	assert_int_equal(pagedkv_pool_create(s->kv, &pool, &p), 0);
	pagedkv_pool_salt(pool, b);
	assert_memory_not_equal(a, b, sizeof(a));
	pagedkv_pool_destroy(pool);
	memcpy(p.salt, a, sizeof(a));
	assert_int_equal(pagedkv_pool_create(s->kv, &pool, &p), 0);
	pagedkv_pool_salt(pool, b);
	assert_memory_equal(a, b, sizeof(a));
	pagedkv_pool_destroy(pool);
	pagedkv_pool_salt(NULL, a);
	pagedkv_pool_salt(s->pool, NULL);
}

/* -------------------------------------------------------------- sequences */

static void test_seq_params(void **state)
{
	static const uint32_t tokens[16];
	const struct {
		int expect;
		struct pagedkv_seq_params p;
	} cases[] = {
		{ 0, { sizeof(cases->p), 0, tokens, 16, 1, 0, 0 } },
		{ 0, { sizeof(cases->p), 0, NULL, 0, 0, PAGEDKV_SEQ_NO_PREFIX, 0 } },
		{ -EINVAL, { 0, 0, tokens, 16, 1, 0, 0 } },
		{ -EINVAL, { sizeof(cases->p) - 1, 0, tokens, 16, 1, 0, 0 } },
		{ -E2BIG, { 1U << 20, 0, tokens, 16, 1, 0, 0 } },
		{ -EINVAL, { sizeof(cases->p), 1, tokens, 16, 1, 0, 0 } },
		{ -EINVAL, { sizeof(cases->p), UINT32_MAX, tokens, 16, 1, 0, 0 } },
		{ -EINVAL, { sizeof(cases->p), 0, NULL, 16, 1, 0, 0 } },
		{ -EINVAL, { sizeof(cases->p), 0, tokens, UINT32_MAX, 1, 0, 0 } },
		{ -EINVAL, { sizeof(cases->p), 0, tokens, 16, PAGEDKV_NR_PRIORITIES, 0, 0 } },
		{ -EOPNOTSUPP, { sizeof(cases->p), 0, tokens, 16, 1, 2, 0 } },
		{ -EOPNOTSUPP, { sizeof(cases->p), 0, tokens, 16, 1, 1U << 31, 0 } },
		{ -EINVAL, { sizeof(cases->p), 0, tokens, 16, 1, 0, 1 } },
	};
	struct server *s = *state;
	pagedkv_seq_t seq;
	uint32_t hit;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(pagedkv_seq_create(s->pool, &seq, &cases[i].p, &hit),
				 cases[i].expect);
		assert_int_equal(pagedkv_prefix_match(s->pool, &cases[i].p, &hit, NULL),
				 cases[i].expect);
	}
	assert_int_equal(pagedkv_seq_create(s->pool, &seq, NULL, &hit), -EINVAL);
	assert_int_equal(pagedkv_seq_create(s->pool, NULL, &cases[0].p, &hit), -EINVAL);
	assert_int_equal(pagedkv_seq_create(NULL, &seq, &cases[0].p, &hit), -EINVAL);
	assert_int_equal(pagedkv_seq_create(s->pool, &seq, &cases[0].p, NULL), 0);
	assert_int_equal(pagedkv_prefix_match(NULL, &cases[0].p, &hit, NULL), -EINVAL);
	assert_int_equal(pagedkv_prefix_match(s->pool, NULL, &hit, NULL), -EINVAL);
	assert_int_equal(pagedkv_prefix_match(s->pool, &cases[0].p, NULL, NULL), 0);
}

static void test_seq_quota(void **state)
{
	struct pagedkv_seq_params p = { .size = sizeof(p) };
	struct server *s = *state;
	pagedkv_seq_t seqs[65];

	for (int i = 0; i < 64; i++)
		assert_int_equal(pagedkv_seq_create(s->pool, &seqs[i], &p, NULL), 0);
	assert_int_equal(pagedkv_seq_create(s->pool, &seqs[64], &p, NULL), -EDQUOT);
	assert_int_equal(one_op(s->pool, seqs[0], PAGEDKV_OP_FORK, 0, NULL), -EDQUOT);
	assert_int_equal(one_op(s->pool, seqs[0], PAGEDKV_OP_FREE, 0, NULL), 0);
	assert_int_equal(pagedkv_seq_create(s->pool, &seqs[64], &p, NULL), 0);
	assert_true(seqs[64] != seqs[0]);
}

static void test_stale_handles(void **state)
{
	struct pagedkv_seq_params p = { .size = sizeof(p) };
	struct server *s = *state;
	struct pagedkv_seq_info info;
	pagedkv_seq_t seq, reused;
	uint32_t slot;

	assert_int_equal(pagedkv_seq_create(s->pool, &seq, &p, NULL), 0);
	assert_int_equal(one_op(s->pool, seq, PAGEDKV_OP_FREE, 0, NULL), 0);
	assert_int_equal(pagedkv_seq_create(s->pool, &reused, &p, NULL), 0);
	pagedkv_seq_t bad[] = { seq, 0, UINT64_MAX, 1ULL << 32, reused + 1, reused ^ 1ULL << 63 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct pagedkv_publish item = { .seq = bad[i] };

		for (uint32_t op = PAGEDKV_OP_APPEND; op <= PAGEDKV_OP_FREE; op++)
			assert_int_equal(one_op(s->pool, bad[i], op, 0, NULL), -ESTALE);
		for (uint32_t a = PAGEDKV_WILLNEED; a <= PAGEDKV_UNPIN; a++)
			assert_int_equal(pagedkv_advise(s->pool, bad[i], a), -ESTALE);
		assert_int_equal(pagedkv_seq_state(s->pool, bad[i]), -ESTALE);
		assert_int_equal(pagedkv_seq_get_info(s->pool, bad[i], &info), -ESTALE);
		assert_int_equal(pagedkv_seq_table(s->pool, bad[i], 0, &slot, 1), -ESTALE);
		assert_int_equal(pagedkv_seq_set_priority(s->pool, bad[i], 1), -ESTALE);
		assert_int_equal(pagedkv_seq_wait(s->pool, bad[i], 0), -ESTALE);
		assert_int_equal(pagedkv_publish(s->pool, &item, 1), -ESTALE);
		assert_int_equal(item.result, -ESTALE);
	}
	assert_int_equal(pagedkv_seq_state(s->pool, reused), PAGEDKV_SEQ_RUNNING);
}

static void test_seq_calls(void **state)
{
	struct pagedkv_seq_params p = { .size = sizeof(p) };
	struct server *s = *state;
	struct pagedkv_seq_info info;
	pagedkv_seq_t seq;
	uint32_t slot;

	assert_int_equal(pagedkv_seq_create(s->pool, &seq, &p, NULL), 0);
	assert_int_equal(pagedkv_advise(s->pool, seq, PAGEDKV_UNPIN + 1), -EINVAL);
	assert_int_equal(pagedkv_advise(NULL, seq, PAGEDKV_COLD), -EINVAL);
	assert_int_equal(pagedkv_seq_set_priority(s->pool, seq, PAGEDKV_NR_PRIORITIES), -EINVAL);
	assert_int_equal(pagedkv_seq_set_priority(NULL, seq, 0), -EINVAL);
	assert_int_equal(pagedkv_seq_set_priority(s->pool, seq, 3), 0);
	assert_int_equal(pagedkv_seq_get_info(s->pool, seq, &info), 0);
	assert_int_equal(info.priority, 3);
	assert_int_equal(info.state, PAGEDKV_SEQ_RUNNING);
	assert_int_equal(pagedkv_seq_get_info(s->pool, seq, NULL), -EINVAL);
	assert_int_equal(pagedkv_seq_get_info(NULL, seq, &info), -EINVAL);
	assert_int_equal(pagedkv_seq_state(NULL, seq), -EINVAL);
	assert_int_equal(pagedkv_seq_table(s->pool, seq, 0, NULL, 1), -EINVAL);
	assert_int_equal(pagedkv_seq_table(NULL, seq, 0, &slot, 1), -EINVAL);
	assert_int_equal(pagedkv_seq_table(s->pool, seq, UINT32_MAX, &slot, 1), 0);
	assert_int_equal(pagedkv_seq_wait(s->pool, seq, 0), 0);
	assert_int_equal(pagedkv_seq_wait(NULL, seq, 0), -EINVAL);
	assert_int_equal(pagedkv_advise(s->pool, seq, PAGEDKV_COLD), 0);
	assert_int_equal(pagedkv_seq_table(s->pool, seq, 0, &slot, 1), -EBUSY);
	assert_int_equal(one_op(s->pool, seq, PAGEDKV_OP_APPEND, 1, NULL), -EBUSY);
	assert_int_equal(pagedkv_advise(s->pool, seq, PAGEDKV_PIN), -EBUSY);
	assert_int_equal(pagedkv_advise(s->pool, seq, PAGEDKV_WILLNEED), 0);
}

/* ------------------------------------------------------------------- step */

static void test_step(void **state)
{
	struct pagedkv_seq_params p = { .size = sizeof(p) };
	struct server *s = *state;
	struct pagedkv_delta deltas[16];
	struct pagedkv_op ops[3] = { 0 };
	struct pagedkv_step step = { .ops = ops, .nr_ops = 1, .nr_done = 7, .nr_deltas = 7 };
	pagedkv_seq_t seq;

	assert_int_equal(pagedkv_seq_create(s->pool, &seq, &p, NULL), 0);
	for (int i = 0; i < 3; i++)
		ops[i].seq = seq;
	assert_int_equal(pagedkv_step(s->pool, NULL), -EINVAL);
	assert_int_equal(pagedkv_step(NULL, &step), -EINVAL);
	assert_int_equal(step.nr_done, 0);
	assert_int_equal(step.nr_deltas, 0);
	step.ops = NULL;
	assert_int_equal(pagedkv_step(s->pool, &step), -EINVAL);
	step.ops = ops;
	step.max_deltas = 16;
	assert_int_equal(pagedkv_step(s->pool, &step), -EINVAL);
	step.deltas = deltas;
	step.max_copies = 1;
	assert_int_equal(pagedkv_step(s->pool, &step), -EINVAL);
	step.max_copies = 0;

	step.nr_ops = 0;
	assert_int_equal(pagedkv_step(s->pool, &step), 0);

	/* The second can't be right: the first stands, the third has not begun. */
	step.nr_ops = 3;
	ops[0].arg = 5;
	ops[1].type = 99;
	ops[2].arg = 5;
	assert_int_equal(pagedkv_step(s->pool, &step), -EINVAL);
	assert_int_equal(step.nr_done, 1);
	assert_int_equal(step.nr_deltas, 2);
	assert_int_equal(deltas[0].index, 0);
	assert_int_equal(deltas[1].index, 1);

	ops[0].type = PAGEDKV_OP_TRUNCATE;
	ops[0].arg = 6;
	step.nr_ops = 1;
	assert_int_equal(pagedkv_step(s->pool, &step), -EINVAL);
	ops[0].type = PAGEDKV_OP_APPEND;
	ops[0].arg = UINT32_MAX;
	assert_int_equal(pagedkv_step(s->pool, &step), -EOVERFLOW);
	ops[0].arg = 40;
	assert_int_equal(pagedkv_step(s->pool, &step), -ENOSPC);
	ops[0].arg = 12;
	step.max_deltas = 1;
	assert_int_equal(pagedkv_step(s->pool, &step), -ENOBUFS);
	assert_int_equal(step.nr_deltas, 0);
	step.max_deltas = 16;
	assert_int_equal(pagedkv_step(s->pool, &step), 0);
	assert_int_equal(step.nr_deltas, 3);
	server_check(s);
}

/* ---------------------------------------------------------- prefix, moves */

static void test_publish(void **state)
{
	static const uint32_t tokens[64];
	struct pagedkv_publish items[3] = { 0 };
	struct server *s = *state;
	struct request r = { 0 };

	assert_int_equal(server_admit(s, &r, tokens, 9, 0), 0);
	assert_int_equal(pagedkv_publish(NULL, items, 1), -EINVAL);
	assert_int_equal(pagedkv_publish(s->pool, NULL, 1), -EINVAL);
	assert_int_equal(pagedkv_publish(s->pool, NULL, 0), 0);
	/* Two that fail around one that doesn't: the error is the first, the work is done. */
	items[0] = (struct pagedkv_publish) { r.seq, NULL, 9, 0 };
	items[1] = (struct pagedkv_publish) { r.seq, tokens, 9, 0 };
	items[2] = (struct pagedkv_publish) { r.seq + 1, tokens, 9, 0 };
	assert_int_equal(pagedkv_publish(s->pool, items, 3), -EINVAL);
	assert_int_equal(items[0].result, -EINVAL);
	assert_int_equal(items[1].result, 2);
	assert_int_equal(items[2].result, -ESTALE);
	/* More than the sequence has, and more than any could have. */
	items[0] = (struct pagedkv_publish) { r.seq, tokens, 12, 0 };
	assert_int_equal(pagedkv_publish(s->pool, items, 1), -EINVAL);
	items[0].nr_tokens = UINT32_MAX;
	assert_int_equal(pagedkv_publish(s->pool, items, 1), -EINVAL);
	items[0].nr_tokens = 9;
	assert_int_equal(pagedkv_publish(s->pool, items, 1), 0);
	assert_int_equal(items[0].result, 0);
}

static void test_adopt(void **state)
{
	const uint64_t key[2] = { 1, 2 }, other[2] = { 1, 3 };
	struct server *s = *state;

	assert_int_equal(pagedkv_adopt(s->pool, 0, PAGEDKV_DISK, 3, key), 0);
	assert_int_equal(pagedkv_adopt(s->pool, 0, PAGEDKV_DISK, 4, key), -EEXIST);
	assert_int_equal(pagedkv_adopt(s->pool, 0, PAGEDKV_DISK, 3, other), -EBUSY);
	assert_int_equal(pagedkv_adopt(s->pool, 0, PAGEDKV_DISK, 8, other), -EINVAL);
	assert_int_equal(pagedkv_adopt(s->pool, 0, PAGEDKV_DEVICE, 0, other), -EINVAL);
	assert_int_equal(pagedkv_adopt(s->pool, 0, PAGEDKV_NR_TIERS, 0, other), -EINVAL);
	assert_int_equal(pagedkv_adopt(s->pool, 1, PAGEDKV_DISK, 0, other), -EINVAL);
	assert_int_equal(pagedkv_adopt(s->pool, 0, PAGEDKV_DISK, 0, NULL), -EINVAL);
	assert_int_equal(pagedkv_adopt(NULL, 0, PAGEDKV_DISK, 0, other), -EINVAL);
	assert_int_equal(pagedkv_pool_set_limit(s->pool, 0, PAGEDKV_DISK, 1), 0);
	assert_int_equal(pagedkv_adopt(s->pool, 0, PAGEDKV_DISK, 0, other), -EDQUOT);
	server_check(s);
}

static void test_moves(void **state)
{
	struct pagedkv_commit c = { .id = 1ULL << 32 };
	struct server *s = *state;
	struct pagedkv_move m;
	int fd = pagedkv_moves_fd(s->pool);

	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(pagedkv_moves_fd(NULL), -EINVAL);
	assert_int_equal(pagedkv_moves_fetch(NULL, &m, 1), -EINVAL);
	assert_int_equal(pagedkv_moves_fetch(s->pool, NULL, 1), -EINVAL);
	assert_int_equal(pagedkv_moves_fetch(s->pool, NULL, 0), 0);
	assert_int_equal(pagedkv_moves_fetch(s->pool, &m, 1), 0);
	assert_int_equal(pagedkv_moves_commit(NULL, &c, 1), -EINVAL);
	assert_int_equal(pagedkv_moves_commit(s->pool, NULL, 1), -EINVAL);
	assert_int_equal(pagedkv_moves_commit(s->pool, NULL, 0), 0);
	assert_int_equal(pagedkv_moves_commit(s->pool, &c, 1), -ESTALE);
	c.id = UINT64_MAX;
	assert_int_equal(pagedkv_moves_commit(s->pool, &c, 1), -ESTALE);
	c.status = 1;
	assert_int_equal(pagedkv_moves_commit(s->pool, &c, 1), -EINVAL);
	c.status = 0;
	c.flags = PAGEDKV_COMMIT_SOURCE_BAD;
	assert_int_equal(pagedkv_moves_commit(s->pool, &c, 1), -EINVAL);
	c.flags = 2;
	assert_int_equal(pagedkv_moves_commit(s->pool, &c, 1), -EOPNOTSUPP);
	assert_int_equal(pagedkv_moves_wait(s->pool, 0), 0);
	assert_int_equal(pagedkv_moves_wait(NULL, 0), -EINVAL);
	pagedkv_moves_stop(s->pool);
	pagedkv_moves_stop(NULL);
	assert_int_equal(pagedkv_moves_fetch(s->pool, &m, 1), -ECANCELED);
}

static void test_inspection(void **state)
{
	static const uint32_t tokens[9];
	struct pagedkv_stats st = { .size = sizeof(st) };
	struct pagedkv_map_entry e[4];
	struct server *s = *state;
	struct request r = { 0 };
	uint32_t cursor = 0;

	assert_int_equal(pagedkv_get_stats(s->pool, 1, &st), -EINVAL);
	assert_int_equal(pagedkv_get_stats(s->pool, 0, NULL), -EINVAL);
	assert_int_equal(pagedkv_get_stats(NULL, 0, &st), -EINVAL);
	st.size--;
	assert_int_equal(pagedkv_get_stats(s->pool, 0, &st), -EINVAL);
	assert_int_equal(server_admit(s, &r, tokens, 9, 0), 0);
	assert_int_equal(server_publish(s, &r), 2);
	st = server_stats(s);
	assert_int_equal(st.nr_seqs, 1);
	assert_int_equal(st.nr_pages, 3);
	assert_int_equal(st.nr_indexed, 2);
	assert_int_equal(st.tiers[PAGEDKV_DEVICE].nr_slots, 8);
	assert_int_equal(st.tiers[PAGEDKV_DEVICE].nr_free, 5);
	assert_true(st.metadata_bytes > 0);

	assert_int_equal(pagedkv_map(s->pool, 0, &cursor, e, 2), 2);
	assert_int_equal(pagedkv_map(s->pool, 0, &cursor, e + 2, 2), 1);
	assert_int_equal(pagedkv_map(s->pool, 0, &cursor, e + 3, 1), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(e[i].refs, 1);
		assert_int_equal(e[i].holds, 1);
		assert_int_equal(e[i].slot[PAGEDKV_HOST], PAGEDKV_NO_SLOT);
		assert_true(e[i].slot[PAGEDKV_DEVICE] < 8);
		assert_int_equal(e[i].priority, 1);
		assert_int_equal(e[i].flags, i < 2 ? PAGEDKV_MAP_PUBLISHED : 0);
	}
	cursor = UINT32_MAX;
	assert_int_equal(pagedkv_map(s->pool, 0, &cursor, e, 4), 0);
	assert_int_equal(pagedkv_map(s->pool, 1, &cursor, e, 4), -EINVAL);
	assert_int_equal(pagedkv_map(s->pool, 0, NULL, e, 4), -EINVAL);
	assert_int_equal(pagedkv_map(s->pool, 0, &cursor, NULL, 4), -EINVAL);
	assert_int_equal(pagedkv_map(NULL, 0, &cursor, e, 4), -EINVAL);
	assert_int_equal(pagedkv_check(NULL, NULL), -EINVAL);
	assert_int_equal(pagedkv_check(s->pool, NULL), 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		CASE(test_info),
		CASE(test_sizes),
		CASE(test_pool_params),
		CASE(test_pool_names),
		CASE(test_persistent_pools),
		CASE(test_open_pool),
		CASE(test_limits_and_tiers),
		CASE(test_host_map),
		CASE(test_salt),
		CASE(test_seq_params),
		CASE(test_seq_quota),
		CASE(test_stale_handles),
		CASE(test_seq_calls),
		CASE(test_step),
		CASE(test_publish),
		CASE(test_adopt),
		CASE(test_moves),
		CASE(test_inspection),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
