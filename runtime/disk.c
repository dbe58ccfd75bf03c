// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * An operation is in one place at a time:
 *
 *	refused		ends with the next poll
 *	WITHDRAW	on its header block: the old header has to go first
 *	WITHDRAW_SYNC	on wait_sync, then in_sync: and durably so
 *	DATA		its request is in the ring
 *	DATA_SYNC	on wait_sync, then in_sync: data durable before its header; meanwhile
 *			its checksum is made
 *	HEADER		on its header block
 *
 * SWAP_OUT and LOAD know DATA alone, unless the slot still has an old header. One flush is out at
 * a time and serves all that came to wait_sync before it, withdrawals and stores alike.
 *
 * Invariants:
 * - slot.vouched: the disk may hold a valid header for the slot. Data is written to a slot only
 *   while it is false, and it becomes false only by a withdrawal that a flush has covered.
 * - a header becomes valid in img.headers only after a flush that was queued after its data was
 *   written. So any block may be written at any time.
 * - at most one write of a header block is in the kernel, so that none overtakes another.
 */
#include "disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>

#include "diskimg.h"

#define NSEC			1000000000ull
#define DEFAULT_TIMEOUT_NS	(10 * NSEC)
#define DEFAULT_FLUSH_BYTES	((uint64_t)32 << 20)
#define DEFAULT_MAX_ERRORS	16
#define FORGIVE_EVERY		1024	/* operations that end well take one error back */
#define SUM_BYTES		((uint64_t)4 << 20)	/* summed between two looks at the disk */
#define NR_HEADER_WRITES	32
#define NEVER			UINT64_MAX

enum phase {
	PHASE_REFUSED,
	PHASE_WITHDRAW,
	PHASE_WITHDRAW_SYNC,
	PHASE_DATA,
	PHASE_DATA_SYNC,
	PHASE_HEADER,
};

enum content {
	SLOT_EMPTY,
	SLOT_HELD,	/* slot.crc is the checksum of what is there */
};

struct slot {
	uint32_t crc;
	uint8_t content;
	uint8_t vouched;
	uint8_t busy;		/* has an operation, or a late one still in the kernel */
};

/* 64 neighbouring headers. */
struct block {
	struct pkvrt_disk_oplist waiting;	/* for a write that starts from now on */
	struct pkvrt_disk_oplist writing;	/* for the one in the kernel */
	TAILQ_ENTRY(block) link;
	int queued;
	int busy;
};

TAILQ_HEAD(block_list, block);

struct header_write {
	struct pkvrt_io_req req;
	struct pkvrt_disk *disk;
	struct block *block;
	uint8_t *copy;		/* the block as it was when the write started */
	struct header_write *next;
};

struct pkvrt_disk {
	struct pkvrt_diskimg img;
	struct pkvrt_io *io;
	uint64_t timeout_ns;
	uint64_t flush_bytes;
	uint32_t max_errors;

	struct slot *slots;
	struct block *blocks;
	struct block_list dirty;
	struct header_write writes[NR_HEADER_WRITES];
	struct header_write *free_writes;
	uint8_t *copies;

	struct pkvrt_disk_oplist refused, wait_sync, in_sync;
	uint64_t nr_wait_sync;
	uint64_t nr_coming;	/* operations that will yet join wait_sync */
	struct pkvrt_io_req sync_req;
	int sync_busy;

	uint64_t next_deadline_ns;	/* no operation on a list ends before */
	unsigned int nr_pending;
	unsigned int nr_events;
	int to_sum;		/* checksums are yet to be made */
	int closing;
	uint32_t write_score, score;	/* errors, less those forgiven */
	uint32_t nr_good;
	struct pkvrt_disk_stats stats;
};

static struct pkvrt_disk *disk_of_sync(struct pkvrt_io_req *req)
{
	return (struct pkvrt_disk *)((char *)req - offsetof(struct pkvrt_disk, sync_req));
}

static struct pkvrt_disk_op *op_of(struct pkvrt_io_req *req)
{
	return (struct pkvrt_disk_op *)((char *)req - offsetof(struct pkvrt_disk_op, req));
}

static struct header_write *write_of(struct pkvrt_io_req *req)
{
	return (struct header_write *)((char *)req - offsetof(struct header_write, req));
}

static struct block *block_of(struct pkvrt_disk *d, uint32_t slot)
{
	return &d->blocks[slot / PKVRT_FMT_PER_BLOCK];
}

static uint8_t *header_of(struct pkvrt_disk *d, uint32_t slot)
{
	return d->img.headers + (size_t)slot * PKVRT_FMT_HEADER;
}

static void put(struct pkvrt_disk_op *op, struct pkvrt_disk_oplist *list)
{
	TAILQ_INSERT_TAIL(list, op, link);
	op->list = list;
	if (op->deadline_ns < op->disk->next_deadline_ns)
		op->disk->next_deadline_ns = op->deadline_ns;
}

static void take(struct pkvrt_disk_op *op)
{
	if (!op->list)
		return;
	if (op->list == &op->disk->wait_sync)
		op->disk->nr_wait_sync--;
	TAILQ_REMOVE(op->list, op, link);
	op->list = NULL;
}

/* -- health ----------------------------------------------------------------------------------- */

static void lose_trust(struct pkvrt_disk *d, int in_writes)
{
	struct pkvrt_disk_stats *s = &d->stats;

	d->score++;
	d->write_score += in_writes != 0;
	if (s->state == PKVRT_DISK_OK && d->write_score >= d->max_errors)
		s->state = PKVRT_DISK_READONLY;
	if (d->score >= 2 * (uint64_t)d->max_errors)
		s->state = PKVRT_DISK_OFFLINE;
}

static void note_error(struct pkvrt_disk *d, const struct pkvrt_disk_op *op, int res)
{
	struct pkvrt_disk_stats *s = &d->stats;

	s->nr_errors++;
	if (res == -ETIMEDOUT)
		s->nr_late++;
	if (res == -EILSEQ)
		s->nr_bad_crc++;
	if (op->kind == PKVRT_DISK_LOAD)
		s->nr_read_errors++;
	else
		s->nr_write_errors++;
	lose_trust(d, op->kind != PKVRT_DISK_LOAD);
}

static void note_success(struct pkvrt_disk *d, const struct pkvrt_disk_op *op)
{
	struct pkvrt_disk_stats *s = &d->stats;

	if (op->kind == PKVRT_DISK_LOAD) {
		s->nr_loaded++;
		s->loaded_bytes += d->img.super.page_bytes;
	} else {
		s->nr_stored++;
		s->stored_bytes += d->img.super.page_bytes;
		s->nr_published += op->kind == PKVRT_DISK_STORE;
	}
	if (++d->nr_good % FORGIVE_EVERY)
		return;
	d->score -= d->score > 0;
	d->write_score -= d->write_score > 0;
}

/* -- end of an operation ---------------------------------------------------------------------- */

static void release_op(struct pkvrt_disk *d, struct pkvrt_disk_op *op)
{
	/* A refused operation never had the slot. */
	if (op->phase != PHASE_REFUSED)
		d->slots[op->slot].busy = 0;
	d->nr_events++;
	if (op->released)
		op->released(op);
}

/* Called once for each operation. Its request may still be in the kernel. */
static void end_op(struct pkvrt_disk *d, struct pkvrt_disk_op *op, int res)
{
	int in_kernel = op->in_kernel;

	take(op);
	if (res && op->phase != PHASE_REFUSED && res != -ECANCELED)
		note_error(d, op, res);
	else if (!res)
		note_success(d, op);
	op->res = res;
	op->is_done = 1;
	d->nr_pending--;
	d->nr_events++;
	op->done(op);
	if (!in_kernel)
		release_op(d, op);
}

static void refuse(struct pkvrt_disk *d, struct pkvrt_disk_op *op, int res)
{
	op->phase = PHASE_REFUSED;
	op->res = res;
	put(op, &d->refused);
}

static void end_refused(struct pkvrt_disk *d)
{
	struct pkvrt_disk_oplist now = TAILQ_HEAD_INITIALIZER(now);
	struct pkvrt_disk_op *op;

	/* Those that the callbacks add wait for the next poll. */
	TAILQ_CONCAT(&now, &d->refused, link);
	TAILQ_FOREACH(op, &now, link)
		op->list = &now;
	while ((op = TAILQ_FIRST(&now)))
		end_op(d, op, op->res);
}

/* -- checksums -------------------------------------------------------------------------------- */

static void sum(struct pkvrt_disk *d, struct pkvrt_disk_op *op)
{
	if (!op->summed)
		d->slots[op->slot].crc = pkvrt_crc32c(op->buf, d->img.super.page_bytes);
	op->summed = 1;
}

/* -- header blocks ---------------------------------------------------------------------------- */

static void set_header(struct pkvrt_disk *d, struct pkvrt_disk_op *op, int valid)
{
	uint8_t *raw = header_of(d, op->slot);
	struct pkvrt_fmt_header h;

	/* A damaged header counts from 0 again. */
	pkvrt_fmt_get_header(raw, &d->img.super, op->slot, &h);
	h.valid = valid;
	h.slot = op->slot;
	h.generation += (uint64_t)valid;
	if (valid) {
		sum(d, op);
		memcpy(h.key, op->key.b, sizeof(h.key));
		h.data_bytes = (uint32_t)d->img.super.page_bytes;
		h.data_crc = d->slots[op->slot].crc;
		d->slots[op->slot].vouched = 1;
	}
	pkvrt_fmt_put_header(raw, &d->img.super, &h);
}

static void queue_header(struct pkvrt_disk *d, struct pkvrt_disk_op *op, enum phase phase)
{
	struct block *b = block_of(d, op->slot);

	op->phase = phase;
	set_header(d, op, phase == PHASE_HEADER);
	put(op, &b->waiting);
	if (!b->queued) {
		b->queued = 1;
		TAILQ_INSERT_TAIL(&d->dirty, b, link);
	}
}

static void join_sync(struct pkvrt_disk *d, struct pkvrt_disk_op *op, enum phase phase)
{
	op->phase = phase;
	put(op, &d->wait_sync);
	d->nr_wait_sync++;
}

static void header_done(struct pkvrt_io_req *req, int res)
{
	struct header_write *w = write_of(req);
	struct pkvrt_disk *d = w->disk;
	struct block *b = w->block;
	struct pkvrt_disk_op *op;

	b->busy = 0;
	w->next = d->free_writes;
	d->free_writes = w;
	while ((op = TAILQ_FIRST(&b->writing))) {
		take(op);
		if (op->phase == PHASE_WITHDRAW)
			d->nr_coming--;
		if (!res && op->phase == PHASE_WITHDRAW) {
			join_sync(d, op, PHASE_WITHDRAW_SYNC);
			continue;
		}
		if (!res)
			d->slots[op->slot].content = SLOT_HELD;
		end_op(d, op, res);
	}
}

static void write_block(struct pkvrt_disk *d, struct block *b)
{
	struct header_write *w = d->free_writes;
	uint64_t off = (uint64_t)(b - d->blocks) * PKVRT_FMT_BLOCK;
	struct pkvrt_disk_op *op;

	d->free_writes = w->next;
	w->block = b;
	b->busy = 1;
	TAILQ_FOREACH(op, &b->waiting, link)
		op->list = &b->writing;
	TAILQ_CONCAT(&b->writing, &b->waiting, link);
	memcpy(w->copy, d->img.headers + off, PKVRT_FMT_BLOCK);
	/*
	 * No deadline: operations have theirs, and a late header still must not be overtaken.
	 */
	w->req = (struct pkvrt_io_req){
		.kind = PKVRT_IO_WRITE,
		.offset_bytes = PKVRT_FMT_BLOCK + off,
		.buf = w->copy,
		.len_bytes = PKVRT_FMT_BLOCK,
		.urgent = 1,	/* much waits for it, and it is small */
		.done = header_done,
	};
	d->stats.nr_header_writes++;
	pkvrt_io_queue(d->io, &w->req);
}

static void write_blocks(struct pkvrt_disk *d)
{
	struct block *b, *next;

	for (b = TAILQ_FIRST(&d->dirty); b && d->free_writes; b = next) {
		next = TAILQ_NEXT(b, link);
		if (b->busy)
			continue;
		TAILQ_REMOVE(&d->dirty, b, link);
		b->queued = 0;
		write_block(d, b);
	}
}

/* -- flushes ---------------------------------------------------------------------------------- */

static void start_data(struct pkvrt_disk *d, struct pkvrt_disk_op *op);

static void sync_done(struct pkvrt_io_req *req, int res)
{
	struct pkvrt_disk *d = disk_of_sync(req);
	struct pkvrt_disk_op *op;

	d->sync_busy = 0;
	while ((op = TAILQ_FIRST(&d->in_sync))) {
		take(op);
		if (res) {
			end_op(d, op, res);
		} else if (op->phase == PHASE_WITHDRAW_SYNC) {
			d->slots[op->slot].vouched = 0;
			start_data(d, op);
		} else {
			queue_header(d, op, PHASE_HEADER);
		}
	}
}

/*
 * A flush serves many: it starts when enough wait for it, or as many as a quarter of what is yet
 * to come, so that the others keep the disk busy meanwhile.
 */
static void start_sync(struct pkvrt_disk *d)
{
	uint64_t enough = d->flush_bytes / d->img.super.page_bytes;
	struct pkvrt_disk_op *op;

	if (d->sync_busy || !d->nr_wait_sync)
		return;
	if (d->nr_wait_sync < d->nr_coming / 4 && d->nr_wait_sync < enough)
		return;
	TAILQ_FOREACH(op, &d->wait_sync, link)
		op->list = &d->in_sync;
	TAILQ_CONCAT(&d->in_sync, &d->wait_sync, link);
	d->nr_wait_sync = 0;
	d->sync_busy = 1;
	d->sync_req = (struct pkvrt_io_req){ .kind = PKVRT_IO_SYNC, .done = sync_done };
	d->stats.nr_flushes++;
	pkvrt_io_queue(d->io, &d->sync_req);
}

/* What callbacks have made ready goes out together: fewer flushes and headers, each for more. */
static void advance(struct pkvrt_disk *d)
{
	write_blocks(d);
	start_sync(d);
}

/* -- data ------------------------------------------------------------------------------------- */

static void data_done(struct pkvrt_io_req *req, int res)
{
	struct pkvrt_disk_op *op = op_of(req);
	struct pkvrt_disk *d = op->disk;
	struct slot *slot = &d->slots[op->slot];

	if (op->kind == PKVRT_DISK_STORE)
		d->nr_coming--;
	if (res) {
		end_op(d, op, res);
	} else if (op->kind == PKVRT_DISK_LOAD) {
		res = pkvrt_crc32c(op->buf, d->img.super.page_bytes) == slot->crc ? 0 : -EILSEQ;
		end_op(d, op, res);
	} else if (op->kind == PKVRT_DISK_STORE) {
		join_sync(d, op, PHASE_DATA_SYNC);
	} else {
		sum(d, op);
		slot->content = SLOT_HELD;
		end_op(d, op, 0);
	}
}

static void data_released(struct pkvrt_io_req *req)
{
	struct pkvrt_disk_op *op = op_of(req);
	struct pkvrt_disk *d = op->disk;

	op->in_kernel = 0;
	if (op->is_done)
		release_op(d, op);
}

static void start_data(struct pkvrt_disk *d, struct pkvrt_disk_op *op)
{
	op->phase = PHASE_DATA;
	op->in_kernel = 1;
	if (op->kind == PKVRT_DISK_STORE)
		d->nr_coming++;
	op->req = (struct pkvrt_io_req){
		.kind = op->kind == PKVRT_DISK_LOAD ? PKVRT_IO_READ : PKVRT_IO_WRITE,
		.offset_bytes = d->img.data_offset_bytes +
				(uint64_t)op->slot * d->img.super.page_bytes,
		.buf = op->buf,
		.len_bytes = (uint32_t)d->img.super.page_bytes,
		.deadline_ns = op->deadline_ns,
		.done = data_done,
		.released = data_released,
	};
	pkvrt_io_queue(d->io, &op->req);
}

static int check_op(const struct pkvrt_disk *d, const struct pkvrt_disk_op *op)
{
	if (d->closing)
		return -ECANCELED;
	if (op->kind > PKVRT_DISK_LOAD || op->slot >= d->img.super.nr_slots || !op->buf ||
	    (uintptr_t)op->buf % PKVRT_DISK_ALIGN)
		return -EINVAL;
	if (d->stats.state == PKVRT_DISK_OFFLINE)
		return -ENXIO;
	if (d->stats.state == PKVRT_DISK_READONLY && op->kind != PKVRT_DISK_LOAD)
		return -EROFS;
	if (d->slots[op->slot].busy)
		return -EBUSY;
	if (op->kind == PKVRT_DISK_LOAD && d->slots[op->slot].content == SLOT_EMPTY)
		return -ENODATA;
	return 0;
}

void pkvrt_disk_submit(struct pkvrt_disk *d, struct pkvrt_disk_op *op)
{
	struct slot *slot;
	int ret;

	op->disk = d;
	op->list = NULL;
	op->summed = 0;
	op->is_done = 0;
	op->in_kernel = 0;
	if (!op->deadline_ns)
		op->deadline_ns = pkvrt_now_ns() + d->timeout_ns;
	d->nr_pending++;
	ret = check_op(d, op);
	if (ret) {
		refuse(d, op, ret);
		return;
	}
	slot = &d->slots[op->slot];
	slot->busy = 1;
	if (op->kind != PKVRT_DISK_LOAD) {
		slot->content = SLOT_EMPTY;
		if (slot->vouched) {
			d->nr_coming++;
			queue_header(d, op, PHASE_WITHDRAW);
			return;
		}
	}
	start_data(d, op);
}

/* -- the loop --------------------------------------------------------------------------------- */

/* Operations on lists of ours; those in the ring have their deadline there. */
static void expire_list(struct pkvrt_disk *d, struct pkvrt_disk_oplist *list, uint64_t now,
			int res)
{
	struct pkvrt_disk_op *op, *next;

	for (op = TAILQ_FIRST(list); op; op = next) {
		next = TAILQ_NEXT(op, link);
		if (op->deadline_ns > now) {
			if (op->deadline_ns < d->next_deadline_ns)
				d->next_deadline_ns = op->deadline_ns;
			continue;
		}
		if (op->phase == PHASE_WITHDRAW)
			d->nr_coming--;
		end_op(d, op, res);
	}
}

static void expire_all(struct pkvrt_disk *d, uint64_t now, int res)
{
	uint64_t i;

	d->next_deadline_ns = NEVER;
	expire_list(d, &d->wait_sync, now, res);
	expire_list(d, &d->in_sync, now, res);
	for (i = 0; i < d->img.nr_blocks; i++) {
		expire_list(d, &d->blocks[i].waiting, now, res);
		expire_list(d, &d->blocks[i].writing, now, res);
	}
}

static void expire(struct pkvrt_disk *d)
{
	uint64_t now;

	if (d->next_deadline_ns == NEVER)
		return;
	now = pkvrt_now_ns();
	if (now >= d->next_deadline_ns)
		expire_all(d, now, -ETIMEDOUT);
}

/* A ring that fails is a disk that is gone. */
static int ring_result(struct pkvrt_disk *d, int ret)
{
	if (ret < 0)
		d->stats.state = PKVRT_DISK_OFFLINE;
	return ret < 0 ? ret : 0;
}

/* Up to SUM_BYTES of written pages. True when there are more. */
static int sum_some(struct pkvrt_disk *d, struct pkvrt_disk_oplist *list, uint64_t *bytes)
{
	struct pkvrt_disk_op *op;

	TAILQ_FOREACH(op, list, link) {
		if (op->phase != PHASE_DATA_SYNC || op->summed)
			continue;
		if (*bytes >= SUM_BYTES)
			return 1;
		sum(d, op);
		*bytes += d->img.super.page_bytes;
	}
	return 0;
}

/*
 * What can go out now goes before checksums are made, and before the caller has its turn. Not all
 * of them at once: what comes back meanwhile must not wait.
 */
static void send_off(struct pkvrt_disk *d)
{
	uint64_t bytes = 0;

	expire(d);
	advance(d);
	pkvrt_io_push(d->io);
	d->to_sum = sum_some(d, &d->in_sync, &bytes) || sum_some(d, &d->wait_sync, &bytes);
}

int pkvrt_disk_poll(struct pkvrt_disk *d)
{
	int ret;

	d->nr_events = 0;
	end_refused(d);
	advance(d);
	ret = ring_result(d, pkvrt_io_poll(d->io));
	send_off(d);
	return ret ? ret : (int)d->nr_events;
}

int pkvrt_disk_wait(struct pkvrt_disk *d, uint64_t until_ns)
{
	uint64_t until, now;
	int ret, nr;

	d->nr_events = 0;
	end_refused(d);
	for (;;) {
		advance(d);
		until = d->next_deadline_ns < until_ns ? d->next_deadline_ns : until_ns;
		nr = pkvrt_io_wait(d->io, d->nr_events || d->to_sum ? 0 : until);
		ret = ring_result(d, nr);
		/* Nothing from the ring, and not the time: the watched fd. */
		nr |= d->to_sum || pkvrt_now_ns() >= until;
		send_off(d);
		now = pkvrt_now_ns();
		if (ret || d->nr_events || now >= until_ns || !nr)
			return ret ? ret : (int)d->nr_events;
	}
}

int pkvrt_disk_drain(struct pkvrt_disk *d, uint64_t until_ns)
{
	int ret;

	while (d->nr_pending) {
		if (pkvrt_now_ns() >= until_ns)
			return -ETIMEDOUT;
		ret = pkvrt_disk_wait(d, until_ns);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int pkvrt_disk_register(struct pkvrt_disk *d, const struct iovec *regions, unsigned int nr)
{
	return pkvrt_io_register(d->io, regions, nr);
}

int pkvrt_disk_watch(struct pkvrt_disk *d, int fd)
{
	return pkvrt_io_watch(d->io, fd);
}

/* -- life ------------------------------------------------------------------------------------- */

int pkvrt_disk_scan(struct pkvrt_disk *d,
		    int (*found)(void *ctx, uint32_t slot, const struct pkvrt_key *key),
		    void *ctx)
{
	struct pkvrt_fmt_header h;
	struct pkvrt_key key;
	uint64_t slot;
	int ret;

	for (slot = 0; slot < d->img.super.nr_slots; slot++) {
		if (!d->slots[slot].vouched || d->slots[slot].content != SLOT_HELD)
			continue;
		if (pkvrt_fmt_get_header(header_of(d, (uint32_t)slot), &d->img.super,
					 (uint32_t)slot, &h) || !h.valid)
			continue;
		memcpy(key.b, h.key, sizeof(key.b));
		ret = found(ctx, (uint32_t)slot, &key);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* What the headers say, into the slots. */
static void take_headers(struct pkvrt_disk *d)
{
	struct pkvrt_fmt_header h;
	uint64_t slot;

	for (slot = 0; slot < d->img.super.nr_slots; slot++) {
		if (pkvrt_fmt_get_header(header_of(d, (uint32_t)slot), &d->img.super,
					 (uint32_t)slot, &h)) {
			d->stats.nr_headers_damaged++;
			continue;
		}
		if (!h.valid)
			continue;
		d->stats.nr_headers_valid++;
		d->slots[slot] = (struct slot){
			.crc = h.data_crc, .content = SLOT_HELD, .vouched = 1,
		};
	}
}

static int alloc_tables(struct pkvrt_disk *d)
{
	uint64_t i;

	d->slots = calloc(d->img.super.nr_slots, sizeof(d->slots[0]));
	d->blocks = calloc(d->img.nr_blocks, sizeof(d->blocks[0]));
	d->copies = aligned_alloc(PKVRT_FMT_BLOCK, NR_HEADER_WRITES * PKVRT_FMT_BLOCK);
	if (!d->slots || !d->blocks || !d->copies)
		return -ENOMEM;
	for (i = 0; i < d->img.nr_blocks; i++) {
		TAILQ_INIT(&d->blocks[i].waiting);
		TAILQ_INIT(&d->blocks[i].writing);
	}
	for (i = 0; i < NR_HEADER_WRITES; i++) {
		d->writes[i].disk = d;
		d->writes[i].copy = d->copies + i * PKVRT_FMT_BLOCK;
		d->writes[i].next = d->free_writes;
		d->free_writes = &d->writes[i];
	}
	return 0;
}

static int start_ring(struct pkvrt_disk *d, const struct pkvrt_disk_params *p)
{
	struct pkvrt_io_params ip = {
		.size = sizeof(ip),
		.fd = d->img.fd,
		.queue_depth = p->queue_depth,
		.merge_bytes = p->merge_bytes,
		.align_bytes = d->img.direct ? PKVRT_DISK_ALIGN : 1,
		.hooks = p->hooks,
	};

	return pkvrt_io_create(&d->io, &ip);
}

static void free_disk(struct pkvrt_disk *d)
{
	pkvrt_diskimg_close(&d->img);
	free(d->slots);
	free(d->blocks);
	free(d->copies);
	free(d);
}

int pkvrt_disk_open(struct pkvrt_disk **out, const struct pkvrt_disk_params *p,
		    char *why, size_t why_len)
{
	struct pkvrt_disk *d;
	const char *what;
	int ret;

	*out = NULL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	ret = pkvrt_diskimg_open(&d->img, p, why, why_len);
	if (ret)
		goto free;
	d->timeout_ns = p->timeout_ns ? p->timeout_ns : DEFAULT_TIMEOUT_NS;
	d->flush_bytes = p->flush_bytes ? p->flush_bytes : DEFAULT_FLUSH_BYTES;
	d->max_errors = p->max_errors ? p->max_errors : DEFAULT_MAX_ERRORS;
	d->next_deadline_ns = NEVER;
	TAILQ_INIT(&d->dirty);
	TAILQ_INIT(&d->refused);
	TAILQ_INIT(&d->wait_sync);
	TAILQ_INIT(&d->in_sync);
	what = "no memory for its slots";
	ret = alloc_tables(d);
	if (ret)
		goto say;
	take_headers(d);
	what = "cannot set up I/O";
	ret = start_ring(d, p);
	if (ret)
		goto say;
	*out = d;
	return 0;
say:
	if (why && why_len)
		snprintf(why, why_len, "%s: %s", p->path, what);
free:
	free_disk(d);
	return ret;
}

void pkvrt_disk_close(struct pkvrt_disk *d, uint64_t grace_ns)
{
	if (!d)
		return;
	d->closing = 1;
	expire_all(d, NEVER, -ECANCELED);
	if (!pkvrt_io_destroy(d->io, grace_ns))
		pkvrt_diskimg_unlock(&d->img);
	while (!TAILQ_EMPTY(&d->refused))
		end_refused(d);
	free_disk(d);
}

int pkvrt_disk_slot_busy(const struct pkvrt_disk *d, uint32_t slot)
{
	return slot < d->img.super.nr_slots && d->slots[slot].busy;
}

void pkvrt_disk_blame(struct pkvrt_disk *d)
{
	d->stats.nr_late++;
	lose_trust(d, 1);
}

unsigned int pkvrt_disk_pending(const struct pkvrt_disk *d)
{
	return d->nr_pending;
}

void pkvrt_disk_info(const struct pkvrt_disk *d, struct pkvrt_disk_info *info)
{
	const struct pkvrt_fmt_super *s = &d->img.super;

	*info = (struct pkvrt_disk_info){
		.page_bytes = s->page_bytes,
		.nr_slots = s->nr_slots,
		.model_fp = s->model_fp,
		.image_id = s->image_id,
		.created = d->img.created,
		.direct = d->img.direct,
		.caps = pkvrt_io_caps(d->io),
	};
	memcpy(info->salt, s->salt, sizeof(info->salt));
	memcpy(info->pool_name, s->pool_name, sizeof(info->pool_name));
}

void pkvrt_disk_stats(const struct pkvrt_disk *d, struct pkvrt_disk_stats *s)
{
	*s = d->stats;
	pkvrt_io_stats(d->io, &s->io);
}

const char *pkvrt_disk_state_name(enum pkvrt_disk_state s)
{
	static const char *const names[] = { "ok", "read-only", "offline" };

	return s <= PKVRT_DISK_OFFLINE ? names[s] : "unknown";
}

struct pkvrt_io *pkvrt_disk_io(struct pkvrt_disk *d)
{
	return d->io;
}
