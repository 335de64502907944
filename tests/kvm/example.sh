#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# docs/examples/kvm-min.c compiles without a warning and, where there is a KVM, runs.
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build}
mkdir -p "$build/tests/kvm"
${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Werror -o "$build/tests/kvm/kvm-min" docs/examples/kvm-min.c ||
	exit 1
if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
	echo "compiled; there is no /dev/kvm that may be opened"
	exit 77
fi
got=$(timeout 20 "$build/tests/kvm/kvm-min")
status=$?
if [ "$got" != "Hello, KVM" ] || [ $status != 0 ]; then
	echo "status $status, printed '$got'"
	exit 1
fi
