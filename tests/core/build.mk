# SPDX-License-Identifier: GPL-2.0-only
# The page manager, built from source into each test, so that internals are in reach.
core-under-test := $(wildcard kmod/core/*.c) libpagedkv/shim/alloc.c
core-model      := tests/core/model.c tests/core/model_moves.c tests/core/model_seqs.c
cflags-tests/core := -Ilibpagedkv/shim -Ikmod/core -fno-strict-aliasing
cflags-tests/fuzz/fuzz_core.c := -Itests/core $(cflags-tests/core)

core-test = $(eval $(call test,core_$(1),tests/core/test_$(1).c $(2) $(core-under-test)))

$(call core-test,model,$(core-model))
$(call core-test,tier)
$(call core-test,table,tests/core/rig.c)
$(call core-test,prefix,tests/core/rig.c)
$(call core-test,lru,tests/core/rig.c)
$(call core-test,move,tests/core/rig.c)
$(call core-test,pool,tests/core/rig.c)
$(eval $(call fuzz-target,core,tests/fuzz/fuzz_core.c $(core-model) $(core-under-test),tests/fuzz/corpus/core))
