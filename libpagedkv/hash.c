// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* SHA-256 chains over tokens, by nettle. */
#include <endian.h>
#include <nettle/sha2.h>
#include <string.h>

#include "hash.h"

_Static_assert(PKV_DIGEST_BYTES == SHA256_DIGEST_SIZE, "a digest is a SHA-256");

#define CHUNK_TOKENS	64U

void pkv_hash_root(struct pkv_digest *out, const uint8_t salt[PAGEDKV_SALT_BYTES],
		   uint32_t class_id, uint32_t page_tokens, uint64_t fingerprint)
{
	uint32_t words[2] = { htole32(class_id), htole32(page_tokens) };
	uint64_t model = htole64(fingerprint);
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, PAGEDKV_SALT_BYTES, salt);
	sha256_update(&ctx, sizeof(words), (const uint8_t *)words);
	sha256_update(&ctx, sizeof(model), (const uint8_t *)&model);
	sha256_digest(&ctx, sizeof(out->byte), out->byte);
}

static void hash_tokens(struct sha256_ctx *ctx, const uint32_t *tokens, uint32_t nr)
{
	uint32_t chunk[CHUNK_TOKENS];

	while (nr) {
		uint32_t n = nr < CHUNK_TOKENS ? nr : CHUNK_TOKENS;

		for (uint32_t i = 0; i < n; i++)
			chunk[i] = htole32(tokens[i]);
		sha256_update(ctx, n * sizeof(*chunk), (const uint8_t *)chunk);
		tokens += n;
		nr -= n;
	}
}

void pkv_hash_pages(struct pkv_digest *h, const uint32_t *tokens, uint32_t page_tokens,
		    uint32_t nr_pages, struct pkv_prefix_key *keys, struct pkv_digest *trail)
{
	struct sha256_ctx ctx;

	for (uint32_t i = 0; i < nr_pages; i++) {
		sha256_init(&ctx);
		sha256_update(&ctx, sizeof(h->byte), h->byte);
		hash_tokens(&ctx, tokens + (size_t)i * page_tokens, page_tokens);
		sha256_digest(&ctx, sizeof(h->byte), h->byte);
		memcpy(&keys[i], h->byte, sizeof(keys[i]));
		if (trail)
			trail[i] = *h;
	}
}
