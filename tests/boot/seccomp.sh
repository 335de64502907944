#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In a container's default confinement (tests/lib/container.c: system call filter, no new
# privileges, few capabilities, an ordinary user) doctor says yes and knows of the filter,
# and Debian's cloud kernel boots, interpreted and translated, and powers off.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"	# the ordinary user must be able to read what is here
gcc -O2 -Wall -Wextra -Werror -o "$work/container" tests/lib/container.c || exit 1
bad=0

fail() {
	echo "not ok seccomp/$1: $2"
	bad=1
}

"$work/container" --verify >"$work/out" 2>&1
case $? in
0) echo "ok seccomp/verify" ;;
77) cat "$work/out"; echo "no seccomp filter can be installed here"; exit 77 ;;
*) fail verify "$(cat "$work/out")" ;;
esac
cp "$build/vireo" "$work/vireo"

"$work/container" "$work/vireo" doctor >"$work/out" 2>&1
status=$?
if [ $status != 0 ] || ! grep -q 'seccomp *a filter is installed' "$work/out"; then
	fail doctor "status $status: $(cat "$work/out")"
else
	echo "ok seccomp/doctor"
fi

kernel=$(tools/kernel.sh cloud 2>"$work/kernel.err") || {
	echo "ok seccomp/boot # skip no kernel: $(tail -n 1 "$work/kernel.err")"
	exit $bad
}
tools/initramfs.sh "$work/initramfs" || exit 1
cp "$kernel" "$work/vmlinuz"
chmod 644 "$work/vmlinuz" "$work/initramfs"
for translator in off auto; do
	timeout 300 "$work/container" "$work/vireo" run --translator $translator \
		--kernel "$work/vmlinuz" --initrd "$work/initramfs" --memory 256M --no-reboot \
		--cmdline 'console=ttyS0 quiet panic=-1 run="seq 1 100 | md5sum"' \
		</dev/null >"$work/log" 2>"$work/err"
	status=$?
	if [ $status != 0 ] || ! grep -q "$(seq 1 100 | md5sum)" "$work/log"; then
		tail -n 10 "$work/log" "$work/err"
		fail "boot-translator-$translator" "status $status"
	else
		echo "ok seccomp/boot-translator-$translator"
	fi
done
exit $bad
