// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The kernel module's backend: a pool is a file of /dev/pagedkv, a call is an
 * ioctl. Nothing here has state of its own but the eventfd, which the kernel
 * raises when moves are planned and each fetch lowers first, so that what is
 * planned after it raises it again; and the host tier's mappings.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/pagedkv.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "backend.h"

#define DEVICE		"/dev/pagedkv"
#define NSEC_PER_SEC	1000000000ULL

SAME_SIZE(pagedkv_op, pagedkv_io_op);
SAME_FIELD(pagedkv_op, pagedkv_io_op, seq);
SAME_FIELD(pagedkv_op, pagedkv_io_op, type);
SAME_FIELD(pagedkv_op, pagedkv_io_op, arg);
SAME_FIELD(pagedkv_op, pagedkv_io_op, out_seq);

SAME_SIZE(pagedkv_delta, pagedkv_io_delta);
SAME_FIELD(pagedkv_delta, pagedkv_io_delta, seq);
SAME_FIELD(pagedkv_delta, pagedkv_io_delta, index);
SAME_FIELD(pagedkv_delta, pagedkv_io_delta, slot);

SAME_SIZE(pagedkv_move, pagedkv_io_move);
SAME_FIELD(pagedkv_move, pagedkv_io_move, id);
SAME_FIELD(pagedkv_move, pagedkv_io_move, class_id);
SAME_FIELD(pagedkv_move, pagedkv_io_move, kind);
SAME_FIELD(pagedkv_move, pagedkv_io_move, src_tier);
SAME_FIELD(pagedkv_move, pagedkv_io_move, src_slot);
SAME_FIELD(pagedkv_move, pagedkv_io_move, dst_tier);
SAME_FIELD(pagedkv_move, pagedkv_io_move, dst_slot);
SAME_FIELD(pagedkv_move, pagedkv_io_move, key);

SAME_SIZE(pagedkv_commit, pagedkv_io_commit);
SAME_FIELD(pagedkv_commit, pagedkv_io_commit, id);
SAME_FIELD(pagedkv_commit, pagedkv_io_commit, status);
SAME_FIELD(pagedkv_commit, pagedkv_io_commit, flags);

SAME_SIZE(pagedkv_map_entry, pagedkv_io_map_entry);
SAME_FIELD(pagedkv_map_entry, pagedkv_io_map_entry, slot);
SAME_FIELD(pagedkv_map_entry, pagedkv_io_map_entry, refs);
SAME_FIELD(pagedkv_map_entry, pagedkv_io_map_entry, holds);
SAME_FIELD(pagedkv_map_entry, pagedkv_io_map_entry, flags);
SAME_FIELD(pagedkv_map_entry, pagedkv_io_map_entry, priority);

SAME_SIZE(pagedkv_tier_stats, pagedkv_io_tier_stats);
SAME_FIELD(pagedkv_tier_stats, pagedkv_io_tier_stats, nr_free);
SAME_FIELD(pagedkv_tier_stats, pagedkv_io_tier_stats, nr_idle);
SAME_FIELD(pagedkv_tier_stats, pagedkv_io_tier_stats, nr_leaving);
SAME_FIELD(pagedkv_tier_stats, pagedkv_io_tier_stats, limit);
SAME_FIELD(pagedkv_tier_stats, pagedkv_io_tier_stats, state);

SAME_SIZE(pkv_prefix_key, pagedkv_io_key);

SAME_VALUE(PAGEDKV_NR_TIERS, PAGEDKV_IO_NR_TIERS);
SAME_VALUE(PAGEDKV_MAX_CLASSES, PAGEDKV_IO_MAX_CLASSES);
SAME_VALUE(PAGEDKV_SALT_BYTES, PAGEDKV_IO_SALT_BYTES);
SAME_VALUE(PAGEDKV_NAME_BYTES, PAGEDKV_IO_NAME_BYTES);
SAME_VALUE(PAGEDKV_MAX_FILES, PAGEDKV_IO_MAX_FILES);
SAME_VALUE(PAGEDKV_OP_APPEND, PAGEDKV_IO_OP_APPEND);
SAME_VALUE(PAGEDKV_OP_FORK, PAGEDKV_IO_OP_FORK);
SAME_VALUE(PAGEDKV_OP_TRUNCATE, PAGEDKV_IO_OP_TRUNCATE);
SAME_VALUE(PAGEDKV_OP_FREE, PAGEDKV_IO_OP_FREE);
SAME_VALUE(PAGEDKV_MOVE_OUT, PAGEDKV_IO_MOVE_OUT);
SAME_VALUE(PAGEDKV_MOVE_IN, PAGEDKV_IO_MOVE_IN);
SAME_VALUE(PAGEDKV_MOVE_COPY, PAGEDKV_IO_MOVE_COPY);
SAME_VALUE(PAGEDKV_WILLNEED, PAGEDKV_IO_WILLNEED);
SAME_VALUE(PAGEDKV_COLD, PAGEDKV_IO_COLD);
SAME_VALUE(PAGEDKV_DONTNEED, PAGEDKV_IO_DONTNEED);
SAME_VALUE(PAGEDKV_PIN, PAGEDKV_IO_PIN);
SAME_VALUE(PAGEDKV_UNPIN, PAGEDKV_IO_UNPIN);
SAME_VALUE(PAGEDKV_COMMIT_SOURCE_BAD, PAGEDKV_IO_COMMIT_SOURCE_BAD);
SAME_VALUE(PAGEDKV_MAP_PUBLISHED, PAGEDKV_IO_MAP_PUBLISHED);
SAME_VALUE(PAGEDKV_MAP_MOVING, PAGEDKV_IO_MAP_MOVING);
SAME_VALUE(PAGEDKV_MAP_LOST, PAGEDKV_IO_MAP_LOST);

struct host_mapping {
	void *addr;
	size_t mapped, len;
};

struct kmod_pool {
	int fd;
	int moves_fd;
	bool stopped;			/* atomic */
	pthread_mutex_t lock;		/* of what follows */
	struct host_mapping host[PAGEDKV_MAX_CLASSES];
	char why[sizeof(((struct pagedkv_io_check *)0)->out_why)];
};

static __u64 user_ptr(const void *p)
{
	return (uintptr_t)p;
}

/* 0 or more, or -errno; what the library's errors don't have becomes what they mean there. */
static int call(int fd, unsigned long cmd, void *arg)
{
	int ret;

	do {
		ret = ioctl(fd, cmd, arg);
	} while (ret < 0 && errno == EINTR);
	if (ret >= 0)
		return ret;
	switch (errno) {
	case EPERM:
		return -EACCES;
	case EMFILE:
	case ENFILE:
		return -ENOMEM;
	case ENOTTY:
		return -EOPNOTSUPP;
	default:
		return -errno;
	}
}

/* ------------------------------------------------------------- connection */

struct kmod_device {
	int fd;
};

static int kmod_open(void **out)
{
	struct pagedkv_io_info info = { .size = sizeof(info) };
	struct kmod_device *dev;
	int ret;

	dev = malloc(sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	dev->fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (dev->fd < 0) {
		ret = errno == EACCES || errno == EPERM ? -EACCES : -ENOENT;
		goto free_dev;
	}
	ret = call(dev->fd, PAGEDKV_CMD_INFO, &info);
	if (!ret && !(info.out_features & PAGEDKV_IO_F_PERSIST))
		ret = -EOPNOTSUPP;
	if (ret)
		goto close_fd;
	*out = dev;
	return 0;

close_fd:
	close(dev->fd);
free_dev:
	free(dev);
	return ret;
}

static void kmod_close(void *priv)
{
	struct kmod_device *dev = priv;

	close(dev->fd);
	free(dev);
}

/* ------------------------------------------------------------------- pool */

static void set_params(struct pagedkv_io_pool_create *to, const struct pagedkv_pool_params *p)
{
	memset(to, 0, sizeof(*to));
	to->size = sizeof(*to);
	if (p->name) {
		to->flags = PAGEDKV_IO_POOL_PERSIST;
		memcpy(to->name, p->name, strnlen(p->name, sizeof(to->name) - 1));
	}
	memcpy(to->salt, p->salt, sizeof(to->salt));
	to->fingerprint = p->fingerprint;
	to->mode = p->mode;
	to->nr_classes = p->nr_classes;
	to->max_seqs = p->max_seqs;
	to->max_moves = p->max_moves;
	to->nr_ranks = p->nr_ranks;
	for (uint32_t i = 0; i < p->nr_classes; i++) {
		const struct pagedkv_class_params *c = &p->classes[i];
		struct pagedkv_io_class *k = &to->classes[i];

		k->page_tokens = c->page_tokens;
		memcpy(k->nr_slots, c->nr_slots, sizeof(k->nr_slots));
		memcpy(k->low, c->low, sizeof(k->low));
		memcpy(k->high, c->high, sizeof(k->high));
		k->host_node = PAGEDKV_IO_NONE;
		k->page_bytes = c->page_bytes;
	}
}

/* A pool that was there before: is it what the caller describes? Takes over its salt. */
static int check_found(int fd, struct pagedkv_pool_params *p,
		       const struct pagedkv_io_pool_create *want)
{
	struct pagedkv_io_pool_info is = { .size = sizeof(is) };
	int ret = call(fd, PAGEDKV_CMD_POOL_INFO, &is);

	if (ret)
		return ret;
	for (uint32_t i = 0; i < want->nr_classes; i++)
		is.out_classes[i].host_node = want->classes[i].host_node;
	if (is.out_nr_classes != want->nr_classes || is.out_max_seqs != want->max_seqs ||
	    memcmp(is.out_classes, want->classes, sizeof(want->classes)))
		return -EEXIST;
	memcpy(p->salt, is.out_salt, sizeof(p->salt));
	return 0;
}

static int open_named(int dev, struct pagedkv_pool_params *p,
		      const struct pagedkv_io_pool_create *want)
{
	struct pagedkv_io_pool_open arg = {
		.size = sizeof(arg),
		.fingerprint = p->fingerprint,
	};
	int ret;

	memcpy(arg.name, want->name, sizeof(arg.name));
	ret = call(dev, PAGEDKV_CMD_POOL_OPEN, &arg);
	if (ret)
		return ret;
	ret = check_found(arg.out_fd, p, want);
	if (ret) {
		close(arg.out_fd);
		return ret;
	}
	return arg.out_fd;
}

/* A file of the pool: created, or opened where the name is taken. */
static int create_or_open(int dev, struct pagedkv_pool_params *p)
{
	struct pagedkv_io_pool_create arg;
	int ret;

	set_params(&arg, p);
	for (;;) {
		ret = call(dev, PAGEDKV_CMD_POOL_CREATE, &arg);
		if (!ret)
			return arg.out_fd;
		if (ret != -EEXIST)
			return ret;
		ret = open_named(dev, p, &arg);
		/* It went away in between. */
		if (ret != -ENOENT)
			return ret;
	}
}

/* A pool's handle, of a file or the error of getting one. Takes the file over. */
static int take_file(void **priv, int fd)
{
	struct pagedkv_io_moves_eventfd arg = { .size = sizeof(arg) };
	struct kmod_pool *p;
	int ret;

	if (fd < 0)
		return fd;
	p = calloc(1, sizeof(*p));
	if (!p) {
		ret = -ENOMEM;
		goto close_fd;
	}
	p->fd = fd;
	p->moves_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (p->moves_fd < 0) {
		ret = -ENOMEM;
		goto free_pool;
	}
	arg.fd = p->moves_fd;
	ret = call(fd, PAGEDKV_CMD_MOVES_EVENTFD, &arg);
	if (ret)
		goto close_eventfd;
	pthread_mutex_init(&p->lock, NULL);
	*priv = p;
	return 0;

close_eventfd:
	close(p->moves_fd);
free_pool:
	free(p);
close_fd:
	close(fd);
	return ret;
}

static int kmod_pool_create(void **priv, void *opened, struct pagedkv_pool_params *params)
{
	struct kmod_device *dev = opened;

	return take_file(priv, create_or_open(dev->fd, params));
}

/* What the pool of a file was created with. */
static int get_params(int fd, struct pagedkv_pool_params *p)
{
	struct pagedkv_io_pool_info is = { .size = sizeof(is) };
	int ret = call(fd, PAGEDKV_CMD_POOL_INFO, &is);

	if (ret)
		return ret;
	p->nr_classes = is.out_nr_classes;
	p->max_seqs = is.out_max_seqs;
	p->max_moves = is.out_max_moves;
	p->nr_ranks = is.out_nr_ranks;
	p->mode = is.out_mode;
	memcpy(p->salt, is.out_salt, sizeof(p->salt));
	for (uint32_t i = 0; i < is.out_nr_classes; i++) {
		const struct pagedkv_io_class *k = &is.out_classes[i];
		struct pagedkv_class_params *c = &p->classes[i];

		c->page_tokens = k->page_tokens;
		memcpy(c->nr_slots, k->nr_slots, sizeof(c->nr_slots));
		memcpy(c->low, k->low, sizeof(c->low));
		memcpy(c->high, k->high, sizeof(c->high));
		c->page_bytes = k->page_bytes;
	}
	return 0;
}

static int kmod_pool_open(void **priv, void *opened, struct pagedkv_pool_params *params)
{
	struct pagedkv_io_pool_open arg = {
		.size = sizeof(arg),
		.fingerprint = params->fingerprint,
	};
	struct kmod_device *dev = opened;
	int ret;

	memcpy(arg.name, params->name, strnlen(params->name, sizeof(arg.name) - 1));
	ret = call(dev->fd, PAGEDKV_CMD_POOL_OPEN, &arg);
	if (ret)
		return ret;
	ret = get_params(arg.out_fd, params);
	if (ret) {
		close(arg.out_fd);
		return ret;
	}
	return take_file(priv, arg.out_fd);
}

static void kmod_pool_destroy(void *priv)
{
	struct kmod_pool *p = priv;

	for (int i = 0; i < PAGEDKV_MAX_CLASSES; i++)
		if (p->host[i].addr)
			munmap(p->host[i].addr, p->host[i].mapped);
	close(p->fd);
	close(p->moves_fd);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int kmod_pool_remove(void *opened, const char *name)
{
	struct pagedkv_io_pool_destroy arg = { .size = sizeof(arg) };
	struct kmod_device *dev = opened;

	memcpy(arg.name, name, strnlen(name, sizeof(arg.name) - 1));
	return call(dev->fd, PAGEDKV_CMD_POOL_DESTROY, &arg);
}

static int set_limit(struct kmod_pool *p, uint32_t flags, uint32_t class_id, uint32_t tier,
		     uint32_t limit)
{
	struct pagedkv_io_set_limit arg = {
		.size = sizeof(arg),
		.flags = flags,
		.class_id = class_id,
		.tier = tier,
		.limit = limit,
	};

	return call(p->fd, PAGEDKV_CMD_SET_LIMIT, &arg);
}

static int kmod_set_limit(void *priv, uint32_t class_id, uint32_t tier, uint32_t limit)
{
	return set_limit(priv, 0, class_id, tier, limit);
}

static int kmod_set_ceiling(void *priv, uint32_t class_id, uint32_t tier, uint32_t limit)
{
	return set_limit(priv, PAGEDKV_IO_LIMIT_CEILING, class_id, tier, limit);
}

static int kmod_set_tier_state(void *priv, uint32_t class_id, uint32_t tier, uint32_t state)
{
	struct kmod_pool *p = priv;
	struct pagedkv_io_tier_state arg = {
		.size = sizeof(arg),
		.class_id = class_id,
		.tier = tier,
		.state = state,
	};

	return call(p->fd, PAGEDKV_CMD_TIER_STATE, &arg);
}

static int map_host(struct kmod_pool *p, uint32_t class_id)
{
	struct pagedkv_io_host_map arg = { .size = sizeof(arg), .class_id = class_id };
	struct host_mapping *m = &p->host[class_id];
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *addr;
	int ret;

	if (m->addr)
		return 0;
	ret = call(p->fd, PAGEDKV_CMD_HOST_MAP, &arg);
	if (ret)
		return ret;
	m->len = arg.out_bytes;
	m->mapped = (m->len + page - 1) & ~(page - 1);
	addr = mmap(NULL, m->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd,
		    (off_t)arg.out_offset);
	if (addr == MAP_FAILED)
		return -ENOMEM;
	m->addr = addr;
	return 0;
}

static int kmod_host_map(void *priv, uint32_t class_id, void **addr, size_t *len)
{
	struct kmod_pool *p = priv;
	int ret;

	pthread_mutex_lock(&p->lock);
	ret = map_host(p, class_id);
	if (!ret) {
		*addr = p->host[class_id].addr;
		*len = p->host[class_id].len;
	}
	pthread_mutex_unlock(&p->lock);
	return ret;
}

/* -------------------------------------------------------------- sequences */

static uint32_t clamp_keys(uint32_t nr)
{
	return nr < PAGEDKV_IO_MAX_KEYS ? nr : PAGEDKV_IO_MAX_KEYS;
}

static int kmod_seq_create(void *priv, const struct pkv_prompt *prompt, pagedkv_seq_t *out,
			   uint32_t *nr_hits)
{
	struct kmod_pool *p = priv;
	struct pagedkv_io_seq_create arg = {
		.size = sizeof(arg),
		.class_id = prompt->class_id,
		.priority = prompt->priority,
		.keys = user_ptr(prompt->keys),
		.nr_keys = clamp_keys(prompt->nr_keys),
	};
	int ret = call(p->fd, PAGEDKV_CMD_SEQ_CREATE, &arg);

	if (ret)
		return ret;
	*out = arg.out_seq;
	*nr_hits = arg.out_nr_hits;
	return 0;
}

static int kmod_match(void *priv, const struct pkv_prompt *prompt,
		      uint32_t pages_per_tier[PAGEDKV_NR_TIERS])
{
	struct kmod_pool *p = priv;
	struct pagedkv_io_match arg = {
		.size = sizeof(arg),
		.class_id = prompt->class_id,
		.keys = user_ptr(prompt->keys),
		.nr_keys = clamp_keys(prompt->nr_keys),
	};
	int ret = call(p->fd, PAGEDKV_CMD_MATCH, &arg);

	if (ret)
		return ret;
	memcpy(pages_per_tier, arg.out_per_tier, sizeof(arg.out_per_tier));
	return (int)arg.out_nr;
}

#define PUBLISH_CHUNK	64U

static void kmod_publish(void *priv, struct pkv_publication *items, uint32_t nr)
{
	struct pagedkv_io_publication chunk[PUBLISH_CHUNK];
	struct pagedkv_io_publish arg = { .size = sizeof(arg), .items = user_ptr(chunk) };
	struct kmod_pool *p = priv;
	int ret;

	for (uint32_t done = 0; done < nr; done += arg.nr) {
		arg.nr = nr - done < PUBLISH_CHUNK ? nr - done : PUBLISH_CHUNK;
		for (uint32_t i = 0; i < arg.nr; i++)
			chunk[i] = (struct pagedkv_io_publication) {
				.seq = items[done + i].seq,
				.keys = user_ptr(items[done + i].keys),
				.first = items[done + i].first,
				.nr_keys = items[done + i].nr_keys,
			};
		ret = call(p->fd, PAGEDKV_CMD_PUBLISH, &arg);
		for (uint32_t i = 0; i < arg.nr; i++)
			items[done + i].result = ret ? ret : chunk[i].out_result;
	}
}

static int kmod_adopt(void *priv, uint32_t class_id, uint32_t tier, uint32_t slot,
		      const struct pkv_prefix_key *key)
{
	struct kmod_pool *p = priv;
	struct pagedkv_io_adopt arg = {
		.size = sizeof(arg),
		.class_id = class_id,
		.tier = tier,
		.slot = slot,
		.key = { .lo = key->word[0], .hi = key->word[1] },
	};

	return call(p->fd, PAGEDKV_CMD_ADOPT, &arg);
}

/* At most PAGEDKV_IO_MAX_ITEMS operations go into one call. */
static int kmod_step(void *priv, struct pagedkv_step *step)
{
	struct kmod_pool *p = priv;
	uint32_t left;
	int ret;

	do {
		left = step->nr_ops - step->nr_done;
		struct pagedkv_io_step arg = {
			.size = sizeof(arg),
			.ops = user_ptr(step->ops + step->nr_done),
			.deltas = user_ptr(step->deltas + step->nr_deltas),
			.copies = user_ptr(step->copies + step->nr_copies),
			.nr_ops = left < PAGEDKV_IO_MAX_ITEMS ? left : PAGEDKV_IO_MAX_ITEMS,
			.max_deltas = step->max_deltas - step->nr_deltas,
			.max_copies = step->max_copies - step->nr_copies,
		};

		ret = call(p->fd, PAGEDKV_CMD_STEP, &arg);
		step->nr_done += arg.out_nr_done;
		step->nr_deltas += arg.out_nr_deltas;
		step->nr_copies += arg.out_nr_copies;
	} while (!ret && step->nr_done < step->nr_ops);
	return ret;
}

static int give_advice(struct kmod_pool *p, pagedkv_seq_t seq, uint32_t advice, uint32_t value)
{
	struct pagedkv_io_advise arg = {
		.size = sizeof(arg),
		.seq = seq,
		.advice = advice,
		.arg = value,
	};

	return call(p->fd, PAGEDKV_CMD_ADVISE, &arg);
}

static int kmod_advise(void *priv, pagedkv_seq_t seq, uint32_t advice)
{
	return give_advice(priv, seq, advice, 0);
}

static int kmod_set_priority(void *priv, pagedkv_seq_t seq, uint32_t priority)
{
	return give_advice(priv, seq, PAGEDKV_IO_PRIORITY, priority);
}

static int kmod_seq_state(void *priv, pagedkv_seq_t seq)
{
	struct pagedkv_io_seq_state arg = { .size = sizeof(arg), .seq = seq };
	struct kmod_pool *p = priv;

	return call(p->fd, PAGEDKV_CMD_SEQ_STATE, &arg);
}

static int kmod_seq_info(void *priv, pagedkv_seq_t seq, struct pagedkv_seq_info *info)
{
	struct pagedkv_io_seq_info arg = { .size = sizeof(arg), .seq = seq };
	struct kmod_pool *p = priv;
	int ret = call(p->fd, PAGEDKV_CMD_SEQ_INFO, &arg);

	if (ret)
		return ret;
	*info = (struct pagedkv_seq_info) {
		.state = arg.out_state,
		.class_id = arg.out_class_id,
		.len_tokens = arg.out_len_tokens,
		.nr_pages = arg.out_nr_pages,
		.nr_shared = arg.out_nr_shared,
		.nr_missing = arg.out_nr_missing,
		.lost_tokens = arg.out_lost_tokens,
		.priority = arg.out_priority,
	};
	return 0;
}

static int kmod_seq_table(void *priv, pagedkv_seq_t seq, uint32_t first, uint32_t *slots,
			  uint32_t nr)
{
	struct kmod_pool *p = priv;
	struct pagedkv_io_seq_table arg = {
		.size = sizeof(arg),
		.seq = seq,
		.slots = user_ptr(slots),
		.first = first,
		.nr = nr,
	};
	int ret = call(p->fd, PAGEDKV_CMD_SEQ_TABLE, &arg);

	return ret ? ret : (int)arg.out_nr;
}

static uint64_t deadline_after(uint64_t timeout_ns)
{
	struct timespec t;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
	return timeout_ns < UINT64_MAX - now ? now + timeout_ns : UINT64_MAX;
}

static int kmod_seq_wait(void *priv, pagedkv_seq_t seq, uint64_t timeout_ns)
{
	struct kmod_pool *p = priv;
	struct pagedkv_io_seq_wait arg = {
		.size = sizeof(arg),
		.seq = seq,
		.deadline_ns = deadline_after(timeout_ns),
	};

	return call(p->fd, PAGEDKV_CMD_SEQ_WAIT, &arg);
}

/* ------------------------------------------------------------------ moves */

static int kmod_moves_fetch(void *priv, struct pagedkv_move *out, uint32_t max)
{
	struct kmod_pool *p = priv;
	struct pagedkv_io_moves arg = {
		.size = sizeof(arg),
		.moves = user_ptr(out),
		.max_moves = max < PAGEDKV_IO_MAX_ITEMS ? max : PAGEDKV_IO_MAX_ITEMS,
	};
	uint64_t count;
	int ret;

	if (__atomic_load_n(&p->stopped, __ATOMIC_ACQUIRE))
		return -ECANCELED;
	/* Low, unless its owner has read it: then it fails. */
	if (max && read(p->moves_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return -errno;
	ret = call(p->fd, PAGEDKV_CMD_MOVES, &arg);
	return ret ? ret : (int)arg.out_nr_moves;
}

static int kmod_moves_commit(void *priv, const struct pagedkv_commit *items, uint32_t nr)
{
	struct kmod_pool *p = priv;
	bool stale = false;
	int ret;

	while (nr) {
		struct pagedkv_io_moves arg = {
			.size = sizeof(arg),
			.commits = user_ptr(items),
			.nr_commits = nr < PAGEDKV_IO_MAX_ITEMS ? nr : PAGEDKV_IO_MAX_ITEMS,
		};

		ret = call(p->fd, PAGEDKV_CMD_MOVES, &arg);
		if (ret)
			return ret;
		stale |= arg.out_nr_stale;
		items += arg.nr_commits;
		nr -= arg.nr_commits;
	}
	return stale ? -ESTALE : 0;
}

static int kmod_moves_fd(void *priv)
{
	struct kmod_pool *p = priv;

	return p->moves_fd;
}

static void kmod_moves_stop(void *priv)
{
	struct pagedkv_io_empty arg = { .size = sizeof(arg) };
	struct kmod_pool *p = priv;

	__atomic_store_n(&p->stopped, true, __ATOMIC_RELEASE);
	call(p->fd, PAGEDKV_CMD_MOVES_STOP, &arg);
}

static int kmod_moves_wait(void *priv, uint64_t timeout_ns)
{
	struct kmod_pool *p = priv;
	struct pagedkv_io_moves_wait arg = {
		.size = sizeof(arg),
		.deadline_ns = deadline_after(timeout_ns),
	};

	return call(p->fd, PAGEDKV_CMD_MOVES_WAIT, &arg);
}

/* ------------------------------------------------------------- inspection */

static void kmod_stats(void *priv, uint32_t class_id, struct pagedkv_stats *st)
{
	struct pagedkv_io_stats arg = { .size = sizeof(arg), .class_id = class_id };
	struct kmod_pool *p = priv;

	if (call(p->fd, PAGEDKV_CMD_STATS, &arg))
		return;
	st->nr_seqs = arg.out_nr_seqs;
	st->nr_loading = arg.out_nr_loading;
	st->nr_moves = arg.out_nr_moves;
	st->nr_queued = arg.out_nr_queued;
	st->nr_pages = arg.out_nr_pages;
	st->nr_cached = arg.out_nr_cached;
	st->nr_indexed = arg.out_nr_indexed;
	st->nr_lost = arg.out_nr_lost;
	memcpy(st->tiers, arg.out_tiers, sizeof(st->tiers));
	st->allocs = arg.out_allocs;
	st->frees = arg.out_frees;
	st->forks = arg.out_forks;
	st->copies = arg.out_copies;
	st->lookups = arg.out_lookups;
	st->hits = arg.out_hits;
	st->drops = arg.out_drops;
	st->aborts = arg.out_aborts;
	st->cancels = arg.out_cancels;
	st->losses = arg.out_losses;
	memcpy(st->moves, arg.out_moves, sizeof(st->moves));
	st->metadata_bytes = arg.out_metadata_bytes;
}

static int kmod_map(void *priv, uint32_t class_id, uint32_t *cursor,
		    struct pagedkv_map_entry *out, uint32_t nr)
{
	struct kmod_pool *p = priv;
	struct pagedkv_io_map arg = {
		.size = sizeof(arg),
		.class_id = class_id,
		.entries = user_ptr(out),
		.cursor = *cursor,
		.nr = nr,
	};
	int ret = call(p->fd, PAGEDKV_CMD_MAP, &arg);

	if (ret)
		return ret;
	*cursor = arg.cursor;
	return (int)arg.out_nr;
}

static int kmod_check(void *priv, const char **why)
{
	struct pagedkv_io_check arg = { .size = sizeof(arg) };
	struct kmod_pool *p = priv;
	int ret = call(p->fd, PAGEDKV_CMD_CHECK, &arg);

	if (ret == -EUCLEAN) {
		pthread_mutex_lock(&p->lock);
		memcpy(p->why, arg.out_why, sizeof(p->why) - 1);
		pthread_mutex_unlock(&p->lock);
		*why = p->why;
	}
	return ret;
}

/* ------------------------------------------------------------- kept files */

static int kmod_file_keep(void *priv, const struct pagedkv_file *file, int fd)
{
	struct pagedkv_io_file_keep arg = {
		.size = sizeof(arg),
		.bytes = file->bytes,
		.fingerprint = file->fingerprint,
		.fd = fd,
	};
	struct kmod_pool *p = priv;

	memcpy(arg.name, file->name, strlen(file->name));
	return call(p->fd, PAGEDKV_CMD_FILE_KEEP, &arg);
}

static int kmod_file_take(void *priv, const char *name, uint64_t fingerprint, uint64_t *bytes)
{
	struct pagedkv_io_file_take arg = { .size = sizeof(arg), .fingerprint = fingerprint };
	struct kmod_pool *p = priv;
	int ret;

	memcpy(arg.name, name, strlen(name));
	ret = call(p->fd, PAGEDKV_CMD_FILE_TAKE, &arg);
	if (ret)
		return ret;
	*bytes = arg.out_bytes;
	return arg.out_fd;
}

static int kmod_file_drop(void *priv, const char *name)
{
	struct pagedkv_io_file_drop arg = { .size = sizeof(arg) };
	struct kmod_pool *p = priv;

	memcpy(arg.name, name, strlen(name));
	return call(p->fd, PAGEDKV_CMD_FILE_DROP, &arg);
}

#define LIST_CHUNK	16U

static int kmod_file_list(void *priv, uint64_t *cursor, struct pagedkv_file *out, uint32_t nr)
{
	struct pagedkv_io_file_entry chunk[LIST_CHUNK];
	struct pagedkv_io_file_list arg = {
		.size = sizeof(arg),
		.cursor = *cursor,
		.entries = user_ptr(chunk),
	};
	struct kmod_pool *p = priv;
	uint32_t done = 0;
	int ret;

	do {
		arg.nr = nr - done < LIST_CHUNK ? nr - done : LIST_CHUNK;
		ret = call(p->fd, PAGEDKV_CMD_FILE_LIST, &arg);
		if (ret)
			return ret;
		for (uint32_t i = 0; i < arg.out_nr; i++, done++) {
			memcpy(out[done].name, chunk[i].name, sizeof(out[done].name));
			out[done].bytes = chunk[i].bytes;
			out[done].fingerprint = chunk[i].fingerprint;
		}
		*cursor = arg.cursor;
	} while (done < nr && arg.out_nr);
	return (int)done;
}

const struct pkv_backend pkv_backend_kmod = {
	.id = PAGEDKV_BACKEND_KMOD,
	.features = PAGEDKV_F_PERSISTENT,
	.open = kmod_open,
	.close = kmod_close,
	.pool_create = kmod_pool_create,
	.pool_destroy = kmod_pool_destroy,
	.pool_open = kmod_pool_open,
	.pool_remove = kmod_pool_remove,
	.set_limit = kmod_set_limit,
	.set_ceiling = kmod_set_ceiling,
	.set_tier_state = kmod_set_tier_state,
	.host_map = kmod_host_map,
	.seq_create = kmod_seq_create,
	.match = kmod_match,
	.publish = kmod_publish,
	.adopt = kmod_adopt,
	.step = kmod_step,
	.advise = kmod_advise,
	.set_priority = kmod_set_priority,
	.seq_state = kmod_seq_state,
	.seq_info = kmod_seq_info,
	.seq_table = kmod_seq_table,
	.seq_wait = kmod_seq_wait,
	.moves_fetch = kmod_moves_fetch,
	.moves_commit = kmod_moves_commit,
	.moves_fd = kmod_moves_fd,
	.moves_stop = kmod_moves_stop,
	.moves_wait = kmod_moves_wait,
	.stats = kmod_stats,
	.map = kmod_map,
	.check = kmod_check,
	.file_keep = kmod_file_keep,
	.file_take = kmod_file_take,
	.file_drop = kmod_file_drop,
	.file_list = kmod_file_list,
};
