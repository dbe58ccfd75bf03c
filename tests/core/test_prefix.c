// SPDX-License-Identifier: GPL-2.0-only
/* The prefix index: what is found, by which key, and what leaves it first. */
#include "rig.h"

static void test_hit_shares_pages(void **state)
{
	uint64_t seq, other;
	uint32_t slots[3], again[3];
	struct rig r;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_published(&r, 1, 3);
	assert_int_equal(pkv_seq_table(&r.pool, seq, 0, slots, 3), 3);
	assert_int_equal(rig_lookup(&r, 1, 3, &other), 3);
	assert_int_equal(pkv_seq_state(&r.pool, other), PKV_SEQ_RUNNING);
	assert_int_equal(pkv_seq_table(&r.pool, other, 0, again, 3), 3);
	assert_memory_equal(slots, again, sizeof(slots));
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 5);
	rig_exit(&r);
}

static void test_cached_after_free(void **state)
{
	uint32_t per_tier[PKV_NR_TIERS];
	struct pkv_key keys[3] = { rig_key(1, 0), rig_key(1, 1), rig_key(1, 2) };
	uint64_t seq;
	struct rig r;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_published(&r, 1, 2);
	rig_append(&r, seq, 4);
	rig_free(&r, seq);
	/* the page without a key is gone, the others are cached */
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 6);
	assert_int_equal(r.c->nr_cached, 2);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, keys, 3, per_tier), 2);
	assert_int_equal(per_tier[PKV_DEVICE], 2);
	assert_int_equal(per_tier[PKV_HOST] + per_tier[PKV_DISK], 0);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, keys, 1, NULL), 1);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, keys + 1, 2, NULL), 1);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, keys + 2, 1, NULL), 0);
	assert_int_equal(pkv_prefix_match(&r.pool, 1, keys, 3, per_tier), 0);
	assert_int_equal(rig_lookup(&r, 1, 3, &seq), 2);
	assert_int_equal(r.c->nr_cached, 0);
	rig_exit(&r);
}

/* All 128 bits decide; keys that share a bucket are told apart. */
static void test_whole_key_is_compared(void **state)
{
	static const struct pkv_key keys[] = {
		{ .lo = 5, .hi = 5 }, { .lo = 5, .hi = 6 }, { .lo = 5 | 1ull << 63, .hi = 5 },
		{ .lo = 5, .hi = 5 | 1ull << 63 }, { .lo = 5 | 1ull << 32, .hi = 5 },
		{ .lo = 6, .hi = 5 }, { .lo = 0, .hi = 5 }, { .lo = 5, .hi = 0 },
	};
	enum { NR = sizeof(keys) / sizeof(keys[0]) };
	uint64_t seqs[NR];
	struct rig r;

	(void)state;
	rig_init(&r, 16, 0, 0);
	for (int i = 0; i < NR; i++) {
		assert_int_equal(pkv_prefix_match(&r.pool, 0, &keys[i], 1, NULL), 0);
		seqs[i] = rig_seq(&r, 4);
		assert_int_equal(pkv_prefix_publish(&r.pool, seqs[i], 0, &keys[i], 1), 1);
		rig_check(&r);
	}
	for (int i = 0; i < NR; i++) {
		uint32_t nr_hits;
		__u64 out;

		assert_int_equal(pkv_seq_create(&r.pool, 0, &keys[i], 1, 1, 0, &out, &nr_hits), 0);
		assert_int_equal(nr_hits, 1);
		assert_ptr_equal(rig_page(&r, out, 0), rig_page(&r, seqs[i], 0));
		rig_free(&r, out);
	}
	/* taken out from the middle of the chain, from its ends, until it is empty */
	for (int i = 0; i < NR; i++) {
		int gone = (i * 3 + 1) % NR;

		assert_int_equal(pkv_seq_forget(&r.pool, seqs[gone]), 0);
		rig_check(&r);
		for (int j = 0; j < NR; j++) {
			bool there = true;

			for (int k = 0; k <= i; k++)
				there &= (k * 3 + 1) % NR != j;
			assert_int_equal(pkv_prefix_match(&r.pool, 0, &keys[j], 1, NULL), there);
		}
	}
	rig_exit(&r);
}

static void test_publish_passes_over_known(void **state)
{
	struct pkv_key keys[4] = { rig_key(1, 0), rig_key(1, 1), rig_key(1, 2), rig_key(1, 3) };
	uint64_t seq, twin;
	struct rig r;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_published(&r, 1, 2);
	assert_int_equal(pkv_prefix_publish(&r.pool, seq, 0, keys, 2), 0);
	/* the same content, computed by another: the first one stays */
	twin = rig_seq(&r, 12);
	assert_int_equal(pkv_prefix_publish(&r.pool, twin, 0, keys, 3), 1);
	rig_check(&r);
	assert_int_equal(rig_page(&r, seq, 0)->flags & PKV_PAGE_INDEXED, PKV_PAGE_INDEXED);
	assert_int_equal(rig_page(&r, twin, 0)->flags & PKV_PAGE_INDEXED, 0);
	rig_free(&r, twin);
	assert_int_equal(r.c->nr_cached, 1);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, keys, 4, NULL), 3);
	rig_exit(&r);
}

static void test_publish_refuses(void **state)
{
	struct pkv_key keys[2] = { rig_key(1, 0), rig_key(1, 1) };
	struct rig r;
	uint64_t seq;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_seq(&r, 7);
	assert_int_equal(pkv_prefix_publish(&r.pool, seq, 0, keys, 2), -EINVAL);
	assert_int_equal(pkv_prefix_publish(&r.pool, seq, 1, keys, 1), -EINVAL);
	assert_int_equal(pkv_prefix_publish(&r.pool, seq, UINT32_MAX, keys, 1), -EINVAL);
	assert_int_equal(pkv_prefix_publish(&r.pool, seq, 1, keys, UINT32_MAX), -EINVAL);
	assert_int_equal(r.c->nr_indexed, 0);
	assert_int_equal(pkv_prefix_publish(&r.pool, seq, 0, keys, 1), 1);
	assert_int_equal(pkv_prefix_publish(&r.pool, seq, 1, keys, 0), 0);
	rig_free(&r, seq);
	assert_int_equal(pkv_prefix_publish(&r.pool, seq, 0, keys, 1), -ESTALE);
	rig_exit(&r);
}

/* A match needs every page before it, so the end of a prefix goes first. */
static void test_suffix_is_evicted_first(void **state)
{
	struct pkv_key keys[4] = { rig_key(1, 0), rig_key(1, 1), rig_key(1, 2), rig_key(1, 3) };
	struct rig r;

	(void)state;
	rig_init(&r, 6, 0, 0);
	rig_free(&r, rig_published(&r, 1, 4));
	for (uint32_t left = 4; left > 0; left--) {
		uint64_t seq;

		assert_int_equal(pkv_prefix_match(&r.pool, 0, keys, 4, NULL), left);
		seq = rig_seq(&r, (6 - left + 1) * RIG_PAGE_TOKENS);
		assert_int_equal(pkv_prefix_match(&r.pool, 0, keys, 4, NULL), left - 1);
		rig_free(&r, seq);
	}
	assert_int_equal(r.pool.counters.drops, 4);
	rig_exit(&r);
}

/* A prompt that was used again outlives one that was not. */
static void test_least_recent_prompt_is_evicted(void **state)
{
	struct pkv_key a = rig_key(1, 0), b = rig_key(2, 0);
	uint64_t seq;
	struct rig r;

	(void)state;
	rig_init(&r, 4, 0, 0);
	rig_free(&r, rig_published(&r, 1, 2));
	rig_free(&r, rig_published(&r, 2, 2));
	assert_int_equal(rig_lookup(&r, 1, 2, &seq), 2);
	rig_free(&r, seq);
	rig_seq(&r, 2 * RIG_PAGE_TOKENS);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, &a, 1, NULL), 1);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, &b, 1, NULL), 0);
	rig_exit(&r);
}

static void test_forget_frees(void **state)
{
	struct pkv_key key = rig_key(1, 0);
	uint64_t seq, child;
	struct rig r;

	(void)state;
	rig_init(&r, 4, 0, 0);
	seq = rig_published(&r, 1, 2);
	child = rig_fork(&r, seq);
	/* others use its pages: their keys stay */
	assert_int_equal(pkv_seq_forget(&r.pool, seq), 0);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, &key, 1, NULL), 1);
	rig_free(&r, child);
	assert_int_equal(pkv_seq_forget(&r.pool, seq), 0);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, &key, 1, NULL), 0);
	rig_free(&r, seq);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 4);
	assert_int_equal(pkv_seq_forget(&r.pool, seq), -ESTALE);
	rig_exit(&r);
}

static void test_adopt(void **state)
{
	struct pkv_key keys[3] = { rig_key(1, 0), rig_key(1, 1), rig_key(1, 2) };
	uint32_t per_tier[PKV_NR_TIERS];
	struct pkv_move_desc d;
	uint64_t seq;
	struct rig r;

	(void)state;
	rig_init(&r, 2, 0, 2);
	assert_int_equal(pkv_prefix_adopt(&r.pool, 0, PKV_DISK, 1, &keys[0]), 0);
	rig_check(&r);
	assert_int_equal(pkv_prefix_adopt(&r.pool, 0, PKV_DISK, 1, &keys[1]), -EBUSY);
	assert_int_equal(pkv_prefix_adopt(&r.pool, 0, PKV_DISK, 0, &keys[0]), -EEXIST);
	assert_int_equal(pkv_prefix_adopt(&r.pool, 0, PKV_DISK, 2, &keys[1]), -EINVAL);
	assert_int_equal(pkv_prefix_adopt(&r.pool, 0, PKV_HOST, 0, &keys[1]), -EINVAL);
	assert_int_equal(pkv_prefix_adopt(&r.pool, 0, PKV_DEVICE, 0, &keys[1]), -EINVAL);
	assert_int_equal(pkv_prefix_adopt(&r.pool, 1, PKV_DISK, 0, &keys[1]), -EINVAL);
	assert_int_equal(pkv_pool_set_limit(&r.pool, 0, PKV_DISK, 1), 0);
	assert_int_equal(pkv_prefix_adopt(&r.pool, 0, PKV_DISK, 0, &keys[1]), -EDQUOT);
	assert_int_equal(pkv_pool_set_limit(&r.pool, 0, PKV_DISK, 2), 0);
	assert_int_equal(pkv_prefix_adopt(&r.pool, 0, PKV_DISK, 0, &keys[1]), 0);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, keys, 3, per_tier), 2);
	assert_int_equal(per_tier[PKV_DISK], 2);
	assert_int_equal(rig_lookup(&r, 1, 3, &seq), 2);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_LOADING);
	d = rig_fetch(&r);
	assert_int_equal(d.kind, PKV_MOVE_IN);
	assert_int_equal(d.src_tier, PKV_DISK);
	assert_int_equal(d.src_slot, 1);
	assert_true(d.key.lo == keys[0].lo && d.key.hi == keys[0].hi);
	rig_commit(&r, &d, 0, false);
	assert_int_equal(rig_settle(&r), 1);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_RUNNING);
	rig_exit(&r);
}

static void test_create_refuses(void **state)
{
	struct pkv_key key = rig_key(1, 0);
	uint32_t nr_hits = 7;
	__u64 out = 7;
	struct rig r;

	(void)state;
	rig_init(&r, 4, 0, 0);
	assert_int_equal(pkv_seq_create(&r.pool, 1, &key, 1, 0, 0, &out, &nr_hits), -EINVAL);
	assert_int_equal(pkv_seq_create(&r.pool, 0, &key, 1, 4, 0, &out, &nr_hits), -EINVAL);
	assert_int_equal(pkv_seq_create(&r.pool, 0, &key, UINT32_MAX, 0, 0, &out, &nr_hits),
			 -EINVAL);
	assert_int_equal(out, 7);
	assert_int_equal(r.pool.nr_seqs, 0);
	rig_exit(&r);
}

/* No room for what is found in a slower tier: nothing is created, nothing is held. */
static void test_create_without_room(void **state)
{
	struct pkv_key key = rig_key(1, 0);
	uint32_t nr_hits;
	struct rig r;
	__u64 out;

	(void)state;
	rig_init(&r, 2, 1, 0);
	assert_int_equal(pkv_prefix_adopt(&r.pool, 0, PKV_HOST, 0, &key), 0);
	rig_seq(&r, 8);
	assert_int_equal(pkv_seq_create(&r.pool, 0, &key, 1, 0, 0, &out, &nr_hits), -ENOSPC);
	rig_check(&r);
	assert_int_equal(r.pool.nr_seqs, 1);
	assert_int_equal(r.c->nr_cached, 1);
	rig_exit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hit_shares_pages),
		cmocka_unit_test(test_cached_after_free),
		cmocka_unit_test(test_whole_key_is_compared),
		cmocka_unit_test(test_publish_passes_over_known),
		cmocka_unit_test(test_publish_refuses),
		cmocka_unit_test(test_suffix_is_evicted_first),
		cmocka_unit_test(test_least_recent_prompt_is_evicted),
		cmocka_unit_test(test_forget_frees),
		cmocka_unit_test(test_adopt),
		cmocka_unit_test(test_create_refuses),
		cmocka_unit_test(test_create_without_room),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
