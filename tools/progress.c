// SPDX-License-Identifier: GPL-2.0-only
/*
 * A frame is composed in memory and written at once, so that it never flickers half-drawn.
 * No line is longer than the terminal is wide: a wrapped one could not be redrawn in place.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "progress.h"
#include "term.h"

#define NS_PER_S	UINT64_C(1000000000)
#define TTY_INTERVAL_NS	(NS_PER_S / 8)
#define LINE_INTERVAL_NS (5 * NS_PER_S)
#define SMOOTHING	0.25	/* weight of the newest rate */
#define MAX_BAR		60u
#define MIN_WIDTH	40u
#define MAX_WIDTH	160u

struct frame {
	char text[4096];
	size_t len;
	unsigned int nr_lines;
};

void pkv_progress_init(struct pkv_progress *p, FILE *out, bool quiet, const char *title,
		       const uint32_t nr_slots[PAGEDKV_NR_TIERS], uint32_t nr_requests)
{
	struct pkv_term term;

	pkv_term_init(&term, out);
	*p = (struct pkv_progress){
		.out = out,
		.quiet = quiet,
		.title = title,
		.nr_requests = nr_requests,
		.utf8 = term.utf8,
		.colour = term.colour,
		.tty = term.tty && term.width >= MIN_WIDTH,
	};
	memcpy(p->nr_slots, nr_slots, sizeof(p->nr_slots));
	p->next_ns = p->tty ? 0 : LINE_INTERVAL_NS;
}

__attribute__((format(printf, 2, 3)))
static void put(struct frame *f, const char *fmt, ...)
{
	size_t room = sizeof(f->text) - f->len;
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(f->text + f->len, room, fmt, args);
	va_end(args);
	if (len > 0)
		f->len += (size_t)len < room ? (size_t)len : room - 1;
}

static void put_bar(const struct pkv_progress *p, struct frame *f, unsigned int width,
		    uint64_t used, uint64_t of)
{
	unsigned int full = of ? (unsigned int)(used * width / of) : 0;

	if (full > width)
		full = width;
	for (unsigned int i = 0; i < width; i++) {
		bool on = i < full;

		if (p->utf8)
			put(f, "%s", on ? "\u2588" : "\u2591");
		else
			put(f, "%c", on ? '#' : '.');
	}
}

/* Two columns are kept free at the right: some terminals wrap in the last one. */
static void put_tier(const struct pkv_progress *p, struct frame *f, unsigned int width, int tier,
		     uint32_t used)
{
	unsigned int bar = width - 31 < MAX_BAR ? width - 31 : MAX_BAR;
	uint32_t of = p->nr_slots[tier];

	put(f, "\r\033[K%-6s ", pkv_tier_names[tier]);
	if (p->colour)
		put(f, "%s", pkv_tier_colours[tier]);
	put_bar(p, f, bar, used, of);
	if (p->colour)
		put(f, "\033[0m");
	put(f, " %8u pages %3u%%\n", used, of ? (unsigned int)((uint64_t)used * 100 / of) : 0);
	f->nr_lines++;
}

__attribute__((format(printf, 3, 4)))
static void put_line(struct frame *f, unsigned int width, const char *fmt, ...)
{
	char line[MAX_WIDTH + 1];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	put(f, "\r\033[K%.*s\n", (int)width - 2, line);
	f->nr_lines++;
}

static void draw(struct pkv_progress *p, const struct pkvrt_sample *s)
{
	unsigned int width = pkv_term_width(p->out), sec = (unsigned int)(s->t_ns / NS_PER_S);
	struct frame f = { .len = 0 };

	if (width < MIN_WIDTH)	/* it has shrunk since */
		return;
	if (width > MAX_WIDTH)
		width = MAX_WIDTH;
	if (p->nr_drawn)
		put(&f, "\033[%uA", p->nr_drawn);
	for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
		if (p->nr_slots[t])
			put_tier(p, &f, width, t, s->used[t]);
	put_line(&f, width, "%.0f tokens/s, %.0f moves/s, batch %u, %u waiting, %u swapped",
		 p->tokens_per_s, p->moves_per_s, s->nr_running, s->nr_waiting, s->nr_swapped);
	put_line(&f, width, "%s: %u of %u requests, %u:%02u", p->title, s->nr_done, p->nr_requests,
		 sec / 60, sec % 60);
	fwrite(f.text, 1, f.len, p->out);
	fflush(p->out);
	p->nr_drawn = f.nr_lines;
}

static void print_line(struct pkv_progress *p, const struct pkvrt_sample *s)
{
	fprintf(p->out, "%s: %" PRIu64 " s, %u of %u requests, %.0f tokens/s, %.0f moves/s, pages",
		p->title, s->t_ns / NS_PER_S, s->nr_done, p->nr_requests, p->tokens_per_s,
		p->moves_per_s);
	for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
		if (p->nr_slots[t])
			fprintf(p->out, " %s %u/%u", pkv_tier_names[t], s->used[t], p->nr_slots[t]);
	fputc('\n', p->out);
	fflush(p->out);
}

static void smooth(double *rate, uint64_t now, uint64_t then, double seconds, bool first)
{
	double latest = (double)(now - then) / seconds;

	*rate = first ? latest : *rate + SMOOTHING * (latest - *rate);
}

void pkv_progress_update(struct pkv_progress *p, const struct pkvrt_sample *sample)
{
	double seconds = (double)(sample->t_ns - p->last.t_ns) / (double)NS_PER_S;
	bool first = !p->tty || !p->last.t_ns;

	if (!pkv_progress_due(p, sample->t_ns))
		return;
	if (seconds > 0) {
		smooth(&p->tokens_per_s, sample->tokens, p->last.tokens, seconds, first);
		smooth(&p->moves_per_s, sample->nr_moves, p->last.nr_moves, seconds, first);
	}
	p->last = *sample;
	p->next_ns = sample->t_ns + (p->tty ? TTY_INTERVAL_NS : LINE_INTERVAL_NS);
	if (p->tty)
		draw(p, sample);
	else
		print_line(p, sample);
}

void pkv_progress_exit(struct pkv_progress *p)
{
	if (p->nr_drawn)
		fprintf(p->out, "\033[%uA\r\033[J", p->nr_drawn);
	fflush(p->out);
	p->nr_drawn = 0;
}
