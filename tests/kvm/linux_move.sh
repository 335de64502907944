#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A program in Linux's user space computes a checksum while its VM is moved to KVM for short
# slices and back: the answer is the right one, and Linux goes on to its end.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=$(realpath "${BUILD:-build}")
if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
	echo "there is no /dev/kvm that may be opened"
	exit 77
fi
if [ "${SAN:-0}" = 1 ]; then
	echo "takes minutes under the sanitizers"
	exit 77
fi
work=$build/tests/kvm/linux
mkdir -p "$work/run" && chmod 700 "$work/run"
export XDG_RUNTIME_DIR=$work/run
kernel=$(tools/kernel.sh cloud 2>"$work/kernel.err") || { tail -n 1 "$work/kernel.err"; exit 77; }
tools/initramfs.sh "$work/initramfs" || { echo "no initramfs"; exit 77; }

# Long enough not to end while it is on KVM: where KVM emulates, SYSCALL in user mode stays there
# (tests/guest/known-kvm), and a program that makes a system call gets SIGSEGV.
rounds=8000000
program="BEGIN{for(i=0;i<$rounds;i++)s=(s*31+i)%65521; print s}"
timeout 240 "$build/vireo" run --name moved --sandbox auto,kvm --cpu vireo-v0 --memory 256M --kernel "$kernel" \
	--initrd "$work/initramfs" \
	--cmdline "console=ttyS0 panic=-1 run=\"echo begin; awk '$program'; echo end\"" \
	</dev/null >"$work/log" 2>"$work/err" &
vm=$!
for _ in $(seq 1200); do
	grep -q '^begin' "$work/log" && break
	sleep 0.1
done
moves=0
for _ in 1 2 3; do
	for engine in kvm soft; do
		sleep 0.2
		grep -q '^end' "$work/log" && break 2
		"$build/vireo" set moved --engine $engine 2>>"$work/set.err" && moves=$((moves + 1))
	done
done
wait $vm
status=$?
want=$(awk "BEGIN{for(i=0;i<$rounds;i++)s=(s*31+i)%65521; print s}")
if [ $status = 0 ] && tr -d '\r' <"$work/log" | grep -qx "$want" && grep -q '^end' "$work/log" &&
	((moves >= 2)); then
	echo "ok linux_move/checksum ($moves moves)"
else
	tail -n 5 "$work/log" "$work/err"
	echo "not ok linux_move/checksum: status $status, $moves moves"
	exit 1
fi
