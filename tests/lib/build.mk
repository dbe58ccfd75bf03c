# SPDX-License-Identifier: GPL-2.0-only
cflags-tests/lib := -Ilibpagedkv/include

lib-test = $(eval $(call test,lib_$(1),tests/lib/test_$(1).c tests/lib/server.c,pagedkv,-lnettle $(2)))

$(call lib-test,api)
$(call lib-test,seq)
$(call lib-test,prefix)
$(call lib-test,move)
$(call lib-test,threads)
$(call lib-test,foreign)
$(call lib-test,oom,$(patsubst %,-Wl$(comma)--wrap=%,malloc calloc posix_memalign strdup mmap eventfd))
tests-tsan += lib_move lib_threads
tests-sh += tests/lib/example.sh
