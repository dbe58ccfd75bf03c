// SPDX-License-Identifier: GPL-2.0-only
/* Samples of a run: bounded in number, even in time, first and last kept true. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "series.h"

static void a_short_run_keeps_every_sample(void **state)
{
	struct pkvrt_series s;

	(void)state;
	assert_int_equal(pkvrt_series_init(&s, 8, 10), 0);
	for (uint64_t t = 0; t < 80; t++)
		if (pkvrt_series_due(&s, t))
			pkvrt_series_add(&s, t)->tokens = t;
	assert_int_equal(s.nr, 8);
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(s.samples[i].t_ns, 10 * i);
		assert_int_equal(s.samples[i].tokens, 10 * i);
	}
	pkvrt_series_exit(&s);
}

static void a_long_run_keeps_even_samples(void **state)
{
	struct pkvrt_series s;

	(void)state;
	assert_int_equal(pkvrt_series_init(&s, 8, 10), 0);
	for (uint64_t t = 0; t < 100000; t++)
		if (pkvrt_series_due(&s, t))
			pkvrt_series_add(&s, t)->tokens = t;
	assert_in_range(s.nr, 4, 8);
	assert_int_equal(s.samples[0].t_ns, 0);
	for (uint32_t i = 1; i < s.nr; i++) {
		assert_int_equal(s.samples[i].t_ns - s.samples[i - 1].t_ns, s.interval_ns);
		assert_int_equal(s.samples[i].tokens, s.samples[i].t_ns);
	}
	assert_true(100000 - s.samples[s.nr - 1].t_ns <= s.interval_ns);
	pkvrt_series_exit(&s);
}

static void bad_sizes_are_refused(void **state)
{
	struct pkvrt_series s;

	(void)state;
	assert_int_equal(pkvrt_series_init(&s, 0, 10), -EINVAL);
	assert_int_equal(pkvrt_series_init(&s, 7, 10), -EINVAL);
	assert_int_equal(pkvrt_series_init(&s, 8, 0), -EINVAL);
}

static void rows_of_the_map_are_slots_of_the_tier(void **state)
{
	(void)state;
	assert_int_equal(pkvrt_map_rows(10), 10);
	assert_int_equal(pkvrt_map_slot(9, 10, 10), 9);
	assert_int_equal(pkvrt_map_rows(4000000000u), PKVRT_MAP_ROWS);
	assert_int_equal(pkvrt_map_slot(0, PKVRT_MAP_ROWS, 4000000000u), 0);
	assert_in_range(pkvrt_map_slot(255, PKVRT_MAP_ROWS, 4000000000u), 3900000000u, 3999999999u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_short_run_keeps_every_sample),
		cmocka_unit_test(a_long_run_keeps_even_samples),
		cmocka_unit_test(bad_sizes_are_refused),
		cmocka_unit_test(rows_of_the_map_are_slots_of_the_tier),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("series", tests, NULL, NULL);
}
