// SPDX-License-Identifier: GPL-2.0-only
/* Moves: how each kind ends, well, badly, late or not at all. */
#include "rig.h"

/* A cold sequence of two pages whose eviction to the host is planned. */
static uint64_t leaving_seq(struct rig *r)
{
	uint64_t seq, other;

	rig_init(r, 2, 2, 2);
	seq = rig_seq(r, 7);
	assert_int_equal(pkv_seq_cold(&r->pool, seq), 0);
	other = rig_seq(r, 0);
	assert_int_equal(rig_op(r, other, PKV_OP_APPEND, 8), -EAGAIN);
	rig_free(r, other);
	assert_int_equal(r->pool.nr_queued, 2);
	return seq;
}

/* The same, evicted. */
static uint64_t host_seq(struct rig *r)
{
	uint64_t seq = leaving_seq(r);

	assert_int_equal(rig_settle(r), 2);
	assert_int_equal(rig_nr_free(r, PKV_DEVICE), 2);
	assert_int_equal(rig_nr_free(r, PKV_HOST), 0);
	return seq;
}

static void test_out_and_in(void **state)
{
	struct pkv_seq_info info;
	struct pkv_move_desc d;
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = host_seq(&r);
	assert_int_equal(pkv_seq_info(&r.pool, seq, &info), 0);
	assert_int_equal(info.state, PKV_SEQ_COLD);
	assert_int_equal(info.nr_missing, 2);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	assert_int_equal(r.pool.nr_queued, 2);
	d = rig_fetch(&r);
	assert_int_equal(d.kind, PKV_MOVE_IN);
	assert_int_equal(d.src_tier, PKV_HOST);
	assert_int_equal(d.dst_tier, PKV_DEVICE);
	rig_commit(&r, &d, 0, false);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_LOADING);
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, 1), -EBUSY);
	assert_int_equal(rig_op(&r, seq, PKV_OP_FORK, 0), -EBUSY);
	assert_int_equal(rig_op(&r, seq, PKV_OP_TRUNCATE, 1), -EBUSY);
	assert_int_equal(rig_settle(&r), 1);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_RUNNING);
	assert_int_equal(r.pool.counters.moves[PKV_DEVICE][PKV_HOST], 2);
	assert_int_equal(r.pool.counters.moves[PKV_HOST][PKV_DEVICE], 2);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 0);
	rig_exit(&r);
}

static void test_failed_out_stays(void **state)
{
	struct pkv_move_desc d;
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = leaving_seq(&r);
	d = rig_fetch(&r);
	rig_commit(&r, &d, -EIO, false);
	assert_int_equal(rig_settle(&r), 1);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 1);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 1);
	assert_int_equal(r.pool.counters.aborts, 1);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	assert_int_equal(rig_settle(&r), 1);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_RUNNING);
	rig_exit(&r);
}

/* An eviction ends after its page was written: what it copied is old. */
static void test_dirty_while_moving(void **state)
{
	struct pkv_move_desc d[2];
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = leaving_seq(&r);
	assert_int_equal(pkv_moves_fetch(&r.pool, 1, d, 2), 2);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 0);
	rig_append(&r, seq, 1);
	assert_int_equal(r.nr_copies, 0);
	rig_commit(&r, &d[0], 0, false);
	rig_commit(&r, &d[1], 0, false);
	/* the tail's copy is worthless; the other page's is as good as its own */
	assert_int_equal(rig_page(&r, seq, 1)->slot[PKV_HOST], PKV_NONE);
	assert_int_not_equal(rig_page(&r, seq, 0)->slot[PKV_HOST], PKV_NONE);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 1);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_RUNNING);
	rig_exit(&r);
}

static void test_unwanted_move_is_cancelled(void **state)
{
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = leaving_seq(&r);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 0);
	rig_check(&r);
	assert_int_equal(r.pool.nr_moves, 0);
	assert_int_equal(r.pool.counters.cancels, 2);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 2);
	rig_exit(&r);
}

static void test_load_given_up(void **state)
{
	struct pkv_move_desc d;
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = host_seq(&r);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	d = rig_fetch(&r);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	rig_check(&r);
	/* the one that was planned is taken back, the one under way ends in a copy */
	assert_int_equal(r.pool.nr_moves, 1);
	rig_commit(&r, &d, 0, false);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 1);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_COLD);
	rig_exit(&r);
}

static void test_late_commit_of_freed_page(void **state)
{
	struct pkv_move_desc d[2];
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = leaving_seq(&r);
	assert_int_equal(pkv_moves_fetch(&r.pool, 1, d, 2), 2);
	rig_free(&r, seq);
	/* an executor still writes there */
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 0);
	rig_commit(&r, &d[0], 0, false);
	rig_commit(&r, &d[1], -EIO, true);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 2);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 2);
	assert_int_equal(pkv_move_commit(&r.pool, d[0].id, 0, false), -ESTALE);
	rig_exit(&r);
}

static void test_stale_commits(void **state)
{
	struct pkv_move_desc d;
	struct rig r;

	(void)state;
	leaving_seq(&r);
	assert_int_equal(pkv_move_commit(&r.pool, 0, 0, false), -ESTALE);
	assert_int_equal(pkv_move_commit(&r.pool, UINT64_MAX, 0, false), -ESTALE);
	/* planned, but nobody has it */
	assert_int_equal(pkv_move_commit(&r.pool, 1ull << 32, 0, false), -ESTALE);
	d = rig_fetch(&r);
	rig_commit(&r, &d, 0, false);
	assert_int_equal(pkv_move_commit(&r.pool, d.id, 0, false), -ESTALE);
	assert_int_equal(pkv_move_commit(&r.pool, d.id, -EIO, true), -ESTALE);
	rig_check(&r);
	rig_exit(&r);
}

static void test_requeue(void **state)
{
	struct pkv_move_desc d[2], again[2];
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = leaving_seq(&r);
	assert_int_equal(pkv_moves_fetch(&r.pool, 1, &d[0], 1), 1);
	assert_int_equal(pkv_moves_fetch(&r.pool, 2, &d[1], 1), 1);
	pkv_moves_requeue(&r.pool, 1);
	rig_check(&r);
	assert_int_equal(r.pool.nr_queued, 1);
	/* the dead executor's word counts no more */
	assert_int_equal(pkv_move_commit(&r.pool, d[0].id, 0, false), -ESTALE);
	assert_int_equal(pkv_moves_fetch(&r.pool, 3, again, 2), 1);
	assert_int_not_equal(again[0].id, d[0].id);
	assert_int_equal(again[0].src_slot, d[0].src_slot);
	rig_commit(&r, &d[1], 0, false);
	rig_commit(&r, &again[0], 0, false);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 2);
	rig_free(&r, seq);
	rig_exit(&r);
}

/* Moves the page of a host_seq() on to the disk, fetched by executor 1. */
static struct pkv_move_desc push_to_disk(struct rig *r)
{
	struct pkv_move_desc d;

	r->c->tiers[PKV_HOST].high = 1;
	pkv_moves_reclaim(&r->pool);
	d = rig_fetch(r);
	assert_int_equal(d.src_tier, PKV_HOST);
	assert_int_equal(d.dst_tier, PKV_DISK);
	return d;
}

/* A page that is on its way down when it is asked for comes back from where it was. */
static void test_load_follows_eviction(void **state)
{
	struct pkv_move_desc d;
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = host_seq(&r);
	d = push_to_disk(&r);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	rig_check(&r);
	rig_commit(&r, &d, 0, false);
	assert_int_equal(rig_settle(&r), 2);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_RUNNING);
	rig_exit(&r);
}

/* Bug: the load that was to follow was forgotten, and its slot with it. */
static void test_executor_dies_before_load_follows(void **state)
{
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = host_seq(&r);
	push_to_disk(&r);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	pkv_moves_requeue(&r.pool, 1);
	rig_check(&r);
	assert_int_equal(rig_settle(&r), 2);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_RUNNING);
	assert_int_equal(rig_nr_free(&r, PKV_DISK), 2);
	rig_exit(&r);
}

static void test_failed_load_tries_next_tier(void **state)
{
	struct pkv_move_desc d, in[2];
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = host_seq(&r);
	d = push_to_disk(&r);
	/* held when it ends: the copy on the host stays beside the new one */
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	rig_commit(&r, &d, 0, false);
	assert_int_equal(pkv_moves_fetch(&r.pool, 1, in, 2), 2);
	for (int i = 0; i < 2; i++)
		rig_commit(&r, &in[i], in[i].src_slot == d.src_slot ? -EIO : 0, true);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_LOADING);
	in[0] = rig_fetch(&r);
	assert_int_equal(in[0].src_tier, PKV_DISK);
	assert_int_equal(in[0].src_slot, d.dst_slot);
	rig_commit(&r, &in[0], 0, false);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_RUNNING);
	assert_int_equal(r.pool.counters.losses, 0);
	rig_exit(&r);
}

static void test_lost_page_breaks_sequences(void **state)
{
	struct pkv_seq_info info;
	struct pkv_move_desc d[2];
	struct rig r;
	uint64_t seq, child;

	(void)state;
	seq = host_seq(&r);
	child = rig_fork(&r, seq);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	assert_int_equal(pkv_seq_load(&r.pool, child), 1);
	assert_int_equal(pkv_moves_fetch(&r.pool, 1, d, 2), 2);
	/* the second page of both */
	if (d[0].src_slot == rig_page(&r, seq, 0)->slot[PKV_HOST]) {
		rig_commit(&r, &d[0], 0, false);
		rig_commit(&r, &d[1], -EIO, true);
	} else {
		rig_commit(&r, &d[1], 0, false);
		rig_commit(&r, &d[0], -EIO, true);
	}
	assert_int_equal(pkv_seq_info(&r.pool, seq, &info), 0);
	assert_int_equal(info.state, PKV_SEQ_BROKEN);
	assert_int_equal(info.lost_tokens, 4);
	assert_int_equal(pkv_seq_state(&r.pool, child), PKV_SEQ_BROKEN);
	assert_int_equal(pkv_seq_load(&r.pool, seq), -EIO);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), -EIO);
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, 1), -EBUSY);
	assert_int_equal(rig_op(&r, seq, PKV_OP_FORK, 0), -EBUSY);
	assert_int_equal(rig_op(&r, seq, PKV_OP_TRUNCATE, 5), 0);
	assert_int_equal(pkv_seq_load(&r.pool, seq), -EIO);
	assert_int_equal(rig_op(&r, seq, PKV_OP_TRUNCATE, 4), 0);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_COLD);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 0);
	rig_append(&r, seq, 3);
	rig_free(&r, child);
	assert_int_equal(r.c->nr_lost, 0);
	rig_exit(&r);
}

static void test_failed_copy_breaks_writer(void **state)
{
	struct pkv_seq_info info;
	struct rig r;
	uint64_t seq, child;

	(void)state;
	rig_init(&r, 4, 0, 0);
	seq = rig_seq(&r, 6);
	child = rig_fork(&r, seq);
	rig_append(&r, child, 1);
	rig_commit(&r, &r.copies[0], -EIO, false);
	assert_int_equal(pkv_seq_info(&r.pool, child, &info), 0);
	assert_int_equal(info.state, PKV_SEQ_BROKEN);
	assert_int_equal(info.lost_tokens, 4);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_RUNNING);
	rig_append(&r, seq, 1);
	assert_int_equal(r.nr_copies, 0);
	rig_exit(&r);
}

/* Bug: an eviction that found its source bad took the slot of a page that was held again. */
static void test_bad_source_of_held_page(void **state)
{
	struct pkv_move_desc d[2];
	uint32_t slots[2], after[2];
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = leaving_seq(&r);
	assert_int_equal(pkv_moves_fetch(&r.pool, 1, d, 2), 2);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 0);
	assert_int_equal(pkv_seq_table(&r.pool, seq, 0, slots, 2), 2);
	rig_commit(&r, &d[0], -EIO, true);
	rig_commit(&r, &d[1], -EIO, true);
	assert_int_equal(pkv_seq_table(&r.pool, seq, 0, after, 2), 2);
	assert_memory_equal(slots, after, sizeof(slots));
	rig_exit(&r);
}

static void test_offline_tier(void **state)
{
	struct pkv_key key = rig_key(1, 0);
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = host_seq(&r);
	assert_int_equal(pkv_prefix_adopt(&r.pool, 0, PKV_DISK, 0, &key), 0);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_DISK, PKV_TIER_OFFLINE), 0);
	rig_check(&r);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, &key, 1, NULL), 0);
	assert_int_equal(r.c->nr_cached, 0);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_HOST, PKV_TIER_OFFLINE), 0);
	rig_check(&r);
	assert_int_equal(r.c->nr_lost, 2);
	assert_int_equal(pkv_seq_load(&r.pool, seq), -EIO);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_BROKEN);
	rig_free(&r, seq);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_DEVICE, PKV_TIER_READONLY),
			 -EINVAL);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_HOST, 3), -EINVAL);
	rig_exit(&r);
}

/* The device's memory is another one: what was there is in no match, and in no move either. */
static void test_other_device(void **state)
{
	struct pkv_key key = rig_key(1, 0);
	struct pkv_move_desc d;
	struct rig r;
	uint64_t seq;

	(void)state;
	rig_init(&r, 2, 2, 0);
	seq = rig_published(&r, 1, 1);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_DEVICE, PKV_TIER_OFFLINE),
			 -EBUSY);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, &key, 1, NULL), 1);
	rig_free(&r, seq);
	seq = rig_seq(&r, 0);
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, 8), -EAGAIN);
	assert_int_equal(pkv_moves_fetch(&r.pool, 1, &d, 1), 1);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_DEVICE, PKV_TIER_OFFLINE), 0);
	rig_check(&r);
	/* It was read from what is there now. */
	rig_commit(&r, &d, 0, false);
	rig_check(&r);
	assert_int_equal(pkv_prefix_match(&r.pool, 0, &key, 1, NULL), 0);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 2);
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, 8), 0);
	rig_exit(&r);
}

/* Bug: the tier went and came back, and a move begun before brought half a page. */
static void test_tier_goes_and_comes_back(void **state)
{
	struct pkv_move_desc d[2];
	struct rig r;

	(void)state;
	leaving_seq(&r);
	assert_int_equal(pkv_moves_fetch(&r.pool, 1, d, 2), 2);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_HOST, PKV_TIER_OFFLINE), 0);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_HOST, PKV_TIER_ONLINE), 0);
	rig_commit(&r, &d[0], 0, false);
	rig_commit(&r, &d[1], 0, false);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 0);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 2);
	rig_exit(&r);
}

/* Bug: a load whose source had gone with its tier was planned anew once the tier was back. */
static void test_executor_dies_after_tier_came_back(void **state)
{
	struct pkv_move_desc d[2];
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = host_seq(&r);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	assert_int_equal(pkv_moves_fetch(&r.pool, 1, d, 2), 2);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_HOST, PKV_TIER_OFFLINE), 0);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_HOST, PKV_TIER_ONLINE), 0);
	pkv_moves_requeue(&r.pool, 1);
	rig_check(&r);
	assert_int_equal(r.pool.nr_moves, 0);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_BROKEN);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 2);
	rig_exit(&r);
}

/* Bug: a load read a slot of a tier that went and came back, and somebody else's page by then. */
static void test_slot_is_reused_under_a_load(void **state)
{
	struct pkv_move_desc d[2];
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = host_seq(&r);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	assert_int_equal(pkv_moves_fetch(&r.pool, 1, d, 2), 2);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_HOST, PKV_TIER_OFFLINE), 0);
	/* what was read before is good */
	rig_commit(&r, &d[0], 0, false);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_LOADING);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_HOST, PKV_TIER_ONLINE), 0);
	rig_commit(&r, &d[1], 0, false);
	rig_check(&r);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_BROKEN);
	assert_int_equal(r.c->nr_lost, 1);
	rig_free(&r, seq);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 2);
	rig_exit(&r);
}

static void test_readonly_tier(void **state)
{
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = host_seq(&r);
	assert_int_equal(pkv_pool_set_tier_state(&r.pool, 0, PKV_HOST, PKV_TIER_READONLY), 0);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	assert_int_equal(rig_settle(&r), 2);
	assert_int_equal(pkv_seq_state(&r.pool, seq), PKV_SEQ_RUNNING);
	rig_append(&r, seq, 1);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	/* the tail that was written can only go to the disk */
	assert_int_equal(rig_op(&r, rig_seq(&r, 0), PKV_OP_APPEND, 8), -EAGAIN);
	assert_int_equal(rig_fetch(&r).dst_tier, PKV_DISK);
	rig_exit(&r);
}

/* Evictions are bounded; what does not fit is planned after commits. */
static void test_max_moves(void **state)
{
	struct pkv_pool_params params = rig_params(6, 6, 0);
	struct pkv_move_desc d[6];
	struct rig r;
	uint64_t seq, other;
	int err, rounds = 0;

	(void)state;
	params.max_moves = 2;
	rig_init_with(&r, &params);
	seq = rig_seq(&r, 24);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	other = rig_seq(&r, 0);
	while ((err = rig_op(&r, other, PKV_OP_APPEND, 24)) == -EAGAIN) {
		assert_int_equal(pkv_moves_fetch(&r.pool, 1, d, 6), 2);
		rig_commit(&r, &d[0], 0, false);
		rig_commit(&r, &d[1], 0, false);
		assert_in_range(++rounds, 1, 3);
	}
	assert_int_equal(err, 0);
	assert_int_equal(rounds, 3);
	rig_exit(&r);
}

/* ----------------------------------------------------------- absent slots */

static uint32_t nr_asked, nr_given;

/* Memory for one slot each time, as long as there is some. */
static bool give_one(struct pkv_pool *pool, uint32_t class_id, uint32_t tier)
{
	assert_int_equal(class_id, 0);
	assert_int_equal(tier, PKV_HOST);
	nr_asked++;
	if (!nr_given)
		return false;
	pkv_slots_restore(pool, 0, PKV_HOST, --nr_given, 1);
	return true;
}

/* Evict a sequence of four pages while the host's four slots have no memory. */
static void evict_to_absent(struct rig *r, uint32_t nr_memory)
{
	nr_asked = 0;
	nr_given = nr_memory;
	rig_init(r, 4, 4, 4);
	r->pool.provide = give_one;
	assert_int_equal(pkv_slots_withdraw(&r->pool, 0, PKV_HOST, 0, 4), 0);
	rig_check(r);
	assert_int_equal(pkv_seq_cold(&r->pool, rig_seq(r, 16)), 0);
	assert_int_equal(rig_op(r, rig_seq(r, 0), PKV_OP_APPEND, 16), -EAGAIN);
	assert_int_equal(rig_settle(r), 4);
	assert_int_equal(r->pool.counters.moves[PKV_DEVICE][PKV_HOST], nr_memory);
	assert_int_equal(r->pool.counters.moves[PKV_DEVICE][PKV_DISK], 4 - nr_memory);
}

static void test_absent_slots_are_provided_for(void **state)
{
	struct rig r;

	(void)state;
	evict_to_absent(&r, 4);
	assert_int_equal(nr_asked, 4);
	rig_exit(&r);
}

static void test_absent_slots_without_memory(void **state)
{
	struct rig r;

	(void)state;
	evict_to_absent(&r, 2);
	assert_int_equal(r.c->tiers[PKV_HOST].nr_absent, 2);
	assert_int_equal(pkv_slots_withdraw(&r.pool, 0, PKV_HOST, 1, 1), -EBUSY);
	assert_int_equal(pkv_slots_withdraw(&r.pool, 0, PKV_HOST, 4, 1), -EINVAL);
	assert_int_equal(pkv_slots_withdraw(&r.pool, 0, PKV_DEVICE, 0, 1), -EINVAL);
	rig_exit(&r);
}

/* No memory is asked for slots over the limit. */
static void test_absent_slots_over_limit(void **state)
{
	struct rig r;

	(void)state;
	nr_asked = 0;
	nr_given = 4;
	rig_init(&r, 4, 4, 4);
	r.pool.provide = give_one;
	assert_int_equal(pkv_slots_withdraw(&r.pool, 0, PKV_HOST, 0, 4), 0);
	assert_int_equal(pkv_pool_set_limit(&r.pool, 0, PKV_HOST, 1), 0);
	assert_int_equal(pkv_seq_cold(&r.pool, rig_seq(&r, 16)), 0);
	assert_int_equal(rig_op(&r, rig_seq(&r, 0), PKV_OP_APPEND, 16), -EAGAIN);
	assert_int_equal(rig_settle(&r), 4);
	assert_int_equal(nr_asked, 1);
	assert_int_equal(r.pool.counters.moves[PKV_DEVICE][PKV_HOST], 1);
	rig_exit(&r);
}

/* So many pages leave, and those on their way count. */
static void test_demote(void **state)
{
	struct rig r;

	(void)state;
	host_seq(&r);
	pkv_moves_demote(&r.pool, 0, PKV_HOST, 1);
	assert_int_equal(r.pool.nr_queued, 1);
	pkv_moves_demote(&r.pool, 0, PKV_HOST, 8);
	rig_check(&r);
	assert_int_equal(r.pool.nr_queued, 2);
	assert_int_equal(rig_settle(&r), 2);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 2);
	assert_int_equal(r.pool.counters.moves[PKV_HOST][PKV_DISK], 2);
	pkv_moves_demote(&r.pool, 0, PKV_HOST, 8);
	assert_int_equal(r.pool.nr_queued, 0);
	rig_exit(&r);
}

/* What is only cached goes at once where there is nothing below. */
static void test_demote_cached(void **state)
{
	struct rig r;
	uint64_t seq;

	(void)state;
	rig_init(&r, 2, 2, 0);
	seq = rig_published(&r, 1, 2);
	rig_free(&r, seq);
	seq = rig_seq(&r, 0);
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, 8), -EAGAIN);
	assert_int_equal(rig_settle(&r), 2);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 0);
	pkv_moves_demote(&r.pool, 0, PKV_HOST, 1);
	rig_check(&r);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 1);
	assert_int_equal(r.pool.nr_moves, 0);
	rig_exit(&r);
}

/* ------------------------------------------------------- without an executor */

/* @nr_pages of prompt 1, only cached, in the host tier. */
static void cache_in_host(struct rig *r, uint32_t nr_pages)
{
	rig_free(r, rig_published(r, 1, nr_pages));
	pkv_moves_demote(&r->pool, 0, PKV_DEVICE, nr_pages);
	assert_int_equal(rig_settle(r), nr_pages);
}

static void drop(struct rig *r, uint32_t tier, uint32_t nr)
{
	pkv_moves_drop(&r->pool, 0, tier, nr);
	rig_check(r);
}

/* What is on the disk too goes before the older page that is only cached. */
static void test_drop_spares_the_cache(void **state)
{
	struct pkv_move_desc d[2];
	struct rig r;
	uint64_t seq;

	(void)state;
	rig_init(&r, 4, 4, 4);
	cache_in_host(&r, 1);
	seq = rig_seq_prio(&r, 4, 3);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	pkv_moves_demote(&r.pool, 0, PKV_DEVICE, 1);
	assert_int_equal(rig_settle(&r), 1);
	/* a page that is loaded while it goes to the disk keeps both copies */
	pkv_moves_demote(&r.pool, 0, PKV_HOST, 2);
	assert_int_equal(pkv_moves_fetch(&r.pool, 1, d, 2), 2);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	rig_commit(&r, &d[0], -EIO, false);
	rig_commit(&r, &d[1], 0, false);
	assert_int_equal(rig_settle(&r), 1);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	drop(&r, PKV_DEVICE, 4);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 4);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 2);
	assert_int_equal(r.c->nr_cached, 1);

	drop(&r, PKV_HOST, 1);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 3);
	assert_int_equal(r.c->nr_cached, 1);
	drop(&r, PKV_HOST, UINT32_MAX);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 4);
	assert_int_equal(r.c->nr_cached, 0);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	assert_int_equal(rig_settle(&r), 1);
	assert_int_equal(r.pool.counters.losses, 0);
	rig_exit(&r);
}

/* The spare copies of pages on the device go, and of held ones too. */
static void test_drop_twins(void **state)
{
	struct rig r;
	uint64_t seq;

	(void)state;
	seq = host_seq(&r);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	assert_int_equal(rig_settle(&r), 2);
	drop(&r, PKV_HOST, 1);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 1);
	drop(&r, PKV_DEVICE, 2);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 0);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	drop(&r, PKV_HOST, 1);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 2);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 0);
	rig_exit(&r);
}

/* Moves that nobody fetches hold nothing back but what a sequence needs. */
static void test_drop_takes_back(void **state)
{
	struct rig r;
	uint64_t seq;

	(void)state;
	rig_init(&r, 4, 4, 4);
	cache_in_host(&r, 2);
	seq = rig_seq(&r, 4);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	pkv_moves_demote(&r.pool, 0, PKV_DEVICE, 1);
	assert_int_equal(rig_settle(&r), 1);
	pkv_moves_demote(&r.pool, 0, PKV_HOST, 3);
	assert_int_equal(r.pool.nr_queued, 3);
	drop(&r, PKV_HOST, 1);
	assert_int_equal(r.pool.nr_queued, 2);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 2);
	assert_int_equal(rig_nr_free(&r, PKV_DISK), 2);
	drop(&r, PKV_HOST, 4);
	assert_int_equal(r.pool.nr_queued, 1);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 3);
	assert_int_equal(rig_settle(&r), 1);
	assert_int_equal(pkv_seq_load(&r.pool, seq), 1);
	assert_int_equal(rig_settle(&r), 1);
	rig_exit(&r);
}

/* A slot that a page was to come to is free again, and the page stays where it is. */
static void test_drop_takes_back_what_comes(void **state)
{
	struct rig r;
	uint64_t seq;

	(void)state;
	rig_init(&r, 2, 2, 0);
	rig_free(&r, rig_published(&r, 1, 2));
	pkv_moves_demote(&r.pool, 0, PKV_DEVICE, 2);
	assert_int_equal(r.pool.nr_queued, 2);
	drop(&r, PKV_HOST, 2);
	assert_int_equal(r.pool.nr_queued, 0);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 2);
	assert_int_equal(rig_lookup(&r, 1, 2, &seq), 2);
	rig_exit(&r);
}

/* What an executor has fetched ends by its commit. */
static void test_drop_leaves_what_is_fetched(void **state)
{
	struct pkv_move_desc d;
	struct rig r;

	(void)state;
	rig_init(&r, 2, 2, 2);
	cache_in_host(&r, 1);
	pkv_moves_demote(&r.pool, 0, PKV_HOST, 1);
	d = rig_fetch(&r);
	drop(&r, PKV_HOST, 2);
	assert_int_equal(rig_nr_free(&r, PKV_HOST), 1);
	rig_commit(&r, &d, 0, false);
	assert_int_equal(r.c->nr_cached, 1);
	assert_int_equal(rig_nr_free(&r, PKV_DISK), 1);
	rig_exit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_out_and_in),
		cmocka_unit_test(test_failed_out_stays),
		cmocka_unit_test(test_dirty_while_moving),
		cmocka_unit_test(test_unwanted_move_is_cancelled),
		cmocka_unit_test(test_load_given_up),
		cmocka_unit_test(test_late_commit_of_freed_page),
		cmocka_unit_test(test_stale_commits),
		cmocka_unit_test(test_requeue),
		cmocka_unit_test(test_load_follows_eviction),
		cmocka_unit_test(test_executor_dies_before_load_follows),
		cmocka_unit_test(test_failed_load_tries_next_tier),
		cmocka_unit_test(test_lost_page_breaks_sequences),
		cmocka_unit_test(test_failed_copy_breaks_writer),
		cmocka_unit_test(test_bad_source_of_held_page),
		cmocka_unit_test(test_offline_tier),
		cmocka_unit_test(test_other_device),
		cmocka_unit_test(test_tier_goes_and_comes_back),
		cmocka_unit_test(test_executor_dies_after_tier_came_back),
		cmocka_unit_test(test_slot_is_reused_under_a_load),
		cmocka_unit_test(test_readonly_tier),
		cmocka_unit_test(test_max_moves),
		cmocka_unit_test(test_absent_slots_are_provided_for),
		cmocka_unit_test(test_absent_slots_without_memory),
		cmocka_unit_test(test_absent_slots_over_limit),
		cmocka_unit_test(test_demote),
		cmocka_unit_test(test_demote_cached),
		cmocka_unit_test(test_drop_spares_the_cache),
		cmocka_unit_test(test_drop_twins),
		cmocka_unit_test(test_drop_takes_back),
		cmocka_unit_test(test_drop_takes_back_what_comes),
		cmocka_unit_test(test_drop_leaves_what_is_fetched),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
