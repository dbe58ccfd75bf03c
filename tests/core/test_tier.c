// SPDX-License-Identifier: GPL-2.0-only
/* Free slots of a tier: every slot once, next-fit, at sizes where a level of the bitmap begins. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "internal.h"

static const uint32_t sizes[] = { 1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, 262143, 262144,
				  262145 };

#define NR_SIZES	(sizeof(sizes) / sizeof(sizes[0]))

static void test_every_slot_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < NR_SIZES; i++) {
		struct pkv_tier t;

		assert_int_equal(pkv_tier_init(&t, sizes[i], 0, 0), 0);
		/* from empty, next-fit is in order: neighbours in time are neighbours in place */
		for (uint32_t s = 0; s < sizes[i]; s++) {
			assert_true(pkv_tier_slot_is_free(&t, s));
			assert_int_equal(pkv_tier_alloc(&t), s);
			assert_false(pkv_tier_slot_is_free(&t, s));
		}
		assert_int_equal(pkv_tier_avail(&t), 0);
		assert_int_equal(pkv_tier_alloc(&t), PKV_NONE);
		pkv_tier_exit(&t);
	}
}

/* The one free slot is found, wherever it and the cursor are. */
static void test_last_free_slot(void **state)
{
	(void)state;
	for (size_t i = 0; i < NR_SIZES; i++) {
		const uint32_t nr = sizes[i];
		const uint32_t at[] = { 0, nr / 2, nr - 1, nr > 64 ? 63 : 0, nr > 64 ? 64 : 0,
					nr > 4096 ? 4095 : 0, nr > 4096 ? 4096 : 0 };
		struct pkv_tier t;

		assert_int_equal(pkv_tier_init(&t, nr, 0, 0), 0);
		for (uint32_t s = 0; s < nr; s++)
			pkv_tier_alloc(&t);
		for (size_t j = 0; j < sizeof(at) / sizeof(at[0]); j++)
			for (size_t k = 0; k < sizeof(at) / sizeof(at[0]); k++) {
				pkv_tier_free(&t, at[j]);
				t.cursor = at[k];
				assert_int_equal(pkv_tier_alloc(&t), at[j]);
				assert_int_equal(pkv_tier_alloc(&t), PKV_NONE);
			}
		pkv_tier_exit(&t);
	}
}

static void test_next_fit_goes_on(void **state)
{
	struct pkv_tier t;

	(void)state;
	assert_int_equal(pkv_tier_init(&t, 200, 0, 0), 0);
	for (int i = 0; i < 100; i++)
		pkv_tier_alloc(&t);
	for (uint32_t s = 0; s < 100; s += 2)
		pkv_tier_free(&t, s);
	/* freed ones wait for the cursor to come round */
	for (uint32_t s = 100; s < 200; s++)
		assert_int_equal(pkv_tier_alloc(&t), s);
	for (uint32_t s = 0; s < 100; s += 2)
		assert_int_equal(pkv_tier_alloc(&t), s);
	assert_int_equal(pkv_tier_alloc(&t), PKV_NONE);
	pkv_tier_exit(&t);
}

static void test_take_this_slot(void **state)
{
	struct pkv_tier t;

	(void)state;
	assert_int_equal(pkv_tier_init(&t, 65, 0, 0), 0);
	assert_int_equal(pkv_tier_take(&t, 64), 0);
	assert_int_equal(pkv_tier_take(&t, 64), -EBUSY);
	assert_int_equal(pkv_tier_take(&t, 1), 0);
	assert_int_equal(pkv_tier_alloc(&t), 0);
	assert_int_equal(pkv_tier_alloc(&t), 2);
	t.limit = 4;
	assert_int_equal(pkv_tier_take(&t, 30), -EDQUOT);
	pkv_tier_free(&t, 64);
	assert_int_equal(pkv_tier_take(&t, 64), 0);
	pkv_tier_exit(&t);
}

static void test_limit_and_state(void **state)
{
	struct pkv_tier t;

	(void)state;
	assert_int_equal(pkv_tier_init(&t, 10, 0, 0), 0);
	t.limit = 3;
	for (uint32_t s = 0; s < 3; s++)
		assert_int_equal(pkv_tier_alloc(&t), s);
	assert_int_equal(pkv_tier_alloc(&t), PKV_NONE);
	t.limit = 2;
	assert_int_equal(pkv_tier_avail(&t), 0);
	t.limit = 10;
	assert_int_equal(pkv_tier_avail(&t), 7);
	t.state = PKV_TIER_READONLY;
	assert_int_equal(pkv_tier_avail(&t), 0);
	assert_int_equal(pkv_tier_alloc(&t), PKV_NONE);
	t.state = PKV_TIER_ONLINE;
	assert_int_equal(pkv_tier_alloc(&t), 3);
	pkv_tier_exit(&t);
}

static void test_no_slots(void **state)
{
	struct pkv_tier t;

	(void)state;
	assert_int_equal(pkv_tier_init(&t, 0, 0, 0), 0);
	assert_int_equal(pkv_tier_alloc(&t), PKV_NONE);
	assert_int_equal(pkv_tier_metadata_bytes(&t), 0);
	pkv_tier_exit(&t);
}

/* Slots without memory are neither free nor in use. */
static void test_absent(void **state)
{
	struct pkv_tier t;

	(void)state;
	assert_int_equal(pkv_tier_init(&t, 200, 0, 0), 0);
	assert_int_equal(pkv_tier_take(&t, 70), 0);
	assert_int_equal(pkv_tier_withdraw(&t, 60, 20), -EBUSY);
	assert_int_equal(t.nr_free, 199);
	assert_int_equal(pkv_tier_withdraw(&t, 71, 129), 0);
	assert_int_equal(pkv_tier_withdraw(&t, 199, 1), -EBUSY);
	assert_int_equal(pkv_tier_used(&t), 1);
	assert_int_equal(pkv_tier_avail(&t), 70);
	assert_true(pkv_tier_is_sane(&t));
	for (int i = 0; i < 70; i++)
		assert_in_range(pkv_tier_alloc(&t), 0, 69);
	assert_int_equal(pkv_tier_alloc(&t), PKV_NONE);
	t.limit = 72;
	pkv_tier_restore(&t, 100, 64);
	assert_int_equal(pkv_tier_avail(&t), 1);
	assert_true(pkv_tier_is_sane(&t));
	assert_int_equal(pkv_tier_alloc(&t), 100);
	assert_int_equal(pkv_tier_alloc(&t), PKV_NONE);
	pkv_tier_exit(&t);
}

/* Random takes and frees against an array of flags. */
static void test_random(void **state)
{
	(void)state;
	srand(1);
	for (size_t i = 0; i < NR_SIZES && sizes[i] <= 4097; i++) {
		static uint8_t used[4097];
		struct pkv_tier t;
		uint32_t nr_used = 0;

		memset(used, 0, sizeof(used));
		assert_int_equal(pkv_tier_init(&t, sizes[i], 0, 0), 0);
		for (int n = 0; n < 20000; n++) {
			uint32_t s = rand() % sizes[i];

			if (rand() % 8 == 0)
				t.cursor = rand() % (sizes[i] + 1);
			if (used[s]) {
				pkv_tier_free(&t, s);
				used[s] = 0;
				nr_used--;
				continue;
			}
			s = pkv_tier_alloc(&t);
			assert_true(s < sizes[i] && !used[s]);
			used[s] = 1;
			nr_used++;
			assert_int_equal(t.nr_free, sizes[i] - nr_used);
		}
		pkv_tier_exit(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_slot_once),
		cmocka_unit_test(test_last_free_slot),
		cmocka_unit_test(test_next_fit_goes_on),
		cmocka_unit_test(test_take_this_slot),
		cmocka_unit_test(test_limit_and_state),
		cmocka_unit_test(test_no_slots),
		cmocka_unit_test(test_absent),
		cmocka_unit_test(test_random),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
