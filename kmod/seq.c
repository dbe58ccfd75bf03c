// SPDX-License-Identifier: GPL-2.0-only
/* Sequences and the prefix index: a call each, but for the step. */
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "pkv.h"

/* Keys of one call, copied; NULL when there are none. */
static struct pkv_key *take_keys(u64 uptr, u32 nr)
{
	if (nr > PAGEDKV_IO_MAX_KEYS)
		return ERR_PTR(-EINVAL);
	return pkv_array_copy(uptr, nr, sizeof(struct pkv_key));
}

int pkv_ioctl_seq_create(struct pkv_call *call)
{
	struct pagedkv_io_seq_create *arg = call->arg;
	struct pkv_client *client = pkv_client_of(call);
	struct pkv_kpool *pool = client->pool;
	struct pkv_key *keys;
	u64 seq = 0;
	u32 nr_hits = 0;
	int ret;

	keys = take_keys(arg->keys, arg->nr_keys);
	if (IS_ERR(keys))
		return PTR_ERR(keys);
	pkv_enter(pool);
	ret = pkv_seq_create(&pool->core, arg->class_id, keys, arg->nr_keys, arg->priority,
			     pkv_client_owner(client), &seq, &nr_hits);
	pkv_leave(pool);
	kvfree(keys);
	if (ret)
		return ret;
	arg->out_seq = seq;
	arg->out_nr_hits = nr_hits;
	ret = pkv_reply(call);
	if (ret) {
		/* Nobody knows its handle. */
		struct pkv_op op = { .seq = seq, .type = PKV_OP_FREE };
		struct pkv_step step = { .ops = &op, .nr_ops = 1 };

		pkv_enter(pool);
		pkv_pool_step(&pool->core, &step);
		pkv_leave(pool);
	}
	return ret;
}

int pkv_ioctl_match(struct pkv_call *call)
{
	struct pagedkv_io_match *arg = call->arg;
	struct pkv_kpool *pool = pkv_client_of(call)->pool;
	struct pkv_key *keys;

	if (arg->class_id >= pool->core.nr_classes)
		return -EINVAL;
	keys = take_keys(arg->keys, arg->nr_keys);
	if (IS_ERR(keys))
		return PTR_ERR(keys);
	pkv_enter(pool);
	arg->out_nr = pkv_prefix_match(&pool->core, arg->class_id, keys, arg->nr_keys,
				       arg->out_per_tier);
	pkv_leave_unchanged(pool);
	kvfree(keys);
	return 0;
}

static int publish_one(struct pkv_kpool *pool, const struct pagedkv_io_publication *item)
{
	struct pkv_key *keys;
	int ret;

	if (item->reserved)
		return -EINVAL;
	keys = take_keys(item->keys, item->nr_keys);
	if (IS_ERR(keys))
		return PTR_ERR(keys);
	pkv_enter(pool);
	ret = pkv_prefix_publish(&pool->core, item->seq, item->first, keys, item->nr_keys);
	pkv_leave(pool);
	kvfree(keys);
	return ret;
}

int pkv_ioctl_publish(struct pkv_call *call)
{
	const struct pagedkv_io_publish *arg = call->arg;
	struct pagedkv_io_publication __user *items = u64_to_user_ptr(arg->items);
	struct pagedkv_io_publication item;
	u32 i;
	int ret;

	if (arg->reserved || arg->nr > PAGEDKV_IO_MAX_ITEMS)
		return -EINVAL;
	for (i = 0; i < arg->nr; i++) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (copy_from_user(&item, &items[i], sizeof(item)))
			return -EFAULT;
		ret = publish_one(pkv_client_of(call)->pool, &item);
		if (put_user(ret, &items[i].out_result))
			return -EFAULT;
		cond_resched();
	}
	return 0;
}

int pkv_ioctl_adopt(struct pkv_call *call)
{
	const struct pagedkv_io_adopt *arg = call->arg;
	struct pkv_kpool *pool = pkv_client_of(call)->pool;
	struct pkv_key key = { .lo = arg->key.lo, .hi = arg->key.hi };
	int ret;

	if (arg->reserved)
		return -EINVAL;
	pkv_enter(pool);
	ret = pkv_prefix_adopt(&pool->core, arg->class_id, arg->tier, arg->slot, &key);
	pkv_leave(pool);
	return ret;
}

static int advise(struct pkv_pool *core, const struct pagedkv_io_advise *arg)
{
	switch (arg->advice) {
	case PAGEDKV_IO_WILLNEED:
		return pkv_seq_load(core, arg->seq);
	case PAGEDKV_IO_COLD:
		return pkv_seq_cold(core, arg->seq);
	case PAGEDKV_IO_DONTNEED:
		return pkv_seq_forget(core, arg->seq);
	case PAGEDKV_IO_PIN:
	case PAGEDKV_IO_UNPIN:
		return pkv_seq_pin(core, arg->seq, arg->advice == PAGEDKV_IO_PIN);
	case PAGEDKV_IO_PRIORITY:
		return pkv_seq_set_priority(core, arg->seq, arg->arg);
	default:
		return -EINVAL;
	}
}

int pkv_ioctl_advise(struct pkv_call *call)
{
	const struct pagedkv_io_advise *arg = call->arg;
	struct pkv_kpool *pool = pkv_client_of(call)->pool;
	int ret;

	if (arg->arg && arg->advice != PAGEDKV_IO_PRIORITY)
		return -EINVAL;
	pkv_enter(pool);
	ret = advise(&pool->core, arg);
	pkv_leave(pool);
	return ret;
}

int pkv_ioctl_seq_state(struct pkv_call *call)
{
	const struct pagedkv_io_seq_state *arg = call->arg;
	struct pkv_kpool *pool = pkv_client_of(call)->pool;
	int ret;

	pkv_enter(pool);
	ret = pkv_seq_state(&pool->core, arg->seq);
	pkv_leave_unchanged(pool);
	return ret;
}

int pkv_ioctl_seq_info(struct pkv_call *call)
{
	struct pagedkv_io_seq_info *arg = call->arg;
	struct pkv_kpool *pool = pkv_client_of(call)->pool;
	struct pkv_seq_info info;
	int ret;

	pkv_enter(pool);
	ret = pkv_seq_info(&pool->core, arg->seq, &info);
	pkv_leave_unchanged(pool);
	if (ret)
		return ret;
	arg->out_state = info.state;
	arg->out_class_id = info.class_id;
	arg->out_len_tokens = info.len_tokens;
	arg->out_nr_pages = info.nr_pages;
	arg->out_nr_shared = info.nr_shared;
	arg->out_nr_missing = info.nr_missing;
	arg->out_lost_tokens = info.lost_tokens;
	arg->out_priority = info.priority;
	return 0;
}

/* Slots of a table that are copied in one go. */
#define TABLE_CHUNK	256U

int pkv_ioctl_seq_table(struct pkv_call *call)
{
	struct pagedkv_io_seq_table *arg = call->arg;
	struct pkv_kpool *pool = pkv_client_of(call)->pool;
	u32 __user *to = u64_to_user_ptr(arg->slots);
	u32 slots[TABLE_CHUNK];
	u32 want;
	int n;

	if (arg->reserved)
		return -EINVAL;
	arg->out_nr = 0;
	do {
		want = min(arg->nr - arg->out_nr, TABLE_CHUNK);
		if (want > U32_MAX - arg->first - arg->out_nr)
			break;
		pkv_enter(pool);
		n = pkv_seq_table(&pool->core, arg->seq, arg->first + arg->out_nr, slots, want);
		pkv_leave_unchanged(pool);
		if (n < 0)
			return n;
		if (copy_to_user(to + arg->out_nr, slots, n * sizeof(*slots)))
			return -EFAULT;
		arg->out_nr += n;
	} while (n == TABLE_CHUNK && arg->out_nr < arg->nr);
	return 0;
}
