// SPDX-License-Identifier: GPL-2.0-only
/* Block tables: append at the edges of pages, fork and copy-on-write, truncate. */
#include "rig.h"

#include <string.h>

static void test_append_at_page_edges(void **state)
{
	struct rig r;
	uint64_t seq;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_seq(&r, 0);
	rig_append(&r, seq, 0);
	assert_int_equal(r.nr_deltas, 0);
	rig_append(&r, seq, 3);
	assert_int_equal(r.nr_deltas, 1);
	assert_int_equal(r.deltas[0].seq, seq);
	assert_int_equal(r.deltas[0].index, 0);
	rig_append(&r, seq, 1);
	assert_int_equal(r.nr_deltas, 0);
	rig_append(&r, seq, 1);
	assert_int_equal(r.nr_deltas, 1);
	assert_int_equal(r.deltas[0].index, 1);
	rig_append(&r, seq, 3 + 4 + 4);
	assert_int_equal(r.nr_deltas, 2);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 4);
	/* one more page than there is: nothing happens */
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, 17), -ENOSPC);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 4);
	rig_append(&r, seq, 16);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 0);
	assert_int_equal(r.nr_copies, 0);
	rig_exit(&r);
}

static void test_append_hostile_sizes(void **state)
{
	struct rig r;
	uint64_t seq;

	(void)state;
	rig_init(&r, 4, 0, 0);
	seq = rig_seq(&r, 5);
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, UINT32_MAX), -EOVERFLOW);
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, PKV_MAX_SEQ_TOKENS - 4), -EOVERFLOW);
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, PKV_MAX_SEQ_TOKENS - 5), -ENOBUFS);
	assert_int_equal(rig_op(&r, seq, PKV_OP_TRUNCATE, 6), -EINVAL);
	assert_int_equal(rig_op(&r, seq, PKV_OP_TRUNCATE, UINT32_MAX), -EINVAL);
	assert_int_equal(rig_op(&r, seq, 77, 0), -EINVAL);
	assert_int_equal(rig_op(&r, seq + 1, PKV_OP_APPEND, 1), -ESTALE);
	rig_exit(&r);
}

static void test_table_matches_deltas(void **state)
{
	uint32_t slots[8], all[8];
	struct rig r;
	uint64_t seq;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_seq(&r, 5 * RIG_PAGE_TOKENS);
	assert_int_equal(r.nr_deltas, 5);
	assert_int_equal(pkv_seq_table(&r.pool, seq, 0, all, 8), 5);
	for (int i = 0; i < 5; i++)
		assert_int_equal(all[r.deltas[i].index], r.deltas[i].slot);
	assert_int_equal(pkv_seq_table(&r.pool, seq, 3, slots, 8), 2);
	assert_memory_equal(slots, all + 3, 2 * sizeof(slots[0]));
	assert_int_equal(pkv_seq_table(&r.pool, seq, 5, slots, 8), 0);
	assert_int_equal(pkv_seq_table(&r.pool, seq, UINT32_MAX, slots, UINT32_MAX), 0);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	assert_int_equal(pkv_seq_table(&r.pool, seq, 0, slots, 8), -EBUSY);
	rig_exit(&r);
}

static void test_fork_shares_every_page(void **state)
{
	struct pkv_seq_info info;
	uint64_t seq, child;
	struct rig r;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_seq(&r, 10);
	child = rig_fork(&r, seq);
	assert_int_not_equal(child, seq);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 5);
	assert_int_equal(pkv_seq_info(&r.pool, child, &info), 0);
	assert_int_equal(info.len_tokens, 10);
	assert_int_equal(info.nr_shared, 3);
	assert_int_equal(info.state, PKV_SEQ_RUNNING);
	rig_free(&r, seq);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 5);
	assert_int_equal(pkv_seq_info(&r.pool, child, &info), 0);
	assert_int_equal(info.nr_shared, 0);
	rig_free(&r, child);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 8);
	rig_exit(&r);
}

/* Whoever writes first copies; the other has the page to itself then. */
static void test_fork_then_both_append(void **state)
{
	uint64_t seq, child;
	uint32_t shared;
	struct rig r;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_seq(&r, 6);
	shared = r.deltas[1].slot;
	child = rig_fork(&r, seq);
	rig_append(&r, child, 1);
	assert_int_equal(r.nr_copies, 1);
	assert_int_equal(r.copies[0].kind, PKV_MOVE_COPY);
	assert_int_equal(r.copies[0].src_slot, shared);
	assert_int_equal(r.nr_deltas, 1);
	assert_int_equal(r.deltas[0].seq, child);
	assert_int_equal(r.deltas[0].index, 1);
	assert_int_equal(r.deltas[0].slot, r.copies[0].dst_slot);
	rig_commit(&r, &r.copies[0], 0, false);
	rig_append(&r, seq, 1);
	assert_int_equal(r.nr_copies, 0);
	assert_int_equal(r.nr_deltas, 0);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 5);
	assert_int_equal(r.pool.counters.copies, 1);
	rig_exit(&r);
}

/* The other way round, and the copy is still to be committed when the rest happens. */
static void test_parent_copies_late_commit(void **state)
{
	struct pkv_move_desc copy;
	uint64_t seq, child;
	struct rig r;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_seq(&r, 6);
	child = rig_fork(&r, seq);
	rig_append(&r, seq, 1);
	assert_int_equal(r.nr_copies, 1);
	copy = r.copies[0];
	rig_append(&r, child, 3);
	assert_int_equal(r.nr_copies, 0);
	assert_int_equal(r.nr_deltas, 1);
	rig_free(&r, child);
	/* the page that the copy reads stays until it ends */
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 5);
	rig_free(&r, seq);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 6);
	rig_commit(&r, &copy, 0, false);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 8);
	assert_int_equal(pkv_move_commit(&r.pool, copy.id, 0, false), -ESTALE);
	rig_exit(&r);
}

static void test_fork_at_page_edge_copies_nothing(void **state)
{
	uint64_t seq, child;
	struct rig r;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_seq(&r, 8);
	child = rig_fork(&r, seq);
	rig_append(&r, child, 1);
	assert_int_equal(r.nr_copies, 0);
	rig_append(&r, seq, 1);
	assert_int_equal(r.nr_copies, 0);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 4);
	rig_exit(&r);
}

/* A page with a key is never written, shared or not. */
static void test_published_tail_is_copied(void **state)
{
	uint64_t seq;
	struct rig r;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_published(&r, 1, 2);
	assert_int_equal(rig_op(&r, seq, PKV_OP_TRUNCATE, 6), 0);
	rig_append(&r, seq, 1);
	assert_int_equal(r.nr_copies, 1);
	rig_commit(&r, &r.copies[0], 0, false);
	rig_exit(&r);
}

static void test_truncate_frees_whole_pages(void **state)
{
	uint64_t seq;
	struct rig r;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_seq(&r, 17);
	assert_int_equal(rig_op(&r, seq, PKV_OP_TRUNCATE, 17), 0);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 3);
	assert_int_equal(rig_op(&r, seq, PKV_OP_TRUNCATE, 16), 0);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 4);
	assert_int_equal(rig_op(&r, seq, PKV_OP_TRUNCATE, 13), 0);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 4);
	rig_append(&r, seq, 3);
	assert_int_equal(r.nr_copies, 0);
	assert_int_equal(r.nr_deltas, 0);
	assert_int_equal(rig_op(&r, seq, PKV_OP_TRUNCATE, 0), 0);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 8);
	rig_append(&r, seq, 1);
	assert_int_equal(r.nr_deltas, 1);
	rig_exit(&r);
}

/* An operation for whose outputs there is no room has not happened. */
static void test_small_outputs(void **state)
{
	struct pkv_delta deltas[2];
	struct pkv_move_desc copy;
	struct pkv_op ops[2];
	struct pkv_step st = { .ops = ops, .nr_ops = 2, .deltas = deltas, .copies = &copy };
	uint64_t seq, child;
	struct rig r;

	(void)state;
	rig_init(&r, 8, 0, 0);
	seq = rig_seq(&r, 2);
	child = rig_fork(&r, seq);
	ops[0] = (struct pkv_op){ .seq = seq, .type = PKV_OP_APPEND, .arg = 1 };
	ops[1] = (struct pkv_op){ .seq = child, .type = PKV_OP_APPEND, .arg = 7 };
	assert_int_equal(pkv_pool_step(&r.pool, &st), -ENOBUFS);
	assert_int_equal(st.nr_done, 0);
	st.max_deltas = 1;
	assert_int_equal(pkv_pool_step(&r.pool, &st), -ENOBUFS);
	assert_int_equal(st.nr_done, 0);
	st.max_copies = 1;
	assert_int_equal(pkv_pool_step(&r.pool, &st), -ENOBUFS);
	assert_int_equal(st.nr_done, 1);
	assert_int_equal(st.nr_copies, 1);
	rig_check(&r);
	rig_commit(&r, &copy, 0, false);
	st.ops = ops + 1;
	st.nr_ops = 1;
	st.max_deltas = 2;
	assert_int_equal(pkv_pool_step(&r.pool, &st), 0);
	assert_int_equal(st.nr_deltas, 2);
	rig_exit(&r);
}

/* Bug: the tail's lower copies went although the append failed for want of output room. */
static void test_failed_append_keeps_lower_copies(void **state)
{
	struct pkv_op op = { .type = PKV_OP_APPEND, .arg = 9 };
	struct pkv_step st = { .ops = &op, .nr_ops = 1 };
	struct pkv_page *page;
	struct rig r;

	(void)state;
	rig_init(&r, 2, 2, 0);
	op.seq = rig_seq(&r, 2);
	assert_int_equal(pkv_seq_cold(&r.pool, op.seq), 0);
	rig_free(&r, rig_seq(&r, 4));
	assert_int_equal(rig_op(&r, rig_seq(&r, 0), PKV_OP_APPEND, 8), -EAGAIN);
	assert_int_equal(rig_settle(&r), 1);
	assert_int_equal(pkv_seq_load(&r.pool, op.seq), 1);
	assert_int_equal(rig_settle(&r), 1);
	page = rig_page(&r, op.seq, 0);
	assert_int_not_equal(page->slot[PKV_HOST], PKV_NONE);
	assert_int_equal(pkv_pool_step(&r.pool, &st), -ENOBUFS);
	assert_int_not_equal(page->slot[PKV_HOST], PKV_NONE);
	/* one that works makes them stale */
	rig_append(&r, op.seq, 1);
	assert_int_equal(page->slot[PKV_HOST], PKV_NONE);
	rig_exit(&r);
}

static void test_fork_of_cold_is_cold(void **state)
{
	uint64_t seq, child;
	struct rig r;

	(void)state;
	rig_init(&r, 4, 0, 0);
	seq = rig_seq(&r, 6);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	child = rig_fork(&r, seq);
	assert_int_equal(pkv_seq_state(&r.pool, child), PKV_SEQ_COLD);
	assert_int_equal(rig_op(&r, child, PKV_OP_APPEND, 1), -EBUSY);
	assert_int_equal(pkv_seq_load(&r.pool, child), 0);
	rig_append(&r, child, 1);
	assert_int_equal(r.nr_copies, 1);
	rig_commit(&r, &r.copies[0], 0, false);
	rig_exit(&r);
}

static void test_too_many_sequences(void **state)
{
	struct pkv_pool_params params = rig_params(8, 0, 0);
	uint32_t nr_hits;
	struct rig r;
	uint64_t seq;
	__u64 out;

	(void)state;
	params.max_seqs = 2;
	rig_init_with(&r, &params);
	seq = rig_seq(&r, 4);
	rig_fork(&r, seq);
	assert_int_equal(rig_op(&r, seq, PKV_OP_FORK, 0), -EDQUOT);
	assert_int_equal(pkv_seq_create(&r.pool, 0, NULL, 0, 0, 0, &out, &nr_hits), -EDQUOT);
	rig_free(&r, seq);
	assert_int_equal(rig_op(&r, seq, PKV_OP_FORK, 0), -ESTALE);
	rig_seq(&r, 4);
	rig_exit(&r);
}

static void test_free_owner(void **state)
{
	uint32_t nr_hits;
	struct rig r;
	__u64 mine, theirs, child;

	(void)state;
	rig_init(&r, 8, 0, 0);
	assert_int_equal(pkv_seq_create(&r.pool, 0, NULL, 0, 0, 7, &mine, &nr_hits), 0);
	assert_int_equal(pkv_seq_create(&r.pool, 0, NULL, 0, 0, 8, &theirs, &nr_hits), 0);
	rig_append(&r, mine, 6);
	rig_append(&r, theirs, 6);
	child = rig_fork(&r, mine);
	rig_append(&r, mine, 1);
	assert_int_equal(r.nr_copies, 1);
	pkv_seqs_free_owner(&r.pool, 7);
	rig_check(&r);
	assert_int_equal(pkv_seq_state(&r.pool, mine), -ESTALE);
	assert_int_equal(pkv_seq_state(&r.pool, child), -ESTALE);
	assert_int_equal(pkv_seq_state(&r.pool, theirs), PKV_SEQ_RUNNING);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 6);
	assert_int_equal(pkv_move_commit(&r.pool, r.copies[0].id, 0, false), -ESTALE);
	rig_exit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append_at_page_edges),
		cmocka_unit_test(test_append_hostile_sizes),
		cmocka_unit_test(test_table_matches_deltas),
		cmocka_unit_test(test_fork_shares_every_page),
		cmocka_unit_test(test_fork_then_both_append),
		cmocka_unit_test(test_parent_copies_late_commit),
		cmocka_unit_test(test_fork_at_page_edge_copies_nothing),
		cmocka_unit_test(test_published_tail_is_copied),
		cmocka_unit_test(test_truncate_frees_whole_pages),
		cmocka_unit_test(test_small_outputs),
		cmocka_unit_test(test_failed_append_keeps_lower_copies),
		cmocka_unit_test(test_fork_of_cold_is_cold),
		cmocka_unit_test(test_too_many_sequences),
		cmocka_unit_test(test_free_owner),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
