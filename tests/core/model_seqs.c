// SPDX-License-Identifier: GPL-2.0-only
/* The model's operations on sequences and on the prefix index. See model.h. */
#include <errno.h>
#include <string.h>

#include <linux/slab.h>

#include "model.h"

#define NR_OWNERS	3
#define MAX_TRIES	64

static int alloc_budget;

static int fail_after_budget(void)
{
	return --alloc_budget < 0;
}

/* For the calls that may say -ENOMEM: now and then they have to. */
static bool arm_allocs(struct model *m)
{
	if (!m->fail_allocs || model_pick(m, 4))
		return false;
	alloc_budget = model_pick(m, 3);
	pkv_shim_fail_alloc = fail_after_budget;
	return true;
}

static void disarm_allocs(void)
{
	pkv_shim_fail_alloc = NULL;
}

static void count_result(struct model *m, int err)
{
	if (err <= 0 && err > -256)
		m->nr_results[-err]++;
}

static bool changes_nothing(int err)
{
	return err == -EINVAL || err == -ESTALE || err == -EBUSY || err == -EDQUOT ||
	       err == -EOVERFLOW || err == -ENOBUFS || err == -EIO || err == -ENOENT ||
	       err == -EEXIST;
}

static struct model_seq *find_seq(struct model *m, uint64_t handle)
{
	for (int i = 0; handle && i < MODEL_MAX_SEQS; i++)
		if (m->seqs[i].handle == handle)
			return &m->seqs[i];
	return NULL;
}

static struct model_seq *spare_seq(struct model *m)
{
	for (int i = 0; i < MODEL_MAX_SEQS; i++)
		if (!m->seqs[i].handle)
			return &m->seqs[i];
	return NULL;
}

static uint32_t nr_seqs(const struct model *m)
{
	uint32_t nr = 0;

	for (int i = 0; i < MODEL_MAX_SEQS; i++)
		nr += m->seqs[i].handle != 0;
	return nr;
}

/* A sequence, or NULL when there is none. */
static struct model_seq *pick_seq(struct model *m)
{
	uint32_t nr = nr_seqs(m), n;

	if (!nr)
		return NULL;
	n = model_pick(m, nr);
	for (int i = 0; i < MODEL_MAX_SEQS; i++)
		if (m->seqs[i].handle && !n--)
			return &m->seqs[i];
	return NULL;
}

static void drop_seq(struct model *m, struct model_seq *s)
{
	m->old_seqs[m->nr_old_seqs++ % MODEL_NR_OLD] = s->handle;
	memset(s, 0, sizeof(*s));
}

static uint32_t page_tokens_of(const struct model *m, const struct model_seq *s)
{
	return m->params.classes[s->class_id].page_tokens;
}

static uint32_t nr_pages_of(const struct model *m, const struct model_seq *s)
{
	return (s->len + page_tokens_of(m, s) - 1) / page_tokens_of(m, s);
}

/* Keys of the leading full pages of @val. */
static uint32_t keys_of(const struct model *m, uint32_t class_id, uint64_t val, uint32_t len,
			struct pkv_key *keys)
{
	uint32_t page_tokens = m->params.classes[class_id].page_tokens, nr = len / page_tokens;

	for (uint32_t i = 0; i < nr; i++)
		keys[i] = model_key(m, val >> (len - (i + 1) * page_tokens));
	return nr;
}

/* A prompt: of some live sequence, so that it may be cached, or a short one of its own. */
static uint64_t draw_prompt(struct model *m, uint32_t *len)
{
	const struct model_seq *s = pick_seq(m);
	uint64_t val = 1;
	uint32_t cut;

	*len = 0;
	if (s && model_pick(m, 2)) {
		cut = model_pick(m, 2) ? model_pick(m, s->len + 1) : 0;
		val = s->val >> cut;
		*len = s->len - cut;
	}
	for (cut = model_pick(m, 9); cut && *len < MODEL_MAX_TOKENS; cut--) {
		val = val << 1 | !model_pick(m, 4);
		++*len;
	}
	return val;
}

static bool key_is_known(const struct pkv_class *c, const struct pkv_key *key, uint32_t *tier)
{
	for (uint32_t i = 0; i < c->fresh_page; i++) {
		const struct pkv_page *p = &c->pages[i];

		if (!(p->flags & PKV_PAGE_LIVE) || !(p->flags & PKV_PAGE_INDEXED) ||
		    p->key.lo != key->lo || p->key.hi != key->hi)
			continue;
		/* PKV_NR_TIERS when its first copy is still on its way */
		for (*tier = 0; *tier < PKV_NR_TIERS && p->slot[*tier] == PKV_NONE; ++*tier)
			;
		return true;
	}
	return false;
}

/* Returns the leading keys that are known, after a look at each page. */
static uint32_t check_match(struct model *m, uint32_t class_id, const struct pkv_key *keys,
			    uint32_t nr)
{
	uint32_t per_tier[PKV_NR_TIERS], want_tier[PKV_NR_TIERS + 1] = { 0 }, want = 0, tier, got;
	uint64_t before = model_digest(m);

	while (want < nr && key_is_known(&m->pool.classes[class_id], &keys[want], &tier)) {
		want_tier[tier]++;
		want++;
	}
	got = pkv_prefix_match(&m->pool, class_id, keys, nr, per_tier);
	if (got != want || memcmp(per_tier, want_tier, sizeof(per_tier)))
		model_fail(m, __LINE__, "match", "%u keys of %u found, not %u", got, nr, want);
	if (model_digest(m) != before)
		model_fail(m, __LINE__, "match", "a match changed something");
	return want;
}

void model_op_match(struct model *m)
{
	struct pkv_key keys[MODEL_MAX_TOKENS];
	uint32_t class_id = model_pick(m, m->pool.nr_classes), len;
	uint64_t val = draw_prompt(m, &len);

	check_match(m, class_id, keys, keys_of(m, class_id, val, len, keys));
	if (pkv_prefix_match(&m->pool, class_id, keys, 0, NULL))
		model_fail(m, __LINE__, "match", "no key, but a match");
}

/* -EAGAIN promises that something is under way; without it nothing would ever change. */
static bool settle(struct model *m, int err, int tries)
{
	if (err != -EAGAIN)
		return false;
	if (!m->pool.nr_moves)
		model_fail(m, __LINE__, "nr_moves", "-EAGAIN with no move under way");
	model_drain(m);
	if (tries == MAX_TRIES)
		model_fail(m, __LINE__, "tries", "-EAGAIN for ever");
	return !m->why[0];
}

static void check_created(struct model *m, struct model_seq *s, uint64_t val, uint32_t len,
			  uint32_t nr_hits)
{
	int state = pkv_seq_state(&m->pool, s->handle);

	s->len = nr_hits * page_tokens_of(m, s);
	s->written = s->len;
	s->val = val >> (len - s->len);
	EXPECT(m, state == PKV_SEQ_RUNNING || state == PKV_SEQ_LOADING, "created in state %d",
	       state);
	s->state = PKV_SEQ_LOADING;	/* its table is not known yet */
}

void model_op_create(struct model *m)
{
	struct pkv_key keys[MODEL_MAX_TOKENS];
	uint32_t class_id = model_pick(m, m->pool.nr_classes), priority = model_pick(m, 4);
	uint32_t owner = model_pick(m, NR_OWNERS), len, nr, nr_hits = 77, matched = 0;
	uint64_t val = draw_prompt(m, &len), before;
	__u64 handle = 0;
	bool wait = model_pick(m, 2);
	struct model_seq *s = spare_seq(m);
	int err, tries = 0;

	nr = keys_of(m, class_id, val, len, keys);
	do {
		bool armed = arm_allocs(m);

		before = model_digest(m);
		matched = check_match(m, class_id, keys, nr);
		err = pkv_seq_create(&m->pool, class_id, keys, nr, priority, owner, &handle,
				     &nr_hits);
		disarm_allocs();
		EXPECT(m, err != -ENOMEM || armed, "-ENOMEM without a cause");
	} while (wait && settle(m, err, tries++));
	count_result(m, err);
	model_trace(m, "create class %u val %llx len %u priority %u owner %u: %d, %llx, %u hits",
		    class_id, (unsigned long long)val, len, priority, owner, err,
		    (unsigned long long)handle, nr_hits);
	EXPECT(m, !changes_nothing(err) || model_digest(m) == before, "error %d changed something",
	       err);
	EXPECT(m, (err == -EDQUOT) == (nr_seqs(m) == m->params.max_seqs) || err == -ENOMEM,
	       "error %d with %u sequences of %u", err, nr_seqs(m), m->params.max_seqs);
	EXPECT(m, err == 0 || err == -EDQUOT || err == -ENOMEM || err == -EAGAIN || err == -ENOSPC,
	       "create: %d", err);
	EXPECT(m, err != -EAGAIN || m->pool.nr_moves, "-EAGAIN with no move under way");
	if (err)
		return;
	EXPECT(m, s && !find_seq(m, handle) && handle, "handle %llx", (unsigned long long)handle);
	EXPECT(m, nr_hits == matched, "%u hits of %u", nr_hits, matched);
	*s = (struct model_seq){ .handle = handle, .class_id = class_id, .priority = priority,
				 .owner = owner };
	check_created(m, s, val, len, nr_hits);
}

/* What the model knows of a step while it goes through the operations done. */
struct model_step {
	struct pkv_op ops[MODEL_MAX_OPS];
	uint32_t nr_ops;
	struct pkv_delta deltas[64];
	struct pkv_move_desc copies[MODEL_MAX_OPS];
	struct pkv_step step;
};

static void draw_op(struct model *m, struct model_step *ms)
{
	struct pkv_op *op = &ms->ops[ms->nr_ops];
	const struct model_seq *s = pick_seq(m);
	uint32_t draw = model_pick(m, 32);

	if (!s)
		return;
	*op = (struct pkv_op){ .seq = s->handle };
	if (draw < 20) {
		op->type = PKV_OP_APPEND;
		op->arg = draw < 12 ? 1 : model_pick(m, 10);
	} else if (draw < 24) {
		op->type = PKV_OP_FORK;
	} else if (draw < 28) {
		op->type = PKV_OP_TRUNCATE;
		op->arg = model_pick(m, s->len + 1);
	} else {
		op->type = PKV_OP_FREE;
	}
	ms->nr_ops++;
}

/* Slots of the device that an operation may still get, now or after moves. */
static uint32_t device_room(const struct model *m, uint32_t class_id)
{
	const struct pkv_class *c = &m->pool.classes[class_id];
	uint32_t room[PKV_NR_TIERS], droppable = 0, movable = 0;

	for (int t = 0; t < PKV_NR_TIERS; t++) {
		const struct pkv_tier *tier = &c->tiers[t];
		uint32_t used = tier->nr_slots - tier->nr_free;

		room[t] = used < tier->limit ? tier->limit - used : 0;
		if (tier->nr_free < room[t])
			room[t] = tier->nr_free;
		if (tier->state != PKV_TIER_ONLINE)
			room[t] = 0;
		if (used > tier->limit)
			return 0;
	}
	for (uint32_t i = 0; i < c->fresh_page; i++) {
		const struct pkv_page *p = &c->pages[i];

		if (!(p->flags & PKV_PAGE_LIVE) || p->holds || p->move != PKV_NONE ||
		    p->slot[PKV_DEVICE] == PKV_NONE)
			continue;
		if (!p->refs || p->slot[PKV_HOST] != PKV_NONE || p->slot[PKV_DISK] != PKV_NONE)
			droppable++;
		else
			movable++;
	}
	if (movable > room[PKV_HOST] + room[PKV_DISK])
		movable = room[PKV_HOST] + room[PKV_DISK];
	/* lost pages keep descriptors for which there would be slots */
	return c->nr_lost ? 0 : room[PKV_DEVICE] + droppable + movable;
}

/* Is the error that ended a step the one that the header gives? */
static void check_op_error(struct model *m, const struct model_step *ms, int err)
{
	const struct pkv_op *op = &ms->ops[ms->step.nr_done];
	const struct model_seq *s = find_seq(m, op->seq);
	uint32_t page_tokens, need;

	EXPECT(m, ms->step.nr_done < ms->nr_ops, "error %d, but all is done", err);
	EXPECT(m, (err == -ESTALE) == !s, "error %d of handle %llx", err,
	       (unsigned long long)op->seq);
	if (!s)
		return;
	page_tokens = page_tokens_of(m, s);
	switch (err) {
	case -EBUSY:
		EXPECT(m, op->type != PKV_OP_FREE, "free is busy");
		EXPECT(m, op->type != PKV_OP_APPEND || s->state != PKV_SEQ_RUNNING,
		       "a running sequence is busy");
		EXPECT(m, op->type != PKV_OP_FORK || (s->state != PKV_SEQ_RUNNING &&
						      s->state != PKV_SEQ_COLD),
		       "fork of a sequence in state %u is busy", s->state);
		EXPECT(m, op->type != PKV_OP_TRUNCATE || s->state == PKV_SEQ_LOADING,
		       "truncate of a sequence in state %u is busy", s->state);
		break;
	case -EINVAL:
		EXPECT(m, op->type > PKV_OP_FREE || op->arg > s->len, "type %u arg %u is invalid",
		       op->type, op->arg);
		break;
	case -EOVERFLOW:
		EXPECT(m, op->type == PKV_OP_APPEND && op->arg > PKV_MAX_SEQ_TOKENS - s->len,
		       "append of %u to %u overflows", op->arg, s->len);
		break;
	case -EDQUOT:
		EXPECT(m, op->type == PKV_OP_APPEND ||
		       (op->type == PKV_OP_FORK && nr_seqs(m) == m->params.max_seqs),
		       "operation %u is over a limit", op->type);
		break;
	case -ENOSPC:
		need = (s->len + op->arg + page_tokens - 1) / page_tokens - nr_pages_of(m, s) +
		       (s->len % page_tokens != 0);
		EXPECT(m, op->type == PKV_OP_APPEND, "operation %u: no space", op->type);
		EXPECT(m, op->arg > 2 * MODEL_MAX_TOKENS || need > device_room(m, s->class_id),
		       "no space for %u pages with room for %u", need,
		       device_room(m, s->class_id));
		break;
	case -EAGAIN:
		EXPECT(m, m->pool.nr_moves, "-EAGAIN with no move under way");
		break;
	case -ENOMEM:
		EXPECT(m, m->fail_allocs, "-ENOMEM without a cause");
		break;
	case -ENOBUFS:
		EXPECT(m, ms->step.max_deltas < 64 || ms->step.max_copies < MODEL_MAX_OPS,
		       "no room in %u deltas", ms->step.max_deltas);
		break;
	default:
		EXPECT(m, false, "error %d", err);
	}
}

static void apply_fork(struct model *m, const struct pkv_op *op, const struct model_seq *s)
{
	struct model_seq *child = spare_seq(m);

	EXPECT(m, child && op->out_seq && !find_seq(m, op->out_seq), "a child's handle %llx",
	       (unsigned long long)op->out_seq);
	*child = *s;
	child->handle = op->out_seq;
	child->pinned = false;
	EXPECT(m, s->state == PKV_SEQ_RUNNING || s->state == PKV_SEQ_COLD,
	       "fork of a sequence in state %u", s->state);
	child->state = s->state;
	if (s->state == PKV_SEQ_RUNNING)
		child->state = PKV_SEQ_LOADING;	/* its table is not known yet */
}

static void apply_op(struct model *m, const struct pkv_op *op)
{
	struct model_seq *s = find_seq(m, op->seq);

	EXPECT(m, s, "an operation on %llx worked", (unsigned long long)op->seq);
	switch (op->type) {
	case PKV_OP_APPEND:
		EXPECT(m, s->state == PKV_SEQ_RUNNING, "append in state %u", s->state);
		EXPECT(m, s->len + op->arg <= MODEL_MAX_TOKENS, "append of %u to %u worked",
		       op->arg, s->len);
		for (uint32_t i = 0; i < op->arg; i++)
			s->val = s->val << 1 | !model_pick(m, 4);
		s->len += op->arg;
		break;
	case PKV_OP_FORK:
		apply_fork(m, op, s);
		break;
	case PKV_OP_TRUNCATE:
		EXPECT(m, op->arg <= s->len, "truncate of %u to %u worked", s->len, op->arg);
		s->val >>= s->len - op->arg;
		s->len = op->arg;
		if (s->written > s->len)
			s->written = s->len;
		if (s->state == PKV_SEQ_BROKEN && s->len <= s->lost_tokens)
			s->state = PKV_SEQ_COLD;
		break;
	case PKV_OP_FREE:
		drop_seq(m, s);
		break;
	default:
		EXPECT(m, false, "operation %u worked", op->type);
	}
}

static void apply_deltas(struct model *m, const struct pkv_step *step)
{
	for (uint32_t i = 0; i < step->nr_deltas; i++) {
		const struct pkv_delta *d = &step->deltas[i];
		struct model_seq *s = find_seq(m, d->seq);

		if (!s)
			continue;	/* freed later in the step */
		EXPECT(m, d->index < MODEL_MAX_TOKENS, "a delta at %u", d->index);
		s->table[d->index] = d->slot;
	}
}

/* Every running sequence writes its new tokens through the table that the server has. */
static void compute(struct model *m)
{
	for (int i = 0; i < MODEL_MAX_SEQS; i++) {
		struct model_seq *s = &m->seqs[i];
		uint32_t page_tokens = page_tokens_of(m, s);

		if (!s->handle || s->state == PKV_SEQ_BROKEN)
			continue;
		if (s->state == PKV_SEQ_LOADING && s->written < s->len)
			pkv_seq_table(&m->pool, s->handle, 0, s->table, MODEL_MAX_TOKENS);
		for (; s->written < s->len; s->written++) {
			uint32_t slot = s->table[s->written / page_tokens];

			EXPECT(m, slot < m->params.classes[s->class_id].nr_slots[PKV_DEVICE],
			       "entry %u of %llx is slot %u", s->written / page_tokens,
			       (unsigned long long)s->handle, slot);
			m->mem[s->class_id][PKV_DEVICE][slot].cell[s->written % page_tokens] =
				s->val >> (s->len - 1 - s->written);
		}
	}
}

/* One call of what is left of the step. Returns its error, 0 too when the model has failed. */
static int call_step(struct model *m, struct model_step *ms)
{
	struct pkv_step *st = &ms->step;
	bool armed = arm_allocs(m);
	uint64_t before = model_digest(m);
	int err;

	*st = (struct pkv_step){
		.ops = ms->ops, .nr_ops = ms->nr_ops, .deltas = ms->deltas, .copies = ms->copies,
		.max_deltas = model_pick(m, 16) ? 64 : model_pick(m, 4),
		.max_copies = model_pick(m, 16) ? MODEL_MAX_OPS : model_pick(m, 2),
	};
	err = pkv_pool_step(&m->pool, st);
	disarm_allocs();
	count_result(m, err);
	for (uint32_t i = 0; i < ms->nr_ops; i++)
		model_trace(m, "%s op %u on %llx arg %u", i < st->nr_done ? "step" : "  (not)",
			    ms->ops[i].type, (unsigned long long)ms->ops[i].seq, ms->ops[i].arg);
	model_trace(m, "step: %d, %u done, %u deltas, %u copies", err, st->nr_done, st->nr_deltas,
		    st->nr_copies);
	if (err == -ENOMEM && !armed)
		model_fail(m, __LINE__, "armed", "-ENOMEM without a cause");
	if (!st->nr_done && changes_nothing(err) && model_digest(m) != before)
		model_fail(m, __LINE__, "digest", "error %d changed something", err);
	for (uint32_t i = 0; i < st->nr_done && !m->why[0]; i++)
		apply_op(m, &ms->ops[i]);
	if (err && !m->why[0])
		check_op_error(m, ms, err);
	else if (!err && st->nr_done != ms->nr_ops)
		model_fail(m, __LINE__, "nr_done", "%u of %u done", st->nr_done, ms->nr_ops);
	if (!m->why[0])
		apply_deltas(m, st);
	if (!m->why[0])
		model_run_copies(m, st->copies, st->nr_copies);
	if (!m->why[0])
		compute(m);
	model_check(m);
	return m->why[0] ? 0 : err;
}

/*
 * A step without room for it in the model must not be tried: tokens are bits of a word. Such
 * appends are cut.
 */
static void cut_appends(struct model *m, struct model_step *ms)
{
	for (int i = 0; i < MODEL_MAX_SEQS; i++) {
		uint32_t len = m->seqs[i].len;

		for (uint32_t j = 0; j < ms->nr_ops; j++) {
			struct pkv_op *op = &ms->ops[j];

			if (op->seq != m->seqs[i].handle || op->type != PKV_OP_APPEND)
				continue;
			if (op->arg > MODEL_MAX_TOKENS - len)
				op->arg = MODEL_MAX_TOKENS - len;
			len += op->arg;
		}
	}
}

void model_op_step(struct model *m)
{
	struct model_step ms = { .nr_ops = 0 };
	uint32_t nr = model_pick(m, 2) ? 1 : 1 + model_pick(m, MODEL_MAX_OPS - 1);
	bool wait = model_pick(m, 2);
	int err, tries = 0;

	while (nr--)
		draw_op(m, &ms);
	cut_appends(m, &ms);
	do {
		uint32_t done;

		/* copies that are out fill the model's hands */
		if (m->nr_out > MODEL_MAX_OUT - MODEL_MAX_OPS)
			model_drain(m);
		if (m->why[0])
			return;
		err = call_step(m, &ms);
		done = ms.step.nr_done;
		ms.nr_ops -= done;
		memmove(ms.ops, ms.ops + done, ms.nr_ops * sizeof(ms.ops[0]));
	} while (wait && ms.nr_ops && settle(m, err, tries++));
}

void model_op_cold(struct model *m)
{
	struct model_seq *s = pick_seq(m);
	int err;

	if (!s)
		return;
	err = pkv_seq_cold(&m->pool, s->handle);
	model_trace(m, "cold %llx: %d", (unsigned long long)s->handle, err);
	count_result(m, err);
	EXPECT(m, err == (s->state == PKV_SEQ_BROKEN ? -EIO : 0), "cold: %d", err);
	if (!err)
		s->state = PKV_SEQ_COLD;
}

void model_op_load(struct model *m)
{
	struct model_seq *s = pick_seq(m);
	bool wait = model_pick(m, 2);
	int err, tries = 0;

	if (!s)
		return;
	do {
		err = pkv_seq_load(&m->pool, s->handle);
		model_trace(m, "load %llx: %d", (unsigned long long)s->handle, err);
		count_result(m, err);
	} while (wait && settle(m, err, tries++));
	if (m->why[0])
		return;
	EXPECT(m, (err == -EIO) == (pkv_seq_state(&m->pool, s->handle) == PKV_SEQ_BROKEN),
	       "load in state %u: %d", s->state, err);
	EXPECT(m, err == -EAGAIN || err == -ENOSPC || err == -EIO || err == -EDQUOT || err == 0 ||
	       err == 1, "load: %d", err);
	EXPECT(m, err != -EAGAIN || m->pool.nr_moves, "-EAGAIN with no move under way");
	EXPECT(m, err >= 0 || s->state == PKV_SEQ_COLD || s->state == PKV_SEQ_BROKEN,
	       "load in state %u: %d", s->state, err);
	EXPECT(m, err != 0 || pkv_seq_state(&m->pool, s->handle) == PKV_SEQ_RUNNING, "loaded");
	EXPECT(m, err != 1 || pkv_seq_state(&m->pool, s->handle) == PKV_SEQ_LOADING, "loading");
	if (err >= 0 && s->state == PKV_SEQ_COLD)
		s->state = PKV_SEQ_LOADING;
}

void model_op_pin(struct model *m)
{
	struct model_seq *s = pick_seq(m);
	/* pins are taken back more often than made: they eat the device */
	bool pin = !model_pick(m, 3);
	uint64_t before = model_digest(m);
	int err;

	if (!s)
		return;
	if (!pin)
		for (int i = 0; i < MODEL_MAX_SEQS && !s->pinned; i++)
			if (m->seqs[i].pinned)
				s = &m->seqs[i];
	before = model_digest(m);
	err = pkv_seq_pin(&m->pool, s->handle, pin);
	model_trace(m, "pin %llx %d: %d", (unsigned long long)s->handle, pin, err);
	count_result(m, err);
	EXPECT(m, err == (pin && !s->pinned && s->state != PKV_SEQ_RUNNING ? -EBUSY : 0),
	       "pin %d in state %u: %d", pin, s->state, err);
	EXPECT(m, !err || model_digest(m) == before, "a refused pin changed something");
	if (!err)
		s->pinned = pin;
}

void model_op_priority(struct model *m)
{
	struct model_seq *s = pick_seq(m);
	uint32_t priority = model_pick(m, 6);
	uint64_t before = model_digest(m);
	int err;

	if (!s)
		return;
	err = pkv_seq_set_priority(&m->pool, s->handle, priority);
	model_trace(m, "priority %u of %llx: %d", priority, (unsigned long long)s->handle, err);
	EXPECT(m, err == (priority < PKV_NR_PRIORITIES ? 0 : -EINVAL), "priority %u: %d", priority,
	       err);
	EXPECT(m, !err || model_digest(m) == before, "a refused priority changed something");
	if (!err)
		s->priority = priority;
}

void model_op_forget(struct model *m)
{
	struct model_seq *s = pick_seq(m);
	int err;

	if (!s)
		return;
	err = pkv_seq_forget(&m->pool, s->handle);
	model_trace(m, "forget %llx: %d", (unsigned long long)s->handle, err);
	EXPECT(m, !err, "forget: %d", err);
}

void model_op_free_owner(struct model *m)
{
	uint32_t owner = model_pick(m, NR_OWNERS + 1);

	model_trace(m, "free owner %u", owner);
	model_drop_copies(m, owner);
	pkv_seqs_free_owner(&m->pool, owner);
	for (int i = 0; i < MODEL_MAX_SEQS; i++) {
		struct model_seq *s = &m->seqs[i];

		if (!s->handle || s->owner != owner)
			continue;
		EXPECT(m, pkv_seq_state(&m->pool, s->handle) == -ESTALE, "a freed one is there");
		drop_seq(m, s);
	}
}

void model_op_publish(struct model *m)
{
	struct pkv_key keys[MODEL_MAX_TOKENS];
	struct model_seq *s = pick_seq(m);
	uint32_t nr, first, known = 0, tier;
	int got;

	if (!s)
		return;
	nr = keys_of(m, s->class_id, s->val, s->len, keys);
	while (nr > s->written / page_tokens_of(m, s))
		nr--;
	first = model_pick(m, 2) ? model_pick(m, nr + 1) : 0;
	nr -= first;
	if (model_pick(m, 4) == 0)
		nr = model_pick(m, nr + 1);
	got = pkv_prefix_publish(&m->pool, s->handle, first, keys + first, nr);
	model_trace(m, "publish %llx %u + %u: %d", (unsigned long long)s->handle, first, nr, got);
	EXPECT(m, got >= 0 && got <= (int)nr, "publish of %u pages: %d", nr, got);
	for (uint32_t i = first; i < first + nr; i++)
		known += key_is_known(&m->pool.classes[s->class_id], &keys[i], &tier);
	EXPECT(m, known == nr || s->state != PKV_SEQ_RUNNING, "%u of %u published keys are known",
	       known, nr);
}

/* A reopened disk has a page in a slot: only the prefix is invented. */
void model_op_adopt(struct model *m)
{
	uint32_t class_id = model_pick(m, m->pool.nr_classes);
	uint32_t tier = model_pick(m, 8) ? PKV_DISK : model_pick(m, PKV_NR_TIERS + 1);
	uint32_t slot = model_pick(m, MODEL_MAX_SLOTS + 1), len, page_tokens, other;
	const struct pkv_class *c = &m->pool.classes[class_id];
	uint64_t val = draw_prompt(m, &len), before = model_digest(m);
	struct pkv_key key;
	bool valid, is_free = false, known;
	int err;

	page_tokens = c->page_tokens;
	if (len < page_tokens)
		return;
	val >>= len % page_tokens;
	key = model_key(m, val);
	known = key_is_known(c, &key, &other);
	valid = tier < PKV_NR_TIERS && slot < c->tiers[tier].nr_slots;
	if (valid)
		is_free = model_slot_is_free(m, class_id, tier, slot);
	for (uint32_t i = 0; is_free && i < page_tokens; i++)
		m->mem[class_id][tier][slot].cell[i] = val >> (page_tokens - 1 - i);
	err = pkv_prefix_adopt(&m->pool, class_id, tier, slot, &key);
	model_trace(m, "adopt class %u tier %u slot %u val %llx: %d", class_id, tier, slot,
		    (unsigned long long)val, err);
	count_result(m, err);
	EXPECT(m, valid || err == -EINVAL, "adopt of tier %u slot %u: %d", tier, slot, err);
	EXPECT(m, err || (is_free && !known), "adopt of a slot in use or a known key");
	EXPECT(m, err != -EEXIST || known, "a key that nobody has is known");
	EXPECT(m, err != -EBUSY || !is_free || (valid && c->tiers[tier].state != PKV_TIER_ONLINE),
	       "a free slot is busy");
	EXPECT(m, err == 0 || changes_nothing(err) || err == -ENOSPC, "adopt: %d", err);
	EXPECT(m, !err || model_digest(m) == before, "a refused adoption changed something");
}

void model_op_limit(struct model *m)
{
	uint32_t class_id = model_pick(m, m->pool.nr_classes), tier = model_pick(m, PKV_NR_TIERS);
	uint32_t nr = m->pool.classes[class_id].tiers[tier].nr_slots;
	/* mostly all of it, or streams end in a pool without room */
	uint32_t limit = model_pick(m, 3) ? nr : model_pick(m, nr + 1);
	uint32_t used = nr - m->pool.classes[class_id].tiers[tier].nr_free;
	int err;

	/* over its limit, a tier evicts at any call */
	if (m->calm && limit < used)
		limit = used;
	err = pkv_pool_set_limit(&m->pool, class_id, tier, limit);

	model_trace(m, "class %u tier %u limit %u: %d", class_id, tier, limit, err);
	EXPECT(m, !err, "limit %u of %u: %d", limit, nr, err);
	EXPECT(m, pkv_pool_set_limit(&m->pool, class_id, tier, nr + 1) == -EINVAL,
	       "a limit above what there is");
}

static uint64_t draw_stale(struct model *m)
{
	uint64_t handle;

	switch (model_pick(m, 4)) {
	case 0:
		handle = (uint64_t)model_pick(m, 256) << 56 | model_pick(m, 256);
		break;
	case 1:
		handle = UINT64_MAX - model_pick(m, 2);
		break;
	case 2:
		handle = (uint64_t)(1 + model_pick(m, 4)) << 32 | model_pick(m, 4);
		break;
	default:
		handle = m->old_seqs[model_pick(m, MODEL_NR_OLD)];
	}
	return find_seq(m, handle) ? 0 : handle;
}

/* Every entry that takes a sequence, with one that isn't there. */
void model_op_hostile_seq(struct model *m)
{
	uint64_t seq = draw_stale(m), before = model_digest(m);
	struct pkv_op op = { .seq = seq, .type = model_pick(m, 5), .arg = model_pick(m, 3) };
	struct pkv_step st = { .ops = &op, .nr_ops = 1 };
	struct pkv_key key = model_key(m, 2);
	struct pkv_seq_info info;
	struct pkv_pool *p = &m->pool;
	uint32_t slot;
	int err = pkv_pool_step(p, &st);

	model_trace(m, "stale %llx", (unsigned long long)seq);
	EXPECT(m, err == -ESTALE || (op.type > PKV_OP_FREE && err == -EINVAL), "stale step: %d",
	       err);
	EXPECT(m, !st.nr_done && !st.nr_deltas && !st.nr_copies, "a stale operation is done");
	EXPECT(m, pkv_seq_cold(p, seq) == -ESTALE, "stale cold");
	EXPECT(m, pkv_seq_load(p, seq) == -ESTALE, "stale load");
	EXPECT(m, pkv_seq_pin(p, seq, model_pick(m, 2)) == -ESTALE, "stale pin");
	EXPECT(m, pkv_seq_set_priority(p, seq, 1) == -ESTALE, "stale priority");
	EXPECT(m, pkv_seq_forget(p, seq) == -ESTALE, "stale forget");
	EXPECT(m, pkv_seq_info(p, seq, &info) == -ESTALE, "stale info");
	EXPECT(m, pkv_seq_state(p, seq) == -ESTALE, "stale state");
	EXPECT(m, pkv_seq_table(p, seq, 0, &slot, 1) == -ESTALE, "stale table");
	EXPECT(m, pkv_prefix_publish(p, seq, 0, &key, 1) == -ESTALE, "stale publish");
	EXPECT(m, model_digest(m) == before, "a stale handle changed something");
}

/* Values that can never be right, in a pool and a sequence that are. */
void model_op_hostile_class(struct model *m)
{
	static const uint32_t huge[] = { UINT32_MAX, UINT32_MAX - 1, 1u << 31, 1u << 30,
					 PKV_MAX_SEQ_TOKENS + 1, PKV_MAX_SEQ_TOKENS - 1 };
	const uint32_t big = huge[model_pick(m, sizeof(huge) / sizeof(huge[0]))];
	const uint32_t no_class = m->pool.nr_classes + model_pick(m, 2) * big / 2;
	uint64_t before = model_digest(m);
	__u64 out = 7;
	struct pkv_key keys[MODEL_MAX_TOKENS + 1] = { model_key(m, 2) };
	struct model_seq *s = pick_seq(m);
	struct pkv_pool *p = &m->pool;
	uint32_t hits = 7;

	model_trace(m, "hostile %x", big);
	EXPECT(m, pkv_seq_create(p, no_class, keys, 1, 0, 0, &out, &hits) == -EINVAL, "class");
	EXPECT(m, pkv_seq_create(p, 0, keys, 1, 4 + big / 2, 0, &out, &hits) == -EINVAL,
	       "priority");
	EXPECT(m, pkv_prefix_match(p, no_class, keys, 1, NULL) == 0, "match of no class");
	EXPECT(m, pkv_prefix_adopt(p, no_class, 2, 0, keys) == -EINVAL, "adopt to no class");
	EXPECT(m, pkv_prefix_adopt(p, 0, 2, big, keys) == -EINVAL, "adopt of no slot");
	EXPECT(m, pkv_prefix_adopt(p, 0, big, 0, keys) == -EINVAL, "adopt to no tier");
	EXPECT(m, pkv_pool_set_limit(p, no_class, 0, 1) == -EINVAL, "limit of no class");
	EXPECT(m, pkv_pool_set_limit(p, 0, PKV_NR_TIERS, 1) == -EINVAL, "limit of no tier");
	EXPECT(m, pkv_pool_set_tier_state(p, no_class, 1, 0) == -EINVAL, "state of no class");
	if (s) {
		struct pkv_op op = { .seq = s->handle, .type = model_pick(m, 2) ? PKV_OP_APPEND :
				     PKV_OP_TRUNCATE, .arg = big };
		struct pkv_step st = { .ops = &op, .nr_ops = 1 };
		uint32_t full = s->len / page_tokens_of(m, s), slot;
		int err = pkv_pool_step(p, &st);

		EXPECT(m, err == -EINVAL || err == -EOVERFLOW || err == -EBUSY || err == -ENOSPC ||
		       err == -ENOBUFS || err == -EDQUOT || err == -ENOMEM, "arg %x: %d", big, err);
		EXPECT(m, pkv_prefix_publish(p, s->handle, 0, keys, full + 1) == -EINVAL,
		       "publish of a page that isn't full");
		EXPECT(m, pkv_prefix_publish(p, s->handle, big, keys, 1) == -EINVAL, "publish");
		EXPECT(m, pkv_prefix_publish(p, s->handle, 1, keys, UINT32_MAX) == -EINVAL,
		       "publish of pages that wrap around");
		err = pkv_seq_table(p, s->handle, big, &slot, 1);
		EXPECT(m, err == 0 || (err == -EBUSY && s->state != PKV_SEQ_RUNNING), "table: %d",
		       err);
	}
	EXPECT(m, model_digest(m) == before, "a hostile value changed something");
}

void model_free_all(struct model *m)
{
	for (int i = 0; i < MODEL_MAX_SEQS; i++) {
		struct model_seq *s = &m->seqs[i];
		struct pkv_op op = { .seq = s->handle, .type = PKV_OP_FREE };
		struct pkv_step st = { .ops = &op, .nr_ops = 1 };
		int err;

		if (!s->handle)
			continue;
		err = pkv_pool_step(&m->pool, &st);
		EXPECT(m, !err, "free: %d", err);
		drop_seq(m, s);
	}
}
