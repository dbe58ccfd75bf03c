/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The model's weights in device memory, made there, in bf16; and the numbers and comparisons with
 * which products are tried.
 */
#ifndef PKVRT_CUDA_WEIGHTS_H
#define PKVRT_CUDA_WEIGHTS_H

#include <cuda_runtime_api.h>

#include "../model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A matrix as it is, rows of inputs; or turned, each output's weights side by side. */
cudaError_t pkvrt_gpu_matrix_fill(void *to, struct pkvrt_matrix matrix, int turned,
				  cudaStream_t stream);

/* Random numbers, bf16, between -1/2 and 1/2. */
cudaError_t pkvrt_gpu_rows_fill(void *to, uint64_t nr, uint64_t seed, cudaStream_t stream);

/*
 * Adds the number of rows i below nr_rows for which row (i + a_shift) % nr_a of a and row i of b
 * differ in a byte to *nr_different, in device memory.
 */
cudaError_t pkvrt_gpu_rows_compare(const void *a, const void *b, uint64_t row_bytes,
				   uint32_t nr_rows, uint32_t nr_a, uint32_t a_shift,
				   uint32_t *nr_different, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
