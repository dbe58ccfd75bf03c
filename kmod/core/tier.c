// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Free slots of a tier: a bitmap whose words are summed up by a bit each in
 * the next level, so that finding a slot costs the same in a tier of a
 * thousand and of a hundred million.
 *
 * Allocation is next-fit: pages that are moved one after another land in
 * neighbouring slots, and their copies merge into one large command.
 *
 * A slot whose memory was given back is absent: its bit is clear, as if it
 * were in use, but it counts as neither.
 */
#include <linux/bitops.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "internal.h"

#define MAX_LEVELS	4

static u32 level_bits(const struct pkv_tier *t, u32 level)
{
	u32 bits = t->nr_slots;

	while (level--)
		bits = BITS_TO_LONGS(bits);
	return bits;
}

static void fill(unsigned long *map, u32 bits)
{
	memset(map, 0xff, BIT_WORD(bits) * sizeof(long));
	if (bits % BITS_PER_LONG)
		map[BIT_WORD(bits)] = BIT_MASK(bits) - 1;
}

int pkv_tier_init(struct pkv_tier *t, u32 nr_slots, u32 low, u32 high)
{
	u32 bits = nr_slots;
	u32 i;

	memset(t, 0, sizeof(*t));
	t->nr_slots = nr_slots;
	t->nr_free = nr_slots;
	t->limit = nr_slots;
	t->low = low;
	t->high = high;
	for (i = 0; i < PKV_NR_PRIORITIES; i++) {
		t->idle[i].head = PKV_NONE;
		t->idle[i].tail = PKV_NONE;
		t->idle[i].scan = PKV_NONE;
	}
	if (!nr_slots)
		return 0;
	do {
		unsigned long *map = kvcalloc(BITS_TO_LONGS(bits), sizeof(long),
					      PKV_GFP);

		if (!map) {
			pkv_tier_exit(t);
			return -ENOMEM;
		}
		fill(map, bits);
		t->free[t->nr_levels++] = map;
		bits = BITS_TO_LONGS(bits);
	} while (bits > 1 && t->nr_levels < MAX_LEVELS);
	return 0;
}

void pkv_tier_exit(struct pkv_tier *t)
{
	while (t->nr_levels)
		kvfree(t->free[--t->nr_levels]);
}

/* Slots that may be taken now. */
u32 pkv_tier_avail(const struct pkv_tier *t)
{
	u32 used = pkv_tier_used(t);

	if (t->state != PKV_TIER_ONLINE || used >= t->limit)
		return 0;
	return min(t->limit - used, t->nr_free);
}

/* The lowest set bit of a level at or after @bit, or PKV_NONE. */
static u32 find_in_level(const struct pkv_tier *t, u32 level, u32 bit)
{
	u32 bits = level_bits(t, level);
	unsigned long word;
	u32 w;

	if (bit >= bits)
		return PKV_NONE;
	w = BIT_WORD(bit);
	word = t->free[level][w] & ~(BIT_MASK(bit) - 1);
	if (!word) {
		if (level + 1 < t->nr_levels) {
			w = find_in_level(t, level + 1, w + 1);
			if (w == PKV_NONE)
				return PKV_NONE;
		} else {
			while (++w < BITS_TO_LONGS(bits) && !t->free[level][w])
				;
			if (w == BITS_TO_LONGS(bits))
				return PKV_NONE;
		}
		word = t->free[level][w];
	}
	return w * BITS_PER_LONG + (u32)__ffs(word);
}

static void mark_used(struct pkv_tier *t, u32 slot)
{
	u32 level, bit = slot;

	for (level = 0; level < t->nr_levels; level++) {
		t->free[level][BIT_WORD(bit)] &= ~BIT_MASK(bit);
		if (t->free[level][BIT_WORD(bit)])
			break;
		bit = BIT_WORD(bit);
	}
	t->nr_free--;
}

/* Take the next free slot after the last one taken; PKV_NONE when there is none. */
u32 pkv_tier_alloc(struct pkv_tier *t)
{
	u32 slot;

	if (!pkv_tier_avail(t))
		return PKV_NONE;
	slot = find_in_level(t, 0, t->cursor);
	if (slot == PKV_NONE)
		slot = find_in_level(t, 0, 0);
	mark_used(t, slot);
	t->cursor = slot + 1;
	return slot;
}

/* Take this very slot: 0, -EBUSY or -EDQUOT. */
int pkv_tier_take(struct pkv_tier *t, u32 slot)
{
	if (!pkv_tier_slot_is_free(t, slot))
		return -EBUSY;
	if (!pkv_tier_avail(t))
		return -EDQUOT;
	mark_used(t, slot);
	return 0;
}

void pkv_tier_free(struct pkv_tier *t, u32 slot)
{
	u32 level, bit = slot;

	for (level = 0; level < t->nr_levels; level++) {
		unsigned long *word = &t->free[level][BIT_WORD(bit)];
		bool summed = *word;

		*word |= BIT_MASK(bit);
		if (summed)
			break;
		bit = BIT_WORD(bit);
	}
	t->nr_free++;
}

/* Free slots become absent: 0, or -EBUSY when they are not all free. */
int pkv_tier_withdraw(struct pkv_tier *t, u32 first, u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++)
		if (!pkv_tier_slot_is_free(t, first + i))
			return -EBUSY;
	for (i = 0; i < nr; i++)
		mark_used(t, first + i);
	t->nr_absent += nr;
	return 0;
}

void pkv_tier_restore(struct pkv_tier *t, u32 first, u32 nr)
{
	t->nr_absent -= nr;
	while (nr--)
		pkv_tier_free(t, first++);
}

bool pkv_tier_slot_is_free(const struct pkv_tier *t, u32 slot)
{
	return test_bit(slot, t->free[0]);
}

/* Do the bitmap's levels and the count agree? */
bool pkv_tier_is_sane(const struct pkv_tier *t)
{
	u32 level, bit, nr_free = 0;

	for (bit = 0; bit < t->nr_slots; bit++)
		nr_free += pkv_tier_slot_is_free(t, bit);
	for (level = 1; level < t->nr_levels; level++)
		for (bit = 0; bit < level_bits(t, level); bit++)
			if (!!t->free[level - 1][bit] != test_bit(bit, t->free[level]))
				return false;
	return nr_free == t->nr_free;
}

u64 pkv_tier_metadata_bytes(const struct pkv_tier *t)
{
	u64 bytes = 0;
	u32 level;

	for (level = 0; level < t->nr_levels; level++)
		bytes += BITS_TO_LONGS(level_bits(t, level)) * sizeof(long);
	return bytes;
}
