/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Disk tier: one image (regular file or block device) of page-sized slots.
 *
 * Two kinds of page live there:
 * - private: swap space of this process's sequences. Written once, raw speed, no header; its
 *   checksum is kept in memory, and a restart forgets it.
 * - published: carries a 128-bit key and outlives the process. Its data is durable before its
 *   header is written, and a header is durably withdrawn before its slot is overwritten, so at
 *   any crash a header vouches for its own data or not at all.
 *
 * CRC32C is verified on every load. One thread drives a disk (pkvrt_disk_poll/wait).
 * All functions return 0 or -errno and never print.
 *
 * Errors of an operation (op->res):
 *	-EILSEQ		the data's checksum is wrong: the page is lost
 *	-ENODATA	nothing was ever stored in this slot
 *	-ETIMEDOUT	late; the slot and the buffer stay quarantined until released()
 *	-EROFS		writes are refused: too many errors
 *	-ENXIO		offline: too many errors
 *	-EBUSY		the slot has another operation, or a late one is still in the kernel
 *	-ECANCELED	the disk was closed
 *	-EINVAL		slot out of range, unaligned buffer, unknown kind
 *	else		what the kernel said (-EIO, -ENOSPC, ...)
 * Every one of them is a miss for the page, never a reason to stop.
 */
#ifndef PKVRT_DISK_H
#define PKVRT_DISK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "io.h"

#define PKVRT_DISK_ALIGN	4096u	/* of page_bytes and of every buffer */
#define PKVRT_DISK_NAME_MAX	64	/* pool name with its NUL */
#define PKVRT_DISK_WHY_MAX	256	/* enough for every reason line with a short path */

struct pkvrt_key {
	uint8_t b[16];
};

#define PKVRT_DISK_CREATE	(1u << 0)	/* make the image when it is missing or empty */

struct pkvrt_disk_params {
	size_t size;		/* sizeof(struct pkvrt_disk_params) */
	const char *path;
	unsigned int flags;	/* PKVRT_DISK_* */
	uint64_t page_bytes;	/* multiple of PKVRT_DISK_ALIGN, <= 1 GiB */
	uint64_t nr_slots;	/* 1..2^32-2; 0 takes an existing image's */
	uint64_t model_fp;	/* fingerprint of model and page layout */
	uint8_t salt[32];	/* creation only: the pool's salt, to be kept with its keys */
	const char *pool_name;	/* NULL takes an existing image's, and is "" at creation */

	unsigned int queue_depth;	/* 0 is 64 */
	uint32_t merge_bytes;	/* largest merged command; 0 is 1 MiB */
	uint64_t timeout_ns;	/* for operations without a deadline; 0 is 10 s */
	uint64_t flush_bytes;	/* published data that waits at most before a flush; 0: 32 MiB */
	unsigned int max_errors;	/* errors before read-only, twice that: offline; 0 is 16 */
	const struct pkvrt_io_hooks *hooks;	/* tests */
};

enum pkvrt_disk_state {
	PKVRT_DISK_OK,
	PKVRT_DISK_READONLY,	/* loads only */
	PKVRT_DISK_OFFLINE,	/* every operation ends with -ENXIO */
};

struct pkvrt_disk_info {
	uint64_t page_bytes, nr_slots, model_fp, image_id;
	uint8_t salt[32];
	char pool_name[PKVRT_DISK_NAME_MAX];
	int created;		/* this open made the image */
	int direct;		/* O_DIRECT is in use */
	unsigned int caps;	/* PKVRT_IO_CAP_* */
};

struct pkvrt_disk_stats {
	enum pkvrt_disk_state state;
	uint64_t nr_stored, nr_loaded;	/* ended well */
	uint64_t nr_published;		/* of the stored ones, those with a key */
	uint64_t stored_bytes, loaded_bytes;
	uint64_t nr_errors;		/* operations ended with an error, refusals not counted */
	uint64_t nr_write_errors, nr_read_errors, nr_late, nr_bad_crc;
	uint64_t nr_flushes, nr_header_writes;
	uint64_t nr_headers_valid;	/* found at open */
	uint64_t nr_headers_damaged;	/* found at open: taken as empty */
	struct pkvrt_io_stats io;
};

enum pkvrt_disk_kind {
	PKVRT_DISK_SWAP_OUT,	/* write a private page */
	PKVRT_DISK_STORE,	/* write a published page; ends when its header is written */
	PKVRT_DISK_LOAD,	/* read a page and verify it */
};

TAILQ_HEAD(pkvrt_disk_oplist, pkvrt_disk_op);

/* One page's operation; the caller's memory, lent from submit to the return of released(). */
struct pkvrt_disk_op {
	enum pkvrt_disk_kind kind;
	uint32_t slot;
	void *buf;		/* page_bytes, aligned */
	struct pkvrt_key key;	/* STORE */
	uint64_t deadline_ns;	/* absolute CLOCK_MONOTONIC; 0 takes the disk's timeout */
	/*
	 * @done is called once with @res set. @released is called once after it, when buffer and
	 * slot may be used again (at once unless the operation was late). Either may submit.
	 */
	void (*done)(struct pkvrt_disk_op *op);
	void (*released)(struct pkvrt_disk_op *op);	/* may be NULL */
	void *user;
	int res;

	/* private to disk.c */
	struct pkvrt_disk *disk;
	struct pkvrt_io_req req;
	TAILQ_ENTRY(pkvrt_disk_op) link;
	struct pkvrt_disk_oplist *list;
	int phase;
	int summed;		/* slot's crc is of what buf holds */
	int is_done;
	int in_kernel;
};

struct pkvrt_disk;

/**
 * pkvrt_disk_open - open an image, or make one
 * @out: the disk, NULL on failure; ends with pkvrt_disk_close()
 * @p: what is wanted; must match an existing image
 * @why: one line for people, naming the file and the cause; "" on success. May be NULL.
 *
 * Nothing on disk is changed on any failure: a file that is not an image is never written to, and
 * a half-made image is taken away. The image is locked for this process.
 *
 * Return: 0 or
 *	-EINVAL		the parameters themselves are wrong
 *	-ENOENT		no such file, and no PKVRT_DISK_CREATE
 *	-EISDIR		a directory
 *	-ENOTBLK	neither regular file nor block device
 *	-EACCES, -EPERM, -EROFS	may not be written
 *	-EBUSY		in use by another process
 *	-EMEDIUMTYPE	not empty, and not a pagedkv image
 *	-EPROTONOSUPPORT	image of another format version
 *	-EBADMSG	damaged superblock
 *	-EKEYREJECTED	image of another model
 *	-EEXIST		image of another pool
 *	-EDOM		image of another geometry
 *	-ENODATA	truncated image
 *	-EFBIG		block device smaller than asked, or size overflows
 *	-ENOSPC		no room for a new image
 *	-ENOMEM, -EIO and others as the kernel says.
 */
int pkvrt_disk_open(struct pkvrt_disk **out, const struct pkvrt_disk_params *p,
		    char *why, size_t why_len);

/*
 * Ends what is pending with -ECANCELED, waits up to @grace_ns for the kernel, unlocks. NULL is
 * fine. Operations already submitted are not carried through: drain first to keep them.
 */
void pkvrt_disk_close(struct pkvrt_disk *d, uint64_t grace_ns);

/**
 * pkvrt_disk_scan - tell which published pages the image holds
 * @found: called per page; a negative value ends the scan and is returned
 *
 * Meant for right after open. A page in a slot that @found does not want is simply overwritten by
 * the next store there. Two slots may carry the same key; both are right.
 *
 * Return: 0 or what @found said.
 */
int pkvrt_disk_scan(struct pkvrt_disk *d,
		    int (*found)(void *ctx, uint32_t slot, const struct pkvrt_key *key),
		    void *ctx);

/* As pkvrt_io_register(): pin the memory of the buffers, once, before the first operation. */
int pkvrt_disk_register(struct pkvrt_disk *d, const struct iovec *regions, unsigned int nr);

/*
 * Hand an operation in. Nothing is called back from here: refusals too come through done(), from
 * the next poll or wait.
 */
void pkvrt_disk_submit(struct pkvrt_disk *d, struct pkvrt_disk_op *op);

/* As pkvrt_io_poll() and pkvrt_io_wait(); return the number of operations that ended. */
int pkvrt_disk_poll(struct pkvrt_disk *d);
int pkvrt_disk_wait(struct pkvrt_disk *d, uint64_t until_ns);

/* Wait until nothing is pending or @until_ns. Return 0, -ETIMEDOUT, or the ring's -errno. */
int pkvrt_disk_drain(struct pkvrt_disk *d, uint64_t until_ns);

/* Let readability of @fd end pkvrt_disk_wait(); -1 ends it. */
int pkvrt_disk_watch(struct pkvrt_disk *d, int fd);

/* True while a late operation's slot is still in the kernel's hands. */
int pkvrt_disk_slot_busy(const struct pkvrt_disk *d, uint32_t slot);

/*
 * Count an error that only the caller can see: it gave up waiting for what late operations hold.
 * Else a disk that hangs would never be given up once nothing more can be submitted.
 */
void pkvrt_disk_blame(struct pkvrt_disk *d);

/* Operations submitted and not done. */
unsigned int pkvrt_disk_pending(const struct pkvrt_disk *d);

void pkvrt_disk_info(const struct pkvrt_disk *d, struct pkvrt_disk_info *info);
void pkvrt_disk_stats(const struct pkvrt_disk *d, struct pkvrt_disk_stats *s);
const char *pkvrt_disk_state_name(enum pkvrt_disk_state s);

/* The ring below, for tests. */
struct pkvrt_io *pkvrt_disk_io(struct pkvrt_disk *d);

#endif
