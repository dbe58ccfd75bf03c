# SPDX-License-Identifier: GPL-2.0-only
cflags-tests/bench/bench_pages.c := -Ilibpagedkv $(cflags-libpagedkv)
$(eval $(call bench,bench_pages,tests/bench/bench_pages.c,pagedkv,-lnettle))
cflags-tests/bench/bench_disk.c := -iquote runtime
$(eval $(call bench,bench_disk,tests/bench/bench_disk.c,pagedkv_rt,$(rt-ldlibs)))
cflags-tests/bench/bench_prefix.c := -iquote runtime $(cflags-libpagedkv)
$(eval $(call bench,bench_prefix,tests/bench/bench_prefix.c runtime/workload.c runtime/trace.c runtime/why.c,pagedkv,-ljansson -lm))
