// SPDX-License-Identifier: GPL-2.0-only
/* A report as JSON, as text, as a picture and as live progress. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "picture.h"
#include "print.h"
#include "progress.h"
#include "why.h"

static char dir[4000];

static struct pkvrt_report make_report(void)
{
	struct pkvrt_report r = {
		.policy = "paged",
		.workload = "CSV of lengths",
		.device = "CPU",
		.nr_requests = 200,
		.nr_finished = 200,
		.nr_tokens = 3000,
		.elapsed_ns = 2000000000,
		.mean_batch = 12.5,
		.page_tokens = 16,
		.page_bytes = 4096,
		.nr_slots = { 100, 50, 0 },
		.wanted_slots = 300,
		.peak_demand_slots = 120,
		.shares = { 90, 1, 2, 3, 4, 0 },
		.nr_preempt_swap = 4,
		.nr_preempt_recompute = 3,
		.prefix_lookup_tokens = 400,
		.prefix_hit_tokens = 100,
		.ttft_ns = { 1000000, 2500000 },
		.identical = PKVRT_IDENTICAL,
		.nr_compared = 200,
	};

	r.flows[PAGEDKV_DEVICE][PAGEDKV_HOST] = (struct pkvrt_flow){
		.bytes = 8000, .nr_moves = 2, .busy_ns = 4000 };
	r.flows[PAGEDKV_HOST][PAGEDKV_DISK] = (struct pkvrt_flow){ .nr_errors = 1 };
	return r;
}

static json_t *print_json(const struct pkvrt_report *r)
{
	json_error_t error;
	FILE *f = tmpfile();
	json_t *obj;

	assert_non_null(f);
	assert_int_equal(pkv_print_json(f, r), 0);
	rewind(f);
	obj = json_loadf(f, 0, &error);
	if (!obj)
		fail_msg("%s", error.text);
	fclose(f);
	return obj;
}

static double figure(json_t *obj, const char *name)
{
	json_t *v = json_object_get(obj, name);

	if (!json_is_number(v))
		fail_msg("no figure %s", name);
	return json_number_value(v);
}

static void json_has_the_promised_members(void **state)
{
	static const char *const names[] = {
		"tokens_per_s", "mean_batch", "share_token_pct", "share_reserved_pct",
		"share_internal_pct", "share_external_pct", "pages_shared_pct", "preemptions",
		"swapped_bytes", "prefix_hit_pct",
	};
	struct pkvrt_report r = make_report();
	json_t *obj = print_json(&r), *flow;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		figure(obj, names[i]);
	assert_true(json_is_true(json_object_get(obj, "identical")));
	assert_string_equal(json_string_value(json_object_get(obj, "device")), "CPU");
	assert_true(figure(obj, "tokens_per_s") == 1500);
	assert_true(figure(obj, "oversubscription") == 3);
	assert_true(figure(obj, "prefix_hit_pct") == 25);
	assert_true(figure(obj, "preemptions") == 7);
	assert_true(figure(obj, "swapped_bytes") == 8000);
	assert_true(figure(obj, "share_rounding_pct") == 3);
	assert_true(figure(obj, "ttft_p99_ms") == 2.5);
	flow = json_array_get(json_object_get(obj, "moves"), 0);
	assert_string_equal(json_string_value(json_object_get(flow, "to")), "host");
	assert_true(figure(flow, "GB_per_s") == 2);
	flow = json_array_get(json_object_get(obj, "moves"), 1);
	assert_true(json_is_null(json_object_get(flow, "GB_per_s")));
	json_decref(obj);
}

static void json_of_an_empty_report_is_valid(void **state)
{
	struct pkvrt_report r = { .policy = "paged", .workload = "" };
	json_t *obj = print_json(&r);

	(void)state;
	assert_true(json_is_null(json_object_get(obj, "identical")));
	assert_true(figure(obj, "tokens_per_s") == 0);
	json_decref(obj);
	r.identical = PKVRT_DIFFERENT;
	obj = print_json(&r);
	assert_true(json_is_false(json_object_get(obj, "identical")));
	json_decref(obj);
}

static void expect_text(const struct pkvrt_report *r, const char *line)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	pkv_print_text(f, r);
	assert_int_equal(fclose(f), 0);
	if (!strstr(text, line))
		fail_msg("'%s' is not in:\n%s", line, text);
	free(text);
}

static void text_says_whether_tokens_are_identical(void **state)
{
	struct pkvrt_report r = make_report();

	(void)state;
	expect_text(&r, "identical to a run with unlimited memory: yes (200 of 200 requests)\n");
	r.identical = PKVRT_DIFFERENT;
	r.nr_different = 3;
	r.first_different = 17;
	expect_text(&r, "NO (3 of 200 requests differ, the first is request 17)\n");
	r.identical = PKVRT_NOT_COMPARED;
	expect_text(&r, "not compared\n");
	r.interrupted = true;
	expect_text(&r, "interrupted");
}

static int make_dir(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	snprintf(dir, sizeof(dir), "%s/pkv-report-XXXXXX", tmp ? tmp : "/tmp");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	return rmdir(dir);	/* fails when a test has left something */
}

static const char *in_dir(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static char *read_picture(const char *name)
{
	size_t size = 4u << 20, len;
	FILE *f = fopen(in_dir(name), "r");
	char *text = malloc(size);

	assert_non_null(f);
	assert_non_null(text);
	len = fread(text, 1, size - 1, f);
	text[len] = '\0';
	fclose(f);
	unlink(in_dir(name));
	return text;
}

static bool has_gnuplot(void)
{
	return !system("command -v gnuplot > /dev/null 2>&1");
}

static void draw(const struct pkvrt_report *r, const char *name, const char *const words[])
{
	char why[PKVRT_WHY_LEN] = "", *text;

	if (pkv_picture_check(in_dir(name), why, sizeof(why)))
		fail_msg("%s", why);
	assert_int_not_equal(access(in_dir(name), F_OK), 0);
	if (pkv_picture_write(in_dir(name), r, why, sizeof(why)))
		fail_msg("%s", why);
	text = read_picture(name);
	for (; *words; words++)
		if (!strstr(text, *words))
			fail_msg("'%s' is not in %s", *words, name);
	assert_null(strstr(text, "href='http"));
	free(text);
}

static void a_picture_is_one_whole_file(void **state)
{
	static const char *const svg[] = { "<?xml", "<svg", "200 of 200 requests", "Page map",
					   "data:image/png;base64,", "</svg>", NULL };
	static const char *const html[] = { "<!DOCTYPE html>", "<svg", "</svg>",
					    "unlimited memory: yes", "</html>", NULL };
	struct pkvrt_report r = make_report();

	(void)state;
	if (!has_gnuplot())
		skip();
	draw(&r, "empty.svg", svg);
	assert_int_equal(pkvrt_series_init(&r.series, 64, 1000), 0);
	for (uint64_t t = 0; t < 200000; t += 1000) {
		if (pkvrt_series_due(&r.series, t)) {
			struct pkvrt_sample *s = pkvrt_series_add(&r.series, t);

			s->tokens = t;
			s->used[PAGEDKV_DEVICE] = 100;
			memset(s->slot_state, PKVRT_SLOT_CACHED, 100);
		}
	}
	draw(&r, "run.svg", svg);
	draw(&r, "run.html", html);
	r.nr_slots[PAGEDKV_DEVICE] = 1;
	draw(&r, "one-slot.svg", svg);
	pkvrt_series_exit(&r.series);
}

static void expect_no_picture(const char *path, int err, const char *cause)
{
	char why[PKVRT_WHY_LEN] = "";

	assert_int_equal(pkv_picture_check(path, why, sizeof(why)), err);
	assert_null(strchr(why, '\n'));
	if (!strstr(why, cause))
		fail_msg("'%s' is not in '%s'", cause, why);
}

static void what_hinders_a_picture_is_found_before(void **state)
{
	char *path = strdup(getenv("PATH"));

	(void)state;
	expect_no_picture(dir, -EISDIR, "is a directory");
	expect_no_picture("/dev/null", -EINVAL, "not a regular file");
	expect_no_picture(in_dir("missing/x.svg"), -ENOENT, "missing/x.svg: can't write");
	assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
	expect_no_picture(in_dir("fifo"), -EINVAL, "not a regular file");
	unlink(in_dir("fifo"));
	setenv("PATH", "/nonexistent", 1);
	expect_no_picture(in_dir("x.svg"), -ENOENT, "gnuplot is not installed");
	setenv("PATH", path, 1);
	free(path);
}

static void progress_off_a_terminal_is_plain_lines(void **state)
{
	static const uint32_t nr_slots[] = { 100, 50, 0 };
	char *text = NULL;
	struct pkv_progress p;
	FILE *f = tmpfile();
	size_t len;

	(void)state;
	assert_non_null(f);
	pkv_progress_init(&p, f, false, "paged", nr_slots, 200);
	for (uint64_t s = 0; s <= 60; s++)
		pkv_progress_update(&p, &(struct pkvrt_sample){
			.t_ns = s * 1000000000, .tokens = s * 70, .nr_done = (uint32_t)s,
			.used = { 90 } });
	pkv_progress_exit(&p);
	rewind(f);
	text = calloc(1, 8192);
	len = fread(text, 1, 8191, f);
	assert_true(len > 0);
	assert_null(strchr(text, '\033'));
	assert_non_null(strstr(text, "paged: 60 s, 60 of 200 requests, 70 tokens/s"));
	assert_non_null(strstr(text, "device 90/100 host 0/50\n"));
	assert_null(strstr(text, "disk"));
	len = 0;
	for (const char *c = text; *c; c++)
		len += *c == '\n';
	assert_int_equal(len, 12);
	free(text);
	fclose(f);
}

static void quiet_progress_prints_nothing(void **state)
{
	static const uint32_t nr_slots[] = { 100, 50, 0 };
	struct pkv_progress p;
	FILE *f = tmpfile();

	(void)state;
	assert_non_null(f);
	pkv_progress_init(&p, f, true, "paged", nr_slots, 200);
	pkv_progress_update(&p, &(struct pkvrt_sample){ .t_ns = UINT64_C(100000000000) });
	pkv_progress_exit(&p);
	assert_int_equal(ftell(f), 0);
	fclose(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_has_the_promised_members),
		cmocka_unit_test(json_of_an_empty_report_is_valid),
		cmocka_unit_test(text_says_whether_tokens_are_identical),
		cmocka_unit_test(a_picture_is_one_whole_file),
		cmocka_unit_test(what_hinders_a_picture_is_found_before),
		cmocka_unit_test(progress_off_a_terminal_is_plain_lines),
		cmocka_unit_test(quiet_progress_prints_nothing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("report", tests, make_dir, remove_dir);
}
