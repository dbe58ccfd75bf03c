# SPDX-License-Identifier: GPL-2.0-only
# The page manager, built from source into each test, so that internals are in reach.
core-under-test := $(wildcard kmod/core/*.c) libpagedkv/shim/alloc.c
core-model      := tests/core/model.c tests/core/model_moves.c tests/core/model_seqs.c
cflags-tests/core := -Ilibpagedkv/shim -Ikmod/core -fno-strict-aliasing
cflags-tests/fuzz/fuzz_core.c := -Itests/core $(cflags-tests/core)
# as the library's part says; here for a tree in which that part isn't read first
cflags-kmod/core ?= -Ilibpagedkv/shim -fno-strict-aliasing

$(eval $(call test,core_model,tests/core/test_model.c $(core-model) $(core-under-test)))
$(eval $(call fuzz-target,core,tests/fuzz/fuzz_core.c $(core-model) $(core-under-test),tests/fuzz/corpus/core))
