#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# LONG=1: Debian's cloud kernel boots on KVM to user land, as tests/boot/boot.sh has it.
cd "$(dirname "$0")/../.." || exit 2
if [ -z "${LONG:-}" ]; then
	echo "with LONG=1 Debian's kernel is booted on KVM"
	exit 77
fi
if ! "${BUILD:-build}/vireo" doctor | grep -q '^  yes  engine kvm'; then
	echo "KVM here has no hardware behind it: it shows the host's CPUID, and its emulator knows no" \
		"CMPXCHG16B, CLAC, POPCNT, no SYSCALL and INT in user mode (QEMU stops, too: docs/suites.md)"
	exit 77
fi
ENGINE=kvm KERNELS=cloud exec tests/boot/boot.sh
