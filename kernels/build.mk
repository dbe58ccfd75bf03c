# SPDX-License-Identifier: GPL-2.0-only
# The kernels of the CPU, and of CUDA where nvcc is. The arithmetic of attention must be what is written: no fused or
# reordered operations but those that the sources ask for.

kernels-x86 := $(if $(findstring x86_64,$(shell $(CC) -dumpmachine)),avx2 avx512)

cflags-kernels := -Ikernels/include -ffp-contract=off
cflags-kernels/attention_avx2.c := -mavx2 -mfma
cflags-kernels/attention_avx512.c := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma \
	-mprefer-vector-width=512

$(eval $(call static-lib,pagedkv_kernels,$(patsubst %,kernels/%.c,attention cache reference \
	attention_portable $(kernels-x86:%=attention_%))))
$(eval $(call bench,bench_attention,kernels/bench_attention.c,pagedkv_kernels,-lm))

# The CUDA kernels are libraries of their own, for servers that want them alone. Each
# kernels/cuda/bench_NAME.cu and tests/kernels/cuda/test_NAME.cu is a program.
cflags-kernels/cuda := -Ikernels/include
ifneq ($(CUDA),)
cuda-src := $(filter-out kernels/cuda/bench_%,$(sort $(wildcard kernels/cuda/*.cu))) kernels/cache.c
cuda-map := kernels/cuda/libpagedkv_cuda.map
$(eval $(call static-lib,pagedkv_cuda,$(cuda-src)))
$(eval $(call shared-lib,pagedkv_cuda,libpagedkv_cuda.so.0,$(cuda-src),$(cuda-map),$(CUDA_LIBS)))
$(eval $(call pc-file,libpagedkv_cuda,kernels/cuda/libpagedkv_cuda.pc.in,-e 's|@CUDA_LIBS@|$(CUDA_LIBS)|'))
$(foreach b,$(basename $(notdir $(wildcard kernels/cuda/bench_*.cu))),\
	$(eval $(call cuda-bench,cuda/$(b),kernels/cuda/$(b).cu,,-lm)))
install-lib += $(O)/lib/libpagedkv_cuda.a
install-headers-pagedkv += kernels/include/pagedkv/cache.h kernels/include/pagedkv/pkv_cuda.h
endif
