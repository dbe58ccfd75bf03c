# SPDX-License-Identifier: GPL-2.0-only
# The pagedkv command. What it is made of but main() is a library, so that tests can link it.
# -iquote: a sched.h of ours must not hide the system's
cflags-tools := -iquote runtime -Ilibpagedkv/include -Ikernels/include
tools-src := $(filter-out tools/pagedkv.c,$(sort $(wildcard tools/*.c)))
$(eval $(call static-lib,pagedkv_tools,$(tools-src)))

install-man += $(sort $(wildcard tools/man/*.8))

# the library for GPUs is beside it, in the build folder and where both are installed
rpath := -Wl$(comma)-rpath$(comma)'$$$$ORIGIN/../lib'
ifneq ($(wildcard tools/run.c),)
$(eval $(call program,pagedkv,tools/pagedkv.c,pagedkv_tools pagedkv_rt pagedkv_kernels pagedkv,$(rt-ldlibs) $(rpath)))
endif
