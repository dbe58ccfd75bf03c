/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The model's weights and its row-wise arithmetic, for the executor.
 */
#ifndef PKVRT_MODEL_H
#define PKVRT_MODEL_H

#include <pagedkv/cache.h>

#include "executor.h"

/* Matrices are [rows of input][columns of output], row-major. */
struct pkvrt_layer {
	float *attention_norm;	/* [dim] */
	float *qkv;		/* [dim][q heads, k heads, v heads] */
	float *out;		/* [q heads * head_dim][dim] */
	float *ffn_norm;	/* [dim] */
	float *gate_up;		/* [dim][gate, up] */
	float *down;		/* [ffn_dim][dim] */
};

struct pkvrt_weights {
	struct pkvrt_layer *layers;
	float *embedding;	/* [vocab][dim] */
	float *norm;		/* [dim] */
	float *head;		/* [dim][vocab] */
	float *rotation;	/* [max_tokens][head_dim / 2][cos, sin] */
	float *memory;		/* of all the above */
};

/* Columns of a row of the q, k and v product. */
static inline uint32_t pkvrt_qkv_dim(const struct pkvrt_model *m)
{
	return (m->nr_q_heads + 2 * m->nr_kv_heads) * m->head_dim;
}

enum pkvrt_tensor {
	PKVRT_QKV,
	PKVRT_OUT,
	PKVRT_GATE_UP,
	PKVRT_DOWN,
	PKVRT_EMBEDDING,	/* this one and the next are of no layer */
	PKVRT_HEAD,
};

/* What is in a matrix: element i is (int32_t)(pkvrt_mix64(stream + i) >> 32) * scale. */
struct pkvrt_matrix {
	uint64_t stream;
	float scale;
	uint64_t nr_in, nr_out;	/* rows, columns */
};

struct pkvrt_matrix pkvrt_model_matrix(const struct pkvrt_model *m, uint64_t seed,
				       enum pkvrt_tensor tensor, uint32_t layer);

/* [max_tokens][head_dim / 2][cos, sin] */
void pkvrt_rotation_fill(float *rotation, const struct pkvrt_model *m);

/* Makes the weights of a checked model. Return: 0; -ENOMEM; -EOVERFLOW. */
int pkvrt_weights_create(struct pkvrt_weights *w, const struct pkvrt_model *m, uint64_t seed);
void pkvrt_weights_destroy(struct pkvrt_weights *w);

/* out = x / rms(x) * weight, of n floats, a multiple of 8 */
void pkvrt_rms_norm(float *out, const float *x, const float *weight, uint32_t n, float eps);

/* Rotates nr_heads heads of x, one after the other, by a row of rotation. */
void pkvrt_rotate(float *x, const float *rotation, uint32_t nr_heads, uint32_t head_dim);

/* out = silu(gate) * up, of n floats */
void pkvrt_swiglu(float *out, const float *gate, const float *up, uint32_t n);

/* x = exp(x), of n floats; 0 where that is below 2^-126. Returns their sum. */
double pkvrt_exp_sum(float *x, uint32_t n);

#endif
