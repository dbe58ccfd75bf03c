#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What `make install` puts in place is what a user's program compiles, links and runs with.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

[ -e "$O/lib/libpagedkv.so" ] || skip_all "no shared library built"
make_tmp
root=$tap_tmp/root
check "make install" make -s O="$O" DESTDIR="$root" PREFIX=/usr install
for f in bin/pagedkv include/pagedkv.h lib/libpagedkv.a lib/libpagedkv.so lib/libpagedkv.so.0 \
	lib/pkgconfig/libpagedkv.pc $(source_files | sed -nE 's|.*/man/([^/]*\.([1-8]))$|share/man/man\2/\1|p'); do
	check "installs $f" test -e "$root/usr/$f"
done
silent "no path of the build in what is installed as text" \
	eval 'grep -rIl -e "$root" -e "$SRC" "$root/usr"'

cat >"$tap_tmp/user.c" <<'EOF'
#include <pagedkv.h>
#include <stdio.h>

int main(void)
{
	return printf("%p\n", (void *)pagedkv_open) < 0;
}
EOF
pc="env PKG_CONFIG_PATH=$root/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
	PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 pkg-config"
check "pkg-config knows its version" \
	eval '[ "$($pc --modversion libpagedkv)" = "$(cat VERSION)" ]'
check "a program links with the shared library" eval \
	'cc -Wall -Werror -o "$tap_tmp/user" "$tap_tmp/user.c" $($pc --cflags --libs libpagedkv) &&
	LD_LIBRARY_PATH=$root/usr/lib "$tap_tmp/user"'
check "the header is C++ too" eval \
	'! command -v g++ || g++ -Wall -Werror -fsyntax-only -x c++ -include pagedkv.h $($pc --cflags libpagedkv) /dev/null'
# the sysroot is for our own paths: the libraries below ours are this system's
check "a program links with the static library" eval \
	'cc -Wall -Werror -o "$tap_tmp/user-static" "$tap_tmp/user.c" -I"$root/usr/include" \
		"$root/usr/lib/libpagedkv.a" $(env PKG_CONFIG_PATH="$root/usr/lib/pkgconfig" \
		pkg-config --static --libs libpagedkv | sed "s/-lpagedkv\b//; s/-L[^ ]*//") &&
	"$tap_tmp/user-static"'

# the CUDA kernels alone, from plain C, with the static library that pkg-config leads to
if [ -e "$O/lib/libpagedkv_cuda.a" ]; then
	cat >"$tap_tmp/cuda.c" <<-'EOF'
	#include <pagedkv/pkv_cuda.h>
	#include <errno.h>

	int main(void)
	{
		int err = pkv_cuda_device_check();

		return err && err != -ENODEV;
	}
	EOF
	check "a C program links with the CUDA kernels" eval \
		'cc -Wall -Werror -o "$tap_tmp/cuda" "$tap_tmp/cuda.c" $($pc --cflags libpagedkv_cuda) \
			"$root/usr/lib/libpagedkv_cuda.a" $(env PKG_CONFIG_PATH="$root/usr/lib/pkgconfig" \
			pkg-config --static --libs libpagedkv_cuda | sed "s/-lpagedkv_cuda\b//") &&
		"$tap_tmp/cuda"'
	check "and with their shared library" eval \
		'cc -Wall -Werror -o "$tap_tmp/cuda" "$tap_tmp/cuda.c" $($pc --cflags --libs libpagedkv_cuda) &&
		LD_LIBRARY_PATH=$root/usr/lib "$tap_tmp/cuda"'
else
	skip "a C program links with the CUDA kernels" "no nvcc"
fi
plan
