// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "optparse.h"
#include "procfile.h"

void pkv_procfile_init(struct pkv_procfile *p, FILE *f, const char *path)
{
	p->f = f;
	p->path = path;
	p->line_nr = 0;
	p->nr_words = 0;
	p->nr_needed = 0;
	p->err = 0;
	p->why[0] = '\0';
	for (unsigned int i = 0; i < PKV_PROC_WORDS; i++)
		p->columns[i] = (int)i;
}

void pkv_procfile_exit(struct pkv_procfile *p)
{
	if (p->f)
		fclose(p->f);
	p->f = NULL;
}

int pkv_procfile_refuse(struct pkv_procfile *p, const char *fmt, ...)
{
	char cause[256];
	va_list args;

	if (p->err)
		return p->err;
	va_start(args, fmt);
	vsnprintf(cause, sizeof(cause), fmt, args);
	va_end(args);
	p->err = pkvrt_why(p->why, sizeof(p->why), -EINVAL, "%.128s: line %" PRIu64 " %s",
			   p->path, p->line_nr, cause);
	return p->err;
}

/* Printable ASCII and blanks up to the newline, which has to be there. */
static int check_line(struct pkv_procfile *p)
{
	size_t len = strlen(p->line);

	if (len == sizeof(p->line) - 1 && p->line[len - 1] != '\n')
		return pkv_procfile_refuse(p, "is longer than %u bytes", PKV_PROC_LINE - 2);
	if (!len || p->line[len - 1] != '\n')
		return pkv_procfile_refuse(p, "is cut short");
	p->line[len - 1] = '\0';
	for (const char *c = p->line; *c; c++)
		if ((*c < ' ' && *c != '\t') || *c > '~')
			return pkv_procfile_refuse(p, "is not text");
	return 0;
}

static void split(struct pkv_procfile *p)
{
	char *save = NULL, *word;

	p->nr_words = 0;
	for (word = strtok_r(p->line, " \t", &save); word && p->nr_words < PKV_PROC_WORDS;
	     word = strtok_r(NULL, " \t", &save))
		p->words[p->nr_words++] = word;
}

static int read_line(struct pkv_procfile *p)
{
	int err;

	if (p->err)
		return p->err;
	errno = 0;
	if (!fgets(p->line, sizeof(p->line), p->f)) {
		if (!ferror(p->f))
			return 0;
		p->err = errno ? -errno : -EIO;
		return pkvrt_why(p->why, sizeof(p->why), p->err, "%.128s: can't read: %s", p->path,
				 strerror(-p->err));
	}
	p->line_nr++;
	err = check_line(p);
	if (err)
		return err;
	split(p);
	return 1;
}

int pkv_procfile_next(struct pkv_procfile *p)
{
	int ret = read_line(p);

	if (ret == 1 && p->nr_words < p->nr_needed)
		return pkv_procfile_refuse(p, "has %u words of %u", p->nr_words, p->nr_needed);
	return ret;
}

int pkv_procfile_heading(struct pkv_procfile *p, const char *const *wanted, unsigned int nr,
			 unsigned int nr_needed)
{
	int ret = read_line(p);
	unsigned int last = 0;

	if (ret < 0)
		return ret;
	if (!ret)
		return pkvrt_why(p->why, sizeof(p->why), p->err = -EINVAL, "%.128s: is empty",
				 p->path);
	for (unsigned int i = 0; i < nr; i++) {
		p->columns[i] = -1;
		for (unsigned int w = 0; w < p->nr_words && p->columns[i] < 0; w++)
			if (!strcmp(p->words[w], wanted[i]))
				p->columns[i] = (int)w;
		if (p->columns[i] < 0 && i < nr_needed)
			return pkv_procfile_refuse(p, "has no column %s", wanted[i]);
		if (i < nr_needed && (unsigned int)p->columns[i] > last)
			last = (unsigned int)p->columns[i];
	}
	p->nr_needed = last + 1;
	return 0;
}

bool pkv_procfile_has(const struct pkv_procfile *p, unsigned int column)
{
	int word = p->columns[column];

	return word >= 0 && (unsigned int)word < p->nr_words;
}

const char *pkv_procfile_text(const struct pkv_procfile *p, unsigned int column)
{
	return pkv_procfile_has(p, column) ? p->words[p->columns[column]] : "";
}

uint64_t pkv_procfile_number(struct pkv_procfile *p, unsigned int column, uint64_t max)
{
	const char *text = pkv_procfile_text(p, column), *end;
	uint64_t v;

	if (pkv_parse_u64(text, &end, &v) && !*end && v <= max)
		return v;
	pkv_procfile_refuse(p, "has '%.64s', which is not a number up to %" PRIu64, text, max);
	return 0;
}

/* Digits of a base and nothing else. */
static bool parse_base(const char *text, int base, const char *digits, uint64_t max, uint64_t *out)
{
	char *end;

	if (!*text || strspn(text, digits) != strlen(text))
		return false;
	errno = 0;
	*out = strtoull(text, &end, base);
	return !errno && *out <= max;
}

uint64_t pkv_procfile_hex(struct pkv_procfile *p, unsigned int column)
{
	const char *text = pkv_procfile_text(p, column);
	uint64_t v;

	if (parse_base(text, 16, "0123456789abcdef", UINT64_MAX, &v))
		return v;
	pkv_procfile_refuse(p, "has '%.64s', which is not hexadecimal", text);
	return 0;
}

uint32_t pkv_procfile_octal(struct pkv_procfile *p, unsigned int column)
{
	const char *text = pkv_procfile_text(p, column);
	uint64_t v;

	if (parse_base(text, 8, "01234567", 07777, &v))
		return (uint32_t)v;
	pkv_procfile_refuse(p, "has '%.64s', which is not a mode", text);
	return 0;
}

bool pkv_procfile_range(struct pkv_procfile *p, unsigned int column, uint32_t *first,
			uint32_t *last)
{
	const char *text = pkv_procfile_text(p, column), *end;
	uint64_t a, b;
	bool good;

	if (!strcmp(text, "-"))
		return false;
	good = pkv_parse_u64(text, &end, &a);
	b = a;
	if (good && *end == '-')
		good = pkv_parse_u64(end + 1, &end, &b);
	if (!good || *end || b < a || b >= UINT32_MAX) {
		pkv_procfile_refuse(p, "has '%.64s', which is not a range", text);
		return false;
	}
	*first = (uint32_t)a;
	*last = (uint32_t)b;
	return true;
}
