#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The spooled printer with Linux's driver: what goes to /dev/lp0 comes out of the queue as two
# files, as they were.
set -u
. "$(dirname "$0")/../lib/boot.sh" printer
build=$(realpath "$build") work=$(realpath "$work")
rm -rf "$work"
mkdir -p "$work/out"
debian_kernel standard lp
initramfs
commands='for m in parport parport_pc lp; do insmod /lib/$m.ko; done; seq 1 500 >/dev/lp0; sleep 3; echo second >/dev/lp0'
VIREO_SPOOL=$work/spool timeout 120 "$build/vireo" run --engine "${ENGINE:-soft}" --kernel "$kernel" \
	--initrd "$work/cpio" --memory 256M --printer "office,out=$work/out,idle=1,name=linux" \
	--cmdline "console=ttyS0 panic=-1 quiet run=\"$commands\"" </dev/null >"$work/log" 2>&1
status=$?

check status [ $status = 0 ]
check first cmp "$work/out/00000001.linux.prn" <(seq 1 500)
check second cmp "$work/out/00000002.linux.prn" <(echo second)
check no-more [ "$(ls "$work/out" | wc -l)" = 2 ]
exit $bad
