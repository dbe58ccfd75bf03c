// SPDX-License-Identifier: GPL-2.0-only
/* The pagedkv command: a table of subcommands, each with its own options. */
#include <stdio.h>
#include <string.h>

#include "admin.h"
#include "options.h"
#include "run.h"
#include "why.h"

#define EXIT_USAGE	2

struct command {
	const char *name;
	const char *summary;
	int (*main)(int argc, char **argv);	/* argv[0] is the name; returns the exit status */
};

static int run_main(int argc, char **argv)
{
	struct pkv_options o;
	char why[PKVRT_WHY_LEN];

	if (pkv_options_parse(&o, argc, argv, why, sizeof(why))) {
		fprintf(stderr, "pagedkv run: %s\n", why);
		return EXIT_USAGE;
	}
	if (!o.help)
		return pkv_run(&o);
	pkv_options_help(stdout);
	return 0;
}

static const struct command commands[] = {
	{ "status", "show the kernel module, its tiers and who uses it", pkv_status_main },
	{ "pool", "list, show, create, limit and destroy pools", pkv_pool_main },
	{ "map", "show where the pages of a pool are", pkv_map_main },
	{ "stat", "print counters, once or as rates", pkv_stat_main },
	{ "run", "serve a batch of requests from a KV cache that swaps, and report", run_main },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int print_help(void)
{
	puts("usage: pagedkv COMMAND [OPTION]...\n"
	     "       pagedkv --help | --version\n\n"
	     "Virtual memory for the key-value caches of language models.\n\n"
	     "Commands:");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		printf("  %-8s %s\n", commands[i].name, commands[i].summary);
	puts("\n'pagedkv COMMAND --help' tells the options of a command.");
	return 0;
}

static int usage_error(const char *cause, const char *word)
{
	char why[PKVRT_WHY_LEN];

	pkvrt_why(why, sizeof(why), 0, "%s%.64s%s: see 'pagedkv --help'", cause, word,
		  *word ? "'" : "");
	fprintf(stderr, "pagedkv: %s\n", why);
	return EXIT_USAGE;
}

static int dispatch(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : NULL;

	if (!word)
		return usage_error("no command", "");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(word, commands[i].name))
			return commands[i].main(argc - 1, argv + 1);
	if (*word != '-')
		return usage_error("no such command: '", word);
	if (strcmp(word, "--help") && strcmp(word, "-h") && strcmp(word, "--version"))
		return usage_error("unknown option '", word);
	if (argc > 2)
		return usage_error("nothing is taken after this option: '", argv[2]);
	if (strcmp(word, "--version"))
		return print_help();
	puts("pagedkv " PAGEDKV_VERSION);
	return 0;
}

int main(int argc, char **argv)
{
	int status = dispatch(argc, argv);

	/* a report that is not all there is not a report */
	if (fflush(stdout) || ferror(stdout)) {
		perror("pagedkv: stdout");
		return status ? status : 1;
	}
	return status;
}
