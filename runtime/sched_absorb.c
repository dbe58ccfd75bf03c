// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * After a step was computed: new tokens are taken in, full pages get their names, sequences
 * fork, groups end.
 */
#include <errno.h>
#include <string.h>

#include "sched_internal.h"

/* The step's tokens have their K and V now. */
static void count_computed(struct pkvrt_sched *s)
{
	for (uint32_t i = 0; i < s->nr_slices; i++) {
		struct pkvrt_group *g = s->slices[i].group;
		struct pkvrt_seq *q = &g->seqs[s->slices[i].seq];
		uint32_t again = q->was_computed > q->nr_computed ?
				 q->was_computed - q->nr_computed : 0;

		s->m->computed_tokens += q->take;
		if (g->nr_padding) {
			s->m->padding_tokens += q->take;
			continue;
		}
		s->m->recomputed_tokens += again < q->take ? again : q->take;
		q->nr_computed += q->take;
	}
}

static int publish(struct pkvrt_sched *s)
{
	uint32_t nr = 0;
	int err;

	if (!s->p.use_prefix || !s->alloc->ops->publish)
		return 0;
	for (uint32_t i = 0; i < s->nr_slices; i++) {
		struct pkvrt_seq *q = &s->slices[i].group->seqs[s->slices[i].seq];

		if (q->nr_computed / s->alloc->page_tokens <= q->nr_published)
			continue;
		q->nr_published = q->nr_computed / s->alloc->page_tokens;
		err = pkvrt_sched_room(&s->names, &s->cap_names, nr + 1ull, sizeof(*s->names));
		if (err)
			return err;
		s->names[nr++] = (struct pkvrt_named){
			.kv = &q->kv,
			.tokens = q->tokens,
			.nr_tokens = q->nr_computed,
		};
	}
	return nr ? s->alloc->ops->publish(s->alloc, s->names, nr) : 0;
}

static void add_token(struct pkvrt_sched *s, struct pkvrt_seq *q, uint32_t token)
{
	q->tokens[q->nr_known++] = token;
	s->m->output_tokens++;
}

/* What a child has of its parent, memory apart. It has the same tokens up to the parent's. */
static void inherit(struct pkvrt_seq *child, const struct pkvrt_seq *parent)
{
	memcpy(child->tokens, parent->tokens, parent->nr_known * sizeof(uint32_t));
	child->nr_known = parent->nr_known;
	child->nr_computed = parent->nr_computed;
	child->nr_published = parent->nr_published;
}

/*
 * The best of all continuations. Losers are freed before survivors fork into their places.
 * @draws: a TOP draw of each parent, their candidates one after the other.
 */
static int beam_step(struct pkvrt_sched *s, struct pkvrt_group *g,
		     const struct pkvrt_draw *draws, uint32_t nr_parents)
{
	uint32_t nr = g->shape.nr_seqs;
	struct pkvrt_beam_pick picks[nr];
	double scores[nr];
	bool keeps;
	int err = 0;

	for (uint32_t i = 0; i < nr_parents; i++)
		scores[i] = g->seqs[i].score;
	pkvrt_beam_choose(scores, nr_parents, draws->top, nr, picks);
	/* With the last token it is over: the memory of all goes, whoever's tokens are in it. */
	keeps = g->is_forked && g->seqs[0].nr_known + 1 < g->prompt_tokens + g->output_tokens;
	for (uint32_t i = 0; i < nr_parents && !err && keeps; i++)
		if (picks[i].parent != i)
			err = pkvrt_sched_add_op(s, g, (struct pkvrt_alloc_op){
				.type = PKVRT_OP_FREE, .kv = &g->seqs[i].kv });
	for (uint32_t i = 0; i < nr && !err; i++) {
		struct pkvrt_seq *q = &g->seqs[i], *parent = &g->seqs[picks[i].parent];

		if (picks[i].parent == i)
			continue;
		inherit(q, parent);
		if (keeps)
			err = pkvrt_sched_add_op(s, g, (struct pkvrt_alloc_op){
				.type = PKVRT_OP_FORK, .kv = &parent->kv, .child = &q->kv });
	}
	for (uint32_t i = 0; i < nr && !err; i++) {
		add_token(s, &g->seqs[i], picks[i].token);
		g->seqs[i].score = picks[i].score;
	}
	return err;
}

/* The prompt's last token has been computed for the first time: each sample's first token. */
static void first_samples(struct pkvrt_sched *s, struct pkvrt_group *g,
			  const struct pkvrt_draw *draws)
{
	for (uint32_t i = 1; i < g->shape.nr_seqs; i++)
		inherit(&g->seqs[i], &g->seqs[0]);
	for (uint32_t i = 0; i < g->shape.nr_seqs; i++)
		add_token(s, &g->seqs[i], draws[i].out.token);
}

/* The prompt is computed: the other sequences come to be. */
static int fork_all(struct pkvrt_sched *s, struct pkvrt_group *g)
{
	int err = 0;

	for (uint32_t i = 1; i < g->shape.nr_seqs && !err; i++) {
		g->seqs[i].nr_computed = g->prompt_tokens;
		g->seqs[i].nr_published = g->seqs[0].nr_published;
		err = pkvrt_sched_add_op(s, g, (struct pkvrt_alloc_op){
			.type = PKVRT_OP_FORK, .kv = &g->seqs[0].kv, .child = &g->seqs[i].kv });
	}
	g->is_forked = true;
	return err;
}

static bool has_output(const struct pkvrt_group *g)
{
	for (uint32_t i = 0; i < g->shape.nr_seqs; i++)
		if (g->seqs[i].nr_known < g->prompt_tokens + g->output_tokens)
			return false;
	return true;
}

/* Give a sequence's memory up with the next step. */
static int bury(struct pkvrt_sched *s, struct pkvrt_kv *kv)
{
	int err = pkvrt_sched_room(&s->dead, &s->cap_dead, s->nr_dead + 1ull, sizeof(*s->dead));

	if (err)
		return err;
	s->dead[s->nr_dead++] = *kv;
	*kv = (struct pkvrt_kv){ 0 };
	return 0;
}

static int finish(struct pkvrt_sched *s, struct pkvrt_group *g)
{
	const struct pkvrt_request *r = &s->p.workload->reqs[g->id];
	int err = 0;

	pkvrt_metrics_request(s->m, s->start_ns + r->arrival_ns, g->first_ns, g->last_ns,
			      g->output_tokens);
	pkvrt_sched_leave(s, g);
	for (uint32_t i = 0; i < g->shape.nr_seqs && !err; i++) {
		struct pkvrt_seq *q = &g->seqs[i];

		if (s->p.hooks.output)
			err = s->p.hooks.output(s->p.hooks.ctx, g->id, i,
						q->tokens + g->prompt_tokens, g->output_tokens);
		if (!err && q->kv.is_live)
			err = bury(s, &q->kv);
	}
	if (err)
		return err;
	pkvrt_sched_release_rows(s, g);
	pkvrt_group_close(g);
	return 0;
}

/* All slices of one group: [first, end). */
static int absorb_group(struct pkvrt_sched *s, uint32_t first, uint32_t end)
{
	struct pkvrt_group *g = s->slices[first].group;
	const struct pkvrt_slice *sl = &s->slices[first];
	bool drew = sl->nr_draws;
	int err = 0;

	if (g->shape.is_beam && drew) {
		err = beam_step(s, g, &s->draws[sl->first_draw], end - first);
	} else if (!g->is_forked && drew) {
		first_samples(s, g, &s->draws[sl->first_draw]);
	} else {
		for (uint32_t i = first; i < end; i++) {
			sl = &s->slices[i];
			drew |= sl->nr_draws > 0;
			if (sl->nr_draws)
				add_token(s, &g->seqs[sl->seq],
					  s->draws[sl->first_draw].out.token);
		}
	}
	if (err)
		return err;
	if (drew && !g->first_ns)
		g->first_ns = s->m->end_ns;
	if (drew)
		g->last_ns = s->m->end_ns;
	if (has_output(g)) {
		uint32_t run = s->alloc->ops->run_tokens(s->alloc, g->output_tokens);

		if (g->output_tokens + g->nr_padding >= run)
			return finish(s, g);
		g->nr_padding++;
	}
	if (!g->is_forked && g->seqs[0].nr_computed == g->prompt_tokens)
		return fork_all(s, g);
	return 0;
}

int pkvrt_sched_absorb(struct pkvrt_sched *s)
{
	uint32_t end;
	int err;

	count_computed(s);
	err = publish(s);
	s->nr_ops = 0;
	for (uint32_t i = 0; i < s->nr_slices && !err; i = end) {
		struct pkvrt_group *g = s->slices[i].group;

		for (end = i; end < s->nr_slices && s->slices[end].group == g; end++)
			;
		err = absorb_group(s, i, end);
	}
	/* Regions cost nothing to free, and whoever waits for one should not wait a step more. */
	for (uint32_t i = 0; i < s->nr_dead && !err && !s->alloc->ops->cold; i++)
		err = pkvrt_sched_add_op(s, NULL, (struct pkvrt_alloc_op){
			.type = PKVRT_OP_FREE, .kv = &s->dead[i] });
	if (!err)
		err = pkvrt_sched_apply(s, s->ops, s->nr_ops);
	if (!err && !s->alloc->ops->cold)
		pkvrt_sched_release_dead(s);
	return err;
}
