// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The executor's calls, wherever it is at home. */
#include "executor.h"

#include <errno.h>

#include "executor_home.h"

int pkvrt_executor_create(struct pkvrt_executor **out, const struct pkvrt_executor_params *p)
{
	int err;

	if (!out || !p)
		return -EINVAL;
	err = pkvrt_executor_check_params(p);
	return err ? err : p->create ? p->create(out, p) : pkvrt_executor_cpu_create(out, p);
}

void pkvrt_executor_destroy(struct pkvrt_executor *ex)
{
	if (ex)
		ex->ops->destroy(ex);
}

int pkvrt_executor_step(struct pkvrt_executor *ex, struct pkvrt_chunk *chunks,
			unsigned int nr_chunks)
{
	if (!ex || (nr_chunks && !chunks))
		return -EINVAL;
	return ex->ops->step(ex, chunks, nr_chunks);
}

int pkvrt_executor_copy_pages(struct pkvrt_executor *ex, const struct pkv_page_copy *copies,
			      size_t nr)
{
	return ex->ops->copy_pages(ex, copies, nr);
}

const float *pkvrt_executor_logits(struct pkvrt_executor *ex, unsigned int i)
{
	return ex ? ex->ops->logits(ex, i) : NULL;
}

unsigned int pkvrt_executor_tile_tokens(struct pkvrt_executor *ex)
{
	return ex->ops->tile_tokens(ex);
}
