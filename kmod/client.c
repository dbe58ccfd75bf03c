// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clients: open files of a pool, what they are told when something changes,
 * and how they wait for it. Every call that may plan moves, end them or change
 * a sequence's state ends in pkv_leave().
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "pkv.h"
#include "compat.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static bool anybody_traces(void)
{
	return trace_pagedkv_alloc_enabled() || trace_pagedkv_free_enabled() ||
	       trace_pagedkv_fork_enabled() || trace_pagedkv_evict_enabled() ||
	       trace_pagedkv_miss_enabled() || trace_pagedkv_hold_enabled();
}

void pkv_enter(struct pkv_kpool *pool)
{
	mutex_lock(&pool->lock);
	WRITE_ONCE(pool->holder, current);
	if (!pool->core.nr_queued)
		pool->nr_vain = 0;
	pool->is_traced = anybody_traces();
	if (pool->is_traced) {
		pool->seen = pool->core.counters;
		pool->entered_ns = ktime_get_ns();
	}
}

/* Pages that left a tier for a slower one, or were given up for room. */
static u64 nr_evicted(const struct pkv_counters *c)
{
	u64 nr = c->drops;
	u32 from, to;

	for (from = 0; from < PKV_NR_TIERS; from++)
		for (to = from + 1; to < PKV_NR_TIERS; to++)
			nr += c->moves[from][to];
	return nr;
}

static void trace_changes(const struct pkv_kpool *pool)
{
	const struct pkv_counters *was = &pool->seen, *is = &pool->core.counters;
	u64 misses = (is->lookups - is->hits) - (was->lookups - was->hits);
	u64 evicted = nr_evicted(is) - nr_evicted(was);

	if (is->allocs != was->allocs)
		trace_pagedkv_alloc(pool->id, is->allocs - was->allocs);
	if (is->frees != was->frees)
		trace_pagedkv_free(pool->id, is->frees - was->frees);
	if (is->forks != was->forks)
		trace_pagedkv_fork(pool->id, is->forks - was->forks);
	if (evicted)
		trace_pagedkv_evict(pool->id, evicted);
	if (misses)
		trace_pagedkv_miss(pool->id, misses);
}

/* After a look: nothing was planned, and nobody waits for it. */
void pkv_leave_unchanged(struct pkv_kpool *pool)
{
	if (pool->is_traced)
		trace_pagedkv_hold(pool->id, ktime_get_ns() - pool->entered_ns);
	WRITE_ONCE(pool->holder, NULL);
	mutex_unlock(&pool->lock);
}

static void raise_eventfds(struct pkv_kpool *pool)
{
	struct pkv_client *client;

	list_for_each_entry(client, &pool->clients, node) {
		if (!client->eventfd || client->raised || client->stopped)
			continue;
		client->raised = true;
		pkv_eventfd_signal(client->eventfd);
	}
}

void pkv_leave(struct pkv_kpool *pool)
{
	if (pool->core.nr_queued)
		raise_eventfds(pool);
#if PKV_HAS_URING
	if (pool->nr_parked)
		pkv_uring_wake(pool);
#endif
	if (pool->is_traced)
		trace_changes(pool);
	pkv_leave_unchanged(pool);
	if (wq_has_sleeper(&pool->changed))
		wake_up_interruptible_all(&pool->changed);
}

/* After a fetch: nobody waits for that, but executors for what it left. */
void pkv_leave_fetched(struct pkv_kpool *pool)
{
	if (pool->core.nr_queued)
		raise_eventfds(pool);
	pkv_leave_unchanged(pool);
}

/* ---------------------------------------------------------------- waiting */

/* What a client waits for: 0 or an error once it need not wait any more, else -EAGAIN. */
typedef int (*wait_fn)(struct pkv_client *client, u64 what);

/* This client will fetch no more, and nothing else is under way. */
static bool is_dead_end(const struct pkv_client *client)
{
	const struct pkv_pool *core = &client->pool->core;

	return client->stopped && core->nr_moves == core->nr_queued;
}

static int seq_arrived(struct pkv_client *client, u64 seq)
{
	int state = pkv_seq_state(&client->pool->core, seq);

	if (state < 0)
		return state;
	if (state != PKV_SEQ_LOADING)
		return 0;
	return is_dead_end(client) ? -ECANCELED : -EAGAIN;
}

static int move_ended(struct pkv_client *client, u64 nr_commits)
{
	if (client->pool->nr_commits != nr_commits || !client->pool->core.nr_moves)
		return 0;
	return is_dead_end(client) ? -ECANCELED : -EAGAIN;
}

/* Time left, in jiffies, rounded up so that the deadline has passed when none is. */
static long jiffies_until(u64 deadline_ns)
{
	u64 now = ktime_get_ns();

	if (now >= deadline_ns)
		return 0;
	return (long)min_t(u64, nsecs_to_jiffies64(deadline_ns - now) + 1, MAX_JIFFY_OFFSET);
}

static int wait_for(struct pkv_client *client, wait_fn done, u64 what, u64 deadline_ns)
{
	struct pkv_kpool *pool = client->pool;
	DEFINE_WAIT_FUNC(wait, woken_wake_function);
	long left;
	int ret;

	add_wait_queue(&pool->changed, &wait);
	for (;;) {
		pkv_enter(pool);
		ret = done(client, what);
		pkv_leave_unchanged(pool);
		if (ret != -EAGAIN)
			break;
		left = jiffies_until(deadline_ns);
		if (!left) {
			ret = -ETIMEDOUT;
			break;
		}
		if (signal_pending(current)) {
			ret = -ERESTARTSYS;
			break;
		}
		wait_woken(&wait, TASK_INTERRUPTIBLE, left);
	}
	remove_wait_queue(&pool->changed, &wait);
	return ret;
}

/* 0 or an error when there is nothing to wait for, else -EAGAIN. */
int pkv_seq_try_wait(struct pkv_client *client, u64 seq)
{
	int ret;

	pkv_enter(client->pool);
	ret = seq_arrived(client, seq);
	pkv_leave_unchanged(client->pool);
	return ret;
}

int pkv_seq_wait(struct pkv_call *call)
{
	const struct pagedkv_io_seq_wait *arg = call->arg;

	return wait_for(pkv_client_of(call), seq_arrived, arg->seq, arg->deadline_ns);
}

int pkv_moves_wait(struct pkv_call *call)
{
	const struct pagedkv_io_moves_wait *arg = call->arg;
	struct pkv_client *client = pkv_client_of(call);
	u64 nr_commits;

	pkv_enter(client->pool);
	nr_commits = client->pool->nr_commits;
	pkv_leave_unchanged(client->pool);
	return wait_for(client, move_ended, nr_commits, arg->deadline_ns);
}

static __poll_t client_poll(struct file *file, poll_table *table)
{
	struct pkv_client *client = file->private_data;
	struct pkv_kpool *pool = client->pool;
	__poll_t events = 0;

	poll_wait(file, &pool->changed, table);
	pkv_enter(pool);
	if (pool->core.nr_queued || client->stopped)
		events = EPOLLIN | EPOLLRDNORM;
	pkv_leave_unchanged(pool);
	return events;
}

/* ------------------------------------------------------------------- life */

static DEFINE_IDA(client_ids);

/*
 * A file of @pool, not yet a descriptor; the caller's use of the pool is its,
 * and has ended when it fails.
 */
int pkv_client_open(struct pkv_kpool *pool, struct file *opener, struct file **out)
{
	struct pkv_client *client;
	struct file *file;
	int ret;

	client = kzalloc(sizeof(*client), GFP_KERNEL_ACCOUNT);
	if (!client) {
		ret = -ENOMEM;
		goto put_pool;
	}
	ret = ida_alloc_range(&client_ids, 1, INT_MAX, GFP_KERNEL);
	if (ret < 0)
		goto free_client;
	client->id = ret;
	client->pool = pool;
	client->opener = get_file(opener);
	mutex_init(&client->step_lock);
	INIT_LIST_HEAD(&client->waiters);
	file = anon_inode_getfile("[pagedkv]", &pkv_pool_fops, client, O_RDWR);
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
		goto put_opener;
	}
	pkv_enter(pool);
	list_add_tail(&client->node, &pool->clients);
	WRITE_ONCE(pool->nr_clients, pool->nr_clients + 1);
	pkv_executor_came(pool);
	pkv_leave(pool);
	*out = file;
	return 0;

put_opener:
	fput(client->opener);
	ida_free(&client_ids, client->id);
free_client:
	kfree(client);
put_pool:
	pkv_kpool_leave(pool);
	return ret;
}

/*
 * The device's memory went with the last client, unless the pool keeps a file
 * that may be it: the next one must not find pages there.
 */
static void forget_device(struct pkv_kpool *pool)
{
	u32 i;

	if (pool->nr_clients || pool->nr_foreign || !(pool->flags & PAGEDKV_IO_POOL_PERSIST))
		return;
	for (i = 0; i < pool->core.nr_classes; i++)
		WARN_ON_ONCE(pkv_pool_set_tier_state(&pool->core, i, PKV_DEVICE,
						     PKV_TIER_OFFLINE));
}

/* The last descriptor of a client is gone, whatever the cause: so is all that was its own. */
static int client_release(struct inode *inode, struct file *file)
{
	struct pkv_client *client = file->private_data;
	struct pkv_kpool *pool = client->pool;

	pkv_enter(pool);
	list_del(&client->node);
	WRITE_ONCE(pool->nr_clients, pool->nr_clients - 1);
	pkv_seqs_free_owner(&pool->core, pkv_client_owner(client));
	pkv_moves_requeue(&pool->core, client->id);
	forget_device(pool);
	pkv_leave(pool);
	if (client->eventfd)
		eventfd_ctx_put(client->eventfd);
	kvfree(client->ops);
	kvfree(client->copies);
	kvfree(client->deltas);
	fput(client->opener);
	ida_free(&client_ids, client->id);
	kfree(client);
	pkv_kpool_leave(pool);
	return 0;
}

/* --------------------------------------------------------------- commands */

static const struct pkv_command pool_commands[] = {
	PKV_COMMAND(PAGEDKV_CMD_INFO, pkv_info, pagedkv_io_info, out_nr_nodes, 0, RESULT),
	PKV_COMMAND(PAGEDKV_CMD_POOL_INFO, pkv_pool_info, pagedkv_io_pool_info, out_classes, 0,
		    RESULT),
	PKV_COMMAND(PAGEDKV_CMD_SET_LIMIT, pkv_set_limit, pagedkv_io_set_limit, reserved,
		    PAGEDKV_IO_LIMIT_CEILING, NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_TIER_STATE, pkv_tier_state, pagedkv_io_tier_state, reserved, 0,
		    NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_HOST_MAP, pkv_ioctl_host_map, pagedkv_io_host_map,
		    out_huge_bytes, 0, RESULT),
	PKV_COMMAND(PAGEDKV_CMD_SEQ_CREATE, pkv_ioctl_seq_create, pagedkv_io_seq_create, out_seq,
		    0, NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_MATCH, pkv_ioctl_match, pagedkv_io_match, out_per_tier, 0,
		    RESULT),
	PKV_COMMAND(PAGEDKV_CMD_PUBLISH, pkv_ioctl_publish, pagedkv_io_publish, reserved, 0,
		    NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_STEP, pkv_ioctl_step, pagedkv_io_step, out_nr_copies, 0, ALWAYS),
	PKV_COMMAND(PAGEDKV_CMD_ADVISE, pkv_ioctl_advise, pagedkv_io_advise, arg, 0, NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_SEQ_STATE, pkv_ioctl_seq_state, pagedkv_io_seq_state, seq, 0,
		    NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_SEQ_INFO, pkv_ioctl_seq_info, pagedkv_io_seq_info, out_priority,
		    0, RESULT),
	PKV_COMMAND(PAGEDKV_CMD_SEQ_TABLE, pkv_ioctl_seq_table, pagedkv_io_seq_table, reserved, 0,
		    RESULT),
	PKV_COMMAND(PAGEDKV_CMD_SEQ_WAIT, pkv_seq_wait, pagedkv_io_seq_wait, deadline_ns, 0,
		    NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_ADOPT, pkv_ioctl_adopt, pagedkv_io_adopt, key, 0, NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_MOVES, pkv_ioctl_moves, pagedkv_io_moves, out_nr_moves, 0,
		    ALWAYS),
	PKV_COMMAND(PAGEDKV_CMD_MOVES_WAIT, pkv_moves_wait, pagedkv_io_moves_wait, deadline_ns, 0,
		    NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_MOVES_STOP, pkv_ioctl_moves_stop, pagedkv_io_empty, flags, 0,
		    NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_MOVES_EVENTFD, pkv_ioctl_moves_eventfd, pagedkv_io_moves_eventfd,
		    reserved, 0, NOTHING),
#if PKV_HAS_URING
	PKV_COMMAND(PAGEDKV_CMD_QUIESCE, pkv_ioctl_quiesce, pagedkv_io_empty, flags, 0, NOTHING),
#endif
	PKV_COMMAND(PAGEDKV_CMD_STATS, pkv_ioctl_stats, pagedkv_io_stats, out_metadata_bytes, 0,
		    RESULT),
	PKV_COMMAND(PAGEDKV_CMD_MAP, pkv_ioctl_map, pagedkv_io_map, out_nr, 0, RESULT),
	PKV_COMMAND(PAGEDKV_CMD_CHECK, pkv_ioctl_check, pagedkv_io_check, out_why, 0, ALWAYS),
	PKV_COMMAND(PAGEDKV_CMD_FILE_KEEP, pkv_ioctl_file_keep, pagedkv_io_file_keep, reserved, 0,
		    NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_FILE_TAKE, pkv_ioctl_file_take, pagedkv_io_file_take, reserved, 0,
		    NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_FILE_DROP, pkv_ioctl_file_drop, pagedkv_io_file_drop, name, 0,
		    NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_FILE_LIST, pkv_ioctl_file_list, pagedkv_io_file_list, out_nr, 0,
		    RESULT),
};

static long client_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return pkv_dispatch(file, pool_commands, ARRAY_SIZE(pool_commands), cmd, arg);
}

const struct file_operations pkv_pool_fops = {
	.owner = THIS_MODULE,
	.release = client_release,
	.poll = client_poll,
	.mmap = pkv_host_mmap,
	.get_unmapped_area = thp_get_unmapped_area,
	.unlocked_ioctl = client_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
#if PKV_HAS_URING
	.uring_cmd = pkv_uring_cmd,
#endif
#if PKV_HAS_URING && !PKV_HAS_URING_CANCEL
	.flush = pkv_client_flush,
#endif
};
