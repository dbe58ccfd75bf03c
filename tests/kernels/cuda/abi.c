// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C interface of the CUDA kernels from C, compiled by the C compiler: what it refuses, which it
 * does before it looks for a device, and that there is a device or -ENODEV.
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <pagedkv/pkv_cuda.h>

static int nr_results, nr_failed;

static void check(bool passed, const char *name)
{
	nr_failed += !passed;
	printf("%sok %d - %s\n", passed ? "" : "not ", ++nr_results, name);
}

/* An address for a pointer that is never followed. */
#define SOMEWHERE	((void *)0x7000)

static struct pkv_kv_layout layout;

static struct pkv_cuda_attention attention(void)
{
	return (struct pkv_cuda_attention){
		.size = sizeof(struct pkv_cuda_attention), .layout = &layout, .base = SOMEWHERE,
		.nr_slots = 9, .nr_q_heads = 8, .nr_seqs = 1, .nr_tokens = 1, .max_query_tokens = 1,
		.max_context_tokens = 100, .q_dtype = PKV_BF16, .scale = 0.1f,
		.query_start = SOMEWHERE, .context_tokens = SOMEWHERE, .table = SOMEWHERE,
		.table_row_slots = 9, .q = SOMEWHERE, .q_row_elements = 8 * 64, .out = SOMEWHERE,
		.workspace = SOMEWHERE, .workspace_bytes = UINT64_C(1) << 40,
	};
}

/* Breaks one thing at a time. */
static bool break_attention(struct pkv_cuda_attention *a, struct pkv_kv_layout *l, int what)
{
	switch (what) {
	case 0: a->size--; break;
	case 1: a->flags = 1u << 31; break;
	case 2: a->layout = NULL; break;
	case 3: a->layer = 2; break;
	case 4: a->nr_q_heads = 7; break;
	case 5: a->nr_q_heads = 0; break;
	case 6: a->nr_q_heads = 34; break;
	case 7: a->q_dtype = PKV_F32; break;
	case 8: a->scale = NAN; break;
	case 9: a->softcap = -1; break;
	case 10: a->q_row_elements = 8 * 64 - 8; break;
	case 11: a->q_row_elements = 8 * 64 + 1; break;
	case 12: a->base = (char *)SOMEWHERE + 8; break;
	case 13: a->table = NULL; break;
	case 14: a->query_start = NULL; break;
	case 15: a->workspace_bytes = 8; break;
	case 16: a->workspace = NULL; break;
	case 17: a->out = NULL; break;
	case 18: l->head_dim = 63; break;
	case 19: l->reserved = 1; break;
	default: return false;
	}
	return true;
}

static void test_attention(void)
{
	struct pkv_cuda_attention a = attention();
	struct pkv_kv_layout broken = layout;
	bool refused = true;

	for (int i = 0; a = attention(), broken = layout, a.layout = &broken,
	     break_attention(&a, &broken, i); i++) {
		if (pkv_cuda_attention(&a) != -EINVAL) {
			printf("# change %d was taken\n", i);
			refused = false;
		}
	}
	check(refused && pkv_cuda_attention(NULL) == -EINVAL, "attention that is wrong");

	a = attention();
	check(pkv_cuda_attention_workspace(&a) > 0, "workspace of attention");
	a.nr_q_heads = 7;
	check(!pkv_cuda_attention_workspace(&a), "none of what would be refused");
	a = attention();
	a.layout = &broken;
	broken = layout;
	broken.token_stride_bytes += 8;
	check(pkv_cuda_attention(&a) == -EOPNOTSUPP, "strides of no whole 16 bytes");
	pkv_kv_layout_init(&broken, PKV_F32, 2, 2, 64, 16);
	check(pkv_cuda_attention(&a) == -EOPNOTSUPP, "a cache of float32");
	a = attention();
	a.nr_seqs = 0;
	check(!pkv_cuda_attention(&a), "no sequence is nothing to do");
}

static void test_others(void)
{
	struct pkv_cuda_cache_write w = { .size = sizeof(w), .layout = &layout, .base = SOMEWHERE };
	struct pkv_cuda_page_copy c = {
		.size = sizeof(c), .src_layout = &layout, .dst_layout = &layout
	};
	struct pkv_cuda_upload u = { .size = sizeof(u) };
	struct pkv_cuda_sample s = { .size = sizeof(s), .vocab = 8, .row_elements = 8 };
	struct pkv_cuda_rms_norm n = { .size = sizeof(n), .nr_elements = 8 };
	struct pkv_cuda_swiglu g = { .size = sizeof(g), .nr_elements = 8 };
	struct pkv_cuda_gather_rows r = { .size = sizeof(r), .nr_elements = 8 };

	check(!pkv_cuda_cache_write(&w) && !pkv_cuda_page_copy(&c) && !pkv_cuda_upload(&u) &&
	      !pkv_cuda_sample(&s) && !pkv_cuda_rms_norm(&n) && !pkv_cuda_swiglu(&g) &&
	      !pkv_cuda_gather_rows(&r), "nothing to do is done");
	w.nr_tokens = c.nr_copies = u.nr_deltas = s.nr_rows = n.nr_rows = g.nr_rows = r.nr_rows = 1;
	check(pkv_cuda_cache_write(&w) == -EINVAL && pkv_cuda_page_copy(&c) == -EINVAL &&
	      pkv_cuda_upload(&u) == -EINVAL && pkv_cuda_sample(&s) == -EINVAL &&
	      pkv_cuda_rms_norm(&n) == -EINVAL && pkv_cuda_swiglu(&g) == -EINVAL &&
	      pkv_cuda_gather_rows(&r) == -EINVAL, "pointers that are missing");
	w.size = c.size = u.size = s.size = n.size = g.size = r.size = 8;
	check(pkv_cuda_cache_write(&w) == -EINVAL && pkv_cuda_page_copy(&c) == -EINVAL &&
	      pkv_cuda_upload(&u) == -EINVAL && pkv_cuda_sample(&s) == -EINVAL &&
	      pkv_cuda_rms_norm(&n) == -EINVAL && pkv_cuda_swiglu(&g) == -EINVAL &&
	      pkv_cuda_gather_rows(&r) == -EINVAL, "structs of another size");
}

int main(void)
{
	int err = pkv_cuda_device_check();

	if (pkv_kv_layout_init(&layout, PKV_BF16, 2, 2, 64, 16))
		return 1;
	check(!err || err == -ENODEV, "a device, or none");
	test_attention();
	test_others();
	printf("1..%d\n", nr_results);
	return nr_failed != 0;
}
