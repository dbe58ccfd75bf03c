/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A pool for a test, with short ways to do what has to work. Each asserts, and walks the
 * invariants. Pages have 4 tokens.
 */
#ifndef PKV_TEST_RIG_H
#define PKV_TEST_RIG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core.h"

#define RIG_PAGE_TOKENS	4
#define RIG_MAX_DELTAS	64

struct rig {
	struct pkv_pool pool;
	struct mutex lock;
	struct pkv_class *c;
	struct pkv_delta deltas[RIG_MAX_DELTAS];	/* of the last rig_op() */
	struct pkv_move_desc copies[4];
	uint32_t nr_deltas, nr_copies;
	uint64_t out_seq;
	long nr_allocated;		/* before */
};

struct pkv_pool_params rig_params(uint32_t nr_device, uint32_t nr_host, uint32_t nr_disk);
void rig_init_with(struct rig *r, const struct pkv_pool_params *params);
void rig_init(struct rig *r, uint32_t nr_device, uint32_t nr_host, uint32_t nr_disk);
/* Asserts that nothing leaks. */
void rig_exit(struct rig *r);

void rig_check(struct rig *r);
/* One operation, with the copies it asks for left to the test. Returns its error. */
int rig_op(struct rig *r, uint64_t seq, uint32_t type, uint32_t arg);
void rig_append(struct rig *r, uint64_t seq, uint32_t nr_tokens);
void rig_free(struct rig *r, uint64_t seq);
uint64_t rig_fork(struct rig *r, uint64_t seq);
uint64_t rig_seq(struct rig *r, uint32_t nr_tokens);
uint64_t rig_seq_prio(struct rig *r, uint32_t nr_tokens, uint32_t priority);
/* A key that names page @page of prompt @prompt. */
struct pkv_key rig_key(uint64_t prompt, uint32_t page);
/* A sequence of whole pages, published as @prompt. */
uint64_t rig_published(struct rig *r, uint64_t prompt, uint32_t nr_pages);
/* A sequence from the cache: returns the hits. */
uint32_t rig_lookup(struct rig *r, uint64_t prompt, uint32_t nr_pages, uint64_t *seq);
/* One planned move must be there. */
struct pkv_move_desc rig_fetch(struct rig *r);
void rig_commit(struct rig *r, const struct pkv_move_desc *d, int status, bool source_bad);
/* Every move that is and becomes planned. Returns how many. */
uint32_t rig_settle(struct rig *r);
/* The page at @index of @seq. */
struct pkv_page *rig_page(struct rig *r, uint64_t seq, uint32_t index);
uint32_t rig_nr_free(struct rig *r, uint32_t tier);

#endif
