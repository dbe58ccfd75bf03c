// SPDX-License-Identifier: MIT
/*
 * How fast one thread reads K and V for a decode, beside how fast it reads the same
 * bytes in order for nothing but their xor, in the same run. --json: one object a line.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pagedkv/attention.h>

#define PAGE_TOKENS	16
#define ROUNDS		7

struct shape {
	const char *name;
	uint32_t dtype;
	uint32_t nr_layers;
	uint32_t nr_q_heads;
	uint32_t nr_kv_heads;
	uint32_t head_dim;
	uint32_t nr_seqs;
	uint32_t context;
};

static const struct shape shapes[] = {
	{ "default_model_f32", PKV_F32, 4, 4, 2, 64, 64, 400 },
	{ "default_model_bf16", PKV_BF16, 4, 4, 2, 64, 64, 400 },
	{ "llama3_8b_layers_bf16", PKV_BF16, 2, 32, 8, 128, 16, 1024 },
};

static const char *const versions[] = { "avx512", "avx2", "portable" };

static bool json;

/* Everything one call points to. */
struct decode {
	struct pkv_kv_layout layout;
	struct pkv_attention a;
	uint32_t *query_start;
	uint32_t *context;
	uint64_t *table_start;
	uint32_t *table;
	char *arena;
	size_t arena_bytes;
	float *q;
	float *out;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *take(size_t bytes)
{
	void *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);

	if (!p)
		exit(1);
	memset(p, 0, bytes);
	return p;
}

/* Finite numbers of either sign in both dtypes: bytes of 0x3d and 0xbd in the upper places. */
static void fill_arena(struct decode *d)
{
	uint32_t x = 1;

	for (size_t i = 0; i < d->arena_bytes; i++) {
		x = x * 1664525 + 1013904223;
		d->arena[i] = (char)(i % 2 ? 0x3d | (x >> 24 & 0x80) : x >> 24);
	}
}

static void make_decode(struct decode *d, const struct shape *s)
{
	uint32_t nr_pages = (s->context + PAGE_TOKENS - 1) / PAGE_TOKENS;
	uint32_t nr_slots = s->nr_seqs * nr_pages;
	size_t nr_q = (size_t)s->nr_q_heads * s->head_dim;

	if (pkv_kv_layout_init(&d->layout, s->dtype, s->nr_layers, s->nr_kv_heads, s->head_dim,
			       PAGE_TOKENS))
		exit(1);
	d->query_start = take((s->nr_seqs + 1) * sizeof(*d->query_start));
	d->context = take(s->nr_seqs * sizeof(*d->context));
	d->table_start = take((s->nr_seqs + 1) * sizeof(*d->table_start));
	d->table = take(nr_slots * sizeof(*d->table));
	d->arena_bytes = nr_slots * d->layout.page_stride_bytes;
	d->arena = take(d->arena_bytes);
	d->q = take(s->nr_seqs * nr_q * sizeof(*d->q));
	d->out = take(s->nr_seqs * nr_q * sizeof(*d->out));
	fill_arena(d);
	for (size_t i = 0; i < s->nr_seqs * nr_q; i++)
		d->q[i] = (float)(i % 17) / 8 - 1;
	for (uint32_t i = 0; i < s->nr_seqs; i++) {
		d->query_start[i + 1] = i + 1;
		d->table_start[i + 1] = (uint64_t)(i + 1) * nr_pages;
		d->context[i] = s->context;
	}
	/* 4099 is prime: every slot once, neighbours far apart */
	for (uint32_t i = 0; i < nr_slots; i++)
		d->table[i] = (uint32_t)((uint64_t)i * 4099 % nr_slots);
	d->a = (struct pkv_attention){
		.layout = &d->layout, .base = d->arena, .nr_slots = nr_slots,
		.nr_q_heads = s->nr_q_heads, .nr_seqs = s->nr_seqs, .nr_tokens = s->nr_seqs,
		.scale = 0.125f, .query_start = d->query_start, .context_tokens = d->context,
		.table = d->table, .table_start = d->table_start, .q = d->q,
		.q_row_floats = nr_q, .out = d->out,
	};
}

static void free_decode(struct decode *d)
{
	free(d->query_start);
	free(d->context);
	free(d->table_start);
	free(d->table);
	free(d->arena);
	free(d->q);
	free(d->out);
}

/* Seconds of the fastest of some decodes of all layers. */
static double time_decode(struct decode *d)
{
	double best = 0;

	for (int i = 0; i < ROUNDS; i++) {
		double start = now();

		for (d->a.layer = 0; d->a.layer < d->layout.nr_layers; d->a.layer++)
			if (pkv_attention(&d->a))
				exit(1);
		if (!best || now() - start < best)
			best = now() - start;
	}
	return best;
}

/* The same of reading the arena in order. */
static double time_read(const struct decode *d)
{
	double best = 0;

	for (int i = 0; i < ROUNDS; i++) {
		const uint64_t *words = (const uint64_t *)(const void *)d->arena;
		double start = now();
		uint64_t x = 0;

		for (size_t w = 0; w < d->arena_bytes / sizeof(*words); w++)
			x ^= words[w];
		__asm__ volatile("" : : "r"(x));	/* the reads are wanted */
		if (!best || now() - start < best)
			best = now() - start;
	}
	return best;
}

static void report(const char *version, const char *shape, double figure, double roof)
{
	if (json)
		printf("{\"name\": \"attention_decode_%s_%s\", \"figure\": %.2f, "
		       "\"unit\": \"GB/s\", \"roof\": %.2f, \"ratio\": %.3f}\n", version, shape,
		       figure, roof, figure / roof);
	else
		printf("attention_decode_%s_%s: %.2f GB/s (roof: %.2f, %.2f)\n", version, shape,
		       figure, roof, figure / roof);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	json = argc > 1 && !strcmp(argv[1], "--json");
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		const struct shape *s = &shapes[i];
		struct decode d;
		double bytes, roof;

		make_decode(&d, s);
		bytes = 2.0 * s->nr_layers * s->nr_seqs * s->context *
			(double)d.layout.token_stride_bytes * s->nr_kv_heads;
		roof = (double)d.arena_bytes / time_read(&d) * 1e-9;
		for (size_t v = 0; v < sizeof(versions) / sizeof(versions[0]); v++)
			if (!pkv_attention_use(versions[v]))
				report(versions[v], s->name, bytes / time_decode(&d) * 1e-9, roof);
		free_decode(&d);
	}
	return 0;
}
