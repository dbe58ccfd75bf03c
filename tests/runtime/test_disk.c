// SPDX-License-Identifier: GPL-2.0-only
/* The disk tier: round trips, restarts, and every way in which an I/O can go wrong. */
#include "disktest.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>

#include "arena.h"
#include "diskfmt.h"

#define NR_SLOTS	200u

/* Which fault the next commands of a kind get. */
struct faults {
	enum pkvrt_io_kind kind;
	enum pkvrt_io_fault fault;
	uint64_t arg;
	unsigned int nr;		/* how many commands yet */
	uint64_t from_bytes;		/* commands at lower offsets are spared */
	uint64_t largest_bytes;		/* seen */
	unsigned int nr_syncs;
};

static enum pkvrt_io_fault choose(void *ctx, const struct pkvrt_io_view *v, uint64_t *arg)
{
	struct faults *f = ctx;
	uint64_t bytes = 0;
	unsigned int i;

	for (i = 0; i < v->nr_iov; i++)
		bytes += v->iov[i].iov_len;
	if (bytes > f->largest_bytes)
		f->largest_bytes = bytes;
	f->nr_syncs += v->kind == PKVRT_IO_SYNC;
	if (!f->nr || v->kind != f->kind || v->offset_bytes < f->from_bytes)
		return PKVRT_FAULT_NONE;
	f->nr--;
	*arg = f->arg;
	return f->fault;
}

struct fixture {
	struct folder folder;
	struct faults faults;
	struct pkvrt_io_hooks hooks;
	struct pkvrt_disk_params params;
	struct pkvrt_disk *disk;
	struct pkvrt_arena *arena;
	uint8_t *pages;
};

static uint8_t *page_at(struct fixture *f, unsigned int i)
{
	return f->pages + (size_t)i * PAGE;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct pkvrt_arena_params ap = {
		.size = sizeof(ap), .bytes = NR_SLOTS * PAGE, .node = PKVRT_NODE_ANY,
	};

	assert_non_null(f);
	folder_init(&f->folder);
	assert_int_equal(pkvrt_arena_create(&f->arena, &ap), 0);
	f->pages = pkvrt_arena_base(f->arena);
	f->hooks = (struct pkvrt_io_hooks){ .issue = choose, .ctx = &f->faults };
	f->params = params_of(&f->folder, NR_SLOTS);
	f->params.hooks = &f->hooks;
	f->disk = disk_open(&f->params);
	/* May be refused where little memory may be locked: then the tests run without. */
	pkvrt_disk_register(f->disk, &(struct iovec){ f->pages, NR_SLOTS * PAGE }, 1);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pkvrt_disk_close(f->disk, PATIENCE);
	pkvrt_arena_destroy(f->arena);
	folder_exit(&f->folder);
	free(f);
	return 0;
}

static void reopen(struct fixture *f)
{
	pkvrt_disk_close(f->disk, PATIENCE);
	f->disk = NULL;
	f->disk = disk_open(&f->params);
}

static void set_fault(struct fixture *f, enum pkvrt_io_kind kind, enum pkvrt_io_fault fault,
		      uint64_t arg, unsigned int nr)
{
	struct pkvrt_disk_info info;
	uint64_t data, total;

	pkvrt_disk_info(f->disk, &info);
	assert_int_equal(pkvrt_fmt_layout(info.page_bytes, info.nr_slots, &data, &total), 0);
	f->faults = (struct faults){
		.kind = kind, .fault = fault, .arg = arg, .nr = nr,
		.from_bytes = kind == PKVRT_IO_SYNC ? 0 : data,
	};
}

struct found {
	unsigned int nr;
	uint64_t seed_of_slot[NR_SLOTS];
};

static int note_found(void *ctx, uint32_t slot, const struct pkvrt_key *key)
{
	struct found *found = ctx;

	found->nr++;
	found->seed_of_slot[slot] = seed_of(key);
	return 0;
}

static struct found scan(struct fixture *f)
{
	struct found found = { 0 };

	assert_int_equal(pkvrt_disk_scan(f->disk, note_found, &found), 0);
	return found;
}

static void test_private_round_trip(void **state)
{
	struct fixture *f = *state;
	struct job jobs[NR_SLOTS] = { 0 };
	unsigned int i;

	for (i = 0; i < NR_SLOTS; i++) {
		fill(page_at(f, i), i);
		job_submit(f->disk, &jobs[i], PKVRT_DISK_SWAP_OUT, i * 7 % NR_SLOTS,
			   page_at(f, i), 0);
	}
	assert_int_equal(pkvrt_disk_drain(f->disk, pkvrt_now_ns() + PATIENCE), 0);
	memset(f->pages, 0, NR_SLOTS * PAGE);
	for (i = 0; i < NR_SLOTS; i++) {
		assert_int_equal(jobs[i].op.res, 0);
		job_submit(f->disk, &jobs[i], PKVRT_DISK_LOAD, i * 7 % NR_SLOTS,
			   page_at(f, i), 0);
	}
	assert_int_equal(pkvrt_disk_drain(f->disk, pkvrt_now_ns() + PATIENCE), 0);
	for (i = 0; i < NR_SLOTS; i++) {
		assert_int_equal(jobs[i].op.res, 0);
		assert_int_equal(jobs[i].nr_released, 1);
		assert_true(is_filled(page_at(f, i), i));
	}
	/* Swap space is this process's: no flush, and a restart forgets it. */
	assert_int_equal(f->faults.nr_syncs, 0);
	reopen(f);
	assert_int_equal(scan(f).nr, 0);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 3, f->pages, 0), -ENODATA);
}

static void test_published_survives_restart(void **state)
{
	struct fixture *f = *state;
	struct job jobs[100] = { 0 };
	struct pkvrt_disk_info info;
	struct found found;
	unsigned int i;

	for (i = 0; i < 100; i++) {
		fill(page_at(f, i), 1000 + i);
		job_submit(f->disk, &jobs[i], PKVRT_DISK_STORE, i * 2, page_at(f, i), 1000 + i);
	}
	assert_int_equal(pkvrt_disk_drain(f->disk, pkvrt_now_ns() + PATIENCE), 0);
	for (i = 0; i < 100; i++)
		assert_int_equal(jobs[i].op.res, 0);
	/* One flush serves many. */
	assert_in_range(f->faults.nr_syncs, 1, 50);
	reopen(f);
	pkvrt_disk_info(f->disk, &info);
	assert_int_equal(info.created, 0);
	assert_int_equal(info.salt[0], 7);
	assert_string_equal(info.pool_name, "test");
	found = scan(f);
	assert_int_equal(found.nr, 100);
	for (i = 0; i < 100; i++) {
		assert_int_equal(found.seed_of_slot[i * 2], 1000 + i);
		assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, i * 2, f->pages, 0), 0);
		assert_true(is_filled(f->pages, 1000 + i));
	}
}

static void test_reuse_withdraws_header(void **state)
{
	struct fixture *f = *state;
	struct found found;

	fill(f->pages, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_STORE, 5, f->pages, 1), 0);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_STORE, 6, f->pages, 1), 0);
	fill(f->pages, 2);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 5, f->pages, 0), 0);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 5, f->pages, 0), 0);
	assert_true(is_filled(f->pages, 2));
	reopen(f);
	found = scan(f);
	assert_int_equal(found.nr, 1);
	assert_int_equal(found.seed_of_slot[6], 1);
	fill(f->pages, 3);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_STORE, 6, f->pages, 3), 0);
	reopen(f);
	found = scan(f);
	assert_int_equal(found.nr, 1);
	assert_int_equal(found.seed_of_slot[6], 3);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 6, f->pages, 0), 0);
	assert_true(is_filled(f->pages, 3));
}

static void test_neighbours_merge(void **state)
{
	struct fixture *f = *state;
	struct job jobs[16] = { 0 };
	struct pkvrt_disk_stats s;
	unsigned int i;

	/* Neighbouring slots, buffers in reverse: one command all the same. */
	for (i = 0; i < 16; i++) {
		fill(page_at(f, 15 - i), i);
		job_submit(f->disk, &jobs[i], PKVRT_DISK_SWAP_OUT, i, page_at(f, 15 - i), 0);
	}
	assert_int_equal(pkvrt_disk_drain(f->disk, pkvrt_now_ns() + PATIENCE), 0);
	pkvrt_disk_stats(f->disk, &s);
	assert_int_equal(s.io.nr_commands, 1);
	assert_int_equal(s.io.nr_merged, 15);
	assert_int_equal(f->faults.largest_bytes, 16 * PAGE);
	for (i = 0; i < 16; i++) {
		assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, i, page_at(f, 100), 0), 0);
		assert_true(is_filled(page_at(f, 100), i));
	}
}

static void test_error_of_one_spares_neighbours(void **state)
{
	struct fixture *f = *state;
	struct job jobs[8] = { 0 };
	unsigned int i, nr_failed = 0;

	for (i = 0; i < 8; i++) {
		fill(page_at(f, i), i);
		job_submit(f->disk, &jobs[i], PKVRT_DISK_SWAP_OUT, i, page_at(f, i), 0);
	}
	/* The merged command fails, and then one of the eight alone. */
	set_fault(f, PKVRT_IO_WRITE, PKVRT_FAULT_ERROR, EIO, 2);
	assert_int_equal(pkvrt_disk_drain(f->disk, pkvrt_now_ns() + PATIENCE), 0);
	for (i = 0; i < 8; i++)
		nr_failed += jobs[i].op.res == -EIO;
	assert_int_equal(nr_failed, 1);
	for (i = 0; i < 8; i++)
		assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, i, f->pages, 0),
				 jobs[i].op.res ? -ENODATA : 0);
}

static void test_flipped_bit_is_caught(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_disk_stats s;
	unsigned int bit;

	fill(f->pages, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 9, f->pages, 0), 0);
	for (bit = 0; bit < 10; bit++) {
		set_fault(f, PKVRT_IO_READ, PKVRT_FAULT_FLIP, bit * 6553 % (PAGE * 8), 1);
		assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 9, f->pages, 0), -EILSEQ);
	}
	pkvrt_disk_stats(f->disk, &s);
	assert_int_equal(s.nr_bad_crc, 10);
	/* Only the wire was bad. */
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 9, f->pages, 0), 0);
	assert_true(is_filled(f->pages, 1));
}

static void test_rotten_image_is_caught(void **state)
{
	struct fixture *f = *state;
	uint64_t data, total;
	uint8_t byte;
	int fd;

	fill(f->pages, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_STORE, 9, f->pages, 1), 0);
	pkvrt_fmt_layout(PAGE, NR_SLOTS, &data, &total);
	fd = open(f->folder.path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)(data + 9 * PAGE + 77)), 1);
	byte ^= 4;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)(data + 9 * PAGE + 77)), 1);
	close(fd);
	reopen(f);
	assert_int_equal(scan(f).nr, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 9, f->pages, 0), -EILSEQ);
}

static void test_torn_header_is_a_miss(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_disk_stats s;
	struct found found;
	uint8_t junk[20];
	unsigned int i;
	int fd;

	for (i = 0; i < 3; i++) {
		fill(f->pages, i);
		assert_int_equal(job_run(f->disk, PKVRT_DISK_STORE, i, f->pages, i), 0);
	}
	memset(junk, 0xa5, sizeof(junk));
	fd = open(f->folder.path, O_RDWR);
	assert_int_equal(pwrite(fd, junk, sizeof(junk), PKVRT_FMT_BLOCK + PKVRT_FMT_HEADER + 30),
			 sizeof(junk));
	close(fd);
	reopen(f);
	found = scan(f);
	assert_int_equal(found.nr, 2);
	assert_int_equal(found.seed_of_slot[2], 2);
	pkvrt_disk_stats(f->disk, &s);
	assert_int_equal(s.nr_headers_damaged, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 1, f->pages, 0), -ENODATA);
	/* The slot itself is as good as new. */
	fill(f->pages, 77);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_STORE, 1, f->pages, 77), 0);
	reopen(f);
	assert_int_equal(scan(f).seed_of_slot[1], 77);
}

static void test_header_of_another_slot_is_a_miss(void **state)
{
	struct fixture *f = *state;
	uint8_t raw[PKVRT_FMT_HEADER];
	int fd;

	fill(f->pages, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_STORE, 4, f->pages, 1), 0);
	fd = open(f->folder.path, O_RDWR);
	assert_int_equal(pread(fd, raw, sizeof(raw), PKVRT_FMT_BLOCK + 4 * sizeof(raw)),
			 sizeof(raw));
	assert_int_equal(pwrite(fd, raw, sizeof(raw), PKVRT_FMT_BLOCK + 5 * sizeof(raw)),
			 sizeof(raw));
	close(fd);
	reopen(f);
	assert_int_equal(scan(f).nr, 1);
	assert_int_equal(scan(f).seed_of_slot[4], 1);
}

static void test_short_transfers_go_on(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_disk_stats s;

	fill(f->pages, 1);
	set_fault(f, PKVRT_IO_WRITE, PKVRT_FAULT_SHORT, 4096, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 9, f->pages, 0), 0);
	set_fault(f, PKVRT_IO_READ, PKVRT_FAULT_SHORT, 4096, 1);
	memset(f->pages, 0, PAGE);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 9, f->pages, 0), 0);
	assert_true(is_filled(f->pages, 1));
	pkvrt_disk_stats(f->disk, &s);
	assert_int_equal(s.io.nr_short, 2);
	/* No progress at all is an error, not a loop. */
	set_fault(f, PKVRT_IO_READ, PKVRT_FAULT_SHORT, 0, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 9, f->pages, 0), -EIO);
}

static void test_passing_conditions_are_retried(void **state)
{
	struct fixture *f = *state;

	fill(f->pages, 1);
	set_fault(f, PKVRT_IO_WRITE, PKVRT_FAULT_ERROR, EAGAIN, 5);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 9, f->pages, 0), 0);
	set_fault(f, PKVRT_IO_READ, PKVRT_FAULT_ERROR, EINTR, 5);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 9, f->pages, 0), 0);
	assert_true(is_filled(f->pages, 1));
	set_fault(f, PKVRT_IO_READ, PKVRT_FAULT_ERROR, EAGAIN, 1000);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 9, f->pages, 0), -EAGAIN);
}

static void test_full_disk(void **state)
{
	struct fixture *f = *state;

	fill(f->pages, 1);
	set_fault(f, PKVRT_IO_WRITE, PKVRT_FAULT_ERROR, ENOSPC, 2);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 9, f->pages, 0), -ENOSPC);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_STORE, 9, f->pages, 1), -ENOSPC);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 9, f->pages, 0), -ENODATA);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_STORE, 9, f->pages, 1), 0);
}

static void test_failed_flush_vouches_for_nothing(void **state)
{
	struct fixture *f = *state;

	fill(f->pages, 1);
	set_fault(f, PKVRT_IO_SYNC, PKVRT_FAULT_ERROR, EIO, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_STORE, 9, f->pages, 1), -EIO);
	reopen(f);
	assert_int_equal(scan(f).nr, 0);
	/* And a failed withdrawal leaves the old page whole. */
	assert_int_equal(job_run(f->disk, PKVRT_DISK_STORE, 9, f->pages, 1), 0);
	fill(f->pages, 2);
	set_fault(f, PKVRT_IO_SYNC, PKVRT_FAULT_ERROR, EIO, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 9, f->pages, 0), -EIO);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 9, f->pages, 0), 0);
	reopen(f);
	assert_int_equal(scan(f).nr, 0);
}

/*
 * An operation that is late because its command hangs. Where the deadline came before that
 * command was even issued, the next try has more time. Returns the number of tries.
 */
static unsigned int run_late(struct fixture *f, struct job *late, enum pkvrt_disk_kind kind,
			     enum pkvrt_io_kind hanging, void *buf)
{
	uint64_t span_ns = 1000000;
	unsigned int nr_tries = 0;

	for (;;) {
		set_fault(f, hanging, PKVRT_FAULT_HANG, 0, 1);
		late->op.deadline_ns = pkvrt_now_ns() + span_ns;
		job_submit(f->disk, late, kind, 9, buf, 1);
		job_wait(f->disk, late);
		nr_tries++;
		assert_int_equal(late->nr_done, 1);
		assert_int_equal(late->op.res, -ETIMEDOUT);
		if (!f->faults.nr)
			return nr_tries;
		job_wait_released(f->disk, late);
		span_ns *= 2;
	}
}

static void test_late_write_never_hits_the_next_page(void **state)
{
	struct fixture *f = *state;
	struct job late = { 0 };
	struct pkvrt_disk_stats s;
	unsigned int nr_tries;

	fill(f->pages, 1);
	fill(page_at(f, 1), 2);
	nr_tries = run_late(f, &late, PKVRT_DISK_SWAP_OUT, PKVRT_IO_WRITE, f->pages);
	assert_int_equal(late.nr_released, 0);
	assert_true(pkvrt_disk_slot_busy(f->disk, 9));
	assert_int_equal(pkvrt_disk_pending(f->disk), 0);
	/* Nobody gets the slot while the write may still land. */
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 9, page_at(f, 1), 0), -EBUSY);
	pkvrt_disk_stats(f->disk, &s);
	assert_int_equal(s.io.nr_quarantined, 1);
	assert_int_equal(s.nr_late, nr_tries);
	pkvrt_io_unhang(pkvrt_disk_io(f->disk));
	job_wait_released(f->disk, &late);
	assert_int_equal(late.nr_done, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 9, page_at(f, 2), 0), -ENODATA);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 9, page_at(f, 1), 0), 0);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 9, page_at(f, 2), 0), 0);
	assert_true(is_filled(page_at(f, 2), 2));
}

static void test_late_read_keeps_its_buffer(void **state)
{
	struct fixture *f = *state;
	struct job late = { 0 };

	fill(f->pages, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 9, f->pages, 0), 0);
	run_late(f, &late, PKVRT_DISK_LOAD, PKVRT_IO_READ, page_at(f, 1));
	assert_int_equal(late.nr_released, 0);
	pkvrt_io_unhang(pkvrt_disk_io(f->disk));
	job_wait_released(f->disk, &late);
	/* It did land after all: the quarantine was not for nothing. */
	assert_true(is_filled(page_at(f, 1), 1));
}

static void test_late_flush(void **state)
{
	struct fixture *f = *state;
	struct job late = { 0 };

	fill(f->pages, 1);
	run_late(f, &late, PKVRT_DISK_STORE, PKVRT_IO_SYNC, f->pages);
	/* The data write itself comes back, flush or no flush. */
	job_wait_released(f->disk, &late);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 9, f->pages, 0), 0);
	reopen(f);
	assert_int_equal(scan(f).nr, 0);
}

static void test_close_ends_everything(void **state)
{
	struct fixture *f = *state;
	struct job jobs[4] = { 0 };
	unsigned int i;

	set_fault(f, PKVRT_IO_WRITE, PKVRT_FAULT_HANG, 0, 1);
	for (i = 0; i < 4; i++)
		job_submit(f->disk, &jobs[i], i & 1 ? PKVRT_DISK_STORE : PKVRT_DISK_SWAP_OUT,
			   i * 10, page_at(f, i), i);
	assert_true(pkvrt_disk_poll(f->disk) >= 0);
	pkvrt_disk_close(f->disk, PATIENCE);
	for (i = 0; i < 4; i++) {
		assert_int_equal(jobs[i].nr_done, 1);
		assert_int_equal(jobs[i].nr_released, 1);
		assert_true(!jobs[i].op.res || jobs[i].op.res == -ECANCELED);
	}
	f->disk = disk_open(&f->params);
}

static void test_failing_disk_goes_readonly_then_offline(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_disk_stats s;
	unsigned int i;

	fill(f->pages, 1);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 1, f->pages, 0), 0);
	set_fault(f, PKVRT_IO_WRITE, PKVRT_FAULT_ERROR, EIO, 16);
	for (i = 0; i < 16; i++)
		assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 2, f->pages, 0), -EIO);
	pkvrt_disk_stats(f->disk, &s);
	assert_int_equal(s.state, PKVRT_DISK_READONLY);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_SWAP_OUT, 2, f->pages, 0), -EROFS);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 1, f->pages, 0), 0);
	set_fault(f, PKVRT_IO_READ, PKVRT_FAULT_ERROR, EIO, 16);
	for (i = 0; i < 16; i++)
		assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 1, f->pages, 0), -EIO);
	pkvrt_disk_stats(f->disk, &s);
	assert_int_equal(s.state, PKVRT_DISK_OFFLINE);
	assert_string_equal(pkvrt_disk_state_name(s.state), "offline");
	assert_int_equal(s.nr_read_errors, 16);
	assert_int_equal(s.nr_write_errors, 16);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 1, f->pages, 0), -ENXIO);
}

static void test_refusals(void **state)
{
	struct fixture *f = *state;
	struct job a = { 0 }, b = { 0 };

	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, NR_SLOTS, f->pages, 0), -EINVAL);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, UINT32_MAX, f->pages, 0), -EINVAL);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 0, f->pages + 8, 0), -EINVAL);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 0, NULL, 0), -EINVAL);
	assert_int_equal(job_run(f->disk, (enum pkvrt_disk_kind)17, 0, f->pages, 0), -EINVAL);
	assert_int_equal(job_run(f->disk, PKVRT_DISK_LOAD, 0, f->pages, 0), -ENODATA);
	job_submit(f->disk, &a, PKVRT_DISK_SWAP_OUT, 3, f->pages, 0);
	job_submit(f->disk, &b, PKVRT_DISK_SWAP_OUT, 3, f->pages, 0);
	job_wait(f->disk, &a);
	job_wait(f->disk, &b);
	assert_int_equal(a.op.res, 0);
	assert_int_equal(b.op.res, -EBUSY);
}

static void test_watched_fd_ends_a_wait(void **state)
{
	struct fixture *f = *state;
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t start = pkvrt_now_ns(), n;

	assert_int_equal(pkvrt_disk_watch(f->disk, fd), 0);
	assert_int_equal(pkvrt_disk_wait(f->disk, start + 600 * SEC), 0);
	/* Still readable: it ends the next one as well. */
	assert_int_equal(pkvrt_disk_wait(f->disk, start + 600 * SEC), 0);
	assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(pkvrt_disk_wait(f->disk, pkvrt_now_ns() + 1000000), 0);
	assert_int_equal(pkvrt_disk_watch(f->disk, -1), 0);
	close(fd);
}

int main(void)
{
#define T(f)	cmocka_unit_test_setup_teardown(f, setup, teardown)
	static const struct CMUnitTest tests[] = {
		T(test_private_round_trip),
		T(test_published_survives_restart),
		T(test_reuse_withdraws_header),
		T(test_neighbours_merge),
		T(test_error_of_one_spares_neighbours),
		T(test_flipped_bit_is_caught),
		T(test_rotten_image_is_caught),
		T(test_torn_header_is_a_miss),
		T(test_header_of_another_slot_is_a_miss),
		T(test_short_transfers_go_on),
		T(test_passing_conditions_are_retried),
		T(test_full_disk),
		T(test_failed_flush_vouches_for_nothing),
		T(test_late_write_never_hits_the_next_page),
		T(test_late_read_keeps_its_buffer),
		T(test_late_flush),
		T(test_close_ends_everything),
		T(test_failing_disk_goes_readonly_then_offline),
		T(test_refusals),
		T(test_watched_fd_ends_a_wait),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
