#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One file of the host, split among two VMs that run at once: a GPT partition for one, two
# extents for the other.  Each reads and writes all of its own, gets I/O errors behind the end,
# and what belongs to nobody stays as it was.
set -u
. "$(dirname "$0")/../lib/boot.sh" parts
debian_kernel cloud virtio_blk
verdict() {
	if [ "$2" = 0 ]; then ok "$1"; else
		tail -n 5 "$work"/*.log
		fail "$1"
	fi
}

# The session writes its letter everywhere that it can reach, and tries what is behind.
cat >"$work/session" <<'END'
cd /
letter=$(sed 's/.*letter=\(.\).*/\1/' /proc/cmdline)
size=$(cat /sys/block/vda/size)
echo size $size
echo before $(dd if=/dev/vda bs=512 count=1 2>/dev/null | head -c 4)
tr '\0' $letter </dev/zero |
	dd of=/dev/vda bs=64k count=$((size / 128)) iflag=fullblock conv=fsync 2>/dev/null
echo wrote $?
dd if=/dev/vda of=/dev/null bs=512 skip=$size count=1 2>&1 | grep -c '^0+0 records in'
echo -n $letter | dd of=/dev/vda bs=512 seek=$size count=1 conv=fsync 2>/dev/null
echo behind $?
END
initramfs "file /session $work/session 755"

tr '\0' . </dev/zero | head -c 12M >"$work/disk"
python3 - "$work/disk" <<'END' || exit 1
"""A GPT with two partitions: 4096 sectors from 2048, 4096 from 8192."""
import struct, sys, zlib
entry = "<16s16sQQQ72s"
parts = b"".join(struct.pack(entry, b"t" * 16, bytes([i]) * 16, first, first + 4095, 0, b"")
                 for i, first in ((1, 2048), (2, 8192))).ljust(128 * 128, b"\0")
def header(crc):
    return struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, crc, 0, 1, 24575, 34, 24542,
                       b"d" * 16, 2, 128, 128, zlib.crc32(parts))
with open(sys.argv[1], "r+b") as f:
    f.seek(512)
    f.write(header(zlib.crc32(header(0))).ljust(512, b"\0") + parts)
END
cp "$work/disk" "$work/was"

vm() {	# LETTER WHAT
	timeout 100 "$build/vireo" run --engine "${ENGINE:-soft}" --kernel "$kernel" \
		--initrd "$work/cpio" --memory 256M --disk "$work/disk,format=raw,$2" \
		--cmdline "console=ttyS0 panic=-1 quiet letter=$1 run=\"sh /session\"" \
		</dev/null >"$work/$1.log" 2>&1
}
vm a part=2 &
first=$!
vm b map=8M+1M:10M+512K &
second=$!
wait $first
verdict partition-ends $?
wait $second
verdict extents-end $?
says() { tr -d '\r' <"$work/$1.log" | grep -qx "$2"; }
says a 'size 4096' && says a 'before ....' && says a 'wrote 0'
verdict partition $?
says b 'size 3072' && says b 'wrote 0'
verdict extents $?
says a 'behind 1' && says b 'behind 1'
verdict behind-the-end $?

# What is to be there: letters in the parts, all else as it was.
part() {	# LETTER OFFSET-KiB SIZE-KiB
	tr '\0' "$1" </dev/zero | head -c "$(($3 << 10))" |
		dd of="$work/was" bs=1K seek="$2" conv=notrunc status=none
}
part a 4096 2048
part b 8192 1024
part b 10240 512
cmp "$work/was" "$work/disk"
verdict nobody-elses $?
exit $bad
