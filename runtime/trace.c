// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Readers of trace files. One pass, one line in memory at a time; the format is decided
 * by the first line that is not blank, and every later line must be of that format.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace.h"
#include "why.h"

#define NS_PER_MS	1000000ull
#define NS_PER_S	1000000000ull
#define MAX_MS		(9000000000000ull)	/* 285 years: in ns it fits 63 bits */
#define MAX_FIELDS	4

struct reader {
	FILE *f;
	const char *name;
	const struct pkvrt_workload_params *p;
	struct pkvrt_workload *w;
	char *line;			/* NUL-terminated, without its newline */
	size_t len;
	size_t cap;
	uint64_t line_nr;
	uint64_t last_ns;		/* arrival of the line before */
	uint32_t cap_reqs;
	uint32_t cap_hashes;
	char *why;
	size_t why_len;
};

/* The cause at the line being read. At most 256 bytes of the name: the cause must fit too. */
#define line_error(r, err, fmt, ...)						\
	pkvrt_why((r)->why, (r)->why_len, err, "%.256s: line %" PRIu64 ": " fmt,	\
		  (r)->name, (r)->line_nr, ##__VA_ARGS__)

int pkvrt_trace_open(FILE **f, const char *path, char *why, size_t why_len)
{
	struct stat st;
	int fd, err;

	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return pkvrt_why(why, why_len, -errno, "%.256s: can't open: %s", path,
				 strerror(errno));
	if (fstat(fd, &st)) {
		err = pkvrt_why(why, why_len, -errno, "%.256s: can't stat: %s", path,
				strerror(errno));
		goto out;
	}
	if (S_ISDIR(st.st_mode)) {
		err = pkvrt_why(why, why_len, -EISDIR, "%.256s: is a directory, not a trace", path);
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		err = pkvrt_why(why, why_len, -EINVAL, "%.256s: is a %s, not a regular file", path,
				S_ISFIFO(st.st_mode) ? "FIFO" :
				S_ISSOCK(st.st_mode) ? "socket" : "device");
		goto out;
	}
	*f = fdopen(fd, "r");
	if (*f)
		return 0;
	err = pkvrt_why(why, why_len, -ENOMEM, "%.256s: out of memory", path);
out:
	close(fd);
	return err;
}

/* Return: 1 a line, 0 the end of the file, -errno. */
static int read_line(struct reader *r)
{
	int c;

	r->len = 0;
	errno = 0;
	r->line_nr++;
	while ((c = getc_unlocked(r->f)) != EOF && c != '\n') {
		if (!c)
			return line_error(r, -EINVAL, "a NUL byte: not a text file");
		if (r->len == PKVRT_TRACE_LINE_MAX)
			return line_error(r, -E2BIG, "longer than %u bytes", PKVRT_TRACE_LINE_MAX);
		if (r->len + 1 >= r->cap) {
			size_t cap = r->cap ? 2 * r->cap : 4096;
			char *line = realloc(r->line, cap);

			if (!line)
				return line_error(r, -ENOMEM, "out of memory");
			r->line = line;
			r->cap = cap;
		}
		r->line[r->len++] = (char)c;
	}
	if (ferror(r->f))
		return line_error(r, errno ? -errno : -EIO, "can't read: %s",
				  strerror(errno ? errno : EIO));
	if (c == EOF && !r->len)
		return 0;
	if (r->len && r->line[r->len - 1] == '\r')
		r->len--;
	if (r->line)
		r->line[r->len] = '\0';
	return 1;
}

static bool is_blank(const struct reader *r)
{
	for (size_t i = 0; i < r->len; i++)
		if (!isspace((unsigned char)r->line[i]))
			return false;
	return true;
}

/* The next line that is not blank. Return: as read_line(). */
static int next_line(struct reader *r)
{
	int ret;

	do
		ret = read_line(r);
	while (ret > 0 && is_blank(r));
	return ret;
}

static int grow(void **array, uint32_t *cap, uint64_t need, uint64_t max, size_t each)
{
	uint64_t n = *cap ? *cap : 1024;
	void *p;

	if (need > max)
		return -E2BIG;
	if (need <= *cap)
		return 0;
	while (n < need)
		n *= 2;
	p = realloc(*array, n * each);
	if (!p)
		return -ENOMEM;
	*array = p;
	*cap = (uint32_t)n;
	return 0;
}

/*
 * Takes a request of the trace, or counts it as dropped. Its hash ids, if any, lie behind
 * those in use in w->hash_ids; they are kept by counting them in.
 */
static int add_request(struct reader *r, struct pkvrt_request *req)
{
	struct pkvrt_workload *w = r->w;
	uint64_t total = (uint64_t)req->prompt_tokens + req->output_tokens +
			 r->p->shared_prefix_tokens;
	int err;

	if (req->arrival_ns < r->last_ns)
		w->nr_out_of_order++;
	r->last_ns = req->arrival_ns;
	if (!req->prompt_tokens || !req->output_tokens) {
		w->nr_dropped_empty += w->nr_dropped_empty < UINT32_MAX;
		return 0;
	}
	if (r->p->max_total_tokens && total > r->p->max_total_tokens) {
		w->nr_dropped_long += w->nr_dropped_long < UINT32_MAX;
		return 0;
	}
	err = grow((void **)&w->reqs, &r->cap_reqs, (uint64_t)w->nr_reqs + 1, PKVRT_MAX_REQUESTS,
		   sizeof(*w->reqs));
	if (err == -E2BIG)
		return line_error(r, err, "more than %u requests", PKVRT_MAX_REQUESTS);
	if (err)
		return line_error(r, err, "out of memory");
	req->prompt_tokens += r->p->shared_prefix_tokens;
	req->first_hash = w->nr_hash_ids;
	w->nr_hash_ids += req->nr_hashes;
	w->reqs[w->nr_reqs++] = *req;
	return 0;
}

/* Splits the line at commas, spaces around fields dropped. Return: fields, or MAX_FIELDS + 1. */
static int split(char *line, char **field)
{
	int n = 0;

	for (char *at = line; at; ) {
		char *comma = strchr(at, ',');
		char *end = comma ? comma : at + strlen(at);

		if (n == MAX_FIELDS)
			return n + 1;
		at += strspn(at, " \t");
		while (end > at && isspace((unsigned char)end[-1]))
			end--;
		*end = '\0';
		field[n++] = at;
		at = comma ? comma + 1 : NULL;
	}
	return n;
}

/* Digits only, at most @max. Return: false when it is anything else. */
static bool parse_count(const char *s, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;

	if (!*s)
		return false;
	for (; *s; s++) {
		if (!isdigit((unsigned char)*s))
			return false;
		v = 10 * v + (uint64_t)(*s - '0');
		if (v > max)
			return false;
	}
	*out = v;
	return true;
}

static int parse_lengths(struct reader *r, char *const *field, struct pkvrt_request *req)
{
	uint64_t n[2];

	for (int i = 0; i < 2; i++)
		if (!parse_count(field[i], PKVRT_MAX_TOKENS, &n[i]))
			return line_error(r, -EINVAL, "%s tokens are '%.32s', not a count of 0 to "
					  "%u", i ? "output" : "prompt", field[i],
					  PKVRT_MAX_TOKENS);
	req->prompt_tokens = (uint32_t)n[0];
	req->output_tokens = (uint32_t)n[1];
	return 0;
}

/* @n digits at @s into @out. */
static bool parse_digits(const char **s, int n, uint32_t *out)
{
	*out = 0;
	for (; n; n--, (*s)++) {
		if (!isdigit((unsigned char)**s))
			return false;
		*out = 10 * *out + (uint32_t)(**s - '0');
	}
	return true;
}

static bool parse_char(const char **s, const char *any_of)
{
	if (!**s || !strchr(any_of, **s))
		return false;
	(*s)++;
	return true;
}

static bool is_leap(uint32_t year)
{
	return (year % 4 == 0 && year % 100) || year % 400 == 0;
}

/* Days since 1970-01-01; false for a date that is none. */
static bool days_of(uint32_t year, uint32_t month, uint32_t day, uint64_t *out)
{
	static const uint8_t len[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	uint64_t days = 0;

	if (year < 1970 || year > 2200 || month < 1 || month > 12 || day < 1 ||
	    day > (uint32_t)len[month - 1] + (month == 2 && is_leap(year)))
		return false;
	for (uint32_t y = 1970; y < year; y++)
		days += 365 + is_leap(y);
	for (uint32_t m = 1; m < month; m++)
		days += (uint64_t)len[m - 1] + (m == 2 && is_leap(year));
	*out = days + day - 1;
	return true;
}

/* "Z", "+hh:mm", "-hh:mm" or nothing: seconds to add to get UTC. */
static bool parse_zone(const char **s, int64_t *add)
{
	uint32_t h, m;
	bool west;

	*add = 0;
	if (!**s || parse_char(s, "Z"))
		return true;
	west = **s == '-';
	if (!parse_char(s, "+-") || !parse_digits(s, 2, &h) || !parse_char(s, ":") ||
	    !parse_digits(s, 2, &m) || h > 14 || m > 59)
		return false;
	*add = (int64_t)(h * 3600 + m * 60) * (west ? 1 : -1);
	return true;
}

/* "2023-11-16 18:15:46.6805900", 'T' for the space and a zone are fine: ns since 1970. */
static bool parse_time(const char *s, uint64_t *out)
{
	uint32_t year, month, day, h, m, sec;
	uint64_t days, frac = 0, unit = NS_PER_S;
	int64_t zone, t;

	if (!parse_digits(&s, 4, &year) || !parse_char(&s, "-") || !parse_digits(&s, 2, &month) ||
	    !parse_char(&s, "-") || !parse_digits(&s, 2, &day) || !parse_char(&s, " T") ||
	    !parse_digits(&s, 2, &h) || !parse_char(&s, ":") || !parse_digits(&s, 2, &m) ||
	    !parse_char(&s, ":") || !parse_digits(&s, 2, &sec) || h > 23 || m > 59 || sec > 60 ||
	    !days_of(year, month, day, &days))
		return false;
	if (*s == '.') {
		if (!isdigit((unsigned char)*++s))
			return false;
		for (; isdigit((unsigned char)*s); s++) {
			unit /= 10;
			frac += unit * (uint64_t)(*s - '0');
		}
	}
	if (!parse_zone(&s, &zone) || *s)
		return false;
	t = (int64_t)(days * 86400 + h * 3600 + m * 60 + sec) + zone;
	if (t < 0)
		return false;
	*out = (uint64_t)t * NS_PER_S + frac;
	return true;
}

static int parse_azure(struct reader *r)
{
	struct pkvrt_request req = { 0 };
	char *field[MAX_FIELDS];
	int err;

	if (split(r->line, field) != 3)
		return line_error(r, -EINVAL, "not three columns: time, context, generated");
	if (!parse_time(field[0], &req.arrival_ns))
		return line_error(r, -EINVAL, "'%.32s' is not a time like 2023-11-16 18:15:46.68",
				  field[0]);
	err = parse_lengths(r, field + 1, &req);
	return err ? err : add_request(r, &req);
}

static int parse_pair(struct reader *r)
{
	struct pkvrt_request req = { 0 };
	char *field[MAX_FIELDS];
	int err;

	if (split(r->line, field) != 2)
		return line_error(r, -EINVAL, "not two columns (prompt and output tokens)");
	err = parse_lengths(r, field, &req);
	return err ? err : add_request(r, &req);
}

/* An integer member of a line's object. */
static int get_int(struct reader *r, json_t *obj, const char *key, int64_t min, int64_t max,
		   int64_t *out)
{
	json_t *v = json_object_get(obj, key);

	if (!v)
		return line_error(r, -EINVAL, "has no \"%s\"", key);
	if (!json_is_integer(v))
		return line_error(r, -EINVAL, "\"%s\" is not an integer", key);
	*out = json_integer_value(v);
	if (*out < min || *out > max)
		return line_error(r, -EINVAL,
				  "\"%s\" is %" PRId64 ", not in %" PRId64 " to %" PRId64,
				  key, *out, min, max);
	return 0;
}

static int get_time(struct reader *r, json_t *obj, uint64_t *ns)
{
	json_t *v = json_object_get(obj, "timestamp");
	double ms;

	if (!json_is_number(v))
		return line_error(r, -EINVAL, "has no \"timestamp\" in milliseconds");
	ms = json_number_value(v);
	if (!(ms >= 0 && ms <= (double)MAX_MS))
		return line_error(r, -EINVAL, "\"timestamp\" is %g, not in 0 to %llu ms", ms,
				  MAX_MS);
	if (json_is_integer(v))
		*ns = (uint64_t)json_integer_value(v) * NS_PER_MS;
	else
		*ns = (uint64_t)(ms * (double)NS_PER_MS);
	return 0;
}

/* The ids go behind those in use; add_request() keeps them if it keeps the request. */
static int get_hash_ids(struct reader *r, json_t *obj, struct pkvrt_request *req)
{
	json_t *ids = json_object_get(obj, "hash_ids");
	struct pkvrt_workload *w = r->w;
	uint32_t whole = req->prompt_tokens / PKVRT_HASH_BLOCK_TOKENS;
	uint32_t most = whole + !!(req->prompt_tokens % PKVRT_HASH_BLOCK_TOKENS);
	size_t n;
	int err;

	if (!ids)
		return 0;
	if (!json_is_array(ids))
		return line_error(r, -EINVAL, "\"hash_ids\" is not an array");
	n = json_array_size(ids);
	if (n < whole || n > most)
		return line_error(r, -EINVAL, "%zu hash_ids for %u tokens, not %u: one per %u",
				  n, req->prompt_tokens, most, PKVRT_HASH_BLOCK_TOKENS);
	err = grow((void **)&w->hash_ids, &r->cap_hashes, (uint64_t)w->nr_hash_ids + n,
		   PKVRT_MAX_HASH_IDS, sizeof(*w->hash_ids));
	if (err == -E2BIG)
		return line_error(r, err, "more than %u hash_ids in all", PKVRT_MAX_HASH_IDS);
	if (err)
		return line_error(r, err, "out of memory");
	for (size_t i = 0; i < n; i++) {
		json_t *id = json_array_get(ids, i);

		if (!json_is_integer(id) || json_integer_value(id) < 0)
			return line_error(r, -EINVAL, "hash_ids[%zu] is not an integer from 0", i);
		w->hash_ids[w->nr_hash_ids + i] = (uint64_t)json_integer_value(id);
	}
	req->nr_hashes = (uint32_t)n;
	return 0;
}

static int parse_object(struct reader *r, json_t *obj)
{
	struct pkvrt_request req = { 0 };
	int64_t prompt, output, priority = 0;
	int err;

	if (!json_is_object(obj))
		return line_error(r, -EINVAL, "not a JSON object");
	err = get_time(r, obj, &req.arrival_ns);
	if (!err)
		err = get_int(r, obj, "input_length", 0, PKVRT_MAX_TOKENS, &prompt);
	if (!err)
		err = get_int(r, obj, "output_length", 0, PKVRT_MAX_TOKENS, &output);
	if (!err && json_object_get(obj, "priority"))
		err = get_int(r, obj, "priority", INT32_MIN, INT32_MAX, &priority);
	if (err)
		return err;
	req.prompt_tokens = (uint32_t)prompt;
	req.output_tokens = (uint32_t)output;
	req.priority = (int32_t)priority;
	err = get_hash_ids(r, obj, &req);
	return err ? err : add_request(r, &req);
}

static int parse_mooncake(struct reader *r)
{
	json_error_t error;
	json_t *obj = json_loadb(r->line, r->len, JSON_REJECT_DUPLICATES, &error);
	int err;

	if (!obj)
		return line_error(r, -EINVAL, "column %d: %.80s", error.column, error.text);
	err = parse_object(r, obj);
	json_decref(obj);
	return err;
}

/* A first line of words: a header. Return: 1 and the source, 0 no header, -errno. */
static int match_header(struct reader *r, char *const *field, int n, enum pkvrt_source *source)
{
	for (int i = 0; i < n; i++)
		if (!isalpha((unsigned char)field[i][0]))
			return 0;
	if (n == 3 && !strcasecmp(field[0], "TIMESTAMP") &&
	    !strcasecmp(field[1], "ContextTokens") && !strcasecmp(field[2], "GeneratedTokens")) {
		*source = PKVRT_SOURCE_AZURE_CSV;
		return 1;
	}
	if (n != 2)
		return 0;
	if (strcasestr(field[0], "output") || strcasestr(field[0], "generat"))
		return line_error(r, -EINVAL, "columns '%.32s,%.32s': prompt tokens come first",
				  field[0], field[1]);
	*source = PKVRT_SOURCE_LENGTHS_CSV;
	return 1;
}

/*
 * Decides the format by the first line. Return: 1 it was a header and is used up, 0 it holds
 * a request, -errno.
 */
static int detect(struct reader *r, enum pkvrt_source *source)
{
	char *field[MAX_FIELDS], *copy;
	uint64_t v;
	int n, ret;

	if (r->line[0] == '{') {
		*source = PKVRT_SOURCE_MOONCAKE;
		return 0;
	}
	if (!memcmp(r->line, "\x1f\x8b", 2))
		return line_error(r, -EINVAL, "gzip-compressed: unpack it first");
	copy = strdup(r->line);
	if (!copy)
		return line_error(r, -ENOMEM, "out of memory");
	n = split(copy, field);
	ret = n <= MAX_FIELDS ? match_header(r, field, n, source) : 0;
	if (!ret && n == 3 && parse_time(field[0], &v))
		*source = PKVRT_SOURCE_AZURE_CSV;
	else if (!ret && n == 2 && isdigit((unsigned char)field[0][0]))
		*source = PKVRT_SOURCE_LENGTHS_CSV;
	else if (!ret)
		ret = line_error(r, -EINVAL, "not a trace: neither JSON lines (Mooncake), "
				 "TIMESTAMP,ContextTokens,GeneratedTokens (Azure) nor "
				 "prompt,output lengths");
	free(copy);
	return ret;
}

static void drop_bom(struct reader *r)
{
	if (r->len >= 3 && !memcmp(r->line, "\xef\xbb\xbf", 3)) {
		r->len -= 3;
		memmove(r->line, r->line + 3, r->len + 1);
	}
}

static int read_requests(struct reader *r)
{
	static int (*const parse[])(struct reader *r) = {
		[PKVRT_SOURCE_LENGTHS_CSV] = parse_pair,
		[PKVRT_SOURCE_AZURE_CSV] = parse_azure,
		[PKVRT_SOURCE_MOONCAKE] = parse_mooncake,
	};
	enum pkvrt_source source = PKVRT_SOURCE_LENGTHS_CSV;
	int ret;

	ret = next_line(r);
	if (!ret)
		return pkvrt_why(r->why, r->why_len, -EINVAL, "%.256s: %s", r->name,
				 r->line_nr > 1 ? "holds nothing but blank lines" : "is empty");
	if (ret < 0)
		return ret;
	drop_bom(r);
	ret = detect(r, &source);
	if (ret < 0)
		return ret;
	r->w->source = source;
	if (ret)
		ret = next_line(r);
	else
		ret = 1;
	while (ret > 0) {
		ret = parse[source](r);
		if (ret || (r->p->nr_requests && r->w->nr_reqs == r->p->nr_requests))
			return ret;
		ret = next_line(r);
	}
	return ret;
}

struct order {
	uint64_t arrival_ns;
	uint32_t idx;
};

static int order_cmp(const void *a, const void *b)
{
	const struct order *x = a, *y = b;

	if (x->arrival_ns != y->arrival_ns)
		return x->arrival_ns < y->arrival_ns ? -1 : 1;
	return x->idx < y->idx ? -1 : x->idx > y->idx;
}

static int sort_requests(struct pkvrt_workload *w)
{
	struct pkvrt_request *sorted = malloc(w->nr_reqs * sizeof(*sorted));
	struct order *order = malloc(w->nr_reqs * sizeof(*order));

	if (!sorted || !order) {
		free(sorted);
		free(order);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < w->nr_reqs; i++)
		order[i] = (struct order){ w->reqs[i].arrival_ns, i };
	qsort(order, w->nr_reqs, sizeof(*order), order_cmp);
	for (uint32_t i = 0; i < w->nr_reqs; i++)
		sorted[i] = w->reqs[order[i].idx];
	free(order);
	free(w->reqs);
	w->reqs = sorted;
	return 0;
}

int pkvrt_trace_read(FILE *f, const char *name, const struct pkvrt_workload_params *p,
		     struct pkvrt_workload *w, char *why, size_t why_len)
{
	struct reader r = { .f = f, .name = name, .p = p, .w = w, .why = why, .why_len = why_len };
	int err;

	err = read_requests(&r);
	if (err)
		goto out;
	if (!w->nr_reqs) {
		err = pkvrt_why(why, why_len, -ENODATA,
				"%.256s: no request left: %u above %u tokens, %u without tokens",
				name, w->nr_dropped_long, p->max_total_tokens, w->nr_dropped_empty);
		goto out;
	}
	if (w->nr_out_of_order && sort_requests(w)) {
		err = pkvrt_why(why, why_len, -ENOMEM, "%.256s: out of memory", name);
		goto out;
	}
	for (uint32_t i = w->nr_reqs; i-- > 0; )
		w->reqs[i].arrival_ns -= w->reqs[0].arrival_ns;
out:
	free(r.line);
	return err;
}
