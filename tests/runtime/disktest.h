/* SPDX-License-Identifier: GPL-2.0-only */
/* What the disk tests share: a folder of their own, pages whose content follows from their key. */
#ifndef DISKTEST_H
#define DISKTEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk.h"

#define PAGE	8192u
#define SEC	1000000000ull
#define PATIENCE	(60 * SEC)	/* for what surely comes, however loaded the machine is */

struct folder {
	char dir[128];
	char path[160];
};

static inline void folder_init(struct folder *f)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(f->dir, sizeof(f->dir), "%.64s/pagedkv-disk-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/image", f->dir);
}

static inline void folder_exit(struct folder *f)
{
	unlink(f->path);
	assert_int_equal(rmdir(f->dir), 0);
}

static inline uint64_t rnd(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline struct pkvrt_key key_of(uint64_t seed)
{
	uint64_t w[2] = { seed, ~seed };
	struct pkvrt_key key;

	memcpy(key.b, w, sizeof(key.b));
	return key;
}

static inline uint64_t seed_of(const struct pkvrt_key *key)
{
	uint64_t w[2];

	memcpy(w, key->b, sizeof(w));
	return w[1] == ~w[0] ? w[0] : UINT64_MAX;
}

static inline void fill(void *page, uint64_t seed)
{
	uint64_t *w = page;
	size_t i;

	for (i = 0; i < PAGE / sizeof(*w); i++)
		w[i] = rnd(&seed);
}

static inline int is_filled(const void *page, uint64_t seed)
{
	const uint64_t *w = page;
	size_t i;

	for (i = 0; i < PAGE / sizeof(*w); i++)
		if (w[i] != rnd(&seed))
			return 0;
	return 1;
}

static inline void *page_alloc(size_t nr)
{
	void *p = aligned_alloc(PKVRT_DISK_ALIGN, nr * PAGE);

	assert_non_null(p);
	memset(p, 0, nr * PAGE);
	return p;
}

static inline struct pkvrt_disk_params params_of(const struct folder *f, uint64_t nr_slots)
{
	return (struct pkvrt_disk_params){
		.size = sizeof(struct pkvrt_disk_params),
		.path = f->path,
		.flags = PKVRT_DISK_CREATE,
		.page_bytes = PAGE,
		.nr_slots = nr_slots,
		.model_fp = 0x1234,
		.salt = { 7, 8, 9 },
		.pool_name = "test",
		.timeout_ns = PATIENCE,
	};
}

static inline struct pkvrt_disk *disk_open(const struct pkvrt_disk_params *p)
{
	char why[PKVRT_DISK_WHY_MAX];
	struct pkvrt_disk *d;
	int ret = pkvrt_disk_open(&d, p, why, sizeof(why));

	if (ret)
		print_error("%s\n", why);
	assert_int_equal(ret, 0);
	return d;
}

/* An operation and what became of it. */
struct job {
	struct pkvrt_disk_op op;
	int nr_done, nr_released;
};

static inline void job_done(struct pkvrt_disk_op *op)
{
	((struct job *)op->user)->nr_done++;
}

static inline void job_released(struct pkvrt_disk_op *op)
{
	((struct job *)op->user)->nr_released++;
}

static inline void job_submit(struct pkvrt_disk *d, struct job *j, enum pkvrt_disk_kind kind,
			      uint32_t slot, void *buf, uint64_t seed)
{
	uint64_t deadline = j->op.deadline_ns;

	*j = (struct job){ .op = {
		.kind = kind, .slot = slot, .buf = buf, .key = key_of(seed),
		.deadline_ns = deadline, .done = job_done, .released = job_released, .user = j,
	} };
	pkvrt_disk_submit(d, &j->op);
}

static inline void job_wait(struct pkvrt_disk *d, struct job *j)
{
	while (!j->nr_done)
		assert_true(pkvrt_disk_wait(d, pkvrt_now_ns() + PATIENCE) >= 0);
}

static inline void job_wait_released(struct pkvrt_disk *d, struct job *j)
{
	while (!j->nr_released)
		assert_true(pkvrt_disk_wait(d, pkvrt_now_ns() + PATIENCE) >= 0);
}

/* One operation from start to end; its result. */
static inline int job_run(struct pkvrt_disk *d, enum pkvrt_disk_kind kind, uint32_t slot,
			  void *buf, uint64_t seed)
{
	struct job j = { 0 };

	job_submit(d, &j, kind, slot, buf, seed);
	job_wait(d, &j);
	job_wait_released(d, &j);
	assert_int_equal(j.nr_done, 1);
	assert_int_equal(j.nr_released, 1);
	return j.op.res;
}

#endif
