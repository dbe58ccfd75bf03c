// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What a job shows: samples on the way, figures at the end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "job_internal.h"
#include "sched_internal.h"

#define PROGRESS_NS	50000000u
#define MAP_AT_ONCE	256

/* Slot states of a pool's device tier; @states: a byte a slot, zeroed. */
static void paint_pool(struct pagedkv_pool *pool, uint8_t *states, uint32_t nr_slots)
{
	struct pagedkv_map_entry e[MAP_AT_ONCE];
	uint32_t cursor = 0;
	int nr;

	while ((nr = pagedkv_map(pool, 0, &cursor, e, MAP_AT_ONCE)) > 0) {
		for (int i = 0; i < nr; i++) {
			uint32_t slot = e[i].slot[PAGEDKV_DEVICE];

			if (slot >= nr_slots)
				continue;
			states[slot] = e[i].flags & PAGEDKV_MAP_MOVING ? PKVRT_SLOT_MOVING :
				       e[i].refs > 1 ? PKVRT_SLOT_SHARED :
				       e[i].refs ? PKVRT_SLOT_PRIVATE : PKVRT_SLOT_CACHED;
		}
	}
}

static void paint_regions(const struct pkvrt_sched *s, uint8_t *states)
{
	const struct pkvrt_group *g;

	TAILQ_FOREACH(g, &s->active, link) {
		for (uint32_t i = 0; i < g->shape.nr_seqs; i++) {
			const struct pkvrt_kv *kv = &g->seqs[i].kv;

			for (uint32_t k = 0; kv->is_live && k < kv->nr_slots; k++)
				states[kv->slots[k]] = PKVRT_SLOT_PRIVATE;
		}
	}
}

static void paint(struct pkvrt_job *j, const struct pkvrt_sched *s, struct pkvrt_sample *sample)
{
	uint32_t nr_slots = j->p->tiers.nr_pages[PAGEDKV_DEVICE];
	uint32_t nr_rows = pkvrt_map_rows(nr_slots);
	uint8_t *states = calloc(nr_slots, 1);

	if (!states)
		return;		/* a picture with a gap */
	if (j->pool)
		paint_pool(j->pool, states, nr_slots);
	else
		paint_regions(s, states);
	for (uint32_t r = 0; r < nr_rows; r++)
		sample->slot_state[r] = states[pkvrt_map_slot(r, nr_rows, nr_slots)];
	free(states);
}

/* Of a policy without a pool the device tier is all there is. */
static void get_stats(struct pkvrt_job *j, struct pagedkv_stats *st)
{
	*st = (struct pagedkv_stats){ .size = sizeof(*st) };
	for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
		st->tiers[t].nr_slots = j->p->tiers.nr_pages[t];
	if (j->pool) {
		pagedkv_get_stats(j->pool, 0, st);
		return;
	}
	memset(&st->tiers[PAGEDKV_HOST], 0, 2 * sizeof(st->tiers[0]));
	st->tiers[PAGEDKV_DEVICE].nr_free = j->alloc->ops->nr_avail(j->alloc);
	st->nr_pages = st->tiers[PAGEDKV_DEVICE].nr_slots - st->tiers[PAGEDKV_DEVICE].nr_free;
}

static void fill_sample(const struct pkvrt_job *j, const struct pkvrt_sched_view *v,
			const struct pagedkv_stats *st, struct pkvrt_sample *sample)
{
	sample->tokens = v->output_tokens;
	sample->nr_running = v->nr_running;
	sample->nr_waiting = v->nr_waiting;
	sample->nr_swapped = v->nr_swapped;
	sample->nr_done = v->nr_done;
	for (int from = 0; from < PAGEDKV_NR_TIERS; from++) {
		sample->used[from] = st->tiers[from].nr_slots - st->tiers[from].nr_free;
		for (int to = 0; to < PAGEDKV_NR_TIERS; to++) {
			sample->nr_moves += st->moves[from][to];
			sample->moved_bytes[from][to] = st->moves[from][to] * j->page_bytes;
		}
	}
}

static void add_sample(struct pkvrt_job *j, const struct pkvrt_sched *s,
		       const struct pkvrt_sched_view *v, const struct pagedkv_stats *st)
{
	struct pkvrt_sample *sample = pkvrt_series_add(&j->report->series, v->now_ns);

	fill_sample(j, v, st, sample);
	paint(j, s, sample);
}

static void show_progress(struct pkvrt_job *j, const struct pkvrt_sched_view *v,
			  const struct pagedkv_stats *st)
{
	struct pkvrt_sample sample = { 0 };
	uint64_t now = pkvrt_now_ns();

	if (now < j->next_progress_ns)
		return;
	j->next_progress_ns = now + PROGRESS_NS;
	fill_sample(j, v, st, &sample);
	sample.t_ns = now - j->start_ns;
	j->hooks->progress(j->hooks->ctx, &sample);
}

int pkvrt_job_watch(void *job, const struct pkvrt_sched *s)
{
	struct pkvrt_job *j = job;
	struct pkvrt_report *r = j->report;
	struct pkvrt_sched_view v;
	struct pagedkv_stats st;

	pkvrt_sched_look(s, &v);
	get_stats(j, &st);
	for (int t = 0; t < PAGEDKV_NR_TIERS; t++) {
		uint32_t used = st.tiers[t].nr_slots - st.tiers[t].nr_free;

		if (used > r->peak_slots[t])
			r->peak_slots[t] = used;
	}
	if (st.nr_pages - st.nr_cached > r->peak_demand_slots)
		r->peak_demand_slots = st.nr_pages - st.nr_cached;
	if (pkvrt_series_due(&r->series, v.now_ns))
		add_sample(j, s, &v, &st);
	if (j->hooks->progress)
		show_progress(j, &v, &st);
	return j->hooks->stop && *j->hooks->stop;
}

static void report_shares(struct pkvrt_report *r, const struct pkvrt_window *w)
{
	double pct = w->seconds > 0 ? 100.0 / w->seconds : 0;

	r->shares.token_pct = w->token * pct;
	r->shares.reserved_pct = w->reserved * pct;
	r->shares.internal_pct = w->internal * pct;
	r->shares.rounding_pct = w->rounding * pct;
	r->shares.external_pct = w->external * pct;
	r->shares.free_pct = w->free * pct;
	r->pages_shared_pct = w->pages > 0 ? 100.0 * (w->pages - w->unique) / w->pages : 0;
	r->mean_batch = w->seconds > 0 ? w->seqs / w->seconds : 0;
}

static void report_flows(struct pkvrt_job *j, const struct pagedkv_stats *st)
{
	struct pkvrt_report *r = j->report;
	struct pkvrt_engine_stats es;

	if (j->engine)
		pkvrt_engine_stats(j->engine, &es);
	for (int from = 0; from < PAGEDKV_NR_TIERS; from++) {
		for (int to = 0; to < PAGEDKV_NR_TIERS; to++) {
			struct pkvrt_flow *f = &r->flows[from][to];

			f->nr_moves = st->moves[from][to];
			f->bytes = f->nr_moves * j->page_bytes;
			if (!j->engine)
				continue;
			f->nr_errors = es.pairs[from][to].nr_errors;
			f->busy_ns = es.pairs[from][to].busy_ns;
		}
	}
	if (j->engine && es.has_disk) {
		r->checksum_errors = es.disk.nr_bad_crc;
		r->late_ios = es.disk.nr_late;
	}
}

void pkvrt_job_finish_report(struct pkvrt_job *j)
{
	const struct pkvrt_workload *w = j->p->workload;
	struct pkvrt_metrics *m = &j->metrics;
	struct pkvrt_report *r = j->report;
	struct pkvrt_sched_view v;
	struct pagedkv_stats st;

	pkvrt_sched_look(j->sched, &v);
	get_stats(j, &st);
	add_sample(j, j->sched, &v, &st);
	r->policy = pkvrt_policy_name(j->p->policy);
	r->workload = pkvrt_source_name(w->source);
	r->nr_requests = w->nr_reqs;
	r->nr_failed = m->nr_rejected;
	r->nr_dropped = w->nr_dropped_long + w->nr_dropped_empty;
	r->nr_tokens = m->output_tokens;
	r->elapsed_ns = m->end_ns - m->start_ns;
	r->nr_steps = m->nr_steps;
	r->page_tokens = j->p->page_tokens;
	r->page_bytes = j->page_bytes;
	for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
		r->nr_slots[t] = st.tiers[t].nr_slots;
	r->wanted_slots = pkvrt_job_wanted_pages(w, &j->p->shape, j->p->page_tokens);
	report_shares(r, pkvrt_metrics_window(m));
	r->nr_preempt_swap = m->nr_swap_preempts;
	r->nr_preempt_recompute = m->nr_recompute_preempts;
	r->recomputed_tokens = m->recomputed_tokens;
	r->prefix_lookup_tokens = j->p->use_prefix && j->pool ? m->prompt_tokens : 0;
	r->prefix_hit_tokens = m->hit_tokens;
	report_flows(j, &st);
	r->ttft_ns[0] = (uint64_t)(1e9 * pkvrt_percentile(m->ttft, m->nr_ttft, 50));
	r->ttft_ns[1] = (uint64_t)(1e9 * pkvrt_percentile(m->ttft, m->nr_ttft, 99));
	r->tpot_ns[0] = (uint64_t)(1e9 * pkvrt_percentile(m->tpot, m->nr_tpot, 50));
	r->tpot_ns[1] = (uint64_t)(1e9 * pkvrt_percentile(m->tpot, m->nr_tpot, 99));
	r->device = j->p->lengths_only ? NULL : j->p->device_name;
	r->lengths_only = j->p->lengths_only;
}
