// SPDX-License-Identifier: GPL-2.0-only
/* The model's contents and checks, and the loop over operations. See model.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <linux/slab.h>

#include "model.h"

#define POISON		0xdead000000000000ull

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* A number below @n, at most 256. */
uint32_t model_pick(struct model *m, uint32_t n)
{
	struct model_source *s = m->src;

	if (n <= 1)
		return 0;
	if (s->data)
		return s->pos < s->len ? s->data[s->pos++] % n : 0;
	s->rng = mix(s->rng);
	return s->rng % n;
}

bool model_ended(const struct model *m)
{
	return m->why[0] || (m->src->data && m->src->pos >= m->src->len);
}

void model_fail(struct model *m, int line, const char *cond, const char *fmt, ...)
{
	char text[160];
	va_list args;

	if (m->why[0])
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	snprintf(m->why, sizeof(m->why), "op %llu: %s (line %d: %.60s)",
		 (unsigned long long)m->nr_ops, text, line, cond);
	model_trace(m, "FAIL %s", m->why);
}

void model_trace(struct model *m, const char *fmt, ...)
{
	va_list args;

	if (!m->trace)
		return;
	fprintf(m->trace, "%6llu ", (unsigned long long)m->nr_ops);
	va_start(args, fmt);
	vfprintf(m->trace, fmt, args);
	va_end(args);
	fputc('\n', m->trace);
}

/* Half of the key hardly tells pages apart: equal halves and shared buckets are common. */
struct pkv_key model_key(const struct model *m, uint64_t val)
{
	struct pkv_key key = { .lo = val & 3, .hi = val };

	if (m->swap_key)
		key = (struct pkv_key){ .lo = val, .hi = val & 3 };
	return key;
}

static uint64_t val_of_key(const struct model *m, const struct pkv_key *key)
{
	return m->swap_key ? key->lo : key->hi;
}

static uint64_t hash_words(uint64_t h, const void *p, size_t bytes)
{
	const uint32_t *w = p;

	for (size_t i = 0; i < bytes / 4; i++)
		h = (h ^ w[i]) * 0x100000001b3ull;
	return h ^ (h >> 29);
}

static uint64_t digest_class(uint64_t h, const struct pkv_class *c)
{
	const uint32_t counts[] = { c->nr_live, c->nr_cached, c->nr_lost, c->free_page,
				    c->fresh_page, c->nr_indexed };

	h = hash_words(h, counts, sizeof(counts));
	h = hash_words(h, &c->twins, sizeof(c->twins));
	h = hash_words(h, c->pages, c->fresh_page * sizeof(*c->pages));
	for (int t = 0; t < PKV_NR_TIERS; t++) {
		const struct pkv_tier *tier = &c->tiers[t];

		h = hash_words(h, tier, offsetof(struct pkv_tier, free));
		h = hash_words(h, tier->idle, sizeof(tier->idle));
		if (tier->nr_slots)
			h = hash_words(h, tier->free[0], sizeof(long));
	}
	return h;
}

/*
 * Of everything that decides what the pool does next; counters apart. Nothing to compare in a
 * pool with low marks: there any call may plan evictions.
 */
uint64_t model_digest(const struct model *m)
{
	const struct pkv_pool *p = &m->pool;
	uint64_t h = 0xcbf29ce484222325ull;

	if (!m->calm)
		return 0;
	for (uint32_t i = 0; i < p->nr_classes; i++)
		h = digest_class(h, &p->classes[i]);
	for (uint32_t i = 0; i < p->cap_seqs; i++) {
		const struct pkv_seq *s = &p->seqs[i];
		const uint32_t words[] = { s->gen, s->len, s->nr_pages, s->cursor, s->prev, s->next,
					   s->state, s->class_id, s->priority, s->flags,
					   (uint32_t)s->owner };

		if (s->state == PKV_SEQ_FREE)
			continue;
		h = hash_words(h, words, sizeof(words));
		if (s->nr_pages)
			h = hash_words(h, s->table, s->nr_pages * sizeof(*s->table));
	}
	h = hash_words(h, p->moves, p->fresh_move * sizeof(*p->moves));
	h = hash_words(h, &p->nr_moves, sizeof(p->nr_moves));
	return hash_words(h, &p->nr_queued, sizeof(p->nr_queued));
}

bool model_slot_is_free(const struct model *m, uint32_t class_id, uint32_t tier, uint32_t slot)
{
	/* MODEL_MAX_SLOTS is less than a word */
	return m->pool.classes[class_id].tiers[tier].free[0][0] >> slot & 1;
}

/* What nobody owns is garbage: a read of it shows. */
static void poison_free_slots(struct model *m)
{
	for (uint32_t c = 0; c < m->pool.nr_classes; c++)
		for (uint32_t t = 0; t < PKV_NR_TIERS; t++)
			for (uint32_t s = 0; s < m->pool.classes[c].tiers[t].nr_slots; s++)
				if (model_slot_is_free(m, c, t, s))
					for (int i = 0; i < MODEL_MAX_PAGE_TOKENS; i++)
						m->mem[c][t][s].cell[i] = POISON | t << 8 | s;
}

/* Is what @cells holds what token @first.. of @val (of @len tokens) left there? */
static bool holds_tokens(const struct model_cells *cells, uint64_t val, uint32_t len,
			 uint32_t first, uint32_t end)
{
	for (uint32_t i = first; i < end; i++)
		if (cells->cell[i - first] != val >> (len - 1 - i))
			return false;
	return true;
}

static void check_indexed(struct model *m, uint32_t class_id)
{
	const struct pkv_class *c = &m->pool.classes[class_id];

	for (uint32_t i = 0; i < c->fresh_page; i++) {
		const struct pkv_page *p = &c->pages[i];
		uint64_t val;

		if (!(p->flags & PKV_PAGE_LIVE) || !(p->flags & PKV_PAGE_INDEXED))
			continue;
		val = val_of_key(m, &p->key);
		for (uint32_t t = 0; t < PKV_NR_TIERS; t++)
			EXPECT(m, p->slot[t] == PKV_NONE ||
			       holds_tokens(&m->mem[class_id][t][p->slot[t]], val, c->page_tokens,
					    0, c->page_tokens),
			       "page %u of class %u, key %llx: a wrong copy in tier %u slot %u",
			       i, class_id, (unsigned long long)val, t, p->slot[t]);
	}
}

/* Each valid copy of each page of @s, in whatever tier. */
static void check_copies(struct model *m, const struct model_seq *s, uint32_t nr_tokens)
{
	const struct pkv_class *c = &m->pool.classes[s->class_id];
	const struct pkv_seq *cs = &m->pool.seqs[(uint32_t)s->handle];

	for (uint32_t first = 0; first < nr_tokens; first += c->page_tokens) {
		const struct pkv_page *p = &c->pages[cs->table[first / c->page_tokens]];
		uint32_t end = first + c->page_tokens;

		if (end > nr_tokens)
			end = nr_tokens;
		for (uint32_t t = 0; t < PKV_NR_TIERS; t++)
			EXPECT(m, p->slot[t] == PKV_NONE ||
			       holds_tokens(&m->mem[s->class_id][t][p->slot[t]], s->val, s->len,
					    first, end),
			       "sequence %llx: tier %u slot %u is not its tokens %u to %u",
			       (unsigned long long)s->handle, t, p->slot[t], first, end);
	}
}

/* What attention would read: through the server's block table. */
static void check_running(struct model *m, struct model_seq *s)
{
	uint32_t page_tokens = m->pool.classes[s->class_id].page_tokens;
	uint32_t slots[MODEL_MAX_TOKENS + 1];
	int nr = pkv_seq_table(&m->pool, s->handle, 0, slots, MODEL_MAX_TOKENS + 1);

	EXPECT(m, nr == (int)((s->len + page_tokens - 1) / page_tokens),
	       "table of %llx has %d entries for %u tokens", (unsigned long long)s->handle, nr,
	       s->len);
	for (int i = 0; i < nr; i++) {
		uint32_t first = i * page_tokens, end = first + page_tokens;

		if (s->state != PKV_SEQ_RUNNING)
			s->table[i] = slots[i];
		EXPECT(m, slots[i] == s->table[i], "table of %llx changed at %d without a delta",
		       (unsigned long long)s->handle, i);
		if (end > s->len)
			end = s->len;
		EXPECT(m, holds_tokens(&m->mem[s->class_id][PKV_DEVICE][slots[i]], s->val, s->len,
				       first, end),
		       "sequence %llx reads wrong tokens %u to %u in slot %u",
		       (unsigned long long)s->handle, first, end, slots[i]);
	}
}

/* States may change by themselves only as loads end and pages are lost. */
static bool may_follow(uint32_t from, uint32_t to)
{
	return from == to || (from == PKV_SEQ_LOADING && to == PKV_SEQ_RUNNING) ||
	       to == PKV_SEQ_BROKEN;
}

static void check_seq(struct model *m, struct model_seq *s)
{
	uint32_t page_tokens = m->pool.classes[s->class_id].page_tokens;
	struct pkv_seq_info info;
	int state = pkv_seq_state(&m->pool, s->handle);

	EXPECT(m, !pkv_seq_info(&m->pool, s->handle, &info), "no info of %llx",
	       (unsigned long long)s->handle);
	EXPECT(m, state == (int)info.state, "state %d, info says %u", state, info.state);
	EXPECT(m, info.len_tokens == s->len, "length %u is not %u", info.len_tokens, s->len);
	EXPECT(m, info.nr_pages == (s->len + page_tokens - 1) / page_tokens,
	       "%u pages for %u tokens", info.nr_pages, s->len);
	EXPECT(m, info.class_id == s->class_id && info.priority == s->priority,
	       "class %u, priority %u", info.class_id, info.priority);
	EXPECT(m, may_follow(s->state, state), "%llx went from state %u to %d",
	       (unsigned long long)s->handle, s->state, state);
	if (state == PKV_SEQ_RUNNING)
		EXPECT(m, !info.nr_missing, "%u pages are missing", info.nr_missing);
	if (state == PKV_SEQ_BROKEN) {
		EXPECT(m, info.lost_tokens < s->len || !s->len, "lost at %u of %u tokens",
		       info.lost_tokens, s->len);
		s->lost_tokens = info.lost_tokens;
		if (s->written > info.lost_tokens)
			s->written = info.lost_tokens;
	} else {
		EXPECT(m, s->written == s->len, "%u of %u tokens are written", s->written, s->len);
	}
	check_copies(m, s, s->written);
	if (state == PKV_SEQ_RUNNING)
		check_running(m, s);
	s->state = state;
}

/* References and holds, counted anew from what the sequences contain. */
static void check_counts(struct model *m, uint32_t class_id)
{
	const struct pkv_class *c = &m->pool.classes[class_id];
	uint32_t refs[PKV_NR_TIERS * MODEL_MAX_SLOTS] = { 0 };
	uint32_t holds[PKV_NR_TIERS * MODEL_MAX_SLOTS] = { 0 };

	EXPECT(m, c->nr_pages <= PKV_NR_TIERS * MODEL_MAX_SLOTS, "%u descriptors", c->nr_pages);
	for (int i = 0; i < MODEL_MAX_SEQS; i++) {
		const struct model_seq *s = &m->seqs[i];
		const struct pkv_seq *cs;

		if (!s->handle || s->class_id != class_id)
			continue;
		cs = &m->pool.seqs[(uint32_t)s->handle];
		for (uint32_t j = 0; j < cs->nr_pages; j++) {
			refs[cs->table[j]]++;
			holds[cs->table[j]] += (s->state == PKV_SEQ_RUNNING ||
						s->state == PKV_SEQ_LOADING) + s->pinned;
		}
	}
	for (uint32_t i = 0; i < m->nr_out; i++) {
		const struct pkv_move_desc *d = &m->out[i].desc;

		if (d->kind == PKV_MOVE_COPY && d->class_id == class_id)
			holds[m->pool.moves[(uint32_t)d->id].source]++;
	}
	for (uint32_t i = 0; i < c->fresh_page; i++) {
		const struct pkv_page *p = &c->pages[i];

		if (!(p->flags & PKV_PAGE_LIVE))
			continue;
		EXPECT(m, p->refs == refs[i], "page %u has %u references, not %u", i, p->refs,
		       refs[i]);
		EXPECT(m, p->holds == holds[i], "page %u has %u holds, not %u", i, p->holds,
		       holds[i]);
	}
}

/* The memory that an executor still writes is nobody else's. */
static void check_moves(struct model *m)
{
	for (uint32_t i = 0; i < m->nr_out; i++) {
		const struct pkv_move_desc *d = &m->out[i].desc;

		EXPECT(m, !model_slot_is_free(m, d->class_id, d->dst_tier, d->dst_slot),
		       "tier %u slot %u is free while a move writes it", d->dst_tier, d->dst_slot);
	}
}

void model_check(struct model *m)
{
	const char *why = "no reason given";
	int err;

	if (m->why[0])
		return;
	err = pkv_pool_check(&m->pool, &why);
	EXPECT(m, !err, "check: %d: %s", err, why);
	check_moves(m);
	poison_free_slots(m);
	for (int i = 0; i < MODEL_MAX_SEQS; i++)
		if (m->seqs[i].handle && !m->why[0])
			check_seq(m, &m->seqs[i]);
	for (uint32_t c = 0; c < m->pool.nr_classes && !m->why[0]; c++) {
		check_indexed(m, c);
		check_counts(m, c);
	}
}

static void draw_params(struct model *m)
{
	struct pkv_pool_params *p = &m->params;

	p->nr_classes = 1 + !model_pick(m, 4);
	p->max_seqs = 2 + model_pick(m, MODEL_MAX_SEQS - 1);
	p->max_moves = model_pick(m, 4) ? 8 + model_pick(m, 8) : 1 + model_pick(m, 4);
	p->nr_ranks = 1;
	for (uint32_t i = 0; i < p->nr_classes; i++) {
		struct pkv_class_params *c = &p->classes[i];

		c->page_tokens = 1u << model_pick(m, 3);
		for (int t = 0; t < PKV_NR_TIERS; t++) {
			uint32_t nr = model_pick(m, 4) ? 4 + model_pick(m, MODEL_MAX_SLOTS - 3) :
							 model_pick(m, 4);

			if (t == PKV_DEVICE && !nr)
				nr = 1;
			c->nr_slots[t] = nr;
			c->high[t] = model_pick(m, 2) ? model_pick(m, nr / 2 + 1) : 0;
			c->low[t] = model_pick(m, c->high[t] + 1);
		}
	}
	/* without low marks nothing is planned but what is asked for */
	m->calm = model_pick(m, 2);
	for (uint32_t i = 0; m->calm && i < p->nr_classes; i++)
		memset(p->classes[i].low, 0, sizeof(p->classes[i].low));
	m->swap_key = model_pick(m, 2);
	m->fail_allocs = !model_pick(m, 8);
}

static const struct {
	void (*run)(struct model *m);
	uint32_t weight;
} model_ops[] = {
	{ model_op_step, 70 },
	{ model_op_create, 24 },
	{ model_op_cold, 20 },
	{ model_op_load, 20 },
	{ model_op_publish, 20 },
	{ model_op_commit, 30 },
	{ model_op_fetch, 20 },
	{ model_op_match, 4 },
	{ model_op_adopt, 6 },
	{ model_op_pin, 5 },
	{ model_op_priority, 4 },
	{ model_op_forget, 3 },
	{ model_op_requeue, 8 },
	{ model_op_reclaim, 4 },
	{ model_op_shrink, 3 },
	{ model_op_limit, 2 },
	{ model_op_tier_state, 4 },
	{ model_op_free_owner, 1 },
	{ model_op_hostile_seq, 3 },
	{ model_op_hostile_class, 3 },
	{ model_op_hostile_commit, 2 },
};

static void run_one(struct model *m)
{
	uint32_t total = 0, draw, i;

	for (i = 0; i < sizeof(model_ops) / sizeof(model_ops[0]); i++)
		total += model_ops[i].weight;
	draw = model_pick(m, total);
	for (i = 0; draw >= model_ops[i].weight; i++)
		draw -= model_ops[i].weight;
	model_ops[i].run(m);
	m->nr_ops++;
}

/* With no sequence and no move left, what is used is what the index keeps. */
static void check_end(struct model *m)
{
	for (uint32_t i = 0; i < m->pool.nr_classes; i++) {
		const struct pkv_class *c = &m->pool.classes[i];

		EXPECT(m, c->nr_live == c->nr_cached, "%u pages live, %u cached", c->nr_live,
		       c->nr_cached);
		for (int t = 0; t < PKV_NR_TIERS; t++) {
			uint32_t used = 0;

			for (uint32_t j = 0; j < c->fresh_page; j++)
				used += c->pages[j].flags & PKV_PAGE_LIVE &&
					c->pages[j].slot[t] != PKV_NONE;
			EXPECT(m, c->tiers[t].nr_free + used == c->tiers[t].nr_slots,
			       "tier %d: %u free and %u used of %u", t, c->tiers[t].nr_free, used,
			       c->tiers[t].nr_slots);
		}
	}
}

int model_run(struct model *m, struct model_source *src, uint64_t nr_ops, FILE *trace)
{
	int err;

	memset(m, 0, sizeof(*m));
	m->src = src;
	m->trace = trace;
	mutex_init(&m->lock);
	draw_params(m);
	err = pkv_pool_init(&m->pool, &m->params, &m->lock);
	if (err) {
		model_fail(m, __LINE__, "pkv_pool_init", "error %d", err);
		return -1;
	}
	mutex_lock(&m->lock);
	poison_free_slots(m);
	while (m->nr_ops < nr_ops && !model_ended(m)) {
		run_one(m);
		model_check(m);
	}
	if (!m->why[0])
		model_drain(m);
	if (!m->why[0])
		model_free_all(m);
	if (!m->why[0])
		model_drain(m);
	model_check(m);
	if (!m->why[0])
		check_end(m);
	mutex_unlock(&m->lock);
	pkv_pool_exit(&m->pool);
	return m->why[0] ? -1 : 0;
}
