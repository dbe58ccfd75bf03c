// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pools as the kernel holds them: names, identity, limits and life.
 *
 * The registry has every pool by its id, without referring to it; whoever
 * looks one up there takes a reference, which fails once the pool is dying. A
 * persistent pool's name refers to it until somebody destroys it.
 */
#include <linux/capability.h>
#include <linux/ctype.h>
#include <linux/file.h>
#include <linux/memcontrol.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>
#include <linux/xarray.h>

#include "pkv.h"
#include "compat.h"

static DEFINE_MUTEX(registry_lock);
static DEFINE_XARRAY_ALLOC1(registry);
static u32 registry_next;

/* --------------------------------------------------------------- identity */

static bool has_group(const struct cred *cred, kgid_t gid)
{
	const struct group_info *groups = cred->group_info;
	int i;

	if (gid_eq(cred->fsgid, gid))
		return true;
	for (i = 0; i < groups->ngroups; i++)
		if (gid_eq(groups->gid[i], gid))
			return true;
	return false;
}

/* May the opener of /dev/pagedkv do @want (4: read, 2: write, or both) to the pool? */
bool pkv_kpool_permits(const struct pkv_kpool *pool, const struct file *opener, umode_t want)
{
	const struct cred *cred = opener->f_cred;
	umode_t bits = pool->mode;

	if (uid_eq(cred->fsuid, pool->uid))
		bits >>= 6;
	else if (has_group(cred, pool->gid))
		bits >>= 3;
	return (bits & want) == want || file_ns_capable(opener, &init_user_ns, CAP_DAC_OVERRIDE);
}

bool pkv_kpool_is_owner(const struct pkv_kpool *pool, const struct file *opener)
{
	return uid_eq(opener->f_cred->fsuid, pool->uid) ||
	       file_ns_capable(opener, &init_user_ns, CAP_SYS_ADMIN);
}

/* ------------------------------------------------------------------- life */

static void release_pool(struct kref *ref)
{
	struct pkv_kpool *pool = container_of(ref, struct pkv_kpool, ref);
	u32 i;

	mutex_lock(&registry_lock);
	if (pool->id)
		xa_erase(&registry, pool->id);
	mutex_unlock(&registry_lock);
#if PKV_HAS_URING
	pkv_uring_exit(pool);
#endif
	pkv_proc_remove(pool);
	pkv_debugfs_remove(pool);
	pkv_shrinker_remove(pool);
	pkv_foreign_exit(pool);
	for (i = 0; i < PKV_MAX_CLASSES; i++)
		pkv_host_exit(pool, i);
	mem_cgroup_put(pool->memcg);
	pkv_user_uncharge(pool);
	pkv_pool_exit(&pool->core);
	mutex_destroy(&pool->lock);
	kfree(pool);
}

void pkv_kpool_put(struct pkv_kpool *pool)
{
	kref_put(&pool->ref, release_pool);
}

/*
 * A client is gone, or was not to be. With the last one goes the name that
 * isn't persistent: others may refer to the pool for a moment longer.
 */
void pkv_kpool_leave(struct pkv_kpool *pool)
{
	mutex_lock(&registry_lock);
	if (!--pool->nr_users && !pool->is_held)
		pool->is_named = false;
	mutex_unlock(&registry_lock);
	pkv_kpool_put(pool);
}

/* The first pool with an id from *@id on, with a reference; *@id is its. NULL: the end. */
struct pkv_kpool *pkv_kpool_next(u32 *id)
{
	struct pkv_kpool *pool;
	unsigned long index;

	mutex_lock(&registry_lock);
	xa_for_each_start(&registry, index, pool, *id) {
		if (!kref_get_unless_zero(&pool->ref))
			continue;
		*id = index;
		break;
	}
	mutex_unlock(&registry_lock);
	return pool;
}

/* A named pool, with a reference; under the registry's lock. */
static struct pkv_kpool *find_named(const char *name)
{
	struct pkv_kpool *pool;
	unsigned long index;

	xa_for_each(&registry, index, pool)
		if (pool->is_named && !strcmp(pool->name, name) &&
		    kref_get_unless_zero(&pool->ref))
			return pool;
	return NULL;
}

/* Enter a pool into the registry: from here on others see it. */
static int enter_registry(struct pkv_kpool *pool)
{
	struct pkv_kpool *other;
	int ret;

	mutex_lock(&registry_lock);
	if (pool->name[0]) {
		other = find_named(pool->name);
		if (other) {
			mutex_unlock(&registry_lock);
			pkv_kpool_put(other);
			return -EEXIST;
		}
	}
	ret = xa_alloc_cyclic(&registry, &pool->id, pool, XA_LIMIT(1, INT_MAX), &registry_next,
			      GFP_KERNEL);
	if (ret >= 0)
		pool->is_named = pool->name[0];
	mutex_unlock(&registry_lock);
	return ret < 0 ? ret : 0;
}

/* The name's own reference, taken once its creator has been told. */
static void hold_name(struct pkv_kpool *pool)
{
	mutex_lock(&registry_lock);
	if (pool->is_named) {
		kref_get(&pool->ref);
		pool->is_held = true;
	}
	mutex_unlock(&registry_lock);
}

/* Take the name away; under the registry's lock. True: its reference is the caller's now. */
static bool drop_name(struct pkv_kpool *pool)
{
	bool was_held = pool->is_held;

	pool->is_named = false;
	pool->is_held = false;
	return was_held;
}

/* No client is left: persistent pools go with the module. */
void pkv_pools_exit(void)
{
	struct pkv_kpool *pool;
	u32 id = 0;

	while ((pool = pkv_kpool_next(&id))) {
		bool held;

		mutex_lock(&registry_lock);
		held = drop_name(pool);
		mutex_unlock(&registry_lock);
		if (held)
			pkv_kpool_put(pool);
		pkv_kpool_put(pool);
		id++;
	}
}

/* ----------------------------------------------------------------- create */

/* Letters, digits, '.', '_' and '-', no leading '.', zeroes to the end. */
int pkv_take_name(char *to, const u8 *from)
{
	size_t len = strnlen((const char *)from, PAGEDKV_IO_NAME_BYTES);
	size_t i;

	if (len == PAGEDKV_IO_NAME_BYTES || from[0] == '.')
		return -EINVAL;
	for (i = 0; i < len; i++)
		if (!isascii(from[i]) || !(isalnum(from[i]) || strchr("._-", from[i])))
			return -EINVAL;
	if (memchr_inv(from + len, 0, PAGEDKV_IO_NAME_BYTES - len))
		return -EINVAL;
	memcpy(to, from, PAGEDKV_IO_NAME_BYTES);
	return 0;
}

static int check_class(const struct pagedkv_io_class *c)
{
	u64 nr_pages = 0, bytes;
	u32 tier;

	if (c->reserved)
		return -EINVAL;
	for (tier = 0; tier < PKV_NR_TIERS; tier++) {
		nr_pages += c->nr_slots[tier];
		if (check_mul_overflow(c->page_bytes, (u64)c->nr_slots[tier], &bytes) ||
		    bytes > S64_MAX)
			return -EOVERFLOW;
	}
	if (nr_pages > PKV_MAX_PAGES)
		return -EOVERFLOW;
	if (c->host_node != PAGEDKV_IO_NONE &&
	    (c->host_node >= MAX_NUMNODES || !node_state(c->host_node, N_MEMORY)))
		return -EINVAL;
	return 0;
}

static int check_create(const struct pagedkv_io_pool_create *arg)
{
	u32 i;
	int ret;

	if (arg->reserved || arg->nr_classes > PKV_MAX_CLASSES || arg->mode & ~0666U)
		return -EINVAL;
	if ((arg->flags & PAGEDKV_IO_POOL_PERSIST) && !arg->name[0])
		return -EINVAL;
	if (arg->nr_ranks != 1)
		return -EOPNOTSUPP;
	for (i = 0; i < arg->nr_classes; i++) {
		ret = check_class(&arg->classes[i]);
		if (ret)
			return ret;
	}
	for (; i < PKV_MAX_CLASSES; i++)
		if (memchr_inv(&arg->classes[i], 0, sizeof(arg->classes[i])))
			return -EINVAL;
	return 0;
}

static void set_geometry(struct pkv_pool_params *to, const struct pagedkv_io_pool_create *arg)
{
	u32 i;

	memset(to, 0, sizeof(*to));
	to->nr_classes = arg->nr_classes;
	to->max_seqs = arg->max_seqs;
	to->max_moves = arg->max_moves;
	to->nr_ranks = arg->nr_ranks;
	for (i = 0; i < arg->nr_classes; i++) {
		to->classes[i].page_tokens = arg->classes[i].page_tokens;
		memcpy(to->classes[i].nr_slots, arg->classes[i].nr_slots,
		       sizeof(to->classes[i].nr_slots));
		memcpy(to->classes[i].low, arg->classes[i].low, sizeof(to->classes[i].low));
		memcpy(to->classes[i].high, arg->classes[i].high, sizeof(to->classes[i].high));
	}
}

/* A pool that nobody sees yet; @arg has been checked. */
static int alloc_pool(struct pkv_kpool **out, const struct pagedkv_io_pool_create *arg,
		      struct file *opener)
{
	struct pkv_pool_params geometry;
	struct pkv_kpool *pool;
	int ret;

	pool = kzalloc(sizeof(*pool), GFP_KERNEL_ACCOUNT);
	if (!pool)
		return -ENOMEM;
	set_geometry(&geometry, arg);
	mutex_init(&pool->lock);
	ret = pkv_pool_init(&pool->core, &geometry, &pool->lock);
	if (ret) {
		mutex_destroy(&pool->lock);
		kfree(pool);
		return ret;
	}
	pool->core.provide = pkv_units_provide;
	pool->memcg = get_mem_cgroup_from_mm(current->mm);
	kref_init(&pool->ref);
	INIT_LIST_HEAD(&pool->clients);
	INIT_LIST_HEAD(&pool->foreign);
	init_waitqueue_head(&pool->changed);
#if PKV_HAS_URING
	pkv_uring_init(pool);
#endif
	pool->nr_users = 1;
	pool->flags = arg->flags;
	pool->uid = opener->f_cred->euid;
	pool->gid = opener->f_cred->egid;
	pool->mode = arg->mode;
	pool->fingerprint = arg->fingerprint;
	memcpy(pool->salt, arg->salt, sizeof(pool->salt));
	memcpy(pool->classes, arg->classes, sizeof(pool->classes));
	*out = pool;
	return 0;
}

/* Host memory, within the user's limits; and the owner's share of each tier. */
static int fill_pool(struct pkv_kpool *pool, struct file *opener)
{
	u64 bytes = 0;
	u32 i, tier;
	int ret;

	for (i = 0; i < pool->core.nr_classes; i++) {
		const struct pagedkv_io_class *c = &pool->classes[i];

		pool->host[i].bytes = c->nr_slots[PKV_HOST] * c->page_bytes;
		bytes += pool->host[i].bytes;
		for (tier = 0; tier < PKV_NR_TIERS; tier++)
			pool->ceiling[i][tier] = c->nr_slots[tier];
	}
	ret = pkv_user_charge(pool, opener, bytes);
	for (i = 0; !ret && i < pool->core.nr_classes; i++)
		ret = pkv_host_init(pool, i, opener);
	return ret || !bytes ? ret : pkv_shrinker_add(pool);
}

/* Give the caller a descriptor of a new client of @pool, whose user it is. */
static int give_fd(struct pkv_call *call, struct pkv_kpool *pool, s32 *out_fd, bool hold)
{
	struct file *file;
	int fd, ret;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		pkv_kpool_leave(pool);
		return fd;
	}
	ret = pkv_client_open(pool, call->file, &file);
	if (ret)
		goto put_fd;
	*out_fd = fd;
	ret = pkv_reply(call);
	if (ret)
		goto put_file;
	/* The client refers to the pool, so that it is there. */
	if (hold)
		hold_name(pool);
	fd_install(fd, file);
	return 0;

put_file:
	fput(file);
put_fd:
	put_unused_fd(fd);
	return ret;
}

int pkv_pool_create(struct pkv_call *call)
{
	struct pagedkv_io_pool_create *arg = call->arg;
	char name[PAGEDKV_IO_NAME_BYTES];
	struct pkv_kpool *pool;
	int ret;

	ret = pkv_take_name(name, arg->name);
	if (!ret)
		ret = check_create(arg);
	if (!ret)
		ret = alloc_pool(&pool, arg, call->file);
	if (ret)
		return ret;
	memcpy(pool->name, name, sizeof(name));
	ret = fill_pool(pool, call->file);
	if (!ret)
		ret = enter_registry(pool);
	if (ret) {
		pkv_kpool_put(pool);
		return ret;
	}
	pkv_proc_add(pool);
	pkv_debugfs_add(pool);
	arg->out_id = pool->id;
	return give_fd(call, pool, &arg->out_fd, arg->flags & PAGEDKV_IO_POOL_PERSIST);
}

int pkv_pool_open(struct pkv_call *call)
{
	struct pagedkv_io_pool_open *arg = call->arg;
	char name[PAGEDKV_IO_NAME_BYTES];
	struct pkv_kpool *pool;
	int ret;

	ret = pkv_take_name(name, arg->name);
	if (ret)
		return ret;
	mutex_lock(&registry_lock);
	pool = find_named(name);
	if (pool)
		pool->nr_users++;
	mutex_unlock(&registry_lock);
	if (!pool)
		return -ENOENT;
	if (!pkv_kpool_permits(pool, call->file, 6) || pool->fingerprint != arg->fingerprint) {
		pkv_kpool_leave(pool);
		return -EACCES;
	}
	arg->out_id = pool->id;
	return give_fd(call, pool, &arg->out_fd, false);
}

int pkv_pool_destroy(struct pkv_call *call)
{
	const struct pagedkv_io_pool_destroy *arg = call->arg;
	char name[PAGEDKV_IO_NAME_BYTES];
	struct pkv_kpool *pool;
	bool held = false;
	int ret;

	ret = pkv_take_name(name, arg->name);
	if (ret)
		return ret;
	mutex_lock(&registry_lock);
	pool = find_named(name);
	if (!pool)
		ret = -ENOENT;
	else if (!pkv_kpool_is_owner(pool, call->file))
		ret = -EPERM;
	else
		held = drop_name(pool);
	mutex_unlock(&registry_lock);
	if (held)
		pkv_kpool_put(pool);
	if (pool)
		pkv_kpool_put(pool);
	return ret;
}

/* ---------------------------------------------------------------- inspect */

static void describe(struct pagedkv_io_pool_entry *e, const struct pkv_kpool *pool)
{
	memset(e, 0, sizeof(*e));
	e->id = pool->id;
	e->flags = pool->flags;
	e->uid = from_kuid_munged(current_user_ns(), pool->uid);
	e->gid = from_kgid_munged(current_user_ns(), pool->gid);
	e->mode = pool->mode;
	e->nr_clients = READ_ONCE(pool->nr_clients);
	e->nr_classes = pool->core.nr_classes;
	e->fingerprint = pool->fingerprint;
	memcpy(e->name, pool->name, sizeof(e->name));
}

int pkv_pool_list(struct pkv_call *call)
{
	struct pagedkv_io_pool_list *arg = call->arg;
	struct pagedkv_io_pool_entry __user *to = u64_to_user_ptr(arg->entries);
	struct pagedkv_io_pool_entry entry;
	struct pkv_kpool *pool;
	u32 id = arg->cursor;

	if (arg->reserved)
		return -EINVAL;
	arg->out_nr = 0;
	while (arg->out_nr < arg->nr && (pool = pkv_kpool_next(&id))) {
		bool visible = pkv_kpool_permits(pool, call->file, 4);

		if (visible)
			describe(&entry, pool);
		pkv_kpool_put(pool);
		id++;
		if (!visible)
			continue;
		if (copy_to_user(&to[arg->out_nr], &entry, sizeof(entry)))
			return -EFAULT;
		arg->out_nr++;
	}
	arg->cursor = id;
	return 0;
}

int pkv_pool_info(struct pkv_call *call)
{
	struct pkv_kpool *pool = pkv_client_of(call)->pool;
	struct pagedkv_io_pool_info *arg = call->arg;

	memcpy(arg->out_name, pool->name, sizeof(arg->out_name));
	memcpy(arg->out_salt, pool->salt, sizeof(arg->out_salt));
	memcpy(arg->out_classes, pool->classes, sizeof(arg->out_classes));
	arg->out_fingerprint = pool->fingerprint;
	arg->out_id = pool->id;
	arg->out_flags = pool->flags;
	arg->out_uid = from_kuid_munged(current_user_ns(), pool->uid);
	arg->out_gid = from_kgid_munged(current_user_ns(), pool->gid);
	arg->out_mode = pool->mode;
	arg->out_nr_clients = READ_ONCE(pool->nr_clients);
	arg->out_nr_classes = pool->core.nr_classes;
	arg->out_max_seqs = pool->core.max_seqs;
	arg->out_max_moves = pool->core.max_moves;
	arg->out_nr_ranks = 1;
	return 0;
}

/* ----------------------------------------------------------------- limits */

int pkv_set_limit(struct pkv_call *call)
{
	const struct pagedkv_io_set_limit *arg = call->arg;
	struct pkv_client *client = pkv_client_of(call);
	struct pkv_kpool *pool = client->pool;
	bool ceiling = arg->flags & PAGEDKV_IO_LIMIT_CEILING;
	bool admin = file_ns_capable(client->opener, &init_user_ns, CAP_SYS_ADMIN);
	int ret;

	if (arg->reserved || arg->class_id >= pool->core.nr_classes || arg->tier >= PKV_NR_TIERS)
		return -EINVAL;
	if (ceiling ? !admin : !pkv_kpool_is_owner(pool, client->opener))
		return -EPERM;
	pkv_enter(pool);
	if (!ceiling && !admin && arg->limit > pool->ceiling[arg->class_id][arg->tier] &&
	    arg->limit <= pool->classes[arg->class_id].nr_slots[arg->tier])
		ret = -EPERM;
	else
		ret = pkv_pool_set_limit(&pool->core, arg->class_id, arg->tier, arg->limit);
	if (!ret && ceiling)
		pool->ceiling[arg->class_id][arg->tier] = arg->limit;
	pkv_leave(pool);
	return ret;
}

int pkv_tier_state(struct pkv_call *call)
{
	const struct pagedkv_io_tier_state *arg = call->arg;
	struct pkv_client *client = pkv_client_of(call);
	int ret;

	if (arg->reserved)
		return -EINVAL;
	if (!pkv_kpool_is_owner(client->pool, client->opener))
		return -EPERM;
	pkv_enter(client->pool);
	ret = pkv_pool_set_tier_state(&client->pool->core, arg->class_id, arg->tier, arg->state);
	pkv_leave(client->pool);
	return ret;
}
