// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commands over io_uring that wait: an executor's round of moves, and a
 * sequence's arrival.
 *
 * A command that has nothing to tell yet is parked, under the pool's lock.
 * pkv_leave() sends it, when there may be something, to the task that submitted
 * it, where user memory can be written; only there moves are fetched, so that a
 * task that dies on the way holds none. It may find that another executor was
 * faster, and be parked again.
 *
 * Who ends the parking sees to the completion. Who wants a command cancelled
 * marks it: one that isn't parked is on its way to its task, which will see.
 *
 * From Linux 6.8 on the end of a ring, or of the task, cancels what is pending.
 * Before it nothing says so: while commands are parked a pool looks some times
 * a second for those whose ring is closed or whose task exits or calls exec(),
 * which waits for them. The exit of a process is seen at once, as it closes its
 * descriptors (flush).
 */
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "pkv.h"
#include "compat.h"

#if PKV_HAS_URING

struct pkv_waiter {
	struct list_head node;	/* on client->waiters, from its first parking to its end */
	bool is_parked;
	bool canceled;
	struct pkv_client *client;
	struct io_uring_cmd *cmd;
	fl_owner_t files;	/* of the process that submitted it */
	u64 arg;
	bool is_moves;		/* else it waits for sequence @arg */
};

/* A round of moves: how many were fetched, -errno, or -EAGAIN: none yet. */
static int run_moves(struct pkv_client *client, u64 arg, bool first)
{
	struct pagedkv_io_moves __user *uio = u64_to_user_ptr(arg);
	struct pagedkv_io_moves io;
	int ret;

	ret = pkv_arg_copy(&io, sizeof(io), sizeof(io), uio);
	if (ret)
		return ret;
	if (io.flags)
		return -EOPNOTSUPP;
	/* Commits are for once; what comes of them is told at once too. */
	if (!first)
		io.nr_commits = 0;
	ret = pkv_moves_run(client, &io);
	if ((first && put_user(io.out_nr_stale, &uio->out_nr_stale)) ||
	    put_user(io.out_nr_moves, &uio->out_nr_moves)) {
		/* The result tells the number too, and the moves were written. */
		if (!io.out_nr_moves)
			return ret ? ret : -EFAULT;
	}
	if (ret)
		return ret;
	return !io.max_moves || io.out_nr_moves ? (int)io.out_nr_moves : -EAGAIN;
}

/* What a command says. For its task, which has user memory. */
static int ask(struct pkv_client *client, bool is_moves, u64 arg, bool first)
{
	if (is_moves)
		return run_moves(client, arg, first);
	return pkv_seq_try_wait(client, arg);
}

static struct pkv_waiter **waiter_of(struct io_uring_cmd *cmd)
{
	return (struct pkv_waiter **)cmd->pdu;
}

/* Is there something to tell? Under the pool's lock. */
static bool is_due(const struct pkv_waiter *w)
{
	if (w->canceled || w->client->stopped)
		return true;
	if (w->is_moves)
		return w->client->pool->core.nr_queued;
	return pkv_seq_state(&w->client->pool->core, w->arg) != PKV_SEQ_LOADING;
}

/* Look after what is parked, on kernels that don't say when it should end. */
static void watch_parked(struct pkv_kpool *pool)
{
#if !PKV_HAS_URING_CANCEL
	schedule_delayed_work(&pool->watch, HZ / 10);
#endif
}

/* Wait, unless there is something to tell already. */
static bool park(struct pkv_waiter *w)
{
	struct pkv_kpool *pool = w->client->pool;
	bool due;

	pkv_enter(pool);
	if (list_empty(&w->node))
		list_add_tail(&w->node, &w->client->waiters);
	due = is_due(w);
	if (!due) {
		w->is_parked = true;
		pool->nr_parked++;
		watch_parked(pool);
	}
	pkv_leave_unchanged(pool);
	return !due;
}

/* In the task that submitted the command, or a stand-in for it once it is dying. */
static void run(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	struct pkv_waiter *w = *waiter_of(cmd);
	bool dying = !current->mm || (current->flags & (PF_EXITING | PF_KTHREAD));
	int ret;

	do {
		ret = -ECANCELED;
		if (dying || READ_ONCE(w->canceled) || pkv_uring_ring_is_gone(cmd))
			break;
		ret = ask(w->client, w->is_moves, w->arg, false);
		if (ret == -EAGAIN && park(w))
			return;
		/* Nothing to tell, and nothing to wait for. */
		if (ret == -EAGAIN && READ_ONCE(w->client->stopped))
			ret = -ECANCELED;
	} while (ret == -EAGAIN);
	pkv_enter(w->client->pool);
	list_del(&w->node);
	/* What it was woken for is another one's then. */
	if (ret == -ECANCELED)
		pkv_leave(w->client->pool);
	else
		pkv_leave_unchanged(w->client->pool);
	/* Cancellation may look at @w until the command is done. */
	pkv_uring_done(cmd, ret, issue_flags);
	kfree(w);
}

PKV_URING_TASK_WORK(run_in_task, run)

/* To its task, where it ends or goes on; under the pool's lock. */
static void unpark(struct pkv_waiter *w)
{
	w->is_parked = false;
	w->client->pool->nr_parked--;
	io_uring_cmd_complete_in_task(w->cmd, run_in_task);
}

/* Send what is due to its tasks; under the pool's lock. Moves go to no more than there are. */
void pkv_uring_wake(struct pkv_kpool *pool)
{
	u32 nr_moves = pool->core.nr_queued;
	struct pkv_client *client;
	struct pkv_waiter *w;

	list_for_each_entry(client, &pool->clients, node)
		list_for_each_entry(w, &client->waiters, node) {
			if (!w->is_parked || !is_due(w))
				continue;
			if (w->is_moves && !client->stopped) {
				if (!nr_moves)
					continue;
				nr_moves--;
			}
			unpark(w);
		}
}

/* End the client's commands, or those that were submitted with @files. */
static void cancel_parked(struct pkv_client *client, fl_owner_t files)
{
	struct pkv_waiter *w;

	pkv_enter(client->pool);
	list_for_each_entry(w, &client->waiters, node) {
		if (files && w->files != files)
			continue;
		WRITE_ONCE(w->canceled, true);
		if (w->is_parked)
			unpark(w);
	}
	pkv_leave(client->pool);
}

int pkv_ioctl_quiesce(struct pkv_call *call)
{
	cancel_parked(pkv_client_of(call), NULL);
	return 0;
}

#if PKV_HAS_URING_CANCEL

/* The ring ends, or the task that submitted the command. */
static void cancel(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	struct pkv_waiter *w = *waiter_of(cmd);
	struct pkv_kpool *pool = w->client->pool;
	bool found;

	pkv_enter(pool);
	WRITE_ONCE(w->canceled, true);
	found = w->is_parked;
	if (found) {
		pool->nr_parked--;
		list_del(&w->node);
	}
	pkv_leave_unchanged(pool);
	if (!found)
		return;
	pkv_uring_done(cmd, -ECANCELED, issue_flags);
	kfree(w);
}

void pkv_uring_init(struct pkv_kpool *pool)
{
}

void pkv_uring_exit(struct pkv_kpool *pool)
{
}

#else

/* Nobody will see it complete, or somebody waits for that to go away. */
static bool is_orphan(const struct pkv_waiter *w)
{
	const struct task_struct *task = pkv_uring_task(w->cmd);

	return pkv_uring_ring_is_gone(w->cmd) || (task->flags & PF_EXITING) || task->in_execve;
}

static void watch(struct work_struct *work)
{
	struct pkv_kpool *pool = container_of(work, struct pkv_kpool, watch.work);
	struct pkv_client *client;
	struct pkv_waiter *w;

	pkv_enter(pool);
	list_for_each_entry(client, &pool->clients, node)
		list_for_each_entry(w, &client->waiters, node) {
			if (!w->is_parked || !is_orphan(w))
				continue;
			WRITE_ONCE(w->canceled, true);
			unpark(w);
			/* It runs a ring's deferred work once it looks. */
			if (pkv_uring_task(w->cmd)->in_execve)
				wake_up_process(pkv_uring_task(w->cmd));
		}
	if (pool->nr_parked)
		watch_parked(pool);
	pkv_leave(pool);
}

void pkv_uring_init(struct pkv_kpool *pool)
{
	INIT_DELAYED_WORK(&pool->watch, watch);
}

/* No client is left, and so nothing that is parked. */
void pkv_uring_exit(struct pkv_kpool *pool)
{
	cancel_delayed_work_sync(&pool->watch);
}

int pkv_client_flush(struct file *file, fl_owner_t files)
{
	if (current->flags & PF_EXITING)
		cancel_parked(file->private_data, files);
	return 0;
}

#endif

static int submit(struct io_uring_cmd *cmd, unsigned int issue_flags, bool is_moves, u64 arg)
{
	struct pkv_client *client = cmd->file->private_data;
	struct pkv_waiter *w;
	int ret;

	w = kzalloc(sizeof(*w), GFP_KERNEL_ACCOUNT);
	if (!w)
		return -ENOMEM;
	INIT_LIST_HEAD(&w->node);
	w->client = client;
	w->cmd = cmd;
	w->files = current->files;
	w->arg = arg;
	w->is_moves = is_moves;
	ret = ask(client, is_moves, arg, true);
	if (ret != -EAGAIN) {
		kfree(w);
		return ret;
	}
	*waiter_of(cmd) = w;
	/* From here on it ends by completion alone: a cancel before it is parked only marks it. */
	pkv_uring_mark_cancelable(cmd, issue_flags);
	if (!park(w))
		io_uring_cmd_complete_in_task(cmd, run_in_task);
	return -EIOCBQUEUED;
}

int pkv_uring_cmd(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	const struct pagedkv_uring_cmd *sqe;
	u32 flags, reserved;
	u64 arg;

#if PKV_HAS_URING_CANCEL
	if (issue_flags & IO_URING_F_CANCEL) {
		cancel(cmd, issue_flags);
		return 0;
	}
#endif
	sqe = pkv_uring_payload(cmd);
	arg = READ_ONCE(sqe->arg);
	flags = READ_ONCE(sqe->flags);
	reserved = READ_ONCE(sqe->reserved);
	if (cmd->cmd_op != PAGEDKV_URING_MOVES && cmd->cmd_op != PAGEDKV_URING_SEQ_WAIT)
		return -ENOTTY;
	if (flags)
		return -EOPNOTSUPP;
	if (reserved)
		return -EINVAL;
	return submit(cmd, issue_flags, cmd->cmd_op == PAGEDKV_URING_MOVES, arg);
}

#endif
