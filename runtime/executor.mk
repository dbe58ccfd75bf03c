# SPDX-License-Identifier: GPL-2.0-only
# The model executor. Programs link with pagedkv_kernels after pagedkv_rt.
rt-src    += runtime/gpu.c runtime/executor.c runtime/executor_check.c runtime/executor_cpu.c \
	runtime/model.c runtime/products.c runtime/sampler.c runtime/workers.c
rt-ldlibs += $(shell pkg-config --libs openblas 2>/dev/null) -lm
cflags-runtime/products.c := $(shell pkg-config --cflags openblas 2>/dev/null)
# the same arithmetic whatever the compiler likes to fuse
cflags-runtime/model.c := -ffp-contract=off
cflags-runtime/bench_executor.c := $(shell pkg-config --cflags openblas 2>/dev/null)
$(eval $(call bench,bench_executor,runtime/bench_executor.c,pagedkv_rt pagedkv_kernels,$(rt-ldlibs)))
