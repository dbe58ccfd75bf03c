# SPDX-License-Identifier: GPL-2.0-only
# Other fragments (tests/runtime/NAME.mk) add tests of their own.
cflags-tests/runtime := -iquote runtime -Ilibpagedkv/include -Ikernels/include
$(foreach n,$(sort $(patsubst tests/runtime/%.c,%,$(wildcard tests/runtime/test_disk*.c))) test_arena,\
	$(eval $(call test,$(n),tests/runtime/$(n).c,pagedkv_rt,$(rt-ldlibs))))
include $(filter-out tests/runtime/build.mk,$(sort $(wildcard tests/runtime/*.mk)))
$(eval $(call test,test_engine,tests/runtime/test_engine.c,pagedkv_rt pagedkv,$(rt-ldlibs) -lnettle))
tests-tsan += test_engine

# Of the GPU's parts, plain programs: on a machine with a GPU the packages of the others may be missing.
cflags-tests/runtime/cuda := -Xcompiler -iquote$(comma)runtime -Ikernels/include -Itests/kernels \
	-Itests/kernels/cuda
$(foreach t,$(basename $(notdir $(wildcard tests/runtime/cuda/test_*.cu))),\
	$(eval $(call cuda-test,cuda/$(t),tests/runtime/cuda/$(t).cu,pagedkv_gpu,$(gpu-libs))))
