#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Debian's cloud and standard kernels boot to user land, run commands and power off.
# The commands' output and the statuses are checked; the time is printed, not judged.
# KERNELS="cloud" or "standard" picks one; VIREO_OPTIONS has more options for vireo run.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build}
work=$build/tests/boot
mkdir -p "$work"
bad=0

fail() {
	echo "not ok boot/$1: $2"
	bad=1
}

# Words the guest prints, and what they have to be.
commands='echo sum $((6 * 7)); uname -m; nproc; seq 1 1000 | md5sum; ls /proc/self/exe >/dev/null && echo proc; (exit 5); echo left $?'
expected=$(printf 'sum 42\nx86_64\n1\n%s\nproc\nleft 5\nstatus 0\n' "$(seq 1 1000 | md5sum)")

boot_one() {
	local flavour=$1 kernel status start=$SECONDS log=$work/$1.log line

	if ! kernel=$(tools/kernel.sh "$flavour" 2>"$work/kernel.err"); then
		echo "ok boot/$flavour # skip no kernel: $(tail -n 1 "$work/kernel.err")"
		return
	fi
	timeout 300 "$build/vireo" run --engine "${ENGINE:-soft}" ${VIREO_OPTIONS:-} \
		--kernel "$kernel" \
		--initrd "$work/initramfs" --memory 512M \
		--cmdline "console=ttyS0 panic=-1 run=\"$commands\"" \
		</dev/null >"$log" 2>"$log.err"
	status=$?
	tr -d '\r' <"$log" >"$log.text"
	if ((status != 0)); then
		tail -n 15 "$log.text" "$log.err"
		fail "$flavour" "vireo's status is $status"
		return
	fi
	while IFS= read -r line; do
		grep -qxF "$line" "$log.text" || fail "$flavour" "no line '$line' in $log.text"
	done <<<"$expected"
	grep -q 'Kernel panic\|Oops\|BUG:\|WARNING:' "$log.text" &&
		fail "$flavour" "$(grep -m 1 'Kernel panic\|Oops\|BUG:\|WARNING:' "$log.text")"
	((bad)) || echo "ok boot/$flavour ($((SECONDS - start)) s," \
		"/init after $(sed -n 's/^\[ *\([0-9.]*\)\] Run \/init.*/\1/p' "$log.text") s of the guest's clock)"
}

tools/initramfs.sh "$work/initramfs" || { echo "no initramfs"; exit 77; }
for flavour in ${KERNELS:-cloud standard}; do
	boot_one "$flavour"
done
((bad == 0))
