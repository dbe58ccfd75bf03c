// SPDX-License-Identifier: GPL-2.0-only
/* Any bytes as a trace: refused with one line of cause, or requests that keep their promises. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace.h"
#include "workload.h"

#define LIMIT_TOKENS	4096u
#define PREFIX_TOKENS	80u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_requests(const struct pkvrt_workload *w)
{
	uint64_t last_ns = 0;

	if (!w->nr_reqs || w->reqs[0].arrival_ns)
		abort();
	for (uint32_t i = 0; i < w->nr_reqs; i++) {
		const struct pkvrt_request *req = &w->reqs[i];
		uint32_t tokens[32];

		if (req->prompt_tokens <= PREFIX_TOKENS || !req->output_tokens ||
		    req->prompt_tokens + req->output_tokens > LIMIT_TOKENS ||
		    req->arrival_ns < last_ns ||
		    (uint64_t)req->first_hash + req->nr_hashes > w->nr_hash_ids)
			abort();
		last_ns = req->arrival_ns;
		pkvrt_workload_tokens(w, i, req->prompt_tokens - 32, 32, 100, tokens);
		if (tokens[31] >= 100)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct pkvrt_workload_params p = {
		.max_total_tokens = LIMIT_TOKENS,
		.shared_prefix_tokens = PREFIX_TOKENS,
	};
	struct pkvrt_workload *w;
	char why[PKVRT_WHY_LEN] = "";
	FILE *f;
	int err;

	if (!size)
		return 0;
	f = fmemopen((void *)data, size, "r");
	w = calloc(1, sizeof(*w));
	if (!f || !w)
		abort();
	w->shared_prefix_tokens = PREFIX_TOKENS;
	err = pkvrt_trace_read(f, "fuzz", &p, w, why, sizeof(why));
	if (err && (!*why || strpbrk(why, "\n\r\x1b") || strlen(why) == sizeof(why) - 1))
		abort();
	if (!err)
		check_requests(w);
	pkvrt_workload_destroy(w);
	fclose(f);
	return 0;
}
