// SPDX-License-Identifier: GPL-2.0-only
/*
 * Foreign files: what a pool keeps for the next server, an exported GPU
 * allocation or a memfd.
 *
 * The pool refers to such a file as a descriptor does. If the file referred to
 * the pool too, by whatever way, nothing would ever free the two: a pool's
 * file, a socket in which one is under way, a ring that has one registered. So
 * only those kinds are kept that a user can't make refer to a file of his
 * choice: memory, devices, pipes and ordinary files.
 *
 * Files are let go of with no lock held.
 */
#include <linux/file.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/user_namespace.h>

#include "pkv.h"
#include "compat.h"

static bool may_keep(const struct file *file)
{
	const struct inode *inode = file_inode(file);

	if (file->f_op->owner == THIS_MODULE)
		return false;
	if (inode->i_sb->s_magic == DMA_BUF_MAGIC)
		return true;
	/* Its files are regular ones since 6.16: epoll, io_uring, BPF and the like. */
	if (inode->i_sb->s_magic == ANON_INODE_FS_MAGIC)
		return false;
	switch (inode->i_mode & S_IFMT) {
	case S_IFREG:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
		return true;
	default:
		return false;
	}
}

static int take_file_name(char *to, const u8 *from)
{
	return from[0] ? pkv_take_name(to, from) : -EINVAL;
}

/* Under the pool's lock. */
static struct pkv_foreign *find(struct pkv_kpool *pool, const char *name)
{
	struct pkv_foreign *f;

	list_for_each_entry(f, &pool->foreign, node)
		if (!strcmp(f->name, name))
			return f;
	return NULL;
}

static int enter(struct pkv_kpool *pool, struct pkv_foreign *f)
{
	int ret = 0;

	pkv_enter(pool);
	if (find(pool, f->name)) {
		ret = -EEXIST;
	} else if (pool->nr_foreign == PAGEDKV_IO_MAX_FILES) {
		ret = -EDQUOT;
	} else {
		f->id = pool->next_foreign++;
		list_add_tail(&f->node, &pool->foreign);
		pool->nr_foreign++;
	}
	pkv_leave_unchanged(pool);
	return ret;
}

int pkv_ioctl_file_keep(struct pkv_call *call)
{
	const struct pagedkv_io_file_keep *arg = call->arg;
	struct pkv_client *client = pkv_client_of(call);
	struct pkv_foreign *f;
	int ret;

	if (arg->reserved)
		return -EINVAL;
	f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);
	if (!f)
		return -ENOMEM;
	ret = take_file_name(f->name, arg->name);
	if (ret)
		goto free;
	f->bytes = arg->bytes;
	f->fingerprint = arg->fingerprint;
	f->uid = client->opener->f_cred->euid;
	f->file = fget(arg->fd);
	if (!f->file) {
		ret = -EBADF;
		goto free;
	}
	ret = may_keep(f->file) ? enter(client->pool, f) : -ELOOP;
	if (ret)
		goto put_file;
	return 0;

put_file:
	fput(f->file);
free:
	kfree(f);
	return ret;
}

int pkv_ioctl_file_take(struct pkv_call *call)
{
	struct pagedkv_io_file_take __user *uarg = call->uarg;
	struct pkv_kpool *pool = pkv_client_of(call)->pool;
	struct pagedkv_io_file_take *arg = call->arg;
	char name[PAGEDKV_IO_NAME_BYTES];
	struct file *file = NULL;
	struct pkv_foreign *f;
	int ret;

	if (arg->reserved)
		return -EINVAL;
	ret = take_file_name(name, arg->name);
	if (ret)
		return ret;
	pkv_enter(pool);
	f = find(pool, name);
	if (!f) {
		ret = -ENOENT;
	} else if (f->fingerprint != arg->fingerprint) {
		ret = -EACCES;
	} else {
		file = get_file(f->file);
		arg->out_bytes = f->bytes;
	}
	pkv_leave_unchanged(pool);
	if (ret)
		return ret;
	arg->out_fd = -1;
	ret = pkv_reply(call);
	if (!ret)
		ret = pkv_receive_fd(file, &uarg->out_fd);
	fput(file);
	return ret;
}

int pkv_ioctl_file_drop(struct pkv_call *call)
{
	const struct pagedkv_io_file_drop *arg = call->arg;
	struct pkv_kpool *pool = pkv_client_of(call)->pool;
	char name[PAGEDKV_IO_NAME_BYTES];
	struct pkv_foreign *f;
	int ret;

	ret = take_file_name(name, arg->name);
	if (ret)
		return ret;
	pkv_enter(pool);
	f = find(pool, name);
	if (f) {
		list_del(&f->node);
		pool->nr_foreign--;
	}
	pkv_leave_unchanged(pool);
	if (!f)
		return -ENOENT;
	fput(f->file);
	kfree(f);
	return 0;
}

/* The first file with an id from @id on, as it is now; false: the end. */
bool pkv_foreign_next(struct pkv_kpool *pool, u64 id, struct pkv_foreign *out)
{
	struct pkv_foreign *f;
	bool found = false;

	pkv_enter(pool);
	list_for_each_entry(f, &pool->foreign, node) {
		found = f->id >= id;
		if (found) {
			*out = *f;
			break;
		}
	}
	pkv_leave_unchanged(pool);
	return found;
}

int pkv_ioctl_file_list(struct pkv_call *call)
{
	struct pkv_kpool *pool = pkv_client_of(call)->pool;
	struct pagedkv_io_file_list *arg = call->arg;
	struct pagedkv_io_file_entry __user *to = u64_to_user_ptr(arg->entries);
	struct pagedkv_io_file_entry entry = { };
	struct pkv_foreign f;

	arg->out_nr = 0;
	while (arg->out_nr < arg->nr && pkv_foreign_next(pool, arg->cursor, &f)) {
		memcpy(entry.name, f.name, sizeof(entry.name));
		entry.bytes = f.bytes;
		entry.fingerprint = f.fingerprint;
		entry.uid = from_kuid_munged(current_user_ns(), f.uid);
		if (copy_to_user(&to[arg->out_nr], &entry, sizeof(entry)))
			return -EFAULT;
		arg->out_nr++;
		arg->cursor = f.id + 1;
	}
	return 0;
}

/* The pool's last user is gone. */
void pkv_foreign_exit(struct pkv_kpool *pool)
{
	struct pkv_foreign *f, *next;

	list_for_each_entry_safe(f, next, &pool->foreign, node) {
		fput(f->file);
		kfree(f);
	}
}
