#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vireo audit on bytes whose instructions are known.
. "$(dirname "$0")/../lib/cli.sh"

# nop; pushfq; popfq; cli; sgdt [rax]; mov rax, cr3; smsw eax; ret
from_hex code '90 9c 9d fa 0f 01 00 0f 20 d8 0f 01 e0 c3'
run_vireo audit --list --base 0x1000 code
[ "$status" = 0 ] || complain "status $status: $(cat err)"
grep -q 'plain bytes.*: 8 instructions' out || complain "counts: $(head -n 20 out)"
for line in '^0000000000001001  pushfq ' '^0000000000001003  cli .*privileged' \
	'^0000000000001004  sgdt .*behaviour' '^0000000000001007  mov_cr .*privileged' \
	'^ +2  innocuous$' '4 are sensitive without being privileged'; do
	grep -qE "$line" out || complain "no '$line' in: $(cat out)"
done

# The same bytes mean something else in another mode; an ELF file says its own.
from_hex code16 '66 9c 06'		# 16-bit: pushfd; push es
run_vireo audit --mode 16 code16
grep -q ' 2 instructions' out || complain "16-bit: $(cat out err)"
run_vireo audit "$VIREO"
[ "$status" = 0 ] && grep -q ': ELF, [0-9]* pieces of code' out || complain "ELF: $(cat out err)"
run_vireo audit --list --base 0x1000 --format json code
python3 -c '
import json
a = json.load(open("out"))
assert a["type"] == "plain" and a["list"][0]["address"] >= 0x1000, a
assert a["instructions"] == sum(a["classes"].values()), a' || complain "audit --format json: $(cat out)"
exit $bad
