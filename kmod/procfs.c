// SPDX-License-Identifier: GPL-2.0-only
/*
 * /proc/pagedkv: what the kernel knows of pools, told also when every user of
 * the memory is gone.
 *
 *   version              of the module
 *   pools                a line a pool
 *   meminfo, stat, tiers sums over pools
 *   ID/maps              a line a run of pages
 *   ID/sequences         a line a sequence
 *   ID/tables            which pages it is made of (proctables.c)
 *   ID/limits            a line a tier of a class
 *   ID/files             a line a file that it keeps
 *
 * A pool's files have its owner, group and mode, and the other ones show only
 * pools that their opener may read: nobody's names or figures are anybody
 * else's. A file is read a record at a time and holds a pool's lock for as
 * long as it looks at SCAN pages at most; so it is a look, not a snapshot.
 */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>

#include "pkv.h"

/* Entries that are looked at in one go under a pool's lock. */
#define SCAN	1024U

static struct proc_dir_entry *top;

static const char *const tier_names[PKV_NR_TIERS] = { "device", "host", "disk" };
static const char *const tier_states[] = { "online", "readonly", "offline" };
static const char *const seq_states[] = { "free", "running", "loading", "cold", "broken" };

static int show_version(struct seq_file *m, void *v)
{
	seq_puts(m, PAGEDKV_VERSION "\n");
	return 0;
}

/* ------------------------------------------------------------- all pools */

/* The first pool from *@id on that the file's opener may read, with a reference. */
static struct pkv_kpool *next_visible(struct seq_file *m, u32 *id)
{
	struct pkv_kpool *pool;

	while ((pool = pkv_kpool_next(id))) {
		if (pkv_kpool_permits(pool, m->file, 4))
			return pool;
		pkv_kpool_put(pool);
		++*id;
	}
	return NULL;
}

static void *pools_next_at(struct seq_file *m, loff_t *pos)
{
	struct pkv_kpool *pool;
	u32 id = *pos;

	if (*pos > INT_MAX)
		return NULL;
	pool = next_visible(m, &id);
	if (pool)
		*pos = id;
	return pool;
}

static void *pools_start(struct seq_file *m, loff_t *pos)
{
	return *pos ? pools_next_at(m, pos) : SEQ_START_TOKEN;
}

static void *pools_next(struct seq_file *m, void *v, loff_t *pos)
{
	if (v != SEQ_START_TOKEN)
		pkv_kpool_put(v);
	++*pos;
	return pools_next_at(m, pos);
}

static void pools_stop(struct seq_file *m, void *v)
{
	if (v && v != SEQ_START_TOKEN)
		pkv_kpool_put(v);
}

static int pools_show(struct seq_file *m, void *v)
{
	struct pkv_kpool *pool = v;
	struct user_namespace *ns = m->file->f_cred->user_ns;

	if (v == SEQ_START_TOKEN) {
		seq_puts(m, "id name uid gid mode persistent clients classes fingerprint\n");
		return 0;
	}
	seq_printf(m, "%u %s %u %u %04o %u %u %u %016llx\n", pool->id,
		   pool->name[0] ? pool->name : "-", from_kuid_munged(ns, pool->uid),
		   from_kgid_munged(ns, pool->gid), pool->mode,
		   !!(pool->flags & PAGEDKV_IO_POOL_PERSIST), READ_ONCE(pool->nr_clients),
		   pool->core.nr_classes, pool->fingerprint);
	return 0;
}

static const struct seq_operations pools_ops = {
	.start = pools_start,
	.next = pools_next,
	.stop = pools_stop,
	.show = pools_show,
};

struct sums {
	u64 nr_pools, nr_seqs, nr_moves, nr_queued;
	u64 nr_pages, nr_cached, nr_indexed, nr_lost;
	u64 host_bytes, huge_bytes, locked_bytes, resident_bytes, metadata_bytes;
	u64 slots[PKV_NR_TIERS], free[PKV_NR_TIERS], idle[PKV_NR_TIERS], leaving[PKV_NR_TIERS];
	u64 absent[PKV_NR_TIERS];
	struct pkv_counters counters;
	struct pkv_shrink_counters shrink;
};

static void add_class(struct sums *s, const struct pkv_class *c)
{
	u32 tier, i;

	s->nr_pages += c->nr_live;
	s->nr_cached += c->nr_cached;
	s->nr_indexed += c->nr_indexed;
	s->nr_lost += c->nr_lost;
	for (tier = 0; tier < PKV_NR_TIERS; tier++) {
		s->slots[tier] += c->tiers[tier].nr_slots;
		s->free[tier] += c->tiers[tier].nr_free + c->tiers[tier].nr_absent;
		s->absent[tier] += c->tiers[tier].nr_absent;
		s->leaving[tier] += c->tiers[tier].nr_leaving;
		for (i = 0; i < PKV_NR_PRIORITIES; i++)
			s->idle[tier] += c->tiers[tier].idle[i].nr;
	}
}

/* @size bytes of counters, each a u64. */
static void add_counters(void *to, const void *from, size_t size)
{
	const u64 *f = from;
	u64 *t = to;
	u32 i;

	for (i = 0; i < size / sizeof(u64); i++)
		t[i] += f[i];
}

static void add_pool(struct sums *s, struct pkv_kpool *pool)
{
	u32 i;

	pkv_enter(pool);
	s->nr_pools++;
	s->nr_seqs += pool->core.nr_seqs;
	s->nr_moves += pool->core.nr_moves;
	s->nr_queued += pool->core.nr_queued;
	s->metadata_bytes += pkv_pool_metadata_bytes(&pool->core);
	for (i = 0; i < pool->core.nr_classes; i++) {
		add_class(s, &pool->core.classes[i]);
		s->host_bytes += pool->host[i].bytes;
		s->huge_bytes += pkv_host_huge_bytes(&pool->host[i]);
		s->resident_bytes += pkv_host_resident_bytes(&pool->host[i]);
		s->locked_bytes += (u64)pool->host[i].nr_locked << PAGE_SHIFT;
	}
	add_counters(&s->counters, &pool->core.counters, sizeof(s->counters));
	add_counters(&s->shrink, &pool->shrink, sizeof(s->shrink));
	pkv_leave_unchanged(pool);
}

static struct sums *sum_up(struct seq_file *m)
{
	struct sums *s = kzalloc(sizeof(*s), GFP_KERNEL);
	struct pkv_kpool *pool;
	u32 id = 0;

	while (s && (pool = next_visible(m, &id))) {
		add_pool(s, pool);
		pkv_kpool_put(pool);
		id++;
	}
	return s;
}

static int show_meminfo(struct seq_file *m, void *v)
{
	struct sums *s = sum_up(m);

	if (!s)
		return -ENOMEM;
	seq_printf(m, "HostTotal:      %12llu kB\n", s->host_bytes >> 10);
	seq_printf(m, "HostHuge:       %12llu kB\n", s->huge_bytes >> 10);
	seq_printf(m, "HostLocked:     %12llu kB\n", s->locked_bytes >> 10);
	seq_printf(m, "Metadata:       %12llu kB\n", s->metadata_bytes >> 10);
	seq_printf(m, "Pages:          %12llu\n", s->nr_pages);
	seq_printf(m, "PagesCached:    %12llu\n", s->nr_cached);
	seq_printf(m, "PagesPublished: %12llu\n", s->nr_indexed);
	seq_printf(m, "PagesLost:      %12llu\n", s->nr_lost);
	seq_printf(m, "HostResident:   %12llu kB\n", s->resident_bytes >> 10);
	kfree(s);
	return 0;
}

static int show_stat(struct seq_file *m, void *v)
{
	struct sums *s = sum_up(m);
	const struct pkv_counters *c;
	u32 from, to;

	if (!s)
		return -ENOMEM;
	c = &s->counters;
	seq_printf(m, "pools %llu\nsequences %llu\nmoves %llu\nmoves_queued %llu\n", s->nr_pools,
		   s->nr_seqs, s->nr_moves, s->nr_queued);
	seq_printf(m, "allocs %llu\nfrees %llu\nforks %llu\ncopies %llu\n", c->allocs, c->frees,
		   c->forks, c->copies);
	seq_printf(m, "lookups %llu\nhits %llu\ndrops %llu\n", c->lookups, c->hits, c->drops);
	seq_printf(m, "aborts %llu\ncancels %llu\nlosses %llu\n", c->aborts, c->cancels,
		   c->losses);
	for (from = 0; from < PKV_NR_TIERS; from++)
		for (to = 0; to < PKV_NR_TIERS; to++)
			seq_printf(m, "moved_%s_%s %llu\n", tier_names[from], tier_names[to],
				   c->moves[from][to]);
	seq_printf(m, "shrink_scans %llu\nshrink_pages %llu\nshrink_demotes %llu\n",
		   s->shrink.scans, s->shrink.pages, s->shrink.demotes);
	seq_printf(m, "refills %llu\nrefill_fails %llu\n", s->shrink.refills,
		   s->shrink.refill_fails);
	kfree(s);
	return 0;
}

static int show_tiers(struct seq_file *m, void *v)
{
	struct sums *s = sum_up(m);
	u32 i;

	if (!s)
		return -ENOMEM;
	seq_puts(m, "tier slots free idle leaving absent\n");
	for (i = 0; i < PKV_NR_TIERS; i++)
		seq_printf(m, "%s %llu %llu %llu %llu %llu\n", tier_names[i], s->slots[i],
			   s->free[i], s->idle[i], s->leaving[i], s->absent[i]);
	kfree(s);
	return 0;
}

/* ---------------------------------------------------------------- a pool */

/* Pages in a row of which the same is true, and whose slots go on by one. */
struct run {
	struct pkv_page first;
	u32 class_id;
	u32 id, nr;		/* nr 0: none in what was looked at */
	bool moving;
};

static bool goes_on(const struct run *r, const struct pkv_page *p)
{
	bool moving = p->move != PKV_NONE;
	u32 tier;

	if (p->refs != r->first.refs || !p->holds != !r->first.holds ||
	    p->flags != r->first.flags || moving != r->moving)
		return false;
	for (tier = 0; tier < PKV_NR_TIERS; tier++)
		if (r->first.slot[tier] == PKV_NONE ? p->slot[tier] != PKV_NONE :
		    p->slot[tier] != r->first.slot[tier] + r->nr)
			return false;
	return true;
}

/*
 * The first run of a class from page @id on, in at most SCAN pages. Returns
 * the page after what was looked at; U32_MAX at the class's end.
 */
static u32 find_run(struct pkv_kpool *pool, struct run *r, u32 class_id, u32 id)
{
	const struct pkv_class *c = &pool->core.classes[class_id];
	u32 end;

	memset(r, 0, sizeof(*r));
	r->class_id = class_id;
	pkv_enter(pool);
	end = id < c->fresh_page ? id + min(c->fresh_page - id, SCAN) : id;
	while (id < end && !(c->pages[id].flags & PKV_PAGE_LIVE))
		id++;
	if (id < end) {
		r->id = id;
		r->first = c->pages[id];
		r->moving = r->first.move != PKV_NONE;
		do {
			r->nr++;
			id++;
		} while (id < end && goes_on(r, &c->pages[id]));
	}
	if (id >= c->fresh_page && !r->nr)
		id = U32_MAX;
	pkv_leave_unchanged(pool);
	return id;
}

/* A position in maps is a class in the upper half and a page in the lower one, plus 1. */
static void *maps_at(struct seq_file *m, loff_t *pos)
{
	struct pkv_kpool *pool = pde_data(file_inode(m->file));
	struct run *r = m->private;
	u64 at = *pos - 1;
	u32 next;

	while (at >> 32 < pool->core.nr_classes) {
		next = find_run(pool, r, at >> 32, (u32)at);
		if (r->nr) {
			*pos = ((u64)r->class_id << 32 | r->id) + 1;
			return r;
		}
		at = next == U32_MAX ? (at | U32_MAX) + 1 : (at & ~(u64)U32_MAX) | next;
		cond_resched();
	}
	return NULL;
}

static void *maps_start(struct seq_file *m, loff_t *pos)
{
	return *pos ? maps_at(m, pos) : SEQ_START_TOKEN;
}

static void *maps_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct run *r = v;

	*pos += v == SEQ_START_TOKEN ? 1 : r->nr;
	return maps_at(m, pos);
}

static void plain_stop(struct seq_file *m, void *v)
{
}

static void show_slots(struct seq_file *m, const struct run *r, u32 tier)
{
	u32 slot = r->first.slot[tier];

	if (slot == PKV_NONE)
		seq_puts(m, " -");
	else if (r->nr == 1)
		seq_printf(m, " %u", slot);
	else
		seq_printf(m, " %u-%u", slot, slot + r->nr - 1);
}

static const char *page_state(const struct run *r)
{
	if (r->first.flags & PKV_PAGE_LOST)
		return "lost";
	if (r->moving)
		return "moving";
	if (r->first.holds)
		return "held";
	return r->first.refs ? "idle" : "cached";
}

static int maps_show(struct seq_file *m, void *v)
{
	const struct run *r = v;
	u32 tier;

	if (v == SEQ_START_TOKEN) {
		seq_puts(m, "class pages device host disk sequences state published\n");
		return 0;
	}
	seq_printf(m, "%u %u-%u", r->class_id, r->id, r->id + r->nr - 1);
	for (tier = 0; tier < PKV_NR_TIERS; tier++)
		show_slots(m, r, tier);
	seq_printf(m, " %u %s %u\n", r->first.refs, page_state(r),
		   !!(r->first.flags & PKV_PAGE_INDEXED));
	return 0;
}

static const struct seq_operations maps_ops = {
	.start = maps_start,
	.next = maps_next,
	.stop = plain_stop,
	.show = maps_show,
};

struct seq_copy {
	struct pkv_seq seq;
	u32 index;
};

/* The first live sequence from the position on; position 0 is the heading. */
static void *seqs_at(struct seq_file *m, loff_t *pos)
{
	struct pkv_kpool *pool = pde_data(file_inode(m->file));
	struct seq_copy *copy = m->private;
	bool found = false, more = true;
	u64 i = *pos - 1, end;

	while (more && !found) {
		pkv_enter(pool);
		end = min_t(u64, i + SCAN, pool->core.fresh_seq);
		while (i < end && pool->core.seqs[i].state == PKV_SEQ_FREE)
			i++;
		found = i < end;
		if (found)
			copy->seq = pool->core.seqs[i];
		more = i < pool->core.fresh_seq;
		pkv_leave_unchanged(pool);
		cond_resched();
	}
	if (!found)
		return NULL;
	copy->index = i;
	*pos = i + 1;
	return copy;
}

static void *seqs_start(struct seq_file *m, loff_t *pos)
{
	return *pos ? seqs_at(m, pos) : SEQ_START_TOKEN;
}

static void *seqs_next(struct seq_file *m, void *v, loff_t *pos)
{
	++*pos;
	return seqs_at(m, pos);
}

static int seqs_show(struct seq_file *m, void *v)
{
	const struct seq_copy *copy = v;
	const struct pkv_seq *seq = &copy->seq;

	if (v == SEQ_START_TOKEN) {
		seq_puts(m, "sequence client class state tokens pages priority pinned\n");
		return 0;
	}
	seq_printf(m, "%u.%u %llu %u %s %u %u %u %u\n", copy->index, seq->gen, seq->owner,
		   seq->class_id, seq_states[seq->state], seq->len, seq->nr_pages,
		   seq->priority, !!(seq->flags & PKV_SEQ_PINNED));
	return 0;
}

static const struct seq_operations seqs_ops = {
	.start = seqs_start,
	.next = seqs_next,
	.stop = plain_stop,
	.show = seqs_show,
};

static int show_limits(struct seq_file *m, void *v)
{
	struct pkv_kpool *pool = m->private;
	u32 i, tier;

	seq_puts(m, "class tier slots limit ceiling used low high state page_tokens page_bytes\n");
	pkv_enter(pool);
	for (i = 0; i < pool->core.nr_classes; i++)
		for (tier = 0; tier < PKV_NR_TIERS; tier++) {
			const struct pkv_tier *t = &pool->core.classes[i].tiers[tier];

			seq_printf(m, "%u %s %u %u %u %u %u %u %s %u %llu\n", i,
				   tier_names[tier], t->nr_slots, t->limit,
				   pool->ceiling[i][tier], pkv_tier_used(t), t->low,
				   t->high, tier_states[t->state],
				   pool->classes[i].page_tokens, pool->classes[i].page_bytes);
		}
	pkv_leave_unchanged(pool);
	return 0;
}

/* A position in files is an id plus 1; position 0 is the heading. */
static void *files_at(struct seq_file *m, loff_t *pos)
{
	struct pkv_kpool *pool = pde_data(file_inode(m->file));
	struct pkv_foreign *copy = m->private;

	if (!pkv_foreign_next(pool, *pos - 1, copy))
		return NULL;
	*pos = copy->id + 1;
	return copy;
}

static void *files_start(struct seq_file *m, loff_t *pos)
{
	return *pos ? files_at(m, pos) : SEQ_START_TOKEN;
}

static void *files_next(struct seq_file *m, void *v, loff_t *pos)
{
	++*pos;
	return files_at(m, pos);
}

static int files_show(struct seq_file *m, void *v)
{
	const struct pkv_foreign *f = v;

	if (v == SEQ_START_TOKEN) {
		seq_puts(m, "name bytes fingerprint uid\n");
		return 0;
	}
	seq_printf(m, "%s %llu %016llx %u\n", f->name, f->bytes, f->fingerprint,
		   from_kuid_munged(m->file->f_cred->user_ns, f->uid));
	return 0;
}

static const struct seq_operations files_ops = {
	.start = files_start,
	.next = files_next,
	.stop = plain_stop,
	.show = files_show,
};

/* ------------------------------------------------------------------- life */

/* The files of @pool, which must go before it does. Without memory for them it has none. */
void pkv_proc_add(struct pkv_kpool *pool)
{
	umode_t mode = pool->mode & 0444;
	struct proc_dir_entry *files[5];
	char name[12];
	u32 i;

	if (!top)
		return;
	snprintf(name, sizeof(name), "%u", pool->id);
	pool->proc = proc_mkdir_data(name, 0555, top, pool);
	if (!pool->proc)
		return;
	files[0] = proc_create_seq_private("maps", mode, pool->proc, &maps_ops,
					   sizeof(struct run), pool);
	files[1] = proc_create_seq_private("sequences", mode, pool->proc, &seqs_ops,
					   sizeof(struct seq_copy), pool);
	files[2] = proc_create_single_data("limits", mode, pool->proc, show_limits, pool);
	files[3] = pkv_proc_add_tables(pool, mode);
	files[4] = proc_create_seq_private("files", mode, pool->proc, &files_ops,
					   sizeof(struct pkv_foreign), pool);
	for (i = 0; i < ARRAY_SIZE(files); i++)
		if (files[i])
			proc_set_user(files[i], pool->uid, pool->gid);
}

/* Waits for those who read them. */
void pkv_proc_remove(struct pkv_kpool *pool)
{
	proc_remove(pool->proc);
	pool->proc = NULL;
}

int pkv_proc_init(void)
{
	top = proc_mkdir("pagedkv", NULL);
	if (!top)
		return -ENOMEM;
	if (proc_create_single("version", 0444, top, show_version) &&
	    proc_create_single("meminfo", 0444, top, show_meminfo) &&
	    proc_create_single("stat", 0444, top, show_stat) &&
	    proc_create_single("tiers", 0444, top, show_tiers) &&
	    proc_create_seq("pools", 0444, top, &pools_ops))
		return 0;
	proc_remove(top);
	return -ENOMEM;
}

void pkv_proc_exit(void)
{
	proc_remove(top);
}
