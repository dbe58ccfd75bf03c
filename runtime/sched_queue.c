// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Who has memory: arrival, admission, preemption, the way back.
 *
 * A group is on the list of its state and on no other. Its sequences' memory follows it:
 * WAITING has none, SWAPPED is cold, LOADING and RUNNING hold their pages on the device.
 */
#include <errno.h>

#include <pagedkv.h>

#include "sched_internal.h"

static struct pkvrt_group_list *list_of(struct pkvrt_sched *s, enum pkvrt_group_state state)
{
	switch (state) {
	case PKVRT_GROUP_WAITING:
		return &s->waiting;
	case PKVRT_GROUP_LOADING:
	case PKVRT_GROUP_RUNNING:
		return &s->active;
	case PKVRT_GROUP_SWAPPED:
		return &s->swapped;
	default:
		return NULL;
	}
}

static void count(struct pkvrt_sched *s, enum pkvrt_group_state state, uint32_t by)
{
	s->nr_waiting += state == PKVRT_GROUP_WAITING ? by : 0;
	s->nr_swapped += state == PKVRT_GROUP_SWAPPED ? by : 0;
	s->nr_loading += state == PKVRT_GROUP_LOADING ? by : 0;
	s->nr_active += list_of(s, state) == &s->active ? by : 0;
}

static void set_state(struct pkvrt_sched *s, struct pkvrt_group *g, enum pkvrt_group_state state)
{
	struct pkvrt_group_list *from = list_of(s, g->state), *to = list_of(s, state);

	count(s, g->state, UINT32_MAX);	/* minus one */
	count(s, state, 1);
	g->state = state;
	if (from == to)
		return;
	if (from)
		TAILQ_REMOVE(from, g, link);
	if (to)
		pkvrt_group_insert(to, g);
}

static void drop_takes(struct pkvrt_group *g)
{
	for (uint32_t i = 0; i < g->shape.nr_seqs; i++)
		g->seqs[i].take = 0;
}

static bool can_preempt(const struct pkvrt_sched *s)
{
	return s->alloc->ops->cold;
}

int pkvrt_sched_apply(struct pkvrt_sched *s, struct pkvrt_alloc_op *ops, uint32_t nr)
{
	uint32_t nr_done;

	return nr ? s->alloc->ops->step(s->alloc, ops, nr, &nr_done) : 0;
}

static uint32_t clamp_priority(int32_t priority)
{
	int64_t p = 1 + (int64_t)priority;

	return p < 0 ? 0 : p >= PAGEDKV_NR_PRIORITIES ? PAGEDKV_NR_PRIORITIES - 1 : (uint32_t)p;
}

static void reject(struct pkvrt_sched *s, struct pkvrt_group *g)
{
	pkvrt_sched_release_rows(s, g);
	pkvrt_group_close(g);
	set_state(s, g, PKVRT_GROUP_REJECTED);
	s->m->nr_rejected++;
}

int pkvrt_sched_arrive(struct pkvrt_sched *s)
{
	const struct pkvrt_workload *w = s->p.workload;

	while (s->next_arrival < s->nr_groups &&
	       s->start_ns + w->reqs[s->next_arrival].arrival_ns <= s->now_ns) {
		struct pkvrt_group *g = &s->groups[s->next_arrival++];

		set_state(s, g, PKVRT_GROUP_WAITING);
		if (!g->shape.nr_seqs || g->shape.nr_seqs > s->p.max_batch ||
		    g->shape.nr_seqs > s->p.budget_tokens ||
		    (can_preempt(s) && pkvrt_group_max_pages(g, s->alloc->page_tokens) >
		     s->alloc->nr_pages))
			reject(s, g);
	}
	return 0;
}

/* ------------------------------------------------------------- preemption */

/* Device pages that a group's block tables name, each once. */
static uint32_t nr_unique_pages(struct pkvrt_sched *s, const struct pkvrt_group *g)
{
	uint32_t nr = 0;

	s->mark++;
	for (uint32_t i = 0; i < g->shape.nr_seqs; i++) {
		const struct pkvrt_kv *kv = &g->seqs[i].kv;

		for (uint32_t j = 0; kv->is_live && j < kv->nr_slots; j++) {
			nr += s->marks[kv->slots[j]] != s->mark;
			s->marks[kv->slots[j]] = s->mark;
		}
	}
	return nr;
}

/* Give a group's memory up. It waits again, and will compute all anew but what is cached. */
int pkvrt_sched_restart(struct pkvrt_sched *s, struct pkvrt_group *g)
{
	int err = 0;

	for (uint32_t i = 0; i < g->shape.nr_seqs && !err; i++) {
		struct pkvrt_seq *q = &g->seqs[i];
		struct pkvrt_alloc_op op = { .type = PKVRT_OP_FREE, .kv = &q->kv };

		if (q->kv.is_live)
			err = pkvrt_sched_apply(s, &op, 1);
		if (q->nr_computed > q->was_computed)
			q->was_computed = q->nr_computed;
		q->nr_computed = 0;
		q->nr_published = 0;
	}
	g->is_forked = g->shape.nr_seqs == 1;
	g->blocked_pages = 0;
	drop_takes(g);
	set_state(s, g, PKVRT_GROUP_WAITING);
	return err;
}

static bool prefers_swap(struct pkvrt_sched *s, const struct pkvrt_group *g, uint32_t nr_pages)
{
	if (s->p.preempt == PKVRT_PREEMPT_RECOMPUTE ||
	    s->alloc->ops->nr_swap_avail(s->alloc) < nr_pages)
		return false;
	/* Sequences that are computed again share no more than their prompt. */
	if (s->p.preempt == PKVRT_PREEMPT_SWAP || g->shape.nr_seqs > 1)
		return true;
	return pkvrt_cost_prefers_swap(&s->p.cost, nr_pages, g->seqs[0].nr_computed);
}

/*
 * Room that was made for tokens and never written is given back first: pages learn that they
 * are written to when room is made, and a copy of them may be elsewhere by the time they are.
 */
static int go_cold(struct pkvrt_sched *s, struct pkvrt_group *g)
{
	int err = 0;

	for (uint32_t i = 0; i < pkvrt_group_nr_live(g) && !err; i++) {
		struct pkvrt_seq *q = &g->seqs[i];
		struct pkvrt_alloc_op op = {
			.type = PKVRT_OP_TRUNCATE,
			.kv = &q->kv,
			.arg = q->nr_computed,
		};

		if (q->kv.len > q->nr_computed)
			err = pkvrt_sched_apply(s, &op, 1);
		if (!err)
			err = s->alloc->ops->cold(s->alloc, &q->kv);
	}
	drop_takes(g);
	set_state(s, g, PKVRT_GROUP_SWAPPED);
	return err;
}

/* All of a group or nothing of it. */
static int preempt(struct pkvrt_sched *s, struct pkvrt_group *g)
{
	/* While it loads, its block tables are old: what it had before still counts. */
	bool loads = g->state == PKVRT_GROUP_LOADING;
	uint32_t nr_pages = loads ? g->nr_unique_pages : nr_unique_pages(s, g);
	int err;

	if (!prefers_swap(s, g, nr_pages)) {
		s->m->nr_recompute_preempts++;
		return pkvrt_sched_restart(s, g);
	}
	s->m->nr_swap_preempts++;
	err = go_cold(s, g);
	g->nr_unique_pages = loads ? nr_pages : nr_unique_pages(s, g);
	return err;
}

/* A group can't grow: make the last one give way. That may be the group itself. */
int pkvrt_sched_make_room(struct pkvrt_sched *s, struct pkvrt_group *for_group)
{
	struct pkvrt_group *victim = TAILQ_LAST(&s->active, pkvrt_group_list);
	struct pkvrt_group *cold = TAILQ_LAST(&s->swapped, pkvrt_group_list);

	if (!victim || !can_preempt(s))
		return -ENOSPC;
	if (victim != for_group || victim != TAILQ_FIRST(&s->active))
		return preempt(s, victim);
	/* It is alone: what is in its way has been preempted before, and has nowhere to go. */
	s->m->nr_recompute_preempts++;
	return pkvrt_sched_restart(s, cold ? cold : for_group);
}

/* ------------------------------------------------------------ the way back */

/* Moves that run inline are run here; others come along by themselves. */
static int run_moves(struct pkvrt_sched *s)
{
	int ret;

	do
		ret = s->alloc->ops->wait(s->alloc, 0);
	while (ret > 0);
	return ret;
}

/* Hold a group's pages, and load those that are elsewhere. 0, 1: they are on their way. */
static int load_group(struct pkvrt_sched *s, struct pkvrt_group *g)
{
	int loads = 0;

	for (uint32_t i = 0; i < pkvrt_group_nr_live(g); i++) {
		int ret = s->alloc->ops->load(s->alloc, &g->seqs[i].kv);

		if (ret < 0) {
			/* What was held before it must not keep others from growing. */
			while (i--)
				s->alloc->ops->cold(s->alloc, &g->seqs[i].kv);
			return ret;
		}
		loads |= ret;
	}
	g->load_ns = s->now_ns;
	set_state(s, g, loads ? PKVRT_GROUP_LOADING : PKVRT_GROUP_RUNNING);
	return loads;
}

/* A page of the group is lost. One sequence keeps what is before it; several start again. */
int pkvrt_sched_mend(struct pkvrt_sched *s, struct pkvrt_group *g)
{
	struct pkvrt_seq *q = &g->seqs[0];
	struct pkvrt_alloc_op op = { .type = PKVRT_OP_TRUNCATE, .kv = &q->kv };
	int ret;

	s->m->nr_broken++;
	drop_takes(g);
	if (g->shape.nr_seqs > 1)
		return pkvrt_sched_restart(s, g);
	ret = s->alloc->ops->state(s->alloc, &q->kv, &op.arg);
	if (ret < 0)
		return ret;
	if (ret == PKVRT_KV_BROKEN) {
		if (op.arg > q->nr_computed)
			op.arg = q->nr_computed;
		ret = pkvrt_sched_apply(s, &op, 1);
		if (ret)
			return ret;
		if (q->nr_computed > q->was_computed)
			q->was_computed = q->nr_computed;
		if (q->nr_computed > op.arg)
			q->nr_computed = op.arg;
		if (q->nr_published > q->nr_computed / s->alloc->page_tokens)
			q->nr_published = q->nr_computed / s->alloc->page_tokens;
		g->nr_unique_pages = q->kv.nr_slots;
	}
	ret = load_group(s, g);
	if (ret == -EAGAIN || ret == -ENOSPC)
		return go_cold(s, g);
	if (ret == -EIO)
		return pkvrt_sched_restart(s, g);
	return ret < 0 ? ret : 0;
}

static int poll_group(struct pkvrt_sched *s, struct pkvrt_group *g)
{
	bool is_ready = true;

	for (uint32_t i = 0; i < pkvrt_group_nr_live(g); i++) {
		uint32_t lost;
		int ret = s->alloc->ops->state(s->alloc, &g->seqs[i].kv, &lost);

		if (ret < 0)
			return ret;
		if (ret == PKVRT_KV_BROKEN)
			return pkvrt_sched_mend(s, g);
		is_ready &= ret == PKVRT_KV_READY;
	}
	if (is_ready)
		set_state(s, g, PKVRT_GROUP_RUNNING);
	else if (s->now_ns - g->load_ns > s->p.wait_ns)
		return pkvrt_sched_restart(s, g);
	return 0;
}

/* See who has arrived on the device. */
int pkvrt_sched_poll(struct pkvrt_sched *s)
{
	struct pkvrt_group *g, *next;
	int ret;

	if (!can_preempt(s))
		return 0;
	ret = run_moves(s);
	for (g = TAILQ_FIRST(&s->active); g && !ret && s->nr_loading; g = next) {
		next = TAILQ_NEXT(g, link);
		if (g->state == PKVRT_GROUP_LOADING)
			ret = poll_group(s, g);
	}
	return ret;
}

/* -------------------------------------------------------------- admission */

/* Pages that a group will ask for as soon as it runs, beside those that it has. */
static uint32_t nr_next_pages(const struct pkvrt_sched *s, const struct pkvrt_group *g)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < pkvrt_group_nr_live(g); i++) {
		uint32_t have = pkvrt_sched_pages(s, g->seqs[i].kv.len);
		uint32_t want = pkvrt_sched_pages(s, g->is_forked ? g->seqs[i].nr_known :
						  g->prompt_tokens);

		nr += want > have ? want - have : 0;
	}
	return nr;
}

/* What is kept for groups that still load. */
static uint32_t nr_promised(struct pkvrt_sched *s)
{
	struct pkvrt_group *g;
	uint32_t nr = 0;

	if (!s->nr_loading)
		return 0;
	TAILQ_FOREACH(g, &s->active, link)
		if (g->state == PKVRT_GROUP_LOADING)
			nr += nr_next_pages(s, g);
	return nr;
}

/* Call preempted groups back, as many as have room. */
static int readmit(struct pkvrt_sched *s, int64_t *avail, uint32_t *budget)
{
	struct pkvrt_group *g;
	int ret = 0;

	while ((g = TAILQ_FIRST(&s->swapped))) {
		uint32_t need = g->nr_unique_pages + nr_next_pages(s, g);

		if (s->nr_active && *avail < (int64_t)need + s->growth_pages)
			break;
		ret = load_group(s, g);
		if (ret == -EIO) {
			ret = pkvrt_sched_mend(s, g);
			if (ret || g->state == PKVRT_GROUP_SWAPPED)
				break;
			continue;
		}
		if (ret < 0)
			break;
		*avail -= need;
		if (ret) {
			ret = run_moves(s);
			if (!ret)
				ret = poll_group(s, g);
			if (ret)
				break;
		}
		if (g->state == PKVRT_GROUP_RUNNING)
			pkvrt_sched_plan_group(s, g, budget);
	}
	/* Nothing runs, and nothing can be moved out of the way: somebody has to go. */
	if (ret == -ENOSPC && !s->nr_active) {
		s->m->nr_recompute_preempts++;
		return pkvrt_sched_restart(s, TAILQ_LAST(&s->swapped, pkvrt_group_list));
	}
	return ret == -EAGAIN || ret == -ENOSPC ? 0 : ret < 0 ? ret : 0;
}

static struct pkvrt_want want_of(const struct pkvrt_sched *s, const struct pkvrt_group *g)
{
	return (struct pkvrt_want){
		.tokens = g->seqs[0].tokens,
		.nr_tokens = g->is_forked ? g->seqs[0].nr_known : g->prompt_tokens,
		.prompt_tokens = g->prompt_tokens,
		.output_tokens = g->output_tokens,
		.nr_seqs = g->shape.nr_seqs,
		.priority = clamp_priority(g->priority),
		.use_prefix = s->p.use_prefix,
	};
}

/* Admission of kvs[]: the allocator's, made into an array's for one sequence after another. */
static int ask(struct pkvrt_sched *s, struct pkvrt_group *g, const struct pkvrt_want *want,
	       uint32_t *hit_tokens)
{
	struct pkvrt_kv kvs[want->nr_seqs];
	int err;

	for (uint32_t i = 0; i < want->nr_seqs; i++)
		kvs[i] = g->seqs[i].kv;
	err = s->alloc->ops->admit(s->alloc, want, kvs, hit_tokens);
	for (uint32_t i = 0; i < want->nr_seqs; i++)
		g->seqs[i].kv = kvs[i];
	return err;
}

/* Pages of a group that starts (again): what its sequences had beyond the prompt is not shared. */
static uint32_t nr_start_pages(const struct pkvrt_sched *s, const struct pkvrt_group *g,
			       const struct pkvrt_want *want)
{
	uint32_t nr = pkvrt_sched_pages(s, want->nr_tokens);

	for (uint32_t i = 0; i < g->shape.nr_seqs && !g->is_forked; i++)
		if (g->seqs[i].nr_known > g->prompt_tokens)
			nr += pkvrt_sched_pages(s, g->seqs[i].nr_known) -
			      g->prompt_tokens / s->alloc->page_tokens;
	return nr;
}

/* The group has its first sequence; is there room for all that it has to compute? */
static int check_room(struct pkvrt_sched *s, struct pkvrt_group *g,
		      const struct pkvrt_want *want, uint32_t before, int64_t *avail)
{
	struct pkvrt_alloc_op op = { .type = PKVRT_OP_FREE, .kv = &g->seqs[0].kv };
	uint32_t after = s->alloc->ops->nr_avail(s->alloc);
	uint32_t taken = before > after ? before - after : 0;
	uint32_t need = nr_start_pages(s, g, want) - pkvrt_sched_pages(s, g->seqs[0].kv.len);
	int err;

	if (!s->nr_active || *avail - taken >= (int64_t)need + s->floor_pages) {
		*avail -= (int64_t)taken + need;
		g->nr_unique_pages = pkvrt_sched_pages(s, want->nr_tokens);
		return 0;
	}
	g->blocked_pages = taken + need;
	err = pkvrt_sched_apply(s, &op, 1);
	return err ? err : -EAGAIN;
}

static void enter(struct pkvrt_sched *s, struct pkvrt_group *g, const struct pkvrt_want *want,
		  uint32_t hit_tokens)
{
	uint32_t lost;
	bool loads = can_preempt(s) &&
		     s->alloc->ops->state(s->alloc, &g->seqs[0].kv, &lost) != PKVRT_KV_READY;

	g->seqs[0].nr_computed = hit_tokens;
	g->seqs[0].nr_published = hit_tokens / s->alloc->page_tokens;
	g->blocked_pages = 0;
	g->load_ns = s->now_ns;
	if (!g->was_admitted) {
		g->was_admitted = true;
		s->nr_opened++;
		s->m->prompt_tokens += want->nr_tokens;
		s->m->hit_tokens += hit_tokens;
	}
	set_state(s, g, loads ? PKVRT_GROUP_LOADING : PKVRT_GROUP_RUNNING);
}

/* 0, -EAGAIN: not now, -E2BIG: never, or an error. */
static int admit_group(struct pkvrt_sched *s, struct pkvrt_group *g, int64_t *avail)
{
	struct pkvrt_want want;
	uint32_t before, hit_tokens;
	int err;

	if (can_preempt(s) && s->nr_active && g->blocked_pages &&
	    *avail < (int64_t)g->blocked_pages + s->floor_pages)
		return -EAGAIN;
	if (!g->seqs) {
		err = pkvrt_group_open(g, s->p.workload, s->p.compute.vocab);
		if (err)
			return err;
	}
	want = want_of(s, g);
	before = s->alloc->ops->nr_avail(s->alloc);
	err = ask(s, g, &want, &hit_tokens);
	if (err)
		return err;
	if (can_preempt(s)) {
		err = check_room(s, g, &want, before, avail);
		if (err)
			return err;
	}
	enter(s, g, &want, hit_tokens);
	return 0;
}

static uint32_t nr_active_seqs(const struct pkvrt_sched *s)
{
	const struct pkvrt_group *g;
	uint32_t nr = 0;

	TAILQ_FOREACH(g, &s->active, link)
		nr += g->shape.nr_seqs;
	return nr;
}

static int admit_waiting(struct pkvrt_sched *s, int64_t *avail, uint32_t *budget)
{
	uint32_t nr_seqs = nr_active_seqs(s);
	struct pkvrt_group *g;

	while ((g = TAILQ_FIRST(&s->waiting)) && *budget) {
		int err;

		if (nr_seqs + g->shape.nr_seqs > s->p.max_batch)
			break;
		err = admit_group(s, g, avail);
		if (err == -EAGAIN) {
			s->is_blocked = true;
			break;
		}
		if (err == -E2BIG) {
			reject(s, g);
			continue;
		}
		if (err)
			return err;
		nr_seqs += g->shape.nr_seqs;
		if (g->state == PKVRT_GROUP_RUNNING)
			pkvrt_sched_plan_group(s, g, budget);
	}
	return 0;
}

/* @nr_growth: pages that those who run will take in this iteration. */
int pkvrt_sched_admit(struct pkvrt_sched *s, uint32_t nr_growth)
{
	uint32_t budget = s->budget_left;
	int64_t avail;
	int err = 0;

	if (!s->nr_waiting && !s->nr_swapped)
		goto out;
	avail = (int64_t)s->alloc->ops->nr_avail(s->alloc) + s->dead_pages - nr_promised(s);
	/* The watermark is there for growth: what is about to grow needs no second one. */
	s->growth_pages = nr_growth;
	s->floor_pages = nr_growth > s->p.watermark_pages ? nr_growth : s->p.watermark_pages;
	if (s->nr_swapped)
		err = readmit(s, &avail, &budget);
	if (s->nr_swapped)
		s->is_blocked = s->nr_waiting;
	else if (!err)
		err = admit_waiting(s, &avail, &budget);
out:
	s->m->is_saturated |= s->is_blocked;
	s->m->is_draining = s->next_arrival == s->nr_groups &&
			    s->nr_opened + s->m->nr_rejected >= s->nr_groups;
	return err;
}

/* A group has all its tokens. Its memory goes with the next step. */
void pkvrt_sched_leave(struct pkvrt_sched *s, struct pkvrt_group *g)
{
	s->dead_pages += nr_unique_pages(s, g);
	set_state(s, g, PKVRT_GROUP_DONE);
	s->m->nr_done++;
}
