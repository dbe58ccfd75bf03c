/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * Matrix products by cuBLAS, whose rows don't depend on each other.
 *
 * cuBLAS chooses a kernel by the shape of a product, and promises nothing about a row of it. So
 * each weight is multiplied in a few sizes of tile only, each by one kernel that doesn't split sums
 * up, and all of which compute a row to the same bits at every place: found by trying, with random
 * numbers, when a weight's shape is first seen. More rows take several tiles, fewer are filled up
 * with whatever lies behind them.
 */
#ifndef PKVRT_CUDA_PRODUCTS_H
#define PKVRT_CUDA_PRODUCTS_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <stdint.h>

#define PKVRT_GPU_FEWEST_ROWS	64u	/* of a tile */
#define PKVRT_GPU_MOST_ROWS	2048u	/* so much room x and y need behind the last row */
#define PKVRT_GPU_MOST_SIZES	6u

/* So many rows at once, by this kernel. */
struct pkvrt_gpu_tile {
	uint32_t nr_rows;
	cublasLtMatrixLayout_t x, y;
	cublasLtMatmulAlgo_t algo;
};

/* y[rows][nr_out] = x[rows][nr_in] * w[nr_in][nr_out]: bf16, the weight turned. */
struct pkvrt_gpu_product {
	uint32_t nr_in;
	uint32_t nr_out;
	cudaDataType_t out_type;	/* of y: CUDA_R_16BF or CUDA_R_32F */
	uint32_t most_rows;		/* of a tile: PKVRT_GPU_MOST_ROWS or less */
	cublasLtMatrixLayout_t weight;
	struct pkvrt_gpu_tile tiles[PKVRT_GPU_MOST_SIZES];	/* ascending */
	uint32_t nr_tiles;
};

struct pkvrt_gpu_blas;

/* All work goes to @stream. Return: 0, -ENOMEM, -EIO. */
int pkvrt_gpu_blas_create(struct pkvrt_gpu_blas **out, cudaStream_t stream);
void pkvrt_gpu_blas_destroy(struct pkvrt_gpu_blas *b);	/* NULL is fine */

/*
 * Finds the tiles. @p: its shape, all else zero; @weight: any of this shape. Return: 0, -ENOMEM;
 * -EOPNOTSUPP: no size of tile is even; -EIO.
 */
int pkvrt_gpu_product_create(struct pkvrt_gpu_blas *b, struct pkvrt_gpu_product *p,
			     const void *weight);
void pkvrt_gpu_product_destroy(struct pkvrt_gpu_product *p);

/* x and y begin at multiples of 256 bytes and have room for whole tiles. */
int pkvrt_gpu_product_run(struct pkvrt_gpu_blas *b, const struct pkvrt_gpu_product *p,
			  const void *weight, const void *x, void *y, uint32_t nr_rows);

#endif
