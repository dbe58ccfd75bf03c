// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls of the device and of pools, by a table of what each field of the
 * header's structs means. Mostly a field gets a value of its kind: a sequence
 * that was created, a class that there is. Now and then anything is spoiled.
 */
#include <stddef.h>

#include "fuzz.h"

enum value {
	V_END, V_CLASS, V_TIER, V_PRIORITY, V_SEQ, V_ADVICE, V_ARG, V_STATE, V_LIMIT, V_SLOT,
	V_FIRST, V_KEY, V_NAME, V_NAME_PERSISTS, V_MODE, V_FINGERPRINT, V_GEOMETRY, V_CURSOR,
	V_DEADLINE, V_EVENTFD, V_FILE_NAME, V_FILE,
	/* arrays: a pointer, and the number of elements at @count */
	V_KEYS, V_OPS, V_ITEMS, V_COMMITS, V_OUT,
};

struct field {
	enum value value;
	uint32_t offset, count, size;
};

/* An argument, and room for what is said of its size. */
union arg {
	uint32_t head[2];	/* size, flags */
	uint32_t words[1024];
	uint8_t bytes[4096];
	struct pagedkv_io_pool_create create;
};

/* ----------------------------------------------------------------- values */

static void put32(uint8_t *at, uint32_t v)
{
	memcpy(at, &v, sizeof(v));
}

static void put64(uint8_t *at, uint64_t v)
{
	memcpy(at, &v, sizeof(v));
}

uint64_t choose_seq(struct world *w, struct choices *c)
{
	uint32_t nr = w->nr_seqs < NR_SEQS ? w->nr_seqs : NR_SEQS;
	uint64_t seq = nr ? w->seqs[choose(c, nr)] : 0;

	if (chance(c, 8))
		return choose(c, 2) ? seq + (1ULL << 32) : choose_value(c);
	return seq;
}

static void take_seq(struct world *w, uint64_t seq)
{
	w->seqs[w->nr_seqs++ % NR_SEQS] = seq;
}

void take_move(struct world *w, const struct pagedkv_io_move *m)
{
	w->moves[w->nr_moves++ % NR_MOVES] = *m;
}

uint64_t choose_deadline(struct actor *a, struct choices *c)
{
	switch (choose(c, 8)) {
	case 0:
		return now_ns() + 200000;
	case 1:
	case 2:
		/* The main thread is woken by nobody, the helper by the main one's signals. */
		return a->is_helper ? UINT64_MAX : now_ns() + 2000000;
	case 3:
		return choose_value(c);
	default:
		return 0;
	}
}

static void put_name(uint8_t *name, struct choices *c, bool persists)
{
	static const char *const names[] = {
		"fuzz0", "fuzz0", "fuzz1", "fuzz1", "fuzz2", "fuzz3", "fuzz_4.X-y", ".fuzz",
		"fuzz/5", "fuzz\xc3\xa4",
	};
	uint32_t which = choose(c, persists ? 10 : 20);

	memset(name, 0, PAGEDKV_IO_NAME_BYTES);
	if (which < 10)
		strcpy((char *)name, names[which]);
	/* As long as can be, or longer; they all begin so: see forget_names(). */
	if (chance(c, 4)) {
		memset(name, 'z', PAGEDKV_IO_NAME_BYTES - choose(c, 2));
		memcpy(name, "fuzz", 4);
	}
	if (chance(c, 4))
		name[PAGEDKV_IO_NAME_BYTES - 1] = 'z';
}

static void put_key(uint8_t *at, uint32_t content, uint32_t i)
{
	struct pagedkv_io_key key;

	make_keys(&key, 1, content * 0x10000 + i);
	memcpy(at, &key, sizeof(key));
}

static void put_class(struct pagedkv_io_class *to, struct choices *c)
{
	static const uint32_t tokens[] = { 16, 16, 16, 16, 16, 1, 4, 32 };
	static const uint32_t bytes[] = { 4096, 4096, 4096, 0, 512, 4096, 65536, 1 };

	/* Small enough for a few calls to fill it. */
	to->page_tokens = tokens[choose(c, 8)];
	to->nr_slots[0] = 1 + choose(c, 24);
	to->nr_slots[1] = chance(c, 216) ? choose(c, 32) : 0;
	to->nr_slots[2] = chance(c, 128) ? choose(c, 64) : 0;
	to->host_node = chance(c, 32) ? choose(c, 3) : PAGEDKV_IO_NONE;
	to->page_bytes = bytes[choose(c, 8)];
	if (chance(c, 6)) {
		to->nr_slots[1] = 1 + choose(c, 3);
		to->page_bytes = 2U << 20;
	}
	if (chance(c, 4))
		to->nr_slots[0] = 3000;
	for (int tier = 0; tier < 3; tier++) {
		if (!chance(c, 80))
			continue;
		to->low[tier] = choose(c, to->nr_slots[tier] + 1);
		to->high[tier] = to->low[tier] +
				 choose(c, to->nr_slots[tier] - to->low[tier] + 1);
	}
}

/* All of a pool but its name. */
static void put_geometry(struct pagedkv_io_pool_create *p, struct choices *c)
{
	static const uint32_t seqs[] = { 4096, 4096, 64, 8, 2, 1, 100, 1048576 };
	static const uint32_t moves[] = { 1024, 1024, 16, 4, 1, 2, 65536, 64 };

	p->nr_classes = 1 + (chance(c, 64) ? choose(c, 4) : 0);
	p->max_seqs = seqs[choose(c, 8)];
	p->max_moves = moves[choose(c, 8)];
	p->nr_ranks = 1;
	if (chance(c, 24))
		p->salt[choose(c, sizeof(p->salt))] = 1;
	for (uint32_t i = 0; i < p->nr_classes; i++)
		put_class(&p->classes[i], c);
	if (p->name[0] && chance(c, 200))
		p->flags = PAGEDKV_IO_POOL_PERSIST;
}

/* ----------------------------------------------------------------- arrays */

static uint32_t choose_nr(struct choices *c, bool is_out)
{
	static const uint32_t in[] = { 1, 1, 1, 2, 2, 3, 4, 6, 8, 13, 0, 17, 40, 257, 1030, 1100 };
	static const uint32_t out[] = { 64, 64, 64, 64, 1024, 1024, 16, 16, 8, 1, 2, 0, 300, 2048,
					4096, 0x100000 };

	return is_out ? out[choose(c, 16)] : in[choose(c, 16)];
}

static void put_op(struct world *w, struct choices *c, uint8_t *at)
{
	static const uint32_t args[] = { 1, 1, 2, 16, 16, 17, 33, 80, 160, 500, 0, 15, 31, 1600 };
	struct pagedkv_io_op op = { .seq = choose_seq(w, c) };
	uint32_t type = choose(c, 16);

	op.type = type < 9 ? PAGEDKV_IO_OP_APPEND : type < 12 ? PAGEDKV_IO_OP_FORK :
		  type < 14 ? PAGEDKV_IO_OP_TRUNCATE : PAGEDKV_IO_OP_FREE;
	op.arg = args[choose(c, 14)];
	if (chance(c, 4))
		op.arg = choose_value(c);
	if (chance(c, 2))
		op.type = choose_value(c);
	memcpy(at, &op, sizeof(op));
}

static void put_commit(struct world *w, struct choices *c, uint8_t *at, uint32_t i, uint32_t mode)
{
	struct pagedkv_io_commit item = { 0 };
	uint32_t nr = w->nr_moves < NR_MOVES ? w->nr_moves : NR_MOVES;

	/* Mostly the last ones, all of them, in order. */
	if (nr)
		item.id = w->moves[mode < 6 ? (w->nr_moves - nr + i) % NR_MOVES :
				   choose(c, nr)].id;
	if (mode >= 4 && chance(c, 64)) {
		item.status = -EIO;
		item.flags = choose(c, 2);
	}
	if (chance(c, 2))
		item.status = (int32_t)choose_value(c);
	if (chance(c, 2))
		item.flags = choose_value(c);
	memcpy(at, &item, sizeof(item));
}

/* A publication; its keys lie in the same region behind all of them. */
static void put_item(struct world *w, struct choices *c, uint8_t *at, uint8_t *keys)
{
	struct pagedkv_io_publication item = {
		.seq = choose_seq(w, c), .keys = user_ptr(keys),
		.nr_keys = 1 + choose(c, 12), .first = chance(c, 64) ? choose(c, 8) : 0,
	};
	uint32_t content = choose(c, 6);

	for (uint32_t i = 0; i < item.nr_keys; i++)
		put_key(keys + i * 16, content, item.first + i);
	if (chance(c, 4))
		item.first = choose_value(c);
	if (chance(c, 1))
		item.nr_keys = choose_value(c);
	if (chance(c, 4))
		item.keys = choose_value(c);
	if (chance(c, 2))
		item.reserved = 1;
	memcpy(at, &item, sizeof(item));
}

static void fill_array(struct actor *a, struct choices *c, const struct field *f, uint8_t *at,
		       uint32_t nr)
{
	uint32_t content = choose(c, 6), mode = choose(c, 8);

	for (uint32_t i = 0; i < nr; i++, at += f->size) {
		if (f->value == V_KEYS)
			put_key(at, content, i);
		else if (f->value == V_OPS)
			put_op(a->world, c, at);
		else if (f->value == V_COMMITS)
			put_commit(a->world, c, at, i, mode);
		else if (f->value == V_ITEMS)
			put_item(a->world, c, at, at + (nr - i) * f->size + i * 16 * 16);
	}
}

/* Where an array of @bytes goes: into its region, seldom where it can't be. */
static uint8_t *place(struct choices *c, uint8_t *region, uint64_t bytes)
{
	uint8_t *end = region + REGION;

	if (!chance(c, 20) || bytes > REGION)
		return region;
	switch (choose(c, 6)) {
	case 0:
		return NULL;
	case 1:
		return (uint8_t *)(uintptr_t)0xffff888000000000ULL;
	case 2:
		return end;
	case 3:
		return end - bytes / 2;
	case 4:
		/* not aligned */
		return region + 3;
	default:
		return end - bytes;
	}
}

static void put_array(struct actor *a, struct choices *c, const struct field *f, uint8_t *arg,
		      uint32_t which)
{
	uint32_t known = a->world->nr_moves < NR_MOVES ? a->world->nr_moves : NR_MOVES;
	uint8_t *region = a->memory + which * (REGION + 4096), *at;
	uint32_t nr = choose_nr(c, f->value == V_OUT);
	uint64_t bytes;

	if (f->value == V_ITEMS && nr > 40)
		nr = 40;
	if (f->value == V_COMMITS && chance(c, 160))
		nr = known;
	bytes = (uint64_t)nr * f->size;
	at = place(c, region, bytes);
	if (f->value != V_OUT) {
		fill_array(a, c, f, region, nr);
		if (at > region && at < region + REGION)
			memmove(at, region, bytes < (uint64_t)(region + REGION - at) ? bytes :
				(uint64_t)(region + REGION - at));
	}
	if (chance(c, 4))
		nr = choose_value(c);
	put64(arg + f->offset, user_ptr(at));
	put32(arg + f->count, nr);
}

/* ------------------------------------------------------------------ fields */

uint32_t choose_file(struct world *w, const uint8_t *record)
{
	uint32_t at = record[1] & 3;

	/* Mostly one that there is. */
	for (uint32_t i = 0; i < NR_FILES; i++)
		if (w->files[(at + i) % NR_FILES].fd >= 0)
			return (at + i) % NR_FILES;
	return at;
}

/* A descriptor of any kind, most of which can be kept. */
static uint32_t choose_any_file(struct actor *a, struct choices *c)
{
	struct world *w = a->world;
	const int fds[] = {
		a->pipe[0], a->pipe[1], w->drive, w->eventfd, w->devices[0],
		w->files[choose_file(w, c->record)].fd, 0, a->pipe[0],
	};

	return chance(c, 8) ? choose_value(c) : (uint32_t)fds[choose(c, 8)];
}

static void put_scalar(struct actor *a, struct choices *c, const struct field *f, uint8_t *at)
{
	static const uint32_t modes[] = { 0600, 0600, 0666, 0660, 0640, 0, 0606, 01777 };
	struct world *w = a->world;

	switch (f->value) {
	case V_CLASS:
		put32(at, chance(c, 40) ? choose(c, 5) : 0);
		break;
	case V_TIER:
	case V_STATE:
		put32(at, choose(c, 4) % 3 + chance(c, 4));
		break;
	case V_PRIORITY:
	case V_ADVICE:
		put32(at, chance(c, 4) ? choose_value(c) :
			  choose(c, f->value == V_ADVICE ? 6 : 4));
		break;
	case V_SEQ:
		put64(at, choose_seq(w, c));
		break;
	case V_ARG:
	case V_FIRST:
	case V_CURSOR:
		put32(at, chance(c, 64) ? choose_value(c) : 0);
		break;
	case V_LIMIT:
	case V_SLOT:
		put32(at, chance(c, 8) ? choose_value(c) : choose(c, 64));
		break;
	case V_KEY:
		put_key(at, choose(c, 6), choose(c, 12));
		break;
	case V_NAME:
	case V_NAME_PERSISTS:
		put_name(at, c, f->value == V_NAME);
		break;
	case V_MODE:
		put32(at, modes[choose(c, 8)]);
		break;
	case V_FINGERPRINT:
		put64(at, chance(c, 8));
		break;
	case V_GEOMETRY:
		put_geometry((struct pagedkv_io_pool_create *)at, c);
		break;
	case V_DEADLINE:
		put64(at, choose_deadline(a, c));
		break;
	case V_FILE_NAME:
		/* Of a few, so that it is found again. */
		sprintf((char *)at, "file%u", choose(c, 4));
		if (chance(c, 8))
			put_name(at, c, true);
		break;
	case V_FILE:
		put32(at, choose_any_file(a, c));
		break;
	case V_EVENTFD:
		put32(at, chance(c, 32) ? choose_value(c) :
			  (uint32_t)(choose(c, 4) ? w->eventfd : -1));
		break;
	default:
		break;
	}
}

static void fill(struct actor *a, struct choices *c, const struct kind *kind, union arg *arg)
{
	uint32_t which = 0;

	memset(arg, 0, sizeof(*arg));
	arg->head[0] = kind->size;
	for (const struct field *f = kind->fields; f->value != V_END; f++) {
		if (f->value >= V_KEYS)
			put_array(a, c, f, arg->bytes, which++);
		else
			put_scalar(a, c, f, arg->bytes + f->offset);
	}
}

/* Anything in the struct, flags and reserved fields among it, or its size. */
static void spoil(struct choices *c, const struct kind *kind, union arg *arg)
{
	uint32_t at = choose(c, kind->size / 4);

	switch (choose(c, 4)) {
	case 0:
		arg->head[0] = choose(c, 2) ? choose_value(c) : kind->size + choose(c, 256);
		arg->bytes[kind->size + choose(c, 300)] = (uint8_t)choose(c, 2);
		break;
	case 1:
		arg->head[1] = 1U << choose(c, 32);
		break;
	default:
		arg->words[at] = choose_value(c);
	}
}

/* The commands of a round over io_uring; the same struct as the ioctl's. */
void fill_round(struct actor *a, struct choices *c, struct round *r)
{
	uint32_t nr = a->world->nr_moves < 16 ? a->world->nr_moves : 16;
	uint32_t mode = choose(c, 8);

	memset(&r->io, 0, sizeof(r->io));
	r->io.size = chance(c, 4) ? choose_value(c) : sizeof(r->io);
	r->io.flags = chance(c, 2);
	r->io.commits = chance(c, 4) ? 0x10 : user_ptr(r->commits);
	r->io.nr_commits = chance(c, 160) ? nr : choose(c, 4);
	r->io.moves = chance(c, 4) ? 0x10 : user_ptr(r->moves);
	r->io.max_moves = chance(c, 32) ? choose_value(c) % 17 : 16;
	for (uint32_t i = 0; i < 16; i++)
		put_commit(a->world, c, (uint8_t *)&r->commits[i], i, mode);
}

/* ------------------------------------------------------------------- calls */

int run_ioctl(struct actor *a, struct choices *c, const struct kind *kind)
{
	struct world *w = a->world;
	union arg arg;
	void *where = &arg;
	int fd, ret;

	pthread_mutex_lock(&w->lock);
	fill(a, c, kind, &arg);
	if (chance(c, 12))
		spoil(c, kind, &arg);
	fd = kind->of_device ? w->devices[chance(c, 64)] :
	     w->files[choose_file(w, c->record)].fd;
	pthread_mutex_unlock(&w->lock);
	if (chance(c, 6)) {
		where = choose(c, 4) ? a->read_only : a->memory + REGION - kind->size / 2;
		memcpy(where == a->read_only ? a->alias : where, &arg,
		       where == a->read_only ? kind->size : kind->size / 2);
	}
	ret = call(fd, kind->cmd, where);
	if (kind->take && where == &arg) {
		pthread_mutex_lock(&w->lock);
		kind->take(w, &arg, ret);
		pthread_mutex_unlock(&w->lock);
	}
	return ret;
}

/* ------------------------------------------------------ what comes of them */

void add_file(struct world *w, int fd, uint32_t id)
{
	for (uint32_t i = 0; i < NR_FILES; i++)
		if (w->files[i].fd < 0) {
			w->files[i] = (struct pool_file) { .fd = fd, .id = id };
			return;
		}
	w->has_closed = true;
	close(fd);
}

static void take_created(struct world *w, const void *arg, int ret)
{
	const struct pagedkv_io_pool_create *p = arg;

	if (!ret && p->size >= sizeof(*p))
		add_file(w, p->out_fd, p->out_id);
}

static void take_opened(struct world *w, const void *arg, int ret)
{
	const struct pagedkv_io_pool_open *p = arg;

	if (!ret && p->size >= sizeof(*p))
		add_file(w, p->out_fd, p->out_id);
}

static void take_kept(struct world *w, const void *arg, int ret)
{
	const struct pagedkv_io_file_take *f = arg;

	(void)w;
	if (!ret && f->size >= sizeof(*f))
		close(f->out_fd);
}

static void take_seq_created(struct world *w, const void *arg, int ret)
{
	if (!ret)
		take_seq(w, ((const struct pagedkv_io_seq_create *)arg)->out_seq);
}

/* Is there an array of @nr elements where the call was told, in memory of ours? */
static const void *told(struct world *w, uint64_t at, uint64_t bytes)
{
	const uint8_t *p = (const uint8_t *)(uintptr_t)at;
	const uint8_t *first = w->actor->memory;
	uint64_t offset = (uint64_t)(p - first);

	/* The helper's are not looked at. */
	if (p < first || offset >= NR_REGIONS * (REGION + 4096))
		return NULL;
	return offset % (REGION + 4096) + bytes <= REGION ? p : NULL;
}

static void take_step(struct world *w, const void *arg, int ret)
{
	const struct pagedkv_io_step *s = arg;
	const struct pagedkv_io_op *ops = told(w, s->ops, (uint64_t)s->out_nr_done * sizeof(*ops));
	const struct pagedkv_io_move *copies = told(w, s->copies, (uint64_t)s->out_nr_copies *
						    sizeof(*copies));

	(void)ret;
	for (uint32_t i = 0; ops && i < s->out_nr_done; i++)
		if (ops[i].type == PAGEDKV_IO_OP_FORK)
			take_seq(w, ops[i].out_seq);
	for (uint32_t i = 0; copies && i < s->out_nr_copies; i++)
		take_move(w, &copies[i]);
}

static void take_moves(struct world *w, const void *arg, int ret)
{
	const struct pagedkv_io_moves *m = arg;
	const struct pagedkv_io_move *moves = told(w, m->moves, (uint64_t)m->out_nr_moves *
						   sizeof(*moves));

	(void)ret;
	for (uint32_t i = 0; moves && i < m->out_nr_moves; i++)
		take_move(w, &moves[i]);
}

static void take_host_map(struct world *w, const void *arg, int ret)
{
	if (!ret)
		w->map_offset = ((const struct pagedkv_io_host_map *)arg)->out_offset;
}

/* --------------------------------------------------------------- the table */

#define OF(_struct, _field, _value) \
	{ .value = V_##_value, .offset = offsetof(struct pagedkv_io_##_struct, _field) }
#define ARRAY(_struct, _field, _count, _value, _element) \
	{ .value = V_##_value, .offset = offsetof(struct pagedkv_io_##_struct, _field), \
	  .count = offsetof(struct pagedkv_io_##_struct, _count), \
	  .size = sizeof(struct pagedkv_io_##_element) }
#define FIELDS(...) ((const struct field[]) { __VA_ARGS__ __VA_OPT__(,) { .value = V_END } })
#define IOCTL(_name, _struct, _weight, _fields, ...) \
	{ .name = #_name, .cmd = PAGEDKV_CMD_##_name, .weight = (_weight), .run = run_ioctl, \
	  .size = sizeof(struct pagedkv_io_##_struct), .fields = _fields, __VA_ARGS__ }
#define OF_DEVICE .of_device = true
#define TAKE(_fn) .take = (_fn)

/* The first one makes the pool that an input begins with. */
const struct kind ioctl_kinds[] = {
	IOCTL(POOL_CREATE, pool_create, 4,
	      FIELDS(OF(pool_create, name, NAME_PERSISTS), OF(pool_create, mode, MODE),
		     OF(pool_create, fingerprint, FINGERPRINT),
		     OF(pool_create, size, GEOMETRY)),
	      OF_DEVICE, TAKE(take_created)),
	IOCTL(INFO, info, 1, FIELDS()),
	IOCTL(POOL_OPEN, pool_open, 5,
	      FIELDS(OF(pool_open, name, NAME), OF(pool_open, fingerprint, FINGERPRINT)),
	      OF_DEVICE, TAKE(take_opened)),
	IOCTL(POOL_DESTROY, pool_destroy, 2, FIELDS(OF(pool_destroy, name, NAME)), OF_DEVICE),
	IOCTL(POOL_LIST, pool_list, 1,
	      FIELDS(OF(pool_list, cursor, CURSOR),
		     ARRAY(pool_list, entries, nr, OUT, pool_entry)), OF_DEVICE),
	IOCTL(POOL_INFO, pool_info, 1, FIELDS()),
	IOCTL(SET_LIMIT, set_limit, 3,
	      FIELDS(OF(set_limit, class_id, CLASS), OF(set_limit, tier, TIER),
		     OF(set_limit, limit, LIMIT))),
	IOCTL(TIER_STATE, tier_state, 2,
	      FIELDS(OF(tier_state, class_id, CLASS), OF(tier_state, tier, TIER),
		     OF(tier_state, state, STATE))),
	IOCTL(HOST_MAP, host_map, 1, FIELDS(OF(host_map, class_id, CLASS)), TAKE(take_host_map)),
	IOCTL(SEQ_CREATE, seq_create, 18,
	      FIELDS(OF(seq_create, class_id, CLASS), OF(seq_create, priority, PRIORITY),
		     ARRAY(seq_create, keys, nr_keys, KEYS, key)), TAKE(take_seq_created)),
	IOCTL(MATCH, match, 4,
	      FIELDS(OF(match, class_id, CLASS), ARRAY(match, keys, nr_keys, KEYS, key))),
	IOCTL(PUBLISH, publish, 16, FIELDS(ARRAY(publish, items, nr, ITEMS, publication))),
	IOCTL(STEP, step, 46,
	      FIELDS(ARRAY(step, ops, nr_ops, OPS, op), ARRAY(step, deltas, max_deltas, OUT, delta),
		     ARRAY(step, copies, max_copies, OUT, move)), TAKE(take_step)),
	IOCTL(ADVISE, advise, 26,
	      FIELDS(OF(advise, seq, SEQ), OF(advise, advice, ADVICE), OF(advise, arg, ARG))),
	IOCTL(SEQ_STATE, seq_state, 2, FIELDS(OF(seq_state, seq, SEQ))),
	IOCTL(SEQ_INFO, seq_info, 2, FIELDS(OF(seq_info, seq, SEQ))),
	IOCTL(SEQ_TABLE, seq_table, 3,
	      FIELDS(OF(seq_table, seq, SEQ), ARRAY(seq_table, slots, nr, OUT, key),
		     OF(seq_table, first, FIRST))),
	IOCTL(SEQ_WAIT, seq_wait, 4,
	      FIELDS(OF(seq_wait, seq, SEQ), OF(seq_wait, deadline_ns, DEADLINE))),
	IOCTL(ADOPT, adopt, 5,
	      FIELDS(OF(adopt, class_id, CLASS), OF(adopt, tier, TIER), OF(adopt, slot, SLOT),
		     OF(adopt, key, KEY))),
	IOCTL(MOVES, moves, 40,
	      FIELDS(ARRAY(moves, commits, nr_commits, COMMITS, commit),
		     ARRAY(moves, moves, max_moves, OUT, move)), TAKE(take_moves)),
	IOCTL(MOVES_WAIT, moves_wait, 2, FIELDS(OF(moves_wait, deadline_ns, DEADLINE))),
	IOCTL(MOVES_STOP, empty, 1, FIELDS()),
	IOCTL(MOVES_EVENTFD, moves_eventfd, 3, FIELDS(OF(moves_eventfd, fd, EVENTFD))),
	IOCTL(QUIESCE, empty, 3, FIELDS()),
	IOCTL(STATS, stats, 2, FIELDS(OF(stats, class_id, CLASS))),
	IOCTL(MAP, map, 3,
	      FIELDS(OF(map, class_id, CLASS), OF(map, cursor, CURSOR),
		     ARRAY(map, entries, nr, OUT, map_entry))),
	IOCTL(CHECK, check, 2, FIELDS()),
	IOCTL(FILE_KEEP, file_keep, 4,
	      FIELDS(OF(file_keep, name, FILE_NAME), OF(file_keep, fingerprint, FINGERPRINT),
		     OF(file_keep, fd, FILE))),
	IOCTL(FILE_TAKE, file_take, 3,
	      FIELDS(OF(file_take, name, FILE_NAME), OF(file_take, fingerprint, FINGERPRINT)),
	      TAKE(take_kept)),
	IOCTL(FILE_DROP, file_drop, 2, FIELDS(OF(file_drop, name, FILE_NAME))),
	IOCTL(FILE_LIST, file_list, 2,
	      FIELDS(OF(file_list, cursor, CURSOR),
		     ARRAY(file_list, entries, nr, OUT, file_entry))),
};
const uint32_t nr_ioctl_kinds = sizeof(ioctl_kinds) / sizeof(ioctl_kinds[0]);
