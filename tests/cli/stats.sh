#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vireo run --stats prints counters that fit what the guest did; --perf-map names translations.
. "$(dirname "$0")/../lib/cli.sh"

# counter NAME: its value in err.
counter() { sed -n "s/^ *\([0-9]*\)  $1\$/\1/p" err; }

# A guest of known counts: mov ecx, 10; loop: out 0x80, al; dec ecx; jnz; then writes 0 to
# the debug-exit port.
guest counted 'b9 0a 00 00 00 e6 80 49 75 fb 31 c0 e6 f4 f4'
run_vireo run --kernel counted --memory 16M --debug-exit --stats --translator off --log-level error
[ "$status" = 1 ] || complain "the counted guest's status is $status: $(cat err)"
[ "$(counter 'port accesses')" = 11 ] || complain "not 11 port accesses: $(cat err)"
n=$(counter 'instructions interpreted')
[ "${n:-0}" -ge 33 ] && [ "$n" -le 36 ] || complain "$n instructions interpreted, not 33 to 36"
[ "$(counter 'interrupts')" = 0 ] || complain "interrupts without a source: $(cat err)"
grep -q translator err && complain "translator's counters without a translator"
[ -s out ] && complain "something on stdout"

run_vireo run --kernel counted --memory 16M --debug-exit --log-level error
grep -q 'port accesses' err && complain "counters without --stats"
expect 2 "use it without --translator off" run --kernel counted --perf-map --translator off

# The translator's, on the one guest that has hot 64-bit code.
if kernel=$(ls "${VIREO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vireo}"/kernel-cloud/vmlinuz 2>/dev/null); then
	"$VIREO" run --kernel "$kernel" --translator on --stats --perf-map --no-reboot \
		--cmdline "console=ttyS0 panic=-1 quiet" >out 2>err </dev/null &
	pid=$!
	wait "$pid"
	status=$?
	[ "$status" = 4 ] || complain "the kernel without a root file system: status $status"
	for name in 'blocks translated' 'jumps chained' 'steps' 'bytes of code made'; do
		n=$(counter "translator: $name")
		[ "${n:-0}" -gt 1000 ] || complain "translator: $name: '$n' is too low"
	done
	[ "$(grep -c 'steps of' err)" = 10 ] || complain "not ten kinds of steps: $(cat err)"
	map=/tmp/perf-$pid.map
	n=$(counter 'translator: blocks translated')
	[ "$(grep -c '_*guest_' "$map")" = "$n" ] ||
		complain "$n translations, $(grep -c guest_ "$map") names"
	grep -qvE '^[0-9a-f]+ [0-9a-f]+ (vireo_translator|(user_)?guest_[0-9a-f]+)$' "$map" &&
		complain "a bad line in $map"
	rm -f "$map"
else
	echo "the translator's counters were not tried: no kernel in the cache"
fi
exit $bad
