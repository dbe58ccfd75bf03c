# SPDX-License-Identifier: GPL-2.0-only
cflags-tests/fuzz/fuzz_trace.c := -iquote runtime
fuzz-src-fuzz_trace    := runtime/workload.c runtime/trace.c runtime/why.c
fuzz-ldlibs-fuzz_trace := -ljansson -lm
