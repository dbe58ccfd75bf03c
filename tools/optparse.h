/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Options of a command, told by one table: parsing, ranges and the help text come from it.
 * Parsing is a function of argv alone: nothing is opened, printed or exited from.
 */
#ifndef PKV_OPTPARSE_H
#define PKV_OPTPARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum pkv_opt_type {
	PKV_OPT_GROUP,		/* a heading of the help text */
	PKV_OPT_FLAG,		/* bool */
	PKV_OPT_COUNT,		/* uint32_t, decimal */
	PKV_OPT_SIZE,		/* uint32_t, decimal, with K, M or G for powers of 1024 */
	PKV_OPT_POWER,		/* uint32_t, a power of two */
	PKV_OPT_NUMBER,		/* uint64_t, decimal */
	PKV_OPT_BYTES,		/* uint64_t, decimal, with K, M or G for powers of 1024 */
	PKV_OPT_REAL,		/* double from 0 to max */
	PKV_OPT_CHOICE,		/* uint32_t, index of a word */
	PKV_OPT_TEXT,		/* const char *, not empty; borrowed from argv */
	PKV_OPT_CUSTOM,		/* what @set makes of it */
};

struct pkv_opt {
	const char *name;
	enum pkv_opt_type type;
	size_t offset;		/* into the command's struct */
	const char *arg;	/* what the help text calls the argument */
	const char *help;	/* lines after the first are indented by the printer */
	uint32_t min, max;
	const char *const *words;
	/* 0, or -EINVAL with *@cause in the words that follow the quoted value */
	int (*set)(const char *text, void *out, const char **cause);
};

/* Lines of a table; @at is a member's offset. */
#define PKV_OPT_HEADING(n) \
	{ .name = n, .type = PKV_OPT_GROUP }
#define PKV_OPT_SWITCH(n, at, text) \
	{ .name = n, .type = PKV_OPT_FLAG, .offset = at, .help = text }
#define PKV_OPT_VALUE(n, t, at, a, text) \
	{ .name = n, .type = PKV_OPT_ ## t, .offset = at, .arg = a, .help = text }
#define PKV_OPT_RANGE(n, t, at, lo, hi, a, text) \
	{ .name = n, .type = PKV_OPT_ ## t, .offset = at, .arg = a, .help = text, \
	  .min = lo, .max = hi }
#define PKV_OPT_WORDS(n, at, w, a, text) \
	{ .name = n, .type = PKV_OPT_CHOICE, .offset = at, .arg = a, .help = text, .words = w }
#define PKV_OPT_SET(n, fn, at, a, text) \
	{ .name = n, .type = PKV_OPT_CUSTOM, .offset = at, .arg = a, .help = text, .set = fn }

/* A command's options. @args: arguments that are not options, as usage calls them. */
struct pkv_opts {
	const char *command;	/* "run", "pool create" */
	const char *args;	/* NULL: none are taken */
	const char *about;	/* the help text's first paragraph */
	const struct pkv_opt *table;
	size_t nr;
	size_t help;		/* offset of a bool */
	int min_args, max_args;
};

/**
 * pkv_opts_parse - argv of a command, argv[0] its name
 * @out: the command's struct, its defaults set
 * @first: where arguments that are not options begin: argv[*first] to argv[argc - 1]. They may
 *	stand among the options, and are moved behind them. NULL where none are taken
 * @why: on failure one line that names option, value and what is allowed
 *
 * Where help was asked for, nothing else has been checked. Not thread-safe (getopt_long).
 *
 * Return: 0 or -EINVAL.
 */
int pkv_opts_parse(const struct pkv_opts *opts, void *out, int argc, char **argv, int *first,
		   char *why, size_t why_len);

/* The text of --help. */
void pkv_opts_help(FILE *f, const struct pkv_opts *opts);

/* Decimal digits and nothing else; *@end is what follows them. */
bool pkv_parse_u64(const char *text, const char **end, uint64_t *out);
/* A plain decimal: no sign, no hexadecimal, no "nan". */
bool pkv_parse_real(const char *text, double *out);

#endif
