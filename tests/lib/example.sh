#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The library as a user gets it: installed, found by pkg-config, and the example of pagedkv(7)
# built against it, shared and static, without a warning.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

make_tmp
# shellcheck disable=SC2154 # set by make_tmp
root=$tap_tmp/root
usr=$root/usr
export PKG_CONFIG_PATH=$usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
export PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
export LD_LIBRARY_PATH=$usr/lib

# The manual's text is the program, with backslashes escaped.
extract()
{
	sed -n '/^\.\\" example begin/,/^\.\\" example end/p' "$1" | grep -v '^\.' | sed 's/\\e/\\/g'
}

flags() { pkg-config "$@" libpagedkv; }

build()
{
	# shellcheck disable=SC2046 # a list of words
	cc -std=gnu11 -Wall -Wextra -Werror -O1 -g $(flags --cflags) -o "$tap_tmp/$1" \
		"$tap_tmp/example.c" "${@:2}"
}

# Ten users come twice: only the first finds nothing, and each finds more the second time.
right_output()
{
	"$1" | awk '
	{ n = $3; want = NR == 1 ? 0 : NR <= 10 ? 128 : 144; if (n != want) bad = 1 }
	END { exit bad || NR != 20 }'
}

links_resolve()
{
	find "$usr/share/man" -xtype l
}

check "make install" make -s install O="${O#"$SRC"/}" DESTDIR="$root" PREFIX=/usr
silent "manual pages that are links lead to a page" links_resolve
check "pkg-config knows the version" test "$(flags --modversion)" = "$(cat VERSION)"
extract "$usr/share/man/man7/pagedkv.7" >"$tap_tmp/example.c"
check "the example is there" test -s "$tap_tmp/example.c"
check "it has no more than 60 lines" test "$(wc -l <"$tap_tmp/example.c")" -le 60
# shellcheck disable=SC2046 # lists of words
check "builds with the shared library" build shared $(flags --libs)
check "runs with the shared library" right_output "$tap_tmp/shared"
check "asks for the soname" eval \
	'objdump -p "$tap_tmp/shared" | grep -q "NEEDED *libpagedkv.so.0$"'
# shellcheck disable=SC2046 # lists of words
check "builds with the static library" \
	build static "$usr/lib/libpagedkv.a" $(env -u PKG_CONFIG_SYSROOT_DIR \
		pkg-config --libs --static libpagedkv | sed 's/-lpagedkv\b//')
check "runs with the static library" right_output "$tap_tmp/static"
if command -v c++ >/dev/null; then
	echo '#include <pagedkv.h>' >"$tap_tmp/header.cc"
	# shellcheck disable=SC2046 # a list of words
	check "the header is C++ too" c++ -Wall -Wextra -pedantic -Werror -fsyntax-only \
		$(flags --cflags) "$tap_tmp/header.cc"
else
	skip "the header is C++ too" "no C++ compiler"
fi
plan
