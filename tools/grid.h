/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A picture of a tier's slots: cells of as many slots each, a sign for what most of a cell's used
 * slots hold, and how many of them are used.
 */
#ifndef PKV_GRID_H
#define PKV_GRID_H

#include <stdint.h>
#include <stdio.h>

#include "term.h"

/* What a slot holds. Order is the legend's. */
enum pkv_mark {
	PKV_MARK_HELD,		/* by one sequence that runs or loads */
	PKV_MARK_SHARED,	/* held, of several sequences */
	PKV_MARK_IDLE,
	PKV_MARK_CACHED,
	PKV_MARK_MOVING,
	PKV_MARK_LOST,
	PKV_MARK_OTHER,		/* of a later version */
	PKV_NR_MARKS,
};

extern const char *const pkv_mark_names[PKV_NR_MARKS];

struct pkv_grid {
	uint32_t nr_slots;
	uint32_t nr_cells;
	uint64_t totals[PKV_NR_MARKS];	/* slots */
	uint32_t (*cells)[PKV_NR_MARKS];
};

/* At most @max_cells, at least 1. Return: 0 or -ENOMEM. */
int pkv_grid_init(struct pkv_grid *g, uint32_t nr_slots, uint32_t max_cells);
void pkv_grid_exit(struct pkv_grid *g);

/* Slots [first, first + nr) hold @mark; those that there are none of are left out. */
void pkv_grid_add(struct pkv_grid *g, uint32_t first, uint32_t nr, enum pkv_mark mark);

/* Rows of @width cells, each line after @indent. */
void pkv_grid_print(const struct pkv_grid *g, FILE *out, const struct pkv_term *t,
		    unsigned int width, const char *indent);
/* What the signs of pkv_grid_print() stand for. */
void pkv_grid_legend(FILE *out, const struct pkv_term *t);

#endif
