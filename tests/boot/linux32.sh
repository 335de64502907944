#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Debian's 32-bit kernel (i386, without PAE) on the soft engine: translated and interpreted it boots,
# reads a disk, runs 32-bit programs and goes off, and says the same both times; the first
# instructions of its boot are compared in lockstep.  The kernel is fetched with LONG=1 only; where
# it has been, the translated boot is run each time.  LOCKSTEP_SECONDS: how long is compared (400).
set -u
. "$(dirname "$0")/../lib/boot.sh" linux32
if [ -z "${LONG:-}" ]; then
	cache=${VIREO_CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/vireo}
	[ -f "$cache/kernel-686/vmlinuz" ] || skip "LONG=1 fetches Debian's 32-bit kernel"
fi
debian_kernel 686
busybox=$(tools/busybox386.sh 2>"$work/apt.log") || skip "no i386 busybox: $(tail -n 1 "$work/apt.log")"

cat >"$work/programs" <<'END'
uname -m -r
md5sum </dev/vda
seq 1 20000 | sha256sum
head -c 300000 /dev/zero | gzip -9 | sha1sum
seq 1 2000 | sort -n -r | awk '{ s += $1 * $1 } END { print s }'
for i in 1 2 3 4 5 6 7 8; do (echo "3 ^ ($i * 90)" | bc) & done | sort | md5sum
yes | head -n 3000 | bzip2 | xxd | tail -n 1
(exit 5); echo left $?
END
head -c 4M </dev/zero | openssl enc -aes-128-ctr -K 0 -iv 0 2>/dev/null >"$work/disk" ||
	seq 1 500000 >"$work/disk"
truncate -s 4M "$work/disk"
BUSYBOX=$busybox initramfs "file /programs $work/programs 755"

# boot NAME SECONDS OPTIONS...
boot() {
	local name=$1 seconds=$2
	shift 2
	timeout "$seconds" "$build/vireo" run --engine soft "$@" --stats --kernel "$kernel" \
		--initrd "$work/cpio" --disk "$work/disk,format=raw,readonly=on" --memory 256M --no-reboot \
		--cmdline 'console=ttyS0 panic=-1 run="echo BEGIN; sh /programs; echo END"' \
		</dev/null >"$work/$name.log" 2>"$work/$name.err"
}

complains() { grep -E -m 1 'BUG:|WARNING:|Oops|rcu.*stall|Call Trace' "$work/$1.log"; }

whole() {
	local name=$1 start=$SECONDS status
	boot "$name" 800 --translator "$2"
	status=$?
	tr -d '\r' <"$work/$name.log" | sed -n '/^BEGIN$/,/^END$/{/^BEGIN$/d;/^END$/d;p}' >"$work/$name.out"
	if ((status)); then
		fail "$name" "status $status: $(tail -n 1 "$work/$name.err")"
	elif complains "$name" >"$work/complaint"; then
		fail "$name" "$(cat "$work/complaint")"
	elif ! diff "$work/expected" "$work/$name.out" >"$work/diff"; then
		fail "$name" "$(tr '\n' ' ' <"$work/diff")"
	else
		ok "$name ($((SECONDS - start)) s)"
	fi
}

# Ended from outside.
compared() {
	local count status
	boot lockstep "$1" --translator lockstep
	status=$?
	count=$(sed -n 's/^ *\([0-9]*\)  lockstep: instructions compared$/\1/p' "$work/lockstep.err")
	if ((status != 124 && status != 0)) || grep -q differ "$work/lockstep.err"; then
		fail lockstep "status $status: $(grep -m 1 differ "$work/lockstep.err" ||
			tail -n 1 "$work/lockstep.err")"
	elif ((${count:-0} < 10000000)); then
		ok "lockstep # skip too little processor time: ${count:-no} instructions compared"
	else
		ok "lockstep ($count instructions)"
	fi
}

# What this host's programs say of the same; the release is the package's.
{
	echo "$(sed 's/^linux-image-//' "$(dirname "$kernel")/package") i686"
	md5sum <"$work/disk"
	sed '1,2d' "$work/programs" >"$work/natively"
	mkdir -p "$work/bin"
	for a in $("$busybox" --list 2>/dev/null); do ln -sf "$busybox" "$work/bin/$a"; done
	PATH=$(realpath "$work/bin") "$work/bin/sh" "$work/natively" 2>/dev/null
} >"$work/expected"
(($(wc -l <"$work/expected") > 5)) || skip "this host runs no 32-bit programs"
whole translated on
if [ -n "${LONG:-}" ]; then
	whole interpreted off
	compared "${LOCKSTEP_SECONDS:-400}"
fi
exit $bad
