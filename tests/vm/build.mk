# SPDX-License-Identifier: GPL-2.0-only
# The module in real kernels, in guests that QEMU runs. What they run, for any build.mk to add to:
#	vm-tests    programs or sh scripts that print TAP (kernel-test adds its program)
#	vm-tools    programs for the guest's /bin
#	vm-benches  programs that print figures
VM_KERNELS ?= 6.1 6.12
VM_KERNEL  ?= 6.12
SOAK_SECONDS ?= 180

vm-tests += tests/vm/main_job tests/vm/pressure_job tests/vm/admin

vm-tools += $(if $(wildcard tools/run.c),$(O)/bin/pagedkv)
# what tests/vm/admin looks at is in use
cflags-tests/vm := -Ilibpagedkv/include
$(eval $(call program-at,vm/bin/pool_user,tests/vm/pool_user.c,pagedkv,-lnettle))
vm-tools += $(O)/vm/bin/pool_user

# A part of check too, where what can't be had here is skipped. A guest has two processors: beside
# anything else it would be late.
vm-checks += tests/vm/selftest.sh $(VM_KERNELS:%=tests/vm/kernel-%.sh)
vm-jobs := $(shell n=$$(nproc); echo $$((n < 6 ? 1 : 2)))

check-kernel:
	@tests/run O=$(O) VM_NEEDED=1 JOBS=$(vm-jobs) $(vm-checks)

# FUZZ_SECONDS on the command line changes it
check-kernel-debug: FUZZ_SECONDS = 600
check-kernel-debug:
	@tests/run O=$(O) VM_NEEDED=1 FUZZ_SECONDS=$(FUZZ_SECONDS) tests/vm/kernel-debug.sh

# everything at once, for longer than a check can wait
soak-kernel:
	@for k in $(VM_KERNELS); do \
		O=$(O) VM_NEEDED=1 VM_TESTS=threads THREADS_SECONDS=$(SOAK_SECONDS) \
			VM_TIMEOUT=$$(($(SOAK_SECONDS) * 2 + 300)) tests/vm/check $$k || exit; \
	done

vm:
	@O=$(O) tests/vm/shell $(VM_KERNEL)

bench-kernel:
	@O=$(O) VM_KERNEL=$(VM_KERNEL) tests/bench/run tests/vm/bench

# the lists as goals; made in the recipe, because they may grow after this
vm-lists := vm-tests vm-tools vm-benches
$(vm-lists):
	@$(if $($@),$(MAKE) $($@),:)
$(vm-lists:%=list-%):
	@$(if $($(@:list-%=%)),printf '%s\n' $(abspath $($(@:list-%=%))),:)

$(kselftest-h):
	@tests/vm/kselftest

.PHONY: check-kernel check-kernel-debug soak-kernel vm bench-kernel $(vm-lists) $(vm-lists:%=list-%)
