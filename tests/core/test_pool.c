// SPDX-License-Identifier: GPL-2.0-only
/* A pool: what it refuses, its limits and marks, each allocation failed, and its own check. */
#include "rig.h"

#include <string.h>

#include <linux/slab.h>

static void test_init_refuses(void **state)
{
	const struct pkv_pool_params good = rig_params(4, 4, 4);
	struct pkv_pool_params p;
	struct pkv_pool pool;
	struct mutex lock;

	(void)state;
	mutex_init(&lock);
#define REFUSED(expected, spoil)						\
	do {									\
		p = good;							\
		spoil;								\
		assert_int_equal(pkv_pool_init(&pool, &p, &lock), expected);	\
	} while (0)
	REFUSED(-EINVAL, p.nr_classes = 0);
	REFUSED(-EINVAL, p.nr_classes = PKV_MAX_CLASSES + 1);
	REFUSED(-EINVAL, p.nr_classes = 2);	/* the second is all zero */
	REFUSED(-EINVAL, p.max_seqs = 0);
	REFUSED(-EINVAL, p.max_seqs = PKV_MAX_SEQS + 1);
	REFUSED(-EINVAL, p.max_moves = 0);
	REFUSED(-EINVAL, p.max_moves = 65537);
	REFUSED(-EINVAL, p.nr_ranks = 0);
	REFUSED(-EINVAL, p.nr_ranks = 2);
	REFUSED(-EINVAL, p.classes[0].page_tokens = 0);
	REFUSED(-EINVAL, p.classes[0].page_tokens = 3);
	REFUSED(-EINVAL, p.classes[0].page_tokens = 2048);
	REFUSED(-EINVAL, p.classes[0].nr_slots[PKV_DEVICE] = 0);
	REFUSED(-EOVERFLOW, p.classes[0].nr_slots[PKV_DEVICE] = PKV_MAX_SLOTS + 1);
	REFUSED(-EOVERFLOW, p.classes[0].nr_slots[PKV_DISK] = UINT32_MAX);
	REFUSED(-EINVAL, p.classes[0].low[PKV_DEVICE] = 1);
	REFUSED(-EINVAL, p.classes[0].high[PKV_HOST] = 5);
#undef REFUSED
}

static void test_classes_are_apart(void **state)
{
	struct pkv_pool_params params = rig_params(4, 0, 0);
	struct pkv_key key = rig_key(1, 0);
	uint32_t nr_hits;
	struct rig r;
	__u64 seq;

	(void)state;
	params.nr_classes = 2;
	params.classes[1] = params.classes[0];
	params.classes[1].page_tokens = 16;
	rig_init_with(&r, &params);
	rig_published(&r, 1, 1);
	assert_int_equal(pkv_prefix_match(&r.pool, 1, &key, 1, NULL), 0);
	assert_int_equal(pkv_seq_create(&r.pool, 1, &key, 1, 0, 0, &seq, &nr_hits), 0);
	assert_int_equal(nr_hits, 0);
	rig_append(&r, seq, 17);
	assert_int_equal(r.nr_deltas, 2);
	assert_int_equal(r.pool.classes[0].tiers[PKV_DEVICE].nr_free, 3);
	assert_int_equal(r.pool.classes[1].tiers[PKV_DEVICE].nr_free, 2);
	rig_exit(&r);
}

static void test_limit_holds(void **state)
{
	struct rig r;
	uint64_t seq;

	(void)state;
	rig_init(&r, 8, 8, 0);
	assert_int_equal(pkv_pool_set_limit(&r.pool, 0, PKV_DEVICE, 9), -EINVAL);
	assert_int_equal(pkv_pool_set_limit(&r.pool, 0, PKV_NR_TIERS, 1), -EINVAL);
	assert_int_equal(pkv_pool_set_limit(&r.pool, 1, PKV_DEVICE, 1), -EINVAL);
	assert_int_equal(pkv_pool_set_limit(&r.pool, 0, PKV_DEVICE, 3), 0);
	seq = rig_seq(&r, 12);
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, 1), -ENOSPC);
	assert_int_equal(pkv_pool_set_limit(&r.pool, 0, PKV_DEVICE, 4), 0);
	rig_append(&r, seq, 1);
	rig_exit(&r);
}

/* A limit below what is used: pages go as they become idle, with low marks or without. */
static void test_lowered_limit_evicts(void **state)
{
	struct rig r;
	uint64_t seqs[2];

	(void)state;
	rig_init(&r, 8, 8, 0);
	seqs[0] = rig_seq(&r, 12);
	seqs[1] = rig_seq(&r, 12);
	assert_int_equal(pkv_seq_cold(&r.pool, seqs[0]), 0);
	assert_int_equal(pkv_pool_set_limit(&r.pool, 0, PKV_DEVICE, 4), 0);
	rig_check(&r);
	assert_int_equal(rig_settle(&r), 2);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 4);
	assert_int_equal(pkv_pool_set_limit(&r.pool, 0, PKV_DEVICE, 2), 0);
	assert_int_equal(rig_settle(&r), 1);
	assert_int_equal(pkv_seq_cold(&r.pool, seqs[1]), 0);
	assert_int_equal(rig_settle(&r), 1);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 6);
	rig_exit(&r);
}

static void test_marks(void **state)
{
	struct pkv_pool_params params = rig_params(8, 8, 0);
	struct rig r;
	uint64_t seq;

	(void)state;
	params.classes[0].low[PKV_DEVICE] = 2;
	params.classes[0].high[PKV_DEVICE] = 4;
	rig_init_with(&r, &params);
	seq = rig_seq(&r, 24);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	assert_int_equal(r.pool.nr_moves, 0);
	/* one less than the low mark: up to the high mark */
	rig_seq(&r, 4);
	assert_int_equal(r.pool.nr_moves, 3);
	assert_int_equal(rig_settle(&r), 3);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 4);
	pkv_moves_reclaim(&r.pool);
	assert_int_equal(r.pool.nr_moves, 0);
	rig_exit(&r);
}

/* Reclaim does its best from the bottom up, so that what leaves a tier has where to go. */
static void test_reclaim_cascades(void **state)
{
	struct pkv_pool_params params = rig_params(2, 2, 4);
	struct rig r;
	uint64_t seqs[3];

	(void)state;
	rig_init_with(&r, &params);
	for (int i = 0; i < 2; i++) {
		seqs[i] = rig_seq(&r, 8);
		assert_int_equal(pkv_seq_cold(&r.pool, seqs[i]), 0);
		if (i)
			break;
		seqs[2] = rig_seq(&r, 0);
		assert_int_equal(rig_op(&r, seqs[2], PKV_OP_APPEND, 8), -EAGAIN);
		rig_free(&r, seqs[2]);
		assert_int_equal(rig_settle(&r), 2);
	}
	/* device and host are full now */
	r.c->tiers[PKV_HOST].high = 2;
	r.c->tiers[PKV_DEVICE].high = 2;
	pkv_moves_reclaim(&r.pool);
	rig_settle(&r);
	pkv_moves_reclaim(&r.pool);
	rig_settle(&r);
	assert_int_equal(rig_nr_free(&r, PKV_DEVICE), 2);
	assert_int_equal(pkv_seq_load(&r.pool, seqs[0]), 1);
	rig_settle(&r);
	assert_int_equal(pkv_seq_state(&r.pool, seqs[0]), PKV_SEQ_RUNNING);
	rig_exit(&r);
}

static void test_metadata_is_small(void **state)
{
	struct pkv_pool_params params = rig_params(1 << 16, 1 << 16, 1 << 17);
	struct rig r;

	(void)state;
	rig_init_with(&r, &params);
	assert_in_range(pkv_pool_metadata_bytes(&r.pool), 1, 64ull << 18);
	rig_exit(&r);
}

/* ------------------------------------------------------------ out of memory */

static int allocs_left;

static int fail_the_nth(void)
{
	return allocs_left-- == 0;
}

/* Everything that allocates, once. Returns the first error. */
static int use_all(struct pkv_pool *pool)
{
	struct pkv_key keys[12];
	struct pkv_delta deltas[32];
	struct pkv_move_desc copies[2], d;
	struct pkv_op op = { .type = PKV_OP_APPEND };
	struct pkv_step st = { .ops = &op, .nr_ops = 1, .deltas = deltas, .max_deltas = 32,
			       .copies = copies, .max_copies = 2 };
	const char *why;
	uint32_t nr_hits;
	__u64 seq = 0, child;
	int err;

	for (int i = 0; i < 12; i++)
		keys[i] = rig_key(1, i);
	err = pkv_seq_create(pool, 0, keys, 12, 1, 0, &seq, &nr_hits);
	if (err)
		return err;
	op.seq = seq;
	op.arg = 50;
	err = pkv_pool_step(pool, &st);
	if (err)
		return err;
	op.type = PKV_OP_FORK;
	err = pkv_pool_step(pool, &st);
	if (err)
		return err;
	child = op.out_seq;
	op = (struct pkv_op){ .seq = child, .type = PKV_OP_APPEND, .arg = 1 };
	err = pkv_pool_step(pool, &st);
	if (err)
		return err;
	assert_int_equal(st.nr_copies, 1);
	assert_int_equal(pkv_move_commit(pool, copies[0].id, 0, false), 0);
	assert_int_equal(pkv_seq_cold(pool, seq), 0);
	assert_int_equal(pkv_seq_cold(pool, child), 0);
	err = pkv_seq_create(pool, 0, NULL, 0, 1, 0, &seq, &nr_hits);
	if (err)
		return err;
	op.seq = seq;
	op.arg = 60;
	while ((err = pkv_pool_step(pool, &st)) == -EAGAIN) {
		assert_int_not_equal(pool->nr_moves, 0);
		while (pkv_moves_fetch(pool, 1, &d, 1))
			assert_int_equal(pkv_move_commit(pool, d.id, 0, false), 0);
	}
	if (err)
		return err;
	op.type = PKV_OP_FREE;
	assert_int_equal(pkv_pool_step(pool, &st), 0);
	err = pkv_seq_load(pool, child);
	if (err < 0)
		return err;
	return pkv_pool_check(pool, &why);
}

static void test_every_allocation_fails_once(void **state)
{
	struct pkv_pool_params params = rig_params(16, 16, 16);
	long before = pkv_shim_nr_allocated;
	int nr_failed = 0;

	(void)state;
	for (int nth = 0;; nth++) {
		struct pkv_pool pool;
		struct mutex lock;
		const char *why = "";
		int err;

		mutex_init(&lock);
		allocs_left = nth;
		pkv_shim_fail_alloc = fail_the_nth;
		err = pkv_pool_init(&pool, &params, &lock);
		if (!err) {
			mutex_lock(&lock);
			err = use_all(&pool);
			pkv_shim_fail_alloc = NULL;
			if (pkv_pool_check(&pool, &why))
				fail_msg("allocation %d: %s", nth, why);
			/* once more, with memory: an error leaves nothing in the way */
			pkv_seqs_free_owner(&pool, 0);
			if (err)
				assert_int_equal(use_all(&pool), 0);
			if (pkv_pool_check(&pool, &why))
				fail_msg("after allocation %d: %s", nth, why);
			mutex_unlock(&lock);
			pkv_pool_exit(&pool);
		}
		pkv_shim_fail_alloc = NULL;
		assert_int_equal(pkv_shim_nr_allocated, before);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
		nr_failed++;
	}
	assert_in_range(nr_failed, 10, 1000);
}

/* -EAGAIN means that waiting helps; out of memory for a move, it would not. */
static void test_no_memory_for_eviction(void **state)
{
	struct rig r;
	uint64_t seq;

	(void)state;
	rig_init(&r, 2, 2, 0);
	seq = rig_seq(&r, 8);
	assert_int_equal(pkv_seq_cold(&r.pool, seq), 0);
	seq = rig_seq(&r, 0);
	/* the table is there, the first move is not */
	rig_free(&r, seq);
	seq = rig_seq(&r, 0);
	allocs_left = 1;
	pkv_shim_fail_alloc = fail_the_nth;
	{
		struct pkv_op op = { .seq = seq, .type = PKV_OP_APPEND, .arg = 8 };
		struct pkv_step st = { .ops = &op, .nr_ops = 1, .deltas = r.deltas,
				       .max_deltas = RIG_MAX_DELTAS };

		assert_int_equal(pkv_pool_step(&r.pool, &st), -ENOMEM);
	}
	pkv_shim_fail_alloc = NULL;
	assert_int_equal(r.pool.nr_moves, 0);
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, 8), -EAGAIN);
	rig_exit(&r);
}

/* ---------------------------------------------------------------- the check */

/* Damages a pool, expects the check to see it, and mends it. */
#define SEEN(r, what, value)							\
	do {									\
		__typeof__(what) old = (what);					\
		const char *why = NULL;						\
		(what) = (value);						\
		if (pkv_pool_check(&(r)->pool, &why) != -EUCLEAN || !why)	\
			fail_msg("not seen: " #what " = " #value);		\
		(what) = old;							\
		rig_check(r);							\
	} while (0)

static void test_check_sees_damage(void **state)
{
	struct pkv_page *held, *cached, *idle;
	struct pkv_class *c;
	struct pkv_move *m;
	struct pkv_seq *s;
	struct rig r;
	uint64_t seq, cold;

	(void)state;
	rig_init(&r, 8, 4, 0);
	c = r.c;
	seq = rig_seq(&r, 8);
	rig_free(&r, rig_published(&r, 1, 1));
	cold = rig_seq(&r, 8);
	assert_int_equal(pkv_seq_cold(&r.pool, cold), 0);
	held = rig_page(&r, seq, 0);
	idle = rig_page(&r, cold, 0);
	s = &r.pool.seqs[(uint32_t)seq];
	cached = &c->pages[2];
	assert_true(cached->flags & PKV_PAGE_INDEXED);

	SEEN(&r, held->slot[PKV_DEVICE], PKV_NONE);
	SEEN(&r, held->slot[PKV_DEVICE], idle->slot[PKV_DEVICE]);
	SEEN(&r, held->slot[PKV_DEVICE], 8);
	SEEN(&r, held->slot[PKV_HOST], 0);
	SEEN(&r, held->refs, 2);
	SEEN(&r, held->holds, 0);
	SEEN(&r, held->holds, 2);
	SEEN(&r, held->flags, held->flags | PKV_PAGE_LOST);
	SEEN(&r, held->flags, held->flags & ~PKV_PAGE_LIVE);
	SEEN(&r, held->flags, held->flags | PKV_PAGE_IDLE);
	SEEN(&r, held->move, 0);
	SEEN(&r, idle->flags, idle->flags & ~PKV_PAGE_IDLE);
	SEEN(&r, idle->next, PKV_NONE - 1);
	SEEN(&r, idle->prev, idle->next);
	SEEN(&r, cached->flags, cached->flags & ~PKV_PAGE_INDEXED);
	SEEN(&r, cached->key.lo, cached->key.lo + 1);
	SEEN(&r, cached->refs, 1);
	SEEN(&r, c->nr_live, c->nr_live + 1);
	SEEN(&r, c->nr_cached, 0);
	SEEN(&r, c->nr_indexed, 0);
	SEEN(&r, c->nr_lost, 1);
	SEEN(&r, c->tiers[PKV_DEVICE].nr_free, 0);
	SEEN(&r, c->tiers[PKV_DEVICE].nr_leaving, 1);
	SEEN(&r, c->tiers[PKV_DEVICE].free[0][0], c->tiers[PKV_DEVICE].free[0][0] | 1);
	SEEN(&r, c->tiers[PKV_DEVICE].free[0][0], 0);
	SEEN(&r, c->tiers[PKV_DEVICE].idle[1].nr, 0);
	SEEN(&r, c->tiers[PKV_DEVICE].idle[1].tail, PKV_NONE);
	SEEN(&r, c->tiers[PKV_DEVICE].idle[1].scan, PKV_NONE);
	SEEN(&r, c->tiers[PKV_DEVICE].idle[1].scan, (__u32)(held - c->pages));
	SEEN(&r, s->len, 9);
	SEEN(&r, s->nr_pages, 1);
	SEEN(&r, s->table[0], s->table[1]);
	SEEN(&r, s->table[0], c->nr_pages);
	SEEN(&r, s->state, PKV_SEQ_COLD);
	SEEN(&r, r.pool.nr_seqs, 1);

	/* and of a move */
	assert_int_equal(rig_op(&r, seq, PKV_OP_APPEND, 24), -EAGAIN);
	m = &r.pool.moves[r.pool.queue_head];
	SEEN(&r, m->dst_slot, 3 - m->dst_slot);
	SEEN(&r, m->src_slot, held->slot[PKV_DEVICE]);
	SEEN(&r, m->page, (__u32)(held - c->pages));
	SEEN(&r, r.pool.nr_moves, 0);
	SEEN(&r, r.pool.nr_queued, 0);
	SEEN(&r, r.pool.nr_evictions, 0);
	SEEN(&r, c->tiers[PKV_DEVICE].nr_leaving, 0);
	rig_exit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_init_refuses),
		cmocka_unit_test(test_classes_are_apart),
		cmocka_unit_test(test_limit_holds),
		cmocka_unit_test(test_lowered_limit_evicts),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_reclaim_cascades),
		cmocka_unit_test(test_metadata_is_small),
		cmocka_unit_test(test_every_allocation_fails_once),
		cmocka_unit_test(test_no_memory_for_eviction),
		cmocka_unit_test(test_check_sees_damage),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
