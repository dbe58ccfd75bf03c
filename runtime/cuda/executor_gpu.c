// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A step on the GPU: all tokens of all chunks are the rows of one matrix, as on the CPU, and one
 * stream does all of it. What the step brings (tokens, lengths, what has changed in block tables,
 * draws) goes up in one copy; what was drawn comes back in one. Block tables live on the device.
 *
 * The residual stream is f32, what goes into products is bf16. Rows past the last one are whatever
 * was there before: no row reads another.
 */
#include "executor_gpu.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <pagedkv/pkv_cuda.h>

#include "../executor_home.h"
#include "../model.h"
#include "../sampler.h"
#include "error.h"
#include "products.h"
#include "weights.h"

#define MOST_HEAD_ROWS	256u	/* of a tile of logits, which are wide */
#define MIN_TABLE_ROWS	64u

struct gpu_layer {
	void *qkv, *out, *gate_up, *down;	/* turned */
};

/* Where the parts of a step lie in the upload buffer. */
struct step_parts {
	uint32_t *tokens;		/* [rows] */
	uint32_t *query_start;		/* [chunks + 1] */
	uint32_t *context;		/* [chunks] */
	uint32_t *table_rows;		/* [chunks] */
	uint32_t *drawn_rows;		/* [draws] the row that a draw is from */
	struct pkv_cuda_draw *draws;	/* [draws] */
	struct pkv_cuda_delta *deltas;
};

/* How large a step is. */
struct step_size {
	uint32_t nr_rows, nr_chunks, nr_draws, nr_deltas;
	uint32_t max_query, max_context;
};

struct executor_gpu {
	struct pkvrt_executor base;
	struct pkvrt_model model;
	struct pkv_kv_layout layout;
	void *arena;
	uint32_t nr_slots;
	int device;
	uint32_t qkv_dim, q_dim;
	cudaStream_t stream;
	struct pkvrt_gpu_blas *blas;
	struct pkvrt_gpu_product qkv, out, gate_up, down, head;

	void *memory;			/* of all weights */
	struct gpu_layer *layers;
	void *embedding, *head_weight;
	float *ones;			/* the weight of every norm */
	float *rotation;

	/* block tables */
	uint32_t *table;		/* device [table_rows][row_slots] */
	uint32_t *known;		/* [table_rows] leading entries that are on the device */
	uint32_t *stamps;		/* [table_rows] the last step that had this row */
	uint32_t stamp;
	uint32_t table_rows, row_slots;

	/* the step's upload: the same places in both memories */
	char *upload, *uploaded;
	uint64_t upload_room, upload_bytes, deltas_offset;

	/* rows; grown when a step has more than any before */
	void *rows;
	uint32_t rows_room;
	float *x;
	void *normed, *qkv_rows, *attended, *product, *gate_up_rows, *inner;
	void *drawn;			/* rows that have draws */
	uint32_t drawn_room;
	float *drawn_x, *logits;
	void *drawn_attended;
	uint32_t *chosen;		/* device [draws], behind them their logprobs */
	uint32_t *chosen_host;
	void *workspace;
	uint64_t workspace_bytes;

	struct step_size size;		/* of the last step */
	uint32_t *first_draw;		/* [chunks that had draws] a row of logits of each */
	uint32_t first_draw_room, nr_drawn_chunks;
	float *logits_host;		/* [vocab] */
	struct pkvrt_sampler sampler;
};

static struct executor_gpu *self(struct pkvrt_executor *base)
{
	return (struct executor_gpu *)base;
}

static uint32_t divide_up(uint64_t a, uint32_t b)
{
	return (uint32_t)((a + b - 1) / b);
}

static uint64_t align(uint64_t at, uint64_t unit)
{
	return (at + unit - 1) / unit * unit;
}

/* Takes a piece of memory; with base NULL it only counts. */
static void *piece(char *base, uint64_t *at, uint64_t bytes)
{
	void *p = base ? base + *at : NULL;

	*at = align(*at + bytes, 256);
	return p;
}

/* ---- room ---- */

static int regrow(void *place, uint64_t bytes)
{
	void **at = place;

	cudaFree(*at);
	*at = NULL;
	return pkvrt_cuda_errno(cudaMalloc(at, bytes));
}

/* What the layers need for rows of tokens, with room for the last tile to run over. */
static uint64_t place_rows(struct executor_gpu *ex, char *base, uint64_t nr)
{
	const struct pkvrt_model *m = &ex->model;
	uint64_t at = 0;

	ex->x = piece(base, &at, nr * m->dim * sizeof(float));
	ex->normed = piece(base, &at, nr * m->dim * 2);
	ex->qkv_rows = piece(base, &at, nr * ex->qkv_dim * 2);
	ex->attended = piece(base, &at, nr * ex->q_dim * 2);
	ex->product = piece(base, &at, nr * m->dim * 2);
	ex->gate_up_rows = piece(base, &at, nr * 2 * m->ffn_dim * 2);
	ex->inner = piece(base, &at, nr * m->ffn_dim * 2);
	return at;
}

static uint64_t place_drawn(struct executor_gpu *ex, char *base, uint64_t nr)
{
	uint64_t at = 0;

	ex->drawn_x = piece(base, &at, nr * ex->model.dim * sizeof(float));
	ex->drawn_attended = piece(base, &at, nr * ex->q_dim * 2);
	ex->chosen = piece(base, &at, nr * 2 * sizeof(uint32_t));
	ex->logits = piece(base, &at, (nr + MOST_HEAD_ROWS) * ex->model.vocab * sizeof(float));
	return at;
}

static int grow_rows(struct executor_gpu *ex, uint32_t nr_rows, uint32_t nr_draws)
{
	uint64_t nr;
	int ret = 0;

	if (nr_rows > ex->rows_room) {
		nr = align(nr_rows, 256) + PKVRT_GPU_MOST_ROWS;
		ex->rows_room = 0;
		ret = regrow(&ex->rows, place_rows(ex, NULL, nr));
		if (ret)
			return ret;
		place_rows(ex, ex->rows, nr);
		ex->rows_room = nr_rows;
	}
	if (nr_draws > ex->drawn_room) {
		nr = align(nr_draws, 64) + PKVRT_GPU_MOST_ROWS;
		ex->drawn_room = 0;
		ret = regrow(&ex->drawn, place_drawn(ex, NULL, nr));
		if (ret)
			return ret;
		place_drawn(ex, ex->drawn, nr);
		cudaFreeHost(ex->chosen_host);
		ex->chosen_host = NULL;
		ret = pkvrt_cuda_errno(cudaMallocHost((void **)&ex->chosen_host,
						      nr * 2 * sizeof(uint32_t)));
		ex->drawn_room = ret ? 0 : nr_draws;
	}
	return ret;
}

/* More block tables; those that are there move. */
static int grow_table(struct executor_gpu *ex, uint32_t row)
{
	uint64_t nr = ex->table_rows ? ex->table_rows : MIN_TABLE_ROWS;
	uint64_t row_bytes = ex->row_slots * sizeof(uint32_t);
	uint32_t *table = NULL, *known, *stamps;
	cudaError_t err;

	while (nr <= row)
		nr *= 2;
	if (nr == ex->table_rows)
		return 0;
	if (nr > UINT32_MAX)
		return -EINVAL;
	known = realloc(ex->known, nr * sizeof(*known));
	if (known)
		ex->known = known;
	stamps = realloc(ex->stamps, nr * sizeof(*stamps));
	if (stamps)
		ex->stamps = stamps;
	if (!known || !stamps)
		return -ENOMEM;
	memset(known + ex->table_rows, 0, (nr - ex->table_rows) * sizeof(*known));
	memset(stamps + ex->table_rows, 0, (nr - ex->table_rows) * sizeof(*stamps));
	err = cudaMalloc((void **)&table, nr * row_bytes);
	if (!err)
		err = cudaMemsetAsync(table, 0, nr * row_bytes, ex->stream);
	if (!err && ex->table)
		err = cudaMemcpyAsync(table, ex->table, ex->table_rows * row_bytes,
				      cudaMemcpyDeviceToDevice, ex->stream);
	if (!err)
		err = cudaStreamSynchronize(ex->stream);
	if (err) {
		cudaFree(table);
		return pkvrt_cuda_errno(err);
	}
	cudaFree(ex->table);
	ex->table = table;
	ex->table_rows = (uint32_t)nr;
	return 0;
}

static void place_step(struct executor_gpu *ex, const struct step_size *s, struct step_parts *to,
		       char *base)
{
	uint64_t at = 0;

	to->tokens = piece(base, &at, s->nr_rows * sizeof(uint32_t));
	to->query_start = piece(base, &at, (s->nr_chunks + 1ull) * sizeof(uint32_t));
	to->context = piece(base, &at, s->nr_chunks * sizeof(uint32_t));
	to->table_rows = piece(base, &at, s->nr_chunks * sizeof(uint32_t));
	to->drawn_rows = piece(base, &at, s->nr_draws * sizeof(uint32_t));
	to->draws = piece(base, &at, s->nr_draws * sizeof(struct pkv_cuda_draw));
	ex->deltas_offset = at;
	to->deltas = piece(base, &at, s->nr_deltas * sizeof(struct pkv_cuda_delta));
	ex->upload_bytes = at;
}

static int grow_upload(struct executor_gpu *ex, const struct step_size *s)
{
	struct step_parts none;
	uint64_t room;
	int ret;

	place_step(ex, s, &none, NULL);
	if (ex->upload_bytes <= ex->upload_room)
		return 0;
	room = ex->upload_bytes + ex->upload_bytes / 2;
	ex->upload_room = 0;
	ret = regrow(&ex->uploaded, room);
	cudaFreeHost(ex->upload);
	ex->upload = NULL;
	if (!ret)
		ret = pkvrt_cuda_errno(cudaMallocHost((void **)&ex->upload, room));
	ex->upload_room = ret ? 0 : room;
	return ret;
}

/* ---- taking a step in ---- */

static uint32_t chunk_pages(const struct executor_gpu *ex, const struct pkvrt_chunk *c)
{
	return divide_up((uint64_t)c->start + c->nr_tokens, ex->layout.page_tokens);
}

/* Entries of a chunk's table that the device has already. */
static uint32_t known_slots(const struct executor_gpu *ex, const struct pkvrt_chunk *c)
{
	uint32_t nr = c->table_row < ex->table_rows ? ex->known[c->table_row] : 0;

	return nr < c->nr_same ? nr : c->nr_same;
}

static int check_slots(const struct executor_gpu *ex, const struct pkvrt_chunk *c)
{
	for (uint32_t i = known_slots(ex, c); i < chunk_pages(ex, c); i++)
		if (c->slots[i] >= ex->nr_slots)
			return -EINVAL;
	return 0;
}

static int measure_step(struct executor_gpu *ex, const struct pkvrt_chunk *chunks, uint32_t nr,
			struct step_size *s, uint32_t *last_table_row)
{
	uint64_t rows = 0, draws = 0, deltas = 0;

	*s = (struct step_size){ .nr_chunks = nr };
	for (uint32_t i = 0; i < nr; i++) {
		const struct pkvrt_chunk *c = &chunks[i];
		uint32_t known, pages;

		if (pkvrt_executor_check_chunk(&ex->model, ex->layout.page_tokens, c) ||
		    check_slots(ex, c))
			return -EINVAL;
		known = known_slots(ex, c);
		pages = chunk_pages(ex, c);
		rows += c->nr_tokens;
		draws += c->nr_draws;
		deltas += pages > known ? pages - known : 0;
		if (c->nr_tokens > s->max_query)
			s->max_query = c->nr_tokens;
		if (c->start + c->nr_tokens > s->max_context)
			s->max_context = c->start + c->nr_tokens;
		if (c->table_row > *last_table_row)
			*last_table_row = c->table_row;
	}
	if (rows > INT32_MAX || draws > INT32_MAX || deltas > INT32_MAX)
		return -EINVAL;
	s->nr_rows = (uint32_t)rows;
	s->nr_draws = (uint32_t)draws;
	s->nr_deltas = (uint32_t)deltas;
	return 0;
}

static struct pkv_cuda_draw to_draw(const struct pkvrt_draw *d, uint32_t position)
{
	return (struct pkv_cuda_draw){
		.temperature = d->kind == PKVRT_SAMPLE ? d->temperature : 0,
		.top_p = d->kind == PKVRT_SAMPLE ? d->top_p : 1,
		.top_k = d->kind == PKVRT_SAMPLE ? d->top_k : 0,
		.position = position,
		.seed = d->seed,
	};
}

/* Two chunks with one block table would overwrite it. */
static int lay_out_table(struct executor_gpu *ex, const struct pkvrt_chunk *c,
			 struct pkv_cuda_delta *deltas, uint32_t *nr)
{
	uint32_t pages = chunk_pages(ex, c), known = known_slots(ex, c);

	if (ex->stamps[c->table_row] == ex->stamp)
		return -EINVAL;
	ex->stamps[c->table_row] = ex->stamp;
	for (uint32_t i = known; i < pages; i++)
		deltas[(*nr)++] = (struct pkv_cuda_delta){ c->table_row, i, c->slots[i] };
	/* Not known until the step has run; what it leaves out may be of another time. */
	ex->known[c->table_row] = 0;
	return 0;
}

static int lay_out(struct executor_gpu *ex, const struct pkvrt_chunk *chunks,
		   const struct step_size *s, struct step_parts *to)
{
	uint32_t row = 0, draw = 0, delta = 0;
	int err = 0;

	ex->nr_drawn_chunks = 0;
	ex->stamp++;
	to->query_start[0] = 0;
	for (uint32_t i = 0; i < s->nr_chunks && !err; i++) {
		const struct pkvrt_chunk *c = &chunks[i];

		memcpy(to->tokens + row, c->tokens, c->nr_tokens * sizeof(uint32_t));
		row += c->nr_tokens;
		to->query_start[i + 1] = row;
		to->context[i] = c->start + c->nr_tokens;
		to->table_rows[i] = c->table_row;
		if (c->nr_draws)
			ex->first_draw[ex->nr_drawn_chunks++] = draw;
		for (uint32_t j = 0; j < c->nr_draws; j++) {
			to->drawn_rows[draw] = row - 1;
			to->draws[draw++] = to_draw(&c->draws[j], c->start + c->nr_tokens);
		}
		err = lay_out_table(ex, c, to->deltas, &delta);
	}
	return err;
}

static int make_room(struct executor_gpu *ex, const struct step_size *s, uint32_t last_table_row)
{
	uint32_t *first;
	int err = grow_table(ex, last_table_row);

	if (!err)
		err = grow_upload(ex, s);
	if (!err)
		err = grow_rows(ex, s->nr_rows, s->nr_draws);
	if (!err && s->nr_chunks > ex->first_draw_room) {
		first = realloc(ex->first_draw, s->nr_chunks * sizeof(*first));
		if (!first)
			return -ENOMEM;
		ex->first_draw = first;
		ex->first_draw_room = s->nr_chunks;
	}
	return err;
}

static int upload(struct executor_gpu *ex, const struct step_size *s)
{
	struct pkv_cuda_upload u = {
		.size = sizeof(u), .nr_deltas = s->nr_deltas, .host = ex->upload,
		.device = ex->uploaded, .bytes = ex->upload_bytes,
		.deltas_offset = ex->deltas_offset, .table = ex->table,
		.table_row_slots = ex->row_slots, .nr_rows = ex->table_rows,
		.stream = ex->stream,
	};

	return pkv_cuda_upload(&u);
}

/* ---- the layers ---- */

/* Rows of the residual stream, and the product that is to be added to them. */
static int norm(struct executor_gpu *ex, float *x, const void *add, uint32_t nr)
{
	uint32_t dim = ex->model.dim;
	struct pkv_cuda_rms_norm n = {
		.size = sizeof(n), .nr_rows = nr, .nr_elements = dim, .eps = ex->model.norm_eps,
		.x_dtype = PKV_F32, .add_dtype = PKV_BF16, .weight_dtype = PKV_F32,
		.out_dtype = PKV_BF16, .x = x, .add = add, .weight = ex->ones, .out = ex->normed,
		.x_row_elements = dim, .add_row_elements = dim, .out_row_elements = dim,
		.stream = ex->stream,
	};

	return pkv_cuda_rms_norm(&n);
}

static int gather(struct executor_gpu *ex, const void *table, uint32_t nr_table,
		  uint32_t nr_elements, uint32_t dtype, const uint32_t *rows, void *out,
		  uint32_t out_dtype, uint32_t nr)
{
	struct pkv_cuda_gather_rows g = {
		.size = sizeof(g), .nr_rows = nr, .nr_elements = nr_elements,
		.nr_table_rows = nr_table, .table_dtype = dtype, .out_dtype = out_dtype,
		.table = table, .table_row_elements = nr_elements, .rows = rows, .out = out,
		.out_row_elements = nr_elements, .stream = ex->stream,
	};

	return pkv_cuda_gather_rows(&g);
}

static int write_cache(struct executor_gpu *ex, const struct step_parts *on, uint32_t layer)
{
	const struct pkvrt_model *m = &ex->model;
	uint32_t kv_dim = m->nr_kv_heads * m->head_dim;
	char *qkv = ex->qkv_rows;
	struct pkv_cuda_cache_write w = {
		.size = sizeof(w), .layout = &ex->layout, .base = ex->arena,
		.nr_slots = ex->nr_slots, .layer = layer, .nr_q_heads = m->nr_q_heads,
		.nr_seqs = ex->size.nr_chunks, .nr_tokens = ex->size.nr_rows,
		.src_dtype = PKV_BF16, .q_out_dtype = PKV_BF16, .rotary_dim = m->head_dim,
		.rotation = ex->rotation, .query_start = on->query_start,
		.context_tokens = on->context, .table = ex->table,
		.table_row_slots = ex->row_slots, .table_rows = on->table_rows,
		.q = qkv, .k = qkv + (size_t)ex->q_dim * 2,
		.v = qkv + (size_t)(ex->q_dim + kv_dim) * 2,
		.q_row_elements = ex->qkv_dim, .k_row_elements = ex->qkv_dim,
		.v_row_elements = ex->qkv_dim, .q_out = qkv, .q_out_row_elements = ex->qkv_dim,
		.stream = ex->stream,
	};

	return pkv_cuda_cache_write(&w);
}

static struct pkv_cuda_attention attention(const struct executor_gpu *ex,
					   const struct step_parts *on)
{
	return (struct pkv_cuda_attention){
		.size = sizeof(struct pkv_cuda_attention), .flags = PKV_CUDA_INVARIANT,
		.layout = &ex->layout, .base = ex->arena, .nr_slots = ex->nr_slots,
		.nr_q_heads = ex->model.nr_q_heads, .nr_seqs = ex->size.nr_chunks,
		.nr_tokens = ex->size.nr_rows, .max_query_tokens = ex->size.max_query,
		.max_context_tokens = ex->size.max_context, .q_dtype = PKV_BF16,
		.scale = 1 / sqrtf((float)ex->model.head_dim), .query_start = on->query_start,
		.context_tokens = on->context, .table = ex->table,
		.table_row_slots = ex->row_slots, .table_rows = on->table_rows,
		.q = ex->qkv_rows, .q_row_elements = ex->qkv_dim, .out = ex->attended,
		.workspace = ex->workspace, .workspace_bytes = ex->workspace_bytes,
		.stream = ex->stream,
	};
}

static int grow_workspace(struct executor_gpu *ex, const struct step_parts *on)
{
	struct pkv_cuda_attention a = attention(ex, on);
	uint64_t bytes = pkv_cuda_attention_workspace(&a);
	int err;

	if (bytes <= ex->workspace_bytes)
		return 0;
	ex->workspace_bytes = 0;
	bytes += bytes / 2;
	err = regrow(&ex->workspace, bytes);
	if (!err)
		err = pkvrt_cuda_errno(cudaMemsetAsync(ex->workspace, 0, bytes, ex->stream));
	ex->workspace_bytes = err ? 0 : bytes;
	return err;
}

static int multiply(struct executor_gpu *ex, const struct pkvrt_gpu_product *p, const void *weight,
		    const void *x, void *y, uint32_t nr)
{
	return pkvrt_gpu_product_run(ex->blas, p, weight, x, y, nr);
}

/* From rows that attention has left to the product that is to be added to x. */
static int feed_forward(struct executor_gpu *ex, uint32_t layer, float *x, const void *attended,
			uint32_t nr)
{
	const struct gpu_layer *l = &ex->layers[layer];
	uint32_t ffn = ex->model.ffn_dim;
	struct pkv_cuda_swiglu s = {
		.size = sizeof(s), .nr_rows = nr, .nr_elements = ffn, .src_dtype = PKV_BF16,
		.out_dtype = PKV_BF16, .gate = ex->gate_up_rows,
		.up = (char *)ex->gate_up_rows + (size_t)ffn * 2,
		.src_row_elements = 2 * (uint64_t)ffn, .out = ex->inner, .out_row_elements = ffn,
		.stream = ex->stream,
	};
	int err = multiply(ex, &ex->out, l->out, attended, ex->product, nr);

	if (!err)
		err = norm(ex, x, ex->product, nr);
	if (!err)
		err = multiply(ex, &ex->gate_up, l->gate_up, ex->normed, ex->gate_up_rows, nr);
	if (!err)
		err = pkv_cuda_swiglu(&s);
	return err ? err : multiply(ex, &ex->down, l->down, ex->inner, ex->product, nr);
}

/* All rows, up to and with the attention of the last layer. */
static int run_layers(struct executor_gpu *ex, const struct step_parts *on)
{
	const struct pkvrt_model *m = &ex->model;
	struct pkv_cuda_attention a = attention(ex, on);
	uint32_t nr = ex->size.nr_rows;
	int err = gather(ex, ex->embedding, m->vocab, m->dim, PKV_BF16, on->tokens, ex->x, PKV_F32,
			 nr);

	for (uint32_t i = 0; i < m->nr_layers && !err; i++) {
		if (i)
			err = feed_forward(ex, i - 1, ex->x, ex->attended, nr);
		if (!err)
			err = norm(ex, ex->x, i ? ex->product : NULL, nr);
		if (!err)
			err = multiply(ex, &ex->qkv, ex->layers[i].qkv, ex->normed, ex->qkv_rows,
				       nr);
		if (!err)
			err = write_cache(ex, on, i);
		a.layer = i;
		if (!err)
			err = pkv_cuda_attention(&a);
	}
	return err;
}

/* Rows that have draws go on: to logits, and to tokens. */
static int run_draws(struct executor_gpu *ex, const struct step_parts *on)
{
	const struct pkvrt_model *m = &ex->model;
	uint32_t nr = ex->size.nr_draws, rows = ex->size.nr_rows;
	struct pkv_cuda_sample s = {
		.size = sizeof(s), .dtype = PKV_F32, .nr_rows = nr, .vocab = m->vocab,
		.logits = ex->logits, .row_elements = m->vocab, .draws = on->draws,
		.tokens = ex->chosen, .logprobs = (float *)(ex->chosen + nr),
		.stream = ex->stream,
	};
	int err = gather(ex, ex->x, rows, m->dim, PKV_F32, on->drawn_rows, ex->drawn_x, PKV_F32,
			 nr);

	if (!err)
		err = gather(ex, ex->attended, rows, ex->q_dim, PKV_BF16, on->drawn_rows,
			     ex->drawn_attended, PKV_BF16, nr);
	if (!err)
		err = feed_forward(ex, m->nr_layers - 1, ex->drawn_x, ex->drawn_attended, nr);
	if (!err)
		err = norm(ex, ex->drawn_x, ex->product, nr);
	if (!err)
		err = multiply(ex, &ex->head, ex->head_weight, ex->normed, ex->logits, nr);
	if (!err)
		err = pkv_cuda_sample(&s);
	return err ? err : pkvrt_cuda_errno(cudaMemcpyAsync(
		ex->chosen_host, ex->chosen, nr * 2 * sizeof(uint32_t), cudaMemcpyDeviceToHost,
		ex->stream));
}

static int fetch_logits(struct executor_gpu *ex, uint32_t row)
{
	cudaError_t err = cudaMemcpyAsync(ex->logits_host,
					  ex->logits + (size_t)row * ex->model.vocab,
					  ex->model.vocab * sizeof(float), cudaMemcpyDeviceToHost,
					  ex->stream);

	return pkvrt_cuda_errno(err ? err : cudaStreamSynchronize(ex->stream));
}

/* Beam search's candidates are chosen on the CPU. */
static int hand_out(struct executor_gpu *ex, struct pkvrt_chunk *chunks)
{
	const float *logprobs = (const float *)(ex->chosen_host + ex->size.nr_draws);
	uint32_t draw = 0;
	int err = 0;

	for (uint32_t i = 0; i < ex->size.nr_chunks; i++) {
		const struct pkvrt_chunk *c = &chunks[i];

		for (uint32_t j = 0; j < c->nr_draws && !err; j++, draw++) {
			struct pkvrt_draw *d = &c->draws[j];

			d->out.token = ex->chosen_host[draw];
			d->out.logprob = logprobs[draw];
			if (d->kind != PKVRT_TOP)
				continue;
			err = fetch_logits(ex, draw);
			if (!err)
				pkvrt_draw_make(d, ex->logits_host, ex->model.vocab,
						c->start + c->nr_tokens, &ex->sampler);
		}
		ex->known[c->table_row] = chunk_pages(ex, c);
	}
	return err;
}

static int gpu_step(struct pkvrt_executor *base, struct pkvrt_chunk *chunks, unsigned int nr_chunks)
{
	struct executor_gpu *ex = self(base);
	struct step_parts host, on;
	struct step_size s;
	uint32_t last_table_row = 0;
	int err = pkvrt_cuda_errno(cudaSetDevice(ex->device));

	ex->nr_drawn_chunks = 0;
	if (err || !nr_chunks)
		return err;
	err = measure_step(ex, chunks, nr_chunks, &s, &last_table_row);
	if (!err)
		err = make_room(ex, &s, last_table_row);
	if (err)
		return err;
	place_step(ex, &s, &on, ex->uploaded);
	place_step(ex, &s, &host, ex->upload);
	ex->size = s;
	err = lay_out(ex, chunks, &s, &host);
	if (!err)
		err = grow_workspace(ex, &on);
	if (!err)
		err = upload(ex, &s);
	if (!err)
		err = run_layers(ex, &on);
	if (!err && s.nr_draws)
		err = run_draws(ex, &on);
	if (pkvrt_cuda_errno(cudaStreamSynchronize(ex->stream)) && !err)
		err = -EIO;
	if (!err)
		err = hand_out(ex, chunks);
	if (err)
		ex->nr_drawn_chunks = 0;
	return err;
}

/* How many of the first copies may run at once: none touches what another writes. */
static size_t independent(const struct pkv_page_copy *copies, size_t nr)
{
	for (size_t i = 1; i < nr; i++)
		for (size_t j = 0; j < i; j++)
			if (copies[i].src == copies[j].dst || copies[i].dst == copies[j].dst ||
			    copies[i].dst == copies[j].src)
				return i;
	return nr;
}

static int gpu_copy_pages(struct pkvrt_executor *base, const struct pkv_page_copy *copies,
			  size_t nr)
{
	enum { AT_ONCE = 64 };
	struct executor_gpu *ex = self(base);
	uint32_t src[AT_ONCE], dst[AT_ONCE];
	struct pkv_cuda_page_copy c = {
		.size = sizeof(c), .flags = PKV_CUDA_HOST_LISTS, .src_layout = &ex->layout,
		.dst_layout = &ex->layout, .src_base = ex->arena, .dst_base = ex->arena,
		.nr_src_slots = ex->nr_slots, .nr_dst_slots = ex->nr_slots, .src_slots = src,
		.dst_slots = dst, .stream = ex->stream,
	};
	int err = pkvrt_cuda_errno(cudaSetDevice(ex->device));

	for (size_t i = 0; i < nr; i++)
		if (copies[i].src >= ex->nr_slots || copies[i].dst >= ex->nr_slots)
			return -EINVAL;
	for (size_t first = 0; first < nr && !err; first += c.nr_copies) {
		c.nr_copies = (uint32_t)independent(copies + first, nr - first < AT_ONCE ?
						    nr - first : AT_ONCE);
		for (uint32_t i = 0; i < c.nr_copies; i++) {
			src[i] = copies[first + i].src;
			dst[i] = copies[first + i].dst;
		}
		err = pkv_cuda_page_copy(&c);
	}
	if (pkvrt_cuda_errno(cudaStreamSynchronize(ex->stream)) && !err)
		err = -EIO;
	return err;
}

static const float *gpu_logits(struct pkvrt_executor *base, unsigned int i)
{
	struct executor_gpu *ex = self(base);

	if (i >= ex->nr_drawn_chunks || fetch_logits(ex, ex->first_draw[i]))
		return NULL;
	return ex->logits_host;
}

static unsigned int gpu_tile_tokens(struct pkvrt_executor *base)
{
	return self(base)->qkv.tiles[0].nr_rows;
}

/* ---- create and destroy ---- */

static uint64_t place_weights(struct executor_gpu *ex, char *base)
{
	const struct pkvrt_model *m = &ex->model;
	uint64_t at = 0;

	for (uint32_t i = 0; i < m->nr_layers; i++) {
		struct gpu_layer *l = &ex->layers[i];

		l->qkv = piece(base, &at, (uint64_t)m->dim * ex->qkv_dim * 2);
		l->out = piece(base, &at, (uint64_t)ex->q_dim * m->dim * 2);
		l->gate_up = piece(base, &at, (uint64_t)m->dim * 2 * m->ffn_dim * 2);
		l->down = piece(base, &at, (uint64_t)m->ffn_dim * m->dim * 2);
	}
	ex->embedding = piece(base, &at, (uint64_t)m->vocab * m->dim * 2);
	ex->head_weight = piece(base, &at, (uint64_t)m->vocab * m->dim * 2);
	ex->ones = piece(base, &at, m->dim * sizeof(float));
	ex->rotation = piece(base, &at, (uint64_t)m->max_tokens * m->head_dim * sizeof(float));
	return at;
}

static cudaError_t fill(struct executor_gpu *ex, uint64_t seed, enum pkvrt_tensor tensor,
			uint32_t layer, void *to)
{
	return pkvrt_gpu_matrix_fill(to, pkvrt_model_matrix(&ex->model, seed, tensor, layer),
				     tensor != PKVRT_EMBEDDING, ex->stream);
}

/* The tables that the host makes. */
static int fill_tables(struct executor_gpu *ex)
{
	const struct pkvrt_model *m = &ex->model;
	size_t nr = (size_t)m->max_tokens * m->head_dim, most = nr > m->dim ? nr : m->dim;
	float *host = malloc(most * sizeof(*host));
	cudaError_t err;

	if (!host)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->dim; i++)
		host[i] = 1;
	err = cudaMemcpy(ex->ones, host, m->dim * sizeof(*host), cudaMemcpyHostToDevice);
	pkvrt_rotation_fill(host, m);
	if (!err)
		err = cudaMemcpy(ex->rotation, host, nr * sizeof(*host), cudaMemcpyHostToDevice);
	free(host);
	return pkvrt_cuda_errno(err);
}

static int create_weights(struct executor_gpu *ex, uint64_t seed)
{
	cudaError_t err;

	ex->layers = calloc(ex->model.nr_layers, sizeof(*ex->layers));
	if (!ex->layers)
		return -ENOMEM;
	err = cudaMalloc(&ex->memory, place_weights(ex, NULL));
	if (err)
		return pkvrt_cuda_errno(err);
	place_weights(ex, ex->memory);
	for (uint32_t i = 0; i < ex->model.nr_layers && !err; i++) {
		err = fill(ex, seed, PKVRT_QKV, i, ex->layers[i].qkv);
		if (!err)
			err = fill(ex, seed, PKVRT_OUT, i, ex->layers[i].out);
		if (!err)
			err = fill(ex, seed, PKVRT_GATE_UP, i, ex->layers[i].gate_up);
		if (!err)
			err = fill(ex, seed, PKVRT_DOWN, i, ex->layers[i].down);
	}
	if (!err)
		err = fill(ex, seed, PKVRT_EMBEDDING, 0, ex->embedding);
	if (!err)
		err = fill(ex, seed, PKVRT_HEAD, 0, ex->head_weight);
	return err ? pkvrt_cuda_errno(err) : fill_tables(ex);
}

static int create_product(struct executor_gpu *ex, struct pkvrt_gpu_product *p, const void *weight,
			  uint32_t nr_in, uint32_t nr_out)
{
	*p = (struct pkvrt_gpu_product){
		.nr_in = nr_in, .nr_out = nr_out,
		.out_type = p == &ex->head ? CUDA_R_32F : CUDA_R_16BF,
		.most_rows = p == &ex->head ? MOST_HEAD_ROWS : PKVRT_GPU_MOST_ROWS,
	};
	return pkvrt_gpu_product_create(ex->blas, p, weight);
}

/* All layers have the same shapes. */
static int create_products(struct executor_gpu *ex)
{
	const struct pkvrt_model *m = &ex->model;
	const struct gpu_layer *l = &ex->layers[0];
	int err = pkvrt_gpu_blas_create(&ex->blas, ex->stream);

	if (!err)
		err = create_product(ex, &ex->qkv, l->qkv, m->dim, ex->qkv_dim);
	if (!err)
		err = create_product(ex, &ex->out, l->out, ex->q_dim, m->dim);
	if (!err)
		err = create_product(ex, &ex->gate_up, l->gate_up, m->dim, 2 * m->ffn_dim);
	if (!err)
		err = create_product(ex, &ex->down, l->down, m->ffn_dim, m->dim);
	return err ? err : create_product(ex, &ex->head, ex->head_weight, m->dim, m->vocab);
}

static int create_sampler(struct executor_gpu *ex)
{
	size_t bytes = ex->model.vocab * sizeof(float);

	ex->sampler.weights = malloc(bytes);
	ex->sampler.heap = malloc(bytes);
	if (!ex->sampler.weights || !ex->sampler.heap)
		return -ENOMEM;
	return pkvrt_cuda_errno(cudaMallocHost((void **)&ex->logits_host, bytes));
}

static void gpu_destroy(struct pkvrt_executor *base)
{
	struct executor_gpu *ex = self(base);

	cudaSetDevice(ex->device);
	if (ex->stream)
		cudaStreamSynchronize(ex->stream);
	pkvrt_gpu_product_destroy(&ex->qkv);
	pkvrt_gpu_product_destroy(&ex->out);
	pkvrt_gpu_product_destroy(&ex->gate_up);
	pkvrt_gpu_product_destroy(&ex->down);
	pkvrt_gpu_product_destroy(&ex->head);
	pkvrt_gpu_blas_destroy(ex->blas);
	cudaFree(ex->memory);
	cudaFree(ex->table);
	cudaFree(ex->uploaded);
	cudaFreeHost(ex->upload);
	cudaFree(ex->rows);
	cudaFree(ex->drawn);
	cudaFreeHost(ex->chosen_host);
	cudaFreeHost(ex->logits_host);
	cudaFree(ex->workspace);
	if (ex->stream)
		cudaStreamDestroy(ex->stream);
	free(ex->sampler.weights);
	free(ex->sampler.heap);
	free(ex->layers);
	free(ex->known);
	free(ex->stamps);
	free(ex->first_draw);
	free(ex);
}

static const struct pkvrt_executor_ops gpu_ops = {
	.destroy = gpu_destroy,
	.step = gpu_step,
	.copy_pages = gpu_copy_pages,
	.logits = gpu_logits,
	.tile_tokens = gpu_tile_tokens,
};

int pkvrt_executor_gpu_create(struct pkvrt_executor **out, const struct pkvrt_executor_params *p)
{
	struct executor_gpu *ex;
	int err;

	if (p->kv_dtype != PKV_BF16 || p->model.vocab > PKV_CUDA_MAX_VOCAB)
		return -EOPNOTSUPP;
	ex = calloc(1, sizeof(*ex));
	if (!ex)
		return -ENOMEM;
	ex->base.ops = &gpu_ops;
	ex->model = p->model;
	ex->arena = p->arena;
	ex->nr_slots = p->nr_slots;
	ex->device = p->device;
	ex->qkv_dim = pkvrt_qkv_dim(&ex->model);
	ex->q_dim = ex->model.nr_q_heads * ex->model.head_dim;
	ex->row_slots = (uint32_t)align(divide_up(ex->model.max_tokens, p->page_tokens), 4);
	err = pkv_kv_layout_init(&ex->layout, p->kv_dtype, ex->model.nr_layers,
				 ex->model.nr_kv_heads, ex->model.head_dim, p->page_tokens);
	if (!err)
		err = pkvrt_cuda_errno(cudaSetDevice(ex->device));
	if (!err)
		err = pkvrt_cuda_errno(cudaStreamCreateWithFlags(&ex->stream,
								 cudaStreamNonBlocking));
	if (!err)
		err = create_weights(ex, p->seed);
	if (!err)
		err = create_products(ex);
	if (!err)
		err = create_sampler(ex);
	if (err) {
		gpu_destroy(&ex->base);
		return err;
	}
	*out = &ex->base;
	return 0;
}
