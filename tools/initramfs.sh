#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes an initramfs with Debian's static busybox: tools/initramfs.sh OUTPUT [LIST...]
# Lines of the LISTs (see tools/mkinitramfs.c) are added, and win over earlier ones.
# Needs the package busybox-static; no root.
set -eu
out=$(realpath -m "$1")
shift
[ $# = 0 ] || lists=$(realpath "$@")
cd "$(dirname "$0")/.."		# paths in a list have no spaces; ours may
busybox=${BUSYBOX:-/bin/busybox}
tool=${BUILD:-build}/mkinitramfs
[ -x "$tool" ] || make -s "$tool" >&2
[ -x "$busybox" ] || { echo "no $busybox: install busybox-static" >&2; exit 1; }
{
	for d in bin dev etc proc root sys tmp; do echo "dir /$d 755"; done
	echo "char /dev/console 600 5 1"
	echo "char /dev/null 666 1 3"
	echo "file /bin/busybox $busybox 755"
	for a in $("$busybox" --list); do
		[ "$a" = busybox ] || echo "link /bin/$a busybox"
	done
	echo "file /init tools/guest/init 755"
	echo "file /etc/shrc tools/guest/shrc 644"
	[ $# = 0 ] || echo "$lists" | tr '\n' '\0' | xargs -0 cat
} | "$tool" "$out"
