// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Requests wait in @urgent, or in @pending (as queued) and then in @staged (a sorted batch of
 * them), then share a command with their neighbours. There are queue_depth commands, and a few
 * that spare urgent requests the wait for one of them; a command is in the kernel exactly while
 * CMD_INFLIGHT, and its slot is not reused before the kernel has given it back, however late that
 * is.
 *
 * Invariant: every request is in urgent, pending or staged, on one command's list, or in finished,
 * and ends through release_req() alone.
 */
#include "io.h"

#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_DEPTH	64u
#define MAX_DEPTH	4096u
#define NR_SPARE	16u		/* commands that only urgent requests may have */
/* In the kernel: as much as 64 commands of 2 MiB. More only keeps waiting what comes next. */
#define ENOUGH_BYTES	((uint64_t)128 << 20)
#define DEFAULT_MERGE	(1u << 20)
#define MAX_IOV		64u
#define MAX_STAGED	1024u
#define MAX_RETRIES	64u
#define RING_PAUSE_NS	10000000
#define RING_TRIES	20u
#define BREATH_BYTES	(1u << 20)	/* of ended data between two looks for commands to issue */
#define NSEC		1000000000ull
#define NEVER		UINT64_MAX

/* user_data of completions that belong to no command; commands use their address. */
#define TAG_WATCH	1ull
#define TAG_IGNORE	2ull

enum cmd_state {
	CMD_FREE,
	CMD_INFLIGHT,
	CMD_HUNG,	/* held back by PKVRT_FAULT_HANG */
	CMD_READY,	/* synchronous fallback: ran, result not yet taken */
};

struct cmd {
	enum cmd_state state;
	enum pkvrt_io_kind kind;
	struct pkvrt_io_list reqs;
	unsigned int nr_reqs;
	struct iovec iov[MAX_IOV];	/* what is left to transfer */
	unsigned int nr_iov;
	uint64_t offset_bytes;		/* where that goes */
	uint64_t left_bytes;
	uint64_t bytes;			/* of its requests */
	uint64_t serial;
	unsigned int retries;
	int late;			/* nobody waits for the result any more */
	enum pkvrt_io_fault fault;
	uint64_t fault_arg;
	int sync_res;
	struct cmd *next_free;
};

struct pkvrt_io {
	struct io_uring ring;
	int has_ring;
	int fd;
	unsigned int caps;
	unsigned int depth;		/* data commands wait for nr_used to be lower */
	unsigned int nr_cmds;
	uint32_t merge_bytes;
	uint32_t align_bytes;
	struct pkvrt_regions regions;
	const struct pkvrt_io_hooks *hooks;

	struct cmd *cmds;
	struct cmd *free_cmds;
	unsigned int nr_used;		/* commands not free */
	unsigned int nr_ready;		/* of those, CMD_READY */
	uint64_t issued_bytes;		/* that commands not free were built with */

	struct pkvrt_io_list urgent, pending;
	struct pkvrt_io_list finished;	/* back from the kernel, callbacks yet to run */
	struct pkvrt_io_req *staged[MAX_STAGED];
	unsigned int staged_first, staged_end;

	uint64_t next_deadline_ns;	/* no deadline is before this */
	unsigned int nr_pending;	/* requests not done */
	unsigned int nr_events;		/* done or released in this poll */
	int watch_fd;
	int watch_armed;
	int closing;
	int woken;			/* the watched fd was seen readable */
	uint64_t next_serial;
	struct pkvrt_io_stats stats;
};

uint64_t pkvrt_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC + (uint64_t)ts.tv_nsec;
}

/* -- ends of a request ------------------------------------------------------------------------ */

static void end_req(struct pkvrt_io *io, struct pkvrt_io_req *req, int res)
{
	req->is_done = 1;
	io->nr_pending--;
	io->nr_events++;
	io->stats.nr_requests++;
	if (res)
		io->stats.nr_errors++;
	if (res == -ETIMEDOUT)
		io->stats.nr_late++;
	if (!res && req->kind == PKVRT_IO_READ)
		io->stats.read_bytes += req->len_bytes;
	if (!res && req->kind == PKVRT_IO_WRITE)
		io->stats.write_bytes += req->len_bytes;
	io->stats.nr_quarantined++;
	req->done(req, res);
}

/* The caller has taken @req off every list. */
static void release_req(struct pkvrt_io *io, struct pkvrt_io_req *req, int res)
{
	if (!req->is_done)
		end_req(io, req, res);
	else
		io->nr_events++;
	io->stats.nr_quarantined--;
	if (req->released)
		req->released(req);
}

static void free_cmd(struct pkvrt_io *io, struct cmd *cmd)
{
	cmd->state = CMD_FREE;
	io->issued_bytes -= cmd->bytes;
	cmd->next_free = io->free_cmds;
	io->free_cmds = cmd;
	io->nr_used--;
}

static int is_urgent(const struct pkvrt_io_req *req)
{
	return req->urgent || req->kind == PKVRT_IO_SYNC;
}

/*
 * The requests wait on @finished for their callbacks: first the disk gets new work. Others wait
 * for what is urgent: it goes first here too.
 */
static void finish_cmd(struct pkvrt_io *io, struct cmd *cmd, int res)
{
	struct pkvrt_io_req *req;

	TAILQ_FOREACH(req, &cmd->reqs, link)
		req->res = res;
	if (is_urgent(TAILQ_FIRST(&cmd->reqs)))
		TAILQ_CONCAT(&cmd->reqs, &io->finished, link);
	TAILQ_CONCAT(&io->finished, &cmd->reqs, link);
	free_cmd(io, cmd);
}

/* One bad sector must not cost its neighbours: try the requests of a failed command alone. */
static void split_cmd(struct pkvrt_io *io, struct cmd *cmd)
{
	struct pkvrt_io_req *req;

	while ((req = TAILQ_LAST(&cmd->reqs, pkvrt_io_list))) {
		TAILQ_REMOVE(&cmd->reqs, req, link);
		if (req->is_done) {
			release_req(io, req, 0);
			continue;
		}
		req->alone = 1;
		TAILQ_INSERT_HEAD(&io->pending, req, link);
	}
	free_cmd(io, cmd);
}

/* -- commands --------------------------------------------------------------------------------- */

/* NULL only when the kernel takes nothing more for now. */
static struct io_uring_sqe *get_sqe(struct pkvrt_io *io)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);

	if (!sqe) {
		io_uring_submit(&io->ring);
		sqe = io_uring_get_sqe(&io->ring);
	}
	return sqe;
}

static void prep_transfer(struct pkvrt_io *io, struct cmd *cmd, struct io_uring_sqe *sqe,
			  const struct iovec *iov, unsigned int nr_iov)
{
	int write = cmd->kind == PKVRT_IO_WRITE;
	int fd = io->caps & PKVRT_IO_CAP_FIXED_FILE ? 0 : io->fd;
	int index = nr_iov == 1 ? pkvrt_regions_index(&io->regions, iov) : -1;

	if (index >= 0 && write)
		io_uring_prep_write_fixed(sqe, fd, iov->iov_base, (unsigned int)iov->iov_len,
					  cmd->offset_bytes, index);
	else if (index >= 0)
		io_uring_prep_read_fixed(sqe, fd, iov->iov_base, (unsigned int)iov->iov_len,
					 cmd->offset_bytes, index);
	else if (write)
		io_uring_prep_writev(sqe, fd, iov, nr_iov, cmd->offset_bytes);
	else
		io_uring_prep_readv(sqe, fd, iov, nr_iov, cmd->offset_bytes);
}

static int run_transfer(struct pkvrt_io *io, struct cmd *cmd, const struct iovec *iov,
			unsigned int nr_iov)
{
	ssize_t n;

	do {
		if (cmd->kind == PKVRT_IO_SYNC)
			n = fdatasync(io->fd);
		else if (cmd->kind == PKVRT_IO_WRITE)
			n = pwritev(io->fd, iov, (int)nr_iov, (off_t)cmd->offset_bytes);
		else
			n = preadv(io->fd, iov, (int)nr_iov, (off_t)cmd->offset_bytes);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (int)n;
}

/* Send a command, as the fault (none, in real life) has it. Returns 0 or -EAGAIN. */
static int send_cmd(struct pkvrt_io *io, struct cmd *cmd)
{
	const struct iovec *iov = cmd->iov;
	unsigned int nr_iov = cmd->nr_iov;
	struct iovec part;
	int nothing = cmd->fault == PKVRT_FAULT_ERROR;
	struct io_uring_sqe *sqe;

	if (cmd->fault == PKVRT_FAULT_SHORT && cmd->kind != PKVRT_IO_SYNC) {
		part = cmd->iov[0];
		if (part.iov_len > cmd->fault_arg)
			part.iov_len = cmd->fault_arg;
		iov = &part;
		nr_iov = 1;
		nothing = !part.iov_len;
	}
	if (!io->has_ring) {
		cmd->sync_res = nothing ? 0 : run_transfer(io, cmd, iov, nr_iov);
		cmd->state = CMD_READY;
		io->nr_ready++;
		io->stats.nr_commands++;
		return 0;
	}
	sqe = get_sqe(io);
	if (!sqe)
		return -EAGAIN;
	if (nothing)
		io_uring_prep_nop(sqe);
	else if (cmd->kind == PKVRT_IO_SYNC)
		io_uring_prep_fsync(sqe, io->caps & PKVRT_IO_CAP_FIXED_FILE ? 0 : io->fd,
				    IORING_FSYNC_DATASYNC);
	else
		prep_transfer(io, cmd, sqe, iov, nr_iov);
	if (!nothing && io->caps & PKVRT_IO_CAP_FIXED_FILE)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, cmd);
	cmd->state = CMD_INFLIGHT;
	io->stats.nr_commands++;
	if (iov == &part)	/* the kernel reads it on submission, while it is alive */
		io_uring_submit(&io->ring);
	return 0;
}

static struct pkvrt_io_view view_of(const struct cmd *cmd)
{
	return (struct pkvrt_io_view){
		.kind = cmd->kind,
		.offset_bytes = cmd->offset_bytes,
		.iov = cmd->iov,
		.nr_iov = cmd->nr_iov,
		.serial = cmd->serial,
	};
}

static int start_cmd(struct pkvrt_io *io, struct cmd *cmd)
{
	struct pkvrt_io_view view;

	cmd->fault = PKVRT_FAULT_NONE;
	cmd->fault_arg = 0;
	cmd->serial = io->next_serial++;
	if (io->hooks && io->hooks->issue) {
		view = view_of(cmd);
		cmd->fault = io->hooks->issue(io->hooks->ctx, &view, &cmd->fault_arg);
	}
	if (cmd->fault == PKVRT_FAULT_HANG) {
		cmd->state = CMD_HUNG;
		return 0;
	}
	return send_cmd(io, cmd);
}

static void restart_cmd(struct pkvrt_io *io, struct cmd *cmd)
{
	if (start_cmd(io, cmd))
		finish_cmd(io, cmd, -EAGAIN);
}

static void advance_cmd(struct cmd *cmd, uint64_t bytes)
{
	unsigned int i = 0;
	size_t step;

	cmd->offset_bytes += bytes;
	cmd->left_bytes -= bytes;
	while (bytes) {
		step = cmd->iov[i].iov_len < bytes ? cmd->iov[i].iov_len : bytes;
		cmd->iov[i].iov_base = (char *)cmd->iov[i].iov_base + step;
		cmd->iov[i].iov_len -= step;
		bytes -= step;
		if (!cmd->iov[i].iov_len)
			i++;
	}
	memmove(cmd->iov, cmd->iov + i, (cmd->nr_iov - i) * sizeof(cmd->iov[0]));
	cmd->nr_iov -= i;
}

static void flip_bit(struct cmd *cmd)
{
	uint64_t byte = cmd->fault_arg / 8 % cmd->left_bytes;
	unsigned int i;

	for (i = 0; byte >= cmd->iov[i].iov_len; i++)
		byte -= cmd->iov[i].iov_len;
	((unsigned char *)cmd->iov[i].iov_base)[byte] ^= 1u << (cmd->fault_arg & 7);
}

static int apply_fault(struct pkvrt_io *io, struct cmd *cmd, int res)
{
	struct pkvrt_io_view view;

	if (cmd->fault == PKVRT_FAULT_ERROR)
		res = -(int)cmd->fault_arg;
	if (cmd->fault == PKVRT_FAULT_FLIP && cmd->kind == PKVRT_IO_READ && res > 0)
		flip_bit(cmd);
	if (io->hooks && io->hooks->complete) {
		view = view_of(cmd);
		io->hooks->complete(io->hooks->ctx, &view, res);
	}
	return res;
}

/* The kernel has given the command back. */
static void take_cmd(struct pkvrt_io *io, struct cmd *cmd, int res)
{
	res = apply_fault(io, cmd, res);
	if (cmd->late) {
		finish_cmd(io, cmd, -ETIMEDOUT);
		return;
	}
	if ((res == -EAGAIN || res == -EINTR) && cmd->retries++ < MAX_RETRIES) {
		restart_cmd(io, cmd);
		return;
	}
	if (res < 0) {
		if (cmd->nr_reqs > 1)
			split_cmd(io, cmd);
		else
			finish_cmd(io, cmd, res);
		return;
	}
	if (cmd->kind == PKVRT_IO_SYNC || (uint64_t)res == cmd->left_bytes) {
		finish_cmd(io, cmd, 0);
		return;
	}
	/* O_DIRECT goes on at an aligned place alone, so the odd end is done again. */
	res -= res % (int)io->align_bytes;
	if (res <= 0 || (uint64_t)res > cmd->left_bytes) {
		finish_cmd(io, cmd, -EIO);
		return;
	}
	io->stats.nr_short++;
	advance_cmd(cmd, (uint64_t)res);
	restart_cmd(io, cmd);
}

/* -- building commands ------------------------------------------------------------------------ */

static int req_order(const void *a, const void *b)
{
	const struct pkvrt_io_req *x = *(struct pkvrt_io_req *const *)a;
	const struct pkvrt_io_req *y = *(struct pkvrt_io_req *const *)b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->offset_bytes != y->offset_bytes)
		return x->offset_bytes < y->offset_bytes ? -1 : 1;
	return 0;
}

static void stage(struct pkvrt_io *io)
{
	struct pkvrt_io_req *req;

	io->staged_first = 0;
	io->staged_end = 0;
	while (io->staged_end < MAX_STAGED && (req = TAILQ_FIRST(&io->pending))) {
		TAILQ_REMOVE(&io->pending, req, link);
		io->staged[io->staged_end++] = req;
	}
	qsort(io->staged, io->staged_end, sizeof(io->staged[0]), req_order);
}

static int may_join(const struct pkvrt_io *io, const struct cmd *cmd,
		    const struct pkvrt_io_req *req)
{
	const struct iovec *last = &cmd->iov[cmd->nr_iov - 1];
	int touches = (char *)last->iov_base + last->iov_len == (char *)req->buf;

	if (req->alone || req->kind != cmd->kind || req->kind == PKVRT_IO_SYNC)
		return 0;
	if (req->offset_bytes != cmd->offset_bytes + cmd->left_bytes)
		return 0;
	if (cmd->left_bytes + req->len_bytes > io->merge_bytes)
		return 0;
	return touches || cmd->nr_iov < MAX_IOV;
}

static void add_req(struct cmd *cmd, struct pkvrt_io_req *req)
{
	struct iovec *last = cmd->nr_iov ? &cmd->iov[cmd->nr_iov - 1] : NULL;

	TAILQ_INSERT_TAIL(&cmd->reqs, req, link);
	cmd->nr_reqs++;
	if (req->kind == PKVRT_IO_SYNC)
		return;
	cmd->left_bytes += req->len_bytes;
	if (last && (char *)last->iov_base + last->iov_len == (char *)req->buf)
		last->iov_len += req->len_bytes;
	else
		cmd->iov[cmd->nr_iov++] = (struct iovec){ req->buf, req->len_bytes };
}

static struct cmd *build_cmd(struct pkvrt_io *io, struct pkvrt_io_req *req)
{
	struct cmd *cmd = io->free_cmds;
	int alone = req->alone || is_urgent(req);

	io->free_cmds = cmd->next_free;
	io->nr_used++;
	cmd->kind = req->kind;
	cmd->offset_bytes = req->offset_bytes;
	TAILQ_INIT(&cmd->reqs);
	cmd->nr_reqs = 0;
	cmd->nr_iov = 0;
	cmd->left_bytes = 0;
	cmd->retries = 0;
	cmd->late = 0;
	add_req(cmd, req);
	while (!alone && io->staged_first < io->staged_end &&
	       may_join(io, cmd, io->staged[io->staged_first])) {
		add_req(cmd, io->staged[io->staged_first++]);
		io->stats.nr_merged++;
	}
	cmd->bytes = cmd->left_bytes;
	io->issued_bytes += cmd->bytes;
	return cmd;
}

/* The next to be issued, off its list; NULL when there is none. */
static struct pkvrt_io_req *next_req(struct pkvrt_io *io)
{
	struct pkvrt_io_req *req = TAILQ_FIRST(&io->urgent);

	if (req) {
		TAILQ_REMOVE(&io->urgent, req, link);
		return req;
	}
	if (!io->closing && (io->nr_used >= io->depth || io->issued_bytes >= ENOUGH_BYTES))
		return NULL;
	if (io->staged_first == io->staged_end)
		stage(io);
	return io->staged_first == io->staged_end ? NULL : io->staged[io->staged_first++];
}

static void issue(struct pkvrt_io *io)
{
	struct pkvrt_io_req *req;

	while (io->free_cmds && !io->closing) {
		req = next_req(io);
		if (!req)
			return;
		restart_cmd(io, build_cmd(io, req));
	}
}

static int submit(struct pkvrt_io *io)
{
	int ret;

	if (!io->has_ring || !io_uring_sq_ready(&io->ring))
		return 0;
	ret = io_uring_submit(&io->ring);
	/* Out of memory or completion space for now: what is prepared goes with the next call. */
	if (ret == -EAGAIN || ret == -EBUSY || ret == -EINTR || ret == -ENOMEM)
		return 0;
	return ret < 0 ? ret : 0;
}

int pkvrt_io_push(struct pkvrt_io *io)
{
	issue(io);
	return submit(io);
}

/*
 * Callbacks look at all the data, and those of a full queue at a lot of it: what they queue must
 * not wait for the last of them. An error of the ring comes again with the next submission.
 */
static void run_finished(struct pkvrt_io *io)
{
	struct pkvrt_io_req *req;
	uint64_t bytes = 0;

	while ((req = TAILQ_FIRST(&io->finished))) {
		TAILQ_REMOVE(&io->finished, req, link);
		bytes += req->len_bytes;
		release_req(io, req, req->res);
		if (bytes < BREATH_BYTES)
			continue;
		bytes = 0;
		pkvrt_io_push(io);
	}
}

/* -- deadlines -------------------------------------------------------------------------------- */

static void note_deadline(struct pkvrt_io *io, const struct pkvrt_io_req *req)
{
	if (req->deadline_ns && req->deadline_ns < io->next_deadline_ns)
		io->next_deadline_ns = req->deadline_ns;
}

static int is_late(struct pkvrt_io *io, const struct pkvrt_io_req *req, uint64_t now)
{
	if (req->is_done || !req->deadline_ns)
		return 0;
	if (req->deadline_ns <= now)
		return 1;
	note_deadline(io, req);
	return 0;
}

static void cancel_cmd(struct pkvrt_io *io, struct cmd *cmd)
{
	struct io_uring_sqe *sqe;

	if (cmd->state != CMD_INFLIGHT)
		return;
	sqe = get_sqe(io);
	if (!sqe)	/* only a wish: the command comes back in its own time */
		return;
	io_uring_prep_cancel(sqe, cmd, 0);
	io_uring_sqe_set_data64(sqe, TAG_IGNORE);
}

/* Done, but not released: those stay on the command, which keeps buffer and range. */
static void expire_cmd(struct pkvrt_io *io, struct cmd *cmd, uint64_t now)
{
	struct pkvrt_io_req *req;
	unsigned int nr_waiting = 0;

	TAILQ_FOREACH(req, &cmd->reqs, link) {
		if (is_late(io, req, now))
			end_req(io, req, -ETIMEDOUT);
		nr_waiting += !req->is_done;
	}
	if (!nr_waiting && !cmd->late) {
		cmd->late = 1;
		cancel_cmd(io, cmd);
	}
}

static void expire_list(struct pkvrt_io *io, struct pkvrt_io_list *list,
			struct pkvrt_io_list *late, uint64_t now)
{
	struct pkvrt_io_req *req, *next;

	for (req = TAILQ_FIRST(list); req; req = next) {
		next = TAILQ_NEXT(req, link);
		if (!is_late(io, req, now))
			continue;
		TAILQ_REMOVE(list, req, link);
		TAILQ_INSERT_TAIL(late, req, link);
	}
}

static void expire_queued(struct pkvrt_io *io, uint64_t now)
{
	struct pkvrt_io_list late = TAILQ_HEAD_INITIALIZER(late);
	struct pkvrt_io_req *req;
	unsigned int i, kept = io->staged_first;

	for (i = io->staged_first; i < io->staged_end; i++) {
		if (is_late(io, io->staged[i], now))
			TAILQ_INSERT_TAIL(&late, io->staged[i], link);
		else
			io->staged[kept++] = io->staged[i];
	}
	io->staged_end = kept;
	expire_list(io, &io->urgent, &late, now);
	expire_list(io, &io->pending, &late, now);
	while ((req = TAILQ_FIRST(&late))) {
		TAILQ_REMOVE(&late, req, link);
		release_req(io, req, -ETIMEDOUT);
	}
}

static void expire(struct pkvrt_io *io)
{
	uint64_t now;
	unsigned int i;

	if (io->next_deadline_ns == NEVER)
		return;
	now = pkvrt_now_ns();
	if (now < io->next_deadline_ns)
		return;
	io->next_deadline_ns = NEVER;
	expire_queued(io, now);
	for (i = 0; i < io->nr_cmds; i++)
		if (io->cmds[i].state != CMD_FREE)
			expire_cmd(io, &io->cmds[i], now);
}

/* -- the loop --------------------------------------------------------------------------------- */

static void take_ready(struct pkvrt_io *io)
{
	unsigned int i;

	for (i = 0; i < io->nr_cmds && io->nr_ready; i++) {
		if (io->cmds[i].state != CMD_READY)
			continue;
		io->nr_ready--;
		take_cmd(io, &io->cmds[i], io->cmds[i].sync_res);
	}
}

static void take_completions(struct pkvrt_io *io)
{
	struct io_uring_cqe *cqe;
	uint64_t tag;
	int res;

	if (!io->has_ring) {
		take_ready(io);
		return;
	}
	while (!io_uring_peek_cqe(&io->ring, &cqe)) {
		tag = cqe->user_data;
		res = cqe->res;
		io_uring_cqe_seen(&io->ring, cqe);
		if (tag == TAG_WATCH) {
			io->watch_armed = 0;
			io->woken |= res > 0;
		} else if (tag != TAG_IGNORE && tag != LIBURING_UDATA_TIMEOUT) {
			take_cmd(io, (struct cmd *)(uintptr_t)tag, res);
		}
	}
}

static void arm_watch(struct pkvrt_io *io)
{
	struct io_uring_sqe *sqe;

	if (!io->has_ring || io->watch_armed || io->watch_fd < 0)
		return;
	sqe = get_sqe(io);
	if (!sqe)
		return;
	io_uring_prep_poll_add(sqe, io->watch_fd, POLLIN);
	io_uring_sqe_set_data64(sqe, TAG_WATCH);
	io->watch_armed = 1;
}

int pkvrt_io_poll(struct pkvrt_io *io)
{
	int ret;

	io->nr_events = 0;
	ret = pkvrt_io_push(io);
	if (ret)
		return ret;
	take_completions(io);
	ret = pkvrt_io_push(io);
	run_finished(io);
	expire(io);
	run_finished(io);
	if (!ret)
		ret = pkvrt_io_push(io);
	return ret ? ret : (int)io->nr_events;
}

/* Sleep until a completion, the watched fd, or @until. */
static int sleep_until(struct pkvrt_io *io, uint64_t until)
{
	uint64_t now = pkvrt_now_ns(), span = until > now ? until - now : 0;
	struct __kernel_timespec ts = {
		.tv_sec = (int64_t)(span / NSEC), .tv_nsec = (long long)(span % NSEC)
	};
	struct timespec pts = { .tv_sec = ts.tv_sec, .tv_nsec = ts.tv_nsec };
	struct pollfd pfd = { .fd = io->watch_fd, .events = POLLIN };
	struct io_uring_cqe *cqe;
	int ret;

	if (!io->has_ring) {
		if (io->nr_ready)
			return 0;
		ret = ppoll(&pfd, 1, until == NEVER ? NULL : &pts, NULL);
		io->woken |= ret > 0;
		return ret < 0 && errno != EINTR ? -errno : 0;
	}
	ret = io_uring_wait_cqe_timeout(&io->ring, &cqe, until == NEVER ? NULL : &ts);
	return ret == -ETIME || ret == -EINTR || ret == -EAGAIN || ret == -EBUSY || ret >= 0 ?
	       0 : ret;
}

int pkvrt_io_wait(struct pkvrt_io *io, uint64_t until_ns)
{
	uint64_t until;
	int ret;

	io->woken = 0;
	for (;;) {
		arm_watch(io);
		ret = pkvrt_io_poll(io);
		if (ret || io->woken || pkvrt_now_ns() >= until_ns)
			return ret;
		/* Nothing could ever end this sleep. */
		if (until_ns == NEVER && !io->nr_used && io->watch_fd < 0)
			return 0;
		until = until_ns < io->next_deadline_ns ? until_ns : io->next_deadline_ns;
		ret = sleep_until(io, until);
		if (ret)
			return ret;
	}
}

int pkvrt_io_watch(struct pkvrt_io *io, int fd)
{
	struct io_uring_sqe *sqe;

	if (io->watch_armed) {
		sqe = get_sqe(io);
		if (!sqe)
			return -EAGAIN;
		io_uring_prep_poll_remove(sqe, TAG_WATCH);
		io_uring_sqe_set_data64(sqe, TAG_IGNORE);
	}
	io->watch_fd = fd;
	return submit(io);
}

void pkvrt_io_queue(struct pkvrt_io *io, struct pkvrt_io_req *req)
{
	req->is_done = 0;
	req->alone = 0;
	io->nr_pending++;
	note_deadline(io, req);
	TAILQ_INSERT_TAIL(is_urgent(req) ? &io->urgent : &io->pending, req, link);
}

void pkvrt_io_unhang(struct pkvrt_io *io)
{
	unsigned int i;

	for (i = 0; i < io->nr_cmds; i++) {
		if (io->cmds[i].state != CMD_HUNG)
			continue;
		io->cmds[i].fault = PKVRT_FAULT_NONE;
		if (send_cmd(io, &io->cmds[i]))
			io->cmds[i].state = CMD_HUNG;
	}
}

unsigned int pkvrt_io_caps(const struct pkvrt_io *io)
{
	return io->caps;
}

unsigned int pkvrt_io_pending(const struct pkvrt_io *io)
{
	return io->nr_pending;
}

void pkvrt_io_stats(const struct pkvrt_io *io, struct pkvrt_io_stats *s)
{
	*s = io->stats;
	s->nr_inflight = io->nr_used;
}

/* -- life ------------------------------------------------------------------------------------- */

int pkvrt_io_register(struct pkvrt_io *io, const struct iovec *regions, unsigned int nr)
{
	struct iovec chunks[PKVRT_REGIONS_CHUNKS];
	int ret;

	if (!nr || nr > PKVRT_IO_MAX_REGIONS)
		return -EINVAL;
	if (!io->has_ring)
		return -EOPNOTSUPP;
	if (io->caps & PKVRT_IO_CAP_FIXED_BUF)
		return -EBUSY;
	ret = pkvrt_regions_cut(&io->regions, regions, nr, chunks);
	if (ret > 0)
		ret = io_uring_register_buffers(&io->ring, chunks, (unsigned int)ret);
	if (ret)
		io->regions.nr = 0;
	else
		io->caps |= PKVRT_IO_CAP_FIXED_BUF;
	return ret;
}

/*
 * Rings count as locked memory, and the kernel takes a closed one down in its own time: where the
 * limit is low, a little later may do.
 */
static int init_ring(struct pkvrt_io *io)
{
	const struct timespec pause = { .tv_nsec = RING_PAUSE_NS };
	unsigned int i;
	int ret;

	for (i = 0;; i++) {
		/* As many entries again for cancellations and the watch. */
		ret = io_uring_queue_init(2 * io->nr_cmds, &io->ring, IORING_SETUP_CLAMP);
		if (ret != -ENOMEM || i == RING_TRIES)
			return ret;
		nanosleep(&pause, NULL);
	}
}

static int setup_ring(struct pkvrt_io *io, const struct pkvrt_io_params *p)
{
	int ret = init_ring(io);

	if (ret == -EPERM || ret == -ENOSYS || ret == -ENOMEM)
		return 0;
	if (ret)
		return ret;
	io->has_ring = 1;
	io->caps |= PKVRT_IO_CAP_URING;
	io_uring_ring_dontfork(&io->ring);
	if (!io_uring_register_files(&io->ring, &p->fd, 1))
		io->caps |= PKVRT_IO_CAP_FIXED_FILE;
	return 0;
}

int pkvrt_io_create(struct pkvrt_io **out, const struct pkvrt_io_params *p)
{
	struct pkvrt_io *io;
	unsigned int i;
	int ret = -ENOMEM;

	*out = NULL;
	if (!p || p->size != sizeof(*p) || p->fd < 0 || p->queue_depth > MAX_DEPTH)
		return -EINVAL;
	io = calloc(1, sizeof(*io));
	if (!io)
		return -ENOMEM;
	io->fd = p->fd;
	io->watch_fd = -1;
	io->depth = p->queue_depth ? p->queue_depth : DEFAULT_DEPTH;
	io->nr_cmds = io->depth + NR_SPARE;
	io->merge_bytes = p->merge_bytes ? p->merge_bytes : DEFAULT_MERGE;
	io->align_bytes = p->align_bytes ? p->align_bytes : 1;
	io->hooks = p->hooks;
	io->next_deadline_ns = NEVER;
	TAILQ_INIT(&io->urgent);
	TAILQ_INIT(&io->pending);
	TAILQ_INIT(&io->finished);
	io->cmds = calloc(io->nr_cmds, sizeof(io->cmds[0]));
	if (!io->cmds)
		goto free;
	for (i = io->nr_cmds; i-- > 0;) {
		io->cmds[i].next_free = io->free_cmds;
		io->free_cmds = &io->cmds[i];
	}
	ret = setup_ring(io, p);
	if (ret)
		goto free;
	*out = io;
	return 0;
free:
	free(io->cmds);
	free(io);
	return ret;
}

/* Callbacks may queue more: all of it ends here too. */
static void cancel_queued(struct pkvrt_io *io)
{
	struct pkvrt_io_req *req;

	while ((req = next_req(io)))
		release_req(io, req, -ECANCELED);
}

static void cancel_used(struct pkvrt_io *io)
{
	struct pkvrt_io_req *req;
	struct cmd *cmd;
	unsigned int i;

	for (i = 0; i < io->nr_cmds; i++) {
		cmd = &io->cmds[i];
		if (cmd->state == CMD_FREE)
			continue;
		TAILQ_FOREACH(req, &cmd->reqs, link)
			if (!req->is_done)
				end_req(io, req, -ECANCELED);
		cmd->late = 1;
		if (cmd->state == CMD_HUNG)
			finish_cmd(io, cmd, -ECANCELED);
		else
			cancel_cmd(io, cmd);
	}
}

unsigned int pkvrt_io_destroy(struct pkvrt_io *io, uint64_t grace_ns)
{
	uint64_t until;
	unsigned int i, nr_kept;

	if (!io)
		return 0;
	until = pkvrt_now_ns() + grace_ns;
	io->closing = 1;
	cancel_queued(io);
	cancel_used(io);
	io->next_deadline_ns = NEVER;
	while (io->nr_used && !submit(io)) {
		take_completions(io);
		run_finished(io);
		cancel_queued(io);
		if (!io->nr_used || pkvrt_now_ns() >= until || sleep_until(io, until))
			break;
	}
	nr_kept = io->nr_used;
	if (io->has_ring)
		io_uring_queue_exit(&io->ring);
	for (i = 0; i < io->nr_cmds; i++)
		if (io->cmds[i].state != CMD_FREE)
			finish_cmd(io, &io->cmds[i], -ECANCELED);
	run_finished(io);
	cancel_queued(io);
	free(io->cmds);
	free(io);
	return nr_kept;
}
