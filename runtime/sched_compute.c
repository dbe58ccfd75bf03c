// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The two compute sides: the model, and "lengths", which only lets virtual time pass.
 *
 * What lengths draws is a function of the history's last token and position, so that it
 * doesn't depend on scheduling. For beams it draws log probabilities as a language model of
 * middling confidence would give: the best token has probability u^(1/4), u uniform, each
 * next one takes the same part of what is left. Which beams then survive is beam search's
 * own choice.
 */
#include <errno.h>
#include <math.h>
#include <time.h>

#include "io.h"
#include "rng.h"
#include "sched.h"

static void noise_top(struct pkvrt_draw *d, uint64_t seed, uint32_t vocab)
{
	double part = pow((double)(seed >> 11) * 0x1p-53, 0.25);
	double left = 1.0;

	if (part < 1e-6)
		part = 1e-6;
	if (part > 0.999999)
		part = 0.999999;
	for (uint32_t i = 0; i < d->nr_top; i++) {
		d->top[i].token = (uint32_t)pkvrt_scale64(pkvrt_mix2(seed, i), vocab);
		d->top[i].logprob = (float)log(left * part);
		left *= 1.0 - part;
	}
}

static int lengths_step(void *ctx, struct pkvrt_chunk *chunks, unsigned int nr_chunks)
{
	struct pkvrt_lengths *l = ctx;
	uint64_t nr_tokens = 0;

	for (unsigned int i = 0; i < nr_chunks; i++) {
		const struct pkvrt_chunk *c = &chunks[i];
		uint64_t seed = pkvrt_mix2(c->start + c->nr_tokens, c->tokens[c->nr_tokens - 1]);

		nr_tokens += c->nr_tokens;
		for (uint32_t j = 0; j < c->nr_draws; j++) {
			struct pkvrt_draw *d = &c->draws[j];

			if (d->kind == PKVRT_TOP)
				noise_top(d, seed, l->vocab);
			else
				d->out.token = (uint32_t)pkvrt_scale64(pkvrt_mix2(seed, d->seed),
								       l->vocab);
		}
	}
	l->now_ns += l->step_ns + nr_tokens * l->token_ns;
	return 0;
}

static uint64_t lengths_now(void *ctx)
{
	return ((struct pkvrt_lengths *)ctx)->now_ns;
}

static void lengths_idle(void *ctx, uint64_t until_ns)
{
	struct pkvrt_lengths *l = ctx;

	if (until_ns > l->now_ns)
		l->now_ns = until_ns;
}

static const struct pkvrt_compute_ops lengths_ops = {
	.step = lengths_step,
	.now_ns = lengths_now,
	.idle = lengths_idle,
};

struct pkvrt_compute pkvrt_compute_lengths(struct pkvrt_lengths *l)
{
	return (struct pkvrt_compute){ .ops = &lengths_ops, .ctx = l, .vocab = l->vocab };
}

static int model_step(void *ctx, struct pkvrt_chunk *chunks, unsigned int nr_chunks)
{
	return pkvrt_executor_step(ctx, chunks, nr_chunks);
}

static uint64_t model_now(void *ctx)
{
	(void)ctx;
	return pkvrt_now_ns();
}

/* Sleeps at most 50 ms, so that a request to stop is seen. */
static void model_idle(void *ctx, uint64_t until_ns)
{
	uint64_t now = pkvrt_now_ns();
	uint64_t ns = until_ns > now ? until_ns - now : 0;
	struct timespec ts = { .tv_nsec = (long)(ns < 50000000u ? ns : 50000000u) };

	(void)ctx;
	nanosleep(&ts, NULL);
}

static const struct pkvrt_compute_ops model_ops = {
	.step = model_step,
	.now_ns = model_now,
	.idle = model_idle,
};

struct pkvrt_compute pkvrt_compute_model(struct pkvrt_executor *ex, uint32_t vocab)
{
	return (struct pkvrt_compute){ .ops = &model_ops, .ctx = ex, .vocab = vocab };
}
