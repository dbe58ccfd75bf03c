#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# `pagedkv run` for real, small: pages swap through all tiers and tokens stay identical, whatever
# the policy and the shape; the report's forms; an image that outlives its run; an end by signal.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"
make_tmp
pagedkv=$O/bin/pagedkv
export TMPDIR=$tap_tmp

# member NAME FILE: a number or word of a JSON report
member()
{
	sed -n "s/^ *\"$1\": \([^,]*\),*$/\1/p" "$2" | head -n 1
}

# serves NAME ARGUMENT...: a job whose tokens are identical to those under unlimited memory
serves()
{
	local name=$1
	shift
	if timeout 110 "$pagedkv" run --quiet --json "$@" >"$tap_tmp/json" 2>"$tap_tmp/err" &&
		[ "$(member identical "$tap_tmp/json")" = true ] && [ ! -s "$tap_tmp/err" ] &&
		[ "$(member finished "$tap_tmp/json")" = "$(member requests "$tap_tmp/json")" ]; then
		ok "$name"
	else
		not_ok "$name" "$(cat "$tap_tmp/err" "$tap_tmp/json")"
	fi
}

# above NAME MEMBER: of the last report, more than 0
above()
{
	local value
	value=$(member "$2" "$tap_tmp/json")
	if awk "BEGIN { exit !(${value:-0} > 0) }"; then ok "$1"; else not_ok "$1" "$2: $value"; fi
}

moved()
{
	if tr -d ' \n' <"$tap_tmp/json" | grep -qE "\"from\":\"$1\",\"to\":\"$2\",\"bytes\":[1-9]"; then
		ok "pages went from $1 to $2"
	else
		not_ok "pages went from $1 to $2" "$(cat "$tap_tmp/json")"
	fi
}

small="--requests 24 --max-tokens 512 --seed 3"
# shellcheck disable=SC2086
{
serves "three tiers" $small --device-pages 96 --host-pages 24 --preempt swap --no-prefix-cache
above "sequences were preempted by swap" preempt_swap
moved device host
moved host disk
moved host device
moved disk device
serves "preemption by recompute" $small --device-pages 96 --preempt recompute
above "sequences were preempted by recompute" preempt_recompute
serves "no disk" $small --device-pages 128 --disk-pages 0
serves "no slower tier" $small --device-pages 128 --host-pages 0 --disk-pages 0
serves "f32, pages of 8, one thread" $small --device-pages 200 --kv-dtype f32 --page-tokens 8 --threads 1
serves "parallel samples" --requests 8 --max-tokens 256 --n 4 --device-pages 100
above "samples share pages" pages_shared_pct
serves "beam search" --requests 6 --max-tokens 256 --beam 4 --device-pages 100
serves "a shared prefix" $small --shared-prefix 64 --device-pages 128
above "it was found" prefix_hit_pct
for policy in orca-max orca-pow2 orca-oracle static; do
	serves "policy $policy" --requests 12 --max-tokens 512 --policy $policy --device-pages 256
done

serves "a disk image is made" $small --device-pages 96 --host-pages 24 --disk "$tap_tmp/image"
serves "it is used again, whatever the run" --requests 24 --max-tokens 512 --seed 3 \
	--device-pages 200 --host-pages 8 --disk "$tap_tmp/image"
above "pages of the run before were found" prefix_hit_pct
}

check "no temporary file stays" test -z "$(find "$tap_tmp" -name 'pagedkv-??????')"

if timeout 60 "$pagedkv" run --requests 4 --quiet --report "$tap_tmp/r.svg" >"$tap_tmp/text" 2>&1 &&
	grep -q '^identical to a run with unlimited memory: yes (4 of 4 requests)$' "$tap_tmp/text" &&
	grep -q '</svg>' "$tap_tmp/r.svg"; then
	ok "the report in words, and its picture"
else
	not_ok "the report in words, and its picture" "$(cat "$tap_tmp/text")"
fi

# The signal comes when the first line of progress says that the job is under way.
coproc job { exec "$pagedkv" run --requests 2000 2>&1 >"$tap_tmp/text"; }
read -r line <&"${job[0]}"
kill -INT "$job_PID"
wait "$job_PID"
status=$?
if [ $status = 130 ] && grep -q '^interrupted' "$tap_tmp/text"; then
	ok "SIGINT ends it with a partial report"
else
	not_ok "SIGINT ends it with a partial report" "status $status after '$line'
$(cat "$tap_tmp/text")"
fi

plan
