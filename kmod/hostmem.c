// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host tier: a file a class, of a tmpfs that only this module mounts, one
 * mount a NUMA node. Ordinary shared memory is what every kernel pins for DMA,
 * takes as io_uring's fixed buffers and maps by 2 MiB; our own mount decides
 * its place and page size.
 *
 * All of it is there from the pool's creation on, charged to the creator's
 * memcg and to its user's RLIMIT_MEMLOCK, and is not swapped. Only free slots
 * that nobody has pinned lose their memory again, by the shrinker. Clients map
 * the file shared and writable, and can't change it: it is sealed, so that no
 * hole is punched where the device or the disk has an address.
 *
 * A file begins as zeroes and goes with its pool, so no pool sees another's
 * data. Its size becomes zero then: mappings that are still there fault.
 */
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/sched/user.h>
#include <linux/shmem_fs.h>
#include <linux/user_namespace.h>

#include "pkv.h"
#include "compat.h"

/* The class is in the upper bits of an offset for mmap(). */
#define CLASS_SHIFT	48

/* One a node, and one that leaves the place to the task's policy. */
static struct vfsmount *mounts[MAX_NUMNODES + 1];
static DEFINE_MUTEX(mounts_lock);

static struct vfsmount *mount_of(u32 node)
{
	char options[48] = "huge=within_size";
	struct file_system_type *type;
	u32 i = node == PAGEDKV_IO_NONE ? MAX_NUMNODES : node;
	struct vfsmount *mnt;

	mutex_lock(&mounts_lock);
	mnt = mounts[i];
	if (mnt)
		goto unlock;
	type = get_fs_type("tmpfs");
	if (!type) {
		mnt = ERR_PTR(-ENOMEM);
		goto unlock;
	}
	if (!IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		options[0] = '\0';
	if (node != PAGEDKV_IO_NONE && IS_ENABLED(CONFIG_NUMA))
		snprintf(options + strlen(options), sizeof(options) - strlen(options),
			 "%smpol=bind:%u", options[0] ? "," : "", node);
	mnt = vfs_kern_mount(type, SB_KERNMOUNT, "pagedkv", options);
	module_put(type->owner);
	if (!IS_ERR(mnt))
		mounts[i] = mnt;
unlock:
	mutex_unlock(&mounts_lock);
	return mnt;
}

void pkv_hosts_exit(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(mounts); i++)
		if (mounts[i])
			kern_unmount(mounts[i]);
}

/* ---------------------------------------------------------------- charges */

/* Pages of a user that stay in memory, as io_uring and the like count them. */
static int charge_locked(struct pkv_kpool *pool, struct pkv_host *host, unsigned long nr,
			 struct file *opener)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	struct user_struct *user = opener->f_cred->user;
	unsigned long now, then;

	if (file_ns_capable(opener, &init_user_ns, CAP_IPC_LOCK))
		limit = ULONG_MAX;
	/* Not even tried: on the way to failing it would take all there is. */
	limit = min(limit, totalram_pages());
	now = atomic_long_read(&user->locked_vm);
	do {
		then = now + nr;
		if (then < now || then > limit)
			return -ENOMEM;
	} while (!atomic_long_try_cmpxchg(&user->locked_vm, &now, then));
	if (!pool->locker)
		pool->locker = get_uid(user);
	host->nr_locked = nr;
	return 0;
}

/* ------------------------------------------------------------------- life */

static int create_file(struct pkv_host *host, u32 node)
{
	struct vfsmount *mnt = mount_of(node);
	struct file *file;

	if (IS_ERR(mnt))
		return PTR_ERR(mnt);
	file = shmem_file_setup_with_mnt(mnt, "pagedkv", PAGE_ALIGN(host->bytes),
					 PKV_NO_VMA_FLAGS);
	/* That is what a tmpfs without memory for an inode says. */
	if (IS_ERR(file))
		return PTR_ERR(file) == -ENOSPC ? -ENOMEM : PTR_ERR(file);
	SHMEM_I(file_inode(file))->seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW |
					   F_SEAL_FUTURE_WRITE;
	mapping_set_unevictable(file->f_mapping);
	mapping_set_gfp_mask(file->f_mapping,
			     GFP_HIGHUSER | __GFP_RETRY_MAYFAIL | __GFP_NOWARN);
	host->file = file;
	return 0;
}

/* Undone by pkv_host_exit(), whatever this returns. */
int pkv_host_init(struct pkv_kpool *pool, u32 class_id, struct file *opener)
{
	struct pkv_host *host = &pool->host[class_id];
	int ret;

	if (!host->bytes)
		return 0;
	ret = charge_locked(pool, host, DIV_ROUND_UP_ULL(host->bytes, PAGE_SIZE), opener);
	if (!ret)
		ret = create_file(host, pool->classes[class_id].host_node);
	return ret ? ret : pkv_units_init(pool, class_id);
}

static void empty_file(struct file *file)
{
	struct inode *inode = file_inode(file);

	inode_lock(inode);
	i_size_write(inode, 0);
	unmap_mapping_range(inode->i_mapping, 0, 0, 1);
	shmem_truncate_range(inode, 0, (loff_t)-1);
	inode_unlock(inode);
}

void pkv_host_exit(struct pkv_kpool *pool, u32 class_id)
{
	struct pkv_host *host = &pool->host[class_id];

	if (host->file) {
		empty_file(host->file);
		fput(host->file);
	}
	pkv_units_exit(host);
	if (host->nr_locked)
		atomic_long_sub(host->nr_locked, &pool->locker->locked_vm);
	host->nr_locked = 0;
	if (class_id == PKV_MAX_CLASSES - 1 && pool->locker)
		free_uid(pool->locker);
}

/* ---------------------------------------------------------------- mapping */

int pkv_host_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct pkv_client *client = file->private_data;
	pgoff_t class_id = vma->vm_pgoff >> (CLASS_SHIFT - PAGE_SHIFT);
	pgoff_t first = vma->vm_pgoff & ((1UL << (CLASS_SHIFT - PAGE_SHIFT)) - 1);
	struct pkv_host *host;
	vm_flags_t writable;
	int ret;

	if (class_id >= client->pool->core.nr_classes || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	host = &client->pool->host[class_id];
	if (!host->file || first + vma_pages(vma) > DIV_ROUND_UP_ULL(host->bytes, PAGE_SIZE))
		return -EINVAL;
	vma->vm_pgoff = first;
	vma_set_file(vma, host->file);
	/* The seal against writing is for everyone but this mapping. */
	writable = vma->vm_flags & (VM_WRITE | VM_MAYWRITE);
	vm_flags_clear(vma, writable);
	ret = pkv_mmap_file(host->file, vma);
	/* A child's copy would be written by the disk and the device too. */
	vm_flags_set(vma, writable | VM_DONTCOPY);
	return ret;
}

int pkv_ioctl_host_map(struct pkv_call *call)
{
	struct pagedkv_io_host_map *arg = call->arg;
	const struct pkv_kpool *pool = pkv_client_of(call)->pool;
	const struct pkv_host *host;

	if (arg->class_id >= pool->core.nr_classes)
		return -EINVAL;
	host = &pool->host[arg->class_id];
	if (!host->file)
		return -EOPNOTSUPP;
	arg->out_node = pool->classes[arg->class_id].host_node;
	arg->out_offset = (u64)arg->class_id << CLASS_SHIFT;
	arg->out_bytes = host->bytes;
	arg->out_huge_bytes = pkv_host_huge_bytes(host);
	return 0;
}
