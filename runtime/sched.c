// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The scheduler's life, and an iteration from above. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sched_internal.h"

#define WAIT_NS		10000000u	/* a look at moves; then the world is asked again */
#define MAX_FRUITLESS	4096u		/* looks without any progress: something is broken */
#define ESCAPE_EVERY	64u		/* of them, after which a swapped group is given up */

int pkvrt_sched_room(void *array, uint32_t *cap, uint64_t nr, size_t size)
{
	void **at = array;
	void *p;

	if (nr <= *cap)
		return 0;
	nr += nr / 2 + 16;
	if (nr > UINT32_MAX)
		return -ENOMEM;
	p = realloc(*at, nr * size);
	if (!p)
		return -ENOMEM;
	*at = p;
	*cap = (uint32_t)nr;
	return 0;
}

int pkvrt_sched_add_op(struct pkvrt_sched *s, struct pkvrt_group *g, struct pkvrt_alloc_op op)
{
	uint32_t cap = s->cap_ops;
	int err = pkvrt_sched_room(&s->op_group, &cap, s->nr_ops + 1ull, sizeof(*s->op_group));

	if (!err)
		err = pkvrt_sched_room(&s->ops, &s->cap_ops, s->nr_ops + 1ull, sizeof(*s->ops));
	if (err)
		return err;
	s->op_group[s->nr_ops] = g;
	s->ops[s->nr_ops++] = op;
	return 0;
}

static void make_groups(struct pkvrt_sched *s)
{
	const struct pkvrt_workload *w = s->p.workload;

	for (uint32_t i = 0; i < s->nr_groups; i++) {
		struct pkvrt_group *g = &s->groups[i];

		g->id = i;
		g->priority = w->reqs[i].priority;
		g->prompt_tokens = w->reqs[i].prompt_tokens;
		g->output_tokens = w->reqs[i].output_tokens;
		g->shape = s->p.shape;
		if (s->p.hooks.shape)
			s->p.hooks.shape(s->p.hooks.ctx, i, &g->shape);
		g->is_forked = g->shape.nr_seqs == 1;
	}
}

int pkvrt_sched_create(struct pkvrt_sched **out, const struct pkvrt_sched_params *p)
{
	struct pkvrt_sched *s;

	if (!p->workload || !p->alloc || !p->metrics || !p->budget_tokens || !p->shape.nr_seqs ||
	    p->shape.nr_seqs > p->budget_tokens)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->p = *p;
	if (!s->p.max_batch)
		s->p.max_batch = p->budget_tokens;
	if (s->p.max_batch < p->shape.nr_seqs)
		s->p.max_batch = p->shape.nr_seqs;
	s->alloc = p->alloc;
	s->m = p->metrics;
	s->nr_groups = p->workload->nr_reqs;
	s->groups = calloc((size_t)s->nr_groups + 1, sizeof(*s->groups));
	s->marks = calloc(s->alloc->nr_pages, sizeof(*s->marks));
	if (!s->groups || !s->marks) {
		pkvrt_sched_destroy(s);
		return -ENOMEM;
	}
	TAILQ_INIT(&s->waiting);
	TAILQ_INIT(&s->active);
	TAILQ_INIT(&s->swapped);
	make_groups(s);
	s->start_ns = p->compute.ops->now_ns(p->compute.ctx);
	s->now_ns = s->start_ns;
	s->m->start_ns = s->start_ns;
	s->m->end_ns = s->start_ns;
	*out = s;
	return 0;
}

static void free_live(struct pkvrt_sched *s, struct pkvrt_kv *kv)
{
	struct pkvrt_alloc_op op = { .type = PKVRT_OP_FREE, .kv = kv };
	uint32_t nr_done;

	if (kv->is_live)
		s->alloc->ops->step(s->alloc, &op, 1, &nr_done);
}

void pkvrt_sched_destroy(struct pkvrt_sched *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->nr_dead; i++) {
		free_live(s, &s->dead[i]);
		pkvrt_kv_release(&s->dead[i]);
	}
	for (uint32_t i = 0; s->groups && i < s->nr_groups; i++) {
		struct pkvrt_group *g = &s->groups[i];

		for (uint32_t j = 0; g->seqs && j < g->shape.nr_seqs; j++)
			free_live(s, &g->seqs[j].kv);
		pkvrt_group_close(g);
	}
	free(s->groups);
	free(s->marks);
	free(s->dead);
	free(s->ops);
	free(s->op_group);
	free(s->slices);
	free(s->chunks);
	free(s->draws);
	free(s->tops);
	free(s->free_rows);
	free(s->names);
	free(s);
}

/* Nothing can be computed now: wait for a move, or for the next arrival. */
static int idle(struct pkvrt_sched *s)
{
	const struct pkvrt_compute *c = &s->p.compute;
	uint64_t begin = c->ops->now_ns(c->ctx);
	int ret = 0;

	if (!s->nr_waiting && !s->nr_active && !s->nr_swapped) {
		if (s->next_arrival == s->nr_groups)
			return 0;
		c->ops->idle(c->ctx, s->start_ns +
			     s->p.workload->reqs[s->next_arrival].arrival_ns);
		return 1;
	}
	if (s->alloc->ops->wait)
		ret = s->alloc->ops->wait(s->alloc, WAIT_NS);
	s->m->nr_waits++;
	s->m->wait_ns += c->ops->now_ns(c->ctx) - begin;
	if (ret)
		return ret;
	if (++s->fruitless > MAX_FRUITLESS)
		return -ETIMEDOUT;
	if (s->fruitless % ESCAPE_EVERY == 0 && s->nr_swapped)
		ret = pkvrt_sched_restart(s, TAILQ_LAST(&s->swapped, pkvrt_group_list));
	return ret ? ret : 1;
}

static int iterate(struct pkvrt_sched *s)
{
	uint32_t growth;
	int err;

	s->now_ns = s->p.compute.ops->now_ns(s->p.compute.ctx);
	s->is_blocked = false;
	err = pkvrt_sched_arrive(s);
	if (!err)
		err = pkvrt_sched_poll(s);
	if (err)
		return err;
	growth = pkvrt_sched_plan(s);
	err = pkvrt_sched_admit(s, growth);
	if (!err)
		err = pkvrt_sched_grow(s);
	if (err)
		return err;
	if (!s->nr_slices)
		return idle(s);
	s->fruitless = 0;
	err = pkvrt_sched_compute(s);
	if (!err)
		err = pkvrt_sched_absorb(s);
	return err ? err : 1;
}

int pkvrt_sched_step(struct pkvrt_sched *s)
{
	int ret = iterate(s);

	if (ret > 0 && s->p.hooks.step && s->p.hooks.step(s->p.hooks.ctx, s))
		return -ECANCELED;
	return ret;
}

int pkvrt_sched_run(struct pkvrt_sched *s)
{
	int ret;

	do
		ret = pkvrt_sched_step(s);
	while (ret > 0);
	return ret;
}

void pkvrt_sched_look(const struct pkvrt_sched *s, struct pkvrt_sched_view *v)
{
	*v = (struct pkvrt_sched_view){
		.now_ns = s->m->end_ns - s->start_ns,
		.nr_reqs = s->nr_groups,
		.nr_done = s->m->nr_done,
		.nr_rejected = s->m->nr_rejected,
		.nr_waiting = s->nr_waiting,
		.nr_running = s->nr_slices,
		.nr_loading = s->nr_loading,
		.nr_swapped = s->nr_swapped,
		.output_tokens = s->m->output_tokens,
		.computed_tokens = s->m->computed_tokens,
	};
}
