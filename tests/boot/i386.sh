#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A 32-bit user land under Debian's 64-bit cloud kernel: the static busybox of Debian's i386, whose
# programs must print what they print on the bare host (or, where that runs no 32-bit programs,
# interpreted) translated, compared in lockstep, and without the translation of 32-bit code.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build}
work=$(realpath -m "$build/tests/i386")
bad=0
mkdir -p "$work"

if ! busybox=$(tools/busybox386.sh 2>"$work/apt.log"); then
	echo "no i386 busybox: $(tail -n 1 "$work/apt.log")"
	exit 77
fi
if ! kernel=$(tools/kernel.sh cloud 2>"$work/kernel.err"); then
	echo "no kernel: $(tail -n 1 "$work/kernel.err")"
	exit 77
fi

cat >"$work/programs" <<'END'
seq 1 300 | md5sum
head -c 60000 /dev/zero | gzip -9 | sha256sum
seq 1 200 | bzip2 | sha1sum
echo '7 ^ 400' | bc
seq 1 800 | sort -n -r | sha512sum
seq 1 500 | awk '{ s += $1 * $1 } END { print s }'
seq 1 100 | sed 's/1\(.\)/\1x/g' | sha3sum
seq 1 500 | xxd | tail -n 1
expr 12345 \* 6789 % 1000
i=0; while [ $i -lt 200 ]; do i=$((i + 1)); done; echo $i
(exit 5); echo left $?
END
printf 'file /programs %s 755\n' "$work/programs" >"$work/list"
BUSYBOX=$busybox tools/initramfs.sh "$work/initramfs" "$work/list" 2>"$work/initramfs.err" ||
	{ [ -x /bin/busybox ] || { cat "$work/initramfs.err"; exit 77; }; }

run() {
	local name=$1 start=$SECONDS
	shift
	timeout 600 "$build/vireo" run "$@" --stats --kernel "$kernel" --initrd "$work/initramfs" \
		--memory 256M --no-reboot \
		--cmdline "console=ttyS0 panic=-1 quiet run=\"echo BEGIN; sh /programs; echo END\"" \
		</dev/null >"$work/$name.log" 2>"$work/$name.err" ||
		{ echo "not ok i386/$name: status $?: $(tail -n 1 "$work/$name.err")"; bad=1; return; }
	tr -d '\r' <"$work/$name.log" | sed -n '/^BEGIN$/,/^END$/{/^BEGIN$/d;/^END$/d;p}' >"$work/$name.out"
	if cmp -s "$work/$name.out" "$work/expected"; then
		echo "ok i386/$name ($((SECONDS - start)) s)"
	else
		echo "not ok i386/$name: $(diff "$work/expected" "$work/$name.out" | tr '\n' ' ')"
		bad=1
	fi
}

natively() {
	local path=$work/bin a

	mkdir -p "$path"
	for a in $("$busybox" --list); do
		ln -sf "$busybox" "$path/$a"
	done
	PATH=$path "$path/sh" "$work/programs"
}

if ! natively >"$work/expected" 2>/dev/null || [ ! -s "$work/expected" ]; then
	echo "# this host runs no 32-bit programs"
	run interpreted --translator off >/dev/null
	cp "$work/interpreted.out" "$work/expected"
	bad=0
fi
run translated --translator on
run lockstep --translator lockstep-user
run without --translator on --translator-opt no-code32
compared=$(sed -n 's/^ *\([0-9]*\)  lockstep: instructions compared$/\1/p' "$work/lockstep.err")
if ((${compared:-0} < 1000000)); then
	echo "not ok i386/lockstep: ${compared:-no} instructions compared"
	bad=1
fi
exit $bad
