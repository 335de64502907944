#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the lines for tools/initramfs.sh that add the modules kept beside a kernel image of
# tools/kernel.sh: tools/modules.sh KERNEL.  The guest's init loads what it finds.
dir=$(dirname "$1")
echo "dir /lib 755"
while read -r name; do
	[ ! -f "$dir/$name.ko" ] || echo "file /lib/$name.ko $dir/$name.ko 644"
done <"$(dirname "$0")/modules.list"
