# SPDX-License-Identifier: GPL-2.0-only
ifndef tests-runtime-workload
tests-runtime-workload := y
cflags-tests/runtime/test_workload.c := -Iruntime
$(eval $(call test,runtime/test_workload,tests/runtime/test_workload.c,pagedkv_rt,$(rt-ldlibs)))
endif
