#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# "make run" without a terminal: the guest's shell is fed from a pipe, to the first byte; with
# no input at all it shows that the guest runs, and ends.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build}
work=$build/tests/boot
mkdir -p "$work"
tools/kernel.sh cloud >/dev/null 2>"$work/kernel.err" || { tail -n 1 "$work/kernel.err"; exit 77; }
bad=0

# judge NAME STATUS PATTERN: the console shows it, and the guest powered off.
judge() {
	if [ "$2" = 0 ] && grep -q "$3" "$work/run.log"; then
		echo "ok run/$1"
	else
		tail -n 5 "$work/run.log"
		echo "not ok run/$1: status $2"
		bad=1
	fi
}

printf 'echo $((6 * 7)) things\nexit\n' | timeout 120 make -s run >"$work/run.log" 2>&1
judge pipe "${PIPESTATUS[1]}" '^42 things'
timeout 120 make -s run </dev/null >"$work/run.log" 2>&1
judge no-input $? '^Linux vireo .*GNU/Linux'
exit $bad
