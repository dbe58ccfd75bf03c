// SPDX-License-Identifier: GPL-2.0-only
/* `pagedkv map`: where the pages of a pool are, as a picture, a list of runs, or JSON. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "admin.h"
#include "grid.h"

#define MAX_WIDTH	128u
#define PLAIN_WIDTH	64u
#define MAX_ROWS	8u
#define ANY		UINT32_MAX

struct map_options {
	const char *seq;
	uint32_t tier, state;
	bool shared, published, grid, runs, json, help;
};

static const char *const tier_words[] = { "device", "host", "disk", NULL };
static const char *const state_words[] = { "held", "idle", "cached", "moving", "lost", NULL };

#define MAP(member) offsetof(struct map_options, member)
static const struct pkv_opt table[] = {
	PKV_OPT_HEADING("Which pages (default: all)"),
	PKV_OPT_WORDS("tier", MAP(tier), tier_words, "TIER",
		      "with a copy in this tier: device, host or disk"),
	PKV_OPT_WORDS("state", MAP(state), state_words, "STATE",
		      "held, idle, cached, moving or lost"),
	PKV_OPT_SWITCH("shared", MAP(shared), "of several sequences"),
	PKV_OPT_SWITCH("published", MAP(published), "with a name in the prefix index"),
	PKV_OPT_VALUE("seq", TEXT, MAP(seq), "SEQ",
		      "of this sequence, as /proc/pagedkv/ID/sequences has it"),
	PKV_OPT_HEADING("How (default: a picture on a terminal, else a list)"),
	PKV_OPT_SWITCH("grid", MAP(grid), "draw each tier, a sign for some slots"),
	PKV_OPT_SWITCH("runs", MAP(runs), "list runs of pages of which the same is true"),
	PKV_OPT_SWITCH("json", MAP(json), "print the runs as one JSON object"),
	PKV_OPT_SWITCH("help", MAP(help), "print this text"),
};

static const struct pkv_opts options = {
	.command = "map",
	.args = "POOL",
	.about = "Show where the pages of a pool are: their slots in each tier, what they are to\n"
		 "sequences, and how many sequences contain them. POOL is a name or an id.\n",
	.table = table,
	.nr = sizeof(table) / sizeof(table[0]),
	.help = offsetof(struct map_options, help),
	.min_args = 1,
	.max_args = 1,
};

struct map {
	const struct map_options *o;
	struct pkv_proc proc;
	struct pkv_proc_pool pool;
	struct pkv_proc_limits limits;
	struct pkv_term term;
	unsigned int width;
	uint64_t nr_runs, nr_pages;
	uint32_t seq_index, seq_generation;
	struct pkv_proc_extent *extents;	/* of the sequence asked for, by class and page */
	uint32_t nr_extents, max_extents;
	struct pkv_grid grids[PAGEDKV_MAX_CLASSES][PAGEDKV_NR_TIERS];
};

static bool is_wanted(const struct map_options *o, const struct pkv_proc_run *r)
{
	return (o->tier == ANY || r->slot[o->tier] != PAGEDKV_NO_SLOT) &&
	       (o->state == ANY || r->state == o->state) && (!o->shared || r->nr_seqs > 1) &&
	       (!o->published || r->published);
}

static int show_run(struct map *m, const struct pkv_proc_run *r,
		    int (*show)(struct map *m, const struct pkv_proc_run *r))
{
	int ret = show(m, r);

	m->nr_runs++;
	m->nr_pages += (uint64_t)(r->last - r->first) + 1;
	return ret;
}

static bool is_before(const struct pkv_proc_extent *e, uint32_t class_id, uint32_t page)
{
	return e->class_id != class_id ? e->class_id < class_id : e->last < page;
}

/* Those pages of a run that the sequence asked for is made of. */
static int show_parts(struct map *m, const struct pkv_proc_run *r,
		      int (*show)(struct map *m, const struct pkv_proc_run *r))
{
	uint32_t low = 0, high = m->nr_extents;
	int ret = 0;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (is_before(&m->extents[middle], r->class_id, r->first))
			low = middle + 1;
		else
			high = middle;
	}
	for (; !ret && low < m->nr_extents; low++) {
		const struct pkv_proc_extent *e = &m->extents[low];
		struct pkv_proc_run part = *r;

		if (e->class_id != r->class_id || e->first > r->last)
			break;
		part.first = e->first > r->first ? e->first : r->first;
		part.last = e->last < r->last ? e->last : r->last;
		for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
			if (r->slot[t] != PAGEDKV_NO_SLOT)
				part.slot[t] += part.first - r->first;
		ret = show_run(m, &part, show);
	}
	return ret;
}

/* Every wanted run, in the order of its file. @show may end it with an error of its own. */
static int for_each_run(struct map *m, int (*show)(struct map *m, const struct pkv_proc_run *r))
{
	struct pkv_procfile f;
	struct pkv_proc_run r;
	int ret = pkv_proc_open_maps(&m->proc, m->pool.id, &f);

	if (ret)
		return ret;
	while ((ret = pkv_proc_next_run(&f, &r)) > 0) {
		if (!is_wanted(m->o, &r))
			continue;
		ret = m->o->seq ? show_parts(m, &r, show) : show_run(m, &r, show);
		if (ret)
			break;
	}
	pkv_proc_done(&m->proc, &f, f.err);
	return ret;
}

static int by_page(const void *a, const void *b)
{
	const struct pkv_proc_extent *x = a, *y = b;

	if (x->class_id != y->class_id)
		return x->class_id < y->class_id ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

static int add_extent(struct map *m, const struct pkv_proc_extent *e)
{
	uint32_t max = m->max_extents ? 2 * m->max_extents : 64;
	void *more;

	if (m->nr_extents == m->max_extents) {
		more = realloc(m->extents, max * sizeof(*m->extents));
		if (!more)
			return pkvrt_why(m->proc.why, sizeof(m->proc.why), -ENOMEM, "no memory");
		m->extents = more;
		m->max_extents = max;
	}
	m->extents[m->nr_extents++] = *e;
	return 0;
}

/* Which pages the sequence asked for is made of. */
static int find_extents(struct map *m)
{
	struct pkv_proc_extent e;
	struct pkv_procfile f;
	int ret = pkv_proc_open_tables(&m->proc, m->pool.id, &f);

	if (ret)
		return ret;
	while ((ret = pkv_proc_next_extent(&f, &e)) > 0) {
		if (e.index != m->seq_index || e.generation != m->seq_generation)
			continue;
		ret = add_extent(m, &e);
		if (ret)
			break;
	}
	pkv_proc_done(&m->proc, &f, f.err);
	if (m->nr_extents)
		qsort(m->extents, m->nr_extents, sizeof(*m->extents), by_page);
	if (!ret && !m->nr_extents)
		ret = pkvrt_why(m->proc.why, sizeof(m->proc.why), -ENOENT,
				"no sequence '%.64s' with pages: /proc/pagedkv/%u/sequences lists "
				"them", m->o->seq, m->pool.id);
	return ret;
}

/* ------------------------------------------------------------------- runs */

static const char *range(char *buf, size_t len, uint32_t first, uint32_t nr)
{
	if (first == PAGEDKV_NO_SLOT)
		snprintf(buf, len, "-");
	else if (nr == 1)
		snprintf(buf, len, "%u", first);
	else
		snprintf(buf, len, "%u-%" PRIu64, first, (uint64_t)first + nr - 1);
	return buf;
}

/* A pool may have a million runs: columns are as wide as what fits most, and none is kept. */
static int print_run(struct map *m, const struct pkv_proc_run *r)
{
	uint32_t nr = r->last - r->first + 1;
	char text[4][32];

	if (!m->nr_runs)
		printf("%5s %19s %19s %19s %19s %5s %-7s %s\n", "class", "pages", "device",
		       "host", "disk", "seqs", "state", "published");
	printf("%5u %19s %19s %19s %19s %5u %-7s %s\n", r->class_id,
	       range(text[0], sizeof(text[0]), r->first, nr),
	       range(text[1], sizeof(text[1]), r->slot[PAGEDKV_DEVICE], nr),
	       range(text[2], sizeof(text[2]), r->slot[PAGEDKV_HOST], nr),
	       range(text[3], sizeof(text[3]), r->slot[PAGEDKV_DISK], nr),
	       r->nr_seqs, r->state_name, r->published ? "yes" : "no");
	return 0;
}

static int print_runs(struct map *m)
{
	int ret = for_each_run(m, print_run);

	if (!ret)
		printf("%s%" PRIu64 " pages in %" PRIu64 " runs\n", m->nr_runs ? "\n" : "",
		       m->nr_pages, m->nr_runs);
	return ret;
}

/* ------------------------------------------------------------------- JSON */

static json_t *json_range(uint32_t first, uint32_t nr)
{
	if (first == PAGEDKV_NO_SLOT)
		return json_null();
	return json_pack("[I, I]", (json_int_t)first, (json_int_t)first + nr - 1);
}

static int print_json_run(struct map *m, const struct pkv_proc_run *r)
{
	uint32_t nr = r->last - r->first + 1;
	json_t *obj = json_pack("{s:I, s:o, s:o, s:o, s:o, s:I, s:s, s:b}",
				"class", (json_int_t)r->class_id, "pages", json_range(r->first, nr),
				"device", json_range(r->slot[PAGEDKV_DEVICE], nr),
				"host", json_range(r->slot[PAGEDKV_HOST], nr),
				"disk", json_range(r->slot[PAGEDKV_DISK], nr),
				"sequences", (json_int_t)r->nr_seqs, "state", r->state_name,
				"published", r->published);

	if (!obj)
		return pkvrt_why(m->proc.why, sizeof(m->proc.why), -ENOMEM, "no memory");
	fputs(m->nr_runs ? ",\n    " : "\n    ", stdout);
	/* what can't be written main() tells at the end */
	json_dumpf(obj, stdout, JSON_COMPACT);
	json_decref(obj);
	return 0;
}

/* A run at a time, for the same reason. */
static int print_json(struct map *m)
{
	int ret;

	printf("{\n  \"id\": %u,\n  \"name\": %s%s%s,\n  \"runs\": [", m->pool.id,
	       m->pool.name[0] ? "\"" : "", m->pool.name[0] ? m->pool.name : "null",
	       m->pool.name[0] ? "\"" : "");
	ret = for_each_run(m, print_json_run);
	printf("%s],\n  \"nr_runs\": %" PRIu64 ",\n  \"nr_pages\": %" PRIu64 "\n}\n",
	       m->nr_runs ? "\n  " : "", m->nr_runs, m->nr_pages);
	return ret;
}

/* ---------------------------------------------------------------- picture */

static enum pkv_mark mark_of(const struct pkv_proc_run *r)
{
	static const enum pkv_mark marks[PKV_NR_PAGE_STATES + 1] = {
		[PKV_HELD] = PKV_MARK_HELD,
		[PKV_IDLE] = PKV_MARK_IDLE,
		[PKV_CACHED] = PKV_MARK_CACHED,
		[PKV_MOVING] = PKV_MARK_MOVING,
		[PKV_LOST] = PKV_MARK_LOST,
		[PKV_NR_PAGE_STATES] = PKV_MARK_OTHER,
	};

	return r->state == PKV_HELD && r->nr_seqs > 1 ? PKV_MARK_SHARED : marks[r->state];
}

static int draw_run(struct map *m, const struct pkv_proc_run *r)
{
	for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
		if (r->slot[t] != PAGEDKV_NO_SLOT)
			pkv_grid_add(&m->grids[r->class_id][t], r->slot[t],
				     r->last - r->first + 1, mark_of(r));
	return 0;
}

static void print_grid(const struct map *m, uint32_t class_id, int tier)
{
	const struct pkv_grid *g = &m->grids[class_id][tier];
	uint64_t used = 0;
	bool any = false;

	for (int i = 0; i < PKV_NR_MARKS; i++)
		used += g->totals[i];
	if (m->limits.nr_classes > 1)
		printf("class %u, ", class_id);
	printf("%s: %" PRIu64 " of %u slots", pkv_tier_names[tier], used, g->nr_slots);
	for (int i = 0; i < PKV_NR_MARKS; i++) {
		if (!g->totals[i])
			continue;
		printf("%s%" PRIu64 " %s", any ? ", " : ": ", g->totals[i], pkv_mark_names[i]);
		any = true;
	}
	putchar('\n');
	if (used)
		pkv_grid_print(g, stdout, &m->term, m->width, "  ");
	putchar('\n');
}

static int make_grids(struct map *m)
{
	unsigned int wide = m->term.width > 8 ? m->term.width - 4 : 4;
	int ret = 0;

	m->width = !m->term.tty ? PLAIN_WIDTH : wide < MAX_WIDTH ? wide : MAX_WIDTH;
	for (int i = 0; i < PAGEDKV_MAX_CLASSES; i++)
		for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
			ret |= pkv_grid_init(&m->grids[i][t],
					     m->limits.classes[i].tiers[t].nr_slots,
					     m->width * MAX_ROWS);
	return ret ? pkvrt_why(m->proc.why, sizeof(m->proc.why), -ENOMEM, "no memory") : 0;
}

static int print_grids(struct map *m)
{
	int ret = make_grids(m);

	if (!ret)
		ret = for_each_run(m, draw_run);
	for (uint32_t i = 0; !ret && i < m->limits.nr_classes; i++)
		for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
			if (m->grids[i][t].nr_slots && (m->o->tier == ANY ||
							m->o->tier == (uint32_t)t))
				print_grid(m, i, t);
	if (!ret)
		pkv_grid_legend(stdout, &m->term);
	for (int i = 0; i < PAGEDKV_MAX_CLASSES; i++)
		for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
			pkv_grid_exit(&m->grids[i][t]);
	return ret;
}

static int show(struct map *m)
{
	const struct map_options *o = m->o;

	if (o->json)
		return print_json(m);
	return o->grid || (m->term.tty && !o->runs) ? print_grids(m) : print_runs(m);
}

int pkv_map_main(int argc, char **argv)
{
	struct map_options o = { .tier = ANY, .state = ANY };
	struct map *m;
	int first, status;

	if (!pkv_admin_options(&options, &o, &o.help, argc, argv, &first, &status))
		return status;
	if (o.json + o.grid + o.runs > 1)
		return pkv_complain("map", "--json, --grid and --runs exclude each other",
				    PKV_EXIT_USAGE);
	m = calloc(1, sizeof(*m));
	if (!m)
		return pkv_complain("map", "no memory", PKV_EXIT_FAILED);
	m->o = &o;
	if (o.seq && !pkv_parse_handle(o.seq, &m->seq_index, &m->seq_generation)) {
		status = pkv_complain("map", "--seq: a sequence is written index.generation",
				      PKV_EXIT_USAGE);
		goto free_map;
	}
	pkv_term_init(&m->term, stdout);
	if (pkv_proc_open(&m->proc)) {
		status = pkv_complain("map", m->proc.why, PKV_EXIT_FAILED);
		goto free_map;
	}
	if (pkv_proc_find(&m->proc, argv[first], &m->pool) ||
	    pkv_proc_limits(&m->proc, m->pool.id, &m->limits) ||
	    (o.seq && find_extents(m)) || show(m))
		status = pkv_complain("map", m->proc.why, PKV_EXIT_FAILED);
	pkv_proc_close(&m->proc);
	free(m->extents);
free_map:
	free(m);
	return status;
}
