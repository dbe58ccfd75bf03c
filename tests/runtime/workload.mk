# SPDX-License-Identifier: GPL-2.0-only
$(eval $(call test,test_workload,tests/runtime/test_workload.c,pagedkv_rt,$(rt-ldlibs)))
$(eval $(call test,test_series,tests/runtime/test_series.c,pagedkv_rt,$(rt-ldlibs)))
