/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What an executor's home (the CPU, a GPU) implements, and what homes share. Arguments have been
 * looked at by pkvrt_executor_*() as far as every home needs it.
 */
#ifndef PKVRT_EXECUTOR_HOME_H
#define PKVRT_EXECUTOR_HOME_H

#include "executor.h"

struct pkvrt_executor_ops {
	void (*destroy)(struct pkvrt_executor *ex);
	int (*step)(struct pkvrt_executor *ex, struct pkvrt_chunk *chunks, unsigned int nr_chunks);
	int (*copy_pages)(struct pkvrt_executor *ex, const struct pkv_page_copy *copies,
			  size_t nr);
	const float *(*logits)(struct pkvrt_executor *ex, unsigned int i);
	unsigned int (*tile_tokens)(struct pkvrt_executor *ex);
};

/* The first member of each home's own. */
struct pkvrt_executor {
	const struct pkvrt_executor_ops *ops;
};

/* Parameters that no home could take. Return: 0, -EINVAL, -EOVERFLOW. */
int pkvrt_executor_check_params(const struct pkvrt_executor_params *p);

/* All of a chunk but whether its slots are in the arena. Return: 0, -EINVAL. */
int pkvrt_executor_check_chunk(const struct pkvrt_model *model, uint32_t page_tokens,
			       const struct pkvrt_chunk *chunk);

int pkvrt_executor_cpu_create(struct pkvrt_executor **out, const struct pkvrt_executor_params *p);

#endif
