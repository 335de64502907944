#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Each documented exit status: tiny guests that end in each way, and the documents agree
# with the program's own table.
. "$(dirname "$0")/../lib/cli.sh"

# The guest's end, as a status; the log's last line says why.
ends() {
	local want=$1 pattern=$2
	shift 2
	run_vireo run --memory 16M --kernel "$@"
	[ "$status" = "$want" ] || complain "$*: status $status, not $want: $(cat err)"
	tail -n 1 err | grep -qE "$pattern" || complain "$*: '$(tail -n 1 err)' does not match '$pattern'"
	return 0
}

# mov dx, 0x604; mov ax, SLP_EN | S5; out dx, ax
guest poweroff "66 ba 04 06 66 b8 ${S5:-00 34} 66 ef f4 eb fd"
guest reset '66 ba 64 00 b0 fe ee f4 eb fd'		# mov dx, 0x64; mov al, 0xfe; out dx, al
guest reset_cf9 '66 ba f9 0c b0 06 ee f4 eb fd'		# the same with port 0xcf9
guest triple '0f 01 1d 30 00 10 00 cc 90 90 90 90 90 90 90 90 00 00 00 00 00 00'
guest debug 'b0 2a e6 f4 f4 eb fd'			# mov al, 42; out 0xf4, al
guest hello '66 ba f8 03 b0 68 ee b0 69 ee b0 0a ee b0 2a e6 f4 f4 eb fd'

ends 0 'powered off' poweroff
ends 4 'guest reset' reset --no-reboot
ends 4 'guest reset' reset_cf9 --no-reboot
ends 6 'triple fault' triple --no-reboot
ends 85 'debug-exit port, status 85' debug --debug-exit
ends 85 'debug-exit' hello --debug-exit
[ "$(cat out)" = hi ] || complain "the console shows '$(cat out)'"

# The first line of the log names the engine and the reason.
head -n 1 err | grep -q 'engine soft: chosen automatically' || complain "the log begins: $(head -n 1 err)"
ends 85 'debug-exit' hello --debug-exit --engine soft
head -n 1 err | grep -q 'engine soft: chosen with --engine soft' || complain "the log begins: $(head -n 1 err)"

# A signal ends it with status 10.
guest idle '66 ba f8 03 b0 68 ee f4 eb fd'		# says 'h', then sleeps
"$VIREO" run --memory 16M --kernel idle >out 2>err </dev/null &
pid=$!
for _ in $(seq 1000); do [ -s out ] && break; sleep 0.02; done
kill -TERM $pid
wait $pid
status=$?
[ $status = 10 ] || complain "SIGTERM: status $status: $(cat err)"
grep -q 'ended by Terminated' err || complain "SIGTERM: $(cat err)"

# README.md and the manual page repeat the table.
while IFS='|' read -r value meaning; do
	grep -qF "| $value | $meaning |" "$TOP/README.md" || complain "README.md lacks: | $value | $meaning |"
	sed 's/\\-/-/g' "$TOP/man/vireo.1" | grep -A1 "^.B $value\$" | grep -qF -- "$meaning" ||
		complain "man/vireo.1 lacks $value: $meaning"
done < <(sed -n 's/^STATUS([A-Z]*, *\([0-9]*\), *"\(.*\)")$/\1|\2/p' "$TOP/src/mgmt/status.def")
exit $bad
