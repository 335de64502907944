#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# "make run": builds vireo, gets Debian's kernel, makes an initramfs, and boots it to a
# shell on this terminal, or feeds the shell from stdin.  With no input at all (/dev/null) it
# shows that the guest runs, and ends.  Arguments go to "vireo run".
set -eu
cd "$(dirname "$0")/.."
export BUILD="${BUILD:-build}"
tools/packages.sh run
make -s --no-print-directory -j"$(nproc)" "$BUILD/vireo" "$BUILD/mkinitramfs"
kernel=$(tools/kernel.sh cloud)
initramfs=$BUILD/initramfs.cpio
modules=$BUILD/modules.list
tools/modules.sh "$kernel" >"$modules"
tools/initramfs.sh "$initramfs" "$modules"
words=
if [ -t 0 ]; then
	words=$(stty size | sed -n 's/^\([1-9][0-9]*\) \([1-9][0-9]*\)$/LINES=\1 COLUMNS=\2/p')
elif [ "$(readlink /proc/self/fd/0)" = /dev/null ]; then
	words='run="uname -a"'
fi
exec "$BUILD/vireo" run --kernel "$kernel" --initrd "$initramfs" --memory 512M --no-reboot \
	--cmdline "console=ttyS0,115200 panic=-1 TERM=${TERM:-linux} $words" "$@"
