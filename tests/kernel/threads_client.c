// SPDX-License-Identifier: GPL-2.0-only
/* Clients of threads.c and their sequences; the key of a page is that of its tokens. */
#include <pthread.h>

#include "threads.h"

#define TOKEN_WORDS	(PAGE_BYTES / PAGE_TOKENS / 8)
#define MAX_PAGES	12U
#define MAX_TOKENS	(MAX_PAGES * PAGE_TOKENS)
#define MAX_LIVE	6U	/* sequences of a thread */
#define MAX_OPS		4U
#define NR_PROMPTS	24U
#define PROMPT_PAGES	6U
#define PROMPT_TOKENS	(PROMPT_PAGES * PAGE_TOKENS)
#define NR_THREADS	3U	/* of a process */

/* Prompts share their first half in fours. */
static uint64_t prompt_tag(uint32_t place, uint32_t prompt, uint32_t pos)
{
	uint32_t who = pos < PROMPT_TOKENS / 2 ? prompt & ~3U : prompt;

	return mix((uint64_t)(place + 1) << 48 | (uint64_t)who << 32 | pos) | 1;
}

static uint64_t own_tag(void)
{
	return mix(__atomic_fetch_add(&shared->next_tag, 1, __ATOMIC_RELAXED)) & ~1ULL;
}

/* A page's key is that of its tokens and all before them. */
static void keys_of(const uint64_t *tags, uint32_t nr_pages, struct pagedkv_io_key *keys)
{
	uint64_t lo = 1, hi = 2;

	for (uint32_t i = 0; i < nr_pages * PAGE_TOKENS; i++) {
		lo = mix(lo ^ tags[i]);
		hi = mix(hi + tags[i]);
		if (i % PAGE_TOKENS == PAGE_TOKENS - 1)
			keys[i / PAGE_TOKENS] = (struct pagedkv_io_key) { .lo = lo, .hi = hi };
	}
}

static uint64_t *token_at(uint32_t place, uint32_t slot, uint32_t pos)
{
	uint64_t *page = (uint64_t *)(places[place].tiers[0] + (size_t)slot * PAGE_BYTES);

	return page + pos % PAGE_TOKENS * TOKEN_WORDS;
}

/* ---------------------------------------------------------------- clients */

struct seq {
	uint64_t handle;		/* 0: none */
	uint32_t prompt, len;
	uint32_t slots[MAX_PAGES];	/* while it runs */
	uint64_t tags[MAX_TOKENS];
};

struct client {
	uint32_t place;
	int fd;
	bool is_shared;			/* with the other threads of the process */
	uint64_t rng;
	struct io_uring ring;
	bool has_ring;
	struct seq seqs[MAX_LIVE];
};

static struct seq *find_seq(struct client *c, uint64_t handle)
{
	for (uint32_t i = 0; i < MAX_LIVE; i++)
		if (c->seqs[i].handle == handle)
			return &c->seqs[i];
	return NULL;
}

/* Any one, or NULL where there happens to be none. */
static struct seq *some_seq(struct client *c)
{
	struct seq *s = &c->seqs[dice(&c->rng, MAX_LIVE)];

	return s->handle ? s : NULL;
}

/* One operation in a step of its own, without copies; its errors are the caller's. */
static int single(struct client *c, struct seq *s, uint32_t type, uint32_t arg)
{
	return one_op(c->fd, s->handle, type, arg, NULL);
}

static void free_seq(struct client *c, struct seq *s)
{
	int ret = single(c, s, PAGEDKV_IO_OP_FREE, 0);

	if (ret)
		fail("free: %d", ret);
	s->handle = 0;
}

static void write_tokens(struct client *c, struct seq *s, uint32_t from)
{
	for (uint32_t pos = from; pos < s->len; pos++) {
		uint64_t *at = token_at(c->place, s->slots[pos / PAGE_TOKENS], pos);

		for (uint32_t i = 0; i < TOKEN_WORDS; i++)
			at[i] = s->tags[pos];
	}
}

/* Of a running sequence: its table is what it was told, and its pages are its own. */
static void verify(struct client *c, struct seq *s)
{
	uint32_t slots[MAX_PAGES] = { 0 }, nr = (s->len + PAGE_TOKENS - 1) / PAGE_TOKENS;
	struct pagedkv_io_seq_table t = {
		.size = sizeof(t), .seq = s->handle, .slots = user_ptr(slots), .nr = MAX_PAGES,
	};
	int ret = call(c->fd, PAGEDKV_CMD_SEQ_TABLE, &t);

	if (ret || t.out_nr != nr || memcmp(slots, s->slots, nr * sizeof(slots[0]))) {
		fail("table: %d, %u of %u pages, or other slots", ret, t.out_nr, nr);
		return;
	}
	for (uint32_t pos = 0; pos < s->len; pos++) {
		uint64_t *at = token_at(c->place, slots[pos / PAGE_TOKENS], pos);

		for (uint32_t i = 0; i < TOKEN_WORDS; i++)
			if (at[i] != s->tags[pos]) {
				fail("pool %u, token %u of %u, slot %u: %#lx instead of %#lx",
				     c->place, pos, s->len, slots[pos / PAGE_TOKENS],
				     (long)at[i], (long)s->tags[pos]);
				return;
			}
	}
	count(VERIFIED, nr);
}

/* What a load brought. */
static void take_table(struct client *c, struct seq *s)
{
	struct pagedkv_io_seq_table t = {
		.size = sizeof(t), .seq = s->handle, .slots = user_ptr(s->slots), .nr = MAX_PAGES,
	};
	int ret = call(c->fd, PAGEDKV_CMD_SEQ_TABLE, &t);

	if (ret)
		fail("table of what runs: %d", ret);
	else
		verify(c, s);
}

static int wait_by_ring(struct client *c, struct seq *s)
{
	struct pagedkv_uring_cmd cmd = { .arg = s->handle };
	struct __kernel_timespec limit = { .tv_sec = GIVE_UP_NS / 1000000000 };
	struct io_uring_cqe *cqe;
	int ret;

	prep_command(&c->ring, c->fd, PAGEDKV_URING_SEQ_WAIT, &cmd);
	io_uring_submit(&c->ring);
	do {
		ret = io_uring_wait_cqe_timeout(&c->ring, &cqe, &limit);
	} while (ret == -EINTR);
	if (ret)
		return ret;
	ret = cqe->res;
	io_uring_cqe_seen(&c->ring, cqe);
	return ret;
}

/* Wait for a load; the state after it. */
static int wait_loaded(struct client *c, struct seq *s)
{
	struct pagedkv_io_seq_wait w = {
		.size = sizeof(w), .seq = s->handle, .deadline_ns = now_ns() + GIVE_UP_NS,
	};
	int ret = c->has_ring && dice(&c->rng, 2) ? wait_by_ring(c, s) :
						    call(c->fd, PAGEDKV_CMD_SEQ_WAIT, &w);

	count(LOADS, 1);
	if (ret)
		fail("waiting for a load: %d", ret);
	return seq_state(c->fd, s->handle);
}

/* Give up what is lost; the sequence is cold after it. */
static void mend(struct client *c, struct seq *s)
{
	struct pagedkv_io_seq_info info = { .size = sizeof(info), .seq = s->handle };
	int ret = call(c->fd, PAGEDKV_CMD_SEQ_INFO, &info);

	if (!ret && info.out_lost_tokens >= s->len)
		ret = -ERANGE;
	if (!ret)
		ret = single(c, s, PAGEDKV_IO_OP_TRUNCATE, info.out_lost_tokens);
	if (ret)
		fail("mending: %d, %u of %u tokens", ret, info.out_lost_tokens, s->len);
	s->len = info.out_lost_tokens;
	count(LOST, 1);
}

/* Let another one go, and give executors the time for a move. */
static void make_room(struct client *c, struct seq *but)
{
	struct pagedkv_io_moves_wait w = {
		.size = sizeof(w), .deadline_ns = now_ns() + GIVE_UP_NS,
	};
	struct seq *s = some_seq(c);
	int ret;

	if (s && s != but) {
		advise(c->fd, s->handle, PAGEDKV_IO_UNPIN);
		ret = advise(c->fd, s->handle, PAGEDKV_IO_COLD);
		if (ret && ret != -EIO)
			fail("cold: %d", ret);
	}
	ret = call(c->fd, PAGEDKV_CMD_MOVES_WAIT, &w);
	if (ret)
		fail("waiting for a move: %d", ret);
}

/* Have a sequence run, if there is room: whether it does. */
static bool bring(struct client *c, struct seq *s)
{
	int state = seq_state(c->fd, s->handle), ret;

	if (state == 1)
		return true;
	for (int tries = 0; tries < 4 && !has_failed(); tries++) {
		ret = state == 2 ? 1 : advise(c->fd, s->handle, PAGEDKV_IO_WILLNEED);
		if (ret == 1)
			state = wait_loaded(c, s);
		if (ret == 0 || state == 1) {
			take_table(c, s);
			return true;
		}
		if (ret == -EIO || state == 4) {
			mend(c, s);
		} else if (ret == -EAGAIN || ret == -ENOSPC) {
			make_room(c, s);
		} else if (state != 3) {
			fail("loading: %d, state %d", ret, state);
		}
		state = seq_state(c->fd, s->handle);
	}
	return false;
}

static void create_one(struct client *c)
{
	struct seq *s = find_seq(c, 0);
	struct pagedkv_io_key keys[PROMPT_PAGES];
	uint32_t hits;
	int ret;

	if (!s)
		return;
	s->prompt = dice(&c->rng, NR_PROMPTS);
	for (uint32_t i = 0; i < PROMPT_TOKENS; i++)
		s->tags[i] = prompt_tag(c->place, s->prompt, i);
	keys_of(s->tags, PROMPT_PAGES, keys);
	ret = create_seq(c->fd, keys, PROMPT_PAGES, &s->handle, &hits);
	if (ret) {
		s->handle = 0;
		if (ret != -EAGAIN && ret != -ENOSPC)
			fail("create: %d", ret);
		return;
	}
	s->len = hits * PAGE_TOKENS;
	count(HITS, hits);
	if (bring(c, s))
		take_table(c, s);
	else
		free_seq(c, s);
}

/* The step's copies, in order, before its writes; now and then one fails. */
static void run_copies(struct client *c, const struct pagedkv_io_move *copies, uint32_t nr)
{
	struct pagedkv_io_commit items[MAX_OPS] = { 0 };
	struct pagedkv_io_moves m = {
		.size = sizeof(m), .commits = user_ptr(items), .nr_commits = nr,
	};
	uint8_t *device = places[c->place].tiers[0];
	int ret;

	if (!nr)
		return;
	for (uint32_t i = 0; i < nr; i++) {
		items[i].id = copies[i].id;
		memcpy(device + (size_t)copies[i].dst_slot * PAGE_BYTES,
		       device + (size_t)copies[i].src_slot * PAGE_BYTES, PAGE_BYTES);
		if (!dice(&c->rng, 64))
			items[i].status = -EIO;
	}
	ret = call(c->fd, PAGEDKV_CMD_MOVES, &m);
	if (ret || m.out_nr_stale)
		fail("commit of copies: %d, %u stale", ret, m.out_nr_stale);
}

/* What an operation that was done means to its sequence. */
static void apply(struct client *c, const struct pagedkv_io_op *op)
{
	struct seq *s = find_seq(c, op->seq), *child;
	uint32_t from = s->len;

	switch (op->type) {
	case PAGEDKV_IO_OP_APPEND:
		s->len += op->arg;
		for (uint32_t i = from; i < s->len; i++)
			s->tags[i] = i < PROMPT_TOKENS ? prompt_tag(c->place, s->prompt, i) :
							 own_tag();
		if (seq_state(c->fd, s->handle) == 1)
			write_tokens(c, s, from);
		else
			mend(c, s);	/* its copy failed */
		break;
	case PAGEDKV_IO_OP_FORK:
		child = find_seq(c, 0);
		*child = *s;
		child->handle = op->out_seq;
		count(FORKS, 1);
		break;
	case PAGEDKV_IO_OP_TRUNCATE:
		s->len = op->arg;
		break;
	default:
		s->handle = 0;
	}
}

/* An operation for a running sequence. @nr_free: sequences that may still be made. */
static struct pagedkv_io_op choose_op(struct client *c, const struct seq *s, uint32_t *nr_free)
{
	struct pagedkv_io_op op = { .seq = s->handle };
	uint32_t roll = dice(&c->rng, 16);

	if (roll < 3 && *nr_free) {
		op.type = PAGEDKV_IO_OP_FORK;
		(*nr_free)--;
	} else if (roll == 3) {
		op.type = PAGEDKV_IO_OP_TRUNCATE;
		op.arg = dice(&c->rng, s->len + 1);
	} else if (roll == 4 || s->len == MAX_TOKENS) {
		op.type = PAGEDKV_IO_OP_FREE;
	} else {
		op.type = PAGEDKV_IO_OP_APPEND;
		op.arg = 1 + dice(&c->rng, roll < 8 ? 40 : 6);
		if (op.arg > MAX_TOKENS - s->len)
			op.arg = MAX_TOKENS - s->len;
	}
	return op;
}

/* A step over some running sequences, each once. */
static void step_some(struct client *c)
{
	struct pagedkv_io_delta deltas[MAX_OPS * MAX_PAGES];
	struct pagedkv_io_move copies[MAX_OPS];
	struct pagedkv_io_op ops[MAX_OPS];
	struct pagedkv_io_step step = {
		.size = sizeof(step), .ops = user_ptr(ops), .deltas = user_ptr(deltas),
		.copies = user_ptr(copies), .max_deltas = MAX_OPS * MAX_PAGES,
		.max_copies = MAX_OPS,
	};
	uint32_t nr_free = 0;
	int ret;

	for (uint32_t i = 0; i < MAX_LIVE; i++)
		nr_free += !c->seqs[i].handle;
	for (uint32_t i = 0; i < MAX_LIVE && step.nr_ops < MAX_OPS; i++)
		if (c->seqs[i].handle && dice(&c->rng, 2) &&
		    seq_state(c->fd, c->seqs[i].handle) == 1)
			ops[step.nr_ops++] = choose_op(c, &c->seqs[i], &nr_free);
	if (!step.nr_ops)
		return;
	ret = call(c->fd, PAGEDKV_CMD_STEP, &step);
	if (ret && ret != -EAGAIN && ret != -ENOSPC)
		fail("step: %d after %u operations", ret, step.out_nr_done);
	for (uint32_t i = 0; i < step.out_nr_deltas; i++) {
		struct seq *s = find_seq(c, deltas[i].seq);

		if (s && deltas[i].index < MAX_PAGES)
			s->slots[deltas[i].index] = deltas[i].slot;
		else
			fail("a delta of another sequence");
	}
	run_copies(c, copies, step.out_nr_copies);
	for (uint32_t i = 0; i < step.out_nr_done; i++)
		apply(c, &ops[i]);
	count(STEPS, step.out_nr_done);
	if (ret)
		make_room(c, NULL);
}

static void publish_one(struct client *c, struct seq *s)
{
	struct pagedkv_io_key keys[MAX_PAGES];
	uint32_t nr = s->len / PAGE_TOKENS;
	int ret;

	keys_of(s->tags, nr, keys);
	if (nr > PROMPT_PAGES && dice(&c->rng, 4))
		nr = PROMPT_PAGES;
	ret = publish(c->fd, s->handle, keys, nr);
	if (ret < 0)
		fail("publish: %d", ret);
	else
		count(PUBLISHED, (uint64_t)ret);
}

/* Any advice, to any sequence. */
static void advise_one(struct client *c, struct seq *s)
{
	struct pagedkv_io_advise a = {
		.size = sizeof(a), .seq = s->handle, .advice = dice(&c->rng, 6),
	};
	int ret;

	if (a.advice == PAGEDKV_IO_PRIORITY)
		a.arg = dice(&c->rng, 4);
	if (a.advice == PAGEDKV_IO_WILLNEED) {
		bring(c, s);
		return;
	}
	ret = call(c->fd, PAGEDKV_CMD_ADVISE, &a);
	if (ret && !(ret == -EIO && a.advice == PAGEDKV_IO_COLD) &&
	    !(ret == -EBUSY && a.advice == PAGEDKV_IO_PIN))
		fail("advice %u: %d", a.advice, ret);
}

static void look_around(struct client *c, struct seq *s)
{
	struct pagedkv_io_seq_info info = { .size = sizeof(info), .seq = s->handle };
	struct pagedkv_io_key keys[PROMPT_PAGES];
	struct pagedkv_io_match m = {
		.size = sizeof(m), .keys = user_ptr(keys), .nr_keys = PROMPT_PAGES,
	};
	int ret = call(c->fd, PAGEDKV_CMD_SEQ_INFO, &info);

	if (ret || info.out_len_tokens != s->len)
		fail("info: %d, %u tokens instead of %u", ret, info.out_len_tokens, s->len);
	keys_of(s->tags, PROMPT_PAGES, keys);
	ret = call(c->fd, PAGEDKV_CMD_MATCH, &m);
	if (ret || m.out_nr > PROMPT_PAGES)
		fail("match: %d, %u pages", ret, m.out_nr);
	count(LOOKS, 1);
}

/* All of a client's sequences go with its file, a copy under way too. */
static void reopen(struct client *c)
{
	close(c->fd);
	memset(c->seqs, 0, sizeof(c->seqs));
	c->fd = open_pool(open_device(), places[c->place].name, 0);
	if (c->fd < 0)
		fail("reopening: %d", c->fd);
	count(REOPENED, 1);
}

static void act(struct client *c)
{
	uint32_t roll = dice(&c->rng, 100);
	struct seq *s = some_seq(c);

	if (roll < 20 || !s)
		create_one(c);
	else if (roll < 60)
		step_some(c);
	else if (roll < 68)
		advise_one(c, s);
	else if (roll < 76)
		publish_one(c, s);
	else if (roll < 92)
		(void)(bring(c, s) && (verify(c, s), true));
	else if (roll < 99)
		look_around(c, s);
	else if (!c->is_shared)
		reopen(c);
}

static void *be_client(void *arg)
{
	struct client *c = arg;

	c->has_ring = !io_uring_queue_init(4, &c->ring, 0);
	while (!is_over())
		act(c);
	for (uint32_t i = 0; i < MAX_LIVE; i++)
		if (c->seqs[i].handle && !has_failed())
			free_seq(c, &c->seqs[i]);
	if (c->has_ring)
		io_uring_queue_exit(&c->ring);
	return NULL;
}

/* A process of clients: the first two share a file, the others have their own. */
void be_clients(uint32_t index, uint64_t seed)
{
	static struct client clients[NR_THREADS];
	pthread_t threads[NR_THREADS];

	for (uint32_t i = 0; i < NR_THREADS; i++) {
		struct client *c = &clients[i];

		c->is_shared = i < 2;
		c->place = (index + (i < 2 ? 0 : i)) % nr_places;
		c->rng = mix(seed << 16 | index << 8 | i);
		c->fd = i == 1 ? clients[0].fd :
				 open_pool(open_device(), places[c->place].name, 0);
		if (c->fd < 0)
			fail("opening: %d", c->fd);
	}
	for (uint32_t i = 0; i < NR_THREADS; i++)
		if (pthread_create(&threads[i], NULL, be_client, &clients[i]))
			fail("no thread");
	for (uint32_t i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* What is cached of each prompt is the prompt. */
uint32_t check_prompts(struct executor *e)
{
	static struct client c;
	struct pagedkv_io_key keys[PROMPT_PAGES];
	struct seq *s = &c.seqs[0];
	uint32_t hits = 0, total = 0;
	int ret;

	c.place = e->place;
	c.fd = e->fd;
	for (s->prompt = 0; s->prompt < NR_PROMPTS && !has_failed(); s->prompt++) {
		for (uint32_t i = 0; i < PROMPT_TOKENS; i++)
			s->tags[i] = prompt_tag(c.place, s->prompt, i);
		keys_of(s->tags, PROMPT_PAGES, keys);
		/* Room for what is to be loaded is made by moves. */
		while ((ret = create_seq(c.fd, keys, PROMPT_PAGES, &s->handle, &hits)) == -EAGAIN)
			drain(e);
		if (ret)
			fail("creating at the end: %d", ret);
		s->len = hits * PAGE_TOKENS;
		drain(e);
		if (seq_state(c.fd, s->handle) == 1)
			take_table(&c, s);
		else
			mend(&c, s);
		total += hits;
		free_seq(&c, s);
	}
	return total;
}
