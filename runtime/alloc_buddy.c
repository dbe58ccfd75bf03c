// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Orca's three: a contiguous region for each sequence, reserved at admission for the prompt
 * and an estimate of the output, rounded up to a power of two of pages, and kept to the end.
 * Parallel sequences share nothing: each has a whole region, and a fork copies.
 */
#include <errno.h>
#include <stdlib.h>

#include <pagedkv.h>

#include "alloc.h"
#include "buddy.h"

struct alloc_buddy {
	struct pkvrt_alloc base;
	struct pkvrt_buddy buddy;
	uint32_t max_tokens;
	pkvrt_copy_fn copy;
	void *ctx;
};

static struct alloc_buddy *self(struct pkvrt_alloc *a)
{
	return (struct alloc_buddy *)a;
}

static uint32_t pow2_from(uint32_t n)
{
	return n > 1u << 31 ? UINT32_MAX : 1u << pkvrt_buddy_order(n);
}

/* Tokens to reserve for a sequence, or 0: longer than a sequence may be. */
static uint32_t estimate(const struct alloc_buddy *b, const struct pkvrt_want *w)
{
	uint64_t total = (uint64_t)w->prompt_tokens + w->output_tokens;
	uint64_t guess = total;

	if (total > b->max_tokens)
		return 0;
	if (b->base.policy == PKVRT_POLICY_ORCA_MAX)
		guess = b->max_tokens;
	else if (b->base.policy == PKVRT_POLICY_ORCA_POW2)
		guess = (uint64_t)w->prompt_tokens + pow2_from(w->output_tokens);
	return (uint32_t)(guess < b->max_tokens ? guess : b->max_tokens);
}

static int region_alloc(struct alloc_buddy *b, struct pkvrt_kv *kv, uint32_t tokens)
{
	uint32_t nr = (tokens + b->base.page_tokens - 1) / b->base.page_tokens;
	uint32_t order = pkvrt_buddy_order(nr);
	int64_t page;
	int err;

	if (order > b->buddy.max_order)
		return -E2BIG;
	err = pkvrt_kv_reserve(kv, 1u << order);
	if (err)
		return err;
	page = pkvrt_buddy_alloc(&b->buddy, order);
	if (page < 0)
		return -EAGAIN;
	kv->handle = order;
	kv->asked_tokens = tokens;
	kv->len = 0;
	kv->nr_slots = 1u << order;
	for (uint32_t i = 0; i < kv->nr_slots; i++)
		kv->slots[i] = (uint32_t)page + i;
	kv->is_live = true;
	return 0;
}

static void region_free(struct alloc_buddy *b, struct pkvrt_kv *kv)
{
	pkvrt_buddy_free(&b->buddy, kv->slots[0], (uint32_t)kv->handle);
	kv->nr_slots = 0;
	kv->len = 0;
	kv->is_live = false;
	kv->nr_same = 0;
}

static int buddy_admit(struct pkvrt_alloc *a, const struct pkvrt_want *want,
		       struct pkvrt_kv *kvs, uint32_t *hit_tokens)
{
	struct alloc_buddy *b = self(a);
	uint32_t tokens = estimate(b, want);
	uint32_t i;
	int err = tokens ? 0 : -E2BIG;

	*hit_tokens = 0;
	for (i = 0; i < want->nr_seqs && !err; i++)
		err = region_alloc(b, &kvs[i], tokens);
	if (!err)
		return 0;
	for (i = 0; i < want->nr_seqs; i++)
		if (kvs[i].is_live)
			region_free(b, &kvs[i]);
	/* More regions than an empty pool has are never to be had. */
	return err == -EAGAIN && b->buddy.nr_free == a->nr_pages ? -E2BIG : err;
}

static int region_fork(struct alloc_buddy *b, struct pkvrt_kv *kv, struct pkvrt_kv *child)
{
	int err = child->is_live ? 0 : region_alloc(b, child, kv->asked_tokens);

	return err ? err : pkvrt_region_copy(&b->base, b->copy, b->ctx, kv, child);
}

static int apply(struct alloc_buddy *b, const struct pkvrt_alloc_op *op)
{
	switch (op->type) {
	case PKVRT_OP_APPEND:
		return pkvrt_region_append(&b->base, op->kv, op->arg);
	case PKVRT_OP_FORK:
		return region_fork(b, op->kv, op->child);
	case PKVRT_OP_TRUNCATE:
		return pkvrt_region_truncate(op->kv, op->arg);
	case PKVRT_OP_FREE:
		region_free(b, op->kv);
		return 0;
	}
	return -EINVAL;
}

static int buddy_step(struct pkvrt_alloc *a, struct pkvrt_alloc_op *ops, uint32_t nr,
		      uint32_t *nr_done)
{
	int err = 0;

	for (*nr_done = 0; *nr_done < nr; ++*nr_done) {
		err = apply(self(a), &ops[*nr_done]);
		if (err)
			break;
	}
	return err;
}

static uint32_t buddy_nr_avail(struct pkvrt_alloc *a)
{
	return self(a)->buddy.nr_free;
}

static uint32_t buddy_run_tokens(struct pkvrt_alloc *a, uint32_t output_tokens)
{
	(void)a;
	return output_tokens;
}

static void buddy_destroy(struct pkvrt_alloc *a)
{
	pkvrt_buddy_exit(&self(a)->buddy);
	free(a);
}

static const struct pkvrt_alloc_ops buddy_ops = {
	.admit = buddy_admit,
	.step = buddy_step,
	.nr_avail = buddy_nr_avail,
	.run_tokens = buddy_run_tokens,
	.destroy = buddy_destroy,
};

int pkvrt_alloc_buddy_create(struct pkvrt_alloc **out, const struct pkvrt_alloc_params *p)
{
	uint32_t nr = (uint32_t)(((uint64_t)p->max_tokens + p->page_tokens - 1) / p->page_tokens);
	struct alloc_buddy *b = calloc(1, sizeof(*b));
	int err;

	if (!b)
		return -ENOMEM;
	b->base.ops = &buddy_ops;
	b->base.policy = p->policy;
	b->base.nr_pages = p->nr_pages;
	b->base.page_tokens = p->page_tokens;
	b->max_tokens = p->max_tokens;
	b->copy = p->copy;
	b->ctx = p->ctx;
	err = pkvrt_buddy_init(&b->buddy, p->nr_pages, pkvrt_buddy_order(nr));
	if (err) {
		free(b);
		return err;
	}
	*out = &b->base;
	return 0;
}
