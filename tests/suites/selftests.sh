#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Linux's own x86 self-tests (tools/testing/selftests/x86 of Debian's linux-source-6.1),
# 64- and 32-bit, static, run in a guest with Debian's standard kernel: a table of what each
# comes to under QEMU's TCG and under Vireo.  A test that passes under QEMU and fails
# here is a failure.  RUN_ON="vireo" leaves QEMU out (its last results are kept).
cd "$(dirname "$0")/../.." || exit 2
suite=selftests
. tests/lib/suite.sh
need gcc dpkg-deb xz
version=6.1
tree=linux-source-$version
x86=$tree/tools/testing/selftests/x86

# The tests with the sources they need besides their own.
both="single_step_syscall sysret_ss_attrs syscall_nt test_mremap_vdso check_initial_reg_state
sigreturn iopl ioperm test_vsyscall mov_ss_trap sigtrap_loop syscall_arg_fault
fsgsbase_restore sigaltstack ldt_gdt ptrace_syscall"
only32="entry_from_vm86 test_syscall_vdso unwind_vdso test_FCMOV test_FCOMI test_FISTTP
vdso_restorer"
only64="fsgsbase sysret_rip syscall_numbering corrupt_xstate_header amx"

get_source() {
	[ -d "$cache/$x86" ] && return
	(cd "$work" && { ls ${tree}_*.deb >/dev/null 2>&1 ||
		apt-get -o APT::Sandbox::User= -qq download $tree; }) >&2 ||
		skip "cannot get the package $tree"
	dpkg-deb --fsys-tarfile "$work"/${tree}_*.deb | tar -xO ./usr/src/$tree.tar.xz |
		xz -dc | tar -x -C "$cache" --wildcards "$x86/*" "$tree/arch/x86/include/asm/desc_defs.h" \
		"$tree/tools/testing/selftests/*.h" || skip "cannot unpack $tree"
	rm -f "$work"/${tree}_*.deb
}

build_one() {
	local name=$1 bits=$2 extra=

	case $name$bits in
	sysret_ss_attrs64) extra=thunks.S ;;
	ptrace_syscall32) extra=raw_syscall_helper_32.S ;;
	test_syscall_vdso32) extra=thunks_32.S ;;
	check_initial*) extra=-Wl,-ereal_start ;;
	esac
	[ -x "$work/bin/${name}_$bits" ] || (cd "$cache/$x86" &&
		gcc -m"$bits" -O2 -std=gnu99 -pthread -static -no-pie -w -DCAN_BUILD_32 \
			-DCAN_BUILD_64 -o "$work/bin/${name}_$bits" "$name.c" $extra -lrt -ldl -lm)
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
	cat >"$work/init" <<-'EOF'
	#!/bin/busybox sh
	export PATH=/bin
	mount -t proc proc /proc
	mount -t tmpfs tmp /tmp
	ifconfig lo 127.0.0.1 up
	cd /tests
	for t in *; do
		echo "== $t"
		timeout -s KILL 60 ./$t </dev/null 2>&1
		echo "== $t status $?"
	done
	poweroff -f
	EOF
	tools/initramfs.sh "$work/initramfs" "$list" || skip "cannot make the initramfs"
}

# Runs all tests under $1; writes "TEST RESULT" lines to $work/$1.results.
run_on() {
	boot_tests "$work/initramfs" "$1" >"$work/$1.log" 2>"$work/$1.err"
	tr -d '\r' <"$work/$1.log" |
		sed -n 's/^== \([^ ]*\) status \([0-9]*\)$/\1 \2/p' |
		sed 's/ 0$/ pass/; s/ 4$/ skip/; s/ \([0-9][0-9]*\)$/ fail:\1/' >"$work/$1.results"
}

result_of() {
	local r

	r=$(sed -n "s/^$2 //p" "$work/$1.results" 2>/dev/null)
	echo "${r:-none}"
}

get_source
can_build_32 || skip "needs gcc-multilib and libc6-dev-i386 for the 32-bit tests"
mkdir -p "$work/bin"
for t in $both $only64; do build_one $t 64 || skip "$t does not build"; done
for t in $both $only32; do build_one $t 32 || skip "$t does not build"; done
make_image
for on in ${RUN_ON:-qemu vireo}; do
	[ $on != qemu ] || command -v qemu-system-x86_64 >/dev/null || continue
	run_on $on
done

bad=0
printf '# %-28s %-10s %s\n' test qemu vireo
for t in "$work"/bin/*; do
	t=${t##*/}
	q=$(result_of qemu "$t") v=$(result_of vireo "$t")
	printf '# %-28s %-10s %s\n' "$t" "$q" "$v"
	case $q-$v in
	*-pass) echo "ok selftests/$t" ;;
	*-skip) echo "ok selftests/$t # skip by the test itself" ;;
	pass-*) echo "not ok selftests/$t: $v, under QEMU it passes"; bad=1 ;;
	*) echo "ok selftests/$t # skip fails under QEMU too: $v" ;;
	esac
done
for on in qemu vireo; do
	echo "# $on: $(grep -c ' pass$' "$work/$on.results") of $(ls "$work/bin" | wc -l) pass"
done
exit $bad
