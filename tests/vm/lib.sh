# SPDX-License-Identifier: GPL-2.0-only
# For the scripts of this folder: . "$(dirname "$0")/lib.sh"
# shellcheck shell=bash
set -u -o pipefail
SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
O=${O:-$SRC/build}
# kernels, their headers and what is built for them: fetched and built once, until make clean
VM_DIR=${VM_DIR:-$SRC/build/vm}
# shellcheck disable=SC2034 # used by the others
VM=$SRC/tests/vm
me=$(basename "$0")

# what can't be had here (a package, a program), which a test skips over, unlike a failure
absent=4

die()
{
	echo "$me: $*" >&2
	exit 1
}

not_here()
{
	echo "$me: $*" >&2
	exit $absent
}

# need PROGRAM=PACKAGE...
need()
{
	local p missing=
	for p in "$@"; do
		command -v "${p%%=*}" >/dev/null || missing="$missing ${p#*=}"
	done
	[ -z "$missing" ] || not_here "missing:$missing; 'make setup' installs them"
}

# one_at_a_time NAME: holds a lock to the end of the script; two goals may want the same kernel
one_at_a_time()
{
	mkdir -p "$VM_DIR" || exit 1
	exec 8>"$VM_DIR/.lock-$1"
	flock 8
}

# apt_names PATTERN: packages whose whole name matches, newest version first
apt_names()
{
	command -v apt-cache >/dev/null || not_here "no apt-cache: kernels come from Debian's packages"
	apt-cache search --names-only "^$1\$" | awk '{ print $1 }' | sort -rV
}

# apt_lists PATTERN: sees to it that apt knows packages of that name; root can fetch the lists
apt_lists()
{
	[ -z "$(apt_names "$1")" ] || return 0
	[ "$(id -u)" = 0 ] && apt-get -qq update >/dev/null 2>&1
	[ -n "$(apt_names "$1")" ]
}

# apt_fetch FOLDER PACKAGE...: its .deb files into FOLDER; no root needed, nothing is installed
apt_fetch()
{
	local to=$1 log
	shift
	mkdir -p "$to" || exit 1
	log=$(cd "$to" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$@" 2>&1) ||
		not_here "can't fetch $*: $(echo "$log" | tail -n 1)"
}
