# SPDX-License-Identifier: Apache-2.0
# What the scripts in tests/suites share: packages, a cache, runs in a guest.  Sourced by
# bash scripts that have set 'suite' and stand in the project's folder.
set -u
build=${BUILD:-build}
work=$(realpath -m "$build/suites/$suite")
cache=$(realpath -m "${VIREO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vireo}")
mkdir -p "$work" "$cache"

skip() {
	echo "$*"
	exit 77
}

# Suites take minutes: only make check-long runs them, or a person by hand.
[ -n "${LONG:-}" ] || [ -t 1 ] || skip "runs with LONG=1 (make check-long)"

need() {
	local c

	for c in "$@"; do
		command -v "$c" >/dev/null || skip "needs $c"
	done
}

# can_build_32: gcc-multilib and the 32-bit C library are there.
can_build_32() {
	echo 'int main(void){return 0;}' | gcc -m32 -static -x c -o "$work/try32" - 2>/dev/null
}

# boot_tests IMAGE ON: boots Debian's standard kernel with the initramfs IMAGE under "vireo"
# or "qemu", with the console on stdout.  (The cloud kernel has no 16-bit segments.)
boot_tests() {
	local kernel

	kernel=$(tools/kernel.sh standard 2>/dev/null) || skip "no kernel"
	case $2 in
	qemu)
		timeout "${SUITE_TIMEOUT:-900}" qemu-system-x86_64 -accel tcg -cpu max -m 512M \
			-nodefaults -no-reboot -display none -serial stdio -kernel "$kernel" \
			-initrd "$1" -append "console=ttyS0 panic=-1 quiet vsyscall=xonly" ;;
	vireo)
		timeout "${SUITE_TIMEOUT:-900}" "$build/vireo" run --engine "${ENGINE:-soft}" \
			${VIREO_OPTIONS:-} --memory 512M --cpu "${CPU:-vireo-v1}" --kernel "$kernel" --initrd "$1" \
			--cmdline "console=ttyS0 panic=-1 quiet vsyscall=xonly" ;;
	esac </dev/null
}
