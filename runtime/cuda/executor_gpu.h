/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* The executor at home on a GPU. */
#ifndef PKVRT_CUDA_EXECUTOR_GPU_H
#define PKVRT_CUDA_EXECUTOR_GPU_H

#include "../executor.h"

/* For params.create; params.arena is a device address. As pkvrt_executor_create(). */
int pkvrt_executor_gpu_create(struct pkvrt_executor **out, const struct pkvrt_executor_params *p);

#endif
