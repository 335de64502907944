#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# SCSI disks under a Linux guest, two processors: ext4 is mounted and written, what is discarded
# is given back, a read-only disk refuses; the host finds what the guest wrote.
set -u
. "$(dirname "$0")/../lib/boot.sh" scsi
need e2fsprogs mke2fs e2fsck debugfs
mkdir -p "$work/files"
debian_kernel cloud sd_mod
cat >"$work/session" <<'END'
cd /
mkdir -p /a /b
# Linux probes them side by side, and names who is first.
while [ ! -b /dev/sda ] || [ ! -b /dev/sdb ]; do sleep 0.1; done
a=sda b=sdb
[ $(cat /sys/block/sda/ro) = 0 ] || a=sdb b=sda
for d in $a $b; do echo disk $(cat /sys/block/$d/size /sys/block/$d/ro); done
echo wwid $(cat /sys/block/$a/device/wwid)
echo cache $(cat /sys/block/$a/queue/write_cache) $(cat /sys/block/$a/queue/fua)
mount /dev/$a /a && mount -o ro /dev/$b /b || exit 1
cat /b/hello
dd if=/dev/urandom of=/a/big bs=1M count=12 2>/dev/null
cp -r /bin /a/copy
for i in $(seq 100); do echo $i >/a/small$i; done
rm /a/small1*
sync
echo sum $(md5sum </a/big)
umount /a
dd if=/dev/zero of=/dev/$b bs=512 count=1 2>/dev/null || echo refused
# The last megabytes lie outside of the file system.
blkdiscard -o $((64 << 20)) -l $((2 << 20)) /dev/$a && echo discarded
[ $(dd if=/dev/$a bs=1M skip=64 count=2 2>/dev/null | tr -d '\0' | wc -c) = 0 ] && echo zeros
END
initramfs "file /session $work/session 755"
echo "of the host" >"$work/files/hello"
rm -f "$work"/*.img
for f in a.img b.img; do
	mke2fs -q -F -t ext4 -d "$work/files" "$work/$f" 64M >/dev/null 2>&1 || exit 1
done
dd if=/dev/urandom bs=1M count=2 oflag=append conv=notrunc of="$work/a.img" 2>/dev/null
timeout 200 "$build/vireo" run --engine "${ENGINE:-soft}" ${VIREO_OPTIONS:-} --cpus 2 --kernel "$kernel" \
	--initrd "$work/cpio" --cmdline "console=ttyS0 panic=-1 run=\"sh /session\"" \
	--disk "$work/a.img,format=raw,bus=scsi,serial=unit" --disk "$work/b.img,format=raw,bus=scsi,readonly=on" \
	</dev/null >"$work/log" 2>"$work/err"
status=$?
tr -d '\r' <"$work/log" >"$work/text"
check status [ $status = 0 ]
check sizes grep -q '^disk 135168 0' "$work/text"
check readonly grep -q '^disk 131072 1' "$work/text"
check serial grep -q '^wwid t10.VIREO *unit' "$work/text"
check cache grep -q '^cache write back 1' "$work/text"
check read grep -q '^of the host' "$work/text"
check refused grep -q '^refused' "$work/text"
check discarded grep -q '^discarded' "$work/text"
check zeros grep -q '^zeros' "$work/text"
check "given back" cmp -n $((2 << 20)) -i $((64 << 20)):0 "$work/a.img" /dev/zero
check quiet test -z "$(grep -E 'I/O error|Oops|BUG:|WARNING:' "$work/text")"
check fsck e2fsck -fn "$work/a.img"
debugfs -R "dump /big $work/big" "$work/a.img" 2>/dev/null
check written grep -q "^sum $(md5sum <"$work/big" | cut -c 1-32) " "$work/text"
exit $bad
