#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# stress-ng (Debian's package) in guests with 2 and 4 processors, interpreted and translated:
# its classes cpu, switch, futex, mmap, fork and signal together, with their results checked,
# and no lockup or other complaint of the kernel.  SECONDS_EACH=60 by default.
cd "$(dirname "$0")/../.." || exit 2
suite=stress
. tests/lib/suite.sh
need stress-ng ldd
kernel=$(tools/kernel.sh cloud 2>/dev/null) || skip "no kernel"
seconds=${SECONDS_EACH:-60}

program=$(command -v stress-ng)
{
	for d in /lib /lib64 /lib/x86_64-linux-gnu /usr /usr/bin /var /var/tmp; do echo "dir $d 755"; done
	echo "file /usr/bin/stress-ng $program 755"
	ldd "$program" | grep -o '/[^ ]*' | sort -u | while read -r l; do
		echo "file /lib/x86_64-linux-gnu/${l##*/} $(readlink -f "$l") 755"
	done
	echo "file /lib64/ld-linux-x86-64.so.2 $(readlink -f /lib64/ld-linux-x86-64.so.2) 755"
} >"$work/list"
tools/initramfs.sh "$work/initramfs" "$work/list" || skip "no initramfs"

bad=0
for cpus in 2 4; do
	for translator in auto off; do
		name=$cpus-translator-$translator
		# cpu's other methods choose their code by the processor's model number alone.
		words="/usr/bin/stress-ng --cpu $cpus --cpu-method loop --switch $cpus --futex $cpus \
--mmap $cpus --mmap-bytes 16M --fork $cpus --signal $cpus --timeout $seconds --verify"
		timeout $((seconds * 4 + 200)) "$build/vireo" run --engine "${ENGINE:-soft}" \
			${VIREO_OPTIONS:-} --translator $translator --cpus $cpus --memory 1G \
			--kernel "$kernel" --initrd "$work/initramfs" \
			--cmdline "console=ttyS0 panic=-1 run=\"$words\"" \
			</dev/null >"$work/$name.log" 2>&1
		status=$?
		if ((status == 0)) && grep -q 'successful run completed' "$work/$name.log" &&
			tr -d '\r' <"$work/$name.log" | grep -qx 'status 0' &&
			! grep -E 'lockup|rcu.*stall|BUG:|WARNING:|Oops|unexpected signal' "$work/$name.log"
		then
			echo "ok stress/$name"
		else
			tail -n 15 "$work/$name.log"
			echo "not ok stress/$name: status $status"
			bad=1
		fi
	done
done
((bad == 0))
