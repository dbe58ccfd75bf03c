// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the picture looks like. Panels share the time axis and their left and right edges.
 * Every range is set here and every data block has two points at least, so that gnuplot never
 * has to guess at an empty plot. Colours are Okabe and Ito's, told apart by all eyes.
 */
#include <inttypes.h>

#include "plot.h"

#define WIDTH		1100
#define HEIGHT		1340
#define NS_PER_S	1e9
#define MIB		(1024.0 * 1024.0)
#define RATE_POINTS	160u	/* of a rate's line: a rate needs a window to be one */

#define BLUE	"#0072b2"
#define ORANGE	"#e69f00"
#define GREEN	"#009e73"
#define RED	"#d55e00"
#define SKY	"#56b4e9"
#define PINK	"#cc79a7"
#define INK	"#333333"
#define PALE	"#ececec"

/* Panels from the top, in hundredths of the picture: where they end and begin. */
static const struct panel {
	double top, bottom;
} tiers_panel = { 0.870, 0.715 }, tokens_panel = { 0.665, 0.555 }, moves_panel = { 0.505, 0.395 },
  batch_panel = { 0.345, 0.250 }, map_panel = { 0.200, 0.045 };

static double seconds(uint64_t ns)
{
	return (double)ns / NS_PER_S;
}

static const struct pkvrt_sample *sample_at(const struct pkvrt_series *s, uint32_t i)
{
	static const struct pkvrt_sample none;

	if (!s->nr)
		return &none;
	return &s->samples[i < s->nr ? i : s->nr - 1];
}

static double end_s(const struct pkvrt_report *r)
{
	double end = seconds(sample_at(&r->series, UINT32_MAX)->t_ns);

	return end > 1e-3 ? end : 1e-3;
}

/* Columns: seconds, pages used on device, host, disk, running, waiting, swapped. */
static void put_levels(FILE *out, const struct pkvrt_series *s)
{
	uint32_t nr = s->nr < 2 ? 2 : s->nr;

	fputs("$levels << EOD\n", out);
	for (uint32_t i = 0; i < nr; i++) {
		const struct pkvrt_sample *at = sample_at(s, i);

		fprintf(out, "%g %u %u %u %u %u %u\n", seconds(at->t_ns), at->used[PAGEDKV_DEVICE],
			at->used[PAGEDKV_HOST], at->used[PAGEDKV_DISK], at->nr_running,
			at->nr_waiting, at->nr_swapped);
	}
	fputs("EOD\n", out);
}

/* MiB/s of moves @from one tier @to another between two samples that are @dt seconds apart. */
static double mib_per_s(const struct pkvrt_sample *a, const struct pkvrt_sample *b, double dt,
			int from, int to)
{
	return (double)(b->moved_bytes[from][to] - a->moved_bytes[from][to]) / MIB / dt;
}

static void put_rate(FILE *out, double at, double dt, const struct pkvrt_sample *a,
		     const struct pkvrt_sample *b)
{
	double to_disk = mib_per_s(a, b, dt, PAGEDKV_DEVICE, PAGEDKV_DISK);
	double from_disk = mib_per_s(a, b, dt, PAGEDKV_DISK, PAGEDKV_DEVICE);

	fprintf(out, "%g %g %g %g %g %g\n", at, (double)(b->tokens - a->tokens) / dt,
		to_disk + mib_per_s(a, b, dt, PAGEDKV_DEVICE, PAGEDKV_HOST),
		from_disk + mib_per_s(a, b, dt, PAGEDKV_HOST, PAGEDKV_DEVICE),
		to_disk + mib_per_s(a, b, dt, PAGEDKV_HOST, PAGEDKV_DISK),
		from_disk + mib_per_s(a, b, dt, PAGEDKV_DISK, PAGEDKV_HOST));
}

/*
 * Columns: seconds, tokens/s, MiB/s out of the device, into it, to disk, from disk. A rate
 * stands at the middle of its window, but those at the ends reach to the edge.
 */
static void put_rates(FILE *out, const struct pkvrt_series *s)
{
	uint32_t step = s->nr / RATE_POINTS + 1;

	fputs("$rates << EOD\n", out);
	for (uint32_t i = 0; i + 1 < s->nr; i += step) {
		const struct pkvrt_sample *a = sample_at(s, i), *b = sample_at(s, i + step);
		double from = seconds(a->t_ns), dt = seconds(b->t_ns - a->t_ns);

		if (!(dt > 0))
			continue;
		if (!i)
			put_rate(out, from, dt, a, b);
		put_rate(out, from + dt / 2, dt, a, b);
		if (i + step + 1 >= s->nr)
			put_rate(out, from + dt, dt, a, b);
	}
	if (s->nr < 2)
		fputs("0 0 0 0 0 0\n1 0 0 0 0 0\n", out);
	fputs("EOD\n", out);
}

/* A matrix, at least 2 x 2 as `with image` needs: a line for each row of the map. */
static void put_map(FILE *out, const struct pkvrt_series *s, uint32_t nr_slots)
{
	uint32_t rows = pkvrt_map_rows(nr_slots), cols = s->nr < 2 ? 2 : s->nr;

	fputs("$map << EOD\n", out);
	for (uint32_t row = 0; row < rows || row < 2; row++)
		for (uint32_t col = 0; col < cols; col++)
			fprintf(out, "%u%c", sample_at(s, col)->slot_state[row < rows ? row : 0],
				col + 1 < cols ? ' ' : '\n');
	fprintf(out, "EOD\nmap_cols = %u\nmap_rows = %u\n", cols, rows < 2 ? 2 : rows);
}

static void put_style(FILE *out, const struct pkvrt_report *r)
{
	fprintf(out,
		"set terminal svg size %d,%d font 'Helvetica,Arial,sans-serif,13' "
		"background '#ffffff'\n"
		"set encoding utf8\n"
		"end = %g\n"
		"set xrange [0:end]\n"
		"set border 3 lc rgb '#999999'\n"
		"set tics nomirror out scale 0.5 textcolor rgb '" INK "'\n"
		"set grid ytics lc rgb '#e4e4e4' lw 1 lt 1\n"
		"set format x ''\n"
		"set format y '%%.0f'\n"
		"set key at graph 1,1.02 right bottom horizontal Right maxrows 1 samplen 1.5 "
		"textcolor rgb '" INK "'\n"
		"set style fill solid 1 noborder\n"
		"set lmargin at screen 0.085\nset rmargin at screen 0.965\n",
		WIDTH, HEIGHT, end_s(r));
}

static void put_panel(FILE *out, const struct panel *p, const char *title)
{
	fprintf(out, "set tmargin at screen %g\nset bmargin at screen %g\n"
		"unset title\nunset label 10\n"
		"set label 10 '{/:Bold %s}' at graph 0,1.02 left offset 0,0.55 "
		"textcolor rgb '" INK "'\n", p->top, p->bottom, title);
}

static const char *proof(const struct pkvrt_report *r)
{
	if (r->identical == PKVRT_IDENTICAL)
		return "tokens identical to unlimited memory: yes";
	if (r->identical == PKVRT_DIFFERENT)
		return "tokens identical to unlimited memory: NO";
	return r->lengths_only ? "no model ran" : "tokens not compared";
}

/* The heading, and the figures that people ask for first. */
static void put_heading(FILE *out, const struct pkvrt_report *r)
{
	const struct pkvrt_flow *to_host = &r->flows[PAGEDKV_DEVICE][PAGEDKV_HOST];
	const struct pkvrt_flow *to_disk = &r->flows[PAGEDKV_DEVICE][PAGEDKV_DISK];
	uint32_t device = r->nr_slots[PAGEDKV_DEVICE];

	fprintf(out, "set label 1 '{/:Bold=22 pagedkv: %u of %u requests, policy %s%s}' "
		"at screen 0.03,0.972 left textcolor rgb '" INK "'\n",
		r->nr_finished, r->nr_requests, r->policy, r->interrupted ? " (interrupted)" : "");
	fprintf(out, "set label 2 '%" PRIu64 " tokens in %.1f s: {/:Bold %.0f tokens/s}, "
		"mean batch %.1f   ·   demand %.2f × the device tier   ·   %" PRIu64
		" preemptions' at screen 0.03,0.946 left textcolor rgb '" INK "'\n",
		r->nr_tokens, seconds(r->elapsed_ns),
		r->elapsed_ns ? (double)r->nr_tokens / seconds(r->elapsed_ns) : 0, r->mean_batch,
		device ? (double)r->wanted_slots / device : 0,
		r->nr_preempt_swap + r->nr_preempt_recompute);
	fprintf(out, "set label 3 '%.0f MiB swapped out   ·   prefix hits %.1f %%   ·   "
		"tokens fill %.1f %% of the device tier   ·   {/:Bold %s}' "
		"at screen 0.03,0.924 left textcolor rgb '%s'\n",
		(double)(to_host->bytes + to_disk->bytes) / MIB,
		r->prefix_lookup_tokens ?
		100.0 * (double)r->prefix_hit_tokens / (double)r->prefix_lookup_tokens : 0,
		r->shares.token_pct, proof(r), r->identical == PKVRT_DIFFERENT ? RED : INK);
}

static void put_tiers_plot(FILE *out, const struct pkvrt_report *r)
{
	uint64_t most = 1;

	for (uint32_t i = 0; i < r->series.nr; i++) {
		const uint32_t *used = r->series.samples[i].used;
		uint64_t sum = (uint64_t)used[PAGEDKV_DEVICE] + used[PAGEDKV_HOST] +
			       used[PAGEDKV_DISK];

		most = sum > most ? sum : most;
	}
	if (most < r->nr_slots[PAGEDKV_DEVICE])
		most = r->nr_slots[PAGEDKV_DEVICE];
	put_panel(out, &tiers_panel, "Pages in use, by tier");
	fprintf(out, "set yrange [0:%g]\nset ylabel 'pages'\n"
		"device = %u\n"
		"plot $levels using 1:($2+$3+$4) with filledcurves x1 lc rgb '" GREEN "' "
		"title 'disk', '' using 1:($2+$3) with filledcurves x1 lc rgb '" ORANGE "' "
		"title 'host', '' using 1:2 with filledcurves x1 lc rgb '" BLUE "' title 'device', "
		"device with lines lc rgb '" INK "' dt 2 lw 1.2 title 'device size'\n",
		(double)most * 1.08, r->nr_slots[PAGEDKV_DEVICE]);
	fputs("unset label 1\nunset label 2\nunset label 3\n", out);
}

static void put_line_plots(FILE *out)
{
	fputs("set yrange [0:5<*]\n", out);
	put_panel(out, &tokens_panel, "Throughput");
	fputs("set ylabel 'tokens/s'\n"
	      "plot $rates using 1:2 with filledcurves x1 lc rgb '" SKY "' fs solid 0.35 notitle, "
	      "'' using 1:2 with lines lc rgb '" BLUE "' lw 1.6 notitle\n", out);
	put_panel(out, &moves_panel, "Moves");
	fputs("set ylabel 'MiB/s'\n"
	      "plot $rates using 1:3 with lines lc rgb '" RED "' lw 1.6 title 'out of device', "
	      "'' using 1:4 with lines lc rgb '" BLUE "' lw 1.6 title 'into device', "
	      "'' using 1:5 with lines lc rgb '" GREEN "' lw 1.6 title 'to disk', "
	      "'' using 1:6 with lines lc rgb '" PINK "' lw 1.6 title 'from disk'\n", out);
	put_panel(out, &batch_panel, "Sequences and requests");
	fputs("set ylabel 'count'\n"
	      "plot $levels using 1:5 with lines lc rgb '" BLUE "' lw 1.6 title 'batch', "
	      "'' using 1:6 with lines lc rgb '#999999' lw 1.6 title 'waiting', "
	      "'' using 1:7 with lines lc rgb '" RED "' lw 1.6 title 'swapped out'\n", out);
}

/* Values are enum pkvrt_slot_state. The legend is a row of empty plots, one a state. */
static void put_map_plot(FILE *out, uint32_t nr_slots)
{
	uint32_t rows = pkvrt_map_rows(nr_slots);

	put_panel(out, &map_panel, rows < nr_slots ?
		  "Page map of the device tier (evenly spread slots)" :
		  "Page map of the device tier");
	fprintf(out,
		"set palette maxcolors %d defined (0 '" PALE "', 1 '" SKY "', 2 '" BLUE "', "
		"3 '" ORANGE "', 4 '" RED "')\n"
		"set cbrange [-0.5:%d.5]\nunset colorbox\nunset grid\n"
		"set yrange [0:%u]\nset ylabel 'slot'\n"
		"set format x '%%g'\nset xlabel 'time (s)' offset 0,0.4\n"
		"plot $map matrix using (($1+0.5)*end/map_cols):(($2+0.5)*%u/map_rows):3 "
		"with image notitle",
		PKVRT_NR_SLOT_STATES, PKVRT_NR_SLOT_STATES - 1, nr_slots ? nr_slots : 1,
		nr_slots ? nr_slots : 1);
	fputs(", NaN with boxes lc rgb '" PALE "' title 'free'"
	      ", NaN with boxes lc rgb '" SKY "' title 'private'"
	      ", NaN with boxes lc rgb '" BLUE "' title 'shared'"
	      ", NaN with boxes lc rgb '" ORANGE "' title 'cached'"
	      ", NaN with boxes lc rgb '" RED "' title 'moving'\n", out);
}

void pkv_plot_script(FILE *out, const struct pkvrt_report *r)
{
	put_levels(out, &r->series);
	put_rates(out, &r->series);
	put_map(out, &r->series, r->nr_slots[PAGEDKV_DEVICE]);
	put_style(out, r);
	put_heading(out, r);
	fputs("set multiplot\n", out);
	put_tiers_plot(out, r);
	put_line_plots(out);
	put_map_plot(out, r->nr_slots[PAGEDKV_DEVICE]);
	fputs("unset multiplot\n", out);
}
