// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* How the device tier is used at this moment: see metrics.h for the words. */
#include "sched_internal.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A page of a sequence that has computed @tokens of the @final ones it will have. */
static void add_page(struct pkvrt_places *pl, uint32_t page_tokens, uint32_t index,
		     uint64_t tokens, uint64_t final)
{
	uint64_t begin = (uint64_t)index * page_tokens;
	uint64_t used = tokens > begin ? min_u64(tokens - begin, page_tokens) : 0;
	uint64_t wanted = final > begin ? min_u64(final - begin, page_tokens) : 0;

	if (wanted < used)
		wanted = used;
	pl->token += used;
	pl->reserved += wanted - used;
	pl->internal += page_tokens - wanted;
}

/* Pages are counted once, by the first sequence that has them. */
static void add_pages(struct pkvrt_sched *s, struct pkvrt_places *pl,
		      const struct pkvrt_kv *kv, uint64_t tokens, uint64_t final)
{
	pl->nr_pages += kv->nr_slots;
	for (uint32_t j = 0; j < kv->nr_slots; j++) {
		uint32_t slot = kv->slots[j];

		if (s->marks[slot] == s->mark)
			continue;
		s->marks[slot] = s->mark;
		pl->nr_unique++;
		add_page(pl, s->alloc->page_tokens, j, tokens, final);
	}
}

static void add_region(const struct pkvrt_sched *s, struct pkvrt_places *pl,
		       const struct pkvrt_kv *kv, uint64_t tokens, uint64_t final)
{
	uint64_t size = (uint64_t)kv->nr_slots * s->alloc->page_tokens;
	uint64_t asked = min_u64(size, kv->asked_tokens > final ? kv->asked_tokens : final);

	pl->nr_pages += kv->nr_slots;
	pl->nr_unique += kv->nr_slots;
	pl->token += tokens;
	pl->reserved += final - tokens;
	pl->internal += asked - final;
	pl->rounding += size - asked;
}

void pkvrt_sched_places(struct pkvrt_sched *s, struct pkvrt_places *pl)
{
	const struct pkvrt_group *g;
	uint64_t left;

	*pl = (struct pkvrt_places){
		.nr_places = (uint64_t)s->alloc->nr_pages * s->alloc->page_tokens,
	};
	s->mark++;
	TAILQ_FOREACH(g, &s->active, link) {
		uint64_t final = (uint64_t)g->prompt_tokens + g->output_tokens;

		if (g->state != PKVRT_GROUP_RUNNING)
			continue;
		for (uint32_t i = 0; i < g->shape.nr_seqs; i++) {
			const struct pkvrt_seq *q = &g->seqs[i];
			uint64_t tokens = q->nr_computed + (g->nr_padding ? 0 : q->take);

			if (q->kv.is_live && s->alloc->ops->cold)
				add_pages(s, pl, &q->kv, tokens, final);
			else if (q->kv.is_live)
				add_region(s, pl, &q->kv, tokens, final);
		}
	}
	left = pl->nr_places - pl->token - pl->reserved - pl->internal - pl->rounding;
	if (s->is_blocked && !s->alloc->ops->cold)
		pl->external = left;
	else
		pl->free = left;
}
