// SPDX-License-Identifier: GPL-2.0-only
/* The buddy allocator: carving, merging, and random use against a map of pages. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "buddy.h"
#include "rng.h"

static void test_order(void **state)
{
	(void)state;
	assert_int_equal(pkvrt_buddy_order(1), 0);
	assert_int_equal(pkvrt_buddy_order(2), 1);
	assert_int_equal(pkvrt_buddy_order(3), 2);
	assert_int_equal(pkvrt_buddy_order(128), 7);
	assert_int_equal(pkvrt_buddy_order(129), 8);
}

static void test_params(void **state)
{
	struct pkvrt_buddy b;

	(void)state;
	assert_int_equal(pkvrt_buddy_init(&b, 0, 3), -EINVAL);
	assert_int_equal(pkvrt_buddy_init(&b, 8, PKVRT_BUDDY_ORDERS), -EINVAL);
}

/* 983 pages are 7 x 128 + 64 + 16 + 4 + 2 + 1: the paper's pool. */
static void test_carve(void **state)
{
	struct pkvrt_buddy b;

	(void)state;
	assert_int_equal(pkvrt_buddy_init(&b, 983, 7), 0);
	for (int i = 0; i < 7; i++)
		assert_int_equal(pkvrt_buddy_alloc(&b, 7) % 128, 0);
	assert_int_equal(pkvrt_buddy_alloc(&b, 7), -ENOSPC);
	assert_int_equal(pkvrt_buddy_alloc(&b, 6), 896);
	assert_int_equal(pkvrt_buddy_alloc(&b, 5), -ENOSPC);
	assert_int_equal(pkvrt_buddy_alloc(&b, 4), 960);
	assert_int_equal(b.nr_free, 7);
	pkvrt_buddy_exit(&b);
}

static void test_merge(void **state)
{
	struct pkvrt_buddy b;
	int64_t page[16];

	(void)state;
	assert_int_equal(pkvrt_buddy_init(&b, 16, 4), 0);
	for (int i = 0; i < 16; i++)
		page[i] = pkvrt_buddy_alloc(&b, 0);
	assert_int_equal(pkvrt_buddy_alloc(&b, 0), -ENOSPC);
	for (int i = 15; i >= 0; i--)
		pkvrt_buddy_free(&b, (uint32_t)page[i], 0);
	assert_int_equal(pkvrt_buddy_alloc(&b, 4), 0);
	pkvrt_buddy_exit(&b);
}

static void test_random(void **state)
{
	enum { PAGES = 211, LIVE = 64 };
	struct { uint32_t page, order; } live[LIVE];
	uint8_t used[PAGES] = { 0 };
	uint32_t nr = 0, free_pages = PAGES;
	struct pkvrt_buddy b;
	struct pkvrt_rng rng;

	(void)state;
	pkvrt_rng_init(&rng, 5);
	assert_int_equal(pkvrt_buddy_init(&b, PAGES, 6), 0);
	for (int step = 0; step < 20000 || nr; step++) {
		if (step < 20000 && nr < LIVE && pkvrt_rng_below(&rng, 2)) {
			uint32_t order = (uint32_t)pkvrt_rng_below(&rng, 7);
			int64_t page = pkvrt_buddy_alloc(&b, order);

			if (page < 0)
				continue;
			assert_int_equal(page % (1 << order), 0);
			for (uint32_t i = 0; i < 1u << order; i++)
				assert_int_equal(used[page + i]++, 0);
			free_pages -= 1u << order;
			live[nr].page = (uint32_t)page;
			live[nr++].order = order;
		} else if (nr) {
			uint32_t at = (uint32_t)pkvrt_rng_below(&rng, nr);

			memset(used + live[at].page, 0, 1u << live[at].order);
			pkvrt_buddy_free(&b, live[at].page, live[at].order);
			free_pages += 1u << live[at].order;
			live[at] = live[--nr];
		}
		assert_int_equal(b.nr_free, free_pages);
	}
	/* All has merged again: 211 is 3 x 64 + 16 + 2 + 1. */
	for (int i = 0; i < 3; i++)
		assert_true(pkvrt_buddy_alloc(&b, 6) >= 0);
	assert_int_equal(pkvrt_buddy_alloc(&b, 4), 192);
	assert_int_equal(pkvrt_buddy_alloc(&b, 1), 208);
	assert_int_equal(pkvrt_buddy_alloc(&b, 0), 210);
	assert_int_equal(b.nr_free, 0);
	pkvrt_buddy_exit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_params),
		cmocka_unit_test(test_carve),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_random),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
