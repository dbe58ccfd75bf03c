#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Which way the parts depend: Documentation/design.md has the picture; an include that runs the
# other way is a defect.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

# includes FOLDER...: "file:line: header" of every include under them
includes()
{
	source_files "$@" | grep -E '\.(c|h|cu|cuh)$' | while read -r f; do
		sed -nE "s|^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"]*)[>\"].*|\1|p" "$f" |
			sed "s|^|$f: |"
	done
}

# resolved FOLDER...: the includes as paths of this tree, where they name a file of it
resolved()
{
	includes "$@" | while IFS=': ' read -r f header; do
		hit=
		for c in "$(dirname "$f")/$header" $(all_headers | grep -E "(^|/)${header//./\\.}$"); do
			[ -f "$c" ] || continue
			hit=$(realpath --relative-to=. "$c")
			break
		done
		[ -z "$hit" ] || echo "$f: $hit"
	done
}

all_headers()
{
	[ -n "${headers:-}" ] || headers=$(source_files | grep -E '\.(h|cuh)$')
	echo "$headers"
}
all_headers >/dev/null

# never FOLDER PATTERN...: no file under FOLDER includes a file whose path matches
never()
{
	local folder=$1
	shift
	resolved "$folder" | grep -E ": ($(IFS='|'; echo "$*"))"
}

silent "core includes <linux/...> and its own headers only" \
	eval 'includes kmod/core | grep -vE ": (linux/[a-z0-9_/]+\.h|[a-z_]+\.h)$"'
silent "core's own headers are in core" \
	eval 'includes kmod/core | grep -E ": [a-z_]+\.h$" | while IFS=": " read -r f h; do
		[ -f "kmod/core/$h" ] || echo "$f: $h"; done'
silent "kmod includes nothing of the user-space parts" \
	never kmod libpagedkv/include runtime/ kernels/ tools/ tests/
silent "the public header includes no uapi, no kernel header and nothing of ours" \
	eval 'includes libpagedkv/include | grep -E ": (linux/|asm/|uapi/|core|pkv)"'
silent "kernels include nothing of library, runtime, module or tools" \
	never kernels libpagedkv/ runtime/ kmod/ tools/ tests/
silent "the library includes nothing of runtime, kernels, tools or tests" \
	never libpagedkv runtime/ kernels/ tools/ tests/
silent "runtime uses the library by its public header only, and nothing of module or tools" \
	never runtime kmod/ tools/ tests/ 'libpagedkv/[^i]' libpagedkv/internal
silent "tools use the library by its public header only, and nothing of the module" \
	never tools kmod/ tests/ 'libpagedkv/[^i]' libpagedkv/internal
plan
