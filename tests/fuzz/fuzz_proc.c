// SPDX-License-Identifier: GPL-2.0-only
/*
 * Any bytes as a file of /proc/pagedkv, the first one saying which: refused with one line of
 * cause, or figures that keep their promises.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grid.h"
#include "proc.h"

#define NR_SLOTS	1000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int try_pools(struct pkv_procfile *f)
{
	struct pkv_proc_pool *pools = NULL;
	uint32_t nr = 0;
	int ret = pkv_parse_pools(f, &pools, &nr);

	for (uint32_t i = 0; i < nr; i++)
		if (strlen(pools[i].name) >= PKV_PROC_NAME || pools[i].mode > 07777 ||
		    pools[i].nr_classes > PAGEDKV_MAX_CLASSES)
			abort();
	free(pools);
	return ret;
}

static int try_limits(struct pkv_procfile *f)
{
	struct pkv_proc_limits l;
	int ret = pkv_parse_limits(f, &l);

	if (!ret && l.nr_classes > PAGEDKV_MAX_CLASSES)
		abort();
	for (uint32_t i = 0; !ret && i < l.nr_classes; i++)
		for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
			if (l.classes[i].tiers[t].nr_used > l.classes[i].tiers[t].nr_slots)
				abort();
	return ret;
}

static int try_tiers(struct pkv_procfile *f)
{
	struct pkv_proc_sum sums[PAGEDKV_NR_TIERS];
	int ret = pkv_parse_tiers(f, sums);

	for (int t = 0; !ret && t < PAGEDKV_NR_TIERS; t++)
		if (sums[t].free > sums[t].slots)
			abort();
	return ret;
}

static int try_counters(struct pkv_procfile *f)
{
	struct pkv_counters c;
	int ret = pkv_parse_counters(f, &c);

	if (c.nr > PKV_MAX_COUNTERS)
		abort();
	for (uint32_t i = 0; !ret && i < c.nr; i++)
		if (pkv_counter_value(&c, c.list[i].name) > PKV_PROC_MAX)
			abort();
	return ret;
}

static int try_maps(struct pkv_procfile *f)
{
	uint64_t sum = 0, used = 0;
	struct pkv_proc_run r;
	struct pkv_grid g;
	int ret = pkv_parse_maps_heading(f);

	if (pkv_grid_init(&g, NR_SLOTS, 77))
		abort();
	while (!ret && (ret = pkv_proc_next_run(f, &r)) > 0) {
		ret = 0;
		if (r.first > r.last || r.state > PKV_NR_PAGE_STATES ||
		    r.class_id >= PAGEDKV_MAX_CLASSES)
			abort();
		if (r.slot[0] != PAGEDKV_NO_SLOT)
			pkv_grid_add(&g, r.slot[0], r.last - r.first + 1, PKV_MARK_HELD);
		/* of cells of 32 bits, the sum is what was put in, until they are full */
		if (++used == 1000)
			break;
	}
	for (uint32_t i = 0; i < g.nr_cells; i++)
		sum += g.cells[i][PKV_MARK_HELD];
	if (sum != g.totals[PKV_MARK_HELD])
		abort();
	pkv_grid_exit(&g);
	return ret;
}

static int try_seqs(struct pkv_procfile *f)
{
	struct pkv_proc_seq s;
	int ret = pkv_parse_seqs_heading(f);

	while (!ret && (ret = pkv_proc_next_seq(f, &s)) > 0) {
		ret = 0;
		if (!s.state_name || s.class_id >= PAGEDKV_MAX_CLASSES)
			abort();
	}
	return ret;
}

static int try_tables(struct pkv_procfile *f)
{
	struct pkv_proc_extent e;
	int ret = pkv_parse_tables_heading(f);

	while (!ret && (ret = pkv_proc_next_extent(f, &e)) > 0) {
		ret = 0;
		if (e.first > e.last || e.class_id >= PAGEDKV_MAX_CLASSES)
			abort();
	}
	return ret;
}

static int try_files(struct pkv_procfile *f)
{
	struct pkv_proc_file file;
	int ret = pkv_parse_files_heading(f);

	while (!ret && (ret = pkv_proc_next_file(f, &file)) > 0) {
		ret = 0;
		if (strlen(file.name) >= PKV_PROC_NAME)
			abort();
	}
	return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int (*const files[])(struct pkv_procfile *f) = {
		try_pools, try_limits, try_tiers, try_counters, try_maps, try_seqs,
		try_tables, try_files,
	};
	struct pkv_procfile f;
	FILE *in;

	if (size < 2)
		return 0;
	in = fmemopen((void *)(data + 1), size - 1, "r");
	if (!in)
		abort();
	pkv_procfile_init(&f, in, "fuzz");
	if (files[data[0] % (sizeof(files) / sizeof(files[0]))](&f) < 0 &&
	    (!f.why[0] || strpbrk(f.why, "\n\r\x1b") || strlen(f.why) == sizeof(f.why) - 1))
		abort();
	pkv_procfile_exit(&f);
	return 0;
}
