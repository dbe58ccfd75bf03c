// SPDX-License-Identifier: GPL-2.0-only
/*
 * What page management costs on one core: a scheduler step, admission and release of a prompt, at
 * pools of a thousand to four million pages. The pool is filled and churned first, page by page
 * over many sequences, so that what is touched lies all over it; between two measurements a
 * sequence elsewhere in the pool is replaced. Medians; hashing is told apart.
 *
 * The peer is vLLM's V1 KVCacheManager (Python, pool of 65,536 pages of 16), measured on a 2-core
 * x86-64 machine, not in this run.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core.h"
#include "hash.h"

#define PAGE_TOKENS	16
#define PROMPT_TOKENS	2048
#define PROMPT_PAGES	(PROMPT_TOKENS / PAGE_TOKENS)
#define NR_RUNS		1001
#define NR_CYCLES	201
#define MAX_STEP_SEQS	1024

#define PEER		"vLLM V1"
#define PEER_STEP_US	2447.0	/* one token to each of 1,024 sequences */
#define PEER_STEP256_US	524.0	/* of 256 */
#define PEER_COLD_US	79.5	/* admit a 2,048-token prompt, nothing cached */
#define PEER_CACHED_US	104.0	/* all cached */
#define PEER_FREE_US	19.7
#define PEER_HASH_US	167.0	/* SHA-256 of that prompt */

struct bench {
	struct pkv_pool pool;
	struct mutex lock;
	uint32_t nr_pages;
	const char *size;		/* in words */
	uint64_t *seqs;			/* that fill the pool */
	uint32_t nr_seqs, nr_step;	/* the first nr_step take part in steps */
	uint32_t seq_pages;
	struct pkv_key *prompts;	/* PROMPT_PAGES keys each, cached */
	uint32_t nr_prompts;
	struct pkv_op ops[MAX_STEP_SEQS];
	struct pkv_delta deltas[MAX_STEP_SEQS + PROMPT_PAGES];
	struct pkv_move_desc copies[4];
	uint64_t rng;
	bool json;
};

static uint64_t rnd(struct bench *b)
{
	uint64_t x = b->rng += 0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec * 1e-3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, size_t nr)
{
	qsort(v, nr, sizeof(*v), compare);
	return v[nr / 2];
}

static void report(const struct bench *b, const char *what, double value, const char *unit,
		   double peer)
{
	char name[128];

	snprintf(name, sizeof(name), "%s, pool of %s pages", what, b->size);
	if (b->json) {
		printf("{\"name\":\"%s\",\"value\":%.3f,\"unit\":\"%s\"", name, value, unit);
		if (peer > 0)
			printf(",\"peer\":\"" PEER "\",\"peer_value\":%.1f,\"ratio\":%.1f", peer,
			       peer / value);
		printf("}\n");
	} else if (peer > 0) {
		printf("%s: %.2f %s (" PEER ": %.1f, %.1f)\n", name, value, unit, peer,
		       peer / value);
	} else {
		printf("%s: %.2f %s\n", name, value, unit);
	}
	fflush(stdout);
}

/* Apply the first @nr of b->ops. */
static int step(struct bench *b, uint32_t nr)
{
	struct pkv_step st = {
		.ops = b->ops, .nr_ops = nr, .deltas = b->deltas,
		.max_deltas = MAX_STEP_SEQS + PROMPT_PAGES, .copies = b->copies, .max_copies = 4,
	};

	return pkv_pool_step(&b->pool, &st);
}

static int one_op(struct bench *b, uint64_t seq, uint32_t type, uint32_t arg)
{
	b->ops[0] = (struct pkv_op){ .seq = seq, .type = type, .arg = arg };
	return step(b, 1);
}

static int create(struct bench *b, const struct pkv_key *keys, uint32_t nr_keys, uint64_t *seq,
		  uint32_t *nr_hits)
{
	__u64 out = 0;
	int err = pkv_seq_create(&b->pool, 0, keys, nr_keys, 1, 0, &out, nr_hits);

	*seq = out;
	return err;
}

static void draw_keys(struct bench *b, struct pkv_key *keys, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		keys[i] = (struct pkv_key){ .lo = rnd(b), .hi = rnd(b) };
}

/* Sequences grow a page at a time, any of them next. */
static int fill(struct bench *b)
{
	uint64_t total = (uint64_t)b->nr_seqs * b->seq_pages;
	uint32_t nr_hits;
	int err = 0;

	for (uint32_t i = 0; i < b->nr_seqs && !err; i++) {
		err = create(b, NULL, 0, &b->seqs[i], &nr_hits);
		if (!err)
			err = one_op(b, b->seqs[i], PKV_OP_APPEND, PAGE_TOKENS);
	}
	for (uint64_t i = b->nr_seqs; i < total && !err; i++)
		err = one_op(b, b->seqs[rnd(b) % b->nr_seqs], PKV_OP_APPEND, PAGE_TOKENS);
	return err;
}

/* Another sequence takes the place of one; its pages are new, and those of others in between. */
static int replace(struct bench *b)
{
	uint32_t i = rnd(b) % b->nr_seqs, nr_pages, nr_hits;
	struct pkv_seq_info info;
	int err = pkv_seq_info(&b->pool, b->seqs[i], &info);

	if (err)
		return err;
	nr_pages = info.nr_pages;
	err = one_op(b, b->seqs[i], PKV_OP_FREE, 0);
	if (!err)
		err = create(b, NULL, 0, &b->seqs[i], &nr_hits);
	if (!err)
		err = one_op(b, b->seqs[i], PKV_OP_APPEND, PAGE_TOKENS);
	while (--nr_pages && !err)
		err = one_op(b, b->seqs[rnd(b) % 2 ? rnd(b) % b->nr_seqs : i], PKV_OP_APPEND,
			     PAGE_TOKENS);
	return err;
}

/* Prompts of earlier requests, published and let go. */
static int cache_prompts(struct bench *b)
{
	uint32_t nr_hits;
	uint64_t seq;
	int err = 0;

	draw_keys(b, b->prompts, b->nr_prompts * PROMPT_PAGES);
	for (uint32_t i = 0; i < b->nr_prompts && !err; i++) {
		const struct pkv_key *keys = b->prompts + (size_t)i * PROMPT_PAGES;

		err = create(b, keys, PROMPT_PAGES, &seq, &nr_hits);
		for (uint32_t j = 0; j < PROMPT_PAGES && !err; j++) {
			err = one_op(b, seq, PKV_OP_APPEND, PAGE_TOKENS);
			if (!err && b->nr_pages > 4096 && j % 4 == 0)
				err = replace(b);
		}
		if (!err && pkv_prefix_publish(&b->pool, seq, 0, keys, PROMPT_PAGES) !=
		    PROMPT_PAGES)
			err = -EIO;
		if (!err)
			err = one_op(b, seq, PKV_OP_FREE, 0);
	}
	return err;
}

static int setup(struct bench *b)
{
	struct pkv_pool_params params = {
		.nr_classes = 1, .max_seqs = 65536 * 2, .max_moves = 1024, .nr_ranks = 1,
		.classes[0] = { .page_tokens = PAGE_TOKENS, .nr_slots[PKV_DEVICE] = b->nr_pages },
	};
	int err;

	b->nr_step = b->nr_pages < 4 * MAX_STEP_SEQS ? 256 : MAX_STEP_SEQS;
	b->seq_pages = b->nr_pages < 4 * MAX_STEP_SEQS ? 2 : 32;
	b->nr_seqs = b->nr_pages / 2 / b->seq_pages;
	b->nr_prompts = b->nr_pages / 8 / PROMPT_PAGES;
	if (b->nr_prompts > 4096)
		b->nr_prompts = 4096;
	b->seqs = calloc(b->nr_seqs, sizeof(*b->seqs));
	b->prompts = calloc((size_t)b->nr_prompts * PROMPT_PAGES, sizeof(*b->prompts));
	if (!b->seqs || !b->prompts)
		return -ENOMEM;
	err = pkv_pool_init(&b->pool, &params, &b->lock);
	if (err)
		return err;
	err = fill(b);
	for (uint32_t i = 0; i < b->nr_seqs && !err; i++)
		err = replace(b);
	return err ? err : cache_prompts(b);
}

/* Every sequence at the same place in its page: one step of sixteen takes a page for each. */
static int align_steps(struct bench *b)
{
	struct pkv_seq_info info;
	int err = 0;

	for (uint32_t i = 0; i < b->nr_step && !err; i++) {
		err = pkv_seq_info(&b->pool, b->seqs[i], &info);
		if (!err && info.len_tokens % PAGE_TOKENS)
			err = one_op(b, b->seqs[i], PKV_OP_TRUNCATE,
				     info.len_tokens - info.len_tokens % PAGE_TOKENS);
	}
	return err;
}

static int take_back_cycle(struct bench *b)
{
	struct pkv_seq_info info;
	int err = 0;

	for (uint32_t i = 0; i < b->nr_step && !err; i++) {
		err = pkv_seq_info(&b->pool, b->seqs[i], &info);
		if (!err)
			err = one_op(b, b->seqs[i], PKV_OP_TRUNCATE, info.len_tokens - PAGE_TOKENS);
	}
	return err;
}

static int bench_step(struct bench *b)
{
	static double mean[NR_CYCLES], worst[NR_CYCLES];
	char name[64];
	int err = align_steps(b);

	for (int c = 0; c < NR_CYCLES && !err; c++) {
		for (int i = 0; i < PAGE_TOKENS && !err; i++) {
			double start, us;

			for (uint32_t j = 0; j < b->nr_step; j++)
				b->ops[j] = (struct pkv_op){ .seq = b->seqs[j],
							     .type = PKV_OP_APPEND, .arg = 1 };
			start = now_us();
			err = step(b, b->nr_step);
			us = now_us() - start;
			mean[c] = (i ? mean[c] : 0) + us / PAGE_TOKENS;
			worst[c] = i && worst[c] > us ? worst[c] : us;
		}
		if (!err)
			err = take_back_cycle(b);
		/* sequences that are replaced start with a whole page too */
		for (int i = 0; i < 8 && !err; i++)
			err = replace(b);
		if (!err)
			err = align_steps(b);
	}
	if (err)
		return err;
	snprintf(name, sizeof(name), "step of %u sequences, mean of a page cycle", b->nr_step);
	report(b, name, median(mean, NR_CYCLES), "us",
	       b->nr_step == MAX_STEP_SEQS ? PEER_STEP_US : PEER_STEP256_US);
	snprintf(name, sizeof(name), "step of %u sequences, worst of a page cycle", b->nr_step);
	report(b, name, median(worst, NR_CYCLES), "us", 0);
	return 0;
}

/*
 * Admit a prompt and free it. @cached: all is known but the last page, which has to be computed.
 */
static int bench_admit(struct bench *b, bool cached)
{
	static double admit[NR_RUNS], release[NR_RUNS];
	struct pkv_key fresh[PROMPT_PAGES];
	int err = 0;

	for (int i = 0; i < NR_RUNS && !err; i++) {
		const struct pkv_key *keys = fresh;
		uint32_t nr_hits, want = cached ? PROMPT_PAGES - 1 : 0;
		double start;
		uint64_t seq;

		if (cached)
			keys = b->prompts + rnd(b) % b->nr_prompts * PROMPT_PAGES;
		else
			draw_keys(b, fresh, PROMPT_PAGES);
		start = now_us();
		err = create(b, keys, PROMPT_PAGES - 1, &seq, &nr_hits);
		if (!err)
			err = one_op(b, seq, PKV_OP_APPEND, PROMPT_TOKENS - nr_hits * PAGE_TOKENS);
		admit[i] = now_us() - start;
		if (!err && nr_hits != want)
			err = -EIO;
		if (!err && (err = replace(b)))
			break;
		start = now_us();
		if (!err)
			err = one_op(b, seq, PKV_OP_FREE, 0);
		release[i] = now_us() - start;
	}
	if (err)
		return err;
	report(b, cached ? "admit 2048 tokens, cached" : "admit 2048 tokens, cold",
	       median(admit, NR_RUNS), "us", cached ? PEER_CACHED_US : PEER_COLD_US);
	report(b, cached ? "free 2048 tokens, cached" : "free 2048 tokens",
	       median(release, NR_RUNS), "us", PEER_FREE_US);
	return 0;
}

static void bench_hash(struct bench *b)
{
	static double us[NR_RUNS];
	static uint32_t tokens[PROMPT_TOKENS];
	static const uint8_t salt[PAGEDKV_SALT_BYTES];
	static struct pkv_prefix_key keys[PROMPT_PAGES];

	for (int i = 0; i < NR_RUNS; i++) {
		struct pkv_digest h;
		double start;

		for (int j = 0; j < PROMPT_TOKENS; j++)
			tokens[j] = rnd(b);
		start = now_us();
		pkv_hash_root(&h, salt, 0, PAGE_TOKENS, 0);
		pkv_hash_pages(&h, tokens, PAGE_TOKENS, PROMPT_PAGES, keys, NULL);
		us[i] = now_us() - start;
	}
	report(b, "hash 2048 tokens, SHA-256", median(us, NR_RUNS), "us", PEER_HASH_US);
}

static int bench_pool(struct bench *b, uint32_t nr_pages, const char *size)
{
	bool json = b->json;
	int err;

	memset(b, 0, sizeof(*b));
	b->json = json;
	b->nr_pages = nr_pages;
	b->size = size;
	b->rng = nr_pages;
	mutex_init(&b->lock);
	mutex_lock(&b->lock);
	err = setup(b);
	if (!err)
		err = bench_step(b);
	if (!err)
		err = bench_admit(b, true);
	if (!err)
		err = bench_admit(b, false);
	if (!err)
		report(b, "metadata of a page",
		       (double)pkv_pool_metadata_bytes(&b->pool) / nr_pages, "bytes", 0);
	if (!err && nr_pages == 65536)
		bench_hash(b);
	mutex_unlock(&b->lock);
	pkv_pool_exit(&b->pool);
	free(b->seqs);
	free(b->prompts);
	if (err)
		fprintf(stderr, "bench_pages: %s pages: %s\n", size, strerror(-err));
	return err;
}

static void pin_to_one_cpu(void)
{
	int cpu = sched_getcpu();
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu < 0 ? 0 : cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fprintf(stderr, "bench_pages: not pinned: %s\n", strerror(errno));
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "pages", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	static const struct { uint32_t nr; const char *name; } sizes[] = {
		{ 1024, "1k" }, { 65536, "64k" }, { 1 << 20, "1M" }, { 1 << 22, "4M" },
	};
	static struct bench b;
	const char *only = NULL;
	int c, rc = 0;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'j') {
			b.json = true;
		} else if (c == 'p') {
			only = optarg;
		} else {
			fprintf(stderr, "usage: bench_pages [--json] [--pages 1k|64k|1M|4M]\n");
			return 2;
		}
	}
	pin_to_one_cpu();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (!only || !strcmp(only, sizes[i].name))
			rc |= bench_pool(&b, sizes[i].nr, sizes[i].name);
	return rc ? 1 : 0;
}
