#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A Linux guest that panics and has the pvpanic driver ends vireo with status 8 and a
# sentence, whether its command line asks for a reset or for waiting.
set -u
. "$(dirname "$0")/../lib/boot.sh" panic
debian_kernel cloud pvpanic-mmio
initramfs
for wait in -1 0; do
	timeout 300 "$build/vireo" run --engine soft ${VIREO_OPTIONS:-} --kernel "$kernel" \
		--initrd "$work/cpio" --no-reboot \
		--cmdline "console=ttyS0 quiet panic=$wait run=\"echo c >/proc/sysrq-trigger\"" \
		</dev/null >"$work/log" 2>"$work/err"
	status=$?
	if [ $status = 8 ] && grep -q panic "$work/err"; then
		ok "panic=$wait"
	else
		tail -n 5 "$work/log" "$work/err"
		fail "panic=$wait" "status $status"
	fi
done
exit $bad
