#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# `pagedkv status`, `pool`, `map` and `stat` on a copy of /proc/pagedkv (tests/tools/proc): what they
# say is what its files say, and whatever is in the files, they end with one line of cause or none.
# Real pools are in tests/vm/admin.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"
make_tmp
pagedkv=$O/bin/pagedkv
case $pagedkv in /*) ;; *) pagedkv=$SRC/$pagedkv ;; esac
fixture=$SRC/tests/tools/proc
export PAGEDKV_PROC=$fixture LANG=C.UTF-8 TERM=xterm
unset NO_COLOR

# says NAME PATTERN ARGUMENT...: exit 0, nothing on stderr, a line like PATTERN, blanks squeezed
says()
{
	local name=$1 pattern=$2 out
	shift 2
	if out=$("$pagedkv" "$@" 2>&1 >"$tap_tmp/out") && [ -z "$out" ] &&
		tr -s ' ' <"$tap_tmp/out" | grep -qE -- "$pattern"; then
		ok "$name"
	else
		not_ok "$name" "pagedkv $*: wanted $pattern
$out
$(cat "$tap_tmp/out")"
	fi
}

# refuses STATUS WORDS ARGUMENT...: one line on stderr, with WORDS in it
refuses()
{
	local wanted=$1 words=$2 status lines
	shift 2
	timeout 60 "$pagedkv" "$@" >"$tap_tmp/out" 2>"$tap_tmp/err" </dev/null
	status=$?
	lines=$(wc -l <"$tap_tmp/err")
	if [ $status = "$wanted" ] && [ "$lines" = 1 ] && grep -qF -- "$words" "$tap_tmp/err"; then
		ok "pagedkv $*: $words"
	else
		not_ok "pagedkv $*: $words" "status $status, $lines lines
$(cat "$tap_tmp/err" "$tap_tmp/out")"
	fi
}

says "status: the version" '^pagedkv 0\.1\.0 on Linux ' status
says "status: a tier's slots and bytes" '^device 2176 1476 68 % 40 64\.2 MiB 44\.4 MiB$' status
says "status: pools" '^pools 2 \(1 persistent\), 3 clients, 3 sequences$' status
says "status: users" '^root 1 1 0 B$' status
says "status: what is wrong" '^warning: pool llama: the disk tier of class 0 is readonly$' status
says "status in JSON: exact bytes" '^ "host_bytes": 16777216' status --json
says "pool: a line a pool" '^ ?3 llama .* 0640 yes 2 1412/2048 500/512 0/4096 16\.0 MiB$' pool
says "pool list" '^ ?4 - root root 0600 no 1 64/128 0/0 0/0 0 B$' pool list
says "pool in JSON" '^ "name": null' pool --json
says "pool show by name" '^ fingerprint 00000000deadbeef$' pool show llama
says "pool show by id" '^ sequences 3, 21908 tokens: 2 running, 1 cold, 1 pinned$' pool show 3
says "pool show: limits" '^ disk 4096 0 0 % 2048 4096 0 0 128\.0 MiB readonly$' pool show llama
says "pool show: files" '^ kv\.0 64\.0 GiB 00000000deadbeef 1001$' pool show llama
says "pool show: files in JSON" '^ "bytes": 68719476736' pool show llama --json
says "pool show: a second class" '^class 1: pages of 8 tokens$' pool show 4
says "pool show in JSON" '^ "page_bytes": 32768' pool show llama --json
says "map: runs" '^ ?0 1032-1071 1032-1071 0-39 - 0 cached yes$' map llama
says "map: their sum" '^1534 pages in 7 runs$' map llama
says "map --tier" '^500 pages in 3 runs$' map llama --tier host
says "map --state" '^1033 pages in 3 runs$' map --state held llama
says "map --shared --published" '^32 pages in 1 runs$' map llama --shared --published
says "map --seq: parts of runs" '^ ?0 1000-1015 1000-1015 - - 4 held yes$' map llama --seq 0.1
says "map --seq: their sum" '^1016 pages in 2 runs$' map llama --seq 0.1
says "map --seq --tier: slots too" '^ ?0 1080-1089 1080-1089 48-57 - 1 idle no$' \
	map llama --seq 2.1 --tier host
says "map --grid" '^device: 1412 of 2048 slots: 1001 held, 32 shared, 338 idle, 40 cached, 1 moving$' \
	map llama --grid
says "map --grid: a row" '^ H{58}S{6}$' map llama --grid
says "map in JSON" '^ \{"class":0,"pages":\[1500,1621\],"device":null,"host":\[390,511\],"disk":null,' \
	map llama --json
says "stat" '^moved_device_host 700$' stat
says "stat: what a later module tells" '^later_counter 5$' stat
says "stat in JSON" '^ "allocs": 5000' stat --json
says "stat INTERVAL COUNT" '^ 3 2 1 0 0 0' stat 0.01 2
says "stat INTERVAL COUNT in JSON" '^\{"seconds":0\.0.*"now":\{"pools":2,.*"allocs":0\.0' stat 0.01 1 --json
for c in status pool "pool show" "pool create" "pool limit" "pool destroy" map stat; do
	# shellcheck disable=SC2086 # words
	says "$c --help" "^usage: pagedkv $c " $c --help
done

# a terminal: in colour, no line wider than it
if command -v script >/dev/null; then
	script -qec "stty cols 60; '$pagedkv' map llama" /dev/null | tr -d '\r' >"$tap_tmp/tty"
	check "on a terminal, a picture in colour" eval \
		'grep -q "$(printf "\033\\[34m█")" "$tap_tmp/tty"'
	silent "as wide as the terminal" eval \
		'sed "s/\x1b\[[0-9]*m//g" "$tap_tmp/tty" | grep -E "^  .{57}"'
	script -qec "NO_COLOR=1 '$pagedkv' map llama" /dev/null >"$tap_tmp/tty"
	check "without colour where it is not wanted" eval '! grep -q "$(printf "\033")" "$tap_tmp/tty"'
else
	skip "on a terminal" "no script"
fi

refuses 2 "POOL is missing" map
refuses 2 "one argument too many" map llama 4
refuses 2 "'--bogus'" status --bogus
refuses 2 "'extra'" status extra
refuses 2 "'-x'" pool -x
refuses 2 "'walk'" pool walk
refuses 2 "--tier: 'tape'" map llama --tier tape
refuses 2 "index.generation" map llama --seq 7
refuses 1 "no sequence '7.7'" map llama --seq 7.7
refuses 2 "exclude each other" map llama --json --grid
refuses 2 "INTERVAL: '0'" stat 0
refuses 2 "INTERVAL: '-'" stat -
refuses 2 "COUNT: '0'" stat 1 0
refuses 2 "NAME is missing" pool create
refuses 2 "--device-pages has" pool create x
refuses 2 "--page-bytes has" pool create x --device-pages 5
refuses 2 "--mode: '0777'" pool create x --mode 0777
refuses 2 "--fingerprint: '0x1'" pool create x --fingerprint 0x1
refuses 2 "no user 'nobody-here'" pool create x --device-pages 5 --page-bytes 4K --owner nobody-here
refuses 2 "--low-pct is above" pool create x --device-pages 5 --page-bytes 4K --low-pct 9
refuses 2 "no limit is given" pool limit llama
refuses 2 "'513' is more than the 512" pool limit llama --host-pages 513
refuses 2 "no class 1" pool limit llama --class 1 --host-pages 5
refuses 1 "without a name" pool limit 4 --device-pages 5
refuses 1 "no pool 'nix'" map nix
refuses 1 "no pool '99'" pool show 99
if [ ! -e /dev/pagedkv ]; then
	refuses 1 "modprobe pagedkv" pool limit llama --host-pages 12
	refuses 1 "modprobe pagedkv" pool destroy llama
fi
if [ ! -e /proc/pagedkv ]; then
	PAGEDKV_PROC=
	for c in status pool "map x" stat; do
		# shellcheck disable=SC2086 # words
		refuses 1 "the module is not loaded: there is no /proc/pagedkv ('modprobe pagedkv'" $c
	done
fi
export PAGEDKV_PROC=$tap_tmp/missing
refuses 1 "missing: No such file" status

# broken FILE WORDS ARGUMENT...: a copy of the fixture with stdin as FILE
broken()
{
	local file=$1 words=$2
	shift 2
	rm -rf "$tap_tmp/proc"
	cp -r "$fixture" "$tap_tmp/proc"
	cat >"$tap_tmp/proc/$file"
	PAGEDKV_PROC=$tap_tmp/proc refuses 1 "$words" "$@"
}
limits=$(cat "$fixture/3/limits")
maps=$(head -n 1 "$fixture/3/maps")
broken version "has no version" status </dev/null
broken tiers "tiers: is empty" status </dev/null
broken pools "line 1 has no column name" pool <<<"id uid"
broken pools "line 2 has 3 words of 9" pool <<<"$(head -n 1 "$fixture/pools")
3 llama 1001"
broken pools "is longer than" pool < <(tr '\0' 'x' </dev/zero | head -c 5000)
broken pools "is cut short" pool < <(head -c 100 "$fixture/pools")
broken pools "is not text" pool <<<"$(printf 'id \033[31m\n')"
broken pools "is not text" status < <(head -c 300 /dev/urandom | tr -d '\n\0'; echo)
broken pools "has a name of more than 63" pool < <(head -n 1 "$fixture/pools"
	echo "3 $(printf 'x%.0s' {1..64}) 0 0 0600 0 1 1 0")
broken stat "which is not a number" stat <<<"allocs 99999999999999999999999"
broken stat "which is not a number" stat --json <<<"allocs -1"
broken 3/limits "more slots in use" pool show llama <<<"${limits/1412/9999}"
broken 3/limits "'9', which is not a number up to 3" pool show llama <<<"${limits/$'\n'0 host/$'\n'9 host}"
broken 3/limits "'4294967296'" pool <<<"${limits/2048/4294967296}"
broken 3/maps "which is not a range" map llama <<<"$maps
0 5-4 0-1 - - 1 held 0"
broken 3/maps "has '0-1' slots for '0-2' pages" map llama <<<"$maps
0 0-2 0-1 - - 1 held 0"
broken 3/tables "has no pages" map llama --seq 0.1 <<<"sequence class entries pages
0.1 0 0-5 -"
broken 3/sequences "which is not a sequence" pool show llama <<<"$(head -n 1 "$fixture/3/sequences")
x 7 0 running 16000 1000 1 0"

broken 3/files "'x', which is not a number" pool show llama <<<"$(head -n 1 "$fixture/3/files")
kv.0 x 0 0"

# what is odd and yet good
odd()
{
	rm -rf "$tap_tmp/proc"
	cp -r "$fixture" "$tap_tmp/proc"
}
export PAGEDKV_PROC=$tap_tmp/proc
odd
sed -i 's/$/ more/' "$tap_tmp/proc/3/maps" "$tap_tmp/proc/pools" "$tap_tmp/proc/3/limits"
says "columns of a later module" '^1534 pages in 7 runs$' map llama
odd
sed -i 's/ cached / frozen /' "$tap_tmp/proc/3/maps"
says "a state of a later module" ' frozen yes$' map llama
says "and in a picture" '40 other$' map llama --grid
odd
sed -i 's/ page_tokens.*//; s/ [0-9]* [0-9]*$//' "$tap_tmp/proc/3/limits"
says "limits of an earlier module" '^class 0$' pool show llama
odd
rm "$tap_tmp/proc/3/files"
says "a module that keeps no files" '^class 0: ' pool show llama
odd
rm -r "$tap_tmp/proc/3"
says "a pool that goes meanwhile" '^pools 1 ' status
says "and in the list" '^ ?4 - ' pool
odd
{ echo "$maps"; echo "0 0-4294967294 0-4294967294 4294967294 - 1 held 0"; } |
	sed 's/ 4294967294 - / - - /' >"$tap_tmp/proc/3/maps"
says "as many pages as numbers can tell" '^device: 2048 of 2048 slots' map llama --grid
odd
sed -i 's/32768$/9223372036854775807/' "$tap_tmp/proc/3/limits"
says "as many bytes" '8\.0 EiB' status
says "and in JSON" '"bytes": 9223372036854775807' status --json
odd
mkfifo "$tap_tmp/fifo" && mv -f "$tap_tmp/fifo" "$tap_tmp/proc/stat"
refuses 1 "is not a regular file" stat
if [ "$(id -u)" != 0 ]; then
	odd
	chmod 0 "$tap_tmp/proc/3/maps"
	refuses 1 "3/maps: Permission denied" map llama
	chmod 600 "$tap_tmp/proc/3/maps"
fi
export PAGEDKV_PROC=$fixture
for c in status "map llama" "map llama --json" "stat 0.01 2"; do
	# shellcheck disable=SC2086 # words
	err=$("$pagedkv" $c 2>&1 >/dev/full)
	status=$?
	if [ $status = 1 ] && [ "$(echo "$err" | wc -l)" = 1 ] && [ -n "$err" ]; then
		ok "$c: a full stdout is an error"
	else
		not_ok "$c: a full stdout is an error" "status $status: $err"
	fi
done
plan
