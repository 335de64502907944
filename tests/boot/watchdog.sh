#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The watchdog timer with Linux's driver: as long as the guest feeds it nothing happens; a guest
# that stops is reset, powered off, or paused, which a user's "cont" ends.
set -u
. "$(dirname "$0")/../lib/boot.sh" watchdog
build=$(realpath "$build") work=$(realpath "$work")
debian_kernel standard i6300esb
initramfs
commands='insmod /lib/watchdog.ko; insmod /lib/i6300esb.ko heartbeat=2; exec 3>/dev/watchdog; for i in 1 2 3 4; do echo >\&3; sleep 1; done; echo fed; sleep 30; echo late'

run() {	# ACTION STATUS
	local log=$work/$1.log status
	timeout 300 "$build/vireo" run --engine "${ENGINE:-soft}" --kernel "$kernel" \
		--initrd "$work/cpio" --memory 256M --watchdog "$1" --no-reboot \
		--cmdline "console=ttyS0 panic=-1 quiet run=\"${commands//\\/}\"" </dev/null >"$log" 2>&1
	status=$?
	if [ $status = "$2" ] && grep -q '^fed' "$log" && ! grep -q '^late' "$log" &&
		grep -q 'watchdog timer was not reset' "$log"; then
		ok "$1"
	else
		tail -n 5 "$log"
		fail "$1" "status $status, not $2"
	fi
}

run reset 4
run poweroff 0

# Paused: the guest's "late" comes only after the VM was let go on.
log=$work/watchdog.pause.log
name=watchdog-$$
timeout 300 "$build/vireo" run --engine "${ENGINE:-soft}" --kernel "$kernel" --name "$name" \
	--initrd "$work/cpio" --memory 256M --watchdog pause --no-reboot \
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
