#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What the shared library exports and calls: pagedkv_* only, and nothing that prints or exits.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

lib=$O/lib/libpagedkv.so
[ -e "$lib" ] || skip_all "no shared library built"
forbidden='v?[fd]?printf|puts|fputs|fwrite|putchar|perror|exit|_exit|abort|__assert_fail|__v?[fd]?printf_chk|err|warn|syslog|psignal'

exported() { nm -D --defined-only "$1" | awk '$2 !~ /A/ { sub(/@.*/, "", $3); print $3 }'; }
declared() { grep -oE '\bpagedkv_[a-z0-9_]+\(' libpagedkv/include/pagedkv.h | tr -d '(' | sort -u; }
called() { nm -u "$1" 2>/dev/null | awk '{ sub(/@.*/, "", $2); print $2 }' | sort -u; }

silent "exports pagedkv_* only" eval 'exported "$lib" | grep -v "^pagedkv_"'
check "exports something" eval 'exported "$lib" | grep -q "^pagedkv_"'
silent "exports are declared in the public header" \
	eval 'exported "$lib" | sort | comm -23 - <(declared)'
silent "what the public header declares is exported" \
	eval 'declared | comm -23 - <(exported "$lib" | sort)'
silent "calls nothing that prints or exits" eval 'called "$lib" | grep -xE "$forbidden"'
check "soname is libpagedkv.so.0" eval 'objdump -p "$lib" | grep -q "SONAME *libpagedkv.so.0$"'
for a in libpagedkv libpagedkv_rt; do
	[ -e "$O/lib/$a.a" ] || continue
	silent "$a.a calls nothing that prints or exits" \
		eval 'called "$O/lib/$a.a" | grep -xE "$forbidden"'
done
plan
