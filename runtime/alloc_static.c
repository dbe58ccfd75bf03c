// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Static batching as FasterTransformer does it: a fixed number of regions of max_tokens. The
 * earliest arrivals start together, as long as the longest prompt and the longest output of
 * them fit in a region; all run as many steps as the longest output has; the next batch
 * starts when all have returned.
 */
#include <errno.h>
#include <stdlib.h>

#include <pagedkv.h>

#include "alloc.h"

#define SPARE_TOKENS 8	/* of a region of 2,048, 2,040 are for prompt and output */

struct alloc_static {
	struct pkvrt_alloc base;
	uint32_t region_pages;
	uint32_t region_tokens;
	uint32_t nr_regions;
	uint32_t nr_live;
	bool is_sealed;		/* the batch has started, or is full */
	uint32_t max_in, max_out;
	uint32_t *free_regions;	/* nr_regions - nr_live of them */
	pkvrt_copy_fn copy;
	void *ctx;
};

static struct alloc_static *self(struct pkvrt_alloc *a)
{
	return (struct alloc_static *)a;
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static int region_alloc(struct alloc_static *t, struct pkvrt_kv *kv)
{
	uint32_t region;
	int err = pkvrt_kv_reserve(kv, t->region_pages);

	if (err)
		return err;
	if (t->nr_live == t->nr_regions)
		return -ENOSPC;
	region = t->free_regions[t->nr_regions - ++t->nr_live];
	kv->handle = region;
	kv->len = 0;
	kv->asked_tokens = t->region_pages * t->base.page_tokens;
	kv->nr_slots = t->region_pages;
	for (uint32_t i = 0; i < kv->nr_slots; i++)
		kv->slots[i] = region * t->region_pages + i;
	kv->is_live = true;
	return 0;
}

static void region_free(struct alloc_static *t, struct pkvrt_kv *kv)
{
	t->free_regions[t->nr_regions - t->nr_live--] = (uint32_t)kv->handle;
	kv->nr_slots = 0;
	kv->len = 0;
	kv->is_live = false;
	kv->nr_same = 0;
	/* A beam frees and forks within a batch: it ends only with its last region. */
	if (!t->nr_live) {
		t->is_sealed = false;
		t->max_in = 0;
		t->max_out = 0;
	}
}

static int static_admit(struct pkvrt_alloc *a, const struct pkvrt_want *want,
			struct pkvrt_kv *kvs, uint32_t *hit_tokens)
{
	struct alloc_static *t = self(a);
	uint32_t in = max_u32(t->max_in, want->prompt_tokens);
	uint32_t out = max_u32(t->max_out, want->output_tokens);
	int err = 0;

	*hit_tokens = 0;
	if ((uint64_t)want->prompt_tokens + want->output_tokens > t->region_tokens ||
	    want->nr_seqs > t->nr_regions)
		return -E2BIG;
	if (t->is_sealed)
		return -EAGAIN;
	if (want->nr_seqs > t->nr_regions - t->nr_live ||
	    (t->nr_live && (uint64_t)in + out + SPARE_TOKENS > t->region_tokens)) {
		t->is_sealed = true;
		return -EAGAIN;
	}
	for (uint32_t i = 0; i < want->nr_seqs && !err; i++)
		err = region_alloc(t, &kvs[i]);
	for (uint32_t i = 0; i < want->nr_seqs && err; i++)
		if (kvs[i].is_live)
			region_free(t, &kvs[i]);
	if (err)
		return err;
	t->max_in = in;
	t->max_out = out;
	return 0;
}

static int region_fork(struct alloc_static *t, struct pkvrt_kv *kv, struct pkvrt_kv *child)
{
	int err = child->is_live ? 0 : region_alloc(t, child);

	return err ? err : pkvrt_region_copy(&t->base, t->copy, t->ctx, kv, child);
}

static int apply(struct alloc_static *t, const struct pkvrt_alloc_op *op)
{
	int err;

	switch (op->type) {
	case PKVRT_OP_APPEND:
		err = pkvrt_region_append(&t->base, op->kv, op->arg);
		t->is_sealed |= !err;
		return err;
	case PKVRT_OP_FORK:
		return region_fork(t, op->kv, op->child);
	case PKVRT_OP_TRUNCATE:
		return pkvrt_region_truncate(op->kv, op->arg);
	case PKVRT_OP_FREE:
		region_free(t, op->kv);
		return 0;
	}
	return -EINVAL;
}

static int static_step(struct pkvrt_alloc *a, struct pkvrt_alloc_op *ops, uint32_t nr,
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

static uint32_t static_nr_avail(struct pkvrt_alloc *a)
{
	struct alloc_static *t = self(a);

	return t->base.nr_pages - t->nr_live * t->region_pages;
}

static uint32_t static_run_tokens(struct pkvrt_alloc *a, uint32_t output_tokens)
{
	return max_u32(self(a)->max_out, output_tokens);
}

static void static_destroy(struct pkvrt_alloc *a)
{
	free(self(a)->free_regions);
	free(a);
}

static const struct pkvrt_alloc_ops static_ops = {
	.admit = static_admit,
	.step = static_step,
	.nr_avail = static_nr_avail,
	.run_tokens = static_run_tokens,
	.destroy = static_destroy,
};

int pkvrt_alloc_static_create(struct pkvrt_alloc **out, const struct pkvrt_alloc_params *p)
{
	struct alloc_static *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->base.ops = &static_ops;
	t->base.policy = p->policy;
	t->base.nr_pages = p->nr_pages;
	t->base.page_tokens = p->page_tokens;
	t->region_pages = (uint32_t)(((uint64_t)p->max_tokens + p->page_tokens - 1) /
				     p->page_tokens);
	t->region_tokens = p->max_tokens;
	t->nr_regions = p->nr_pages / t->region_pages;
	t->copy = p->copy;
	t->ctx = p->ctx;
	t->free_regions = malloc((t->nr_regions + 1) * sizeof(*t->free_regions));
	if (!t->free_regions) {
		free(t);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < t->nr_regions; i++)
		t->free_regions[i] = i;
	*out = &t->base;
	return 0;
}
