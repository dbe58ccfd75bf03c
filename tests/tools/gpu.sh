#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# pagedkv run with a GPU as the device: every token as with unlimited memory there, by every way that
# pages take; and without a GPU, or without the library for it, one line that says so.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

pagedkv=$O/bin/pagedkv
make_tmp
export TMPDIR=$tap_tmp

# refuse NAME WORDS PROGRAM ARGUMENT...: exit status 2, one line with WORDS, no output
refuse()
{
	local name=$1 words=$2 status
	shift 2
	timeout 60 "$@" >"$tap_tmp/out" 2>"$tap_tmp/err"
	status=$?
	if [ $status = 2 ] && [ ! -s "$tap_tmp/out" ] && [ "$(wc -l <"$tap_tmp/err")" = 1 ] &&
		grep -qF -- "$words" "$tap_tmp/err"; then
		ok "$name"
	else
		not_ok "$name" "status $status: $(cat "$tap_tmp/err")"
	fi
}

# member NAME: its value in the last report
member()
{
	sed -n "s/^ *\"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" "$tap_tmp/json"
}

# serves NAME ARGUMENT...: all requests, all tokens identical
serves()
{
	local name=$1
	shift
	if timeout 110 "$pagedkv" run --quiet --json "$@" >"$tap_tmp/json" 2>"$tap_tmp/err" &&
		[ "$(member identical)" = true ] && [ ! -s "$tap_tmp/err" ] &&
		[ "$(member finished)" = "$(member requests)" ]; then
		ok "$name"
	else
		not_ok "$name" "$(cat "$tap_tmp/err" "$tap_tmp/json")"
	fi
}

# above NAME MEMBER: of the last report, more than 0
above()
{
	local value
	value=$(member "$2")
	if awk "BEGIN { exit !(${value:-0} > 0) }"; then ok "$1"; else not_ok "$1" "$2: $value"; fi
}

refuse "f32 keys and values on a GPU" "--kv-dtype" \
	"$pagedkv" run --requests 1 --device cuda --kv-dtype f32
if ! timeout 60 "$pagedkv" run --requests 1 --device cuda --no-verify >/dev/null 2>&1; then
	refuse "no GPU: said in one line" "no GPU" "$pagedkv" run --requests 1 --device cuda
	serves "auto takes the CPU then" --requests 4 --device auto
	check "and the report says so" test "$(member device)" = CPU
	skip "the main job on a GPU" "no GPU"
	plan
fi
mkdir "$tap_tmp/bin"
cp "$pagedkv" "$tap_tmp/bin"
refuse "without the library for GPUs it is named" "libpagedkv_gpu.so.0" \
	"$tap_tmp/bin/pagedkv" run --requests 1 --device cuda

small="--requests 24 --max-tokens 512 --seed 3"
# shellcheck disable=SC2086
{
serves "three tiers" $small --device-pages 96 --host-pages 24 --preempt swap --no-prefix-cache
above "pages left the device" swapped_bytes
case $(member device) in
*NVIDIA*) ok "auto takes the GPU" ;;
*) not_ok "auto takes the GPU" "$(member device)" ;;
esac
serves "preemption by recompute" $small --device-pages 96 --preempt recompute --device cuda
above "requests were preempted" preemptions
serves "no disk" $small --device-pages 128 --disk-pages 0
serves "pages of 8" $small --device-pages 200 --page-tokens 8
serves "pages of 64" $small --device-pages 40 --page-tokens 64
serves "parallel samples" --requests 8 --max-tokens 256 --n 4 --device-pages 100
serves "beam search" --requests 6 --max-tokens 256 --beam 4 --device-pages 100
serves "a shared prefix" $small --shared-prefix 64 --device-pages 128
above "prefixes were found" prefix_hit_pct
serves "arrivals over time" $small --rate 200 --device-pages 96
for policy in orca-max orca-pow2 orca-oracle static; do
	serves "policy $policy" --requests 12 --max-tokens 512 --policy $policy --device-pages 256
done
serves "a disk image is made" $small --device-pages 96 --host-pages 24 --disk "$tap_tmp/image"
serves "it is used again" $small --device-pages 200 --host-pages 8 --disk "$tap_tmp/image"
above "pages of the run before were found" prefix_hit_pct
}
serves "--device cpu takes the CPU" --requests 4 --device cpu
check "and the report says so" test "$(member device)" = CPU
refuse "a CPU's disk image is not read by a GPU" image \
	"$pagedkv" run --requests 1 --device cpu --disk "$tap_tmp/image"
plan
