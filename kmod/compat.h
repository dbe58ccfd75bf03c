/* SPDX-License-Identifier: GPL-2.0-only */
/* All that differs between kernel versions, 6.1 to today. */
#ifndef PKV_COMPAT_H
#define PKV_COMPAT_H

#include <linux/eventfd.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/list_lru.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>

/* sparse does not know __has_include */
#if defined(__CHECKER__)
#include <linux/pagevec.h>
#elif __has_include("linux/folio_batch.h")
#include <linux/folio_batch.h>
#else
#include <linux/pagevec.h>
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#include <linux/io_uring/cmd.h>
#else
#include <linux/io_uring.h>
#include <linux/io_uring_types.h>
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

/* What shmem_file_setup_with_mnt() takes for no flags. */
#ifdef EMPTY_VMA_FLAGS
#define PKV_NO_VMA_FLAGS EMPTY_VMA_FLAGS
#else
#define PKV_NO_VMA_FLAGS 0
#endif

/* Map a file of another file system's into @vma. */
static inline int pkv_mmap_file(struct file *file, struct vm_area_struct *vma)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
	return file->f_op->mmap(file, vma);
#else
	return vfs_mmap(file, vma);
#endif
}

/* Commands over io_uring. A ring's end cancels them from 6.8 on. */
#define PKV_HAS_URING IS_ENABLED(CONFIG_IO_URING)
#define PKV_HAS_URING_CANCEL \
	(PKV_HAS_URING && LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0))

static inline const void *pkv_uring_payload(const struct io_uring_cmd *cmd)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	return cmd->cmd;
#else
	return cmd->sqe->cmd;
#endif
}

/* Is the command's ring closed? */
static inline bool pkv_uring_ring_is_gone(struct io_uring_cmd *cmd)
{
#if PKV_HAS_URING
	return percpu_ref_is_dying(&cmd_to_io_kiocb(cmd)->ctx->refs);
#else
	return true;
#endif
}

#if PKV_HAS_URING && !PKV_HAS_URING_CANCEL
/* The task that submitted a pending command; it is there as long as the command. */
static inline struct task_struct *pkv_uring_task(struct io_uring_cmd *cmd)
{
	return cmd_to_io_kiocb(cmd)->task;
}
#endif

static inline void pkv_uring_mark_cancelable(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
#if PKV_HAS_URING_CANCEL
	io_uring_cmd_mark_cancelable(cmd, issue_flags);
#endif
}

static inline void pkv_uring_done(struct io_uring_cmd *cmd, int ret, unsigned int issue_flags)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
	io_uring_cmd_done(cmd, ret, 0, issue_flags);
#else
	io_uring_cmd_done(cmd, ret, issue_flags);
#endif
}

/*
 * PKV_URING_TASK_WORK(NAME, RUN): a callback for io_uring_cmd_complete_in_task()
 * that calls RUN(cmd, issue_flags).
 */
#ifdef IO_URING_CMD_TASK_WORK_ISSUE_FLAGS
#define PKV_URING_TASK_WORK(name, run)					\
static void name(struct io_tw_req req, io_tw_token_t token)		\
{									\
	run(io_uring_cmd_from_tw(req), IO_URING_CMD_TASK_WORK_ISSUE_FLAGS); \
}
#else
#define PKV_URING_TASK_WORK(name, run)					\
static void name(struct io_uring_cmd *cmd, unsigned int issue_flags)	\
{									\
	run(cmd, issue_flags);						\
}
#endif

static inline void pkv_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx, 1);
#else
	eventfd_signal(ctx);
#endif
}

/* A descriptor of @file for the caller, as one that is passed on; its number goes to @ufd. */
static inline int pkv_receive_fd(struct file *file, int __user *ufd)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	int fd = receive_fd(file, O_CLOEXEC);

	if (fd >= 0 && put_user(fd, ufd)) {
		close_fd(fd);
		return -EFAULT;
	}
#else
	int fd = receive_fd(file, ufd, O_CLOEXEC);
#endif
	return fd < 0 ? fd : 0;
}

/* Take a locked page, which nothing maps, out of the page cache. */
static inline int pkv_remove_folio(struct address_space *mapping, struct folio *folio)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	return generic_error_remove_page(mapping, &folio->page);
#else
	return generic_error_remove_folio(mapping, folio);
#endif
}

/* A shrinker without functions yet. */
static inline struct shrinker *pkv_shrinker_alloc(unsigned int flags)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	struct shrinker *s = kzalloc(sizeof(*s), GFP_KERNEL);

	if (s) {
		s->flags = flags;
		s->seeks = DEFAULT_SEEKS;
	}
	return s;
#else
	return shrinker_alloc(flags, "pagedkv");
#endif
}

static inline int pkv_shrinker_register(struct shrinker *s)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	return register_shrinker(s, "pagedkv");
#else
	shrinker_register(s);
	return 0;
#endif
}

static inline void pkv_shrinker_free(struct shrinker *s)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	unregister_shrinker(s);
	kfree(s);
#else
	shrinker_free(s);
#endif
}

/* By the node and the memcg that the object itself was allocated from. */
static inline void pkv_list_lru_add(struct list_lru *lru, struct list_head *item)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	list_lru_add(lru, item);
#else
	list_lru_add_obj(lru, item);
#endif
}

static inline void pkv_list_lru_del(struct list_lru *lru, struct list_head *item)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	list_lru_del(lru, item);
#else
	list_lru_del_obj(lru, item);
#endif
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define PKV_LIST_LRU_WALK_ARGS \
	struct list_head *item, struct list_lru_one *list, spinlock_t *lock, void *arg
#else
#define PKV_LIST_LRU_WALK_ARGS struct list_head *item, struct list_lru_one *list, void *arg
#endif

#endif
