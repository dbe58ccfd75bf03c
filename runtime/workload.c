// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Workloads: lengths drawn like ShareGPT's, arrivals, and prompts' tokens.
 *
 * Streams of the seed are told apart by a constant each, so that a length does not depend
 * on the rate, and the first 100 of 200 requests are the 100 of a run of 100.
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "rng.h"
#include "trace.h"
#include "why.h"

#define NR_PROMPT_STEPS	32
#define NR_OUTPUT_STEPS	16
#define DRAWN_MAX	2048u	/* prompt + output of any drawn request */
#define DRAWN_MIN	16u	/* a tighter limit than this would be drawn for very long */

enum stream {
	STREAM_LENGTHS = 1,
	STREAM_ARRIVALS,
	STREAM_SHARED,
	STREAM_HASHED,
	STREAM_PRIVATE,
	STREAM_SAMPLING,
};

/*
 * Quantiles of ShareGPT's lengths under the filter prompt + output <= 2048, as in the
 * PagedAttention paper: piecewise linear, fitted by least squares, so that the means are kept
 * (161.31 and 337.99 tokens). Outputs have a row for each range of prompts, because they
 * depend on them, the longest prompts most of all.
 */
static const uint16_t prompt_quantile[NR_PROMPT_STEPS + 1] = {
	1, 5, 7, 9, 10, 11, 13, 14, 15, 17, 19, 20, 23, 25, 28, 31, 35,
	40, 46, 53, 62, 73, 87, 105, 132, 171, 223, 304, 400, 528, 755, 1030, 1739,
};

static const uint16_t output_quantile[][NR_OUTPUT_STEPS + 1] = {
	{ 5, 11, 12, 27, 36, 58, 82, 102, 126, 164, 201, 235, 272, 310, 377, 459, 1065 },
	{ 4, 42, 77, 101, 123, 157, 190, 216, 243, 267, 296, 322, 355, 394, 475, 593, 1149 },
	{ 6, 51, 89, 117, 152, 190, 220, 247, 274, 302, 331, 367, 410, 472, 573, 675, 1200 },
	{ 4, 41, 79, 120, 167, 202, 239, 271, 305, 339, 376, 426, 492, 572, 704, 808, 1351 },
	{ 6, 38, 72, 115, 159, 199, 237, 270, 309, 351, 393, 448, 516, 614, 761, 873, 1481 },
	{ 2, 36, 75, 111, 159, 206, 248, 287, 325, 367, 412, 475, 547, 668, 780, 939, 1579 },
	{ 1, 45, 91, 128, 159, 202, 241, 285, 332, 380, 439, 512, 584, 717, 807, 972, 1543 },
	{ 1, 25, 82, 124, 155, 199, 250, 295, 347, 393, 451, 516, 609, 727, 812, 980, 1428 },
	{ 1, 20, 70, 120, 151, 185, 228, 269, 311, 369, 433, 503, 584, 716, 789, 882, 1174 },
	{ 1, 8, 31, 59, 101, 130, 153, 179, 206, 244, 284, 342, 403, 479, 569, 674, 871 },
};

static const uint8_t output_row[NR_PROMPT_STEPS] = {
	0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3,
	4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 8, 9,
};

static uint64_t stream_seed(const struct pkvrt_workload *w, enum stream s)
{
	return pkvrt_mix2(w->seed, s);
}

/* A draw from a quantile table of @steps steps; @step tells where it fell. */
static uint32_t draw_quantile(struct pkvrt_rng *rng, const uint16_t *q, uint32_t steps,
			      uint32_t *step)
{
	double u = pkvrt_rng_unit(rng) * steps;
	uint32_t i = (uint32_t)u;

	*step = i;
	return (uint32_t)(q[i] + (q[i + 1] - q[i]) * (u - i) + 0.5);
}

/* At most DRAWN_MAX together. A pair that is too long gets another output, as the fit assumes. */
static void draw_lengths(struct pkvrt_rng *rng, uint32_t *prompt, uint32_t *output)
{
	uint32_t step, unused;

	*prompt = draw_quantile(rng, prompt_quantile, NR_PROMPT_STEPS, &step);
	do
		*output = draw_quantile(rng, output_quantile[output_row[step]], NR_OUTPUT_STEPS,
					&unused);
	while (*prompt + *output > DRAWN_MAX);
}

static int generate(struct pkvrt_workload *w, const struct pkvrt_workload_params *p, char *why,
		    size_t why_len)
{
	uint32_t limit = p->max_total_tokens ? p->max_total_tokens : DRAWN_MAX;
	struct pkvrt_rng rng;

	if (!p->nr_requests || p->nr_requests > PKVRT_MAX_REQUESTS)
		return pkvrt_why(why, why_len, -EINVAL, "%u requests: not in 1 to %u",
				 p->nr_requests, PKVRT_MAX_REQUESTS);
	if (limit < DRAWN_MIN || limit - DRAWN_MIN < p->shared_prefix_tokens)
		return pkvrt_why(why, why_len, -EINVAL, "a limit of %u tokens with a shared prefix "
				 "of %u leaves fewer than %u for a request", limit,
				 p->shared_prefix_tokens, DRAWN_MIN);
	limit -= p->shared_prefix_tokens;
	w->reqs = calloc(p->nr_requests, sizeof(*w->reqs));
	if (!w->reqs)
		return pkvrt_why(why, why_len, -ENOMEM, "out of memory for %u requests",
				 p->nr_requests);
	w->nr_reqs = p->nr_requests;
	pkvrt_rng_init(&rng, stream_seed(w, STREAM_LENGTHS));
	for (uint32_t i = 0; i < w->nr_reqs; i++) {
		struct pkvrt_request *req = &w->reqs[i];

		do
			draw_lengths(&rng, &req->prompt_tokens, &req->output_tokens);
		while (req->prompt_tokens + req->output_tokens > limit);
		req->prompt_tokens += p->shared_prefix_tokens;
	}
	return 0;
}

static int read_trace(struct pkvrt_workload *w, const struct pkvrt_workload_params *p, char *why,
		      size_t why_len)
{
	FILE *f;
	int err;

	err = pkvrt_trace_open(&f, p->trace, why, why_len);
	if (err)
		return err;
	err = pkvrt_trace_read(f, p->trace, p, w, why, why_len);
	fclose(f);
	return err;
}

/* The sums stay below 2^63 ns: PKVRT_MAX_REQUESTS / PKVRT_MIN_RATE seconds are 133 years. */
static void set_arrivals(struct pkvrt_workload *w, double rate)
{
	struct pkvrt_rng rng;
	double t_ns = 0;

	if (!rate)
		return;
	pkvrt_rng_init(&rng, stream_seed(w, STREAM_ARRIVALS));
	for (uint32_t i = 0; i < w->nr_reqs; i++) {
		if (!isinf(rate))
			t_ns += pkvrt_rng_exp(&rng) * 1e9 / rate;
		w->reqs[i].arrival_ns = (uint64_t)t_ns;
	}
}

static void sum_up(struct pkvrt_workload *w)
{
	for (uint32_t i = 0; i < w->nr_reqs; i++) {
		const struct pkvrt_request *req = &w->reqs[i];
		uint32_t total = req->prompt_tokens + req->output_tokens;

		w->sum_prompt_tokens += req->prompt_tokens;
		w->sum_output_tokens += req->output_tokens;
		if (total > w->max_total_tokens)
			w->max_total_tokens = total;
	}
}

int pkvrt_workload_create(struct pkvrt_workload **out, const struct pkvrt_workload_params *p,
			  char *why, size_t why_len)
{
	struct pkvrt_workload *w;
	int err;

	if (p->rate && !(p->rate >= PKVRT_MIN_RATE &&
			 (p->rate <= PKVRT_MAX_RATE || isinf(p->rate))))
		return pkvrt_why(why, why_len, -EINVAL, "a rate of %g: not 0, %g to %g, or inf",
				 p->rate, PKVRT_MIN_RATE, PKVRT_MAX_RATE);
	if (p->shared_prefix_tokens > PKVRT_MAX_TOKENS)
		return pkvrt_why(why, why_len, -EINVAL, "a shared prefix of %u tokens: above %u",
				 p->shared_prefix_tokens, PKVRT_MAX_TOKENS);
	w = calloc(1, sizeof(*w));
	if (!w)
		return pkvrt_why(why, why_len, -ENOMEM, "out of memory");
	w->seed = p->seed;
	w->shared_prefix_tokens = p->shared_prefix_tokens;
	if (p->trace)
		err = read_trace(w, p, why, why_len);
	else
		err = generate(w, p, why, why_len);
	if (err) {
		pkvrt_workload_destroy(w);
		return err;
	}
	set_arrivals(w, p->rate);
	sum_up(w);
	*out = w;
	return 0;
}

void pkvrt_workload_destroy(struct pkvrt_workload *w)
{
	if (!w)
		return;
	free(w->hash_ids);
	free(w->reqs);
	free(w);
}

static void fill(uint32_t *out, uint64_t key, uint32_t first, uint32_t nr, uint32_t vocab)
{
	for (uint32_t i = 0; i < nr; i++)
		out[i] = (uint32_t)pkvrt_scale64(pkvrt_mix64(key + first + i), vocab);
}

/*
 * The content at @pos: the key it is drawn from, the position under that key, and how many
 * positions from here share the key (UINT32_MAX: all that are left).
 */
static uint64_t content_at(const struct pkvrt_workload *w, uint32_t idx, uint32_t pos,
			   uint32_t *under, uint32_t *run)
{
	const struct pkvrt_request *req = &w->reqs[idx];
	uint32_t block;

	*under = pos;
	if (pos < w->shared_prefix_tokens) {
		*run = w->shared_prefix_tokens - pos;
		return stream_seed(w, STREAM_SHARED);
	}
	block = (pos - w->shared_prefix_tokens) / PKVRT_HASH_BLOCK_TOKENS;
	if (block < req->nr_hashes) {
		*under = (pos - w->shared_prefix_tokens) % PKVRT_HASH_BLOCK_TOKENS;
		*run = PKVRT_HASH_BLOCK_TOKENS - *under;
		return pkvrt_mix2(stream_seed(w, STREAM_HASHED),
				  w->hash_ids[req->first_hash + block]);
	}
	*run = UINT32_MAX;
	return pkvrt_mix2(stream_seed(w, STREAM_PRIVATE), idx);
}

void pkvrt_workload_tokens(const struct pkvrt_workload *w, uint32_t req, uint32_t first,
			   uint32_t nr, uint32_t vocab, uint32_t *out)
{
	while (nr) {
		uint32_t under, run;
		uint64_t key = content_at(w, req, first, &under, &run);

		if (run > nr)
			run = nr;
		fill(out, key, under, run, vocab);
		first += run;
		out += run;
		nr -= run;
	}
}

uint64_t pkvrt_workload_request_seed(const struct pkvrt_workload *w, uint32_t req)
{
	return pkvrt_mix2(stream_seed(w, STREAM_SAMPLING), req);
}

const char *pkvrt_source_name(enum pkvrt_source source)
{
	static const char *const name[] = {
		[PKVRT_SOURCE_GENERATED] = "ShareGPT-like lengths",
		[PKVRT_SOURCE_LENGTHS_CSV] = "CSV of lengths",
		[PKVRT_SOURCE_AZURE_CSV] = "Azure CSV",
		[PKVRT_SOURCE_MOONCAKE] = "Mooncake JSON lines",
	};

	return name[source];
}
