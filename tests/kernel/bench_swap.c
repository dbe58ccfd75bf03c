// SPDX-License-Identifier: GPL-2.0-only
/*
 * Swap through the module: its pages and its host memory, the engine and the disk tier with its
 * checksums, beside fio on the same drive with the same page size, in turns. Pages go from the
 * device to the host to the drive, and from there to the device.
 *
 * BENCH_DRIVE=/dev/nvme0n1 bench_swap	an empty drive; what is made on it is erased again
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "pagedkv.h"

#define MIB		((uint64_t)1 << 20)
#define PAGE_TOKENS	16u
#define SEQ_BYTES	(2 * MIB)
#define DEVICE_BYTES	(16 * MIB)
#define HOST_BYTES	(32 * MIB)
#define DISK_BYTES	(192 * MIB)
#define SWAP_BYTES	(64 * MIB)	/* what a turn measures */
#define NR_FILL		((DEVICE_BYTES + HOST_BYTES) / SEQ_BYTES)
#define NR_SWAPPED	(SWAP_BYTES / SEQ_BYTES)
#define NR_SEQS		(NR_FILL + NR_SWAPPED)
#define NR_AHEAD	6u		/* sequences on their way in */
#define FIO_OFFSET	(512 * MIB)	/* behind the image */
#define NR_TURNS	5
#define SEC		1000000000ull

struct bench {
	const char *drive;
	uint64_t page_bytes;
	uint32_t seq_pages;
	struct pagedkv *kv;
	struct pagedkv_pool *pool;
	struct pkvrt_engine *engine;
	struct pkvrt_arena *device;
	struct pkvrt_device_cpu cpu;
	pagedkv_seq_t seqs[NR_SEQS];
};

static void die(const char *what, int ret)
{
	fprintf(stderr, "bench_swap: %s: %s\n", what, strerror(-ret));
	exit(1);
}

static void check(const char *what, int ret)
{
	if (ret < 0)
		die(what, ret);
}

/* ------------------------------------------------------------------- ours */

/* An image that this run has made goes again; nothing else is ever erased. */
static void erase(const struct bench *b)
{
	static const char zero[MIB];
	int fd = open(b->drive, O_WRONLY);

	if (fd < 0 || pwrite(fd, zero, sizeof(zero), 0) != (ssize_t)sizeof(zero) || fsync(fd))
		die(b->drive, -errno);
	close(fd);
}

static struct pkvrt_disk *open_drive(const struct bench *b)
{
	struct pkvrt_disk_params p = {
		.size = sizeof(p), .path = b->drive, .flags = PKVRT_DISK_CREATE,
		.page_bytes = b->page_bytes, .nr_slots = DISK_BYTES / b->page_bytes,
		.timeout_ns = 120 * SEC,
	};
	char why[PKVRT_DISK_WHY_MAX];
	struct pkvrt_disk_info info;
	struct pkvrt_disk *disk;

	if (pkvrt_disk_open(&disk, &p, why, sizeof(why))) {
		fprintf(stderr, "bench_swap: %s\n", why);
		exit(1);
	}
	pkvrt_disk_info(disk, &info);
	if (!info.created)
		die("another's image", -EEXIST);
	return disk;
}

static void open_pool(struct bench *b)
{
	struct pagedkv_params kp = { .size = sizeof(kp), .backend = PAGEDKV_BACKEND_KMOD };
	struct pagedkv_pool_params pp = { .size = sizeof(pp) };
	struct pagedkv_class_params *c = &pp.classes[0];
	static const uint64_t bytes[PAGEDKV_NR_TIERS] = { DEVICE_BYTES, HOST_BYTES, DISK_BYTES };

	c->page_tokens = PAGE_TOKENS;
	c->page_bytes = b->page_bytes;
	for (int i = 0; i < PAGEDKV_NR_TIERS; i++)
		c->nr_slots[i] = (uint32_t)(bytes[i] / b->page_bytes);
	/* Room is made before it is needed, so that the drive has something to do. */
	for (int i = 0; i < PAGEDKV_DISK; i++) {
		c->low[i] = c->nr_slots[i] / 4;
		c->high[i] = c->nr_slots[i] / 2;
	}
	check("pagedkv_open", pagedkv_open(&b->kv, &kp));
	check("pagedkv_pool_create", pagedkv_pool_create(b->kv, &b->pool, &pp));
}

static void start(struct bench *b)
{
	struct pkvrt_arena_params ap = {
		.size = sizeof(ap), .bytes = DEVICE_BYTES, .node = PKVRT_NODE_ANY,
		.flags = PKVRT_ARENA_PREFAULT,
	};
	struct pkvrt_engine_params ep = {
		.size = sizeof(ep), .page_bytes = b->page_bytes, .staging_bytes = DEVICE_BYTES,
		.timeout_ns = 120 * SEC, .host_node = PKVRT_NODE_ANY,
	};

	open_pool(b);
	check("arena", pkvrt_arena_create(&b->device, &ap));
	b->cpu = (struct pkvrt_device_cpu){ pkvrt_arena_base(b->device), b->page_bytes };
	pkvrt_device_cpu_init(&ep.device, &b->cpu);
	ep.pool = b->pool;
	ep.disk = open_drive(b);
	check("engine", pkvrt_engine_create(&b->engine, &ep));
}

static void stop(struct bench *b)
{
	pkvrt_engine_destroy(b->engine, SEC);
	pagedkv_pool_destroy(b->pool);
	pagedkv_close(b->kv);
	pkvrt_arena_destroy(b->device);
	erase(b);
}

static void apply(struct bench *b, pagedkv_seq_t seq, uint32_t type, uint32_t arg)
{
	static struct pagedkv_delta deltas[SEQ_BYTES / 65536];
	struct pagedkv_op op = { .seq = seq, .type = type, .arg = arg };
	struct pagedkv_step step = {
		.ops = &op, .nr_ops = 1, .deltas = deltas,
		.max_deltas = sizeof(deltas) / sizeof(deltas[0]),
	};
	int ret;

	while ((ret = pagedkv_step(b->pool, &step)) == -EAGAIN)
		check("pagedkv_moves_wait", pagedkv_moves_wait(b->pool, 60 * SEC));
	check("pagedkv_step", ret);
}

/* A sequence of fresh pages, which may leave the device at once. */
static void put_out(struct bench *b, pagedkv_seq_t *seq)
{
	struct pagedkv_seq_params p = { .size = sizeof(p) };

	check("pagedkv_seq_create", pagedkv_seq_create(b->pool, seq, &p, NULL));
	apply(b, *seq, PAGEDKV_OP_APPEND, b->seq_pages * PAGE_TOKENS);
	check("cold", pagedkv_advise(b->pool, *seq, PAGEDKV_COLD));
}

static void ask_for(struct bench *b, pagedkv_seq_t seq)
{
	int ret;

	while ((ret = pagedkv_advise(b->pool, seq, PAGEDKV_WILLNEED)) == -EAGAIN)
		check("pagedkv_moves_wait", pagedkv_moves_wait(b->pool, 60 * SEC));
	check("load", ret);
}

/* It has come; it may go again, which costs nothing: the drive has it. */
static void take_in(struct bench *b, pagedkv_seq_t seq)
{
	check("pagedkv_seq_wait", pagedkv_seq_wait(b->pool, seq, 60 * SEC));
	check("cold", pagedkv_advise(b->pool, seq, PAGEDKV_COLD));
}

/* Bytes that went to the drive, or came from it. */
static uint64_t moved(struct bench *b, int out)
{
	struct pkvrt_engine_stats s;
	uint64_t bytes = 0;

	pkvrt_engine_stats(b->engine, &s);
	for (int i = 0; i < PAGEDKV_DISK; i++)
		bytes += (out ? s.pairs[i][PAGEDKV_DISK] : s.pairs[PAGEDKV_DISK][i]).bytes;
	return bytes;
}

/* MB/s. The first sequences fill device and host; each later one pushes as much to the drive. */
static double swap_out(struct bench *b)
{
	uint64_t i, bytes, since;

	for (i = 0; i < NR_FILL; i++)
		put_out(b, &b->seqs[i]);
	bytes = moved(b, 1);
	since = pkvrt_now_ns();
	for (; i < NR_SEQS; i++)
		put_out(b, &b->seqs[i]);
	return (double)(moved(b, 1) - bytes) * 1e3 / (double)(pkvrt_now_ns() - since);
}

/* MB/s. What is still on the device and the host goes first, so that nothing is written. */
static double swap_in(struct bench *b)
{
	uint64_t i, bytes, since;

	for (i = NR_SWAPPED; i < NR_SEQS; i++)
		apply(b, b->seqs[i], PAGEDKV_OP_FREE, 0);
	bytes = moved(b, 0);
	since = pkvrt_now_ns();
	for (i = 0; i < NR_SWAPPED + NR_AHEAD; i++) {
		if (i >= NR_AHEAD)
			take_in(b, b->seqs[i - NR_AHEAD]);
		if (i < NR_SWAPPED)
			ask_for(b, b->seqs[i]);
	}
	bytes = moved(b, 0) - bytes;
	since = pkvrt_now_ns() - since;
	for (i = 0; i < NR_SWAPPED; i++)
		apply(b, b->seqs[i], PAGEDKV_OP_FREE, 0);
	return (double)bytes * 1e3 / (double)since;
}

/* -------------------------------------------------------------------- fio */

/* MB/s; 0 without fio. As much in flight as there can be here, but no more than 64 commands. */
static double fio(const struct bench *b, int out)
{
	uint64_t depth = DEVICE_BYTES / b->page_bytes;
	char cmd[512], line[4096], *at = line;
	FILE *f;

	snprintf(cmd, sizeof(cmd),
		 "fio --minimal --name=x --filename=%s --rw=%s --ioengine=io_uring --direct=1 "
		 "--fixedbufs --registerfiles --scramble_buffers=0 --iodepth=%" PRIu64
		 " --bs=%" PRIu64 " --offset=%" PRIu64 " --size=%" PRIu64 " 2>/dev/null",
		 b->drive, out ? "write" : "read", depth < 64 ? depth : 64, b->page_bytes,
		 FIO_OFFSET, SWAP_BYTES);
	f = popen(cmd, "r");
	if (!f || !fgets(line, sizeof(line), f))
		line[0] = 0;
	if (!f || pclose(f))
		return 0;
	/* KiB/s are its 7th field for reads, its 48th for writes. */
	for (int i = 1; at && i < (out ? 48 : 7); i++) {
		at = strchr(at, ';');
		at += at ? 1 : 0;
	}
	return at ? strtod(at, NULL) * 1024 / 1e6 : 0;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts @v. */
static double median(double *v)
{
	qsort(v, NR_TURNS, sizeof(*v), by_size);
	return v[NR_TURNS / 2];
}

static void print(const struct bench *b, const char *what, double *ours, double *theirs)
{
	double ratio[NR_TURNS];

	for (int i = 0; i < NR_TURNS; i++)
		ratio[i] = theirs[i] > 0 ? ours[i] / theirs[i] : 0;
	printf("%s through the module, %" PRIu64 " KiB: %.1f MB/s", what, b->page_bytes >> 10,
	       median(ours));
	if (theirs[0] > 0)
		printf(" (fio: %.1f, %.2f)\n", median(theirs), median(ratio));
	else
		printf(" (fio: n/a, n/a)\n");
	fflush(stdout);
}

static void run(struct bench *b, uint64_t page_bytes)
{
	double ours[2][NR_TURNS], theirs[2][NR_TURNS];

	b->page_bytes = page_bytes;
	b->seq_pages = (uint32_t)(SEQ_BYTES / page_bytes);
	start(b);
	for (int i = 0; i < NR_TURNS; i++) {
		ours[0][i] = swap_out(b);
		theirs[0][i] = fio(b, 1);
		ours[1][i] = swap_in(b);
		theirs[1][i] = fio(b, 0);
	}
	stop(b);
	print(b, "swap-out", ours[0], theirs[0]);
	print(b, "swap-in", ours[1], theirs[1]);
}

int main(void)
{
	struct bench b = { .drive = getenv("BENCH_DRIVE") };

	if (!b.drive) {
		fprintf(stderr, "usage: BENCH_DRIVE=/dev/EMPTY bench_swap\n");
		return 2;
	}
	run(&b, 64 << 10);
	run(&b, 2 * MIB);
	return 0;
}
