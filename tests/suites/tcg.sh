#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The guest programs of QEMU's own test suite (tests/tcg: i386, x86_64, multiarch, from
# Debian's qemu source package), static, 64- and 32-bit: what each prints natively is
# compared with what it prints in a guest, under QEMU's TCG and under Vireo.  Where the
# native output differs between two runs, only the exit status is compared; lines are
# sorted, as threads may change places.  The guest of Vireo has the CPU model "host", so
# that native and guest have the same instructions.
cd "$(dirname "$0")/../.." || exit 2
suite=tcg
. tests/lib/suite.sh
need gcc python3 xz md5sum
src=$cache/qemu-7.2.0/tests/tcg

get_source() {
	local a=$work/apt opts

	[ -d "$src" ] && return
	mkdir -p "$a/etc" "$a/parts" "$a/lists/partial" "$a/cache/archives/partial"
	printf 'deb-src http://deb.debian.org/debian bookworm main\n' >"$a/etc/src.list"
	opts="-o Dir::Etc::SourceList=$a/etc/src.list -o Dir::Etc::SourceParts=$a/parts
		-o Dir::State::lists=$a/lists -o Dir::Cache=$a/cache -o APT::Sandbox::User= -qq"
	(cd "$work" && { ls qemu_*.orig.tar.xz >/dev/null 2>&1 ||
		{ apt-get $opts update && apt-get $opts --download-only source qemu; }; }) >&2
	tar -x -C "$cache" --wildcards -f "$work"/qemu_*.orig.tar.xz '*/tests/tcg/i386/*' \
		'*/tests/tcg/x86_64/*' '*/tests/tcg/multiarch/*' || skip "cannot get qemu's source"
}

# compile BITS NAME SOURCES-AND-FLAGS...
compile() {
	local out=$work/bin/$2.$1 bits=$1

	shift 2
	[ -x "$out" ] || gcc -m"$bits" -static -w -O2 -g0 -pthread -I"$src/multiarch" \
		-I"$src/i386" -I"$work/gen" -o "$out" "$@" -lm -lrt 2>"$out.err" ||
		{ echo "# does not build: ${out##*/}: $(grep -m 1 error "$out.err")"; rm -f "$out"; }
}

generate() {
	mkdir -p "$work/gen"
	(cd "$work/gen" && i=$src/i386 &&
		python3 "$i/test-mmx.py" "$i/x86.csv" test-3dnow.h 3DNOW &&
		python3 "$i/test-mmx.py" "$i/x86.csv" test-mmx.h MMX SSE SSE2 SSE3 SSSE3 &&
		python3 "$i/test-avx.py" "$i/x86.csv" test-avx.h)
}

build_all() {
	local f n bits i=$src/i386 m=$src/multiarch

	mkdir -p "$work/bin"
	generate || echo "# the MMX, AVX and 3DNow! tables could not be generated"
	for bits in 64 32; do
		for f in "$m"/*.c "$m"/linux/*.c; do
			n=$(basename "$f" .c)
			case $n in
			float_*) compile $bits "$n" "$f" "$m/libs/float_helpers.c" ;;
			*) compile $bits "$n" "$f" ;;
			esac
		done
		compile $bits sha512-sse -msse4.1 -O3 "$m/sha512.c"
	done
	for f in "$src"/x86_64/*.c; do compile 64 "$(basename "$f" .c)" "$f"; done
	compile 64 test-x86_64 "$i/test-i386.c"
	compile 64 test-i386-bmi2 "$i/test-i386-bmi2.c"
	compile 64 test-i386-ssse3 "$i/test-i386-ssse3.c"
	compile 64 test-mmx -masm=intel -O "$i/test-mmx.c"
	compile 64 test-avx -mavx -masm=intel -O "$i/test-avx.c"
	compile 64 test-3dnow -masm=intel -O "$i/test-3dnow.c"
	for f in "$i"/*.c; do
		n=$(basename "$f" .c)
		case $n in
		test-3dnow | test-avx | test-mmx | test-i386-ssse3) ;;
		hello-i386) compile 32 "$n" -ffreestanding -nostdlib "$f" ;;
		test-i386) compile 32 "$n" -fno-pie -no-pie "$f" "$i/test-i386-code16.S" \
			"$i/test-i386-vm86.S" ;;
		test-i386-sse-exceptions) compile 32 "$n" -msse4.1 -mfpmath=sse "$f" ;;
		test-i386-pcmpistri) compile 32 "$n" -msse4.2 "$f" ;;
		*) compile 32 "$n" "$f" ;;
		esac
	done
	rm -f "$work"/bin/*.err
}

# One program: "NAME STATUS MD5-OF-OUTPUT".
run_native() {
	local t out status

	for t in "$work"/bin/*; do
		out=$(cd "$work/run" && timeout -s KILL 60 "$t" 2>&1 </dev/null | LC_ALL=C sort |
			md5sum
			exit "${PIPESTATUS[0]}")
		status=$?
		echo "${t##*/} $status ${out%% *}"
	done
}

make_image() {
	local list=$work/list t

	{
		echo "dir /tests 755"
		for t in "$work"/bin/*; do
			echo "file /tests/${t##*/} $t 755"
		done
		echo "file /init $work/init 755"
	} >"$list"
	# /run is the working folder, as natively.
	cat >"$work/init" <<-'EOF'
	#!/bin/busybox sh
	export PATH=/bin
	mount -t proc proc /proc
	mount -t tmpfs tmp /tmp
	ifconfig lo 127.0.0.1 up
	mkdir -p /dev/shm /tmp/run
	mount -t tmpfs shm /dev/shm
	cd /tmp/run
	for t in /tests/*; do
		timeout -s KILL 100 $t </dev/null >/tmp/out 2>&1
		echo "== ${t##*/} $? $(sort /tmp/out | md5sum | cut -d ' ' -f 1)"
	done
	poweroff -f
	EOF
	tools/initramfs.sh "$work/initramfs" "$list" || skip "cannot make the initramfs"
}

run_on() {
	boot_tests "$work/initramfs" "$1" >"$work/$1.log" 2>"$work/$1.err"
	tr -d '\r' <"$work/$1.log" |
		sed -n 's/^== \([^ ]* [0-9]* [0-9a-f]*\)$/\1/p' >"$work/$1.results"
}

# verdict ON NAME: pass, differs, fail:STATUS, none
verdict() {
	local native again guest status

	native=$(grep "^$2 " "$work/native.results")
	again=$(grep "^$2 " "$work/native2.results")
	guest=$(grep "^$2 " "$work/$1.results" 2>/dev/null)
	status=$(echo "$native" | cut -d ' ' -f 2)
	if [ -z "$guest" ]; then
		echo none
	elif [ "$guest" = "$native" ] || [ "$guest" = "$again" ]; then
		echo pass
	elif [ "$(echo "$guest" | cut -d ' ' -f 2)" != "$status" ]; then
		echo "fail:$(echo "$guest" | cut -d ' ' -f 2)"
	elif [ "$native" != "$again" ] || ((status >= 128)); then
		echo pass	# a shell's message about the signal is part of the output
	else
		echo differs
	fi
}

get_source
can_build_32 || skip "needs gcc-multilib and libc6-dev-i386 for the 32-bit programs"
build_all
mkdir -p "$work/run"
run_native >"$work/native.results"
run_native >"$work/native2.results"
make_image
export CPU=host
for on in ${RUN_ON:-qemu vireo}; do
	[ $on != qemu ] || command -v qemu-system-x86_64 >/dev/null || continue
	run_on $on
done

bad=0 qemu=0 vireo=0
printf '# %-28s %-10s %s\n' program qemu vireo
for t in "$work"/bin/*; do
	t=${t##*/}
	q=$(verdict qemu "$t") v=$(verdict vireo "$t")
	printf '# %-28s %-10s %s\n' "$t" "$q" "$v"
	[ $q = pass ] && qemu=$((qemu + 1))
	[ $v = pass ] && vireo=$((vireo + 1))
	case $q-$v in
	*-pass) echo "ok tcg/$t" ;;
	pass-*) echo "not ok tcg/$t: $v, under QEMU it passes"; bad=1 ;;
	*) echo "ok tcg/$t # skip differs from native under QEMU too: $v" ;;
	esac
done
echo "# of $(ls "$work/bin" | wc -l): qemu $qemu, vireo $vireo"
exit $bad
