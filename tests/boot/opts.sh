#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Without each of the translator's optimizations, and without all, the same results: blocks of
# the oracle, the guest image that rewrites its code (LONG=1: all images), a kernel's boot
# whose commands print the same.  OPTS="chain group" picks some.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build}
work=$build/tests/opts
mkdir -p "$work"
seed=${ORACLE_SEED:-$(date +%s)}
bad=0

commands='seq 1 300 | md5sum; head -c 100000 /dev/zero | gzip | sha256sum; echo 7 ^ 40 | bc; (exit 5); echo left $?'
expected=$({ seq 1 300 | md5sum; echo '6366805760909027985741435139224001'; echo 'left 5'; })

fail() {
	echo "not ok opts/$1: $2"
	bad=1
}

boot() {
	local opt=$1 log=$work/$1.log line
	timeout 300 "$build/vireo" run --translator on --translator-opt "no-$opt" --kernel "$kernel" \
		--initrd "$work/initramfs" --no-reboot \
		--cmdline "console=ttyS0 panic=-1 quiet run=\"$commands\"" </dev/null >"$log" 2>"$log.err" ||
		fail "$opt" "the boot's status is $?: $(tail -n 1 "$log.err")"
	tr -d '\r' <"$log" >"$log.text"
	while IFS= read -r line; do
		grep -qxF "$line" "$log.text" || fail "$opt" "no line '$line' in $log.text"
	done <<<"$expected"
	# Of what has no expectation here, all must agree.
	grep '  -$' "$log.text" >"$work/sums.$opt"
	cmp -s "$work/sums.$opt" "$work/sums.$first" || fail "$opt" "other sums than without $first"
}

images="smc64 prot32 paging32"
[ -z "${LONG:-}" ] || images=
if kernel=$(tools/kernel.sh cloud 2>"$work/kernel.err"); then
	[ -x "$build/mkinitramfs" ] || make -s "$build/mkinitramfs"
	tools/initramfs.sh "$work/initramfs" || exit 77
else
	echo "no boots: no kernel: $(tail -n 1 "$work/kernel.err")"
fi
[ -x "$build/tests/insn/oracle" ] || make -s "$build/tests/insn/oracle"

first=
names=$("$build/vireo" run --translator-opt help | sed -n 's/^  \([a-z-]*\) .*/\1/p')
for opt in ${OPTS:-$names all}; do
	start=$SECONDS before=$bad bad=0
	first=${first:-$opt}
	[ "$opt" = all ] || sed 's/\\-/-/g' man/vireo.1 | grep -qE "^\.BR? (no-)?$opt( |\$)" ||
		fail "$opt" "man/vireo.1 does not name it"
	for engine in translator windows; do
		"$build/tests/insn/oracle" --seed "$seed" --form block --engine $engine --without "$opt" \
			--cases $((${LONG:+20} + 1))000 >"$work/$opt.oracle" 2>&1
		case $? in
		0 | 77) ;;
		*) fail "$opt" "$(grep -m 1 '^not ok' "$work/$opt.oracle")" ;;
		esac
	done
	# shellcheck disable=SC2086
	VIREO_OPTIONS="--translator on --translator-opt no-$opt" tests/guest/run $images \
		>"$work/$opt.images" 2>&1 || fail "$opt" "$(grep -m 1 '^not ok' "$work/$opt.images")"
	# Without any of them it takes minutes.
	[ -z "$kernel" ] || [ "$opt$(printf %.1s "${LONG:-}")" = all ] || boot "$opt"
	((bad)) || echo "ok opts/$opt ($((SECONDS - start)) s)"
	bad=$((bad | before))
done
exit $bad
