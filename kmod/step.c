// SPDX-License-Identifier: GPL-2.0-only
/*
 * The step: any number of operations in one call.
 *
 * It goes through buffers of the client's, a chunk of operations at a time, so
 * that a call of any size needs a bounded amount of memory and never touches
 * user memory under the pool's lock. What a chunk changed is told before the
 * next one is applied; to the caller it is one step.
 */
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "pkv.h"

#define CHUNK_OPS	1024U
#define CHUNK_DELTAS	1024U
#define CHUNK_COPIES	256U

static int alloc_buffers(struct pkv_client *client)
{
	if (client->deltas)
		return 0;
	if (!client->ops)
		client->ops = kvmalloc_array(CHUNK_OPS, sizeof(*client->ops), PKV_GFP_USER);
	if (!client->copies)
		client->copies = kvmalloc_array(CHUNK_COPIES, sizeof(*client->copies),
						PKV_GFP_USER);
	if (!client->ops || !client->copies)
		return -ENOMEM;
	client->deltas = kvmalloc_array(CHUNK_DELTAS, sizeof(*client->deltas), PKV_GFP_USER);
	if (!client->deltas)
		return -ENOMEM;
	client->cap_deltas = CHUNK_DELTAS;
	return 0;
}

/*
 * One append changes more entries than the buffer has. No append changes more
 * than there are device slots, and its tail: -ENOSPC.
 */
static int grow_deltas(struct pkv_client *client)
{
	const struct pkv_pool *core = &client->pool->core;
	struct pkv_delta *deltas;
	u32 most = 0, cap, i;

	for (i = 0; i < core->nr_classes; i++)
		most = max(most, core->classes[i].tiers[PKV_DEVICE].nr_slots + 1);
	if (client->cap_deltas >= most)
		return -ENOSPC;
	cap = min(most, 4 * client->cap_deltas);
	deltas = kvmalloc_array(cap, sizeof(*deltas), PKV_GFP_USER);
	if (!deltas)
		return -ENOMEM;
	kvfree(client->deltas);
	client->deltas = deltas;
	client->cap_deltas = cap;
	return 0;
}

static int tell_forks(const struct pkv_step *step, struct pkv_op __user *to, u64 nr_forks)
{
	u32 i;

	for (i = 0; nr_forks && i < step->nr_done; i++) {
		if (step->ops[i].type != PKV_OP_FORK)
			continue;
		if (put_user(step->ops[i].out_seq, &to[i].out_seq))
			return -EFAULT;
		nr_forks--;
	}
	return 0;
}

/* Write what a chunk has changed behind what the call has told so far. */
static int tell(struct pagedkv_io_step *arg, const struct pkv_step *step, u64 nr_forks)
{
	struct pkv_delta __user *deltas = u64_to_user_ptr(arg->deltas);
	struct pkv_move_desc __user *copies = u64_to_user_ptr(arg->copies);
	struct pkv_op __user *ops = u64_to_user_ptr(arg->ops);

	if (copy_to_user(deltas + arg->out_nr_deltas, step->deltas,
			 step->nr_deltas * sizeof(*deltas)) ||
	    copy_to_user(copies + arg->out_nr_copies, step->copies,
			 step->nr_copies * sizeof(*copies)) ||
	    tell_forks(step, ops + arg->out_nr_done, nr_forks))
		return -EFAULT;
	arg->out_nr_deltas += step->nr_deltas;
	arg->out_nr_copies += step->nr_copies;
	arg->out_nr_done += step->nr_done;
	return 0;
}

/* Copies that the caller can't know of will never be run. */
static void abort_copies(struct pkv_kpool *pool, const struct pkv_step *step)
{
	u32 i;

	pkv_enter(pool);
	for (i = 0; i < step->nr_copies; i++)
		pkv_move_commit(&pool->core, step->copies[i].id, -EFAULT, false);
	pkv_leave(pool);
}

/* Apply operations that lie in the client's buffer, as far as output arrays reach. */
static int apply(struct pkv_client *client, struct pagedkv_io_step *arg, u32 nr)
{
	struct pkv_kpool *pool = client->pool;
	u32 pos = 0, deltas_left, copies_left;
	struct pkv_step step;
	u64 nr_forks;
	int ret = 0;

	while (pos < nr) {
		deltas_left = arg->max_deltas - arg->out_nr_deltas;
		copies_left = arg->max_copies - arg->out_nr_copies;
		step = (struct pkv_step) {
			.ops = client->ops + pos,
			.nr_ops = nr - pos,
			.deltas = client->deltas,
			.max_deltas = min(deltas_left, client->cap_deltas),
			.copies = client->copies,
			.max_copies = min(copies_left, CHUNK_COPIES),
		};
		pkv_enter(pool);
		nr_forks = pool->core.counters.forks;
		ret = pkv_pool_step(&pool->core, &step);
		nr_forks = pool->core.counters.forks - nr_forks;
		pkv_leave(pool);
		if (tell(arg, &step, nr_forks)) {
			abort_copies(pool, &step);
			return -EFAULT;
		}
		pos += step.nr_done;
		if (ret != -ENOBUFS)
			break;
		/* Once more with empty buffers; what does not fit then is one append. */
		if (step.nr_done)
			continue;
		if (step.max_deltas == deltas_left)
			break;
		ret = grow_deltas(client);
		if (ret)
			break;
	}
	return ret;
}

static int step_in_chunks(struct pkv_client *client, struct pagedkv_io_step *arg)
{
	struct pkv_op __user *ops = u64_to_user_ptr(arg->ops);
	u32 nr;
	int ret;

	ret = alloc_buffers(client);
	while (!ret && arg->out_nr_done < arg->nr_ops) {
		nr = min(arg->nr_ops - arg->out_nr_done, CHUNK_OPS);
		if (fatal_signal_pending(current))
			return -EINTR;
		if (copy_from_user(client->ops, ops + arg->out_nr_done, nr * sizeof(*ops)))
			return -EFAULT;
		ret = apply(client, arg, nr);
		cond_resched();
	}
	return ret;
}

int pkv_ioctl_step(struct pkv_call *call)
{
	struct pagedkv_io_step *arg = call->arg;
	struct pkv_client *client = pkv_client_of(call);
	int ret;

	if (arg->nr_ops > PAGEDKV_IO_MAX_ITEMS)
		return -EINVAL;
	arg->out_nr_done = 0;
	arg->out_nr_deltas = 0;
	arg->out_nr_copies = 0;
	/* See that it can be written before anything is done. */
	ret = pkv_reply(call);
	if (ret)
		return ret;
	ret = mutex_lock_killable(&client->step_lock);
	if (ret)
		return ret;
	ret = step_in_chunks(client, arg);
	mutex_unlock(&client->step_lock);
	return ret;
}
