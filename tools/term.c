// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "term.h"

const char *const pkv_tier_names[PAGEDKV_NR_TIERS] = { "device", "host", "disk" };
const char *const pkv_tier_colours[PAGEDKV_NR_TIERS] = { "\033[34m", "\033[33m", "\033[32m" };

static bool is_utf8(void)
{
	static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = getenv(names[i]);

		if (value && *value)
			return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
	}
	return false;
}

unsigned int pkv_term_width(FILE *out)
{
	struct winsize size;

	return ioctl(fileno(out), TIOCGWINSZ, &size) || !size.ws_col ? 80 : size.ws_col;
}

void pkv_term_init(struct pkv_term *t, FILE *out)
{
	const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");

	t->tty = isatty(fileno(out)) && term && strcmp(term, "dumb");
	t->colour = !no_colour || !*no_colour;
	t->utf8 = is_utf8();
	t->width = pkv_term_width(out);
}

const char *pkv_human_bytes(char *buf, uint64_t bytes)
{
	static const char units[] = "KMGTPE";
	double v = (double)bytes / 1024;
	int u = 0;

	if (bytes < 1024) {
		snprintf(buf, PKV_HUMAN_LEN, "%u B", (unsigned int)bytes);
		return buf;
	}
	for (; v >= 1023.95 && u < 5; u++)
		v /= 1024;
	snprintf(buf, PKV_HUMAN_LEN, "%.1f %ciB", v, units[u]);
	return buf;
}

const char *pkv_bar(char *buf, size_t len, const struct pkv_term *t, const char *colour,
		    unsigned int width, uint64_t used, uint64_t of)
{
	unsigned int full = (unsigned int)(pkv_pct(used, of) * width / 100);
	size_t at;

	at = (size_t)snprintf(buf, len, "%s", t->colour ? colour : "");
	for (unsigned int i = 0; i < width && at < len; i++) {
		bool on = i < full;

		at += (size_t)snprintf(buf + at, len - at, "%s", t->utf8 ?
				       (on ? "\u2588" : "\u2591") : (on ? "#" : "."));
	}
	if (at < len)
		snprintf(buf + at, len - at, "%s", t->colour ? "\033[0m" : "");
	return buf;
}

double pkv_pct(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}
