// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "gpu.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "why.h"

#define CUDA_DRIVER	"libcuda.so.1"

/*
 * Never unloaded: the driver's threads may be in it. The driver is looked for first, because the
 * library needs cuBLAS, which takes its time.
 */
static int load(const struct pkvrt_gpu_ops **out, char *why, size_t why_len)
{
	const struct pkvrt_gpu_ops *ops;
	void *lib;

	if (!dlopen(CUDA_DRIVER, RTLD_LAZY | RTLD_LOCAL))
		return pkvrt_why(why, why_len, -ENODEV, "no GPU driver: %s", dlerror());
	lib = dlopen(PKVRT_GPU_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return pkvrt_why(why, why_len, -ENOENT, "no GPU support: %s", dlerror());
	ops = dlsym(lib, PKVRT_GPU_TABLE);
	if (!ops || ops->size != sizeof(*ops))
		return pkvrt_why(why, why_len, -ENOENT,
				 "no GPU support: " PKVRT_GPU_LIBRARY " is of another version");
	*out = ops;
	return 0;
}

int pkvrt_gpu_load(const struct pkvrt_gpu_ops **out, int device, char *name, size_t name_len,
		   char *why, size_t why_len)
{
	int err;

	*out = NULL;
	name[0] = '\0';
	err = load(out, why, why_len);
	if (err)
		return err;
	err = (*out)->probe(device, name, name_len);
	return err ? pkvrt_why(why, why_len, err, "no GPU that the kernels run on: %s",
			       strerror(-err)) : 0;
}
