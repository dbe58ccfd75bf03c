/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Matrix products by BLAS, in tiles of one shape a weight.
 */
#ifndef PKVRT_PRODUCTS_H
#define PKVRT_PRODUCTS_H

#include <stdint.h>

#define PKVRT_TILE_TOKENS	16	/* most rows of a tile */

/* One weight, or some columns of one: y[rows][nr_out] (+)= x[rows][nr_in] * w[nr_in][nr_out]. */
struct pkvrt_product {
	const float *weight;
	uint32_t nr_in;
	uint32_t nr_out;
	uint32_t weight_stride;		/* floats from one row of weight to the next */
	uint32_t out_stride;		/* of y; x is packed */
	float add;			/* 1 to add to y, 0 to overwrite it */
};

/* Keeps BLAS from starting threads of its own: the caller has its own. For the whole process. */
void pkvrt_products_init(void);

/* Multiplies nr_rows rows, whole tiles of tile rows. */
void pkvrt_product_run(const struct pkvrt_product *p, uint32_t tile, const float *x, float *y,
		       uint32_t nr_rows);

/*
 * Does BLAS compute a row of this product the same, bit for bit, at every place in a
 * tile? Tries it with rows of random numbers. Return: 1 or 0; -ENOMEM.
 */
int pkvrt_product_try_places(const struct pkvrt_product *p, uint32_t tile);

#endif
