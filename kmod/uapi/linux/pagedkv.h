/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * /dev/pagedkv: KV-cache pages as a kernel resource.
 *
 * The device is opened for its control commands. PAGEDKV_CMD_POOL_CREATE and
 * _POOL_OPEN give a file descriptor of a pool; all other commands go to that
 * one, and so do mmap() of the host tier, poll() and io_uring commands. An
 * open pool file is a *client*: sequences belong to the client that created
 * them and moves to the client that fetched them. When its last descriptor is
 * closed, by exit or SIGKILL too, its sequences are freed and its moves are
 * planned anew for the next executor.
 *
 * Identity (uid, gid, capabilities) is that of the opener of /dev/pagedkv.
 *
 * Rules
 *   - Numbers are _IO(); each struct begins with its size, as the caller knows
 *     it. A shorter one than the first version is EINVAL; a longer one is
 *     taken as long as its unknown tail is zero, else E2BIG.
 *   - @flags without a meaning here are EOPNOTSUPP, reserved fields that are
 *     not zero EINVAL.
 *   - out_ fields are written by the kernel. When writing them fails (EFAULT)
 *     what was done stands, but no file descriptor stays open, copies of a
 *     step that could not be told are aborted, and moves that could not be
 *     told are planned anew.
 *   - Handles of sequences and moves carry a generation: one that is out of
 *     date is ESTALE, never somebody else's.
 *   - Times are absolute, of CLOCK_MONOTONIC, in ns.
 *
 * Errors, one meaning each
 *   ENOTTY      no such command on this file
 *   EINVAL      a value that can never be right, or a reserved field set
 *   EOPNOTSUPP  an unknown flag, or what this version doesn't do
 *   E2BIG       an unknown tail that is not zero
 *   EFAULT      a pointer that can't be read or written
 *   EPERM       the opener lacks the capability or isn't the owner
 *   EACCES      the pool's mode or a fingerprint keeps the caller out
 *   EBADF       not an open descriptor
 *   ELOOP       a kind of file that may refer to others, a pool's among them
 *   ENOENT      no pool, or no kept file, of this name
 *   EEXIST      the name, or the key, is taken
 *   ESTALE      a handle whose object is gone
 *   EBUSY       the object's state forbids this now
 *   EAGAIN      no free slot yet: evictions are planned, retry after commits
 *   ENOSPC      no free slot, and nothing that could be evicted
 *   EDQUOT      a limit of the pool or of the user
 *   ENOBUFS     an output array is too small; that operation did nothing
 *   ENOMEM      no memory, or RLIMIT_MEMLOCK
 *   EMFILE      no free file descriptor
 *   EIO         a page's only copy is lost: truncate and recompute
 *   EOVERFLOW   a size that does not fit
 *   ETIMEDOUT   the time given has come
 *   ECANCELED   PAGEDKV_CMD_MOVES_STOP or _QUIESCE was called
 *   EINTR       a signal came first
 *   EUCLEAN     PAGEDKV_CMD_CHECK found a broken invariant
 */
#ifndef _UAPI_LINUX_PAGEDKV_H
#define _UAPI_LINUX_PAGEDKV_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define PAGEDKV_IO_TYPE		0xB6

#define PAGEDKV_IO_NR_TIERS	3	/* 0 device, 1 host, 2 disk */
#define PAGEDKV_IO_MAX_CLASSES	4
#define PAGEDKV_IO_NAME_BYTES	64	/* with the ending zero */
#define PAGEDKV_IO_SALT_BYTES	32
#define PAGEDKV_IO_MAX_FILES	1024	/* that a pool keeps */
#define PAGEDKV_IO_MAX_KEYS	0x100000U	/* in one call */
#define PAGEDKV_IO_MAX_ITEMS	0x100000U	/* elements of any other array in one call */
#define PAGEDKV_IO_NONE		0xffffffffU	/* no slot, no node */

/* Commands of /dev/pagedkv. INFO is one of a pool's file too. */
#define PAGEDKV_CMD_INFO		_IO(PAGEDKV_IO_TYPE, 0x00)
#define PAGEDKV_CMD_POOL_CREATE		_IO(PAGEDKV_IO_TYPE, 0x01)
#define PAGEDKV_CMD_POOL_OPEN		_IO(PAGEDKV_IO_TYPE, 0x02)
#define PAGEDKV_CMD_POOL_DESTROY	_IO(PAGEDKV_IO_TYPE, 0x03)
#define PAGEDKV_CMD_POOL_LIST		_IO(PAGEDKV_IO_TYPE, 0x04)
/* Commands of a pool's file. */
#define PAGEDKV_CMD_POOL_INFO		_IO(PAGEDKV_IO_TYPE, 0x10)
#define PAGEDKV_CMD_SET_LIMIT		_IO(PAGEDKV_IO_TYPE, 0x11)
#define PAGEDKV_CMD_TIER_STATE		_IO(PAGEDKV_IO_TYPE, 0x12)
#define PAGEDKV_CMD_HOST_MAP		_IO(PAGEDKV_IO_TYPE, 0x13)
#define PAGEDKV_CMD_SEQ_CREATE		_IO(PAGEDKV_IO_TYPE, 0x20)
#define PAGEDKV_CMD_MATCH		_IO(PAGEDKV_IO_TYPE, 0x21)
#define PAGEDKV_CMD_PUBLISH		_IO(PAGEDKV_IO_TYPE, 0x22)
#define PAGEDKV_CMD_STEP		_IO(PAGEDKV_IO_TYPE, 0x23)
#define PAGEDKV_CMD_ADVISE		_IO(PAGEDKV_IO_TYPE, 0x24)
#define PAGEDKV_CMD_SEQ_STATE		_IO(PAGEDKV_IO_TYPE, 0x25)
#define PAGEDKV_CMD_SEQ_INFO		_IO(PAGEDKV_IO_TYPE, 0x26)
#define PAGEDKV_CMD_SEQ_TABLE		_IO(PAGEDKV_IO_TYPE, 0x27)
#define PAGEDKV_CMD_SEQ_WAIT		_IO(PAGEDKV_IO_TYPE, 0x28)
#define PAGEDKV_CMD_ADOPT		_IO(PAGEDKV_IO_TYPE, 0x29)
#define PAGEDKV_CMD_MOVES		_IO(PAGEDKV_IO_TYPE, 0x30)
#define PAGEDKV_CMD_MOVES_WAIT		_IO(PAGEDKV_IO_TYPE, 0x31)
#define PAGEDKV_CMD_MOVES_STOP		_IO(PAGEDKV_IO_TYPE, 0x32)
#define PAGEDKV_CMD_MOVES_EVENTFD	_IO(PAGEDKV_IO_TYPE, 0x33)
#define PAGEDKV_CMD_QUIESCE		_IO(PAGEDKV_IO_TYPE, 0x34)
#define PAGEDKV_CMD_STATS		_IO(PAGEDKV_IO_TYPE, 0x40)
#define PAGEDKV_CMD_MAP			_IO(PAGEDKV_IO_TYPE, 0x41)
#define PAGEDKV_CMD_CHECK		_IO(PAGEDKV_IO_TYPE, 0x42)
#define PAGEDKV_CMD_FILE_KEEP		_IO(PAGEDKV_IO_TYPE, 0x50)
#define PAGEDKV_CMD_FILE_TAKE		_IO(PAGEDKV_IO_TYPE, 0x51)
#define PAGEDKV_CMD_FILE_DROP		_IO(PAGEDKV_IO_TYPE, 0x52)
#define PAGEDKV_CMD_FILE_LIST		_IO(PAGEDKV_IO_TYPE, 0x53)

/* ------------------------------------------------------------- the device */

#define PAGEDKV_IO_F_PERSIST	0x1ULL	/* named pools that outlive their users */
#define PAGEDKV_IO_F_HOST	0x2ULL	/* a host tier of the kernel's memory */
#define PAGEDKV_IO_F_URING	0x4ULL	/* PAGEDKV_URING_* */
#define PAGEDKV_IO_F_CANCEL	0x8ULL	/* pending commands end with their ring */
#define PAGEDKV_IO_F_FILES	0x10ULL	/* PAGEDKV_CMD_FILE_* */

struct pagedkv_io_info {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 out_features;	/* PAGEDKV_IO_F_* */
	__u32 out_max_classes;
	__u32 out_max_seqs;		/* of a pool */
	__u32 out_max_moves;
	__u32 out_max_pages;		/* of a class, all tiers together */
	__u32 out_max_ranks;
	__u32 out_nr_nodes;		/* NUMA nodes for the host tier */
};

/**
 * struct pagedkv_io_class - geometry of one page class
 * @page_tokens: a power of two, 1 to 1024
 * @nr_slots: slots of each tier; the device needs at least one
 * @low: free slots under which a tier's reclaim starts
 * @high: and at which it stops; low <= high <= nr_slots
 * @host_node: NUMA node of the host tier, or PAGEDKV_IO_NONE
 * @reserved: 0
 * @page_bytes: of a page in every tier; 0: the kernel keeps no host memory
 */
struct pagedkv_io_class {
	__u32 page_tokens;
	__u32 nr_slots[PAGEDKV_IO_NR_TIERS];
	__u32 low[PAGEDKV_IO_NR_TIERS];
	__u32 high[PAGEDKV_IO_NR_TIERS];
	__u32 host_node;
	__u32 reserved;
	__aligned_u64 page_bytes;
};

#define PAGEDKV_IO_POOL_PERSIST	0x1U	/* stays until POOL_DESTROY; needs a name */

/**
 * struct pagedkv_io_pool_create - PAGEDKV_CMD_POOL_CREATE
 * @flags: PAGEDKV_IO_POOL_*
 * @name: letters, digits, '.', '_' and '-', no leading '.'; empty: anonymous.
 *	Zero from its end to the array's end
 * @mode: permission bits as of a file (0 to 0666); opening needs read and
 *	write, /proc needs read
 * @salt: of prefix keys; kept for the next opener
 * @fingerprint: of the model; an opener's must be equal
 * @nr_ranks: 1
 * @out_fd: the pool's file, O_CLOEXEC
 *
 * The owner is the opener's euid and egid. EEXIST, EDQUOT, ENOMEM, EOVERFLOW.
 */
struct pagedkv_io_pool_create {
	__u32 size;
	__u32 flags;
	__u8 name[PAGEDKV_IO_NAME_BYTES];
	__u8 salt[PAGEDKV_IO_SALT_BYTES];
	__aligned_u64 fingerprint;
	__u32 mode;
	__u32 nr_classes;
	__u32 max_seqs;
	__u32 max_moves;
	__u32 nr_ranks;
	__u32 reserved;
	struct pagedkv_io_class classes[PAGEDKV_IO_MAX_CLASSES];
	__s32 out_fd;
	__u32 out_id;
};

/* PAGEDKV_CMD_POOL_OPEN: ENOENT, EACCES (mode or fingerprint). */
struct pagedkv_io_pool_open {
	__u32 size;
	__u32 flags;			/* 0 */
	__u8 name[PAGEDKV_IO_NAME_BYTES];
	__aligned_u64 fingerprint;
	__s32 out_fd;
	__u32 out_id;
};

/* PAGEDKV_CMD_POOL_DESTROY: take the name away; the pool goes with its last client. */
struct pagedkv_io_pool_destroy {
	__u32 size;
	__u32 flags;			/* 0 */
	__u8 name[PAGEDKV_IO_NAME_BYTES];
};

struct pagedkv_io_pool_entry {
	__u32 id;			/* its directory in /proc/pagedkv */
	__u32 flags;			/* PAGEDKV_IO_POOL_* */
	__u32 uid, gid, mode;
	__u32 nr_clients;
	__u32 nr_classes;
	__u32 reserved;
	__aligned_u64 fingerprint;
	__u8 name[PAGEDKV_IO_NAME_BYTES];
};

/* PAGEDKV_CMD_POOL_LIST: pools that the opener may read, of ids from @cursor on. */
struct pagedkv_io_pool_list {
	__u32 size;
	__u32 flags;			/* 0 */
	__u32 cursor;			/* in: 0 to begin; out: where to go on */
	__u32 nr;
	__aligned_u64 entries;		/* struct pagedkv_io_pool_entry, room for @nr */
	__u32 out_nr;			/* 0: the end */
	__u32 reserved;
};

/* ----------------------------------------------------------------- a pool */

/* PAGEDKV_CMD_POOL_INFO: what the pool was created with. */
struct pagedkv_io_pool_info {
	__u32 size;
	__u32 flags;			/* 0 */
	__u8 out_name[PAGEDKV_IO_NAME_BYTES];
	__u8 out_salt[PAGEDKV_IO_SALT_BYTES];
	__aligned_u64 out_fingerprint;
	__u32 out_id, out_flags;
	__u32 out_uid, out_gid, out_mode;
	__u32 out_nr_clients;
	__u32 out_nr_classes;
	__u32 out_max_seqs;
	__u32 out_max_moves;
	__u32 out_nr_ranks;
	struct pagedkv_io_class out_classes[PAGEDKV_IO_MAX_CLASSES];
};

#define PAGEDKV_IO_LIMIT_CEILING	0x1U	/* the owner may not go above it */

/*
 * PAGEDKV_CMD_SET_LIMIT: a tier may use at most @limit slots. The pool's owner
 * may, up to the ceiling; a ceiling takes CAP_SYS_ADMIN. EPERM, EINVAL.
 */
struct pagedkv_io_set_limit {
	__u32 size;
	__u32 flags;			/* PAGEDKV_IO_LIMIT_* */
	__u32 class_id;
	__u32 tier;
	__u32 limit;
	__u32 reserved;
};

/*
 * PAGEDKV_CMD_TIER_STATE: 0 online, 1 read-only, 2 offline: its copies are
 * gone. The device knows 2 alone, and stays online: its memory is another one.
 * The pool's owner, or CAP_SYS_ADMIN. EPERM, EINVAL, EBUSY (a sequence runs on
 * the device).
 */
struct pagedkv_io_tier_state {
	__u32 size;
	__u32 flags;			/* 0 */
	__u32 class_id;
	__u32 tier;
	__u32 state;
	__u32 reserved;
};

/*
 * PAGEDKV_CMD_HOST_MAP: where mmap() of the pool's file (MAP_SHARED) finds the
 * host slots of a class. EOPNOTSUPP: there are none. The mapping is good as
 * long as the pool is; touching it later is SIGBUS.
 */
struct pagedkv_io_host_map {
	__u32 size;
	__u32 flags;			/* 0 */
	__u32 class_id;
	__u32 out_node;			/* or PAGEDKV_IO_NONE */
	__aligned_u64 out_offset;	/* for mmap() */
	__aligned_u64 out_bytes;
	__aligned_u64 out_huge_bytes;	/* of these in 2 MiB units */
};

/* -------------------------------------------------------------- sequences */

/* The name of a page's content; opaque. */
struct pagedkv_io_key {
	__aligned_u64 lo;
	__aligned_u64 hi;
};

/* PAGEDKV_CMD_SEQ_CREATE: begins with the longest cached prefix of @keys. */
struct pagedkv_io_seq_create {
	__u32 size;
	__u32 flags;			/* 0 */
	__u32 class_id;
	__u32 priority;			/* of its pages, 0 to 3; 0 is evicted first */
	__aligned_u64 keys;		/* struct pagedkv_io_key */
	__u32 nr_keys;
	__u32 out_nr_hits;		/* pages */
	__aligned_u64 out_seq;
};

/* PAGEDKV_CMD_MATCH: how many leading keys are cached, and where. */
struct pagedkv_io_match {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 keys;
	__u32 nr_keys;
	__u32 class_id;
	__u32 out_nr;
	__u32 out_per_tier[PAGEDKV_IO_NR_TIERS];
};

/* Pages [first, first + nr_keys) of a sequence get names. */
struct pagedkv_io_publication {
	__aligned_u64 seq;
	__aligned_u64 keys;
	__u32 first;
	__u32 nr_keys;
	__s32 out_result;		/* pages newly published, or a negative errno */
	__u32 reserved;
};

struct pagedkv_io_publish {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 items;		/* struct pagedkv_io_publication */
	__u32 nr;
	__u32 reserved;
};

/* Types of an operation. */
#define PAGEDKV_IO_OP_APPEND	0	/* arg: tokens to make room for */
#define PAGEDKV_IO_OP_FORK	1	/* out_seq: a child that shares every page */
#define PAGEDKV_IO_OP_TRUNCATE	2	/* arg: the new length */
#define PAGEDKV_IO_OP_FREE	3

struct pagedkv_io_op {
	__aligned_u64 seq;
	__u32 type;
	__u32 arg;
	__aligned_u64 out_seq;
};

/* Entry @index of the block table of @seq is now device slot @slot. */
struct pagedkv_io_delta {
	__aligned_u64 seq;
	__u32 index;
	__u32 slot;
};

/* Kinds of a move. */
#define PAGEDKV_IO_MOVE_OUT	0
#define PAGEDKV_IO_MOVE_IN	1
#define PAGEDKV_IO_MOVE_COPY	2

struct pagedkv_io_move {
	__aligned_u64 id;
	__u32 class_id;
	__u32 kind;
	__u32 src_tier, src_slot;
	__u32 dst_tier, dst_slot;
	struct pagedkv_io_key key;	/* of a published page, else zero */
};

/*
 * PAGEDKV_CMD_STEP: operations are applied in order, each is atomic. The first
 * that fails ends the step with its errno; the out_ fields are valid then too,
 * and the out_nr_done operations before it stand. The copies are to be run, in
 * order, before the step's compute, and then committed.
 */
struct pagedkv_io_step {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 ops;		/* struct pagedkv_io_op */
	__aligned_u64 deltas;		/* struct pagedkv_io_delta */
	__aligned_u64 copies;		/* struct pagedkv_io_move */
	__u32 nr_ops;
	__u32 max_deltas;
	__u32 max_copies;
	__u32 out_nr_done;
	__u32 out_nr_deltas;
	__u32 out_nr_copies;
};

#define PAGEDKV_IO_WILLNEED	0	/* to the device; returns 1: loading, 0: runs */
#define PAGEDKV_IO_COLD		1	/* its pages may leave the device */
#define PAGEDKV_IO_DONTNEED	2	/* don't cache its published pages */
#define PAGEDKV_IO_PIN		3
#define PAGEDKV_IO_UNPIN	4
#define PAGEDKV_IO_PRIORITY	5	/* @arg: of its pages, 0 to 3 */

struct pagedkv_io_advise {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 seq;
	__u32 advice;
	__u32 arg;			/* 0 but for PRIORITY */
};

/* PAGEDKV_CMD_SEQ_STATE returns it: 1 running, 2 loading, 3 cold, 4 broken. */
struct pagedkv_io_seq_state {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 seq;
};

struct pagedkv_io_seq_info {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 seq;
	__u32 out_state;
	__u32 out_class_id;
	__u32 out_len_tokens;
	__u32 out_nr_pages;
	__u32 out_nr_shared;		/* pages that other sequences contain too */
	__u32 out_nr_missing;		/* pages not on the device */
	__u32 out_lost_tokens;		/* broken: tokens before the first lost page */
	__u32 out_priority;
};

/* PAGEDKV_CMD_SEQ_TABLE: device slots of pages [first, first + nr). EBUSY: not running. */
struct pagedkv_io_seq_table {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 seq;
	__aligned_u64 slots;		/* __u32, room for @nr */
	__u32 first;
	__u32 nr;
	__u32 out_nr;
	__u32 reserved;
};

/* PAGEDKV_CMD_SEQ_WAIT: until a sequence isn't loading. */
struct pagedkv_io_seq_wait {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 seq;
	__aligned_u64 deadline_ns;
};

/* PAGEDKV_CMD_ADOPT: a slot of a reopened tier holds a valid copy of @key. */
struct pagedkv_io_adopt {
	__u32 size;
	__u32 flags;			/* 0 */
	__u32 class_id;
	__u32 tier;
	__u32 slot;
	__u32 reserved;
	struct pagedkv_io_key key;
};

/* ------------------------------------------------------------------ moves */

#define PAGEDKV_IO_COMMIT_SOURCE_BAD	0x1U	/* the source can't be read */

struct pagedkv_io_commit {
	__aligned_u64 id;
	__s32 status;			/* 0, or the negative errno the copy ended with */
	__u32 flags;			/* PAGEDKV_IO_COMMIT_* */
};

/*
 * PAGEDKV_CMD_MOVES: commit, then fetch. Commits are looked at first: a bad
 * one changes nothing (EINVAL, EOPNOTSUPP). Unknown ids are counted in
 * @out_nr_stale, the others are committed all the same. Fetching never waits;
 * it is ECANCELED after MOVES_STOP (with the commits done).
 */
struct pagedkv_io_moves {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 commits;		/* struct pagedkv_io_commit */
	__aligned_u64 moves;		/* struct pagedkv_io_move, room for @max_moves */
	__u32 nr_commits;
	__u32 max_moves;
	__u32 out_nr_stale;
	__u32 out_nr_moves;
};

/* PAGEDKV_CMD_MOVES_WAIT: until a move is committed, or none is planned or in flight. */
struct pagedkv_io_moves_wait {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 deadline_ns;
};

/*
 * PAGEDKV_CMD_MOVES_STOP: this client fetches no more; it may still commit.
 * PAGEDKV_CMD_QUIESCE: its pending io_uring commands end with ECANCELED.
 */
struct pagedkv_io_empty {
	__u32 size;
	__u32 flags;			/* 0 */
};

/*
 * PAGEDKV_CMD_MOVES_EVENTFD: an eventfd that is raised when moves are planned,
 * once until this client fetches again; -1 takes it away. poll() of the pool's
 * file tells the same without one: readable while moves are planned.
 */
struct pagedkv_io_moves_eventfd {
	__u32 size;
	__u32 flags;			/* 0 */
	__s32 fd;
	__u32 reserved;
};

/*
 * io_uring commands (IORING_OP_URING_CMD on a pool's file). The 16 bytes of
 * sqe->cmd are struct pagedkv_uring_cmd.
 *
 * MOVES: as the ioctl, but waits until there is a move to fetch (when
 * max_moves isn't 0). The struct at @arg and its arrays must stay in place
 * until the completion; cqe->res is the number fetched.
 * SEQ_WAIT: completes with 0 once sequence @arg isn't loading.
 * Both end with -ECANCELED by QUIESCE and MOVES_STOP, with the submitter's
 * exit or exec(), and, with PAGEDKV_IO_F_CANCEL, with their ring, also where
 * the pool's file stays open: a little later, and no move goes to them then.
 * Those of a thread whose process goes on may end only when they are due.
 */
#define PAGEDKV_URING_MOVES	_IO(PAGEDKV_IO_TYPE, 0x80)
#define PAGEDKV_URING_SEQ_WAIT	_IO(PAGEDKV_IO_TYPE, 0x81)

struct pagedkv_uring_cmd {
	__aligned_u64 arg;		/* struct pagedkv_io_moves *, or a sequence */
	__u32 flags;			/* 0 */
	__u32 reserved;
};

/* ------------------------------------------------------------- inspection */

struct pagedkv_io_tier_stats {
	__u32 nr_slots, nr_free;
	__u32 nr_idle;
	__u32 nr_leaving;
	__u32 limit;
	__u32 state;
};

struct pagedkv_io_stats {
	__u32 size;
	__u32 flags;			/* 0 */
	__u32 class_id;
	__u32 out_nr_seqs, out_nr_loading;
	__u32 out_nr_moves, out_nr_queued;
	__u32 out_nr_pages, out_nr_cached, out_nr_indexed, out_nr_lost;
	__u32 reserved;
	struct pagedkv_io_tier_stats out_tiers[PAGEDKV_IO_NR_TIERS];
	__aligned_u64 out_allocs, out_frees, out_forks, out_copies, out_lookups, out_hits;
	__aligned_u64 out_drops, out_aborts, out_cancels, out_losses;
	__aligned_u64 out_moves[PAGEDKV_IO_NR_TIERS][PAGEDKV_IO_NR_TIERS];	/* from, to */
	__aligned_u64 out_metadata_bytes;
};

#define PAGEDKV_IO_MAP_PUBLISHED	0x1U
#define PAGEDKV_IO_MAP_MOVING		0x2U
#define PAGEDKV_IO_MAP_LOST		0x4U

struct pagedkv_io_map_entry {
	__u32 slot[PAGEDKV_IO_NR_TIERS];
	__u32 refs, holds;
	__u32 flags;			/* PAGEDKV_IO_MAP_* */
	__u32 priority;
};

/* PAGEDKV_CMD_MAP: live pages from @cursor on; the lock is dropped now and then. */
struct pagedkv_io_map {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 entries;		/* struct pagedkv_io_map_entry, room for @nr */
	__u32 class_id;
	__u32 cursor;			/* in: 0 to begin; out: where to go on */
	__u32 nr;
	__u32 out_nr;			/* 0: the end */
};

/* PAGEDKV_CMD_CHECK: walk every invariant. The pool's owner, or CAP_SYS_ADMIN. */
struct pagedkv_io_check {
	__u32 size;
	__u32 flags;			/* 0 */
	__u8 out_why[120];		/* EUCLEAN: a sentence */
};

/* ------------------------------------------------------------- kept files */

/**
 * struct pagedkv_io_file_keep - PAGEDKV_CMD_FILE_KEEP
 * @name: as a pool's; not empty
 * @bytes: told to who takes it; whatever the caller likes, as is
 * @fingerprint: who takes it must name the same
 * @fd: stays the caller's; the pool refers to the open file as a dup() would
 *
 * Any client may keep, take, drop and list: opening the pool took read and
 * write permission. The pool keeps the file until it is dropped or the pool
 * goes, and so does what the file stands for: an exported GPU allocation
 * outlives its owner. It counts for nobody's RLIMIT_NOFILE.
 *
 * Regular files (a memfd among them), devices, pipes and dma-bufs can be kept.
 * All else is ELOOP: a pool's file or /dev/pagedkv, io_uring, sockets, epoll
 * and other anonymous files, directories. These may refer to the pool in turn,
 * and nothing would ever free the two. EBADF, EEXIST, EDQUOT (at
 * PAGEDKV_IO_MAX_FILES), ENOMEM.
 */
struct pagedkv_io_file_keep {
	__u32 size;
	__u32 flags;			/* 0 */
	__u8 name[PAGEDKV_IO_NAME_BYTES];
	__aligned_u64 bytes;
	__aligned_u64 fingerprint;
	__s32 fd;
	__u32 reserved;
};

/*
 * PAGEDKV_CMD_FILE_TAKE: a descriptor (O_CLOEXEC) of the same open file. The
 * pool keeps it all the same. ENOENT, EACCES (the fingerprint), EMFILE.
 */
struct pagedkv_io_file_take {
	__u32 size;
	__u32 flags;			/* 0 */
	__u8 name[PAGEDKV_IO_NAME_BYTES];
	__aligned_u64 fingerprint;
	__aligned_u64 out_bytes;
	__s32 out_fd;
	__u32 reserved;
};

/* PAGEDKV_CMD_FILE_DROP: the pool lets go of it. ENOENT. */
struct pagedkv_io_file_drop {
	__u32 size;
	__u32 flags;			/* 0 */
	__u8 name[PAGEDKV_IO_NAME_BYTES];
};

struct pagedkv_io_file_entry {
	__u8 name[PAGEDKV_IO_NAME_BYTES];
	__aligned_u64 bytes;
	__aligned_u64 fingerprint;
	__u32 uid;			/* who gave it */
	__u32 reserved;
};

/* PAGEDKV_CMD_FILE_LIST: in the order in which they were given, from @cursor on. */
struct pagedkv_io_file_list {
	__u32 size;
	__u32 flags;			/* 0 */
	__aligned_u64 cursor;		/* in: 0 to begin; out: where to go on */
	__aligned_u64 entries;		/* struct pagedkv_io_file_entry, room for @nr */
	__u32 nr;
	__u32 out_nr;			/* 0: the end */
};

#endif
