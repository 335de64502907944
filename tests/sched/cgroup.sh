#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Shares by control group with a kernel's real ones: in a guest with one processor, where a
# hierarchy of version 2 is root's to divide, two VMs of weights 100 and 300 run, then one with
# a cap.  (Hosts in containers seldom let their users try.)  Times are the guest's own.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=$(realpath "${BUILD:-build}")
work=$build/tests/sched-cgroup
mkdir -p "$work"
kernel=$(tools/kernel.sh cloud 2>/dev/null) || { echo "no kernel"; exit 77; }
[ "${SAN:-0}" = 0 ] || { echo "the sanitizers' libraries are not taken along"; exit 77; }

cat >"$work/session" <<'END'
mkdir /cg && mount -t cgroup2 cg /cg && cat /cg/cgroup.controllers | grep -o -w cpu | sed 's/^/has /'
export XDG_RUNTIME_DIR=/tmp LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
vm() {	# NAME OPTIONS...
	name=$1
	shift
	vireo run --engine soft --translator off --memory 4M --kernel /spin --name $name "$@" 2>/tmp/$name.log &
	eval "$name=$!"
}
used() { sed -n 's/^usage_usec //p' "/cg/vireo.shares/$1/cpu.stat"; }
stolen() { awk '$1 == "cpu" { print $9 }' /proc/stat; }	# in 1/100 s
measure() {	# PID PID SECONDS
	x=$(used $1) y=$(used $2) s=$(stolen) t=$3
	sleep $t
	# A busy host takes the processor away for long, and whose turn it was looks like more.
	if [ $(($(stolen) - s)) -gt $((10 * $3)) ]; then
		sleep $((3 * $3))
		t=$((4 * $3))
	fi
	echo "used $(($(used $1) - x)) $(($(used $2) - y)) $t"
}
vm a --cpu-weight 100
vm b --cpu-weight 300
sleep 5
cat /tmp/a.log
echo "weights $(cat /cg/vireo.shares/$a/cpu.weight /cg/vireo.shares/$b/cpu.weight)"
measure $a $b 8
vireo set b --cpu-weight 100
measure $a $b 8
vireo set b --cpu-cap 20%
measure $a $b 8
vireo set b --cpu-cap none --cpu-pin 0
echo "max $(cat /cg/vireo.shares/$b/cpu.max) pin $(cat /cg/vireo.shares/$b/cpuset.cpus)"
kill $a $b
wait
vm c --cpu-cap 50% --vcpu 0,cap=25%
sleep 3
echo "thread $(cat /cg/vireo.shares/$c/vcpu0/cpu.max) $(cat /cg/vireo.shares/$c/cgroup.type)," \
	"$(cat /cg/vireo.shares/$c/vcpu0/cgroup.threads | wc -w) of $(ls /proc/$c/task | wc -l)"
measure $c $c 8
vireo set c --vcpu 0 --cpu-cap none --cpu-weight 55
echo "later $(cat /cg/vireo.shares/$c/vcpu0/cpu.max /cg/vireo.shares/$c/vcpu0/cpu.weight)"
echo "left $(ls -d /cg/vireo.shares/[0-9]* | wc -l)"
kill $c
wait
END
# jmp $, as a Multiboot kernel at 0x100020.
printf '\x02\xb0\xad\x1b\x00\x00\x01\x00\xfe\x4f\x51\xe4\x00\x00\x10\x00\x00\x00\x10\x00\x22\x00\x10\x00\x00\x00\x00\x00\x20\x00\x10\x00\xeb\xfe' >"$work/spin"
{
	for d in /lib /lib64 /lib/x86_64-linux-gnu; do echo "dir $d 755"; done
	echo "file /bin/vireo $build/vireo 755"
	echo "file /spin $work/spin 644"
	echo "file /session $work/session 755"
	ldd "$build/vireo" | grep -o '/[^ ]*' | sort -u | while read -r l; do
		echo "file /lib/x86_64-linux-gnu/${l##*/} $(readlink -f "$l") 755"
	done
	echo "file /lib64/ld-linux-x86-64.so.2 $(readlink -f /lib64/ld-linux-x86-64.so.2) 755"
} >"$work/list"
tools/initramfs.sh "$work/initramfs" "$work/list" || { echo "no initramfs"; exit 77; }

timeout 600 "$build/vireo" run --engine soft --kernel "$kernel" --initrd "$work/initramfs" --memory 1G \
	--cmdline 'console=ttyS0 panic=-1 quiet run="sh /session"' </dev/null >"$work/log" 2>&1
status=$?
tr -d '\r' <"$work/log" >"$work/text"
bad=0
judge() {	# NAME COMMAND...
	local name=$1
	shift
	if "$@"; then
		echo "ok cgroup/$name"
	else
		tail -n 25 "$work/text"
		echo "not ok cgroup/$name"
		bad=1
	fi
}
# Line N of "used": the second's part of both in per cent, from LOW to HIGH.
part() {
	grep '^used' "$work/text" | sed -n "$1p" |
		awk -v low="$2" -v high="$3" '{ p = 100 * $3 / ($2 + $3); print "# " p " %"; n++ }
			END { exit !(n && p >= low && p <= high) }'
}
# Line N of "used": the first did not have more than that part of the seconds.
used_at_most() {
	grep '^used' "$work/text" | sed -n "$1p" |
		awk -v part="$2" '{ p = $2 / 1e6 / $4; print "# " p; n++ }
			END { exit !(n && p > 0.02 && p < part) }'
}
judge status [ $status = 0 ]
judge controller grep -qx 'has cpu' "$work/text"
judge by-group grep -q 'by control group /cg/vireo.shares/' "$work/text"
judge weights-written grep -qx 'weights 100 300' <(tr '\n' ' ' <"$work/text" | grep -o 'weights [0-9]* [0-9]*')
judge one-to-three part 1 72 78
judge weight-changed part 2 47 53
judge cap part 3 10 23
judge max-and-pin grep -qx 'max max 20000 pin 0\|max max 100000 pin 0' "$work/text"
judge vcpu-group grep -q 'thread [0-9]* [0-9]* domain threaded, 1 of' "$work/text"
judge vcpu-cap used_at_most 4 0.33
judge vcpu-changed grep -q 'later max [0-9]* 55' <(tr '\n' ' ' <"$work/text")
judge old-ones-removed grep -qx 'left 1' "$work/text"
((bad == 0))
