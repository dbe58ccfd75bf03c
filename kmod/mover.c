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
/* A call with no more needs no memory; what is on the stack has to be cleared each time. */
#define STACK_COMMITS	4U
#define STACK_MOVES	4U

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

/* The call's commits, checked, to *@items: there is room for a few. */
static int take_commits(const struct pagedkv_io_moves *io, struct pagedkv_io_commit **items)
{
	const void __user *from = u64_to_user_ptr(io->commits);
	void *many;

	if (io->nr_commits > STACK_COMMITS) {
		many = pkv_array_copy(io->commits, io->nr_commits, sizeof(**items));
		if (IS_ERR(many))
			return PTR_ERR(many);
		*items = many;
	} else if (copy_from_user(*items, from, io->nr_commits * sizeof(**items))) {
		return -EFAULT;
	}
	return check_commits(*items, io->nr_commits);
}

static int commit_one(struct pkv_kpool *pool, const struct pagedkv_io_commit *item)
{
	int ret = pkv_move_commit(&pool->core, item->id, item->status,
				  item->flags & PAGEDKV_IO_COMMIT_SOURCE_BAD);

	if (ret)
		return ret;
	pool->nr_commits++;
	pkv_executor_came(pool);
	if (item->status)
		trace_pagedkv_move_abort(pool->id, item->id, item->status);
	else
		trace_pagedkv_move_commit(pool->id, item->id, 0);
	return 0;
}

/* Tell what was fetched: the number, or -EFAULT and it is planned anew. */
static int tell(struct pkv_client *client, struct pkv_move_desc __user *to,
		const struct pkv_move_desc *moves, u32 nr)
{
	struct pkv_kpool *pool = client->pool;
	u32 i;

	for (i = 0; i < nr; i++)
		trace_pagedkv_move_begin(pool->id, client->id, &moves[i]);
	if (!copy_to_user(to, moves, nr * sizeof(*moves)))
		return nr;
	pkv_enter(pool);
	for (i = 0; i < nr; i++)
		pkv_move_requeue(&pool->core, moves[i].id);
	pkv_leave(pool);
	return -EFAULT;
}

/* A call's commits, and room for what it fetches at a time. */
struct round {
	struct pagedkv_io_commit *commits;
	struct pkv_move_desc *moves;
	u32 nr_committed;
	u32 cap_moves;
};

/* Whether or not there are moves: somebody came for them. */
static u32 fetch(struct pkv_client *client, struct pkv_move_desc *moves, u32 max)
{
	struct pkv_kpool *pool = client->pool;

	pkv_executor_came(pool);
	return pkv_moves_fetch(&pool->core, client->id, moves, max);
}

/* A chunk of commits and, once they are all done, of moves: the number fetched, or -errno. */
static int run_round(struct pkv_client *client, struct pagedkv_io_moves *io, struct round *r)
{
	struct pkv_move_desc __user *to = u64_to_user_ptr(io->moves);
	struct pkv_kpool *pool = client->pool;
	u32 first = r->nr_committed, n = 0;
	u32 end = first + min(io->nr_commits - first, CHUNK_COMMITS);

	pkv_enter(pool);
	for (; r->nr_committed < end; r->nr_committed++)
		if (commit_one(pool, &r->commits[r->nr_committed]))
			io->out_nr_stale++;
	if (end == io->nr_commits && io->max_moves) {
		client->raised = false;
		if (!client->stopped)
			n = fetch(client, r->moves,
				  min(io->max_moves - io->out_nr_moves, r->cap_moves));
	}
	if (first < end)
		pkv_leave(pool);
	else
		pkv_leave_fetched(pool);
	return n ? tell(client, to + io->out_nr_moves, r->moves, n) : 0;
}

static int run_rounds(struct pkv_client *client, struct pagedkv_io_moves *io, struct round *r)
{
	bool more;
	int n;

	do {
		n = run_round(client, io, r);
		if (n < 0)
			break;
		io->out_nr_moves += n;
		more = r->nr_committed < io->nr_commits ||
		       (n && n == r->cap_moves && io->out_nr_moves < io->max_moves &&
			!fatal_signal_pending(current));
		cond_resched();
	} while (more);
	/* What was told before a bad address stays told. */
	return n < 0 && !io->out_nr_moves ? n : 0;
}

/* Commit, then fetch what there is. */
int pkv_moves_run(struct pkv_client *client, struct pagedkv_io_moves *io)
{
	struct pagedkv_io_commit few_commits[STACK_COMMITS];
	struct pkv_move_desc few_moves[STACK_MOVES];
	struct round r = {
		.commits = few_commits,
		.moves = few_moves,
		.cap_moves = min(io->max_moves, CHUNK_MOVES),
	};
	int ret;

	io->out_nr_stale = 0;
	io->out_nr_moves = 0;
	if (io->nr_commits > PAGEDKV_IO_MAX_ITEMS || io->max_moves > PAGEDKV_IO_MAX_ITEMS)
		return -EINVAL;
	ret = take_commits(io, &r.commits);
	if (!ret && r.cap_moves > STACK_MOVES) {
		r.moves = kvmalloc_array(r.cap_moves, sizeof(*r.moves), PKV_GFP_USER);
		if (!r.moves)
			ret = -ENOMEM;
	}
	if (!ret)
		ret = run_rounds(client, io, &r);
	if (!ret && io->max_moves && READ_ONCE(client->stopped) && !io->out_nr_moves)
		ret = -ECANCELED;
	if (r.commits != few_commits)
		kvfree(r.commits);
	if (r.moves != few_moves)
		kvfree(r.moves);
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
