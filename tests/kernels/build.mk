# SPDX-License-Identifier: GPL-2.0-only
cflags-tests/kernels := -Ikernels/include
$(eval $(call test,kernels/test_cache,tests/kernels/test_cache.c,pagedkv_kernels,-lm))
$(eval $(call test,kernels/test_attention,tests/kernels/test_attention.c,pagedkv_kernels,-lm))

# kernels/cuda: what the C interface doesn't show; the CPU's kernels are what CUDA's are held against
cflags-tests/kernels/cuda := -Ikernels/include -Ikernels/cuda -Itests/kernels
$(foreach t,$(basename $(notdir $(wildcard tests/kernels/cuda/test_*.cu))),\
	$(eval $(call cuda-test,cuda/$(t),tests/kernels/cuda/$(t).cu,pagedkv_kernels,-lm)))
$(eval $(call cuda-test,cuda/abi,tests/kernels/cuda/abi.c))
