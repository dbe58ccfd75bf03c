#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The module is in the kernel's own style: checkpatch --strict, out of Debian's kernel source.
# Left out: tracepoints, whose macros it does not know, comparisons of LINUX_VERSION_CODE, which is
# what compat.h is for, and arguments that macros of declarations use twice; in core, which is
# user-space code too, what BIT() of the kernel's type would change, and names that start with E.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

[ -e kmod/Kbuild ] || skip_all "no module"
command -v perl >/dev/null || skip_all "no perl"
scripts=build/vm/checkpatch
if [ ! -e $scripts/checkpatch.pl ]; then
	tarball=$(tests/vm/source 2>/dev/null) || skip_all "no kernel source"
	make_tmp
	top=$(basename "$tarball" .tar.xz)
	tar -C "$tap_tmp" -xf "$tarball" --strip-components=2 --occurrence=1 \
		"$top"/scripts/{checkpatch.pl,spelling.txt,const_structs.checkpatch} ||
		skip_all "no checkpatch in $tarball"
	mkdir -p $scripts && cp "$tap_tmp"/* $scripts/
fi

ignore=LINUX_VERSION_CODE,CONSTANT_COMPARISON,MACRO_ARG_REUSE
in_core=BIT_MACRO,MACRO_WITH_FLOW_CONTROL,UNCOMMENTED_DEFINITION,USE_NEGATIVE_ERRNO

look()
{
	local i=$ignore
	case $1 in kmod/core/*) i=$i,$in_core ;; esac
	perl $scripts/checkpatch.pl --no-tree --strict --terse --no-summary \
		--max-line-length=100 --ignore "$i" -f "$1" 2>/dev/null
}

for f in $(source_files kmod | grep -E '^kmod/([^/]*|uapi/linux/[^/]*|core/[^/]*)\.[ch]$' |
	grep -v '/trace\.h$'); do
	silent "$f" look "$f"
done
plan
