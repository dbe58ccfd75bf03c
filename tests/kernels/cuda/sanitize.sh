#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The CUDA tests, at small sizes, under compute-sanitizer: no access out of bounds, no use of what
# was never allocated, no race in shared memory. CUDA_TESTS lists the programs; each ends within
# SANITIZER_TIMEOUT seconds, or has failed. Only kernels of ours are looked at: cuBLAS's take minutes.
. "${SRC:-$(dirname "$0")/../../..}/tests/tap.sh"

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
[ -n "$sanitizer" ] || skip_all "no compute-sanitizer"
[ -n "${CUDA_TESTS:-}" ] || skip_all "no CUDA programs"
make_tmp
export PAGEDKV_TEST_SMALL=1

# The executor's kernels have programs of their own; the tool itself fails in this one (CUDA 13.0:
# "The Sanitizer failed to handle a hardware exception").
skipped="racecheck test_executor"

# look TOOL PROGRAM: under the tool, its log kept where it objects
look()
{
	local log=$tap_tmp/$1.$(basename "$2") options=()
	# asks on purpose for devices, memory and imports that CUDA must refuse
	[ "$1 $(basename "$2")" = "memcheck test_memory" ] && options=(--report-api-errors no)
	timeout -k 5 "${SANITIZER_TIMEOUT:-200}" "$sanitizer" --tool "$1" --kernel-name kns=pagedkv \
		"${options[@]}" --error-exitcode 99 "$2" >"$log" 2>&1
	echo $? >"$log.status"
}

alone=()
for tool in memcheck racecheck; do
	for program in $CUDA_TESTS; do
		case "$tool $(basename "$program")" in
		"$skipped") continue ;;
		# asks how much of the device's memory is free
		*test_memory) alone+=("$tool $program") && continue ;;
		esac
		while [ "$(jobs -rp | wc -l)" -ge 8 ]; do
			wait -n
		done
		look $tool "$program" &
	done
done
wait
for one in "${alone[@]}"; do
	look "${one%% *}" "${one#* }"
done
for tool in memcheck racecheck; do
	for program in $CUDA_TESTS; do
		log=$tap_tmp/$tool.$(basename "$program")
		name="$(basename "$program") under $tool"
		if [ "$tool $(basename "$program")" = "$skipped" ]; then
			skip "$name" "the tool fails"
		elif grep -q '^1\.\.0' "$log"; then
			skip "$name" "no GPU"
		elif [ "$(cat "$log.status")" = 0 ]; then
			ok "$name"
		else
			not_ok "$name" "$(grep -vE '^(ok|#)' "$log")"
		fi
	done
done
plan
