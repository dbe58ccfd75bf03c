// SPDX-License-Identifier: GPL-2.0-only
/*
 * The rules that every command keeps, driven by one table: short, long with a
 * zero tail, long with garbage, unknown flags, bad pointers, reserved fields,
 * stale handles, and the wrong file.
 */
#include <stddef.h>

#include "../kselftest_harness.h"
#include "kit.h"

#define NOWHERE	((void *)(uintptr_t)0x10)	/* never mapped */
#define ROOM	16U

/* What the rows' structs point to. */
struct target {
	int dev, pool;
	int null;	/* /dev/null, for what keeps a file */
	uint64_t seq;
	struct pagedkv_io_key keys[ROOM];
	struct pagedkv_io_op ops[2];
	struct pagedkv_io_delta deltas[ROOM];
	struct pagedkv_io_move moves[ROOM];
	struct pagedkv_io_publication items[1];
	struct pagedkv_io_pool_entry pools[ROOM];
	struct pagedkv_io_map_entry entries[ROOM];
	struct pagedkv_io_commit commits[1];
	struct pagedkv_io_file_entry files[ROOM];
	uint32_t slots[ROOM];
};

union arg {
	uint32_t head[2];	/* size, flags */
	struct pagedkv_io_info info;
	struct pagedkv_io_pool_create create;
	struct pagedkv_io_pool_open open;
	struct pagedkv_io_pool_destroy destroy;
	struct pagedkv_io_pool_list list;
	struct pagedkv_io_set_limit limit;
	struct pagedkv_io_seq_create seq_create;
	struct pagedkv_io_match match;
	struct pagedkv_io_publish publish;
	struct pagedkv_io_step step;
	struct pagedkv_io_advise advise;
	struct pagedkv_io_seq_state seq;
	struct pagedkv_io_seq_table table;
	struct pagedkv_io_seq_wait wait;
	struct pagedkv_io_adopt adopt;
	struct pagedkv_io_moves moves;
	struct pagedkv_io_moves_eventfd eventfd;
	struct pagedkv_io_map map;
	struct pagedkv_io_moves_wait moves_wait;
	struct pagedkv_io_file_keep keep;
	struct pagedkv_io_file_take take;
	struct pagedkv_io_file_drop drop;
	struct pagedkv_io_file_list files;
	uint8_t bytes[4096 + 64];
};

struct row {
	const char *name;
	unsigned int cmd;
	uint32_t size;
	bool of_device;
	int result;			/* of the struct that fill() makes */
	void (*fill)(union arg *a, struct target *t);
	int reserved;			/* offset of a reserved u32, or 0 */
	int pointers[3];		/* offsets of pointers that are followed, 0 ends */
	int handle;			/* offset of a sequence, or 0 */
	bool out;			/* the struct is written back */
};

static void fill_nothing(union arg *a, struct target *t)
{
	(void)a;
	(void)t;
}

static void fill_create(union arg *a, struct target *t)
{
	(void)t;
	pool_params(&a->create, NULL, 8, 0, 8);
}

static void fill_open(union arg *a, struct target *t)
{
	(void)t;
	strcpy((char *)a->open.name, "abi");
}

static void fill_destroy(union arg *a, struct target *t)
{
	(void)t;
	strcpy((char *)a->destroy.name, "nobody-has-this-name");
}

static void fill_list(union arg *a, struct target *t)
{
	a->list.entries = user_ptr(t->pools);
	a->list.nr = ROOM;
}

static void fill_limit(union arg *a, struct target *t)
{
	(void)t;
	a->limit.limit = 8;
}

static void fill_tier(union arg *a, struct target *t)
{
	(void)t;
	a->limit.tier = 2;
}

static void fill_seq_create(union arg *a, struct target *t)
{
	a->seq_create.keys = user_ptr(t->keys);
	a->seq_create.nr_keys = 1;
}

static void fill_match(union arg *a, struct target *t)
{
	a->match.keys = user_ptr(t->keys);
	a->match.nr_keys = ROOM;
}

static void fill_publish(union arg *a, struct target *t)
{
	memset(t->items, 0, sizeof(t->items));
	t->items[0].seq = t->seq;
	a->publish.items = user_ptr(t->items);
	a->publish.nr = 1;
}

static void fill_step(union arg *a, struct target *t)
{
	t->ops[0] = (struct pagedkv_io_op) { .seq = t->seq, .type = PAGEDKV_IO_OP_APPEND };
	a->step.ops = user_ptr(t->ops);
	a->step.nr_ops = 1;
	a->step.deltas = user_ptr(t->deltas);
	a->step.max_deltas = ROOM;
	a->step.copies = user_ptr(t->moves);
	a->step.max_copies = ROOM;
}

static void fill_advise(union arg *a, struct target *t)
{
	a->advise.seq = t->seq;
	a->advise.advice = PAGEDKV_IO_PRIORITY;
	a->advise.arg = 2;
}

static void fill_seq(union arg *a, struct target *t)
{
	a->seq.seq = t->seq;
}

static void fill_table(union arg *a, struct target *t)
{
	a->table.seq = t->seq;
	a->table.slots = user_ptr(t->slots);
	a->table.nr = ROOM;
}

static void fill_adopt(union arg *a, struct target *t)
{
	(void)t;
	a->adopt.tier = 2;
	a->adopt.slot = 99;
}

static void fill_moves(union arg *a, struct target *t)
{
	memset(t->commits, 0, sizeof(t->commits));
	a->moves.commits = user_ptr(t->commits);
	a->moves.nr_commits = 1;
	a->moves.moves = user_ptr(t->moves);
	a->moves.max_moves = ROOM;
}

static void fill_eventfd(union arg *a, struct target *t)
{
	(void)t;
	a->eventfd.fd = -1;
}

static void fill_map(union arg *a, struct target *t)
{
	a->map.entries = user_ptr(t->entries);
	a->map.nr = ROOM;
}

static void fill_keep(union arg *a, struct target *t)
{
	strcpy((char *)a->keep.name, "new");
	a->keep.fd = t->null;
}

static void fill_take(union arg *a, struct target *t)
{
	(void)t;
	strcpy((char *)a->take.name, "kept");
	a->take.fingerprint = 5;
}

static void fill_drop(union arg *a, struct target *t)
{
	(void)t;
	strcpy((char *)a->drop.name, "nobody-has-this-name");
}

static void fill_files(union arg *a, struct target *t)
{
	a->files.entries = user_ptr(t->files);
	a->files.nr = ROOM;
}

#define ROW(_cmd, _struct, ...) \
	{ .name = #_cmd, .cmd = PAGEDKV_CMD_##_cmd, .size = sizeof(struct _struct), __VA_ARGS__ }
#define AT(_struct, field) offsetof(struct _struct, field)

static const struct row rows[] = {
	ROW(INFO, pagedkv_io_info, .of_device = true, .fill = fill_nothing, .out = true),
	ROW(POOL_CREATE, pagedkv_io_pool_create, .of_device = true, .fill = fill_create,
	    .reserved = AT(pagedkv_io_pool_create, reserved), .out = true),
	ROW(POOL_OPEN, pagedkv_io_pool_open, .of_device = true, .fill = fill_open, .out = true),
	ROW(POOL_DESTROY, pagedkv_io_pool_destroy, .of_device = true, .fill = fill_destroy,
	    .result = -ENOENT),
	ROW(POOL_LIST, pagedkv_io_pool_list, .of_device = true, .fill = fill_list,
	    .reserved = AT(pagedkv_io_pool_list, reserved),
	    .pointers = { AT(pagedkv_io_pool_list, entries) }, .out = true),
	ROW(POOL_INFO, pagedkv_io_pool_info, .fill = fill_nothing, .out = true),
	ROW(SET_LIMIT, pagedkv_io_set_limit, .fill = fill_limit,
	    .reserved = AT(pagedkv_io_set_limit, reserved)),
	ROW(TIER_STATE, pagedkv_io_tier_state, .fill = fill_tier,
	    .reserved = AT(pagedkv_io_tier_state, reserved)),
	ROW(HOST_MAP, pagedkv_io_host_map, .fill = fill_nothing, .out = true),
	ROW(SEQ_CREATE, pagedkv_io_seq_create, .fill = fill_seq_create,
	    .pointers = { AT(pagedkv_io_seq_create, keys) }, .out = true),
	ROW(MATCH, pagedkv_io_match, .fill = fill_match,
	    .pointers = { AT(pagedkv_io_match, keys) }, .out = true),
	ROW(PUBLISH, pagedkv_io_publish, .fill = fill_publish,
	    .reserved = AT(pagedkv_io_publish, reserved),
	    .pointers = { AT(pagedkv_io_publish, items) }),
	ROW(STEP, pagedkv_io_step, .fill = fill_step, .pointers = { AT(pagedkv_io_step, ops) },
	    .out = true),
	ROW(ADVISE, pagedkv_io_advise, .fill = fill_advise,
	    .handle = AT(pagedkv_io_advise, seq)),
	ROW(SEQ_STATE, pagedkv_io_seq_state, .fill = fill_seq, .result = 1,
	    .handle = AT(pagedkv_io_seq_state, seq)),
	ROW(SEQ_INFO, pagedkv_io_seq_info, .fill = fill_seq,
	    .handle = AT(pagedkv_io_seq_info, seq), .out = true),
	ROW(SEQ_TABLE, pagedkv_io_seq_table, .fill = fill_table,
	    .reserved = AT(pagedkv_io_seq_table, reserved),
	    .pointers = { AT(pagedkv_io_seq_table, slots) },
	    .handle = AT(pagedkv_io_seq_table, seq), .out = true),
	ROW(SEQ_WAIT, pagedkv_io_seq_wait, .fill = fill_seq,
	    .handle = AT(pagedkv_io_seq_wait, seq)),
	ROW(ADOPT, pagedkv_io_adopt, .fill = fill_adopt, .result = -EINVAL,
	    .reserved = AT(pagedkv_io_adopt, reserved)),
	ROW(MOVES, pagedkv_io_moves, .fill = fill_moves,
	    .pointers = { AT(pagedkv_io_moves, commits) }, .out = true),
	ROW(MOVES_WAIT, pagedkv_io_moves_wait, .fill = fill_nothing),
	ROW(MOVES_STOP, pagedkv_io_empty, .fill = fill_nothing),
	ROW(MOVES_EVENTFD, pagedkv_io_moves_eventfd, .fill = fill_eventfd,
	    .reserved = AT(pagedkv_io_moves_eventfd, reserved)),
	ROW(QUIESCE, pagedkv_io_empty, .fill = fill_nothing),
	ROW(STATS, pagedkv_io_stats, .fill = fill_nothing,
	    .reserved = AT(pagedkv_io_stats, reserved), .out = true),
	ROW(MAP, pagedkv_io_map, .fill = fill_map, .pointers = { AT(pagedkv_io_map, entries) },
	    .out = true),
	ROW(CHECK, pagedkv_io_check, .fill = fill_nothing, .out = true),
	ROW(FILE_KEEP, pagedkv_io_file_keep, .fill = fill_keep,
	    .reserved = AT(pagedkv_io_file_keep, reserved)),
	ROW(FILE_TAKE, pagedkv_io_file_take, .fill = fill_take,
	    .reserved = AT(pagedkv_io_file_take, reserved), .out = true),
	ROW(FILE_DROP, pagedkv_io_file_drop, .fill = fill_drop, .result = -ENOENT),
	ROW(FILE_LIST, pagedkv_io_file_list, .fill = fill_files,
	    .pointers = { AT(pagedkv_io_file_list, entries) }, .out = true),
};

#define NR_ROWS (sizeof(rows) / sizeof(rows[0]))

FIXTURE(abi)
{
	struct target t;
	union arg a;
};

FIXTURE_SETUP(abi)
{
	struct target *t = &self->t;

	memset(t, 0, sizeof(*t));
	t->dev = open_device();
	ASSERT_GE(t->dev, 0);
	t->pool = create_pool(t->dev, "abi", 8, 8);
	if (t->pool == -EEXIST) {
		destroy_pool(t->dev, "abi");
		t->pool = create_pool(t->dev, "abi", 8, 8);
	}
	ASSERT_GE(t->pool, 0);
	make_keys(t->keys, ROOM, 1);
	ASSERT_EQ(0, create_seq(t->pool, NULL, 0, &t->seq, NULL));
	ASSERT_EQ(0, append(t->pool, t->seq, 2 * PAGE_TOKENS));
	t->null = open("/dev/null", O_RDWR);
	ASSERT_EQ(0, keep_file(t->pool, "kept", t->null, 0, 5));
}

FIXTURE_TEARDOWN(abi)
{
	close(self->t.null);
	close(self->t.pool);
	destroy_pool(self->t.dev, "abi");
	close(self->t.dev);
}

/* The row's struct as it is right, in @a, with garbage behind it. */
static void prepare(const struct row *r, union arg *a, struct target *t)
{
	memset(a, 0, sizeof(*a));
	r->fill(a, t);
	a->head[0] = r->size;
}

/* What the command says to @a; files that it gives are closed, one that it keeps is dropped. */
static int say(const struct row *r, union arg *a, struct target *t)
{
	int ret = call(r->of_device ? t->dev : t->pool, r->cmd, a);

	if (!ret && r->cmd == PAGEDKV_CMD_POOL_CREATE)
		close(a->create.out_fd);
	if (!ret && r->cmd == PAGEDKV_CMD_POOL_OPEN)
		close(a->open.out_fd);
	if (!ret && r->cmd == PAGEDKV_CMD_FILE_KEEP)
		drop_file(t->pool, (char *)a->keep.name);
	if (!ret && r->cmd == PAGEDKV_CMD_FILE_TAKE)
		close(a->take.out_fd);
	return ret;
}

#define FOR_EACH_ROW(r) for (const struct row *r = rows; r < rows + NR_ROWS; r++)
#define EXPECT_ROW(want, got) \
	do { \
		int got_ = (got), want_ = (want); \
		EXPECT_EQ(want_, got_) { TH_LOG("%s: %d, not %d", r->name, got_, want_); } \
	} while (0)

/* MOVES_STOP is the last one that matters to a client: it is said at the end. */
TEST_F(abi, right)
{
	const struct row *stop = NULL;

	FOR_EACH_ROW(r) {
		if (r->cmd == PAGEDKV_CMD_MOVES_STOP) {
			stop = r;
			continue;
		}
		prepare(r, &self->a, &self->t);
		EXPECT_ROW(r->result, say(r, &self->a, &self->t));
	}
	EXPECT_EQ(0, check_pool(self->t.pool));
	ASSERT_NE(NULL, stop);
	prepare(stop, &self->a, &self->t);
	EXPECT_EQ(0, say(stop, &self->a, &self->t));
	EXPECT_EQ(-ECANCELED, fetch(self->t.pool, self->t.moves, 1));
	EXPECT_EQ(0, commit(self->t.pool, NULL, 0));
}

TEST_F(abi, too_short)
{
	FOR_EACH_ROW(r) {
		prepare(r, &self->a, &self->t);
		self->a.head[0] = 0;
		EXPECT_ROW(-EINVAL, say(r, &self->a, &self->t));
		self->a.head[0] = 4;
		EXPECT_ROW(-EINVAL, say(r, &self->a, &self->t));
		self->a.head[0] = r->size - 4;
		EXPECT_ROW(-EINVAL, say(r, &self->a, &self->t));
	}
}

TEST_F(abi, long_with_zeroes)
{
	FOR_EACH_ROW(r) {
		if (r->cmd == PAGEDKV_CMD_MOVES_STOP)
			continue;
		prepare(r, &self->a, &self->t);
		self->a.head[0] = r->size + 32;
		EXPECT_ROW(r->result, say(r, &self->a, &self->t));
		EXPECT_ROW((int)r->size + 32, (int)self->a.head[0]);
		prepare(r, &self->a, &self->t);
		self->a.head[0] = 4096;
		EXPECT_ROW(r->result, say(r, &self->a, &self->t));
	}
}

TEST_F(abi, long_with_garbage)
{
	static const uint32_t tails[] = { 1, 7, 32 };

	FOR_EACH_ROW(r) {
		for (int i = 0; i < 3; i++) {
			prepare(r, &self->a, &self->t);
			self->a.head[0] = r->size + tails[i];
			self->a.bytes[r->size + tails[i] - 1] = 1;
			EXPECT_ROW(-E2BIG, say(r, &self->a, &self->t));
		}
		prepare(r, &self->a, &self->t);
		self->a.head[0] = 4097;
		EXPECT_ROW(-E2BIG, say(r, &self->a, &self->t));
		self->a.head[0] = UINT32_MAX;
		EXPECT_ROW(-E2BIG, say(r, &self->a, &self->t));
	}
}

TEST_F(abi, unknown_flags)
{
	FOR_EACH_ROW(r) {
		for (int bit = 1; bit < 32; bit++) {
			prepare(r, &self->a, &self->t);
			self->a.head[1] = 1U << bit;
			EXPECT_ROW(-EOPNOTSUPP, say(r, &self->a, &self->t));
		}
	}
}

TEST_F(abi, bad_struct)
{
	uint8_t *two = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);

	ASSERT_NE(MAP_FAILED, two);
	ASSERT_EQ(0, mprotect(two + 4096, 4096, PROT_NONE));
	FOR_EACH_ROW(r) {
		int fd = r->of_device ? self->t.dev : self->t.pool;
		uint8_t *half = two + 4096 - 8;

		EXPECT_ROW(-EFAULT, call(fd, r->cmd, NULL));
		EXPECT_ROW(-EFAULT, call(fd, r->cmd, NOWHERE));
		EXPECT_ROW(-EFAULT, call(fd, r->cmd, two + 4096));
		prepare(r, &self->a, &self->t);
		if (r->size > 8) {
			memcpy(half, &self->a, 8);
			EXPECT_ROW(-EFAULT, call(fd, r->cmd, half));
		}
	}
	munmap(two, 2 * 4096);
}

/* A struct that can be read and not written: said so, and nothing stays open or counted. */
TEST_F(abi, unwritable_struct)
{
	struct pagedkv_io_stats before = pool_stats(self->t.pool);
	uint8_t *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	int next = dup(0);

	ASSERT_NE(MAP_FAILED, page);
	close(next);
	FOR_EACH_ROW(r) {
		if (!r->out)
			continue;
		prepare(r, &self->a, &self->t);
		memcpy(page, &self->a, r->size);
		ASSERT_EQ(0, mprotect(page, 8192, PROT_READ));
		EXPECT_ROW(-EFAULT, call(r->of_device ? self->t.dev : self->t.pool, r->cmd, page));
		ASSERT_EQ(0, mprotect(page, 8192, PROT_READ | PROT_WRITE));
	}
	EXPECT_EQ(before.out_nr_seqs, pool_stats(self->t.pool).out_nr_seqs);
	EXPECT_EQ(before.out_nr_pages, pool_stats(self->t.pool).out_nr_pages);
	/* The next descriptor is the one it was. */
	EXPECT_EQ(next, dup(0));
	close(next);
	munmap(page, 8192);
}

TEST_F(abi, bad_arrays)
{
	FOR_EACH_ROW(r) {
		for (int i = 0; i < 3 && r->pointers[i]; i++) {
			uint64_t nowhere = user_ptr(NOWHERE);

			prepare(r, &self->a, &self->t);
			memcpy(self->a.bytes + r->pointers[i], &nowhere, sizeof(nowhere));
			EXPECT_ROW(-EFAULT, say(r, &self->a, &self->t));
			nowhere = 1ULL << 63;
			prepare(r, &self->a, &self->t);
			memcpy(self->a.bytes + r->pointers[i], &nowhere, sizeof(nowhere));
			EXPECT_ROW(-EFAULT, say(r, &self->a, &self->t));
		}
	}
	EXPECT_EQ(0, check_pool(self->t.pool));
}

TEST_F(abi, reserved)
{
	FOR_EACH_ROW(r) {
		uint32_t one = 1;

		if (!r->reserved)
			continue;
		prepare(r, &self->a, &self->t);
		memcpy(self->a.bytes + r->reserved, &one, sizeof(one));
		EXPECT_ROW(-EINVAL, say(r, &self->a, &self->t));
	}
}

TEST_F(abi, stale_handles)
{
	uint64_t freed, bad[4];

	ASSERT_EQ(0, create_seq(self->t.pool, NULL, 0, &freed, NULL));
	ASSERT_EQ(0, one_op(self->t.pool, freed, PAGEDKV_IO_OP_FREE, 0, NULL));
	bad[0] = freed;
	bad[1] = self->t.seq + (1ULL << 32);
	bad[2] = 0;
	bad[3] = UINT64_MAX;
	FOR_EACH_ROW(r) {
		if (!r->handle)
			continue;
		for (int i = 0; i < 4; i++) {
			prepare(r, &self->a, &self->t);
			memcpy(self->a.bytes + r->handle, &bad[i], sizeof(bad[i]));
			EXPECT_ROW(-ESTALE, say(r, &self->a, &self->t));
		}
	}
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(-ESTALE, append(self->t.pool, bad[i], 1));
		EXPECT_EQ(-ESTALE, publish(self->t.pool, bad[i], self->t.keys, 1));
	}
}

TEST_F(abi, wrong_file)
{
	FOR_EACH_ROW(r) {
		int other = r->of_device ? self->t.pool : self->t.dev;

		if (r->cmd == PAGEDKV_CMD_INFO)
			continue;
		prepare(r, &self->a, &self->t);
		EXPECT_ROW(-ENOTTY, call(other, r->cmd, &self->a));
	}
	for (unsigned int nr = 0; nr < 256; nr++) {
		bool known = false;

		FOR_EACH_ROW(r)
			known |= r->cmd == _IO(PAGEDKV_IO_TYPE, nr);
		if (known)
			continue;
		EXPECT_EQ(-ENOTTY, call(self->t.pool, _IO(PAGEDKV_IO_TYPE, nr), &self->a));
		EXPECT_EQ(-ENOTTY, call(self->t.dev, _IO(PAGEDKV_IO_TYPE, nr), &self->a));
	}
	EXPECT_EQ(-ENOTTY, call(self->t.dev, _IO(PAGEDKV_IO_TYPE + 1, 0), &self->a));
	EXPECT_EQ(-ENOTTY, call(self->t.dev, _IOW(PAGEDKV_IO_TYPE, 0, int), &self->a));
}

/* Every pool parameter that can't be right. */
TEST_F(abi, pool_params)
{
	struct pagedkv_io_pool_create good, p;

	pool_params(&good, NULL, 8, 0, 8);
#define BAD(want, change) \
	do { \
		p = good; \
		change; \
		EXPECT_EQ(want, create_pool_with(self->t.dev, &p)) { TH_LOG("%s", #change); } \
	} while (0)
	BAD(-EINVAL, p.nr_classes = 0);
	BAD(-EINVAL, p.nr_classes = 5);
	BAD(-EINVAL, p.nr_classes = UINT32_MAX);
	BAD(-EINVAL, p.max_seqs = 0);
	BAD(-EINVAL, p.max_seqs = UINT32_MAX);
	BAD(-EINVAL, p.max_moves = 0);
	BAD(-EINVAL, p.max_moves = 65537);
	BAD(-EOPNOTSUPP, p.nr_ranks = 0);
	BAD(-EOPNOTSUPP, p.nr_ranks = 2);
	BAD(-EINVAL, p.mode = 0700);
	BAD(-EINVAL, p.mode = UINT32_MAX);
	BAD(-EINVAL, p.flags = PAGEDKV_IO_POOL_PERSIST);
	BAD(-EINVAL, p.classes[0].page_tokens = 0);
	BAD(-EINVAL, p.classes[0].page_tokens = 12);
	BAD(-EINVAL, p.classes[0].page_tokens = 2048);
	BAD(-EINVAL, p.classes[0].nr_slots[0] = 0);
	BAD(-EINVAL, p.classes[0].reserved = 1);
	BAD(-EINVAL, p.classes[0].low[0] = 3);
	BAD(-EINVAL, p.classes[0].high[0] = 9);
	BAD(-EINVAL, p.classes[0].host_node = 77);
	BAD(-EINVAL, p.classes[0].host_node = UINT32_MAX - 1);
	BAD(-EINVAL, p.classes[1].page_tokens = 16);
	BAD(-EOVERFLOW, p.classes[0].nr_slots[0] = UINT32_MAX);
	BAD(-EOVERFLOW, p.classes[0].nr_slots[2] = 1U << 28);
	BAD(-EOVERFLOW, p.classes[0].page_bytes = UINT64_MAX);
	BAD(-EOVERFLOW, p.classes[0].page_bytes = UINT64_MAX / 8 + 1);
	BAD(-ENOMEM, p.classes[0].nr_slots[1] = 1; p.classes[0].page_bytes = 1ULL << 58);
	BAD(-EINVAL, p.name[0] = '.');
	BAD(-EINVAL, p.name[0] = '/');
	BAD(-EINVAL, p.name[0] = 0xe9);
	BAD(-EINVAL, p.name[1] = 'a');
	BAD(-EINVAL, memset(p.name, 'a', sizeof(p.name)));
	BAD(-EEXIST, strcpy((char *)p.name, "abi"));
#undef BAD
}

/* Hostile counts are refused before anything is allocated for them. */
TEST_F(abi, huge_counts)
{
	struct pagedkv_io_seq_create c = {
		.size = sizeof(c), .keys = user_ptr(self->t.keys), .nr_keys = UINT32_MAX,
	};
	struct pagedkv_io_match m = {
		.size = sizeof(m), .keys = user_ptr(self->t.keys), .nr_keys = UINT32_MAX,
	};
	struct pagedkv_io_publish p = {
		.size = sizeof(p), .items = user_ptr(self->t.items), .nr = UINT32_MAX,
	};
	struct pagedkv_io_step s = {
		.size = sizeof(s), .ops = user_ptr(self->t.ops), .nr_ops = UINT32_MAX,
	};
	struct pagedkv_io_moves mv = {
		.size = sizeof(mv), .moves = user_ptr(self->t.moves), .max_moves = UINT32_MAX,
	};

	EXPECT_EQ(-EINVAL, call(self->t.pool, PAGEDKV_CMD_SEQ_CREATE, &c));
	EXPECT_EQ(-EINVAL, call(self->t.pool, PAGEDKV_CMD_MATCH, &m));
	EXPECT_EQ(-EINVAL, call(self->t.pool, PAGEDKV_CMD_PUBLISH, &p));
	EXPECT_EQ(-EINVAL, call(self->t.pool, PAGEDKV_CMD_STEP, &s));
	EXPECT_EQ(-EINVAL, call(self->t.pool, PAGEDKV_CMD_MOVES, &mv));
	mv.max_moves = 0;
	mv.nr_commits = UINT32_MAX;
	EXPECT_EQ(-EINVAL, call(self->t.pool, PAGEDKV_CMD_MOVES, &mv));
	/* An append of more than the device has, with an array that claims to have room. */
	self->t.ops[0] = (struct pagedkv_io_op) { .seq = self->t.seq, .arg = 1U << 29 };
	s.nr_ops = 1;
	s.deltas = user_ptr(self->t.deltas);
	s.max_deltas = UINT32_MAX;
	s.copies = user_ptr(self->t.moves);
	s.max_copies = UINT32_MAX;
	EXPECT_EQ(-ENOSPC, call(self->t.pool, PAGEDKV_CMD_STEP, &s));
	EXPECT_EQ(0U, s.out_nr_done);
	s.max_deltas = 4;
	EXPECT_EQ(-ENOBUFS, call(self->t.pool, PAGEDKV_CMD_STEP, &s));
	EXPECT_EQ(0, check_pool(self->t.pool));
}

TEST_HARNESS_MAIN
