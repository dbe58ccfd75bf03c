#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What pagedkv can't use gets exit status 2, one line on stderr that names it, nothing on stdout,
# and no file made or changed.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"
make_tmp
pagedkv=$O/bin/pagedkv
case $pagedkv in /*) ;; *) pagedkv=$SRC/$pagedkv ;; esac
cd "$tap_tmp" || exit 1
mkdir dir
mkfifo fifo
: >empty
printf '1,2\n3,x\n' >bad.csv
printf '{"timestamp": 0, "input_len' >cut.jsonl
head -c 65536 /dev/urandom >garbage
tr '\0' 'x' </dev/zero | head -c 3000000 >long
printf '0,5\n5,0\n' >nothing.csv
before=$(ls -lR --time-style=full-iso . && cat empty bad.csv garbage | cksum)

# refuse WORDS ARGUMENT...: WORDS must be in the one line
refuse()
{
	local words=$1 status lines
	shift
	timeout 60 "$pagedkv" "$@" >"$tap_tmp.out" 2>"$tap_tmp.err" </dev/null
	status=$?
	lines=$(wc -l <"$tap_tmp.err")
	if [ $status = 2 ] && [ "$lines" = 1 ] && [ ! -s "$tap_tmp.out" ] &&
		grep -qF -- "$words" "$tap_tmp.err"; then
		ok "pagedkv $*"
	else
		not_ok "pagedkv $*" "status $status, $lines lines, wanted '$words'
$(cat "$tap_tmp.err" "$tap_tmp.out")"
	fi
	rm -f "$tap_tmp.out" "$tap_tmp.err"
}

# says WORDS ARGUMENT...: exit 0, WORDS on stdout, nothing on stderr
says()
{
	local words=$1 out
	shift
	if out=$("$pagedkv" "$@" 2>&1 >"$tap_tmp.out") && [ -z "$out" ] &&
		grep -qF -- "$words" "$tap_tmp.out"; then
		ok "pagedkv $*"
	else
		not_ok "pagedkv $*" "$out
$(cat "$tap_tmp.out")"
	fi
	rm -f "$tap_tmp.out"
}

says "Commands:" --help
says "Commands:" -h
says "pagedkv $(cat "$SRC/VERSION")" --version
says "--device-pages N" run --help
says "--device-pages N" run -h

refuse "no command"
refuse "'walk'" walk
refuse "'--walk'" --walk
refuse "'more'" --version more
refuse "'--bogus'" run --bogus
refuse "'-x'" run -x
refuse "'extra'" run extra
refuse "--seed" run --seed
refuse "--json" run --json=1
refuse "--requests: '0'" run --requests 0
refuse "--requests: '-1'" run --requests -1
refuse "--requests: '99999999999999999999'" run --requests 99999999999999999999
refuse "--page-tokens: '12'" run --page-tokens 12
refuse "--device-pages: '0'" run --device-pages 0
refuse "--rate: 'fast'" run --rate fast
refuse "paged, orca-max" run --policy best
refuse "--n and --beam" run --n 2 --beam 2
refuse "--shared-prefix" run --shared-prefix 4K
refuse "device tier of 268435456 pages" run --device-pages 256M --page-tokens 1024
refuse "--device-pages 3: the largest request" run --requests 5 --device-pages 3
refuse "kmod" run --backend kmod --requests 1

refuse "missing.csv: can't open" run --trace missing.csv
refuse "dir: is a directory" run --trace dir
refuse "fifo: is a FIFO" run --trace fifo
refuse "empty: is empty" run --trace empty
refuse "bad.csv: line 2" run --trace bad.csv
refuse "cut.jsonl: line 1" run --trace cut.jsonl
refuse "garbage: line 1" run --trace garbage
refuse "long: line 1" run --trace long
refuse "nothing.csv: no request left" run --trace nothing.csv

refuse "dir" run --requests 1 --disk dir
refuse "missing/disk" run --requests 1 --disk missing/disk
refuse "fifo" run --requests 1 --disk fifo
refuse "garbage" run --requests 1 --disk garbage
refuse "dir: is a directory" run --requests 1 --report dir
refuse "missing/x.svg" run --requests 1 --report missing/x.svg
refuse "fifo: is not a regular file" run --requests 1 --report fifo

after=$(ls -lR --time-style=full-iso . && cat empty bad.csv garbage | cksum)
if [ "$before" = "$after" ]; then
	ok "no file was made or changed"
else
	not_ok "no file was made or changed" "$(diff <(echo "$before") <(echo "$after"))"
fi
if "$pagedkv" run --help >/dev/full 2>/dev/null; then
	not_ok "a full stdout is an error"
else
	ok "a full stdout is an error"
fi
plan
