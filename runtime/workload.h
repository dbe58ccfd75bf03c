/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * A workload: what is asked of the server, and when. Drawn from a seed, or read from a
 * trace file, and immutable from then on. Requests are sorted by arrival; index in the
 * array is a request's id and, with the seed, decides its prompt's tokens.
 */
#ifndef PKVRT_WORKLOAD_H
#define PKVRT_WORKLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "why.h"

#define PKVRT_HASH_BLOCK_TOKENS	512u		/* prompt tokens that one hash id stands for */
#define PKVRT_MAX_REQUESTS	(1u << 22)	/* of one workload */
#define PKVRT_MAX_HASH_IDS	(1u << 25)	/* of all its requests together */
#define PKVRT_MAX_TOKENS	(1u << 24)	/* a prompt, an output or a shared prefix */
#define PKVRT_MIN_RATE		1e-3		/* requests a second ... */
#define PKVRT_MAX_RATE		1e9		/* ... but 0 and INFINITY are fine too */

/**
 * struct pkvrt_request - one request
 * @arrival_ns: from the start of the workload; the first arrives at 0 unless Poisson
 * @first_hash: index of its first id in the workload's hash_ids
 * @nr_hashes: ids, one for each PKVRT_HASH_BLOCK_TOKENS tokens of the prompt (the last may
 *	be a partial block); 0 if the source has none. Equal ids are equal content.
 * @prompt_tokens: at least 1, the shared prefix included
 * @output_tokens: at least 1
 * @priority: larger is served first; 0 unless the trace says otherwise
 */
struct pkvrt_request {
	uint64_t arrival_ns;
	uint32_t first_hash;
	uint32_t nr_hashes;
	uint32_t prompt_tokens;
	uint32_t output_tokens;
	int32_t priority;
};

enum pkvrt_source {
	PKVRT_SOURCE_GENERATED,		/* ShareGPT-like lengths, drawn */
	PKVRT_SOURCE_LENGTHS_CSV,	/* prompt,output */
	PKVRT_SOURCE_AZURE_CSV,		/* TIMESTAMP,ContextTokens,GeneratedTokens */
	PKVRT_SOURCE_MOONCAKE,		/* JSON lines with hash_ids */
};

/**
 * struct pkvrt_workload_params - what to draw or read; zeroes are good defaults but nr_requests
 * @trace: a trace file of any format above, recognised by content; NULL draws from the seed
 * @nr_requests: drawn: exactly so many (at least 1). Of a trace: the first so many that are
 *	kept, 0 for all
 * @seed: of lengths, arrivals and tokens
 * @rate: requests a second, Poisson. 0: a trace's own times, or all at once where there are
 *	none. INFINITY: all at once, whatever the trace says
 * @max_total_tokens: drop (never draw) requests with prompt + output above, the shared prefix
 *	counted; 0 for no limit on a trace and 2048 when drawn
 * @shared_prefix_tokens: common to all prompts, prepended
 */
struct pkvrt_workload_params {
	const char *trace;
	uint32_t nr_requests;
	uint64_t seed;
	double rate;
	uint32_t max_total_tokens;
	uint32_t shared_prefix_tokens;
};

/**
 * struct pkvrt_workload - read-only for its users
 * @nr_dropped_long: requests of the trace above max_total_tokens
 * @nr_dropped_empty: requests of the trace with a prompt or an output of 0 tokens: they ask
 *	for nothing that can be served
 * @nr_out_of_order: requests of the trace earlier than the line before; sorted, equal times
 *	keep the order of the file
 */
struct pkvrt_workload {
	struct pkvrt_request *reqs;
	uint64_t *hash_ids;
	uint32_t nr_reqs;
	uint32_t nr_hash_ids;
	uint32_t shared_prefix_tokens;
	enum pkvrt_source source;
	uint64_t seed;
	uint64_t sum_prompt_tokens;
	uint64_t sum_output_tokens;
	uint32_t max_total_tokens;	/* the largest prompt + output that is there */
	uint32_t nr_dropped_long;
	uint32_t nr_dropped_empty;
	uint32_t nr_out_of_order;
};

/**
 * pkvrt_workload_create - draw or read a workload
 * @out: set on success only; the caller destroys it
 * @p: what to make
 * @why: on failure one line without a newline that names file, line and cause; may be NULL
 * @why_len: room in @why; PKVRT_WHY_LEN always suffices
 *
 * Return: 0; -EINVAL a parameter out of its range, or a file that is no trace; -EISDIR,
 * -ENOENT, -EACCES ... the file can't be read; -ENODATA no request is left; -E2BIG more than
 * the maxima above; -ENOMEM.
 */
int pkvrt_workload_create(struct pkvrt_workload **out, const struct pkvrt_workload_params *p,
			  char *why, size_t why_len);
void pkvrt_workload_destroy(struct pkvrt_workload *w);

/**
 * pkvrt_workload_tokens - tokens [first, first + nr) of a request's prompt
 * @req: index of the request
 * @first: first position; @first + @nr is at most the request's prompt_tokens
 * @vocab: tokens are in [0, vocab); more than 0
 * @out: @nr tokens
 *
 * A function of (seed, request, position, vocab) alone, but: positions of the shared prefix
 * depend on no request, and positions under a hash id on that id and not on the request.
 * Positions under the hash ids start after the shared prefix. Thread-safe.
 */
void pkvrt_workload_tokens(const struct pkvrt_workload *w, uint32_t req, uint32_t first,
			   uint32_t nr, uint32_t vocab, uint32_t *out);

/* A seed of the request's own, for sampling its output: of (seed, request) alone. */
uint64_t pkvrt_workload_request_seed(const struct pkvrt_workload *w, uint32_t req);

/* "Mooncake JSONL" and the like, for reports. */
const char *pkvrt_source_name(enum pkvrt_source source);

#endif
