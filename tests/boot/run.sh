#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# "make run" without a terminal: the guest's shell is fed from a pipe, to the first byte; with
# no input at all it shows that the guest runs, and ends.
set -u
. "$(dirname "$0")/../lib/boot.sh" run
debian_kernel cloud

# judge NAME STATUS PATTERN: the console shows it, and the guest powered off.
judge() {
	if [ "$2" = 0 ] && grep -q "$3" "$work/log"; then
		ok "$1"
	else
		tail -n 5 "$work/log"
		fail "$1" "status $2"
	fi
}

printf 'echo $((6 * 7)) things\nexit\n' | timeout 120 make -s run >"$work/log" 2>&1
judge pipe "${PIPESTATUS[1]}" '^42 things'
timeout 120 make -s run </dev/null >"$work/log" 2>&1
judge no-input $? '^Linux vireo .*GNU/Linux'
exit $bad
