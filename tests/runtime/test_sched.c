// SPDX-License-Identifier: GPL-2.0-only
/*
 * The scheduler on a fake model whose memory is checked at every read: under pressure of
 * every kind its output is that of a run with memory for all.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake.h"

static struct pkvrt_workload *workload(uint32_t nr, uint64_t seed, uint32_t max_tokens,
				       uint32_t shared_prefix, double rate)
{
	struct pkvrt_workload_params p = {
		.nr_requests = nr,
		.seed = seed,
		.rate = rate,
		.max_total_tokens = max_tokens,
		.shared_prefix_tokens = shared_prefix,
	};
	struct pkvrt_workload *w;
	char why[PKVRT_WHY_LEN];

	assert_int_equal(pkvrt_workload_create(&w, &p, why, sizeof(why)), 0);
	return w;
}

static struct fake_config config(uint32_t device, uint32_t host, uint32_t disk)
{
	return (struct fake_config){
		.nr_pages = { device, host, disk },
		.page_tokens = 4,
		.shape = { .nr_seqs = 1 },
		.budget_tokens = 48,
		.preempt = PKVRT_PREEMPT_SWAP,
		.watermark_pages = 1,
	};
}

/* One, three samples, or a beam of four, by request. */
static void mixed_shapes(void *ctx, uint32_t req, struct pkvrt_shape *shape)
{
	static const struct pkvrt_shape shapes[] = {
		{ 1, false }, { 3, false }, { 4, true }, { 1, false }, { 2, true },
	};

	(void)ctx;
	*shape = shapes[req % (sizeof(shapes) / sizeof(shapes[0]))];
}

static struct pkvrt_shape shape_of(const struct fake_config *cfg, uint32_t req)
{
	struct pkvrt_shape shape = cfg->shape;

	if (cfg->shape_of)
		cfg->shape_of(NULL, req, &shape);
	return shape;
}

static void assert_same(const struct fake *a, const struct fake *b)
{
	for (size_t i = 0; i < (size_t)a->nr_reqs * FAKE_MAX_SEQS; i++) {
		assert_int_equal(a->nr_output[i], b->nr_output[i]);
		if (a->nr_output[i])
			assert_memory_equal(a->output[i], b->output[i],
					    a->nr_output[i] * sizeof(uint32_t));
	}
}

static void assert_complete(const struct fake *f, const struct pkvrt_workload *w)
{
	assert_int_equal(f->metrics.nr_done, w->nr_reqs);
	for (uint32_t i = 0; i < w->nr_reqs; i++)
		for (uint32_t j = 0; j < shape_of(f->cfg, i).nr_seqs; j++)
			assert_int_equal(f->nr_output[i * FAKE_MAX_SEQS + j],
					 w->reqs[i].output_tokens);
}

/* Each position of each sequence once, but for what was given up, which is counted. */
static void assert_computed_once(const struct fake *f, const struct pkvrt_workload *w)
{
	uint64_t want = 0;

	for (uint32_t i = 0; i < w->nr_reqs; i++)
		want += w->reqs[i].prompt_tokens +
			(uint64_t)shape_of(f->cfg, i).nr_seqs * (w->reqs[i].output_tokens - 1);
	assert_int_equal(f->metrics.computed_tokens - f->metrics.padding_tokens -
			 f->metrics.recomputed_tokens, want);
}

static void reference(struct fake *f, struct fake_config *cfg, const struct fake_config *like,
		      const struct pkvrt_workload *w)
{
	*cfg = *like;
	cfg->policy = PKVRT_POLICY_PAGED;
	cfg->nr_pages[PAGEDKV_DEVICE] = 20000;
	cfg->nr_pages[PAGEDKV_HOST] = 0;
	cfg->nr_pages[PAGEDKV_DISK] = 0;
	cfg->use_prefix = false;
	cfg->fail_one_in = 0;
	assert_int_equal(fake_serve(f, cfg, w), 0);
	assert_int_equal(f->metrics.nr_swap_preempts + f->metrics.nr_recompute_preempts, 0);
	assert_int_equal(f->metrics.recomputed_tokens, 0);
	assert_complete(f, w);
	assert_computed_once(f, w);
}

static void compare(const struct fake_config *cfg, const struct pkvrt_workload *w,
		    struct pkvrt_metrics *metrics)
{
	struct fake_config ref_cfg;
	struct fake ref, f;

	reference(&ref, &ref_cfg, cfg, w);
	assert_int_equal(fake_serve(&f, cfg, w), 0);
	assert_complete(&f, w);
	assert_same(&ref, &f);
	if (!cfg->use_prefix)
		assert_computed_once(&f, w);
	*metrics = f.metrics;
	fake_exit(&f);
	fake_exit(&ref);
}

/* The reference itself, against tokens made without a scheduler. */
static void test_plain(void **state)
{
	struct pkvrt_workload *w = workload(20, 1, 64, 0, INFINITY);
	struct fake_config cfg = config(20000, 0, 0);
	struct fake f;

	(void)state;
	assert_int_equal(fake_serve(&f, &cfg, w), 0);
	for (uint32_t i = 0; i < w->nr_reqs; i++) {
		uint64_t seed = pkvrt_mix2(pkvrt_workload_request_seed(w, i), 0);
		uint64_t history = 0;
		uint32_t prompt[64], token;

		pkvrt_workload_tokens(w, i, 0, w->reqs[i].prompt_tokens, 997, prompt);
		for (uint32_t j = 0; j < w->reqs[i].prompt_tokens; j++)
			history = pkvrt_mix2(history, prompt[j]);
		for (uint32_t j = 0; j < w->reqs[i].output_tokens; j++) {
			token = (uint32_t)pkvrt_scale64(pkvrt_mix2(history, seed), 997);
			assert_int_equal(f.output[i * FAKE_MAX_SEQS][j], token);
			history = pkvrt_mix2(history, token);
		}
	}
	fake_exit(&f);
	pkvrt_workload_destroy(w);
}

static void test_swap(void **state)
{
	struct pkvrt_workload *w = workload(40, 2, 64, 0, INFINITY);
	struct fake_config cfg = config(40, 30, 400);
	struct pkvrt_metrics m;

	(void)state;
	compare(&cfg, w, &m);
	assert_true(m.nr_swap_preempts > 0);
	assert_int_equal(m.nr_recompute_preempts, 0);
	assert_int_equal(m.recomputed_tokens, 0);
	pkvrt_workload_destroy(w);
}

static void test_recompute(void **state)
{
	struct pkvrt_workload *w = workload(40, 3, 64, 0, INFINITY);
	struct fake_config cfg = config(40, 30, 400);
	struct pkvrt_metrics m;

	(void)state;
	cfg.preempt = PKVRT_PREEMPT_RECOMPUTE;
	compare(&cfg, w, &m);
	assert_int_equal(m.nr_swap_preempts, 0);
	assert_true(m.nr_recompute_preempts > 0);
	assert_true(m.recomputed_tokens > 0);
	pkvrt_workload_destroy(w);
}

/* No slower tier at all: swap is asked for, and can't be had. */
static void test_no_room_to_swap(void **state)
{
	struct pkvrt_workload *w = workload(40, 4, 64, 0, INFINITY);
	struct fake_config cfg = config(40, 0, 0);
	struct pkvrt_metrics m;

	(void)state;
	compare(&cfg, w, &m);
	assert_int_equal(m.nr_swap_preempts, 0);
	assert_true(m.nr_recompute_preempts > 0);
	pkvrt_workload_destroy(w);
}

static void test_cost_model(void **state)
{
	struct pkvrt_cost c = { .swap_bytes_per_s = 1e9, .recompute_tokens_per_s = 1e4,
				.page_bytes = 1 << 20 };

	(void)state;
	assert_true(pkvrt_cost_prefers_swap(&c, 10, 1000));	/* 21 ms, 100 ms */
	assert_false(pkvrt_cost_prefers_swap(&c, 100, 1000));	/* 210 ms, 100 ms */
}

static void test_shared_prefix(void **state)
{
	struct pkvrt_workload *w = workload(40, 5, 96, 32, 1000);
	struct fake_config cfg = config(60, 60, 300);
	struct pkvrt_metrics m;

	(void)state;
	cfg.use_prefix = true;
	compare(&cfg, w, &m);
	assert_true(m.hit_tokens >= 32);
	assert_true(m.hit_tokens < m.prompt_tokens);
	pkvrt_workload_destroy(w);
}

static void test_mixed(void **state)
{
	struct pkvrt_workload *w = workload(40, 6, 48, 0, INFINITY);
	struct fake_config cfg = config(90, 60, 600);
	struct pkvrt_metrics m;

	(void)state;
	cfg.shape_of = mixed_shapes;
	compare(&cfg, w, &m);
	assert_true(m.nr_swap_preempts > 0);
	assert_true(m.whole.unique < m.whole.pages);
	cfg.preempt = PKVRT_PREEMPT_RECOMPUTE;
	compare(&cfg, w, &m);
	assert_true(m.nr_recompute_preempts > 0);
	pkvrt_workload_destroy(w);
}

static void test_baselines(void **state)
{
	struct pkvrt_workload *w = workload(30, 7, 64, 0, INFINITY);
	struct fake_config cfg = config(147, 0, 0);
	struct pkvrt_metrics m;

	(void)state;
	for (int policy = PKVRT_POLICY_ORCA_MAX; policy < PKVRT_NR_POLICIES; policy++) {
		cfg.policy = policy;
		cfg.shape_of = NULL;
		compare(&cfg, w, &m);
		assert_int_equal(m.nr_swap_preempts + m.nr_recompute_preempts, 0);
		assert_true(m.padding_tokens == 0 || policy == PKVRT_POLICY_STATIC);
		cfg.shape_of = mixed_shapes;
		compare(&cfg, w, &m);
	}
	pkvrt_workload_destroy(w);
}

/* A request that no tier could ever hold is turned away, and the others are served. */
static void test_too_large(void **state)
{
	struct pkvrt_workload *w = workload(30, 8, 64, 0, INFINITY);
	struct fake_config cfg = config(8, 8, 8);
	struct fake f;
	uint32_t nr_large = 0;

	(void)state;
	for (uint32_t i = 0; i < w->nr_reqs; i++)
		nr_large += w->reqs[i].prompt_tokens + w->reqs[i].output_tokens > 32;
	assert_true(nr_large > 0 && nr_large < w->nr_reqs);
	assert_int_equal(fake_serve(&f, &cfg, w), 0);
	assert_int_equal(f.metrics.nr_rejected, nr_large);
	assert_int_equal(f.metrics.nr_done, w->nr_reqs - nr_large);
	fake_exit(&f);
	pkvrt_workload_destroy(w);
}

/* Moves fail, pages are lost: recomputed, never wrong, and it ends. */
static void test_failing_moves(void **state)
{
	struct pkvrt_workload *w = workload(40, 9, 64, 16, INFINITY);
	uint64_t nr_broken = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 6; seed++) {
		struct fake_config cfg = config(40, 24, 200);
		struct pkvrt_metrics m;

		cfg.fail_one_in = 2 + (uint32_t)seed * 2;
		cfg.seed = seed;
		cfg.use_prefix = seed & 1;
		compare(&cfg, w, &m);
		nr_broken += m.nr_broken;
	}
	assert_true(nr_broken > 0);
	pkvrt_workload_destroy(w);
}

static void test_all_moves_fail(void **state)
{
	struct pkvrt_workload *w = workload(30, 10, 64, 0, INFINITY);
	struct fake_config cfg = config(40, 24, 200);
	struct pkvrt_metrics m;

	(void)state;
	cfg.fail_one_in = 1;
	compare(&cfg, w, &m);
	pkvrt_workload_destroy(w);
}

/* Everything at once, small and random. */
static void test_random(void **state)
{
	struct pkvrt_rng rng;

	(void)state;
	pkvrt_rng_init(&rng, 11);
	for (uint64_t round = 0; round < 120; round++) {
		uint32_t device = 64 + (uint32_t)pkvrt_rng_below(&rng, 60);
		struct fake_config cfg = config(device, (uint32_t)pkvrt_rng_below(&rng, 40),
						(uint32_t)pkvrt_rng_below(&rng, 80));
		struct pkvrt_workload *w = workload(24, round, 44,
						    4 * (uint32_t)pkvrt_rng_below(&rng, 4),
						    round & 1 ? INFINITY : 300);
		struct pkvrt_metrics m;

		cfg.page_tokens = 1u << (1 + pkvrt_rng_below(&rng, 3));
		cfg.nr_pages[PAGEDKV_DEVICE] = device * 4 / cfg.page_tokens + 8;
		cfg.budget_tokens = 8 + (uint32_t)pkvrt_rng_below(&rng, 60);
		cfg.max_batch = 4 + (uint32_t)pkvrt_rng_below(&rng, 20);
		cfg.preempt = (enum pkvrt_preempt)pkvrt_rng_below(&rng, 3);
		cfg.use_prefix = pkvrt_rng_below(&rng, 2);
		cfg.fail_one_in = pkvrt_rng_below(&rng, 2) ? 0 : 3;
		cfg.seed = round;
		if (pkvrt_rng_below(&rng, 2))
			cfg.shape_of = mixed_shapes;
		compare(&cfg, w, &m);
		pkvrt_workload_destroy(w);
	}
}

static void test_beam_choice(void **state)
{
	const struct pkvrt_candidate top[] = {
		{ 10, -1.0f }, { 11, -2.0f }, { 12, -3.0f },
		{ 20, -0.1f }, { 21, -0.2f }, { 22, -0.3f },
		{ 30, -1.0f }, { 31, -9.0f }, { 32, -9.0f },
	};
	const double scores[] = { -5, -1, -1 };
	struct pkvrt_beam_pick out[3];

	(void)state;
	pkvrt_beam_choose(scores, 3, top, 3, out);
	/* Parent 1 has all three best: it keeps one in its place, the others take the rest. */
	assert_int_equal(out[1].token, 20);
	assert_int_equal(out[0].token, 21);
	assert_int_equal(out[2].token, 22);
	for (int i = 0; i < 3; i++)
		assert_int_equal(out[i].parent, 1);
	pkvrt_beam_choose(scores + 2, 1, top + 6, 3, out);
	assert_int_equal(out[0].token, 30);
	assert_int_equal(out[1].token, 31);
	assert_int_equal(out[2].token, 32);
}

static void test_percentile(void **state)
{
	double v[] = { 5, 1, 4, 2, 3 };

	(void)state;
	assert_true(pkvrt_percentile(v, 5, 50) == 3);
	assert_true(pkvrt_percentile(v, 5, 99) == 5);
	assert_true(pkvrt_percentile(v, 5, 0) == 1);
	assert_true(pkvrt_percentile(v, 0, 50) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_beam_choice),
		cmocka_unit_test(test_percentile),
		cmocka_unit_test(test_cost_model),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_swap),
		cmocka_unit_test(test_recompute),
		cmocka_unit_test(test_no_room_to_swap),
		cmocka_unit_test(test_shared_prefix),
		cmocka_unit_test(test_mixed),
		cmocka_unit_test(test_baselines),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_failing_moves),
		cmocka_unit_test(test_all_moves_fail),
		cmocka_unit_test(test_random),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
