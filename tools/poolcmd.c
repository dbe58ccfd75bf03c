// SPDX-License-Identifier: GPL-2.0-only
/* `pagedkv pool`: the list of pools, and one of them in full. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "admin.h"
#include "table.h"
#include "term.h"

#define MAX_SEQ_STATES	8u

struct pool_options {
	bool json, help;
};

static const struct pkv_opt table[] = {
	PKV_OPT_SWITCH("json", offsetof(struct pool_options, json), "print one JSON object"),
	PKV_OPT_SWITCH("help", offsetof(struct pool_options, help), "print this text"),
};

static const struct pkv_opts list_options = {
	.command = "pool",
	.about =
		"List the pools that you may read. Other commands:\n\n"
		"  pagedkv pool show POOL         one pool in full\n"
		"  pagedkv pool create NAME ...   a pool that stays until it is destroyed\n"
		"  pagedkv pool limit POOL ...    how much of a tier it may use\n"
		"  pagedkv pool destroy POOL...   destroy it, when its last client is gone\n\n"
		"POOL is a name or an id; each command has a --help of its own.\n\n",
	.table = table,
	.nr = sizeof(table) / sizeof(table[0]),
	.help = offsetof(struct pool_options, help),
};

static const struct pkv_opts show_options = {
	.command = "pool show",
	.args = "POOL",
	.about = "Show a pool: its owner, limits, tiers, sequences and files.\n\n",
	.table = table,
	.nr = sizeof(table) / sizeof(table[0]),
	.help = offsetof(struct pool_options, help),
	.min_args = 1,
	.max_args = 1,
};

static int fail(const struct pkv_opts *opts, const char *why)
{
	return pkv_complain(opts->command, why, PKV_EXIT_FAILED);
}

static json_t *json_pool(const struct pkv_proc_pool *p)
{
	char fingerprint[20], mode[8], owner[PKV_USER_LEN], group[PKV_USER_LEN];

	snprintf(fingerprint, sizeof(fingerprint), "%016" PRIx64, p->fingerprint);
	snprintf(mode, sizeof(mode), "%04o", p->mode);
	return json_pack("{s:I, s:o, s:I, s:s, s:I, s:s, s:s, s:b, s:I, s:I, s:s}",
			 "id", (json_int_t)p->id,
			 "name", p->name[0] ? json_string(p->name) : json_null(),
			 "uid", (json_int_t)p->uid, "owner", pkv_user_name(owner, p->uid),
			 "gid", (json_int_t)p->gid, "group", pkv_group_name(group, p->gid),
			 "mode", mode, "persistent", p->persistent,
			 "clients", (json_int_t)p->nr_clients,
			 "classes", (json_int_t)p->nr_classes, "fingerprint", fingerprint);
}

static json_t *json_classes(const struct pkv_proc_limits *l)
{
	json_t *classes = json_array(), *tiers;

	for (uint32_t i = 0; i < l->nr_classes; i++) {
		const struct pkv_proc_class *c = &l->classes[i];

		tiers = json_array();
		for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
			json_array_append_new(tiers, json_pack(
				"{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:o, s:o}",
				"tier", pkv_tier_names[t],
				"slots", (json_int_t)c->tiers[t].nr_slots,
				"used", (json_int_t)c->tiers[t].nr_used,
				"limit", (json_int_t)c->tiers[t].limit,
				"ceiling", (json_int_t)c->tiers[t].ceiling,
				"low", (json_int_t)c->tiers[t].low,
				"high", (json_int_t)c->tiers[t].high,
				"state", c->tiers[t].state,
				"bytes", pkv_json_number(pkv_mul(c->tiers[t].nr_slots,
								 c->page_bytes)),
				"used_bytes", pkv_json_number(pkv_mul(c->tiers[t].nr_used,
								      c->page_bytes))));
		json_array_append_new(classes, json_pack("{s:I, s:I, s:o, s:o}",
			"class", (json_int_t)i, "page_tokens", (json_int_t)c->page_tokens,
			"page_bytes", pkv_json_number(c->page_bytes), "tiers", tiers));
	}
	return classes;
}

/* ------------------------------------------------------------------- list */

static void add_row(struct pkv_table *t, const struct pkv_proc_pool *p,
		    const struct pkv_proc_limits *l)
{
	char owner[PKV_USER_LEN], group[PKV_USER_LEN], bytes[PKV_HUMAN_LEN];

	pkv_table_cell(t, "%u", p->id);
	pkv_table_cell(t, "%s", p->name[0] ? p->name : "-");
	pkv_table_cell(t, "%s", pkv_user_name(owner, p->uid));
	pkv_table_cell(t, "%s", pkv_group_name(group, p->gid));
	pkv_table_cell(t, "%04o", p->mode);
	pkv_table_cell(t, "%s", p->persistent ? "yes" : "no");
	pkv_table_cell(t, "%u", p->nr_clients);
	for (int tier = 0; tier < PAGEDKV_NR_TIERS; tier++) {
		uint64_t used = 0, slots = 0;

		for (uint32_t i = 0; i < l->nr_classes; i++) {
			used += l->classes[i].tiers[tier].nr_used;
			slots += l->classes[i].tiers[tier].nr_slots;
		}
		pkv_table_cell(t, "%" PRIu64 "/%" PRIu64, used, slots);
	}
	pkv_table_cell(t, "%s", pkv_human_bytes(bytes, pkv_tier_bytes(l, PAGEDKV_HOST, false)));
}

/* Calls for each pool that stays until it has been looked at. */
static int for_each_pool(struct pkv_proc *proc, void *arg,
			 void (*look)(void *arg, const struct pkv_proc_pool *p,
				      const struct pkv_proc_limits *l))
{
	struct pkv_proc_pool *pools;
	struct pkv_proc_limits l;
	uint32_t nr;
	int ret;

	ret = pkv_proc_pools(proc, &pools, &nr);
	if (ret)
		return ret;
	for (uint32_t i = 0; !ret && i < nr; i++) {
		ret = pkv_proc_limits(proc, pools[i].id, &l);
		if (!ret)
			look(arg, &pools[i], &l);
		else if (pkv_proc_is_gone(ret))
			ret = 0;
	}
	free(pools);
	return ret;
}

static void look_for_table(void *arg, const struct pkv_proc_pool *p,
			   const struct pkv_proc_limits *l)
{
	add_row(arg, p, l);
}

static void look_for_json(void *arg, const struct pkv_proc_pool *p,
			  const struct pkv_proc_limits *l)
{
	json_t *obj = json_pool(p);

	json_object_set_new(obj, "geometry", json_classes(l));
	json_array_append_new(arg, obj);
}

static int list_json(struct pkv_proc *proc)
{
	json_t *list = json_array();

	if (for_each_pool(proc, list, look_for_json)) {
		json_decref(list);
		return fail(&list_options, proc->why);
	}
	return pkv_print_object("pool", json_pack("{s:o}", "pools", list), JSON_INDENT(2));
}

static int list_text(struct pkv_proc *proc)
{
	static const char *const heading[] = {
		"id", "name", "owner", "group", "mode", "stays", "clients", "device", "host",
		"disk", "host memory",
	};
	struct pkv_table t;
	int status = 0;

	pkv_table_init(&t, "rlllllrrrrr");
	for (size_t i = 0; i < sizeof(heading) / sizeof(heading[0]); i++)
		pkv_table_cell(&t, "%s", heading[i]);
	if (for_each_pool(proc, &t, look_for_table))
		status = fail(&list_options, proc->why);
	else if (pkv_table_print(&t, stdout, ""))
		status = fail(&list_options, "no memory");
	pkv_table_exit(&t);
	return status;
}

static int list_main(int argc, char **argv)
{
	struct pool_options o = { 0 };
	struct pkv_proc proc;
	int status;

	if (!pkv_admin_options(&list_options, &o, &o.help, argc, argv, NULL, &status))
		return status;
	if (pkv_proc_open(&proc))
		return fail(&list_options, proc.why);
	status = o.json ? list_json(&proc) : list_text(&proc);
	pkv_proc_close(&proc);
	return status;
}

/* ------------------------------------------------------------------- show */

/* Sequences of a pool, counted. */
struct seq_sums {
	uint64_t nr, nr_tokens, nr_pinned;
	uint32_t nr_states;
	struct {
		char name[16];
		uint64_t nr;
	} states[MAX_SEQ_STATES];
};

static void count_state(struct seq_sums *s, const char *name)
{
	uint32_t i = 0;

	while (i < s->nr_states && strcmp(s->states[i].name, name))
		i++;
	if (i == MAX_SEQ_STATES)
		return;
	if (i == s->nr_states) {
		snprintf(s->states[i].name, sizeof(s->states[i].name), "%s", name);
		s->nr_states++;
	}
	s->states[i].nr++;
}

static int sum_seqs(struct pkv_proc *proc, uint32_t pool, struct seq_sums *s)
{
	struct pkv_procfile f;
	struct pkv_proc_seq seq;
	int ret = pkv_proc_open_seqs(proc, pool, &f);

	if (ret)
		return ret;
	memset(s, 0, sizeof(*s));
	while ((ret = pkv_proc_next_seq(&f, &seq)) > 0) {
		s->nr++;
		s->nr_tokens += seq.nr_tokens;
		s->nr_pinned += seq.pinned;
		count_state(s, seq.state_name);
	}
	return pkv_proc_done(proc, &f, ret);
}

/* Files that a pool keeps, in its file's order. */
struct kept_files {
	uint32_t nr;
	struct pkv_proc_file *list;
};

/* A module of before has no such file. The caller frees the list, whatever this returns. */
static int read_files(struct pkv_proc *proc, uint32_t pool, struct kept_files *kept)
{
	struct pkv_proc_file file, *list;
	struct pkv_procfile f;
	int ret = pkv_proc_open_files(proc, pool, &f);

	if (ret)
		return pkv_proc_is_gone(ret) ? 0 : ret;
	while ((ret = pkv_proc_next_file(&f, &file)) > 0) {
		list = reallocarray(kept->list, kept->nr + 1, sizeof(*list));
		if (!list) {
			ret = pkvrt_why(f.why, sizeof(f.why), -ENOMEM, "no memory");
			break;
		}
		kept->list = list;
		list[kept->nr++] = file;
	}
	return pkv_proc_done(proc, &f, ret);
}

static int show_files(const struct kept_files *kept)
{
	char bytes[PKV_HUMAN_LEN], owner[PKV_USER_LEN];
	struct pkv_table t;
	int ret;

	if (!kept->nr)
		return 0;
	puts("\nfiles kept for the next server\n");
	pkv_table_init(&t, "lrll");
	pkv_table_cell(&t, "name");
	pkv_table_cell(&t, "bytes");
	pkv_table_cell(&t, "fingerprint");
	pkv_table_cell(&t, "from");
	for (uint32_t i = 0; i < kept->nr; i++) {
		pkv_table_cell(&t, "%s", kept->list[i].name);
		pkv_table_cell(&t, "%s", pkv_human_bytes(bytes, kept->list[i].bytes));
		pkv_table_cell(&t, "%016" PRIx64, kept->list[i].fingerprint);
		pkv_table_cell(&t, "%s", pkv_user_name(owner, kept->list[i].uid));
	}
	ret = pkv_table_print(&t, stdout, "  ");
	pkv_table_exit(&t);
	return ret;
}

static json_t *json_files(const struct kept_files *kept)
{
	json_t *files = json_array();
	char fingerprint[20];

	for (uint32_t i = 0; i < kept->nr; i++) {
		snprintf(fingerprint, sizeof(fingerprint), "%016" PRIx64,
			 kept->list[i].fingerprint);
		json_array_append_new(files, json_pack("{s:s, s:I, s:s, s:I}",
			"name", kept->list[i].name, "bytes", (json_int_t)kept->list[i].bytes,
			"fingerprint", fingerprint, "uid", (json_int_t)kept->list[i].uid));
	}
	return files;
}

static int show_class(const struct pkv_proc_class *c, uint32_t i)
{
	static const char *const heading[] = {
		"tier", "slots", "used", "", "limit", "ceiling", "low", "high", "bytes", "state",
	};
	char bytes[PKV_HUMAN_LEN];
	struct pkv_table t;
	int ret;

	printf("\nclass %u", i);
	if (c->page_tokens)
		printf(": pages of %u tokens", c->page_tokens);
	if (c->page_bytes)
		printf(", %s", pkv_human_bytes(bytes, c->page_bytes));
	puts("\n");
	pkv_table_init(&t, "lrrrrrrrrl");
	for (size_t k = 0; k < sizeof(heading) / sizeof(heading[0]); k++)
		pkv_table_cell(&t, "%s", heading[k]);
	for (int k = 0; k < PAGEDKV_NR_TIERS; k++) {
		const struct pkv_proc_tier *tier = &c->tiers[k];

		pkv_table_cell(&t, "%s", pkv_tier_names[k]);
		pkv_table_cell(&t, "%u", tier->nr_slots);
		pkv_table_cell(&t, "%u", tier->nr_used);
		pkv_table_cell(&t, "%.0f %%", pkv_pct(tier->nr_used, tier->nr_slots));
		pkv_table_cell(&t, "%u", tier->limit);
		pkv_table_cell(&t, "%u", tier->ceiling);
		pkv_table_cell(&t, "%u", tier->low);
		pkv_table_cell(&t, "%u", tier->high);
		pkv_table_cell(&t, "%s", pkv_human_bytes(bytes, pkv_mul(tier->nr_slots,
									c->page_bytes)));
		pkv_table_cell(&t, "%s", tier->state);
	}
	ret = pkv_table_print(&t, stdout, "  ");
	pkv_table_exit(&t);
	return ret;
}

static int show_text(const struct pkv_proc_pool *p, const struct pkv_proc_limits *l,
		     const struct seq_sums *s, const struct kept_files *kept)
{
	char owner[PKV_USER_LEN], group[PKV_USER_LEN];
	int ret = 0;

	printf("%s (id %u)\n\n", p->name[0] ? p->name : "a pool without a name", p->id);
	printf("  owner        %s:%s, mode %04o\n", pkv_user_name(owner, p->uid),
	       pkv_group_name(group, p->gid), p->mode);
	printf("  life         %s\n", p->persistent ? "stays until it is destroyed" :
	       "goes with its last client");
	printf("  clients      %u\n", p->nr_clients);
	printf("  fingerprint  %016" PRIx64 "\n", p->fingerprint);
	printf("  sequences    %" PRIu64 ", %" PRIu64 " tokens", s->nr, s->nr_tokens);
	for (uint32_t i = 0; i < s->nr_states; i++)
		printf("%s%" PRIu64 " %s", i ? ", " : ": ", s->states[i].nr, s->states[i].name);
	if (s->nr_pinned)
		printf(", %" PRIu64 " pinned", s->nr_pinned);
	putchar('\n');
	for (uint32_t i = 0; !ret && i < l->nr_classes; i++)
		ret = show_class(&l->classes[i], i);
	if (!ret)
		ret = show_files(kept);
	return ret ? fail(&show_options, "no memory") : 0;
}

static int show_json(const struct pkv_proc_pool *p, const struct pkv_proc_limits *l,
		     const struct seq_sums *s, const struct kept_files *kept)
{
	json_t *obj = json_pool(p), *states = json_object();

	for (uint32_t i = 0; i < s->nr_states; i++)
		json_object_set_new(states, s->states[i].name, pkv_json_number(s->states[i].nr));
	json_object_set_new(obj, "sequences", pkv_json_number(s->nr));
	json_object_set_new(obj, "tokens", pkv_json_number(s->nr_tokens));
	json_object_set_new(obj, "sequences_pinned", pkv_json_number(s->nr_pinned));
	json_object_set_new(obj, "sequences_by_state", states);
	json_object_set_new(obj, "geometry", json_classes(l));
	json_object_set_new(obj, "files", json_files(kept));
	return pkv_print_object("pool show", obj, JSON_INDENT(2));
}

static int show_main(int argc, char **argv)
{
	struct pool_options o = { 0 };
	struct kept_files kept = { 0 };
	struct pkv_proc_limits l;
	struct pkv_proc_pool p;
	struct pkv_proc proc;
	struct seq_sums s;
	int first, status;

	if (!pkv_admin_options(&show_options, &o, &o.help, argc, argv, &first, &status))
		return status;
	if (pkv_proc_open(&proc))
		return fail(&show_options, proc.why);
	if (pkv_proc_find(&proc, argv[first], &p) || pkv_proc_limits(&proc, p.id, &l) ||
	    sum_seqs(&proc, p.id, &s) || read_files(&proc, p.id, &kept))
		status = fail(&show_options, proc.why);
	else
		status = o.json ? show_json(&p, &l, &s, &kept) : show_text(&p, &l, &s, &kept);
	free(kept.list);
	pkv_proc_close(&proc);
	return status;
}

int pkv_pool_main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*main)(int argc, char **argv);
	} commands[] = {
		{ "list", list_main },
		{ "show", show_main },
		{ "create", pkv_pool_create_main },
		{ "limit", pkv_pool_limit_main },
		{ "destroy", pkv_pool_destroy_main },
	};
	char why[PKVRT_WHY_LEN];

	if (argc < 2 || argv[1][0] == '-')
		return list_main(argc, argv);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].main(argc - 1, argv + 1);
	pkvrt_why(why, sizeof(why), 0, "no such command: '%.64s': see 'pagedkv pool --help'",
		  argv[1]);
	return pkv_complain("pool", why, PKV_EXIT_USAGE);
}
