// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What all allocation policies have in common. */
#include <errno.h>
#include <stdlib.h>

#include <pagedkv.h>

#include "alloc.h"

const char *pkvrt_policy_name(enum pkvrt_policy policy)
{
	static const char *const names[] = {
		[PKVRT_POLICY_PAGED] = "paged",
		[PKVRT_POLICY_ORCA_MAX] = "orca-max",
		[PKVRT_POLICY_ORCA_POW2] = "orca-pow2",
		[PKVRT_POLICY_ORCA_ORACLE] = "orca-oracle",
		[PKVRT_POLICY_STATIC] = "static",
	};

	return policy < PKVRT_NR_POLICIES ? names[policy] : "unknown";
}

int pkvrt_alloc_create(struct pkvrt_alloc **out, const struct pkvrt_alloc_params *p)
{
	if (!p->nr_pages || !p->page_tokens || (p->page_tokens & (p->page_tokens - 1)) ||
	    p->policy >= PKVRT_NR_POLICIES)
		return -EINVAL;
	if (p->policy == PKVRT_POLICY_PAGED)
		return pkvrt_alloc_paged_create(out, p);
	if (!p->max_tokens)
		return -EINVAL;
	if (p->policy == PKVRT_POLICY_STATIC)
		return pkvrt_alloc_static_create(out, p);
	return pkvrt_alloc_buddy_create(out, p);
}

void pkvrt_alloc_destroy(struct pkvrt_alloc *a)
{
	if (a)
		a->ops->destroy(a);
}

int pkvrt_kv_reserve(struct pkvrt_kv *kv, uint32_t nr)
{
	uint32_t cap = kv->cap_slots ? kv->cap_slots : 16;
	uint32_t *slots;

	if (nr <= kv->cap_slots)
		return 0;
	while (cap < nr)
		cap = cap < UINT32_MAX / 2 ? cap * 2 : nr;
	slots = realloc(kv->slots, (size_t)cap * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	kv->slots = slots;
	kv->cap_slots = cap;
	return 0;
}

void pkvrt_kv_release(struct pkvrt_kv *kv)
{
	free(kv->slots);
	*kv = (struct pkvrt_kv){ 0 };
}

int pkvrt_region_append(const struct pkvrt_alloc *a, struct pkvrt_kv *kv, uint32_t tokens)
{
	uint64_t len = (uint64_t)kv->len + tokens;

	if (len > (uint64_t)kv->nr_slots * a->page_tokens)
		return -EINVAL;
	kv->len = (uint32_t)len;
	return 0;
}

int pkvrt_region_truncate(struct pkvrt_kv *kv, uint32_t len)
{
	if (len > kv->len)
		return -EINVAL;
	kv->len = len;
	return 0;
}

int pkvrt_region_copy(const struct pkvrt_alloc *a, pkvrt_copy_fn copy, void *ctx,
		      const struct pkvrt_kv *kv, struct pkvrt_kv *child)
{
	uint32_t nr = (kv->len + a->page_tokens - 1) / a->page_tokens;
	int err = 0;

	for (uint32_t i = 0; i < nr && !err; i++) {
		struct pagedkv_move m = {
			.kind = PAGEDKV_MOVE_COPY,
			.src_slot = kv->slots[i],
			.dst_slot = child->slots[i],
		};

		if (copy)
			err = copy(ctx, &m, 1);
	}
	child->len = kv->len;
	return err;
}
