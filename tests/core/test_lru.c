// SPDX-License-Identifier: GPL-2.0-only
/* Which idle page leaves the device next: the oldest of the lowest priority; none that is held. */
#include "rig.h"

/* Sequences of one page, cold in this order, and the order in which they leave. */
static void expect_order(struct rig *r, const uint64_t *seqs, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		struct pkv_page *page = rig_page(r, seqs[i], 0);
		uint32_t slot = page->slot[PKV_DEVICE];
		struct pkv_move_desc d = rig_fetch(r);

		assert_int_equal(d.kind, PKV_MOVE_OUT);
		assert_int_equal(d.src_tier, PKV_DEVICE);
		assert_int_equal(d.src_slot, slot);
		rig_commit(r, &d, 0, false);
		assert_int_equal(page->slot[PKV_DEVICE], PKV_NONE);
	}
}

/* Asks for @nr pages, more than are free. */
static void press(struct rig *r, uint32_t nr)
{
	uint64_t seq = rig_seq(r, 0);

	assert_int_equal(rig_op(r, seq, PKV_OP_APPEND, nr * RIG_PAGE_TOKENS), -EAGAIN);
	rig_free(r, seq);
}

static void test_oldest_first(void **state)
{
	uint64_t seqs[4], order[4];
	struct rig r;

	(void)state;
	rig_init(&r, 4, 8, 0);
	for (int i = 0; i < 4; i++)
		seqs[i] = rig_seq(&r, 4);
	order[0] = seqs[2];
	order[1] = seqs[0];
	order[2] = seqs[3];
	order[3] = seqs[1];
	for (int i = 0; i < 4; i++)
		assert_int_equal(pkv_seq_cold(&r.pool, order[i]), 0);
	press(&r, 4);
	expect_order(&r, order, 4);
	rig_exit(&r);
}

static void test_use_makes_recent(void **state)
{
	uint64_t seqs[3], order[3];
	struct rig r;

	(void)state;
	rig_init(&r, 3, 8, 0);
	for (int i = 0; i < 3; i++)
		seqs[i] = rig_seq(&r, 4);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pkv_seq_cold(&r.pool, seqs[i]), 0);
	assert_int_equal(pkv_seq_load(&r.pool, seqs[0]), 0);
	assert_int_equal(pkv_seq_cold(&r.pool, seqs[0]), 0);
	order[0] = seqs[1];
	order[1] = seqs[2];
	order[2] = seqs[0];
	press(&r, 3);
	expect_order(&r, order, 3);
	rig_exit(&r);
}

static void test_low_priority_first(void **state)
{
	static const uint32_t priorities[5] = { 3, 1, 0, 2, 0 };
	uint64_t seqs[5], order[5];
	struct rig r;

	(void)state;
	rig_init(&r, 5, 8, 0);
	for (int i = 0; i < 5; i++)
		seqs[i] = rig_seq_prio(&r, 4, priorities[i]);
	for (int i = 0; i < 5; i++)
		assert_int_equal(pkv_seq_cold(&r.pool, seqs[i]), 0);
	order[0] = seqs[2];
	order[1] = seqs[4];
	order[2] = seqs[1];
	order[3] = seqs[3];
	order[4] = seqs[0];
	press(&r, 5);
	expect_order(&r, order, 5);
	rig_exit(&r);
}

/* A new priority takes hold of pages that are idle already, and of pages to come. */
static void test_priority_changes(void **state)
{
	uint64_t seqs[2], order[2];
	struct rig r;

	(void)state;
	rig_init(&r, 3, 8, 0);
	seqs[0] = rig_seq(&r, 4);
	seqs[1] = rig_seq(&r, 4);
	assert_int_equal(pkv_seq_cold(&r.pool, seqs[0]), 0);
	assert_int_equal(pkv_seq_cold(&r.pool, seqs[1]), 0);
	assert_int_equal(pkv_seq_set_priority(&r.pool, seqs[0], 3), 0);
	rig_check(&r);
	assert_int_equal(pkv_seq_set_priority(&r.pool, seqs[0], 4), -EINVAL);
	order[0] = seqs[1];
	order[1] = seqs[0];
	press(&r, 3);
	expect_order(&r, order, 2);
	rig_exit(&r);
}

static void test_shared_page_waits_for_both(void **state)
{
	uint64_t seq, child;
	struct rig r;

	(void)state;
	rig_init(&r, 2, 8, 0);
	seq = rig_seq(&r, 8);
	child = rig_fork(&r, seq);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	assert_int_equal(rig_op(&r, child, PKV_OP_APPEND, 1), -ENOSPC);
	assert_int_equal(r.pool.nr_moves, 0);
	assert_int_equal(pkv_seq_cold(&r.pool, child), 0);
	press(&r, 2);
	assert_int_equal(rig_settle(&r), 2);
	rig_exit(&r);
}

static void test_pinned_page_stays(void **state)
{
	uint64_t seq;
	struct rig r;

	(void)state;
	rig_init(&r, 2, 8, 0);
	seq = rig_seq(&r, 4);
	assert_int_equal(pkv_seq_pin(&r.pool, seq, true), 0);
	assert_int_equal(pkv_seq_pin(&r.pool, seq, true), 0);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	rig_check(&r);
	assert_int_equal(rig_op(&r, rig_seq(&r, 0), PKV_OP_APPEND, 8), -ENOSPC);
	assert_int_equal(r.pool.nr_moves, 0);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 0);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	assert_int_equal(pkv_seq_pin(&r.pool, seq, false), 0);
	rig_check(&r);
	assert_int_equal(pkv_seq_pin(&r.pool, seq, true), -EBUSY);
	press(&r, 2);
	assert_int_equal(rig_settle(&r), 1);
	rig_exit(&r);
}

/* A pinned sequence grows, is forked and cut: the pin goes with its own pages. */
static void test_pin_follows_table(void **state)
{
	uint64_t seq, child;
	struct rig r;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_seq(&r, 6);
	assert_int_equal(pkv_seq_pin(&r.pool, seq, true), 0);
	rig_append(&r, seq, 6);
	child = rig_fork(&r, seq);
	rig_append(&r, seq, 1);
	rig_append(&r, child, 1);
	assert_int_equal(rig_op(&r, seq, PKV_OP_TRUNCATE, 2), 0);
	rig_append(&r, seq, 1);
	assert_int_equal(r.nr_copies, 1);
	rig_commit(&r, &r.copies[0], 0, false);
	rig_free(&r, child);
	rig_free(&r, seq);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 8);
	rig_exit(&r);
}

/* What only a cache wants is dropped without a move where there is nowhere to go. */
static void test_cached_page_is_dropped(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, 2, 0, 0);
	rig_free(&r, rig_published(&r, 1, 2));
	rig_seq(&r, 8);
	assert_int_equal(r.pool.counters.drops, 2);
	rig_exit(&r);
}

/* A copy in a lower tier makes the page on the device free to go. */
static void test_lower_copy_needs_no_move(void **state)
{
	uint64_t seq, other;
	struct rig r;

	(void)state;
	rig_init(&r, 2, 2, 0);
	seq = rig_seq(&r, 8);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	press(&r, 2);
	assert_int_equal(rig_settle(&r), 2);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	assert_int_equal(rig_settle(&r), 2);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	other = rig_seq(&r, 8);
	assert_int_equal(r.pool.nr_moves, 0);
	assert_int_equal(rig_page(&r, seq, 0)->slot[PKV_DEVICE], PKV_NONE);
	rig_free(&r, other);
	rig_exit(&r);
}

static uint64_t long_seq(struct rig *r, uint32_t nr_pages)
{
	uint64_t seq = rig_seq(r, 0);

	while (nr_pages) {
		uint32_t nr = nr_pages < RIG_MAX_DELTAS ? nr_pages : RIG_MAX_DELTAS;

		rig_append(r, seq, nr * RIG_PAGE_TOKENS);
		nr_pages -= nr;
	}
	return seq;
}

/*
 * Bug: cached pages behind the many pages of a preempted sequence were not looked for, on the
 * host or on the device, and there was no space.
 */
static void test_cached_behind_many(void **state)
{
	uint64_t old, seq;
	struct rig r;

	(void)state;
	rig_init(&r, 100, 100, 0);
	old = long_seq(&r, 90);
	assert_int_equal(pkv_seq_cold(&r.pool, old), 0);
	r.c->tiers[PKV_DEVICE].high = 100;
	while (rig_nr_free(&r, PKV_DEVICE) < 100) {
		pkv_moves_reclaim(&r.pool);
		assert_int_not_equal(rig_settle(&r), 0);
	}
	rig_free(&r, rig_published(&r, 1, 10));
	pkv_moves_reclaim(&r.pool);
	rig_settle(&r);
	r.c->tiers[PKV_DEVICE].high = 0;
	/* the host: 90 pages of a sequence, then 10 that are only cached */
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 0);
	assert_int_equal(r.c->nr_cached, 10);
	seq = long_seq(&r, 99);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	rig_free(&r, rig_published(&r, 2, 1));
	/* the device: 99 pages of a sequence, then one that is only cached */
	seq = rig_seq(&r, 0);
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, 11 * RIG_PAGE_TOKENS), -EAGAIN);
	rig_settle(&r);
	rig_append(&r, seq, 11 * RIG_PAGE_TOKENS);
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, RIG_PAGE_TOKENS), -ENOSPC);
	assert_int_equal(r.c->nr_cached, 0);
	rig_exit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cached_behind_many),
		cmocka_unit_test(test_oldest_first),
		cmocka_unit_test(test_use_makes_recent),
		cmocka_unit_test(test_low_priority_first),
		cmocka_unit_test(test_priority_changes),
		cmocka_unit_test(test_shared_page_waits_for_both),
		cmocka_unit_test(test_pinned_page_stays),
		cmocka_unit_test(test_pin_follows_table),
		cmocka_unit_test(test_cached_page_is_dropped),
		cmocka_unit_test(test_lower_copy_needs_no_move),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
