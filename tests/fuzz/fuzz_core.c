// SPDX-License-Identifier: GPL-2.0-only
/* Bytes into operations on the page manager, against the model of tests/core/model.h. */
#include <stdio.h>
#include <stdlib.h>

#include <linux/slab.h>

#include "model.h"

#define MAX_OPS		4000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct model m;
	struct model_source src = { .data = data, .len = size };
	long allocated = pkv_shim_nr_allocated;

	if (!size)
		return 0;
	if (model_run(&m, &src, MAX_OPS, getenv("PKV_MODEL_TRACE") ? stderr : NULL)) {
		fprintf(stderr, "%s\n", m.why);
		abort();
	}
	if (pkv_shim_nr_allocated != allocated) {
		fprintf(stderr, "a leak of %ld allocations\n", pkv_shim_nr_allocated - allocated);
		abort();
	}
	return 0;
}
