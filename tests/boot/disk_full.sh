#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The host's file system fills up under a guest that writes: the VM is paused, and once there is
# room it goes on, with nothing lost.  With werror=report the guest gets an I/O error.
# Needs a small file system of its own: a tmpfs in a mount namespace.
set -u
. "$(dirname "$0")/../lib/boot.sh" full
if [ "${1:-}" != inside ]; then
	unshare -Urm true 2>/dev/null || skip "no user and mount namespaces here"
	exec unshare -Urm "$0" inside
fi
mkdir -p "$work/small"
debian_kernel cloud virtio_blk
mount -t tmpfs -o size=24M small "$work/small" || skip "cannot mount a tmpfs"
cat >"$work/session" <<'END'
cd /
while :; do echo tick; sleep 0.1; done &
yes 0123456789abcde | dd of=/dev/vda bs=64k count=256 iflag=fullblock conv=fsync 2>/dev/null
echo dd $?
END
initramfs "file /session $work/session 755"

start() {
	rm -f "$work"/small/*
	truncate -s 32M "$work/small/image"
	head -c 16M /dev/zero >"$work/small/filler"
	timeout 100 "$build/vireo" run --engine "${ENGINE:-soft}" ${VIREO_OPTIONS:-} \
		--kernel "$kernel" --initrd "$work/cpio" --memory 256M \
		--disk "$work/small/image,format=raw$1" \
		--cmdline "console=ttyS0 panic=-1 quiet run=\"sh /session\"" \
		</dev/null >"$work/log" 2>"$work/err" &
	pid=$!
}
verdict() {
	if [ "$2" = 0 ]; then echo "ok full/$1"; else
		tail -n 5 "$work/log" "$work/err"
		echo "not ok full/$1"
		bad=1
	fi
}

start ""
for _ in $(seq 900); do
	grep -q 'no room' "$work/err" && break
	sleep 0.1
done
grep -q 'no room' "$work/err"
verdict says-so $?
sleep 0.5
ticks=$(grep -c '^tick' "$work/log")
sleep 2
! grep -q '^dd' "$work/log"
verdict waits $?
[ "$(grep -c '^tick' "$work/log")" = "$ticks" ]
verdict paused $?
rm "$work/small/filler"
wait $pid
verdict ends $?
tr -d '\r' <"$work/log" | grep -qx 'dd 0' && grep -q 'room again' "$work/err"
verdict goes-on $?
yes 0123456789abcde | head -c 16M | cmp -n $((16 << 20)) - "$work/small/image"
verdict nothing-lost $?

start ,werror=report
wait $pid
verdict report-ends $?
tr -d '\r' <"$work/log" | grep -qx 'dd 1'
verdict report $?
exit $bad
