/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * libpagedkv: KV-cache pages for inference servers.
 *
 * A pool hands out pages of page_tokens tokens. A sequence is an ordered list
 * of pages; its block table, the row of device slot numbers that an attention
 * kernel reads, changes only through the calls below. The library decides
 * where pages live; who owns the memory copies them (moves) and commits.
 *
 * Every call returns 0 or a count, or -errno:
 *   -EINVAL      a value that can never be right
 *   -EOPNOTSUPP  not in this version, or not with this backend
 *   -ENOENT      no such thing (device, pool, kept file)
 *   -EACCES      the caller may not
 *   -EBADF       not an open descriptor
 *   -ELOOP       a kind of file that may refer to others, a pool's among them
 *   -ESTALE      a handle whose object is gone
 *   -EBUSY       the object's state forbids this now
 *   -EAGAIN      no free slot yet: evictions are under way, retry after them
 *   -ENOSPC      no free slot, and nothing that could be evicted
 *   -EDQUOT      a limit of the pool
 *   -ENOBUFS     an output array is too small; nothing of that operation happened
 *   -ENOMEM      no memory for the library's own tables
 *   -EIO         the only copy of a page is lost: truncate and recompute
 *   -EOVERFLOW   a size that does not fit
 *   -E2BIG       a struct of a later version asks for what this one doesn't know
 *   -EEXIST      the key or the name is taken; the pool has another geometry
 *   -ETIMEDOUT   the time given has passed
 *   -ECANCELED   pagedkv_moves_stop() was called
 *   -EUCLEAN     pagedkv_check() found a broken invariant
 * The library never prints, exits, aborts or sets errno. All calls may be made
 * from any thread; destroy and close only once nobody else is in a call.
 */
#ifndef PAGEDKV_H
#define PAGEDKV_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PAGEDKV_VERSION_MAJOR	0
#define PAGEDKV_VERSION_MINOR	1

#define PAGEDKV_NO_SLOT		UINT32_MAX
#define PAGEDKV_NR_PRIORITIES	4	/* 0 is evicted first; 1 is the default */
#define PAGEDKV_MAX_CLASSES	4
#define PAGEDKV_SALT_BYTES	32
#define PAGEDKV_NAME_BYTES	64	/* with the ending zero */
#define PAGEDKV_MAX_FILES	1024	/* that a pool keeps */

struct pagedkv;			/* a backend, opened */
struct pagedkv_pool;		/* a pool, opened */
typedef uint64_t pagedkv_seq_t;	/* a sequence of a pool; carries a generation */

enum pagedkv_backend {
	PAGEDKV_BACKEND_AUTO,		/* kmod where /dev/pagedkv opens, else embedded */
	PAGEDKV_BACKEND_KMOD,
	PAGEDKV_BACKEND_EMBEDDED,	/* the page manager inside this process */
};

enum pagedkv_tier {
	PAGEDKV_DEVICE,
	PAGEDKV_HOST,
	PAGEDKV_DISK,
	PAGEDKV_NR_TIERS,
};

/* ------------------------------------------------------------- connection */

/*
 * @size is sizeof the struct, in every params struct: it lets them grow. A
 * larger one is taken as long as what this version doesn't know of it is zero.
 */
struct pagedkv_params {
	uint32_t size;
	uint32_t backend;	/* enum pagedkv_backend */
};

/* What the library and its backend are and can do. */
struct pagedkv_info {
	uint32_t size;
	uint32_t backend;	/* the one in use */
	uint32_t version_major, version_minor;
	uint64_t features;	/* PAGEDKV_F_* */
};

#define PAGEDKV_F_PERSISTENT	(1ULL << 0)	/* named pools outlive their users */

/** Open a backend. @p may be NULL. -EOPNOTSUPP, -ENOENT, -EACCES, -ENOMEM, -EINVAL. */
int pagedkv_open(struct pagedkv **out, const struct pagedkv_params *p);
/** Close it, with every pool still open. NULL is fine. */
void pagedkv_close(struct pagedkv *kv);
int pagedkv_get_info(struct pagedkv *kv, struct pagedkv_info *info);

/* ------------------------------------------------------------------- pool */

struct pagedkv_class_params {
	uint32_t page_tokens;			/* a power of two, 1 to 1024 */
	uint32_t nr_slots[PAGEDKV_NR_TIERS];	/* the device needs at least one */
	uint32_t low[PAGEDKV_NR_TIERS];		/* free slots under which reclaim starts */
	uint32_t high[PAGEDKV_NR_TIERS];	/* and at which it stops */
	uint64_t page_bytes;			/* of a page, in every tier */
};

struct pagedkv_pool_params {
	uint32_t size;
	uint32_t nr_classes;	/* 0 means 1 */
	const char *name;	/* NULL: anonymous */
	uint32_t max_seqs;	/* sequences alive at once; 0: 65536 */
	uint32_t max_moves;	/* evictions in flight at once; 0: 1024 */
	uint32_t nr_ranks;	/* GPUs that share slot numbers; 0 means 1, the only one yet */
	uint32_t mode;		/* of a persistent pool, as a file's; 0: 0600 */
	uint64_t fingerprint;	/* of the model; an opener's must match */
	uint8_t salt[PAGEDKV_SALT_BYTES];	/* of prefix keys; all zero: random */
	struct pagedkv_class_params classes[PAGEDKV_MAX_CLASSES];
};

/**
 * Create a pool. -EINVAL, -EOVERFLOW, -ENOMEM, -EDQUOT, -EOPNOTSUPP.
 *
 * With PAGEDKV_F_PERSISTENT a named pool stays when it is destroyed or its
 * process dies, with its published pages; create opens it again. -EACCES: its
 * mode or the fingerprint keeps the caller out; -EEXIST: its geometry is
 * another one.
 */
int pagedkv_pool_create(struct pagedkv *kv, struct pagedkv_pool **out,
			const struct pagedkv_pool_params *p);
/**
 * Open a persistent pool that is there, whatever its geometry. In: @p's size,
 * name and fingerprint. Out: all else, as it was created; its limits may have
 * changed since. -ENOENT, -EACCES (its mode, the fingerprint), -EINVAL,
 * -ENOMEM, -EOPNOTSUPP (nothing persists here).
 */
int pagedkv_pool_open(struct pagedkv *kv, struct pagedkv_pool **out,
		      struct pagedkv_pool_params *p);
/** Destroy it with its sequences. Moves must have stopped. NULL is fine. */
void pagedkv_pool_destroy(struct pagedkv_pool *pool);
/**
 * Take a persistent pool's name away: it goes with its last user. -ENOENT,
 * -EACCES (not its owner), -EINVAL, -EOPNOTSUPP (nothing persists here).
 */
int pagedkv_pool_remove(struct pagedkv *kv, const char *name);
/** Let a tier of a class use at most @limit slots. -EINVAL. */
int pagedkv_pool_set_limit(struct pagedkv_pool *pool, uint32_t class_id, uint32_t tier,
			   uint32_t limit);
/**
 * Let nobody but an administrator set a limit above @limit, and set it as the
 * limit too. -EINVAL, -EACCES (the caller isn't one), -EOPNOTSUPP (one process
 * has nobody to be kept from it).
 */
int pagedkv_pool_set_ceiling(struct pagedkv_pool *pool, uint32_t class_id, uint32_t tier,
			     uint32_t limit);

enum pagedkv_tier_state {
	PAGEDKV_TIER_ONLINE,
	PAGEDKV_TIER_READONLY,	/* a failing disk: read, but nothing is written any more */
	PAGEDKV_TIER_OFFLINE,	/* its copies are gone; pages only there are lost */
};
/**
 * A tier's health has changed. The device knows OFFLINE alone, and stays
 * online: its memory is another one, as after a restart that did not find the
 * old one. -EINVAL, -EBUSY (a sequence runs on the device), -EACCES.
 */
int pagedkv_tier_set_state(struct pagedkv_pool *pool, uint32_t class_id, uint32_t tier,
			   uint32_t state);

/**
 * The host tier's memory: nr_slots[PAGEDKV_HOST] pages of page_bytes of class
 * @class_id, slot after slot. Owned by the pool; not yet touched, so that the
 * caller may place it (mbind) first. -EOPNOTSUPP when there is no host tier.
 */
int pagedkv_host_map(struct pagedkv_pool *pool, uint32_t class_id, void **addr, size_t *len);

/** The salt in use (for a disk image, so that keys match after a restart). */
void pagedkv_pool_salt(struct pagedkv_pool *pool, uint8_t salt[PAGEDKV_SALT_BYTES]);

/* -------------------------------------------------------------- sequences */

#define PAGEDKV_SEQ_NO_PREFIX	(1U << 0)	/* neither look up nor publish */

struct pagedkv_seq_params {
	uint32_t size;
	uint32_t class_id;
	const uint32_t *tokens;	/* the prompt; NULL with nr_tokens 0 */
	uint32_t nr_tokens;
	uint32_t priority;	/* 0 to PAGEDKV_NR_PRIORITIES - 1 */
	uint32_t flags;
	uint32_t reserved;	/* 0 */
};

/**
 * A new sequence that starts with the longest cached prefix of its prompt, at
 * most nr_tokens - 1 tokens (one has to be computed to get logits).
 * @hit_tokens: the length it starts with, a multiple of page_tokens.
 * It runs at once, or loads when some of these pages are in slower tiers
 * (pagedkv_seq_state()). -EINVAL, -EDQUOT, -ENOMEM, -EAGAIN, -ENOSPC.
 */
int pagedkv_seq_create(struct pagedkv_pool *pool, pagedkv_seq_t *out,
		       const struct pagedkv_seq_params *p, uint32_t *hit_tokens);

/** Cached prefix of a prompt, in pages by the fastest tier that has them. Changes nothing. */
int pagedkv_prefix_match(struct pagedkv_pool *pool, const struct pagedkv_seq_params *p,
			 uint32_t *hit_tokens, uint32_t pages_per_tier[PAGEDKV_NR_TIERS]);

/* A sequence whose tokens [0, nr_tokens) have their K and V written. */
struct pagedkv_publish {
	pagedkv_seq_t seq;
	const uint32_t *tokens;	/* from the sequence's first token on */
	uint32_t nr_tokens;
	int32_t result;		/* out: pages newly published, or -errno */
};

/** Name the full pages of any number of sequences. 0, or the first error. */
int pagedkv_publish(struct pagedkv_pool *pool, struct pagedkv_publish *items, uint32_t nr);

enum pagedkv_op_type {
	PAGEDKV_OP_APPEND,	/* arg: tokens to make room for */
	/* out_seq: a child that shares every page; K and V of all tokens so far are written */
	PAGEDKV_OP_FORK,
	PAGEDKV_OP_TRUNCATE,	/* arg: the new length (speculative rollback) */
	PAGEDKV_OP_FREE,
};

struct pagedkv_op {
	pagedkv_seq_t seq;
	uint32_t type;		/* enum pagedkv_op_type */
	uint32_t arg;
	pagedkv_seq_t out_seq;	/* out: FORK */
};

/* Entry @index of the block table of @seq is now device slot @slot. */
struct pagedkv_delta {
	pagedkv_seq_t seq;
	uint32_t index;
	uint32_t slot;
};

enum pagedkv_move_kind {
	PAGEDKV_MOVE_OUT,	/* to a slower tier */
	PAGEDKV_MOVE_IN,	/* to the device */
	PAGEDKV_MOVE_COPY,	/* copy-on-write, device to device */
};

/* A copy to be done between two slots of a class. */
struct pagedkv_move {
	uint64_t id;
	uint32_t class_id;
	uint32_t kind;		/* enum pagedkv_move_kind */
	uint32_t src_tier, src_slot;
	uint32_t dst_tier, dst_slot;
	uint64_t key[2];	/* of a published page, else zero */
};

struct pagedkv_step {
	struct pagedkv_op *ops;
	uint32_t nr_ops;
	struct pagedkv_delta *deltas;	/* out: room for max_deltas */
	uint32_t max_deltas, nr_deltas;
	struct pagedkv_move *copies;	/* out: room for max_copies */
	uint32_t max_copies, nr_copies;
	uint32_t nr_done;		/* out: operations applied */
};

/**
 * One call a scheduler step: any number of appends, forks, truncates and frees.
 *
 * Operations are applied in order and each is atomic. The first that fails
 * ends the step and its error is returned; the nr_done before it stand, so the
 * caller makes room (preempts) and goes on from there. A forked child is a
 * sequence at once: put its operations into the next call.
 * Run the copies, in order, before the step's compute, then commit them with
 * pagedkv_moves_commit().
 */
int pagedkv_step(struct pagedkv_pool *pool, struct pagedkv_step *step);

enum pagedkv_advice {
	PAGEDKV_WILLNEED,	/* bring it back to the device; 1: loading, 0: runs */
	/*
	 * Preempted: its pages may leave the device. K and V of every token appended so far must
	 * have been written: what has not is truncated first.
	 */
	PAGEDKV_COLD,
	PAGEDKV_DONTNEED,	/* don't cache its published pages once it is freed */
	PAGEDKV_PIN,		/* keep its pages on the device, also when cold */
	PAGEDKV_UNPIN,
};

/** Advice like madvise's. -ESTALE, -EINVAL, -EBUSY; WILLNEED: -EAGAIN, -ENOSPC, -EIO. */
int pagedkv_advise(struct pagedkv_pool *pool, pagedkv_seq_t seq, uint32_t advice);
int pagedkv_seq_set_priority(struct pagedkv_pool *pool, pagedkv_seq_t seq, uint32_t priority);

enum pagedkv_seq_state {
	PAGEDKV_SEQ_RUNNING = 1,	/* every page is on the device */
	PAGEDKV_SEQ_LOADING,		/* pages are on their way there */
	PAGEDKV_SEQ_COLD,
	PAGEDKV_SEQ_BROKEN,		/* a page is lost: truncate to lost_tokens, recompute */
};

struct pagedkv_seq_info {
	uint32_t state;
	uint32_t class_id;
	uint32_t len_tokens;
	uint32_t nr_pages;
	uint32_t nr_shared;	/* pages that other sequences contain too */
	uint32_t nr_missing;	/* pages not on the device */
	uint32_t lost_tokens;	/* BROKEN: tokens before the first lost page */
	uint32_t priority;
};

/** enum pagedkv_seq_state, or -ESTALE. */
int pagedkv_seq_state(struct pagedkv_pool *pool, pagedkv_seq_t seq);
int pagedkv_seq_get_info(struct pagedkv_pool *pool, pagedkv_seq_t seq,
			 struct pagedkv_seq_info *info);
/** Device slots of pages [first, first + nr): entries written, -ESTALE, -EBUSY (not running). */
int pagedkv_seq_table(struct pagedkv_pool *pool, pagedkv_seq_t seq, uint32_t first,
		      uint32_t *slots, uint32_t nr);

/* ------------------------------------------------------------------ moves */

/**
 * Take planned moves for execution: the number written, 0 when there is none,
 * -ECANCELED after pagedkv_moves_stop(). Never waits: see pagedkv_moves_fd().
 */
int pagedkv_moves_fetch(struct pagedkv_pool *pool, struct pagedkv_move *out, uint32_t max);

#define PAGEDKV_COMMIT_SOURCE_BAD	(1U << 0)	/* the source can't be read: give it up */

struct pagedkv_commit {
	uint64_t id;
	int32_t status;		/* 0, or the -errno the copy ended with */
	uint32_t flags;
};

/**
 * Copies have ended. A failed OUT leaves its page where it was. A failed IN is
 * tried from another copy; without one the page is lost, and every sequence
 * with it becomes BROKEN. 0, or -ESTALE when any id is unknown (the others are
 * committed all the same).
 */
int pagedkv_moves_commit(struct pagedkv_pool *pool, const struct pagedkv_commit *items,
			 uint32_t nr);

/** An eventfd that becomes readable when moves are planned or stopped. Owned by the pool. */
int pagedkv_moves_fd(struct pagedkv_pool *pool);
/** Fetch answers -ECANCELED from now on; wakes the fd. Moves in flight still commit. */
void pagedkv_moves_stop(struct pagedkv_pool *pool);

/**
 * Wait until a sequence's state isn't LOADING, or any commit after which the
 * caller should look again. @timeout_ns: relative; 0 polls. 0, -ETIMEDOUT, -ESTALE,
 * -ECANCELED (moves were stopped, and none in flight is left to wait for).
 */
int pagedkv_seq_wait(struct pagedkv_pool *pool, pagedkv_seq_t seq, uint64_t timeout_ns);
/** Wait until a move has been committed since the call, or none is planned or in flight. */
int pagedkv_moves_wait(struct pagedkv_pool *pool, uint64_t timeout_ns);

/**
 * A disk image holds a valid copy of a published page in @slot: put it into the
 * index. -EINVAL, -EBUSY (the slot is in use), -EEXIST, -ENOSPC, -EDQUOT.
 */
int pagedkv_adopt(struct pagedkv_pool *pool, uint32_t class_id, uint32_t tier, uint32_t slot,
		  const uint64_t key[2]);

/* ------------------------------------------------------------- kept files */

/* An open file of the caller's that a pool keeps for the next server. */
struct pagedkv_file {
	char name[PAGEDKV_NAME_BYTES];	/* as a pool's */
	uint64_t bytes;		/* for who takes it; whatever the caller likes */
	uint64_t fingerprint;	/* who takes it must name the same */
};

/**
 * Keep the file that @fd is a descriptor of, an exported GPU allocation or a
 * memfd, until it is dropped or the pool goes; @fd stays the caller's. With
 * PAGEDKV_F_PERSISTENT a named pool keeps it when its process dies, and what
 * the file stands for lives on; else the process's end is its end too.
 * Regular files, devices, dma-bufs, pipes; all else is -ELOOP. -EBADF, -EINVAL
 * (the name), -EEXIST, -EDQUOT (PAGEDKV_MAX_FILES), -ENOMEM.
 */
int pagedkv_file_keep(struct pagedkv_pool *pool, const struct pagedkv_file *file, int fd);
/**
 * A new descriptor (O_CLOEXEC) of a kept file, 0 or more; the pool keeps it all
 * the same. @bytes may be NULL. -ENOENT, -EACCES (the fingerprint), -EINVAL,
 * -ENOMEM (no free descriptor).
 */
int pagedkv_file_take(struct pagedkv_pool *pool, const char *name, uint64_t fingerprint,
		      uint64_t *bytes);
/** The pool lets go of it. -ENOENT, -EINVAL. */
int pagedkv_file_drop(struct pagedkv_pool *pool, const char *name);
/**
 * Kept files from *@cursor on (start with 0), in the order in which they were
 * given: entries written, 0 at the end.
 */
int pagedkv_file_list(struct pagedkv_pool *pool, uint64_t *cursor, struct pagedkv_file *out,
		      uint32_t nr);

/* ------------------------------------------------------------- inspection */

struct pagedkv_tier_stats {
	uint32_t nr_slots, nr_free;
	uint32_t nr_idle;	/* pages without holds whose fastest copy is here */
	uint32_t nr_leaving;	/* slots that moves in flight will free */
	uint32_t limit;
	uint32_t state;		/* enum pagedkv_tier_state */
};

struct pagedkv_stats {
	uint32_t size;
	uint32_t nr_seqs, nr_loading;
	uint32_t nr_moves, nr_queued;	/* in flight; of these not yet fetched */
	/* live; of these idle and unreferenced; with a key; without a copy */
	uint32_t nr_pages, nr_cached, nr_indexed, nr_lost;
	uint32_t reserved;
	struct pagedkv_tier_stats tiers[PAGEDKV_NR_TIERS];	/* of the class asked for */
	uint64_t allocs, frees, forks, copies, lookups, hits, drops, aborts, cancels, losses;
	uint64_t moves[PAGEDKV_NR_TIERS][PAGEDKV_NR_TIERS];	/* committed pages, from, to */
	uint64_t metadata_bytes;
};

int pagedkv_get_stats(struct pagedkv_pool *pool, uint32_t class_id, struct pagedkv_stats *st);

/* A page as a map shows it. */
struct pagedkv_map_entry {
	uint32_t slot[PAGEDKV_NR_TIERS];	/* PAGEDKV_NO_SLOT: no copy there */
	uint32_t refs, holds;
	uint32_t flags;		/* PAGEDKV_MAP_* */
	uint32_t priority;
};

#define PAGEDKV_MAP_PUBLISHED	(1U << 0)
#define PAGEDKV_MAP_MOVING	(1U << 1)
#define PAGEDKV_MAP_LOST	(1U << 2)

/**
 * Pages of a class from *@cursor on (start with 0): entries written, 0 at the
 * end. The lock is dropped between calls, so a map is a look, not a snapshot.
 */
int pagedkv_map(struct pagedkv_pool *pool, uint32_t class_id, uint32_t *cursor,
		struct pagedkv_map_entry *out, uint32_t nr);

/** Walk the page manager's invariants. 0, -ENOMEM, -EUCLEAN (@why: a static sentence). */
int pagedkv_check(struct pagedkv_pool *pool, const char **why);

#ifdef __cplusplus
}
#endif
#endif
