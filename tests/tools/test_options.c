// SPDX-License-Identifier: GPL-2.0-only
/* Options of `pagedkv run`: what a line means, and what is refused with which words. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "options.h"
#include "why.h"

#define MAX_WORDS 16

/* Parses words that one blank divides. */
static int parse(struct pkv_options *o, const char *line, char *why)
{
	char text[512], *argv[MAX_WORDS + 2] = { "run" }, *save = NULL;
	int argc = 1;

	snprintf(text, sizeof(text), "%s", line);
	for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		assert_true(argc <= MAX_WORDS);
		argv[argc++] = w;
	}
	return pkv_options_parse(o, argc, argv, why, PKVRT_WHY_LEN);
}

static struct pkv_options accept(const char *line)
{
	char why[PKVRT_WHY_LEN] = "";
	struct pkv_options o;

	if (parse(&o, line, why))
		fail_msg("'%s': %s", line, why);
	o.trace = NULL;		/* these point into parse()'s own copy */
	o.disk = NULL;
	o.report = NULL;
	return o;
}

static void defaults(void **state)
{
	struct pkv_options o = accept("");

	(void)state;
	assert_int_equal(o.nr_requests, 200);
	assert_int_equal(o.max_tokens, 2048);
	assert_int_equal(o.nr_samples, 1);
	assert_int_equal(o.beam_width, 1);
	assert_int_equal(o.device_pages, PKV_AUTO);
	assert_int_equal(o.host_pages, PKV_AUTO);
	assert_int_equal(o.disk_pages, PKV_AUTO);
	assert_int_equal(o.page_tokens, 16);
	assert_int_equal(o.policy, PKV_POLICY_PAGED);
	assert_true(o.rate == 0);
	assert_true(o.temperature == 0);
}

static void defaults_that_depend_on_others(void **state)
{
	(void)state;
	assert_int_equal(accept("--trace x").nr_requests, 0);
	assert_int_equal(accept("--trace x").max_tokens, 2048);
	assert_int_equal(accept("--trace x --lengths-only").max_tokens, 0);
	assert_int_equal(accept("--lengths-only").max_tokens, 2048);
	assert_int_equal(accept("--trace x --lengths-only --max-tokens 99").max_tokens, 99);
	assert_true(accept("--n 2").temperature == 1);
	assert_true(accept("--n 2 --temperature 0").temperature == 0);
	assert_true(accept("--beam 2").temperature == 0);
}

static void values(void **state)
{
	(void)state;
	assert_int_equal(accept("--requests=7").nr_requests, 7);
	assert_int_equal(accept("--requests 7 --requests 8").nr_requests, 8);
	assert_int_equal(accept("--device-pages 4M").device_pages, 4 << 20);
	assert_int_equal(accept("--device-pages 3k").device_pages, 3072);
	assert_int_equal(accept("--host-pages 0").host_pages, 0);
	assert_int_equal(accept("--policy orca-oracle").policy, PKV_POLICY_ORCA_ORACLE);
	assert_int_equal(accept("--preempt recompute").preempt, PKV_PREEMPT_RECOMPUTE);
	assert_int_equal(accept("--kv-dtype bf16").kv_type, PKV_KV_BF16);
	assert_int_equal(accept("--backend embedded").backend, PAGEDKV_BACKEND_EMBEDDED);
	assert_true(accept("--seed 18446744073709551615").seed == UINT64_MAX);
	assert_true(accept("--rate 2.5").rate == 2.5);
	assert_true(isinf(accept("--rate inf").rate));
	assert_true(isinf(accept("--rate 0").rate));
	assert_true(accept("--json").json);
	assert_true(accept("--help --no-verify").help);
}

static const struct {
	const char *line, *cause;
} bad[] = {
	{ "--bogus", "unknown option '--bogus'" },
	{ "-x", "unknown option '-x'" },
	{ "--no", "unknown option '--no'" },
	{ "extra", "'extra'" },
	{ "-- extra", "'extra'" },
	{ "--requests", "--requests needs a value" },
	{ "--json=yes", "--json takes no value" },
	{ "--requests 0", "--requests: '0' is not a whole number from 1 to 4194304" },
	{ "--requests -5", "'-5'" },
	{ "--requests +5", "'+5'" },
	{ "--requests 5x", "'5x'" },
	{ "--requests 1K", "'1K'" },
	{ "--requests 0x10", "'0x10'" },
	{ "--requests=", "''" },
	{ "--requests 4294967297", "'4294967297'" },
	{ "--requests 99999999999999999999999999", "--requests" },
	{ "--seed 18446744073709551616", "--seed" },
	{ "--seed -1", "--seed" },
	{ "--device-pages 0", "from 1 to 268435456" },
	{ "--device-pages 1T", "'1T'" },
	{ "--device-pages 18014398509481985K", "--device-pages" },
	{ "--device-pages 1KK", "'1KK'" },
	{ "--page-tokens 12", "--page-tokens: '12' is not a power of two" },
	{ "--page-tokens 0", "'0'" },
	{ "--page-tokens 2048", "from 1 to 1024" },
	{ "--rate -1", "'-1'" },
	{ "--rate nan", "'nan'" },
	{ "--rate infinity", "'infinity'" },
	{ "--rate 1e999", "'1e999'" },
	{ "--rate 1e-9", "'1e-9'" },
	{ "--temperature 101", "'101'" },
	{ "--temperature .", "'.'" },
	{ "--policy best", "'best' is not paged, orca-max, orca-pow2, orca-oracle or static" },
	{ "--preempt no", "auto, swap or recompute" },
	{ "--trace=", "--trace: '' is empty" },
	{ "--n 2 --beam 2", "--n and --beam" },
	{ "--beam 2 --temperature 1", "--beam and --temperature" },
	{ "--disk x --disk-pages 0", "--disk-pages 0" },
	{ "--shared-prefix 2040", "--shared-prefix" },
	{ "--shared-prefix 10 --max-tokens 20", "--shared-prefix" },
	{ "--report x --trace x", "--report and --trace" },
	{ "--report x --disk x", "--report and --disk" },
	{ "--requests \x1b[31m", "'?[31m'" },
};

static void refusals_name_option_value_and_range(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char why[PKVRT_WHY_LEN] = "";
		struct pkv_options o;

		if (parse(&o, bad[i].line, why) != -EINVAL || !strstr(why, bad[i].cause))
			fail_msg("'%s': '%s' is not in '%s'", bad[i].line, bad[i].cause, why);
		assert_null(strchr(why, '\n'));
	}
}

static void a_cause_has_room_for_the_longest_words(void **state)
{
	char word[4000], why[PKVRT_WHY_LEN], *argv[] = { "run", word, NULL };
	struct pkv_options o;

	(void)state;
	memset(word, 'x', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	memcpy(word, "--trace=", 8);
	assert_int_equal(pkv_options_parse(&o, 2, argv, why, sizeof(why)), 0);
	memcpy(word, "--seed==", 8);
	assert_int_equal(pkv_options_parse(&o, 2, argv, why, sizeof(why)), -EINVAL);
	assert_true(strlen(why) < sizeof(why) - 1);
	memcpy(word, "--seedyy", 8);
	assert_int_equal(pkv_options_parse(&o, 2, argv, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "--help"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(defaults_that_depend_on_others),
		cmocka_unit_test(values),
		cmocka_unit_test(refusals_name_option_value_and_range),
		cmocka_unit_test(a_cause_has_room_for_the_longest_words),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
