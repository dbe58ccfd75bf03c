# SPDX-License-Identifier: GPL-2.0-only
# A target is tests/fuzz/fuzz_NAME.c, with seeds in tests/fuzz/corpus/fuzz_NAME and a fuzz_NAME.mk
# that says what it links with beside itself: all of it as source because all is instrumented:
#	fuzz-src-fuzz_NAME, fuzz-ldlibs-fuzz_NAME
# One that shares its parts with a test is named in the test's build.mk instead.
fuzz-names := $(patsubst tests/fuzz/%.mk,%,$(sort $(wildcard tests/fuzz/fuzz_*.mk)))
include $(fuzz-names:%=tests/fuzz/%.mk)
$(foreach n,$(fuzz-names),$(eval $(call fuzz-target,$(n),tests/fuzz/$(n).c $(fuzz-src-$(n)),tests/fuzz/corpus/$(n),$(fuzz-ldlibs-$(n)))))
