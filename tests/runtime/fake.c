// SPDX-License-Identifier: GPL-2.0-only
/* See fake.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake.h"

#define VOCAB 997u

static struct fake_cell *page(struct fake *f, uint32_t tier, uint32_t slot)
{
	assert_true(slot < f->cfg->nr_pages[tier]);
	return f->tiers[tier] + (size_t)slot * f->cfg->page_tokens;
}

static size_t page_bytes(const struct fake *f)
{
	return f->cfg->page_tokens * sizeof(struct fake_cell);
}

static int fake_copy(void *ctx, const struct pagedkv_move *copies, uint32_t nr)
{
	struct fake *f = ctx;

	for (uint32_t i = 0; i < nr; i++)
		memcpy(page(f, PAGEDKV_DEVICE, copies[i].dst_slot),
		       page(f, PAGEDKV_DEVICE, copies[i].src_slot), page_bytes(f));
	return 0;
}

/* A move that fails leaves garbage behind. */
static int fake_move(void *ctx, const struct pagedkv_move *m)
{
	struct fake *f = ctx;
	struct fake_cell *dst = page(f, m->dst_tier, m->dst_slot);

	if (f->cfg->fail_one_in && !pkvrt_rng_below(&f->rng, f->cfg->fail_one_in)) {
		memset(dst, 0x5a, page_bytes(f));
		f->nr_failed_moves++;
		return -EIO;
	}
	memcpy(dst, page(f, m->src_tier, m->src_slot), page_bytes(f));
	return 0;
}

static struct fake_cell *cell(struct fake *f, const struct pkvrt_chunk *c, uint32_t position)
{
	uint32_t index = position / f->cfg->page_tokens;

	assert_true(index < c->nr_slots);
	return page(f, PAGEDKV_DEVICE, c->slots[index]) + position % f->cfg->page_tokens;
}

/* Everything before the chunk must be there, in order. */
static uint64_t check_history(struct fake *f, const struct pkvrt_chunk *c)
{
	uint64_t history = 0;

	for (uint32_t i = 0; i < c->start; i++) {
		const struct fake_cell *at = cell(f, c, i);

		assert_int_equal(at->position, i);
		history = pkvrt_mix2(history, at->token);
		assert_int_equal(at->history, history);
	}
	return history;
}

static void draw(struct pkvrt_draw *d, uint64_t history)
{
	if (d->kind != PKVRT_TOP) {
		uint64_t seed = d->kind == PKVRT_SAMPLE ? d->seed : 0;

		d->out.token = (uint32_t)pkvrt_scale64(pkvrt_mix2(history, seed), VOCAB);
		return;
	}
	for (uint32_t i = 0; i < d->nr_top; i++) {
		d->top[i].token = (uint32_t)pkvrt_scale64(pkvrt_mix2(history, i), VOCAB);
		d->top[i].logprob = -0.5f * (float)i -
				    (float)pkvrt_scale64(pkvrt_mix64(history), 1000) * 1e-3f;
	}
}

static void compute_chunk(struct fake *f, struct pkvrt_chunk *c)
{
	uint64_t history = check_history(f, c);

	for (uint32_t i = 0; i < c->nr_tokens; i++) {
		struct fake_cell *at = cell(f, c, c->start + i);

		history = pkvrt_mix2(history, c->tokens[i]);
		at->history = history;
		at->token = c->tokens[i];
		at->position = c->start + i;
	}
	for (uint32_t i = 0; i < c->nr_draws; i++)
		draw(&c->draws[i], history);
}

/* A page that is written belongs to one sequence alone. */
static void check_writers(struct fake *f, const struct pkvrt_chunk *chunks, unsigned int nr)
{
	memset(f->writers, 0, f->cfg->nr_pages[PAGEDKV_DEVICE]);
	memset(f->readers, 0, f->cfg->nr_pages[PAGEDKV_DEVICE]);
	for (unsigned int i = 0; i < nr; i++) {
		const struct pkvrt_chunk *c = &chunks[i];
		uint32_t first = c->start / f->cfg->page_tokens;
		uint32_t last = (c->start + c->nr_tokens - 1) / f->cfg->page_tokens;

		assert_true(c->nr_tokens > 0);
		assert_true(last < c->nr_slots);
		for (uint32_t j = 0; j <= last; j++)
			f->readers[c->slots[j]]++;
		for (uint32_t j = first; j <= last; j++)
			f->writers[c->slots[j]]++;
	}
	for (uint32_t i = 0; i < f->cfg->nr_pages[PAGEDKV_DEVICE]; i++)
		if (f->writers[i])
			assert_int_equal(f->readers[i], 1);
}

/* A table that is kept, and changed where a chunk says that it may have changed, is right. */
static void check_table(struct fake *f, const struct pkvrt_chunk *c)
{
	struct fake_table *t;

	assert_true(c->table_row < FAKE_MAX_TABLES);
	t = &f->tables[c->table_row];
	assert_true(t->step != f->nr_steps);
	t->step = f->nr_steps;
	assert_true(c->nr_same <= c->nr_slots && c->nr_same <= t->nr);
	t->slots = realloc(t->slots, c->nr_slots * sizeof(*t->slots));
	assert_non_null(t->slots);
	assert_memory_equal(t->slots, c->slots, c->nr_same * sizeof(*t->slots));
	memcpy(t->slots, c->slots, c->nr_slots * sizeof(*t->slots));
	t->nr = c->nr_slots;
	f->nr_same += c->nr_same;
}

static int fake_step(void *ctx, struct pkvrt_chunk *chunks, unsigned int nr)
{
	struct fake *f = ctx;
	uint32_t tokens = 0;

	check_writers(f, chunks, nr);
	f->nr_steps++;
	for (unsigned int i = 0; i < nr; i++) {
		tokens += chunks[i].nr_tokens;
		check_table(f, &chunks[i]);
		compute_chunk(f, &chunks[i]);
	}
	assert_true(tokens <= f->cfg->budget_tokens);
	f->now_ns += 1000000;
	return 0;
}

static uint64_t fake_now(void *ctx)
{
	return ((struct fake *)ctx)->now_ns;
}

static void fake_idle(void *ctx, uint64_t until_ns)
{
	struct fake *f = ctx;

	if (until_ns > f->now_ns)
		f->now_ns = until_ns;
}

static const struct pkvrt_compute_ops fake_compute = {
	.step = fake_step,
	.now_ns = fake_now,
	.idle = fake_idle,
};

static int fake_output(void *ctx, uint32_t req, uint32_t seq, const uint32_t *tokens,
		       uint32_t nr_tokens)
{
	struct fake *f = ctx;
	size_t at = (size_t)req * FAKE_MAX_SEQS + seq;

	assert_true(seq < FAKE_MAX_SEQS);
	assert_null(f->output[at]);
	f->output[at] = malloc(nr_tokens * sizeof(uint32_t));
	assert_non_null(f->output[at]);
	memcpy(f->output[at], tokens, nr_tokens * sizeof(uint32_t));
	f->nr_output[at] = nr_tokens;
	return 0;
}

static int fake_check(void *ctx, const struct pkvrt_sched *s)
{
	struct fake *f = ctx;
	const char *why;

	(void)s;
	if (f->pool && pagedkv_check(f->pool, &why))
		fail_msg("%s", why);
	return 0;
}

static void make_memory(struct fake *f)
{
	uint32_t nr = f->cfg->nr_pages[PAGEDKV_DEVICE];

	for (int t = 0; t < PAGEDKV_NR_TIERS; t++) {
		f->tiers[t] = calloc(f->cfg->nr_pages[t] + 1u, page_bytes(f));
		assert_non_null(f->tiers[t]);
		memset(f->tiers[t], 0xa5, f->cfg->nr_pages[t] * page_bytes(f));
	}
	f->writers = calloc(nr, 1);
	f->readers = calloc(nr, 1);
	f->output = calloc((size_t)f->nr_reqs * FAKE_MAX_SEQS, sizeof(*f->output));
	f->nr_output = calloc((size_t)f->nr_reqs * FAKE_MAX_SEQS, sizeof(*f->nr_output));
	assert_true(f->writers && f->readers && f->output && f->nr_output);
}

static void make_pool(struct fake *f)
{
	struct pagedkv_params kp = { .size = sizeof(kp), .backend = PAGEDKV_BACKEND_EMBEDDED };
	struct pagedkv_pool_params pp = { .size = sizeof(pp) };

	pp.classes[0].page_tokens = f->cfg->page_tokens;
	pp.classes[0].page_bytes = 64;
	memcpy(pp.classes[0].nr_slots, f->cfg->nr_pages, sizeof(f->cfg->nr_pages));
	assert_int_equal(pagedkv_open(&f->kv, &kp), 0);
	assert_int_equal(pagedkv_pool_create(f->kv, &f->pool, &pp), 0);
}

static void check_empty(struct fake *f, struct pkvrt_alloc *a)
{
	struct pagedkv_stats st = { .size = sizeof(st) };

	if (!f->pool) {
		assert_int_equal(a->ops->nr_avail(a), a->nr_pages);
		return;
	}
	assert_int_equal(pagedkv_get_stats(f->pool, 0, &st), 0);
	assert_int_equal(st.nr_seqs, 0);
	assert_int_equal(st.nr_pages, st.nr_cached);
}

int fake_serve(struct fake *f, const struct fake_config *cfg, const struct pkvrt_workload *w)
{
	struct pkvrt_alloc_params ap = {
		.policy = cfg->policy,
		.nr_pages = cfg->nr_pages[PAGEDKV_DEVICE],
		.page_tokens = cfg->page_tokens,
		.max_tokens = w->max_total_tokens,
		.copy = fake_copy,
		.move = fake_move,
		.ctx = f,
	};
	struct pkvrt_sched_params sp = {
		.workload = w,
		.compute = { .ops = &fake_compute, .ctx = f, .vocab = VOCAB },
		.shape = cfg->shape,
		.temperature = 1,
		.budget_tokens = cfg->budget_tokens,
		.max_batch = cfg->max_batch,
		.watermark_pages = cfg->watermark_pages,
		.preempt = cfg->preempt,
		.cost = { .swap_bytes_per_s = 1e9, .recompute_tokens_per_s = 1e6,
			  .page_bytes = 4000 },
		.use_prefix = cfg->use_prefix,
		.wait_ns = 1000000000,
		.metrics = &f->metrics,
		.hooks = { .ctx = f, .shape = cfg->shape_of, .output = fake_output,
			   .step = fake_check },
	};
	struct pkvrt_sched *s;
	int ret;

	memset(f, 0, sizeof(*f));
	f->cfg = cfg;
	f->nr_reqs = w->nr_reqs;
	pkvrt_rng_init(&f->rng, cfg->seed);
	make_memory(f);
	if (cfg->policy == PKVRT_POLICY_PAGED)
		make_pool(f);
	ap.pool = f->pool;
	assert_int_equal(pkvrt_metrics_init(&f->metrics, w->nr_reqs), 0);
	assert_int_equal(pkvrt_alloc_create(&sp.alloc, &ap), 0);
	assert_int_equal(pkvrt_sched_create(&s, &sp), 0);
	ret = pkvrt_sched_run(s);
	pkvrt_sched_destroy(s);
	check_empty(f, sp.alloc);
	pkvrt_alloc_destroy(sp.alloc);
	return ret;
}

void fake_exit(struct fake *f)
{
	for (size_t i = 0; i < (size_t)f->nr_reqs * FAKE_MAX_SEQS; i++)
		free(f->output[i]);
	free(f->output);
	free(f->nr_output);
	free(f->writers);
	free(f->readers);
	for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
		free(f->tiers[t]);
	for (uint32_t i = 0; i < FAKE_MAX_TABLES; i++)
		free(f->tables[i].slots);
	pagedkv_pool_destroy(f->pool);
	pagedkv_close(f->kv);
	pkvrt_metrics_exit(&f->metrics);
}
