// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "products.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "error.h"
#include "weights.h"

#define WORKSPACE_BYTES	((size_t)32 << 20)	/* what cuBLAS wants on Hopper */
#define LIKE_ROWS	256u			/* no more than any product's most_rows */
#define MOST_KERNELS	16
#define TIMED_RUNS	5

struct pkvrt_gpu_blas {
	cublasLtHandle_t handle;
	cublasLtMatmulDesc_t desc;
	cublasLtMatmulPreference_t preference;
	cudaStream_t stream;
	void *workspace;
};

static int blas_errno(cublasStatus_t status)
{
	return status == CUBLAS_STATUS_SUCCESS ? 0 :
	       status == CUBLAS_STATUS_ALLOC_FAILED ? -ENOMEM :
	       status == CUBLAS_STATUS_NOT_SUPPORTED ? -EOPNOTSUPP : -EIO;
}

/* To BLAS, whose columns are our rows, a product is the weight's transpose times x. */
static cublasStatus_t describe(struct pkvrt_gpu_blas *b)
{
	cublasOperation_t turned = CUBLAS_OP_T;
	uint32_t no_splits = CUBLASLT_REDUCTION_SCHEME_NONE;
	size_t bytes = WORKSPACE_BYTES;
	cublasStatus_t status;

	status = cublasLtMatmulDescCreate(&b->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
	if (!status)
		status = cublasLtMatmulDescSetAttribute(b->desc, CUBLASLT_MATMUL_DESC_TRANSA,
							&turned, sizeof(turned));
	if (!status)
		status = cublasLtMatmulPreferenceCreate(&b->preference);
	if (!status)
		status = cublasLtMatmulPreferenceSetAttribute(
			b->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
			sizeof(bytes));
	return status ? status : cublasLtMatmulPreferenceSetAttribute(
		b->preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_splits,
		sizeof(no_splits));
}

int pkvrt_gpu_blas_create(struct pkvrt_gpu_blas **out, cudaStream_t stream)
{
	struct pkvrt_gpu_blas *b = calloc(1, sizeof(*b));
	int ret;

	if (!b)
		return -ENOMEM;
	b->stream = stream;
	ret = blas_errno(cublasLtCreate(&b->handle));
	if (!ret)
		ret = pkvrt_cuda_errno(cudaMalloc(&b->workspace, WORKSPACE_BYTES));
	if (!ret)
		ret = blas_errno(describe(b));
	if (ret) {
		pkvrt_gpu_blas_destroy(b);
		return ret;
	}
	*out = b;
	return 0;
}

void pkvrt_gpu_blas_destroy(struct pkvrt_gpu_blas *b)
{
	if (!b)
		return;
	if (b->preference)
		cublasLtMatmulPreferenceDestroy(b->preference);
	if (b->desc)
		cublasLtMatmulDescDestroy(b->desc);
	if (b->handle)
		cublasLtDestroy(b->handle);
	cudaFree(b->workspace);
	free(b);
}

static int run_tile(struct pkvrt_gpu_blas *b, const struct pkvrt_gpu_product *p,
		    const struct pkvrt_gpu_tile *tile, const void *weight, const void *x, void *y)
{
	const float one = 1, zero = 0;

	return blas_errno(cublasLtMatmul(b->handle, b->desc, &one, weight, p->weight, x, tile->x,
					 &zero, y, tile->y, y, tile->y, &tile->algo, b->workspace,
					 WORKSPACE_BYTES, b->stream));
}

static size_t out_bytes(const struct pkvrt_gpu_product *p)
{
	return (size_t)p->nr_out * (p->out_type == CUDA_R_32F ? 4 : 2);
}

int pkvrt_gpu_product_run(struct pkvrt_gpu_blas *b, const struct pkvrt_gpu_product *p,
			  const void *weight, const void *x, void *y, uint32_t nr_rows)
{
	int ret = 0;

	for (uint32_t done = 0, i; done < nr_rows && !ret; done += p->tiles[i].nr_rows) {
		for (i = 0; i + 1 < p->nr_tiles && p->tiles[i].nr_rows < nr_rows - done; i++)
			;
		ret = run_tile(b, p, &p->tiles[i], weight,
			       (const char *)x + (size_t)done * p->nr_in * 2,
			       (char *)y + (size_t)done * out_bytes(p));
	}
	return ret;
}

static void destroy_tile(struct pkvrt_gpu_tile *t)
{
	if (t->x)
		cublasLtMatrixLayoutDestroy(t->x);
	if (t->y)
		cublasLtMatrixLayoutDestroy(t->y);
	*t = (struct pkvrt_gpu_tile){ 0 };
}

static int create_tile(const struct pkvrt_gpu_product *p, struct pkvrt_gpu_tile *t,
		       uint32_t nr_rows)
{
	cublasStatus_t status;

	*t = (struct pkvrt_gpu_tile){ .nr_rows = nr_rows };
	status = cublasLtMatrixLayoutCreate(&t->x, CUDA_R_16BF, p->nr_in, nr_rows, p->nr_in);
	if (!status)
		status = cublasLtMatrixLayoutCreate(&t->y, p->out_type, p->nr_out, nr_rows,
						    p->nr_out);
	if (status)
		destroy_tile(t);
	return blas_errno(status);
}

void pkvrt_gpu_product_destroy(struct pkvrt_gpu_product *p)
{
	for (uint32_t i = 0; i < PKVRT_GPU_MOST_SIZES; i++)
		destroy_tile(&p->tiles[i]);
	if (p->weight)
		cublasLtMatrixLayoutDestroy(p->weight);
	*p = (struct pkvrt_gpu_product){ 0 };
}

/* -- trying ----------------------------------------------------------------------------------- */

/* A way to compute a tile. */
struct kernel {
	cublasLtMatmulAlgo_t algo;
	float ms;
};

/* What one try needs: device memory for the largest tile. */
struct trial {
	void *x, *moved;	/* moved: the same rows from another one on */
	void *want, *y;
	uint32_t *nr_different;
	cudaEvent_t begin, end;
};

static int count_different(struct pkvrt_gpu_blas *b, const struct pkvrt_gpu_product *p,
			   struct trial *t, const void *moved, uint32_t nr_rows, uint32_t nr_want,
			   uint32_t shift, uint32_t *nr)
{
	cudaError_t err = cudaMemsetAsync(t->nr_different, 0, sizeof(*nr), b->stream);

	if (!err)
		err = pkvrt_gpu_rows_compare(t->want, moved, out_bytes(p), nr_rows, nr_want, shift,
					     t->nr_different, b->stream);
	if (!err)
		err = cudaMemcpyAsync(nr, t->nr_different, sizeof(*nr), cudaMemcpyDeviceToHost,
				      b->stream);
	if (!err)
		err = cudaStreamSynchronize(b->stream);
	return pkvrt_cuda_errno(err);
}

/* Both begin at the same alignment: a kernel may be chosen by it. */
static int move_rows(struct pkvrt_gpu_blas *b, struct trial *t, size_t row_bytes, uint32_t nr,
		     uint32_t shift)
{
	size_t head = shift * row_bytes, rest = (nr - shift) * row_bytes;
	cudaError_t err;

	err = cudaMemcpyAsync(t->moved, (char *)t->x + head, rest, cudaMemcpyDeviceToDevice,
			      b->stream);
	if (!err)
		err = cudaMemcpyAsync((char *)t->moved + rest, t->x, head,
				      cudaMemcpyDeviceToDevice, b->stream);
	return pkvrt_cuda_errno(err);
}

/* Does a tile compute its rows the same at all places? 1, 0 or -errno. */
static int is_even(struct pkvrt_gpu_blas *b, const struct pkvrt_gpu_product *p, const void *weight,
		   struct trial *t, const struct pkvrt_gpu_tile *tile)
{
	const uint32_t size = tile->nr_rows;
	const uint32_t shifts[] = { 1, 8, 16, 32, size / 2 + 3, size - 1 };
	uint32_t nr = 0;
	int ret = run_tile(b, p, tile, weight, t->x, t->want);

	for (size_t i = 0; i < sizeof(shifts) / sizeof(shifts[0]) && !ret && !nr; i++) {
		ret = move_rows(b, t, (size_t)p->nr_in * 2, size, shifts[i]);
		if (!ret)
			ret = run_tile(b, p, tile, weight, t->moved, t->y);
		if (!ret)
			ret = count_different(b, p, t, t->y, size, size, shifts[i], &nr);
	}
	return ret ? ret : !nr;
}

/* Do two tiles compute the same rows to the same bits? 1, 0 or -errno. */
static int are_alike(struct pkvrt_gpu_blas *b, const struct pkvrt_gpu_product *p,
		     const void *weight, struct trial *t, const struct pkvrt_gpu_tile *smaller,
		     const struct pkvrt_gpu_tile *larger)
{
	uint32_t nr = 0;
	int ret = run_tile(b, p, larger, weight, t->x, t->want);

	if (!ret)
		ret = run_tile(b, p, smaller, weight, t->x, t->y);
	if (!ret)
		ret = count_different(b, p, t, t->y, smaller->nr_rows, larger->nr_rows, 0, &nr);
	return ret ? ret : !nr;
}

/* Kernels that cuBLAS has for a tile and that split no sums, the best by its own estimate first. */
static int list_kernels(struct pkvrt_gpu_blas *b, const struct pkvrt_gpu_product *p,
			const struct pkvrt_gpu_tile *tile, struct kernel *list)
{
	cublasLtMatmulHeuristicResult_t results[MOST_KERNELS];
	cublasStatus_t status;
	int nr = 0;

	status = cublasLtMatmulAlgoGetHeuristic(b->handle, b->desc, p->weight, tile->x, tile->y,
						tile->y, b->preference, MOST_KERNELS, results,
						&nr);
	if (status && status != CUBLAS_STATUS_NOT_SUPPORTED)
		return blas_errno(status);
	for (int i = 0; i < nr; i++)
		list[i] = (struct kernel){ .algo = results[i].algo };
	return nr;
}

/* How long they take; one that can't run takes forever. */
static int time_kernels(struct pkvrt_gpu_blas *b, const struct pkvrt_gpu_product *p,
			const void *weight, struct trial *t, struct pkvrt_gpu_tile *tile,
			struct kernel *list, int nr)
{
	cudaError_t err = cudaSuccess;

	for (int i = 0; i < nr && !err; i++) {
		int ret = 0;

		list[i].ms = INFINITY;
		tile->algo = list[i].algo;
		for (int run = 0; run <= TIMED_RUNS && !ret && !err; run++) {
			if (run == 1)
				err = cudaEventRecord(t->begin, b->stream);
			ret = run_tile(b, p, tile, weight, t->x, t->y);
		}
		if (ret || err)
			continue;
		err = cudaEventRecord(t->end, b->stream);
		if (!err)
			err = cudaEventSynchronize(t->end);
		if (!err)
			err = cudaEventElapsedTime(&list[i].ms, t->begin, t->end);
	}
	return pkvrt_cuda_errno(err);
}

static int compare_kernels(const void *a, const void *b)
{
	const struct kernel *x = a, *y = b;

	return x->ms < y->ms ? -1 : x->ms > y->ms;
}

/*
 * The fastest kernel that is even and, but for the first tile, gives the bits of @like: so which
 * one is fastest in a run can't be seen in its results. 1, 0: there is none, or -errno.
 */
static int choose_kernel(struct pkvrt_gpu_blas *b, const struct pkvrt_gpu_product *p,
			 const void *weight, struct trial *t, struct pkvrt_gpu_tile *tile,
			 const struct pkvrt_gpu_tile *like)
{
	struct kernel list[MOST_KERNELS];
	int nr = list_kernels(b, p, tile, list), ret = 0;

	if (nr > 0 && like)
		ret = time_kernels(b, p, weight, t, tile, list, nr);
	if (nr < 0 || ret)
		return nr < 0 ? nr : ret;
	if (like)
		qsort(list, (size_t)nr, sizeof(list[0]), compare_kernels);
	for (int i = 0; i < nr && isfinite(list[i].ms); i++) {
		tile->algo = list[i].algo;
		ret = is_even(b, p, weight, t, tile);
		if (ret > 0 && like)
			ret = like->nr_rows < tile->nr_rows ?
			      are_alike(b, p, weight, t, like, tile) :
			      are_alike(b, p, weight, t, tile, like);
		if (ret)
			return ret;
	}
	return 0;
}

/* What all sizes must be like: the first even kernel of a middle size, by cuBLAS's own order. */
static int choose_tiles(struct pkvrt_gpu_blas *b, struct pkvrt_gpu_product *p, const void *weight,
			struct trial *t)
{
	struct pkvrt_gpu_tile like, *tile;
	int ret = create_tile(p, &like, LIKE_ROWS);

	if (!ret)
		ret = choose_kernel(b, p, weight, t, &like, NULL);
	for (uint32_t rows = PKVRT_GPU_FEWEST_ROWS; rows <= p->most_rows && ret > 0; rows *= 2) {
		tile = &p->tiles[p->nr_tiles];
		ret = create_tile(p, tile, rows);
		if (!ret)
			ret = choose_kernel(b, p, weight, t, tile, &like);
		if (ret > 0)
			p->nr_tiles++;
		else
			destroy_tile(tile);
		ret = ret < 0 ? ret : 1;
	}
	destroy_tile(&like);
	return ret < 0 ? ret : p->nr_tiles ? 0 : -EOPNOTSUPP;
}

int pkvrt_gpu_product_create(struct pkvrt_gpu_blas *b, struct pkvrt_gpu_product *p,
			     const void *weight)
{
	struct trial t = { 0 };
	uint64_t nr_x = (uint64_t)p->most_rows * p->nr_in;
	cudaError_t err = cudaMalloc(&t.x, nr_x * 2);
	int ret;

	if (!err)
		err = cudaMalloc(&t.moved, nr_x * 2);
	if (!err)
		err = cudaMalloc(&t.want, p->most_rows * out_bytes(p));
	if (!err)
		err = cudaMalloc(&t.y, p->most_rows * out_bytes(p));
	if (!err)
		err = cudaMalloc((void **)&t.nr_different, sizeof(*t.nr_different));
	if (!err)
		err = cudaEventCreate(&t.begin);
	if (!err)
		err = cudaEventCreate(&t.end);
	if (!err)
		err = pkvrt_gpu_rows_fill(t.x, nr_x, p->nr_in, b->stream);
	ret = pkvrt_cuda_errno(err);
	if (!ret)
		ret = blas_errno(cublasLtMatrixLayoutCreate(&p->weight, CUDA_R_16BF, p->nr_in,
							    p->nr_out, p->nr_in));
	if (!ret)
		ret = choose_tiles(b, p, weight, &t);
	cudaFree(t.x);
	cudaFree(t.moved);
	cudaFree(t.want);
	cudaFree(t.y);
	cudaFree(t.nr_different);
	if (t.begin)
		cudaEventDestroy(t.begin);
	if (t.end)
		cudaEventDestroy(t.end);
	return ret;
}
