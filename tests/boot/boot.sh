#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Debian's cloud and standard kernels boot to user land, run commands and power off,
# interpreted (the standard kernel only with LONG=1: half a minute) and translated.
# The commands' output and the statuses are checked; the time is printed, not judged.
# KERNELS="cloud" or "standard" picks one; VIREO_OPTIONS has more options for vireo run.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build}
work=$build/tests/boot
mkdir -p "$work"
bad=0
limit=300
[ "${SAN:-0}" != 1 ] || limit=800

fail() {
	echo "not ok boot/$1: $2"
	bad=1
}

# Words the guest prints, and what they have to be.
commands='echo sum $((6 * 7)); uname -m; nproc; seq 1 1000 | md5sum; ls /proc/self/exe >/dev/null && echo proc; (exit 5); echo left $?'
expected=$(printf 'sum 42\nx86_64\n1\n%s\nproc\nleft 5\nstatus 0\n' "$(seq 1 1000 | md5sum)")

boot_one() {
	local flavour=$1 translator=$2 kernel status start=$SECONDS line
	local name=$flavour-translator-$translator
	local log=$work/$name.log

	if ! kernel=$(tools/kernel.sh "$flavour" 2>"$work/kernel.err"); then
		echo "ok boot/$name # skip no kernel: $(tail -n 1 "$work/kernel.err")"
		return
	fi
	timeout "$limit" "$build/vireo" run --engine "${ENGINE:-soft}" --translator "$translator" \
		${VIREO_OPTIONS:-} \
		--kernel "$kernel" \
		--initrd "$work/initramfs" --memory 512M \
		--cmdline "console=ttyS0 panic=-1 run=\"$commands\"" \
		</dev/null >"$log" 2>"$log.err"
	status=$?
	tr -d '\r' <"$log" >"$log.text"
	if ((status != 0)); then
		tail -n 15 "$log.text" "$log.err"
		fail "$name" "vireo's status is $status"
		return
	fi
	while IFS= read -r line; do
		grep -qxF "$line" "$log.text" || fail "$name" "no line '$line' in $log.text"
	done <<<"$expected"
	grep -q 'Kernel panic\|Oops\|BUG:\|WARNING:' "$log.text" &&
		fail "$name" "$(grep -m 1 'Kernel panic\|Oops\|BUG:\|WARNING:' "$log.text")"
	((bad)) || echo "ok boot/$name ($((SECONDS - start)) s," \
		"/init after $(sed -n 's/^\[ *\([0-9.]*\)\] Run \/init.*/\1/p' "$log.text") s of the guest's clock)"
}

tools/initramfs.sh "$work/initramfs" || { echo "no initramfs"; exit 77; }
# Interpreted under the sanitizers, the standard kernel takes many minutes.
if [ "${SAN:-0}" = 1 ] && [ -z "${KERNELS:-}" ]; then
	KERNELS=cloud
	echo "ok boot/standard # skip under the sanitizers only with KERNELS=standard"
fi
for flavour in ${KERNELS:-cloud standard}; do
	[ $flavour = cloud ] || [ -n "${LONG:-}${KERNELS:-}" ] && boot_one "$flavour" off
	boot_one "$flavour" auto
done
((bad == 0))
