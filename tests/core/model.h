/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A simple model of the page manager, with contents: what a slot of each tier holds, an
 * executor that copies between slots late, in any order, torn, failing or dying, and what every
 * sequence must read. It proves that no sequence ever reads a wrong token.
 *
 * Tokens are bits. What a token leaves in its page depends on all tokens before it, as K and V
 * do: it is the string of tokens so far, as a number with a leading one. So the content of a
 * full page names its content exactly, and is its key as well.
 */
#ifndef PKV_TEST_MODEL_H
#define PKV_TEST_MODEL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core.h"

#define MODEL_MAX_TOKENS	48
#define MODEL_MAX_SEQS		8
#define MODEL_MAX_SLOTS		12
#define MODEL_MAX_PAGE_TOKENS	4
#define MODEL_MAX_OUT		64
#define MODEL_MAX_OPS		6	/* of a step */
#define MODEL_NR_OLD		8	/* handles of the dead, kept to be tried again */

/* Where decisions come from: given bytes, which end, or a generator, which does not. */
struct model_source {
	const uint8_t *data;
	size_t len, pos;
	uint64_t rng;
};

struct model_seq {
	uint64_t handle;	/* 0: none */
	uint64_t val;		/* its tokens */
	uint32_t len, written;	/* tokens; written is what compute has done */
	uint32_t class_id;
	uint32_t state;		/* as seen last */
	uint32_t lost_tokens;	/* BROKEN: what is left */
	uint32_t priority;
	uint32_t owner;
	bool pinned;
	uint32_t table[MODEL_MAX_TOKENS];	/* as the server has it, from deltas */
};

/* A move in the hands of an executor. */
struct model_move {
	struct pkv_move_desc desc;
	uint32_t executor;
	uint32_t nr_cells;	/* copied so far */
	bool doomed;		/* its source has gone: it can only fail */
};

struct model_cells {
	uint64_t cell[MODEL_MAX_PAGE_TOKENS];
};

struct model {
	struct model_source *src;
	struct pkv_pool pool;
	struct mutex lock;
	struct pkv_pool_params params;
	struct model_seq seqs[MODEL_MAX_SEQS];
	struct model_cells mem[PKV_MAX_CLASSES][PKV_NR_TIERS][MODEL_MAX_SLOTS];
	struct model_move out[MODEL_MAX_OUT];
	uint32_t nr_out;
	uint64_t old_seqs[MODEL_NR_OLD];
	uint64_t old_moves[MODEL_NR_OLD];
	uint32_t nr_old_seqs, nr_old_moves;
	bool swap_key;		/* which half of a key is nearly always equal */
	bool fail_allocs;
	bool calm;		/* no low marks */
	uint64_t nr_ops;
	uint64_t nr_results[256];	/* by -error, for a look at what a stream reaches */
	FILE *trace;
	char why[256];		/* empty: all is well */
};

#define EXPECT(m, cond, ...)						\
	do {								\
		if (!(cond)) {						\
			model_fail(m, __LINE__, #cond, __VA_ARGS__);	\
			return;						\
		}							\
	} while (0)

/* model.c: contents and checks */
uint32_t model_pick(struct model *m, uint32_t n);
bool model_ended(const struct model *m);
__attribute__((format(printf, 4, 5)))
void model_fail(struct model *m, int line, const char *cond, const char *fmt, ...);
__attribute__((format(printf, 2, 3)))
void model_trace(struct model *m, const char *fmt, ...);
struct pkv_key model_key(const struct model *m, uint64_t val);
uint64_t model_digest(const struct model *m);
bool model_slot_is_free(const struct model *m, uint32_t class_id, uint32_t tier, uint32_t slot);
void model_check(struct model *m);

/* model_moves.c: the executor */
void model_run_copies(struct model *m, const struct pkv_move_desc *copies, uint32_t nr);
void model_drop_copies(struct model *m, uint32_t owner);
void model_drain(struct model *m);
void model_op_fetch(struct model *m);
void model_op_commit(struct model *m);
void model_op_requeue(struct model *m);
void model_op_reclaim(struct model *m);
void model_op_shrink(struct model *m);
void model_op_tier_state(struct model *m);
void model_op_hostile_commit(struct model *m);

/* model_seqs.c: sequences and the index */
void model_op_create(struct model *m);
void model_op_step(struct model *m);
void model_op_cold(struct model *m);
void model_op_load(struct model *m);
void model_op_pin(struct model *m);
void model_op_priority(struct model *m);
void model_op_forget(struct model *m);
void model_op_free_owner(struct model *m);
void model_op_publish(struct model *m);
void model_op_match(struct model *m);
void model_op_adopt(struct model *m);
void model_op_limit(struct model *m);
void model_op_hostile_seq(struct model *m);
void model_op_hostile_class(struct model *m);
void model_free_all(struct model *m);

/**
 * model_run() - up to @nr_ops operations drawn from @src, each followed by every check
 * @m: room for the model; looked at afterwards for statistics
 * @trace: NULL, or where to tell each operation
 *
 * Return: 0, or -1 with m->why set.
 */
int model_run(struct model *m, struct model_source *src, uint64_t nr_ops, FILE *trace);

#endif
