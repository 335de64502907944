#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The console without a terminal: piped input reaches the guest, the end of input does not
# end it, closed descriptors are no error, the escape key means nothing in a pipe.
. "$(dirname "$0")/../lib/cli.sh"

# Echoes serial input until a 'q', then ends through the debug-exit port:
# poll: mov dx,0x3fd; in al,dx; test al,1; jz poll; mov dl,0xf8; in al,dx; out dx,al;
# cmp al,'q'; jne poll; xor eax,eax; out 0xf4,al
guest echo '66 ba fd 03 ec a8 01 74 f7 b2 f8 ec ee 3c 71 75 ef 31 c0 e6 f4 f4 eb fd'
args=(run --memory 16M --debug-exit --log-level error --kernel echo)

check() {
	[ "$2" = 1 ] || complain "$1: status $2: $(cat err)"
	[ "$(cat out)" = "$3" ] || complain "$1: the console shows $(wc -c <out) bytes: $(head -c 100 out)"
}

printf 'hello q' | timeout 60 "$VIREO" "${args[@]}" >out 2>err
check "pipe" $? "hello q"

printf 'from a file q' >input
timeout 60 "$VIREO" "${args[@]}" <input >out 2>err
check "file" $? "from a file q"

printf 'a\x1d.b q' | timeout 60 "$VIREO" "${args[@]}" >out 2>err
check "escape key in a pipe" $? $'a\x1d.b q'

# More than any buffer between holds.
head -c 5000 /dev/zero | tr '\0' x >long
{ cat long; printf q; } | timeout 400 "$VIREO" "${args[@]}" >out 2>err
check "5,000 bytes" $? "$(cat long)q"

# stdin at its end, or closed: the guest goes on.
guest late 'b9 00 00 00 01 e2 fe 31 c0 e6 f4 f4 eb fd'	# a loop, then the debug exit
for how in '</dev/null' '<&-' '<&- >&-'; do
	eval "timeout 60 \"\$VIREO\" run --memory 16M --debug-exit --kernel late $how" 2>err
	rc=$?
	[ $rc = 1 ] || complain "stdin $how: status $rc: $(cat err)"
done

# A reader that goes away stops the output, not the guest.
printf '%0500d q' 0 | timeout 60 "$VIREO" "${args[@]}" 2>err | head -c 1 >out
rc=${PIPESTATUS[1]}
[ "$rc" = 1 ] || complain "stdout closed: status $rc: $(cat err)"
exit $bad
