// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "device.h"

#include <string.h>

static int cpu_begin(void *ctx, const struct pkvrt_copy *copies, unsigned int nr,
		     uint64_t *ticket)
{
	const struct pkvrt_device_cpu *cpu = ctx;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		const struct pkvrt_copy *c = &copies[i];
		char *src = (char *)cpu->base + c->src_slot * cpu->page_bytes;
		char *dst = (char *)cpu->base + c->dst_slot * cpu->page_bytes;

		memcpy(c->kind == PKVRT_COPY_OUT ? c->host : dst,
		       c->kind == PKVRT_COPY_IN ? c->host : src, cpu->page_bytes);
	}
	*ticket = 0;
	return 0;
}

static int cpu_poll(void *ctx, uint64_t ticket)
{
	(void)ctx;
	(void)ticket;
	return 1;
}

void pkvrt_device_cpu_init(struct pkvrt_device *dev, struct pkvrt_device_cpu *cpu)
{
	*dev = (struct pkvrt_device){ .ctx = cpu, .begin = cpu_begin, .poll = cpu_poll };
}
