// SPDX-License-Identifier: GPL-2.0-only
/*
 * Seeded random operations on the page manager against the model (model.h), with every check
 * after each. PKV_MODEL_SEED=n runs that seed alone and tells each operation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/slab.h>

#include "model.h"

#define NR_SEEDS	1500
#define NR_OPS		200	/* of a seed: a pool is young again and again */
#define NR_LONG_SEEDS	10
#define NR_LONG_OPS	5000

static uint64_t nr_results[256];

static void run_seed(uint64_t seed, uint64_t nr_ops, FILE *trace)
{
	static struct model m;
	struct model_source src = { .rng = seed };
	long allocated = pkv_shim_nr_allocated;

	if (model_run(&m, &src, nr_ops, trace))
		fail_msg("PKV_MODEL_SEED=%llu PKV_MODEL_OPS=%llu: %s", (unsigned long long)seed,
			 (unsigned long long)nr_ops, m.why);
	for (int i = 0; i < 256; i++)
		nr_results[i] += m.nr_results[i];
	assert_int_equal(pkv_shim_nr_allocated, allocated);
}

static void test_short_streams(void **state)
{
	const char *seed = getenv("PKV_MODEL_SEED"), *ops = getenv("PKV_MODEL_OPS");

	(void)state;
	if (seed) {
		run_seed(strtoull(seed, NULL, 0), ops ? strtoull(ops, NULL, 0) : NR_OPS, stderr);
		return;
	}
	for (uint64_t s = 0; s < NR_SEEDS; s++)
		run_seed(s, NR_OPS, NULL);
}

static void test_long_streams(void **state)
{
	(void)state;
	if (getenv("PKV_MODEL_SEED"))
		skip();
	for (uint64_t s = 0; s < NR_LONG_SEEDS; s++)
		run_seed(1000000 + s, NR_LONG_OPS, NULL);
}

/* Streams that never meet an error would prove little. */
static void test_streams_reach_errors(void **state)
{
	static const int errors[] = { 0, EAGAIN, ENOSPC, EBUSY, EDQUOT, ENOBUFS, ENOMEM, ESTALE,
				      EIO, EEXIST, EINVAL };

	(void)state;
	if (getenv("PKV_MODEL_SEED"))
		skip();
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (!nr_results[errors[i]])
			fail_msg("no stream met %s", strerror(errors[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short_streams),
		cmocka_unit_test(test_long_streams),
		cmocka_unit_test(test_streams_reach_errors),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
