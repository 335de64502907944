#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Guest images pass while their VM is moved from engine to engine every few milliseconds:
# processors that interrupt each other, code that changes.
cd "$(dirname "$0")/../.." || exit 2
build=$(realpath "${BUILD:-build}")
if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
	echo "there is no /dev/kvm that may be opened"
	exit 77
fi
make -s -C tests/guest BUILD="$build" >&2 || exit 2
bad=0

# try IMAGE CPUS MILLISECONDS APICS [COMMAND-LINE]
try() {
	local status log=$build/tests/kvm/$1.log

	timeout 120 "$build/tests/kvm/move" "$build/guest/$1.elf" "$2" "$3" "$4" ${5:+"$5"} >"$log" 2>&1 </dev/null
	status=$?
	if [ $status = 77 ]; then
		echo "ok move/$1-$4 # skip $(tail -n 1 "$log")"
	elif [ $status = 1 ] && grep -q '^passed' "$log"; then
		echo "ok move/$1-$4 ($(sed -n 's/^# //p' "$log" | tail -n 1), $2 processors)"
	else
		echo "not ok move/$1-$4: status $status: $(grep -v '^ok' "$log" | tail -n 5 | tr '\r\n' '  ')"
		bad=1
	fi
}

try smc64 1 5 auto
try smc64 1 5 machine
try smp64 2 7 auto
try smp64 2 7 machine
try smp64 4 5 auto
try virtio64 1 1 auto many
try virtio64 1 1 machine many
exit $bad
