/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel module says of its pools, from /proc/pagedkv; pagedkv(4) describes the files.
 * PAGEDKV_PROC in the environment names another folder: a copy of it.
 *
 * Calls return 0 or -errno, with one line of cause in the reader's @why.
 */
#ifndef PKV_PROC_H
#define PKV_PROC_H

#include <pagedkv.h>

#include "procfile.h"

#define PKV_PROC_NAME	64u

struct pkv_proc {
	int dir;
	const char *folder;
	char path[PKVRT_WHY_LEN];	/* of the file in hand, for messages */
	char why[PKVRT_WHY_LEN];
};

struct pkv_proc_pool {
	uint32_t id;
	char name[PKV_PROC_NAME];	/* empty: anonymous */
	uint32_t uid, gid, mode;
	bool persistent;
	uint32_t nr_clients, nr_classes;
	uint64_t fingerprint;
};

struct pkv_proc_tier {
	uint32_t nr_slots, limit, ceiling, nr_used, low, high;
	char state[16];			/* "online", "readonly", "offline" */
};

struct pkv_proc_class {
	uint32_t page_tokens;
	uint64_t page_bytes;		/* 0: no host memory, or not told */
	struct pkv_proc_tier tiers[PAGEDKV_NR_TIERS];
};

/* Of a pool. Classes that its file doesn't have are zero. */
struct pkv_proc_limits {
	uint32_t nr_classes;
	struct pkv_proc_class classes[PAGEDKV_MAX_CLASSES];
};

struct pkv_proc_sum {
	uint64_t slots, free, idle, leaving;
};

#define PKV_MAX_COUNTERS	128u

struct pkv_counter {
	char name[PKV_PROC_NAME];
	uint64_t value;
	bool is_kb;			/* in units of 1024 bytes */
};

/* Named figures, in their file's order. Those over the maximum are left out. */
struct pkv_counters {
	uint32_t nr;
	struct pkv_counter list[PKV_MAX_COUNTERS];
};

enum pkv_page_state {
	PKV_HELD,		/* by a running or loading sequence */
	PKV_IDLE,
	PKV_CACHED,		/* published, and of no sequence */
	PKV_MOVING,
	PKV_LOST,
	PKV_NR_PAGE_STATES,	/* a word of a later version */
};

/* Pages of a class in a row of which the same is true. */
struct pkv_proc_run {
	uint32_t class_id;
	uint32_t first, last;		/* pages, both of the run */
	uint32_t slot[PAGEDKV_NR_TIERS];	/* of the first; PAGEDKV_NO_SLOT: no copy there */
	uint32_t nr_seqs;		/* that contain them */
	uint32_t state;			/* enum pkv_page_state */
	bool published;
	const char *state_name;		/* good until the next run */
};

struct pkv_proc_seq {
	uint32_t index, generation;	/* its handle, written "index.generation" */
	uint64_t client;
	uint32_t class_id, nr_tokens, nr_pages, priority;
	bool pinned;
	const char *state_name;		/* good until the next one */
};

/* A file that a pool keeps for the next server. */
struct pkv_proc_file {
	char name[PKV_PROC_NAME];
	uint64_t bytes, fingerprint;
	uint32_t uid;			/* who gave it */
};

extern const char *const pkv_page_state_names[PKV_NR_PAGE_STATES];

/* Pages of a sequence with numbers in a row. */
struct pkv_proc_extent {
	uint32_t index, generation;	/* of the sequence */
	uint32_t class_id;
	uint32_t first, last;		/* pages, both of the extent */
};

/* -ENOENT: the module is not loaded. */
int pkv_proc_open(struct pkv_proc *p);
void pkv_proc_close(struct pkv_proc *p);

int pkv_proc_version(struct pkv_proc *p, char *out, size_t len);
/* The caller frees *@out. */
int pkv_proc_pools(struct pkv_proc *p, struct pkv_proc_pool **out, uint32_t *nr);
/* A pool by its name or, where no pool has that name, its id. -ENOENT. */
int pkv_proc_find(struct pkv_proc *p, const char *which, struct pkv_proc_pool *out);
int pkv_proc_limits(struct pkv_proc *p, uint32_t pool, struct pkv_proc_limits *out);
int pkv_proc_tiers(struct pkv_proc *p, struct pkv_proc_sum sums[PAGEDKV_NR_TIERS]);
/* @name: "stat" or "meminfo" */
int pkv_proc_counters(struct pkv_proc *p, const char *name, struct pkv_counters *out);
/* NULL: there is none of this name. */
const struct pkv_counter *pkv_counter_find(const struct pkv_counters *c, const char *name);
/* 0 where there is none. */
uint64_t pkv_counter_value(const struct pkv_counters *c, const char *name);

/* Files of a pool that are read a line at a time; who opened one ends with pkv_proc_done(). */
int pkv_proc_open_maps(struct pkv_proc *p, uint32_t pool, struct pkv_procfile *f);
int pkv_proc_next_run(struct pkv_procfile *f, struct pkv_proc_run *out);
int pkv_proc_open_seqs(struct pkv_proc *p, uint32_t pool, struct pkv_procfile *f);
int pkv_proc_next_seq(struct pkv_procfile *f, struct pkv_proc_seq *out);

int pkv_proc_open_tables(struct pkv_proc *p, uint32_t pool, struct pkv_procfile *f);
int pkv_proc_next_extent(struct pkv_procfile *f, struct pkv_proc_extent *out);

int pkv_proc_open_files(struct pkv_proc *p, uint32_t pool, struct pkv_procfile *f);
int pkv_proc_next_file(struct pkv_procfile *f, struct pkv_proc_file *out);

/* Ends with a file: with @err its cause becomes the reader's. Returns @err. */
int pkv_proc_done(struct pkv_proc *p, struct pkv_procfile *f, int err);

/* What is wrong was the pool's end: it was there a moment ago. */
bool pkv_proc_is_gone(int err);

/*
 * The same of an open file, for what has no folder; @f's err and why tell what is wrong with it.
 * They close nothing.
 */
int pkv_parse_pools(struct pkv_procfile *f, struct pkv_proc_pool **out, uint32_t *nr);
int pkv_parse_limits(struct pkv_procfile *f, struct pkv_proc_limits *out);
int pkv_parse_tiers(struct pkv_procfile *f, struct pkv_proc_sum sums[PAGEDKV_NR_TIERS]);
int pkv_parse_counters(struct pkv_procfile *f, struct pkv_counters *out);
/* "12.3": false where it is something else. */
bool pkv_parse_handle(const char *text, uint32_t *index, uint32_t *generation);
int pkv_parse_maps_heading(struct pkv_procfile *f);
int pkv_parse_seqs_heading(struct pkv_procfile *f);
int pkv_parse_tables_heading(struct pkv_procfile *f);
int pkv_parse_files_heading(struct pkv_procfile *f);

/* uint64_t products and sums that stay at the top instead of beginning anew. */
static inline uint64_t pkv_mul(uint64_t a, uint64_t b)
{
	uint64_t v;

	return __builtin_mul_overflow(a, b, &v) || v > PKV_PROC_MAX ? PKV_PROC_MAX : v;
}

static inline uint64_t pkv_add(uint64_t a, uint64_t b)
{
	uint64_t v;

	return __builtin_add_overflow(a, b, &v) || v > PKV_PROC_MAX ? PKV_PROC_MAX : v;
}

#endif
