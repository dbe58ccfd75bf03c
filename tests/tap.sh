# SPDX-License-Identifier: GPL-2.0-only
# For shell tests: . "$SRC/tests/tap.sh", then any of these; the plan comes last.
# SRC is the source tree and O the build folder, both absolute; a test run by hand finds them.
# shellcheck shell=bash
set -u
SRC=${SRC:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
O=${O:-$SRC/build}
cd "$SRC" || exit 1

tap_n=0
tap_failed=0
tap_tmp=

# ok NAME [DETAIL]
ok()
{
	tap_n=$((tap_n + 1))
	echo "ok $tap_n - $1"
}

# not_ok NAME [DETAIL]: the detail, of any number of lines, goes under it
not_ok()
{
	tap_n=$((tap_n + 1))
	tap_failed=$((tap_failed + 1))
	echo "not ok $tap_n - $1"
	[ -z "${2:-}" ] || printf '%s\n' "$2" | head -n 100 | sed 's/^/# /'
}

# skip NAME REASON
skip()
{
	tap_n=$((tap_n + 1))
	echo "ok $tap_n - $1 # SKIP $2"
}

# skip_all REASON
skip_all()
{
	echo "1..0 # SKIP $1"
	exit 0
}

# check NAME COMMAND...: passes when the command does
check()
{
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then ok "$name"; else not_ok "$name" "$out"; fi
}

# silent NAME COMMAND...: passes when the command finds nothing to say
silent()
{
	local name=$1 out
	shift
	out=$("$@" 2>&1)
	if [ -z "$out" ]; then ok "$name"; else not_ok "$name" "$out"; fi
}

# Sets $tap_tmp to a folder that goes away at exit.
make_tmp()
{
	tap_tmp=$(mktemp -d "${TMPDIR:-/tmp}/pagedkv-test.XXXXXX") || exit 1
	trap 'rm -rf "$tap_tmp"' EXIT
}

# Source files, tracked or about to be: what a clone would have, and this checkout too.
source_files()
{
	if git -C "$SRC" rev-parse --git-dir >/dev/null 2>&1; then
		git ls-files -co --exclude-standard -- "$@" | sort -u |
			while IFS= read -r f; do [ ! -f "$f" ] || echo "$f"; done
	else
		find "${@:-.}" -name build -prune -o -type f -print 2>/dev/null | sed 's,^\./,,' | sort
	fi
}

plan()
{
	echo "1..$tap_n"
	[ $tap_failed = 0 ]
	exit
}
