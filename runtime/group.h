/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * A sequence group: one request and its sequences (one, n parallel samples, or a beam).
 * They are scheduled, preempted and swapped together.
 *
 * A sequence has known tokens (prompt and what was drawn) and computed ones (their K and V
 * are written). What there is to do is always "compute [nr_computed, nr_known)", be it a
 * prompt, a decode step or a recompute after preemption; the last one of it draws the next.
 * Until the prompt is computed only the first sequence exists; the others fork from it.
 */
#ifndef PKVRT_GROUP_H
#define PKVRT_GROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "alloc.h"
#include "executor.h"
#include "workload.h"

struct pkvrt_seq {
	struct pkvrt_kv kv;
	uint32_t *tokens;	/* room for prompt and output */
	uint32_t nr_known;
	uint32_t nr_computed;
	uint32_t nr_published;	/* pages */
	uint32_t was_computed;	/* tokens that had been, before a preemption or a loss */
	uint32_t take;		/* tokens of this step */
	uint32_t table_row;	/* 1 + its number among those that compute; 0: none yet */
	double score;		/* beam: sum of log probabilities */
};

enum pkvrt_group_state {
	PKVRT_GROUP_FUTURE,	/* has not arrived */
	PKVRT_GROUP_WAITING,	/* no memory; or its memory was given up, to be recomputed */
	PKVRT_GROUP_LOADING,	/* pages are on their way to the device */
	PKVRT_GROUP_RUNNING,
	PKVRT_GROUP_SWAPPED,	/* preempted, its pages may be anywhere */
	PKVRT_GROUP_DONE,
	PKVRT_GROUP_REJECTED,	/* can never fit */
};

/* How a request is answered. */
struct pkvrt_shape {
	uint32_t nr_seqs;	/* at least 1 */
	bool is_beam;		/* the nr_seqs best together, not samples on their own */
};

struct pkvrt_group {
	TAILQ_ENTRY(pkvrt_group) link;
	uint32_t id;			/* request index: order of arrival */
	int32_t priority;
	enum pkvrt_group_state state;
	struct pkvrt_shape shape;
	bool is_forked;			/* all sequences exist */
	uint32_t prompt_tokens;
	uint32_t output_tokens;
	uint32_t nr_padding;		/* steps since all output is there (static: it waits) */
	uint32_t blocked_pages;		/* needed at the last failed admission; 0: not known */
	uint32_t nr_unique_pages;	/* held when it was swapped out */
	uint64_t load_ns;		/* since when it loads */
	bool was_admitted;
	uint64_t first_ns, last_ns;	/* first and last token */
	struct pkvrt_seq *seqs;		/* shape.nr_seqs; NULL before the first admission */
};

TAILQ_HEAD(pkvrt_group_list, pkvrt_group);

/** Give a group its sequences and its prompt. 0, -ENOMEM. */
int pkvrt_group_open(struct pkvrt_group *g, const struct pkvrt_workload *w, uint32_t vocab);
/** Free them; their memory in the allocator must be freed already. */
void pkvrt_group_close(struct pkvrt_group *g);

/** Sequences that exist now. */
static inline uint32_t pkvrt_group_nr_live(const struct pkvrt_group *g)
{
	return g->is_forked ? g->shape.nr_seqs : 1;
}

/** Does @a go before @b? Higher priority, then earlier arrival. */
static inline bool pkvrt_group_before(const struct pkvrt_group *a, const struct pkvrt_group *b)
{
	return a->priority != b->priority ? a->priority > b->priority : a->id < b->id;
}

/** Insert in that order. */
void pkvrt_group_insert(struct pkvrt_group_list *list, struct pkvrt_group *g);

/** The most tokens sequence @i may compute in the next step; 0 when it has to wait. */
uint32_t pkvrt_group_ready_tokens(const struct pkvrt_group *g, uint32_t i);

/** Does computing the sequence's tokens up to @end draw the next one? */
bool pkvrt_group_draws(const struct pkvrt_group *g, uint32_t i, uint32_t end);

/** Pages needed in the worst case, without any sharing but the prompt's. */
uint64_t pkvrt_group_max_pages(const struct pkvrt_group *g, uint32_t page_tokens);

/* A beam's next generation: sequence i continues sequence parent[i] with token[i]. */
struct pkvrt_beam_pick {
	uint32_t parent;
	uint32_t token;
	double score;
};

/**
 * Choose the best nr_seqs continuations; every surviving parent keeps one child in its own
 * place. @top: nr_seqs candidates of each of the nr_parents sequences. @out: nr_seqs picks.
 */
void pkvrt_beam_choose(const double *scores, uint32_t nr_parents,
		       const struct pkvrt_candidate *top, uint32_t nr_seqs,
		       struct pkvrt_beam_pick *out);

#endif
