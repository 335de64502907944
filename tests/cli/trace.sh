#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vireo trace: what is refused, and a block of a real kernel beside its host code, found by
# address and by symbols in a text file and in an ELF file.
. "$(dirname "$0")/../lib/cli.sh"

echo 'ffffffff81000000 T _text' >map
echo 'no symbols' >empty
head -c 3000 /dev/urandom >noise
{ printf '\177ELF\002\001\001'; head -c 3000 /dev/urandom; } >noise.elf
expect 2 'nothing to show is named' trace --kernel x
expect 2 'no address for --at' trace --kernel x --at 0x12z
expect 2 'without --symbols FILE no symbol is known' trace --kernel x --at main
expect 2 "no symbol 'main'" trace --kernel x --at main --symbols map
expect 2 'has no symbols' trace --kernel x --at main --symbols empty
expect 2 'absent' trace --kernel x --at main --symbols absent
expect 2 'symbol' trace --kernel x --at main --symbols noise
expect 2 'symbol' trace --kernel x --at main --symbols noise.elf
expect 2 'no value for --times' trace --kernel x --at 0x1 --times 0
expect 2 'use it without --translator off' trace --kernel x --at 0x1 --translator off
# 32-bit code is not translated: the guest ends before.
guest short '31 c0 e6 f4 f4'
expect 1 'ended after 0 translations' trace --kernel short --memory 16M --debug-exit --at 0x100020

kernel=$(ls "${VIREO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vireo}"/kernel-cloud/vmlinuz 2>/dev/null)
if [ -z "$kernel" ]; then
	echo "no kernel in the cache to look into"
	exit $bad
fi
"$VIREO" run --kernel "$kernel" --translator on --perf-map --no-reboot --log-level error \
	--cmdline "panic=-1 quiet nokaslr" >out 2>err </dev/null &
pid=$!
wait "$pid"
at=$(awk '$3 ~ /^guest_ffffffff8/ { print substr($3, 7) }' "/tmp/perf-$pid.map" | sed -n 1000p)
rm -f "/tmp/perf-$pid.map"
[ -n "$at" ] || { complain "no translation to look at"; exit 1; }

looks_right() {
	local n
	[ "$status" = 0 ] || complain "$1: status $status: $(cat err)"
	grep -qE '^block at 0xffffffff[0-9a-f]{8}.*, kernel, guest-physical' out || complain "$1: no head"
	grep -q "^$at  [a-z]" out || complain "$1: no line for $at"
	n=$(grep -cE '^    (innocuous|sensitive|privileged): ' out)
	[ "$n" = "$(grep -cE '^ffffffff[0-9a-f]{8}  [a-z]' out)" ] || complain "$1: not a class for each"
	grep -qE '\| [0-9a-f]{5}  [a-z]' out || complain "$1: no host code"
	grep -q '^behind the block' out || complain "$1: no way out"
	grep -q $'\033' out && complain "$1: escape sequences"
}

run_vireo trace --kernel "$kernel" --cmdline nokaslr --at "0x$at"
looks_right address
printf '%s T busy_place\n' "$at" >map
run_vireo trace --kernel "$kernel" --symbols map --at busy_place
looks_right System.map
grep -q '<busy_place+0x0>' out || grep -q '^block at' out || complain "no name"
printf '.globl busy_elf\n.set busy_elf, 0x%s\n' "$at" >s.s
if ${CC:-cc} -c -o s.o s.s 2>/dev/null; then
	run_vireo trace --kernel "$kernel" --symbols s.o --at busy_elf+0x0 --times 1
	looks_right ELF
fi
run_vireo trace --kernel "$kernel" --symbols map --at busy_place --format json
python3 -c '
import json
b = json.load(open("out"))
assert b["instructions"] and any(i["host"] for i in b["instructions"]), b
assert all(i["guest"] and i["class"] and i["why"] for i in b["instructions"]), b' || complain "trace --format json: $(cat out err)"
exit $bad
