# SPDX-License-Identifier: GPL-2.0-only
# libpagedkv_rt. Other fragments (runtime/NAME.mk) append their sources to rt-src and what they
# need at link time to rt-ldlibs; programs link with $(rt-ldlibs).
# Never -Iruntime: its sched.h is not the system's. Others say -iquote runtime.
cflags-runtime := -Ilibpagedkv/include -Ikernels/include
rt-src    := $(addprefix runtime/,arena.c device.c disk.c diskfmt.c diskimg.c engine.c io.c regions.c)
rt-ldlibs := -luring -lisal -lnuma
include $(filter-out runtime/build.mk,$(sort $(wildcard runtime/*.mk)))
$(eval $(call static-lib,pagedkv_rt,$(rt-src)))
