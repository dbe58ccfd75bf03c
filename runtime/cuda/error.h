/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* From CUDA's errors to ours. */
#ifndef PKVRT_CUDA_ERROR_H
#define PKVRT_CUDA_ERROR_H

#include <cuda.h>
#include <cuda_runtime_api.h>

/* 0; -ENOMEM, -ENODEV, -EINVAL, -EOPNOTSUPP; -EIO for all that the device has to answer for. */
int pkvrt_cuda_errno(cudaError_t err);
int pkvrt_cuda_driver_errno(CUresult err);

#endif
