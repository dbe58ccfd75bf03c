// SPDX-License-Identifier: GPL-2.0-only
/* Runs an input: its calls one after the other, some in a second thread, and the end of it all. */
#include <dirent.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "fuzz.h"

/* The second thread. It has nothing to do, or one record. */
struct helper {
	struct actor actor;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t given;
	const uint8_t *record;	/* NULL: nothing */
};

/* ------------------------------------------------------------------- calls */

static const struct kind *kind_at(uint32_t i)
{
	return i < nr_ioctl_kinds ? &ioctl_kinds[i] : &other_kinds[i - nr_ioctl_kinds];
}

const char *kind_name(uint32_t kind)
{
	return kind_at(kind)->name;
}

static uint32_t kind_of(const uint8_t *record)
{
	uint32_t nr = nr_ioctl_kinds + nr_other_kinds, total = 0, i, at;

	for (i = 0; i < nr; i++)
		total += kind_at(i)->weight;
	at = (uint32_t)(record[0] << 8 | record[2]) * total >> 16;
	for (i = 0; at >= kind_at(i)->weight; i++)
		at -= kind_at(i)->weight;
	return i;
}

/* The @nth allocation of this thread fails; 0: none does. */
void set_fail_nth(struct actor *a, uint32_t nth)
{
	char text[12];

	a->nth = nth;
	if (a->fail_nth >= 0 && pwrite(a->fail_nth, text, (size_t)snprintf(text, sizeof(text), "%u",
									   nth), 0) < 0)
		abort();
}

static int run_kind(struct actor *a, const uint8_t *record, uint32_t kind)
{
	/* Some calls allocate much that isn't the module's, and the kernel says so in its log. */
	bool fails = (record[1] & 0x70) == 0x70 && !kind_at(kind)->never_fails;
	struct choices c;
	int ret;

	choices_begin(&c, record);
	a->kind = kind;
	if (fails)
		set_fail_nth(a, 1 + record[RECORD_BYTES - 1] % 24);
	ret = kind_at(kind)->run(a, &c, kind_at(kind));
	if (fails)
		set_fail_nth(a, 0);
	if (a->world->verbose)
		printf("# %s%s%s: %d\n", a->is_helper ? "beside: " : "",
		       a->world->is_child ? "child: " : "", kind_at(kind)->name, ret);
	return ret;
}

int world_record(struct actor *a, const uint8_t *record, uint32_t *kind)
{
	*kind = kind_of(record);
	return run_kind(a, record, *kind);
}

/* ------------------------------------------------------------ second thread */

static void *help(void *arg)
{
	struct helper *h = arg;
	uint32_t unused;

	begin_thread(&h->actor);
	cover_open(&h->actor.cover);
	pthread_mutex_lock(&h->lock);
	for (;;) {
		while (!h->record)
			pthread_cond_wait(&h->given, &h->lock);
		pthread_mutex_unlock(&h->lock);
		world_record(&h->actor, h->record, &unused);
		pthread_mutex_lock(&h->lock);
		h->record = NULL;
	}
	return NULL;
}

static bool is_busy(struct helper *h)
{
	bool busy;

	pthread_mutex_lock(&h->lock);
	busy = h->record;
	pthread_mutex_unlock(&h->lock);
	return busy;
}

static bool give(struct helper *h, const uint8_t *record)
{
	bool given;

	pthread_mutex_lock(&h->lock);
	given = !h->record;
	if (given) {
		h->record = record;
		pthread_cond_signal(&h->given);
	}
	pthread_mutex_unlock(&h->lock);
	return given;
}

/* What it waits for may never come: signals end the wait. */
static void end_help(struct helper *h)
{
	while (is_busy(h)) {
		pthread_kill(h->thread, SIGUSR1);
		usleep(300);
	}
}

struct actor *world_helper(struct world *w)
{
	return &w->helper->actor;
}

/* --------------------------------------------------------------------- end */

/* Every invariant of each pool, by the call and now and then by debugfs too. */
static const char *check_pools(struct world *w, bool by_debugfs)
{
	static char why[160];

	for (uint32_t i = 0; i < NR_FILES; i++) {
		struct pagedkv_io_check c = { .size = sizeof(c) };
		char path[64], text[128] = { 0 };
		int fd;

		if (w->files[i].fd < 0)
			continue;
		if (call(w->files[i].fd, PAGEDKV_CMD_CHECK, &c) == -EUCLEAN) {
			snprintf(why, sizeof(why), "CHECK: %s", c.out_why);
			return why;
		}
		if (!by_debugfs)
			continue;
		snprintf(path, sizeof(path), "/sys/kernel/debug/pagedkv/%u/check", w->files[i].id);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (read(fd, text, sizeof(text) - 1) > 0 && strcmp(text, "ok\n")) {
			snprintf(why, sizeof(why), "%s: %s", path, text);
			close(fd);
			return why;
		}
		close(fd);
	}
	return NULL;
}

static void quiesce(struct world *w)
{
	struct pagedkv_io_empty arg = { .size = sizeof(arg) };

	for (uint32_t i = 0; i < NR_FILES; i++)
		if (w->files[i].fd >= 0)
			call(w->files[i].fd, PAGEDKV_CMD_QUIESCE, &arg);
}

/* QUIESCE ends the commands of every file; what is closed can't be told so. */
static const char *end_commands(struct world *w, struct actor *a)
{
	uint64_t give_up = now_ns() + 20000000000ULL;
	const char *why = NULL;

	/* What failed on its way in is pending too. */
	if (a->has_ring)
		io_uring_submit(&a->ring);
	quiesce(w);
	reap(a);
	while (a->has_ring && a->nr_pending && !w->has_closed && now_ns() < give_up) {
		usleep(500);
		/* A thread of the ring's may have been late with a command. */
		quiesce(w);
		reap(a);
	}
	if (a->has_ring && a->nr_pending && !w->has_closed)
		why = "a command over io_uring does not end";
	/* The next input may go on with it. */
	if (a->nr_pending || w->nr_runs % 8 == 0)
		close_ring(a);
	return why;
}

static void end_maps(struct world *w)
{
	for (uint32_t i = 0; i < NR_MAPS; i++) {
		if (w->maps[i].p)
			munmap(w->maps[i].p, w->maps[i].len);
		w->maps[i].p = NULL;
	}
}

static void set_limits(void)
{
	struct rlimit files = { 1024, 1024 }, locked = { 8U << 20, RLIM_INFINITY };

	setrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_MEMLOCK, &locked);
}

static const char *end(struct world *w)
{
	const char *why;

	end_help(w->helper);
	set_limits();
	for (uint32_t i = 0; i < NR_CHILDREN; i++)
		end_child(&w->children[i]);
	why = end_commands(w, w->actor);
	if (!why)
		why = end_commands(w, &w->helper->actor);
	if (!why)
		why = check_pools(w, w->nr_runs++ % 16 == 0);
	end_maps(w);
	for (uint32_t i = 0; i < NR_FILES; i++) {
		if (w->files[i].fd >= 0)
			close(w->files[i].fd);
		w->files[i].fd = -1;
	}
	return why;
}

/* Persistent pools that inputs made go, those whose names begin as theirs. */
void forget_names(int dev)
{
	struct pagedkv_io_pool_entry entries[32];
	struct pagedkv_io_pool_list l = {
		.size = sizeof(l), .entries = user_ptr(entries), .nr = 32,
	};

	while (!call(dev, PAGEDKV_CMD_POOL_LIST, &l) && l.out_nr)
		for (uint32_t i = 0; i < l.out_nr; i++)
			if (!strncmp((char *)entries[i].name, "fuzz", 4))
				destroy_pool(dev, (char *)entries[i].name);
}

/* -------------------------------------------------------------------- begin */

static void begin_actor(struct actor *a, struct world *w)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	void *at = (void *)(uintptr_t)(MEMORY_AT + a->is_helper * MEMORY_ROOM);

	a->world = w;
	a->memory = mmap(at, NR_REGIONS * (REGION + 4096), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (fd < 0 || ftruncate(fd, 4096) || a->memory == MAP_FAILED ||
	    pipe2(a->pipe, O_CLOEXEC | O_NONBLOCK))
		abort();
	for (uint32_t i = 0; i < NR_REGIONS; i++)
		mprotect(a->memory + i * (REGION + 4096) + REGION, 4096, PROT_NONE);
	a->alias = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	a->read_only = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	a->rounds = calloc(NR_ROUNDS, sizeof(*a->rounds));
	if (a->alias == MAP_FAILED || a->read_only == MAP_FAILED || !a->rounds)
		abort();
	close(fd);
}

/* The device as opened by a user of its group with no capability. */
static int open_device_as_user(void)
{
	struct stat st;
	int fd;

	if (stat("/dev/pagedkv", &st) || setegid(st.st_gid) || seteuid(1001))
		abort();
	fd = open_device();
	if (seteuid(0) || setegid(0))
		abort();
	return fd;
}

static void on_signal(int sig)
{
	(void)sig;
}

static void begin_helper(struct world *w)
{
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

	w->helper = calloc(1, sizeof(*w->helper));
	if (!w->helper)
		abort();
	w->helper->actor.is_helper = true;
	begin_actor(&w->helper->actor, w);
	sigaction(SIGUSR1, &act, NULL);
	pthread_mutex_init(&w->helper->lock, NULL);
	pthread_cond_init(&w->helper->given, NULL);
	if (pthread_create(&w->helper->thread, NULL, help, w->helper))
		abort();
}

struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		abort();
	w->actor = calloc(1, sizeof(*w->actor));
	if (!w->actor)
		abort();
	pthread_mutex_init(&w->lock, NULL);
	w->devices[0] = open_device();
	w->devices[1] = open_device_as_user();
	w->drive = open("/dev/nvme0n1", O_RDWR | O_DIRECT | O_CLOEXEC);
	w->eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	for (uint32_t i = 0; i < NR_FILES; i++)
		w->files[i].fd = -1;
	begin_actor(w->actor, w);
	begin_thread(w->actor);
	cover_open(&w->actor->cover);
	begin_helper(w);
	return w;
}

const char *world_run(struct world *w, const struct input *in,
		      void (*each)(void *arg, uint32_t kind, int ret), void *arg)
{
	uint32_t kind;
	int ret;

	w->input = in;
	w->nr_seqs = 0;
	w->nr_moves = 0;
	w->map_offset = 0;
	w->has_closed = false;
	set_limits();
	cover_begin(&w->actor->cover);
	cover_begin(&w->helper->actor.cover);
	ret = run_kind(w->actor, in->records[0], 0);
	each(arg, 0, ret);
	for (w->at = 1; w->at < in->nr;) {
		const uint8_t *record = in->records[w->at++];

		if ((record[1] & 0x0c) == 0x0c && give(w->helper, record))
			continue;
		ret = world_record(w->actor, record, &kind);
		each(arg, kind, ret);
	}
	return end(w);
}
