#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Which way the parts depend: Documentation/design.md has the picture; an include that runs the
# other way is a defect.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

# includes FOLDER: "file: header" as written, of every include under it
includes()
{
	source_files "$1" | grep -E '\.(c|h|cu|cuh)$' | while read -r f; do
		sed -nE "s|^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"]*)[>\"].*|$f: \1|p" "$f"
	done
}

# used: "source header" for every object of the build, as the compiler found them, both of this
# tree; through other headers too
used()
{
	find "$O" -name '*.d' ! -path '*/address-undefined/*' ! -path '*/thread/*' \
		! -path '*/fuzz/*' -exec cat {} + |
		sed -e ':a' -e '/\\$/{N;s/\\\n//;ta' -e '}' -e 's/^\([^ ]*\) :/\1:/' |
		awk -v src="$SRC/" 'NF > 1 {
			for (i = 2; i <= NF; i++) {
				sub(src, "", $i)
				if ($i !~ /^\// && $i ~ /\./) print $2, $i
			}
		}' | sort -u | while read -r f h; do [ ! -f "$f" ] || echo "$f: $h"; done
}
all=$(used)
[ -n "$all" ] || skip_all "nothing built"

# never FOLDER PATTERN...: nothing under FOLDER includes a file whose path starts like one of them
never()
{
	local folder=$1
	shift
	echo "$all" | grep "^$folder/" | grep -E ": ($(IFS='|'; echo "$*"))"
}

silent "core includes <linux/...> and its own headers only" \
	eval 'includes kmod/core | grep -vE ": (linux/[a-z0-9_/]+\.h|[a-z_]+\.h)$"'
silent "core's own headers are in core" \
	eval 'includes kmod/core | grep -E ": [a-z_]+\.h$" | while IFS=": " read -r f h; do
		[ -f "kmod/core/$h" ] || echo "$f: $h"; done'
silent "core uses nothing of the user-space parts but the shim" \
	never kmod 'libpagedkv/[^s]' runtime/ kernels/ tools/ tests/
silent "the public header includes no uapi, no kernel header and nothing of ours" \
	eval 'includes libpagedkv/include | grep -E ": (linux/|asm/|uapi/|core|pkv|pagedkv)"'
silent "kernels include nothing of library, runtime, module or tools" \
	never kernels libpagedkv/ runtime/ kmod/ tools/ tests/
silent "CUDA kernels include CUDA's and their own headers only" \
	eval 'includes kernels/cuda | grep -vE ": (pagedkv/(cache|pkv_cuda)\.h|[a-zA-Z_0-9]+\.(h|cuh)|cooperative_groups/[a-z_]+\.h|[a-z_]+)$"
		includes kernels/cuda | grep -E ": (cublas|cudnn)"'
silent "the library includes nothing of runtime, kernels, tools or tests" \
	never libpagedkv runtime/ kernels/ tools/ tests/
silent "runtime uses the library by its public header only, and nothing of module or tools" \
	never runtime kmod/ tools/ tests/ 'libpagedkv/[^i]' libpagedkv/internal
silent "tools use the library by its public header only, and nothing of the module" \
	never tools kmod/ tests/ 'libpagedkv/[^i]' libpagedkv/internal
plan
