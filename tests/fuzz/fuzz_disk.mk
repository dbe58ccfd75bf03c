# SPDX-License-Identifier: GPL-2.0-only
cflags-tests/fuzz/fuzz_disk.c := -iquote runtime
fuzz-src-fuzz_disk    := $(addprefix runtime/,disk.c diskfmt.c diskimg.c io.c regions.c)
fuzz-ldlibs-fuzz_disk := -luring -lisal
