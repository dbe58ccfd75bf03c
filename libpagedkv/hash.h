/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Keys of pages. A page's key names its tokens and all tokens before them:
 *
 *   H(0) = SHA256(salt || class || page_tokens || fingerprint)
 *   H(i) = SHA256(H(i-1) || tokens of page i)      integers little-endian
 *   key of page i = the first 128 bits of H(i)
 *
 * The salt is the pool's own, so that one tenant can neither find nor guess
 * another's keys. Class, page size and the model's fingerprint are hashed with
 * it because a salt may be used again (a disk image after a restart), and K and
 * V of another model must not be found then.
 */
#ifndef PKV_HASH_H
#define PKV_HASH_H

#include "backend.h"

#define PKV_DIGEST_BYTES	32

struct pkv_digest {
	uint8_t byte[PKV_DIGEST_BYTES];
};

/** H(0) of a class. */
void pkv_hash_root(struct pkv_digest *out, const uint8_t salt[PAGEDKV_SALT_BYTES],
		   uint32_t class_id, uint32_t page_tokens, uint64_t fingerprint);

/**
 * Continue a chain over @nr_pages full pages of @tokens.
 * @h: in: H before the first of them; out: H of the last
 * @keys: out, a key a page
 * @trail: out, H of each page; may be NULL
 */
void pkv_hash_pages(struct pkv_digest *h, const uint32_t *tokens, uint32_t page_tokens,
		    uint32_t nr_pages, struct pkv_prefix_key *keys, struct pkv_digest *trail);

#endif
