// SPDX-License-Identifier: GPL-2.0-only
/*
 * Swap-out and swap-in through the real path (disk.c over io.c, checksums and headers included)
 * beside fio, on the same file, with the same page size, depth and amount, taking turns. As in the
 * engine pages are written from memory that is not registered, the host tier, and read into some
 * that is.
 *
 * usage: bench_disk [FILE]	a file to make and remove, default in $TMPDIR
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "disk.h"
#include "diskfmt.h"

#define TOTAL_BYTES	((uint64_t)4 << 30)
#define WINDOW_BYTES	((uint64_t)512 << 20)	/* pages under way, as in the engine */
#define DEPTH		64u
#define FLUSH_BYTES	((uint64_t)128 << 20)	/* what fio writes between its flushes */
#define NR_TURNS	9
#define SEC		1000000000ull

enum pass {
	PASS_SWAP_OUT,
	PASS_SWAP_IN,
	PASS_STORE,	/* over private pages */
	PASS_REPLACE,	/* over published ones, whose headers are withdrawn first */
	NR_PASSES
};

enum peer {
	FIO_READ,
	FIO_WRITE,
	FIO_END_FSYNC,		/* one flush, at the end */
	FIO_FLUSH,		/* one every FLUSH_BYTES, and at the end */
	NR_PEERS
};

struct bench {
	const char *path;
	struct pkvrt_disk *disk;
	struct pkvrt_arena *arena;	/* a window to write from, and one to read into */
	uint64_t page_bytes, nr_pages, window;
	struct pkvrt_disk_op *ops;
	/* the pass under way */
	enum pkvrt_disk_kind kind;
	uint64_t next, nr_failed;
	int last_error;
};

static void submit_next(struct bench *b, struct pkvrt_disk_op *op)
{
	op->kind = b->kind;
	op->slot = (uint32_t)b->next++;
	memcpy(op->key.b, &op->slot, sizeof(op->slot));
	op->deadline_ns = 0;
	pkvrt_disk_submit(b->disk, op);
}

static void done(struct pkvrt_disk_op *op)
{
	struct bench *b = op->user;

	b->nr_failed += op->res != 0;
	if (op->res)
		b->last_error = op->res;
}

static void released(struct pkvrt_disk_op *op)
{
	struct bench *b = op->user;

	if (b->next < b->nr_pages)
		submit_next(b, op);
}

static void *page_at(const struct bench *b, uint64_t i)
{
	return (char *)pkvrt_arena_base(b->arena) + i * b->page_bytes;
}

/* GB/s, or a negative errno. */
static double run_pass(struct bench *b, enum pkvrt_disk_kind kind)
{
	uint64_t start = pkvrt_now_ns(), i;
	int ret;

	b->kind = kind;
	b->next = 0;
	b->nr_failed = 0;
	for (i = 0; i < b->window; i++) {
		b->ops[i].buf = page_at(b, kind == PKVRT_DISK_LOAD ? b->window + i : i);
		submit_next(b, &b->ops[i]);
	}
	ret = pkvrt_disk_drain(b->disk, start + 300 * SEC);
	if (ret || b->nr_failed)
		return ret ? ret : b->last_error;
	return (double)(b->nr_pages * b->page_bytes) / (double)(pkvrt_now_ns() - start);
}

/*
 * GB/s of fio over the data area of the image; 0 when there is no fio. At its best: from huge
 * pages, as our arena is (small ones halve it: more segments a request), and without the work of
 * scrambling what it writes.
 */
static double run_fio(struct bench *b, enum peer peer)
{
	const char *dir = peer == FIO_READ ? "read" : "write";
	uint64_t data = 0, total;
	json_t *root, *job;
	double bytes = 0;
	char cmd[1024];
	FILE *f;

	pkvrt_fmt_layout(b->page_bytes, b->nr_pages, &data, &total);
	snprintf(cmd, sizeof(cmd),
		 "GLIBC_TUNABLES=glibc.malloc.hugetlb=1 fio --name=x --scramble_buffers=0 "
		 "--filename='%s' --rw=%s --ioengine=io_uring --direct=1 --fixedbufs "
		 "--registerfiles --iodepth=%u --bs=%" PRIu64 " --offset=%" PRIu64
		 " --size=%" PRIu64 " --fdatasync=%" PRIu64 " --end_fsync=%d "
		 "--allow_file_create=0 --overwrite=1 --output-format=json 2>/dev/null",
		 b->path, dir, DEPTH, b->page_bytes, data, b->nr_pages * b->page_bytes,
		 peer == FIO_FLUSH ? FLUSH_BYTES / b->page_bytes : 0, peer >= FIO_END_FSYNC);
	f = popen(cmd, "r");
	if (!f)
		return 0;
	root = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL);
	job = json_array_get(json_object_get(root, "jobs"), 0);
	if (job && !json_integer_value(json_object_get(job, "error")))
		bytes = json_number_value(json_object_get(json_object_get(job, dir), "bw_bytes"));
	json_decref(root);
	if (pclose(f))
		return 0;
	return bytes / 1e9;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *v)
{
	double sorted[NR_TURNS];

	memcpy(sorted, v, sizeof(sorted));
	qsort(sorted, NR_TURNS, sizeof(sorted[0]), by_size);
	return sorted[NR_TURNS / 2];
}

/*
 * The ratio is that of the middle turn, by its ratio: what slows the disk for some seconds slows
 * both sides of a turn.
 */
static void print(const struct bench *b, const char *what, const double *ours, const double *fio)
{
	double o = median(ours), f = median(fio), ratios[NR_TURNS];
	int i;

	for (i = 0; i < NR_TURNS; i++)
		ratios[i] = fio[i] > 0 ? ours[i] / fio[i] : 0;
	printf("%s %" PRIu64 " KiB: %.2f GB/s", what, b->page_bytes >> 10, o);
	if (f > 0)
		printf(" (fio: %.2f, %.2f)\n", f, median(ratios));
	else
		printf(" (fio: n/a, n/a)\n");
	fflush(stdout);
}

/* GB/s of each turn. */
struct figures {
	double ours[NR_PASSES][NR_TURNS], fio[NR_PEERS][NR_TURNS];
};

static int take_pass(struct bench *b, struct figures *g, int turn, enum pass pass)
{
	static const enum pkvrt_disk_kind kinds[NR_PASSES] = {
		PKVRT_DISK_SWAP_OUT, PKVRT_DISK_LOAD, PKVRT_DISK_STORE, PKVRT_DISK_STORE,
	};
	double speed = run_pass(b, kinds[pass]);

	g->ours[pass][turn] = speed;
	return speed < 0 ? (int)speed : 0;
}

static void take_peers(struct bench *b, struct figures *g, int turn, enum peer first,
		       enum peer last)
{
	enum peer peer;

	for (peer = first; peer <= last; peer++)
		g->fio[peer][turn] = run_fio(b, peer);
}

/* The turn says who is first, since disks remember what was before. All slots are private. */
static int take_turn(struct bench *b, struct figures *g, int turn)
{
	int fio_first = turn % 2, ret;

	if (fio_first)
		take_peers(b, g, turn, FIO_END_FSYNC, FIO_FLUSH);
	ret = take_pass(b, g, turn, PASS_STORE);
	if (!ret)
		ret = take_pass(b, g, turn, PASS_REPLACE);
	if (!ret && !fio_first)
		take_peers(b, g, turn, FIO_END_FSYNC, FIO_FLUSH);
	/* Withdraws the headers, and is not counted. */
	if (!ret)
		ret = take_pass(b, g, turn, PASS_SWAP_OUT);
	if (!ret && fio_first)
		take_peers(b, g, turn, FIO_WRITE, FIO_WRITE);
	if (!ret)
		ret = take_pass(b, g, turn, PASS_SWAP_OUT);
	/* What is loaded has to be what we wrote. */
	if (!ret && fio_first)
		take_peers(b, g, turn, FIO_READ, FIO_READ);
	if (!ret)
		ret = take_pass(b, g, turn, PASS_SWAP_IN);
	if (!ret && !fio_first) {
		take_peers(b, g, turn, FIO_READ, FIO_READ);
		take_peers(b, g, turn, FIO_WRITE, FIO_WRITE);
	}
	return ret;
}

static int measure(struct bench *b)
{
	struct figures g;
	double speed;
	int turn, ret;

	/* The first writes find unwritten blocks; that is the filesystem's speed, not ours. */
	speed = run_pass(b, PKVRT_DISK_SWAP_OUT);
	if (speed < 0)
		return (int)speed;
	for (turn = 0; turn < NR_TURNS; turn++) {
		ret = take_turn(b, &g, turn);
		if (ret)
			return ret;
	}
	print(b, "swap-out", g.ours[PASS_SWAP_OUT], g.fio[FIO_WRITE]);
	print(b, "swap-in", g.ours[PASS_SWAP_IN], g.fio[FIO_READ]);
	print(b, "swap-out, published", g.ours[PASS_STORE], g.fio[FIO_END_FSYNC]);
	print(b, "swap-out, published, fio flushing", g.ours[PASS_STORE], g.fio[FIO_FLUSH]);
	print(b, "swap-out, replacing published", g.ours[PASS_REPLACE], g.fio[FIO_END_FSYNC]);
	print(b, "swap-out, replacing published, fio flushing", g.ours[PASS_REPLACE],
	      g.fio[FIO_FLUSH]);
	return 0;
}

static int run(struct bench *b, uint64_t page_bytes)
{
	struct pkvrt_arena_params ap = {
		.size = sizeof(ap), .node = PKVRT_NODE_ANY, .flags = PKVRT_ARENA_PREFAULT,
	};
	struct pkvrt_disk_params dp = {
		.size = sizeof(dp), .path = b->path, .flags = PKVRT_DISK_CREATE,
		.page_bytes = page_bytes, .nr_slots = TOTAL_BYTES / page_bytes,
		.queue_depth = DEPTH, .timeout_ns = 120 * SEC,
	};
	char why[PKVRT_DISK_WHY_MAX];
	uint64_t i;
	int ret;

	b->page_bytes = page_bytes;
	b->nr_pages = dp.nr_slots;
	b->window = WINDOW_BYTES / page_bytes;
	ap.bytes = 2 * b->window * page_bytes;
	ret = pkvrt_arena_create(&b->arena, &ap);
	if (ret)
		return ret;
	for (i = 0; i < ap.bytes / sizeof(uint64_t); i++)
		((uint64_t *)pkvrt_arena_base(b->arena))[i] = i * 0x9e3779b97f4a7c15ull;
	ret = pkvrt_disk_open(&b->disk, &dp, why, sizeof(why));
	if (ret) {
		fprintf(stderr, "bench_disk: %s\n", why);
		goto unmap;
	}
	pkvrt_disk_register(b->disk, &(struct iovec){ page_at(b, b->window), ap.bytes / 2 }, 1);
	b->ops = calloc(b->window, sizeof(b->ops[0]));
	ret = b->ops ? 0 : -ENOMEM;
	for (i = 0; !ret && i < b->window; i++)
		b->ops[i] = (struct pkvrt_disk_op){
			.done = done, .released = released, .user = b,
		};
	if (!ret)
		ret = measure(b);
	pkvrt_disk_close(b->disk, 10 * SEC);
	free(b->ops);
unmap:
	pkvrt_arena_destroy(b->arena);
	if (ret != -EMEDIUMTYPE && ret != -EBUSY)
		unlink(b->path);
	return ret;
}

int main(int argc, char **argv)
{
	static const uint64_t page_bytes[] = { 64 << 10, 2 << 20 };
	const char *tmp = getenv("TMPDIR");
	struct bench b = { 0 };
	char path[256];
	unsigned int i;
	int ret;

	if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
		fprintf(stderr, "usage: bench_disk [FILE]\n");
		return 2;
	}
	snprintf(path, sizeof(path), "%s/pagedkv-bench-disk.%d", tmp ? tmp : "/var/tmp", getpid());
	b.path = argc > 1 ? argv[1] : path;
	for (i = 0; i < 2; i++) {
		ret = run(&b, page_bytes[i]);
		if (ret) {
			fprintf(stderr, "bench_disk: %s\n", strerror(-ret));
			return 1;
		}
	}
	return 0;
}
