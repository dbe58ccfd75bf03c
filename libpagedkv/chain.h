/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the library remembers of each sequence: its class, and how far its
 * tokens are hashed, so that publishing hashes each page once.
 *
 * An entry is found by the lower half of a sequence's handle and is valid only
 * while it holds the whole handle; so entries of freed sequences need no care.
 * A truncation to below the hashed length starts the chain anew: what was
 * hashed is rarely rolled back, and the digests before it are not kept.
 */
#ifndef PKV_CHAIN_H
#define PKV_CHAIN_H

#include <pthread.h>
#include <stdbool.h>

#include "hash.h"

struct pkv_chain {
	pagedkv_seq_t seq;
	uint32_t nr_pages;	/* hashed, and published or not wanted */
	uint32_t epoch;		/* counts restarts */
	uint16_t class_id;
	bool mute;		/* nothing of it is published */
	struct pkv_digest h;	/* of the last of these pages; unset when none */
};

struct pkv_chains {
	pthread_mutex_t lock;	/* innermost: nothing is called under it */
	struct pkv_chain *table;
	uint32_t nr;
};

/** -ENOMEM. */
int pkv_chains_init(struct pkv_chains *c, uint32_t max_seqs);
void pkv_chains_exit(struct pkv_chains *c);

/** The chain of a new sequence; replaces what was there. */
void pkv_chain_set(struct pkv_chains *c, const struct pkv_chain *chain);
/** A copy of @seq's chain. -ESTALE. */
int pkv_chain_get(struct pkv_chains *c, pagedkv_seq_t seq, struct pkv_chain *out);
/** @was, as got before, grew by pages whose last digest is @h; nothing if it changed since. */
void pkv_chain_grow(struct pkv_chains *c, const struct pkv_chain *was, uint32_t nr_pages,
		    const struct pkv_digest *h);
/** Publish nothing of @seq any more. */
void pkv_chain_mute(struct pkv_chains *c, pagedkv_seq_t seq);
/** Follow the forks and truncations among @nr operations that were applied. */
void pkv_chains_follow(struct pkv_chains *c, const struct pagedkv_op *ops, uint32_t nr,
		       const uint32_t page_tokens[PAGEDKV_MAX_CLASSES]);

#endif
