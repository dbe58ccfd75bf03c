// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Weights are numbers of a counter-mode generator, scaled by the fan-in so that the
 * residual stream keeps its size through the layers. Attention and the head are
 * made sharper than a fresh model's, or greedy decoding would hear nothing of its context
 * and repeat one token.
 */
#include "model.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"

#define MAX_LAYERS	1024
#define MAX_DIM		65536
#define MAX_VOCAB	(1 << 20)
#define MAX_TOKENS	(1 << 20)
#define MAX_BYTES	(UINT64_C(1) << 40)

#define QKV_GAIN	1.7f	/* scores of about 3, the gain's square */
#define OUT_GAIN	2.0f	/* a mean of many values is small */
#define HEAD_GAIN	3.0f	/* the best of 2048 tokens gets a fifth of the weight */

struct pkvrt_model pkvrt_model_default(void)
{
	return (struct pkvrt_model){
		.nr_layers = 4,
		.dim = 256,
		.nr_q_heads = 4,
		.nr_kv_heads = 2,
		.head_dim = 64,
		.ffn_dim = 512,
		.vocab = 2048,
		.max_tokens = 8192,
		.rope_theta = 10000,
		.norm_eps = 1e-5f,
	};
}

struct pkvrt_model pkvrt_model_llama_8b(void)
{
	return (struct pkvrt_model){
		.nr_layers = 32,
		.dim = 4096,
		.nr_q_heads = 32,
		.nr_kv_heads = 8,
		.head_dim = 128,
		.ffn_dim = 14336,
		.vocab = 128256,
		.max_tokens = 8192,
		.rope_theta = 500000,
		.norm_eps = 1e-5f,
	};
}

static bool sizes_valid(const struct pkvrt_model *m)
{
	return m && m->nr_layers && m->nr_layers <= MAX_LAYERS && m->dim && m->dim <= MAX_DIM &&
	       m->dim % 8 == 0 && m->ffn_dim && m->ffn_dim <= MAX_DIM && m->ffn_dim % 8 == 0 &&
	       m->head_dim && m->head_dim % 8 == 0 && m->head_dim <= PKV_MAX_HEAD_DIM &&
	       m->nr_kv_heads && m->nr_q_heads % m->nr_kv_heads == 0 && m->nr_q_heads &&
	       m->nr_q_heads <= MAX_DIM / m->head_dim &&
	       m->nr_q_heads / m->nr_kv_heads <= PKV_MAX_GROUP && m->vocab > 1 &&
	       m->vocab <= MAX_VOCAB && m->max_tokens && m->max_tokens <= MAX_TOKENS &&
	       isfinite(m->rope_theta) && m->rope_theta >= 1 && isfinite(m->norm_eps) &&
	       m->norm_eps > 0;
}

/* With sizes_valid()'s limits no product here can pass 64 bits. */
static uint64_t layer_params(const struct pkvrt_model *m)
{
	uint64_t heads = (uint64_t)m->nr_q_heads * m->head_dim;

	return 2 * (uint64_t)m->dim + (uint64_t)m->dim * pkvrt_qkv_dim(m) + heads * m->dim +
	       3 * (uint64_t)m->dim * m->ffn_dim;
}

uint64_t pkvrt_model_nr_params(const struct pkvrt_model *m)
{
	if (!sizes_valid(m))
		return 0;
	return m->nr_layers * layer_params(m) + 2 * (uint64_t)m->vocab * m->dim + m->dim;
}

int pkvrt_model_check(const struct pkvrt_model *m)
{
	if (!sizes_valid(m))
		return -EINVAL;
	return pkvrt_model_nr_params(m) > MAX_BYTES / sizeof(float) ? -EOVERFLOW : 0;
}

size_t pkvrt_model_page_bytes(const struct pkvrt_model *m, uint32_t page_tokens, uint32_t kv_dtype)
{
	struct pkv_kv_layout layout;

	if (pkvrt_model_check(m) ||
	    pkv_kv_layout_init(&layout, kv_dtype, m->nr_layers, m->nr_kv_heads, m->head_dim,
			       page_tokens))
		return 0;
	return layout.page_stride_bytes;
}

uint64_t pkvrt_model_fingerprint(const struct pkvrt_model *m, uint64_t seed, uint32_t page_tokens,
				 uint32_t kv_dtype, bool on_gpu)
{
	uint32_t theta, eps;
	uint64_t hash;

	memcpy(&theta, &m->rope_theta, sizeof(theta));
	memcpy(&eps, &m->norm_eps, sizeof(eps));
	const uint64_t parts[] = {
		seed, m->nr_layers, m->dim, m->nr_q_heads, m->nr_kv_heads, m->head_dim, m->ffn_dim,
		m->vocab, theta, eps, page_tokens, kv_dtype,
	};

	hash = pkvrt_mix64(sizeof(parts) + on_gpu);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		hash = pkvrt_mix2(hash, parts[i]);
	return hash ? hash : 1;
}

/* Uniform with variance gain^2 / nr_in. */
static struct pkvrt_matrix matrix(uint64_t seed, uint64_t tensor, uint64_t nr_in, uint64_t nr_out,
				  uint32_t fan_in, float gain)
{
	return (struct pkvrt_matrix){
		.stream = pkvrt_mix2(seed, tensor),
		.scale = gain * sqrtf(3.0f / (float)fan_in) * 0x1p-31f,
		.nr_in = nr_in,
		.nr_out = nr_out,
	};
}

struct pkvrt_matrix pkvrt_model_matrix(const struct pkvrt_model *m, uint64_t seed,
				       enum pkvrt_tensor tensor, uint32_t layer)
{
	uint64_t first = 4 * (uint64_t)layer, last = 4 * (uint64_t)m->nr_layers;
	uint32_t heads = m->nr_q_heads * m->head_dim, dim = m->dim, ffn = m->ffn_dim;

	switch (tensor) {
	case PKVRT_QKV:
		return matrix(seed, first, dim, pkvrt_qkv_dim(m), dim, QKV_GAIN);
	case PKVRT_OUT:
		return matrix(seed, first + 1, heads, dim, heads, OUT_GAIN / QKV_GAIN);
	case PKVRT_GATE_UP:
		return matrix(seed, first + 2, dim, 2 * (uint64_t)ffn, dim, 1);
	case PKVRT_DOWN:
		return matrix(seed, first + 3, ffn, dim, ffn, 1);
	case PKVRT_EMBEDDING:
		return matrix(seed, last, m->vocab, dim, 1, 1);
	case PKVRT_HEAD:
		break;
	}
	return matrix(seed, last + 1, dim, m->vocab, dim, HEAD_GAIN);
}

static void fill(float *w, const struct pkvrt_model *m, uint64_t seed, enum pkvrt_tensor tensor,
		 uint32_t layer)
{
	struct pkvrt_matrix x = pkvrt_model_matrix(m, seed, tensor, layer);

	for (uint64_t i = 0; i < x.nr_in * x.nr_out; i++)
		w[i] = (float)(int32_t)(pkvrt_mix64(x.stream + i) >> 32) * x.scale;
}

static void fill_ones(float *w, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		w[i] = 1;
}

void pkvrt_rotation_fill(float *rotation, const struct pkvrt_model *m)
{
	uint32_t half = m->head_dim / 2;

	for (uint32_t i = 0; i < half; i++) {
		double step = pow((double)m->rope_theta, -2.0 * i / m->head_dim);

		for (uint32_t p = 0; p < m->max_tokens; p++) {
			float *r = rotation + ((size_t)p * half + i) * 2;

			r[0] = (float)cos(p * step);
			r[1] = (float)sin(p * step);
		}
	}
}

/* Hands out memory in pieces that begin on a cache line. */
static float *piece(float **at, uint64_t nr)
{
	float *start = *at;

	*at += (nr + 15) / 16 * 16;
	return start;
}

int pkvrt_weights_create(struct pkvrt_weights *w, const struct pkvrt_model *m, uint64_t seed)
{
	uint64_t heads = (uint64_t)m->nr_q_heads * m->head_dim;
	uint64_t rotation = (uint64_t)m->max_tokens * m->head_dim;
	/* room for each piece to end on a cache line */
	uint64_t floats = pkvrt_model_nr_params(m) + rotation +
			  16 * (6 * (uint64_t)m->nr_layers + 4);
	float *at;

	memset(w, 0, sizeof(*w));
	if (floats > SIZE_MAX / sizeof(float) - 64)
		return -EOVERFLOW;
	w->layers = calloc(m->nr_layers, sizeof(*w->layers));
	w->memory = aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64);
	if (!w->layers || !w->memory) {
		pkvrt_weights_destroy(w);
		return -ENOMEM;
	}

	at = w->memory;
	for (uint32_t i = 0; i < m->nr_layers; i++) {
		struct pkvrt_layer *l = &w->layers[i];

		l->attention_norm = piece(&at, m->dim);
		l->qkv = piece(&at, (uint64_t)m->dim * pkvrt_qkv_dim(m));
		l->out = piece(&at, heads * m->dim);
		l->ffn_norm = piece(&at, m->dim);
		l->gate_up = piece(&at, (uint64_t)m->dim * 2 * m->ffn_dim);
		l->down = piece(&at, (uint64_t)m->ffn_dim * m->dim);
		fill_ones(l->attention_norm, m->dim);
		fill_ones(l->ffn_norm, m->dim);
		fill(l->qkv, m, seed, PKVRT_QKV, i);
		fill(l->out, m, seed, PKVRT_OUT, i);
		fill(l->gate_up, m, seed, PKVRT_GATE_UP, i);
		fill(l->down, m, seed, PKVRT_DOWN, i);
	}
	w->embedding = piece(&at, (uint64_t)m->vocab * m->dim);
	w->norm = piece(&at, m->dim);
	w->head = piece(&at, (uint64_t)m->dim * m->vocab);
	w->rotation = piece(&at, rotation);
	fill(w->embedding, m, seed, PKVRT_EMBEDDING, 0);
	fill_ones(w->norm, m->dim);
	fill(w->head, m, seed, PKVRT_HEAD, 0);
	pkvrt_rotation_fill(w->rotation, m);
	return 0;
}

void pkvrt_weights_destroy(struct pkvrt_weights *w)
{
	free(w->layers);
	free(w->memory);
	memset(w, 0, sizeof(*w));
}

void pkvrt_rms_norm(float *out, const float *x, const float *weight, uint32_t n, float eps)
{
	float part[8] = { 0 }, scale;

	for (uint32_t i = 0; i < n; i += 8)
		for (uint32_t j = 0; j < 8; j++)
			part[j] += x[i + j] * x[i + j];
	scale = ((part[0] + part[4]) + (part[1] + part[5])) +
		((part[2] + part[6]) + (part[3] + part[7]));
	scale = 1 / sqrtf(scale / (float)n + eps);
	for (uint32_t i = 0; i < n; i++)
		out[i] = x[i] * scale * weight[i];
}

void pkvrt_rotate(float *restrict x, const float *restrict rotation, uint32_t nr_heads,
		  uint32_t head_dim)
{
	uint32_t half = head_dim / 2;

	for (uint32_t h = 0; h < nr_heads; h++, x += head_dim) {
		for (uint32_t i = 0; i < half; i++) {
			float c = rotation[2 * i], s = rotation[2 * i + 1];
			float a = x[i], b = x[half + i];

			x[i] = a * c - b * s;
			x[half + i] = a * s + b * c;
		}
	}
}

/* exp(x), to some 2 ulp, in a form that compilers turn into vectors; 0 below -87.3. */
static inline float fast_exp(float x)
{
	const float round = 12582912.0f;	/* 1.5 * 2^23: adding it drops the fraction */
	float bounded = x < -87.3f ? -87.3f : x > 88.0f ? 88.0f : x;
	float n = (bounded * 1.44269504f + round) - round;
	float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
	float y = 1.0f / 5040, power;
	uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;

	y = y * r + 1.0f / 720;
	y = y * r + 1.0f / 120;
	y = y * r + 1.0f / 24;
	y = y * r + 1.0f / 6;
	y = y * r + 0.5f;
	y = y * r + 1.0f;
	y = y * r + 1.0f;
	memcpy(&power, &bits, sizeof(power));
	return x < -87.3f ? 0 : y * power;
}

void pkvrt_swiglu(float *restrict out, const float *restrict gate, const float *restrict up,
		  uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		out[i] = gate[i] / (1 + fast_exp(-gate[i])) * up[i];
}

double pkvrt_exp_sum(float *x, uint32_t n)
{
	double sum = 0;

	for (uint32_t i = 0; i < n; i++)
		x[i] = fast_exp(x[i]);
	for (uint32_t i = 0; i < n; i++)
		sum += (double)x[i];
	return sum;
}
