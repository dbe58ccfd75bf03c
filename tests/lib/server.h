/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A server without a model, for tests: it keeps a pool's pages in ordinary
 * memory, and what it "computes" for a token depends on all tokens before it.
 * So whatever page a sequence reads, after any move, copy or prefix hit, the
 * right content is known.
 */
#ifndef TEST_SERVER_H
#define TEST_SERVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "pagedkv.h"

#define MAX_TOKENS	256U

struct server;

/* How a move is to fail: 0, or a negative errno; @flags as in struct pagedkv_commit. */
typedef int (*fault_fn)(struct server *s, const struct pagedkv_move *m, uint32_t *flags);

struct server {
	struct pagedkv *kv;
	struct pagedkv_pool *pool;
	uint32_t page_tokens;
	uint64_t page_bytes;
	uint32_t nr_slots[PAGEDKV_NR_TIERS];
	uint8_t *memory[PAGEDKV_NR_TIERS];
	fault_fn fault;
	uint64_t fault_rng;
	bool threaded;		/* a thread of its own runs the moves */
	pthread_t mover;
};

struct request {
	pagedkv_seq_t seq;
	bool alive;
	uint32_t len;
	uint32_t tokens[MAX_TOKENS];
	uint32_t hit_tokens;	/* at its admission */
};

/* Geometry of one class; page_bytes follows from page_tokens. */
struct geometry {
	uint32_t page_tokens, device, host, disk, low;
};

uint64_t next_random(uint64_t *state);
struct pagedkv_pool_params server_params(const struct geometry *g);
void server_open(struct server *s, const struct geometry *g);
void server_open_params(struct server *s, const struct pagedkv_pool_params *p);
void server_close(struct server *s);
void server_start_mover(struct server *s);
void server_stop_mover(struct server *s);

/** Run every planned move. Returns how many. */
uint32_t server_run_moves(struct server *s);

/*
 * What a server does with requests. 0, or the library's error that it could
 * not get around (-ENOSPC, -EDQUOT, -EIO).
 */
int server_admit(struct server *s, struct request *r, const uint32_t *tokens, uint32_t nr,
		 uint32_t flags);
int server_append(struct server *s, struct request *r, const uint32_t *tokens, uint32_t nr);
int server_fork(struct server *s, struct request *r, struct request *child);
int server_truncate(struct server *s, struct request *r, uint32_t len);
int server_resume(struct server *s, struct request *r);
int server_publish(struct server *s, struct request *r);
void server_free(struct server *s, struct request *r);

/** One operation in a step of its own. */
int one_op(struct pagedkv_pool *pool, pagedkv_seq_t seq, uint32_t type, uint32_t arg,
	   pagedkv_seq_t *out_seq);

/** Fails the test unless every page of a running request has the right content. */
void server_verify(struct server *s, const struct request *r);
/** Is the page manager the kernel's? PAGEDKV_BACKEND in the environment decides. */
bool on_kmod(struct server *s);
/** Fails the test if an invariant is broken. */
void server_check(struct server *s);
struct pagedkv_stats server_stats(struct server *s);

#endif
