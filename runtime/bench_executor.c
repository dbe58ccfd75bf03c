// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Tokens a second of the executor's default model, and the rate of its products
 * beside that of BLAS itself on a large product. --json: one object a line.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cblas.h>

#include <pagedkv/cache.h>

#include "executor.h"
#include "model.h"
#include "products.h"

#define PAGE_TOKENS	16
#define CONTEXT		400
#define MAX_BATCH	256
#define PREFILL		512
#define SECONDS		0.7

static bool json;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void report(const char *name, double figure, const char *unit, double roof)
{
	if (json)
		printf("{\"name\": \"%s\", \"figure\": %.1f, \"unit\": \"%s\", \"roof\": %.1f, "
		       "\"ratio\": %.3f}\n", name, figure, unit, roof, figure / roof);
	else
		printf("%s: %.1f %s (roof: %.1f, %.2f)\n", name, figure, unit, roof,
		       figure / roof);
	fflush(stdout);
}

/* GFLOP/s of one thread of BLAS on a product of n x n x n. */
static double blas_rate(int n)
{
	size_t bytes = (size_t)n * (size_t)n * sizeof(float);
	float *a = malloc(bytes), *b = malloc(bytes), *c = malloc(bytes);
	double best = 0, start;

	if (!a || !b || !c)
		exit(1);
	for (size_t i = 0; i < bytes / sizeof(float); i++) {
		a[i] = (float)(i % 13) - 6;
		b[i] = (float)(i % 7) - 3;
	}
	for (int i = 0; i < 4; i++) {
		double rate;

		start = now();
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a, n, b, n, 0, c,
			    n);
		rate = 2e-9 * n * n * n / (now() - start);
		best = rate > best ? rate : best;
	}
	free(a);
	free(b);
	free(c);
	return best;
}

struct bench {
	struct pkvrt_executor *ex;
	uint32_t *slots;
	uint32_t nr_pages;	/* of one sequence */
	uint32_t tokens[MAX_BATCH * PREFILL / 8];
	struct pkvrt_chunk chunks[MAX_BATCH];
	struct pkvrt_draw draws[MAX_BATCH];
};

/* Tokens a second of steps of nr chunks of nr_tokens each, the last at CONTEXT or later. */
static double step_rate(struct bench *b, uint32_t nr, uint32_t nr_tokens, uint32_t start)
{
	double begin, elapsed;
	uint64_t nr_steps = 0;

	for (uint32_t i = 0; i < nr; i++) {
		b->draws[i].kind = PKVRT_GREEDY;
		b->chunks[i] = (struct pkvrt_chunk){
			.tokens = b->tokens + (size_t)i * nr_tokens, .nr_tokens = nr_tokens,
			.start = start, .slots = b->slots + (size_t)i * b->nr_pages,
			.nr_slots = b->nr_pages, .nr_draws = 1, .draws = &b->draws[i],
		};
	}
	if (pkvrt_executor_step(b->ex, b->chunks, nr))
		exit(1);
	begin = now();
	do {
		if (pkvrt_executor_step(b->ex, b->chunks, nr))
			exit(1);
		nr_steps++;
		elapsed = now() - begin;
	} while (elapsed < SECONDS);
	return (double)(nr_steps * nr * nr_tokens) / elapsed;
}

/* Floating-point operations of a token's products: two a weight, but for the embedding. */
static double token_flops(const struct pkvrt_model *m)
{
	return 2.0 * (double)(pkvrt_model_nr_params(m) - (uint64_t)m->vocab * m->dim);
}

static void bench_dtype(struct bench *b, uint32_t dtype, double roof)
{
	static const uint32_t batches[] = { 1, 16, 64, 256 };
	struct pkvrt_executor_params p = {
		.model = pkvrt_model_default(), .seed = 1, .kv_dtype = dtype,
		.page_tokens = PAGE_TOKENS, .nr_slots = MAX_BATCH * b->nr_pages,
	};
	size_t bytes = p.nr_slots * pkvrt_model_page_bytes(&p.model, PAGE_TOKENS, dtype);
	const char *kv = dtype == PKV_F32 ? "f32" : "bf16";
	char name[80];

	p.arena = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p.arena == MAP_FAILED || pkvrt_executor_create(&b->ex, &p))
		exit(1);
	memset(p.arena, 0, bytes);
	for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
		double rate = step_rate(b, batches[i], 1, CONTEXT - 1);

		snprintf(name, sizeof(name), "executor_decode_%s_batch_%u_context_%u", kv,
			 batches[i], CONTEXT);
		report(name, rate, "tokens/s", roof * 1e9 / token_flops(&p.model));
	}
	snprintf(name, sizeof(name), "executor_prefill_%s_%u_tokens", kv, PREFILL);
	report(name, step_rate(b, 1, PREFILL, 0), "tokens/s",
	       roof * 1e9 / token_flops(&p.model));
	pkvrt_executor_destroy(b->ex);
	munmap(p.arena, bytes);
}

/*
 * What the products of a step reach: the rate of tiles of each weight in turn, which
 * pass through the cache as in a step, beside the large product's.
 */
static void bench_products(double roof)
{
	struct pkvrt_model m = pkvrt_model_default();
	struct pkvrt_weights w;
	const uint32_t tile = PKVRT_TILE_TOKENS;
	float *x = calloc(tile * 2048, sizeof(*x)), *y = calloc(tile * 2048, sizeof(*y));
	double begin = now(), elapsed, flops = 0;

	if (!x || !y || pkvrt_weights_create(&w, &m, 1))
		exit(1);
	do {
		for (uint32_t i = 0; i < m.nr_layers; i++) {
			const struct pkvrt_product p[] = {
				{ w.layers[i].qkv, m.dim, pkvrt_qkv_dim(&m), pkvrt_qkv_dim(&m),
				  pkvrt_qkv_dim(&m), 0 },
				{ w.layers[i].out, m.dim, m.dim, m.dim, m.dim, 0 },
				{ w.layers[i].gate_up, m.dim, 2 * m.ffn_dim, 2 * m.ffn_dim,
				  2 * m.ffn_dim, 0 },
				{ w.layers[i].down, m.ffn_dim, m.dim, m.dim, m.dim, 0 },
			};

			for (uint32_t j = 0; j < 4; j++) {
				pkvrt_product_run(&p[j], tile, x, y, tile);
				flops += 2.0 * tile * p[j].nr_in * p[j].nr_out;
			}
		}
		elapsed = now() - begin;
	} while (elapsed < SECONDS);
	report("executor_products_one_thread", flops * 1e-9 / elapsed, "GFLOP/s", roof);
	pkvrt_weights_destroy(&w);
	free(x);
	free(y);
}

int main(int argc, char **argv)
{
	static struct bench b;
	long nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	double roof;

	json = argc > 1 && !strcmp(argv[1], "--json");
	openblas_set_num_threads(1);
	roof = blas_rate(1024);
	bench_products(roof);
	/* from here on tokens a second, if products ran at that rate and all else were free */
	roof *= (double)nr_cpus;
	b.nr_pages = (PREFILL + PAGE_TOKENS - 1) / PAGE_TOKENS;
	b.slots = calloc(MAX_BATCH * b.nr_pages, sizeof(*b.slots));
	if (!b.slots)
		return 1;
	/* neighbouring pages of a sequence lie far apart */
	for (uint32_t i = 0; i < MAX_BATCH * b.nr_pages; i++)
		b.slots[i] = (uint32_t)((uint64_t)i * 4099 % (MAX_BATCH * b.nr_pages));
	for (size_t i = 0; i < sizeof(b.tokens) / sizeof(b.tokens[0]); i++)
		b.tokens[i] = (uint32_t)(i * 7919 % 2048);
	bench_dtype(&b, PKV_F32, roof);
	bench_dtype(&b, PKV_BF16, roof);
	free(b.slots);
	return 0;
}
