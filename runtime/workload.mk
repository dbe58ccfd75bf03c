# SPDX-License-Identifier: GPL-2.0-only
rt-src    += runtime/workload.c runtime/trace.c runtime/series.c runtime/why.c
rt-ldlibs += -ljansson -lm
