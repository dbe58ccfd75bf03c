// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "print.h"
#include "term.h"

#define MIB	(1024.0 * 1024.0)

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static double seconds(const struct pkvrt_report *r)
{
	return (double)r->elapsed_ns / 1e9;
}

static double tokens_per_s(const struct pkvrt_report *r)
{
	return r->elapsed_ns ? (double)r->nr_tokens / seconds(r) : 0;
}

/* What all requests together want, in device tiers. */
static double oversubscription(const struct pkvrt_report *r)
{
	uint32_t slots = r->nr_slots[PAGEDKV_DEVICE];

	return slots ? (double)r->wanted_slots / slots : 0;
}

/* Bytes that left the device by swapping. */
static uint64_t swapped_bytes(const struct pkvrt_report *r)
{
	return r->flows[PAGEDKV_DEVICE][PAGEDKV_HOST].bytes +
	       r->flows[PAGEDKV_DEVICE][PAGEDKV_DISK].bytes;
}

static bool is_idle(const struct pkvrt_flow *f)
{
	return !f->nr_moves && !f->nr_errors;
}

static void print_head(FILE *out, const struct pkvrt_report *r)
{
	fprintf(out, "policy %s, %s", r->policy, r->workload);
	if (r->device)
		fprintf(out, ", on %s", r->device);
	fputc('\n', out);
	if (r->interrupted)
		fputs("interrupted: the figures are of what was done until then\n", out);
	fprintf(out, "\n  requests         %u of %u finished", r->nr_finished, r->nr_requests);
	if (r->nr_failed)
		fprintf(out, ", %u failed", r->nr_failed);
	if (r->nr_dropped)
		fprintf(out, "; %u left out of the trace", r->nr_dropped);
	fprintf(out, "\n  tokens           %" PRIu64 " from %" PRIu64 " prompt tokens in %.1f s\n",
		r->nr_tokens, r->nr_prompt_tokens, seconds(r));
	fprintf(out, "  throughput       %.1f tokens/s, mean batch %.2f over %" PRIu64 " steps\n",
		tokens_per_s(r), r->mean_batch, r->nr_steps);
	fprintf(out, "  first token      p50 %.1f ms, p99 %.1f ms\n", ms(r->ttft_ns[0]),
		ms(r->ttft_ns[1]));
	fprintf(out, "  token after it   p50 %.2f ms, p99 %.2f ms\n", ms(r->tpot_ns[0]),
		ms(r->tpot_ns[1]));
}

static void print_shares(FILE *out, const struct pkvrt_shares *s)
{
	const struct {
		const char *name, *what;
		double value;
	} rows[] = {
		{ "tokens", "token states in use", s->token_pct },
		{ "reserved", "for tokens still to come", s->reserved_pct },
		{ "internal", "for tokens that never come, and ends of pages", s->internal_pct },
		{ "rounding", "up to a power of two", s->rounding_pct },
		{ "external", "free, in pieces too small", s->external_pct },
		{ "free", "usable", s->free_pct },
	};

	fputs("\ndevice tier, averaged over time\n\n", out);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		fprintf(out, "  %-9s %6.1f %%  %s\n", rows[i].name, rows[i].value, rows[i].what);
}

static void print_tiers(FILE *out, const struct pkvrt_report *r)
{
	fprintf(out, "\npages of %u tokens, %.1f KiB\n\n", r->page_tokens,
		(double)r->page_bytes / 1024);
	fputs("  tier         pages       peak\n", out);
	for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
		if (r->nr_slots[t])
			fprintf(out, "  %-6s  %10u %10u\n", pkv_tier_names[t], r->nr_slots[t],
				r->peak_slots[t]);
	fprintf(out, "\n  all requests     %" PRIu64 " pages: %.2f times the device tier\n",
		r->wanted_slots, oversubscription(r));
	fprintf(out, "  admitted at once %u pages\n", r->peak_demand_slots);
	fprintf(out, "  shared           %.1f %% of pages saved\n", r->pages_shared_pct);
	fprintf(out, "  prefix cache     %.1f %% hit: %" PRIu64 " of %" PRIu64 " tokens\n",
		pkv_pct(r->prefix_hit_tokens, r->prefix_lookup_tokens), r->prefix_hit_tokens,
		r->prefix_lookup_tokens);
	fprintf(out, "  preemptions      %" PRIu64 " by swap, %" PRIu64 " by recompute (%" PRIu64
		" tokens computed again)\n", r->nr_preempt_swap, r->nr_preempt_recompute,
		r->recomputed_tokens);
	if (r->checksum_errors || r->late_ios)
		fprintf(out, "  misses made of   %" PRIu64 " wrong checksums, %" PRIu64
			" late I/Os\n", r->checksum_errors, r->late_ios);
}

static void print_flows(FILE *out, const struct pkvrt_report *r)
{
	static const char head[] =
		"\nmoves                  pages        MiB     GB/s  errors\n\n";
	bool any = false;

	for (int from = 0; from < PAGEDKV_NR_TIERS; from++) {
		for (int to = 0; to < PAGEDKV_NR_TIERS; to++) {
			const struct pkvrt_flow *f = &r->flows[from][to];

			if (is_idle(f))
				continue;
			if (!any)
				fputs(head, out);
			any = true;
			fprintf(out, "  %6s to %-6s %10" PRIu64 " %10.1f", pkv_tier_names[from],
				pkv_tier_names[to], f->nr_moves, (double)f->bytes / MIB);
			if (f->busy_ns)
				fprintf(out, " %8.2f", (double)f->bytes / (double)f->busy_ns);
			else
				fprintf(out, " %8s", "-");
			fprintf(out, " %7" PRIu64 "\n", f->nr_errors);
		}
	}
	if (!any)
		fputs("\nnothing moved\n", out);
}

static void print_proof(FILE *out, const struct pkvrt_report *r)
{
	fputs("\nidentical to a run with unlimited memory: ", out);
	if (r->identical == PKVRT_IDENTICAL)
		fprintf(out, "yes (%u of %u requests)\n", r->nr_compared, r->nr_compared);
	else if (r->identical == PKVRT_DIFFERENT)
		fprintf(out, "NO (%u of %u requests differ, the first is request %u)\n",
			r->nr_different, r->nr_compared, r->first_different);
	else
		fprintf(out, "not compared%s\n", r->lengths_only ? " (no model ran)" : "");
}

void pkv_print_text(FILE *out, const struct pkvrt_report *r)
{
	print_head(out, r);
	print_shares(out, &r->shares);
	print_tiers(out, r);
	print_flows(out, r);
	print_proof(out, r);
}

static json_t *json_ratio(double value, bool exists)
{
	return exists ? json_real(value) : json_null();
}

static json_t *json_flows(const struct pkvrt_report *r)
{
	json_t *flows = json_array();

	for (int from = 0; from < PAGEDKV_NR_TIERS; from++) {
		for (int to = 0; to < PAGEDKV_NR_TIERS; to++) {
			const struct pkvrt_flow *f = &r->flows[from][to];

			if (is_idle(f))
				continue;
			json_array_append_new(flows, json_pack("{s:s, s:s, s:I, s:I, s:o, s:I}",
				"from", pkv_tier_names[from], "to", pkv_tier_names[to],
				"bytes", (json_int_t)f->bytes, "moves", (json_int_t)f->nr_moves,
				"GB_per_s", json_ratio((double)f->bytes / (double)f->busy_ns,
						       f->busy_ns),
				"errors", (json_int_t)f->nr_errors));
		}
	}
	return flows;
}

static json_t *json_tiers(const struct pkvrt_report *r)
{
	json_t *tiers = json_array();

	for (int t = 0; t < PAGEDKV_NR_TIERS; t++)
		json_array_append_new(tiers, json_pack("{s:s, s:I, s:I}", "tier", pkv_tier_names[t],
						       "pages", (json_int_t)r->nr_slots[t],
						       "peak_pages", (json_int_t)r->peak_slots[t]));
	return tiers;
}

static json_t *json_identical(const struct pkvrt_report *r)
{
	if (r->identical == PKVRT_NOT_COMPARED)
		return json_null();
	return json_boolean(r->identical == PKVRT_IDENTICAL);
}

struct member {
	const char *name;
	double value;
};

struct count {
	const char *name;
	uint64_t value;
};

/* Return: 0 or -1 when a member could not be added. */
static int add_figures(json_t *obj, const struct pkvrt_report *r)
{
	const struct pkvrt_shares *s = &r->shares;
	const struct member members[] = {
		{ "tokens_per_s", tokens_per_s(r) },
		{ "mean_batch", r->mean_batch },
		{ "share_token_pct", s->token_pct },
		{ "share_reserved_pct", s->reserved_pct },
		{ "share_internal_pct", s->internal_pct },
		{ "share_rounding_pct", s->rounding_pct },
		{ "share_external_pct", s->external_pct },
		{ "share_free_pct", s->free_pct },
		{ "pages_shared_pct", r->pages_shared_pct },
		{ "prefix_hit_pct", pkv_pct(r->prefix_hit_tokens, r->prefix_lookup_tokens) },
		{ "oversubscription", oversubscription(r) },
		{ "elapsed_s", seconds(r) },
		{ "ttft_p50_ms", ms(r->ttft_ns[0]) },
		{ "ttft_p99_ms", ms(r->ttft_ns[1]) },
		{ "tpot_p50_ms", ms(r->tpot_ns[0]) },
		{ "tpot_p99_ms", ms(r->tpot_ns[1]) },
	};

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (json_object_set_new(obj, members[i].name, json_real(members[i].value)))
			return -1;
	return 0;
}

static int add_counts(json_t *obj, const struct pkvrt_report *r)
{
	const struct count counts[] = {
		{ "requests", r->nr_requests },
		{ "finished", r->nr_finished },
		{ "failed", r->nr_failed },
		{ "dropped", r->nr_dropped },
		{ "prompt_tokens", r->nr_prompt_tokens },
		{ "tokens", r->nr_tokens },
		{ "steps", r->nr_steps },
		{ "wanted_pages", r->wanted_slots },
		{ "peak_demand_pages", r->peak_demand_slots },
		{ "page_tokens", r->page_tokens },
		{ "page_bytes", r->page_bytes },
		{ "preemptions", r->nr_preempt_swap + r->nr_preempt_recompute },
		{ "preempt_swap", r->nr_preempt_swap },
		{ "preempt_recompute", r->nr_preempt_recompute },
		{ "recomputed_tokens", r->recomputed_tokens },
		{ "swapped_bytes", swapped_bytes(r) },
		{ "checksum_errors", r->checksum_errors },
		{ "late_ios", r->late_ios },
		{ "compared", r->nr_compared },
		{ "different", r->nr_different },
	};

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		if (json_object_set_new(obj, counts[i].name,
					json_integer((json_int_t)counts[i].value)))
			return -1;
	return 0;
}

int pkv_print_json(FILE *out, const struct pkvrt_report *r)
{
	json_t *obj = json_object();
	char *text = NULL;
	int err = -ENOMEM;

	if (json_object_set_new(obj, "policy", json_string(r->policy)) ||
	    json_object_set_new(obj, "workload", json_string(r->workload)) ||
	    json_object_set_new(obj, "device", r->device ? json_string(r->device) : json_null()) ||
	    add_figures(obj, r) || add_counts(obj, r) ||
	    json_object_set_new(obj, "identical", json_identical(r)) ||
	    json_object_set_new(obj, "interrupted", json_boolean(r->interrupted)) ||
	    json_object_set_new(obj, "lengths_only", json_boolean(r->lengths_only)) ||
	    json_object_set_new(obj, "tiers", json_tiers(r)) ||
	    json_object_set_new(obj, "moves", json_flows(r)))
		goto out;
	text = json_dumps(obj, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	if (text)
		err = fprintf(out, "%s\n", text) < 0 ? -EIO : 0;
out:
	free(text);
	json_decref(obj);
	return err;
}
