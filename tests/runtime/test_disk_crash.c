// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a crash leaves: every header found afterwards vouches for its own page.
 *
 * Power cuts are simulated. All commands of a random run are recorded under the real path; an
 * image is then built as a disk might have it that lost power at a given moment: writes covered
 * by a finished flush are there, each other one is there, or not, or torn at sectors.
 *
 * Process kills are real: a child stores pages until its parent kills it at a random point.
 */
#include "disktest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "diskfmt.h"

#define NR_SLOTS	150u		/* three blocks of headers */
#define NR_OPS		400u
#define NR_BATCH	12u
#define NR_CUTS		400u
#define NR_KILLS	200u
#define SECTOR		512u
#define MAX_EVENTS	20000u

/* -- a random run ----------------------------------------------------------------------------- */

struct run {
	struct pkvrt_disk *disk;
	uint64_t rng;
	uint64_t next_seed;
	uint8_t *pages;
	struct job jobs[NR_BATCH];
	void (*ended)(void *ctx);
	void *ctx;
};

static void run_ops(struct run *r, unsigned int nr_ops)
{
	unsigned int i, nr = 0;
	uint32_t slot;

	while (nr < nr_ops) {
		for (i = 0; i < NR_BATCH; i++) {
			uint8_t *page = r->pages + (size_t)i * PAGE;
			struct job *j = &r->jobs[i];

			if (j->op.disk && !j->nr_released)
				continue;
			/* Few slots, so that they are used over and over. */
			slot = (uint32_t)(rnd(&r->rng) % 20 * 7);
			if (pkvrt_disk_slot_busy(r->disk, slot))
				continue;
			fill(page, ++r->next_seed);
			j->op.deadline_ns = 0;
			job_submit(r->disk, j, rnd(&r->rng) % 4 ? PKVRT_DISK_STORE :
				   PKVRT_DISK_SWAP_OUT, slot, page, r->next_seed);
			nr++;
		}
		assert_true(pkvrt_disk_wait(r->disk, pkvrt_now_ns() + SEC) >= 0);
		for (i = 0; i < NR_BATCH; i++)
			if (r->jobs[i].nr_done)
				assert_int_equal(r->jobs[i].op.res, 0);
		if (r->ended)
			r->ended(r->ctx);
	}
}

struct check {
	uint8_t *page;
	struct pkvrt_disk *disk;
	unsigned int nr_found;
};

/* Not only caught by the checksum: there is nothing to catch. */
static int check_found(void *ctx, uint32_t slot, const struct pkvrt_key *key)
{
	struct check *c = ctx;

	assert_int_equal(job_run(c->disk, PKVRT_DISK_LOAD, slot, c->page, 0), 0);
	assert_true(is_filled(c->page, seed_of(key)));
	c->nr_found++;
	return 0;
}

static unsigned int check_image(const struct folder *f)
{
	struct pkvrt_disk_params p = params_of(f, NR_SLOTS);
	struct check c = { .page = page_alloc(1) };

	p.flags = 0;
	c.disk = disk_open(&p);
	assert_int_equal(pkvrt_disk_scan(c.disk, check_found, &c), 0);
	pkvrt_disk_close(c.disk, SEC);
	free(c.page);
	return c.nr_found;
}

/* -- power cuts ------------------------------------------------------------------------------- */

struct event {
	enum pkvrt_io_kind kind;
	uint64_t serial;
	uint64_t offset_bytes;
	size_t len_bytes;
	uint8_t *data;
	unsigned int issued_at, ended_at;	/* in the order of all these; 0: not yet */
};

struct recorder {
	struct event events[MAX_EVENTS];
	unsigned int nr, clock;
};

static enum pkvrt_io_fault record_issue(void *ctx, const struct pkvrt_io_view *v, uint64_t *arg)
{
	struct recorder *rec = ctx;
	struct event *e = &rec->events[rec->nr];
	unsigned int i;

	(void)arg;
	if (v->kind == PKVRT_IO_READ)
		return PKVRT_FAULT_NONE;
	assert_true(rec->nr < MAX_EVENTS);
	rec->nr++;
	*e = (struct event){
		.kind = v->kind, .serial = v->serial, .offset_bytes = v->offset_bytes,
		.issued_at = ++rec->clock,
	};
	for (i = 0; i < v->nr_iov; i++) {
		e->data = realloc(e->data, e->len_bytes + v->iov[i].iov_len);
		assert_non_null(e->data);
		memcpy(e->data + e->len_bytes, v->iov[i].iov_base, v->iov[i].iov_len);
		e->len_bytes += v->iov[i].iov_len;
	}
	return PKVRT_FAULT_NONE;
}

static void record_complete(void *ctx, const struct pkvrt_io_view *v, int res)
{
	struct recorder *rec = ctx;
	unsigned int i;

	assert_true(res >= 0);
	for (i = rec->nr; i-- > 0;) {
		if (rec->events[i].serial == v->serial && rec->events[i].kind == v->kind) {
			rec->events[i].ended_at = ++rec->clock;
			return;
		}
	}
}

/* The last flush that had ended by @cut, as the moment at which it started. */
static unsigned int durable_until(const struct recorder *rec, unsigned int cut)
{
	unsigned int i, until = 0;

	for (i = 0; i < rec->nr; i++) {
		const struct event *e = &rec->events[i];

		if (e->kind == PKVRT_IO_SYNC && e->ended_at && e->ended_at <= cut &&
		    e->issued_at > until)
			until = e->issued_at;
	}
	return until;
}

static void build_image(const struct recorder *rec, unsigned int cut, uint64_t *rng, int fd)
{
	unsigned int i, until = durable_until(rec, cut), fate;
	size_t at;

	for (i = 0; i < rec->nr; i++) {
		const struct event *e = &rec->events[i];

		if (e->kind != PKVRT_IO_WRITE || e->issued_at > cut)
			continue;
		fate = e->ended_at && e->ended_at < until ? 0 : (unsigned int)(rnd(rng) % 3);
		for (at = 0; fate < 2 && at < e->len_bytes; at += SECTOR)
			if (fate == 0 || rnd(rng) & 1)
				assert_int_equal(pwrite(fd, e->data + at, SECTOR,
							(off_t)(e->offset_bytes + at)), SECTOR);
	}
}

static void copy_file(const char *from, const char *to)
{
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	off_t size = lseek(in, 0, SEEK_END);
	char buf[PKVRT_FMT_BLOCK];

	assert_true(in >= 0 && out >= 0);
	/* Right after creation: a superblock, and zeros. */
	assert_int_equal(pread(in, buf, sizeof(buf), 0), sizeof(buf));
	assert_int_equal(pwrite(out, buf, sizeof(buf), 0), sizeof(buf));
	assert_int_equal(ftruncate(out, size), 0);
	close(in);
	close(out);
}

static void test_power_cuts(void **state)
{
	static struct recorder rec;
	struct pkvrt_io_hooks hooks = {
		.issue = record_issue, .complete = record_complete, .ctx = &rec,
	};
	struct run r = { .rng = 42, .pages = page_alloc(NR_BATCH) };
	struct folder f, image;
	struct pkvrt_disk_params p;
	unsigned int i, nr_found = 0;
	uint64_t rng = 7;
	int fd;

	(void)state;
	folder_init(&f);
	folder_init(&image);
	p = params_of(&f, NR_SLOTS);
	p.hooks = &hooks;
	p.queue_depth = 4;
	r.disk = disk_open(&p);
	run_ops(&r, NR_OPS);
	assert_int_equal(pkvrt_disk_drain(r.disk, pkvrt_now_ns() + 60 * SEC), 0);
	pkvrt_disk_close(r.disk, SEC);

	for (i = 0; i < NR_CUTS; i++) {
		copy_file(f.path, image.path);
		fd = open(image.path, O_RDWR);
		build_image(&rec, (unsigned int)(rnd(&rng) % rec.clock) + 1, &rng, fd);
		close(fd);
		nr_found += check_image(&image);
	}
	/* Cuts are of no use on images that hold nothing. */
	assert_true(nr_found > NR_CUTS * 2);
	print_message("# %u cuts, %u pages vouched for\n", NR_CUTS, nr_found);
	for (i = 0; i < rec.nr; i++)
		free(rec.events[i].data);
	free(r.pages);
	folder_exit(&f);
	folder_exit(&image);
}

/* -- kills ------------------------------------------------------------------------------------ */

static void tell_parent(void *ctx)
{
	char byte = 0;

	if (write(*(int *)ctx, &byte, 1) != 1)
		_exit(1);
}

static void child(const struct folder *f, uint64_t round, int fd)
{
	struct pkvrt_disk_params p = params_of(f, NR_SLOTS);
	struct run r = { .rng = round, .next_seed = round << 32, .ended = tell_parent, .ctx = &fd };
	void *pages = NULL;

	if (posix_memalign(&pages, PKVRT_DISK_ALIGN, (size_t)NR_BATCH * PAGE))
		_exit(1);
	r.pages = pages;
	if (pkvrt_disk_open(&r.disk, &p, NULL, 0))
		_exit(1);
	run_ops(&r, UINT32_MAX);
}

static void test_kills(void **state)
{
	struct folder f;
	unsigned int round, nr_found = 0;
	uint64_t rng = 99;

	(void)state;
	folder_init(&f);
	for (round = 1; round <= NR_KILLS; round++) {
		uint64_t nr_steps = 1 + rnd(&rng) % 12;
		int fds[2], status;
		char byte;
		pid_t pid;

		assert_int_equal(pipe(fds), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			close(fds[0]);
			child(&f, round, fds[1]);
			_exit(1);
		}
		close(fds[1]);
		while (nr_steps--)
			assert_int_equal(read(fds[0], &byte, 1), 1);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		close(fds[0]);
		nr_found += check_image(&f);
	}
	assert_true(nr_found > NR_KILLS);
	print_message("# %u kills, %u pages vouched for\n", NR_KILLS, nr_found);
	folder_exit(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_cuts),
		cmocka_unit_test(test_kills),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
