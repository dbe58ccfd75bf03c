// SPDX-License-Identifier: GPL-2.0-only
/*
 * The swap engine under a real pool: sequences are written on the device, go cold, and come back.
 * Every page's content follows from its sequence, so a page that comes back is right, or is said
 * to be lost; faults in the disk may change which, never more.
 */
#include "disktest.h"

#include <errno.h>
#include <stdatomic.h>

#include "engine.h"

#define NR_DEVICE	16u
#define NR_HOST		8u
#define NR_DISK		220u
#define PAGE_TOKENS	4u
#define NR_SEQS		24u
#define SEQ_PAGES	6u
#define SEQ_TOKENS	(SEQ_PAGES * PAGE_TOKENS)

/* Set by the test, read by the engine's thread. */
struct faults {
	_Atomic unsigned int every;	/* one command of so many; 0: none */
	_Atomic unsigned int only;	/* 1 + enum pkvrt_io_kind; 0: any */
	_Atomic unsigned int fault;	/* PKVRT_FAULT_NONE: any but HANG */
	_Atomic unsigned int nr;	/* how many so far */
	uint64_t rng;
};

static enum pkvrt_io_fault choose(void *ctx, const struct pkvrt_io_view *v, uint64_t *arg)
{
	static const int errors[] = { EIO, ENOSPC, EAGAIN };
	struct faults *f = ctx;
	unsigned int every = atomic_load(&f->every), only = atomic_load(&f->only);
	enum pkvrt_io_fault fault = atomic_load(&f->fault);

	if (!every || rnd(&f->rng) % every || (only && only != 1 + v->kind))
		return PKVRT_FAULT_NONE;
	atomic_fetch_add(&f->nr, 1);
	if (fault == PKVRT_FAULT_NONE) {
		fault = rnd(&f->rng) % 3;
		fault = fault == 0 ? PKVRT_FAULT_ERROR :
			fault == 1 ? PKVRT_FAULT_SHORT : PKVRT_FAULT_FLIP;
	}
	*arg = fault == PKVRT_FAULT_ERROR ? (uint64_t)errors[rnd(&f->rng) % 3] :
	       rnd(&f->rng) % (PAGE * 8);
	return fault;
}

struct sequence {
	pagedkv_seq_t id;
	uint64_t seed;		/* of its pages' content: seed + index */
	uint32_t tokens[SEQ_TOKENS];
};

/* A device that copies from and to pinned memory alone. */
struct pinning {
	struct pkvrt_device device;	/* that copies */
	struct {
		uint8_t *base;
		size_t bytes;
	} ranges[4];
	unsigned int nr_pinned, nr_unpinned, fail_at;	/* fail_at: 1 is the first */
	_Atomic unsigned int nr_strays;	/* copies of other memory */
};

struct fixture {
	struct folder folder;
	struct pinning *pinning;	/* NULL: any memory will do */
	struct faults faults;
	struct pkvrt_io_hooks hooks;
	struct pagedkv *kv;
	struct pagedkv_pool *pool;
	struct pkvrt_engine *engine;
	struct pkvrt_device_cpu cpu;
	uint8_t *device;
	uint64_t timeout_ns;
	uint32_t nr_host;
	unsigned int max_errors;
	int no_disk;
	struct sequence seqs[NR_SEQS];
	unsigned int nr_lost;
};

static int pinning_begin(void *ctx, const struct pkvrt_copy *copies, unsigned int nr,
			 uint64_t *ticket)
{
	struct pinning *p = ctx;
	unsigned int i, j;

	for (i = 0; i < nr; i++) {
		uint8_t *host = copies[i].host;

		for (j = 0; j < p->nr_pinned; j++)
			if (host >= p->ranges[j].base &&
			    host + PAGE <= p->ranges[j].base + p->ranges[j].bytes)
				break;
		if (copies[i].kind != PKVRT_COPY_DEVICE && j == p->nr_pinned)
			atomic_fetch_add(&p->nr_strays, 1);
	}
	return p->device.begin(p->device.ctx, copies, nr, ticket);
}

static int pinning_poll(void *ctx, uint64_t ticket)
{
	struct pinning *p = ctx;

	return p->device.poll(p->device.ctx, ticket);
}

static int pinning_pin(void *ctx, void *base, size_t bytes)
{
	struct pinning *p = ctx;

	if (p->nr_pinned + 1 == p->fail_at)
		return -EIO;
	p->ranges[p->nr_pinned].base = base;
	p->ranges[p->nr_pinned++].bytes = bytes;
	return 0;
}

static void pinning_unpin(void *ctx, void *base)
{
	struct pinning *p = ctx;
	unsigned int i;

	for (i = 0; i < p->nr_pinned && p->ranges[i].base != base; i++)
		;
	assert_true(i < p->nr_pinned);
	p->ranges[i].base = NULL;
	p->nr_unpinned++;
}

static uint8_t *slot_at(struct fixture *f, uint32_t slot)
{
	return f->device + (size_t)slot * PAGE;
}

static struct pkvrt_disk *open_disk(struct fixture *f)
{
	struct pkvrt_disk_params p = params_of(&f->folder, NR_DISK);

	p.hooks = &f->hooks;
	p.queue_depth = 8;
	p.max_errors = f->max_errors;
	return disk_open(&p);
}

static int try_start(struct fixture *f)
{
	struct pkvrt_disk_info info = { .salt = { 1 } };
	struct pkvrt_engine_params ep = {
		.size = sizeof(ep), .page_bytes = PAGE, .max_moves = 32,
		.staging_bytes = 4 * PAGE, .timeout_ns = f->timeout_ns,
		.host_node = PKVRT_NODE_ANY, .host_flags = PKVRT_ARENA_NO_HUGE,
	};
	struct pagedkv_params kp = { .size = sizeof(kp), .backend = PAGEDKV_BACKEND_EMBEDDED };
	struct pagedkv_pool_params pp = {
		.size = sizeof(pp), .max_moves = 32, .fingerprint = 0x1234,
		.classes[0] = {
			.page_tokens = PAGE_TOKENS, .page_bytes = PAGE,
			.nr_slots = { NR_DEVICE, f->nr_host, f->no_disk ? 0 : NR_DISK },
		},
	};
	int ret;

	if (!f->no_disk) {
		ep.disk = open_disk(f);
		pkvrt_disk_info(ep.disk, &info);
	}
	memcpy(pp.salt, info.salt, sizeof(pp.salt));
	assert_int_equal(pagedkv_open(&f->kv, &kp), 0);
	assert_int_equal(pagedkv_pool_create(f->kv, &f->pool, &pp), 0);
	f->device = page_alloc(NR_DEVICE);
	f->cpu = (struct pkvrt_device_cpu){ f->device, PAGE };
	pkvrt_device_cpu_init(&ep.device, &f->cpu);
	if (f->pinning) {
		f->pinning->device = ep.device;
		ep.device = (struct pkvrt_device){
			.ctx = f->pinning, .begin = pinning_begin, .poll = pinning_poll,
			.pin = pinning_pin, .unpin = pinning_unpin,
		};
	}
	ep.pool = f->pool;
	ret = pkvrt_engine_create(&f->engine, &ep);
	if (ret)
		pkvrt_disk_close(ep.disk, PATIENCE);
	return ret;
}

static void start(struct fixture *f)
{
	assert_int_equal(try_start(f), 0);
}

static void stop(struct fixture *f, uint64_t drain_ns)
{
	const char *why = NULL;

	pkvrt_engine_destroy(f->engine, drain_ns);
	if (pagedkv_check(f->pool, &why))
		print_error("%s\n", why);
	assert_null(why);
	pagedkv_pool_destroy(f->pool);
	pagedkv_close(f->kv);
	free(f->device);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	folder_init(&f->folder);
	f->faults.rng = 5;
	f->hooks = (struct pkvrt_io_hooks){ .issue = choose, .ctx = &f->faults };
	f->timeout_ns = PATIENCE;
	f->nr_host = NR_HOST;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	folder_exit(&f->folder);
	free(f);
	return 0;
}

/* -- a small server --------------------------------------------------------------------------- */

static void wait_a_move(struct fixture *f)
{
	int ret = pagedkv_moves_wait(f->pool, PATIENCE);

	assert_true(ret == 0);
}

static void fill_pages(struct fixture *f, struct sequence *s, uint32_t first)
{
	uint32_t slots[SEQ_PAGES], i;

	assert_int_equal(pagedkv_seq_table(f->pool, s->id, 0, slots, SEQ_PAGES), SEQ_PAGES);
	for (i = first; i < SEQ_PAGES; i++)
		fill(slot_at(f, slots[i]), s->seed + i);
}

/* Room for what is missing, and its content. The sequence runs. */
static int extend(struct fixture *f, struct sequence *s, uint32_t len_tokens)
{
	struct pagedkv_op op = {
		.seq = s->id, .type = PAGEDKV_OP_APPEND, .arg = SEQ_TOKENS - len_tokens,
	};
	struct pagedkv_delta deltas[SEQ_PAGES];
	struct pagedkv_step step = {
		.ops = &op, .nr_ops = 1, .deltas = deltas, .max_deltas = SEQ_PAGES,
	};
	int ret = 0;

	if (!op.arg)
		return 0;
	while ((ret = pagedkv_step(f->pool, &step)) == -EAGAIN)
		wait_a_move(f);
	if (!ret)
		fill_pages(f, s, len_tokens / PAGE_TOKENS);
	return ret;
}

static int make_seq(struct fixture *f, struct sequence *s, uint64_t seed, int use_prefix,
		    uint32_t *hit)
{
	struct pagedkv_seq_params p = {
		.size = sizeof(p), .tokens = s->tokens, .nr_tokens = SEQ_TOKENS,
		.flags = use_prefix ? 0 : PAGEDKV_SEQ_NO_PREFIX, .priority = 1,
	};
	uint32_t i;
	int ret;

	s->seed = seed;
	for (i = 0; i < SEQ_TOKENS; i++)
		s->tokens[i] = (uint32_t)(seed * 1000 + i);
	while ((ret = pagedkv_seq_create(f->pool, &s->id, &p, hit)) == -EAGAIN)
		wait_a_move(f);
	return ret;
}

static void cool(struct fixture *f, struct sequence *s)
{
	assert_int_equal(pagedkv_advise(f->pool, s->id, PAGEDKV_COLD), 0);
}

/* What was lost is cut off; the sequence is then as long as what it still has. */
static uint32_t cut_lost(struct fixture *f, struct sequence *s)
{
	struct pagedkv_seq_info info = { 0 };
	struct pagedkv_op op = { .seq = s->id, .type = PAGEDKV_OP_TRUNCATE };
	struct pagedkv_step step = { .ops = &op, .nr_ops = 1 };

	assert_int_equal(pagedkv_seq_get_info(f->pool, s->id, &info), 0);
	assert_int_equal(info.state, PAGEDKV_SEQ_BROKEN);
	assert_true(info.lost_tokens < info.len_tokens);
	op.arg = info.lost_tokens;
	assert_int_equal(pagedkv_step(f->pool, &step), 0);
	f->nr_lost++;
	return info.lost_tokens;
}

/* Bring it back to the device, and look at every page that came. */
static void bring(struct fixture *f, struct sequence *s)
{
	uint32_t slots[SEQ_PAGES], len = SEQ_TOKENS, i;
	int ret;

	for (;;) {
		ret = pagedkv_advise(f->pool, s->id, PAGEDKV_WILLNEED);
		if (ret == -EAGAIN) {
			wait_a_move(f);
			continue;
		}
		if (ret == 1) {
			assert_int_equal(pagedkv_seq_wait(f->pool, s->id, PATIENCE), 0);
			ret = pagedkv_seq_state(f->pool, s->id) == PAGEDKV_SEQ_BROKEN ? -EIO : 0;
		}
		if (ret != -EIO)
			break;
		len = cut_lost(f, s);
	}
	assert_int_equal(ret, 0);
	assert_int_equal(pagedkv_seq_table(f->pool, s->id, 0, slots, len / PAGE_TOKENS),
			 len / PAGE_TOKENS);
	for (i = 0; i < len / PAGE_TOKENS; i++)
		assert_true(is_filled(slot_at(f, slots[i]), s->seed + i));
	ret = extend(f, s, len);
	assert_int_equal(ret, 0);
}

static void make_all(struct fixture *f)
{
	uint32_t hit;
	unsigned int i;

	for (i = 0; i < NR_SEQS; i++) {
		assert_int_equal(make_seq(f, &f->seqs[i], 1000 + i * 100, 0, &hit), 0);
		assert_int_equal(extend(f, &f->seqs[i], 0), 0);
		cool(f, &f->seqs[i]);
	}
}

static void visit(struct fixture *f, unsigned int nr, uint64_t rng)
{
	struct sequence *s;

	while (nr--) {
		s = &f->seqs[rnd(&rng) % NR_SEQS];
		bring(f, s);
		cool(f, s);
	}
}

/* -- tests ------------------------------------------------------------------------------------ */

static void test_pages_come_back(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_engine_stats s;

	start(f);
	make_all(f);
	visit(f, 300, 1);
	assert_int_equal(f->nr_lost, 0);
	pkvrt_engine_stats(f->engine, &s);
	assert_true(s.pairs[PAGEDKV_DEVICE][PAGEDKV_HOST].nr_moves +
		    s.pairs[PAGEDKV_DEVICE][PAGEDKV_DISK].nr_moves > 100);
	assert_true(s.pairs[PAGEDKV_DISK][PAGEDKV_DEVICE].nr_moves > 100);
	assert_int_equal(s.pairs[PAGEDKV_DISK][PAGEDKV_DEVICE].bytes,
			 s.pairs[PAGEDKV_DISK][PAGEDKV_DEVICE].nr_moves * PAGE);
	assert_true(s.pairs[PAGEDKV_DISK][PAGEDKV_DEVICE].busy_ns > 0);
	assert_int_equal(s.disk.nr_errors, 0);
	assert_int_equal(s.has_host, 1);
	stop(f, PATIENCE);
}

static void test_without_host(void **state)
{
	struct fixture *f = *state;

	f->nr_host = 0;
	start(f);
	make_all(f);
	visit(f, 100, 2);
	assert_int_equal(f->nr_lost, 0);
	stop(f, PATIENCE);
}

/* Bytes that are pinned in this process: what is registered with a ring is. */
static size_t pinned_bytes(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	size_t kib = 0;
	char line[128];

	assert_non_null(status);
	while (fgets(line, sizeof(line), status) && sscanf(line, "VmPin: %zu kB", &kib) != 1)
		;
	fclose(status);
	return kib << 10;
}

/* The kernel may want the host tier's memory back: the engine pins what it stages alone. */
static void test_host_is_not_pinned(void **state)
{
	struct fixture *f = *state;
	size_t before = pinned_bytes();

	f->nr_host = 1024;
	start(f);
	assert_in_range(pinned_bytes() - before, 0, f->nr_host / 2 * PAGE);
	make_all(f);
	visit(f, 20, 4);
	assert_in_range(pinned_bytes() - before, 0, f->nr_host / 2 * PAGE);
	stop(f, PATIENCE);
}

/* Host tier and staging: all that copies touch; and none of it when the engine has ended. */
static void test_device_pins(void **state)
{
	struct fixture *f = *state;
	struct pinning p = { 0 };

	f->pinning = &p;
	start(f);
	assert_int_equal(p.nr_pinned, 2);
	make_all(f);
	visit(f, 100, 7);
	assert_int_equal(f->nr_lost, 0);
	stop(f, PATIENCE);
	assert_int_equal(p.nr_strays, 0);
	assert_int_equal(p.nr_unpinned, 2);
	for (p.fail_at = 1; p.fail_at <= 2; p.fail_at++) {
		p.nr_pinned = p.nr_unpinned = 0;
		assert_int_equal(try_start(f), -EIO);
		assert_int_equal(p.nr_unpinned, p.fail_at - 1);
		assert_null(f->engine);
		stop(f, 0);
	}
}

static void test_without_disk(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_engine_stats s;

	f->no_disk = 1;
	f->nr_host = NR_SEQS * SEQ_PAGES;
	start(f);
	make_all(f);
	visit(f, 100, 3);
	assert_int_equal(f->nr_lost, 0);
	pkvrt_engine_stats(f->engine, &s);
	assert_int_equal(s.has_disk, 0);
	stop(f, PATIENCE);
}

static void test_faults_are_misses(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_engine_stats s;
	unsigned int i;

	f->max_errors = UINT32_MAX;
	start(f);
	make_all(f);
	atomic_store(&f->faults.only, 1 + PKVRT_IO_READ);
	atomic_store(&f->faults.every, 25);
	/* How many commands a visit costs, and so how many faults, is the engine's affair. */
	for (i = 0; i < 20 && !f->nr_lost; i++)
		visit(f, 200, 4 + i);
	atomic_store(&f->faults.every, 0);
	assert_true(f->nr_lost > 0);
	pkvrt_engine_stats(f->engine, &s);
	assert_true(s.pairs[PAGEDKV_DISK][PAGEDKV_DEVICE].nr_errors > 0);
	stop(f, PATIENCE);
}

static void test_failing_disk_is_given_up(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_engine_stats s;
	struct pagedkv_stats st = { .size = sizeof(st) };
	unsigned int i = 0;

	start(f);
	make_all(f);
	atomic_store(&f->faults.fault, PKVRT_FAULT_ERROR);
	atomic_store(&f->faults.only, 1 + PKVRT_IO_READ);
	atomic_store(&f->faults.every, 1);
	/* Each visit costs reads, until there is nothing on disk to be read. */
	do {
		struct sequence *s0 = &f->seqs[i++ % NR_SEQS];
		struct pagedkv_op op = { .seq = s0->id, .type = PAGEDKV_OP_FREE };
		struct pagedkv_step step = { .ops = &op, .nr_ops = 1 };
		int ret;

		while ((ret = pagedkv_advise(f->pool, s0->id, PAGEDKV_WILLNEED)) == -EAGAIN)
			wait_a_move(f);
		if (ret == 1)
			assert_int_equal(pagedkv_seq_wait(f->pool, s0->id, PATIENCE), 0);
		assert_int_equal(pagedkv_step(f->pool, &step), 0);
		assert_int_equal(pagedkv_get_stats(f->pool, 0, &st), 0);
	} while (i < NR_SEQS && st.tiers[PAGEDKV_DISK].state != PAGEDKV_TIER_OFFLINE);
	pkvrt_engine_stats(f->engine, &s);
	assert_int_equal(s.disk.state, PKVRT_DISK_OFFLINE);
	stop(f, PATIENCE);
}

static void publish_all(struct fixture *f)
{
	struct pagedkv_publish pub;
	struct sequence *q;
	uint32_t hit;
	unsigned int i;

	for (i = 0; i < NR_SEQS; i++) {
		q = &f->seqs[i];
		assert_int_equal(make_seq(f, q, 1000 + i * 100, 1, &hit), 0);
		assert_int_equal(hit, 0);
		assert_int_equal(extend(f, q, 0), 0);
		pub = (struct pagedkv_publish){
			.seq = q->id, .tokens = q->tokens, .nr_tokens = SEQ_TOKENS,
		};
		assert_int_equal(pagedkv_publish(f->pool, &pub, 1), 0);
		cool(f, q);
	}
}

/*
 * A pool whose published pages are on disk alone, and a disk that hangs from now on. Only what
 * hangs is waited for with the short timeout.
 */
static void start_hanging(struct fixture *f, unsigned int only)
{
	start(f);
	publish_all(f);
	stop(f, PATIENCE);
	atomic_store(&f->faults.fault, PKVRT_FAULT_HANG);
	atomic_store(&f->faults.only, only);
	atomic_store(&f->faults.every, 1);
	f->timeout_ns = SEC / 5;
	start(f);
}

static void test_late_reads_end(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_engine_stats s;
	struct sequence *q = f->seqs;
	uint32_t hit;

	start_hanging(f, 1 + PKVRT_IO_READ);
	while (!make_seq(f, q, q->seed, 1, &hit) && !hit)
		assert_ptr_not_equal(++q, f->seqs + NR_SEQS);
	assert_true(hit > 0);
	assert_int_equal(pagedkv_seq_wait(f->pool, q->id, PATIENCE), 0);
	assert_true(cut_lost(f, q) < hit);
	pkvrt_engine_stats(f->engine, &s);
	assert_true(s.disk.nr_late > 0);
	assert_true(s.pairs[PAGEDKV_DISK][PAGEDKV_DEVICE].nr_errors > 0);
	stop(f, PATIENCE);
}

/*
 * Late reads come to hold all staging, so that nothing more can be submitted: the disk is given
 * up all the same, and a server that wants room is told so.
 */
static void test_hanging_disk_is_given_up(void **state)
{
	struct fixture *f = *state;
	struct pagedkv_stats st = { .size = sizeof(st) };
	struct sequence fresh;
	uint32_t hit;
	unsigned int i;
	int ret;

	start_hanging(f, 0);
	for (i = 0; i < NR_SEQS; i++) {
		struct sequence *q = &f->seqs[i];
		struct pagedkv_op op = { .type = PAGEDKV_OP_FREE };
		struct pagedkv_step step = { .ops = &op, .nr_ops = 1 };

		assert_int_equal(make_seq(f, q, q->seed, 1, &hit), 0);
		assert_int_equal(pagedkv_seq_wait(f->pool, q->id, PATIENCE), 0);
		op.seq = q->id;
		assert_int_equal(pagedkv_step(f->pool, &step), 0);
	}
	/* New ones want more than device and host have. */
	for (i = 0; !(ret = make_seq(f, &fresh, 9000, 0, &hit)); i++) {
		ret = extend(f, &fresh, 0);
		if (ret)
			break;
		assert_true(i <= (NR_DEVICE + NR_HOST) / SEQ_PAGES);
		cool(f, &fresh);
	}
	assert_int_equal(ret, -ENOSPC);
	assert_int_equal(pagedkv_get_stats(f->pool, 0, &st), 0);
	assert_int_not_equal(st.tiers[PAGEDKV_DISK].state, PAGEDKV_TIER_ONLINE);
	stop(f, PATIENCE);
}

/* New sequences until a command hangs; then each further wait could be for that one. */
static void fill_until_hung(struct fixture *f)
{
	struct pagedkv_op op = { .type = PAGEDKV_OP_APPEND, .arg = SEQ_TOKENS };
	struct pagedkv_delta deltas[SEQ_PAGES];
	struct pagedkv_step step = {
		.ops = &op, .nr_ops = 1, .deltas = deltas, .max_deltas = SEQ_PAGES,
	};
	struct sequence *s = f->seqs;
	uint32_t hit;
	int ret;

	for (; !atomic_load(&f->faults.nr); s++) {
		assert_ptr_not_equal(s, f->seqs + NR_SEQS);
		assert_int_equal(make_seq(f, s, 7000, 0, &hit), 0);
		op.seq = s->id;
		while ((ret = pagedkv_step(f->pool, &step)) == -EAGAIN &&
		       !atomic_load(&f->faults.nr))
			pagedkv_moves_wait(f->pool, SEC / 100);
		if (ret == -EAGAIN)
			return;
		assert_int_equal(ret, 0);
		fill_pages(f, s, 0);
		cool(f, s);
	}
}

static void test_abort(void **state)
{
	struct fixture *f = *state;

	start(f);
	atomic_store(&f->faults.fault, PKVRT_FAULT_HANG);
	atomic_store(&f->faults.only, 1 + PKVRT_IO_WRITE);
	atomic_store(&f->faults.every, 1);
	fill_until_hung(f);
	stop(f, 0);
}

static void test_published_pages_survive(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_engine_stats s;
	struct sequence *q;
	uint32_t slots[SEQ_PAGES], hit, k, nr_hits = 0;
	unsigned int i;

	start(f);
	publish_all(f);
	stop(f, PATIENCE);

	start(f);
	pkvrt_engine_stats(f->engine, &s);
	assert_true(s.nr_adopted > NR_SEQS * SEQ_PAGES / 2);
	for (i = 0; i < NR_SEQS; i++) {
		q = &f->seqs[i];
		assert_int_equal(make_seq(f, q, 1000 + i * 100, 1, &hit), 0);
		if (pagedkv_seq_state(f->pool, q->id) == PAGEDKV_SEQ_LOADING)
			assert_int_equal(pagedkv_seq_wait(f->pool, q->id, PATIENCE), 0);
		assert_int_equal(pagedkv_seq_state(f->pool, q->id), PAGEDKV_SEQ_RUNNING);
		if (hit)
			assert_int_equal(pagedkv_seq_table(f->pool, q->id, 0, slots,
							   hit / PAGE_TOKENS), hit / PAGE_TOKENS);
		for (k = 0; k < hit / PAGE_TOKENS; k++)
			assert_true(is_filled(slot_at(f, slots[k]), q->seed + k));
		nr_hits += hit;
		cool(f, q);
	}
	assert_true(nr_hits > 0);
	stop(f, PATIENCE);
}

static void test_bad_params(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_engine_params p = { .size = sizeof(p) };
	struct pkvrt_engine *e;

	(void)f;
	assert_int_equal(pkvrt_engine_create(&e, &p), -EINVAL);
	assert_null(e);
	p.size = 1;
	assert_int_equal(pkvrt_engine_create(&e, &p), -EINVAL);
	assert_int_equal(pkvrt_engine_create(&e, NULL), -EINVAL);
	pkvrt_engine_destroy(NULL, 0);
}

int main(void)
{
#define T(f)	cmocka_unit_test_setup_teardown(f, setup, teardown)
	static const struct CMUnitTest tests[] = {
		T(test_pages_come_back),
		T(test_without_host),
		T(test_host_is_not_pinned),
		T(test_device_pins),
		T(test_without_disk),
		T(test_faults_are_misses),
		T(test_failing_disk_is_given_up),
		T(test_late_reads_end),
		T(test_hanging_disk_is_given_up),
		T(test_abort),
		T(test_published_pages_survive),
		T(test_bad_params),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
