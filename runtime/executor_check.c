// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What every home of the executor asks of its arguments. */
#include <errno.h>

#include "executor_home.h"
#include "sampler.h"

int pkvrt_executor_check_params(const struct pkvrt_executor_params *p)
{
	return p->arena && p->nr_slots ? pkvrt_model_check(&p->model) : -EINVAL;
}

int pkvrt_executor_check_chunk(const struct pkvrt_model *model, uint32_t page_tokens,
			       const struct pkvrt_chunk *c)
{
	if (!c->tokens || !c->nr_tokens || !c->slots || c->nr_tokens > model->max_tokens ||
	    c->start > model->max_tokens - c->nr_tokens ||
	    c->nr_slots < ((uint64_t)c->start + c->nr_tokens + page_tokens - 1) / page_tokens ||
	    c->nr_same > c->nr_slots || (c->nr_draws && !c->draws))
		return -EINVAL;
	for (uint32_t i = 0; i < c->nr_tokens; i++)
		if (c->tokens[i] >= model->vocab)
			return -EINVAL;
	for (uint32_t i = 0; i < c->nr_draws; i++)
		if (!pkvrt_draw_valid(&c->draws[i], model->vocab))
			return -EINVAL;
	return 0;
}
