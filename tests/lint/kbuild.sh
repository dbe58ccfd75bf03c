#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The module compiles and links against each kernel whose headers are here, without a warning of
# the compiler's, objtool's, modpost's or sparse's, and its packaging says the truth.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

shopt -s nullglob
[ -e kmod/Kbuild ] || skip_all "no module"

# build folders of kernels: Module.symvers tells one from the half that several share; one a release
kernels=()
releases=
for symvers in /lib/modules/*/build/Module.symvers /usr/src/linux-headers-*/Module.symvers \
	build/vm/*/build/Module.symvers; do
	k=$(realpath "$(dirname "$symvers")")
	case " $releases " in *" $(basename "$k") "*) continue ;; esac
	releases="$releases $(basename "$k")"
	kernels+=("$k")
done
[ ${#kernels[@]} -gt 0 ] || skip_all "no kernel headers"

make_tmp
module=$tap_tmp/module
cp -r kmod "$module"
find "$module" \( -name '*.[oad]' -o -name '*.ko' -o -name '*.mod*' -o -name '.*.cmd' \) -delete

# build KERNEL ARG...: prints what the compiler, objtool, modpost and sparse object to
build()
{
	local k=$1 log=$tap_tmp/log status
	shift
	make -s -C "$k" M="$module" clean >/dev/null 2>&1
	make -C "$k" M="$module" KCFLAGS=-Werror CONFIG_DEBUG_INFO_BTF_MODULES= "$@" modules >"$log" 2>&1
	status=$?
	grep -vE 'compiler differs|The kernel was built by|You are using:|Skipping BTF' "$log" |
		grep -iE 'warning|error|undefined' | sed "s|$module/|kmod/|g"
	[ $status = 0 ] || grep -qiE 'warning|error' "$log" || tail -n 20 "$log"
	[ $status != 0 ] || [ -e "$module/pagedkv.ko" ] || echo "no module came out"
}

for k in "${kernels[@]}"; do
	name=$(basename "$k")
	# Debian's headers name the compiler of their kernel
	cc=$(sed -nE 's/^CC *=.*[ )]?(gcc-[0-9]+)$/\1/p' "$k/.kernelvariables" 2>/dev/null)
	if [ -n "$cc" ] && ! command -v "$cc" >/dev/null; then
		skip "compiles and links with $name" "no $cc"
		continue
	fi
	silent "compiles and links with $name" build "$k"
	if ! command -v sparse >/dev/null; then
		skip "sparse is content with $name" "no sparse"
		continue
	fi
	out=$(build "$k" C=2)
	if grep -q 'sparse is not available' "$tap_tmp/log"; then
		skip "sparse is content with $name" "its headers come without what calls sparse"
	else
		silent "sparse is content with $name" printf %s "$out"
	fi
done
# as README.md has an administrator do it, into a folder
into=$tap_tmp/root
check "installs" make -s -C "$module" KDIR="${kernels[-1]}" DESTDIR="$into" \
	CONFIG_DEBUG_INFO_BTF_MODULES= modules_install
check "installs the module" test -n "$(find "$into/lib/modules" -name 'pagedkv.ko*')"
check "installs the rule for its group" test -e "$into/usr/lib/udev/rules.d/60-pagedkv.rules"
check "README.md names this version" grep -q "dkms install pagedkv/$(cat VERSION)" README.md
silent "kernels are told apart in compat.h alone" \
	grep -rnE 'LINUX_VERSION_CODE|linux/version.h' kmod --include=*.[ch] --exclude=compat.h
check "dkms.conf is of this version" grep -q "^PACKAGE_VERSION=\"$(cat VERSION)\"$" kmod/dkms.conf
for std in c99 gnu11; do
	check "the kernel's interface compiles as $std" cc -std=$std -pedantic -Wall -Wextra -Werror \
		-fsyntax-only -x c -idirafter kmod/uapi -include linux/pagedkv.h /dev/null
done
if command -v g++ >/dev/null; then
	check "the kernel's interface compiles as C++" g++ -Wall -Wextra -Werror -fsyntax-only \
		-x c++ -idirafter kmod/uapi -include linux/pagedkv.h /dev/null
fi
plan
