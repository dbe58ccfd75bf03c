// SPDX-License-Identifier: GPL-2.0-only
#include "rig.h"

#include <string.h>

#include <linux/slab.h>

struct pkv_pool_params rig_params(uint32_t nr_device, uint32_t nr_host, uint32_t nr_disk)
{
	return (struct pkv_pool_params){
		.nr_classes = 1, .max_seqs = 16, .max_moves = 16, .nr_ranks = 1,
		.classes[0] = { .page_tokens = RIG_PAGE_TOKENS,
				.nr_slots = { nr_device, nr_host, nr_disk } },
	};
}

void rig_init_with(struct rig *r, const struct pkv_pool_params *params)
{
	memset(r, 0, sizeof(*r));
	r->nr_allocated = pkv_shim_nr_allocated;
	mutex_init(&r->lock);
	assert_int_equal(pkv_pool_init(&r->pool, params, &r->lock), 0);
	r->c = &r->pool.classes[0];
	mutex_lock(&r->lock);
	rig_check(r);
}

void rig_init(struct rig *r, uint32_t nr_device, uint32_t nr_host, uint32_t nr_disk)
{
	struct pkv_pool_params params = rig_params(nr_device, nr_host, nr_disk);

	rig_init_with(r, &params);
}

void rig_exit(struct rig *r)
{
	rig_check(r);
	mutex_unlock(&r->lock);
	pkv_pool_exit(&r->pool);
	assert_int_equal(pkv_shim_nr_allocated, r->nr_allocated);
}

void rig_check(struct rig *r)
{
	const char *why = "";

	if (pkv_pool_check(&r->pool, &why))
		fail_msg("check: %s", why);
}

int rig_op(struct rig *r, uint64_t seq, uint32_t type, uint32_t arg)
{
	struct pkv_op op = { .seq = seq, .type = type, .arg = arg };
	struct pkv_step st = {
		.ops = &op, .nr_ops = 1, .deltas = r->deltas, .max_deltas = RIG_MAX_DELTAS,
		.copies = r->copies, .max_copies = 4,
	};
	int err = pkv_pool_step(&r->pool, &st);

	assert_int_equal(st.nr_done, !err);
	r->nr_deltas = st.nr_deltas;
	r->nr_copies = st.nr_copies;
	r->out_seq = op.out_seq;
	rig_check(r);
	return err;
}

void rig_append(struct rig *r, uint64_t seq, uint32_t nr_tokens)
{
	assert_int_equal(rig_op(r, seq, PKV_OP_APPEND, nr_tokens), 0);
}

void rig_free(struct rig *r, uint64_t seq)
{
	assert_int_equal(rig_op(r, seq, PKV_OP_FREE, 0), 0);
}

uint64_t rig_fork(struct rig *r, uint64_t seq)
{
	assert_int_equal(rig_op(r, seq, PKV_OP_FORK, 0), 0);
	return r->out_seq;
}

uint64_t rig_seq_prio(struct rig *r, uint32_t nr_tokens, uint32_t priority)
{
	uint32_t nr_hits = 7;
	__u64 seq = 0;

	assert_int_equal(pkv_seq_create(&r->pool, 0, NULL, 0, priority, 0, &seq, &nr_hits), 0);
	assert_int_equal(nr_hits, 0);
	if (nr_tokens)
		rig_append(r, seq, nr_tokens);
	return seq;
}

uint64_t rig_seq(struct rig *r, uint32_t nr_tokens)
{
	return rig_seq_prio(r, nr_tokens, 1);
}

struct pkv_key rig_key(uint64_t prompt, uint32_t page)
{
	return (struct pkv_key){ .lo = prompt << 8 | page, .hi = ~prompt };
}

static void rig_keys(struct pkv_key *keys, uint64_t prompt, uint32_t nr)
{
	assert_in_range(nr, 0, 16);
	for (uint32_t i = 0; i < nr; i++)
		keys[i] = rig_key(prompt, i);
}

uint64_t rig_published(struct rig *r, uint64_t prompt, uint32_t nr_pages)
{
	uint64_t seq = rig_seq(r, nr_pages * RIG_PAGE_TOKENS);
	struct pkv_key keys[16];

	rig_keys(keys, prompt, nr_pages);
	assert_int_equal(pkv_prefix_publish(&r->pool, seq, 0, keys, nr_pages), nr_pages);
	rig_check(r);
	return seq;
}

uint32_t rig_lookup(struct rig *r, uint64_t prompt, uint32_t nr_pages, uint64_t *seq)
{
	struct pkv_key keys[16];
	uint32_t nr_hits = 0;
	__u64 out = 0;

	rig_keys(keys, prompt, nr_pages);
	assert_int_equal(pkv_seq_create(&r->pool, 0, keys, nr_pages, 1, 0, &out, &nr_hits), 0);
	rig_check(r);
	*seq = out;
	return nr_hits;
}

struct pkv_move_desc rig_fetch(struct rig *r)
{
	struct pkv_move_desc d;

	assert_int_equal(pkv_moves_fetch(&r->pool, 1, &d, 1), 1);
	rig_check(r);
	return d;
}

void rig_commit(struct rig *r, const struct pkv_move_desc *d, int status, bool source_bad)
{
	assert_int_equal(pkv_move_commit(&r->pool, d->id, status, source_bad), 0);
	rig_check(r);
}

uint32_t rig_settle(struct rig *r)
{
	struct pkv_move_desc d;
	uint32_t nr = 0;

	while (pkv_moves_fetch(&r->pool, 1, &d, 1)) {
		rig_commit(r, &d, 0, false);
		assert_in_range(++nr, 1, 1000);
	}
	return nr;
}

struct pkv_page *rig_page(struct rig *r, uint64_t seq, uint32_t index)
{
	return &r->c->pages[r->pool.seqs[(uint32_t)seq].table[index]];
}

uint32_t rig_nr_free(struct rig *r, uint32_t tier)
{
	return r->c->tiers[tier].nr_free;
}
