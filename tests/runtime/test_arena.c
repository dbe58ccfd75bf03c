// SPDX-License-Identifier: GPL-2.0-only
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <errno.h>

#include "arena.h"

static struct pkvrt_arena_params params(size_t bytes, int node, unsigned int flags)
{
	return (struct pkvrt_arena_params){
		.size = sizeof(struct pkvrt_arena_params),
		.bytes = bytes, .node = node, .flags = flags,
	};
}

static void test_create(void **state)
{
	static const int nodes[] = { PKVRT_NODE_ANY, PKVRT_NODE_INTERLEAVE, 0 };
	static const unsigned int flags[] = {
		0, PKVRT_ARENA_PREFAULT, PKVRT_ARENA_NO_HUGE,
		PKVRT_ARENA_NO_HUGE | PKVRT_ARENA_PREFAULT,
	};
	struct pkvrt_arena_params p;
	struct pkvrt_arena_report r;
	struct pkvrt_arena *a;
	unsigned int i, k;
	uint8_t *m;

	(void)state;
	for (i = 0; i < 3; i++) {
		for (k = 0; k < 4; k++) {
			p = params(((size_t)5 << 20) + 1, nodes[i], flags[k]);
			assert_int_equal(pkvrt_arena_create(&a, &p), 0);
			pkvrt_arena_report(a, &r);
			m = pkvrt_arena_base(a);
			assert_true(pkvrt_arena_bytes(a) >= p.bytes);
			assert_int_equal((uintptr_t)m % r.page_bytes, 0);
			assert_int_equal(pkvrt_arena_bytes(a) % r.page_bytes, 0);
			assert_int_equal(m[0] | m[pkvrt_arena_bytes(a) - 1], 0);
			memset(m, 0x5a, pkvrt_arena_bytes(a));
			pkvrt_arena_report(a, &r);
			assert_int_equal(r.prefaulted, !!(flags[k] & PKVRT_ARENA_PREFAULT));
			assert_true(r.huge_bytes <= pkvrt_arena_bytes(a));
			if (flags[k] & PKVRT_ARENA_NO_HUGE)
				assert_int_equal(r.pages, PKVRT_ARENA_SMALL);
			pkvrt_arena_destroy(a);
		}
	}
}

static void test_adopt_keeps_contents(void **state)
{
	struct pkvrt_arena_params p = params(1 << 20, 0, PKVRT_ARENA_PREFAULT);
	struct pkvrt_arena *a;
	uint8_t *m = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	(void)state;
	assert_true(m != MAP_FAILED);
	m[12345] = 77;
	assert_int_equal(pkvrt_arena_adopt(&a, m, &p), 0);
	assert_ptr_equal(pkvrt_arena_base(a), m);
	assert_int_equal(m[12345], 77);
	pkvrt_arena_destroy(a);
	assert_int_equal(m[12345], 77);
	assert_int_equal(pkvrt_arena_adopt(&a, m + 1, &p), -EINVAL);
	assert_int_equal(pkvrt_arena_adopt(&a, NULL, &p), -EINVAL);
	munmap(m, 1 << 20);
}

static void test_bad_params(void **state)
{
	struct pkvrt_arena_params p = params(0, PKVRT_NODE_ANY, 0);
	struct pkvrt_arena *a;

	(void)state;
	assert_int_equal(pkvrt_arena_create(&a, &p), -EINVAL);
	assert_null(a);
	p = params(4096, -3, 0);
	assert_int_equal(pkvrt_arena_create(&a, &p), -EINVAL);
	p = params(4096, 1023, 0);	/* no such node */
	assert_int_equal(pkvrt_arena_create(&a, &p), -EINVAL);
	p = params(4096, 1 << 20, 0);
	assert_int_equal(pkvrt_arena_create(&a, &p), -EINVAL);
	p = params(4096, 0, 1u << 31);
	assert_int_equal(pkvrt_arena_create(&a, &p), -EINVAL);
	p = params(SIZE_MAX, 0, 0);
	assert_int_equal(pkvrt_arena_create(&a, &p), -EOVERFLOW);
	p = params((size_t)1 << 60, 0, 0);
	assert_int_equal(pkvrt_arena_create(&a, &p), -ENOMEM);
	p = params(4096, 0, 0);
	p.size--;
	assert_int_equal(pkvrt_arena_create(&a, &p), -EINVAL);
	assert_int_equal(pkvrt_arena_create(&a, NULL), -EINVAL);
	pkvrt_arena_destroy(NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_adopt_keeps_contents),
		cmocka_unit_test(test_bad_params),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
