/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the module share: pools as the kernel holds them, their
 * clients, and calls.
 *
 * A pool lives as long as somebody refers to it: each client, each reader of
 * /proc for a moment, and its name when it is persistent. A client is an open
 * file of a pool; it refers to its pool and to the /dev/pagedkv file that it
 * came from, which carries its opener's identity.
 *
 * Lock order: client->step_lock, pool->lock. The registry's lock is taken
 * with neither held. Memory is allocated under each of them, so the shrinker
 * takes none but pool->lock, and that one only if it gets free within a moment.
 */
#ifndef PKV_KMOD_H
#define PKV_KMOD_H

#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/uidgid.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/pagedkv.h>

#include "core/core.h"

/* Descriptors of a class: an array that kvmalloc() can give. */
#define PKV_MAX_PAGES	(INT_MAX / (int)sizeof(struct pkv_page))

/* For arrays whose length a user chooses: charged, and failing instead of killing. */
#define PKV_GFP_USER	(GFP_KERNEL_ACCOUNT | __GFP_NOWARN | __GFP_RETRY_MAYFAIL)

struct mem_cgroup;
struct pkv_shrinkee;
struct pkv_user;

/*
 * A class's host tier: a file of the module's own tmpfs (hostmem.c), whose
 * memory comes and goes by units (unit.c).
 */
struct pkv_host {
	struct file *file;	/* NULL: no host memory */
	u64 bytes;		/* slots times page_bytes */
	u32 nr_units;
	unsigned long nr_locked;	/* pages charged to RLIMIT_MEMLOCK */

	/* under pool->lock */
	unsigned long *absent;	/* a bit a unit: its memory was given back */
	unsigned long *huge;	/* a bit a unit: it is one huge page */
	u32 nr_absent, nr_huge;
	unsigned long no_memory_until;	/* jiffies: so long none is asked for */
	/* of the shrinker */
	u32 nr_wanted;		/* slots that cold pages should leave */
	u32 sweep;		/* the unit that it looks at next */
	int sweep_nid;		/* the node that it looks for */
	u32 nr_fruitless;	/* units looked at for that node since one was given back */
	unsigned long barren_until;	/* jiffies: so long there is nothing */
	int barren_nid;			/* on that node, */
	u32 barren_free;		/* unless more slots than these are free */
};

/* Of a pool, since its creation; under its lock. */
struct pkv_shrink_counters {
	u64 scans;	/* times that the kernel asked */
	u64 pages;	/* given back, of PAGE_SIZE */
	u64 demotes;	/* slots that cold pages were to leave */
	u64 refills;	/* units that got memory again */
	u64 refill_fails;
};

struct pkv_kpool {
	struct kref ref;
	u32 id;

	/* never change */
	u32 flags;		/* PAGEDKV_IO_POOL_* */
	kuid_t uid;
	kgid_t gid;
	umode_t mode;
	u64 fingerprint;
	u8 salt[PAGEDKV_IO_SALT_BYTES];
	char name[PAGEDKV_IO_NAME_BYTES];
	struct pagedkv_io_class classes[PAGEDKV_IO_MAX_CLASSES];
	struct pkv_host host[PKV_MAX_CLASSES];
	struct mem_cgroup *memcg;	/* of the creator: its host memory is charged there */
	struct pkv_user *user;		/* pays for it */
	u64 charged_bytes;		/* of host memory, to the user */
	struct user_struct *locker;	/* whose RLIMIT_MEMLOCK holds the host tier */
	struct pkv_shrinkee *shrinkee;
	struct proc_dir_entry *proc;
	struct dentry *debugfs;

	/* of the registry, under its lock */
	bool is_named;
	bool is_held;		/* the name refers to the pool */
	u32 nr_users;		/* clients, and calls that are about to make one */

	struct task_struct *holder;	/* of the lock, but for scans */
	struct mutex lock;	/* of all that follows */
	struct pkv_pool core;
	struct pkv_counters seen;	/* when the lock was taken, while traced */
	u64 entered_ns;			/* and when that was */
	bool is_traced;
	u32 ceiling[PKV_MAX_CLASSES][PKV_NR_TIERS];
	u64 nr_commits;
	struct pkv_shrink_counters shrink;
	u32 nr_vain;		/* moments of scans that planned moves waited, see shrinker.c */
	unsigned long vain_at;	/* jiffies: the last one */
	bool is_deserted;	/* they waited in vain, and no executor came since */
	struct list_head clients;
	u32 nr_clients;
	u32 nr_parked;		/* io_uring commands that wait, of all clients */
	struct delayed_work watch;	/* of what is parked, before Linux 6.8 */
	struct list_head foreign;	/* files that it keeps, by id */
	u32 nr_foreign;
	u64 next_foreign;	/* id */
	wait_queue_head_t changed;	/* look again: after every call that may matter */
};

struct pkv_client {
	struct pkv_kpool *pool;
	struct file *opener;	/* the /dev/pagedkv file */
	u32 id;			/* names it as executor and as owner */

	struct mutex step_lock;	/* of the step's buffers */
	struct pkv_op *ops;
	struct pkv_move_desc *copies;
	struct pkv_delta *deltas;
	u32 cap_deltas;

	/* under pool->lock */
	struct list_head node;
	struct eventfd_ctx *eventfd;
	bool raised;		/* the eventfd, since the last fetch */
	bool stopped;
	struct list_head waiters;	/* io_uring commands */
};

/* A file that a pool keeps (foreign.c). */
struct pkv_foreign {
	struct list_head node;
	struct file *file;
	u64 id;			/* grows from file to file */
	u64 bytes;		/* of what it gives, as its giver says */
	u64 fingerprint;
	kuid_t uid;		/* the giver's */
	char name[PAGEDKV_IO_NAME_BYTES];
};

/* A call of ioctl(): the kernel's copy of its struct, and where it came from. */
struct pkv_call {
	struct file *file;
	void *arg;
	void __user *uarg;
	u32 size;		/* of the caller's struct */
	u32 ksize;		/* of ours */
};

/* One command, at its number in a table. All structs begin with size and flags. */
struct pkv_command {
	unsigned int cmd;
	u32 size, min_size;
	u32 flags;		/* that have a meaning */
	u32 reply;		/* PKV_REPLY_* */
	int (*run)(struct pkv_call *call);
};

enum {
	PKV_REPLY_NOTHING,	/* or the handler does it */
	PKV_REPLY_RESULT,	/* the struct goes back after success */
	PKV_REPLY_ALWAYS,	/* and after a failure too */
};

#define PKV_COMMAND(_cmd, _run, _struct, _last, _flags, _reply)		\
	[_IOC_NR(_cmd)] = {						\
	.cmd = (_cmd),							\
	.size = sizeof(struct _struct) +				\
		BUILD_BUG_ON_ZERO(offsetof(struct _struct, flags) != 4) +	\
		BUILD_BUG_ON_ZERO(sizeof(struct _struct) % 8),			\
	.min_size = offsetofend(struct _struct, _last),			\
	.flags = (_flags),						\
	.reply = PKV_REPLY_ ## _reply,					\
	.run = (_run),							\
}

/* main.c: the device and calls */
long pkv_dispatch(struct file *file, const struct pkv_command *table, u32 nr, unsigned int cmd,
		  unsigned long arg);
int pkv_reply(const struct pkv_call *call);
int pkv_arg_copy(void *to, u32 ksize, u32 min_size, const void __user *from);
int pkv_info(struct pkv_call *call);
void *pkv_array_copy(u64 uptr, u32 nr, size_t size);

/* pool.c: life, names and identity */
extern const struct file_operations pkv_pool_fops;
int pkv_pool_create(struct pkv_call *call);
int pkv_pool_open(struct pkv_call *call);
int pkv_pool_destroy(struct pkv_call *call);
int pkv_pool_list(struct pkv_call *call);
int pkv_pool_info(struct pkv_call *call);
int pkv_set_limit(struct pkv_call *call);
int pkv_tier_state(struct pkv_call *call);
struct pkv_kpool *pkv_kpool_next(u32 *id);
void pkv_kpool_put(struct pkv_kpool *pool);
void pkv_kpool_leave(struct pkv_kpool *pool);
bool pkv_kpool_permits(const struct pkv_kpool *pool, const struct file *opener, umode_t want);
bool pkv_kpool_is_owner(const struct pkv_kpool *pool, const struct file *opener);
void pkv_pools_exit(void);
int pkv_take_name(char *to, const u8 *from);

static inline struct pkv_client *pkv_client_of(const struct pkv_call *call)
{
	return call->file->private_data;
}

static inline u64 pkv_client_owner(const struct pkv_client *client)
{
	return client->id;
}

/* client.c: enter and leave a pool, and who waits for it */
void pkv_enter(struct pkv_kpool *pool);
void pkv_leave(struct pkv_kpool *pool);
void pkv_leave_fetched(struct pkv_kpool *pool);
void pkv_leave_unchanged(struct pkv_kpool *pool);
int pkv_client_open(struct pkv_kpool *pool, struct file *opener, struct file **out);
int pkv_seq_wait(struct pkv_call *call);
int pkv_moves_wait(struct pkv_call *call);
int pkv_seq_try_wait(struct pkv_client *client, u64 seq);

/* seq.c, step.c: sequences and the prefix index */
int pkv_ioctl_seq_create(struct pkv_call *call);
int pkv_ioctl_match(struct pkv_call *call);
int pkv_ioctl_publish(struct pkv_call *call);
int pkv_ioctl_adopt(struct pkv_call *call);
int pkv_ioctl_advise(struct pkv_call *call);
int pkv_ioctl_seq_state(struct pkv_call *call);
int pkv_ioctl_seq_info(struct pkv_call *call);
int pkv_ioctl_seq_table(struct pkv_call *call);
int pkv_ioctl_step(struct pkv_call *call);

/* mover.c: executors */
int pkv_moves_run(struct pkv_client *client, struct pagedkv_io_moves *io);
int pkv_ioctl_moves(struct pkv_call *call);
int pkv_ioctl_moves_stop(struct pkv_call *call);
int pkv_ioctl_moves_eventfd(struct pkv_call *call);

/* uring.c: commands that wait, over io_uring */
struct io_uring_cmd;
int pkv_uring_cmd(struct io_uring_cmd *cmd, unsigned int issue_flags);
void pkv_uring_wake(struct pkv_kpool *pool);
void pkv_uring_init(struct pkv_kpool *pool);
void pkv_uring_exit(struct pkv_kpool *pool);
int pkv_client_flush(struct file *file, fl_owner_t files);
int pkv_ioctl_quiesce(struct pkv_call *call);

/* hostmem.c: the host tier */
int pkv_host_init(struct pkv_kpool *pool, u32 class_id, struct file *opener);
void pkv_host_exit(struct pkv_kpool *pool, u32 class_id);
int pkv_host_mmap(struct file *file, struct vm_area_struct *vma);
int pkv_ioctl_host_map(struct pkv_call *call);
void pkv_hosts_exit(void);

/* unit.c: the memory of the host tier */
int pkv_units_init(struct pkv_kpool *pool, u32 class_id);
void pkv_units_exit(struct pkv_host *host);
unsigned long pkv_units_give_back(struct pkv_kpool *pool, u32 class_id, int nid,
				  unsigned long nr_pages);
bool pkv_units_are_pinned(const struct pkv_host *host);
bool pkv_units_provide(struct pkv_pool *core, u32 class_id, u32 tier);
u64 pkv_host_huge_bytes(const struct pkv_host *host);
u64 pkv_host_resident_bytes(const struct pkv_host *host);

/* shrinker.c: what the kernel takes back under pressure */
int pkv_shrinker_init(void);
void pkv_shrinker_stop(void);
void pkv_shrinker_exit(void);
int pkv_shrinker_add(struct pkv_kpool *pool);
void pkv_shrinker_remove(struct pkv_kpool *pool);
void pkv_executor_came(struct pkv_kpool *pool);

/* foreign.c: files that a pool keeps */
int pkv_ioctl_file_keep(struct pkv_call *call);
int pkv_ioctl_file_take(struct pkv_call *call);
int pkv_ioctl_file_drop(struct pkv_call *call);
int pkv_ioctl_file_list(struct pkv_call *call);
bool pkv_foreign_next(struct pkv_kpool *pool, u64 id, struct pkv_foreign *out);
void pkv_foreign_exit(struct pkv_kpool *pool);

/* user.c: what a user has of all pools together */
int pkv_user_charge(struct pkv_kpool *pool, struct file *opener, u64 host_bytes);
void pkv_user_uncharge(struct pkv_kpool *pool);

/* procfs.c: /proc/pagedkv */
int pkv_proc_init(void);
void pkv_proc_exit(void);
void pkv_proc_add(struct pkv_kpool *pool);
void pkv_proc_remove(struct pkv_kpool *pool);

/* proctables.c: the file tables of a pool */
struct proc_dir_entry *pkv_proc_add_tables(struct pkv_kpool *pool, umode_t mode);

/* debugfs.c: the walk over all invariants */
void pkv_debugfs_init(void);
void pkv_debugfs_exit(void);
void pkv_debugfs_add(struct pkv_kpool *pool);
void pkv_debugfs_remove(struct pkv_kpool *pool);

/* inspect.c */
int pkv_ioctl_stats(struct pkv_call *call);
int pkv_ioctl_map(struct pkv_call *call);
int pkv_ioctl_check(struct pkv_call *call);

#endif
