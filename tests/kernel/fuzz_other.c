// SPDX-License-Identifier: GPL-2.0-only
/* Calls that aren't ioctls: mappings, io_uring, descriptors, children, and looking. */
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "fuzz.h"

#define PAGE	4096UL

static int result(long ret)
{
	return ret < 0 ? -errno : (int)(ret & 0x7fffffff);
}

/* ---------------------------------------------------------------- mappings */

/* Where the next mapping goes; old ones there are gone, or the fuzzer's too. */
static void *next_room(struct world *w)
{
	return (void *)(uintptr_t)(MAPS_AT + w->nr_mapped++ % NR_MAP_ROOMS * MAP_ROOM);
}

static int run_mmap(struct actor *a, struct choices *c, const struct kind *kind)
{
	static const int prots[] = { 3, 3, 3, 1, 2, 0, 7, 3 };
	static const size_t pages[] = { 1, 1, 2, 4, 16, 64, 513, 3 };
	struct world *w = a->world;
	size_t len = pages[choose(c, 8)] * PAGE;
	int prot = prots[choose(c, 8)];
	int flags = MAP_FIXED | (chance(c, 16) ? MAP_PRIVATE : MAP_SHARED);
	uint64_t offset = w->map_offset + choose(c, 4) % 3 * PAGE;
	int fd = w->files[choose_file(w, c->record)].fd;
	uint8_t *p;

	(void)kind;
	if (chance(c, 32))
		flags |= MAP_POPULATE;
	if (chance(c, 8))
		flags |= MAP_LOCKED;
	if (chance(c, 24))
		offset = (uint64_t)choose_value(c) << (choose(c, 2) ? 12 : 32);
	pthread_mutex_lock(&w->lock);
	p = next_room(w);
	pthread_mutex_unlock(&w->lock);
	p = mmap(p, len, prot, flags, fd, (off_t)offset);
	if (p == MAP_FAILED)
		return -errno;
	pthread_mutex_lock(&w->lock);
	for (uint32_t i = 0; i < NR_MAPS; i++)
		if (!w->maps[i].p) {
			w->maps[i].p = p;
			w->maps[i].len = len;
			p = NULL;
			break;
		}
	pthread_mutex_unlock(&w->lock);
	if (p)
		munmap(p, len);
	return 0;
}

/* A mapping that there is: its number, or NR_MAPS. */
static uint32_t choose_map(struct world *w, struct choices *c)
{
	uint32_t at = choose(c, NR_MAPS);

	for (uint32_t i = 0; i < NR_MAPS; i++)
		if (w->maps[(at + i) % NR_MAPS].p)
			return (at + i) % NR_MAPS;
	return NR_MAPS;
}

/* Unmap, move or resize: these change @maps, so the lock is held all the time. */
static int run_remap(struct actor *a, struct choices *c, const struct kind *kind)
{
	struct world *w = a->world;
	uint8_t *p;
	uint32_t i;
	size_t len;
	int ret = 0;

	(void)kind;
	pthread_mutex_lock(&w->lock);
	i = choose_map(w, c);
	if (i == NR_MAPS) {
		ret = -EBADF;
	} else if (choose(c, 3)) {
		len = (1 + choose(c, 80)) * PAGE;
		p = mremap(w->maps[i].p, w->maps[i].len, len,
			   choose(c, 2) ? MREMAP_MAYMOVE | MREMAP_FIXED : 0, next_room(w));
		if (p == MAP_FAILED) {
			ret = -errno;
		} else {
			w->maps[i].p = p;
			w->maps[i].len = len;
		}
	} else {
		len = chance(c, 128) && w->maps[i].len > PAGE ? w->maps[i].len - PAGE :
			w->maps[i].len;
		munmap(w->maps[i].p + (w->maps[i].len - len), len);
		w->maps[i].len -= len;
		if (!w->maps[i].len)
			w->maps[i].p = NULL;
	}
	pthread_mutex_unlock(&w->lock);
	return ret;
}

static int run_madvise(struct actor *a, struct choices *c, const struct kind *kind)
{
	static const int advices[] = {
		MADV_DONTNEED, MADV_REMOVE, MADV_FREE, MADV_DONTFORK, MADV_DOFORK, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_WILLNEED, 20 /* COLD */, 21 /* PAGEOUT */,
		22 /* POPULATE_READ */, 23 /* POPULATE_WRITE */, 25 /* COLLAPSE */, MADV_MERGEABLE,
		MADV_DODUMP, MADV_RANDOM,
	};
	struct world *w = a->world;
	uint8_t *p = NULL;
	size_t len = 0;
	uint32_t i;

	(void)kind;
	pthread_mutex_lock(&w->lock);
	i = choose_map(w, c);
	if (i < NR_MAPS) {
		p = w->maps[i].p;
		len = w->maps[i].len;
	}
	pthread_mutex_unlock(&w->lock);
	if (!p)
		return -EBADF;
	switch (choose(c, 8)) {
	case 0:
		return result(mprotect(p, len, (int)choose(c, 8)));
	case 1:
		return result(msync(p, len, MS_SYNC));
	case 2:
		return result(choose(c, 2) ? mlock(p, len) : munlock(p, len));
	case 3:
		return result(syscall(SYS_remap_file_pages, p, len, 0, choose(c, 4), 0));
	default:
		if (chance(c, 64))
			len = PAGE;
		return result(madvise(p, len, advices[choose(c, 16)]));
	}
}

/* Let the kernel read or write through a mapping: an answer instead of a signal. */
static int run_touch(struct actor *a, struct choices *c, const struct kind *kind)
{
	struct world *w = a->world;
	uint8_t *p = NULL;
	uint32_t i;
	ssize_t n;

	(void)kind;
	pthread_mutex_lock(&w->lock);
	i = choose_map(w, c);
	if (i < NR_MAPS)
		p = w->maps[i].p + choose(c, (uint32_t)(w->maps[i].len / PAGE)) * PAGE;
	pthread_mutex_unlock(&w->lock);
	if (!p)
		return -EBADF;
	switch (choose(c, 4)) {
	case 0:
		return result(pread(w->drive, p, PAGE, choose(c, 16) * 4096));
	case 1:
		return result(pwrite(w->drive, p, PAGE, choose(c, 16) * 4096));
	default:
		n = write(a->pipe[1], p, 512);
		if (n > 0)
			n = read(a->pipe[0], p, 512);
		return result(n);
	}
}

/* ---------------------------------------------------------------- io_uring */

static bool open_ring(struct actor *a, struct choices *c)
{
	static const unsigned int flags[] = {
		0, 0, 0, IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_SQE128,
		IORING_SETUP_CQE32, IORING_SETUP_SINGLE_ISSUER,
	};
	unsigned int f = flags[choose(c, 8)];

	if (a->has_ring)
		return true;
	/* Others end the helper's commands. */
	if (a->is_helper && f & IORING_SETUP_SINGLE_ISSUER)
		f = 0;
	if (io_uring_queue_init(16, &a->ring, f))
		return false;
	a->is_deferred = f & IORING_SETUP_DEFER_TASKRUN;
	a->has_ring = true;
	a->nr_pending = 0;
	return true;
}

void reap(struct actor *a)
{
	struct io_uring_cqe *cqe;

	if (!a->has_ring)
		return;
	io_uring_get_events(&a->ring);
	while (!io_uring_peek_cqe(&a->ring, &cqe)) {
		struct round *r = (struct round *)(uintptr_t)cqe->user_data;

		if (cqe->user_data)
			a->nr_pending--;
		pthread_mutex_lock(&a->world->lock);
		/* Another command may have taken the round's place since. */
		for (int i = 0; cqe->user_data > 1 && i < cqe->res && i < 16; i++)
			take_move(a->world, &r->moves[i]);
		pthread_mutex_unlock(&a->world->lock);
		io_uring_cqe_seen(&a->ring, cqe);
	}
}

/*
 * A ring whose owner runs its completions must have none pending: the kernel
 * itself warns when it ends them in the owner's stead. One of which a command
 * can't be ended, because its file is closed, is left to the exit of the task.
 */
void close_ring(struct actor *a)
{
	struct pagedkv_io_empty arg = { .size = sizeof(arg) };

	if (!a->has_ring)
		return;
	for (uint32_t i = 0; a->is_deferred && a->nr_pending && i < NR_FILES; i++)
		if (a->world->files[i].fd >= 0)
			call(a->world->files[i].fd, PAGEDKV_CMD_QUIESCE, &arg);
	reap(a);
	if (!a->is_deferred || !a->nr_pending)
		io_uring_queue_exit(&a->ring);
	a->has_ring = false;
	a->nr_pending = 0;
}

static int run_uring(struct actor *a, struct choices *c, const struct kind *kind)
{
	static const uint32_t ops[] = {
		PAGEDKV_URING_MOVES, PAGEDKV_URING_MOVES, PAGEDKV_URING_MOVES,
		PAGEDKV_URING_SEQ_WAIT, PAGEDKV_URING_SEQ_WAIT, PAGEDKV_URING_MOVES,
	};
	struct pagedkv_uring_cmd cmd = { 0 };
	struct world *w = a->world;
	struct io_uring_sqe *sqe;
	struct round *r;

	(void)kind;
	if (!open_ring(a, c))
		return -ENOMEM;
	reap(a);
	if (a->nr_pending >= 16)
		return -EAGAIN;
	sqe = io_uring_get_sqe(&a->ring);
	if (!sqe)
		return -EAGAIN;
	r = &a->rounds[a->next_round++ % NR_ROUNDS];
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->cmd_op = chance(c, 4) ? choose_value(c) : ops[choose(c, 6)];
	sqe->user_data = 1;
	pthread_mutex_lock(&w->lock);
	sqe->fd = w->files[choose_file(w, c->record)].fd;
	cmd.arg = choose_seq(w, c);
	if (sqe->cmd_op == PAGEDKV_URING_MOVES) {
		fill_round(a, c, r);
		sqe->user_data = user_ptr(r);
		cmd.arg = chance(c, 4) ? choose_value(c) : user_ptr(&r->io);
	}
	pthread_mutex_unlock(&w->lock);
	cmd.flags = chance(c, 2);
	cmd.reserved = chance(c, 2);
	if (chance(c, 32))
		sqe->flags |= IOSQE_ASYNC;
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	a->nr_pending++;
	return result(io_uring_submit(&a->ring));
}

static int run_ring(struct actor *a, struct choices *c, const struct kind *kind)
{
	struct world *w = a->world;
	struct iovec iov = { 0 };
	int ret = 0;
	uint32_t i;

	(void)kind;
	pthread_mutex_lock(&w->lock);
	i = choose_map(w, c);
	if (i < NR_MAPS)
		iov = (struct iovec) { w->maps[i].p, w->maps[i].len };
	pthread_mutex_unlock(&w->lock);
	switch (choose(c, 6)) {
	case 0:
		close_ring(a);
		break;
	case 1:
		if (!open_ring(a, c) || i == NR_MAPS)
			return -EBADF;
		ret = io_uring_register_buffers(&a->ring, &iov, 1);
		break;
	case 2:
		if (a->has_ring)
			ret = io_uring_unregister_buffers(&a->ring);
		break;
	default:
		reap(a);
	}
	return ret;
}

/* An executor that does all there is to do, as most do; a few of its moves may fail. */
static int settle(int fd, struct choices *c)
{
	struct pagedkv_io_move moves[16];
	struct pagedkv_io_commit items[16] = { 0 };
	struct pagedkv_io_moves m = { .size = sizeof(m), .commits = user_ptr(items) };
	bool some_fail = chance(c, 48);
	int nr = 0, ret = 0;

	for (int round = 0; round < 16 && !ret && (nr = fetch(fd, moves, 16)) > 0; round++) {
		for (int i = 0; i < nr; i++) {
			items[i].id = moves[i].id;
			items[i].status = some_fail && chance(c, 64) ? -EIO : 0;
			items[i].flags = items[i].status && chance(c, 64);
		}
		m.nr_commits = (uint32_t)nr;
		ret = call(fd, PAGEDKV_CMD_MOVES, &m);
	}
	return nr < 0 ? nr : ret;
}

static int run_settle(struct actor *a, struct choices *c, const struct kind *kind)
{
	struct world *w = a->world;

	(void)kind;
	return settle(w->files[choose_file(w, c->record)].fd, c);
}

/* A server that is short of room: a sequence has to leave the device, and comes back. */
static int run_swap(struct actor *a, struct choices *c, const struct kind *kind)
{
	struct world *w = a->world;
	int fd = w->files[choose_file(w, c->record)].fd, ret = 0;
	uint32_t nr = 1 + choose(c, 4);
	uint64_t seq;

	(void)kind;
	pthread_mutex_lock(&w->lock);
	seq = choose_seq(w, c);
	pthread_mutex_unlock(&w->lock);
	for (uint32_t i = 0; i < nr && ret >= 0; i++) {
		ret = advise(fd, seq, i % 2 ? PAGEDKV_IO_WILLNEED : PAGEDKV_IO_COLD);
		if (ret >= 0 && !chance(c, 32))
			ret = settle(fd, c);
	}
	return ret;
}

/* ------------------------------------------------------------- descriptors */

static int run_dup(struct actor *a, struct choices *c, const struct kind *kind)
{
	struct world *w = a->world;
	struct pool_file *f = &w->files[choose_file(w, c->record)];
	int fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);

	(void)kind;
	if (fd < 0)
		return -errno;
	pthread_mutex_lock(&w->lock);
	add_file(w, fd, f->id);
	pthread_mutex_unlock(&w->lock);
	return 0;
}

static int run_close(struct actor *a, struct choices *c, const struct kind *kind)
{
	struct world *w = a->world;
	struct pool_file *f = &w->files[choose_file(w, c->record)];
	int fd;

	(void)kind;
	pthread_mutex_lock(&w->lock);
	fd = f->fd;
	f->fd = -1;
	w->has_closed = true;
	pthread_mutex_unlock(&w->lock);
	return result(close(fd));
}

/* What a pool's file and the device aren't for. */
static int run_odd(struct actor *a, struct choices *c, const struct kind *kind)
{
	struct world *w = a->world;
	int fd = chance(c, 64) ? w->devices[0] : w->files[choose_file(w, c->record)].fd;
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
	uint64_t count;

	(void)kind;
	switch (choose(c, 10)) {
	case 0:
		return result(read(fd, a->memory, 64));
	case 1:
		return result(write(fd, a->memory, 64));
	case 2:
		return result(lseek(fd, choose_value(c), SEEK_SET));
	case 3:
		return result(ftruncate(fd, choose_value(c)));
	case 4:
		return result(ioctl(fd, choose_value(c), a->memory));
	case 5:
		return result(ioctl(fd, _IO(PAGEDKV_IO_TYPE, choose(c, 256)), a->memory));
	case 6:
		return result(read(w->eventfd, &count, sizeof(count)));
	default:
		return result(poll(&p, 1, 0));
	}
}

/* Calls that follow find few descriptors or little memory that may be locked. */
static int run_rlimit(struct actor *a, struct choices *c, const struct kind *kind)
{
	static const rlim_t files[] = { 1024, 1024, 8, 0 }, bytes[] = { 65536, 0, 1U << 23, 4096 };
	bool of_files = choose(c, 2);
	struct rlimit r;

	(void)kind;
	(void)a;
	getrlimit(of_files ? RLIMIT_NOFILE : RLIMIT_MEMLOCK, &r);
	r.rlim_cur = of_files ? files[choose(c, 4)] : bytes[choose(c, 4)];
	return result(setrlimit(of_files ? RLIMIT_NOFILE : RLIMIT_MEMLOCK, &r));
}

/* ---------------------------------------------------------------- children */

void end_child(pid_t *pid)
{
	if (*pid <= 0)
		return;
	kill(*pid, SIGKILL);
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

/* A child has the files, and takes the next records; it exits, or is killed. */
static int run_fork(struct actor *a, struct choices *c, const struct kind *kind)
{
	struct world *w = a->world;
	pid_t *slot = &w->children[choose(c, NR_CHILDREN)];
	uint32_t nr = 1 + choose(c, 4), end = w->at + nr, unused;
	pid_t parent = getpid();
	bool stays = choose(c, 2);

	(void)kind;
	if (w->is_child || a->is_helper)
		return -EPERM;
	end_child(slot);
	if (end > w->input->nr)
		end = w->input->nr;
	pthread_mutex_lock(&w->lock);
	*slot = fork();
	pthread_mutex_unlock(&w->lock);
	if (*slot < 0) {
		*slot = 0;
		return -errno;
	}
	if (*slot) {
		w->at = end;
		return 0;
	}
	/* It does not outlive its parent, with what it holds. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	w->is_child = true;
	/* The parent's file is of the parent's allocations. */
	close(a->fail_nth);
	begin_thread(a);
	memset(w->children, 0, sizeof(w->children));
	/* The ring is the parent's. */
	a->has_ring = false;
	a->nr_pending = 0;
	for (uint32_t i = w->at; i < end; i++)
		world_record(a, w->input->records[i], &unused);
	if (stays)
		pause();
	_exit(0);
}

/* -------------------------------------------------------------------- looks */

static int run_read(struct actor *a, struct choices *c, const struct kind *kind)
{
	static const char *const files[] = {
		"/proc/pagedkv/pools", "/proc/pagedkv/stat", "/proc/pagedkv/meminfo",
		"/proc/pagedkv/tiers", "/proc/pagedkv/version", "/proc/pagedkv/%u/maps",
		"/proc/pagedkv/%u/maps", "/proc/pagedkv/%u/sequences", "/proc/pagedkv/%u/sequences",
		"/proc/pagedkv/%u/limits", "/proc/pagedkv/%u/tables", "/proc/pagedkv/%u/tables",
		"/proc/pagedkv/%u/files", "/sys/kernel/debug/pagedkv/%u/check",
	};
	static const size_t sizes[] = { 65536, 4096, 64, 1 };
	uint32_t which = choose(c, sizeof(files) / sizeof(files[0]));
	char path[64];
	int fd, ret;

	(void)kind;
	snprintf(path, sizeof(path), files[which],
		 a->world->files[choose_file(a->world, c->record)].id);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (chance(c, 48))
		lseek(fd, choose_value(c), SEEK_SET);
	ret = result(read(fd, a->memory, sizes[choose(c, 4)]));
	if (chance(c, 128))
		ret = result(read(fd, a->memory, 4096));
	close(fd);
	return ret < 0 ? ret : 0;
}

static int read_text(struct actor *a, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = result(read(fd, a->memory, 4096));
	close(fd);
	return ret;
}

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = result(write(fd, text, strlen(text)));
	close(fd);
	return ret;
}

/* Where the kernel lets one call the module's shrinker, if it does. */
static bool find_shrinker(char *path, size_t len)
{
	static const char *const top = "/sys/kernel/debug/shrinker";
	DIR *dir = opendir(top);
	struct dirent *e;
	bool found = false;

	if (!dir)
		return false;
	while (!found && (e = readdir(dir))) {
		found = !strncmp(e->d_name, "pagedkv-", 8);
		if (found)
			snprintf(path, len, "%s/%.64s", top, e->d_name);
	}
	closedir(dir);
	return found;
}

/* The module's shrinker is asked for memory of all pools or of the fuzzer's memcg. */
static int run_scan(struct actor *a, struct choices *c, const struct kind *kind)
{
	static const uint32_t pages[] = { 1, 512, 512, 1024, 4096, 100000, 64, 0 };
	char dir[128], path[160], text[64];
	struct stat st;

	(void)kind;
	if (!find_shrinker(dir, sizeof(dir)) || stat(chance(c, 128) ? MEMCG : MEMCG "/..", &st))
		return write_text("/proc/sys/vm/drop_caches", choose(c, 2) ? "2" : "3");
	if (chance(c, 32)) {
		snprintf(path, sizeof(path), "%s/count", dir);
		return read_text(a, path);
	}
	snprintf(path, sizeof(path), "%s/scan", dir);
	snprintf(text, sizeof(text), "%llu %u %u", (unsigned long long)st.st_ino, choose(c, 2),
		 pages[choose(c, 8)]);
	return write_text(path, text);
}

#define KIND(_name, _weight, ...) \
	{ .name = #_name, .weight = (_weight), .run = run_##_name, __VA_ARGS__ }

const struct kind other_kinds[] = {
	KIND(mmap, 6), KIND(remap, 2), KIND(madvise, 4), KIND(touch, 4), KIND(settle, 20),
	KIND(uring, 22), KIND(ring, 5), KIND(dup, 2), KIND(close, 3), KIND(odd, 4),
	KIND(rlimit, 1), KIND(fork, 2, .never_fails = true), KIND(read, 8), KIND(swap, 10),
	KIND(scan, 3),
};
const uint32_t nr_other_kinds = sizeof(other_kinds) / sizeof(other_kinds[0]);
