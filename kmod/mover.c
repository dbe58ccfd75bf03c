// SPDX-License-Identifier: GPL-2.0-only
/*
 * Executors: any client that fetches moves. Commit and fetch are one call, so
 * that an executor's round is one. A move that could not be told to its
 * executor is planned anew.
 */
#include <linux/file.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "pkv.h"
#include "compat.h"
#include "trace.h"

#define CHUNK_COMMITS	256U
#define CHUNK_MOVES	256U
#define STACK_MOVES	8U

static int check_commits(const struct pagedkv_io_commit *items, u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		if (items[i].flags & ~PAGEDKV_IO_COMMIT_SOURCE_BAD)
			return -EOPNOTSUPP;
		if (items[i].status > 0 || (!items[i].status && items[i].flags))
			return -EINVAL;
	}
	return 0;
}

static int commit_one(struct pkv_kpool *pool, const struct pagedkv_io_commit *item)
{
	int ret = pkv_move_commit(&pool->core, item->id, item->status,
				  item->flags & PAGEDKV_IO_COMMIT_SOURCE_BAD);

	if (ret)
		return ret;
	pool->nr_commits++;
	if (item->status)
		trace_pagedkv_move_abort(pool->id, item->id, item->status);
	else
		trace_pagedkv_move_commit(pool->id, item->id, 0);
	return 0;
}

static u32 commit_all(struct pkv_kpool *pool, const struct pagedkv_io_commit *items, u32 nr)
{
	u32 i, chunk_end, nr_stale = 0;

	for (i = 0; i < nr; cond_resched()) {
		chunk_end = i + min(nr - i, CHUNK_COMMITS);
		pkv_enter(pool);
		for (; i < chunk_end; i++)
			if (commit_one(pool, &items[i]))
				nr_stale++;
		pkv_leave(pool);
	}
	return nr_stale;
}

static int commit(struct pkv_client *client, struct pagedkv_io_moves *io)
{
	struct pagedkv_io_commit *items;
	int ret;

	items = pkv_array_copy(io->commits, io->nr_commits, sizeof(*items));
	if (IS_ERR(items))
		return PTR_ERR(items);
	ret = check_commits(items, io->nr_commits);
	if (!ret)
		io->out_nr_stale = commit_all(client->pool, items, io->nr_commits);
	kvfree(items);
	return ret;
}

/* Fetch a chunk and tell it: the number, or -errno with nothing fetched. */
static int fetch_chunk(struct pkv_client *client, struct pkv_move_desc __user *to,
		       struct pkv_move_desc *buf, u32 max)
{
	struct pkv_kpool *pool = client->pool;
	u32 i, n = 0;

	pkv_enter(pool);
	client->raised = false;
	if (!client->stopped)
		n = pkv_moves_fetch(&pool->core, client->id, buf, max);
	pkv_leave_fetched(pool);
	for (i = 0; i < n; i++)
		trace_pagedkv_move_begin(pool->id, client->id, &buf[i]);
	if (!copy_to_user(to, buf, n * sizeof(*buf)))
		return n;
	pkv_enter(pool);
	for (i = 0; i < n; i++)
		pkv_move_requeue(&pool->core, buf[i].id);
	pkv_leave(pool);
	return -EFAULT;
}

static int fetch(struct pkv_client *client, struct pagedkv_io_moves *io)
{
	struct pkv_move_desc __user *to = u64_to_user_ptr(io->moves);
	struct pkv_move_desc stack[STACK_MOVES], *buf = stack;
	u32 cap = min(io->max_moves, CHUNK_MOVES);
	int n;

	if (cap > STACK_MOVES) {
		buf = kvmalloc_array(cap, sizeof(*buf), PKV_GFP_USER);
		if (!buf)
			return -ENOMEM;
	}
	do {
		n = fetch_chunk(client, to + io->out_nr_moves, buf,
				min(io->max_moves - io->out_nr_moves, cap));
		if (n > 0)
			io->out_nr_moves += n;
	} while (n == cap && io->out_nr_moves < io->max_moves && !fatal_signal_pending(current));
	if (buf != stack)
		kvfree(buf);
	/* What was told before a bad address stays told. */
	return n < 0 && !io->out_nr_moves ? n : 0;
}

/* Commit, then fetch what there is. */
int pkv_moves_run(struct pkv_client *client, struct pagedkv_io_moves *io)
{
	int ret = 0;

	io->out_nr_stale = 0;
	io->out_nr_moves = 0;
	if (io->nr_commits > PAGEDKV_IO_MAX_ITEMS || io->max_moves > PAGEDKV_IO_MAX_ITEMS)
		return -EINVAL;
	if (io->nr_commits)
		ret = commit(client, io);
	if (!ret && io->max_moves)
		ret = fetch(client, io);
	if (!ret && io->max_moves && READ_ONCE(client->stopped) && !io->out_nr_moves)
		ret = -ECANCELED;
	return ret;
}

int pkv_ioctl_moves(struct pkv_call *call)
{
	struct pagedkv_io_moves *arg = call->arg;
	int ret;

	/* See that it can be written before anything is done. */
	arg->out_nr_stale = 0;
	arg->out_nr_moves = 0;
	ret = pkv_reply(call);
	return ret ? ret : pkv_moves_run(pkv_client_of(call), arg);
}

int pkv_ioctl_moves_stop(struct pkv_call *call)
{
	struct pkv_client *client = pkv_client_of(call);

	pkv_enter(client->pool);
	WRITE_ONCE(client->stopped, true);
	if (client->eventfd)
		pkv_eventfd_signal(client->eventfd);
	pkv_leave(client->pool);
	return 0;
}

int pkv_ioctl_moves_eventfd(struct pkv_call *call)
{
	const struct pagedkv_io_moves_eventfd *arg = call->arg;
	struct pkv_client *client = pkv_client_of(call);
	struct eventfd_ctx *ctx = NULL, *old;

	if (arg->reserved || arg->fd < -1)
		return -EINVAL;
	if (arg->fd >= 0) {
		ctx = eventfd_ctx_fdget(arg->fd);
		if (IS_ERR(ctx))
			return PTR_ERR(ctx);
	}
	pkv_enter(client->pool);
	old = client->eventfd;
	client->eventfd = ctx;
	client->raised = false;
	pkv_leave(client->pool);
	if (old)
		eventfd_ctx_put(old);
	return 0;
}
