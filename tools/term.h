/* SPDX-License-Identifier: GPL-2.0-only */
/* What the reader of a stream can see, and figures as people read them. */
#ifndef PKV_TERM_H
#define PKV_TERM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <pagedkv.h>

#define PKV_HUMAN_LEN	24u

extern const char *const pkv_tier_names[PAGEDKV_NR_TIERS];
/* blue, yellow, green: told apart by most who see colours differently, and by name by all */
extern const char *const pkv_tier_colours[PAGEDKV_NR_TIERS];

struct pkv_term {
	bool tty;		/* one on which a cursor can be moved */
	bool colour;		/* wanted, where it is a tty */
	bool utf8;
	unsigned int width;	/* columns; 80 where nobody knows */
};

void pkv_term_init(struct pkv_term *t, FILE *out);
unsigned int pkv_term_width(FILE *out);

/* "1.5 GiB", into a buffer of PKV_HUMAN_LEN, which it returns. */
const char *pkv_human_bytes(char *buf, uint64_t bytes);
/* So many of @width columns as @used is of @of, coloured where that is wanted. Returns @buf. */
const char *pkv_bar(char *buf, size_t len, const struct pkv_term *t, const char *colour,
		    unsigned int width, uint64_t used, uint64_t of);
double pkv_pct(uint64_t part, uint64_t whole);

#endif
