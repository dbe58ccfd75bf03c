// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The paged policy: libpagedkv decides, this file translates. A step of the scheduler is one
 * pagedkv_step(); its deltas keep the block tables, its copies run before it returns.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <pagedkv.h>

#include "alloc.h"

#define MOVES_AT_ONCE	64u

struct alloc_paged {
	struct pkvrt_alloc base;
	struct pagedkv_pool *pool;
	pkvrt_copy_fn copy;
	pkvrt_move_fn move;
	void *ctx;

	/* scratch of a step */
	struct pagedkv_op *ops;
	uint32_t cap_ops;
	struct pagedkv_delta *deltas;
	uint32_t cap_deltas;
	struct pagedkv_move *copies;
	struct pagedkv_commit *commits;
	uint32_t cap_copies;
	struct pagedkv_publish *names;
	uint32_t cap_names;
};

static struct alloc_paged *self(struct pkvrt_alloc *a)
{
	return (struct alloc_paged *)a;
}

/* Room for @nr elements in *@array, whatever was in it before. */
static int need(void *array, uint32_t *cap, uint64_t nr, size_t size)
{
	void **at = array;
	void *p;

	if (nr <= *cap)
		return 0;
	nr += nr / 2;
	if (nr > UINT32_MAX)
		return -EOVERFLOW;
	p = calloc(nr, size);
	if (!p)
		return -ENOMEM;
	free(*at);
	*at = p;
	*cap = (uint32_t)nr;
	return 0;
}

static uint32_t pages_of(const struct alloc_paged *b, uint32_t tokens)
{
	return (uint32_t)(((uint64_t)tokens + b->base.page_tokens - 1) / b->base.page_tokens);
}

/* The whole block table anew, of a sequence that runs. */
static int read_table(struct alloc_paged *b, struct pkvrt_kv *kv)
{
	uint32_t nr = pages_of(b, kv->len);
	int ret = pkvrt_kv_reserve(kv, nr);

	if (ret)
		return ret;
	ret = pagedkv_seq_table(b->pool, kv->handle, 0, kv->slots, nr);
	if (ret < 0)
		return ret;
	kv->nr_slots = (uint32_t)ret;
	kv->nr_same = 0;
	return 0;
}

static int paged_admit(struct pkvrt_alloc *a, const struct pkvrt_want *want,
		       struct pkvrt_kv *kvs, uint32_t *hit_tokens)
{
	struct alloc_paged *b = self(a);
	struct pagedkv_seq_params p = {
		.size = sizeof(p),
		.priority = want->priority,
		.tokens = want->tokens,
		.nr_tokens = want->nr_tokens,
		.flags = want->use_prefix ? 0 : PAGEDKV_SEQ_NO_PREFIX,
	};
	struct pkvrt_kv *kv = &kvs[0];
	int err = pagedkv_seq_create(b->pool, &kv->handle, &p, hit_tokens);

	if (err == -ENOSPC || err == -EDQUOT)
		return -EAGAIN;
	if (err)
		return err;
	kv->is_live = true;
	kv->len = *hit_tokens;
	kv->nr_slots = 0;
	kv->nr_same = 0;
	kv->asked_tokens = 0;
	if (pagedkv_seq_state(b->pool, kv->handle) == PAGEDKV_SEQ_RUNNING)
		return read_table(b, kv);
	return 0;
}

static int make_scratch(struct alloc_paged *b, const struct pkvrt_alloc_op *ops, uint32_t nr)
{
	uint64_t deltas = 0;
	uint32_t cap = b->cap_copies;
	int err;

	for (uint32_t i = 0; i < nr; i++)
		if (ops[i].type == PKVRT_OP_APPEND)
			deltas += ops[i].arg / b->base.page_tokens + 2;
	err = need(&b->ops, &b->cap_ops, nr, sizeof(*b->ops));
	if (!err)
		err = need(&b->deltas, &b->cap_deltas, deltas, sizeof(*b->deltas));
	if (!err)
		err = need(&b->copies, &cap, nr, sizeof(*b->copies));
	if (!err)
		err = need(&b->commits, &b->cap_copies, nr, sizeof(*b->commits));
	return err;
}

static int follow_append(struct alloc_paged *b, const struct pkvrt_alloc_op *op,
			 const struct pagedkv_step *step, uint32_t *at)
{
	struct pkvrt_kv *kv = op->kv;
	int err;

	kv->len += op->arg;
	err = pkvrt_kv_reserve(kv, pages_of(b, kv->len));
	if (err)
		return err;
	kv->nr_slots = pages_of(b, kv->len);
	for (; *at < step->nr_deltas && step->deltas[*at].seq == kv->handle; ++*at) {
		kv->slots[step->deltas[*at].index] = step->deltas[*at].slot;
		if (step->deltas[*at].index < kv->nr_same)
			kv->nr_same = step->deltas[*at].index;
	}
	return 0;
}

/* What an operation that was done means for the block tables here. Deltas come in order. */
static int follow(struct alloc_paged *b, const struct pkvrt_alloc_op *op,
		  const struct pagedkv_op *done, const struct pagedkv_step *step, uint32_t *at)
{
	struct pkvrt_kv *kv = op->kv;
	int err;

	switch (op->type) {
	case PKVRT_OP_APPEND:
		return follow_append(b, op, step, at);
	case PKVRT_OP_FORK:
		op->child->handle = done->out_seq;
		op->child->is_live = true;
		op->child->len = kv->len;
		op->child->nr_slots = kv->nr_slots;
		op->child->nr_same = 0;
		err = pkvrt_kv_reserve(op->child, kv->nr_slots);
		if (!err && kv->nr_slots)
			memcpy(op->child->slots, kv->slots, kv->nr_slots * sizeof(*kv->slots));
		return err;
	case PKVRT_OP_TRUNCATE:
		kv->len = op->arg;
		kv->nr_slots = pages_of(b, kv->len);
		if (kv->nr_same > kv->nr_slots)
			kv->nr_same = kv->nr_slots;
		return 0;
	case PKVRT_OP_FREE:
		kv->is_live = false;
		kv->len = 0;
		kv->nr_slots = 0;
		kv->nr_same = 0;
		return 0;
	}
	return -EINVAL;
}

static int run_copies(struct alloc_paged *b, const struct pagedkv_step *step)
{
	int err, ret;

	if (!step->nr_copies)
		return 0;
	err = b->copy ? b->copy(b->ctx, step->copies, step->nr_copies) : 0;
	for (uint32_t i = 0; i < step->nr_copies; i++)
		b->commits[i] = (struct pagedkv_commit){
			.id = step->copies[i].id,
			.status = err,
		};
	ret = pagedkv_moves_commit(b->pool, b->commits, step->nr_copies);
	return err ? err : ret;
}

static int paged_step(struct pkvrt_alloc *a, struct pkvrt_alloc_op *ops, uint32_t nr,
		      uint32_t *nr_done)
{
	static const uint32_t types[] = {
		[PKVRT_OP_APPEND] = PAGEDKV_OP_APPEND,
		[PKVRT_OP_FORK] = PAGEDKV_OP_FORK,
		[PKVRT_OP_TRUNCATE] = PAGEDKV_OP_TRUNCATE,
		[PKVRT_OP_FREE] = PAGEDKV_OP_FREE,
	};
	struct alloc_paged *b = self(a);
	struct pagedkv_step step;
	uint32_t at = 0;
	int err, ret;

	*nr_done = 0;
	err = make_scratch(b, ops, nr);
	if (err)
		return err;
	for (uint32_t i = 0; i < nr; i++)
		b->ops[i] = (struct pagedkv_op){
			.seq = ops[i].kv->handle,
			.type = types[ops[i].type],
			.arg = ops[i].arg,
		};
	step = (struct pagedkv_step){
		.ops = b->ops,
		.nr_ops = nr,
		.deltas = b->deltas,
		.max_deltas = b->cap_deltas,
		.copies = b->copies,
		.max_copies = b->cap_copies,
	};
	ret = pagedkv_step(b->pool, &step);
	*nr_done = step.nr_done;
	for (uint32_t i = 0; i < step.nr_done && !err; i++)
		err = follow(b, &ops[i], &b->ops[i], &step, &at);
	if (!err)
		err = run_copies(b, &step);
	return err ? err : ret;
}

static int get_stats(struct alloc_paged *b, struct pagedkv_stats *st)
{
	*st = (struct pagedkv_stats){ .size = sizeof(*st) };
	return pagedkv_get_stats(b->pool, 0, st);
}

static uint32_t paged_nr_avail(struct pkvrt_alloc *a)
{
	struct pagedkv_stats st;
	const struct pagedkv_tier_stats *t = &st.tiers[PAGEDKV_DEVICE];

	if (get_stats(self(a), &st))
		return 0;
	return t->nr_free + t->nr_idle + t->nr_leaving;
}

/* Cached pages of the slower tiers give way; what is idle on the device will want room. */
static uint32_t paged_nr_swap_avail(struct pkvrt_alloc *a)
{
	struct pagedkv_stats st;
	uint64_t room;

	if (get_stats(self(a), &st))
		return 0;
	room = (uint64_t)st.nr_cached;
	for (uint32_t t = PAGEDKV_HOST; t < PAGEDKV_NR_TIERS; t++)
		if (st.tiers[t].state == PAGEDKV_TIER_ONLINE)
			room += st.tiers[t].nr_free;
	if (room <= st.tiers[PAGEDKV_DEVICE].nr_idle)
		return 0;
	room -= st.tiers[PAGEDKV_DEVICE].nr_idle;
	return room < UINT32_MAX ? (uint32_t)room : UINT32_MAX;
}

static uint32_t paged_run_tokens(struct pkvrt_alloc *a, uint32_t output_tokens)
{
	(void)a;
	return output_tokens;
}

static int paged_cold(struct pkvrt_alloc *a, struct pkvrt_kv *kv)
{
	return pagedkv_advise(self(a)->pool, kv->handle, PAGEDKV_COLD);
}

static int paged_load(struct pkvrt_alloc *a, struct pkvrt_kv *kv)
{
	int ret = pagedkv_advise(self(a)->pool, kv->handle, PAGEDKV_WILLNEED);

	return ret ? ret : read_table(self(a), kv);
}

static int paged_state(struct pkvrt_alloc *a, struct pkvrt_kv *kv, uint32_t *lost_tokens)
{
	struct alloc_paged *b = self(a);
	struct pagedkv_seq_info info;
	int ret = pagedkv_seq_state(b->pool, kv->handle);

	switch (ret) {
	case PAGEDKV_SEQ_RUNNING:
		ret = read_table(b, kv);
		return ret ? ret : PKVRT_KV_READY;
	case PAGEDKV_SEQ_LOADING:
		return PKVRT_KV_LOADING;
	case PAGEDKV_SEQ_COLD:
		return PKVRT_KV_COLD;
	case PAGEDKV_SEQ_BROKEN:
		ret = pagedkv_seq_get_info(b->pool, kv->handle, &info);
		*lost_tokens = info.lost_tokens;
		return ret ? ret : PKVRT_KV_BROKEN;
	default:
		return ret < 0 ? ret : -EINVAL;
	}
}

static int paged_publish(struct pkvrt_alloc *a, const struct pkvrt_named *items, uint32_t nr)
{
	struct alloc_paged *b = self(a);
	int err = need(&b->names, &b->cap_names, nr, sizeof(*b->names));

	if (err)
		return err;
	for (uint32_t i = 0; i < nr; i++)
		b->names[i] = (struct pagedkv_publish){
			.seq = items[i].kv->handle,
			.tokens = items[i].tokens,
			.nr_tokens = items[i].nr_tokens,
		};
	return pagedkv_publish(b->pool, b->names, nr);
}

/* Run what is planned, here and now. 1 when any of it went well. */
static int run_moves(struct alloc_paged *b)
{
	struct pagedkv_move moves[MOVES_AT_ONCE];
	struct pagedkv_commit commits[MOVES_AT_ONCE];
	int nr = pagedkv_moves_fetch(b->pool, moves, MOVES_AT_ONCE);
	bool went_well = false;
	int err;

	for (int i = 0; i < nr; i++) {
		commits[i] = (struct pagedkv_commit){
			.id = moves[i].id,
			.status = b->move(b->ctx, &moves[i]),
		};
		went_well |= !commits[i].status;
	}
	if (nr <= 0)
		return nr;
	err = pagedkv_moves_commit(b->pool, commits, (uint32_t)nr);
	return err ? err : went_well;
}

/* Moves that have ended well, of any kind. */
static uint64_t nr_committed(const struct pagedkv_stats *st)
{
	uint64_t nr = 0;

	for (int from = 0; from < PAGEDKV_NR_TIERS; from++)
		for (int to = 0; to < PAGEDKV_NR_TIERS; to++)
			nr += st->moves[from][to];
	return nr;
}

/* A failed move is no progress: who waits for room would wait for ever. */
static int paged_wait(struct pkvrt_alloc *a, uint64_t timeout_ns)
{
	struct alloc_paged *b = self(a);
	struct pagedkv_stats before, after;
	int err;

	if (b->move)
		return run_moves(b);
	if (!timeout_ns)
		return 0;
	err = get_stats(b, &before);
	if (err || !before.nr_moves)
		return err;
	err = pagedkv_moves_wait(b->pool, timeout_ns);
	if (err == -ETIMEDOUT)
		return 0;
	if (!err)
		err = get_stats(b, &after);
	return err ? err : nr_committed(&after) != nr_committed(&before);
}

static void paged_destroy(struct pkvrt_alloc *a)
{
	struct alloc_paged *b = self(a);

	free(b->ops);
	free(b->deltas);
	free(b->copies);
	free(b->commits);
	free(b->names);
	free(b);
}

static const struct pkvrt_alloc_ops paged_ops = {
	.admit = paged_admit,
	.step = paged_step,
	.nr_avail = paged_nr_avail,
	.run_tokens = paged_run_tokens,
	.destroy = paged_destroy,
	.cold = paged_cold,
	.load = paged_load,
	.state = paged_state,
	.publish = paged_publish,
	.nr_swap_avail = paged_nr_swap_avail,
	.wait = paged_wait,
};

int pkvrt_alloc_paged_create(struct pkvrt_alloc **out, const struct pkvrt_alloc_params *p)
{
	struct alloc_paged *b;

	if (!p->pool)
		return -EINVAL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->base.ops = &paged_ops;
	b->base.policy = p->policy;
	b->base.nr_pages = p->nr_pages;
	b->base.page_tokens = p->page_tokens;
	b->pool = p->pool;
	b->copy = p->copy;
	b->move = p->move;
	b->ctx = p->ctx;
	*out = &b->base;
	return 0;
}
