// SPDX-License-Identifier: GPL-2.0-only
/* The prefix cache: keys, what is found, and who may find it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <nettle/sha2.h>

#include "server.h"

#define PAGE	4U
#define NR	64U

static const struct geometry roomy = { .page_tokens = PAGE, .device = 64, .host = 64 };

static void count_up(uint32_t *tokens, uint32_t from)
{
	for (uint32_t i = 0; i < NR; i++)
		tokens[i] = from + i;
}

static uint32_t match(struct pagedkv_pool *pool, const uint32_t *tokens, uint32_t nr)
{
	struct pagedkv_seq_params p = { .size = sizeof(p), .tokens = tokens, .nr_tokens = nr };
	uint32_t hit = UINT32_MAX;

	assert_int_equal(pagedkv_prefix_match(pool, &p, &hit, NULL), 0);
	return hit;
}

static void test_match_and_publish(void **state)
{
	uint32_t tokens[NR], per_tier[PAGEDKV_NR_TIERS], hit;
	struct pagedkv_seq_params p = { .size = sizeof(p), .tokens = tokens, .nr_tokens = 18 };
	struct request a = { 0 }, b = { 0 };
	struct server s;

	(void)state;
	server_open(&s, &roomy);
	count_up(tokens, 0);
	assert_int_equal(match(s.pool, tokens, 18), 0);
	assert_int_equal(server_admit(&s, &a, tokens, 18, 0), 0);
	assert_int_equal(a.hit_tokens, 0);
	assert_int_equal(match(s.pool, tokens, 18), 0);
	assert_int_equal(server_publish(&s, &a), 4);
	assert_int_equal(server_publish(&s, &a), 0);
	/* The longest prefix of full pages that leaves a token to compute. */
	assert_int_equal(match(s.pool, tokens, 0), 0);
	assert_int_equal(match(s.pool, tokens, 1), 0);
	assert_int_equal(match(s.pool, tokens, 4), 0);
	assert_int_equal(match(s.pool, tokens, 5), 4);
	assert_int_equal(match(s.pool, tokens, 16), 12);
	assert_int_equal(match(s.pool, tokens, 17), 16);
	assert_int_equal(match(s.pool, tokens, NR), 16);
	assert_int_equal(pagedkv_prefix_match(s.pool, &p, &hit, per_tier), 0);
	assert_int_equal(per_tier[PAGEDKV_DEVICE], 4);
	assert_int_equal(per_tier[PAGEDKV_HOST], 0);
	/* Another token in the second page: only the first is shared. */
	tokens[5]++;
	assert_int_equal(match(s.pool, tokens, 18), 4);
	assert_int_equal(server_admit(&s, &b, tokens, 18, 0), 0);
	assert_int_equal(b.hit_tokens, 4);
	assert_int_equal(server_publish(&s, &b), 3);
	/* The same second page behind another first one is another page. */
	tokens[0]++;
	assert_int_equal(match(s.pool, tokens, 18), 0);
	server_check(&s);
	server_close(&s);
}

/* One sequence twice in a batch, and in growing pieces: every page is named once. */
static void test_publish_pieces(void **state)
{
	uint32_t tokens[NR];
	struct pagedkv_publish items[3];
	struct request a = { 0 };
	struct server s;

	(void)state;
	server_open(&s, &roomy);
	count_up(tokens, 0);
	assert_int_equal(server_admit(&s, &a, tokens, 40, 0), 0);
	for (uint32_t i = 0; i < 3; i++)
		items[i] = (struct pagedkv_publish) { a.seq, tokens, 20 - 6 * i, -1 };
	assert_int_equal(pagedkv_publish(s.pool, items, 3), 0);
	assert_int_equal(items[0].result, 5);
	assert_int_equal(items[1].result, 0);
	assert_int_equal(items[2].result, 0);
	for (uint32_t nr = 0; nr <= 40; nr++) {
		items[0].nr_tokens = nr;
		assert_int_equal(pagedkv_publish(s.pool, items, 1), 0);
		assert_int_equal(items[0].result, nr > 20 && nr % PAGE == 0);
		assert_int_equal(match(s.pool, tokens, NR), nr < 20 ? 20 : nr / PAGE * PAGE);
	}
	assert_int_equal(server_stats(&s).nr_indexed, 10);
	server_check(&s);
	server_close(&s);
}

static void test_cached_after_free(void **state)
{
	uint32_t tokens[NR];
	struct request a = { 0 }, b = { 0 };
	struct server s;

	(void)state;
	server_open(&s, &roomy);
	count_up(tokens, 0);
	assert_int_equal(server_admit(&s, &a, tokens, 18, 0), 0);
	assert_int_equal(server_publish(&s, &a), 4);
	server_free(&s, &a);
	assert_int_equal(server_stats(&s).nr_cached, 4);
	assert_int_equal(server_admit(&s, &b, tokens, 18, 0), 0);
	assert_int_equal(b.hit_tokens, 16);
	assert_int_equal(server_stats(&s).nr_cached, 0);
	/* DONTNEED: neither what was published nor what would be stays behind. */
	assert_int_equal(pagedkv_advise(s.pool, b.seq, PAGEDKV_DONTNEED), 0);
	assert_int_equal(server_append(&s, &b, tokens + 18, 10), 0);
	assert_int_equal(server_publish(&s, &b), 0);
	server_free(&s, &b);
	assert_int_equal(server_stats(&s).nr_pages, 0);
	assert_int_equal(match(s.pool, tokens, 18), 0);
	server_close(&s);
}

static void test_no_prefix(void **state)
{
	uint32_t tokens[NR];
	struct request a = { 0 }, b = { 0 }, c = { 0 };
	struct server s;

	(void)state;
	server_open(&s, &roomy);
	count_up(tokens, 0);
	assert_int_equal(server_admit(&s, &a, tokens, 18, 0), 0);
	assert_int_equal(server_publish(&s, &a), 4);
	assert_int_equal(server_admit(&s, &b, tokens, 40, PAGEDKV_SEQ_NO_PREFIX), 0);
	assert_int_equal(b.hit_tokens, 0);
	assert_int_equal(server_publish(&s, &b), 0);
	assert_int_equal(server_fork(&s, &b, &c), 0);
	assert_int_equal(server_publish(&s, &c), 0);
	assert_int_equal(match(s.pool, tokens, 40), 16);
	server_close(&s);
}

/* Two tenants with the same tokens: neither finds the other's. */
static void test_salt_isolation(void **state)
{
	struct pagedkv_pool_params p = server_params(&roomy);
	struct pagedkv_pool *other, *same;
	struct pagedkv_seq_params sp = { .size = sizeof(sp) };
	uint32_t tokens[NR], hit;
	struct request a = { 0 };
	struct server s;
	pagedkv_seq_t seq;

	(void)state;
	server_open(&s, &roomy);
	count_up(tokens, 0);
	assert_int_equal(server_admit(&s, &a, tokens, 18, 0), 0);
	assert_int_equal(server_publish(&s, &a), 4);
	assert_int_equal(pagedkv_pool_create(s.kv, &other, &p), 0);
	pagedkv_pool_salt(s.pool, p.salt);
	assert_int_equal(pagedkv_pool_create(s.kv, &same, &p), 0);
	sp.tokens = tokens;
	sp.nr_tokens = 18;
	assert_int_equal(pagedkv_seq_create(other, &seq, &sp, &hit), 0);
	assert_int_equal(hit, 0);
	/* With an equal salt the keys are equal, but the pages are the pool's own still. */
	assert_int_equal(pagedkv_seq_create(same, &seq, &sp, &hit), 0);
	assert_int_equal(hit, 0);
	server_close(&s);
}

/* The keys of a pool, by the words of the documentation. */
static void expect_key(uint64_t key[2], const uint8_t salt[PAGEDKV_SALT_BYTES], uint64_t model,
		       const uint32_t *tokens, uint32_t page)
{
	uint8_t h[SHA256_DIGEST_SIZE], bytes[4];
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, PAGEDKV_SALT_BYTES, salt);
	sha256_update(&ctx, 4, (const uint8_t *)"\0\0\0\0");
	sha256_update(&ctx, 4, (const uint8_t *)"\4\0\0\0");
	for (int i = 0; i < 8; i++) {
		uint8_t byte = (uint8_t)(model >> 8 * i);

		sha256_update(&ctx, 1, &byte);
	}
	sha256_digest(&ctx, sizeof(h), h);
	for (uint32_t p = 0; p <= page; p++) {
		sha256_update(&ctx, sizeof(h), h);
		for (uint32_t t = 0; t < PAGE; t++) {
			for (int i = 0; i < 4; i++)
				bytes[i] = (uint8_t)(tokens[p * PAGE + t] >> 8 * i);
			sha256_update(&ctx, 4, bytes);
		}
		sha256_digest(&ctx, sizeof(h), h);
	}
	memcpy(key, h, 2 * sizeof(*key));
}

/* A page adopted under the documented key is found by its tokens; another model's is not. */
static void test_documented_keys(void **state)
{
	struct pagedkv_pool_params p = server_params(&roomy);
	uint32_t tokens[NR];
	uint64_t key[2];
	struct server s;

	(void)state;
	for (int i = 0; i < PAGEDKV_SALT_BYTES; i++)
		p.salt[i] = (uint8_t)(i + 1);
	p.fingerprint = 0x123456789abcdef0ULL;
	server_open_params(&s, &p);
	count_up(tokens, 0x01020304);
	for (uint32_t i = 0; i < 3; i++) {
		expect_key(key, p.salt, p.fingerprint, tokens, i);
		assert_int_equal(pagedkv_adopt(s.pool, 0, PAGEDKV_HOST, i, key), 0);
		assert_int_equal(match(s.pool, tokens, NR), (i + 1) * PAGE);
	}
	server_close(&s);

	server_open_params(&s, &p);
	expect_key(key, p.salt, p.fingerprint + 1, tokens, 0);
	assert_int_equal(pagedkv_adopt(s.pool, 0, PAGEDKV_HOST, 0, key), 0);
	assert_int_equal(match(s.pool, tokens, NR), 0);
	server_close(&s);
}

/* A child goes on from its parent's chain; both publish what is theirs. */
static void test_chain_fork(void **state)
{
	uint32_t tokens[NR], others[NR];
	struct request a = { 0 }, b = { 0 };
	struct server s;

	(void)state;
	server_open(&s, &roomy);
	count_up(tokens, 0);
	count_up(others, 0);
	others[20] = 7777;
	assert_int_equal(server_admit(&s, &a, tokens, 18, 0), 0);
	assert_int_equal(server_publish(&s, &a), 4);
	assert_int_equal(server_fork(&s, &a, &b), 0);
	assert_int_equal(server_append(&s, &b, others + 18, 14), 0);
	assert_int_equal(server_append(&s, &a, tokens + 18, 14), 0);
	assert_int_equal(server_publish(&s, &b), 4);
	/* The page of tokens 16 to 19 is known from the child by now. */
	assert_int_equal(server_publish(&s, &a), 3);
	assert_int_equal(match(s.pool, tokens, NR), 32);
	assert_int_equal(match(s.pool, others, NR), 32);
	server_verify(&s, &a);
	server_verify(&s, &b);
	server_check(&s);
	server_close(&s);
}

/* Truncation to anywhere, then other tokens: keys follow what the pages hold now. */
static void test_chain_truncate(void **state)
{
	(void)state;
	for (uint32_t cut = 0; cut <= 26; cut++) {
		uint32_t tokens[NR], others[NR];
		struct request a = { 0 }, b = { 0 };
		struct server s;

		server_open(&s, &roomy);
		count_up(tokens, 0);
		count_up(others, 0);
		for (uint32_t i = cut; i < NR; i++)
			others[i] = 5000 + i;
		assert_int_equal(server_admit(&s, &a, tokens, 26, 0), 0);
		assert_int_equal(server_publish(&s, &a), 6);
		assert_int_equal(server_truncate(&s, &a, cut), 0);
		assert_int_equal(server_append(&s, &a, others + cut, 40 - cut), 0);
		assert_int_equal(server_publish(&s, &a), 10 - (cut < 24 ? cut / PAGE : 6));
		assert_int_equal(match(s.pool, others, NR), 40);
		server_verify(&s, &a);
		assert_int_equal(server_admit(&s, &b, others, 41, 0), 0);
		assert_int_equal(b.hit_tokens, 40);
		server_check(&s);
		server_close(&s);
	}
}

/* Fork and truncate in one step: the child's chain is as of its place in the order. */
static void test_chain_in_one_step(void **state)
{
	struct pagedkv_op ops[2] = { { .type = PAGEDKV_OP_FORK }, { .type = PAGEDKV_OP_TRUNCATE } };
	struct pagedkv_step step = { .ops = ops, .nr_ops = 2 };
	uint32_t tokens[NR], others[NR];
	struct request a = { 0 }, b = { 0 };
	struct server s;

	(void)state;
	server_open(&s, &roomy);
	count_up(tokens, 0);
	count_up(others, 9000);
	assert_int_equal(server_admit(&s, &a, tokens, 16, 0), 0);
	assert_int_equal(server_publish(&s, &a), 4);
	ops[0].seq = a.seq;
	ops[1].seq = a.seq;
	assert_int_equal(pagedkv_step(s.pool, &step), 0);
	b = a;
	b.seq = ops[0].out_seq;
	a.len = 0;
	assert_int_equal(server_append(&s, &a, others, 8), 0);
	assert_int_equal(server_append(&s, &b, tokens + 16, 8), 0);
	assert_int_equal(server_publish(&s, &b), 2);
	assert_int_equal(server_publish(&s, &a), 2);
	assert_int_equal(match(s.pool, tokens, NR), 24);
	assert_int_equal(match(s.pool, others, NR), 8);
	server_close(&s);
}

/* A prompt of more pages than fit the stack's buffer, and more than the device has. */
static void test_long_prompt(void **state)
{
	const struct geometry g = { .page_tokens = 1, .device = 1000 };
	uint32_t tokens[1200];
	struct pagedkv_seq_params p = { .size = sizeof(p), .tokens = tokens, .nr_tokens = 901 };
	struct pagedkv_delta deltas[1000];
	struct pagedkv_op op = { .type = PAGEDKV_OP_APPEND, .arg = 900 };
	struct pagedkv_step step = {
		.ops = &op, .nr_ops = 1, .deltas = deltas, .max_deltas = 1000,
	};
	struct pagedkv_publish item = { .tokens = tokens, .nr_tokens = 900 };
	struct server s;
	uint32_t hit;

	(void)state;
	server_open(&s, &g);
	for (uint32_t i = 0; i < 1200; i++)
		tokens[i] = i;
	assert_int_equal(pagedkv_seq_create(s.pool, &op.seq, &p, &hit), 0);
	assert_int_equal(hit, 0);
	assert_int_equal(pagedkv_step(s.pool, &step), 0);
	item.seq = op.seq;
	assert_int_equal(pagedkv_publish(s.pool, &item, 1), 0);
	assert_int_equal(item.result, 900);
	assert_int_equal(pagedkv_seq_create(s.pool, &item.seq, &p, &hit), 0);
	assert_int_equal(hit, 900);
	p.nr_tokens = 1200;
	assert_int_equal(pagedkv_prefix_match(s.pool, &p, &hit, NULL), 0);
	assert_int_equal(hit, 900);
	server_close(&s);
}

/* Page classes have indexes of their own. */
static void test_two_classes(void **state)
{
	struct pagedkv_pool_params p = server_params(&roomy);
	struct pagedkv_seq_params sp = { .size = sizeof(sp), .class_id = 1 };
	uint32_t tokens[NR], hit;
	struct pagedkv_publish item = { .tokens = tokens };
	struct pagedkv_delta deltas[8];
	struct pagedkv_op op = { .type = PAGEDKV_OP_APPEND, .arg = 18 };
	struct pagedkv_step step = {
		.ops = &op, .nr_ops = 1, .deltas = deltas, .max_deltas = 8,
	};
	struct request a = { 0 };
	struct server s;

	(void)state;
	p.nr_classes = 2;
	p.classes[1] = p.classes[0];
	p.classes[1].page_tokens = 8;
	server_open_params(&s, &p);
	count_up(tokens, 0);
	assert_int_equal(server_admit(&s, &a, tokens, 18, 0), 0);
	assert_int_equal(server_publish(&s, &a), 4);
	sp.tokens = tokens;
	sp.nr_tokens = 18;
	assert_int_equal(pagedkv_seq_create(s.pool, &op.seq, &sp, &hit), 0);
	assert_int_equal(hit, 0);
	assert_int_equal(pagedkv_step(s.pool, &step), 0);
	item.seq = op.seq;
	item.nr_tokens = 18;
	assert_int_equal(pagedkv_publish(s.pool, &item, 1), 0);
	assert_int_equal(item.result, 2);
	assert_int_equal(pagedkv_seq_create(s.pool, &item.seq, &sp, &hit), 0);
	assert_int_equal(hit, 16);
	server_check(&s);
	server_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_match_and_publish),
		cmocka_unit_test(test_publish_pieces),
		cmocka_unit_test(test_cached_after_free),
		cmocka_unit_test(test_no_prefix),
		cmocka_unit_test(test_salt_isolation),
		cmocka_unit_test(test_documented_keys),
		cmocka_unit_test(test_chain_fork),
		cmocka_unit_test(test_chain_truncate),
		cmocka_unit_test(test_chain_in_one_step),
		cmocka_unit_test(test_long_prompt),
		cmocka_unit_test(test_two_classes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
