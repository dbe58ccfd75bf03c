/* SPDX-License-Identifier: GPL-2.0-only */
/* All that differs between kernel versions, 6.1 to today. */
#ifndef PKV_COMPAT_H
#define PKV_COMPAT_H

#include <linux/eventfd.h>
#include <linux/mm.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#include <linux/io_uring/cmd.h>
#else
#include <linux/io_uring.h>
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

/*
 * Commands over io_uring. A ring's end cancels them from 6.8 on. In 6.18 their
 * completion changes its form: there is no such command there.
 */
#define PKV_HAS_URING \
	(IS_ENABLED(CONFIG_IO_URING) && LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0))
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

static inline void pkv_uring_mark_cancelable(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
#if PKV_HAS_URING_CANCEL
	io_uring_cmd_mark_cancelable(cmd, issue_flags);
#endif
}

static inline void pkv_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx, 1);
#else
	eventfd_signal(ctx);
#endif
}

#endif
