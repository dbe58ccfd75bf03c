/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What the files of the page manager share with each other. See core.h. */
#ifndef PKV_CORE_INTERNAL_H
#define PKV_CORE_INTERNAL_H

#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/lockdep.h>
#include <linux/minmax.h>
#include <linux/prefetch.h>
#include <linux/slab.h>

#include "core.h"

/*
 * Tables are as large as a user asks for: charged to him, and failing instead
 * of killing others or filling the log.
 */
#define PKV_GFP	(GFP_KERNEL_ACCOUNT | __GFP_NOWARN | __GFP_RETRY_MAYFAIL)

enum pkv_move_state {
	PKV_MOVE_FREE,
	PKV_MOVE_QUEUED,	/* planned: may be cancelled */
	PKV_MOVE_FETCHED,	/* an executor copies: only its commit ends it */
};

/* A handle is the generation of an array entry above the entry's index. */
static inline u64 pkv_handle(u32 gen, u32 index)
{
	return (u64)gen << 32 | index;
}

static inline u32 pkv_seq_index(const struct pkv_pool *pool, const struct pkv_seq *seq)
{
	return (u32)(seq - pool->seqs);
}

static inline u64 pkv_seq_handle(const struct pkv_pool *pool, const struct pkv_seq *seq)
{
	return pkv_handle(seq->gen, pkv_seq_index(pool, seq));
}

static inline u32 pkv_page_priority(const struct pkv_page *p)
{
	return (p->flags & PKV_PAGE_PRIO_MASK) >> PKV_PAGE_PRIO_SHIFT;
}

static inline bool pkv_page_cached(const struct pkv_page *p)
{
	return (p->flags & PKV_PAGE_INDEXED) && !p->refs;
}

/* Is there a copy of it below @tier? */
static inline bool pkv_page_has_slower(const struct pkv_page *p, u32 tier)
{
	while (++tier < PKV_NR_TIERS)
		if (p->slot[tier] != PKV_NONE)
			return true;
	return false;
}

/* tier.c: which slots are free */
int pkv_tier_init(struct pkv_tier *t, u32 nr_slots, u32 low, u32 high);
void pkv_tier_exit(struct pkv_tier *t);
u32 pkv_tier_avail(const struct pkv_tier *t);
u32 pkv_tier_alloc(struct pkv_tier *t);
int pkv_tier_take(struct pkv_tier *t, u32 slot);
void pkv_tier_free(struct pkv_tier *t, u32 slot);
int pkv_tier_withdraw(struct pkv_tier *t, u32 first, u32 nr);
void pkv_tier_restore(struct pkv_tier *t, u32 first, u32 nr);
bool pkv_tier_slot_is_free(const struct pkv_tier *t, u32 slot);
bool pkv_tier_is_sane(const struct pkv_tier *t);
u64 pkv_tier_metadata_bytes(const struct pkv_tier *t);

/* table.c: a sequence's row of pages */
int pkv_table_reserve(struct pkv_seq *seq, u32 nr);
void pkv_table_cut(struct pkv_class *c, struct pkv_seq *seq, u32 nr_pages);

/* page.c: a page's references, holds and copies */
u32 pkv_page_alloc(struct pkv_class *c, u32 priority);
u32 pkv_page_fastest(const struct pkv_page *p);
void pkv_page_unlist(struct pkv_class *c, u32 id);
void pkv_page_settle(struct pkv_class *c, u32 id);
void pkv_page_hold(struct pkv_class *c, u32 id);
void pkv_page_unhold(struct pkv_class *c, u32 id);
void pkv_page_put(struct pkv_class *c, u32 id, u32 nr_holds);
void pkv_page_drop_copy(struct pkv_class *c, u32 id, u32 tier);
void pkv_page_drop_lower(struct pkv_class *c, u32 id);
void pkv_list_add_tail(struct pkv_class *c, struct pkv_page_list *l, u32 id);
void pkv_list_del(struct pkv_class *c, struct pkv_page_list *l, u32 id);

/* prefix.c: the index */
int pkv_index_init(struct pkv_class *c);
u32 pkv_index_find(struct pkv_class *c, const struct pkv_key *keys, u32 nr, u32 *pages);
void pkv_index_remove(struct pkv_class *c, u32 id);

/* seq.c: sequences */
struct pkv_seq *pkv_seq_find(struct pkv_pool *pool, u64 handle);
struct pkv_seq *pkv_seq_alloc(struct pkv_pool *pool);
void pkv_seq_free(struct pkv_pool *pool, struct pkv_seq *seq);
u32 pkv_seq_holds(const struct pkv_seq *seq);
void pkv_seqs_break(struct pkv_class *c, u32 page);
void pkv_seqs_advance(struct pkv_pool *pool);

/* move.c: copies in flight */
int pkv_moves_reserve(struct pkv_pool *pool, u32 nr);
int pkv_make_room(struct pkv_class *c, u32 nr);
void pkv_move_begin_in(struct pkv_class *c, u32 id);
u32 pkv_move_begin_copy(struct pkv_class *c, u32 source, u32 id, u64 owner);
void pkv_move_describe(struct pkv_pool *pool, u32 index, struct pkv_move_desc *out);
void pkv_move_unwanted(struct pkv_class *c, u32 id);
void pkv_move_written(struct pkv_class *c, u32 id);
void pkv_moves_drop_owner(struct pkv_pool *pool, u64 owner);
void pkv_moves_quit_tier(struct pkv_class *c, u32 tier, u32 state);
void pkv_moves_return_tier(struct pkv_class *c, u32 tier);
void pkv_reclaim_below_low(struct pkv_pool *pool);

#endif
