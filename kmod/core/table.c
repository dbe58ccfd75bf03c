// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The block table of a sequence, and the step that changes many of them:
 * append, fork, truncate, free. nr_pages is always ceil(len / page_tokens).
 */
#include <linux/slab.h>
#include <linux/string.h>

#include "internal.h"

int pkv_table_reserve(struct pkv_seq *seq, u32 nr)
{
	u32 cap, *table;

	if (nr <= seq->cap)
		return 0;
	cap = max3(nr, 8U, 2 * seq->cap);
	table = kvmalloc_array(cap, sizeof(*table), PKV_GFP);
	if (!table)
		return -ENOMEM;
	if (seq->nr_pages)
		memcpy(table, seq->table, seq->nr_pages * sizeof(*table));
	kvfree(seq->table);
	seq->table = table;
	seq->cap = cap;
	return 0;
}

/* Let go of all pages from @nr_pages on, the last first. */
void pkv_table_cut(struct pkv_class *c, struct pkv_seq *seq, u32 nr_pages)
{
	u32 holds = pkv_seq_holds(seq);
	u32 i = seq->nr_pages;

	while (i-- > nr_pages) {
		if (i >= 8)
			prefetchw(&c->pages[seq->table[i - 8]]);
		pkv_page_put(c, seq->table[i], holds);
	}
	seq->nr_pages = min(seq->nr_pages, nr_pages);
}

static void emit_delta(struct pkv_pool *pool, struct pkv_step *step,
		       const struct pkv_seq *seq, u32 index, u32 slot)
{
	struct pkv_delta *d = &step->deltas[step->nr_deltas++];

	d->seq = pkv_seq_handle(pool, seq);
	d->index = index;
	d->slot = slot;
}

/* A new page of a running sequence; room was made. */
static u32 new_page(struct pkv_class *c, const struct pkv_seq *seq)
{
	u32 id = pkv_page_alloc(c, seq->priority);
	struct pkv_page *p = &c->pages[id];

	p->slot[PKV_DEVICE] = pkv_tier_alloc(&c->tiers[PKV_DEVICE]);
	p->refs = 1;
	p->holds = pkv_seq_holds(seq);
	return id;
}

/* May the tail page be written as it is? */
static bool may_own_tail(const struct pkv_class *c, const struct pkv_seq *seq)
{
	const struct pkv_page *p = &c->pages[seq->table[seq->nr_pages - 1]];

	return p->refs == 1 && !(p->flags & PKV_PAGE_INDEXED);
}

/* The tail page is about to be written: its other copies are stale. */
static void own_tail(struct pkv_class *c, struct pkv_seq *seq)
{
	u32 id = seq->table[seq->nr_pages - 1];

	pkv_page_drop_lower(c, id);
	pkv_move_written(c, id);
}

static void copy_tail(struct pkv_pool *pool, struct pkv_step *step, struct pkv_class *c,
		      struct pkv_seq *seq)
{
	u32 index = seq->nr_pages - 1;
	u32 old = seq->table[index];
	u32 id = new_page(c, seq);
	u32 move = pkv_move_begin_copy(c, old, id, seq->owner);

	/* The running hold goes over to the copy; the reference and a pin's hold end. */
	pkv_page_put(c, old, pkv_seq_holds(seq) - 1);
	seq->table[index] = id;
	emit_delta(pool, step, seq, index, c->pages[id].slot[PKV_DEVICE]);
	pkv_move_describe(pool, move, &step->copies[step->nr_copies++]);
}

static bool descriptors_left(const struct pkv_class *c, u32 nr)
{
	return c->nr_pages - c->nr_live >= nr;
}

static int append_pages(struct pkv_pool *pool, struct pkv_step *step, struct pkv_class *c,
			struct pkv_seq *seq, u32 len)
{
	u32 nr_pages = (u32)(((u64)len + c->page_tokens - 1) >> c->page_shift);
	u32 fresh = nr_pages - seq->nr_pages;
	bool own = (seq->len & (c->page_tokens - 1)) && !(seq->flags & PKV_SEQ_TAIL_OWNED);
	bool copy = own && !may_own_tail(c, seq);
	int rc;

	if (step->max_deltas - step->nr_deltas < fresh + copy ||
	    step->max_copies - step->nr_copies < copy)
		return -ENOBUFS;
	rc = pkv_table_reserve(seq, nr_pages);
	if (!rc)
		rc = pkv_make_room(c, fresh + copy);
	if (!rc && copy)
		rc = pkv_moves_reserve(pool, 1);
	if (!rc && !descriptors_left(c, fresh + copy))
		rc = -ENOSPC;
	if (rc)
		return rc;
	if (copy)
		copy_tail(pool, step, c, seq);
	else if (own)
		own_tail(c, seq);
	while (seq->nr_pages < nr_pages) {
		u32 id = new_page(c, seq);

		seq->table[seq->nr_pages] = id;
		emit_delta(pool, step, seq, seq->nr_pages, c->pages[id].slot[PKV_DEVICE]);
		seq->nr_pages++;
	}
	seq->flags |= PKV_SEQ_TAIL_OWNED;
	seq->len = len;
	return 0;
}

static int append(struct pkv_pool *pool, struct pkv_step *step, struct pkv_seq *seq, u32 nr)
{
	struct pkv_class *c = &pool->classes[seq->class_id];
	u32 fill = seq->len & (c->page_tokens - 1);

	if (seq->state != PKV_SEQ_RUNNING)
		return -EBUSY;
	if (nr > PKV_MAX_SEQ_TOKENS - seq->len)
		return -EOVERFLOW;
	if (likely(fill && (seq->flags & PKV_SEQ_TAIL_OWNED) && nr <= c->page_tokens - fill)) {
		seq->len += nr;
		return 0;
	}
	if (!nr)
		return 0;
	return append_pages(pool, step, c, seq, seq->len + nr);
}

static int fork_seq(struct pkv_pool *pool, u32 parent_index, u64 *out)
{
	struct pkv_seq *parent = &pool->seqs[parent_index];
	struct pkv_class *c = &pool->classes[parent->class_id];
	struct pkv_seq *child;
	int rc;
	u32 i;

	if (parent->state != PKV_SEQ_RUNNING && parent->state != PKV_SEQ_COLD)
		return -EBUSY;
	if (pool->nr_seqs >= pool->max_seqs)
		return -EDQUOT;
	child = pkv_seq_alloc(pool);
	if (!child)
		return -ENOMEM;
	parent = &pool->seqs[parent_index];
	child->class_id = parent->class_id;
	child->priority = parent->priority;
	child->owner = parent->owner;
	rc = pkv_table_reserve(child, parent->nr_pages + 1);
	if (rc) {
		pkv_seq_free(pool, child);
		return rc;
	}
	parent->flags &= ~PKV_SEQ_TAIL_OWNED;
	child->state = parent->state;
	child->len = parent->len;
	for (i = 0; i < parent->nr_pages; i++) {
		u32 id = parent->table[i];

		child->table[i] = id;
		c->pages[id].refs++;
		if (child->state == PKV_SEQ_RUNNING)
			pkv_page_hold(c, id);
	}
	child->nr_pages = parent->nr_pages;
	pool->counters.forks++;
	*out = pkv_seq_handle(pool, child);
	return 0;
}

static int truncate_seq(struct pkv_pool *pool, struct pkv_seq *seq, u32 len)
{
	struct pkv_class *c = &pool->classes[seq->class_id];

	if (seq->state == PKV_SEQ_LOADING)
		return -EBUSY;
	if (len > seq->len)
		return -EINVAL;
	pkv_table_cut(c, seq, (len + c->page_tokens - 1) >> c->page_shift);
	seq->len = len;
	seq->flags &= ~PKV_SEQ_TAIL_OWNED;
	if (seq->state == PKV_SEQ_BROKEN && seq->nr_pages <= seq->cursor)
		seq->state = PKV_SEQ_COLD;
	return 0;
}

static int apply(struct pkv_pool *pool, struct pkv_step *step, struct pkv_op *op)
{
	struct pkv_seq *seq = pkv_seq_find(pool, op->seq);

	if (!seq)
		return -ESTALE;
	switch (op->type) {
	case PKV_OP_APPEND:
		return append(pool, step, seq, op->arg);
	case PKV_OP_FORK:
		return fork_seq(pool, pkv_seq_index(pool, seq), &op->out_seq);
	case PKV_OP_TRUNCATE:
		return truncate_seq(pool, seq, op->arg);
	case PKV_OP_FREE:
		pkv_seq_free(pool, seq);
		return 0;
	default:
		return -EINVAL;
	}
}

int pkv_pool_step(struct pkv_pool *pool, struct pkv_step *step)
{
	u32 i;
	int rc = 0;

	lockdep_assert_held(pool->lock);
	step->nr_deltas = 0;
	step->nr_copies = 0;
	for (i = 0; i < step->nr_ops; i++) {
		rc = apply(pool, step, &step->ops[i]);
		if (rc)
			break;
	}
	step->nr_done = i;
	pkv_reclaim_below_low(pool);
	return rc;
}
