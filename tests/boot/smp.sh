#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Debian's cloud kernel with 2, 4 and 8 processors, translated, and with 2 interpreted:
# all of them come up and take part in a parallel job, time is the TSC's, and the kernel has
# nothing to complain about.  With LONG=1 (make check-long) all counts are interpreted, too,
# and 1 and 64 are started.  VIREO_OPTIONS has more options for vireo run.
set -u
. "$(dirname "$0")/../lib/boot.sh" smp
debian_kernel cloud
initramfs

# Each processor is given a job that can only run there.
jobs='n=$(nproc); echo processors $n; cat /sys/devices/system/clocksource/clocksource0/current_clocksource'
jobs+='; i=0; while [ $i -lt $n ]; do (seq 1 2000 | taskset -c $i md5sum >/tmp/sum.$i) & i=$((i+1)); done; wait'
jobs+='; sort -u /tmp/sum.* | wc -l; ls /tmp/sum.* | wc -l'

boot_one() {
	local cpus=$1 translator=$2 name=cpus-$1-translator-$2 status want start=$SECONDS
	local log=$work/$name.log

	timeout 300 "$build/vireo" run --engine "${ENGINE:-soft}" --translator "$translator" \
		--cpus "$cpus" ${VIREO_OPTIONS:-} --kernel "$kernel" --initrd "$work/cpio" \
		--memory 512M --cmdline "console=ttyS0 panic=-1 run=\"$jobs\"" \
		</dev/null >"$log" 2>"$log.err"
	status=$?
	want=$(printf 'processors %s\ntsc\n1\n%s\nstatus 0' "$cpus" "$cpus")
	if ((status != 0)); then
		tail -n 5 "$log" "$log.err"
		echo "not ok boot/$name: vireo's status is $status"
	elif ! tr -d '\r' <"$log" | grep -A 4 -x "processors $cpus" | cmp -s - <(echo "$want"); then
		tail -n 8 "$log"
		echo "not ok boot/$name: the last lines are not $(echo "$want" | tr '\n' ' ')"
	elif grep -E 'Kernel panic|Oops|BUG:|WARNING:|lockup|rcu.*stall|unstable' "$log"; then
		echo "not ok boot/$name: the kernel complains"
	else
		echo "ok boot/$name ($((SECONDS - start)) s)"
		return
	fi
	bad=1
}

for cpus in ${LONG:+1} 2 4 8 ${LONG:+64}; do
	boot_one $cpus auto
	[ $cpus = 2 ] || [ -n "${LONG:-}" ] && boot_one $cpus off
done
((bad == 0))
