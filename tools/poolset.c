// SPDX-License-Identifier: GPL-2.0-only
/* `pagedkv pool create`, `limit` and `destroy`: through the library, as any user of it. */
#include <errno.h>
#include <grp.h>
#include <linux/securebits.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "admin.h"
#include "term.h"

#define MAX_PAGES	(1u << 28)
#define NOT_GIVEN	UINT32_MAX

/* What the library's errors mean for who administers pools. */
static const char *explain(int err)
{
	switch (err) {
	case -ENOENT: return "there is no such pool";
	case -EACCES: return "you may not: it is another user's, or takes an administrator";
	case -EEXIST: return "there is a pool of that name";
	case -EDQUOT: return "more pools, or more host memory, than the user may have";
	case -ENOMEM: return "no memory for it, or more than RLIMIT_MEMLOCK allows";
	case -EOVERFLOW: return "larger than a pool can be";
	case -EINVAL: return "the module takes it for a wrong value";
	default: return strerror(-err);
	}
}

static int fail(const char *command, const char *pool, int err)
{
	char why[PKVRT_WHY_LEN];

	pkvrt_why(why, sizeof(why), err, "%.64s: %s", pool, explain(err));
	return pkv_complain(command, why, PKV_EXIT_FAILED);
}

/* Returns 0, or the exit status after a complaint. */
static int open_device(struct pagedkv **kv, const char *command)
{
	const struct pagedkv_params params = {
		.size = sizeof(params),
		.backend = PAGEDKV_BACKEND_KMOD,
	};
	int err = pagedkv_open(kv, &params);

	switch (err) {
	case 0:
		return 0;
	case -ENOENT:
		return pkv_complain(command, "the module is not loaded: there is no /dev/pagedkv "
				    "('modprobe pagedkv' loads it)", PKV_EXIT_FAILED);
	case -EACCES:
		return pkv_complain(command, "/dev/pagedkv is for root and its group",
				    PKV_EXIT_FAILED);
	default:
		return pkv_complain(command, strerror(-err), PKV_EXIT_FAILED);
	}
}

/* ----------------------------------------------------------------- create */

struct create_options {
	uint32_t pages[PAGEDKV_NR_TIERS];
	uint32_t page_tokens;
	uint64_t page_bytes;
	uint32_t low_pct, high_pct;
	uint32_t max_seqs, max_moves;
	uint32_t mode;
	const char *owner, *group;
	uint64_t fingerprint;
	bool help;
};

static int set_mode(const char *text, void *out, const char **cause)
{
	uint32_t mode = 0;

	*cause = "is not a mode from 0 to 0666, octal";
	for (const char *c = text; *c; c++) {
		if (*c < '0' || *c > '7' || mode > 0777)
			return -EINVAL;
		mode = 8 * mode + (uint32_t)(*c - '0');
	}
	if (!*text || mode & ~0666u)
		return -EINVAL;
	*(uint32_t *)out = mode;
	return 0;
}

static int set_fingerprint(const char *text, void *out, const char **cause)
{
	uint64_t v = 0;
	size_t len = strspn(text, "0123456789abcdefABCDEF");

	*cause = "is not 1 to 16 hexadecimal digits";
	if (!len || len > 16 || text[len])
		return -EINVAL;
	for (const char *c = text; *c; c++)
		v = v << 4 | (uint64_t)(*c <= '9' ? *c - '0' : (*c | 0x20) - 'a' + 10);
	*(uint64_t *)out = v;
	return 0;
}

#define CREATE(member) offsetof(struct create_options, member)
static const struct pkv_opt create_table[] = {
	PKV_OPT_HEADING("Size"),
	PKV_OPT_RANGE("device-pages", SIZE, CREATE(pages[PAGEDKV_DEVICE]), 1, MAX_PAGES, "N",
		      "pages of the device tier; has to be given"),
	PKV_OPT_RANGE("host-pages", SIZE, CREATE(pages[PAGEDKV_HOST]), 0, MAX_PAGES, "N",
		      "pages of host memory, taken at once (default 0)"),
	PKV_OPT_RANGE("disk-pages", SIZE, CREATE(pages[PAGEDKV_DISK]), 0, MAX_PAGES, "N",
		      "pages of the disk tier (default 0)"),
	PKV_OPT_RANGE("page-tokens", POWER, CREATE(page_tokens), 1, 1024, "N",
		      "tokens of a page, a power of two (default 16)"),
	PKV_OPT_VALUE("page-bytes", BYTES, CREATE(page_bytes), "N",
		      "bytes of a page in every tier; has to be given"),
	PKV_OPT_RANGE("low-pct", COUNT, CREATE(low_pct), 0, 100, "P",
		      "begin to evict when less than P % of device or host\n"
		      "are free (default 2)"),
	PKV_OPT_RANGE("high-pct", COUNT, CREATE(high_pct), 0, 100, "P",
		      "and go on until P % are (default 4)"),
	PKV_OPT_RANGE("max-seqs", SIZE, CREATE(max_seqs), 1, 1u << 24, "N",
		      "sequences at once (default 65536)"),
	PKV_OPT_RANGE("max-moves", SIZE, CREATE(max_moves), 1, 1u << 20, "N",
		      "evictions in flight at once (default 1024)"),
	PKV_OPT_HEADING("Identity"),
	PKV_OPT_SET("mode", set_mode, CREATE(mode), "MODE",
		    "who may open and read it, octal (default 0600)"),
	PKV_OPT_VALUE("owner", TEXT, CREATE(owner), "USER",
		      "whose it is: takes root (default: yours)"),
	PKV_OPT_VALUE("group", TEXT, CREATE(group), "GROUP",
		      "takes root (default: the owner's)"),
	PKV_OPT_SET("fingerprint", set_fingerprint, CREATE(fingerprint), "HEX",
		    "of the model; who opens it has to know it (default 0)"),
	PKV_OPT_HEADING("Other"),
	PKV_OPT_SWITCH("help", CREATE(help), "print this text"),
};

static const struct pkv_opts create_opts = {
	.command = "pool create",
	.args = "NAME",
	.about = "Create a pool that stays, with what is cached in it, until it is destroyed.\n",
	.table = create_table,
	.nr = sizeof(create_table) / sizeof(create_table[0]),
	.help = offsetof(struct create_options, help),
	.min_args = 1,
	.max_args = 1,
};

static const char *check_create(const struct create_options *o)
{
	if (!o->pages[PAGEDKV_DEVICE])
		return "--device-pages has to be given";
	if (!o->page_bytes)
		return "--page-bytes has to be given";
	if (o->low_pct > o->high_pct)
		return "--low-pct is above --high-pct";
	return NULL;
}

/* A user's or group's name or number; false where there is none. */
static bool find_id(const char *text, bool is_user, uint32_t *id, uint32_t *its_group)
{
	const struct passwd *user = is_user ? getpwnam(text) : NULL;
	const struct group *group = is_user ? NULL : getgrnam(text);
	const char *end;
	uint64_t v;

	if (user) {
		*id = user->pw_uid;
		*its_group = user->pw_gid;
		return true;
	}
	if (group) {
		*id = group->gr_gid;
		return true;
	}
	if (!pkv_parse_u64(text, &end, &v) || *end || v >= UINT32_MAX)
		return false;
	*id = (uint32_t)v;
	user = is_user ? getpwuid(*id) : NULL;
	*its_group = user ? user->pw_gid : *id;
	return true;
}

/*
 * Be another user with root's capabilities: a pool's owner is who opens the device, and the
 * administrator's limits are what holds for a pool that an administrator makes.
 */
static int become(const struct create_options *o)
{
	uint32_t uid = geteuid(), gid = getegid(), unused;
	char why[PKVRT_WHY_LEN];
	int bits;

	if (o->owner && !find_id(o->owner, true, &uid, &gid)) {
		pkvrt_why(why, sizeof(why), 0, "--owner: there is no user '%.64s'", o->owner);
		return pkv_complain("pool create", why, PKV_EXIT_USAGE);
	}
	if (o->group && !find_id(o->group, false, &gid, &unused)) {
		pkvrt_why(why, sizeof(why), 0, "--group: there is no group '%.64s'", o->group);
		return pkv_complain("pool create", why, PKV_EXIT_USAGE);
	}
	if (uid == geteuid() && gid == getegid())
		return 0;
	bits = prctl(PR_GET_SECUREBITS);
	if (bits < 0 || prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) ||
	    setegid(gid) || seteuid(uid))
		return pkv_complain("pool create", "--owner, --group: only root makes pools for "
				    "others", PKV_EXIT_FAILED);
	return 0;
}

static int create_pool(struct pagedkv *kv, const char *name, const struct create_options *o)
{
	struct pagedkv_pool_params p = {
		.size = sizeof(p),
		.nr_classes = 1,
		.name = name,
		.max_seqs = o->max_seqs,
		.max_moves = o->max_moves,
		.mode = o->mode,
		.fingerprint = o->fingerprint,
	}, found = { .size = sizeof(found), .name = name };
	struct pagedkv_class_params *c = &p.classes[0];
	struct pagedkv_pool *pool;
	int err;

	/* to create a pool that is there is to open it: not what was asked for */
	err = pagedkv_pool_open(kv, &pool, &found);
	if (err == -EINVAL)
		return pkv_complain("pool create", "NAME: 1 to 63 letters, digits, '.', '_' and "
				    "'-', and no '.' in front", PKV_EXIT_USAGE);
	if (err != -ENOENT)
		return fail("pool create", name, err && err != -EACCES ? err : -EEXIST);
	c->page_tokens = o->page_tokens;
	c->page_bytes = o->page_bytes;
	memcpy(c->nr_slots, o->pages, sizeof(c->nr_slots));
	for (int t = PAGEDKV_DEVICE; t <= PAGEDKV_HOST; t++) {
		c->low[t] = (uint32_t)((uint64_t)o->pages[t] * o->low_pct / 100);
		c->high[t] = (uint32_t)((uint64_t)o->pages[t] * o->high_pct / 100);
	}
	err = pagedkv_pool_create(kv, &pool, &p);
	return err ? fail("pool create", name, err) : 0;
}

int pkv_pool_create_main(int argc, char **argv)
{
	struct create_options o = {
		.page_tokens = 16,
		.low_pct = 2,
		.high_pct = 4,
		.mode = 0600,
	};
	struct pagedkv *kv;
	const char *cause;
	int first, status;

	if (!pkv_admin_options(&create_opts, &o, &o.help, argc, argv, &first, &status))
		return status;
	cause = check_create(&o);
	if (cause)
		return pkv_complain("pool create", cause, PKV_EXIT_USAGE);
	status = become(&o);
	if (!status)
		status = open_device(&kv, "pool create");
	if (status)
		return status;
	status = create_pool(kv, argv[first], &o);
	pagedkv_close(kv);
	return status;
}

/* ------------------------------------------------------------------ limit */

struct limit_options {
	uint32_t pages[PAGEDKV_NR_TIERS];
	uint32_t class_id;
	bool ceiling, help;
};

#define LIMIT(member) offsetof(struct limit_options, member)
static const struct pkv_opt limit_table[] = {
	PKV_OPT_RANGE("device-pages", SIZE, LIMIT(pages[PAGEDKV_DEVICE]), 0, MAX_PAGES, "N",
		      "use at most N pages of the device tier"),
	PKV_OPT_RANGE("host-pages", SIZE, LIMIT(pages[PAGEDKV_HOST]), 0, MAX_PAGES, "N",
		      "of host memory"),
	PKV_OPT_RANGE("disk-pages", SIZE, LIMIT(pages[PAGEDKV_DISK]), 0, MAX_PAGES, "N",
		      "of the disk tier"),
	PKV_OPT_RANGE("class", COUNT, LIMIT(class_id), 0, PAGEDKV_MAX_CLASSES - 1, "N",
		      "of this page class (default 0)"),
	PKV_OPT_SWITCH("ceiling", LIMIT(ceiling),
		       "and let nobody but root set it higher again"),
	PKV_OPT_SWITCH("help", LIMIT(help), "print this text"),
};

static const struct pkv_opts limit_opts = {
	.command = "pool limit",
	.args = "POOL",
	.about =
		"Limit how many pages of a tier a pool may use. Pages above a lowered limit\n"
		"leave as they become idle. Its owner may, up to the ceiling.\n\n",
	.table = limit_table,
	.nr = sizeof(limit_table) / sizeof(limit_table[0]),
	.help = offsetof(struct limit_options, help),
	.min_args = 1,
	.max_args = 1,
};

/* All that can be wrong is found before anything is changed. */
static int check_limits(const struct limit_options *o, const struct pkv_proc_pool *p,
			const struct pkv_proc_limits *l)
{
	char why[PKVRT_WHY_LEN] = "";
	bool any = false;

	if (o->class_id >= l->nr_classes)
		pkvrt_why(why, sizeof(why), 0, "--class: the pool has no class %u", o->class_id);
	for (int t = 0; !*why && t < PAGEDKV_NR_TIERS; t++) {
		uint32_t slots = l->classes[o->class_id].tiers[t].nr_slots;

		any |= o->pages[t] != NOT_GIVEN;
		if (o->pages[t] != NOT_GIVEN && o->pages[t] > slots)
			pkvrt_why(why, sizeof(why), 0, "--%s-pages: '%u' is more than the %u "
				  "that there are", pkv_tier_names[t], o->pages[t], slots);
	}
	if (!*why && !any)
		pkvrt_why(why, sizeof(why), 0,
			  "no limit is given: see 'pagedkv pool limit --help'");
	if (*why)
		return pkv_complain("pool limit", why, PKV_EXIT_USAGE);
	if (!p->name[0])
		return pkv_complain("pool limit", "a pool without a name has its creator's limits",
				    PKV_EXIT_FAILED);
	return 0;
}

static int set_limits(struct pagedkv *kv, const struct pkv_proc_pool *which,
		      const struct limit_options *o)
{
	struct pagedkv_pool_params p = {
		.size = sizeof(p),
		.name = which->name,
		.fingerprint = which->fingerprint,
	};
	struct pagedkv_pool *pool;
	int err = pagedkv_pool_open(kv, &pool, &p);

	for (uint32_t t = 0; !err && t < PAGEDKV_NR_TIERS; t++) {
		if (o->pages[t] == NOT_GIVEN)
			continue;
		if (o->ceiling)
			err = pagedkv_pool_set_ceiling(pool, o->class_id, t, o->pages[t]);
		else
			err = pagedkv_pool_set_limit(pool, o->class_id, t, o->pages[t]);
	}
	return err ? fail("pool limit", which->name, err) : 0;
}

int pkv_pool_limit_main(int argc, char **argv)
{
	struct limit_options o = { .pages = { NOT_GIVEN, NOT_GIVEN, NOT_GIVEN } };
	struct pkv_proc_limits l;
	struct pkv_proc_pool p;
	struct pagedkv *kv;
	struct pkv_proc proc;
	int first, status;

	if (!pkv_admin_options(&limit_opts, &o, &o.help, argc, argv, &first, &status))
		return status;
	if (pkv_proc_open(&proc))
		return pkv_complain("pool limit", proc.why, PKV_EXIT_FAILED);
	if (pkv_proc_find(&proc, argv[first], &p) || pkv_proc_limits(&proc, p.id, &l))
		status = pkv_complain("pool limit", proc.why, PKV_EXIT_FAILED);
	else
		status = check_limits(&o, &p, &l);
	pkv_proc_close(&proc);
	if (!status)
		status = open_device(&kv, "pool limit");
	if (status)
		return status;
	status = set_limits(kv, &p, &o);
	pagedkv_close(kv);
	return status;
}

/* ---------------------------------------------------------------- destroy */

struct destroy_options {
	bool help;
};

static const struct pkv_opt destroy_table[] = {
	PKV_OPT_SWITCH("help", offsetof(struct destroy_options, help), "print this text"),
};

static const struct pkv_opts destroy_opts = {
	.command = "pool destroy",
	.args = "POOL...",
	.about =
		"Take the names of pools away. A pool goes, with all that is cached in it, as\n"
		"soon as nobody uses it; until then it works on for those who do.\n\n",
	.table = destroy_table,
	.nr = sizeof(destroy_table) / sizeof(destroy_table[0]),
	.help = offsetof(struct destroy_options, help),
	.min_args = 1,
	.max_args = INT_MAX,
};

static int destroy(struct pagedkv *kv, struct pkv_proc *proc, const char *which)
{
	struct pkv_proc_pool p;
	int err;

	/* What can't be read may still be there, and the caller's. */
	if (pkv_proc_find(proc, which, &p)) {
		memset(&p, 0, sizeof(p));
		if (strlen(which) >= sizeof(p.name))
			return fail("pool destroy", which, -ENOENT);
		strcpy(p.name, which);
	}
	if (!p.name[0])
		return pkv_complain("pool destroy", "a pool without a name goes with its client",
				    PKV_EXIT_FAILED);
	err = pagedkv_pool_remove(kv, p.name);
	if (err)
		return fail("pool destroy", which, err == -EINVAL ? -ENOENT : err);
	if (p.nr_clients)
		printf("%s: goes with its last client, of %u now\n", p.name, p.nr_clients);
	return 0;
}

int pkv_pool_destroy_main(int argc, char **argv)
{
	struct destroy_options o = { 0 };
	struct pkv_proc proc;
	struct pagedkv *kv;
	int first, status, failed = 0;

	if (!pkv_admin_options(&destroy_opts, &o, &o.help, argc, argv, &first, &status))
		return status;
	if (pkv_proc_open(&proc))
		return pkv_complain("pool destroy", proc.why, PKV_EXIT_FAILED);
	status = open_device(&kv, "pool destroy");
	if (!status) {
		for (int i = first; i < argc; i++)
			failed |= destroy(kv, &proc, argv[i]);
		pagedkv_close(kv);
	}
	pkv_proc_close(&proc);
	return status ? status : failed;
}
