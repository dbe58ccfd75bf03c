// SPDX-License-Identifier: GPL-2.0-only
/* /dev/pagedkv: the device, its table of commands, and how any command is called. */
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/nospec.h>
#include <linux/uaccess.h>

#include "pkv.h"
#include "compat.h"

/* Elements of arrays cross between user space and the page manager as they are. */
#define SAME_SIZE(a, b) static_assert(sizeof(struct a) == sizeof(struct b))
#define SAME_FIELD(a, b, field) \
	static_assert(offsetof(struct a, field) == offsetof(struct b, field) && \
		      sizeof_field(struct a, field) == sizeof_field(struct b, field))

SAME_SIZE(pagedkv_io_key, pkv_key);
SAME_FIELD(pagedkv_io_key, pkv_key, lo);
SAME_SIZE(pagedkv_io_op, pkv_op);
SAME_FIELD(pagedkv_io_op, pkv_op, seq);
SAME_FIELD(pagedkv_io_op, pkv_op, type);
SAME_FIELD(pagedkv_io_op, pkv_op, arg);
SAME_FIELD(pagedkv_io_op, pkv_op, out_seq);
SAME_SIZE(pagedkv_io_delta, pkv_delta);
SAME_FIELD(pagedkv_io_delta, pkv_delta, seq);
SAME_FIELD(pagedkv_io_delta, pkv_delta, index);
SAME_FIELD(pagedkv_io_delta, pkv_delta, slot);
SAME_SIZE(pagedkv_io_move, pkv_move_desc);
SAME_FIELD(pagedkv_io_move, pkv_move_desc, id);
SAME_FIELD(pagedkv_io_move, pkv_move_desc, class_id);
SAME_FIELD(pagedkv_io_move, pkv_move_desc, kind);
SAME_FIELD(pagedkv_io_move, pkv_move_desc, src_tier);
SAME_FIELD(pagedkv_io_move, pkv_move_desc, src_slot);
SAME_FIELD(pagedkv_io_move, pkv_move_desc, dst_tier);
SAME_FIELD(pagedkv_io_move, pkv_move_desc, dst_slot);
SAME_FIELD(pagedkv_io_move, pkv_move_desc, key);
static_assert((int)PAGEDKV_IO_NR_TIERS == (int)PKV_NR_TIERS);
static_assert((int)PAGEDKV_IO_MAX_CLASSES == (int)PKV_MAX_CLASSES);
static_assert((int)PAGEDKV_IO_OP_FREE == (int)PKV_OP_FREE);
static_assert((int)PAGEDKV_IO_MOVE_COPY == (int)PKV_MOVE_COPY);

/* No struct comes near it: a size above is garbage, not a later version. */
#define MAX_ARG_BYTES	4096U

/* What most commands have: it is little to clear and to copy. */
#define SHORT_ARG_BYTES	64U

union any_arg {
	struct pagedkv_io_info info;
	struct pagedkv_io_pool_create create;
	struct pagedkv_io_pool_info pool_info;
	struct pagedkv_io_stats stats;
	struct pagedkv_io_check check;
	struct pagedkv_io_step step;
};

int pkv_reply(const struct pkv_call *call)
{
	return copy_to_user(call->uarg, call->arg, min(call->size, call->ksize)) ? -EFAULT : 0;
}

/* An array of the caller's, copied; NULL when it is empty. To be freed with kvfree(). */
void *pkv_array_copy(u64 uptr, u32 nr, size_t size)
{
	void *p;

	if (!nr)
		return NULL;
	p = kvmalloc_array(nr, size, PKV_GFP_USER);
	if (!p)
		return ERR_PTR(-ENOMEM);
	if (copy_from_user(p, u64_to_user_ptr(uptr), nr * size)) {
		kvfree(p);
		return ERR_PTR(-EFAULT);
	}
	return p;
}

/* A caller's struct of any size from @min_size on, as far as it is known here. */
static noinline int copy_any(void *to, u32 ksize, u32 min_size, const void __user *from)
{
	struct pagedkv_io_empty *head = to;
	u32 size;
	int ret;

	if (get_user(size, (const u32 __user *)from))
		return -EFAULT;
	if (size < min_size)
		return -EINVAL;
	if (size > MAX_ARG_BYTES)
		return -E2BIG;
	ret = copy_struct_from_user(to, ksize, from, size);
	head->size = size;
	return ret;
}

/*
 * A caller's short struct that is as long as ours, word by word: a third of
 * what calls to get its size, check ours and copy the rest cost.
 */
static __always_inline bool copy_short(u64 *to, u32 ksize, const u64 __user *from)
{
	u32 i;

	if (ksize > SHORT_ARG_BYTES || !user_read_access_begin(from, ksize))
		return false;
	for (i = 0; i < ksize / sizeof(*to); i++)
		unsafe_get_user(to[i], &from[i], fault);
	user_read_access_end();
	return ((struct pagedkv_io_empty *)to)->size == ksize;

fault:
	user_read_access_end();
	return false;
}

static __always_inline int copy_arg(void *to, u32 ksize, u32 min_size, const void __user *from)
{
	return copy_short(to, ksize, from) ? 0 : copy_any(to, ksize, min_size, from);
}

/*
 * A caller's struct as it is known here: @ksize bytes, a multiple of 8, that
 * begin with the size that the caller gives it.
 */
int pkv_arg_copy(void *to, u32 ksize, u32 min_size, const void __user *from)
{
	return copy_arg(to, ksize, min_size, from);
}

static __always_inline int run(const struct pkv_command *c, struct pkv_call *call)
{
	struct pagedkv_io_empty *head = call->arg;
	int ret = copy_arg(call->arg, c->size, c->min_size, call->uarg);

	if (ret)
		return ret;
	if (head->flags & ~c->flags)
		return -EOPNOTSUPP;
	call->size = head->size;
	call->ksize = c->size;
	ret = c->run(call);
	if (c->reply == PKV_REPLY_ALWAYS || (c->reply == PKV_REPLY_RESULT && ret >= 0))
		if (pkv_reply(call))
			return -EFAULT;
	return ret;
}

/* Kernels clear what is on the stack: that much only where it is needed. */
static noinline_for_stack int run_long(const struct pkv_command *c, struct pkv_call *call)
{
	union any_arg arg;

	if (WARN_ON_ONCE(c->size > sizeof(arg)))
		return -ENOTTY;
	call->arg = &arg;
	return run(c, call);
}

long pkv_dispatch(struct file *file, const struct pkv_command *table, u32 nr, unsigned int cmd,
		  unsigned long arg)
{
	u64 short_arg[SHORT_ARG_BYTES / sizeof(u64)];
	struct pkv_call call = {
		.file = file, .arg = short_arg, .uarg = (void __user *)arg,
	};
	const struct pkv_command *c;

	if (_IOC_NR(cmd) >= nr)
		return -ENOTTY;
	c = &table[array_index_nospec(_IOC_NR(cmd), nr)];
	if (c->cmd != cmd)
		return -ENOTTY;
	return c->size > SHORT_ARG_BYTES ? run_long(c, &call) : run(c, &call);
}

int pkv_info(struct pkv_call *call)
{
	struct pagedkv_io_info *info = call->arg;

	info->out_features = PAGEDKV_IO_F_PERSIST | PAGEDKV_IO_F_HOST | PAGEDKV_IO_F_FILES;
#if PKV_HAS_URING
	info->out_features |= PAGEDKV_IO_F_URING | PAGEDKV_IO_F_CANCEL;
#endif
	info->out_max_classes = PKV_MAX_CLASSES;
	info->out_max_seqs = PKV_MAX_SEQS;
	info->out_max_moves = 65536;
	info->out_max_pages = PKV_MAX_PAGES;
	info->out_max_ranks = 1;
	info->out_nr_nodes = num_node_state(N_MEMORY);
	return 0;
}

static const struct pkv_command device_commands[] = {
	PKV_COMMAND(PAGEDKV_CMD_INFO, pkv_info, pagedkv_io_info, out_nr_nodes, 0, RESULT),
	PKV_COMMAND(PAGEDKV_CMD_POOL_CREATE, pkv_pool_create, pagedkv_io_pool_create, out_id,
		    PAGEDKV_IO_POOL_PERSIST, NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_POOL_OPEN, pkv_pool_open, pagedkv_io_pool_open, out_id, 0,
		    NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_POOL_DESTROY, pkv_pool_destroy, pagedkv_io_pool_destroy, name, 0,
		    NOTHING),
	PKV_COMMAND(PAGEDKV_CMD_POOL_LIST, pkv_pool_list, pagedkv_io_pool_list, reserved, 0,
		    RESULT),
};

static long device_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return pkv_dispatch(file, device_commands, ARRAY_SIZE(device_commands), cmd, arg);
}

static const struct file_operations device_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pagedkv",
	.fops = &device_fops,
	.mode = 0660,
};

static int __init pkv_module_init(void)
{
	int ret = pkv_shrinker_init();

	if (ret)
		return ret;
	ret = pkv_proc_init();
	if (ret)
		goto exit_shrinker;
	pkv_debugfs_init();
	ret = misc_register(&device);
	if (ret)
		goto exit_proc;
	return 0;

exit_proc:
	pkv_debugfs_exit();
	pkv_proc_exit();
exit_shrinker:
	pkv_shrinker_stop();
	pkv_shrinker_exit();
	return ret;
}

static void __exit pkv_module_exit(void)
{
	misc_deregister(&device);
	pkv_pools_exit();
	/* Others may refer to a pool for a moment yet: its demotion, readers of /proc. */
	pkv_shrinker_stop();
	pkv_debugfs_exit();
	pkv_proc_exit();
	pkv_hosts_exit();
	pkv_shrinker_exit();
}

module_init(pkv_module_init);
module_exit(pkv_module_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KV-cache pages as a kernel resource");
MODULE_VERSION(PAGEDKV_VERSION);
