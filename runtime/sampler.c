// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The candidates of a draw are taken in order of logit, and of token where logits
 * are equal, from a heap: making it costs one pass over the vocabulary, and few
 * candidates are ever asked for.
 */
#include "sampler.h"

#include <math.h>

#include "model.h"
#include "rng.h"

bool pkvrt_draw_valid(const struct pkvrt_draw *draw, uint32_t vocab)
{
	switch (draw->kind) {
	case PKVRT_GREEDY:
		return true;
	case PKVRT_SAMPLE:
		return draw->temperature > 0 && isfinite(1 / draw->temperature) &&
		       isfinite(draw->temperature) && draw->top_p > 0 &&
		       draw->top_p <= 1;
	case PKVRT_TOP:
		return draw->nr_top && draw->nr_top <= vocab && draw->top;
	}
	return false;
}

static uint32_t best_token(const float *logits, uint32_t vocab)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < vocab; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

static bool before(const float *logits, uint32_t a, uint32_t b)
{
	return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

static void sift_down(const float *logits, uint32_t *heap, uint32_t nr, uint32_t at)
{
	uint32_t token = heap[at];

	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= nr)
			break;
		if (child + 1 < nr && before(logits, heap[child + 1], heap[child]))
			child++;
		if (!before(logits, heap[child], token))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = token;
}

static void make_heap(const float *logits, uint32_t *heap, uint32_t vocab)
{
	for (uint32_t i = 0; i < vocab; i++)
		heap[i] = i;
	for (uint32_t i = vocab / 2; i-- > 0;)
		sift_down(logits, heap, vocab, i);
}

/*
 * Takes the best of nr tokens off the heap and puts it behind the others, so that
 * the tokens taken so far are, from the end backwards, in order.
 */
static uint32_t take_best(const float *logits, uint32_t *heap, uint32_t nr)
{
	uint32_t best = heap[0];

	heap[0] = heap[nr - 1];
	heap[nr - 1] = best;
	sift_down(logits, heap, nr - 1, 0);
	return best;
}

/* A draw without limits goes through the vocabulary in order: no heap is needed. */
static uint32_t sample_all(const float *weights, uint32_t vocab, double unit, double sum)
{
	double left = unit * sum;

	for (uint32_t i = 0; i < vocab - 1; i++) {
		left -= (double)weights[i];
		if (left < 0)
			return i;
	}
	return vocab - 1;
}

/*
 * Takes candidates off the heap until top_k of them are taken or top_p of the weight of
 * those that top_k leaves. Returns how many, at least one, and their weight in *kept.
 */
static uint32_t keep_best(const struct pkvrt_draw *draw, const float *logits, uint32_t vocab,
			  double sum, const struct pkvrt_sampler *scratch, double *kept)
{
	uint32_t most = draw->top_k && draw->top_k < vocab ? draw->top_k : vocab;
	uint32_t nr_taken = 0, nr = 0;

	make_heap(logits, scratch->heap, vocab);
	if (most < vocab) {
		sum = 0;
		for (; nr_taken < most; nr_taken++)
			sum += (double)scratch->weights[take_best(logits, scratch->heap,
								  vocab - nr_taken)];
	}
	*kept = 0;
	do {
		if (nr == nr_taken)
			take_best(logits, scratch->heap, vocab - nr_taken++);
		*kept += (double)scratch->weights[scratch->heap[vocab - 1 - nr++]];
	} while (nr < most && *kept < (double)draw->top_p * sum);
	return nr;
}

static uint32_t sample(const struct pkvrt_draw *draw, const float *logits, uint32_t vocab,
		       uint32_t position, float hottest, const struct pkvrt_sampler *scratch)
{
	double unit = (double)(pkvrt_mix2(draw->seed, position) >> 11) * 0x1p-53;
	float cool = 1 / draw->temperature;
	double sum, kept, left;
	uint32_t nr;

	for (uint32_t i = 0; i < vocab; i++)
		scratch->weights[i] = (logits[i] - hottest) * cool;
	sum = pkvrt_exp_sum(scratch->weights, vocab);
	if (draw->top_p >= 1 && (!draw->top_k || draw->top_k >= vocab))
		return sample_all(scratch->weights, vocab, unit, sum);

	nr = keep_best(draw, logits, vocab, sum, scratch, &kept);
	left = unit * kept;
	for (uint32_t i = 0; i < nr; i++) {
		left -= (double)scratch->weights[scratch->heap[vocab - 1 - i]];
		if (left < 0)
			return scratch->heap[vocab - 1 - i];
	}
	return scratch->heap[vocab - nr];
}

void pkvrt_draw_make(struct pkvrt_draw *draw, const float *logits, uint32_t vocab,
		     uint32_t position, struct pkvrt_sampler *scratch)
{
	uint32_t best = best_token(logits, vocab);
	float log_sum;

	for (uint32_t i = 0; i < vocab; i++)
		scratch->weights[i] = logits[i] - logits[best];
	log_sum = logits[best] + (float)log(pkvrt_exp_sum(scratch->weights, vocab));

	switch (draw->kind) {
	case PKVRT_GREEDY:
		draw->out.token = best;
		break;
	case PKVRT_SAMPLE:
		draw->out.token = sample(draw, logits, vocab, position, logits[best],
					 scratch);
		break;
	case PKVRT_TOP:
		make_heap(logits, scratch->heap, vocab);
		for (uint32_t i = 0; i < draw->nr_top; i++) {
			uint32_t token = take_best(logits, scratch->heap, vocab - i);

			draw->top[i].token = token;
			draw->top[i].logprob = logits[token] - log_sum;
		}
		return;
	}
	draw->out.logprob = logits[draw->out.token] - log_sum;
}
