#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The documents tell the truth: the commands that they show run, the options that they name
# exist, their links lead somewhere.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

documents=$(source_files | grep -E '(^|/)[^/]*\.md$')
pages=$(source_files | grep -E '/man/[^/]*\.[1-8]$')

# text DOCUMENT: a man page as it is read, the rest as it is
text()
{
	case $1 in
	*.[1-8]) mandoc -T utf8 -O width=200 "$1" | sed 's,.\x08,,g' ;;
	*) cat "$1" ;;
	esac
}

# examples DOCUMENT: what it shows to be typed: after "$ " in a man page, in the rest in a fence or
# indented by four
examples()
{
	case $1 in
	*.[1-8]) text "$1" | sed -n 's/^[ \t]*\$ //p' ;;
	*) awk '/^```/ { fence = !fence; next } fence || /^    / { sub(/^ *(\$ )?/, ""); print }' "$1" ;;
	esac
}

# commands: "document: command" for every example that starts with pagedkv or make; capitals
# stand for what the reader puts in, "#" starts a remark
commands()
{
	for d in $documents $pages; do
		examples "$d" | sed -nE 's/[ \t]+#.*//; s/^((build\/bin\/)?pagedkv|make)( |$)/&/p' |
			grep -vE '\b(NAME|FILE)\b' | sed "s|^|$d: |"
	done | awk '{ c = $0; sub(/^[^:]*: /, "", c); if (!seen[c]++) print }'
}

broken_links()
{
	for d in $documents; do
		grep -oE '\]\([^)#: ]+\)' "$d" | tr -d '()]' | while read -r l; do
			[ -e "$(dirname "$d")/$l" ] || echo "$d: $l"
		done
	done
}

unknown_options()
{
	local known
	known=$(for c in "" run status pool "pool show" "pool create" "pool limit" map stat; do
		# shellcheck disable=SC2086 # words
		"$O/bin/pagedkv" $c --help
	done 2>&1 | grep -oE -- '--[a-z][a-z-]*' | sort -u)
	for d in $documents $pages; do
		text "$d" | grep -E 'pagedkv (run|status|pool|map|stat)|^[ \t]*-' | grep -oE -- '(^|[^a-z-])--[a-z][a-z-]*' |
			grep -oE -- '--[a-z-]*' | sort -u | comm -23 - <(echo "$known") | sed "s|^|$d: |"
	done
}

silent "links of the documents lead somewhere" broken_links
if [ ! -x "$O/bin/pagedkv" ] || ! command -v mandoc >/dev/null; then
	skip "commands of the documents run" "no pagedkv, or no mandoc"
	plan
fi
silent "options that the documents name exist" unknown_options

make_tmp
while IFS= read -r line; do
	command=${line#*: }
	case $command in
	make*)
		check "$line" make -n -s SETUP=none ${command#make}
		continue
		;;
	*"pagedkv pool "[cld]*)
		skip "$line" "needs the module; tests/vm/admin runs the like"
		continue
		;;
	esac
	file=$(echo "$command" | grep -oE -- '--trace[ =][^ ]+' | cut -c 9-)
	if [ -n "$file" ] && [ ! -e "$file" ]; then
		skip "$line" "no $file here"
		continue
	fi
	# those that look at the module's pools look at a copy of some
	check "$line" env -C "$tap_tmp" PATH="$O/bin:$PATH" PAGEDKV_PROC="$SRC/tests/tools/proc" sh -c "${command#build/bin/}"
done < <(commands)
plan
