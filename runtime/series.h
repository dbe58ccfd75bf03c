/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * A time series of bounded size: however long a run takes, it ends with at most as many
 * samples as it was given room for, evenly spaced. When the room is full, every second
 * sample goes and the interval doubles. Counters are running totals, so that a rate between
 * any two samples that remain is exact.
 */
#ifndef PKVRT_SERIES_H
#define PKVRT_SERIES_H

#include <stdbool.h>
#include <stdint.h>

#include <pagedkv.h>

#define PKVRT_SERIES_SAMPLES	1024u	/* a good size for a picture */
#define PKVRT_MAP_ROWS		256u	/* device slots of a sample's map at most */

/* What a device slot holds. Order is the order of a picture's legend. */
enum pkvrt_slot_state {
	PKVRT_SLOT_FREE,
	PKVRT_SLOT_PRIVATE,	/* a page of one sequence */
	PKVRT_SLOT_SHARED,	/* a page of several sequences */
	PKVRT_SLOT_CACHED,	/* a published page that no sequence holds */
	PKVRT_SLOT_MOVING,	/* source or destination of a move in flight */
	PKVRT_NR_SLOT_STATES,
};

/**
 * struct pkvrt_sample - one moment
 * @t_ns: since the start of the run
 * @tokens: output tokens so far
 * @nr_moves: moves committed so far
 * @moved_bytes: [from][to] of them
 * @used: slots not free, a tier
 * @nr_running: sequences in the step's batch
 * @nr_waiting: requests arrived and not yet admitted
 * @nr_swapped: requests preempted, their pages out or dropped
 * @nr_done: requests finished
 * @slot_state: enum pkvrt_slot_state; row r of n is slot pkvrt_map_slot(r, n, nr_slots)
 */
struct pkvrt_sample {
	uint64_t t_ns;
	uint64_t tokens;
	uint64_t nr_moves;
	uint64_t moved_bytes[PAGEDKV_NR_TIERS][PAGEDKV_NR_TIERS];
	uint32_t used[PAGEDKV_NR_TIERS];
	uint32_t nr_running;
	uint32_t nr_waiting;
	uint32_t nr_swapped;
	uint32_t nr_done;
	uint8_t slot_state[PKVRT_MAP_ROWS];
};

struct pkvrt_series {
	struct pkvrt_sample *samples;
	uint32_t nr;
	uint32_t max;
	uint64_t interval_ns;	/* wanted between samples, now */
	uint64_t next_ns;	/* the earliest time of the next */
};

/**
 * pkvrt_series_init - make room
 * @max: samples, even and at least 2
 * @interval_ns: between samples at first; more than 0
 *
 * Return: 0, -EINVAL, -ENOMEM.
 */
int pkvrt_series_init(struct pkvrt_series *s, uint32_t max, uint64_t interval_ns);
void pkvrt_series_exit(struct pkvrt_series *s);

/* Is it time for a sample? Cheap: ask at every step. */
static inline bool pkvrt_series_due(const struct pkvrt_series *s, uint64_t t_ns)
{
	return t_ns >= s->next_ns;
}

/**
 * pkvrt_series_add - the next sample, zeroed but for its time, for the caller to fill
 * @t_ns: not before the last sample's. Need not be due: the end of a run belongs in too
 */
struct pkvrt_sample *pkvrt_series_add(struct pkvrt_series *s, uint64_t t_ns);

/* Rows of a map of @nr_slots slots. */
static inline uint32_t pkvrt_map_rows(uint32_t nr_slots)
{
	return nr_slots < PKVRT_MAP_ROWS ? nr_slots : PKVRT_MAP_ROWS;
}

/* The slot that stands for row @row: each where they fit, else evenly spread. */
static inline uint32_t pkvrt_map_slot(uint32_t row, uint32_t nr_rows, uint32_t nr_slots)
{
	return (uint32_t)((uint64_t)row * nr_slots / nr_rows);
}

#endif
