// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Sequences: admission by cached prefix, the step, advice, and what they are. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define SEQ_FLAGS	PAGEDKV_SEQ_NO_PREFIX
#define STACK_PAGES	256U

/* Keys of a prompt, and every digest: only the hit tells from which one the chain goes on. */
struct hashed_prompt {
	struct pkv_prefix_key *keys;
	struct pkv_digest *trail;
	uint32_t nr;
	void *heap;
	struct pkv_prefix_key stack_keys[STACK_PAGES];
	struct pkv_digest stack_trail[STACK_PAGES];
};

static int take_params(const struct pagedkv_pool *pool, struct pagedkv_seq_params *p,
		       const struct pagedkv_seq_params *from)
{
	int ret;

	if (!pool)
		return -EINVAL;
	ret = pkv_params_get(p, sizeof(*p), sizeof(*p), from);
	if (ret)
		return ret;
	if (p->flags & ~SEQ_FLAGS)
		return -EOPNOTSUPP;
	if (p->class_id >= pool->nr_classes || p->priority >= PAGEDKV_NR_PRIORITIES ||
	    p->reserved || (p->nr_tokens && !p->tokens) || p->nr_tokens > PKV_MAX_PROMPT_TOKENS)
		return -EINVAL;
	return 0;
}

/* Full pages of a prompt that a sequence may start with: one token is left to compute. */
static uint32_t prompt_pages(const struct pagedkv_pool *pool, const struct pagedkv_seq_params *p)
{
	uint32_t nr;

	if (!p->nr_tokens || (p->flags & PAGEDKV_SEQ_NO_PREFIX))
		return 0;
	nr = (p->nr_tokens - 1) / pool->page_tokens[p->class_id];
	return nr < pool->max_pages[p->class_id] ? nr : pool->max_pages[p->class_id];
}

/* Needs no lock: hashing is the long part of an admission. */
static int hash_prompt(struct hashed_prompt *hp, const struct pagedkv_pool *pool,
		       const struct pagedkv_seq_params *p)
{
	struct pkv_digest h = pool->root[p->class_id];

	hp->nr = prompt_pages(pool, p);
	hp->heap = NULL;
	hp->keys = hp->stack_keys;
	hp->trail = hp->stack_trail;
	if (hp->nr > STACK_PAGES) {
		hp->heap = calloc(hp->nr, sizeof(*hp->keys) + sizeof(*hp->trail));
		if (!hp->heap)
			return -ENOMEM;
		hp->keys = hp->heap;
		hp->trail = (struct pkv_digest *)(hp->keys + hp->nr);
	}
	pkv_hash_pages(&h, p->tokens, pool->page_tokens[p->class_id], hp->nr, hp->keys, hp->trail);
	return 0;
}

static struct pkv_prompt prompt_of(const struct hashed_prompt *hp,
				   const struct pagedkv_seq_params *p)
{
	return (struct pkv_prompt) {
		.keys = hp->keys,
		.nr_keys = hp->nr,
		.class_id = p->class_id,
		.priority = p->priority,
	};
}

int pagedkv_seq_create(struct pagedkv_pool *pool, pagedkv_seq_t *out,
		       const struct pagedkv_seq_params *params, uint32_t *hit_tokens)
{
	struct pagedkv_seq_params p;
	struct hashed_prompt hp;
	struct pkv_prompt prompt;
	struct pkv_chain chain;
	uint32_t nr_hits = 0;
	int ret;

	if (!out)
		return -EINVAL;
	ret = take_params(pool, &p, params);
	if (ret)
		return ret;
	ret = hash_prompt(&hp, pool, &p);
	if (ret)
		return ret;
	prompt = prompt_of(&hp, &p);
	memset(&chain, 0, sizeof(chain));
	ret = pool->backend->seq_create(pool->priv, &prompt, &chain.seq, &nr_hits);
	if (ret)
		goto out_free;
	chain.nr_pages = nr_hits;
	chain.class_id = (uint16_t)p.class_id;
	chain.mute = p.flags & PAGEDKV_SEQ_NO_PREFIX;
	if (nr_hits)
		chain.h = hp.trail[nr_hits - 1];
	pkv_chain_set(&pool->chains, &chain);
	*out = chain.seq;
	if (hit_tokens)
		*hit_tokens = nr_hits * pool->page_tokens[p.class_id];
out_free:
	free(hp.heap);
	return ret;
}

int pagedkv_prefix_match(struct pagedkv_pool *pool, const struct pagedkv_seq_params *params,
			 uint32_t *hit_tokens, uint32_t pages_per_tier[PAGEDKV_NR_TIERS])
{
	uint32_t per_tier[PAGEDKV_NR_TIERS] = { 0 };
	struct pagedkv_seq_params p;
	struct hashed_prompt hp;
	struct pkv_prompt prompt;
	int ret;

	ret = take_params(pool, &p, params);
	if (ret)
		return ret;
	ret = hash_prompt(&hp, pool, &p);
	if (ret)
		return ret;
	prompt = prompt_of(&hp, &p);
	ret = pool->backend->match(pool->priv, &prompt, per_tier);
	free(hp.heap);
	if (ret < 0)
		return ret;
	if (hit_tokens)
		*hit_tokens = (uint32_t)ret * pool->page_tokens[p.class_id];
	if (pages_per_tier)
		memcpy(pages_per_tier, per_tier, sizeof(per_tier));
	return 0;
}

int pagedkv_step(struct pagedkv_pool *pool, struct pagedkv_step *step)
{
	int ret;

	if (!step)
		return -EINVAL;
	step->nr_done = 0;
	step->nr_deltas = 0;
	step->nr_copies = 0;
	if (!pool || (step->nr_ops && !step->ops) || (step->max_deltas && !step->deltas) ||
	    (step->max_copies && !step->copies))
		return -EINVAL;
	ret = pool->backend->step(pool->priv, step);
	pkv_chains_follow(&pool->chains, step->ops, step->nr_done, pool->page_tokens);
	return ret;
}

int pagedkv_advise(struct pagedkv_pool *pool, pagedkv_seq_t seq, uint32_t advice)
{
	int ret;

	if (!pool || advice > PAGEDKV_UNPIN)
		return -EINVAL;
	ret = pool->backend->advise(pool->priv, seq, advice);
	if (!ret && advice == PAGEDKV_DONTNEED)
		pkv_chain_mute(&pool->chains, seq);
	return ret;
}

int pagedkv_seq_set_priority(struct pagedkv_pool *pool, pagedkv_seq_t seq, uint32_t priority)
{
	if (!pool || priority >= PAGEDKV_NR_PRIORITIES)
		return -EINVAL;
	return pool->backend->set_priority(pool->priv, seq, priority);
}

int pagedkv_seq_state(struct pagedkv_pool *pool, pagedkv_seq_t seq)
{
	if (!pool)
		return -EINVAL;
	return pool->backend->seq_state(pool->priv, seq);
}

int pagedkv_seq_get_info(struct pagedkv_pool *pool, pagedkv_seq_t seq,
			 struct pagedkv_seq_info *info)
{
	if (!pool || !info)
		return -EINVAL;
	return pool->backend->seq_info(pool->priv, seq, info);
}

int pagedkv_seq_table(struct pagedkv_pool *pool, pagedkv_seq_t seq, uint32_t first,
		      uint32_t *slots, uint32_t nr)
{
	if (!pool || (nr && !slots))
		return -EINVAL;
	return pool->backend->seq_table(pool->priv, seq, first, slots,
					nr < INT32_MAX ? nr : INT32_MAX);
}

int pagedkv_seq_wait(struct pagedkv_pool *pool, pagedkv_seq_t seq, uint64_t timeout_ns)
{
	if (!pool)
		return -EINVAL;
	return pool->backend->seq_wait(pool->priv, seq, timeout_ns);
}
