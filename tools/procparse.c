// SPDX-License-Identifier: GPL-2.0-only
/* What the lines of /proc/pagedkv's files mean. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "optparse.h"
#include "proc.h"
#include "term.h"

#define MAX_POOLS	65536u

const char *const pkv_page_state_names[PKV_NR_PAGE_STATES] = {
	"held", "idle", "cached", "moving", "lost",
};

static uint32_t number32(struct pkv_procfile *f, unsigned int column)
{
	return (uint32_t)pkv_procfile_number(f, column, UINT32_MAX);
}

static void copy_text(char *to, size_t len, const struct pkv_procfile *f, unsigned int column)
{
	snprintf(to, len, "%s", pkv_procfile_text(f, column));
}

/* ------------------------------------------------------------------ pools */

enum { POOL_ID, POOL_NAME, POOL_UID, POOL_GID, POOL_MODE, POOL_PERSISTENT, POOL_CLIENTS,
       POOL_CLASSES, POOL_FINGERPRINT, NR_POOL_COLUMNS };

static const char *const pool_columns[NR_POOL_COLUMNS] = {
	"id", "name", "uid", "gid", "mode", "persistent", "clients", "classes", "fingerprint",
};

static int parse_pool(struct pkv_procfile *f, struct pkv_proc_pool *p)
{
	p->id = (uint32_t)pkv_procfile_number(f, POOL_ID, INT32_MAX);
	if (strlen(pkv_procfile_text(f, POOL_NAME)) >= sizeof(p->name))
		return pkv_procfile_refuse(f, "has a name of more than %zu letters",
					   sizeof(p->name) - 1);
	copy_text(p->name, sizeof(p->name), f, POOL_NAME);
	if (!strcmp(p->name, "-"))
		p->name[0] = '\0';
	p->uid = number32(f, POOL_UID);
	p->gid = number32(f, POOL_GID);
	p->mode = pkv_procfile_octal(f, POOL_MODE);
	p->persistent = pkv_procfile_number(f, POOL_PERSISTENT, 1);
	p->nr_clients = number32(f, POOL_CLIENTS);
	p->nr_classes = (uint32_t)pkv_procfile_number(f, POOL_CLASSES, PAGEDKV_MAX_CLASSES);
	p->fingerprint = pkv_procfile_hex(f, POOL_FINGERPRINT);
	return f->err;
}

int pkv_parse_pools(struct pkv_procfile *f, struct pkv_proc_pool **out, uint32_t *nr)
{
	struct pkv_proc_pool *pools = NULL, *more;
	uint32_t n = 0, cap = 0;
	int ret;

	ret = pkv_procfile_heading(f, pool_columns, NR_POOL_COLUMNS, NR_POOL_COLUMNS);
	if (ret)
		return ret;
	while ((ret = pkv_procfile_next(f)) > 0) {
		if (n == MAX_POOLS) {
			ret = pkv_procfile_refuse(f, "is of more than %u pools", MAX_POOLS);
			break;
		}
		if (n == cap) {
			cap = cap ? 2 * cap : 16;
			more = realloc(pools, cap * sizeof(*pools));
			if (!more) {
				ret = pkv_procfile_refuse(f, "is more than memory has room for");
				break;
			}
			pools = more;
		}
		ret = parse_pool(f, &pools[n]);
		if (ret)
			break;
		n++;
	}
	if (ret) {
		free(pools);
		return ret;
	}
	*out = pools;
	*nr = n;
	return 0;
}

/* ----------------------------------------------------------------- limits */

enum { LIMIT_CLASS, LIMIT_TIER, LIMIT_SLOTS, LIMIT_LIMIT, LIMIT_CEILING, LIMIT_USED, LIMIT_LOW,
       LIMIT_HIGH, LIMIT_STATE, LIMIT_PAGE_TOKENS, LIMIT_PAGE_BYTES, NR_LIMIT_COLUMNS };

static const char *const limit_columns[NR_LIMIT_COLUMNS] = {
	"class", "tier", "slots", "limit", "ceiling", "used", "low", "high", "state",
	"page_tokens", "page_bytes",
};

/* PAGEDKV_NR_TIERS: one that this version doesn't know. */
static uint32_t tier_of(const char *name)
{
	uint32_t t = 0;

	while (t < PAGEDKV_NR_TIERS && strcmp(name, pkv_tier_names[t]))
		t++;
	return t;
}

static void parse_tier(struct pkv_procfile *f, struct pkv_proc_tier *t)
{
	t->nr_slots = number32(f, LIMIT_SLOTS);
	t->limit = number32(f, LIMIT_LIMIT);
	t->ceiling = number32(f, LIMIT_CEILING);
	t->nr_used = number32(f, LIMIT_USED);
	t->low = number32(f, LIMIT_LOW);
	t->high = number32(f, LIMIT_HIGH);
	copy_text(t->state, sizeof(t->state), f, LIMIT_STATE);
	if (t->nr_used > t->nr_slots)
		pkv_procfile_refuse(f, "has more slots in use than there are");
}

int pkv_parse_limits(struct pkv_procfile *f, struct pkv_proc_limits *out)
{
	int ret;

	memset(out, 0, sizeof(*out));
	ret = pkv_procfile_heading(f, limit_columns, NR_LIMIT_COLUMNS, LIMIT_STATE + 1);
	if (ret)
		return ret;
	while ((ret = pkv_procfile_next(f)) > 0) {
		uint32_t i = (uint32_t)pkv_procfile_number(f, LIMIT_CLASS,
							   PAGEDKV_MAX_CLASSES - 1);
		uint32_t tier = tier_of(pkv_procfile_text(f, LIMIT_TIER));
		struct pkv_proc_class *c = &out->classes[i];

		if (out->nr_classes <= i)
			out->nr_classes = i + 1;
		if (pkv_procfile_has(f, LIMIT_PAGE_TOKENS))
			c->page_tokens = number32(f, LIMIT_PAGE_TOKENS);
		if (pkv_procfile_has(f, LIMIT_PAGE_BYTES))
			c->page_bytes = pkv_procfile_number(f, LIMIT_PAGE_BYTES, PKV_PROC_MAX);
		if (tier < PAGEDKV_NR_TIERS)
			parse_tier(f, &c->tiers[tier]);
		if (f->err)
			return f->err;
	}
	return ret;
}

/* ------------------------------------------------------------------- sums */

enum { SUM_TIER, SUM_SLOTS, SUM_FREE, SUM_IDLE, SUM_LEAVING, NR_SUM_COLUMNS };

static const char *const sum_columns[NR_SUM_COLUMNS] = {
	"tier", "slots", "free", "idle", "leaving",
};

int pkv_parse_tiers(struct pkv_procfile *f, struct pkv_proc_sum sums[PAGEDKV_NR_TIERS])
{
	int ret;

	memset(sums, 0, PAGEDKV_NR_TIERS * sizeof(*sums));
	ret = pkv_procfile_heading(f, sum_columns, NR_SUM_COLUMNS, NR_SUM_COLUMNS);
	if (ret)
		return ret;
	while ((ret = pkv_procfile_next(f)) > 0) {
		uint32_t tier = tier_of(pkv_procfile_text(f, SUM_TIER));
		struct pkv_proc_sum s = {
			.slots = pkv_procfile_number(f, SUM_SLOTS, PKV_PROC_MAX),
			.free = pkv_procfile_number(f, SUM_FREE, PKV_PROC_MAX),
			.idle = pkv_procfile_number(f, SUM_IDLE, PKV_PROC_MAX),
			.leaving = pkv_procfile_number(f, SUM_LEAVING, PKV_PROC_MAX),
		};

		if (s.free > s.slots)
			pkv_procfile_refuse(f, "has more free slots than there are");
		if (f->err)
			return f->err;
		if (tier < PAGEDKV_NR_TIERS)
			sums[tier] = s;
	}
	return ret;
}

/* "Name: 12 kB" as /proc/meminfo has it, and "name 12". */
int pkv_parse_counters(struct pkv_procfile *f, struct pkv_counters *out)
{
	int ret;

	out->nr = 0;
	f->nr_needed = 2;
	while ((ret = pkv_procfile_next(f)) > 0 && out->nr < PKV_MAX_COUNTERS) {
		struct pkv_counter *c = &out->list[out->nr++];
		size_t len;

		copy_text(c->name, sizeof(c->name), f, 0);
		len = strlen(c->name);
		if (len && c->name[len - 1] == ':')
			c->name[len - 1] = '\0';
		c->value = pkv_procfile_number(f, 1, PKV_PROC_MAX);
		c->is_kb = !strcmp(pkv_procfile_text(f, 2), "kB");
		if (f->err)
			return f->err;
	}
	return ret < 0 ? ret : 0;
}

const struct pkv_counter *pkv_counter_find(const struct pkv_counters *c, const char *name)
{
	for (uint32_t i = 0; i < c->nr; i++)
		if (!strcmp(c->list[i].name, name))
			return &c->list[i];
	return NULL;
}

uint64_t pkv_counter_value(const struct pkv_counters *c, const char *name)
{
	const struct pkv_counter *counter = pkv_counter_find(c, name);

	if (!counter)
		return 0;
	return counter->is_kb ? pkv_mul(counter->value, 1024) : counter->value;
}

/* ------------------------------------------------------- pages, sequences */

enum { RUN_CLASS, RUN_PAGES, RUN_DEVICE, RUN_HOST, RUN_DISK, RUN_SEQS, RUN_STATE, RUN_PUBLISHED,
       NR_RUN_COLUMNS };

static const char *const run_columns[NR_RUN_COLUMNS] = {
	"class", "pages", "device", "host", "disk", "sequences", "state", "published",
};

int pkv_parse_maps_heading(struct pkv_procfile *f)
{
	return pkv_procfile_heading(f, run_columns, NR_RUN_COLUMNS, NR_RUN_COLUMNS);
}

static void parse_slots(struct pkv_procfile *f, struct pkv_proc_run *r, uint32_t tier)
{
	uint32_t first, last;

	r->slot[tier] = PAGEDKV_NO_SLOT;
	if (!pkv_procfile_range(f, RUN_DEVICE + tier, &first, &last))
		return;
	if (last - first != r->last - r->first)
		pkv_procfile_refuse(f, "has '%.64s' slots for '%.64s' pages",
				    pkv_procfile_text(f, RUN_DEVICE + tier),
				    pkv_procfile_text(f, RUN_PAGES));
	r->slot[tier] = first;
}

int pkv_proc_next_run(struct pkv_procfile *f, struct pkv_proc_run *out)
{
	int ret = pkv_procfile_next(f);

	if (ret <= 0)
		return ret;
	memset(out, 0, sizeof(*out));
	out->class_id = (uint32_t)pkv_procfile_number(f, RUN_CLASS, PAGEDKV_MAX_CLASSES - 1);
	if (!pkv_procfile_range(f, RUN_PAGES, &out->first, &out->last))
		pkv_procfile_refuse(f, "has no pages");
	for (uint32_t t = 0; t < PAGEDKV_NR_TIERS; t++)
		parse_slots(f, out, t);
	out->nr_seqs = number32(f, RUN_SEQS);
	out->published = pkv_procfile_number(f, RUN_PUBLISHED, 1);
	out->state_name = pkv_procfile_text(f, RUN_STATE);
	while (out->state < PKV_NR_PAGE_STATES &&
	       strcmp(out->state_name, pkv_page_state_names[out->state]))
		out->state++;
	return f->err ? f->err : 1;
}

enum { SEQ_HANDLE, SEQ_CLIENT, SEQ_CLASS, SEQ_STATE, SEQ_TOKENS, SEQ_PAGES, SEQ_PRIORITY,
       SEQ_PINNED, NR_SEQ_COLUMNS };

static const char *const seq_columns[NR_SEQ_COLUMNS] = {
	"sequence", "client", "class", "state", "tokens", "pages", "priority", "pinned",
};

int pkv_parse_seqs_heading(struct pkv_procfile *f)
{
	return pkv_procfile_heading(f, seq_columns, NR_SEQ_COLUMNS, NR_SEQ_COLUMNS);
}

bool pkv_parse_handle(const char *text, uint32_t *index, uint32_t *generation)
{
	uint64_t i, g;
	const char *end;

	if (!pkv_parse_u64(text, &end, &i) || *end != '.' || i > UINT32_MAX ||
	    !pkv_parse_u64(end + 1, &end, &g) || *end || g > UINT32_MAX)
		return false;
	*index = (uint32_t)i;
	*generation = (uint32_t)g;
	return true;
}

static void parse_seq(struct pkv_procfile *f, unsigned int column, uint32_t *index,
		      uint32_t *generation)
{
	const char *text = pkv_procfile_text(f, column);

	if (!pkv_parse_handle(text, index, generation))
		pkv_procfile_refuse(f, "has '%.64s', which is not a sequence", text);
}

int pkv_proc_next_seq(struct pkv_procfile *f, struct pkv_proc_seq *out)
{
	int ret = pkv_procfile_next(f);

	if (ret <= 0)
		return ret;
	memset(out, 0, sizeof(*out));
	parse_seq(f, SEQ_HANDLE, &out->index, &out->generation);
	out->client = pkv_procfile_number(f, SEQ_CLIENT, PKV_PROC_MAX);
	out->class_id = (uint32_t)pkv_procfile_number(f, SEQ_CLASS, PAGEDKV_MAX_CLASSES - 1);
	out->state_name = pkv_procfile_text(f, SEQ_STATE);
	out->nr_tokens = number32(f, SEQ_TOKENS);
	out->nr_pages = number32(f, SEQ_PAGES);
	out->priority = number32(f, SEQ_PRIORITY);
	out->pinned = pkv_procfile_number(f, SEQ_PINNED, 1);
	return f->err ? f->err : 1;
}

enum { TABLE_SEQ, TABLE_CLASS, TABLE_ENTRIES, TABLE_PAGES, NR_TABLE_COLUMNS };

static const char *const table_columns[NR_TABLE_COLUMNS] = {
	"sequence", "class", "entries", "pages",
};

int pkv_parse_tables_heading(struct pkv_procfile *f)
{
	return pkv_procfile_heading(f, table_columns, NR_TABLE_COLUMNS, NR_TABLE_COLUMNS);
}

int pkv_proc_next_extent(struct pkv_procfile *f, struct pkv_proc_extent *out)
{
	int ret = pkv_procfile_next(f);

	if (ret <= 0)
		return ret;
	memset(out, 0, sizeof(*out));
	parse_seq(f, TABLE_SEQ, &out->index, &out->generation);
	out->class_id = (uint32_t)pkv_procfile_number(f, TABLE_CLASS, PAGEDKV_MAX_CLASSES - 1);
	if (!pkv_procfile_range(f, TABLE_PAGES, &out->first, &out->last))
		pkv_procfile_refuse(f, "has no pages");
	return f->err ? f->err : 1;
}

enum { FILE_NAME, FILE_BYTES, FILE_FINGERPRINT, FILE_UID, NR_FILE_COLUMNS };

static const char *const file_columns[NR_FILE_COLUMNS] = {
	"name", "bytes", "fingerprint", "uid",
};

int pkv_parse_files_heading(struct pkv_procfile *f)
{
	return pkv_procfile_heading(f, file_columns, NR_FILE_COLUMNS, NR_FILE_COLUMNS);
}

int pkv_proc_next_file(struct pkv_procfile *f, struct pkv_proc_file *out)
{
	int ret = pkv_procfile_next(f);

	if (ret <= 0)
		return ret;
	memset(out, 0, sizeof(*out));
	copy_text(out->name, sizeof(out->name), f, FILE_NAME);
	out->bytes = pkv_procfile_number(f, FILE_BYTES, PKV_PROC_MAX);
	out->fingerprint = pkv_procfile_hex(f, FILE_FINGERPRINT);
	out->uid = number32(f, FILE_UID);
	return f->err ? f->err : 1;
}
