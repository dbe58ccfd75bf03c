// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "optparse.h"
#include "why.h"

#define MAX_OPTS	64
#define FIRST_VAL	256	/* getopt's value of the table's first option */

static int refuse(char *why, size_t why_len, const struct pkv_opt *s, const char *value,
		  const char *cause)
{
	return pkvrt_why(why, why_len, -EINVAL, "--%s: '%.64s' %s", s->name, value, cause);
}

bool pkv_parse_u64(const char *text, const char **end, uint64_t *out)
{
	uint64_t v = 0;

	*end = text;
	for (; **end >= '0' && **end <= '9'; (*end)++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(**end - '0'), &v))
			return false;
	*out = v;
	return *end != text;
}

/* One of K, M, G in either case, at most: the shift it stands for. */
static unsigned int parse_suffix(const char **end)
{
	static const char letters[] = "kmg";
	const char *at = **end ? strchr(letters, **end | 0x20) : NULL;

	if (!at)
		return 0;
	(*end)++;
	return 10 * (unsigned int)(at - letters + 1);
}

static bool parse_size(const struct pkv_opt *s, const char *text, uint64_t *out)
{
	bool suffix = s->type == PKV_OPT_SIZE || s->type == PKV_OPT_BYTES;
	unsigned int shift;
	const char *end;

	if (!pkv_parse_u64(text, &end, out))
		return false;
	shift = suffix ? parse_suffix(&end) : 0;
	if (*end || *out > (UINT64_MAX >> shift))
		return false;
	*out <<= shift;
	return true;
}

static int set_u32(const struct pkv_opt *s, const char *text, uint32_t *out, char *why,
		   size_t why_len)
{
	char cause[80];
	uint64_t v;

	if (parse_size(s, text, &v) && v >= s->min && v <= s->max &&
	    (s->type != PKV_OPT_POWER || !(v & (v - 1)))) {
		*out = (uint32_t)v;
		return 0;
	}
	snprintf(cause, sizeof(cause), "is not a %s from %u to %u%s",
		 s->type == PKV_OPT_POWER ? "power of two" : "whole number", s->min, s->max,
		 s->type == PKV_OPT_SIZE ? " (K, M, G: powers of 1024)" : "");
	return refuse(why, why_len, s, text, cause);
}

static int set_u64(const struct pkv_opt *s, const char *text, uint64_t *out, char *why,
		   size_t why_len)
{
	if (parse_size(s, text, out))
		return 0;
	return refuse(why, why_len, s, text, s->type == PKV_OPT_BYTES ?
		      "is not a number of bytes (K, M, G: powers of 1024)" :
		      "is not a whole number from 0 to 18446744073709551615");
}

bool pkv_parse_real(const char *text, double *out)
{
	char *end;

	if (strspn(text, "0123456789.e-+") != strlen(text) || !strpbrk(text, "0123456789") ||
	    *text == '-' || *text == '+')
		return false;
	*out = strtod(text, &end);
	return !*end && isfinite(*out);
}

static int set_real(const struct pkv_opt *s, const char *text, double *out, char *why,
		    size_t why_len)
{
	char cause[40];

	if (pkv_parse_real(text, out) && *out <= s->max)
		return 0;
	snprintf(cause, sizeof(cause), "is not a number from 0 to %u", s->max);
	return refuse(why, why_len, s, text, cause);
}

static int set_choice(const struct pkv_opt *s, const char *text, uint32_t *out, char *why,
		      size_t why_len)
{
	char cause[128] = "is not";

	for (uint32_t i = 0; s->words[i]; i++) {
		if (!strcmp(text, s->words[i])) {
			*out = i;
			return 0;
		}
	}
	for (uint32_t i = 0; s->words[i]; i++) {
		size_t len = strlen(cause);

		snprintf(cause + len, sizeof(cause) - len, "%s %s",
			 !i ? "" : s->words[i + 1] ? "," : " or", s->words[i]);
	}
	return refuse(why, why_len, s, text, cause);
}

static int set(void *out, const struct pkv_opt *s, const char *text, char *why, size_t why_len)
{
	void *at = (char *)out + s->offset;
	const char *cause = "";

	switch (s->type) {
	case PKV_OPT_FLAG:
		*(bool *)at = true;
		return 0;
	case PKV_OPT_COUNT:
	case PKV_OPT_SIZE:
	case PKV_OPT_POWER:
		return set_u32(s, text, at, why, why_len);
	case PKV_OPT_NUMBER:
	case PKV_OPT_BYTES:
		return set_u64(s, text, at, why, why_len);
	case PKV_OPT_REAL:
		return set_real(s, text, at, why, why_len);
	case PKV_OPT_CHOICE:
		return set_choice(s, text, at, why, why_len);
	case PKV_OPT_TEXT:
		if (!*text)
			return refuse(why, why_len, s, text, "is empty");
		*(const char **)at = text;
		return 0;
	case PKV_OPT_CUSTOM:
		return s->set(text, at, &cause) ? refuse(why, why_len, s, text, cause) : 0;
	case PKV_OPT_GROUP:
		break;
	}
	return -EINVAL;
}

/* getopt's table; its last entry ends it. */
static void make_table(const struct pkv_opts *opts, struct option *table)
{
	for (size_t i = 0; i < opts->nr; i++) {
		const struct pkv_opt *s = &opts->table[i];

		if (s->type == PKV_OPT_GROUP)
			continue;
		*table++ = (struct option){
			.name = s->name,
			.has_arg = s->type == PKV_OPT_FLAG ? no_argument : required_argument,
			.val = FIRST_VAL + (int)i,
		};
	}
	*table = (struct option){ 0 };
}

/* After getopt_long() said '?' or ':': what was wrong, in the user's words. */
static int refuse_word(const struct pkv_opts *opts, int said, char **argv, char *why,
		       size_t why_len)
{
	const char *word = argv[optind - 1];
	char letter[] = { '-', (char)optopt, 0 };

	if (said == ':')
		return pkvrt_why(why, why_len, -EINVAL, "--%s needs a value",
				 opts->table[optopt - FIRST_VAL].name);
	if (optopt >= FIRST_VAL)
		return pkvrt_why(why, why_len, -EINVAL, "--%s takes no value",
				 opts->table[optopt - FIRST_VAL].name);
	return pkvrt_why(why, why_len, -EINVAL, "unknown option '%.64s': see 'pagedkv %s --help'",
			 optopt ? letter : word, opts->command);
}

static int check_args(const struct pkv_opts *opts, int argc, char **argv, char *why,
		      size_t why_len)
{
	int nr = argc - optind;

	if (nr > opts->max_args && !opts->args)
		return pkvrt_why(why, why_len, -EINVAL, "'%.64s' is not an option, and no other "
				 "arguments are taken", argv[optind]);
	if (nr > opts->max_args)
		return pkvrt_why(why, why_len, -EINVAL, "'%.64s' is one argument too many: see "
				 "'pagedkv %s --help'", argv[optind + opts->max_args],
				 opts->command);
	if (nr < opts->min_args)
		return pkvrt_why(why, why_len, -EINVAL, "%s is missing: see 'pagedkv %s --help'",
				 opts->args, opts->command);
	return 0;
}

int pkv_opts_parse(const struct pkv_opts *opts, void *out, int argc, char **argv, int *first,
		   char *why, size_t why_len)
{
	bool *help = (bool *)((char *)out + opts->help);
	struct option table[MAX_OPTS + 1];
	int val, err;

	if (opts->nr > MAX_OPTS)
		return -EINVAL;
	make_table(opts, table);
	opterr = 0;
	optind = 0;	/* glibc: start over, from any state */
	while ((val = getopt_long(argc, argv, ":h", table, NULL)) != -1) {
		if (val == '?' || val == ':')
			return refuse_word(opts, val, argv, why, why_len);
		if (val == 'h') {
			*help = true;
			continue;
		}
		err = set(out, &opts->table[val - FIRST_VAL], optarg, why, why_len);
		if (err)
			return err;
	}
	if (first)
		*first = optind;
	return *help ? 0 : check_args(opts, argc, argv, why, why_len);
}

static void print_option(FILE *f, const struct pkv_opt *s)
{
	const char *line = s->help, *end;
	char left[40];

	snprintf(left, sizeof(left), "--%s%s%s", s->name, s->arg ? " " : "", s->arg ? s->arg : "");
	while ((end = strchr(line, '\n'))) {
		fprintf(f, "  %-20s %.*s\n", left, (int)(end - line), line);
		left[0] = '\0';
		line = end + 1;
	}
	fprintf(f, "  %-20s %s\n", left, line);
}

void pkv_opts_help(FILE *f, const struct pkv_opts *opts)
{
	fprintf(f, "usage: pagedkv %s [OPTION]...%s%s\n\n%s", opts->command,
		opts->args ? " " : "", opts->args ? opts->args : "", opts->about);
	for (size_t i = 0; i < opts->nr; i++) {
		if (opts->table[i].type == PKV_OPT_GROUP)
			fprintf(f, "\n%s:\n", opts->table[i].name);
		else
			print_option(f, &opts->table[i]);
	}
}
