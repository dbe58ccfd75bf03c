/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the scheduler's files share. An iteration reads from sched.c downwards. */
#ifndef PKVRT_SCHED_INTERNAL_H
#define PKVRT_SCHED_INTERNAL_H

#include "sched.h"

/* A chunk of this step, and whose it is. */
struct pkvrt_slice {
	struct pkvrt_group *group;
	uint32_t seq;
	uint32_t nr_draws;
	uint32_t first_draw;
};

struct pkvrt_sched {
	struct pkvrt_sched_params p;
	struct pkvrt_alloc *alloc;
	struct pkvrt_metrics *m;
	struct pkvrt_group *groups;
	uint32_t nr_groups;
	uint32_t next_arrival;
	uint32_t nr_opened;		/* groups admitted at least once */
	uint64_t start_ns;
	uint64_t now_ns;		/* at the start of this iteration */

	/* Each in order: who goes first is first. Active ones hold device pages. */
	struct pkvrt_group_list waiting, active, swapped;
	uint32_t nr_waiting, nr_active, nr_loading, nr_swapped;

	/* Sequences that have ended; freed with the next step. */
	struct pkvrt_kv *dead;
	uint32_t nr_dead, cap_dead;
	uint32_t dead_pages;

	/* This step. */
	struct pkvrt_alloc_op *ops;
	struct pkvrt_group **op_group;	/* NULL: nobody's, must succeed */
	uint32_t nr_ops, cap_ops;
	struct pkvrt_slice *slices;
	uint32_t nr_slices, cap_slices;
	struct pkvrt_chunk *chunks;
	uint32_t cap_chunks;
	struct pkvrt_draw *draws;
	uint32_t cap_draws;
	struct pkvrt_candidate *tops;
	uint32_t cap_tops;
	uint32_t *free_rows;		/* numbers of sequences that have ended */
	uint32_t nr_free_rows, cap_free_rows;
	uint32_t nr_rows;		/* given out so far */
	struct pkvrt_named *names;
	uint32_t cap_names;
	uint32_t floor_pages;		/* kept free at admission */
	uint32_t growth_pages;		/* that those who run will take in this iteration */
	uint32_t budget_left;		/* tokens of the step that nobody has taken */
	bool is_blocked;		/* memory refused the head of the queue in this iteration */

	/* figures: a mark a device slot */
	uint32_t *marks;
	uint32_t mark;
	uint32_t fruitless;		/* iterations in a row in which nothing moved on */
};

/* Room for @nr elements; contents are kept. 0, -ENOMEM. */
int pkvrt_sched_room(void *array, uint32_t *cap, uint64_t nr, size_t size);
/* Queue an operation for s->alloc; @g: the group to blame when it fails, or NULL. */
int pkvrt_sched_add_op(struct pkvrt_sched *s, struct pkvrt_group *g, struct pkvrt_alloc_op op);

static inline uint32_t pkvrt_sched_pages(const struct pkvrt_sched *s, uint32_t tokens)
{
	return (uint32_t)(((uint64_t)tokens + s->alloc->page_tokens - 1) / s->alloc->page_tokens);
}

/* sched_queue.c: who has memory */
int pkvrt_sched_arrive(struct pkvrt_sched *s);
int pkvrt_sched_poll(struct pkvrt_sched *s);
int pkvrt_sched_admit(struct pkvrt_sched *s, uint32_t nr_growth);
int pkvrt_sched_make_room(struct pkvrt_sched *s, struct pkvrt_group *for_group);
int pkvrt_sched_restart(struct pkvrt_sched *s, struct pkvrt_group *g);
int pkvrt_sched_mend(struct pkvrt_sched *s, struct pkvrt_group *g);
void pkvrt_sched_leave(struct pkvrt_sched *s, struct pkvrt_group *g);
int pkvrt_sched_apply(struct pkvrt_sched *s, struct pkvrt_alloc_op *ops, uint32_t nr);

/* sched_batch.c: what is computed */
uint32_t pkvrt_sched_plan(struct pkvrt_sched *s);
void pkvrt_sched_plan_group(struct pkvrt_sched *s, struct pkvrt_group *g, uint32_t *budget);
int pkvrt_sched_grow(struct pkvrt_sched *s);
void pkvrt_sched_release_dead(struct pkvrt_sched *s);
int pkvrt_sched_compute(struct pkvrt_sched *s);
void pkvrt_sched_release_rows(struct pkvrt_sched *s, const struct pkvrt_group *g);

/* sched_absorb.c: what was drawn */
int pkvrt_sched_absorb(struct pkvrt_sched *s);

/* sched_places.c: how the device tier is used */
void pkvrt_sched_places(struct pkvrt_sched *s, struct pkvrt_places *pl);

#endif
