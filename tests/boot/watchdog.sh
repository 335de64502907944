#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The watchdog timer with Linux's driver: as long as the guest feeds it nothing happens; a guest
# that stops is reset, powered off, or paused, which a user's "cont" ends.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=$(realpath "${BUILD:-build}")
work=$build/tests/boot
mkdir -p "$work"
bad=0

kernel=$(tools/kernel.sh standard 2>/dev/null) || { echo "no kernel"; exit 77; }
[ -f "$(dirname "$kernel")/i6300esb.ko" ] || { echo "no i6300esb.ko beside the kernel"; exit 77; }
tools/modules.sh "$kernel" >"$work/watchdog.list"
tools/initramfs.sh "$work/watchdog.cpio" "$work/watchdog.list" || { echo "no initramfs"; exit 77; }
commands='insmod /lib/watchdog.ko; insmod /lib/i6300esb.ko heartbeat=2; exec 3>/dev/watchdog; for i in 1 2 3 4; do echo >\&3; sleep 1; done; echo fed; sleep 30; echo late'

run() {	# ACTION STATUS
	local log=$work/watchdog.$1.log status
	timeout 120 "$build/vireo" run --engine "${ENGINE:-soft}" --kernel "$kernel" \
		--initrd "$work/watchdog.cpio" --memory 256M --watchdog "$1" --no-reboot \
		--cmdline "console=ttyS0 panic=-1 quiet run=\"${commands//\\/}\"" </dev/null >"$log" 2>&1
	status=$?
	if [ $status = "$2" ] && grep -q '^fed' "$log" && ! grep -q '^late' "$log" &&
		grep -q 'watchdog timer was not reset' "$log"; then
		echo "ok watchdog/$1"
	else
		tail -n 5 "$log"
		echo "not ok watchdog/$1: status $status, not $2"
		bad=1
	fi
}

run reset 4
run poweroff 0

# Paused: the guest's "late" comes only after the VM was let go on.
log=$work/watchdog.pause.log
name=watchdog-$$
timeout 120 "$build/vireo" run --engine "${ENGINE:-soft}" --kernel "$kernel" --name "$name" \
	--initrd "$work/watchdog.cpio" --memory 256M --watchdog pause --no-reboot \
	--cmdline "console=ttyS0 panic=-1 quiet run=\"${commands//sleep 30/sleep 5}\"" </dev/null \
	>"$log" 2>&1 &
pid=$!
for _ in $(seq 600); do
	grep -q 'watchdog timer was not reset' "$log" && break
	kill -0 $pid 2>/dev/null || break
	sleep 0.1
done
sleep 6
before=$(grep -c '^late' "$log")
"$build/vireo" resume "$name" >>"$log" 2>&1
wait $pid
status=$?
if [ $status = 0 ] && [ "$before" = 0 ] && grep -q '^late' "$log"; then
	echo "ok watchdog/pause"
else
	tail -n 5 "$log"
	echo "not ok watchdog/pause: status $status, 'late' $before times while paused"
	bad=1
fi
exit $bad
