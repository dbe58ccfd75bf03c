# SPDX-License-Identifier: GPL-2.0-only
# Other fragments (tests/runtime/NAME.mk) add tests of their own.
cflags-tests/runtime := -iquote runtime -Ilibpagedkv/include -Ikernels/include
$(foreach n,$(sort $(patsubst tests/runtime/%.c,%,$(wildcard tests/runtime/test_disk*.c))) test_arena,\
	$(eval $(call test,$(n),tests/runtime/$(n).c,pagedkv_rt,$(rt-ldlibs))))
include $(filter-out tests/runtime/build.mk,$(sort $(wildcard tests/runtime/*.mk)))
$(eval $(call test,test_engine,tests/runtime/test_engine.c,pagedkv_rt pagedkv,$(rt-ldlibs) -lnettle))
tests-tsan += test_engine
