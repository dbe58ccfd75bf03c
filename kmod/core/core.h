/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The page manager: decides where every page of a pool's KV cache lives.
 *
 * One source, two homes: this folder builds unchanged into the kernel module
 * and, under shim headers, into libpagedkv. It takes no lock (each entry
 * asserts that the caller holds pool->lock), reads no clock, does no I/O and
 * never touches the memory that a slot names. It plans moves; whoever owns the
 * memory executes and commits them.
 *
 * Words
 *   page       page_tokens tokens of K and V for all layers of one page class
 *   tier       device, host or disk; a slot is a page-sized place in a tier
 *   sequence   an ordered list of pages and a length in tokens
 *   move       a copy in flight from one slot to another
 *   hold       a sequence that runs (or loads) holds its pages on the device;
 *              a page without holds may be evicted from it
 *   idle page  a page without holds; it is on the policy's lists
 *   cached     an idle page that no sequence refers to, kept for its key
 *
 * Invariants (pkv_pool_check() walks them)
 *   1. page->slot[t] != PKV_NONE means: that slot holds a valid copy. The
 *      destination of a move is in the move alone until it commits.
 *   2. A slot belongs to at most one page or one move.
 *   3. A live page has a valid copy somewhere, or is LOST, or its first copy
 *      is the destination of its move. The only copy is never given up before
 *      another one is committed (move.c alone writes locations).
 *   4. A page may be written only by a sequence that is its one reference
 *      while it has no key; anything else is copied first (copy-on-write).
 *   5. Every page of a running sequence has a device slot that does not change
 *      until the sequence goes cold. So a block table changes only by append,
 *      truncate and load, and no page needs to know its tables.
 *   6. Copies in several tiers are equal. A write drops the lower ones.
 *
 * Errors, one meaning each
 *   -EINVAL      a value that can never be right
 *   -ENOENT      no such key
 *   -ESTALE      a handle whose object is gone
 *   -EBUSY       the object is in a state that forbids this now
 *   -EAGAIN      no free slot yet: evictions are planned, retry after commits
 *   -ENOSPC      no free slot, and nothing that could be evicted
 *   -EDQUOT      a limit of the pool
 *   -ENOMEM      no memory for the manager's own tables
 *   -EIO         a page's only copy is lost; its tokens must be recomputed
 *   -EOVERFLOW   a size that does not fit
 *   -EUCLEAN     pkv_pool_check() found a broken invariant
 */
#ifndef PKV_CORE_H
#define PKV_CORE_H

#include <linux/bits.h>
#include <linux/types.h>
#include <linux/limits.h>
#include <linux/mutex.h>

#define PKV_NONE		U32_MAX	/* no slot, no page, no move */
#define PKV_MAX_CLASSES		4
#define PKV_MAX_SLOTS		(1U << 28)	/* per tier */
#define PKV_MAX_SEQS		(1U << 20)
#define PKV_MAX_SEQ_TOKENS	(1U << 30)
#define PKV_NR_PRIORITIES	4	/* 0 is evicted first */

enum pkv_tier_id {
	PKV_DEVICE,
	PKV_HOST,
	PKV_DISK,
	PKV_NR_TIERS,
};

enum pkv_tier_state {
	PKV_TIER_ONLINE,
	PKV_TIER_READONLY,	/* copies are read, none is added */
	PKV_TIER_OFFLINE,	/* copies are gone */
};

/* An opaque name of a page's content; the caller hashes. */
struct pkv_key {
	__u64 lo;
	__u64 hi;
};

/**
 * struct pkv_class_params - one page class
 * @page_tokens: tokens a page holds, a power of two, 1 to 1024
 * @nr_slots: slots in each tier; the device needs at least one
 * @low: free slots under which a tier's reclaim starts, each tier
 * @high: free slots at which it stops; low <= high <= nr_slots
 */
struct pkv_class_params {
	__u32 page_tokens;
	__u32 nr_slots[PKV_NR_TIERS];
	__u32 low[PKV_NR_TIERS];
	__u32 high[PKV_NR_TIERS];
};

/**
 * struct pkv_pool_params - geometry of a pool
 * @nr_classes: 1 to PKV_MAX_CLASSES
 * @max_seqs: sequences alive at once, at most PKV_MAX_SEQS
 * @max_moves: evictions in flight at once, 1 to 65536 (loads and copies are
 *	bounded by the device's slots)
 * @nr_ranks: GPUs that share slot numbers; this version takes 1
 * @classes: the classes' geometry
 */
struct pkv_pool_params {
	__u32 nr_classes;
	__u32 max_seqs;
	__u32 max_moves;
	__u32 nr_ranks;
	struct pkv_class_params classes[PKV_MAX_CLASSES];
};

/* Page flags. */
#define PKV_PAGE_LIVE		BIT(0)	/* allocated */
#define PKV_PAGE_INDEXED	BIT(1)	/* its key is in the prefix index */
#define PKV_PAGE_IDLE		BIT(2)	/* on a list of the policy */
#define PKV_PAGE_LOST		BIT(3)	/* no copy is left */
#define PKV_PAGE_TWIN		BIT(4)	/* on the list of held pages with a lower copy */
#define PKV_PAGE_PRIO_SHIFT	8
#define PKV_PAGE_PRIO_MASK	(3U << PKV_PAGE_PRIO_SHIFT)

/* 56 bytes; with index buckets and slot bitmaps under 64 a page (issue: <= 64). */
struct pkv_page {
	struct pkv_key key;		/* valid when INDEXED */
	__u32 slot[PKV_NR_TIERS];	/* valid copies, or PKV_NONE */
	__u32 refs;			/* sequences that contain it */
	__u32 holds;			/* of these, running or loading; plus copies that read it */
	__u32 flags;
	__u32 hash_next;		/* index chain; free list when not LIVE */
	__u32 prev, next;		/* list of the policy */
	__u32 move;			/* its move in flight, or PKV_NONE */
};

/* A list of pages through prev/next; head is the next victim. */
struct pkv_page_list {
	__u32 head;
	__u32 tail;
	__u32 nr;
	__u32 scan;	/* LRU: no page before it can be dropped without a move */
};

/* A set of free slots: a bitmap with two levels of summary (tier.c). */
struct pkv_tier {
	__u32 nr_slots;
	__u32 nr_free;
	__u32 nr_absent;	/* slots without memory: neither free nor in use */
	__u32 nr_leaving;	/* slots that a move in flight will free */
	__u32 limit;		/* at most this many slots in use */
	__u32 low, high;
	__u32 cursor;		/* next-fit: neighbours in time are neighbours in place */
	__u32 state;		/* enum pkv_tier_state */
	unsigned long *free[4];	/* level 0 has a bit a slot; level n+1 a bit a word of n */
	__u32 nr_levels;
	/* idle pages whose fastest copy is here */
	struct pkv_page_list idle[PKV_NR_PRIORITIES];
};

/* Slots of pages and of moves in flight. */
static inline __u32 pkv_tier_used(const struct pkv_tier *t)
{
	return t->nr_slots - t->nr_free - t->nr_absent;
}

enum pkv_move_kind {
	PKV_MOVE_OUT,	/* to a slower tier; the source copy goes once it is committed */
	PKV_MOVE_IN,	/* to the device, for a sequence that loads */
	PKV_MOVE_COPY,	/* copy-on-write, device to device: run before the step's compute */
};

/* Internal: a move in flight. */
struct pkv_move {
	__u32 gen;
	__u32 page;		/* the page that gets the copy */
	__u32 source;		/* COPY: the page that is read, held until commit */
	__u32 src_slot, dst_slot;
	__u32 prev, next;	/* queue, or free list */
	__u8 src_tier, dst_tier;
	__u8 kind;
	__u8 state;
	__u8 class_id;
	__u8 dirty;		/* the source was written since, or may have been: worthless */
	__u32 executor;		/* OUT, IN: who fetched it */
	__u32 follow_slot;	/* OUT: the device slot of the load that begins after it */
	__u64 owner;		/* COPY: of the sequence */
};

struct pkv_class;

/**
 * struct pkv_policy - which idle page leaves a tier next
 * @name: for /proc and reports
 * @idle: @page lost its last hold; its fastest copy is in @tier
 * @busy: @page is held again, freed, or about to change tiers
 * @victim: next candidate after @prev (PKV_NONE: the first), or PKV_NONE
 * @droppable: the next page that can leave @tier without a move, because it is
 *	only cached or has a slower copy, or PKV_NONE. Both are settled while a
 *	page is busy; an idle one may only lose its slower copy
 *
 * Called under the pool lock; may not allocate. The default is LRU within
 * priorities (lru.c).
 */
struct pkv_policy {
	const char *name;
	void (*idle)(struct pkv_class *c, __u32 page, __u32 tier);
	void (*busy)(struct pkv_class *c, __u32 page, __u32 tier);
	__u32 (*victim)(struct pkv_class *c, __u32 tier, __u32 prev);
	__u32 (*droppable)(struct pkv_class *c, __u32 tier);
};

extern const struct pkv_policy pkv_policy_lru;

struct pkv_class {
	struct pkv_pool *pool;
	__u32 id;
	__u32 page_tokens;
	__u32 page_shift;		/* log2(page_tokens) */
	__u32 nr_pages;			/* descriptors: one a slot of any tier */
	__u32 nr_live;
	__u32 nr_cached;
	__u32 nr_lost;
	__u32 free_page;		/* free list of descriptors */
	__u32 fresh_page;		/* descriptors from here on were never used */
	struct pkv_page *pages;
	struct pkv_tier tiers[PKV_NR_TIERS];
	struct pkv_page_list twins;	/* held pages with a lower copy: given up first */
	__u32 *buckets;			/* prefix index */
	__u32 bucket_mask;
	__u32 nr_indexed;
	const struct pkv_policy *policy;
};

enum pkv_seq_state {
	PKV_SEQ_FREE,
	PKV_SEQ_RUNNING,	/* all pages on the device, held */
	PKV_SEQ_LOADING,	/* held, some pages on their way to the device */
	PKV_SEQ_COLD,		/* no holds: pages go where the policy sends them */
	PKV_SEQ_BROKEN,		/* cold, and a page is lost: truncate to before it, or free */
};

struct pkv_seq {
	__u32 gen;
	__u32 len;		/* tokens */
	__u32 nr_pages;
	__u32 cap;		/* of @table, in entries */
	__u32 *table;		/* page ids */
	__u32 cursor;		/* LOADING: pages before it have come; BROKEN: the lost page */
	__u32 prev, next;	/* list of loading sequences, or free list */
	__u8 state;
	__u8 class_id;
	__u8 priority;
	__u8 flags;
	__u64 owner;		/* the client, for release on its death */
};

#define PKV_SEQ_TAIL_OWNED	BIT(0)	/* the tail page may be written as it is */
#define PKV_SEQ_PINNED		BIT(1)	/* holds its pages a second time */

/* Counters since creation; all under the pool lock. */
struct pkv_counters {
	__u64 allocs, frees;		/* pages */
	__u64 forks, copies;		/* sequences forked; pages copied on write */
	__u64 lookups, hits;		/* pages asked of the prefix index, found */
	__u64 drops;			/* cached pages given up without a move */
	__u64 moves[PKV_NR_TIERS][PKV_NR_TIERS];	/* committed, from, to */
	__u64 aborts;			/* moves that ended in an error */
	__u64 cancels;			/* moves taken back before they ran */
	__u64 losses;			/* pages whose only copy was lost */
};

struct pkv_pool {
	/* the caller's; held in every entry */
	struct mutex *lock;
	__u32 nr_classes;
	struct pkv_class classes[PKV_MAX_CLASSES];

	struct pkv_seq *seqs;
	__u32 cap_seqs, max_seqs, nr_seqs;
	__u32 free_seq, fresh_seq;
	__u32 loading_head, loading_tail;

	struct pkv_move *moves;
	__u32 cap_moves, max_moves;
	__u32 nr_moves, nr_evictions;
	__u32 free_move, fresh_move;
	__u32 queue_head, queue_tail, nr_queued;

	struct pkv_counters counters;

	/*
	 * Gives memory to absent slots of a tier that has no free one, and calls
	 * pkv_slots_restore() for them; false: there is none to be had. The
	 * caller's, or NULL. It is called with the lock held.
	 */
	bool (*provide)(struct pkv_pool *pool, __u32 class_id, __u32 tier);
};

/* ------------------------------------------------------------------ pool */

/**
 * pkv_pool_init() - set up a pool
 * @pool: caller-owned memory, not yet shared
 * @params: geometry, checked here
 * @lock: the mutex that the caller will hold in every other call
 *
 * Context: may sleep; needs no lock. Return: 0, -EINVAL, -EOVERFLOW, -ENOMEM.
 */
int pkv_pool_init(struct pkv_pool *pool, const struct pkv_pool_params *params,
		  struct mutex *lock);

/** pkv_pool_exit() - free everything; moves in flight are forgotten. Cannot fail. */
void pkv_pool_exit(struct pkv_pool *pool);

/**
 * pkv_pool_set_limit() - let a tier use at most @limit slots
 *
 * Pages over a lowered limit are evicted as they go idle. Return: 0, -EINVAL.
 */
int pkv_pool_set_limit(struct pkv_pool *pool, __u32 class_id, __u32 tier, __u32 limit);

/**
 * pkv_pool_set_tier_state() - a tier's health changed
 *
 * OFFLINE gives up every copy in @tier; a page whose only copy it was is LOST.
 * The device tier knows OFFLINE alone, and stays online: what its slots held is
 * gone, because their memory is another one.
 * Return: 0, -EINVAL, -EBUSY (a sequence runs on the device).
 */
int pkv_pool_set_tier_state(struct pkv_pool *pool, __u32 class_id, __u32 tier, __u32 state);

/**
 * pkv_slots_withdraw() - the memory of free slots was given back
 *
 * They are not handed out until pkv_slots_restore(); the pool's provide() is
 * asked for them when no other slot is left. Return: 0, -EINVAL, -EBUSY (one
 * of them is not free: nothing was changed).
 */
int pkv_slots_withdraw(struct pkv_pool *pool, __u32 class_id, __u32 tier, __u32 first,
		       __u32 nr);

/** pkv_slots_restore() - withdrawn slots have memory again, and are free. */
void pkv_slots_restore(struct pkv_pool *pool, __u32 class_id, __u32 tier, __u32 first,
		       __u32 nr);

/** pkv_pool_metadata_bytes() - memory that the manager itself uses for pages. */
__u64 pkv_pool_metadata_bytes(const struct pkv_pool *pool);

/**
 * pkv_pool_check() - walk every invariant
 * @why: set to a static sentence on failure
 *
 * Context: may sleep (allocates a bit a slot). Return: 0, -EUCLEAN, -ENOMEM.
 */
int pkv_pool_check(struct pkv_pool *pool, const char **why);

/* ------------------------------------------------------------- sequences */

/**
 * pkv_seq_create() - a new sequence, starting with the longest cached prefix
 * @keys: keys of the prompt's full pages, in order; @nr_keys may be 0
 * @priority: of its pages, 0 to PKV_NR_PRIORITIES - 1
 * @owner: any number; pkv_seqs_free_owner() frees by it
 * @out: the handle (generation in the upper half)
 * @nr_hits: pages found; the sequence's length is @nr_hits * page_tokens
 *
 * RUNNING when all found pages are on the device, otherwise LOADING.
 * Return: 0, -EINVAL, -EDQUOT (max_seqs), -ENOMEM, -EAGAIN or -ENOSPC (no
 * device slots for pages found in slower tiers; nothing was created).
 */
int pkv_seq_create(struct pkv_pool *pool, __u32 class_id, const struct pkv_key *keys,
		   __u32 nr_keys, __u32 priority, __u64 owner, __u64 *out, __u32 *nr_hits);

enum pkv_op_type {
	PKV_OP_APPEND,		/* arg: tokens to make room for, 0 to PKV_MAX_SEQ_TOKENS */
	PKV_OP_FORK,		/* out_seq: a child that shares every page */
	PKV_OP_TRUNCATE,	/* arg: the new length, at most the old one */
	PKV_OP_FREE,
};

/* One operation of a step. */
struct pkv_op {
	__u64 seq;
	__u32 type;
	__u32 arg;
	__u64 out_seq;
};

/* Entry @index of the block table of @seq is now device slot @slot. */
struct pkv_delta {
	__u64 seq;
	__u32 index;
	__u32 slot;
};

/* A move as its executor sees it. */
struct pkv_move_desc {
	__u64 id;
	__u32 class_id;
	__u32 kind;		/* enum pkv_move_kind */
	__u32 src_tier, src_slot;
	__u32 dst_tier, dst_slot;
	struct pkv_key key;	/* of the page; zero when it has none */
};

/**
 * struct pkv_step - one call a scheduler step
 * @ops: applied in order
 * @deltas: block-table entries that changed, room for @max_deltas
 * @copies: copy-on-write moves, room for @max_copies; the caller runs them
 *	in order before the step's compute, then commits them
 * @nr_done: operations applied; the rest have changed nothing
 */
struct pkv_step {
	struct pkv_op *ops;
	__u32 nr_ops;
	struct pkv_delta *deltas;
	__u32 max_deltas, nr_deltas;
	struct pkv_move_desc *copies;
	__u32 max_copies, nr_copies;
	__u32 nr_done;
};

/**
 * pkv_pool_step() - apply a step
 *
 * Each operation is atomic. The first that fails ends the step: @nr_done ops
 * stand, so a caller makes room and goes on from there.
 * Append and fork need a RUNNING sequence (fork takes COLD too).
 *
 * Return: 0, or of the failed operation: -ESTALE, -EINVAL, -EBUSY (state),
 * -EAGAIN, -ENOSPC, -EDQUOT, -ENOMEM, -EOVERFLOW, -ENOBUFS (no room left in
 * @deltas or @copies).
 */
int pkv_pool_step(struct pkv_pool *pool, struct pkv_step *step);

/**
 * pkv_seq_cold() - drop the holds: the pages may leave the device (preemption)
 * Pinned pages keep the pin's hold. A load under way is given up.
 * Return: 0 (also when cold already), -ESTALE, -EIO (BROKEN).
 */
int pkv_seq_cold(struct pkv_pool *pool, __u64 seq);

/**
 * pkv_seq_load() - hold the pages and bring the missing ones to the device
 *
 * Return: 0 when RUNNING at once, 1 when LOADING, -ESTALE, -EIO (BROKEN),
 * -EAGAIN, -ENOSPC (not one page was held).
 */
int pkv_seq_load(struct pkv_pool *pool, __u64 seq);

/**
 * pkv_seq_pin() - hold the pages once more, so that they stay also when cold
 *
 * Return: 0 (also when it is so already), -ESTALE, -EBUSY (pin: not RUNNING).
 */
int pkv_seq_pin(struct pkv_pool *pool, __u64 seq, bool pin);

/** pkv_seq_set_priority() - of its pages from now on. -ESTALE, -EINVAL. */
int pkv_seq_set_priority(struct pkv_pool *pool, __u64 seq, __u32 priority);

/**
 * pkv_seq_forget() - take the keys of a sequence's own pages out of the index
 *
 * So that they are freed with it instead of cached. -ESTALE.
 */
int pkv_seq_forget(struct pkv_pool *pool, __u64 seq);

/* What a sequence is; filled by pkv_seq_info(). */
struct pkv_seq_info {
	__u32 state;		/* enum pkv_seq_state */
	__u32 class_id;
	__u32 len_tokens;
	__u32 nr_pages;
	__u32 nr_shared;	/* pages that other sequences contain too */
	__u32 nr_missing;	/* pages without a valid copy on the device */
	__u32 lost_tokens;	/* BROKEN: tokens before the first lost page */
	__u32 priority;
};

/** pkv_seq_info() - Return: 0, -ESTALE. O(pages). */
int pkv_seq_info(struct pkv_pool *pool, __u64 seq, struct pkv_seq_info *info);

/** pkv_seq_state() - Return: enum pkv_seq_state, -ESTALE. O(1). */
int pkv_seq_state(struct pkv_pool *pool, __u64 seq);

/**
 * pkv_seq_table() - device slots of pages [first, first + nr)
 *
 * Return: entries written (fewer at the end), -ESTALE, -EBUSY (not RUNNING).
 */
int pkv_seq_table(struct pkv_pool *pool, __u64 seq, __u32 first, __u32 *slots, __u32 nr);

/** pkv_seqs_free_owner() - free every sequence of @owner and abort its copies. */
void pkv_seqs_free_owner(struct pkv_pool *pool, __u64 owner);

/* ---------------------------------------------------------- prefix index */

/**
 * pkv_prefix_match() - how many leading keys are cached, and where
 * @per_tier: pages of them whose fastest copy is in each tier; may be NULL
 *
 * Changes nothing. Return: the number of leading keys found.
 */
__u32 pkv_prefix_match(struct pkv_pool *pool, __u32 class_id, const struct pkv_key *keys,
		       __u32 nr_keys, __u32 per_tier[PKV_NR_TIERS]);

/**
 * pkv_prefix_publish() - name full pages of a sequence, so that others find them
 * @first: the first page
 * @keys: a key a page; a page that has a key, and a key that names another
 *	page already, are passed over
 *
 * The tokens' K and V must be written before this is called.
 * Return: pages newly published, -ESTALE, -EINVAL (not full pages of it).
 */
int pkv_prefix_publish(struct pkv_pool *pool, __u64 seq, __u32 first,
		       const struct pkv_key *keys, __u32 nr_keys);

/**
 * pkv_prefix_adopt() - a slot of a reopened tier holds a valid copy of @key
 *
 * Return: 0, -EINVAL, -EBUSY (slot in use), -EEXIST (key known), -ENOSPC
 * (out of descriptors), -EDQUOT (the tier's limit).
 */
int pkv_prefix_adopt(struct pkv_pool *pool, __u32 class_id, __u32 tier, __u32 slot,
		     const struct pkv_key *key);

/* ----------------------------------------------------------------- moves */

/**
 * pkv_moves_fetch() - take planned moves for execution
 * @executor: any number; pkv_moves_requeue() works by it
 *
 * Loads come before evictions only if they were planned before.
 * Return: the number written to @out.
 */
__u32 pkv_moves_fetch(struct pkv_pool *pool, __u32 executor, struct pkv_move_desc *out,
		      __u32 max);

/**
 * pkv_move_commit() - a fetched move (or a step's copy) has ended
 * @status: 0 when the destination holds the data, or a negative errno
 * @source_bad: with an error: the source can't be read, give its copy up
 *
 * An OUT that failed leaves its page where it is. An IN that failed gives up
 * the copy that it read (@source_bad or not) and is tried from the next tier
 * that has one; without one the page is LOST.
 * Return: 0, -ESTALE.
 */
int pkv_move_commit(struct pkv_pool *pool, __u64 id, int status, bool source_bad);

/**
 * pkv_move_requeue() - a fetched move was not run, and will not be: plan it anew
 *
 * Not for a step's copies. Its id is another one then. Return: 0, -ESTALE.
 */
int pkv_move_requeue(struct pkv_pool *pool, __u64 id);

/** pkv_moves_requeue() - @executor is gone: its moves are planned anew. */
void pkv_moves_requeue(struct pkv_pool *pool, __u32 executor);

/**
 * pkv_moves_reclaim() - plan evictions until every tier is over its high mark
 *
 * Step, load and commit do it by themselves when a tier is under its low mark.
 */
void pkv_moves_reclaim(struct pkv_pool *pool);

/**
 * pkv_moves_demote() - plan evictions until @nr more slots of a tier are free or about to be
 *
 * As far as there is room below, or something to give up. Absent slots do not count.
 */
void pkv_moves_demote(struct pkv_pool *pool, __u32 class_id, __u32 tier, __u32 nr);

/**
 * pkv_moves_drop() - give copies up until @nr more slots of a tier are free, at once
 *
 * For when nobody is there to execute moves. What has a copy elsewhere goes
 * first, then pages that are only cached; queued evictions of these are taken
 * back. The only copy of what a sequence contains stays. Allocates nothing.
 */
void pkv_moves_drop(struct pkv_pool *pool, __u32 class_id, __u32 tier, __u32 nr);

#endif
