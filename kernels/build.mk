# SPDX-License-Identifier: GPL-2.0-only
# CPU kernels. The arithmetic of attention must be what is written: no fused or
# reordered operations but those that the sources ask for.

kernels-x86 := $(if $(findstring x86_64,$(shell $(CC) -dumpmachine)),avx2 avx512)

cflags-kernels := -Ikernels/include -ffp-contract=off
cflags-kernels/attention_avx2.c := -mavx2 -mfma
cflags-kernels/attention_avx512.c := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma \
	-mprefer-vector-width=512

$(eval $(call static-lib,pagedkv_kernels,$(patsubst %,kernels/%.c,attention cache reference \
	attention_portable $(kernels-x86:%=attention_%))))
$(eval $(call bench,bench_attention,kernels/bench_attention.c,pagedkv_kernels,-lm))
