// SPDX-License-Identifier: GPL-2.0-only
/* Workloads: what the generator draws, what the trace readers take and refuse. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "trace.h"
#include "workload.h"

#define VOCAB	2048u

static char dir[4096];
static char path[4200];

static int make_dir(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	snprintf(dir, sizeof(dir), "%s/pkv-workload-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/trace", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
}

static void write_trace(const void *data, size_t len)
{
	FILE *f;

	unlink(path);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static struct pkvrt_workload *create(const struct pkvrt_workload_params *p)
{
	struct pkvrt_workload *w = NULL;
	char why[PKVRT_WHY_LEN] = "";
	int err = pkvrt_workload_create(&w, p, why, sizeof(why));

	if (err)
		fail_msg("%d: %s", err, why);
	return w;
}

static struct pkvrt_workload *read_text(const char *text, struct pkvrt_workload_params p)
{
	write_trace(text, strlen(text));
	p.trace = path;
	return create(&p);
}

static void expect_error(const struct pkvrt_workload_params *p, int err, const char *cause)
{
	struct pkvrt_workload *w = (void *)-1;
	char why[PKVRT_WHY_LEN] = "";

	assert_int_equal(pkvrt_workload_create(&w, p, why, sizeof(why)), err);
	assert_ptr_equal(w, (void *)-1);
	if (!strstr(why, cause))
		fail_msg("'%s' is not in '%s'", cause, why);
	assert_null(strchr(why, '\n'));
	if (p->trace)
		assert_non_null(strstr(why, p->trace));
}

static void drawn_means_are_those_of_sharegpt(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct pkvrt_workload *w = create(&(struct pkvrt_workload_params){
			.nr_requests = 400000, .seed = seed });
		double prompt = (double)w->sum_prompt_tokens / w->nr_reqs;
		double output = (double)w->sum_output_tokens / w->nr_reqs;

		assert_true(fabs(prompt / 161.31 - 1) < 0.01);
		assert_true(fabs(output / 337.99 - 1) < 0.01);
		assert_true(w->max_total_tokens <= 2048);
		for (uint32_t i = 0; i < w->nr_reqs; i++) {
			assert_true(w->reqs[i].prompt_tokens >= 1);
			assert_true(w->reqs[i].output_tokens >= 1);
			assert_int_equal(w->reqs[i].arrival_ns, 0);
		}
		pkvrt_workload_destroy(w);
	}
}

static void draws_depend_on_seed_and_index_alone(void **state)
{
	struct pkvrt_workload_params p = { .nr_requests = 200, .seed = 7 };
	struct pkvrt_workload *a, *b, *c;
	uint32_t nr_equal = 0;

	(void)state;
	a = create(&p);
	p.nr_requests = 100;
	p.rate = 2;
	b = create(&p);
	p.seed = 8;
	c = create(&p);
	for (uint32_t i = 0; i < 100; i++) {
		uint32_t ta[4], tb[4];

		assert_int_equal(a->reqs[i].prompt_tokens, b->reqs[i].prompt_tokens);
		assert_int_equal(a->reqs[i].output_tokens, b->reqs[i].output_tokens);
		assert_int_equal(pkvrt_workload_request_seed(a, i),
				 pkvrt_workload_request_seed(b, i));
		pkvrt_workload_tokens(a, i, 0, 1, VOCAB, ta);
		pkvrt_workload_tokens(b, i, 0, 1, VOCAB, tb);
		assert_int_equal(ta[0], tb[0]);
		nr_equal += a->reqs[i].prompt_tokens == c->reqs[i].prompt_tokens &&
			    a->reqs[i].output_tokens == c->reqs[i].output_tokens;
	}
	assert_true(nr_equal < 20);
	pkvrt_workload_destroy(a);
	pkvrt_workload_destroy(b);
	pkvrt_workload_destroy(c);
}

static void poisson_arrivals_have_their_rate(void **state)
{
	struct pkvrt_workload *w = create(&(struct pkvrt_workload_params){
		.nr_requests = 100000, .seed = 3, .rate = 50 });
	uint32_t nr_long = 0;

	(void)state;
	for (uint32_t i = 1; i < w->nr_reqs; i++) {
		assert_true(w->reqs[i].arrival_ns >= w->reqs[i - 1].arrival_ns);
		nr_long += w->reqs[i].arrival_ns - w->reqs[i - 1].arrival_ns > 20000000;
	}
	assert_true(fabs((double)w->reqs[w->nr_reqs - 1].arrival_ns / 2000e9 - 1) < 0.02);
	/* an exponential gap is longer than its mean with probability 1/e */
	assert_true(fabs(nr_long / 100000. - exp(-1)) < 0.01);
	pkvrt_workload_destroy(w);
}

static void a_total_limits_what_is_drawn(void **state)
{
	struct pkvrt_workload *w = create(&(struct pkvrt_workload_params){
		.nr_requests = 5000, .max_total_tokens = 116, .shared_prefix_tokens = 100 });

	(void)state;
	assert_true(w->max_total_tokens <= 116);
	for (uint32_t i = 0; i < w->nr_reqs; i++)
		assert_true(w->reqs[i].prompt_tokens > 100);
	pkvrt_workload_destroy(w);
}

static void tokens_are_in_the_vocabulary_and_spread(void **state)
{
	struct pkvrt_workload *w = create(&(struct pkvrt_workload_params){ .nr_requests = 2 });
	uint32_t *t = malloc(10000 * sizeof(*t)), count[16] = { 0 };

	(void)state;
	w->reqs[1].prompt_tokens = 10000;
	pkvrt_workload_tokens(w, 1, 0, 10000, 16, t);
	for (int i = 0; i < 10000; i++) {
		assert_true(t[i] < 16);
		count[t[i]]++;
	}
	for (int i = 0; i < 16; i++)
		assert_in_range(count[i], 500, 750);
	free(t);
	pkvrt_workload_destroy(w);
}

static void a_range_of_tokens_is_a_piece_of_the_whole(void **state)
{
	struct pkvrt_workload *w = read_text(
		"{\"timestamp\": 0, \"input_length\": 1300, \"output_length\": 1, "
		"\"hash_ids\": [5, 6]}\n",
		(struct pkvrt_workload_params){ .shared_prefix_tokens = 100 });
	uint32_t whole[1400], part[1400];

	(void)state;
	assert_int_equal(w->reqs[0].prompt_tokens, 1400);
	pkvrt_workload_tokens(w, 0, 0, 1400, VOCAB, whole);
	for (uint32_t at = 0, nr = 1; at < 1400; at += nr, nr = nr * 3 % 251 + 1) {
		if (nr > 1400 - at)
			nr = 1400 - at;
		pkvrt_workload_tokens(w, 0, at, nr, VOCAB, part + at);
	}
	assert_memory_equal(whole, part, sizeof(whole));
	pkvrt_workload_destroy(w);
}

static void equal_hash_ids_are_equal_content(void **state)
{
	struct pkvrt_workload *w = read_text(
		"{\"timestamp\": 0, \"input_length\": 1100, \"output_length\": 1, "
		"\"hash_ids\": [1, 2, 3]}\n"
		"{\"timestamp\": 0, \"input_length\": 1536, \"output_length\": 1, "
		"\"hash_ids\": [1, 9, 3]}\n", (struct pkvrt_workload_params){ 0 });
	uint32_t a[1100], b[1536];

	(void)state;
	pkvrt_workload_tokens(w, 0, 0, 1100, VOCAB, a);
	pkvrt_workload_tokens(w, 1, 0, 1536, VOCAB, b);
	assert_memory_equal(a, b, 512 * sizeof(*a));
	assert_memory_not_equal(a + 512, b + 512, 512 * sizeof(*a));
	assert_memory_equal(a + 1024, b + 1024, 76 * sizeof(*a));
	pkvrt_workload_destroy(w);
}

static void the_shared_prefix_is_common_and_the_rest_is_not(void **state)
{
	struct pkvrt_workload *w = create(&(struct pkvrt_workload_params){
		.nr_requests = 2, .shared_prefix_tokens = 80, .seed = 5 });
	uint32_t a[96], b[96];

	(void)state;
	w->reqs[0].prompt_tokens = 96;
	w->reqs[1].prompt_tokens = 96;
	pkvrt_workload_tokens(w, 0, 0, 96, VOCAB, a);
	pkvrt_workload_tokens(w, 1, 0, 96, VOCAB, b);
	assert_memory_equal(a, b, 80 * sizeof(*a));
	assert_memory_not_equal(a + 80, b + 80, 16 * sizeof(*a));
	pkvrt_workload_destroy(w);
}

static void csv_of_lengths(void **state)
{
	static const char *const same[] = {
		"prompt_tokens,output_tokens\n21,518\n8,66\n1,1\n",
		"21,518\n8,66\n1,1",
		"\xef\xbb\xbfprompt,output\r\n\r\n 21 , 518\r\n8,66\r\n1,1\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct pkvrt_workload *w = read_text(same[i], (struct pkvrt_workload_params){ 0 });

		assert_int_equal(w->source, PKVRT_SOURCE_LENGTHS_CSV);
		assert_int_equal(w->nr_reqs, 3);
		assert_int_equal(w->reqs[0].prompt_tokens, 21);
		assert_int_equal(w->reqs[0].output_tokens, 518);
		assert_int_equal(w->sum_prompt_tokens, 30);
		assert_int_equal(w->sum_output_tokens, 585);
		assert_int_equal(w->max_total_tokens, 539);
		pkvrt_workload_destroy(w);
	}
}

static void azure_csv(void **state)
{
	struct pkvrt_workload *w = read_text(
		"TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
		"2024-02-28 23:59:59.9999999,374,44\r\n"
		"2024-02-29T00:00:01,396,109\r\n"
		"2024-03-01 01:00:00.5+01:00,5,6\r\n", (struct pkvrt_workload_params){ 0 });

	(void)state;
	assert_int_equal(w->source, PKVRT_SOURCE_AZURE_CSV);
	assert_int_equal(w->nr_reqs, 3);
	assert_int_equal(w->reqs[0].arrival_ns, 0);
	assert_int_equal(w->reqs[1].arrival_ns, 1000000100);
	assert_int_equal(w->reqs[2].arrival_ns, 86400500000100);
	assert_int_equal(w->reqs[1].prompt_tokens, 396);
	assert_int_equal(w->reqs[1].output_tokens, 109);
	pkvrt_workload_destroy(w);
}

static void mooncake(void **state)
{
	struct pkvrt_workload *w = read_text(
		"{\"timestamp\": 1000, \"input_length\": 513, \"output_length\": 5, "
		"\"hash_ids\": [0, 1]}\n"
		"{\"timestamp\": 1500.5, \"input_length\": 5, \"output_length\": 6, "
		"\"hash_ids\": [7], \"priority\": -2, \"other\": null}\n"
		"{\"timestamp\": 2000, \"input_length\": 9999, \"output_length\": 1}\n",
		(struct pkvrt_workload_params){ 0 });

	(void)state;
	assert_int_equal(w->source, PKVRT_SOURCE_MOONCAKE);
	assert_int_equal(w->nr_reqs, 3);
	assert_int_equal(w->nr_hash_ids, 3);
	assert_int_equal(w->reqs[0].nr_hashes, 2);
	assert_int_equal(w->reqs[1].arrival_ns, 500500000);
	assert_int_equal(w->reqs[1].priority, -2);
	assert_int_equal(w->hash_ids[w->reqs[1].first_hash], 7);
	assert_int_equal(w->reqs[2].nr_hashes, 0);
	pkvrt_workload_destroy(w);
}

static void dropped_requests_are_counted_and_leave_no_hash_ids(void **state)
{
	struct pkvrt_workload *w = read_text(
		"{\"timestamp\": 0, \"input_length\": 2047, \"output_length\": 2, "
		"\"hash_ids\": [1, 2, 3, 4]}\n"
		"{\"timestamp\": 0, \"input_length\": 0, \"output_length\": 2, \"hash_ids\": []}\n"
		"{\"timestamp\": 0, \"input_length\": 2, \"output_length\": 0, \"hash_ids\": [8]}\n"
		"{\"timestamp\": 0, \"input_length\": 2046, \"output_length\": 2, "
		"\"hash_ids\": [9, 10, 11, 12]}\n",
		(struct pkvrt_workload_params){ .max_total_tokens = 2048 });

	(void)state;
	assert_int_equal(w->nr_reqs, 1);
	assert_int_equal(w->nr_dropped_long, 1);
	assert_int_equal(w->nr_dropped_empty, 2);
	assert_int_equal(w->nr_hash_ids, 4);
	assert_int_equal(w->hash_ids[w->reqs[0].first_hash], 9);
	pkvrt_workload_destroy(w);
}

static void times_out_of_order_are_sorted_stably(void **state)
{
	struct pkvrt_workload *w = read_text(
		"2023-11-16 18:15:46,1,1\n2023-11-16 18:15:45,2,1\n"
		"2023-11-16 18:15:45,3,1\n2023-11-16 18:15:44,4,1\n",
		(struct pkvrt_workload_params){ 0 });
	static const uint32_t prompt[] = { 4, 2, 3, 1 };

	(void)state;
	assert_int_equal(w->nr_out_of_order, 2);
	for (int i = 0; i < 4; i++)
		assert_int_equal(w->reqs[i].prompt_tokens, prompt[i]);
	assert_int_equal(w->reqs[0].arrival_ns, 0);
	assert_int_equal(w->reqs[3].arrival_ns, 2000000000);
	pkvrt_workload_destroy(w);
}

static void a_rate_replaces_the_times_of_a_trace(void **state)
{
	static const char text[] = "2023-11-16 18:15:46,1,1\n2023-11-16 19:15:46,2,1\n";
	struct pkvrt_workload *w;

	(void)state;
	w = read_text(text, (struct pkvrt_workload_params){ .rate = INFINITY });
	assert_int_equal(w->reqs[1].arrival_ns, 0);
	pkvrt_workload_destroy(w);
	w = read_text(text, (struct pkvrt_workload_params){ .rate = 1000 });
	assert_true(w->reqs[1].arrival_ns < 1000000000);
	assert_true(w->reqs[1].arrival_ns > 0);
	pkvrt_workload_destroy(w);
}

static void a_count_takes_the_first_that_are_kept(void **state)
{
	struct pkvrt_workload *w = read_text("0,5\n1,1\n2,2\n3,3\nnot looked at\n",
		(struct pkvrt_workload_params){ .nr_requests = 2 });

	(void)state;
	assert_int_equal(w->nr_reqs, 2);
	assert_int_equal(w->reqs[1].prompt_tokens, 2);
	pkvrt_workload_destroy(w);
}

#define MC(members) "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 6}\n{" members "}\n"

static const struct {
	const char *text;
	int err;
	const char *cause;
} bad[] = {
	{ "", -EINVAL, "is empty" },
	{ "\n \r\n\n", -EINVAL, "blank" },
	{ "\x7f" "ELF\x02\x01\x01", -EINVAL, "line 1: not a trace" },
	{ "\x1f\x8b\x08", -EINVAL, "gzip" },
	{ "hello\n", -EINVAL, "line 1: not a trace" },
	{ "1,2,3,4,5,6\n", -EINVAL, "line 1: not a trace" },
	{ ",\n", -EINVAL, "line 1: not a trace" },
	{ "prompt,output\n", -ENODATA, "no request left" },
	{ "output,prompt\n1,2\n", -EINVAL, "line 1: columns" },
	{ "1,2\n-3,4\n", -EINVAL, "line 2: prompt tokens are '-3'" },
	{ "1,2\n3,4x\n", -EINVAL, "line 2: output tokens are '4x'" },
	{ "1,2\n3,16777217\n", -EINVAL, "line 2: output" },
	{ "1,2\n99999999999999999999999,1\n", -EINVAL, "line 2: prompt" },
	{ "1,2\n3,\n", -EINVAL, "line 2: output tokens are ''" },
	{ "1,2\n3\n", -EINVAL, "line 2: not two columns" },
	{ "1,2\n3,4,5\n", -EINVAL, "line 2: not two columns" },
	{ "1,2\n\x1b[31m,4\n", -EINVAL, "'?[31m'" },
	{ "0,1\n1,0\n", -ENODATA, "2 without tokens" },
	{ "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-02-29 18:15:46,1,2\n", -EINVAL,
	  "line 2: '2023-02-29 18:15:46' is not a time" },
	{ "2023-11-16 18:15:46,1,2\n2023-11-16 24:00:00,1,2\n", -EINVAL, "line 2: '" },
	{ "2023-11-16 18:15:46,1,2\n2023-11-16 18:15,1,2\n", -EINVAL, "line 2: '" },
	{ "2023-11-16 18:15:46,1,2\n2023-11-16 18:15:46.,1,2\n", -EINVAL, "line 2: '" },
	{ "2023-11-16 18:15:46,1,2\n9999-11-16 18:15:46,1,2\n", -EINVAL, "line 2: '" },
	{ "2023-11-16 18:15:46,1,2\n1970-01-01 00:00:00+01:00,1,2\n", -EINVAL, "line 2: '" },
	{ "2023-11-16 18:15:46,1,2\n2023-11-16 18:15:46,1\n", -EINVAL, "line 2: not three" },
	{ "{\"timestamp\": 0, \"input_len", -EINVAL, "line 1: column" },
	{ "{}\n", -EINVAL, "line 1: has no \"timestamp\"" },
	{ MC("\"timestamp\": 0"), -EINVAL, "line 2: has no \"input_length\"" },
	{ MC("\"timestamp\": 0, \"timestamp\": 0"), -EINVAL, "line 2: column" },
	{ MC("\"timestamp\": -1, \"input_length\": 5, \"output_length\": 6"), -EINVAL, "-1" },
	{ MC("\"timestamp\": 1e300, \"input_length\": 5, \"output_length\": 6"), -EINVAL,
	  "1e+300" },
	{ MC("\"timestamp\": 99999999999999999999, \"input_length\": 5"), -EINVAL, "column" },
	{ MC("\"timestamp\": \"0\""), -EINVAL, "line 2: has no \"timestamp\"" },
	{ MC("\"timestamp\": 0, \"input_length\": 5.0, \"output_length\": 6"), -EINVAL,
	  "\"input_length\" is not an integer" },
	{ MC("\"timestamp\": 0, \"input_length\": 5, \"output_length\": -6"), -EINVAL, "-6" },
	{ MC("\"timestamp\": 0, \"input_length\": 1000000000, \"output_length\": 6"), -EINVAL,
	  "\"input_length\" is 1000000000, not in 0 to 16777216" },
	{ MC("\"timestamp\": 0, \"input_length\": 5, \"output_length\": 6, \"hash_ids\": 3"),
	  -EINVAL, "not an array" },
	{ MC("\"timestamp\": 0, \"input_length\": 5, \"output_length\": 6, \"hash_ids\": [1, 2]"),
	  -EINVAL, "2 hash_ids for 5 tokens" },
	{ MC("\"timestamp\": 0, \"input_length\": 5, \"output_length\": 6, \"hash_ids\": [-1]"),
	  -EINVAL, "hash_ids[0]" },
	{ MC("\"timestamp\": 0, \"input_length\": 600, \"output_length\": 6, \"hash_ids\": []"),
	  -EINVAL, "0 hash_ids for 600 tokens" },
	{ "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 6}\n1,2\n", -EINVAL,
	  "line 2" },
};

static void bad_traces_are_refused_with_their_cause(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		write_trace(bad[i].text, strlen(bad[i].text));
		expect_error(&(struct pkvrt_workload_params){ .trace = path }, bad[i].err,
			     bad[i].cause);
	}
}

static void a_nul_byte_and_an_endless_line_are_refused(void **state)
{
	size_t len = (4u << 20) + 2;
	char *text = malloc(len);

	(void)state;
	write_trace("1,2\n3\0,4\n", 9);
	expect_error(&(struct pkvrt_workload_params){ .trace = path }, -EINVAL, "line 2: a NUL");
	memset(text, '1', len);
	write_trace(text, len);
	expect_error(&(struct pkvrt_workload_params){ .trace = path }, -E2BIG, "line 1: longer");
	memset(text, '[', len);
	memcpy(text, "{\"a\":", 5);
	text[1000000] = '\n';
	write_trace(text, len);
	expect_error(&(struct pkvrt_workload_params){ .trace = path }, -EINVAL, "line 1: column");
	free(text);
}

static void more_requests_than_the_maximum_are_refused(void **state)
{
	char block[4096];
	FILE *f;

	(void)state;
	for (size_t i = 0; i < sizeof(block); i += 4)
		memcpy(block + i, "1,1\n", 4);
	write_trace("", 0);
	f = fopen(path, "w");
	assert_non_null(f);
	for (size_t i = 0; i <= PKVRT_MAX_REQUESTS / 1024; i++)
		assert_int_equal(fwrite(block, sizeof(block), 1, f), 1);
	assert_int_equal(fclose(f), 0);
	expect_error(&(struct pkvrt_workload_params){ .trace = path }, -E2BIG,
		     "line 4194305: more than 4194304 requests");
}

static void what_is_not_a_file_is_refused(void **state)
{
	struct pkvrt_workload_params p = { .trace = path };
	char long_name[6000];

	(void)state;
	unlink(path);
	expect_error(&p, -ENOENT, "No such file");
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_error(&p, -EINVAL, "is a FIFO");
	unlink(path);
	p.trace = dir;
	expect_error(&p, -EISDIR, "is a directory");
	p.trace = "/dev/null";
	expect_error(&p, -EINVAL, "is a device");
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	p.trace = long_name;
	assert_int_equal(pkvrt_workload_create(&(struct pkvrt_workload *){ NULL }, &p, NULL, 0),
			 -ENAMETOOLONG);
}

static void bad_parameters_are_refused(void **state)
{
	static const struct pkvrt_workload_params p[] = {
		{ .nr_requests = 0 },
		{ .nr_requests = PKVRT_MAX_REQUESTS + 1 },
		{ .nr_requests = 1, .rate = -1 },
		{ .nr_requests = 1, .rate = NAN },
		{ .nr_requests = 1, .rate = 1e10 },
		{ .nr_requests = 1, .rate = 1e-9 },
		{ .nr_requests = 1, .max_total_tokens = 15 },
		{ .nr_requests = 1, .shared_prefix_tokens = 2033 },
		{ .nr_requests = 1, .shared_prefix_tokens = UINT32_MAX },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(p) / sizeof(p[0]); i++)
		expect_error(&p[i], -EINVAL, "");
}

/* The files that the readers were written for, where they are. */
static struct pkvrt_workload *read_real(const char *name, uint32_t max_total_tokens)
{
	const char *traces = getenv("PAGEDKV_TRACES"), *src = getenv("SRC");
	char file[4096];

	if (traces)
		snprintf(file, sizeof(file), "%s/%s", traces, name);
	else
		snprintf(file, sizeof(file), "%s/../shared/traces/%s", src ? src : ".", name);
	if (access(file, R_OK))
		skip();
	return create(&(struct pkvrt_workload_params){
		.trace = file, .max_total_tokens = max_total_tokens });
}

static void the_real_lengths_of_sharegpt(void **state)
{
	struct pkvrt_workload *w = read_real("sharegpt_lengths.csv", 2048);

	(void)state;
	assert_int_equal(w->nr_reqs, 79731);
	assert_int_equal(w->nr_dropped_long, 84226 - 79731);
	assert_int_equal(w->sum_prompt_tokens, 12861397);
	pkvrt_workload_destroy(w);
}

static void the_real_trace_of_azure(void **state)
{
	struct pkvrt_workload *w = read_real("azure_conv_2023.csv", 0);

	(void)state;
	assert_int_equal(w->nr_reqs, 19366);
	assert_int_equal(w->reqs[1].arrival_ns, 4314579000);
	pkvrt_workload_destroy(w);
}

static void the_real_trace_of_mooncake(void **state)
{
	struct pkvrt_workload *w = read_real("mooncake_conversation.jsonl", 0);

	(void)state;
	assert_int_equal(w->nr_reqs, 12031);
	assert_int_equal(w->reqs[12030].arrival_ns, 3536999000000);
	pkvrt_workload_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drawn_means_are_those_of_sharegpt),
		cmocka_unit_test(draws_depend_on_seed_and_index_alone),
		cmocka_unit_test(poisson_arrivals_have_their_rate),
		cmocka_unit_test(a_total_limits_what_is_drawn),
		cmocka_unit_test(tokens_are_in_the_vocabulary_and_spread),
		cmocka_unit_test(a_range_of_tokens_is_a_piece_of_the_whole),
		cmocka_unit_test(equal_hash_ids_are_equal_content),
		cmocka_unit_test(the_shared_prefix_is_common_and_the_rest_is_not),
		cmocka_unit_test(csv_of_lengths),
		cmocka_unit_test(azure_csv),
		cmocka_unit_test(mooncake),
		cmocka_unit_test(dropped_requests_are_counted_and_leave_no_hash_ids),
		cmocka_unit_test(times_out_of_order_are_sorted_stably),
		cmocka_unit_test(a_rate_replaces_the_times_of_a_trace),
		cmocka_unit_test(a_count_takes_the_first_that_are_kept),
		cmocka_unit_test(bad_traces_are_refused_with_their_cause),
		cmocka_unit_test(a_nul_byte_and_an_endless_line_are_refused),
		cmocka_unit_test(more_requests_than_the_maximum_are_refused),
		cmocka_unit_test(what_is_not_a_file_is_refused),
		cmocka_unit_test(bad_parameters_are_refused),
		cmocka_unit_test(the_real_lengths_of_sharegpt),
		cmocka_unit_test(the_real_trace_of_azure),
		cmocka_unit_test(the_real_trace_of_mooncake),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("workload", tests, make_dir, remove_dir);
}
