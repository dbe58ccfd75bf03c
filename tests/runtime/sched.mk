# SPDX-License-Identifier: GPL-2.0-only
# The scheduler and the main job: tests, and the benchmarks of both.
sched-libs := pagedkv_rt pagedkv_kernels pagedkv
cflags-tests/bench += -iquote runtime -Ilibpagedkv/include -Ikernels/include
$(eval $(call bench,bench_memory,tests/bench/bench_memory.c tests/bench/memory_shares.c,$(sched-libs),$(rt-ldlibs)))
$(eval $(call test,test_buddy,tests/runtime/test_buddy.c,pagedkv_rt,$(rt-ldlibs)))
$(eval $(call test,test_sched,tests/runtime/test_sched.c tests/runtime/fake.c,$(sched-libs),$(rt-ldlibs)))
$(eval $(call test,test_memory_shares,tests/runtime/test_memory_shares.c tests/bench/memory_shares.c,$(sched-libs),$(rt-ldlibs)))
$(eval $(call bench,bench_job,tests/bench/bench_job.c,$(sched-libs),$(rt-ldlibs)))
