// SPDX-License-Identifier: GPL-2.0-only
/*
 * The executor: that logits do not depend, in one bit, on how the work was batched,
 * cut, placed or threaded, also under other kernels of BLAS; that what it computes is
 * the model, against a plain one in double; sampling; and what it must refuse.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <pagedkv/cache.h>

#include "executor.h"
#include "model.h"
#include "rng.h"
#include "workers.h"

#define PAGE_TOKENS	4
#define NR_SLOTS	160
#define MAX_CONTEXT	64
#define NR_SEQS		6

static struct pkvrt_rng rng;

static uint32_t random_in(uint32_t low, uint32_t high)
{
	return low + (uint32_t)pkvrt_rng_below(&rng, high - low + 1);
}

static struct pkvrt_model small_model(void)
{
	return (struct pkvrt_model){
		.nr_layers = 3, .dim = 72, .nr_q_heads = 6, .nr_kv_heads = 2, .head_dim = 24,
		.ffn_dim = 136, .vocab = 777, .max_tokens = MAX_CONTEXT, .rope_theta = 10000,
		.norm_eps = 1e-5f,
	};
}

/* An executor with its arena, which starts full of NaN. */
struct machine {
	struct pkvrt_executor *ex;
	void *arena;
	size_t bytes;
};

static void start_machine(struct machine *m, struct pkvrt_model model, uint32_t dtype,
			  unsigned int nr_threads)
{
	struct pkvrt_executor_params p = {
		.model = model, .seed = 42, .nr_threads = nr_threads, .kv_dtype = dtype,
		.page_tokens = PAGE_TOKENS, .nr_slots = NR_SLOTS,
	};

	m->bytes = NR_SLOTS * pkvrt_model_page_bytes(&model, PAGE_TOKENS, dtype);
	m->arena = aligned_alloc(4096, (m->bytes + 4095) / 4096 * 4096);
	assert_non_null(m->arena);
	memset(m->arena, 0xff, m->bytes);
	p.arena = m->arena;
	assert_int_equal(pkvrt_executor_create(&m->ex, &p), 0);
}

static void stop_machine(struct machine *m)
{
	pkvrt_executor_destroy(m->ex);
	free(m->arena);
}

/* A sequence of tokens with the logits after each, as a first run found them. */
struct sequence {
	uint32_t tokens[MAX_CONTEXT];
	uint32_t nr_tokens;
	uint32_t slots[MAX_CONTEXT / PAGE_TOKENS];
	uint32_t done;
	float *logits;		/* [nr_tokens][vocab] */
};

static void shuffle_slots(struct sequence *seqs, uint32_t nr)
{
	uint32_t slots[NR_SLOTS], at = 0;

	for (uint32_t i = 0; i < NR_SLOTS; i++) {
		uint32_t j = random_in(0, i);

		slots[i] = slots[j];
		slots[j] = i;
	}
	for (uint32_t s = 0; s < nr; s++) {
		seqs[s].done = 0;
		for (uint32_t i = 0; i < MAX_CONTEXT / PAGE_TOKENS; i++)
			seqs[s].slots[i] = slots[at++];
	}
}

static void make_sequences(struct sequence *seqs, uint32_t nr, uint32_t vocab)
{
	for (uint32_t s = 0; s < nr; s++) {
		seqs[s].nr_tokens = s ? random_in(1, MAX_CONTEXT) : MAX_CONTEXT;
		seqs[s].logits = malloc(seqs[s].nr_tokens * vocab * sizeof(float));
		assert_non_null(seqs[s].logits);
		for (uint32_t i = 0; i < seqs[s].nr_tokens; i++)
			seqs[s].tokens[i] = random_in(0, vocab - 1);
	}
	shuffle_slots(seqs, nr);
}

/* A step of one sequence's next nr tokens. Returns the logits after them. */
static const float *step_one(struct machine *m, struct sequence *s, uint32_t nr,
			     struct pkvrt_draw *draws, uint32_t nr_draws)
{
	struct pkvrt_chunk chunk = {
		.tokens = s->tokens + s->done, .nr_tokens = nr, .start = s->done,
		.slots = s->slots, .nr_slots = MAX_CONTEXT / PAGE_TOKENS, .nr_draws = nr_draws,
		.draws = draws,
	};

	assert_int_equal(pkvrt_executor_step(m->ex, &chunk, 1), 0);
	s->done += nr;
	return pkvrt_executor_logits(m->ex, 0);
}

/* Token by token, alone: what all else is compared with. */
static void run_alone(struct machine *m, struct sequence *seqs, uint32_t nr, uint32_t vocab)
{
	struct pkvrt_draw draw = { .kind = PKVRT_GREEDY };

	for (uint32_t s = 0; s < nr; s++)
		while (seqs[s].done < seqs[s].nr_tokens) {
			float *to = seqs[s].logits + (size_t)seqs[s].done * vocab;

			memcpy(to, step_one(m, &seqs[s], 1, &draw, 1), vocab * sizeof(float));
			for (uint32_t i = 0; i < vocab; i++)
				assert_true(isfinite(to[i]));
		}
}

/* Random chunks of random sequences in one step; where there are draws, logits must match. */
static bool run_mixed_step(struct machine *m, struct sequence *seqs, uint32_t nr, uint32_t vocab)
{
	struct pkvrt_draw draws[NR_SEQS];
	struct pkvrt_chunk chunks[NR_SEQS];
	uint32_t nr_chunks = 0, logits = 0, first = random_in(0, nr - 1);
	bool more = false;

	for (uint32_t i = 0; i < nr; i++) {
		struct sequence *s = &seqs[(first + i) % nr];
		uint32_t left = s->nr_tokens - s->done;

		more |= left != 0;
		if (!left || random_in(0, 3) == 0)
			continue;
		draws[nr_chunks].kind = PKVRT_GREEDY;
		chunks[nr_chunks] = (struct pkvrt_chunk){
			.tokens = s->tokens + s->done, .start = s->done,
			.nr_tokens = random_in(0, 1) ? 1 : random_in(1, left), .slots = s->slots,
			.nr_slots = MAX_CONTEXT / PAGE_TOKENS, .nr_draws = random_in(0, 1),
			.draws = &draws[nr_chunks],
		};
		s->done += chunks[nr_chunks++].nr_tokens;
	}
	assert_int_equal(pkvrt_executor_step(m->ex, chunks, nr_chunks), 0);
	for (uint32_t i = 0; i < nr_chunks; i++) {
		const struct sequence *s = seqs;

		if (!chunks[i].nr_draws)
			continue;
		while (s->slots != chunks[i].slots)
			s++;
		assert_memory_equal(pkvrt_executor_logits(m->ex, logits++), s->logits +
				    (size_t)(chunks[i].start + chunks[i].nr_tokens - 1) * vocab,
				    vocab * sizeof(float));
	}
	assert_null(pkvrt_executor_logits(m->ex, logits));
	return more;
}

static void check_invariance(struct pkvrt_model model, uint32_t dtype, uint32_t nr_rounds)
{
	static struct sequence seqs[NR_SEQS];
	struct machine one, other;

	start_machine(&one, model, dtype, 1);
	printf("# tiles of %u rows\n", pkvrt_executor_tile_tokens(one.ex));
	start_machine(&other, model, dtype, random_in(2, 4));
	make_sequences(seqs, NR_SEQS, model.vocab);
	run_alone(&one, seqs, NR_SEQS, model.vocab);
	for (uint32_t round = 0; round < nr_rounds; round++) {
		shuffle_slots(seqs, NR_SEQS);
		memset(other.arena, 0xff, other.bytes);
		while (run_mixed_step(&other, seqs, NR_SEQS, model.vocab))
			;
	}
	for (uint32_t s = 0; s < NR_SEQS; s++)
		free(seqs[s].logits);
	stop_machine(&one);
	stop_machine(&other);
}

static void test_invariance(void **state)
{
	(void)state;
	check_invariance(small_model(), PKV_F32, 4);
	check_invariance(small_model(), PKV_BF16, 4);
}

static void test_invariance_default_model(void **state)
{
	struct pkvrt_model model = pkvrt_model_default();

	(void)state;
	model.max_tokens = MAX_CONTEXT;
	check_invariance(model, PKV_BF16, 2);
}

/* BLAS chooses its kernels when it is loaded: each choice needs a process of its own. */
static void test_invariance_of_other_blas(void **state)
{
	static const struct {
		const char *core;
		const char *needs;
	} cores[] = {
		{ "Prescott", "sse3" }, { "Sandybridge", "avx" }, { "Haswell", "avx2" },
		{ "Zen", "avx2" }, { "SkylakeX", "avx512" },
	};

	(void)state;
#ifdef __x86_64__
	for (size_t i = 0; i < sizeof(cores) / sizeof(cores[0]); i++) {
		bool can = !strcmp(cores[i].needs, "sse3") ||
			   (!strcmp(cores[i].needs, "avx") && __builtin_cpu_supports("avx")) ||
			   (!strcmp(cores[i].needs, "avx2") && __builtin_cpu_supports("avx2")) ||
			   (!strcmp(cores[i].needs, "avx512") &&
			    __builtin_cpu_supports("avx512vl"));
		int status;
		pid_t pid;

		if (!can)
			continue;
		fflush(NULL);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			setenv("OPENBLAS_CORETYPE", cores[i].core, 1);
			execl("/proc/self/exe", "test_executor", "--invariance", (char *)NULL);
			_exit(127);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			fail_msg("under BLAS kernels for %s", cores[i].core);
	}
#else
	(void)cores;
	skip();
#endif
}

/* ---- the model in plain double loops ---- */

static void plain_product(double *y, const double *x, const float *w, uint32_t nr_in,
			  uint32_t nr_out, bool add)
{
	for (uint32_t o = 0; o < nr_out; o++) {
		double sum = add ? y[o] : 0;

		for (uint32_t i = 0; i < nr_in; i++)
			sum += x[i] * (double)w[(size_t)i * nr_out + o];
		y[o] = sum;
	}
}

static void plain_norm(double *out, const double *x, uint32_t n, float eps)
{
	double squares = 0;

	for (uint32_t i = 0; i < n; i++)
		squares += x[i] * x[i];
	for (uint32_t i = 0; i < n; i++)
		out[i] = x[i] / sqrt(squares / n + (double)eps);
}

static void plain_rotate(double *head, uint32_t head_dim, uint32_t position, float theta)
{
	for (uint32_t i = 0; i < head_dim / 2; i++) {
		double angle = position * pow((double)theta, -2.0 * i / head_dim);
		double a = head[i], b = head[i + head_dim / 2];

		head[i] = a * cos(angle) - b * sin(angle);
		head[i + head_dim / 2] = a * sin(angle) + b * cos(angle);
	}
}

#define PLAIN_TOKENS	20

struct plain {
	double x[PLAIN_TOKENS][72];
	double qkv[PLAIN_TOKENS][10 * 24];
};

/* One layer's attention of the token at position t; adds its output product to x. */
static void plain_attend(struct plain *p, const struct pkvrt_model *m,
			 const struct pkvrt_layer *l, uint32_t t)
{
	uint32_t hd = m->head_dim, group = m->nr_q_heads / m->nr_kv_heads;
	double out[6 * 24] = { 0 };

	for (uint32_t h = 0; h < m->nr_q_heads; h++) {
		uint32_t k = (m->nr_q_heads + h / group) * hd, v = k + m->nr_kv_heads * hd;
		double w[PLAIN_TOKENS], sum = 0;

		for (uint32_t s = 0; s <= t; s++) {
			double dot = 0;

			for (uint32_t d = 0; d < hd; d++)
				dot += p->qkv[t][h * hd + d] * p->qkv[s][k + d];
			w[s] = exp(dot / sqrt(hd));
			sum += w[s];
		}
		for (uint32_t s = 0; s <= t; s++)
			for (uint32_t d = 0; d < hd; d++)
				out[h * hd + d] += w[s] / sum * p->qkv[s][v + d];
	}
	plain_product(p->x[t], out, l->out, m->nr_q_heads * hd, m->dim, true);
}

static void plain_layer(struct plain *p, const struct pkvrt_model *m, const struct pkvrt_layer *l,
			uint32_t nr)
{
	double normed[72], gate_up[2 * 136];

	for (uint32_t t = 0; t < nr; t++) {
		plain_norm(normed, p->x[t], m->dim, m->norm_eps);
		plain_product(p->qkv[t], normed, l->qkv, m->dim, pkvrt_qkv_dim(m), false);
		for (uint32_t h = 0; h < m->nr_q_heads + m->nr_kv_heads; h++)
			plain_rotate(p->qkv[t] + h * m->head_dim, m->head_dim, t, m->rope_theta);
	}
	for (uint32_t t = 0; t < nr; t++) {
		plain_attend(p, m, l, t);
		plain_norm(normed, p->x[t], m->dim, m->norm_eps);
		plain_product(gate_up, normed, l->gate_up, m->dim, 2 * m->ffn_dim, false);
		for (uint32_t i = 0; i < m->ffn_dim; i++)
			gate_up[i] *= gate_up[m->ffn_dim + i] / (1 + exp(-gate_up[i]));
		plain_product(p->x[t], gate_up, l->down, m->ffn_dim, m->dim, true);
	}
}

static void test_is_the_model(void **state)
{
	struct pkvrt_draw draw = { .kind = PKVRT_GREEDY };
	struct pkvrt_model model = small_model();
	static struct plain p;
	struct pkvrt_weights w;
	struct sequence s;
	struct machine m;
	double normed[72], want[777];
	const float *got;

	(void)state;
	assert_int_equal(pkvrt_weights_create(&w, &model, 42), 0);
	start_machine(&m, model, PKV_F32, 2);
	make_sequences(&s, 1, model.vocab);
	got = step_one(&m, &s, PLAIN_TOKENS, &draw, 1);

	for (uint32_t t = 0; t < PLAIN_TOKENS; t++)
		for (uint32_t d = 0; d < model.dim; d++)
			p.x[t][d] = (double)w.embedding[s.tokens[t] * model.dim + d];
	for (uint32_t l = 0; l < model.nr_layers; l++)
		plain_layer(&p, &model, &w.layers[l], PLAIN_TOKENS);
	plain_norm(normed, p.x[PLAIN_TOKENS - 1], model.dim, model.norm_eps);
	plain_product(want, normed, w.head, model.dim, model.vocab, false);
	for (uint32_t i = 0; i < model.vocab; i++)
		assert_true(fabs((double)got[i] - want[i]) < 1e-3);

	free(s.logits);
	pkvrt_weights_destroy(&w);
	stop_machine(&m);
}

/* ---- draws ---- */

static void test_draws(void **state)
{
	struct pkvrt_model model = small_model();
	struct pkvrt_candidate top[777];
	struct pkvrt_draw draws[] = {
		{ .kind = PKVRT_GREEDY },
		{ .kind = PKVRT_TOP, .nr_top = 777, .top = top },
		{ .kind = PKVRT_SAMPLE, .seed = 1, .temperature = 1, .top_p = 1, .top_k = 1 },
		{ .kind = PKVRT_SAMPLE, .seed = 2, .temperature = 1, .top_p = 1e-6f },
		{ .kind = PKVRT_SAMPLE, .seed = 3, .temperature = 1e-30f, .top_p = 1 },
	};
	double sum = 0, log_sum;
	struct sequence s;
	struct machine m;
	const float *logits;

	(void)state;
	start_machine(&m, model, PKV_F32, 2);
	make_sequences(&s, 1, model.vocab);
	logits = step_one(&m, &s, 30, draws, 5);

	for (uint32_t i = 0; i < model.vocab; i++)
		sum += exp((double)logits[i]);
	log_sum = log(sum);
	for (uint32_t i = 0; i < model.vocab; i++) {
		assert_true(fabs((double)(logits[top[i].token] - top[i].logprob) - log_sum) < 1e-3);
		/* by logits: of two that are close, the log-probabilities may round to one */
		if (i)
			assert_true(logits[top[i].token] < logits[top[i - 1].token] ||
				    (logits[top[i].token] <= logits[top[i - 1].token] &&
				     top[i].token > top[i - 1].token));
	}
	for (uint32_t i = 0; i < 5; i++)
		if (draws[i].kind != PKVRT_TOP) {
			assert_int_equal(draws[i].out.token, top[0].token);
			assert_memory_equal(&draws[i].out.logprob, &top[0].logprob, sizeof(float));
		}
	free(s.logits);
	stop_machine(&m);
}

/* How often tokens are drawn must follow their probability, within limits and without. */
static void check_frequencies(struct machine *m, struct sequence *s, float temperature,
			      uint32_t top_k, float top_p)
{
	enum { DRAWS = 4000, TOP = 12 };
	static struct pkvrt_draw draws[DRAWS + 1];
	static struct pkvrt_candidate top[777];
	uint32_t nr_kept = 0;
	double weights[777], sum = 0, kept = 0;

	for (uint32_t i = 0; i < DRAWS; i++)
		draws[i] = (struct pkvrt_draw){
			.kind = PKVRT_SAMPLE, .seed = i, .temperature = temperature,
			.top_k = top_k, .top_p = top_p,
		};
	draws[DRAWS] = (struct pkvrt_draw){ .kind = PKVRT_TOP, .nr_top = 777, .top = top };
	s->done = 0;
	step_one(m, s, 17, draws, DRAWS + 1);

	for (uint32_t i = 0; i < (top_k ? top_k : 777); i++)
		sum += weights[i] = exp((double)(top[i].logprob - top[0].logprob) /
					(double)temperature);
	while (nr_kept < (top_k ? top_k : 777) && (!nr_kept || kept < (double)top_p * sum))
		kept += weights[nr_kept++];
	for (uint32_t i = 0; i < 777; i++) {
		double p = i < nr_kept ? weights[i] / kept : 0;
		uint32_t nr = 0;

		if (i >= TOP && i < nr_kept)
			continue;
		for (uint32_t d = 0; d < DRAWS; d++)
			nr += draws[d].out.token == top[i].token;
		/* six standard deviations; one more token may be kept or not by rounding */
		if (fabs(nr - DRAWS * p) > 6 * sqrt(DRAWS * p) + 1)
			fail_msg("token %u of %u: %u draws, %.1f expected", i, nr_kept, nr,
				 DRAWS * p);
	}
}

static void test_sampling_frequencies(void **state)
{
	struct sequence s;
	struct machine m;

	(void)state;
	start_machine(&m, small_model(), PKV_F32, 2);
	make_sequences(&s, 1, 777);
	check_frequencies(&m, &s, 1, 0, 1);
	check_frequencies(&m, &s, 0.7f, 0, 1);
	check_frequencies(&m, &s, 1.5f, 5, 1);
	check_frequencies(&m, &s, 1, 0, 0.6f);
	check_frequencies(&m, &s, 2, 40, 0.9f);
	free(s.logits);
	stop_machine(&m);
}

/* A greedy run must not fall into repeating one token: nothing would be proved by it. */
static void test_greedy_is_lively(void **state)
{
	enum { PROMPT = 8, NEW = 300 };
	struct pkvrt_model model = pkvrt_model_default();
	uint32_t slots[(PROMPT + NEW + PAGE_TOKENS - 1) / PAGE_TOKENS], tokens[PROMPT + NEW];
	struct pkvrt_draw draw = { .kind = PKVRT_GREEDY };
	struct pkvrt_chunk chunk = {
		.tokens = tokens, .nr_tokens = PROMPT, .slots = slots,
		.nr_slots = sizeof(slots) / sizeof(slots[0]), .nr_draws = 1, .draws = &draw,
	};
	uint32_t nr_distinct = 0;
	struct machine m;

	(void)state;
	start_machine(&m, model, PKV_BF16, 2);
	for (uint32_t i = 0; i < chunk.nr_slots; i++)
		slots[i] = i;
	for (uint32_t i = 0; i < PROMPT; i++)
		tokens[i] = random_in(0, model.vocab - 1);
	for (uint32_t i = PROMPT; i < PROMPT + NEW; i++) {
		bool seen = false;

		assert_int_equal(pkvrt_executor_step(m.ex, &chunk, 1), 0);
		tokens[i] = draw.out.token;
		for (uint32_t j = PROMPT; j < i; j++)
			seen |= tokens[j] == tokens[i];
		nr_distinct += !seen;
		chunk.start += chunk.nr_tokens;
		chunk.tokens = &tokens[i];
		chunk.nr_tokens = 1;
	}
	printf("# %u distinct of %u greedy tokens\n", nr_distinct, NEW);
	assert_true(nr_distinct > NEW / 10);
	stop_machine(&m);
}

/* ---- refusals ---- */

#define REFUSED(change) \
	do { \
		struct pkvrt_chunk chunk = good; \
		struct pkvrt_draw draw = good_draw; \
		chunk.draws = &draw; \
		change; \
		assert_int_equal(pkvrt_executor_step(m.ex, &chunk, 1), -EINVAL); \
	} while (0)

static void test_bad_chunks(void **state)
{
	uint32_t tokens[] = { 1, 2, 3 }, bad_token[] = { 1, 777, 3 };
	uint32_t slots[MAX_CONTEXT / PAGE_TOKENS + 1] = { 5, 6, 7 }, bad_slots[] = { 5, NR_SLOTS };
	struct pkvrt_candidate top[1];
	struct pkvrt_draw good_draw = { .kind = PKVRT_GREEDY };
	struct pkvrt_chunk good = {
		.tokens = tokens, .nr_tokens = 3, .start = 3, .slots = slots, .nr_slots = 2,
		.nr_draws = 1, .draws = &good_draw,
	};
	struct machine m;
	char *before;

	(void)state;
	start_machine(&m, small_model(), PKV_F32, 2);
	before = malloc(m.bytes);
	assert_non_null(before);
	memcpy(before, m.arena, m.bytes);
	REFUSED(chunk.tokens = NULL);
	REFUSED(chunk.tokens = bad_token);
	REFUSED(chunk.nr_tokens = 0);
	REFUSED(chunk.nr_tokens = UINT32_MAX);
	REFUSED(chunk.start = 6);
	REFUSED(chunk.start = UINT32_MAX);
	REFUSED((chunk.start = MAX_CONTEXT - 2, chunk.nr_slots = MAX_CONTEXT / PAGE_TOKENS + 1));
	REFUSED(chunk.slots = NULL);
	REFUSED(chunk.slots = bad_slots);
	REFUSED(chunk.nr_slots = 1);
	REFUSED(chunk.draws = NULL);
	REFUSED(draw.kind = (enum pkvrt_draw_kind)9);
	REFUSED((draw.kind = PKVRT_SAMPLE, draw.top_p = 1));
	REFUSED((draw.kind = PKVRT_SAMPLE, draw.temperature = 1));
	REFUSED((draw.kind = PKVRT_SAMPLE, draw.temperature = 1, draw.top_p = 1.5f));
	REFUSED((draw.kind = PKVRT_SAMPLE, draw.temperature = INFINITY, draw.top_p = 1));
	REFUSED((draw.kind = PKVRT_SAMPLE, draw.temperature = NAN, draw.top_p = 1));
	REFUSED((draw.kind = PKVRT_SAMPLE, draw.temperature = 1e-45f, draw.top_p = 1));
	REFUSED((draw.kind = PKVRT_TOP, draw.nr_top = 1));
	REFUSED((draw.kind = PKVRT_TOP, draw.nr_top = 0, draw.top = top));
	REFUSED((draw.kind = PKVRT_TOP, draw.nr_top = 778, draw.top = top));
	assert_int_equal(pkvrt_executor_step(NULL, &good, 1), -EINVAL);
	assert_int_equal(pkvrt_executor_step(m.ex, NULL, 1), -EINVAL);
	assert_int_equal(pkvrt_executor_step(m.ex, NULL, 0), 0);
	assert_memory_equal(before, m.arena, m.bytes);
	free(before);
	stop_machine(&m);
}

#define MODEL_REFUSED(change, err) \
	do { \
		struct pkvrt_model model = small_model(); \
		struct pkvrt_executor_params p = { \
			.seed = 1, .page_tokens = 16, .nr_slots = 1, .arena = arena, \
		}; \
		change; \
		p.model = model; \
		assert_int_equal(pkvrt_executor_create(&ex, &p), err); \
	} while (0)

static void test_bad_params(void **state)
{
	struct pkvrt_executor *ex = NULL;
	void *arena = aligned_alloc(64, 64);

	(void)state;
	MODEL_REFUSED(model.nr_layers = 0, -EINVAL);
	MODEL_REFUSED(model.nr_layers = UINT32_MAX, -EINVAL);
	MODEL_REFUSED(model.dim = 0, -EINVAL);
	MODEL_REFUSED(model.dim = 12, -EINVAL);
	MODEL_REFUSED(model.nr_kv_heads = 4, -EINVAL);
	MODEL_REFUSED(model.nr_kv_heads = 0, -EINVAL);
	MODEL_REFUSED(model.nr_q_heads = 0, -EINVAL);
	MODEL_REFUSED(model.nr_q_heads = 34, -EINVAL);
	MODEL_REFUSED(model.nr_q_heads = UINT32_MAX - 1, -EINVAL);
	MODEL_REFUSED(model.head_dim = 20, -EINVAL);
	MODEL_REFUSED(model.head_dim = 264, -EINVAL);
	MODEL_REFUSED(model.ffn_dim = UINT32_MAX - 7, -EINVAL);
	MODEL_REFUSED(model.vocab = 1, -EINVAL);
	MODEL_REFUSED(model.max_tokens = 0, -EINVAL);
	MODEL_REFUSED(model.rope_theta = NAN, -EINVAL);
	MODEL_REFUSED(model.norm_eps = 0, -EINVAL);
	MODEL_REFUSED((model.nr_layers = 1024, model.dim = 65536, model.ffn_dim = 65536),
		      -EOVERFLOW);
	MODEL_REFUSED(p.page_tokens = 0, -EINVAL);
	MODEL_REFUSED(p.page_tokens = UINT32_MAX, -EOVERFLOW);
	MODEL_REFUSED(p.kv_dtype = 7, -EINVAL);
	MODEL_REFUSED(p.nr_slots = 0, -EINVAL);
	MODEL_REFUSED(p.arena = NULL, -EINVAL);
	MODEL_REFUSED(p.arena = (char *)arena + 4, -EINVAL);
	MODEL_REFUSED(p.nr_threads = 5000, -EINVAL);
	assert_int_equal(pkvrt_executor_create(NULL, NULL), -EINVAL);
	assert_null(ex);
	pkvrt_executor_destroy(NULL);
	free(arena);
}

static void test_model(void **state)
{
	struct pkvrt_model m = pkvrt_model_default(), other = m;
	uint64_t fingerprint = pkvrt_model_fingerprint(&m, 1, 16, PKV_F32, false);

	(void)state;
	assert_int_equal(pkvrt_model_check(&m), 0);
	assert_int_equal(pkvrt_model_page_bytes(&m, 16, PKV_F32), 65536);
	assert_int_equal(pkvrt_model_page_bytes(&m, 16, PKV_BF16), 32768);
	assert_int_equal(pkvrt_model_page_bytes(&m, 0, PKV_F32), 0);
	assert_int_equal(pkvrt_model_page_bytes(&m, 16, 9), 0);
	assert_true(pkvrt_model_nr_params(&m) > 2500000 && pkvrt_model_nr_params(&m) < 4000000);
	assert_true(fingerprint == pkvrt_model_fingerprint(&m, 1, 16, PKV_F32, false));
	assert_true(fingerprint != pkvrt_model_fingerprint(&m, 2, 16, PKV_F32, false));
	assert_true(fingerprint != pkvrt_model_fingerprint(&m, 1, 8, PKV_F32, false));
	assert_true(fingerprint != pkvrt_model_fingerprint(&m, 1, 16, PKV_BF16, false));
	assert_true(fingerprint != pkvrt_model_fingerprint(&m, 1, 16, PKV_F32, true));
	other.vocab++;
	assert_true(fingerprint != pkvrt_model_fingerprint(&other, 1, 16, PKV_F32, false));
}

/* ---- the team ---- */

struct relay {
	struct pkvrt_workers *team;
	uint32_t cells[8];
	uint32_t next[8];
};

/* Each worker's cell becomes the sum of all: wrong unless each barrier holds. */
static void add_up(void *arg, unsigned int thread)
{
	struct relay *r = arg;
	uint32_t nr = pkvrt_workers_nr(r->team);

	for (uint32_t round = 0; round < 20; round++) {
		r->next[thread] = 0;
		for (uint32_t i = 0; i < nr; i++)
			r->next[thread] += r->cells[i];
		pkvrt_workers_barrier(r->team);
		r->cells[thread] = r->next[thread] + 1;
		pkvrt_workers_barrier(r->team);
	}
}

static void test_workers(void **state)
{
	(void)state;
	for (uint32_t nr = 1; nr <= 8; nr += 1 + nr / 2) {
		struct relay r = { .cells = { 0 } };
		uint32_t want = 0;

		assert_int_equal(pkvrt_workers_create(&r.team, nr), 0);
		for (uint32_t run = 0; run < 5; run++) {
			pkvrt_workers_run(r.team, add_up, &r);
			for (uint32_t round = 0; round < 20; round++)
				want = want * nr + 1;
			for (uint32_t i = 0; i < nr; i++)
				assert_int_equal(r.cells[i], want);
		}
		pkvrt_workers_destroy(r.team);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest invariance[] = {
		cmocka_unit_test(test_invariance),
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_workers),
		cmocka_unit_test(test_is_the_model),
		cmocka_unit_test(test_invariance),
		cmocka_unit_test(test_invariance_default_model),
		cmocka_unit_test(test_invariance_of_other_blas),
		cmocka_unit_test(test_draws),
		cmocka_unit_test(test_sampling_frequencies),
		cmocka_unit_test(test_greedy_is_lively),
		cmocka_unit_test(test_bad_chunks),
		cmocka_unit_test(test_bad_params),
	};
	const char *text = getenv("PAGEDKV_TEST_SEED");
	uint64_t seed = 1;

	if (text)
		seed = strtoull(text, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = 1;
	pkvrt_rng_init(&rng, seed);
	if (argc > 1 && !strcmp(argv[1], "--invariance")) {
		cmocka_set_message_output(CM_OUTPUT_STDOUT);
		return freopen("/dev/null", "w", stderr) && freopen("/dev/null", "w", stdout) ?
		       cmocka_run_group_tests(invariance, NULL, NULL) : 1;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	printf("# PAGEDKV_TEST_SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests_name("executor", tests, NULL, NULL);
}
