#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Disks under a Linux guest: ext4 on raw and on qcow2 images is mounted, written, synced; what
# the host finds afterwards is what the guest wrote, and the file systems and images are whole.
# Serial numbers, read-only and throwaway disks, discard, several queues; on PCI with MSI-X and
# with INTx, and on virtio-mmio; the raw disk by io_uring.
set -u
. "$(dirname "$0")/../lib/boot.sh" disk
need e2fsprogs mke2fs e2fsck debugfs
need qemu-utils qemu-img
mkdir -p "$work/files"
debian_kernel cloud virtio_blk
cat >"$work/session" <<'END'
cd /
mkdir -p /raw /qcow /ro
for d in a b c d; do echo serial $d $(cat /sys/block/vd$d/serial); done
echo readonly $(cat /sys/block/vdc/ro)
echo queues $(ls /sys/block/vda/mq | wc -l)
mount /dev/vda /raw && mount /dev/vdb /qcow && mount -o ro /dev/vdc /ro || exit 1
cat /raw/hello /ro/hello
for m in raw qcow; do
	dd if=/dev/urandom of=/$m/big bs=1M count=12 2>/dev/null
	cp -r /bin /$m/copy
	for i in $(seq 100); do echo $i >/$m/small$i; done
	rm /$m/small1*
	sync
	echo sum $m $(md5sum </$m/big)
	umount /$m || exit 1
done
dd if=/dev/zero of=/dev/vdc bs=512 count=1 2>/dev/null || echo refused
dd if=/dev/zero of=/dev/vdd bs=1M count=8 conv=fsync 2>/dev/null && echo thrown away
grep virtio /proc/interrupts
# The last megabytes lie outside of the file system.
blkdiscard -o $((64 << 20)) -l $((2 << 20)) /dev/vda && echo discarded
END
initramfs "file /session $work/session 755"

images() {
	echo "of the host" >"$work/files/hello"
	rm -f "$work"/*.img "$work"/*.qcow2
	for f in a.img b.img c.img; do
		mke2fs -q -F -t ext4 -d "$work/files" "$work/$f" 64M >/dev/null 2>&1 || return 1
	done
	dd if=/dev/urandom bs=1M count=2 oflag=append conv=notrunc of="$work/a.img" 2>/dev/null
	qemu-img convert -O qcow2 "$work/b.img" "$work/b.qcow2" && rm "$work/b.img"
	cp "$work/c.img" "$work/c.before"
	qemu-img create -q -f qcow2 -b c.before -F raw "$work/d.qcow2"
	cp "$work/d.qcow2" "$work/d.before"
}

same_sum() {
	debugfs -R "dump /big $work/big.$1" "$2" 2>/dev/null
	grep -q "^sum $1 $(md5sum <"$work/big.$1" | cut -c 1-32) " "$work/text"
}

# one NAME CPUS OPTIONS KERNEL-OPTIONS [OPTIONS-OF-THE-RAW-DISK]
one() {
	local name=$1 cpus=$2 status
	images || { echo "no images"; exit 1; }
	timeout 200 "$build/vireo" run --engine "${ENGINE:-soft}" ${VIREO_OPTIONS:-} --cpus "$cpus" $3 \
		--kernel "$kernel" --initrd "$work/cpio" --memory 256M \
		--disk "$work/a.img,serial=first${5:-}" --disk "$work/b.qcow2,serial=second" \
		--disk "$work/c.img,readonly=on,serial=third" \
		--disk "$work/d.qcow2,snapshot=on,serial=fourth" \
		--cmdline "console=ttyS0 panic=-1 $4 run=\"sh /session\"" \
		</dev/null >"$work/log" 2>"$work/err"
	status=$?
	tr -d '\r' <"$work/log" | sed 's/^serial \([a-d]\) */serial \1 /' >"$work/text"
	[ $status = 0 ] || { tail -n 20 "$work/text" "$work/err"; echo "not ok disk/run: $status"; bad=1; }
	for line in 'serial a first' 'serial d fourth' 'readonly 1' "queues $cpus" \
		refused 'thrown away' discarded 'status 0'; do
		check "$name/${line// /-}" grep -qxF "$line" "$work/text"
	done
	check "$name/read" test "$(grep -cx 'of the host' "$work/text")" = 2
	check "$name/no-complaint" test -z "$(grep -E 'I/O error|Oops|BUG:|WARNING:' "$work/text")"
	check "$name/raw-fsck" e2fsck -fn "$work/a.img"
	check "$name/raw-content" same_sum raw "$work/a.img"
	check "$name/discarded-is-zero" cmp -n $((2 << 20)) -i $((64 << 20)):0 "$work/a.img" /dev/zero
	check "$name/qcow2-check" qemu-img check -q "$work/b.qcow2"
	check "$name/qcow2-flat" qemu-img convert -O raw "$work/b.qcow2" "$work/b.img"
	check "$name/qcow2-fsck" e2fsck -fn "$work/b.img"
	check "$name/qcow2-content" same_sum qcow "$work/b.img"
	check "$name/readonly-unchanged" cmp "$work/c.img" "$work/c.before"
	check "$name/snapshot-unchanged" cmp "$work/d.qcow2" "$work/d.before"
}

one one 1 "" ""
one two 2 "" ""
one intx 1 "" pci=nomsi
grep -q 'IO-APIC.*virtio' "$work/text" || { echo "not ok disk/intx: no such interrupt"; bad=1; }
one mmio 2 "--transport mmio" ""
# Inside of the sandbox, which lets this VM submit to the ring that it has.
images || { echo "no images"; exit 1; }
"$build/vireo" run --kernel "$work/a.img" --disk "$work/a.img,aio=io_uring" </dev/null >/dev/null 2>"$work/err"
if grep 'does not let vireo use io_uring' "$work/err"; then
	echo "ok disk/ring # skip this host has no io_uring for us"
else
	one ring 2 "" "" ,aio=io_uring
	grep -q 'does not let vireo filter' "$work/err" ||
		check ring/confined grep -q 'sandbox: system calls are filtered' "$work/err"
fi
exit $bad
