/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A file of /proc/pagedkv, or of a copy of it: lines of words, under a heading or with their name
 * in front. Columns are found by their name in the heading, so that files may grow. What a file
 * says is taken as hostile: every line is checked before a word of it is looked at.
 */
#ifndef PKV_PROCFILE_H
#define PKV_PROCFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "why.h"

#define PKV_PROC_LINE	1024u
#define PKV_PROC_WORDS	32u
#define PKV_PROC_MAX	INT64_MAX	/* of any number: what JSON can carry */

struct pkv_procfile {
	FILE *f;
	const char *path;		/* for messages; borrowed */
	uint64_t line_nr;
	char line[PKV_PROC_LINE];
	char *words[PKV_PROC_WORDS];
	unsigned int nr_words;
	int columns[PKV_PROC_WORDS];	/* word of each wanted column, or -1 */
	unsigned int nr_needed;		/* words that a line must have */
	int err;			/* the first one, which @why tells */
	char why[PKVRT_WHY_LEN];
};

/**
 * pkv_procfile_init - read from @f, which pkv_procfile_exit() closes
 * @path: what the file is called in messages
 */
void pkv_procfile_init(struct pkv_procfile *p, FILE *f, const char *path);
void pkv_procfile_exit(struct pkv_procfile *p);

/**
 * pkv_procfile_heading - read the heading and find columns in it
 * @wanted: their names; the first @nr_needed of @nr have to be there
 *
 * Return: 0, or -errno with @why set.
 */
int pkv_procfile_heading(struct pkv_procfile *p, const char *const *wanted, unsigned int nr,
			 unsigned int nr_needed);

/* The next line's words. Return: 1, 0 at the end, or -errno with @why set. */
int pkv_procfile_next(struct pkv_procfile *p);

/*
 * The word of a wanted column, or as many words as there are. What a word can't be is @err; then
 * they give "" and 0.
 */
bool pkv_procfile_has(const struct pkv_procfile *p, unsigned int column);
const char *pkv_procfile_text(const struct pkv_procfile *p, unsigned int column);
uint64_t pkv_procfile_number(struct pkv_procfile *p, unsigned int column, uint64_t max);
uint64_t pkv_procfile_hex(struct pkv_procfile *p, unsigned int column);
uint32_t pkv_procfile_octal(struct pkv_procfile *p, unsigned int column);
/* "3-7", or "3" for both; false: "-", or an error. */
bool pkv_procfile_range(struct pkv_procfile *p, unsigned int column, uint32_t *first,
			uint32_t *last);

/* Something is wrong with the current line: its number goes in front. Return: -EINVAL. */
__attribute__((format(printf, 2, 3)))
int pkv_procfile_refuse(struct pkv_procfile *p, const char *fmt, ...);

#endif
