/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Choosing tokens from logits.
 */
#ifndef PKVRT_SAMPLER_H
#define PKVRT_SAMPLER_H

#include <stdbool.h>

#include "executor.h"

/* Scratch of one thread: room for vocab of each. */
struct pkvrt_sampler {
	float *weights;		/* exp of logits less the greatest */
	uint32_t *heap;		/* tokens, best first */
};

/* Could the draw be made from a vocabulary of this size? */
bool pkvrt_draw_valid(const struct pkvrt_draw *draw, uint32_t vocab);

/* Makes a valid draw of the token at position. */
void pkvrt_draw_make(struct pkvrt_draw *draw, const float *logits, uint32_t vocab,
		     uint32_t position, struct pkvrt_sampler *scratch);

#endif
