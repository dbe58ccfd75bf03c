// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

#define MAX_COLUMNS	16u

void pkv_table_init(struct pkv_table *t, const char *align)
{
	*t = (struct pkv_table){ .align = align, .nr_columns = (unsigned int)strlen(align) };
	t->failed = t->nr_columns > MAX_COLUMNS;
}

void pkv_table_exit(struct pkv_table *t)
{
	free(t->cells);
	t->cells = NULL;
}

void pkv_table_cell(struct pkv_table *t, const char *fmt, ...)
{
	size_t cap = t->cap ? 2 * t->cap : 64;
	va_list args;
	void *more;

	if (t->failed)
		return;
	if (t->nr == t->cap) {
		more = realloc(t->cells, cap * sizeof(*t->cells));
		if (!more) {
			t->failed = true;
			return;
		}
		t->cells = more;
		t->cap = cap;
	}
	va_start(args, fmt);
	vsnprintf(t->cells[t->nr++], PKV_CELL_LEN, fmt, args);
	va_end(args);
}

int pkv_table_print(const struct pkv_table *t, FILE *out, const char *indent)
{
	size_t width[MAX_COLUMNS] = { 0 };

	if (t->failed)
		return -ENOMEM;
	for (size_t i = 0; i < t->nr; i++) {
		size_t len = strlen(t->cells[i]);

		if (width[i % t->nr_columns] < len)
			width[i % t->nr_columns] = len;
	}
	for (size_t i = 0; i < t->nr; i++) {
		unsigned int column = (unsigned int)(i % t->nr_columns);
		bool last = column == t->nr_columns - 1;
		int w = (int)width[column];

		fputs(column ? "  " : indent, out);
		if (t->align[column] == 'r')
			fprintf(out, "%*s", w, t->cells[i]);
		else
			fprintf(out, "%-*s", last ? 0 : w, t->cells[i]);
		if (last)
			fputc('\n', out);
	}
	return 0;
}
