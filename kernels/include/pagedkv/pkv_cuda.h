/* SPDX-License-Identifier: MIT */
/*
 * The CUDA kernels as a C interface without CUDA types: paged attention, cache writes, page copies
 * and sampling on a Hopper GPU.
 *
 * Pointers marked device are addresses in the memory of the current CUDA device; all else is host
 * memory, read before the call returns. A stream is a cudaStream_t, NULL the default one. Calls
 * launch work on it and return: nothing here waits for the device, so every call can be captured
 * into a graph. Whoever calls keeps device memory alive until the stream has passed.
 *
 * What lies in device memory can't be checked on the host: a block table that names a slot past the
 * arena, or a context longer than its row, is the caller's fault. What lies in unused token places
 * of a page, NaN included, has no effect.
 *
 * Return values: 0; -EINVAL for an argument that is wrong; -EOPNOTSUPP for one that is right but
 * that no kernel here takes; -ENODEV when there is no device of this architecture; -EIO when the
 * device reported an error (it may be one of earlier work on the device).
 */
#ifndef PAGEDKV_PKV_CUDA_H
#define PAGEDKV_PKV_CUDA_H

#include <pagedkv/cache.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * pkv_cuda_device_check - can the current device run what is here?
 *
 * Return: 0; -ENODEV without a device of this architecture; -EIO.
 */
int pkv_cuda_device_check(void);

/* The same bits for a sequence whatever the batch, the chunks, the split and the pages' places. */
#define PKV_CUDA_INVARIANT	(1u << 0)

/**
 * struct pkv_cuda_attention - attention of a ragged batch over a paged cache
 *
 * Sequence s brings the query tokens [query_start[s], query_start[s + 1]), the last ones of its
 * context of context_tokens[s] tokens, whose K and V are in the cache already. Attention is causal:
 * a query token sees the context up to and including itself. A sequence without query tokens has
 * no output; one with an empty context has zeros, and -inf as its log-sum-exp.
 *
 * Scores are scale * q.k, then softcap * tanh(score / softcap), then plus alibi[head] times (k's
 * position - q's position); with a window, q sees the last window tokens, itself among them.
 */
struct pkv_cuda_attention {
	uint32_t size;			/* sizeof(struct pkv_cuda_attention) */
	uint32_t flags;			/* PKV_CUDA_* */
	const struct pkv_kv_layout *layout;	/* dtype BF16, F16 or E4M3; strides of 16 bytes */
	const void *base;		/* device: slot 0 of the arena, 16-byte aligned */
	uint32_t nr_slots;
	uint32_t layer;
	uint32_t nr_q_heads;		/* a multiple of nr_kv_heads, at most 16 times */
	uint32_t nr_seqs;
	uint32_t nr_tokens;		/* rows of q: query_start[nr_seqs] or more */
	uint32_t max_query_tokens;	/* of one sequence */
	uint32_t max_context_tokens;	/* of one sequence: an upper bound, for planning */
	uint32_t q_dtype;		/* of q and out: as KV's; of E4M3 BF16 or F16 */
	float scale;
	float softcap;			/* 0: none */
	uint32_t window;		/* tokens; 0: none */
	/*
	 * Cascade: the first tokens of every context lie in the same pages, and every query token
	 * is past them. They are read once for all sequences; not with a window or alibi. 0: none.
	 */
	uint32_t shared_tokens;
	const float *alibi;		/* device [nr_q_heads], or NULL */
	const float *k_scale;		/* device [nr_kv_heads]: E4M3 K times this, or NULL: 1 */
	const float *v_scale;		/* device [nr_kv_heads] */
	const uint32_t *query_start;	/* device [nr_seqs + 1], ascending from 0 */
	const uint32_t *context_tokens;	/* device [nr_seqs], each >= its query tokens */
	const uint32_t *table;		/* device: block tables, rows of table_row_slots entries */
	uint64_t table_row_slots;
	const uint32_t *table_rows;	/* device [nr_seqs]: each sequence's row, or NULL: row s */
	const void *q;			/* device [nr_tokens][nr_q_heads][head_dim] */
	uint64_t q_row_elements;	/* from one token of q to the next, a multiple of 8 */
	void *out;			/* device [nr_tokens][nr_q_heads][head_dim], contiguous */
	float *lse;			/* device [nr_tokens][nr_q_heads], natural log, or NULL */
	void *workspace;		/* device, pkv_cuda_attention_workspace() bytes */
	uint64_t workspace_bytes;	/* zeroed once by the caller; calls leave it ready */
	void *stream;
};

/**
 * pkv_cuda_attention_workspace - bytes of workspace that a call of these sizes and bounds needs
 *
 * Pointers are not looked at but for layout. One workspace serves calls of all smaller sizes, one
 * after the other on one stream.
 *
 * Return: the bytes; 0 where pkv_cuda_attention() would refuse.
 */
uint64_t pkv_cuda_attention_workspace(const struct pkv_cuda_attention *a);

/**
 * pkv_cuda_attention - the decode kernel where no sequence brings more than 8 query tokens, the
 * prefill kernel otherwise
 *
 * Where the prefill kernel doesn't take a call, the decode kernel does it, which is right for any
 * number of query tokens but slower. PKV_CUDA_INVARIANT is the decode kernel's.
 *
 * While the work before it in the stream still runs, a launch may already read lengths and tables,
 * to prefetch what they point to. Nothing else comes of that: what that work writes to them counts.
 *
 * Return: 0; -EINVAL; -EOPNOTSUPP; -EIO
 */
int pkv_cuda_attention(const struct pkv_cuda_attention *a);

/**
 * struct pkv_cuda_cache_write - rotate new tokens' q and k, store k and v in their pages
 *
 * The tokens are those of an attention call that follows: sequence s brings rows [query_start[s],
 * query_start[s + 1]) of q, k and v, which are its positions from context_tokens[s] less their
 * number on. The first rotary_dim dims of each head of q and k are rotated as halves are: with (c,
 * s) = rotation[position][i], dims i and i + rotary_dim / 2 become (a c - b s, a s + b c). Stored
 * values are rounded to nearest even; E4M3 ones are first divided by their head's scale, and
 * saturate. A NaN stays a NaN. No two tokens may have the same place.
 */
struct pkv_cuda_cache_write {
	uint32_t size;			/* sizeof(struct pkv_cuda_cache_write) */
	uint32_t flags;			/* must be 0 */
	const struct pkv_kv_layout *layout;	/* strides of 16 bytes */
	void *base;			/* device: slot 0 of the arena, 16-byte aligned */
	uint32_t nr_slots;
	uint32_t layer;
	uint32_t nr_q_heads;		/* 0: leave q alone */
	uint32_t nr_seqs;
	uint32_t nr_tokens;		/* rows of q, k, v: query_start[nr_seqs] or more */
	uint32_t src_dtype;		/* of q, k, v: F32, BF16 or F16 */
	uint32_t q_out_dtype;		/* of q_out */
	uint32_t rotary_dim;		/* a multiple of 16, at most head_dim; 0: rotate nothing */
	const float *rotation;		/* device [positions][rotary_dim / 2][cos, sin] */
	const uint32_t *query_start;	/* device [nr_seqs + 1], ascending from 0 */
	const uint32_t *context_tokens;	/* device [nr_seqs], these tokens included */
	const uint32_t *table;		/* device: as in struct pkv_cuda_attention */
	uint64_t table_row_slots;
	const uint32_t *table_rows;
	const void *q;			/* device [nr_tokens][nr_q_heads][head_dim] */
	const void *k;			/* device [nr_tokens][nr_kv_heads][head_dim] */
	const void *v;			/* the same */
	uint64_t q_row_elements;	/* from one token to the next, multiples of 8 */
	uint64_t k_row_elements;
	uint64_t v_row_elements;
	void *q_out;			/* device: as q; may be q itself, of one dtype */
	uint64_t q_out_row_elements;
	const float *k_scale;		/* device [nr_kv_heads], of E4M3, or NULL: 1 */
	const float *v_scale;
	void *stream;
};

/**
 * pkv_cuda_cache_write - Return: 0; -EINVAL; -EOPNOTSUPP for strides or a head_dim whose rows are
 * not of whole 16 bytes (8 for E4M3); -EIO
 */
int pkv_cuda_cache_write(const struct pkv_cuda_cache_write *w);

/* The lists of slots are in host memory: checked, and read before the call returns. */
#define PKV_CUDA_HOST_LISTS	(1u << 0)

/**
 * struct pkv_cuda_page_copy - copy pages from one arena, as laid out there, into another
 *
 * Copy i is of page src_slots[i] to page dst_slots[i]. With one layout and base it is the copy of
 * copy-on-write; with two it gathers page-major pages into a server's layer-major tensors or
 * scatters back; with a packed layout and no dst_slots it packs scattered pages into one buffer.
 * Layouts are alike but for their strides. What lies between the rows of a layout is left alone.
 * Copies are in no order: no page that is written may be another copy's source or destination.
 */
struct pkv_cuda_page_copy {
	uint32_t size;			/* sizeof(struct pkv_cuda_page_copy) */
	uint32_t flags;			/* PKV_CUDA_HOST_LISTS */
	const struct pkv_kv_layout *src_layout;
	const struct pkv_kv_layout *dst_layout;
	const void *src_base;		/* device, 16-byte aligned */
	void *dst_base;
	uint32_t nr_src_slots;
	uint32_t nr_dst_slots;
	const uint32_t *src_slots;	/* [nr_copies], or NULL: 0, 1, 2, ... */
	const uint32_t *dst_slots;
	uint32_t nr_copies;
	uint32_t reserved;		/* must be 0 */
	void *stream;
};

/**
 * pkv_cuda_page_copy - Return: 0; -EINVAL; -EOPNOTSUPP for layouts whose contiguous parts are not
 * of whole 16 bytes; -EIO
 */
int pkv_cuda_page_copy(const struct pkv_cuda_page_copy *c);

/* An entry of a block table on the device that has changed. */
struct pkv_cuda_delta {
	uint32_t row;
	uint32_t index;
	uint32_t slot;
};

/**
 * struct pkv_cuda_upload - what a step brings, in one copy and one launch
 *
 * The caller fills one buffer of pinned host memory: whatever arrays the step's kernels read
 * (query_start, context_tokens, table_rows, tokens, ...), each aligned as it likes, and a list of
 * deltas to the block tables. All of it is copied to the device, where the arrays lie at the same
 * offsets; then the deltas are applied, in stream order. No two deltas may be of one place. The
 * buffer may be filled again when the stream has passed; a server keeps two or three.
 */
struct pkv_cuda_upload {
	uint32_t size;			/* sizeof(struct pkv_cuda_upload) */
	uint32_t nr_deltas;
	const void *host;		/* pinned */
	void *device;			/* as many bytes, 16-byte aligned */
	uint64_t bytes;
	uint64_t deltas_offset;		/* of struct pkv_cuda_delta[nr_deltas], a multiple of 4 */
	uint32_t *table;		/* device [nr_rows][table_row_slots] */
	uint64_t table_row_slots;
	uint32_t nr_rows;
	uint32_t reserved;		/* must be 0 */
	void *stream;
};

/**
 * pkv_cuda_upload - Return: 0; -EINVAL, also for a delta past the tables, in which case nothing is
 * copied; -EIO
 */
int pkv_cuda_upload(const struct pkv_cuda_upload *u);

#define PKV_CUDA_MAX_VOCAB	262144

/* How a row's token is drawn. */
struct pkv_cuda_draw {
	float temperature;		/* 0: the most likely token, the lowest of equals */
	float top_p;			/* in (0, 1]; 1: no limit */
	uint32_t top_k;			/* 0: no limit */
	uint32_t position;		/* of the token that is drawn */
	uint64_t seed;
};

/**
 * struct pkv_cuda_sample - choose a token from each row of logits
 *
 * A draw is a function of its row's logits and struct pkv_cuda_draw alone: the same whatever the
 * batch, on every run. Candidates are in order of logit, and of token where logits are equal: the
 * first top_k, and of these the fewest whose weights, exp(logit / temperature), come to top_p of
 * all of theirs. Weights are whole multiples of 2^-40 of the greatest, so that sums are exact and
 * a token that is less likely than that is never drawn. Draws that are out of range, and rows with
 * a NaN, give some token.
 */
struct pkv_cuda_sample {
	uint32_t size;			/* sizeof(struct pkv_cuda_sample) */
	uint32_t dtype;			/* of logits: F32, BF16 or F16 */
	uint32_t nr_rows;
	uint32_t vocab;			/* at most PKV_CUDA_MAX_VOCAB */
	const void *logits;		/* device [nr_rows][vocab] */
	uint64_t row_elements;		/* from one row to the next */
	const struct pkv_cuda_draw *draws;	/* device [nr_rows] */
	uint32_t *tokens;		/* device [nr_rows] */
	float *logprobs;		/* device [nr_rows], softmax of the logits, or NULL */
	void *stream;
};

/**
 * pkv_cuda_sample - Return: 0, -EINVAL, -EIO
 */
int pkv_cuda_sample(const struct pkv_cuda_sample *s);

/*
 * What a transformer does to one row at a time. Each row is computed in an order that is a
 * function of its length alone: the same bits whatever the other rows. dtypes are F32, BF16 or
 * F16, each tensor's its own; sums are in float. Rows are of a multiple of 8 elements, and begin
 * at multiples of 16 bytes.
 */

/**
 * struct pkv_cuda_rms_norm - x += add, where there is an add; out = x / rms(x) * weight
 *
 * x is rounded to its dtype before its norm is taken.
 */
struct pkv_cuda_rms_norm {
	uint32_t size;			/* sizeof(struct pkv_cuda_rms_norm) */
	uint32_t nr_rows;
	uint32_t nr_elements;		/* of a row */
	float eps;			/* added to the mean square */
	uint32_t x_dtype;
	uint32_t add_dtype;
	uint32_t weight_dtype;
	uint32_t out_dtype;
	void *x;			/* device; written only with an add */
	const void *add;		/* device, or NULL */
	const void *weight;		/* device [nr_elements] */
	void *out;			/* device, or NULL: x += add is all */
	uint64_t x_row_elements;	/* from one row to the next */
	uint64_t add_row_elements;
	uint64_t out_row_elements;
	void *stream;
};

/**
 * pkv_cuda_rms_norm - Return: 0, -EINVAL, -EIO
 */
int pkv_cuda_rms_norm(const struct pkv_cuda_rms_norm *n);

/**
 * struct pkv_cuda_swiglu - out = gate / (1 + exp(-gate)) * up
 */
struct pkv_cuda_swiglu {
	uint32_t size;			/* sizeof(struct pkv_cuda_swiglu) */
	uint32_t nr_rows;
	uint32_t nr_elements;		/* of a row of each */
	uint32_t src_dtype;		/* of gate and up */
	uint32_t out_dtype;
	uint32_t reserved;		/* must be 0 */
	const void *gate;		/* device */
	const void *up;			/* device; gate + nr_elements where one product made both */
	uint64_t src_row_elements;	/* from one row to the next, of both */
	void *out;			/* device; may be gate, of the same dtype and rows */
	uint64_t out_row_elements;
	void *stream;
};

/**
 * pkv_cuda_swiglu - Return: 0, -EINVAL, -EIO
 */
int pkv_cuda_swiglu(const struct pkv_cuda_swiglu *s);

/**
 * struct pkv_cuda_gather_rows - out[i] = table[rows[i]]: embeddings, or the rows whose logits are
 * wanted
 *
 * A row past the table gives zeros.
 */
struct pkv_cuda_gather_rows {
	uint32_t size;			/* sizeof(struct pkv_cuda_gather_rows) */
	uint32_t nr_rows;		/* of out */
	uint32_t nr_elements;		/* of a row */
	uint32_t nr_table_rows;
	uint32_t table_dtype;
	uint32_t out_dtype;
	const void *table;		/* device */
	uint64_t table_row_elements;
	const uint32_t *rows;		/* device [nr_rows] */
	void *out;			/* device */
	uint64_t out_row_elements;
	void *stream;
};

/**
 * pkv_cuda_gather_rows - Return: 0, -EINVAL, -EIO
 */
int pkv_cuda_gather_rows(const struct pkv_cuda_gather_rows *g);

#ifdef __cplusplus
}
#endif

#endif
