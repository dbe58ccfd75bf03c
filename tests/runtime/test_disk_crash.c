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
		assert_true(pkvrt_disk_wait(r->disk, pkvrt_now_ns() + PATIENCE) >= 0);
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

/*
 * The ring of a killed process keeps its file, and so the lock, until the kernel has taken it
 * down: on a loaded machine that may be long after the process is gone.
 */
static struct pkvrt_disk *open_when_free(const struct pkvrt_disk_params *p)
{
	uint64_t until = pkvrt_now_ns() + PATIENCE;
	struct pkvrt_disk *d;
	char why[PKVRT_DISK_WHY_MAX];
	int ret;

	do
		ret = pkvrt_disk_open(&d, p, why, sizeof(why));
	while (ret == -EBUSY && pkvrt_now_ns() < until);
	if (ret)
		print_error("%s\n", why);
	assert_int_equal(ret, 0);
	return d;
}

static unsigned int check_image(const struct folder *f)
{
	struct pkvrt_disk_params p = params_of(f, NR_SLOTS);
	struct check c = { .page = page_alloc(1) };

	p.flags = 0;
	c.disk = open_when_free(&p);
	assert_int_equal(pkvrt_disk_scan(c.disk, check_found, &c), 0);
	pkvrt_disk_close(c.disk, PATIENCE);
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

/* Apply what the disk has at @cut to @image. */
static void apply_events(const struct recorder *rec, unsigned int cut, uint64_t *rng,
			 uint8_t *image)
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
				memcpy(image + e->offset_bytes + at, e->data + at, SECTOR);
	}
}

/* Right after creation: a superblock, and zeros. */
static uint8_t *fresh_image(const struct folder *f, size_t *len_bytes)
{
	struct pkvrt_disk_params p = params_of(f, NR_SLOTS);
	uint64_t data, total;
	uint8_t *image;
	int fd;

	pkvrt_disk_close(disk_open(&p), PATIENCE);
	assert_int_equal(pkvrt_fmt_layout(PAGE, NR_SLOTS, &data, &total), 0);
	*len_bytes = total;
	image = malloc(total);
	assert_non_null(image);
	fd = open(f->path, O_RDONLY);
	assert_int_equal(read(fd, image, total), total);
	close(fd);
	return image;
}

static void write_image(const struct folder *f, const uint8_t *image, size_t len_bytes)
{
	int fd = open(f->path, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, image, len_bytes, 0), len_bytes);
	close(fd);
}

static void test_power_cuts(void **state)
{
	static struct recorder rec;
	struct pkvrt_io_hooks hooks = {
		.issue = record_issue, .complete = record_complete, .ctx = &rec,
	};
	struct run r = { .rng = 42, .pages = page_alloc(NR_BATCH) };
	struct folder f;
	struct pkvrt_disk_params p;
	unsigned int i, nr_found = 0;
	uint64_t rng = 7;
	uint8_t *fresh, *image;
	size_t len_bytes;

	(void)state;
	folder_init(&f);
	fresh = fresh_image(&f, &len_bytes);
	image = malloc(len_bytes);
	assert_non_null(image);
	p = params_of(&f, NR_SLOTS);
	p.hooks = &hooks;
	p.queue_depth = 4;
	r.disk = disk_open(&p);
	run_ops(&r, NR_OPS);
	assert_int_equal(pkvrt_disk_drain(r.disk, pkvrt_now_ns() + PATIENCE), 0);
	pkvrt_disk_close(r.disk, PATIENCE);

	for (i = 0; i < NR_CUTS; i++) {
		memcpy(image, fresh, len_bytes);
		apply_events(&rec, (unsigned int)(rnd(&rng) % rec.clock) + 1, &rng, image);
		write_image(&f, image, len_bytes);
		nr_found += check_image(&f);
	}
	/* Cuts are of no use on images that hold nothing. */
	assert_true(nr_found > NR_CUTS * 2);
	print_message("# %u cuts, %u pages vouched for\n", NR_CUTS, nr_found);
	for (i = 0; i < rec.nr; i++)
		free(rec.events[i].data);
	free(fresh);
	free(image);
	free(r.pages);
	folder_exit(&f);
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
	r.disk = open_when_free(&p);
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
