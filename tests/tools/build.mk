# SPDX-License-Identifier: GPL-2.0-only
cflags-tests/tools := -iquote tools -iquote runtime -Ilibpagedkv/include
$(eval $(call test,test_options,tests/tools/test_options.c,pagedkv_tools pagedkv_rt,-lm))
$(eval $(call test,test_report,tests/tools/test_report.c,pagedkv_tools pagedkv_rt,-ljansson -lm))

ifneq ($(wildcard tools/run.c),)
tests-sh     += tests/tools/bad_input.sh tests/tools/gpu.sh tests/tools/run.sh tests/tools/admin.sh
tests-sh-san += tests/tools/bad_input.sh tests/tools/admin.sh
endif
