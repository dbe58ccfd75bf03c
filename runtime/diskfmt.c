// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "diskfmt.h"

#include <endian.h>
#include <errno.h>
#include <isa-l/crc.h>
#include <string.h>

#define DATA_ALIGN	((uint64_t)2 << 20)
#define HEADER_MAGIC	0x31484b50u	/* "PKH1" */

static const uint8_t super_magic[8] = "pagedkv";

enum header_state {
	HEADER_EMPTY = 0,
	HEADER_VALID = 1,
};

struct raw_super {
	uint8_t magic[8];
	uint32_t version;
	uint32_t crc;		/* of the block, this field taken as 0 */
	uint32_t state;
	uint32_t zero;
	uint64_t page_bytes;
	uint64_t nr_slots;
	uint64_t data_offset_bytes;
	uint64_t model_fp;
	uint64_t image_id;
	uint8_t salt[32];
	char pool_name[PKVRT_FMT_NAME];
};

struct raw_header {
	uint32_t magic;
	uint32_t crc;		/* of the header, this field taken as 0 */
	uint64_t generation;
	uint8_t key[16];
	uint64_t model_fp;
	uint64_t image_id;
	uint32_t slot;
	uint32_t data_bytes;
	uint32_t data_crc;
	uint32_t state;
};

_Static_assert(sizeof(struct raw_header) == PKVRT_FMT_HEADER, "a header is 64 bytes");
_Static_assert(sizeof(struct raw_super) <= PKVRT_FMT_BLOCK, "the superblock is one block");

static uint32_t crc_more(uint32_t crc, const void *buf, size_t len)
{
	/* The library takes an int and never writes. */
	return crc32_iscsi((unsigned char *)(uintptr_t)buf, (int)len, crc);
}

uint32_t pkvrt_crc32c(const void *buf, size_t len_bytes)
{
	return ~crc_more(~0u, buf, len_bytes);
}

static uint32_t crc_without(const uint8_t *raw, size_t len, size_t crc_at)
{
	static const uint8_t zero[4];
	uint32_t crc = crc_more(~0u, raw, crc_at);

	crc = crc_more(crc, zero, sizeof(zero));
	return ~crc_more(crc, raw + crc_at + 4, len - crc_at - 4);
}

int pkvrt_fmt_layout(uint64_t page_bytes, uint64_t nr_slots, uint64_t *data_offset_bytes,
		     uint64_t *total_bytes)
{
	uint64_t headers, data, total;

	if (!page_bytes || page_bytes % PKVRT_FMT_BLOCK || page_bytes > PKVRT_FMT_MAX_PAGE)
		return -EINVAL;
	if (!nr_slots || nr_slots > PKVRT_FMT_MAX_SLOTS)
		return -EINVAL;
	headers = nr_slots * PKVRT_FMT_HEADER;	/* < 2^39 */
	data = (PKVRT_FMT_BLOCK + headers + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN;
	total = data + nr_slots * page_bytes;	/* < 2^63: 2^32 slots of 2^30 bytes */
	if (total > INT64_MAX)
		return -EOVERFLOW;
	*data_offset_bytes = data;
	*total_bytes = total;
	return 0;
}

void pkvrt_fmt_put_super(uint8_t block[PKVRT_FMT_BLOCK], const struct pkvrt_fmt_super *s)
{
	struct raw_super raw = { 0 };
	uint64_t data = 0, total;

	pkvrt_fmt_layout(s->page_bytes, s->nr_slots, &data, &total);
	memcpy(raw.magic, super_magic, sizeof(raw.magic));
	raw.version = htole32(PKVRT_FMT_VERSION);
	raw.state = htole32(s->state);
	raw.page_bytes = htole64(s->page_bytes);
	raw.nr_slots = htole64(s->nr_slots);
	raw.data_offset_bytes = htole64(data);
	raw.model_fp = htole64(s->model_fp);
	raw.image_id = htole64(s->image_id);
	memcpy(raw.salt, s->salt, sizeof(raw.salt));
	memcpy(raw.pool_name, s->pool_name, sizeof(raw.pool_name));
	memset(block, 0, PKVRT_FMT_BLOCK);
	memcpy(block, &raw, sizeof(raw));
	raw.crc = htole32(crc_without(block, PKVRT_FMT_BLOCK, offsetof(struct raw_super, crc)));
	memcpy(block, &raw, sizeof(raw));
}

int pkvrt_fmt_get_super(const uint8_t block[PKVRT_FMT_BLOCK], struct pkvrt_fmt_super *s)
{
	struct raw_super raw;
	uint64_t data, total;
	uint32_t state;

	*s = (struct pkvrt_fmt_super){ 0 };
	memcpy(&raw, block, sizeof(raw));
	if (memcmp(raw.magic, super_magic, sizeof(raw.magic)))
		return -EMEDIUMTYPE;
	s->version = le32toh(raw.version);
	if (s->version != PKVRT_FMT_VERSION)
		return -EPROTONOSUPPORT;
	if (le32toh(raw.crc) !=
	    crc_without(block, PKVRT_FMT_BLOCK, offsetof(struct raw_super, crc)))
		return -EBADMSG;
	state = le32toh(raw.state);
	s->page_bytes = le64toh(raw.page_bytes);
	s->nr_slots = le64toh(raw.nr_slots);
	if (state != PKVRT_FMT_CREATING && state != PKVRT_FMT_READY)
		return -EBADMSG;
	if (pkvrt_fmt_layout(s->page_bytes, s->nr_slots, &data, &total) ||
	    le64toh(raw.data_offset_bytes) != data)
		return -EBADMSG;
	if (raw.zero || raw.pool_name[PKVRT_FMT_NAME - 1])
		return -EBADMSG;
	s->state = state;
	s->model_fp = le64toh(raw.model_fp);
	s->image_id = le64toh(raw.image_id);
	memcpy(s->salt, raw.salt, sizeof(s->salt));
	memcpy(s->pool_name, raw.pool_name, sizeof(s->pool_name));
	return 0;
}

void pkvrt_fmt_put_header(uint8_t raw[PKVRT_FMT_HEADER], const struct pkvrt_fmt_super *s,
			  const struct pkvrt_fmt_header *h)
{
	struct raw_header r = {
		.magic = htole32(HEADER_MAGIC),
		.generation = htole64(h->generation),
		.model_fp = htole64(s->model_fp),
		.image_id = htole64(s->image_id),
		.slot = htole32(h->slot),
		.state = htole32(h->valid ? HEADER_VALID : HEADER_EMPTY),
	};

	if (h->valid) {
		memcpy(r.key, h->key, sizeof(r.key));
		r.data_bytes = htole32(h->data_bytes);
		r.data_crc = htole32(h->data_crc);
	}
	memcpy(raw, &r, sizeof(r));
	r.crc = htole32(crc_without(raw, PKVRT_FMT_HEADER, offsetof(struct raw_header, crc)));
	memcpy(raw, &r, sizeof(r));
}

int pkvrt_fmt_get_header(const uint8_t raw[PKVRT_FMT_HEADER], const struct pkvrt_fmt_super *s,
			 uint32_t slot, struct pkvrt_fmt_header *h)
{
	static const uint8_t never[PKVRT_FMT_HEADER];
	struct raw_header r;

	*h = (struct pkvrt_fmt_header){ .slot = slot };
	if (!memcmp(raw, never, sizeof(never)))
		return 0;
	memcpy(&r, raw, sizeof(r));
	if (le32toh(r.magic) != HEADER_MAGIC ||
	    le32toh(r.crc) !=
	    crc_without(raw, PKVRT_FMT_HEADER, offsetof(struct raw_header, crc)))
		return -EBADMSG;
	if (le32toh(r.slot) != slot || le64toh(r.image_id) != s->image_id ||
	    le64toh(r.model_fp) != s->model_fp || le32toh(r.state) > HEADER_VALID)
		return -EBADMSG;
	h->generation = le64toh(r.generation);
	if (le32toh(r.state) == HEADER_EMPTY)
		return 0;
	if (le32toh(r.data_bytes) != s->page_bytes)
		return -EBADMSG;
	h->valid = 1;
	h->data_bytes = le32toh(r.data_bytes);
	h->data_crc = le32toh(r.data_crc);
	memcpy(h->key, r.key, sizeof(h->key));
	return 0;
}
