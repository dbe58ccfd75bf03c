// SPDX-License-Identifier: GPL-2.0-only
/*
 * /proc/pagedkv/ID/tables: which pages each sequence is made of, a line a run of pages with
 * numbers in a row. Beside maps it says where a sequence is.
 */
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

#include "pkv.h"

/* Sequences and entries that are looked at in one go under a pool's lock. */
#define SCAN	1024U

struct table_run {
	u32 seq, gen;
	u32 class_id;
	u32 entry;		/* of the table, the first one */
	u32 page, nr;		/* nr 0: none in what was looked at */
};

/* Entries from @entry on whose pages are in a row. */
static void take_run(struct table_run *r, const struct pkv_seq *seq, u32 index, u32 entry)
{
	r->seq = index;
	r->gen = seq->gen;
	r->class_id = seq->class_id;
	r->entry = entry;
	r->page = seq->table[entry];
	do {
		r->nr++;
	} while (r->nr < SCAN && entry + r->nr < seq->nr_pages &&
		 seq->table[entry + r->nr] == r->page + r->nr);
}

/* The first run from @at on; false at the end. A position is a sequence and an entry. */
static bool find_run(struct pkv_kpool *pool, struct table_run *r, u64 *at)
{
	u32 i = *at >> 32, entry = (u32)*at, left = SCAN;
	bool more;

	r->nr = 0;
	pkv_enter(pool);
	for (; i < pool->core.fresh_seq && left && !r->nr; left--) {
		const struct pkv_seq *seq = &pool->core.seqs[i];

		if (seq->state != PKV_SEQ_FREE && entry < seq->nr_pages) {
			take_run(r, seq, i, entry);
		} else {
			i++;
			entry = 0;
		}
	}
	more = r->nr || i < pool->core.fresh_seq;
	pkv_leave_unchanged(pool);
	*at = (u64)i << 32 | entry;
	return more;
}

/* Position 0 is the heading. */
static void *tables_at(struct seq_file *m, loff_t *pos)
{
	struct pkv_kpool *pool = pde_data(file_inode(m->file));
	struct table_run *r = m->private;
	u64 at = *pos - 1;

	while (find_run(pool, r, &at)) {
		if (r->nr) {
			*pos = at + 1;
			return r;
		}
		cond_resched();
	}
	return NULL;
}

static void *tables_start(struct seq_file *m, loff_t *pos)
{
	return *pos ? tables_at(m, pos) : SEQ_START_TOKEN;
}

static void *tables_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct table_run *r = v;

	*pos += v == SEQ_START_TOKEN ? 1 : r->nr;
	return tables_at(m, pos);
}

static void tables_stop(struct seq_file *m, void *v)
{
}

static int tables_show(struct seq_file *m, void *v)
{
	const struct table_run *r = v;

	if (v == SEQ_START_TOKEN)
		seq_puts(m, "sequence class entries pages\n");
	else
		seq_printf(m, "%u.%u %u %u-%u %u-%u\n", r->seq, r->gen, r->class_id, r->entry,
			   r->entry + r->nr - 1, r->page, r->page + r->nr - 1);
	return 0;
}

static const struct seq_operations tables_ops = {
	.start = tables_start,
	.next = tables_next,
	.stop = tables_stop,
	.show = tables_show,
};

struct proc_dir_entry *pkv_proc_add_tables(struct pkv_kpool *pool, umode_t mode)
{
	return proc_create_seq_private("tables", mode, pool->proc, &tables_ops,
				       sizeof(struct table_run), pool);
}
