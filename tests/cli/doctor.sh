#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vireo doctor: its verdict is its status; each engine has its line; limits are noticed.
. "$(dirname "$0")/../lib/cli.sh"

run_vireo doctor
[ "$status" = 0 ] || complain "status $status: $(cat out err)"
for line in 'yes +engine soft' 'virtualization' '/dev/kvm' 'engine kvm' 'memory +[0-9]+ MiB' \
	'seccomp' 'vireo-v1' 'Guests can run here'; do
	grep -qE "$line" out || complain "no line '$line' in: $(cat out)"
done
if [ ! -e /dev/kvm ]; then
	grep -qE 'no +/dev/kvm +does not exist' out || complain "/dev/kvm is missing: $(cat out)"
fi

# What doctor says of KVM is what --engine auto goes by.
guest image.elf 'b0 01 e6 f4 f4'	# mov al,1; out 0f4h,al; hlt
"$VIREO" run --debug-exit --memory 16M --kernel image.elf >out2 2>err </dev/null
want=soft
grep -qE '^  yes +engine kvm' out && want=kvm
grep -q "engine $want: chosen automatically, since" err ||
	complain "doctor says '$(grep 'engine kvm' out)', and run: $(head -n 1 err)"

# Too little address space: the verdict turns, and the way out is named. (The sanitizers need more.)
if [ "${SAN:-0}" != 1 ]; then
	(ulimit -v 4000000; "$VIREO" doctor >out 2>err)
	status=$?
	[ $status = 12 ] || complain "with ulimit -v: status $status: $(cat out err)"
	grep -q 'ulimit -v unlimited' out || complain "with ulimit -v: $(cat out)"
fi

# /dev/kvm that this user may not open.
if [ "$(id -u)" = 0 ] && [ -e /dev/kvm ] && id nobody >/dev/null 2>&1 &&
	[ "$(stat -c %a /dev/kvm)" = 600 ]; then
	cp "$VIREO" "$WORK/vireo" && chmod 755 "$WORK" "$WORK/vireo"
	setpriv --reuid=nobody --regid=nogroup --clear-groups "$WORK/vireo" doctor >out 2>err
	grep -q 'this user may not open it' out || complain "as nobody: $(cat out err)"
fi
"$VIREO" doctor --format json | python3 -c '
import json, sys
d = json.load(sys.stdin)
assert d["works"] is True and {"part", "name", "works", "text"} <= set(d["findings"][0]), d
assert any(f["name"] == "system-call filter" for f in d["findings"])' || complain "doctor --format json"
exit $bad
