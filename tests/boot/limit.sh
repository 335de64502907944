#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vireo run --limit where control groups of version 2 have their controllers: in a guest, which has
# this host's files by 9p, and starts vireo in them.  What the kernel there says of the group.
set -u
. "$(dirname "$0")/../lib/boot.sh" limit
build=$(realpath "$build") work=$(realpath "$work")
rm -rf "$work"
mkdir -p "$work"
debian_kernel standard 9p
# mov dx, 0x3f8; mov al, '!'; out dx, al; hlt
python3 - "$work/tiny" <<'END'
import struct, sys
code = b"\x66\xba\xf8\x03\xb0!\xee\xf4\xeb\xfd"
end = 0x100020 + len(code)
open(sys.argv[1], "wb").write(struct.pack("<8I", 0x1badb002, 0x10000, -0x1baeb002 & 0xffffffff, 0x100000,
                              0x100000, end, end, 0x100020) + code)
END
cat >"$work/session" <<END
mkdir /h
mount -t 9p -o version=9p2000.L,msize=262144,cache=loose root /h
mount -t tmpfs t /h/mnt		# not /tmp: the build may be there
mount -t proc p /h/proc
mount -t sysfs s /h/sys
mount -t devtmpfs d /h/dev
mount -t cgroup2 g /h/sys/fs/cgroup
echo 0 >/proc/sys/kernel/printk
G=/h/sys/fs/cgroup
TMPDIR=/mnt XDG_RUNTIME_DIR=/mnt chroot /h "$build/vireo" run --engine soft --memory 16M --kernel "$work/tiny" \
	--disk /dev/vda,format=raw,readonly=on \
	--limit cpu-weight=50,cpu=30%,memory=700M,pids=64,io-read=1M,io-write=64K </dev/null >/out 2>/err &
# (It interprets itself: slow.)
for i in \$(seq 300); do grep -q ! /out && break; sleep 0.2; done
cd \$G/vireo-* || { cat /err; echo "no group"; exit; }
for f in cpu.weight cpu.max memory.max pids.max io.max; do echo "\$f \$(cat \$f)."; done
[ "\$(wc -l <cgroup.procs)" -ge 1 ] && echo inhabited
cd /
kill \$!
wait \$!
echo "status \$?"
TMPDIR=/mnt XDG_RUNTIME_DIR=/mnt chroot /h "$build/vireo" run --engine soft --memory 16M --kernel "$work/tiny" \
	--share /,tag=t --limit io-read=1M </dev/null 2>&1
ls -d \$G/vireo-* 2>/dev/null || echo gone
END
echo "file /session $work/session 755" >"$work/list"
tools/modules.sh "$kernel" >>"$work/list"
tools/initramfs.sh "$work/cpio" "$work/list" || { echo "no initramfs"; exit 77; }
truncate -s 16M "$work/disk"
timeout 300 "$build/vireo" run --disk "$work/disk,format=raw" --engine "${ENGINE:-soft}" --kernel "$kernel" --initrd "$work/cpio" \
	--memory 1G --share /,tag=root,readonly,security=none --no-reboot \
	--cmdline 'console=ttyS0 panic=-1 quiet run="sh /session"' </dev/null >"$work/log" 2>"$work/err"
tr -d '\r' <"$work/log" >"$work/text"

line() {	# NAME LINE
	if grep -qxF -- "$2" "$work/text"; then echo "ok limit/$1"; else
		echo "not ok limit/$1: no line '$2': $(tail -n 12 "$work/text" "$work/err")"
		bad=1
	fi
}
line weight "cpu.weight 50."
line cpu "cpu.max 30000 100000."
line memory "memory.max 734003200."
line pids "pids.max 64."
line io "io.max 254:0 rbps=1048576 wbps=65536 riops=max wiops=max."
line inhabited inhabited
if grep -q "cannot be had for '/'.*no block device" "$work/text"; then echo "ok limit/no-device"; else
	echo "not ok limit/no-device: $(tail -n 12 "$work/text")"
	bad=1
fi
line status "status 10"
line gone gone
exit $bad
