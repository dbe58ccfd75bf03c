/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which code of the module a task has run, by KCOV. Sites are the places where
 * the compiler put a call of __sanitizer_cov_trace_pc(): one a basic block.
 * They are numbered from 0 on; those of init and exit code are left out.
 */
#ifndef PAGEDKV_COVER_H
#define PAGEDKV_COVER_H

#include <stdbool.h>
#include <stdint.h>

struct cover_site {
	uint64_t pc;
	const char *function;
};

struct cover_map {
	struct cover_site *sites;	/* by address */
	uint32_t nr;
	void *file;
};

/* A task's trace. Opened by the task itself; without KCOV it stays empty. */
struct cover {
	int fd;
	uint64_t *trace;	/* [0]: how many addresses follow */
};

/* 0, or -errno: no KCOV in this kernel (-ENOENT), or no code of the module in @path. */
int cover_map_load(struct cover_map *map, const char *path);
/* The site that @pc is of, or map->nr. */
uint32_t cover_site(const struct cover_map *map, uint64_t pc);

int cover_open(struct cover *c);
void cover_begin(struct cover *c);
/* Addresses since cover_begin(), in order; their number. */
uint32_t cover_end(struct cover *c, const uint64_t **pcs);

#endif
