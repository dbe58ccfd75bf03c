// SPDX-License-Identifier: GPL-2.0-only
/* `pagedkv stat`: what has happened, once in full or as rates, a line an interval. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "admin.h"
#include "table.h"

#define NS_PER_S	1000000000LL
#define MIN_INTERVAL_S	0.01
#define MAX_INTERVAL_S	86400.0
#define HEADING_EVERY	20u	/* lines */

struct stat_options {
	bool json, help;
};

static const struct pkv_opt table[] = {
	PKV_OPT_SWITCH("json", offsetof(struct stat_options, json),
		       "print one JSON object; with an interval, one a line"),
	PKV_OPT_SWITCH("help", offsetof(struct stat_options, help), "print this text"),
};

static const struct pkv_opts options = {
	.command = "stat",
	.args = "[INTERVAL [COUNT]]",
	.about =
		"Print the module's counters, summed over the pools that you may read. With an\n"
		"interval in seconds, print what happened in each, a second, in a line: for ever,\n"
		"or COUNT times.\n\n",
	.table = table,
	.nr = sizeof(table) / sizeof(table[0]),
	.help = offsetof(struct stat_options, help),
	.max_args = 2,
};

/* A column of the lines: the sum of up to three counters, now or a second. */
static const struct column {
	const char *name;
	bool is_level;
	const char *counters[3];
} columns[] = {
	{ "seqs", true, { "sequences" } },
	{ "moves", true, { "moves" } },
	{ "queued", true, { "moves_queued" } },
	{ "alloc/s", false, { "allocs" } },
	{ "free/s", false, { "frees" } },
	{ "fork/s", false, { "forks" } },
	{ "copy/s", false, { "copies" } },
	{ "lookup/s", false, { "lookups" } },
	{ "hit/s", false, { "hits" } },
	{ "out/s", false, { "moved_device_host", "moved_device_disk" } },
	{ "demote/s", false, { "moved_host_disk" } },
	{ "in/s", false, { "moved_host_device", "moved_disk_device" } },
	{ "drop/s", false, { "drops" } },
	{ "abort/s", false, { "aborts" } },
	{ "lost/s", false, { "losses" } },
};

#define NR_COLUMNS (sizeof(columns) / sizeof(columns[0]))

/* Figures of a moment that are no running totals. */
static bool is_level(const char *name)
{
	static const char *const levels[] = { "pools", "sequences", "moves", "moves_queued" };

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (!strcmp(name, levels[i]))
			return true;
	return false;
}

struct moment {
	int64_t ns;
	struct pkv_counters counters;
};

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static int look(struct pkv_proc *p, struct moment *m)
{
	int ret = pkv_proc_counters(p, "stat", &m->counters);

	m->ns = now_ns();
	return ret;
}

static int print_once(struct pkv_proc *p, bool json)
{
	struct pkv_counters c;
	struct pkv_table t;
	json_t *obj;
	int ret;

	if (pkv_proc_counters(p, "stat", &c))
		return pkv_complain("stat", p->why, PKV_EXIT_FAILED);
	if (json) {
		obj = json_object();
		for (uint32_t i = 0; i < c.nr; i++)
			json_object_set_new(obj, c.list[i].name, pkv_json_number(c.list[i].value));
		return pkv_print_object("stat", obj, JSON_INDENT(2));
	}
	pkv_table_init(&t, "lr");
	for (uint32_t i = 0; i < c.nr; i++) {
		pkv_table_cell(&t, "%s", c.list[i].name);
		pkv_table_cell(&t, "%" PRIu64, c.list[i].value);
	}
	ret = pkv_table_print(&t, stdout, "");
	pkv_table_exit(&t);
	return ret ? pkv_complain("stat", "no memory", PKV_EXIT_FAILED) : 0;
}

static uint64_t total(const struct pkv_counters *c, const struct column *column)
{
	uint64_t sum = 0;

	for (int i = 0; i < 3 && column->counters[i]; i++)
		sum = pkv_add(sum, pkv_counter_value(c, column->counters[i]));
	return sum;
}

/* A second; false where a pool went and took its share of the counter along. */
static bool rate(uint64_t then, uint64_t now, int64_t ns, double *out)
{
	*out = ns > 0 ? (double)(now - then) * (double)NS_PER_S / (double)ns : 0;
	return now >= then;
}

static int width_of(size_t column)
{
	int len = (int)strlen(columns[column].name);

	return len > 6 ? len : 6;
}

static void print_line(const struct moment *then, const struct moment *now, uint64_t nr)
{
	if (nr % HEADING_EVERY == 0)
		for (size_t i = 0; i < NR_COLUMNS; i++)
			printf(" %*s%s", width_of(i), columns[i].name,
			       i + 1 < NR_COLUMNS ? "" : "\n");
	for (size_t i = 0; i < NR_COLUMNS; i++) {
		uint64_t a = total(&then->counters, &columns[i]);
		uint64_t b = total(&now->counters, &columns[i]);
		int width = width_of(i);
		double v;

		if (columns[i].is_level)
			printf(" %*" PRIu64, width, b);
		else if (rate(a, b, now->ns - then->ns, &v))
			printf(" %*.*f", width, v && v < 10 ? 1 : 0, v);
		else
			printf(" %*s", width, "-");
	}
	putchar('\n');
}

static int print_json_line(const struct moment *then, const struct moment *now)
{
	json_t *obj = json_object(), *levels = json_object(), *rates = json_object();
	double v;

	for (uint32_t i = 0; i < now->counters.nr; i++) {
		const struct pkv_counter *c = &now->counters.list[i];
		uint64_t before = pkv_counter_value(&then->counters, c->name);

		if (is_level(c->name))
			json_object_set_new(levels, c->name, pkv_json_number(c->value));
		else if (rate(before, c->value, now->ns - then->ns, &v))
			json_object_set_new(rates, c->name, json_real(v));
		else
			json_object_set_new(rates, c->name, json_null());
	}
	json_object_set_new(obj, "seconds",
			    json_real((double)(now->ns - then->ns) / (double)NS_PER_S));
	json_object_set_new(obj, "now", levels);
	json_object_set_new(obj, "per_second", rates);
	return pkv_print_object("stat", obj, JSON_COMPACT);
}

static void sleep_until(int64_t ns)
{
	struct timespec t = { .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

/* @count 0: until somebody ends it, or nobody reads it any more. */
static int print_rates(struct pkv_proc *p, bool json, int64_t interval_ns, uint64_t count)
{
	struct moment moments[2];
	int64_t next;
	int status = 0;

	if (look(p, &moments[0]))
		return pkv_complain("stat", p->why, PKV_EXIT_FAILED);
	next = moments[0].ns;
	for (uint64_t i = 0; !status && (!count || i < count); i++) {
		const struct moment *then = &moments[i % 2];
		struct moment *now = &moments[(i + 1) % 2];

		next += interval_ns;
		sleep_until(next);
		if (look(p, now))
			return pkv_complain("stat", p->why, PKV_EXIT_FAILED);
		if (json)
			status = print_json_line(then, now);
		else
			print_line(then, now, i);
		if (fflush(stdout))
			return PKV_EXIT_FAILED;
		/* late is late: what was missed is in this line */
		if (next < now->ns)
			next = now->ns;
	}
	return status;
}

static int refuse(const char *what, const char *text, const char *cause)
{
	char why[PKVRT_WHY_LEN];

	pkvrt_why(why, sizeof(why), 0, "%s: '%.64s' %s", what, text, cause);
	return pkv_complain("stat", why, PKV_EXIT_USAGE);
}

int pkv_stat_main(int argc, char **argv)
{
	struct stat_options o = { 0 };
	uint64_t count = 0;
	double seconds = 0;
	struct pkv_proc p;
	const char *end;
	int first, status;

	if (!pkv_admin_options(&options, &o, &o.help, argc, argv, &first, &status))
		return status;
	if (first < argc && (!pkv_parse_real(argv[first], &seconds) || seconds < MIN_INTERVAL_S ||
			     seconds > MAX_INTERVAL_S))
		return refuse("INTERVAL", argv[first],
			      "is not a number of seconds from 0.01 to 86400");
	if (first + 1 < argc &&
	    (!pkv_parse_u64(argv[first + 1], &end, &count) || *end || !count))
		return refuse("COUNT", argv[first + 1], "is not a number above 0");
	if (pkv_proc_open(&p))
		return pkv_complain("stat", p.why, PKV_EXIT_FAILED);
	if (seconds > 0)
		status = print_rates(&p, o.json, (int64_t)(seconds * (double)NS_PER_S), count);
	else
		status = print_once(&p, o.json);
	pkv_proc_close(&p);
	return status;
}
