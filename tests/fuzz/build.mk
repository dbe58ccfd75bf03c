# SPDX-License-Identifier: GPL-2.0-only
# A target is tests/fuzz/fuzz_NAME.c, with seeds in tests/fuzz/corpus/NAME. It links with what
# fuzz-src-NAME and fuzz-ldlibs-NAME list: all of it in source, because all is instrumented.
cflags-tests/fuzz := -Iruntime -Itools -Ilibpagedkv/include

fuzz-src-trace    := runtime/trace.c runtime/workload.c
fuzz-ldlibs-trace := -ljansson -lm

fuzz-names := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
$(foreach n,$(fuzz-names),$(eval $(call fuzz-target,fuzz_$(n),tests/fuzz/fuzz_$(n).c $(fuzz-src-$(n)),tests/fuzz/corpus/$(n),$(fuzz-ldlibs-$(n)))))
