#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# stress-ng (Debian's package) for some seconds on 4 vCPUs; with LONG=1 for 2 minutes each on 1, 2, 4
# and 8 (tests/suites/stress.sh interprets them, too): its classes cpu, switch, futex, mmap, fork
# and signal together, results checked, and no lockup or other complaint of the kernel.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build}
work=$build/tests/boot-stress
mkdir -p "$work"
command -v stress-ng >/dev/null || { echo "stress-ng is not installed"; exit 77; }
kernel=$(tools/kernel.sh cloud 2>/dev/null) || { echo "no kernel"; exit 77; }
program=$(command -v stress-ng)
{
	for d in /lib /lib64 /lib/x86_64-linux-gnu /usr /usr/bin /var /var/tmp; do echo "dir $d 755"; done
	echo "file /usr/bin/stress-ng $program 755"
	ldd "$program" | grep -o '/[^ ]*' | sort -u | while read -r l; do
		echo "file /lib/x86_64-linux-gnu/${l##*/} $(readlink -f "$l") 755"
	done
	echo "file /lib64/ld-linux-x86-64.so.2 $(readlink -f /lib64/ld-linux-x86-64.so.2) 755"
} >"$work/list"
tools/initramfs.sh "$work/initramfs" "$work/list" || { echo "no initramfs"; exit 77; }

seconds=12 counts=4
[ -z "${LONG:-}" ] || { seconds=120; counts="1 2 4 8"; }
bad=0
for cpus in $counts; do
	log=$work/$cpus.log
	words="/usr/bin/stress-ng --cpu $cpus --switch $cpus --futex $cpus --mmap $cpus --mmap-bytes 16M \
--fork $cpus --signal $cpus --timeout $seconds --verify"
	timeout $((seconds * 4 + 200)) "$build/vireo" run --engine "${ENGINE:-soft}" ${VIREO_OPTIONS:-} \
		--cpus $cpus --memory 1G --kernel "$kernel" --initrd "$work/initramfs" \
		--cmdline "console=ttyS0 panic=-1 run=\"$words\"" </dev/null >"$log" 2>&1
	status=$?
	if ((status == 0)) && grep -q 'successful run completed' "$log" &&
		tr -d '\r' <"$log" | grep -qx 'status 0' &&
		! grep -E 'lockup|rcu.*stall|BUG:|WARNING:|Oops|unexpected signal|unstable' "$log"; then
		echo "ok stress/$cpus"
	else
		tail -n 15 "$log"
		echo "not ok stress/$cpus: status $status"
		bad=1
	fi
done
((bad == 0))
