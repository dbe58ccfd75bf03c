// SPDX-License-Identifier: GPL-2.0-only
/* Any bytes as arguments, one a line: refused with one line of cause, or options in range. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "why.h"
#include "workload.h"

#define MAX_ARGS 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_page_count(uint32_t n)
{
	return n == PKV_AUTO || n <= 1u << 28;
}

static bool in_range(const struct pkv_options *o)
{
	return (o->nr_requests || o->trace) && o->nr_requests <= PKVRT_MAX_REQUESTS &&
	       (!o->rate || (o->rate >= PKVRT_MIN_RATE &&
			     (o->rate <= PKVRT_MAX_RATE || isinf(o->rate)))) &&
	       o->shared_prefix_tokens <= PKVRT_MAX_TOKENS && o->max_tokens <= PKVRT_MAX_TOKENS &&
	       o->nr_samples >= 1 && o->beam_width >= 1 &&
	       (o->nr_samples == 1 || o->beam_width == 1) &&
	       o->temperature >= 0 && o->temperature <= 100 && o->device_pages &&
	       is_page_count(o->device_pages) && is_page_count(o->host_pages) &&
	       is_page_count(o->disk_pages) && o->page_tokens && o->page_tokens <= 1024 &&
	       !(o->page_tokens & (o->page_tokens - 1)) && o->kv_type <= PKV_KV_BF16 &&
	       o->policy <= PKV_POLICY_STATIC && o->preempt <= PKV_PREEMPT_RECOMPUTE &&
	       o->max_batch && o->token_budget && o->backend <= PAGEDKV_BACKEND_EMBEDDED &&
	       o->compute <= PKV_COMPUTE_CUDA && o->nr_threads <= 4096;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = calloc(1, size + 1), *argv[MAX_ARGS + 2] = { "run" };
	char why[PKVRT_WHY_LEN] = "";
	struct pkv_options o;
	int argc = 1;

	if (!text)
		abort();
	memcpy(text, data, size);
	for (char *at = text; at && argc <= MAX_ARGS; ) {
		char *end = strchr(at, '\n');

		if (end)
			*end++ = '\0';
		argv[argc++] = at;
		at = end;
	}
	if (pkv_options_parse(&o, argc, argv, why, sizeof(why))) {
		if (!*why || strpbrk(why, "\n\r\x1b") || strlen(why) == sizeof(why) - 1)
			abort();
	} else if (!o.help && !in_range(&o)) {
		abort();
	}
	free(text);
	return 0;
}
