/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What a backend is: the place where a pool's page manager runs. The embedded
 * one has it inside this process; the other one talks to the kernel module.
 *
 * The nouns (handle.c, pool.c, seq.c, prefix.c, move.c, stats.c) check every
 * argument that can be checked without the pool's state and own what is the
 * library's whatever the backend is: salts, hashing, hash chains. A backend
 * gets keys, never tokens, locks its own state, and is called from any thread.
 * @priv is what pool_create gave; class ids that reach it exist.
 *
 * Public structs of the hot path are a backend's own, field by field, so that a
 * step crosses without a copy; SAME_* assert it.
 */
#ifndef PKV_BACKEND_H
#define PKV_BACKEND_H

#include <stddef.h>

#include "pagedkv.h"

#define SAME_SIZE(a, b) \
	_Static_assert(sizeof(struct a) == sizeof(struct b), #a " is " #b)
#define SAME_FIELD(a, b, field) \
	_Static_assert(offsetof(struct a, field) == offsetof(struct b, field) && \
		       sizeof(((struct a *)0)->field) == sizeof(((struct b *)0)->field), \
		       #a "." #field " is " #b "." #field)
#define SAME_VALUE(a, b) _Static_assert((int)(a) == (int)(b), #a " is " #b)

/* The name of a page's content in the prefix index. */
struct pkv_prefix_key {
	uint64_t word[2];
};

/* Pages [first, first + nr_keys) of a sequence, to be named. */
struct pkv_publication {
	pagedkv_seq_t seq;
	const struct pkv_prefix_key *keys;
	uint32_t first;
	uint32_t nr_keys;
	int32_t result;		/* out: pages newly published, or -errno */
};

/* Keys of a prompt's leading pages. */
struct pkv_prompt {
	const struct pkv_prefix_key *keys;
	uint32_t nr_keys;
	uint32_t class_id;
	uint32_t priority;
};

struct pkv_backend {
	uint32_t id;		/* enum pagedkv_backend */
	uint64_t features;	/* PAGEDKV_F_* */

	/* What pagedkv_open() opens: -ENOENT, -EACCES, -EOPNOTSUPP, -ENOMEM. */
	int (*open)(void **dev);
	void (*close)(void *dev);

	/*
	 * @p is complete: defaults are filled in. A backend with
	 * PAGEDKV_F_PERSISTENT that has a pool of this name opens it, and writes
	 * its salt into @p.
	 */
	int (*pool_create)(void **priv, void *dev, struct pagedkv_pool_params *p);
	/* Fills in all of @p but name and fingerprint. NULL: no PAGEDKV_F_PERSISTENT. */
	int (*pool_open)(void **priv, void *dev, struct pagedkv_pool_params *p);
	int (*pool_remove)(void *dev, const char *name);
	void (*pool_destroy)(void *priv);
	int (*set_limit)(void *priv, uint32_t class_id, uint32_t tier, uint32_t limit);
	/* NULL: no other users. */
	int (*set_ceiling)(void *priv, uint32_t class_id, uint32_t tier, uint32_t limit);
	int (*set_tier_state)(void *priv, uint32_t class_id, uint32_t tier, uint32_t state);
	int (*host_map)(void *priv, uint32_t class_id, void **addr, size_t *len);

	int (*seq_create)(void *priv, const struct pkv_prompt *prompt, pagedkv_seq_t *out,
			  uint32_t *nr_hits);
	int (*match)(void *priv, const struct pkv_prompt *prompt,
		     uint32_t pages_per_tier[PAGEDKV_NR_TIERS]);
	/* Fills every result. */
	void (*publish)(void *priv, struct pkv_publication *items, uint32_t nr);
	int (*adopt)(void *priv, uint32_t class_id, uint32_t tier, uint32_t slot,
		     const struct pkv_prefix_key *key);

	int (*step)(void *priv, struct pagedkv_step *step);
	int (*advise)(void *priv, pagedkv_seq_t seq, uint32_t advice);
	int (*set_priority)(void *priv, pagedkv_seq_t seq, uint32_t priority);
	int (*seq_state)(void *priv, pagedkv_seq_t seq);
	int (*seq_info)(void *priv, pagedkv_seq_t seq, struct pagedkv_seq_info *info);
	int (*seq_table)(void *priv, pagedkv_seq_t seq, uint32_t first, uint32_t *slots,
			 uint32_t nr);
	int (*seq_wait)(void *priv, pagedkv_seq_t seq, uint64_t timeout_ns);

	int (*moves_fetch)(void *priv, struct pagedkv_move *out, uint32_t max);
	int (*moves_commit)(void *priv, const struct pagedkv_commit *items, uint32_t nr);
	int (*moves_fd)(void *priv);
	void (*moves_stop)(void *priv);
	int (*moves_wait)(void *priv, uint64_t timeout_ns);

	/* Fills all but size, which is at least the struct's. */
	void (*stats)(void *priv, uint32_t class_id, struct pagedkv_stats *st);
	int (*map)(void *priv, uint32_t class_id, uint32_t *cursor,
		   struct pagedkv_map_entry *out, uint32_t nr);
	int (*check)(void *priv, const char **why);

	/* Names are good ones. */
	int (*file_keep)(void *priv, const struct pagedkv_file *file, int fd);
	int (*file_take)(void *priv, const char *name, uint64_t fingerprint, uint64_t *bytes);
	int (*file_drop)(void *priv, const char *name);
	int (*file_list)(void *priv, uint64_t *cursor, struct pagedkv_file *out, uint32_t nr);
};

extern const struct pkv_backend pkv_backend_embed;
extern const struct pkv_backend pkv_backend_kmod;

#endif
