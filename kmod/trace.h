/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints. Events of pages tell how many of them a call concerned, because
 * the page manager decides and does not trace.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pagedkv

#if !defined(PKV_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define PKV_TRACE_H

#include <linux/tracepoint.h>

#include "core/core.h"

DECLARE_EVENT_CLASS(pagedkv_pages,
	TP_PROTO(u32 pool, u64 nr),
	TP_ARGS(pool, nr),
	TP_STRUCT__entry(
		__field(u32, pool)
		__field(u64, nr)
	),
	TP_fast_assign(
		__entry->pool = pool;
		__entry->nr = nr;
	),
	TP_printk("pool=%u nr=%llu", __entry->pool, __entry->nr)
);

#define PKV_EVENT_OF_PAGES(name)				\
	DEFINE_EVENT(pagedkv_pages, name,			\
		     TP_PROTO(u32 pool, u64 nr), TP_ARGS(pool, nr))

PKV_EVENT_OF_PAGES(pagedkv_alloc);
PKV_EVENT_OF_PAGES(pagedkv_free);
PKV_EVENT_OF_PAGES(pagedkv_fork);
PKV_EVENT_OF_PAGES(pagedkv_evict);
PKV_EVENT_OF_PAGES(pagedkv_miss);

TRACE_EVENT(pagedkv_shrink,
	TP_PROTO(u32 pool, u64 nr_pages, u64 nr_wanted),
	TP_ARGS(pool, nr_pages, nr_wanted),
	TP_STRUCT__entry(
		__field(u32, pool)
		__field(u64, nr_pages)
		__field(u64, nr_wanted)
	),
	TP_fast_assign(
		__entry->pool = pool;
		__entry->nr_pages = nr_pages;
		__entry->nr_wanted = nr_wanted;
	),
	TP_printk("pool=%u pages=%llu wanted=%llu", __entry->pool, __entry->nr_pages,
		  __entry->nr_wanted)
);

/* How long a call held the pool's lock. */
TRACE_EVENT(pagedkv_hold,
	TP_PROTO(u32 pool, u64 ns),
	TP_ARGS(pool, ns),
	TP_STRUCT__entry(
		__field(u32, pool)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->pool = pool;
		__entry->ns = ns;
	),
	TP_printk("pool=%u ns=%llu", __entry->pool, __entry->ns)
);

TRACE_EVENT(pagedkv_move_begin,
	TP_PROTO(u32 pool, u32 client, const struct pkv_move_desc *m),
	TP_ARGS(pool, client, m),
	TP_STRUCT__entry(
		__field(u32, pool)
		__field(u32, client)
		__field(u64, id)
		__field(u32, class_id)
		__field(u32, src_tier)
		__field(u32, src_slot)
		__field(u32, dst_tier)
		__field(u32, dst_slot)
	),
	TP_fast_assign(
		__entry->pool = pool;
		__entry->client = client;
		__entry->id = m->id;
		__entry->class_id = m->class_id;
		__entry->src_tier = m->src_tier;
		__entry->src_slot = m->src_slot;
		__entry->dst_tier = m->dst_tier;
		__entry->dst_slot = m->dst_slot;
	),
	TP_printk("pool=%u client=%u id=%llx class=%u from=%u:%u to=%u:%u",
		  __entry->pool, __entry->client, __entry->id, __entry->class_id,
		  __entry->src_tier, __entry->src_slot, __entry->dst_tier, __entry->dst_slot)
);

DECLARE_EVENT_CLASS(pagedkv_move_end,
	TP_PROTO(u32 pool, u64 id, int status),
	TP_ARGS(pool, id, status),
	TP_STRUCT__entry(
		__field(u32, pool)
		__field(u64, id)
		__field(int, status)
	),
	TP_fast_assign(
		__entry->pool = pool;
		__entry->id = id;
		__entry->status = status;
	),
	TP_printk("pool=%u id=%llx status=%d", __entry->pool, __entry->id, __entry->status)
);

DEFINE_EVENT(pagedkv_move_end, pagedkv_move_commit,
	     TP_PROTO(u32 pool, u64 id, int status), TP_ARGS(pool, id, status));
DEFINE_EVENT(pagedkv_move_end, pagedkv_move_abort,
	     TP_PROTO(u32 pool, u64 id, int status), TP_ARGS(pool, id, status));

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
