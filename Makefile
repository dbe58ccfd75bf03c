# SPDX-License-Identifier: GPL-2.0-only
# The one place that knows how things are built. Each part lists what it has in
# PART/build.mk with the macros below; everything lands under $(O).
#
#   make            libraries, tools
#   make run        set up, build, run the main job (ARGS=... are passed on)
#   make check      set up, build, run every test; last line "N passed, N failed"
#   make check-kernel        of these, the module in guests with Debian's kernels
#   make check-kernel-debug  the same in a kernel with KASAN, lockdep, kmemleak, UBSAN
#   make soak-kernel         many threads at once for SOAK_SECONDS, in the same guests
#   make vm         a shell in such a guest; VM_KERNEL=6.1 or 6.12
#   make bench-kernel        the module's figures, in a guest
#   make bench      figures beside a peer or a roof (JSON=1: one object a line)
#   make check-gpu  the CUDA kernels' tests, also under compute-sanitizer; needs gcc, make, nvcc, a GPU
#   make bench-gpu  their figures beside a peer or a roof
#   make fuzz       each fuzz target for FUZZ_SECONDS
#   make install    PREFIX=/usr/local, DESTDIR=
#   make setup      install the packages that all of the above need
#   make SAN=address,undefined ...   the same under sanitizers, in its own folder

SAN     ?=
comma   := ,
O       ?= build$(if $(SAN),/$(subst $(comma),-,$(SAN)))
# one name for a folder in the tree, however it is told: what was written of an object's headers
# stands under the name by which it was built
override O := $(patsubst $(CURDIR)/%,%,$(abspath $(O)))
VERSION := $(shell cat VERSION)
CC      ?= cc
CFLAGS  ?= -O3 -g
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
FUZZ_CC ?= clang
FUZZ_SECONDS ?= 60

WARN    := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
BASE_CFLAGS := -std=gnu11 $(WARN) -fPIC -fno-semantic-interposition -MMD -MP -D_GNU_SOURCE \
	-pthread -DPAGEDKV_VERSION='"$(VERSION)"'
SAN_FLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
ALL_CFLAGS := $(BASE_CFLAGS) $(CFLAGS) $(SAN_FLAGS)
ALL_LDFLAGS := $(LDFLAGS) -pthread $(if $(SAN),-fsanitize=$(SAN))
FUZZ_SAN := address,undefined
# CUDA where nvcc is found; the sanitizers' builds do without. One architecture: Hopper's own
# instructions (wgmma, the bulk copy engine) are not forward compatible.
NVCC ?= $(firstword $(wildcard $(addsuffix /nvcc,$(subst :, ,$(PATH)) /usr/local/cuda/bin)))
CUDA := $(if $(SAN),,$(NVCC))
# nvcc says where its toolkit is: it may have been called through a link or a script somewhere else.
CUDA_HOME := $(if $(CUDA),$(realpath $(shell $(CUDA) --dryrun -x cu /dev/null 2>&1 | sed -n 's/^.. TOP=//p')))
NVCC_FLAGS := -std=c++17 -O3 -lineinfo -gencode=arch=compute_90a,code=sm_90a --expt-relaxed-constexpr \
	-Werror all-warnings -Xcompiler -Wall,-Wextra,-Wno-unused-parameter,-fPIC
CUDA_LIBS := $(if $(CUDA),-L$(CUDA_HOME)/lib64 -lcudart_static -lstdc++ -ldl -lrt)
FUZZ_CFLAGS := $(BASE_CFLAGS) -O1 -g -fsanitize=fuzzer-no-link,$(FUZZ_SAN) -fno-sanitize-recover=all

# As many jobs as processors, unless the command line says otherwise.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -r --no-print-directory -j$(shell nproc)
endif

.DEFAULT_GOAL := all
.SECONDARY:
.DELETE_ON_ERROR:

# Goals that may find a bare machine: the packages come first, because the parts
# below ask pkg-config for flags while make reads them.
with-setup := run check bench fuzz check-kernel check-kernel-debug soak-kernel vm bench-kernel
before-setup := $(and $(filter $(with-setup) setup,$(MAKECMDGOALS)),$(if $(SETUP),,yes))
ifdef before-setup
.NOTPARALLEL:
.PHONY: $(MAKECMDGOALS)
$(filter $(with-setup),$(MAKECMDGOALS)):
	@tools/setup $@
	@$(MAKE) SETUP=done $@
$(filter-out $(with-setup) setup,$(MAKECMDGOALS)):
	@$(MAKE) SETUP=done $@
setup:
	@tools/setup all
else

all-targets :=
tests-c     :=
tests-sh    :=
# names in tests-c that run under the thread sanitizer too
tests-tsan  :=
# scripts in tests-sh that run on the sanitized programs too
tests-sh-san :=
# what the guests of tests/vm run: tests, programs for /bin, benches
vm-tests    :=
vm-tools    :=
vm-benches  :=
# scripts that boot guests, and how many at once
vm-checks   :=
vm-jobs     := 1
fuzzers     :=
replays     :=
benches     :=
# CUDA programs; without nvcc there are none
tests-cuda   :=
benches-cuda :=
# what `make install` puts in place, beside the libraries and programs below
install-bin :=
install-lib :=
install-headers :=
# those of PREFIX/include/pagedkv
install-headers-pagedkv :=
install-man :=
install-pc  :=

# One short line a step; V=1 shows the commands.
say = $(if $(V),,@printf '  %-4s %s\n' $(1) $@;)

# objects: $(call obj,SOURCES)
obj = $(patsubst %.cu,$(O)/%.cu.o,$(patsubst %.c,$(O)/%.o,$(1)))

# What is built for a GPU alone can do without most packages.
setup-of := $(if $(filter check-gpu bench-gpu,$(MAKECMDGOALS)),gpu,build)

$(O)/%.o: %.c | $(O)/.setup-$(setup-of)
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(ALL_CFLAGS) $(cflags-$(<D)) $(cflags-$<) -c -o $@ $<

$(O)/%.cu.o: %.cu | $(O)/.setup-$(setup-of)
	@mkdir -p $(@D)
	$(call say,NVCC)$(NVCC) $(NVCC_FLAGS) $(cflags-$(<D)) $(cflags-$<) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

# One readable line about missing packages instead of a missing header.
$(O)/.setup-%:
	@mkdir -p $(@D)
	@tools/setup --check $*
	@touch $@

# $(eval $(call static-lib,NAME,SOURCES)) -> $(O)/lib/libNAME.a
define static-lib
$(O)/lib/lib$(1).a: $(call obj,$(2))
	@mkdir -p $$(@D)
	@rm -f $$@
	$$(call say,AR)$(AR) rcs $$@ $$^
all-targets += $(O)/lib/lib$(1).a
deps += $(patsubst %.o,%.d,$(call obj,$(2)))
endef

# $(eval $(call shared-lib,NAME,SONAME,SOURCES,MAPFILE,LDLIBS)) -> $(O)/lib/libNAME.so, installed
define shared-lib
$(O)/lib/lib$(1).so.$(VERSION): $(call obj,$(3)) $(4)
	@mkdir -p $$(@D)
	$$(call say,LD)$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,$(2) -Wl,--version-script=$(4) \
		-Wl,-Bsymbolic-functions $(if $(SAN),,-Wl$(comma)--no-undefined) -o $$@ $(call obj,$(3)) $(5)
$(O)/lib/$(2) $(O)/lib/lib$(1).so: $(O)/lib/lib$(1).so.$(VERSION)
	@ln -sf $$(<F) $$@
all-targets += $(O)/lib/lib$(1).so $(O)/lib/$(2)
install-lib += $(O)/lib/lib$(1).so.$(VERSION) $(O)/lib/$(2) $(O)/lib/lib$(1).so
deps += $(patsubst %.o,%.d,$(call obj,$(3)))
endef

# $(eval $(call program,NAME,SOURCES,STATIC-LIBS,LDLIBS)) -> $(O)/bin/NAME, installed
define program-at
$(O)/$(1): $(call obj,$(2)) $(3:%=$(O)/lib/lib%.a)
	@mkdir -p $$(@D)
	$$(call say,LD)$(CC) $(ALL_LDFLAGS) -o $$@ $(call obj,$(2)) $(3:%=$(O)/lib/lib%.a) $(4)
deps += $(patsubst %.o,%.d,$(call obj,$(2)))
endef
define program
$(call program-at,bin/$(1),$(2),$(3),$(4))
all-targets += $(O)/bin/$(1)
install-bin += $(O)/bin/$(1)
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

# $(eval $(call cuda-test,NAME,SOURCES,STATIC-LIBS,LDLIBS)): a program that prints TAP and skips where
# there is no GPU, linked with libpagedkv_cuda.a; $(eval $(call cuda-bench,...)): the like of bench.
# Compiled wherever nvcc is.
define cuda-program
ifneq ($(CUDA),)
$(call program-at,$(1),$(2),$(3) pagedkv_cuda,$(4) $(CUDA_LIBS))
endif
endef
define cuda-test
$(call cuda-program,tests/$(1),$(2),$(3),$(4))
tests-cuda += $(if $(CUDA),$(O)/tests/$(1))
endef
define cuda-bench
$(call cuda-program,bench/$(1),$(2),$(3),$(4))
benches-cuda += $(if $(CUDA),$(O)/bench/$(1))
endef

# $(eval $(call pc-file,NAME,SOURCE,SED-ARGUMENTS)) -> $(O)/lib/pkgconfig/NAME.pc, installed. Written
# anew when it would differ: PREFIX may be another one each time.
define pc-file
$(O)/lib/pkgconfig/$(1).pc: $(2) VERSION FORCE
	@mkdir -p $$(@D)
	@sed -e 's|@PREFIX@|$$(PREFIX)|' -e 's|@LIBDIR@|$$(LIBDIR)|' -e 's|@VERSION@|$$(VERSION)|' $(3) \
		$$< >$$@.$$$$$$$$ && if cmp -s $$@.$$$$$$$$ $$@; then rm $$@.$$$$$$$$; else mv $$@.$$$$$$$$ $$@; fi
install-pc += $(O)/lib/pkgconfig/$(1).pc
endef
FORCE:
.PHONY: FORCE

# $(eval $(call kernel-test,NAME,SOURCES,LDLIBS)): a kselftest program, static, that the guests of
# tests/vm run. The harness comes from the kernel's source when it is first built.
kselftest-h := build/vm/kselftest/kselftest_harness.h
define kernel-test
$(call program-at,vm/tests/$(1),$(2),,-static $(3))
$(call obj,$(2)): | $(kselftest-h)
vm-tests += $(O)/vm/tests/$(1)
endef

# $(eval $(call fuzz-target,NAME,SOURCES,CORPUS,LDLIBS)): a libFuzzer program under $(O)/fuzz,
# and under $(O)/replay a plain one that takes each file of the corpus once and prints TAP.
# SOURCES are all that is linked, because all of it has to be instrumented.
define fuzz-target
$(O)/fuzz/$(1): $(patsubst %.c,$(O)/fuzz/obj/%.o,$(2))
	$$(call say,LD)$(FUZZ_CC) -pthread -fsanitize=fuzzer,$(FUZZ_SAN) -o $$@ $$^ $(4)
$(O)/replay/$(1).main.o: tests/fuzz/replay.c tests/fuzz/build.mk
	@mkdir -p $$(@D)
	$$(call say,CC)$(CC) $(ALL_CFLAGS) -DFUZZ_NAME='"$(1)"' -DFUZZ_CORPUS='"$(CURDIR)/$(3)"' -c -o $$@ $$<
$(O)/replay/$(1): $(O)/replay/$(1).main.o $(call obj,$(2))
	$$(call say,LD)$(CC) $(ALL_LDFLAGS) -o $$@ $$^ $(4)
fuzzers += $(O)/fuzz/$(1)
replays += $(O)/replay/$(1)
deps += $(patsubst %.c,$(O)/fuzz/obj/%.d,$(2)) $(patsubst %.o,%.d,$(call obj,$(2))) $(O)/replay/$(1).main.d
endef
$(O)/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)$(FUZZ_CC) $(FUZZ_CFLAGS) $(cflags-$(<D)) $(cflags-$<) -c -o $@ $<

parts := kmod libpagedkv kernels runtime tools tests
-include $(wildcard $(parts:%=%/build.mk) tests/*/build.mk)
-include $(deps)

all: $(all-targets)
	@$(if $(CUDA)$(SAN),:,echo 'no nvcc: without CUDA')

run: all
	@$(O)/bin/pagedkv run --report $(O)/report.svg $(ARGS)
	@echo "picture: $(O)/report.svg"

# The suite, then the same under the sanitizers, then the module in guests; one count at the end.
# SETUP=none leaves the packages alone.
O_SAN  := $(O)/address-undefined
O_TSAN := $(O)/thread
check:
	@$(MAKE) all tests
	@$(MAKE) SAN=address,undefined O=$(O_SAN) all tests replays
	@$(MAKE) SAN=thread O=$(O_TSAN) tests-tsan
	@tests/run \
		O=$(O) $(tests-c) $(tests-cuda) $(tests-sh) \
		O=$(O_SAN) $(tests-c:$(O)/%=$(O_SAN)/%) $(replays:$(O)/%=$(O_SAN)/%) $(tests-sh-san) \
		O=$(O_TSAN) $(addprefix $(O_TSAN)/tests/,$(tests-tsan)) \
		O=$(O) JOBS=$(vm-jobs) $(vm-checks)

tests: $(tests-c) $(tests-cuda)
tests-tsan: $(addprefix $(O)/tests/,$(tests-tsan))
replays: $(replays)
tests tests-tsan replays:
	@:

# On the GPU; no other package than gcc, make and CUDA is needed.
check-gpu: $(tests-cuda)
	@$(if $(CUDA),:,echo '$@: no nvcc' >&2; exit 1)
	@tests/run O=$(O) JOBS=1 $(tests-cuda) CUDA_TESTS='$(tests-cuda)' tests/kernels/cuda/sanitize.sh

bench-gpu: $(benches-cuda)
	@$(if $(CUDA),:,echo '$@: no nvcc' >&2; exit 1)
	@O=$(O) tests/bench/gpu $(benches-cuda)

bench: all $(benches)
	@O=$(O) tests/bench/run $(benches) $(wildcard tests/bench/*.sh)

fuzz: $(fuzzers)
	@tests/fuzz/run $(FUZZ_SECONDS) $(O)/fuzz $(notdir $(fuzzers))

install-to = $(if $(2),install -d $(DESTDIR)$(1) && cp -Pf $(2) $(DESTDIR)$(1),:)
# they name PREFIX, which may be another one each time
.PHONY: $(install-pc)
install: all $(install-pc)
	$(call install-to,$(PREFIX)/bin,$(install-bin))
	$(call install-to,$(LIBDIR),$(install-lib))
	$(call install-to,$(LIBDIR)/pkgconfig,$(install-pc))
	$(call install-to,$(PREFIX)/include,$(install-headers))
	$(call install-to,$(PREFIX)/include/pagedkv,$(install-headers-pagedkv))
	$(foreach s,1 3 4 5 7 8,$(call install-to,$(PREFIX)/share/man/man$(s),$(filter %.$(s),$(install-man))) &&) :

clean:
	rm -rf build

.PHONY: all run check check-gpu tests tests-tsan replays bench bench-gpu fuzz install clean

endif
