/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of threads.c share: pools, their memory, what is counted, and the end. */
#ifndef PAGEDKV_THREADS_H
#define PAGEDKV_THREADS_H


#include "kit.h"
#include "ring.h"

#define PAGE_BYTES	4096U
#define MAX_POOLS	3U
#define NR_PROCESSES	3U	/* of clients */
#define NR_MOVES	16U	/* a round */

/* Long enough for an emulated machine, short enough to see which wait hangs. */
#define GIVE_UP_NS	60000000000ULL

enum count {
	STEPS, FORKS, HITS, PUBLISHED, LOADS, LOST, VERIFIED, REOPENED,
	MOVES, ERRORS, REQUEUED, LOOKS, CHECKS, CHANGES, POOLS, NR_COUNTS
};

/* What all processes see. */
struct shared {
	uint64_t stop_ns;
	uint64_t next_tag;
	uint32_t failed;
	char why[200];
	uint64_t counts[NR_COUNTS];
};

struct place {
	const char *name;
	uint32_t nr_slots[3];
	uint8_t *tiers[3];		/* the device and the disk */
};

extern struct shared *shared;
extern struct place places[MAX_POOLS];
extern uint32_t nr_places;
extern int stop_pipe[2];		/* hangs up when executors may go */

/* threads.c */
uint64_t mix(uint64_t x);
uint32_t dice(uint64_t *rng, uint32_t sides);
void count(enum count what, uint64_t nr);
void fail(const char *fmt, ...);
bool has_failed(void);
bool is_over(void);
void pace(uint32_t ms);

struct executor {
	uint32_t place;
	bool by_ring;
	int fd;
	uint64_t rng;
	uint8_t *tiers[3];
	size_t host_bytes;
	struct io_uring ring;
	struct pagedkv_io_moves io;
	struct pagedkv_io_move moves[NR_MOVES];
	struct pagedkv_io_commit commits[NR_MOVES];
};

/* threads_executor.c */
void open_executor(struct executor *e);
void close_executor(struct executor *e);
void drain(struct executor *e);
void be_executors(bool by_ring, uint64_t seed);

/* threads_client.c */
void be_clients(uint32_t index, uint64_t seed);
uint32_t check_prompts(struct executor *e);

/* threads_others.c */
void set_tier(int fd, uint32_t tier, uint32_t state);
void be_reader(uint32_t index, uint64_t seed);
void be_administrator(uint64_t seed);
void be_landlord(uint64_t seed);

#endif
