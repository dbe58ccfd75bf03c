/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Allocation policies: who gets which pages of the device tier, and when.
 *
 * The scheduler is the same for all of them; what differs is behind this table. The paged
 * policy grows sequences page by page (libpagedkv), preempts and shares. The baselines
 * reserve a region at admission and keep it to the end:
 *   Orca    a buddy allocator; the region is the prompt and an estimate of the output,
 *           rounded up to a power of two of pages
 *   static  a fixed batch with a region of max_tokens each, that starts and returns together
 * Nothing here is thread-safe; one scheduler owns an allocator.
 */
#ifndef PKVRT_ALLOC_H
#define PKVRT_ALLOC_H

#include <stdbool.h>
#include <stdint.h>

struct pagedkv_pool;
struct pagedkv_move;

enum pkvrt_policy {
	PKVRT_POLICY_PAGED,
	PKVRT_POLICY_ORCA_MAX,		/* output estimate: as long as can be */
	PKVRT_POLICY_ORCA_POW2,		/* next power of two of the true length */
	PKVRT_POLICY_ORCA_ORACLE,	/* the true length */
	PKVRT_POLICY_STATIC,
	PKVRT_NR_POLICIES,
};

/** "paged", "orca-max", ... */
const char *pkvrt_policy_name(enum pkvrt_policy policy);

/* A sequence's memory. Zeroed by its owner before admission; the slots are the allocator's. */
struct pkvrt_kv {
	uint64_t handle;	/* paged: pagedkv_seq_t; buddy: order; static: region */
	uint32_t len;		/* tokens that there is room for */
	uint32_t asked_tokens;	/* regions: wanted at admission, before rounding; paged: 0 */
	uint32_t nr_slots;
	uint32_t cap_slots;
	uint32_t *slots;	/* the block table */
	uint32_t nr_same;	/* entries that are as the last step of compute read them */
	bool is_live;
};

/* What a group asks for when it is admitted. */
struct pkvrt_want {
	const uint32_t *tokens;	/* of its first sequence, nr_tokens of them */
	uint32_t nr_tokens;	/* to be computed before it decodes (again) */
	uint32_t prompt_tokens;
	uint32_t output_tokens;	/* the true length: what an oracle knows */
	uint32_t nr_seqs;
	uint32_t priority;	/* 0 .. PAGEDKV_NR_PRIORITIES - 1 */
	bool use_prefix;
};

enum pkvrt_alloc_op_type {
	PKVRT_OP_APPEND,	/* arg: tokens to make room for */
	PKVRT_OP_FORK,		/* @child gets what @kv has */
	PKVRT_OP_TRUNCATE,	/* arg: the new length */
	PKVRT_OP_FREE,
};

struct pkvrt_alloc_op {
	enum pkvrt_alloc_op_type type;
	uint32_t arg;
	struct pkvrt_kv *kv;
	struct pkvrt_kv *child;
};

/* A sequence whose first nr_tokens tokens are computed. */
struct pkvrt_named {
	struct pkvrt_kv *kv;
	const uint32_t *tokens;
	uint32_t nr_tokens;
};

enum pkvrt_kv_state {
	PKVRT_KV_READY,
	PKVRT_KV_LOADING,
	PKVRT_KV_COLD,
	PKVRT_KV_BROKEN,
};

struct pkvrt_alloc;

struct pkvrt_alloc_ops {
	/*
	 * Admission of a group: kvs has room for want->nr_seqs; as many become live as the policy
	 * starts with (paged: the first, which may be LOADING). @hit_tokens: of the first, known
	 * already. -EAGAIN: not now. -E2BIG: never.
	 */
	int (*admit)(struct pkvrt_alloc *a, const struct pkvrt_want *want, struct pkvrt_kv *kvs,
		     uint32_t *hit_tokens);
	/*
	 * In order, each atomic; the first that fails ends it, and nr_done stand. -EAGAIN: room is
	 * being made, wait; -ENOSPC: preempt somebody.
	 */
	int (*step)(struct pkvrt_alloc *a, struct pkvrt_alloc_op *ops, uint32_t nr,
		    uint32_t *nr_done);
	/* Pages that could be had now. */
	uint32_t (*nr_avail)(struct pkvrt_alloc *a);
	/* The tokens that a request with this output runs for, from prompt to return. */
	uint32_t (*run_tokens)(struct pkvrt_alloc *a, uint32_t output_tokens);
	void (*destroy)(struct pkvrt_alloc *a);

	/* Those that only the paged policy has; NULL elsewhere. */
	int (*cold)(struct pkvrt_alloc *a, struct pkvrt_kv *kv);
	/* 0: ready, 1: loading, -EAGAIN, -ENOSPC: no room; -EIO: broken. */
	int (*load)(struct pkvrt_alloc *a, struct pkvrt_kv *kv);
	/* enum pkvrt_kv_state; @lost_tokens: BROKEN: tokens that are still there. */
	int (*state)(struct pkvrt_alloc *a, struct pkvrt_kv *kv, uint32_t *lost_tokens);
	/* Name the full pages of what is computed, for others to find. */
	int (*publish)(struct pkvrt_alloc *a, const struct pkvrt_named *items, uint32_t nr);
	/* Pages that the slower tiers could still take. */
	uint32_t (*nr_swap_avail)(struct pkvrt_alloc *a);
	/* Let moves make progress: 1 when there was some, 0: none within @timeout_ns. */
	int (*wait)(struct pkvrt_alloc *a, uint64_t timeout_ns);
};

struct pkvrt_alloc {
	const struct pkvrt_alloc_ops *ops;
	enum pkvrt_policy policy;
	uint32_t nr_pages;
	uint32_t page_tokens;
};

/* Copies whole pages within the device tier, in order. 0 or -errno. */
typedef int (*pkvrt_copy_fn)(void *ctx, const struct pagedkv_move *copies, uint32_t nr);
/* Executes one move between tiers; the value is its status, 0 or -errno. */
typedef int (*pkvrt_move_fn)(void *ctx, const struct pagedkv_move *move);

struct pkvrt_alloc_params {
	enum pkvrt_policy policy;
	uint32_t nr_pages;		/* of the device tier */
	uint32_t page_tokens;		/* a power of two */
	uint32_t max_tokens;		/* longest sequence: Orca Max's and static's region */
	struct pagedkv_pool *pool;	/* paged: borrowed, class 0 */
	pkvrt_copy_fn copy;		/* NULL: no contents to copy */
	pkvrt_move_fn move;		/* paged: run moves inline; NULL: an engine runs them */
	void *ctx;			/* of both */
};

/** Create an allocator. -EINVAL, -ENOMEM. */
int pkvrt_alloc_create(struct pkvrt_alloc **out, const struct pkvrt_alloc_params *p);
/** NULL is fine. Sequences must have been freed. */
void pkvrt_alloc_destroy(struct pkvrt_alloc *a);

/* The implementations, for pkvrt_alloc_create(). */
int pkvrt_alloc_paged_create(struct pkvrt_alloc **out, const struct pkvrt_alloc_params *p);
int pkvrt_alloc_buddy_create(struct pkvrt_alloc **out, const struct pkvrt_alloc_params *p);
int pkvrt_alloc_static_create(struct pkvrt_alloc **out, const struct pkvrt_alloc_params *p);

/* Shared by them: room for @nr entries in a block table. 0, -ENOMEM. */
int pkvrt_kv_reserve(struct pkvrt_kv *kv, uint32_t nr);
/* The block table's memory; the sequence is dead afterwards. */
void pkvrt_kv_release(struct pkvrt_kv *kv);

/* Shared by the baselines, whose sequences have regions: all slots from the start. 0, -EINVAL. */
int pkvrt_region_append(const struct pkvrt_alloc *a, struct pkvrt_kv *kv, uint32_t tokens);
int pkvrt_region_truncate(struct pkvrt_kv *kv, uint32_t len);
/* What @kv has so far, into @child's region. 0, or what @copy said; it may be NULL. */
int pkvrt_region_copy(const struct pkvrt_alloc *a, pkvrt_copy_fn copy, void *ctx,
		      const struct pkvrt_kv *kv, struct pkvrt_kv *child);

#endif
