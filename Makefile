# SPDX-License-Identifier: GPL-2.0-only
# The one place that knows how things are built. Each part lists what it has in
# PART/build.mk with the four macros below; everything lands under $(O).
#
#   make            libraries, tools
#   make run        set up, build, run the main job
#   make check      set up, build, run every test; last line "N passed, N failed"
#   make bench      figures beside a peer or a roof
#   make fuzz       each fuzz target for FUZZ_SECONDS
#   make SAN=address,undefined ...   the same under sanitizers, in its own folder

SAN     ?=
comma   := ,
O       ?= build$(if $(SAN),/$(subst $(comma),-,$(SAN)))
VERSION := $(shell cat VERSION)
CC      ?= cc
CFLAGS  ?= -O3 -g
WARN    := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
ALL_CFLAGS := -std=gnu11 $(WARN) $(CFLAGS) -fPIC -MMD -MP -D_GNU_SOURCE -pthread \
	-DPAGEDKV_VERSION='"$(VERSION)"' $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
ALL_LDFLAGS := $(LDFLAGS) -pthread $(if $(SAN),-fsanitize=$(SAN))

.DEFAULT_GOAL := all
.SECONDARY:
.DELETE_ON_ERROR:

all-targets :=
tests-c     :=
tests-sh    :=
fuzzers     :=

# objects: $(call obj,SOURCES)
obj = $(patsubst %.c,$(O)/%.o,$(1))

$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(cflags-$(<D)) $(cflags-$<) -c -o $@ $<

# $(eval $(call static-lib,NAME,SOURCES)) -> $(O)/lib/libNAME.a
define static-lib
$(O)/lib/lib$(1).a: $(call obj,$(2))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(AR) rcs $$@ $$^
all-targets += $(O)/lib/lib$(1).a
deps += $(patsubst %.o,%.d,$(call obj,$(2)))
endef

# $(eval $(call program,NAME,SOURCES,STATIC-LIBS,LDLIBS)) -> $(O)/bin/NAME
define program-at
$(O)/$(1): $(call obj,$(2)) $(3:%=$(O)/lib/lib%.a)
	@mkdir -p $$(@D)
	$(CC) $(ALL_LDFLAGS) -o $$@ $(call obj,$(2)) $(3:%=$(O)/lib/lib%.a) $(4)
deps += $(patsubst %.o,%.d,$(call obj,$(2)))
endef
define program
$(call program-at,bin/$(1),$(2),$(3),$(4))
all-targets += $(O)/bin/$(1)
endef

# $(eval $(call test,NAME,SOURCES,STATIC-LIBS,LDLIBS)): a cmocka program that prints TAP
define test
$(call program-at,tests/$(1),$(2),$(3),$(4) -lcmocka)
tests-c += $(O)/tests/$(1)
endef

# $(eval $(call bench,NAME,SOURCES,STATIC-LIBS,LDLIBS)): prints "name: figure unit (...)" lines
define bench
$(call program-at,bench/$(1),$(2),$(3),$(4))
benches += $(O)/bench/$(1)
endef

parts := kmod libpagedkv kernels runtime tools tests
-include $(wildcard $(parts:%=%/build.mk) tests/*/build.mk)
-include $(deps)

all: $(all-targets)

clean:
	rm -rf build

.PHONY: all clean
