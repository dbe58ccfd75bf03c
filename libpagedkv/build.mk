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

$(eval $(call pc-file,libpagedkv,libpagedkv/libpagedkv.pc.in))
install-lib += $(O)/lib/libpagedkv.a
install-headers += libpagedkv/include/pagedkv.h
install-man += $(wildcard libpagedkv/man/*.[1-8])
