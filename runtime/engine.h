/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The swap engine: one thread that fetches the moves of a pool, copies, and commits them. Copies
 * between device and host go through struct pkvrt_device, those to and from disk through a disk
 * tier; pages between device and disk pass a few staging pages. Of all this memory only the staging
 * pages are pinned: the kernel may take the pool's host memory back where the backend lets it. A
 * GPU, though, copies from and to pinned memory alone, so with one the host tier stays as it is.
 *
 * Whatever goes wrong with a copy is committed with its -errno, so that the page manager turns
 * it into a miss. Every move ends by its deadline, save copies that the device itself never ends.
 * A disk that goes read-only or offline is reported to the pool.
 *
 * Functions are for the thread that made the engine, unless said otherwise.
 */
#ifndef PKVRT_ENGINE_H
#define PKVRT_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include <pagedkv.h>

#include "arena.h"
#include "device.h"
#include "disk.h"

struct pkvrt_engine_params {
	size_t size;			/* sizeof(struct pkvrt_engine_params) */
	struct pagedkv_pool *pool;	/* outlives the engine */
	uint32_t class_id;		/* moves of other classes fail with -EOPNOTSUPP */
	uint64_t page_bytes;		/* of the class; disk: multiple of PKVRT_DISK_ALIGN */
	struct pkvrt_device device;
	struct pkvrt_disk *disk;	/* NULL: none. The engine's from a successful create on. */
	unsigned int max_moves;		/* in flight; 0: 512 MiB of pages, but 512 to 8192 */
	size_t staging_bytes;		/* for pages between device and disk; 0 is 64 MiB */
	uint64_t timeout_ns;		/* of a move, from its fetch; 0 is 10 s */
	int host_node;			/* of the pool's host memory: number or PKVRT_NODE_* */
	unsigned int host_flags;	/* PKVRT_ARENA_* */
};

/* Between two tiers; [from][to], enum pagedkv_tier. */
struct pkvrt_engine_pair {
	uint64_t nr_moves;	/* ended well */
	uint64_t bytes;
	uint64_t nr_errors;
	uint64_t busy_ns;	/* at least one move under way */
};

struct pkvrt_engine_stats {
	struct pkvrt_engine_pair pairs[PAGEDKV_NR_TIERS][PAGEDKV_NR_TIERS];
	unsigned int nr_inflight;
	uint64_t nr_wakeups;
	uint32_t nr_adopted;		/* published pages found on the disk at start */
	int has_disk;
	struct pkvrt_disk_stats disk;
	int has_host;
	struct pkvrt_arena_report host;
};

struct pkvrt_engine;

/**
 * pkvrt_engine_create - give a pool an engine, and start it
 *
 * Places the pool's host memory, registers it with the device and the disk, puts the published
 * pages that the disk holds into the pool's index, and starts the thread. On failure the disk is
 * the caller's.
 *
 * Return: 0, -EINVAL, -ENOMEM, -EAGAIN (no thread), or what placing the memory or pinning it said.
 */
int pkvrt_engine_create(struct pkvrt_engine **out, const struct pkvrt_engine_params *p);

/**
 * pkvrt_engine_destroy - stop and take down; NULL is fine
 * @drain_ns: moves under way may end by themselves for that long; then they are aborted
 *
 * Stops the pool's moves (pagedkv_moves_stop()). Every fetched move is committed before this
 * returns, those that were cut off with -ECANCELED. The disk is closed.
 */
void pkvrt_engine_destroy(struct pkvrt_engine *e, uint64_t drain_ns);

/* From any thread. */
void pkvrt_engine_stats(struct pkvrt_engine *e, struct pkvrt_engine_stats *s);

#endif
