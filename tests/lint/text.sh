#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What holds for every text file: licence line, length, words.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

files=$(source_files)
code=$(echo "$files" | grep -E '\.(c|h|cu|cuh|sh|mk|map|py|awk|gp)$|(^|/)(Makefile|Kbuild)$' ; echo "$files" |
	while read -r f; do head -c 2 "$f" | grep -q '^#!' && echo "$f"; done)
code=$(echo "$code" | sort -u)

licence_of()
{
	case $1 in
	kmod/core/*) echo "GPL-2.0-only OR MIT" ;;
	kmod/uapi/*) echo "(GPL-2.0-only WITH Linux-syscall-note) OR MIT" ;;
	libpagedkv/shim/*) echo "MIT" ;;
	*/build.mk | *.mk | *Makefile) echo "GPL-2.0-only" ;;
	libpagedkv/* | runtime/*) echo "LGPL-2.1-or-later OR MIT" ;;
	kernels/*) echo "MIT" ;;
	*) echo "GPL-2.0-only" ;;
	esac
}

wrong_licences()
{
	echo "$code" | while read -r f; do
		line=$(head -n 1 "$f")
		case $line in '#!'*) line=$(sed -n 2p "$f") ;; esac
		want=$(licence_of "$f")
		case $f in
		*.h | *.cuh | *.map) full="/* SPDX-License-Identifier: $want */" ;;
		*.c | *.cu) full="// SPDX-License-Identifier: $want" ;;
		*) full="# SPDX-License-Identifier: $want" ;;
		esac
		[ "$line" = "$full" ] || echo "$f: not '$full'"
	done
}

long_files()
{
	echo "$code" | while read -r f; do
		n=$(wc -l <"$f")
		[ "$n" -lt 1000 ] || echo "$f: $n lines"
	done
}

long_lines()
{
	echo "$code" | grep -E '\.(c|h|cu|cuh)$' | while read -r f; do
		expand -t 8 "$f" | LC_ALL=C.UTF-8 grep -nE '^.{101,}' | sed "s|^|$f:|"
	done
}

loose_space()
{
	echo "$code" | xargs grep -nE '[ 	]+$' | head
}

spaces_for_tabs()
{
	echo "$code" | grep -E '\.(c|h)$' | xargs grep -nE '^ {8}' | head
}

tabs_for_spaces()
{
	echo "$code" | grep -E '\.(cu|cuh)$' | xargs -r grep -nE '	' | head
}

# in brackets, so that this file doesn't match itself
unfinished='[T]ODO|[F]IXME|\b[X]XX\b|not [i]mplemented'
machine_paths='/[w]ork/|/[h]ome/[a-z]|/[r]oot/'

echo "$files" | grep -q . || { not_ok "there are source files"; plan; }
silent "each file's licence line is its folder's" wrong_licences
silent "no file of 1000 lines" long_files
silent "no line over 100 columns" long_lines
silent "no space at a line's end" loose_space
silent "indented by tabs" spaces_for_tabs
silent "CUDA is indented by spaces" tabs_for_spaces
silent "nothing unfinished by its own words" \
	eval 'echo "$code" | xargs grep -nE "$unfinished"'
silent "no path of one machine" \
	eval 'echo "$files" | grep -vE "\.(svg|bin|png)$" | xargs grep -nIE "$machine_paths"'
if command -v codespell >/dev/null; then
	silent "spelling" eval 'echo "$files" | grep -vE "^(LICENSES|tests/fuzz/corpus)/" |
		xargs codespell --ignore-words tests/lint/words'
else
	skip "spelling" "no codespell"
fi
plan
