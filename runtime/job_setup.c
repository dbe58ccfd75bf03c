// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Setting the main job's parts up, in the order in which they need each other, and down. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "job_internal.h"
#include "why.h"

#define MAX_EVICTIONS	8192u		/* pages are small here: a disk wants megabytes in flight */
#define STOP_GRACE_NS	1000000000u
#define LENGTHS_PAGE	64u		/* bytes of a page that has no contents */
#define LENGTHS_VOCAB	32000u

/* Virtual time and costs are roughly those of the paper's 13-billion model on one large GPU. */
#define LENGTHS_STEP_NS	20000000u
#define LENGTHS_TOKEN_NS 50000u
#define LENGTHS_TOKEN_BYTES 819200u	/* of K and V: 40 layers of 5120, bf16 */
#define LENGTHS_SWAP	25e9		/* bytes/s */

#define COST_TOKENS	64u		/* of the chunk that recompute is measured with */

static int fail(struct pkvrt_job *j, int err, const char *what)
{
	return pkvrt_why(j->why, j->why_len, err, "%s: %s", what, strerror(-err));
}

static struct pkvrt_disk_params disk_params(const struct pkvrt_job_params *p)
{
	return (struct pkvrt_disk_params){
		.size = sizeof(struct pkvrt_disk_params),
		.path = p->disk,
		.page_bytes = pkvrt_model_page_bytes(&p->model, p->page_tokens, p->kv_dtype),
		.model_fp = pkvrt_model_fingerprint(&p->model, p->seed, p->page_tokens,
						    p->kv_dtype, !!p->gpu),
		.pool_name = "run",
	};
}

uint32_t pkvrt_job_image_slots(const struct pkvrt_job_params *p)
{
	struct pkvrt_disk_params dp = disk_params(p);
	struct pkvrt_disk_info info = { 0 };
	struct pkvrt_disk *disk;

	if (!p->disk || p->lengths_only || pkvrt_disk_open(&disk, &dp, NULL, 0))
		return 0;
	pkvrt_disk_info(disk, &info);
	pkvrt_disk_close(disk, STOP_GRACE_NS);
	return (uint32_t)info.nr_slots;
}

/* A file without a name, or with: what was made for this run is gone with it. */
static int open_disk(struct pkvrt_job *j)
{
	const struct pkvrt_job_params *p = j->p;
	const char *dir = getenv("TMPDIR");
	char path[4096];
	struct pkvrt_disk_info info;
	struct pkvrt_disk_params dp = disk_params(p);
	int err, fd;

	dp.flags = PKVRT_DISK_CREATE;
	dp.nr_slots = p->tiers.nr_pages[PAGEDKV_DISK];
	if (!dp.nr_slots)
		return 0;
	if (getrandom(dp.salt, sizeof(dp.salt), 0) != sizeof(dp.salt))
		return fail(j, -EIO, "no random salt");
	if (!dp.path) {
		if (snprintf(path, sizeof(path), "%s/pagedkv-XXXXXX", dir && *dir ? dir : "/tmp")
		    >= (int)sizeof(path))
			return fail(j, -ENAMETOOLONG, "TMPDIR");
		fd = mkstemp(path);
		if (fd < 0)
			return fail(j, -errno, path);
		close(fd);
		dp.path = path;
	}
	err = pkvrt_disk_open(&j->disk, &dp, j->why, j->why_len);
	if (!p->disk)
		unlink(path);
	if (err)
		return err;
	pkvrt_disk_info(j->disk, &info);
	memcpy(j->salt, info.salt, sizeof(j->salt));
	return 0;
}

static const char *backend_name(uint32_t backend)
{
	return backend == PAGEDKV_BACKEND_KMOD ? "backend kmod (the kernel module)" :
	       "backend embedded";
}

static int make_pool(struct pkvrt_job *j)
{
	const struct pkvrt_job_params *p = j->p;
	const uint32_t *nr = p->tiers.nr_pages;
	struct pagedkv_params kp = { .size = sizeof(kp), .backend = p->backend };
	struct pagedkv_pool_params pp = {
		.size = sizeof(pp),
		.max_moves = MAX_EVICTIONS,
		.max_seqs = (p->max_batch ? p->max_batch : p->budget_tokens) + 65536u,
	};
	struct pagedkv_class_params *c = &pp.classes[0];
	int err;

	memcpy(pp.salt, j->salt, sizeof(pp.salt));
	c->page_tokens = p->page_tokens;
	c->page_bytes = p->lengths_only ? LENGTHS_PAGE : j->page_bytes;
	for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
		c->nr_slots[t] = nr[t];
	/* Room ahead of need, where pages take time to leave. */
	if (!p->lengths_only && (nr[PAGEDKV_HOST] || nr[PAGEDKV_DISK])) {
		c->low[PAGEDKV_DEVICE] = nr[PAGEDKV_DEVICE] / 64;
		c->high[PAGEDKV_DEVICE] = nr[PAGEDKV_DEVICE] / 32;
	}
	if (!p->lengths_only && nr[PAGEDKV_HOST] && nr[PAGEDKV_DISK]) {
		c->low[PAGEDKV_HOST] = nr[PAGEDKV_HOST] / 8;
		c->high[PAGEDKV_HOST] = nr[PAGEDKV_HOST] / 4;
	}
	err = pagedkv_open(&j->kv, &kp);
	if (err)
		return fail(j, err, backend_name(p->backend));
	err = pagedkv_pool_create(j->kv, &j->pool, &pp);
	return err ? fail(j, err, "no pool of this size") : 0;
}

static int make_engine(struct pkvrt_job *j)
{
	struct pkvrt_engine_params ep = {
		.size = sizeof(ep),
		.pool = j->pool,
		.page_bytes = j->page_bytes,
		.disk = j->disk,
		.host_node = PKVRT_NODE_ANY,
		.host_flags = PKVRT_ARENA_PREFAULT,
	};
	int err;

	pkvrt_job_copies(j, &ep.device);
	err = pkvrt_engine_create(&j->engine, &ep);
	if (err)
		return fail(j, err, "no swap engine");
	j->disk = NULL;
	return 0;
}

static int make_executor(struct pkvrt_job *j)
{
	const struct pkvrt_job_params *p = j->p;
	struct pkvrt_executor_params ep = {
		.model = p->model,
		.seed = p->seed,
		.nr_threads = p->nr_threads,
		.kv_dtype = p->kv_dtype,
		.page_tokens = p->page_tokens,
		.nr_slots = p->tiers.nr_pages[PAGEDKV_DEVICE],
		.arena = j->device_base,
		.create = p->gpu ? p->gpu->executor_create : NULL,
		.device = p->gpu_device,
	};
	int err = pkvrt_executor_create(&j->ex, &ep);

	return err ? fail(j, err, "no executor for this model") : 0;
}

/* Both speeds, on pages that nobody uses yet. */
static int measure_cost(struct pkvrt_job *j)
{
	const struct pkvrt_job_params *p = j->p;
	uint32_t nr_slots = (COST_TOKENS + p->page_tokens - 1) / p->page_tokens;
	uint32_t slots[COST_TOKENS];
	int err = pkvrt_job_measure_swap(j);

	if (err)
		return fail(j, err, "no copies to and from the device");
	if (nr_slots > p->tiers.nr_pages[PAGEDKV_DEVICE])
		nr_slots = p->tiers.nr_pages[PAGEDKV_DEVICE];
	for (uint32_t i = 0; i < nr_slots; i++)
		slots[i] = i;
	return pkvrt_cost_measure_recompute(&j->cost, j->ex, slots, nr_slots,
					    nr_slots * p->page_tokens < COST_TOKENS ?
					    nr_slots * p->page_tokens : COST_TOKENS,
					    p->model.vocab);
}

static int copy_pages(void *ctx, const struct pagedkv_move *copies, uint32_t nr)
{
	enum { AT_ONCE = 64 };
	struct pkvrt_job *j = ctx;
	struct pkv_page_copy list[AT_ONCE];
	int err = 0;

	for (uint32_t done = 0, n; done < nr && !err; done += n) {
		n = nr - done < AT_ONCE ? nr - done : AT_ONCE;
		for (uint32_t i = 0; i < n; i++)
			list[i] = (struct pkv_page_copy){
				.src = copies[done + i].src_slot, .dst = copies[done + i].dst_slot,
			};
		err = pkvrt_executor_copy_pages(j->ex, list, n);
	}
	return err;
}

static int move_nothing(void *ctx, const struct pagedkv_move *move)
{
	(void)ctx;
	(void)move;
	return 0;
}

static int make_alloc(struct pkvrt_job *j)
{
	const struct pkvrt_job_params *p = j->p;
	struct pkvrt_alloc_params ap = {
		.policy = p->policy,
		.nr_pages = p->tiers.nr_pages[PAGEDKV_DEVICE],
		.page_tokens = p->page_tokens,
		.max_tokens = p->max_tokens,
		.pool = j->pool,
		.copy = p->lengths_only ? NULL : copy_pages,
		.move = p->lengths_only ? move_nothing : NULL,
		.ctx = j,
	};
	int err = pkvrt_alloc_create(&j->alloc, &ap);

	return err ? fail(j, err, "no allocator") : 0;
}

static int setup_model(struct pkvrt_job *j)
{
	bool has_pool = j->p->policy == PKVRT_POLICY_PAGED;
	int err = 0;

	if (has_pool)
		err = open_disk(j);
	if (!err)
		err = pkvrt_job_make_device(j);
	if (!err && has_pool)
		err = make_pool(j);
	if (!err && has_pool)
		err = make_engine(j);
	if (!err)
		err = make_executor(j);
	return err ? err : measure_cost(j);
}

int pkvrt_job_setup(struct pkvrt_job *j)
{
	const struct pkvrt_job_params *p = j->p;
	int err = 0;

	j->page_bytes = pkvrt_model_page_bytes(&p->model, p->page_tokens, p->kv_dtype);
	j->cost.page_bytes = j->page_bytes;
	if (!j->page_bytes)
		return pkvrt_why(j->why, j->why_len, -EINVAL,
				 "the model has no pages of %u tokens", p->page_tokens);
	if (p->lengths_only) {
		j->page_bytes = (uint64_t)p->page_tokens * LENGTHS_TOKEN_BYTES;
		j->cost.page_bytes = j->page_bytes;
		j->lengths = (struct pkvrt_lengths){
			.step_ns = LENGTHS_STEP_NS,
			.token_ns = LENGTHS_TOKEN_NS,
			.vocab = LENGTHS_VOCAB,
		};
		j->cost.swap_bytes_per_s = LENGTHS_SWAP;
		j->cost.recompute_tokens_per_s = 1e9 / LENGTHS_TOKEN_NS;
		if (p->policy == PKVRT_POLICY_PAGED)
			err = make_pool(j);
	} else {
		err = setup_model(j);
	}
	return err ? err : make_alloc(j);
}

void pkvrt_job_teardown(struct pkvrt_job *j)
{
	pkvrt_sched_destroy(j->sched);
	pkvrt_alloc_destroy(j->alloc);
	pkvrt_engine_destroy(j->engine, STOP_GRACE_NS);
	pkvrt_executor_destroy(j->ex);
	pagedkv_pool_destroy(j->pool);
	pagedkv_close(j->kv);
	pkvrt_disk_close(j->disk, STOP_GRACE_NS);
	pkvrt_job_free_device(j);
}
