# SPDX-License-Identifier: GPL-2.0-only
cflags-tests/kernels := -Ikernels/include
$(eval $(call test,kernels/test_cache,tests/kernels/test_cache.c,pagedkv_kernels,-lm))
$(eval $(call test,kernels/test_attention,tests/kernels/test_attention.c,pagedkv_kernels,-lm))
