#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The spooled printer with Linux's driver: what goes to /dev/lp0 comes out of the queue as two
# files, as they were.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=$(realpath "${BUILD:-build}")
work=$build/tests/boot/printer
rm -rf "$work"
mkdir -p "$work/out"
bad=0

kernel=$(tools/kernel.sh standard 2>/dev/null) || { echo "no kernel"; exit 77; }
[ -f "$(dirname "$kernel")/lp.ko" ] || { echo "no lp.ko beside the kernel"; exit 77; }
tools/modules.sh "$kernel" >"$work/list"
tools/initramfs.sh "$work/cpio" "$work/list" || { echo "no initramfs"; exit 77; }
commands='for m in parport parport_pc lp; do insmod /lib/$m.ko; done; seq 1 500 >/dev/lp0; sleep 3; echo second >/dev/lp0'
VIREO_SPOOL=$work/spool timeout 120 "$build/vireo" run --engine "${ENGINE:-soft}" --kernel "$kernel" \
	--initrd "$work/cpio" --memory 256M --printer "office,out=$work/out,idle=1,name=linux" \
	--cmdline "console=ttyS0 panic=-1 quiet run=\"$commands\"" </dev/null >"$work/log" 2>&1
status=$?

check() {	# NAME COMMAND...
	local name=$1
	shift
	if "$@"; then echo "ok printer/$name"; else
		echo "not ok printer/$name: $*"
		bad=1
	fi
}
check status [ $status = 0 ]
check first cmp "$work/out/00000001.linux.prn" <(seq 1 500)
check second cmp "$work/out/00000002.linux.prn" <(echo second)
check no-more [ "$(ls "$work/out" | wc -l)" = 2 ]
exit $bad
