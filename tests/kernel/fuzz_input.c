// SPDX-License-Identifier: GPL-2.0-only
/* Inputs: made up, changed, cut, written and read. */
#include "fuzz.h"

uint64_t next_random(uint64_t *rng)
{
	uint64_t x = *rng += 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static uint32_t below(uint64_t *rng, uint32_t nr)
{
	return (uint32_t)(next_random(rng) % nr);
}

static void fill_record(uint8_t *record, uint64_t *rng)
{
	for (uint32_t i = 0; i < RECORD_BYTES; i += 8) {
		uint64_t x = next_random(rng);

		memcpy(record + i, &x, 8);
	}
}

void input_random(struct input *in, uint64_t *rng)
{
	in->nr = 2 + below(rng, MAX_RECORDS - 1);
	for (uint32_t i = 0; i < in->nr; i++)
		fill_record(in->records[i], rng);
}

/* Not the first one, which is the pool. */
void input_cut(struct input *in, uint32_t first, uint32_t nr)
{
	memmove(in->records[first], in->records[first + nr],
		(in->nr - first - nr) * sizeof(in->records[0]));
	in->nr -= nr;
}

static void insert(struct input *in, uint32_t at, const uint8_t *record)
{
	if (in->nr == MAX_RECORDS)
		input_cut(in, MAX_RECORDS - 1, 1);
	if (at > in->nr)
		at = in->nr;
	memmove(in->records[at + 1], in->records[at], (in->nr - at) * sizeof(in->records[0]));
	memcpy(in->records[at], record, RECORD_BYTES);
	in->nr++;
}

static void change_bytes(uint8_t *record, uint64_t *rng)
{
	uint32_t nr = 1 + below(rng, 3);

	while (nr--)
		record[below(rng, RECORD_BYTES)] = (uint8_t)next_random(rng);
}

/* Go on with the end of another one. */
static void join(struct input *in, const struct input *other, uint64_t *rng)
{
	uint32_t keep = 1 + below(rng, in->nr);
	uint32_t from = 1 + below(rng, other->nr);
	uint32_t nr = other->nr - (from < other->nr ? from : other->nr);

	if (nr > MAX_RECORDS - keep)
		nr = MAX_RECORDS - keep;
	memcpy(in->records[keep], other->records[from], nr * sizeof(in->records[0]));
	in->nr = keep + nr;
}

static void mutate_once(struct input *in, const struct input *other, uint64_t *rng)
{
	uint8_t record[RECORD_BYTES];
	uint32_t at = below(rng, in->nr), second = below(rng, in->nr);

	switch (below(rng, 10)) {
	case 0:
	case 1:
	case 2:
		fill_record(record, rng);
		insert(in, 1 + at, record);
		return;
	case 3:
	case 4:
	case 5:
		change_bytes(in->records[at], rng);
		return;
	case 6:
		if (in->nr > 2 && at)
			input_cut(in, at, 1);
		return;
	case 7:
		memcpy(record, in->records[at], RECORD_BYTES);
		insert(in, 1 + second, record);
		return;
	case 8:
		insert(in, 1 + at, other->records[below(rng, other->nr)]);
		return;
	default:
		join(in, other, rng);
	}
}

void input_mutate(struct input *in, const struct input *other, uint64_t *rng)
{
	uint32_t nr = 1 + below(rng, 6);

	while (nr--)
		mutate_once(in, other, rng);
}

/* ------------------------------------------------------------------- text */

/* A record a line, in hex, perhaps behind a '#'; other lines are remarks, an empty one ends it. */
bool input_read(struct input *in, FILE *from)
{
	char line[256];

	in->nr = 0;
	while (fgets(line, sizeof(line), from) && in->nr < MAX_RECORDS) {
		const char *p = line + strspn(line, "# \t");
		uint32_t i;

		if (*p == '\n' && in->nr)
			break;
		for (i = 0; i < RECORD_BYTES; i++) {
			unsigned int byte;

			if (sscanf(p + 2 * i, "%2x", &byte) != 1)
				break;
			in->records[in->nr][i] = (uint8_t)byte;
		}
		if (i == RECORD_BYTES)
			in->nr++;
	}
	return in->nr > 0;
}

void input_write(const struct input *in, FILE *to, const char *before)
{
	for (uint32_t i = 0; i < in->nr; i++) {
		fputs(before, to);
		for (uint32_t b = 0; b < RECORD_BYTES; b++)
			fprintf(to, "%02x", in->records[i][b]);
		fputc('\n', to);
	}
}

/* ---------------------------------------------------------------- choices */

void choices_begin(struct choices *c, const uint8_t *record)
{
	c->record = record;
	c->pos = 3;
	memcpy(&c->rng, record + RECORD_BYTES - 8, 8);
}

static uint8_t choose_byte(struct choices *c)
{
	return c->pos < RECORD_BYTES ? c->record[c->pos++] : (uint8_t)next_random(&c->rng);
}

uint32_t choose(struct choices *c, uint32_t nr)
{
	uint32_t x = choose_byte(c);

	if (nr > 256)
		x = x << 8 | choose_byte(c);
	return x % nr;
}

bool chance(struct choices *c, uint32_t in_256)
{
	/* Rare things are large bytes: zeroes are an ordinary input. */
	return choose_byte(c) >= 256 - in_256;
}

uint32_t choose_value(struct choices *c)
{
	static const uint32_t values[] = {
		0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 255,
		256, 257, 511, 512, 1000, 1023, 1024, 1025, 4095, 4096, 4097, 65535, 65536,
		0xfffff, 0x100000, 0x100001, 0xfffffff, 0x10000000, 0x3fffffff, 0x40000000,
		0x7ffffffe, 0x7fffffff, 0x80000000, 0x80000001, 0xfffff000, 0xfffffffe, 0xffffffff,
	};

	return values[choose(c, sizeof(values) / sizeof(values[0]))];
}
