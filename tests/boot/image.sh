#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Images: a command in a directory, on a disk, under a kernel with this host's files; its streams
# and status apart; commands and files in a guest that runs, also in one that is kept.
. "$(dirname "$0")/../lib/cli.sh"
kernel=$("$TOP/tools/kernel.sh" standard 2>/dev/null) || { echo "no kernel"; exit 77; }
[ -f "$(dirname "$kernel")/9p.ko" ] || { echo "no 9p.ko beside the kernel"; exit 77; }
[ -x /bin/busybox ] || { echo "no /bin/busybox: install busybox-static"; exit 77; }
export XDG_RUNTIME_DIR=$WORK/run XDG_DATA_HOME=$WORK/data
mkdir -m 700 "$XDG_RUNTIME_DIR"
passing=
trap '"$VIREO" kill passing kept 2>/dev/null; [ -z "$passing" ] || kill "$passing"; rm -rf "$WORK"' EXIT
mkdir -p root/bin root/etc share
for applet in sh ls cat echo sleep mount id uname seq head wc kill tar chmod touch stty tty true md5sum env; do
	ln -s busybox root/bin/$applet
done
cp /bin/busybox root/bin/

# gives STATUS OUT ERR ARGS...: of vireo run with the root.
gives() {
	local want=$1 out=$2 err=$3
	shift 3
	timeout -k 5 100 "$VIREO" run --kernel "$kernel" --memory 256M "$@" >out 2>err
	status=$?
	[ "$status" = "$want" ] || complain "$*: status $status, not $want: $(cat err)"
	[ "$(cat out)" = "$out" ] || complain "$*: stdout is '$(cat out)', not '$out'"
	grep -qE -- "^$err\$" err || { [ -z "$err" ] && [ ! -s err ]; } ||
		complain "$*: stderr is '$(cat err)', not '$err'"
}

# (What stays behind a command does not keep it.)
gives 7 out err --rm root -- sh -c 'echo out; echo err >&2; touch /new; sleep 1000 & exit 7' </dev/null
[ -e root/new ] && complain "--rm let a change through"
head -c 300000 /dev/urandom >random
gives 143 '' '' --rm root -- sh -c 'kill -TERM $$' </dev/null
gives 127 '' "vireo: '/nope' cannot be run in the guest: No such file or directory" --rm root -- /nope </dev/null
gives 126 '' "vireo: '/etc' cannot be run in the guest: Permission denied" --rm root -- /etc </dev/null
gives 0 "$(md5sum <random)" '' -v "$WORK/share:/mnt/deep" root -- sh -c 'md5sum; touch /new; echo hello >/mnt/deep/file' <random
[ -e root/new ] || complain "without --rm the directory was not changed"
[ "$(cat share/file)" = hello ] || complain "the share was not mounted at its path"
# A guest that never comes to the command says why: the last of its console.
cp root/bin/busybox nokernel
gives 2 '' "vireo: .*" --rm root --initrd /nonexistent -- true </dev/null
truncate -s 1M empty.img
timeout 100 "$VIREO" run --kernel "$kernel" --memory 256M --rm empty.img -- true >out 2>err </dev/null
[ $? = 125 ] || complain "a root that is not there: $(cat err)"
grep -q 'vireo-init: no partition of the disk' err || complain "no word of the guest's: $(cat err)"
expect 2 'a command needs an image' run -- true
expect 2 'no command comes after --' run root --
expect 2 'named twice' run root --root root -- true
expect 2 "could not find the image" run nowhere -- true
expect 2 "throws away" run --rm --kernel x

# On a terminal the command has one, of the same size; afterwards it is as it was.
python3 - "$VIREO" "$kernel" <<'END' || complain "a command on a terminal"
import os, pty, struct, sys, fcntl, termios, time, select
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
before = termios.tcgetattr(slave)
pid = os.fork()
if not pid:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    os.execv(sys.argv[1], [sys.argv[1], "run", "--rm", "--kernel", sys.argv[2], "--memory", "256M", "root", "--",
                           "sh", "-c", "tty; stty size; read line; echo got $line; sleep 1000; exit 9"])
said, typed, stopped, end = b"", False, False, time.time() + 90
while time.time() < end:
    if select.select([master], [], [], 0.2)[0]:
        try:
            said += os.read(master, 4096)
        except OSError:
            break
    if b"33 99" in said and not typed:
        os.write(master, b"a line\r")
        typed = True
    if b"got a line" in said and not stopped:
        time.sleep(0.5)
        os.write(master, b"\x03")
        stopped = True
    done, how = os.waitpid(pid, os.WNOHANG)
    if done:
        break
else:
    os.kill(pid, 9)
    sys.exit("it did not end: %r" % said)
assert b"/dev/pts/" in said and stopped, said
assert os.waitstatus_to_exitcode(how) == 130, how
assert termios.tcgetattr(slave)[:6] == before[:6], "the terminal was not restored"
END

# --- a disk ---
if command -v mke2fs >/dev/null; then
	truncate -s 48M disk.img
	mke2fs -q -t ext4 -d root disk.img
	gives 0 /dev/vda '' disk.img -- sh -c 'echo made >/made; mount | while read a b c d; do [ $c = / ] && echo $a; done' </dev/null
	gives 0 made '' --rm disk.img -- sh -c 'cat /made; echo again >/made' </dev/null
	[ "$(debugfs -R 'cat /made' disk.img 2>/dev/null)" = made ] || complain "--rm let a change of the disk through"
	e2fsck -fn disk.img >/dev/null 2>&1 || complain "the file system was left unclean"
else
	echo "a disk was not tried: no mke2fs"
fi

# --- this host's files under a kernel ---
echo here >here
timeout 100 "$VIREO" kernel "$kernel" -- sh -c 'cat here; pwd; echo new >there; cat there >&2; exit 4' >out 2>err </dev/null
[ $? = 4 ] || complain "vireo kernel: status $?: $(cat err)"
[ "$(cat out)" = "here
$WORK" ] || complain "vireo kernel shows '$(cat out)'"
[ "$(cat err)" = new ] || complain "vireo kernel says '$(cat err)'"
[ -e there ] && complain "vireo kernel changed this host"
expect 2 "cannot open kernel .nokern." kernel nokern -- true
expect 2 "needs a KERNEL" kernel

# --- commands and files in a guest that runs ---
works() {
	local name=$1
	for _ in $(seq 600); do "$VIREO" exec "$name" -- true 2>/dev/null && break; sleep 0.1; done
	"$VIREO" exec "$name" -- sh -c 'echo O; echo E >&2; exit 5' >out 2>err
	[ $? = 5 ] && [ "$(cat out)$(cat err)" = OE ] || complain "exec $name: '$(cat out)', '$(cat err)'"
	[ "$("$VIREO" exec "$name" md5sum <random)" = "$(md5sum <random)" ] || complain "exec $name: stdin"
	"$VIREO" exec --workdir /etc "$name" -- ls -d ../bin >out || complain "exec --workdir"
	[ "$("$VIREO" exec "$name" ls -d -- /etc)" = /etc ] || complain "exec $name: options of the command's own"
	"$VIREO" pause "$name"
	expect 125 'is paused: let it go on with' exec "$name" true
	expect 125 'is paused: let it go on with' cp "$name:/etc/passwd" .
	"$VIREO" resume "$name"
	"$VIREO" cp random "$name:/r" && "$VIREO" cp "$name:/r" back || complain "cp $name: status"
	cmp -s random back || complain "cp $name: another file came back"
	mkdir -p tree/inner into; echo leaf >tree/inner/leaf
	"$VIREO" cp tree "$name:/etc" && "$VIREO" cp "$name:/etc/tree" into || complain "cp $name: folders"
	cmp -s tree/inner/leaf into/tree/inner/leaf || complain "cp $name: a folder came back otherwise"
	expect 2 "is no folder" cp tree "$name:/nowhere"
	expect 2 "needs two places" cp tree into
	rm -rf into back
}
"$VIREO" run --rm --name passing --kernel "$kernel" --memory 256M root -- \
	sh -c 'trap "echo put away; exit 3" TERM; while :; do sleep 0.1; done' >passing.out 2>&1 </dev/null &
passing=$!
works passing
# As many at once as there are ports, and no more; the next has its turn again.
mkfifo hold
exec 4<>hold
busy=()
for i in 1 2 3; do
	"$VIREO" exec passing -- sh -c 'echo on; read line' >on.$i <hold 4>&- &
	busy+=($!)
	for _ in $(seq 1000); do [ -s on.$i ] && break; sleep 0.05; done
done
"$VIREO" exec passing -- true 2>err && complain "a fourth command at once"
grep -q 'runs 3 commands already' err || complain "a fourth command: $(cat err)"
exec 4>&-
wait "${busy[@]}"
"$VIREO" exec passing -- true || complain "no command after those"
# One whose client vanishes is ended, and its port serves again.
for i in 1 2 3 4; do timeout -s KILL 1 "$VIREO" exec passing -- sleep 1000; done 2>/dev/null
"$VIREO" exec passing -- true || complain "no command after clients vanished"
# The power button ends the command as a signal would, and then the guest.
"$VIREO" stop passing || complain "stop of a command that has something to put away: status $?"
wait "$passing"
[ $? = 3 ] && grep -q 'put away' passing.out || complain "a command that heeds SIGTERM: $(cat passing.out)"
passing=

"$VIREO" create kept --kernel "$kernel" --root root --memory 256M || complain "create --root"
"$VIREO" start kept || complain "start of one with --root"
works kept
"$VIREO" logs kept | grep -q 'this root has no init' || complain "logs: $("$VIREO" logs kept | tail -n 3)"
# One in which nothing happens takes next to nothing: no program of ours in it turns in circles.
busy() { "$VIREO" inspect kept | python3 -c 'import json, sys; print(json.load(sys.stdin)["cpu-seconds"])'; }
sleep 1
before=$(busy); sleep 3; after=$(busy)
python3 -c "import sys; sys.exit($after - $before > 1)" || complain "an idle guest took $before to $after s in 3 s"
"$VIREO" exec kept -- sh -c 'echo on; sleep 1000' >on &
asleep=$!
for _ in $(seq 600); do [ -s on ] && break; sleep 0.1; done
"$VIREO" stop kept || complain "stop of one without an init: status $?"
wait $asleep
[ $? = 143 ] || complain "exec in a VM that was stopped: status $?"
# Asked while it still boots, too.
"$VIREO" start kept && "$VIREO" stop kept || complain "stop at once after start: status $?"
expect 125 'does not run' exec kept -- true
expect 125 'does not run' cp kept:/etc/passwd .
exit $bad
