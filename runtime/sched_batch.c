// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What an iteration computes: plan (who takes how many tokens), grow (memory for them, by one
 * step of the allocator), compute.
 */
#include <errno.h>
#include <string.h>

#include "rng.h"
#include "sched_internal.h"

/* ------------------------------------------------------------------- plan */

/* It has all its output and only waits for its batch to return. */
static bool is_padding(const struct pkvrt_group *g)
{
	return g->nr_padding > 0;
}

static uint32_t ready_tokens(const struct pkvrt_group *g, uint32_t i)
{
	return is_padding(g) ? 1 : pkvrt_group_ready_tokens(g, i);
}

/* A sequence's length in memory once this step's tokens are in. A prompt gets all at once. */
static uint32_t target_len(const struct pkvrt_group *g, uint32_t i)
{
	return g->is_forked ? g->seqs[i].nr_known : g->prompt_tokens;
}

/* Take what is ready from the budget. A decode step is for all sequences or for none. */
void pkvrt_sched_plan_group(struct pkvrt_sched *s, struct pkvrt_group *g, uint32_t *budget)
{
	uint32_t nr_live = pkvrt_group_nr_live(g);
	uint32_t sum = 0;

	for (uint32_t i = 0; i < nr_live; i++) {
		uint32_t ready = ready_tokens(g, i);

		g->seqs[i].take = 0;
		sum = ready > UINT32_MAX - sum ? UINT32_MAX : sum + ready;
	}
	if (sum <= nr_live && sum > *budget)
		return;
	for (uint32_t i = 0; i < nr_live; i++) {
		uint32_t ready = ready_tokens(g, i);

		g->seqs[i].take = ready < *budget ? ready : *budget;
		*budget -= g->seqs[i].take;
	}
	s->budget_left = *budget;
}

static uint32_t growth_of(const struct pkvrt_sched *s, const struct pkvrt_group *g)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < pkvrt_group_nr_live(g); i++) {
		uint32_t have = pkvrt_sched_pages(s, g->seqs[i].kv.len);
		uint32_t want = pkvrt_sched_pages(s, target_len(g, i));

		if (g->seqs[i].take && want > have)
			nr += want - have;
	}
	return nr;
}

static bool decodes(const struct pkvrt_group *g)
{
	for (uint32_t i = 0; i < pkvrt_group_nr_live(g); i++)
		if (ready_tokens(g, i) > 1)
			return false;
	return true;
}

/* Decodes first, then prompts with what is left. Returns the pages they will ask for. */
uint32_t pkvrt_sched_plan(struct pkvrt_sched *s)
{
	uint32_t budget = s->p.budget_tokens;
	uint32_t growth = 0;
	struct pkvrt_group *g;

	s->budget_left = budget;
	for (int decode = 1; decode >= 0; decode--)
		TAILQ_FOREACH(g, &s->active, link)
			if (g->state == PKVRT_GROUP_RUNNING && decodes(g) == decode)
				pkvrt_sched_plan_group(s, g, &budget);
	TAILQ_FOREACH(g, &s->active, link)
		if (g->state == PKVRT_GROUP_RUNNING)
			growth += growth_of(s, g);
	return growth;
}

/* ------------------------------------------------------------------- grow */

/* Frees first, they make room; then appends, in the order in which groups have a right to it. */
static int list_ops(struct pkvrt_sched *s)
{
	struct pkvrt_group *g;
	int err = 0;

	s->nr_ops = 0;
	for (uint32_t i = 0; i < s->nr_dead && !err; i++)
		err = pkvrt_sched_add_op(s, NULL, (struct pkvrt_alloc_op){
			.type = PKVRT_OP_FREE, .kv = &s->dead[i] });
	TAILQ_FOREACH(g, &s->active, link) {
		if (g->state != PKVRT_GROUP_RUNNING)
			continue;
		for (uint32_t i = 0; i < pkvrt_group_nr_live(g) && !err; i++) {
			struct pkvrt_kv *kv = &g->seqs[i].kv;
			uint32_t len = target_len(g, i);

			if (g->seqs[i].take && len > kv->len)
				err = pkvrt_sched_add_op(s, g, (struct pkvrt_alloc_op){
					.type = PKVRT_OP_APPEND, .kv = kv, .arg = len - kv->len });
		}
	}
	return err;
}

/* Drop what is done, and what belonged to groups that had to give way meanwhile. */
static void keep_rest(struct pkvrt_sched *s, uint32_t nr_done)
{
	uint32_t nr = 0;

	for (uint32_t i = nr_done; i < s->nr_ops; i++) {
		const struct pkvrt_group *g = s->op_group[i];

		if (g && g->state != PKVRT_GROUP_RUNNING)
			continue;
		s->ops[nr] = s->ops[i];
		s->op_group[nr++] = s->op_group[i];
	}
	s->nr_ops = nr;
}

/* An operation was refused: 0 when it is worth another try. */
static int overcome(struct pkvrt_sched *s, struct pkvrt_group *g, int err)
{
	uint64_t begin;
	int ret;

	if (!g)
		return err;
	if (err == -EBUSY && s->alloc->ops->cold)
		return pkvrt_sched_mend(s, g);
	if (err == -EAGAIN && s->alloc->ops->wait) {
		begin = s->p.compute.ops->now_ns(s->p.compute.ctx);
		ret = s->alloc->ops->wait(s->alloc, s->p.wait_ns);
		s->m->nr_waits++;
		s->m->wait_ns += s->p.compute.ops->now_ns(s->p.compute.ctx) - begin;
		if (ret)
			return ret < 0 ? ret : 0;
	}
	if (err == -EAGAIN || err == -ENOSPC)
		return pkvrt_sched_make_room(s, g);
	return err;
}

void pkvrt_sched_release_dead(struct pkvrt_sched *s)
{
	for (uint32_t i = 0; i < s->nr_dead; i++)
		pkvrt_kv_release(&s->dead[i]);
	s->nr_dead = 0;
	s->dead_pages = 0;
}

static int list_slices(struct pkvrt_sched *s)
{
	struct pkvrt_group *g;
	int err;

	s->nr_slices = 0;
	TAILQ_FOREACH(g, &s->active, link) {
		for (uint32_t i = 0; i < pkvrt_group_nr_live(g); i++) {
			if (g->state != PKVRT_GROUP_RUNNING || !g->seqs[i].take)
				continue;
			err = pkvrt_sched_room(&s->slices, &s->cap_slices, s->nr_slices + 1ull,
					       sizeof(*s->slices));
			if (err)
				return err;
			s->slices[s->nr_slices++] = (struct pkvrt_slice){ .group = g, .seq = i };
		}
	}
	return 0;
}

int pkvrt_sched_grow(struct pkvrt_sched *s)
{
	int err = list_ops(s);

	while (!err && s->nr_ops) {
		uint32_t nr_done;
		struct pkvrt_group *g;

		err = s->alloc->ops->step(s->alloc, s->ops, s->nr_ops, &nr_done);
		if (!err)
			break;
		g = nr_done < s->nr_ops ? s->op_group[nr_done] : NULL;
		err = overcome(s, g, err);
		keep_rest(s, nr_done);
	}
	if (err)
		return err;
	pkvrt_sched_release_dead(s);
	return list_slices(s);
}

/* ---------------------------------------------------------------- compute */

static uint32_t nr_draws_of(const struct pkvrt_group *g, uint32_t i)
{
	if (is_padding(g) ||
	    !pkvrt_group_draws(g, i, g->seqs[i].nr_computed + g->seqs[i].take))
		return 0;
	return g->is_forked || g->shape.is_beam ? 1 : g->shape.nr_seqs;
}

static int make_arrays(struct pkvrt_sched *s)
{
	uint32_t draws = 0, tops = 0;
	int err;

	for (uint32_t i = 0; i < s->nr_slices; i++) {
		struct pkvrt_slice *sl = &s->slices[i];

		sl->first_draw = draws;
		sl->nr_draws = nr_draws_of(sl->group, sl->seq);
		draws += sl->nr_draws;
		if (sl->group->shape.is_beam)
			tops += sl->nr_draws * sl->group->shape.nr_seqs;
	}
	err = pkvrt_sched_room(&s->chunks, &s->cap_chunks, s->nr_slices, sizeof(*s->chunks));
	if (!err)
		err = pkvrt_sched_room(&s->draws, &s->cap_draws, draws, sizeof(*s->draws));
	if (!err)
		err = pkvrt_sched_room(&s->tops, &s->cap_tops, tops, sizeof(*s->tops));
	return err;
}

static void make_draws(struct pkvrt_sched *s, const struct pkvrt_slice *sl, uint32_t *top)
{
	const struct pkvrt_group *g = sl->group;
	uint64_t seed = pkvrt_workload_request_seed(s->p.workload, g->id);

	for (uint32_t j = 0; j < sl->nr_draws; j++) {
		struct pkvrt_draw *d = &s->draws[sl->first_draw + j];

		*d = (struct pkvrt_draw){
			.kind = s->p.temperature > 0 ? PKVRT_SAMPLE : PKVRT_GREEDY,
			.seed = pkvrt_mix2(seed, g->is_forked ? sl->seq : j),
			.temperature = s->p.temperature,
			.top_p = 1.0f,
		};
		if (!g->shape.is_beam)
			continue;
		d->kind = PKVRT_TOP;
		d->nr_top = g->shape.nr_seqs;
		d->top = &s->tops[*top];
		*top += d->nr_top;
	}
}

/*
 * A sequence's number, from its first step to its end, swapped out or not. The list of free ones
 * has room for all that were given out.
 */
static int number(struct pkvrt_sched *s, struct pkvrt_seq *q)
{
	int err;

	if (q->table_row)
		return 0;
	if (!s->nr_free_rows) {
		err = pkvrt_sched_room(&s->free_rows, &s->cap_free_rows, s->nr_rows + 1ull,
				       sizeof(*s->free_rows));
		if (err)
			return err;
		s->free_rows[s->nr_free_rows++] = s->nr_rows++;
	}
	q->table_row = 1 + s->free_rows[--s->nr_free_rows];
	q->kv.nr_same = 0;
	return 0;
}

void pkvrt_sched_release_rows(struct pkvrt_sched *s, const struct pkvrt_group *g)
{
	for (uint32_t i = 0; g->seqs && i < g->shape.nr_seqs; i++)
		if (g->seqs[i].table_row)
			s->free_rows[s->nr_free_rows++] = g->seqs[i].table_row - 1;
}

static int make_chunk(struct pkvrt_sched *s, const struct pkvrt_slice *sl,
		      struct pkvrt_chunk *c)
{
	struct pkvrt_seq *q = &sl->group->seqs[sl->seq];
	uint32_t start = is_padding(sl->group) ? q->nr_known - 1 : q->nr_computed;
	int err = number(s, q);

	*c = (struct pkvrt_chunk){
		.tokens = q->tokens + start,
		.nr_tokens = q->take,
		.start = start,
		.slots = q->kv.slots,
		.nr_slots = q->kv.nr_slots,
		.table_row = q->table_row - 1,
		.nr_same = q->kv.nr_same,
		.nr_draws = sl->nr_draws,
		.draws = sl->nr_draws ? &s->draws[sl->first_draw] : NULL,
	};
	return err;
}

int pkvrt_sched_compute(struct pkvrt_sched *s)
{
	const struct pkvrt_compute *c = &s->p.compute;
	struct pkvrt_tick tick = { .nr_seqs = s->nr_slices };
	uint32_t top = 0;
	int err = make_arrays(s);

	if (err)
		return err;
	for (uint32_t i = 0; i < s->nr_slices && !err; i++) {
		make_draws(s, &s->slices[i], &top);
		err = make_chunk(s, &s->slices[i], &s->chunks[i]);
		tick.nr_groups += !i || s->slices[i].group != s->slices[i - 1].group;
	}
	if (err)
		return err;
	pkvrt_sched_places(s, &tick.places);
	tick.begin_ns = s->now_ns;
	err = c->ops->step(c->ctx, s->chunks, s->nr_slices);
	tick.end_ns = c->ops->now_ns(c->ctx);
	pkvrt_metrics_step(s->m, &tick);
	for (uint32_t i = 0; i < s->nr_slices && !err; i++) {
		struct pkvrt_kv *kv = &s->slices[i].group->seqs[s->slices[i].seq].kv;

		kv->nr_same = kv->nr_slots;
	}
	return err;
}
