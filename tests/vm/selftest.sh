#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The machinery of this folder says what happened in a guest: tests that pass, fail, hang, crash and
# keep silent, a kernel that warns and one that dies, a module that stays. A small module stands in
# for ours.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"
make_tmp
vm=$SRC/tests/vm

# judged NAME WANTED [JUDGE-OPTION...]: what judge makes of the files results and console; WANTED is
# its exit status and its lines without remarks and plan
judged()
{
	local name=$1 wanted=$2 out status
	shift 2
	out=$("$vm/judge" "$@" "$tap_tmp/results" "$tap_tmp/console" 2>&1)
	status=$?
	out="$status $(echo "$out" | grep -vE '^(#|1\.\.)' | sed 's/^\(not \)\?ok [0-9]* - /\1/' | paste -sd '|')"
	if [ "$out" = "$wanted" ]; then ok "$name"; else not_ok "$name" "wanted $wanted
got    $out"; fi
}

# in_guest LINE...: a guest that printed these between its start and its end
in_guest()
{
	printf '%s\n' "@vm module load 0" "$@" "@vm module unload 0" "@vm done" >"$tap_tmp/results"
	echo "[    1.0] vm: start" >"$tap_tmp/console"
}
loads="the module loads|" unloads="|the module unloads|the kernel's log is clean"

in_guest "@vm begin a 9" "TAP version 13" "1..2" "ok 1 x" "ok 2 # SKIP no y" "@vm end a 0"
judged "kselftest's TAP" "0 ${loads}a: x|a: no y # SKIP no y$unloads"
in_guest "@vm begin a 9" "1..1" "ok 1 - x" "1..1" "not ok 1 # SKIP y" "@vm end a 0"
judged "cmocka's TAP, of two groups" "0 ${loads}a: x|a: y # SKIP y$unloads"
in_guest "@vm begin a 9" "1..2" "ok 1 - x" "@vm end a 0"
judged "a broken plan" "1 ${loads}a: x|not a: 1 results of 2 planned$unloads"
in_guest "@vm begin a 9" "1..1" "ok 1 - x" "@vm end a 3"
judged "an unreported error" "1 ${loads}a: x|not a: exit status 3$unloads"
in_guest "@vm begin a 9" "1..0 # SKIP no z" "@vm end a 0"
judged "all skipped" "0 ${loads}a: all # SKIP no z$unloads"
for line in "BUG: KASAN: use-after-free in f" "WARNING: possible circular locking dependency detected" \
	"UBSAN: shift-out-of-bounds in f.c" "unreferenced object 0x1 (size 8)" \
	"INFO: task a:1 blocked for more than 60 seconds." "int3: 0000 [#1] PREEMPT SMP NOPTI"; do
	in_guest
	echo "[    2.0] $line" >>"$tap_tmp/console"
	judged "a kernel that says $line" "1 ${loads}the module unloads|not the kernel warns at start: $line"
done
in_guest
printf '[    2.0] %s\n' "a invoked oom-killer: order=0" "CPU: 1 PID: 2" "Call Trace:" " <TASK>" \
	"Out of memory: Killed process 2 (a)" "Oops: later" >>"$tap_tmp/console"
judged "what a trace is of" \
	"1 ${loads}the module unloads|not the kernel warns at start: Out of memory: Killed process 2 (a)"
check "and what led to it" \
	grep -q "^# .* a invoked oom-killer" <<<"$("$vm/judge" "$tap_tmp/results" "$tap_tmp/console")"
in_guest
printf '[    2.0] %s\n' "a went before" "vm: begin b" "Call Trace:" " f+0x1/0x2" >>"$tap_tmp/console"
judged "a trace alone" "1 ${loads}the module unloads|not the kernel warns at b: Call Trace:"
in_guest
printf '[    2.0] BUG: %0200d\n' 0 >>"$tap_tmp/console"
judged "a long line" "1 ${loads}the module unloads|not the kernel warns at start: BUG: $(printf %0115d 0)"
in_guest
sed -i '1i [    0.1] WARNING: before our time' "$tap_tmp/console"
judged "what the kernel says before" "0 ${loads}the module unloads|the kernel's log is clean"
in_guest "@vm begin a 9" "1..1" && sed -i '/unload\|done/d' "$tap_tmp/results"
judged "a guest that stops" "1 ${loads}not a: the guest stopped: no panic|the kernel's log is clean"
judged "a QEMU that stops" "1 ${loads}not a: the guest stopped: no panic, QEMU's status 1, no disk|the kernel's log is clean" \
	-v qemu="QEMU's status 1, no disk"
judged "a guest that goes on" "1 ${loads}not a: the guest did not end within 5 s|the kernel's log is clean" \
	-v overran=1 -v limit=5
: >"$tap_tmp/results"
: >"$tap_tmp/console"
judged "no guest at all" "1 not the guest stopped early: no panic|not the kernel's log is missing"

in_guest "@vm begin a 9" "1..1" && sed -i '/unload\|done/d' "$tap_tmp/results"
printf '[    2.0] %s\n' "vm: begin a" "Oops: int3: 0000 [#1] PREEMPT SMP NOPTI" "Call Trace:" \
	"Kernel panic - not syncing: Fatal exception" >>"$tap_tmp/console"
judged "a guest that panics" \
	"1 ${loads}not a: the guest stopped: Kernel panic - not syncing: Fatal exception|\
not the kernel warns at a: Oops: int3: 0000 [#1] PREEMPT SMP NOPTI"

# a real one, of each kernel
for kernel in 6.1 6.12; do
	log=$("$vm/images" $kernel 2>&1) && continue
	skip "guests" "$(echo "$log" | tail -n 1)"
	plan
done
for program in qemu-system-x86_64 busybox cpio; do
	command -v $program >/dev/null && continue
	skip "guests" "no $program"
	plan
done

mkdir "$tap_tmp/probe"
echo 'obj-m := vmprobe.o' >"$tap_tmp/probe/Kbuild"
cat >"$tap_tmp/probe/vmprobe.c" <<'END'
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

static ssize_t probe_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	WARN(1, "vmprobe was written to\n");
	return len;
}

static const struct file_operations probe_fops = {
	.owner = THIS_MODULE,
	.write = probe_write,
};

static struct miscdevice probe_dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vmprobe",
	.fops = &probe_fops,
};
module_misc_device(probe_dev);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("warns when written to");
END

# guest_test NAME COMMANDS...
guest_test()
{
	local name=$1
	shift
	{ echo "#!/bin/sh"; printf '%s\n' "$@"; } >"$tap_tmp/$name"
	chmod +x "$tap_tmp/$name"
}
# one that is linked with libraries, too
printf '%s\n' '#include <numa.h>' '#include <stdio.h>' 'int main(void)' \
	'{ printf("1..1\n%sok 1 - two nodes\n", numa_max_node() == 1 ? "" : "not "); }' >"$tap_tmp/nodes.c"
check "a program for the guest" cc -o "$tap_tmp/nodes" "$tap_tmp/nodes.c" -lnuma
guest_test drive 'echo 1..1' 'dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=9 conv=fsync && echo "ok 1 - written"'
guest_test fails 'echo 1..2' 'echo "ok 1 - one"' 'echo "not ok 2 - two"' 'exit 1'
guest_test hangs 'echo 1..1' 'sleep 1000'
guest_test warns 'echo 1..1' 'echo >/dev/vmprobe' 'echo "ok 1 - wrote"'
guest_test crashes 'echo 1..1' 'printf half' 'kill -SEGV $$'
guest_test silent 'exit 0'
guest_test holds 'echo 1..1' 'setsid sleep 1000 </dev/vmprobe >/dev/null 2>&1 &' 'echo "ok 1 - left it open"'

options=()
# boots NAME WANTED KERNEL TEST... [-- COMMAND...]: like judged, but WANTED is a pattern; $options are
# boot's
boots()
{
	local name=$1 wanted=$2 kernel=$3 module pack=() out status
	shift 3
	if ! module=$("$vm/module" "$kernel" "$tap_tmp/probe" 2>&1); then
		not_ok "$name" "$module"
		return
	fi
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		pack+=(-t "$tap_tmp/$1")
		shift
	done
	out=$({ "$vm/initramfs" -m "$module" "${pack[@]}" "$tap_tmp/guest.cpio.gz" &&
		"$vm/boot" -t 90 -m 512 "${options[@]}" "$kernel" "$tap_tmp/guest.cpio.gz" "$@"; } 2>&1)
	status=$?
	log=$out
	out="$status $(echo "$out" | grep -vE '^(#|1\.\.)' | sed 's/^\(not \)\?ok [0-9]* - /\1/' | paste -sd '|')"
	# shellcheck disable=SC2053 # a pattern
	if [[ $out == $wanted ]]; then ok "$name"; else not_ok "$name" "wanted $wanted
got    $out
$log"; fi
}

boots "a guest in order, 6.12" "0 ${loads}nodes: two nodes|drive: written$unloads" 6.12 nodes drive
boots "a command, 6.1" "7 6.1|vmprobe" 6.1 -- 'uname -r | cut -c 1-3; lsmod | cut -d " " -f 1 | tail -n 1; exit 7'
boots "a kernel whose code stays as it is, 6.12" "0 0|/sys/fs/cgroup/first" 6.12 -- \
	'cat /sys/kernel/tracing/options/record-cmd; ls -d /sys/fs/cgroup/f*'
boots "all that goes wrong, 6.1" "1 ${loads}fails: one|not fails: two|not hangs: no end within its time|\
warns: wrote|not crashes: killed by signal 11|not silent: no TAP plan|holds: left it open|\
not the module unloads|not the kernel warns at warns: WARNING: *vmprobe*" \
	6.1 fails hangs=2 warns crashes silent holds
VM_STILL_S=0 boots "a machine that stands still, 6.12" "7 again" 6.12 -- 'echo again; exit 7'
check "is started again" grep -q "started again" <<<"$log"
options=(-e rdinit=/none)
boots "a machine that dies at its boot, 6.12" \
	"1 not ok - the guest stopped early: Kernel panic*|not ok - the kernel's log is missing" 6.12 -- true
check "is started again too" grep -q "started again" <<<"$log"
options=()
died="Kernel panic - not syncing: sysrq triggered crash"
boots "a kernel that dies, 6.12" \
	"1 not ok - command: the guest stopped: $died|not ok - the kernel warns at command: $died" \
	6.12 -- 'echo c >/proc/sysrq-trigger'
plan
