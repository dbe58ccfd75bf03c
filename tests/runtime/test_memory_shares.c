// SPDX-License-Identifier: GPL-2.0-only
/*
 * The paper's memory experiment holds: how much of the pool is tokens under each policy, and
 * what parallel samples save by sharing their prompt. On the paper's lengths where they are,
 * else on lengths drawn alike. Sharing is on drawn ones always: it needs a few requests only,
 * and the first few of the paper's have other means than all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../bench/memory_shares.h"

#define NR_REQUESTS	8000u
#define NR_SHARING	2500u	/* with several sequences each */

static struct pkvrt_workload *w, *w_sharing;

static int setup(void **state)
{
	(void)state;
	return memory_workload(&w, NR_REQUESTS) || memory_draw(&w_sharing, NR_SHARING);
}

static int teardown(void **state)
{
	(void)state;
	pkvrt_workload_destroy(w);
	pkvrt_workload_destroy(w_sharing);
	return 0;
}

static void serve(enum pkvrt_policy policy, struct pkvrt_report *r)
{
	const struct pkvrt_shares *s = &r->shares;

	assert_int_equal(memory_run(w, policy, 1, false, r), 0);
	assert_int_equal(r->nr_finished, w->nr_reqs);
	assert_float_equal(s->token_pct + s->reserved_pct + s->internal_pct + s->rounding_pct +
			   s->external_pct + s->free_pct, 100, 0.01);
}

static void test_paged(void **state)
{
	struct pkvrt_report r;

	(void)state;
	serve(PKVRT_POLICY_PAGED, &r);
	assert_true(r.shares.token_pct >= 96.2);
	assert_true(r.mean_batch >= 31.5);
	assert_true(r.nr_preempt_swap + r.nr_preempt_recompute > 0);
}

static void test_orca(void **state)
{
	static const struct {
		enum pkvrt_policy policy;
		double token_pct, batch;
	} paper[] = {
		{ PKVRT_POLICY_ORCA_MAX, 20.4, 7.0 },
		{ PKVRT_POLICY_ORCA_POW2, 26.8, 9.6 },
		{ PKVRT_POLICY_ORCA_ORACLE, 38.2, 13.0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(paper) / sizeof(paper[0]); i++) {
		struct pkvrt_report r;

		serve(paper[i].policy, &r);
		assert_float_equal(r.shares.token_pct, paper[i].token_pct, 2.0);
		assert_float_equal(r.mean_batch, paper[i].batch, 0.7);
	}
}

static void test_static(void **state)
{
	struct pkvrt_report r;

	(void)state;
	serve(PKVRT_POLICY_STATIC, &r);
	assert_true(r.mean_batch <= 7.0);
	assert_true(r.shares.token_pct < 20.4);
}

static void test_parallel_samples(void **state)
{
	static const struct {
		uint32_t n;
		double saved_pct;
	} want[] = { { 2, 17 }, { 4, 26 }, { 6, 29 } };

	(void)state;
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		struct pkvrt_report r;

		assert_int_equal(memory_run(w_sharing, PKVRT_POLICY_PAGED, want[i].n, false,
					    &r), 0);
		assert_true(r.pages_shared_pct >= want[i].saved_pct);
	}
}

static void test_beam(void **state)
{
	double last = 0;

	(void)state;
	for (uint32_t width = 2; width <= 6; width += 2) {
		struct pkvrt_report r;

		assert_int_equal(memory_run(w_sharing, PKVRT_POLICY_PAGED, width, true, &r), 0);
		assert_true(r.pages_shared_pct > last);
		assert_true(r.pages_shared_pct >= 37.6);
		last = r.pages_shared_pct;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paged),
		cmocka_unit_test(test_orca),
		cmocka_unit_test(test_static),
		cmocka_unit_test(test_parallel_samples),
		cmocka_unit_test(test_beam),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
