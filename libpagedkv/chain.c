// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Hash chains of sequences: see chain.h. */
#include <errno.h>
#include <stdlib.h>

#include "chain.h"

int pkv_chains_init(struct pkv_chains *c, uint32_t max_seqs)
{
	c->table = calloc(max_seqs, sizeof(*c->table));
	if (!c->table)
		return -ENOMEM;
	c->nr = max_seqs;
	pthread_mutex_init(&c->lock, NULL);
	return 0;
}

void pkv_chains_exit(struct pkv_chains *c)
{
	pthread_mutex_destroy(&c->lock);
	free(c->table);
}

/* The entry where @seq's chain is or goes; NULL when no handle is like that. */
static struct pkv_chain *place(struct pkv_chains *c, pagedkv_seq_t seq)
{
	uint32_t i = (uint32_t)seq;

	return i < c->nr ? &c->table[i] : NULL;
}

static struct pkv_chain *find(struct pkv_chains *c, pagedkv_seq_t seq)
{
	struct pkv_chain *e = place(c, seq);

	return e && e->seq == seq ? e : NULL;
}

void pkv_chain_set(struct pkv_chains *c, const struct pkv_chain *chain)
{
	struct pkv_chain *e = place(c, chain->seq);

	if (!e)
		return;
	pthread_mutex_lock(&c->lock);
	*e = *chain;
	pthread_mutex_unlock(&c->lock);
}

int pkv_chain_get(struct pkv_chains *c, pagedkv_seq_t seq, struct pkv_chain *out)
{
	struct pkv_chain *e;

	pthread_mutex_lock(&c->lock);
	e = find(c, seq);
	if (e)
		*out = *e;
	pthread_mutex_unlock(&c->lock);
	return e ? 0 : -ESTALE;
}

void pkv_chain_grow(struct pkv_chains *c, const struct pkv_chain *was, uint32_t nr_pages,
		    const struct pkv_digest *h)
{
	struct pkv_chain *e;

	pthread_mutex_lock(&c->lock);
	e = find(c, was->seq);
	if (e && e->epoch == was->epoch && e->nr_pages == was->nr_pages) {
		e->nr_pages += nr_pages;
		e->h = *h;
	}
	pthread_mutex_unlock(&c->lock);
}

void pkv_chain_mute(struct pkv_chains *c, pagedkv_seq_t seq)
{
	struct pkv_chain *e;

	pthread_mutex_lock(&c->lock);
	e = find(c, seq);
	if (e)
		e->mute = true;
	pthread_mutex_unlock(&c->lock);
}

static void follow_fork(struct pkv_chains *c, const struct pagedkv_op *op)
{
	struct pkv_chain *parent = find(c, op->seq);
	struct pkv_chain *child = place(c, op->out_seq);

	if (!parent || !child)
		return;
	*child = *parent;
	child->seq = op->out_seq;
}

static void follow_truncate(struct pkv_chains *c, const struct pagedkv_op *op,
			    const uint32_t page_tokens[PAGEDKV_MAX_CLASSES])
{
	struct pkv_chain *e = find(c, op->seq);

	if (!e || op->arg / page_tokens[e->class_id] >= e->nr_pages)
		return;
	e->nr_pages = 0;
	e->epoch++;
}

void pkv_chains_follow(struct pkv_chains *c, const struct pagedkv_op *ops, uint32_t nr,
		       const uint32_t page_tokens[PAGEDKV_MAX_CLASSES])
{
	bool locked = false;

	for (uint32_t i = 0; i < nr; i++) {
		if (ops[i].type != PAGEDKV_OP_FORK && ops[i].type != PAGEDKV_OP_TRUNCATE)
			continue;
		if (!locked)
			pthread_mutex_lock(&c->lock);
		locked = true;
		if (ops[i].type == PAGEDKV_OP_FORK)
			follow_fork(c, &ops[i]);
		else
			follow_truncate(c, &ops[i], page_tokens);
	}
	if (locked)
		pthread_mutex_unlock(&c->lock);
}
