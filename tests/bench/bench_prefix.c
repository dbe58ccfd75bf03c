// SPDX-License-Identifier: GPL-2.0-only
/*
 * The prefix cache on a real trace (Mooncake's conversations, whose hash ids name blocks of 512
 * prompt tokens): each request in turn is matched, admitted, published and freed, in pools that
 * hold a part of the trace's distinct blocks. The hit rate is the share of prompt blocks found.
 *
 * The bound is Belady's: of what the request at hand doesn't need, the block whose next use is
 * farthest leaves; among equals the deepest in its prefix. A block's prefix is used whenever the
 * block is, so it never leaves before it, and the bound needs no further rule for prefixes: what
 * is kept can be matched. Like the page manager, it must have room for the whole request at hand.
 *
 * Then the time: the first 2,000 requests in pages of 16 and a pool of 65,536, as measured for
 * vLLM's V1 manager (Python, on a 2-core x86-64 machine, not in this run); keys are made before.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core.h"
#include "rng.h"
#include "workload.h"

#define TRACE		"mooncake_conversation.jsonl"
#define MAX_ID		(1u << 24)
#define NEVER		UINT32_MAX
#define PEER_US		1.05	/* a page, vLLM V1 */
#define PEER_REQUESTS	2000
#define PEER_PAGE	16
#define PEER_POOL	65536

struct trace {
	struct pkvrt_workload *w;
	uint32_t *next_use;	/* of each of w->hash_ids: the next request with it */
	uint32_t nr_ids;	/* distinct ones are below */
	uint32_t nr_distinct;
	uint32_t max_blocks;	/* of a request */
};

static bool json;

static void report(const char *name, double value, const char *unit, const char *peer,
		   double peer_value, double ratio)
{
	if (json)
		printf("{\"name\":\"%s\",\"value\":%.3f,\"unit\":\"%s\",\"peer\":\"%s\","
		       "\"peer_value\":%.3f,\"ratio\":%.3f}\n", name, value, unit, peer, peer_value,
		       ratio);
	else
		printf("%s: %.3f %s (%s: %.3f, %.3f)\n", name, value, unit, peer, peer_value,
		       ratio);
	fflush(stdout);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

static struct pkv_key key_of(uint64_t id, uint32_t part)
{
	return (struct pkv_key){ .lo = pkvrt_mix2(id, part), .hi = pkvrt_mix2(~id, part) };
}

/* ------------------------------------------------------------------ trace */

static int index_trace(struct trace *t)
{
	uint32_t *seen;

	for (uint32_t i = 0; i < t->w->nr_hash_ids; i++) {
		if (t->w->hash_ids[i] >= MAX_ID)
			return -EOVERFLOW;
		if (t->w->hash_ids[i] >= t->nr_ids)
			t->nr_ids = t->w->hash_ids[i] + 1;
	}
	t->next_use = calloc(t->w->nr_hash_ids, sizeof(*t->next_use));
	seen = malloc(t->nr_ids * sizeof(*seen));
	if (!t->next_use || !seen) {
		free(seen);
		return -ENOMEM;
	}
	memset(seen, 0xff, t->nr_ids * sizeof(*seen));
	for (uint32_t r = t->w->nr_reqs; r-- > 0; ) {
		const struct pkvrt_request *req = &t->w->reqs[r];

		if (req->nr_hashes > t->max_blocks)
			t->max_blocks = req->nr_hashes;
		for (uint32_t i = req->first_hash; i < req->first_hash + req->nr_hashes; i++) {
			uint64_t id = t->w->hash_ids[i];

			t->nr_distinct += seen[id] == NEVER;
			t->next_use[i] = seen[id];
			seen[id] = r;
		}
	}
	free(seen);
	return 0;
}

static void close_trace(struct trace *t)
{
	pkvrt_workload_destroy(t->w);
	free(t->next_use);
}

/* ----------------------------------------------------------------- Belady */

struct heap_entry {
	uint64_t key;	/* next use, then depth: the largest leaves */
	uint32_t id;
};

struct heap {
	struct heap_entry *e;
	size_t nr;
};

static void heap_push(struct heap *h, struct heap_entry x)
{
	size_t i = h->nr++;

	while (i && h->e[(i - 1) / 2].key < x.key) {
		h->e[i] = h->e[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	h->e[i] = x;
}

static struct heap_entry heap_pop(struct heap *h)
{
	struct heap_entry top = h->e[0], x = h->e[--h->nr];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < h->nr) {
		if (child + 1 < h->nr && h->e[child + 1].key > h->e[child].key)
			child++;
		if (h->e[child].key <= x.key)
			break;
		h->e[i] = h->e[child];
		i = child;
	}
	h->e[i] = x;
	return top;
}

/* Hits with room for @capacity blocks, or -1 without memory. */
static int64_t belady(const struct trace *t, uint32_t capacity)
{
	/* of a block in the cache its entry's key, else 0; entries with another key are old */
	uint64_t *key = calloc(t->nr_ids, sizeof(*key));
	struct heap h = { .e = calloc(t->w->nr_hash_ids, sizeof(*h.e)) };
	int64_t hits = 0;
	uint32_t cached = 0;

	for (uint32_t r = 0; key && h.e && r < t->w->nr_reqs; r++) {
		const struct pkvrt_request *req = &t->w->reqs[r];
		const uint64_t *ids = t->w->hash_ids + req->first_hash;
		bool leading = true;

		for (uint32_t i = 0; i < req->nr_hashes; i++) {
			leading &= key[ids[i]] != 0;
			hits += leading;
			cached -= key[ids[i]] != 0;
			key[ids[i]] = 0;
		}
		while (cached + req->nr_hashes > capacity && h.nr) {
			struct heap_entry e = heap_pop(&h);

			if (key[e.id] != e.key)
				continue;
			key[e.id] = 0;
			cached--;
		}
		for (uint32_t i = 0; i < req->nr_hashes; i++) {
			uint32_t next = t->next_use[req->first_hash + i];

			cached += key[ids[i]] == 0;
			key[ids[i]] = (uint64_t)next << 32 | (i + 1);
			heap_push(&h, (struct heap_entry){ key[ids[i]], ids[i] });
		}
	}
	if (!key || !h.e)
		hits = -1;
	free(key);
	free(h.e);
	return hits;
}

/* ----------------------------------------------------------- page manager */

struct run {
	struct pkv_pool pool;
	struct mutex lock;
	struct pkv_key *keys;
	struct pkv_delta *deltas;
	uint32_t max_pages;
	uint64_t nr_pages, nr_hits;
	double seconds;
};

static int run_init(struct run *run, uint32_t nr_slots, uint32_t page_tokens, uint32_t max_pages)
{
	struct pkv_pool_params params = {
		.nr_classes = 1, .max_seqs = 16, .max_moves = 16, .nr_ranks = 1,
		.classes[0] = { .page_tokens = page_tokens, .nr_slots[PKV_DEVICE] = nr_slots },
	};
	int err;

	memset(run, 0, sizeof(*run));
	run->max_pages = max_pages;
	run->keys = calloc(max_pages, sizeof(*run->keys));
	run->deltas = calloc(max_pages, sizeof(*run->deltas));
	mutex_init(&run->lock);
	mutex_lock(&run->lock);
	err = pkv_pool_init(&run->pool, &params, &run->lock);
	return !err && (!run->keys || !run->deltas) ? -ENOMEM : err;
}

static void run_exit(struct run *run)
{
	mutex_unlock(&run->lock);
	pkv_pool_exit(&run->pool);
	free(run->keys);
	free(run->deltas);
}

/* One prompt of @nr_tokens, of which the first @nr_keys pages have keys. */
static int serve(struct run *run, uint32_t nr_keys, uint32_t nr_tokens)
{
	struct pkv_op op = { .type = PKV_OP_APPEND };
	struct pkv_step st = { .ops = &op, .nr_ops = 1, .deltas = run->deltas,
			       .max_deltas = run->max_pages };
	double start = now_s();
	uint32_t nr_hits, hit_tokens;
	__u64 seq;
	int err = pkv_seq_create(&run->pool, 0, run->keys, nr_keys, 1, 0, &seq, &nr_hits);

	if (err)
		return err;
	hit_tokens = nr_hits * run->pool.classes[0].page_tokens;
	op.seq = seq;
	op.arg = nr_tokens - hit_tokens;
	err = pkv_pool_step(&run->pool, &st);
	if (!err && pkv_prefix_publish(&run->pool, seq, nr_hits, run->keys + nr_hits,
				       nr_keys - nr_hits) < 0)
		err = -EIO;
	op.type = PKV_OP_FREE;
	pkv_pool_step(&run->pool, &st);
	run->seconds += now_s() - start;
	run->nr_pages += nr_keys;
	run->nr_hits += nr_hits;
	return err;
}

static int serve_blocks(struct run *run, const struct trace *t)
{
	int err = 0;

	for (uint32_t r = 0; r < t->w->nr_reqs && !err; r++) {
		const struct pkvrt_request *req = &t->w->reqs[r];

		for (uint32_t i = 0; i < req->nr_hashes; i++)
			run->keys[i] = key_of(t->w->hash_ids[req->first_hash + i], 0);
		err = serve(run, req->nr_hashes, req->nr_hashes * PKVRT_HASH_BLOCK_TOKENS);
	}
	return err;
}

static int bench_hits(const struct trace *t, uint32_t pct)
{
	uint32_t capacity = (uint64_t)t->nr_distinct * pct / 100;
	struct run run;
	char name[80];
	int64_t bound;
	int err = run_init(&run, capacity, PKVRT_HASH_BLOCK_TOKENS, t->max_blocks);

	if (!err)
		err = serve_blocks(&run, t);
	bound = belady(t, capacity);
	if (!err && bound < 0)
		err = -ENOMEM;
	if (!err) {
		snprintf(name, sizeof(name), "prefix hits, pool of %u %% of the blocks", pct);
		report(name, 100.0 * run.nr_hits / run.nr_pages, "%", "Belady",
		       100.0 * bound / run.nr_pages, (double)run.nr_hits / bound);
	}
	run_exit(&run);
	return err;
}

static int bench_unlimited(const struct trace *t)
{
	struct run run;
	int64_t bound = belady(t, UINT32_MAX);
	int err = run_init(&run, t->nr_distinct + t->max_blocks, PKVRT_HASH_BLOCK_TOKENS,
			   t->max_blocks);

	if (!err)
		err = serve_blocks(&run, t);
	if (!err)
		report("prefix hits, pool of all blocks", 100.0 * run.nr_hits / run.nr_pages, "%",
		       "unlimited", 100.0 * bound / run.nr_pages, (double)run.nr_hits / bound);
	run_exit(&run);
	return err;
}

static int bench_time(const struct trace *t)
{
	const uint32_t parts = PKVRT_HASH_BLOCK_TOKENS / PEER_PAGE;
	struct run run;
	int err = run_init(&run, PEER_POOL, PEER_PAGE, t->max_blocks * parts + 1);

	for (uint32_t r = 0; r < t->w->nr_reqs && r < PEER_REQUESTS && !err; r++) {
		const struct pkvrt_request *req = &t->w->reqs[r];
		uint32_t nr = req->prompt_tokens / PEER_PAGE;

		if (nr > req->nr_hashes * parts)
			nr = req->nr_hashes * parts;
		for (uint32_t i = 0; i < nr; i++)
			run.keys[i] = key_of(t->w->hash_ids[req->first_hash + i / parts],
					     i % parts);
		err = serve(&run, nr, req->prompt_tokens);
	}
	if (!err)
		report("prompts of 2000 requests, a page of 16", run.seconds * 1e6 / run.nr_pages,
		       "us", "vLLM V1", PEER_US, PEER_US * run.nr_pages / run.seconds / 1e6);
	run_exit(&run);
	return err;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	static const uint32_t pcts[] = { 1, 5, 20 };
	const char *folder = getenv("PAGEDKV_TRACES");
	struct pkvrt_workload_params params = { .trace = NULL };
	char path[4096], why[PKVRT_WHY_LEN];
	struct trace t = { .w = NULL };
	int c, err;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 'j') {
			fprintf(stderr, "usage: bench_prefix [--json]\n");
			return 2;
		}
		json = true;
	}
	snprintf(path, sizeof(path), "%s/" TRACE, folder ? folder : "../shared/traces");
	if (access(path, R_OK)) {
		fprintf(stderr, "bench_prefix: skipped: %s: %s\n", path, strerror(errno));
		return 0;
	}
	params.trace = path;
	err = pkvrt_workload_create(&t.w, &params, why, sizeof(why));
	if (err) {
		fprintf(stderr, "bench_prefix: %s\n", why);
		return 1;
	}
	err = index_trace(&t);
	for (size_t i = 0; i < sizeof(pcts) / sizeof(pcts[0]) && !err; i++)
		err = bench_hits(&t, pcts[i]);
	if (!err)
		err = bench_unlimited(&t);
	if (!err)
		err = bench_time(&t);
	if (err)
		fprintf(stderr, "bench_prefix: %s: %s\n", path, strerror(-err));
	close_trace(&t);
	return err ? 1 : 0;
}
