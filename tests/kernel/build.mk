# SPDX-License-Identifier: GPL-2.0-only
# In a kernel tree's tools/testing/selftests/pagedkv the Makefile here builds the same programs.
cflags-tests/kernel := -Ikmod/uapi -Ibuild/vm/kselftest/pagedkv -Wno-missing-prototypes -Wno-unused-parameter \
	-Wno-clobbered -Wno-sign-compare

$(eval $(call kernel-test,abi,tests/kernel/abi.c))
$(eval $(call kernel-test,foreign,tests/kernel/foreign.c))
$(eval $(call kernel-test,faults,tests/kernel/faults.c,-luring))
$(eval $(call kernel-test,life,tests/kernel/life.c))
$(eval $(call kernel-test,host,tests/kernel/host.c,-luring))
$(eval $(call kernel-test,pressure,tests/kernel/pressure.c,-luring -pthread))
$(eval $(call kernel-test,proc,tests/kernel/proc.c))
$(eval $(call kernel-test,threads,$(wildcard tests/kernel/threads*.c),-luring))
$(eval $(call kernel-test,uring,tests/kernel/uring.c,-luring))
fuzz-kernel := $(patsubst %,tests/kernel/%.c,fuzz fuzz_input fuzz_ioctl fuzz_other fuzz_thread fuzz_world cover)
$(eval $(call kernel-test,fuzz,$(fuzz-kernel),-luring))
vm-tests += $(patsubst %,$(O)/tests/lib_%,api seq prefix move threads foreign)
vm-tests += $(O)/tests/test_engine

$(eval $(call program-at,vm/bench/bench_kernel,tests/kernel/bench_kernel.c,pagedkv,-lnettle -luring))
cflags-tests/kernel/bench_kernel.c := -Ilibpagedkv/include
vm-benches += $(O)/vm/bench/bench_kernel

$(eval $(call program-at,vm/bench/bench_swap,tests/kernel/bench_swap.c,pagedkv_rt pagedkv,-lnettle $(rt-ldlibs)))
cflags-tests/kernel/bench_swap.c := -Ilibpagedkv/include -iquote runtime
vm-benches += $(O)/vm/bench/bench_swap
