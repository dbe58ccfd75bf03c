// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Copies of one kind go through one queue, in chunks: what one call of the driver takes, or one
 * buffer. Only a few chunks are the driver's at a time, because one that has too many makes the
 * caller wait; begin() queues, and poll() hands on.
 *
 * A small page on its way out: a kernel gathers into the chunk's buffer | event | copy engine. On
 * its way in: copy engine | event | a kernel scatters. The kernels of one chunk run beside the
 * copies of another. They are small and go before compute's, or a link would stand still behind a
 * large grid.
 */
#include "copier.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "error.h"
#include "pages.h"

#define DIRECT_BYTES	((uint64_t)32 << 10)	/* pages from here on need no buffer */
#define CHUNK_BYTES	((uint64_t)32 << 20)
#define CHUNK_COPIES	64u			/* larger calls hold up other launches */
#define BUFFER_BYTES	((uint64_t)8 << 20)
#define NR_CHUNKS	8u			/* of a queue; their buffers last for a link while
						   a grid of compute lets no kernel in */
#define NR_KINDS	3

enum lane {
	LANE_OUT,
	LANE_IN,
	LANE_GATHER,
	LANE_SCATTER,
	LANE_DEVICE,
	NR_LANES,
};

struct ticket;

/* The copies of a ticket that are of one kind. */
struct part {
	TAILQ_ENTRY(part) link;
	struct ticket *ticket;
	const struct pkvrt_copy *copies;
	unsigned int nr, next;		/* next: the first that the driver doesn't have */
};

struct ticket {
	struct part parts[NR_KINDS];
	struct pkvrt_copy *copies;
	unsigned int room;
	unsigned int nr_open;		/* parts and chunks that have not ended */
	int err;
	uint64_t next_free;
};

#define NO_TICKET	UINT64_MAX

/* What the driver has. Its buffer is its own until it has ended. */
struct chunk {
	struct ticket *ticket;
	cudaEvent_t full, done;
	char *buffer;
};

struct queue {
	TAILQ_HEAD(, part) parts;
	struct chunk chunks[NR_CHUNKS];
	unsigned int first, nr;		/* those in use */
};

/* Copies that one call of the driver takes. */
struct batch {
	void *dst[CHUNK_COPIES];
	const void *src[CHUNK_COPIES];
	size_t bytes[CHUNK_COPIES];
	size_t nr;
};

struct pkvrt_gpu_copier {
	struct pkvrt_gpu_copier_params p;
	cudaStream_t lanes[NR_LANES];
	struct queue queues[NR_KINDS];	/* by enum pkvrt_copy_kind */
	char *memory;			/* of all buffers */
	unsigned int chunk_pages;
	int is_direct;			/* pages pass no buffer */
	struct ticket **tickets;
	uint64_t nr_tickets, free_ticket;
	struct batch batch;
	struct pkvrt_pages pages;

	pthread_mutex_t lock;		/* of what follows */
	cudaEvent_t compute;
	uint64_t compute_seq;		/* recordings of it */
	uint64_t seen[NR_LANES];	/* the one that a lane has waited for */
};

static char *slot_at(const struct pkvrt_gpu_copier *c, uint32_t slot)
{
	return (char *)c->p.base + (uint64_t)slot * c->p.page_bytes;
}

/* -- tickets ---------------------------------------------------------------------------------- */

static void free_ticket(struct pkvrt_gpu_copier *c, uint64_t i)
{
	c->tickets[i]->next_free = c->free_ticket;
	c->free_ticket = i;
}

static int new_ticket(struct pkvrt_gpu_copier *c)
{
	struct ticket **all = realloc(c->tickets, (c->nr_tickets + 1) * sizeof(*all));

	if (!all)
		return -ENOMEM;
	c->tickets = all;
	all[c->nr_tickets] = calloc(1, sizeof(**all));
	if (!all[c->nr_tickets])
		return -ENOMEM;
	free_ticket(c, c->nr_tickets++);
	return 0;
}

/* -- copies ----------------------------------------------------------------------------------- */

/* A lane that touches slots waits for compute first. */
static cudaError_t wait_for_compute(struct pkvrt_gpu_copier *c, enum lane lane)
{
	cudaError_t err = cudaSuccess;

	pthread_mutex_lock(&c->lock);
	if (c->seen[lane] != c->compute_seq)
		err = cudaStreamWaitEvent(c->lanes[lane], c->compute, 0);
	if (!err)
		c->seen[lane] = c->compute_seq;
	pthread_mutex_unlock(&c->lock);
	return err;
}

static cudaError_t flush_batch(struct pkvrt_gpu_copier *c, enum lane lane)
{
	struct cudaMemcpyAttributes attr = { .srcAccessOrder = cudaMemcpySrcAccessOrderStream };
	struct batch *b = &c->batch;
	size_t nr = b->nr, first = 0;

	b->nr = 0;
	if (!nr)
		return cudaSuccess;
	if (nr == 1)
		return cudaMemcpyAsync(b->dst[0], b->src[0], b->bytes[0], cudaMemcpyDefault,
				       c->lanes[lane]);
	return cudaMemcpyBatchAsync((void *const *)b->dst, (const void *const *)b->src, b->bytes,
				    nr, &attr, &first, 1, c->lanes[lane]);
}

/* Pieces that lie side by side at both ends become one. */
static cudaError_t add_copy(struct pkvrt_gpu_copier *c, enum lane lane, void *dst, const void *src)
{
	struct batch *b = &c->batch;
	size_t last = b->nr - 1;
	cudaError_t err = cudaSuccess;

	if (b->nr && (char *)b->dst[last] + b->bytes[last] == dst &&
	    (const char *)b->src[last] + b->bytes[last] == src) {
		b->bytes[last] += c->p.page_bytes;
		return cudaSuccess;
	}
	if (b->nr == CHUNK_COPIES)
		err = flush_batch(c, lane);
	b->dst[b->nr] = dst;
	b->src[b->nr] = src;
	b->bytes[b->nr++] = c->p.page_bytes;
	return err;
}

/* Between host memory and slots, or the pages of a buffer, one after the other. */
static cudaError_t copy(struct pkvrt_gpu_copier *c, enum lane lane,
			const struct pkvrt_copy *copies, unsigned int nr, char *buffer)
{
	cudaError_t err = cudaSuccess;

	c->batch.nr = 0;
	for (unsigned int i = 0; i < nr && !err; i++) {
		const struct pkvrt_copy *cp = &copies[i];
		char *page = buffer ? buffer + i * c->p.page_bytes :
			     slot_at(c, lane == LANE_OUT ? cp->src_slot : cp->dst_slot);

		err = lane == LANE_OUT ? add_copy(c, lane, cp->host, page) :
		      add_copy(c, lane, page, cp->host);
	}
	return err ? err : flush_batch(c, lane);
}

static cudaError_t run_pages(struct pkvrt_gpu_copier *c, enum lane lane, const void *from, void *to,
			     unsigned int nr)
{
	cudaError_t err = wait_for_compute(c, lane);

	c->pages.from = from;
	c->pages.to = to;
	c->pages.page_bytes = c->p.page_bytes;
	c->pages.nr = nr;
	return err ? err : pkvrt_pages_copy(&c->pages, c->lanes[lane]);
}

/* What is next on @to comes after what @from holds. */
static cudaError_t chain(struct pkvrt_gpu_copier *c, cudaEvent_t event, enum lane from,
			 enum lane to)
{
	cudaError_t err = cudaEventRecord(event, c->lanes[from]);

	return err ? err : cudaStreamWaitEvent(c->lanes[to], event, 0);
}

static cudaError_t stage_out(struct pkvrt_gpu_copier *c, struct chunk *k,
			     const struct pkvrt_copy *copies, unsigned int nr)
{
	cudaError_t err;

	for (unsigned int i = 0; i < nr; i++) {
		c->pages.src[i] = copies[i].src_slot;
		c->pages.dst[i] = i;
	}
	err = run_pages(c, LANE_GATHER, c->p.base, k->buffer, nr);
	if (!err)
		err = chain(c, k->full, LANE_GATHER, LANE_OUT);
	return err ? err : copy(c, LANE_OUT, copies, nr, k->buffer);
}

static cudaError_t stage_in(struct pkvrt_gpu_copier *c, struct chunk *k,
			    const struct pkvrt_copy *copies, unsigned int nr)
{
	cudaError_t err = copy(c, LANE_IN, copies, nr, k->buffer);

	for (unsigned int i = 0; i < nr; i++) {
		c->pages.src[i] = i;
		c->pages.dst[i] = copies[i].dst_slot;
	}
	if (!err)
		err = chain(c, k->full, LANE_IN, LANE_SCATTER);
	return err ? err : run_pages(c, LANE_SCATTER, k->buffer, c->p.base, nr);
}

static cudaError_t copy_direct(struct pkvrt_gpu_copier *c, enum lane lane,
			       const struct pkvrt_copy *copies, unsigned int nr)
{
	cudaError_t err = wait_for_compute(c, lane);

	return err ? err : copy(c, lane, copies, nr, NULL);
}

static cudaError_t copy_within(struct pkvrt_gpu_copier *c, const struct pkvrt_copy *copies,
			       unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		c->pages.src[i] = copies[i].src_slot;
		c->pages.dst[i] = copies[i].dst_slot;
	}
	return run_pages(c, LANE_DEVICE, c->p.base, c->p.base, nr);
}

/* -- queues ----------------------------------------------------------------------------------- */

/* The lane on which a chunk of this kind ends. */
static enum lane last_lane(const struct pkvrt_gpu_copier *c, int kind)
{
	return kind == PKVRT_COPY_DEVICE ? LANE_DEVICE :
	       kind == PKVRT_COPY_OUT ? LANE_OUT : c->is_direct ? LANE_IN : LANE_SCATTER;
}

static cudaError_t start_chunk(struct pkvrt_gpu_copier *c, int kind, struct chunk *k,
			       const struct pkvrt_copy *copies, unsigned int nr)
{
	if (kind == PKVRT_COPY_DEVICE)
		return copy_within(c, copies, nr);
	if (c->is_direct)
		return copy_direct(c, kind == PKVRT_COPY_OUT ? LANE_OUT : LANE_IN, copies, nr);
	return kind == PKVRT_COPY_OUT ? stage_out(c, k, copies, nr) : stage_in(c, k, copies, nr);
}

/* The next chunk of a part. What has begun must end, even if not all could begin. */
static void hand_on(struct pkvrt_gpu_copier *c, int kind, struct part *part)
{
	struct queue *q = &c->queues[kind];
	struct chunk *k = &q->chunks[(q->first + q->nr) % NR_CHUNKS];
	unsigned int nr = part->nr - part->next;
	struct ticket *t = part->ticket;
	cudaError_t err;

	nr = nr < c->chunk_pages ? nr : c->chunk_pages;
	err = start_chunk(c, kind, k, part->copies + part->next, nr);
	part->next = err ? part->nr : part->next + nr;
	if (err)
		t->err = pkvrt_cuda_errno(err);
	if (cudaEventRecord(k->done, c->lanes[last_lane(c, kind)])) {
		t->err = -EIO;
	} else {
		k->ticket = t;
		q->nr++;
		t->nr_open++;
	}
	if (part->next < part->nr)
		return;
	TAILQ_REMOVE(&q->parts, part, link);
	t->nr_open--;
}

static void pump(struct pkvrt_gpu_copier *c)
{
	for (int kind = 0; kind < NR_KINDS; kind++) {
		struct queue *q = &c->queues[kind];
		cudaError_t err;

		while (q->nr) {
			struct chunk *k = &q->chunks[q->first];

			err = cudaEventQuery(k->done);
			if (err == cudaErrorNotReady)
				break;
			if (err)
				k->ticket->err = -EIO;
			k->ticket->nr_open--;
			q->first = (q->first + 1) % NR_CHUNKS;
			q->nr--;
		}
		while (q->nr < NR_CHUNKS && !TAILQ_EMPTY(&q->parts))
			hand_on(c, kind, TAILQ_FIRST(&q->parts));
	}
}

/* -- struct pkvrt_device ---------------------------------------------------------------------- */

static int check_copies(const struct pkvrt_gpu_copier *c, const struct pkvrt_copy *copies,
			unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		const struct pkvrt_copy *cp = &copies[i];

		if (cp->kind > PKVRT_COPY_DEVICE ||
		    (cp->kind != PKVRT_COPY_IN && cp->src_slot >= c->p.nr_slots) ||
		    (cp->kind != PKVRT_COPY_OUT && cp->dst_slot >= c->p.nr_slots) ||
		    (cp->kind != PKVRT_COPY_DEVICE && !cp->host))
			return -EINVAL;
	}
	return 0;
}

/* By kind, then by place in host memory: what lies side by side is one copy. */
static int compare(const void *a, const void *b)
{
	const struct pkvrt_copy *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return x->host < y->host ? -1 : x->host > y->host;
}

/* A ticket's own copy of them, in order, and a part of each kind. */
static int take_copies(struct ticket *t, const struct pkvrt_copy *copies, unsigned int nr)
{
	struct pkvrt_copy *own = t->copies;
	int sorted = 1;

	if (nr > t->room) {
		own = realloc(own, nr * sizeof(*own));
		if (!own)
			return -ENOMEM;
		t->copies = own;
		t->room = nr;
	}
	for (unsigned int i = 0; i < nr; i++) {
		own[i] = copies[i];
		sorted &= !i || compare(&own[i - 1], &own[i]) <= 0;
	}
	if (!sorted)
		qsort(own, nr, sizeof(*own), compare);
	for (int kind = 0; kind < NR_KINDS; kind++)
		t->parts[kind] = (struct part){ .ticket = t };
	for (unsigned int i = 0; i < nr; i++) {
		struct part *part = &t->parts[own[i].kind];

		if (!part->nr++)
			part->copies = &own[i];
	}
	return 0;
}

static int gpu_begin(void *ctx, const struct pkvrt_copy *copies, unsigned int nr, uint64_t *ticket)
{
	struct pkvrt_gpu_copier *c = ctx;
	struct ticket *t;
	int ret = pkvrt_cuda_errno(cudaSetDevice(c->p.device));

	if (!ret)
		ret = check_copies(c, copies, nr);
	if (!ret && c->free_ticket == NO_TICKET)
		ret = new_ticket(c);
	if (!ret)
		ret = take_copies(c->tickets[c->free_ticket], copies, nr);
	if (ret)
		return ret;
	*ticket = c->free_ticket;
	t = c->tickets[*ticket];
	c->free_ticket = t->next_free;
	t->err = 0;
	t->nr_open = 0;
	for (int kind = 0; kind < NR_KINDS; kind++) {
		if (!t->parts[kind].nr)
			continue;
		TAILQ_INSERT_TAIL(&c->queues[kind].parts, &t->parts[kind], link);
		t->nr_open++;
	}
	pump(c);
	return 0;
}

static int gpu_poll(void *ctx, uint64_t ticket)
{
	struct pkvrt_gpu_copier *c = ctx;
	struct ticket *t = c->tickets[ticket];

	pump(c);
	if (t->nr_open)
		return 0;
	free_ticket(c, ticket);
	return t->err ? t->err : 1;
}

static int gpu_pin(void *ctx, void *base, size_t bytes)
{
	const struct pkvrt_gpu_copier *c = ctx;
	cudaError_t err = cudaSetDevice(c->p.device);

	if (!err)
		err = cudaHostRegister(base, bytes, cudaHostRegisterPortable);
	return pkvrt_cuda_errno(err);
}

static void gpu_unpin(void *ctx, void *base)
{
	const struct pkvrt_gpu_copier *c = ctx;

	if (!cudaSetDevice(c->p.device))
		cudaHostUnregister(base);
}

void pkvrt_gpu_copier_device(struct pkvrt_gpu_copier *c, struct pkvrt_device *dev)
{
	*dev = (struct pkvrt_device){
		.ctx = c, .begin = gpu_begin, .poll = gpu_poll, .pin = gpu_pin, .unpin = gpu_unpin,
	};
}

int pkvrt_gpu_copier_after(struct pkvrt_gpu_copier *c, void *stream)
{
	cudaError_t err;

	pthread_mutex_lock(&c->lock);
	err = cudaEventRecord(c->compute, stream);
	if (!err)
		c->compute_seq++;
	pthread_mutex_unlock(&c->lock);
	return pkvrt_cuda_errno(err);
}

/* -- life ------------------------------------------------------------------------------------- */

static cudaError_t create_chunks(struct pkvrt_gpu_copier *c)
{
	uint64_t bytes = c->is_direct ? CHUNK_BYTES : BUFFER_BYTES;
	uint64_t most = c->is_direct ? CHUNK_COPIES : PKVRT_PAGES_MAX;
	uint64_t pages = bytes / c->p.page_bytes;
	char *at;
	cudaError_t err = cudaSuccess;

	c->chunk_pages = (unsigned int)(!pages ? 1 : pages < most ? pages : most);
	bytes = c->chunk_pages * c->p.page_bytes;
	if (!c->is_direct)
		err = cudaMalloc((void **)&c->memory, 2 * NR_CHUNKS * bytes);
	at = c->memory;
	for (int kind = 0; kind < NR_KINDS && !err; kind++) {
		for (unsigned int i = 0; i < NR_CHUNKS && !err; i++) {
			struct chunk *k = &c->queues[kind].chunks[i];

			if (at && kind != PKVRT_COPY_DEVICE) {
				k->buffer = at;
				at += bytes;
			}
			err = cudaEventCreateWithFlags(&k->full, cudaEventDisableTiming);
			if (!err)
				err = cudaEventCreateWithFlags(&k->done, cudaEventDisableTiming);
		}
	}
	return err;
}

static cudaError_t create_lanes(struct pkvrt_gpu_copier *c)
{
	int lowest, highest;
	cudaError_t err = cudaDeviceGetStreamPriorityRange(&lowest, &highest);

	for (int i = 0; i < NR_LANES && !err; i++)
		err = cudaStreamCreateWithPriority(&c->lanes[i], cudaStreamNonBlocking, highest);
	return err;
}

int pkvrt_gpu_copier_create(struct pkvrt_gpu_copier **out, const struct pkvrt_gpu_copier_params *p)
{
	struct pkvrt_gpu_copier *c;
	cudaError_t err;

	*out = NULL;
	if (!p || p->size != sizeof(*p) || !p->base || (uintptr_t)p->base % 16 ||
	    !p->page_bytes || p->page_bytes % 16 || p->page_bytes > UINT64_MAX / UINT32_MAX ||
	    !p->nr_slots)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->p = *p;
	c->free_ticket = NO_TICKET;
	c->is_direct = p->page_bytes >= DIRECT_BYTES;
	for (int kind = 0; kind < NR_KINDS; kind++)
		TAILQ_INIT(&c->queues[kind].parts);
	pthread_mutex_init(&c->lock, NULL);
	err = cudaSetDevice(p->device);
	if (!err)
		err = pkvrt_pages_load();
	if (!err)
		err = create_lanes(c);
	if (!err)
		err = create_chunks(c);
	if (!err)
		err = cudaEventCreateWithFlags(&c->compute, cudaEventDisableTiming);
	if (err) {
		pkvrt_gpu_copier_destroy(c);
		return pkvrt_cuda_errno(err);
	}
	*out = c;
	return 0;
}

static void destroy_event(cudaEvent_t event)
{
	if (event)
		cudaEventDestroy(event);
}

void pkvrt_gpu_copier_destroy(struct pkvrt_gpu_copier *c)
{
	if (!c)
		return;
	cudaSetDevice(c->p.device);
	for (int i = 0; i < NR_LANES; i++) {
		if (!c->lanes[i])
			continue;
		cudaStreamSynchronize(c->lanes[i]);
		cudaStreamDestroy(c->lanes[i]);
	}
	for (int kind = 0; kind < NR_KINDS; kind++) {
		for (unsigned int i = 0; i < NR_CHUNKS; i++) {
			destroy_event(c->queues[kind].chunks[i].full);
			destroy_event(c->queues[kind].chunks[i].done);
		}
	}
	for (uint64_t i = 0; i < c->nr_tickets; i++) {
		free(c->tickets[i]->copies);
		free(c->tickets[i]);
	}
	destroy_event(c->compute);
	cudaFree(c->memory);
	pthread_mutex_destroy(&c->lock);
	free(c->tickets);
	free(c);
}
