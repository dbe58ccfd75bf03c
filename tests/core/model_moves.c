// SPDX-License-Identifier: GPL-2.0-only
/* The model's executor: copies cells between slots, late, torn, failing and dying. See model.h. */
#include <errno.h>
#include <string.h>

#include "model.h"

#define GARBAGE		0xbad0000000000000ull
#define NR_EXECUTORS	3

static struct model_cells *cells_of(struct model *m, uint32_t class_id, uint32_t tier,
				    uint32_t slot)
{
	return &m->mem[class_id][tier][slot];
}

static void scribble(struct model_cells *cells)
{
	for (int i = 0; i < MODEL_MAX_PAGE_TOKENS; i++)
		cells->cell[i] = GARBAGE | i;
}

/* The copy goes on until @nr_cells are done: what is written meanwhile tears it. */
static void copy_until(struct model *m, struct model_move *o, uint32_t nr_cells)
{
	const struct pkv_move_desc *d = &o->desc;
	const struct model_cells *src = cells_of(m, d->class_id, d->src_tier, d->src_slot);
	struct model_cells *dst = cells_of(m, d->class_id, d->dst_tier, d->dst_slot);

	for (; o->nr_cells < nr_cells; o->nr_cells++)
		dst->cell[o->nr_cells] = src->cell[o->nr_cells];
}

static void forget_out(struct model *m, uint32_t i)
{
	m->old_moves[m->nr_old_moves++ % MODEL_NR_OLD] = m->out[i].desc.id;
	m->out[i] = m->out[--m->nr_out];
}

static void check_desc(struct model *m, const struct pkv_move_desc *d)
{
	const struct pkv_class *c;

	EXPECT(m, d->class_id < m->pool.nr_classes, "a move of class %u", d->class_id);
	c = &m->pool.classes[d->class_id];
	EXPECT(m, d->src_tier < PKV_NR_TIERS && d->dst_tier < PKV_NR_TIERS, "a move %u to %u",
	       d->src_tier, d->dst_tier);
	EXPECT(m, d->src_slot < c->tiers[d->src_tier].nr_slots &&
	       d->dst_slot < c->tiers[d->dst_tier].nr_slots, "a move of slot %u to %u",
	       d->src_slot, d->dst_slot);
	EXPECT(m, !model_slot_is_free(m, d->class_id, d->src_tier, d->src_slot),
	       "a move from a free slot %u of tier %u", d->src_slot, d->src_tier);
	switch (d->kind) {
	case PKV_MOVE_OUT:
		EXPECT(m, d->src_tier < d->dst_tier, "out from %u to %u", d->src_tier,
		       d->dst_tier);
		EXPECT(m, c->tiers[d->dst_tier].state == PKV_TIER_ONLINE,
		       "out to a tier in state %u", c->tiers[d->dst_tier].state);
		break;
	case PKV_MOVE_IN:
		EXPECT(m, d->src_tier != PKV_DEVICE && d->dst_tier == PKV_DEVICE,
		       "in from %u to %u", d->src_tier, d->dst_tier);
		break;
	case PKV_MOVE_COPY:
		EXPECT(m, d->src_tier == PKV_DEVICE && d->dst_tier == PKV_DEVICE,
		       "copy from %u to %u", d->src_tier, d->dst_tier);
		break;
	default:
		EXPECT(m, false, "a move of kind %u", d->kind);
	}
	EXPECT(m, c->tiers[d->src_tier].state != PKV_TIER_OFFLINE, "a move from an offline tier");
	for (uint32_t i = 0; i < m->nr_out; i++)
		EXPECT(m, m->out[i].desc.id != d->id, "move %llx is out already",
		       (unsigned long long)d->id);
}

/* Returns the new entry, or NULL on failure. */
static struct model_move *take_desc(struct model *m, const struct pkv_move_desc *d,
				    uint32_t executor)
{
	struct model_move *o = &m->out[m->nr_out];

	check_desc(m, d);
	if (m->why[0])
		return NULL;
	model_trace(m, "  move %llx kind %u class %u: %u/%u to %u/%u (executor %u)",
		    (unsigned long long)d->id, d->kind, d->class_id, d->src_tier, d->src_slot,
		    d->dst_tier, d->dst_slot, executor);
	*o = (struct model_move){ .desc = *d, .executor = executor };
	m->nr_out++;
	return o;
}

static void commit(struct model *m, uint32_t i, int status, bool source_bad)
{
	struct model_move *o = &m->out[i];
	const struct pkv_move_desc d = o->desc;
	int err;

	if (!status) {
		copy_until(m, o, MODEL_MAX_PAGE_TOKENS);
	} else {
		scribble(cells_of(m, d.class_id, d.dst_tier, d.dst_slot));
		/* the device is read on; only a host or disk copy is really gone */
		if (source_bad && d.src_tier != PKV_DEVICE && d.kind != PKV_MOVE_COPY &&
		    m->pool.classes[d.class_id].pages[m->pool.moves[(uint32_t)d.id].page]
		    .slot[d.src_tier] == d.src_slot)
			scribble(cells_of(m, d.class_id, d.src_tier, d.src_slot));
	}
	forget_out(m, i);
	err = pkv_move_commit(&m->pool, d.id, status, source_bad);
	model_trace(m, "  commit %llx status %d%s: %d", (unsigned long long)d.id, status,
		    source_bad ? " source bad" : "", err);
	EXPECT(m, !err, "commit of a fetched move: %d", err);
	model_check(m);
}

/*
 * A step's copies, in order and before its compute. One that fails is committed at once, so that
 * nothing is computed on it; the others at some time.
 */
void model_run_copies(struct model *m, const struct pkv_move_desc *copies, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		struct model_move *o = take_desc(m, &copies[i], 0);

		if (!o)
			return;
		EXPECT(m, copies[i].kind == PKV_MOVE_COPY, "a step's copy of kind %u",
		       copies[i].kind);
		copy_until(m, o, MODEL_MAX_PAGE_TOKENS);
	}
}

static void fetch(struct model *m, uint32_t executor, uint32_t max, bool torn)
{
	struct pkv_move_desc descs[8];
	uint32_t nr;

	if (max > MODEL_MAX_OUT - m->nr_out)
		max = MODEL_MAX_OUT - m->nr_out;
	nr = pkv_moves_fetch(&m->pool, executor, descs, max);
	model_trace(m, "fetch for %u: %u of %u", executor, nr, max);
	EXPECT(m, nr <= max, "%u moves of %u", nr, max);
	for (uint32_t i = 0; i < nr; i++) {
		struct model_move *o = take_desc(m, &descs[i], executor);

		if (!o)
			return;
		EXPECT(m, descs[i].kind != PKV_MOVE_COPY, "a step's copy %llx was fetched",
		       (unsigned long long)descs[i].id);
		if (torn)
			copy_until(m, o, model_pick(m, MODEL_MAX_PAGE_TOKENS + 1));
	}
}

/* Every move that is or becomes planned ends well; that this ends is checked too. */
void model_drain(struct model *m)
{
	uint32_t nr = 0;

	while (!m->why[0]) {
		while (m->nr_out && !m->why[0]) {
			uint32_t i = model_pick(m, m->nr_out);
			bool doomed = m->out[i].doomed;

			commit(m, i, doomed ? -EIO : 0, doomed);
			EXPECT(m, ++nr < 4000, "moves never end");
		}
		fetch(m, 1, 8, false);
		if (!m->nr_out)
			break;
	}
	if (m->why[0])
		return;
	EXPECT(m, !m->pool.nr_moves && !m->pool.nr_queued, "%u moves are left, %u queued",
	       m->pool.nr_moves, m->pool.nr_queued);
	for (int i = 0; i < MODEL_MAX_SEQS; i++)
		EXPECT(m, !m->seqs[i].handle ||
		       pkv_seq_state(&m->pool, m->seqs[i].handle) != PKV_SEQ_LOADING,
		       "sequence %llx loads without a move", (unsigned long long)m->seqs[i].handle);
}

void model_op_fetch(struct model *m)
{
	fetch(m, 1 + model_pick(m, NR_EXECUTORS), model_pick(m, 9), true);
}

void model_op_commit(struct model *m)
{
	uint32_t nr = 1 + model_pick(m, 4);

	while (nr-- && m->nr_out && !m->why[0]) {
		uint32_t i = model_pick(m, m->nr_out);
		struct model_move *o = &m->out[i];

		/* a step's copy has run by now: only a late surprise is left to it */
		if (o->doomed)
			commit(m, i, -EIO, true);
		else if (o->desc.kind != PKV_MOVE_COPY && !model_pick(m, 8))
			commit(m, i, -EIO, model_pick(m, 2));
		else
			commit(m, i, 0, !model_pick(m, 8));
	}
}

void model_op_requeue(struct model *m)
{
	uint32_t executor = 1 + model_pick(m, NR_EXECUTORS);

	model_trace(m, "requeue %u", executor);
	for (uint32_t i = 0; i < m->nr_out; )
		if (m->out[i].executor == executor) {
			const struct pkv_move_desc *d = &m->out[i].desc;

			scribble(cells_of(m, d->class_id, d->dst_tier, d->dst_slot));
			forget_out(m, i);
		} else {
			i++;
		}
	pkv_moves_requeue(&m->pool, executor);
}

/* A client has died, and its steps' copies with it. */
void model_drop_copies(struct model *m, uint32_t owner)
{
	for (uint32_t i = 0; i < m->nr_out; )
		if (m->out[i].desc.kind == PKV_MOVE_COPY &&
		    m->pool.moves[(uint32_t)m->out[i].desc.id].owner == owner) {
			const struct pkv_move_desc *d = &m->out[i].desc;

			scribble(cells_of(m, d->class_id, d->dst_tier, d->dst_slot));
			forget_out(m, i);
		} else {
			i++;
		}
}

void model_op_reclaim(struct model *m)
{
	model_trace(m, "reclaim");
	pkv_moves_reclaim(&m->pool);
}

/* Slots of a tier are wanted: by moves, or from those that nothing is lost with. */
void model_op_shrink(struct model *m)
{
	uint32_t class_id = model_pick(m, m->pool.nr_classes + 1);
	uint32_t tier = model_pick(m, PKV_NR_TIERS + 1);
	uint32_t nr = model_pick(m, 8) ? model_pick(m, 4) : UINT32_MAX;
	uint64_t nr_lost = m->pool.counters.losses;
	uint32_t nr_moves = m->pool.nr_moves, nr_free;
	struct pkv_class *c = &m->pool.classes[class_id];
	bool is_drop = model_pick(m, 2);

	model_trace(m, "%s %u slots of class %u tier %u", is_drop ? "drop" : "demote", nr,
		    class_id, tier);
	if (!is_drop || class_id >= m->pool.nr_classes || tier >= PKV_NR_TIERS) {
		(is_drop ? pkv_moves_drop : pkv_moves_demote)(&m->pool, class_id, tier, nr);
		return;
	}
	nr_free = c->tiers[tier].nr_free;
	pkv_moves_drop(&m->pool, class_id, tier, nr);
	EXPECT(m, m->pool.counters.losses == nr_lost, "a page was lost by a drop");
	EXPECT(m, m->pool.nr_moves <= nr_moves, "a drop planned a move");
	nr_free = c->tiers[tier].nr_free - nr_free;
	EXPECT(m, nr_free == nr || (nr_free < nr && c->policy->droppable(c, tier) == PKV_NONE),
	       "%u slots dropped of %u", nr_free, nr);
}

/* The contents of a tier are gone; copies out of it that have not ended can't end well. */
static void wipe_tier(struct model *m, uint32_t class_id, uint32_t tier)
{
	for (uint32_t s = 0; s < MODEL_MAX_SLOTS; s++)
		scribble(cells_of(m, class_id, tier, s));
	for (uint32_t i = 0; i < m->nr_out; i++) {
		struct model_move *o = &m->out[i];

		if (o->desc.class_id != class_id)
			continue;
		if (o->desc.src_tier == tier && o->nr_cells < MODEL_MAX_PAGE_TOKENS)
			o->doomed = true;
	}
}

/* Does a sequence run in the class, or a copy? */
static bool is_held(const struct model *m, uint32_t class_id)
{
	const struct pkv_class *c = &m->pool.classes[class_id];

	for (uint32_t id = 0; id < c->fresh_page; id++)
		if (c->pages[id].flags & PKV_PAGE_LIVE && c->pages[id].holds)
			return true;
	return false;
}

void model_op_tier_state(struct model *m)
{
	uint32_t class_id = model_pick(m, m->pool.nr_classes + 1);
	uint32_t tier = model_pick(m, PKV_NR_TIERS + 1);
	/* mostly back to health, or streams end without lower tiers */
	uint32_t draw = model_pick(m, 8);
	uint32_t state = draw < 3 ? draw + 1 : PKV_TIER_ONLINE;
	uint64_t before = model_digest(m);
	bool valid = class_id < m->pool.nr_classes && tier < PKV_NR_TIERS &&
		     state <= PKV_TIER_OFFLINE &&
		     (tier != PKV_DEVICE || state == PKV_TIER_OFFLINE);
	int want = !valid ? -EINVAL :
		   tier == PKV_DEVICE && is_held(m, class_id) ? -EBUSY : 0;
	int err;

	if (!want && state == PKV_TIER_OFFLINE)
		wipe_tier(m, class_id, tier);
	err = pkv_pool_set_tier_state(&m->pool, class_id, tier, state);
	model_trace(m, "class %u tier %u state %u: %d", class_id, tier, state, err);
	EXPECT(m, err == want, "class %u tier %u state %u: %d", class_id, tier, state, err);
	EXPECT(m, !want || model_digest(m) == before, "a refused state changed something");
}

void model_op_hostile_commit(struct model *m)
{
	uint64_t before = model_digest(m), id;
	uint32_t draw = model_pick(m, 4);
	int err;

	if (draw == 0)
		id = (uint64_t)model_pick(m, 256) << 56 | model_pick(m, 256);
	else if (draw == 1)
		id = UINT64_MAX - model_pick(m, 2);
	else
		id = m->old_moves[model_pick(m, MODEL_NR_OLD)];
	if (!draw && !(id >> 32))
		return;
	err = pkv_move_commit(&m->pool, id, model_pick(m, 2) ? -EIO : 0, model_pick(m, 2));
	model_trace(m, "commit of no move %llx: %d", (unsigned long long)id, err);
	EXPECT(m, err == -ESTALE, "commit of no move %llx: %d", (unsigned long long)id, err);
	EXPECT(m, model_digest(m) == before, "a stale commit changed something");
}
