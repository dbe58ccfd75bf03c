// SPDX-License-Identifier: GPL-2.0-only
/* What a user has of all pools together, and the limits on it. */
#include <linux/capability.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>

#include "pkv.h"

static uint max_pools = 256;
module_param_named(max_pools_per_user, max_pools, uint, 0644);
MODULE_PARM_DESC(max_pools_per_user, "pools of one uid (256); 0: any number");

static uint max_host_mib;
module_param_named(max_host_mib_per_user, max_host_mib, uint, 0644);
MODULE_PARM_DESC(max_host_mib_per_user, "host memory of one uid's pools (0: any amount)");

struct pkv_user {
	struct list_head node;
	kuid_t uid;
	u32 nr_pools;
	u64 host_bytes;
};

static DEFINE_MUTEX(users_lock);
static LIST_HEAD(users);

static struct pkv_user *get_user_of(kuid_t uid)
{
	struct pkv_user *user;

	list_for_each_entry(user, &users, node)
		if (uid_eq(user->uid, uid))
			return user;
	user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
	if (user) {
		user->uid = uid;
		list_add(&user->node, &users);
	}
	return user;
}

static void put_if_unused(struct pkv_user *user)
{
	if (user->nr_pools)
		return;
	list_del(&user->node);
	kfree(user);
}

static bool is_over(const struct pkv_user *user, u64 host_bytes)
{
	u32 nr = READ_ONCE(max_pools);
	u64 limit = (u64)READ_ONCE(max_host_mib) << 20;

	return (nr && user->nr_pools >= nr) ||
	       (limit && (host_bytes > limit || user->host_bytes > limit - host_bytes));
}

/* A pool with @host_bytes of host memory is about to be the user's. CAP_SYS_RESOURCE may. */
int pkv_user_charge(struct pkv_kpool *pool, struct file *opener, u64 host_bytes)
{
	struct pkv_user *user;
	int ret = 0;

	mutex_lock(&users_lock);
	user = get_user_of(pool->uid);
	if (!user) {
		ret = -ENOMEM;
	} else if (is_over(user, host_bytes) &&
		   !file_ns_capable(opener, &init_user_ns, CAP_SYS_RESOURCE)) {
		ret = -EDQUOT;
		put_if_unused(user);
	} else {
		user->nr_pools++;
		user->host_bytes += host_bytes;
		pool->charged_bytes = host_bytes;
		pool->user = user;
	}
	mutex_unlock(&users_lock);
	return ret;
}

void pkv_user_uncharge(struct pkv_kpool *pool)
{
	if (!pool->user)
		return;
	mutex_lock(&users_lock);
	pool->user->nr_pools--;
	pool->user->host_bytes -= pool->charged_bytes;
	put_if_unused(pool->user);
	mutex_unlock(&users_lock);
}
