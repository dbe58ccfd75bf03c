# SPDX-License-Identifier: GPL-2.0-only
$(eval $(call test,test_executor,tests/runtime/test_executor.c,pagedkv_rt pagedkv_kernels,$(rt-ldlibs)))
tests-tsan += test_executor
