// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "products.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cblas.h>

#include "rng.h"

void pkvrt_products_init(void)
{
	openblas_set_num_threads(1);
}

void pkvrt_product_run(const struct pkvrt_product *p, uint32_t tile, const float *x, float *y,
		       uint32_t nr_rows)
{
	for (uint32_t row = 0; row < nr_rows; row += tile)
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)tile, (int)p->nr_out,
			    (int)p->nr_in, 1, x + (size_t)row * p->nr_in, (int)p->nr_in, p->weight,
			    (int)p->weight_stride, p->add, y + (size_t)row * p->out_stride,
			    (int)p->out_stride);
}

/* Rows of a tile moved on by shift places, the last ones to the front. */
static void place_rows(const float *rows, float *tile, uint32_t nr, uint32_t width, uint32_t stride,
		       uint32_t shift)
{
	for (uint32_t i = 0; i < nr; i++)
		memcpy(tile + (size_t)((i + shift) % nr) * stride, rows + (size_t)i * width,
		       width * sizeof(*rows));
}

static int same_rows(const float *want, const float *tile, uint32_t nr, uint32_t width,
		     uint32_t stride, uint32_t shift)
{
	for (uint32_t i = 0; i < nr; i++)
		if (memcmp(want + (size_t)i * stride, tile + (size_t)((i + shift) % nr) * stride,
			   width * sizeof(*want)))
			return 0;
	return 1;
}

int pkvrt_product_try_places(const struct pkvrt_product *p, uint32_t tile)
{
	size_t nr_x = (size_t)tile * p->nr_in, nr_y = (size_t)tile * p->out_stride;
	float *x = aligned_alloc(64, (nr_x * sizeof(*x) + 63) / 64 * 64);
	float *moved = aligned_alloc(64, (nr_x * sizeof(*x) + 63) / 64 * 64);
	float *y0 = calloc((size_t)tile * p->nr_out, sizeof(*y0));
	float *want = aligned_alloc(64, (nr_y * sizeof(*want) + 63) / 64 * 64);
	float *y = aligned_alloc(64, (nr_y * sizeof(*y) + 63) / 64 * 64);
	struct pkvrt_rng rng;
	int same = -ENOMEM;

	if (!x || !moved || !y0 || !want || !y)
		goto out;
	pkvrt_rng_init(&rng, 1);
	for (size_t i = 0; i < nr_x; i++)
		x[i] = (float)pkvrt_rng_unit(&rng) - 0.5f;
	for (size_t i = 0; i < (size_t)tile * p->nr_out; i++)
		y0[i] = (float)pkvrt_rng_unit(&rng) - 0.5f;

	place_rows(y0, want, tile, p->nr_out, p->out_stride, 0);
	pkvrt_product_run(p, tile, x, want, tile);
	same = 1;
	for (uint32_t shift = 1; shift < tile && same; shift++) {
		place_rows(x, moved, tile, p->nr_in, p->nr_in, shift);
		place_rows(y0, y, tile, p->nr_out, p->out_stride, shift);
		pkvrt_product_run(p, tile, moved, y, tile);
		same = same_rows(want, y, tile, p->nr_out, p->out_stride, shift);
	}
out:
	free(x);
	free(moved);
	free(y0);
	free(want);
	free(y);
	return same;
}
