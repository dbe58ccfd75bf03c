# SPDX-License-Identifier: GPL-2.0-only
# libpagedkv_rt. Other fragments (runtime/NAME.mk) append their sources to rt-src and what they
# need at link time to rt-ldlibs; programs link with $(rt-ldlibs).
# Never -Iruntime: its sched.h is not the system's. Others say -iquote runtime.
cflags-runtime := -Ilibpagedkv/include -Ikernels/include
rt-src    := $(addprefix runtime/,arena.c device.c disk.c diskfmt.c diskimg.c engine.c io.c regions.c)
rt-ldlibs := -luring -lisal -lnuma
include $(filter-out runtime/build.mk,$(sort $(wildcard runtime/*.mk)))
$(eval $(call static-lib,pagedkv_rt,$(rt-src)))

# The GPU's parts are a library of their own, which is loaded when a GPU is asked for.
cflags-runtime/cuda := -Ikernels/include -isystem $(CUDA_HOME)/include
ifneq ($(CUDA),)
gpu-src  := $(filter-out runtime/cuda/bench_%,$(sort $(wildcard runtime/cuda/*.c runtime/cuda/*.cu))) \
	runtime/executor_check.c runtime/model.c runtime/sampler.c
gpu-libs := -L$(CUDA_HOME)/lib64 -Wl$(comma)-rpath$(comma)$(CUDA_HOME)/lib64 -lcublas -lcublasLt -lm
gpu-map  := runtime/cuda/libpagedkv_gpu.map
$(eval $(call static-lib,pagedkv_gpu,$(gpu-src)))
$(eval $(call shared-lib,pagedkv_gpu,libpagedkv_gpu.so.0,$(gpu-src) $(cuda-src),$(gpu-map),$(gpu-libs) $(CUDA_LIBS)))
$(foreach b,$(basename $(notdir $(wildcard runtime/cuda/bench_*.cu))),\
	$(eval cflags-runtime/cuda/$(b).cu := -Ikernels/cuda)\
	$(eval $(call cuda-bench,cuda/$(b),runtime/cuda/$(b).cu,pagedkv_gpu,$(gpu-libs))))
endif
