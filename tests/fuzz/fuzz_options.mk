# SPDX-License-Identifier: GPL-2.0-only
cflags-tests/fuzz/fuzz_options.c := -iquote tools -iquote runtime -Ilibpagedkv/include
fuzz-src-fuzz_options := tools/options.c tools/optparse.c runtime/why.c
