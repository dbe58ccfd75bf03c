/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The model executor: a Llama-shaped decoder (RMSNorm, RoPE, grouped queries,
 * SwiGLU) with seeded weights, whose K and V live in the device tier's slots. It has two homes,
 * the CPU and a GPU, whose tokens differ: one computes in f32, the other in bf16.
 *
 * Batch invariance: the logits of a token are a function of the model, the seed,
 * the KV dtype, page_tokens and the tokens before it, bit for bit. They don't depend
 * on the other chunks of a step, on how a prompt was cut into chunks, on the row a
 * token got, on the slots of its pages or on the number of threads. It rests on:
 *  - attention: pkv_attention()'s own invariance (kernels/include/pagedkv/attention.h);
 *  - products: each weight has one GEMM shape, a tile of 16 rows, padded with zeros,
 *    prefill and decode alike. What remains is that BLAS computes a row of such a tile
 *    the same way at every place in the tile. No BLAS promises this, so
 *    pkvrt_executor_create() tries it for each shape. Where it does not hold (OpenBLAS
 *    0.3.21's AVX2 kernels take rows by twelves and fours, which round differently) tiles
 *    of 16, 8, 4, 2 rows are tried; one row, slow, is true by construction;
 *  - all else (norms, rotation, SwiGLU, sampling) works on one row at a time;
 *  - randomness of sampling is a function of (seed, position) only.
 * It holds between runs on the same CPU type with the same BLAS. On a GPU it rests on the same:
 * PKV_CUDA_INVARIANT for attention, one try of cuBLAS at each size of a product.
 */
#ifndef PKVRT_EXECUTOR_H
#define PKVRT_EXECUTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pkv_page_copy;
struct pkvrt_executor;

struct pkvrt_model {
	uint32_t nr_layers;
	uint32_t dim;			/* of the residual stream */
	uint32_t nr_q_heads;
	uint32_t nr_kv_heads;
	uint32_t head_dim;
	uint32_t ffn_dim;
	uint32_t vocab;			/* tokens are 0 .. vocab - 1 */
	uint32_t max_tokens;		/* longest context */
	float rope_theta;
	float norm_eps;
};

/**
 * pkvrt_model_default - the model of the main job, about 3 million parameters
 */
struct pkvrt_model pkvrt_model_default(void);

/**
 * pkvrt_model_llama_8b - the shape of Llama-3-8B: 16 GB in bf16, twice that on a CPU
 */
struct pkvrt_model pkvrt_model_llama_8b(void);

/**
 * pkvrt_model_check - can this model be executed?
 *
 * Return: 0; -EINVAL for a size out of range; -EOVERFLOW when its weights would pass 1 TiB.
 */
int pkvrt_model_check(const struct pkvrt_model *model);

/**
 * pkvrt_model_page_bytes - bytes of a page, a multiple of 4096 with default sizes
 * @kv_dtype: PKV_F32 or PKV_BF16 of <pagedkv/cache.h>
 *
 * Return: 0 when the model, page_tokens or dtype is not valid.
 */
size_t pkvrt_model_page_bytes(const struct pkvrt_model *model, uint32_t page_tokens,
			      uint32_t kv_dtype);

/**
 * pkvrt_model_nr_params - number of weights
 */
uint64_t pkvrt_model_nr_params(const struct pkvrt_model *model);

/**
 * pkvrt_model_fingerprint - names what a page's bytes mean
 *
 * Two executors whose fingerprints differ must not read each other's pages. Covers the
 * model, the seed, the KV dtype, page_tokens and the home. Never 0.
 */
uint64_t pkvrt_model_fingerprint(const struct pkvrt_model *model, uint64_t seed,
				 uint32_t page_tokens, uint32_t kv_dtype, bool on_gpu);

struct pkvrt_executor_params {
	struct pkvrt_model model;
	uint64_t seed;			/* of the weights */
	unsigned int nr_threads;	/* workers, the caller of step among them; 0: one a CPU */
	uint32_t kv_dtype;		/* PKV_F32 or PKV_BF16 */
	uint32_t page_tokens;
	uint32_t nr_slots;
	void *arena;			/* slot 0, borrowed, 64-byte aligned; nr_slots pages */
	/* NULL: on the CPU. A GPU's own, of struct pkvrt_gpu_ops: the arena is in its memory */
	int (*create)(struct pkvrt_executor **out, const struct pkvrt_executor_params *p);
	int device;			/* of a GPU's: its number */
};

enum pkvrt_draw_kind {
	PKVRT_GREEDY,			/* the most probable token, the lowest of equals */
	PKVRT_SAMPLE,			/* by temperature, top_k and top_p */
	PKVRT_TOP,			/* the nr_top most probable, for beam search */
};

struct pkvrt_candidate {
	uint32_t token;
	float logprob;			/* natural, of the model's softmax at temperature 1 */
};

/**
 * struct pkvrt_draw - choose from the logits after the last token of a chunk
 *
 * SAMPLE draws with a random number that is a function of seed and of the position
 * of the token drawn (start + nr_tokens of the chunk), so a draw is the same whenever
 * and in whatever batch it is made.
 */
struct pkvrt_draw {
	enum pkvrt_draw_kind kind;
	uint64_t seed;			/* SAMPLE */
	float temperature;		/* SAMPLE, > 0 */
	float top_p;			/* SAMPLE, in (0, 1]; 1: all */
	uint32_t top_k;			/* SAMPLE, 0: all */
	uint32_t nr_top;		/* TOP, 1 .. vocab */
	struct pkvrt_candidate *top;	/* TOP, out: nr_top, best first, lowest token of equals */
	struct pkvrt_candidate out;	/* GREEDY and SAMPLE, out */
};

/**
 * struct pkvrt_chunk - consecutive tokens of one sequence
 *
 * A decode step is a chunk of one token. The K and V of the chunk's tokens are
 * written to the sequence's pages through slots; those of positions before start must be
 * there. Several draws from one chunk make parallel samples of one prompt.
 */
struct pkvrt_chunk {
	const uint32_t *tokens;
	uint32_t nr_tokens;		/* >= 1 */
	uint32_t start;			/* position of tokens[0] */
	const uint32_t *slots;		/* block table: the slot of each page, from position 0 */
	uint32_t nr_slots;		/* >= (start + nr_tokens) / page_tokens, rounded up */
	/*
	 * A copy of the block table may be kept between steps, under a number that no other
	 * sequence of the same time has; small numbers are best. nr_same: so many leading entries
	 * are as they were in the last step with this number. 0 is always right.
	 */
	uint32_t table_row;
	uint32_t nr_same;
	uint32_t nr_draws;		/* 0 mid-prefill */
	struct pkvrt_draw *draws;
};

/**
 * pkvrt_executor_create - make the weights and start the workers
 *
 * Return: 0; -EINVAL for params out of range; -EOVERFLOW; -ENOMEM; -EAGAIN when
 * threads can't be started; of a GPU also -EOPNOTSUPP (not this model or dtype), -ENODEV, -EIO.
 */
int pkvrt_executor_create(struct pkvrt_executor **out, const struct pkvrt_executor_params *p);

/**
 * pkvrt_executor_destroy - stop the workers and free everything but the arena; takes NULL
 */
void pkvrt_executor_destroy(struct pkvrt_executor *ex);

/**
 * pkvrt_executor_step - run the chunks as one batch and make their draws
 *
 * Sequences may share pages that hold positions before their chunks' starts; a page
 * that a chunk writes must belong to that chunk's sequence alone. Blocks until
 * done. One caller at a time.
 *
 * Return: 0; -EINVAL for a chunk out of range, before anything is written; -ENOMEM; -EIO when
 * the device has failed.
 */
int pkvrt_executor_step(struct pkvrt_executor *ex, struct pkvrt_chunk *chunks,
			unsigned int nr_chunks);

/**
 * pkvrt_executor_copy_pages - copy whole pages within the arena, in order
 *
 * Return: 0; -EINVAL for a slot past the arena, in which case nothing is copied; -EIO.
 */
int pkvrt_executor_copy_pages(struct pkvrt_executor *ex, const struct pkv_page_copy *copies,
			      size_t nr);

/**
 * pkvrt_executor_logits - the logits of the last step's i-th chunk that had draws
 *
 * Return: vocab floats, valid until the next step; NULL when there is no such chunk.
 */
const float *pkvrt_executor_logits(struct pkvrt_executor *ex, unsigned int i);

/**
 * pkvrt_executor_tile_tokens - rows of the smallest GEMM tile in use; on the CPU 16 at best
 */
unsigned int pkvrt_executor_tile_tokens(struct pkvrt_executor *ex);

#endif
