// SPDX-License-Identifier: GPL-2.0-only
/*
 * Units: the pieces of a huge page's size in which memory comes to the host
 * tier and goes.
 *
 * A unit whose slots are all free may be given back to the kernel. Its slots
 * are absent then, until the page manager has no other ones left and
 * pkv_units_provide() gets memory for them. Meanwhile the file has nothing
 * there; a client that touches its mapping gets fresh pages, zeroed, which
 * serve once the unit is provided for, or go with the next sweep.
 *
 * A page that anybody but the file refers to is left in its place, so that a
 * device goes on to write where the mapping reads. That is seen under the
 * page's lock when nothing maps it: a fault that comes then waits for the
 * lock, and finds the page gone; and fast GUP looks again whether the page is
 * mapped after it took its reference.
 *
 * A slot need not lie in one unit: it is absent while any of its units is.
 */
#include <linux/jiffies.h>
#include <linux/math64.h>
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>

#include "pkv.h"
#include "compat.h"

#define UNIT_SHIFT	PMD_SHIFT
#define UNIT_PAGES	(1UL << (UNIT_SHIFT - PAGE_SHIFT))

/*
 * What one sweep may cost, because it holds the pool's lock: seeing that a
 * slot of a unit is in use counts as one, looking at a unit's memory as LOOK.
 */
#define SWEEP		1024U
#define LOOK		16U

/* Used units that are looked at to see whether it helps to empty others. */
#define SAMPLE		8U

/* How long none is asked for after there was no memory. */
#define NO_MEMORY_JIFFIES	(HZ / 10)

struct slot_range {
	u32 first, nr;
};

static pgoff_t first_page(u32 unit)
{
	return (pgoff_t)unit << (UNIT_SHIFT - PAGE_SHIFT);
}

/* The page after a unit's last one. */
static pgoff_t end_page(const struct pkv_host *host, u32 unit)
{
	return min_t(u64, first_page(unit) + UNIT_PAGES, DIV_ROUND_UP_ULL(host->bytes, PAGE_SIZE));
}

u64 pkv_host_huge_bytes(const struct pkv_host *host)
{
	return (u64)READ_ONCE(host->nr_huge) << UNIT_SHIFT;
}

u64 pkv_host_resident_bytes(const struct pkv_host *host)
{
	return host->file ? (u64)READ_ONCE(host->file->f_mapping->nrpages) << PAGE_SHIFT : 0;
}

static bool slot_is_absent(const struct pkv_host *host, u64 page_bytes, u32 slot)
{
	unsigned long first = (slot * page_bytes) >> UNIT_SHIFT;
	unsigned long end = (((slot + 1ULL) * page_bytes - 1) >> UNIT_SHIFT) + 1;

	return find_next_bit(host->absent, end, first) < end;
}

/* Slots that go and come with a unit, whose own bit is clear: its others are absent anyway. */
static struct slot_range slots_of(const struct pkv_host *host, u64 page_bytes, u32 unit)
{
	u64 end_byte = min((u64)(unit + 1ULL) << UNIT_SHIFT, host->bytes);
	u32 first = div64_u64((u64)unit << UNIT_SHIFT, page_bytes);
	u32 end = div64_u64(end_byte - 1, page_bytes) + 1;

	if (slot_is_absent(host, page_bytes, first))
		first++;
	if (end > first && slot_is_absent(host, page_bytes, end - 1))
		end--;
	return (struct slot_range) { first, end - first };
}

/* False: a slot of the unit is in use. */
static bool withdraw(struct pkv_kpool *pool, u32 class_id, u32 unit)
{
	struct pkv_host *host = &pool->host[class_id];
	struct slot_range slots = slots_of(host, pool->classes[class_id].page_bytes, unit);

	if (slots.nr && pkv_slots_withdraw(&pool->core, class_id, PKV_HOST, slots.first, slots.nr))
		return false;
	__set_bit(unit, host->absent);
	host->nr_absent++;
	return true;
}

static void restore(struct pkv_kpool *pool, u32 class_id, u32 unit)
{
	struct pkv_host *host = &pool->host[class_id];
	struct slot_range slots;

	__clear_bit(unit, host->absent);
	host->nr_absent--;
	slots = slots_of(host, pool->classes[class_id].page_bytes, unit);
	if (slots.nr)
		pkv_slots_restore(&pool->core, class_id, PKV_HOST, slots.first, slots.nr);
}

static void note_huge(struct pkv_host *host, u32 unit, bool is_huge)
{
	if (is_huge == test_bit(unit, host->huge))
		return;
	__change_bit(unit, host->huge);
	WRITE_ONCE(host->nr_huge, host->nr_huge + (is_huge ? 1 : -1));
}

/* ----------------------------------------------------------------- memory */

/* Pages that went: all of the folio's, or none. */
static unsigned long drop_folio(struct address_space *mapping, struct folio *folio)
{
	unsigned long nr = folio_nr_pages(folio);
	bool is_gone = false;

	if (!folio_trylock(folio))
		return 0;
	/* Nothing maps it any more: before who else refers to it, as fast GUP has it. */
	smp_mb();
	/* The cache's references, and ours. */
	if (folio->mapping == mapping && folio_ref_count(folio) == nr + 1)
		is_gone = !pkv_remove_folio(mapping, folio);
	folio_unlock(folio);
	return is_gone ? nr : 0;
}

/* Take a unit's pages from the file, but for those that are in somebody's hands. */
static unsigned long drop_pages(struct pkv_host *host, u32 unit)
{
	struct address_space *mapping = host->file->f_mapping;
	pgoff_t i = first_page(unit), end = end_page(host, unit);
	unsigned long nr = 0;
	struct folio_batch batch;
	u32 k;

	unmap_mapping_range(mapping, (loff_t)i << PAGE_SHIFT, (loff_t)(end - i) << PAGE_SHIFT, 1);
	folio_batch_init(&batch);
	while (filemap_get_folios(mapping, &i, end - 1, &batch)) {
		for (k = 0; k < folio_batch_count(&batch); k++)
			nr += drop_folio(mapping, batch.folios[k]);
		folio_batch_release(&batch);
	}
	if (nr)
		note_huge(host, unit, false);
	return nr;
}

/* Bring a unit's pages into memory, charged to the pool's memcg. */
static int fill(struct pkv_kpool *pool, struct pkv_host *host, u32 unit, gfp_t gfp)
{
	struct mem_cgroup *old = set_active_memcg(pool->memcg);
	pgoff_t i = first_page(unit), end = end_page(host, unit);
	bool is_huge = false;
	struct folio *folio;
	struct page *page;
	int ret = 0;

	while (i < end) {
		page = ERR_PTR(-EINTR);
		if (!fatal_signal_pending(current))
			page = shmem_read_mapping_page_gfp(host->file->f_mapping, i, gfp);
		if (IS_ERR(page)) {
			ret = PTR_ERR(page) == -ENOSPC ? -ENOMEM : PTR_ERR(page);
			break;
		}
		folio = page_folio(page);
		is_huge |= folio_test_pmd_mappable(folio);
		i = max(folio->index + folio_nr_pages(folio), i + 1);
		folio_put(folio);
		cond_resched();
	}
	set_active_memcg(old);
	if (!ret)
		note_huge(host, unit, is_huge);
	return ret;
}

struct look {
	bool found;	/* any page at all */
	bool pinned;	/* for DMA, or so it seems */
	int nid;	/* of the last page */
};

static struct look look_at(const struct pkv_host *host, u32 unit)
{
	struct address_space *mapping = host->file->f_mapping;
	pgoff_t i = first_page(unit), end = end_page(host, unit);
	struct folio_batch batch;
	struct look look = { };
	u32 k;

	folio_batch_init(&batch);
	while (!look.pinned && filemap_get_folios(mapping, &i, end - 1, &batch)) {
		for (k = 0; k < folio_batch_count(&batch); k++) {
			look.found = true;
			look.pinned |= folio_maybe_dma_pinned(batch.folios[k]);
			look.nid = folio_nid(batch.folios[k]);
		}
		folio_batch_release(&batch);
	}
	return look;
}

/* ------------------------------------------------------------------- life */

void pkv_units_exit(struct pkv_host *host)
{
	kvfree(host->absent);
	kvfree(host->huge);
	host->absent = NULL;
	host->huge = NULL;
}

/* All of a new class's memory; undone by emptying the file and pkv_units_exit(). */
int pkv_units_init(struct pkv_kpool *pool, u32 class_id)
{
	struct pkv_host *host = &pool->host[class_id];
	size_t nr_longs;
	int ret = 0;
	u32 unit;

	host->nr_units = DIV_ROUND_UP_ULL(host->bytes, 1ULL << UNIT_SHIFT);
	nr_longs = BITS_TO_LONGS(host->nr_units);
	host->no_memory_until = jiffies;
	host->barren_until = jiffies;
	host->absent = kvcalloc(nr_longs, sizeof(long), PKV_GFP_USER);
	host->huge = kvcalloc(nr_longs, sizeof(long), PKV_GFP_USER);
	if (!host->absent || !host->huge)
		return -ENOMEM;
	for (unit = 0; !ret && unit < host->nr_units; unit++)
		ret = fill(pool, host, unit, mapping_gfp_mask(host->file->f_mapping));
	return ret;
}

/* -------------------------------------------------------------- give back */

static unsigned long give_back(struct pkv_kpool *pool, u32 class_id, u32 unit, int nid, u32 *cost)
{
	struct pkv_host *host = &pool->host[class_id];
	bool was_absent = test_bit(unit, host->absent);
	unsigned long nr = 0;
	struct look look;

	++*cost;
	if (!was_absent && !withdraw(pool, class_id, unit))
		return 0;
	*cost += LOOK;
	look = look_at(host, unit);
	if (look.found && !look.pinned && (nid == NUMA_NO_NODE || nid == look.nid))
		nr = drop_pages(host, unit);
	if (!nr && !was_absent)
		restore(pool, class_id, unit);
	return nr;
}

/*
 * Give memory of free slots back, from where the last sweep ended, until it is
 * @nr_pages or a sweep is over. With a @nid: of that node only. Returns the
 * pages. For the reclaim of memory: allocates nothing.
 */
unsigned long pkv_units_give_back(struct pkv_kpool *pool, u32 class_id, int nid,
				  unsigned long nr_pages)
{
	struct pkv_host *host = &pool->host[class_id];
	unsigned long nr = 0, now;
	u32 n, cost = 0;

	if (host->sweep_nid != nid)
		host->nr_fruitless = 0;
	host->sweep_nid = nid;
	for (n = host->nr_units; n && nr < nr_pages && cost < SWEEP; n--) {
		now = give_back(pool, class_id, host->sweep, nid, &cost);
		nr += now;
		host->nr_fruitless = now ? 0 : min(host->nr_fruitless + 1, host->nr_units);
		host->sweep = host->sweep + 1 < host->nr_units ? host->sweep + 1 : 0;
		cond_resched();
	}
	pool->shrink.pages += nr;
	return nr;
}

/* Has somebody pinned what there is? Then no slot that gets free helps. */
bool pkv_units_are_pinned(const struct pkv_host *host)
{
	u32 step = max(host->nr_units / SAMPLE, 1U);
	struct look look;
	u32 unit;

	for (unit = 0; unit < host->nr_units; unit += step) {
		look = look_at(host, unit);
		if (look.found && !look.pinned)
			return false;
	}
	return true;
}

/* -------------------------------------------------------------- get again */

/*
 * A slot is wanted, and only absent ones are left: memory for the first of
 * them, if it can be had without much effort. What could be filled only in
 * part is given back at once.
 */
bool pkv_units_provide(struct pkv_pool *core, u32 class_id, u32 tier)
{
	struct pkv_kpool *pool = container_of(core, struct pkv_kpool, core);
	struct pkv_host *host = &pool->host[class_id];
	u64 page_bytes = pool->classes[class_id].page_bytes;
	gfp_t gfp;
	u32 unit, slot, last;

	if (tier != PKV_HOST || !host->nr_absent || time_before(jiffies, host->no_memory_until))
		return false;
	gfp = (mapping_gfp_mask(host->file->f_mapping) & ~__GFP_RETRY_MAYFAIL) | __GFP_NORETRY;
	unit = find_first_bit(host->absent, host->nr_units);
	slot = div64_u64((u64)unit << UNIT_SHIFT, page_bytes);
	last = ((slot + 1ULL) * page_bytes - 1) >> UNIT_SHIFT;
	for (; unit <= last; unit++) {
		if (!test_bit(unit, host->absent))
			continue;
		if (fill(pool, host, unit, gfp)) {
			drop_pages(host, unit);
			host->no_memory_until = jiffies + NO_MEMORY_JIFFIES;
			pool->shrink.refill_fails++;
			return false;
		}
		restore(pool, class_id, unit);
		pool->shrink.refills++;
	}
	return true;
}
