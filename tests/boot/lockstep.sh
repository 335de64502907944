#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Interpreter and translator in lockstep: over the first million instructions (LONG=1: a
# hundred times as many) of a Debian kernel's boot, and over guestbench's kernels at CPL 3,
# made short, whose checksums must be those of the bare host: as a 64-bit program and, where gcc
# makes one, a 32-bit program.  Says what was compared.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build}
work=$build/tests/lockstep
mkdir -p "$work"
bad=0

if ! kernel=$(tools/kernel.sh cloud 2>"$work/kernel.err"); then
	echo "no kernel: $(tail -n 1 "$work/kernel.err")"
	exit 77
fi

counter() { sed -n "s/^ *\([0-9]*\)  lockstep: $1\$/\1/p" "$2"; }

say() {
	local name=$1 err=$2 status=$3 wanted=$4 compared
	compared=$(counter 'instructions compared' "$err")
	if grep -q 'differ' "$err"; then
		echo "not ok lockstep/$name: $(grep -m 1 differ "$err")"
	elif ((status != wanted)); then
		echo "not ok lockstep/$name: status $status: $(tail -n 1 "$err")"
	elif ((${compared:-0} < least)); then
		echo "not ok lockstep/$name: ${compared:-no} instructions compared, not $least"
	else
		echo "ok lockstep/$name ($compared instructions in $(counter 'runs compared' "$err")" \
			"runs; $(counter 'runs that went too far to compare' "$err") not compared)"
		return
	fi
	bad=1
}

# Ended from outside; longer where that was too early.
boot() {
	local seconds err=$work/boot.err status
	for seconds in "$@"; do
		timeout "$seconds" "$build/vireo" run --kernel "$kernel" --translator lockstep --stats \
			--cmdline "console=ttyS0" </dev/null >"$work/boot.log" 2>"$err"
		status=$?
		((status == 124)) || break
		compared=$(counter 'instructions compared' "$err")
		((${compared:-0} >= least)) && break
	done
	say boot "$err" "$status" 124
}

sums() { tr -d '\r' | sed -n 's/^bench \([a-z0-9]*\) .*sum=/\1 /p'; }

kernels() {
	local name=$1 image=$build/$2 list=$3 err=$work/$1.err words status
	words=${list//,/ }
	timeout 850 "$build/vireo" run --kernel "$kernel" --initrd "$image/initramfs.cpio" \
		--translator lockstep-user --stats --no-reboot \
		--cmdline "console=ttyS0 panic=-1 quiet bench=$list scale=0.001" \
		</dev/null >"$work/$name.log" 2>"$err"
	status=$?
	say "$name" "$err" "$status" 0
	# shellcheck disable=SC2086
	GUESTBENCH_DIR=$work "$image/guestbench" -s 0.001 $words | sums >"$work/native"
	sums <"$work/$name.log" >"$work/guest"
	if diff "$work/native" "$work/guest" >"$work/diff"; then
		echo "ok lockstep/$name-checksums ($(wc -l <"$work/guest") kernels)"
	else
		echo "not ok lockstep/$name-checksums: $(tr '\n' ' ' <"$work/diff")"
		bad=1
	fi
}

if ! { [ -x "$build/mkinitramfs" ] || make -s "$build/mkinitramfs"; } ||
   ! bench/image.sh "$build/bench" >"$work/image.err" 2>&1; then
	echo "no image of guestbench: $(tail -n 1 "$work/image.err")"
	exit 77
fi
kernels32() {
	if BITS=32 bench/image.sh "$build/bench32" >"$work/image32.err" 2>&1 &&
	   "$build/bench32/guestbench" -s 0.001 string >/dev/null 2>>"$work/image32.err"; then
		kernels kernels32 bench32 "$1"
	else
		echo "# no 32-bit programs: $(tail -n 1 "$work/image32.err")"
	fi
}

least=1000000
if [ -n "${LONG:-}" ]; then
	least=100000000
	boot 300 1200
	kernels kernels bench interp,sort,hash,string,sieve,sha256,lz,nbody,x87,matsse2,chase64k,copyrep,copysse,vcall,fib,smc,jit,syscall,pipe,fork,exec,fault,signal,file
	least=10000000
	kernels32 interp,sort,hash,string,sieve,sha256,lz,nbody,x87,matsse2,chase64k,copyrep,copysse,vcall,fib,smc,jit,syscall,pipe,fork,exec,fault,signal,file
else
	boot 4 15 60 240
	kernels kernels bench interp,hash,string,sha256,nbody,x87,copyrep,vcall,smc,jit,syscall,fork,fault,signal
	kernels32 interp,sha256,x87,vcall,jit,syscall,fork,signal
fi
exit $bad
