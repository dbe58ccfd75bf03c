#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The page manager compiles as kernel code, against each kernel whose headers are installed, and
# calls nothing that the kernel doesn't export: linked into a module of its own here, since
# modpost looks at modules only. Sparse looks at it too, where there is one.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

shopt -s nullglob
core=(kmod/core/*.c)
[ ${#core[@]} -gt 0 ] || skip_all "no core"

# build folders of kernels: Module.symvers tells one from the half that several share
kernels=()
for symvers in /lib/modules/*/build/Module.symvers /usr/src/linux-headers-*/Module.symvers; do
	k=$(realpath "$(dirname "$symvers")")
	case " ${kernels[*]:-} " in *" $k "*) ;; *) kernels+=("$k") ;; esac
done
[ ${#kernels[@]} -gt 0 ] || skip_all "no kernel headers"

make_tmp
module=$tap_tmp/module
mkdir "$module"
cp -r kmod/core "$module/"
find "$module" -name '*.[oad]' -delete
cat >"$module/Kbuild" <<EOF
obj-m := pkv_core_check.o
pkv_core_check-y := main.o $(cd kmod && echo core/*.c | sed 's/\.c\b/.o/g')
ccflags-y := -I\$(src) -Wmissing-prototypes -Wshadow
EOF
cat >"$module/main.c" <<'EOF'
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/module.h>
#include "core/core.h"

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("the page manager alone, to see that it links");
EOF

# build KERNEL ARG...: prints what the compiler, objtool, modpost and sparse object to
build()
{
	local k=$1 log=$tap_tmp/log status
	shift
	make -s -C "$k" M="$module" clean >/dev/null 2>&1
	make -C "$k" M="$module" KCFLAGS=-Werror "$@" modules >"$log" 2>&1
	status=$?
	grep -vE 'compiler differs|The kernel was built by|You are using:|Skipping BTF' "$log" |
		grep -iE 'warning|error|undefined' | sed "s|$module/|kmod/|g"
	[ $status = 0 ] || grep -qiE 'warning|error' "$log" || tail -n 20 "$log"
	[ $status != 0 ] || [ -e "$module/pkv_core_check.ko" ] || echo "no module came out"
}

for k in "${kernels[@]}"; do
	silent "compiles and links with $(basename "$k")" build "$k"
	if command -v sparse >/dev/null; then
		silent "sparse is content with $(basename "$k")" build "$k" C=2
	else
		skip "sparse is content with $(basename "$k")" "no sparse"
	fi
done
plan
