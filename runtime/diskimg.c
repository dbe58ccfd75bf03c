// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Creation: a superblock in state CREATING, space, empty headers, all of it durable, and then the
 * READY superblock. Whoever finds CREATING under the lock knows that the creator died.
 *
 * Failures leave the disk as it was: a file that this open made is unlinked, one that was empty
 * is empty again, and anything else is never written to. Only the holder of the lock cleans up.
 */
#include "diskimg.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define LOCK_PAUSE_NS	5000000
#define LOCK_TRIES	200
#define CHUNK_BYTES	((size_t)1 << 20)

/* One attempt to open, and what has to be undone when it fails. */
struct attempt {
	struct pkvrt_diskimg *img;
	const struct pkvrt_disk_params *p;
	char *why;
	size_t why_len;
	struct stat st;
	uint64_t file_bytes;	/* of the file or device */
	int is_block;
	int made;		/* by us: unlink */
	int locked;
	int wrote;		/* into an empty file: truncate */
	uint8_t *chunk;		/* CHUNK_BYTES, aligned for O_DIRECT */
};

__attribute__((format(printf, 3, 4)))
static int fail(struct attempt *a, int ret, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (!a->why || !a->why_len)
		return ret;
	n = snprintf(a->why, a->why_len, "%s: ", a->p->path);
	if (n < 0 || (size_t)n >= a->why_len)
		return ret;
	va_start(ap, fmt);
	vsnprintf(a->why + n, a->why_len - (size_t)n, fmt, ap);
	va_end(ap);
	return ret;
}

static int fail_errno(struct attempt *a, int err, const char *what)
{
	char buf[64];

	return fail(a, -err, "%s: %s", what, strerror_r(err, buf, sizeof(buf)));
}

/* All of [offset, offset + len) or an error. A file that ends before is -ENODATA. */
static int read_all(int fd, void *buf, size_t len, uint64_t offset)
{
	size_t got = 0;
	ssize_t n;

	while (got < len) {
		n = pread(fd, (char *)buf + got, len - got, (off_t)(offset + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENODATA;
		got += (size_t)n;
	}
	return 0;
}

static int write_all(int fd, const void *buf, size_t len, uint64_t offset)
{
	size_t put = 0;
	ssize_t n;

	while (put < len) {
		n = pwrite(fd, (const char *)buf + put, len - put, (off_t)(offset + put));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENOSPC;
		put += (size_t)n;
	}
	return 0;
}

static int all_zero(const uint8_t *buf, size_t len)
{
	return !buf[0] && !memcmp(buf, buf + 1, len - 1);
}

/* -- reaching the file ------------------------------------------------------------------------ */

static int check_type(struct attempt *a)
{
	if (S_ISDIR(a->st.st_mode))
		return fail(a, -EISDIR, "is a directory");
	if (!S_ISREG(a->st.st_mode) && !S_ISBLK(a->st.st_mode))
		return fail(a, -ENOTBLK, "is neither a regular file nor a block device");
	return 0;
}

static int open_file(struct attempt *a)
{
	const char *path = a->p->path;
	int flags = O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int ret;

	/* Before open(2), which has side effects on FIFOs and devices. */
	if (!stat(path, &a->st)) {
		ret = check_type(a);
		if (ret)
			return ret;
		/* The kernel's own guard: refuses a device that is mounted. */
		if (S_ISBLK(a->st.st_mode))
			flags |= O_EXCL;
	} else if (errno == ENOENT && a->p->flags & PKVRT_DISK_CREATE) {
		flags |= O_CREAT | O_EXCL;
		a->made = 1;
	} else {
		return fail_errno(a, errno, "cannot open");
	}
	a->img->fd = open(path, flags, 0600);
	if (a->img->fd < 0) {
		a->made = 0;
		ret = errno == EEXIST ? EBUSY : errno;	/* somebody made it just now */
		return fail_errno(a, ret, "cannot open for reading and writing");
	}
	if (fstat(a->img->fd, &a->st))
		return fail_errno(a, errno, "cannot stat");
	return check_type(a);
}

/*
 * The ring of a process that was just killed holds its file, and so the lock, until the kernel
 * has taken it down: a moment's patience lets a server restart at once.
 */
static int lock_patiently(int fd)
{
	const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
	unsigned int i;

	for (i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
		if (errno != EWOULDBLOCK || i == LOCK_TRIES)
			return -1;
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int lock_file(struct attempt *a)
{
	if (lock_patiently(a->img->fd))
		return errno == EWOULDBLOCK ? fail(a, -EBUSY, "is in use by another process") :
		       fail_errno(a, errno, "cannot lock");
	/* Taken away, or grown, by whoever held the lock before. */
	if (fstat(a->img->fd, &a->st))
		return fail_errno(a, errno, "cannot stat");
	if (S_ISREG(a->st.st_mode) && !a->st.st_nlink)
		return fail(a, -EBUSY, "was removed while being opened");
	a->locked = 1;
	return 0;
}

static int measure_file(struct attempt *a)
{
	a->is_block = S_ISBLK(a->st.st_mode);
	if (!a->is_block) {
		a->file_bytes = (uint64_t)a->st.st_size;
		return 0;
	}
	if (ioctl(a->img->fd, BLKGETSIZE64, &a->file_bytes))
		return fail_errno(a, errno, "cannot get the device's size");
	return 0;
}

/* -- creation --------------------------------------------------------------------------------- */

static int check_room(struct attempt *a, uint64_t total)
{
	struct statvfs vfs;
	struct rlimit lim;

	if (a->is_block) {
		if (total > a->file_bytes)
			return fail(a, -EFBIG, "device has %llu bytes, the image needs %llu",
				    (unsigned long long)a->file_bytes, (unsigned long long)total);
		return 0;
	}
	/* Beyond this limit the kernel does not only refuse, it kills (SIGXFSZ). */
	if (!getrlimit(RLIMIT_FSIZE, &lim) && lim.rlim_cur != RLIM_INFINITY && total > lim.rlim_cur)
		return fail(a, -EFBIG, "image of %llu bytes exceeds the file size limit",
			    (unsigned long long)total);
	if (fstatvfs(a->img->fd, &vfs))
		return fail_errno(a, errno, "cannot get the free space");
	if (total / vfs.f_frsize >= vfs.f_bavail)
		return fail(a, -ENOSPC, "image needs %llu bytes, the filesystem has %llu free",
			    (unsigned long long)total,
			    (unsigned long long)vfs.f_bavail * vfs.f_frsize);
	return 0;
}

static int write_super(struct attempt *a, enum pkvrt_fmt_state state)
{
	int ret;

	a->img->super.state = state;
	pkvrt_fmt_put_super(a->chunk, &a->img->super);
	ret = write_all(a->img->fd, a->chunk, PKVRT_FMT_BLOCK, 0);
	if (!ret && fsync(a->img->fd))
		ret = -errno;
	return ret;
}

/* The space in between, reading as zeros. */
static int reserve(struct attempt *a, uint64_t data_offset, uint64_t total)
{
	uint64_t off;
	size_t step;
	int ret;

	if (!a->is_block) {
		do {
			ret = posix_fallocate(a->img->fd, 0, (off_t)total);
		} while (ret == EINTR);
		return -ret;
	}
	memset(a->chunk, 0, CHUNK_BYTES);
	for (off = PKVRT_FMT_BLOCK; off < data_offset; off += step) {
		step = data_offset - off < CHUNK_BYTES ? data_offset - off : CHUNK_BYTES;
		ret = write_all(a->img->fd, a->chunk, step, off);
		if (ret)
			return ret;
	}
	return 0;
}

static void sync_parent(const char *path)
{
	char *copy = strdup(path);
	int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0) {
		/* Best effort: without it a power cut may take the whole new image, no more. */
		(void)!fsync(fd);
		close(fd);
	}
	free(copy);
}

static int create_image(struct attempt *a)
{
	const struct pkvrt_disk_params *p = a->p;
	struct pkvrt_fmt_super *s = &a->img->super;
	uint64_t data_offset, total;
	int ret;

	if (!p->nr_slots)
		return fail(a, -EINVAL, "a new image needs a number of slots");
	*s = (struct pkvrt_fmt_super){
		.page_bytes = p->page_bytes, .nr_slots = p->nr_slots, .model_fp = p->model_fp,
	};
	memcpy(s->salt, p->salt, sizeof(s->salt));
	if (p->pool_name)
		memcpy(s->pool_name, p->pool_name, strlen(p->pool_name));
	ret = pkvrt_fmt_layout(s->page_bytes, s->nr_slots, &data_offset, &total);
	if (ret)
		return fail(a, -EFBIG, "an image of %llu slots of %llu bytes does not fit a file",
			    (unsigned long long)s->nr_slots, (unsigned long long)s->page_bytes);
	ret = check_room(a, total);
	if (ret)
		return ret;
	if (getrandom(&s->image_id, sizeof(s->image_id), 0) != sizeof(s->image_id))
		return fail(a, -EIO, "no random numbers to be had");

	a->wrote = 1;
	ret = write_super(a, PKVRT_FMT_CREATING);
	if (!ret)
		ret = reserve(a, data_offset, total);
	if (!ret && fsync(a->img->fd))
		ret = -errno;
	if (!ret)
		ret = write_super(a, PKVRT_FMT_READY);
	if (ret)
		return fail_errno(a, -ret, "cannot create the image");
	sync_parent(p->path);
	a->img->created = 1;
	if (!a->is_block)
		a->file_bytes = total;
	return 0;
}

/* Nothing of anybody's at either end, where file systems and partition tables live. */
static int device_is_empty(struct attempt *a, int *empty)
{
	uint64_t end = a->file_bytes / PKVRT_FMT_BLOCK * PKVRT_FMT_BLOCK;
	size_t len = end < CHUNK_BYTES ? end : CHUNK_BYTES;
	int ret;

	*empty = 0;
	if (!len)
		return 0;
	ret = read_all(a->img->fd, a->chunk, len, 0);
	if (ret || !all_zero(a->chunk, len))
		return ret;
	ret = read_all(a->img->fd, a->chunk, len, end - len);
	*empty = !ret && all_zero(a->chunk, len);
	return ret;
}

/* -- an existing image ------------------------------------------------------------------------ */

static int check_super(struct attempt *a)
{
	const struct pkvrt_fmt_super *s = &a->img->super;
	const struct pkvrt_disk_params *p = a->p;
	uint64_t data_offset, total;

	if (s->state != PKVRT_FMT_READY)
		return fail(a, -EBADMSG, "creation of this image was interrupted");
	if (s->page_bytes != p->page_bytes)
		return fail(a, -EDOM, "image has pages of %llu bytes, not %llu",
			    (unsigned long long)s->page_bytes, (unsigned long long)p->page_bytes);
	if (p->nr_slots && s->nr_slots != p->nr_slots)
		return fail(a, -EDOM, "image has %llu slots, not %llu",
			    (unsigned long long)s->nr_slots, (unsigned long long)p->nr_slots);
	if (s->model_fp != p->model_fp)
		return fail(a, -EKEYREJECTED, "image belongs to another model");
	if (p->pool_name && strcmp(s->pool_name, p->pool_name))
		return fail(a, -EEXIST, "image belongs to another pool");
	if (pkvrt_fmt_layout(s->page_bytes, s->nr_slots, &data_offset, &total))
		return fail(a, -EBADMSG, "damaged superblock");
	if (total > a->file_bytes)
		return fail(a, -ENODATA, "truncated: %llu bytes of %llu",
			    (unsigned long long)a->file_bytes, (unsigned long long)total);
	return 0;
}

static int read_super(struct attempt *a)
{
	size_t len = a->file_bytes < PKVRT_FMT_BLOCK ? a->file_bytes : PKVRT_FMT_BLOCK;
	struct pkvrt_fmt_super *s = &a->img->super;
	int ret;

	memset(a->chunk, 0, PKVRT_FMT_BLOCK);
	ret = read_all(a->img->fd, a->chunk, len, 0);
	if (ret)
		return fail_errno(a, -ret, "cannot read the superblock");
	ret = pkvrt_fmt_get_super(a->chunk, s);
	if (ret == -EMEDIUMTYPE)
		return fail(a, ret, "is not empty, and not a pagedkv disk image");
	if (len < PKVRT_FMT_BLOCK)
		return fail(a, -ENODATA, "truncated in its superblock");
	if (ret == -EPROTONOSUPPORT)
		return fail(a, ret, "image format version %u, this program knows %u",
			    s->version, PKVRT_FMT_VERSION);
	if (ret)
		return fail(a, ret, "damaged superblock");
	return 0;
}

/* Decide between an existing image and a new one. */
static int find_or_create(struct attempt *a)
{
	int may_create = a->p->flags & PKVRT_DISK_CREATE, empty = 0, ret = 0;

	if (a->is_block)
		ret = device_is_empty(a, &empty);
	else
		empty = !a->file_bytes;
	if (ret)
		return fail_errno(a, -ret, "cannot read");
	if (empty && !may_create)
		return fail(a, -EMEDIUMTYPE, "is empty: no pagedkv disk image yet");
	if (empty)
		return create_image(a);
	ret = read_super(a);
	if (!ret && a->img->super.state == PKVRT_FMT_CREATING && may_create) {
		/* Half made, by one that died: it held nothing. */
		if (!a->is_block && ftruncate(a->img->fd, 0))
			return fail_errno(a, errno, "cannot make the image anew");
		return create_image(a);
	}
	return ret;
}

/* O_DIRECT where this file can do it at our alignment. */
static void try_direct(struct attempt *a)
{
	int fd = a->img->fd, flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return;
	flags &= ~O_NONBLOCK;
	if (fcntl(fd, F_SETFL, flags | O_DIRECT) ||
	    read_all(fd, a->chunk, PKVRT_FMT_BLOCK, 0)) {
		(void)fcntl(fd, F_SETFL, flags);
		return;
	}
	a->img->direct = 1;
}

static int read_headers(struct attempt *a)
{
	struct pkvrt_diskimg *img = a->img;
	uint64_t off, i;
	size_t step;
	uint64_t total;
	void *map;
	int ret;

	pkvrt_fmt_layout(img->super.page_bytes, img->super.nr_slots, &img->data_offset_bytes,
			 &total);
	img->nr_blocks = (img->super.nr_slots + PKVRT_FMT_PER_BLOCK - 1) / PKVRT_FMT_PER_BLOCK;
	img->headers_bytes = img->nr_blocks * PKVRT_FMT_BLOCK;
	map = mmap(NULL, img->headers_bytes, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return fail(a, -ENOMEM, "no memory for %llu slot headers",
			    (unsigned long long)img->super.nr_slots);
	img->headers = map;
	for (off = 0; off < img->headers_bytes; off += step) {
		step = img->headers_bytes - off;
		if (step > CHUNK_BYTES)
			step = CHUNK_BYTES;
		ret = read_all(img->fd, a->chunk, step, PKVRT_FMT_BLOCK + off);
		if (ret)
			return fail_errno(a, -ret, "cannot read the slot headers");
		/* Blocks never written stay unbacked: memory goes by what the image holds. */
		for (i = 0; i < step; i += PKVRT_FMT_BLOCK)
			if (!all_zero(a->chunk + i, PKVRT_FMT_BLOCK))
				memcpy(img->headers + off + i, a->chunk + i, PKVRT_FMT_BLOCK);
	}
	return 0;
}

/* -- open and close --------------------------------------------------------------------------- */

static int check_params(struct attempt *a)
{
	const struct pkvrt_disk_params *p = a->p;

	if (p->flags & ~PKVRT_DISK_CREATE)
		return fail(a, -EINVAL, "unknown flags");
	if (!p->page_bytes || p->page_bytes % PKVRT_DISK_ALIGN ||
	    p->page_bytes > PKVRT_FMT_MAX_PAGE)
		return fail(a, -EINVAL, "pages of %llu bytes: not a multiple of %u up to 1 GiB",
			    (unsigned long long)p->page_bytes, PKVRT_DISK_ALIGN);
	if (p->nr_slots > PKVRT_FMT_MAX_SLOTS)
		return fail(a, -EINVAL, "%llu slots: too many", (unsigned long long)p->nr_slots);
	if (p->pool_name && strlen(p->pool_name) >= PKVRT_DISK_NAME_MAX)
		return fail(a, -EINVAL, "pool name too long");
	return 0;
}

static void undo(struct attempt *a)
{
	if (a->locked && a->made)
		unlink(a->p->path);
	else if (a->wrote && !a->is_block)
		(void)!ftruncate(a->img->fd, 0);
	else if (a->wrote)
		write_all(a->img->fd, memset(a->chunk, 0, PKVRT_FMT_BLOCK), PKVRT_FMT_BLOCK, 0);
}

int pkvrt_diskimg_open(struct pkvrt_diskimg *img, const struct pkvrt_disk_params *p,
		       char *why, size_t why_len)
{
	struct attempt a = { .img = img, .p = p, .why = why, .why_len = why_len };
	int ret;

	*img = (struct pkvrt_diskimg){ .fd = -1 };
	if (why && why_len)
		why[0] = 0;
	if (!p || p->size != sizeof(*p) || !p->path)
		return -EINVAL;
	ret = check_params(&a);
	if (ret)
		return ret;
	a.chunk = aligned_alloc(PKVRT_FMT_BLOCK, CHUNK_BYTES);
	if (!a.chunk)
		return fail(&a, -ENOMEM, "no memory");
	ret = open_file(&a);
	if (!ret)
		ret = lock_file(&a);
	if (!ret)
		ret = measure_file(&a);
	if (!ret)
		ret = find_or_create(&a);
	if (!ret)
		ret = check_super(&a);
	if (!ret) {
		try_direct(&a);
		ret = read_headers(&a);
	}
	if (ret) {
		undo(&a);
		pkvrt_diskimg_close(img);
	}
	free(a.chunk);
	return ret;
}

void pkvrt_diskimg_unlock(struct pkvrt_diskimg *img)
{
	flock(img->fd, LOCK_UN);
}

void pkvrt_diskimg_close(struct pkvrt_diskimg *img)
{
	if (img->headers)
		munmap(img->headers, img->headers_bytes);
	if (img->fd >= 0)
		close(img->fd);
	*img = (struct pkvrt_diskimg){ .fd = -1 };
}
