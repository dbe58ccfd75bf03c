// SPDX-License-Identifier: GPL-2.0-only
/* The server without a model: see server.h. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server.h"

#define FETCH	8U
#define WAIT_NS	10000000000ULL

uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* ------------------------------------------------------------ open, close */

struct pagedkv_pool_params server_params(const struct geometry *g)
{
	struct pagedkv_pool_params p = { .size = sizeof(p), .nr_classes = 1, .max_seqs = 64 };
	struct pagedkv_class_params *c = &p.classes[0];

	c->page_tokens = g->page_tokens;
	c->page_bytes = g->page_tokens * sizeof(uint64_t);
	c->nr_slots[PAGEDKV_DEVICE] = g->device;
	c->nr_slots[PAGEDKV_HOST] = g->host;
	c->nr_slots[PAGEDKV_DISK] = g->disk;
	for (int t = 0; t < PAGEDKV_NR_TIERS; t++) {
		c->low[t] = g->low < c->nr_slots[t] ? g->low : 0;
		c->high[t] = c->low[t] ? c->low[t] + 1 : 0;
	}
	return p;
}

void server_open_params(struct server *s, const struct pagedkv_pool_params *p)
{
	const struct pagedkv_class_params *c = &p->classes[0];
	size_t len;

	memset(s, 0, sizeof(*s));
	s->page_tokens = c->page_tokens;
	s->page_bytes = c->page_bytes;
	memcpy(s->nr_slots, c->nr_slots, sizeof(s->nr_slots));
	assert_int_equal(pagedkv_open(&s->kv, NULL), 0);
	assert_int_equal(pagedkv_pool_create(s->kv, &s->pool, p), 0);
	s->memory[PAGEDKV_DEVICE] = calloc(c->nr_slots[PAGEDKV_DEVICE], c->page_bytes);
	s->memory[PAGEDKV_DISK] = calloc(c->nr_slots[PAGEDKV_DISK] + 1, c->page_bytes);
	assert_non_null(s->memory[PAGEDKV_DEVICE]);
	assert_non_null(s->memory[PAGEDKV_DISK]);
	if (c->nr_slots[PAGEDKV_HOST]) {
		assert_int_equal(pagedkv_host_map(s->pool, 0, (void **)&s->memory[PAGEDKV_HOST],
						  &len), 0);
		assert_int_equal(len, c->nr_slots[PAGEDKV_HOST] * c->page_bytes);
	}
}

void server_open(struct server *s, const struct geometry *g)
{
	struct pagedkv_pool_params p = server_params(g);

	server_open_params(s, &p);
}

void server_close(struct server *s)
{
	pagedkv_close(s->kv);
	free(s->memory[PAGEDKV_DEVICE]);
	free(s->memory[PAGEDKV_DISK]);
	memset(s, 0, sizeof(*s));
}

bool on_kmod(struct server *s)
{
	struct pagedkv_info info = { .size = sizeof(info) };

	assert_int_equal(pagedkv_get_info(s->kv, &info), 0);
	return info.backend == PAGEDKV_BACKEND_KMOD;
}

/* ------------------------------------------------------------------ moves */

static uint8_t *page_at(struct server *s, uint32_t tier, uint32_t slot)
{
	assert_true(tier < PAGEDKV_NR_TIERS && slot < s->nr_slots[tier]);
	return s->memory[tier] + slot * s->page_bytes;
}

static struct pagedkv_commit run_move(struct server *s, const struct pagedkv_move *m)
{
	struct pagedkv_commit c = { .id = m->id };

	if (s->fault)
		c.status = s->fault(s, m, &c.flags);
	if (!c.status)
		memcpy(page_at(s, m->dst_tier, m->dst_slot), page_at(s, m->src_tier, m->src_slot),
		       s->page_bytes);
	return c;
}

static void run_and_commit(struct server *s, const struct pagedkv_move *moves, uint32_t nr)
{
	struct pagedkv_commit done[FETCH];

	for (uint32_t i = 0; i < nr; i++)
		done[i] = run_move(s, &moves[i]);
	assert_int_equal(pagedkv_moves_commit(s->pool, done, nr), 0);
}

uint32_t server_run_moves(struct server *s)
{
	struct pagedkv_move moves[FETCH];
	uint32_t total = 0;
	int n;

	while ((n = pagedkv_moves_fetch(s->pool, moves, FETCH)) > 0) {
		run_and_commit(s, moves, (uint32_t)n);
		total += (uint32_t)n;
	}
	assert_int_equal(n, 0);
	return total;
}

static void *mover(void *arg)
{
	struct server *s = arg;
	struct pollfd p = { .fd = pagedkv_moves_fd(s->pool), .events = POLLIN };
	struct pagedkv_move moves[FETCH];
	int n;

	while ((n = pagedkv_moves_fetch(s->pool, moves, FETCH)) >= 0) {
		if (n)
			run_and_commit(s, moves, (uint32_t)n);
		else
			poll(&p, 1, -1);
	}
	return n == -ECANCELED ? NULL : s;
}

void server_start_mover(struct server *s)
{
	s->threaded = true;
	assert_int_equal(pthread_create(&s->mover, NULL, mover, s), 0);
}

void server_stop_mover(struct server *s)
{
	void *failed;

	pagedkv_moves_stop(s->pool);
	pthread_join(s->mover, &failed);
	assert_null(failed);
	s->threaded = false;
}

/* Evictions are under way: let at least one end. */
static void wait_for_room(struct server *s)
{
	if (s->threaded)
		assert_int_equal(pagedkv_moves_wait(s->pool, WAIT_NS), 0);
	else
		assert_true(server_run_moves(s) > 0);
}

static int wait_for_load(struct server *s, const struct request *r)
{
	int state;

	if (!s->threaded)
		server_run_moves(s);
	assert_int_equal(pagedkv_seq_wait(s->pool, r->seq, s->threaded ? WAIT_NS : 0), 0);
	state = pagedkv_seq_state(s->pool, r->seq);
	assert_true(state == PAGEDKV_SEQ_RUNNING || state == PAGEDKV_SEQ_BROKEN);
	return state == PAGEDKV_SEQ_RUNNING ? 0 : -EIO;
}

/* --------------------------------------------------------------- requests */

/* The "K and V" of a token: a hash of it and of all before it. */
static uint64_t value_after(uint64_t before, uint32_t token)
{
	uint64_t state = before ^ token;

	return next_random(&state);
}

static uint64_t *value_at(struct server *s, const uint32_t *slots, uint32_t pos)
{
	uint8_t *page = page_at(s, PAGEDKV_DEVICE, slots[pos / s->page_tokens]);

	return (uint64_t *)page + pos % s->page_tokens;
}

static void get_table(struct server *s, const struct request *r, uint32_t *slots)
{
	uint32_t nr = (r->len + s->page_tokens - 1) / s->page_tokens;

	assert_int_equal(pagedkv_seq_table(s->pool, r->seq, 0, slots, MAX_TOKENS), nr);
}

static void compute(struct server *s, struct request *r, const uint32_t *tokens, uint32_t nr)
{
	uint32_t slots[MAX_TOKENS];
	uint64_t v = 0;

	memmove(r->tokens + r->len, tokens, nr * sizeof(*tokens));
	for (uint32_t i = 0; i < r->len; i++)
		v = value_after(v, r->tokens[i]);
	r->len += nr;
	get_table(s, r, slots);
	for (uint32_t i = r->len - nr; i < r->len; i++) {
		v = value_after(v, r->tokens[i]);
		*value_at(s, slots, i) = v;
	}
}

void server_verify(struct server *s, const struct request *r)
{
	uint32_t slots[MAX_TOKENS];
	uint64_t v = 0;

	get_table(s, r, slots);
	for (uint32_t i = 0; i < r->len; i++) {
		v = value_after(v, r->tokens[i]);
		assert_true(*value_at(s, slots, i) == v);
	}
}

int one_op(struct pagedkv_pool *pool, pagedkv_seq_t seq, uint32_t type, uint32_t arg,
	   pagedkv_seq_t *out_seq)
{
	struct pagedkv_op op = { .seq = seq, .type = type, .arg = arg };
	struct pagedkv_step step = { .ops = &op, .nr_ops = 1 };
	int ret = pagedkv_step(pool, &step);

	assert_int_equal(step.nr_done, ret ? 0 : 1);
	if (out_seq)
		*out_seq = op.out_seq;
	return ret;
}

/* Deltas must name exactly the entries that the table has from here on. */
static void check_deltas(struct server *s, const struct pagedkv_step *step)
{
	uint32_t slot;

	for (uint32_t i = 0; i < step->nr_deltas; i++) {
		const struct pagedkv_delta *d = &step->deltas[i];

		assert_int_equal(pagedkv_seq_table(s->pool, d->seq, d->index, &slot, 1), 1);
		assert_int_equal(slot, d->slot);
	}
}

int server_append(struct server *s, struct request *r, const uint32_t *tokens, uint32_t nr)
{
	struct pagedkv_op op = { .seq = r->seq, .type = PAGEDKV_OP_APPEND, .arg = nr };
	struct pagedkv_delta deltas[MAX_TOKENS];
	struct pagedkv_move copy;
	struct pagedkv_step step = {
		.ops = &op, .nr_ops = 1, .deltas = deltas, .max_deltas = MAX_TOKENS,
		.copies = &copy, .max_copies = 1,
	};
	int ret;

	while ((ret = pagedkv_step(s->pool, &step)) == -EAGAIN)
		wait_for_room(s);
	if (ret)
		return ret;
	check_deltas(s, &step);
	if (step.nr_copies)
		run_and_commit(s, &copy, 1);
	if (pagedkv_seq_state(s->pool, r->seq) != PAGEDKV_SEQ_RUNNING) {
		/* The copy failed: what was there before is still the request's. */
		return -EIO;
	}
	compute(s, r, tokens, nr);
	return 0;
}

int server_admit(struct server *s, struct request *r, const uint32_t *tokens, uint32_t nr,
		 uint32_t flags)
{
	struct pagedkv_seq_params p = {
		.size = sizeof(p), .tokens = tokens, .nr_tokens = nr, .priority = 1,
		.flags = flags,
	};
	int ret;

	while ((ret = pagedkv_seq_create(s->pool, &r->seq, &p, &r->hit_tokens)) == -EAGAIN)
		wait_for_room(s);
	if (ret)
		return ret;
	r->alive = true;
	r->len = r->hit_tokens;
	memcpy(r->tokens, tokens, r->len * sizeof(*tokens));
	assert_true(!nr || r->len < nr);
	assert_int_equal(r->len % s->page_tokens, 0);
	ret = wait_for_load(s, r);
	if (!ret) {
		server_verify(s, r);
		ret = server_append(s, r, tokens + r->len, nr - r->len);
	}
	if (ret)
		server_free(s, r);
	return ret;
}

int server_publish(struct server *s, struct request *r)
{
	struct pagedkv_publish item = { .seq = r->seq, .tokens = r->tokens, .nr_tokens = r->len };
	int ret = pagedkv_publish(s->pool, &item, 1);

	return ret ? ret : item.result;
}

int server_fork(struct server *s, struct request *r, struct request *child)
{
	int ret = one_op(s->pool, r->seq, PAGEDKV_OP_FORK, 0, &child->seq);

	if (ret)
		return ret;
	child->alive = true;
	child->len = r->len;
	child->hit_tokens = r->len;
	memcpy(child->tokens, r->tokens, sizeof(r->tokens));
	return 0;
}

int server_truncate(struct server *s, struct request *r, uint32_t len)
{
	int ret = one_op(s->pool, r->seq, PAGEDKV_OP_TRUNCATE, len, NULL);

	if (!ret)
		r->len = len;
	return ret;
}

/* Bring a cold or broken request back; recompute what was lost of it. */
int server_resume(struct server *s, struct request *r)
{
	uint32_t want = r->len;
	struct pagedkv_seq_info info;
	int ret;

	for (;;) {
		ret = pagedkv_advise(s->pool, r->seq, PAGEDKV_WILLNEED);
		if (ret == -EAGAIN) {
			wait_for_room(s);
			continue;
		}
		if (ret == 1)
			ret = wait_for_load(s, r);
		if (ret != -EIO)
			break;
		assert_int_equal(pagedkv_seq_get_info(s->pool, r->seq, &info), 0);
		assert_int_equal(info.state, PAGEDKV_SEQ_BROKEN);
		assert_true(info.lost_tokens < r->len);
		assert_int_equal(server_truncate(s, r, info.lost_tokens), 0);
	}
	if (ret)
		return ret;
	server_verify(s, r);
	return r->len < want ? server_append(s, r, r->tokens + r->len, want - r->len) : 0;
}

void server_free(struct server *s, struct request *r)
{
	assert_int_equal(one_op(s->pool, r->seq, PAGEDKV_OP_FREE, 0, NULL), 0);
	r->alive = false;
}

/* ------------------------------------------------------------- inspection */

void server_check(struct server *s)
{
	const char *why = NULL;
	int ret = pagedkv_check(s->pool, &why);

	if (ret)
		fail_msg("pagedkv_check: %d: %s", ret, why ? why : "");
}

struct pagedkv_stats server_stats(struct server *s)
{
	struct pagedkv_stats st = { .size = sizeof(st) };

	assert_int_equal(pagedkv_get_stats(s->pool, 0, &st), 0);
	return st;
}
