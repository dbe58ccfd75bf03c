// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Sequence groups: what a request has to compute next, and beam search's choice. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "group.h"

int pkvrt_group_open(struct pkvrt_group *g, const struct pkvrt_workload *w, uint32_t vocab)
{
	size_t cap = (size_t)g->prompt_tokens + g->output_tokens;

	g->seqs = calloc(g->shape.nr_seqs, sizeof(*g->seqs));
	if (!g->seqs)
		return -ENOMEM;
	for (uint32_t i = 0; i < g->shape.nr_seqs; i++) {
		g->seqs[i].tokens = malloc(cap * sizeof(uint32_t));
		if (!g->seqs[i].tokens) {
			pkvrt_group_close(g);
			return -ENOMEM;
		}
	}
	pkvrt_workload_tokens(w, g->id, 0, g->prompt_tokens, vocab, g->seqs[0].tokens);
	g->seqs[0].nr_known = g->prompt_tokens;
	for (uint32_t i = 1; i < g->shape.nr_seqs; i++)
		memcpy(g->seqs[i].tokens, g->seqs[0].tokens,
		       g->prompt_tokens * sizeof(uint32_t));
	return 0;
}

void pkvrt_group_close(struct pkvrt_group *g)
{
	for (uint32_t i = 0; g->seqs && i < g->shape.nr_seqs; i++) {
		free(g->seqs[i].tokens);
		pkvrt_kv_release(&g->seqs[i].kv);
	}
	free(g->seqs);
	g->seqs = NULL;
}

void pkvrt_group_insert(struct pkvrt_group_list *list, struct pkvrt_group *g)
{
	struct pkvrt_group *at;

	TAILQ_FOREACH_REVERSE(at, list, pkvrt_group_list, link)
		if (pkvrt_group_before(at, g))
			break;
	if (at)
		TAILQ_INSERT_AFTER(list, at, g, link);
	else
		TAILQ_INSERT_HEAD(list, g, link);
}

/* A beam draws for all its sequences at once: is any of them not there yet? */
static bool beam_lags(const struct pkvrt_group *g)
{
	for (uint32_t i = 0; i < g->shape.nr_seqs; i++)
		if (g->seqs[i].nr_known - g->seqs[i].nr_computed > 1)
			return true;
	return false;
}

uint32_t pkvrt_group_ready_tokens(const struct pkvrt_group *g, uint32_t i)
{
	const struct pkvrt_seq *q = &g->seqs[i];
	uint32_t end = q->nr_known;

	if (!g->is_forked)
		end = i ? 0 : g->prompt_tokens;
	else if (g->shape.is_beam && beam_lags(g))
		end--;
	else if (end == g->prompt_tokens + g->output_tokens)
		end--;		/* the last token is only waiting for the other sequences' */
	return end > q->nr_computed ? end - q->nr_computed : 0;
}

bool pkvrt_group_draws(const struct pkvrt_group *g, uint32_t i, uint32_t end)
{
	const struct pkvrt_seq *q = &g->seqs[i];

	return end == q->nr_known && q->nr_known - g->prompt_tokens < g->output_tokens;
}

uint64_t pkvrt_group_max_pages(const struct pkvrt_group *g, uint32_t page_tokens)
{
	uint64_t total = (uint64_t)g->prompt_tokens + g->output_tokens;
	uint64_t pages = (total + page_tokens - 1) / page_tokens;
	uint64_t shared = g->prompt_tokens / page_tokens;

	if (g->shape.nr_seqs == 1)
		return pages;
	/* One more: a page that is copied on write is there twice for a moment. */
	return shared + (pages - shared) * g->shape.nr_seqs + 1;
}

void pkvrt_beam_choose(const double *scores, uint32_t nr_parents,
		       const struct pkvrt_candidate *top, uint32_t nr_seqs,
		       struct pkvrt_beam_pick *out)
{
	struct pkvrt_beam_pick picks[nr_seqs];
	uint32_t next[nr_parents];
	bool is_placed[nr_seqs], is_used[nr_seqs];
	uint32_t slot = 0;

	memset(next, 0, sizeof(next));
	memset(is_placed, 0, sizeof(is_placed));
	memset(is_used, 0, sizeof(is_used));
	for (uint32_t i = 0; i < nr_seqs; i++) {
		double best = 0;
		uint32_t from = nr_parents;

		for (uint32_t p = 0; p < nr_parents; p++) {
			double score;

			if (next[p] == nr_seqs)
				continue;
			score = scores[p] + (double)top[p * nr_seqs + next[p]].logprob;
			if (from == nr_parents || score > best) {
				best = score;
				from = p;
			}
		}
		picks[i].parent = from;
		picks[i].token = top[from * nr_seqs + next[from]++].token;
		picks[i].score = best;
	}
	for (uint32_t i = 0; i < nr_seqs; i++) {
		if (is_used[picks[i].parent])
			continue;
		is_used[picks[i].parent] = true;
		is_placed[i] = true;
		out[picks[i].parent] = picks[i];
	}
	for (uint32_t i = 0; i < nr_seqs; i++) {
		if (is_placed[i])
			continue;
		while (is_used[slot])
			slot++;
		is_used[slot] = true;
		out[slot] = picks[i];
	}
}
