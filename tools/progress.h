/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Live progress on stderr: a few lines redrawn in place on a terminal, else a plain line every
 * few seconds. It has no thread: the job hands it samples whenever it likes.
 */
#ifndef PKV_PROGRESS_H
#define PKV_PROGRESS_H

#include <stdbool.h>
#include <stdio.h>

#include "series.h"

struct pkv_progress {
	FILE *out;
	bool quiet;
	bool tty;
	bool colour;
	bool utf8;
	uint32_t nr_slots[PAGEDKV_NR_TIERS];
	uint32_t nr_requests;
	const char *title;		/* of the run that is on, for instance "unlimited memory" */
	unsigned int nr_drawn;		/* lines on the screen that are ours */
	uint64_t next_ns;		/* nothing is drawn before */
	struct pkvrt_sample last;	/* what rates are taken from */
	double tokens_per_s;		/* smoothed */
	double moves_per_s;
};

/**
 * pkv_progress_init - nothing is drawn yet
 * @out: stderr; looked at once to see whether it is a terminal
 * @title: borrowed
 * @nr_slots: of each tier; a tier of 0 slots is not shown
 */
void pkv_progress_init(struct pkv_progress *p, FILE *out, bool quiet, const char *title,
		       const uint32_t nr_slots[PAGEDKV_NR_TIERS], uint32_t nr_requests);

/* Would a sample at @t_ns be drawn? Cheap: ask at every step. */
static inline bool pkv_progress_due(const struct pkv_progress *p, uint64_t t_ns)
{
	return !p->quiet && t_ns >= p->next_ns;
}

/* Draws a sample when it is due; its slot_state is not looked at. */
void pkv_progress_update(struct pkv_progress *p, const struct pkvrt_sample *sample);

/* Takes the lines off the screen; whatever ends the run, before anything else is printed. */
void pkv_progress_exit(struct pkv_progress *p);

#endif
