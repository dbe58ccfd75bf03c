// SPDX-License-Identifier: GPL-2.0-only
/* `pagedkv status`: the module, its tiers and how full they are, who uses it, what is wrong. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "admin.h"
#include "table.h"
#include "term.h"

#define DEVICE		"/dev/pagedkv"
#define BAR_WIDTH	24u
#define MAX_WARNINGS	32u
#define WARNING_LEN	160u

struct user {
	uint32_t uid;
	uint32_t nr_pools;
	uint64_t nr_clients;
	uint64_t host_bytes;
};

struct status {
	struct pkv_proc proc;
	char version[64];
	struct utsname kernel;
	struct pkv_proc_sum sums[PAGEDKV_NR_TIERS];
	uint64_t bytes[PAGEDKV_NR_TIERS], used_bytes[PAGEDKV_NR_TIERS];
	struct pkv_counters stat, memory;
	uint32_t nr_pools, nr_persistent, nr_users, nr_warnings;
	uint64_t nr_clients;
	struct user *users;
	char warnings[MAX_WARNINGS][WARNING_LEN];
};

struct status_options {
	bool json, help;
};

static const struct pkv_opt table[] = {
	PKV_OPT_SWITCH("json", offsetof(struct status_options, json), "print one JSON object"),
	PKV_OPT_SWITCH("help", offsetof(struct status_options, help), "print this text"),
};

static const struct pkv_opts options = {
	.command = "status",
	.about =
		"Show the kernel module, its tiers and how full they are, and who uses it. Only\n"
		"pools that you may read are counted. Exit status: 0, 1 where the module is not\n"
		"loaded or can't be read, 2 bad usage.\n\n",
	.table = table,
	.nr = sizeof(table) / sizeof(table[0]),
	.help = offsetof(struct status_options, help),
};

__attribute__((format(printf, 2, 3)))
static void warn(struct status *s, const char *fmt, ...)
{
	va_list args;

	if (s->nr_warnings == MAX_WARNINGS)
		return;
	va_start(args, fmt);
	vsnprintf(s->warnings[s->nr_warnings++], WARNING_LEN, fmt, args);
	va_end(args);
}

/* Which file of the device there is for the caller, in words. */
static const char *device_access(bool *usable)
{
	*usable = !faccessat(AT_FDCWD, DEVICE, R_OK | W_OK, AT_EACCESS);
	if (*usable)
		return "is yours to open";
	return errno == EACCES ? "is not yours to open (its group may)" : "is not there";
}

static struct user *user_of(struct status *s, uint32_t uid)
{
	for (uint32_t i = 0; i < s->nr_users; i++)
		if (s->users[i].uid == uid)
			return &s->users[i];
	s->users[s->nr_users].uid = uid;
	return &s->users[s->nr_users++];
}

static void look_at_tiers(struct status *s, const struct pkv_proc_pool *pool,
			  const struct pkv_proc_limits *l)
{
	char id[16];

	snprintf(id, sizeof(id), "%u", pool->id);
	for (uint32_t i = 0; i < l->nr_classes; i++)
		for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
			if (l->classes[i].tiers[t].state[0] &&
			    strcmp(l->classes[i].tiers[t].state, "online"))
				warn(s, "pool %s: the %s tier of class %u is %s",
				     pool->name[0] ? pool->name : id, pkv_tier_names[t], i,
				     l->classes[i].tiers[t].state);
}

static int add_pool(struct status *s, const struct pkv_proc_pool *pool)
{
	struct user *user = user_of(s, pool->uid);
	struct pkv_proc_limits l;
	int ret;

	ret = pkv_proc_limits(&s->proc, pool->id, &l);
	if (ret)
		return pkv_proc_is_gone(ret) ? 0 : ret;
	s->nr_pools++;
	s->nr_persistent += pool->persistent;
	s->nr_clients += pool->nr_clients;
	user->nr_pools++;
	user->nr_clients += pool->nr_clients;
	user->host_bytes = pkv_add(user->host_bytes, pkv_tier_bytes(&l, PAGEDKV_HOST, false));
	for (uint32_t t = 0; t < PAGEDKV_NR_TIERS; t++) {
		s->bytes[t] = pkv_add(s->bytes[t], pkv_tier_bytes(&l, t, false));
		s->used_bytes[t] = pkv_add(s->used_bytes[t], pkv_tier_bytes(&l, t, true));
	}
	look_at_tiers(s, pool, &l);
	return 0;
}

static int add_pools(struct status *s)
{
	struct pkv_proc_pool *pools;
	uint32_t nr;
	int ret;

	ret = pkv_proc_pools(&s->proc, &pools, &nr);
	if (ret)
		return ret;
	s->users = calloc((size_t)nr + 1, sizeof(*s->users));
	if (!s->users)
		ret = pkvrt_why(s->proc.why, sizeof(s->proc.why), -ENOMEM, "no memory");
	for (uint32_t i = 0; !ret && i < nr; i++)
		ret = add_pool(s, &pools[i]);
	free(pools);
	return ret;
}

static int read_status(struct status *s)
{
	int ret;

	uname(&s->kernel);
	ret = pkv_proc_version(&s->proc, s->version, sizeof(s->version));
	if (!ret)
		ret = pkv_proc_tiers(&s->proc, s->sums);
	if (!ret)
		ret = pkv_proc_counters(&s->proc, "stat", &s->stat);
	if (!ret)
		ret = pkv_proc_counters(&s->proc, "meminfo", &s->memory);
	if (!ret)
		ret = add_pools(s);
	if (!ret && pkv_counter_value(&s->memory, "PagesLost"))
		warn(s, "%" PRIu64 " pages are lost: the sequences with them are computed again",
		     pkv_counter_value(&s->memory, "PagesLost"));
	return ret;
}

/* ------------------------------------------------------------------- text */

static int print_tiers(const struct status *s)
{
	char used[PKV_HUMAN_LEN], all[PKV_HUMAN_LEN], bar[4 * BAR_WIDTH + 32];
	struct pkv_table t;
	struct pkv_term term;
	int ret;

	pkv_term_init(&term, stdout);
	pkv_table_init(&t, "lrrrrrr");
	for (int i = 0; i < 7; i++)
		pkv_table_cell(&t, "%s", ((const char *const[]){
			"tier", "slots", "used", "", "idle", "bytes", "used" })[i]);
	for (int i = 0; i < PAGEDKV_NR_TIERS; i++) {
		const struct pkv_proc_sum *sum = &s->sums[i];
		uint64_t nr_used = sum->slots - sum->free;

		pkv_table_cell(&t, "%s", pkv_tier_names[i]);
		pkv_table_cell(&t, "%" PRIu64, sum->slots);
		pkv_table_cell(&t, "%" PRIu64, nr_used);
		pkv_table_cell(&t, "%.0f %%", pkv_pct(nr_used, sum->slots));
		pkv_table_cell(&t, "%" PRIu64, sum->idle);
		pkv_table_cell(&t, "%s", pkv_human_bytes(all, s->bytes[i]));
		pkv_table_cell(&t, "%s", pkv_human_bytes(used, s->used_bytes[i]));
	}
	ret = pkv_table_print(&t, stdout, "");
	pkv_table_exit(&t);
	for (int i = 0; term.tty && i < PAGEDKV_NR_TIERS; i++)
		if (s->sums[i].slots)
			printf("%s%-6s %s\n", i ? "" : "\n", pkv_tier_names[i],
			       pkv_bar(bar, sizeof(bar), &term, pkv_tier_colours[i], BAR_WIDTH,
				       s->sums[i].slots - s->sums[i].free, s->sums[i].slots));
	return ret;
}

static void print_sums(const struct status *s)
{
	char a[PKV_HUMAN_LEN], b[PKV_HUMAN_LEN], c[PKV_HUMAN_LEN];
	const struct pkv_counters *m = &s->memory;

	printf("\npools        %u (%u persistent), %" PRIu64 " clients, %" PRIu64 " sequences\n",
	       s->nr_pools, s->nr_persistent, s->nr_clients,
	       pkv_counter_value(&s->stat, "sequences"));
	printf("pages        %" PRIu64 ": %" PRIu64 " cached, %" PRIu64 " published, %" PRIu64
	       " lost\n", pkv_counter_value(m, "Pages"), pkv_counter_value(m, "PagesCached"),
	       pkv_counter_value(m, "PagesPublished"), pkv_counter_value(m, "PagesLost"));
	printf("moves        %" PRIu64 " in flight, %" PRIu64 " of them not fetched yet\n",
	       pkv_counter_value(&s->stat, "moves"), pkv_counter_value(&s->stat, "moves_queued"));
	printf("host memory  %s, %s of it in huge pages, %s locked\n",
	       pkv_human_bytes(a, pkv_counter_value(m, "HostTotal")),
	       pkv_human_bytes(b, pkv_counter_value(m, "HostHuge")),
	       pkv_human_bytes(c, pkv_counter_value(m, "HostLocked")));
	printf("metadata     %s\n", pkv_human_bytes(a, pkv_counter_value(m, "Metadata")));
}

static int print_users(const struct status *s)
{
	char name[PKV_USER_LEN], bytes[PKV_HUMAN_LEN];
	struct pkv_table t;
	int ret;

	if (!s->nr_users)
		return 0;
	putchar('\n');
	pkv_table_init(&t, "lrrr");
	for (int i = 0; i < 4; i++)
		pkv_table_cell(&t, "%s", ((const char *const[]){
			"user", "pools", "clients", "host memory" })[i]);
	for (uint32_t i = 0; i < s->nr_users; i++) {
		pkv_table_cell(&t, "%s", pkv_user_name(name, s->users[i].uid));
		pkv_table_cell(&t, "%u", s->users[i].nr_pools);
		pkv_table_cell(&t, "%" PRIu64, s->users[i].nr_clients);
		pkv_table_cell(&t, "%s", pkv_human_bytes(bytes, s->users[i].host_bytes));
	}
	ret = pkv_table_print(&t, stdout, "");
	pkv_table_exit(&t);
	return ret;
}

static int print_text(const struct status *s)
{
	bool usable;
	int ret;

	printf("pagedkv %s on Linux %s; " DEVICE " %s\n\n", s->version, s->kernel.release,
	       device_access(&usable));
	ret = print_tiers(s);
	print_sums(s);
	if (!ret)
		ret = print_users(s);
	for (uint32_t i = 0; i < s->nr_warnings; i++)
		printf("%swarning: %s\n", i ? "" : "\n", s->warnings[i]);
	return ret ? pkv_complain("status", "no memory for the report", PKV_EXIT_FAILED) : 0;
}

/* ------------------------------------------------------------------- JSON */

static json_t *json_tiers(const struct status *s)
{
	json_t *list = json_array();

	for (int i = 0; i < PAGEDKV_NR_TIERS; i++) {
		const struct pkv_proc_sum *sum = &s->sums[i];

		json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}",
			"tier", pkv_tier_names[i], "slots", pkv_json_number(sum->slots),
			"used", pkv_json_number(sum->slots - sum->free),
			"idle", pkv_json_number(sum->idle),
			"leaving", pkv_json_number(sum->leaving),
			"bytes", pkv_json_number(s->bytes[i]),
			"used_bytes", pkv_json_number(s->used_bytes[i])));
	}
	return list;
}

static json_t *json_users(const struct status *s)
{
	json_t *list = json_array();
	char name[PKV_USER_LEN];

	for (uint32_t i = 0; i < s->nr_users; i++)
		json_array_append_new(list, json_pack("{s:I, s:s, s:I, s:o, s:o}",
			"uid", (json_int_t)s->users[i].uid,
			"name", pkv_user_name(name, s->users[i].uid),
			"pools", (json_int_t)s->users[i].nr_pools,
			"clients", pkv_json_number(s->users[i].nr_clients),
			"host_bytes", pkv_json_number(s->users[i].host_bytes)));
	return list;
}

static json_t *json_warnings(const struct status *s)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < s->nr_warnings; i++)
		json_array_append_new(list, json_string(s->warnings[i]));
	return list;
}

static int print_json(const struct status *s)
{
	static const struct { const char *name, *counter; bool memory; } figures[] = {
		{ "sequences", "sequences", false },
		{ "moves", "moves", false },
		{ "moves_queued", "moves_queued", false },
		{ "pages", "Pages", true },
		{ "pages_cached", "PagesCached", true },
		{ "pages_published", "PagesPublished", true },
		{ "pages_lost", "PagesLost", true },
		{ "host_bytes", "HostTotal", true },
		{ "host_huge_bytes", "HostHuge", true },
		{ "host_locked_bytes", "HostLocked", true },
		{ "metadata_bytes", "Metadata", true },
	};
	json_t *obj;
	bool usable;

	device_access(&usable);
	obj = json_pack("{s:s, s:s, s:b, s:I, s:I, s:o, s:o, s:o, s:o}",
			"version", s->version, "kernel", s->kernel.release,
			"device_usable", usable, "pools", (json_int_t)s->nr_pools,
			"pools_persistent", (json_int_t)s->nr_persistent,
			"clients", pkv_json_number(s->nr_clients), "tiers", json_tiers(s),
			"users", json_users(s), "warnings", json_warnings(s));
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		json_object_set_new(obj, figures[i].name, pkv_json_number(
			pkv_counter_value(figures[i].memory ? &s->memory : &s->stat,
					  figures[i].counter)));
	return pkv_print_object("status", obj, JSON_INDENT(2));
}

int pkv_status_main(int argc, char **argv)
{
	struct status_options o = { 0 };
	struct status *s;
	int status;

	if (!pkv_admin_options(&options, &o, &o.help, argc, argv, NULL, &status))
		return status;
	s = calloc(1, sizeof(*s));
	if (!s)
		return pkv_complain("status", "no memory", PKV_EXIT_FAILED);
	if (pkv_proc_open(&s->proc)) {
		status = pkv_complain("status", s->proc.why, PKV_EXIT_FAILED);
		goto free_status;
	}
	if (read_status(s))
		status = pkv_complain("status", s->proc.why, PKV_EXIT_FAILED);
	else
		status = o.json ? print_json(s) : print_text(s);
	free(s->users);
	pkv_proc_close(&s->proc);
free_status:
	free(s);
	return status;
}
