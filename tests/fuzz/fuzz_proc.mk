# SPDX-License-Identifier: GPL-2.0-only
cflags-tests/fuzz/fuzz_proc.c := -iquote tools -iquote runtime -Ilibpagedkv/include
fuzz-src-fuzz_proc := $(addprefix tools/,grid.c optparse.c procfile.c procparse.c term.c) runtime/why.c
