// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Sums over time, and exact percentiles. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "metrics.h"

int pkvrt_metrics_init(struct pkvrt_metrics *m, uint32_t nr_reqs)
{
	*m = (struct pkvrt_metrics){ .cap = nr_reqs };
	m->ttft = malloc(((size_t)nr_reqs + 1) * sizeof(*m->ttft));
	m->tpot = malloc(((size_t)nr_reqs + 1) * sizeof(*m->tpot));
	if (m->ttft && m->tpot)
		return 0;
	pkvrt_metrics_exit(m);
	return -ENOMEM;
}

void pkvrt_metrics_exit(struct pkvrt_metrics *m)
{
	free(m->ttft);
	free(m->tpot);
	*m = (struct pkvrt_metrics){ 0 };
}

static void window_add(struct pkvrt_window *w, const struct pkvrt_tick *t)
{
	double s = (double)(t->end_ns - t->begin_ns) * 1e-9;
	double share = s / (double)t->places.nr_places;

	w->seconds += s;
	w->token += share * (double)t->places.token;
	w->reserved += share * (double)t->places.reserved;
	w->internal += share * (double)t->places.internal;
	w->rounding += share * (double)t->places.rounding;
	w->external += share * (double)t->places.external;
	w->free += share * (double)t->places.free;
	w->pages += s * (double)t->places.nr_pages;
	w->unique += s * (double)t->places.nr_unique;
	w->groups += s * t->nr_groups;
	w->seqs += s * t->nr_seqs;
	w->nr_steps++;
}

void pkvrt_metrics_step(struct pkvrt_metrics *m, const struct pkvrt_tick *t)
{
	m->nr_steps++;
	m->end_ns = t->end_ns;
	window_add(&m->whole, t);
	if (m->is_saturated && !m->is_draining)
		window_add(&m->saturated, t);
}

void pkvrt_metrics_request(struct pkvrt_metrics *m, uint64_t arrival_ns, uint64_t first_ns,
			   uint64_t last_ns, uint32_t nr_tokens)
{
	if (m->nr_ttft < m->cap)
		m->ttft[m->nr_ttft++] = (double)(first_ns - arrival_ns) * 1e-9;
	if (m->nr_tpot < m->cap && nr_tokens > 1)
		m->tpot[m->nr_tpot++] = (double)(last_ns - first_ns) * 1e-9 / (nr_tokens - 1);
}

const struct pkvrt_window *pkvrt_metrics_window(const struct pkvrt_metrics *m)
{
	return m->saturated.nr_steps ? &m->saturated : &m->whole;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double pkvrt_percentile(double *values, uint32_t nr, double pct)
{
	double rank = ceil(pct / 100.0 * nr);

	if (!nr)
		return 0;
	qsort(values, nr, sizeof(*values), compare);
	return values[rank < 1 ? 0 : (rank > nr ? nr : (uint32_t)rank) - 1];
}
