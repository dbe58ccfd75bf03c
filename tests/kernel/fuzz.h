/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the fuzzer's parts share. An input is a list of records; the first says
 * what pool there is, each other one is a call. A record's bytes are choices:
 * the first two tell which call, of which file, in which thread and whether
 * allocations fail; the rest are used up as the call's arguments are made up,
 * each at the place where a value of its kind is wanted. So any bytes are an
 * input, and a changed byte is a changed argument.
 */
#ifndef PAGEDKV_FUZZ_H
#define PAGEDKV_FUZZ_H

#include <liburing.h>
#include <pthread.h>

#include "cover.h"
#include "kit.h"

#define RECORD_BYTES	32U
#define MAX_RECORDS	40U
#define MAX_KINDS	64U

/* The workers', where the kernel has memcgs: their pools are charged to it. */
#define MEMCG		"/sys/fs/cgroup/fuzz"

struct input {
	uint32_t nr;
	uint8_t records[MAX_RECORDS][RECORD_BYTES];
};

/* fuzz_input.c */
uint64_t next_random(uint64_t *rng);
void input_random(struct input *in, uint64_t *rng);
void input_mutate(struct input *in, const struct input *other, uint64_t *rng);
void input_cut(struct input *in, uint32_t first, uint32_t nr);
bool input_read(struct input *in, FILE *from);
void input_write(const struct input *in, FILE *to, const char *before);

/* What is left of a record's choices, and without end a hash of them behind it. */
struct choices {
	const uint8_t *record;
	uint32_t pos;
	uint64_t rng;
};

void choices_begin(struct choices *c, const uint8_t *record);
uint32_t choose(struct choices *c, uint32_t nr);	/* below @nr, at most 65536 */
uint32_t choose_value(struct choices *c);		/* one at a border */
bool chance(struct choices *c, uint32_t in_256);

/* ------------------------------------------------------------ what there is */

#define NR_FILES	6U
#define NR_SEQS		32U
#define NR_MOVES	64U
#define NR_MAPS		4U
#define NR_ROUNDS	8U
#define NR_CHILDREN	2U
#define NR_REGIONS	6U
#define REGION		(256UL << 10)

/* A command's memory, which stays in place until it ends, and longer. */
struct round {
	struct pagedkv_io_moves io;
	struct pagedkv_io_move moves[16];
	struct pagedkv_io_commit commits[16];
};

/*
 * Memory whose address is told to the module, and mappings of the module's,
 * have addresses of their own, where the kernel puts nothing else: neither a
 * pointer of which a half was spoiled nor a call on a mapping that another
 * thread has just taken away may reach what the fuzzer itself lives on.
 */
#define MEMORY_AT	(0x2000ULL << 32)
#define MEMORY_ROOM	(2ULL << 32)	/* an actor's */
#define MAPS_AT		(0x3000ULL << 32)
#define MAP_ROOM	(16ULL << 20)
#define NR_MAP_ROOMS	256U

/* A thread that makes calls. */
struct actor {
	struct world *world;
	struct cover cover;
	bool is_helper;
	uint8_t *memory;	/* NR_REGIONS regions, an inaccessible page behind each */
	uint8_t *read_only;	/* a page, and the same one where it can be written */
	uint8_t *alias;
	struct io_uring ring;
	bool has_ring, is_deferred;
	uint32_t nr_pending, next_round;
	struct round *rounds;
	int pipe[2];
	int fail_nth;		/* a file: the allocation to fail, of the calls to come */
	uint32_t kind, nth;	/* the call that is made, and what was said there */
};

struct pool_file {
	int fd;			/* -1: none */
	uint32_t id;
};

/* All that an input has made so far. Threads share it: @lock, but not during calls. */
struct world {
	pthread_mutex_t lock;
	int devices[2];		/* of root, and of a user who may not do everything */
	int drive;
	struct pool_file files[NR_FILES];
	uint64_t seqs[NR_SEQS];
	uint32_t nr_seqs;	/* ever; the last ones are kept */
	struct pagedkv_io_move moves[NR_MOVES];
	uint32_t nr_moves;
	struct { uint8_t *p; size_t len; } maps[NR_MAPS];
	uint32_t nr_mapped;	/* ever */
	uint64_t map_offset;
	int eventfd;
	pid_t children[NR_CHILDREN];
	struct actor *actor;	/* the main one */
	struct helper *helper;
	bool has_closed;	/* a pool's file, perhaps with commands pending */
	uint64_t nr_runs;
	bool is_child;
	bool verbose;
	/* fork(): records that are the child's */
	const struct input *input;
	uint32_t at;
};

/* A kind of call; @run returns 0 or more, or -errno. */
struct kind {
	const char *name;
	uint32_t weight;
	bool never_fails;	/* for want of memory */
	int (*run)(struct actor *a, struct choices *c, const struct kind *kind);
	/* ioctls */
	unsigned int cmd;
	bool of_device;
	uint32_t size;
	const struct field *fields;
	void (*take)(struct world *w, const void *arg, int ret);
};

extern const struct kind ioctl_kinds[], other_kinds[];
extern const uint32_t nr_ioctl_kinds, nr_other_kinds;

/* fuzz_ioctl.c */
int run_ioctl(struct actor *a, struct choices *c, const struct kind *kind);
void fill_round(struct actor *a, struct choices *c, struct round *r);
uint64_t choose_seq(struct world *w, struct choices *c);
void take_move(struct world *w, const struct pagedkv_io_move *m);
uint64_t choose_deadline(struct actor *a, struct choices *c);
void add_file(struct world *w, int fd, uint32_t id);
uint32_t choose_file(struct world *w, const uint8_t *record);

/* fuzz_other.c */
void reap(struct actor *a);
void close_ring(struct actor *a);
void end_child(pid_t *pid);

/* fuzz_thread.c */
void leave_rseq(char **argv);
void begin_thread(struct actor *a);
bool thread_bears_failures(void);

/* fuzz_world.c: runs an input */
void set_fail_nth(struct actor *a, uint32_t nth);
struct world *world_new(void);
/* NULL, or what is wrong. @each is told how each call of the first thread ended. */
const char *world_run(struct world *w, const struct input *in,
		      void (*each)(void *arg, uint32_t kind, int ret), void *arg);
int world_record(struct actor *a, const uint8_t *record, uint32_t *kind);
struct actor *world_helper(struct world *w);
void forget_names(int dev);
const char *kind_name(uint32_t kind);

#endif
