# SPDX-License-Identifier: GPL-2.0-only
# libpagedkv: its own sources and the page manager's, which is built here under shim headers.

core-src  := $(wildcard kmod/core/*.c) libpagedkv/shim/alloc.c
lib-src   := $(wildcard libpagedkv/*.c)
lib-map   := libpagedkv/libpagedkv.map

# A build under a sanitizer asserts its locks too.
core-cflags := -Ilibpagedkv/shim -Ikmod/core -fno-strict-aliasing $(if $(SAN),-DPKV_SHIM_DEBUG)
cflags-kmod/core := $(core-cflags)
cflags-libpagedkv/shim := $(core-cflags)
cflags-libpagedkv := -Ilibpagedkv/include $(core-cflags)
cflags-libpagedkv/backend_kmod.c := -idirafter kmod/uapi

$(eval $(call static-lib,pagedkv,$(lib-src) $(core-src)))
$(eval $(call shared-lib,pagedkv,libpagedkv.so.0,$(lib-src) $(core-src),$(lib-map),-lnettle))

# Written anew when it would differ: PREFIX may be another one each time.
$(O)/lib/pkgconfig/libpagedkv.pc: libpagedkv/libpagedkv.pc.in VERSION FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' \
		$< >$@.$$$$ && if cmp -s $@.$$$$ $@; then rm $@.$$$$; else mv $@.$$$$ $@; fi
FORCE:
.PHONY: FORCE

install-lib += $(O)/lib/libpagedkv.a
install-headers += libpagedkv/include/pagedkv.h
install-pc += $(O)/lib/pkgconfig/libpagedkv.pc
install-man += $(wildcard libpagedkv/man/*.[1-8])
