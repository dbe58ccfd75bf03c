/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The commands for the administrator of a machine with the kernel module. Each takes argv with
 * its name in front, prints to stdout, one line of an error to stderr, and returns the exit
 * status: 0, 1 it could not, 2 bad usage.
 */
#ifndef PKV_ADMIN_H
#define PKV_ADMIN_H

#include <jansson.h>

#include "optparse.h"
#include "proc.h"

#define PKV_EXIT_FAILED	1
#define PKV_EXIT_USAGE	2

int pkv_status_main(int argc, char **argv);
int pkv_pool_main(int argc, char **argv);
int pkv_map_main(int argc, char **argv);
int pkv_stat_main(int argc, char **argv);

/* poolcmd.c dispatches to these; poolset.c has those that change something. */
int pkv_pool_create_main(int argc, char **argv);
int pkv_pool_limit_main(int argc, char **argv);
int pkv_pool_destroy_main(int argc, char **argv);

/* "pagedkv COMMAND: WHY" on stderr. Returns @status. */
int pkv_complain(const char *command, const char *why, int status);

/*
 * Parse a command's options, print its help where asked for.
 * Return: true where the command goes on, else *@status is its exit status.
 */
bool pkv_admin_options(const struct pkv_opts *opts, void *out, const bool *help, int argc,
		       char **argv, int *first, int *status);

/* Prints and frees an object, NULL where there was no memory for it. Returns the exit status. */
int pkv_print_object(const char *command, json_t *obj, size_t flags);

/* JSON's integer is signed; a figure above stays at its top. */
static inline json_t *pkv_json_number(uint64_t v)
{
	return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v);
}

/* Names of users and groups, or their number. Into a buffer of PKV_USER_LEN, which it returns. */
#define PKV_USER_LEN	40u
const char *pkv_user_name(char *buf, uint32_t uid);
const char *pkv_group_name(char *buf, uint32_t gid);

/* What a tier of a pool holds, in bytes; 0 where page sizes are not told. */
uint64_t pkv_tier_bytes(const struct pkv_proc_limits *l, uint32_t tier, bool used);

#endif
