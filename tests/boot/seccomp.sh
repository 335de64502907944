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

# The sandbox works in there, with Landlock or without; namespaces do not, and that is said.
printf '\x66\xba\xf8\x03\xb0!\xee\xb0\x2a\xe6\xf4\xf4\xeb\xfd' >"$work/code"
python3 - "$work/code" "$work/tiny" <<'END'
import struct, sys
code = open(sys.argv[1], "rb").read()
end = 0x100020 + len(code)
open(sys.argv[2], "wb").write(struct.pack("<8I", 0x1badb002, 0x10000, -0x1baeb002 & 0xffffffff, 0x100000,
                              0x100000, end, end, 0x100020) + code)
END
chmod 644 "$work/tiny"

# sandbox NAME STATUS PATTERN CONTAINER-OPTION RUN-OPTIONS...
sandbox() {
	local name=$1 want=$2 pattern=$3 old=$4
	shift 4
	# shellcheck disable=SC2086
	timeout 60 "$work/container" $old "$work/vireo" run --engine soft --memory 16M --debug-exit \
		--kernel "$work/tiny" "$@" </dev/null >"$work/out" 2>&1
	status=$?
	if [ $status = "$want" ] && grep -qE -- "$pattern" "$work/out"; then echo "ok seccomp/$name"; else
		fail "$name" "status $status: $(cat "$work/out")"
	fi
}
sandbox default 85 'system calls are filtered' ''
sandbox old-default 85 'filtered; this kernel has no Landlock' --old
sandbox old-on 12 'has no Landlock.*--sandbox auto' --old --sandbox on
sandbox jail 12 '--jail cannot have namespaces here.*without --jail' '' --jail
sandbox limit 12 '^vireo: (the control group|--limit needs)' '' --limit pids=100
mkdir -m 777 "$work/run"
XDG_RUNTIME_DIR=$work/run sandbox old-name 85 'has no Landlock' --old --name boxed

# A command in an image, with a share and a port; a machine that is kept, from its start to its end.
kernel=$(tools/kernel.sh standard 2>/dev/null)
if [ -f "$(dirname "${kernel:-/}")/9p.ko" ] && [ -x /bin/busybox ]; then
	mkdir -m 755 "$work/cache" "$work/root" "$work/root/bin" "$work/root/etc"
	mkdir -m 777 "$work/share" "$work/home"
	cp -r "$(dirname "$kernel")" "$work/cache/kernel-standard"
	chmod -R a+rX "$work/cache"
	cp /bin/busybox "$work/root/bin/"
	for applet in sh cat echo sleep; do ln -s busybox "$work/root/bin/$applet"; done
	places="VIREO_CACHE=$work/cache HOME=$work/home XDG_DATA_HOME=$work/home XDG_RUNTIME_DIR=$work/run"
	port=$((20000 + $$ % 12000))
	# shellcheck disable=SC2086
	env $places timeout 120 "$work/container" "$work/vireo" run --rm --memory 256M -v "$work/share:/mnt" -p $port:22 \
		"$work/root" -- sh -c 'echo said; echo kept >/mnt/file; exit 9' </dev/null >"$work/out" 2>&1
	status=$?
	if [ $status = 9 ] && [ "$(cat "$work/out" "$work/share/file")" = "said
kept" ]; then echo "ok seccomp/image"; else fail image "status $status: $(cat "$work/out")"; fi
	for words in "create --memory 256M --root $work/root kept" 'start kept' 'stop kept' 'rm kept'; do
		# shellcheck disable=SC2086
		env $places timeout 120 "$work/container" "$work/vireo" $words </dev/null >"$work/out" 2>&1
		status=$?
		if [ $status = 0 ]; then echo "ok seccomp/kept-${words%% *}"; else
			fail "kept-${words%% *}" "status $status: $(cat "$work/out")"
		fi
	done
else
	echo "ok seccomp/image # skip no kernel with 9p.ko beside it, or no /bin/busybox"
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
