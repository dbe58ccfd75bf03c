// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>

#include "grid.h"

const char *const pkv_mark_names[PKV_NR_MARKS] = {
	"held", "shared", "idle", "cached", "moving", "lost", "other",
};

static const char *const colours[PKV_NR_MARKS] = {
	"\033[34m", "\033[36m", "\033[33m", "\033[32m", "\033[35m", "\033[31m", "\033[37m",
};

/* Without colours: capital where at least half of a cell is used. */
static const char letters[PKV_NR_MARKS] = { 'H', 'S', 'I', 'C', 'M', 'L', 'O' };

int pkv_grid_init(struct pkv_grid *g, uint32_t nr_slots, uint32_t max_cells)
{
	*g = (struct pkv_grid){
		.nr_slots = nr_slots,
		.nr_cells = nr_slots < max_cells ? nr_slots : max_cells,
	};
	g->cells = calloc(g->nr_cells ? g->nr_cells : 1, sizeof(*g->cells));
	return g->cells ? 0 : -ENOMEM;
}

void pkv_grid_exit(struct pkv_grid *g)
{
	free(g->cells);
	g->cells = NULL;
}

/* The first slot of a cell; of the one after the last, the number of slots. */
static uint32_t cell_start(const struct pkv_grid *g, uint32_t cell)
{
	return (uint32_t)(((uint64_t)cell * g->nr_slots + g->nr_cells - 1) / g->nr_cells);
}

void pkv_grid_add(struct pkv_grid *g, uint32_t first, uint32_t nr, enum pkv_mark mark)
{
	uint32_t end;

	if (first >= g->nr_slots)
		return;
	end = nr < g->nr_slots - first ? first + nr : g->nr_slots;
	g->totals[mark] += end - first;
	while (first < end) {
		uint32_t cell = (uint32_t)((uint64_t)first * g->nr_cells / g->nr_slots);
		uint32_t next = cell_start(g, cell + 1);

		next = next < end ? next : end;
		g->cells[cell][mark] += next - first;
		first = next;
	}
}

static uint64_t used_of(const uint32_t cell[PKV_NR_MARKS], enum pkv_mark *most)
{
	uint64_t used = 0;

	*most = PKV_MARK_HELD;
	for (int m = 0; m < PKV_NR_MARKS; m++) {
		used += cell[m];
		if (cell[m] > cell[*most])
			*most = (enum pkv_mark)m;
	}
	return used;
}

/* The colour stays on while it is the same: @last, NULL for none. */
static void set_colour(FILE *out, const char *colour, const char **last)
{
	if (colour != *last)
		fputs(colour ? colour : "\033[0m", out);
	*last = colour;
}

static void print_cell(FILE *out, const struct pkv_term *t, const char **last, enum pkv_mark mark,
		       uint64_t used, uint64_t of)
{
	static const char *const levels[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	unsigned int eighths = used < of ? (unsigned int)(used * 8 / of) : 8;

	if (t->tty && t->colour)
		set_colour(out, used ? colours[mark] : NULL, last);
	if (!used)
		fputs(t->tty && t->utf8 ? "·" : ".", out);
	else if (t->tty && t->colour)
		fputs(!t->utf8 ? "#" : levels[eighths ? eighths - 1 : 0], out);
	else
		fputc(eighths >= 4 ? letters[mark] : letters[mark] | 0x20, out);
}

void pkv_grid_print(const struct pkv_grid *g, FILE *out, const struct pkv_term *t,
		    unsigned int width, const char *indent)
{
	const char *colour = NULL;

	for (uint32_t i = 0; i < g->nr_cells; i++) {
		uint32_t of = cell_start(g, i + 1) - cell_start(g, i);
		enum pkv_mark most;
		uint64_t used = used_of(g->cells[i], &most);

		if (i % width == 0)
			fputs(indent, out);
		print_cell(out, t, &colour, most, used, of);
		if (i % width == width - 1 || i == g->nr_cells - 1) {
			set_colour(out, NULL, &colour);
			fputc('\n', out);
		}
	}
}

void pkv_grid_legend(FILE *out, const struct pkv_term *t)
{
	const char *colour = NULL;

	for (int m = 0; m < PKV_MARK_OTHER; m++) {
		fputs(m ? "  " : "", out);
		print_cell(out, t, &colour, (enum pkv_mark)m, 1, 1);
		set_colour(out, NULL, &colour);
		fprintf(out, " %s", pkv_mark_names[m]);
	}
	fputs("  ", out);
	print_cell(out, t, &colour, PKV_MARK_HELD, 0, 1);
	fputs(" free\n", out);
}
