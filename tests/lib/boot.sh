# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What scripts share that boot Debian's kernel: . "$(dirname "$0")/../lib/boot.sh" NAME begins one that
# has a folder of that name for its files, $work.  'bad' is the status in the end.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
area=$1
build=${BUILD:-build}
work=$build/tests/boot/$area	# not absolute: a path in the initramfs's list has no spaces
PATH=$PATH:/usr/sbin:/sbin
bad=0
mkdir -p "$work"

skip() { echo "$*"; exit 77; }

# need PACKAGE PROGRAM...: they are in that package.
need() {
	local package=$1 program
	shift
	for program in "$@"; do
		command -v "$program" >/dev/null || skip "needs $program (Debian package $package)"
	done
}

# debian_kernel FLAVOUR [MODULE...]: sets 'kernel'; the modules are beside it.
debian_kernel() {
	local flavour=$1 module
	shift
	kernel=$(tools/kernel.sh "$flavour" 2>"$work/kernel.err") ||
		skip "no kernel: $(tail -n 1 "$work/kernel.err")"
	for module in "$@"; do
		[ -f "${kernel%/*}/$module.ko" ] || skip "no $module.ko beside $kernel"
	done
}

# initramfs [LINE...]: $work/cpio, with the kernel's modules and those files (see tools/mkinitramfs.c).
initramfs() {
	{
		tools/modules.sh "$kernel"
		[ $# = 0 ] || printf '%s\n' "$@"
	} >"$work/list"
	tools/initramfs.sh "$work/cpio" "$work/list" 2>"$work/initramfs.err" ||
		skip "no initramfs: $(tail -n 1 "$work/initramfs.err")"
}

ok() { echo "ok $area/$1"; }

fail() {
	echo "not ok $area/$1${2:+: $2}"
	bad=1
}

# check CASE COMMAND...: that it succeeds; what it said is shown if not.
check() {
	local name=$1
	shift
	if "$@" >"$work/check.log" 2>&1; then
		ok "$name"
	else
		tail -n 5 "$work/check.log"
		fail "$name" "$*"
	fi
}
