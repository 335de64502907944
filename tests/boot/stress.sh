#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# stress-ng (Debian's package) for some seconds on 4 vCPUs; with LONG=1 for 2 minutes each on 1, 2, 4
# and 8 (tests/suites/stress.sh interprets them, too), and while processors come and go: its classes cpu, switch, futex, mmap, fork
# and signal together, results checked, and no lockup or other complaint of the kernel.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build}
work=$build/tests/boot-stress
mkdir -p "$work"
command -v stress-ng >/dev/null || { echo "stress-ng is not installed"; exit 77; }
kernel=$(tools/kernel.sh cloud 2>/dev/null) || { echo "no kernel"; exit 77; }
program=$(command -v stress-ng)
cat >"$work/plug" <<'END'
# As udev's rules of distributions do: what comes is taken into use.
(while :; do
	for c in /sys/devices/system/cpu/cpu[1-9]*/online; do
		[ "$(cat $c 2>/dev/null)" = 0 ] && { echo 1 >$c; } 2>/dev/null
	done
	sleep 0.2
done) &
/usr/bin/stress-ng --cpu 4 --switch 4 --futex 4 --mmap 2 --mmap-bytes 8M --fork 2 --timeout 35 --verify
sleep 2
echo online $(cat /sys/devices/system/cpu/online)
END

judge() {	# NAME STATUS LOG
	if [ "$2" = 0 ] && grep -q 'successful run completed' "$3" &&
		tr -d '\r' <"$3" | grep -qx 'status 0' &&
		! grep -E 'lockup|rcu.*stall|BUG:|WARNING:|Oops|unexpected signal|unstable' "$3"; then
		echo "ok stress/$1"
	else
		tail -n 15 "$3"
		echo "not ok stress/$1: status $2"
		bad=1
	fi
}
{
	for d in /lib /lib64 /lib/x86_64-linux-gnu /usr /usr/bin /var /var/tmp; do echo "dir $d 755"; done
	echo "file /usr/bin/stress-ng $program 755"
	ldd "$program" | grep -o '/[^ ]*' | sort -u | while read -r l; do
		echo "file /lib/x86_64-linux-gnu/${l##*/} $(readlink -f "$l") 755"
	done
	echo "file /plug $work/plug 755"
	echo "file /lib64/ld-linux-x86-64.so.2 $(readlink -f /lib64/ld-linux-x86-64.so.2) 755"
} >"$work/list"
tools/initramfs.sh "$work/initramfs" "$work/list" || { echo "no initramfs"; exit 77; }

# Processors come and go by vireo set while the same works.
plug() {
	local log=$work/plug.log n vm

	mkdir -p "$work/run" && chmod 700 "$work/run"
	export XDG_RUNTIME_DIR=$(realpath "$work/run")
	timeout 300 "$build/vireo" run --engine "${ENGINE:-soft}" ${VIREO_OPTIONS:-} --name stress --cpus 2 \
		--max-cpus 8 --memory 1G --kernel "$kernel" --initrd "$work/initramfs" \
		--cmdline "console=ttyS0 panic=-1 run=\"sh /plug\"" </dev/null >"$log" 2>&1 &
	vm=$!
	for n in $(seq 200); do
		grep -q dispatching "$log" && break
		sleep 0.3
	done
	for n in 8 3 6 1 4 8 2 5 1 7 3 8; do
		"$build/vireo" set stress --cpus $n || echo "not ok stress/set-$n"
		sleep 2
	done
	wait $vm
	status=$?
	tr -d '\r' <"$log" | grep -qx 'online 0-7' || status="$status, and not all processors are there"
	judge plug "$status" "$log"
}

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
	judge $cpus $? "$log"
done
[ -z "${LONG:-}" ] || plug
((bad == 0))
