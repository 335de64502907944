#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A Linux guest that panics and has the pvpanic driver ends vireo with status 8 and a
# sentence, whether its command line asks for a reset or for waiting.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build}
work=$build/tests/boot
mkdir -p "$work"
kernel=$(tools/kernel.sh cloud 2>"$work/kernel.err") || { tail -n 1 "$work/kernel.err"; exit 77; }
[ -f "$(dirname "$kernel")/pvpanic-mmio.ko" ] || {
	echo "no pvpanic-mmio.ko beside $kernel, and it could not be fetched again"
	exit 77
}
tools/modules.sh "$kernel" >"$work/modules"
tools/initramfs.sh "$work/panic.cpio" "$work/modules" || exit 1
bad=0
for wait in -1 0; do
	timeout 120 "$build/vireo" run --engine soft ${VIREO_OPTIONS:-} --kernel "$kernel" \
		--initrd "$work/panic.cpio" --no-reboot \
		--cmdline "console=ttyS0 quiet panic=$wait run=\"echo c >/proc/sysrq-trigger\"" \
		</dev/null >"$work/panic.log" 2>"$work/panic.err"
	status=$?
	if [ $status = 8 ] && grep -q panic "$work/panic.err"; then
		echo "ok panic=$wait"
	else
		tail -n 5 "$work/panic.log" "$work/panic.err"
		echo "not ok panic=$wait: status $status"
		bad=1
	fi
done
exit $bad
