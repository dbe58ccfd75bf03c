/* SPDX-License-Identifier: GPL-2.0-only */
/* A table for people: cells in, aligned columns out. */
#ifndef PKV_TABLE_H
#define PKV_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define PKV_CELL_LEN	72u

struct pkv_table {
	const char *align;	/* 'l' or 'r' for each column; borrowed */
	unsigned int nr_columns;
	char (*cells)[PKV_CELL_LEN];	/* row after row */
	size_t nr, cap;
	bool failed;		/* no memory: it is not printed */
};

void pkv_table_init(struct pkv_table *t, const char *align);
void pkv_table_exit(struct pkv_table *t);

/* The next cell; after a row's last one the next row begins. Too long a text is cut. */
__attribute__((format(printf, 2, 3)))
void pkv_table_cell(struct pkv_table *t, const char *fmt, ...);

/* Return: 0, or -ENOMEM when a cell had no room. */
int pkv_table_print(const struct pkv_table *t, FILE *out, const char *indent);

#endif
