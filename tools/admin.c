// SPDX-License-Identifier: GPL-2.0-only
/* What the administrator's commands have in common. */
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin.h"

int pkv_complain(const char *command, const char *why, int status)
{
	/* what has been printed comes first, where both go to one terminal */
	fflush(stdout);
	fprintf(stderr, "pagedkv %s: %s\n", command, why);
	return status;
}

bool pkv_admin_options(const struct pkv_opts *opts, void *out, const bool *help, int argc,
		       char **argv, int *first, int *status)
{
	char why[PKVRT_WHY_LEN];

	*status = 0;
	if (pkv_opts_parse(opts, out, argc, argv, first, why, sizeof(why))) {
		*status = pkv_complain(opts->command, why, PKV_EXIT_USAGE);
		return false;
	}
	if (*help)
		pkv_opts_help(stdout, opts);
	return !*help;
}

int pkv_print_object(const char *command, json_t *obj, size_t flags)
{
	char *text = obj ? json_dumps(obj, flags | JSON_REAL_PRECISION(9)) : NULL;
	int status = 0;

	if (text)
		puts(text);
	else
		status = pkv_complain(command, "no memory for the report", PKV_EXIT_FAILED);
	free(text);
	json_decref(obj);
	return status;
}

const char *pkv_user_name(char *buf, uint32_t uid)
{
	const struct passwd *user = getpwuid(uid);

	if (user)
		snprintf(buf, PKV_USER_LEN, "%s", user->pw_name);
	else
		snprintf(buf, PKV_USER_LEN, "%u", uid);
	return buf;
}

const char *pkv_group_name(char *buf, uint32_t gid)
{
	const struct group *group = getgrgid(gid);

	if (group)
		snprintf(buf, PKV_USER_LEN, "%s", group->gr_name);
	else
		snprintf(buf, PKV_USER_LEN, "%u", gid);
	return buf;
}

uint64_t pkv_tier_bytes(const struct pkv_proc_limits *l, uint32_t tier, bool used)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < l->nr_classes; i++) {
		const struct pkv_proc_class *c = &l->classes[i];
		const struct pkv_proc_tier *t = &c->tiers[tier];

		bytes = pkv_add(bytes, pkv_mul(used ? t->nr_used : t->nr_slots, c->page_bytes));
	}
	return bytes;
}
