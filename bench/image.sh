#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds guestbench (static) and the benchmark's initramfs: bench/image.sh OUTPUT-FOLDER
# BITS=32: as an i386 program.
# Debian packages: gcc, libc6-dev, busybox-static, gcc-multilib for BITS=32; and
# build/mkinitramfs.  No root.
set -eu
out=$(realpath -m "$1")
cd "$(dirname "$0")/.."
mkdir -p "$out"
if [ ! -x "$out/guestbench" ] || [ bench/guestbench.c -nt "$out/guestbench" ]; then
	${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -static -pthread -fno-math-errno -s \
		${BITS:+-m$BITS -msse2} -o "$out/guestbench" bench/guestbench.c
fi
cat >"$out/list" <<END
dir /dev/shm 755
file /bin/guestbench $out/guestbench 755
file /init bench/init 755
END
tools/initramfs.sh "$out/initramfs.cpio" "$out/list"
