// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A step of the model. All tokens of all chunks are the rows of one matrix. The team
 * of workers goes through the layers in phases with barriers between them:
 *
 *   tiles      what lies before the first attention: embedding, norm, q, k and v
 *   attention  of layer 0
 *   tiles      what lies between two attentions: output product, SwiGLU, and the
 *   ...        next layer's norm, q, k and v
 *   attention  of the last layer, of rows that have draws only
 *   tiles      the rest of the last layer, of those rows
 *   head       logits, in blocks of columns
 *   draws
 *
 * Within a phase a worker takes the next piece from a counter. Which worker takes
 * which cannot be seen in a result.
 */
#include "executor_home.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pagedkv/attention.h>

#include "model.h"
#include "products.h"
#include "sampler.h"
#include "workers.h"

#define HEAD_COLUMNS	512	/* of the vocabulary in one product */

/* What one worker needs for a tile and for a draw. */
struct scratch {
	float *normed;		/* [tile][dim] */
	float *qkv;		/* [tile][qkv_dim] */
	float *gate_up;		/* [tile][2 * ffn_dim] */
	float *inner;		/* [tile][ffn_dim] */
	struct pkvrt_sampler sampler;
	void *memory;
};

/* The rows of a step; grown when a step has more than any before. */
struct rows {
	uint32_t room;		/* rows */
	uint32_t nr;		/* used */
	float *x;		/* [dim] the residual stream */
	float *q;		/* [q heads][head_dim] */
	float *attended;	/* the same */
	void *memory;
};

struct executor_layer {
	struct pkvrt_product qkv;
	struct pkvrt_product out;
	struct pkvrt_product gate_up;
	struct pkvrt_product down;
};

struct executor_cpu {
	struct pkvrt_executor base;
	struct pkvrt_model model;
	struct pkvrt_weights weights;
	struct executor_layer *layers;
	struct pkv_kv_layout layout;
	void *arena;
	uint32_t nr_slots;
	uint32_t tile;		/* rows of a product */
	uint32_t qkv_dim;
	uint32_t q_dim;
	struct pkvrt_workers *team;
	struct scratch *scratch;	/* one a worker */

	/* the step, all written before the team starts */
	struct pkvrt_chunk *chunks;
	uint32_t nr_chunks;
	struct rows rows;		/* a row a token */
	struct rows last;		/* a row a chunk that has draws */
	float *logits;			/* [last.room][vocab] */
	uint32_t rows_meta_room;
	uint32_t *tokens;		/* [rows] */
	uint32_t *positions;		/* [rows] */
	uint32_t *seq_of;		/* [rows] chunk of the row */
	uint32_t *last_of;		/* [rows] its row of last, or NO_ROW */
	uint32_t chunks_room;
	uint32_t *query_start;		/* [chunks + 1] */
	uint32_t *last_start;		/* [chunks + 1] the same of last */
	uint32_t *context;		/* [chunks] */
	uint64_t *table_start;		/* [chunks + 1] */
	uint64_t table_room;
	uint32_t *table;
	struct pkv_attention attention;	/* of rows; the layer is filled in by workers */
	struct pkv_attention last_attention;
	atomic_uint *next;		/* [nr_phases] the next piece of each phase */
	uint32_t nr_phases;
};

#define NO_ROW	UINT32_MAX

static uint32_t divide_up(uint64_t a, uint32_t b)
{
	return (uint32_t)((a + b - 1) / b);
}

/* ---- pieces of phases ---- */

/* Embeds rows, before the first layer. */
static void embed(struct executor_cpu *ex, uint32_t first, uint32_t end)
{
	uint32_t dim = ex->model.dim;

	for (uint32_t r = first; r < end; r++)
		memcpy(ex->rows.x + (size_t)r * dim,
		       ex->weights.embedding + (size_t)ex->tokens[r] * dim, dim * sizeof(float));
}

/* A norm of rows of x into s->normed, zeros where a tile goes past end. */
static void norm_rows(struct executor_cpu *ex, struct scratch *s, const struct rows *rows,
		      const float *weight, uint32_t first, uint32_t end)
{
	uint32_t dim = ex->model.dim;
	uint32_t padded = divide_up(end - first, ex->tile) * ex->tile;

	for (uint32_t r = first; r < end; r++)
		pkvrt_rms_norm(s->normed + (size_t)(r - first) * dim, rows->x + (size_t)r * dim,
			       weight, dim, ex->model.norm_eps);
	memset(s->normed + (size_t)(end - first) * dim, 0,
	       (size_t)(padded - (end - first)) * dim * sizeof(float));
}

/* From x of rows to q, and to k and v in their pages. */
static void make_qkv(struct executor_cpu *ex, struct scratch *s, uint32_t layer, uint32_t first,
		     uint32_t end)
{
	const struct pkvrt_model *m = &ex->model;
	uint32_t nr = end - first;
	struct pkv_cache_write w = {
		.layout = &ex->layout, .base = ex->arena, .nr_slots = ex->nr_slots, .layer = layer,
		.nr_tokens = nr, .nr_seqs = ex->nr_chunks, .k = s->qkv + ex->q_dim,
		.v = s->qkv + ex->q_dim + m->nr_kv_heads * m->head_dim,
		.kv_row_floats = ex->qkv_dim, .seq_of = ex->seq_of + first,
		.positions = ex->positions + first, .table = ex->table,
		.table_start = ex->table_start,
	};

	norm_rows(ex, s, &ex->rows, ex->weights.layers[layer].attention_norm, first, end);
	pkvrt_product_run(&ex->layers[layer].qkv, ex->tile, s->normed, s->qkv, nr);
	for (uint32_t i = 0; i < nr; i++) {
		float *row = s->qkv + (size_t)i * ex->qkv_dim;

		pkvrt_rotate(row, ex->weights.rotation +
			     (size_t)ex->positions[first + i] * m->head_dim,
			     m->nr_q_heads + m->nr_kv_heads, m->head_dim);
		memcpy(ex->rows.q + (size_t)(first + i) * ex->q_dim, row,
		       ex->q_dim * sizeof(float));
	}
	pkv_cache_write_tokens(&w, 0, nr);
}

/* Rows that have draws leave for the last attention; the others are done. */
static void keep_last(struct executor_cpu *ex, uint32_t first, uint32_t end)
{
	uint32_t dim = ex->model.dim;

	for (uint32_t r = first; r < end; r++) {
		uint32_t to = ex->last_of[r];

		if (to == NO_ROW)
			continue;
		memcpy(ex->last.x + (size_t)to * dim, ex->rows.x + (size_t)r * dim,
		       dim * sizeof(float));
		memcpy(ex->last.q + (size_t)to * ex->q_dim, ex->rows.q + (size_t)r * ex->q_dim,
		       ex->q_dim * sizeof(float));
	}
}

/* What follows the attention of a layer. */
static void feed_forward(struct executor_cpu *ex, struct scratch *s, struct rows *rows,
			 uint32_t layer, uint32_t first, uint32_t end)
{
	const struct executor_layer *l = &ex->layers[layer];
	uint32_t dim = ex->model.dim, ffn = ex->model.ffn_dim, nr = end - first;
	float *x = rows->x + (size_t)first * dim;

	pkvrt_product_run(&l->out, ex->tile, rows->attended + (size_t)first * ex->q_dim, x, nr);
	norm_rows(ex, s, rows, ex->weights.layers[layer].ffn_norm, first, end);
	pkvrt_product_run(&l->gate_up, ex->tile, s->normed, s->gate_up, nr);
	for (uint32_t i = 0; i < nr; i++) {
		const float *gate = s->gate_up + (size_t)i * 2 * ffn;

		pkvrt_swiglu(s->inner + (size_t)i * ffn, gate, gate + ffn, ffn);
	}
	memset(s->inner + (size_t)nr * ffn, 0,
	       (size_t)(divide_up(nr, ex->tile) * ex->tile - nr) * ffn * sizeof(float));
	pkvrt_product_run(&l->down, ex->tile, s->inner, x, nr);
}

static void make_logits(struct executor_cpu *ex, struct scratch *s, uint32_t tile, uint32_t block)
{
	uint32_t vocab = ex->model.vocab, column = block * HEAD_COLUMNS;
	uint32_t first = tile * ex->tile;
	uint32_t end = first + ex->tile < ex->last.nr ? first + ex->tile : ex->last.nr;
	struct pkvrt_product head = {
		.weight = ex->weights.head + column,
		.nr_in = ex->model.dim,
		.nr_out = vocab - column < HEAD_COLUMNS ? vocab - column : HEAD_COLUMNS,
		.weight_stride = vocab,
		.out_stride = vocab,
	};

	norm_rows(ex, s, &ex->last, ex->weights.norm, first, end);
	pkvrt_product_run(&head, ex->tile, s->normed, ex->logits + (size_t)first * vocab + column,
			  end - first);
}

static void make_draws(struct executor_cpu *ex, struct scratch *s, uint32_t chunk_idx)
{
	struct pkvrt_chunk *chunk = &ex->chunks[chunk_idx];
	const float *logits = ex->logits + (size_t)ex->last_start[chunk_idx] * ex->model.vocab;

	for (uint32_t i = 0; i < chunk->nr_draws; i++)
		pkvrt_draw_make(&chunk->draws[i], logits, ex->model.vocab,
				chunk->start + chunk->nr_tokens, &s->sampler);
}

/* ---- phases, by all workers together ---- */

static uint32_t take_piece(struct executor_cpu *ex, uint32_t phase)
{
	return atomic_fetch_add_explicit(&ex->next[phase], 1, memory_order_relaxed);
}

/* Attention of one layer, in pieces that are small beside a worker's share. */
static void run_attention(struct executor_cpu *ex, const struct pkv_attention *shared,
			  uint32_t layer, uint32_t phase)
{
	uint64_t nr = pkv_attention_nr_items(shared);
	uint64_t step = nr / (8 * pkvrt_workers_nr(ex->team)) / 8 * 8;
	struct pkv_attention a = *shared;

	a.layer = layer;
	step = step < 8 ? 8 : step > 128 ? 128 : step;
	for (;;) {
		uint64_t first = take_piece(ex, phase) * step;

		if (first >= nr)
			return;
		pkv_attention_items(&a, first, first + step < nr ? first + step : nr);
	}
}

/* The next tile of nr rows. False when there is none left. */
static bool take_tile(struct executor_cpu *ex, uint32_t phase, uint32_t nr, uint32_t *first,
		      uint32_t *end)
{
	uint64_t at = (uint64_t)take_piece(ex, phase) * PKVRT_TILE_TOKENS;

	if (at >= nr)
		return false;
	*first = (uint32_t)at;
	*end = nr - *first < PKVRT_TILE_TOKENS ? nr : *first + PKVRT_TILE_TOKENS;
	return true;
}

/* From the attention of layer - 1, where there is one, to that of layer. */
static void run_tiles(struct executor_cpu *ex, struct scratch *s, uint32_t layer, uint32_t phase)
{
	uint32_t first, end;

	while (take_tile(ex, phase, ex->rows.nr, &first, &end)) {
		if (layer)
			feed_forward(ex, s, &ex->rows, layer - 1, first, end);
		else
			embed(ex, first, end);
		make_qkv(ex, s, layer, first, end);
		if (layer + 1 == ex->model.nr_layers)
			keep_last(ex, first, end);
	}
}

static void run_last_tiles(struct executor_cpu *ex, struct scratch *s, uint32_t phase)
{
	uint32_t first, end;

	while (take_tile(ex, phase, ex->last.nr, &first, &end))
		feed_forward(ex, s, &ex->last, ex->model.nr_layers - 1, first, end);
}

static void run_head(struct executor_cpu *ex, struct scratch *s, uint32_t phase)
{
	uint32_t nr_blocks = divide_up(ex->model.vocab, HEAD_COLUMNS);
	uint64_t nr = (uint64_t)divide_up(ex->last.nr, ex->tile) * nr_blocks;

	for (;;) {
		uint32_t piece = take_piece(ex, phase);

		if (piece >= nr)
			return;
		make_logits(ex, s, piece / nr_blocks, piece % nr_blocks);
	}
}

static void run_draws(struct executor_cpu *ex, struct scratch *s, uint32_t phase)
{
	for (;;) {
		uint32_t chunk = take_piece(ex, phase);

		if (chunk >= ex->nr_chunks)
			return;
		make_draws(ex, s, chunk);
	}
}

static void run_step(void *arg, unsigned int thread)
{
	struct executor_cpu *ex = arg;
	struct scratch *s = &ex->scratch[thread];
	uint32_t phase = 0;

	for (uint32_t layer = 0; layer < ex->model.nr_layers; layer++) {
		run_tiles(ex, s, layer, phase++);
		pkvrt_workers_barrier(ex->team);
		if (layer + 1 < ex->model.nr_layers)
			run_attention(ex, &ex->attention, layer, phase++);
		else if (!ex->last.nr)
			return;
		else
			run_attention(ex, &ex->last_attention, layer, phase++);
		pkvrt_workers_barrier(ex->team);
	}
	run_last_tiles(ex, s, phase++);
	pkvrt_workers_barrier(ex->team);
	run_head(ex, s, phase++);
	pkvrt_workers_barrier(ex->team);
	run_draws(ex, s, phase);
}

/* ---- taking a step in ---- */

static int grow(void *array, uint64_t nr, size_t bytes)
{
	void **place = array, *p = realloc(*place, nr * bytes);

	if (!p)
		return -ENOMEM;
	*place = p;
	return 0;
}

/* Room for nr rows and the end of their tile. What they held is lost. */
static int grow_rows(const struct executor_cpu *ex, struct rows *rows, uint32_t nr)
{
	uint32_t room = divide_up(nr, PKVRT_TILE_TOKENS) * PKVRT_TILE_TOKENS;
	size_t floats = (size_t)room * (ex->model.dim + 2 * (size_t)ex->q_dim);
	float *memory;

	if (nr <= rows->room)
		return 0;
	memory = aligned_alloc(64, floats * sizeof(*memory));
	if (!memory)
		return -ENOMEM;
	free(rows->memory);
	rows->memory = memory;
	rows->x = memory;
	rows->q = rows->x + (size_t)room * ex->model.dim;
	rows->attended = rows->q + (size_t)room * ex->q_dim;
	rows->room = room;
	return 0;
}

/* The rows between the last and the end of its tile are zeros. */
static void pad_rows(const struct executor_cpu *ex, struct rows *rows)
{
	uint32_t dim = ex->model.dim;
	uint32_t pad = divide_up(rows->nr, PKVRT_TILE_TOKENS) * PKVRT_TILE_TOKENS - rows->nr;

	if (!pad)
		return;
	memset(rows->x + (size_t)rows->nr * dim, 0, (size_t)pad * dim * sizeof(float));
	memset(rows->attended + (size_t)rows->nr * ex->q_dim, 0,
	       (size_t)pad * ex->q_dim * sizeof(float));
}

static int make_room(struct executor_cpu *ex, uint32_t nr_rows, uint32_t nr_last,
		     uint32_t nr_chunks, uint64_t nr_table)
{
	if (nr_last > ex->last.room) {
		uint64_t room = divide_up(nr_last, PKVRT_TILE_TOKENS) * PKVRT_TILE_TOKENS;

		if (grow(&ex->logits, room * ex->model.vocab, sizeof(*ex->logits)))
			return -ENOMEM;
	}
	if (grow_rows(ex, &ex->rows, nr_rows) || grow_rows(ex, &ex->last, nr_last))
		return -ENOMEM;
	if (nr_rows > ex->rows_meta_room) {
		if (grow(&ex->tokens, nr_rows, sizeof(uint32_t)) ||
		    grow(&ex->positions, nr_rows, sizeof(uint32_t)) ||
		    grow(&ex->seq_of, nr_rows, sizeof(uint32_t)) ||
		    grow(&ex->last_of, nr_rows, sizeof(uint32_t)))
			return -ENOMEM;
		ex->rows_meta_room = nr_rows;
	}
	if (nr_chunks > ex->chunks_room) {
		uint64_t nr = (uint64_t)nr_chunks + 1;

		if (grow(&ex->query_start, nr, sizeof(uint32_t)) ||
		    grow(&ex->last_start, nr, sizeof(uint32_t)) ||
		    grow(&ex->context, nr, sizeof(uint32_t)) ||
		    grow(&ex->table_start, nr, sizeof(uint64_t)))
			return -ENOMEM;
		ex->chunks_room = nr_chunks;
	}
	if (nr_table > ex->table_room) {
		if (grow(&ex->table, nr_table, sizeof(uint32_t)))
			return -ENOMEM;
		ex->table_room = nr_table;
	}
	return 0;
}

/* Pages of a chunk's context. */
static uint32_t chunk_pages(const struct executor_cpu *ex, const struct pkvrt_chunk *c)
{
	return divide_up((uint64_t)c->start + c->nr_tokens, ex->layout.page_tokens);
}

static void lay_out_chunk(struct executor_cpu *ex, const struct pkvrt_chunk *c, uint32_t i)
{
	uint32_t row = ex->query_start[i], nr_pages = chunk_pages(ex, c);

	for (uint32_t t = 0; t < c->nr_tokens; t++, row++) {
		ex->tokens[row] = c->tokens[t];
		ex->positions[row] = c->start + t;
		ex->seq_of[row] = i;
		ex->last_of[row] = NO_ROW;
	}
	if (c->nr_draws)
		ex->last_of[row - 1] = ex->last_start[i];
	ex->query_start[i + 1] = row;
	ex->last_start[i + 1] = ex->last_start[i] + (c->nr_draws != 0);
	ex->context[i] = c->start + c->nr_tokens;
	memcpy(ex->table + ex->table_start[i], c->slots, nr_pages * sizeof(*c->slots));
	ex->table_start[i + 1] = ex->table_start[i] + nr_pages;
}

static void lay_out_attention(struct executor_cpu *ex)
{
	ex->attention = (struct pkv_attention){
		.layout = &ex->layout, .base = ex->arena, .nr_slots = ex->nr_slots,
		.nr_q_heads = ex->model.nr_q_heads, .nr_seqs = ex->nr_chunks,
		.nr_tokens = ex->rows.nr, .scale = 1 / sqrtf((float)ex->model.head_dim),
		.query_start = ex->query_start, .context_tokens = ex->context,
		.table = ex->table, .table_start = ex->table_start,
		.q = ex->rows.q, .q_row_floats = ex->q_dim, .out = ex->rows.attended,
	};
	/* the same sequences, each with its last token or none */
	ex->last_attention = ex->attention;
	ex->last_attention.nr_tokens = ex->last.nr;
	ex->last_attention.query_start = ex->last_start;
	ex->last_attention.q = ex->last.q;
	ex->last_attention.out = ex->last.attended;
}

/* Checks the chunks and copies what they say. Nothing of the arena is written. */
static int take_in(struct executor_cpu *ex, struct pkvrt_chunk *chunks, uint32_t nr_chunks)
{
	uint64_t nr_rows = 0, nr_last = 0, nr_table = 0;
	int err;

	for (uint32_t i = 0; i < nr_chunks; i++) {
		err = pkvrt_executor_check_chunk(&ex->model, ex->layout.page_tokens, &chunks[i]);
		if (err)
			return err;
		nr_rows += chunks[i].nr_tokens;
		nr_last += chunks[i].nr_draws != 0;
		nr_table += chunk_pages(ex, &chunks[i]);
	}
	if (nr_rows > INT32_MAX)
		return -EINVAL;
	err = make_room(ex, (uint32_t)nr_rows, (uint32_t)nr_last, nr_chunks, nr_table);
	if (err)
		return err;

	ex->chunks = chunks;
	ex->nr_chunks = nr_chunks;
	ex->query_start[0] = ex->last_start[0] = 0;
	ex->table_start[0] = 0;
	for (uint32_t i = 0; i < nr_chunks; i++)
		lay_out_chunk(ex, &chunks[i], i);
	ex->rows.nr = (uint32_t)nr_rows;
	ex->last.nr = (uint32_t)nr_last;
	pad_rows(ex, &ex->rows);
	pad_rows(ex, &ex->last);
	for (uint32_t i = 0; i < ex->nr_phases; i++)
		atomic_store_explicit(&ex->next[i], 0, memory_order_relaxed);
	lay_out_attention(ex);
	/* finds slots past the arena; what else it looks at is ours and right */
	return pkv_attention_check(&ex->attention);
}

static struct executor_cpu *self(struct pkvrt_executor *base)
{
	return (struct executor_cpu *)base;
}

static int cpu_step(struct pkvrt_executor *base, struct pkvrt_chunk *chunks, unsigned int nr_chunks)
{
	struct executor_cpu *ex = self(base);
	int err;

	ex->last.nr = 0;
	if (!nr_chunks)
		return 0;
	err = take_in(ex, chunks, nr_chunks);
	if (err) {
		ex->last.nr = 0;
		return err;
	}
	pkvrt_workers_run(ex->team, run_step, ex);
	return 0;
}

static int cpu_copy_pages(struct pkvrt_executor *base, const struct pkv_page_copy *copies,
			  size_t nr)
{
	struct executor_cpu *ex = self(base);

	return pkv_page_copy(&ex->layout, ex->arena, ex->nr_slots, ex->arena, ex->nr_slots, copies,
			     nr);
}

static const float *cpu_logits(struct pkvrt_executor *base, unsigned int i)
{
	struct executor_cpu *ex = self(base);

	return i < ex->last.nr ? ex->logits + (size_t)i * ex->model.vocab : NULL;
}

static unsigned int cpu_tile_tokens(struct pkvrt_executor *base)
{
	return self(base)->tile;
}

/* ---- create and destroy ---- */

static struct pkvrt_product product(const float *weight, uint32_t nr_in, uint32_t nr_out, float add)
{
	return (struct pkvrt_product){
		.weight = weight, .nr_in = nr_in, .nr_out = nr_out, .weight_stride = nr_out,
		.out_stride = nr_out, .add = add,
	};
}

static int create_layers(struct executor_cpu *ex)
{
	const struct pkvrt_model *m = &ex->model;

	ex->layers = calloc(m->nr_layers, sizeof(*ex->layers));
	if (!ex->layers)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->nr_layers; i++) {
		const struct pkvrt_layer *w = &ex->weights.layers[i];

		ex->layers[i] = (struct executor_layer){
			.qkv = product(w->qkv, m->dim, ex->qkv_dim, 0),
			.out = product(w->out, ex->q_dim, m->dim, 1),
			.gate_up = product(w->gate_up, m->dim, 2 * m->ffn_dim, 0),
			.down = product(w->down, m->ffn_dim, m->dim, 1),
		};
	}
	return 0;
}

/*
 * Are all products of tiles of this size free of the place? All layers have the same
 * shapes; the head has whole blocks and one narrower. Return: 1 or 0; -ENOMEM.
 */
static int try_tile(const struct executor_cpu *ex, uint32_t tile)
{
	const struct executor_layer *l = &ex->layers[0];
	const struct pkvrt_product *products[] = { &l->qkv, &l->out, &l->gate_up, &l->down };
	struct pkvrt_product head = product(ex->weights.head, ex->model.dim, HEAD_COLUMNS, 0);
	int same = 1;

	for (uint32_t i = 0; i < 4 && same > 0; i++)
		same = pkvrt_product_try_places(products[i], tile);

	head.weight_stride = head.out_stride = ex->model.vocab;
	if (ex->model.vocab >= HEAD_COLUMNS && same > 0)
		same = pkvrt_product_try_places(&head, tile);
	head.nr_out = ex->model.vocab % HEAD_COLUMNS;
	if (head.nr_out && same > 0)
		same = pkvrt_product_try_places(&head, tile);
	return same;
}

static int choose_tile(struct executor_cpu *ex)
{
	for (ex->tile = PKVRT_TILE_TOKENS; ex->tile > 1; ex->tile /= 2) {
		int same = try_tile(ex, ex->tile);

		if (same)
			return same < 0 ? same : 0;
	}
	return 0;
}

static int create_scratch(struct executor_cpu *ex, struct scratch *s)
{
	const struct pkvrt_model *m = &ex->model;
	size_t tile = PKVRT_TILE_TOKENS;
	size_t floats = tile * (m->dim + ex->qkv_dim + 3 * (size_t)m->ffn_dim);
	float *at = aligned_alloc(64, floats * sizeof(*at));

	s->memory = at;
	s->sampler.weights = malloc(m->vocab * sizeof(*s->sampler.weights));
	s->sampler.heap = malloc(m->vocab * sizeof(*s->sampler.heap));
	if (!at || !s->sampler.weights || !s->sampler.heap)
		return -ENOMEM;
	s->normed = at;
	s->qkv = s->normed + tile * m->dim;
	s->gate_up = s->qkv + tile * ex->qkv_dim;
	s->inner = s->gate_up + tile * 2 * m->ffn_dim;
	return 0;
}

static int create_workers(struct executor_cpu *ex, unsigned int nr_threads)
{
	long nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int nr = nr_threads ? nr_threads : nr_cpus > 0 ? (unsigned int)nr_cpus : 1;
	int err;

	err = pkvrt_workers_create(&ex->team, nr);
	if (err)
		return err;
	ex->scratch = calloc(nr, sizeof(*ex->scratch));
	/* two a layer, and the last tiles, head and draws */
	ex->nr_phases = 2 * ex->model.nr_layers + 3;
	ex->next = calloc(ex->nr_phases, sizeof(*ex->next));
	if (!ex->scratch || !ex->next)
		return -ENOMEM;
	for (unsigned int i = 0; i < nr; i++) {
		err = create_scratch(ex, &ex->scratch[i]);
		if (err)
			return err;
	}
	return 0;
}

static void free_scratch(struct scratch *s)
{
	free(s->memory);
	free(s->sampler.weights);
	free(s->sampler.heap);
}

static void cpu_destroy(struct pkvrt_executor *base)
{
	struct executor_cpu *ex = self(base);

	for (unsigned int i = 0; ex->scratch && i < pkvrt_workers_nr(ex->team); i++)
		free_scratch(&ex->scratch[i]);
	free(ex->scratch);
	pkvrt_workers_destroy(ex->team);
	free(ex->next);
	free(ex->rows.memory);
	free(ex->last.memory);
	free(ex->logits);
	free(ex->tokens);
	free(ex->positions);
	free(ex->seq_of);
	free(ex->last_of);
	free(ex->query_start);
	free(ex->last_start);
	free(ex->context);
	free(ex->table_start);
	free(ex->table);
	pkvrt_weights_destroy(&ex->weights);
	free(ex->layers);
	free(ex);
}

static const struct pkvrt_executor_ops cpu_ops = {
	.destroy = cpu_destroy,
	.step = cpu_step,
	.copy_pages = cpu_copy_pages,
	.logits = cpu_logits,
	.tile_tokens = cpu_tile_tokens,
};

int pkvrt_executor_cpu_create(struct pkvrt_executor **out, const struct pkvrt_executor_params *p)
{
	struct executor_cpu *ex;
	int err;

	if ((uintptr_t)p->arena % 64 || (p->kv_dtype != PKV_F32 && p->kv_dtype != PKV_BF16))
		return -EINVAL;
	ex = calloc(1, sizeof(*ex));
	if (!ex)
		return -ENOMEM;

	ex->base.ops = &cpu_ops;
	ex->model = p->model;
	ex->arena = p->arena;
	ex->nr_slots = p->nr_slots;
	ex->qkv_dim = pkvrt_qkv_dim(&ex->model);
	ex->q_dim = ex->model.nr_q_heads * ex->model.head_dim;
	err = pkv_kv_layout_init(&ex->layout, p->kv_dtype, ex->model.nr_layers,
				 ex->model.nr_kv_heads, ex->model.head_dim, p->page_tokens);
	if (err)
		goto fail;
	err = pkvrt_weights_create(&ex->weights, &ex->model, p->seed);
	if (err)
		goto fail;
	err = create_layers(ex);
	if (err)
		goto fail;
	pkvrt_products_init();
	err = choose_tile(ex);
	if (err)
		goto fail;
	err = create_workers(ex, p->nr_threads);
	if (err)
		goto fail;
	*out = &ex->base;
	return 0;
fail:
	cpu_destroy(&ex->base);
	return err;
}
