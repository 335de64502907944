#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vireo top: one sample without a terminal, as text and as JSON; live on a terminal, which is as it
# was afterwards.
. "$(dirname "$0")/../lib/cli.sh"
export XDG_RUNTIME_DIR=$WORK/run XDG_DATA_HOME=$WORK/data
mkdir -m 700 "$XDG_RUNTIME_DIR"
trap '"$VIREO" kill busy idle 2>/dev/null; rm -rf "$WORK"' EXIT
guest busy 'e6 80 eb fc'
guest idle 'f4 eb fd'

run_vireo top
grep -q '^no VM runs$' out || complain "without VMs: $(cat out err)"
truncate -s 1M disk.img
for name in busy idle; do
	[ $name = busy ] && devices=() || devices=(--disk disk.img,format=raw,id=root --net user)
	"$VIREO" run --name $name "${devices[@]}" --kernel $name --memory 16M --log-level error </dev/null &
	for _ in $(seq 200); do "$VIREO" ps | grep -q " $name " && break; sleep 0.05; done
done
run_vireo top --interval 2
[ "$status" = 0 ] && [ ! -s err ] || complain "top: status $status: $(cat err)"
grep -q $'\033' out && complain "escape sequences in a file"
grep -qE '^busy +running +soft ' out || complain "top: $(cat out)"
grep -qE '^  root +read +0.0 KiB/s +0/s  written +0.0 KiB/s +0/s$' out || complain "no disk: $(cat out)"
grep -qE '^  net0 +in +0.0 KiB/s +0/s  out +0.0 KiB/s +0/s$' out || complain "no network card: $(cat out)"
grep -qE '^ +[0-9]+/s  port accesses$' out || complain "no reasons: $(cat out)"
run_vireo top --interval 2 --format json --count 2
python3 - out <<'END' || complain "not what was expected: $(cat out)"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
assert len(lines) == 2
for line in lines:
    vm = {v["name"]: v for v in line}
    assert set(vm) == {"busy", "idle"}
    for v in vm.values():
        assert len(v["vcpus"]) == 1 and v["memory"] == 16 << 20 and v["resident"] > 0
        assert all(-0.01 <= part <= 1.3 for part in v["vcpus"][0].values()), v
    cpu = vm["idle"]["vcpus"][0]
    assert cpu["idle"] > 0.95, cpu
    cpu = vm["busy"]["vcpus"][0]
    # Of a processor that has other work it may get too little to say more.
    some = cpu["kernel"] + cpu["vmm"] + cpu["translation"] > 0.02 or vm["busy"]["cpu"] < 0.05
    assert cpu["user"] == 0 and some, cpu
    assert vm["busy"]["rates"]["port accesses"] > 0
    assert not vm["busy"]["disks"] and not vm["busy"]["nets"]
    assert vm["idle"]["disks"] == {"root": dict.fromkeys(
        ("reads", "read-bytes", "writes", "written-bytes", "discards", "flushes"), 0)}, vm["idle"]
    assert set(vm["idle"]["nets"]["net0"]) == {"received-frames", "received-bytes", "sent-frames", "sent-bytes"}
END
run_vireo top --count 1 --interval 0.2 idle
grep -q '^busy' out && complain "not only the one that was named"
expect 2 "no VM with the name 'nobody' runs" top busy nobody
expect 2 'no value for --interval' top --interval 0
expect 2 'no value for --format' top --format xml

python3 - "$VIREO" <<'END' || complain "top on a terminal"
import os, pty, sys, termios, time, select, signal
for way in (b"q", signal.SIGTERM, signal.SIGKILL):
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    pid = os.fork()
    if not pid:
        os.setsid()
        import fcntl
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in range(3):
            os.dup2(slave, fd)
        os.execv(sys.argv[1], [sys.argv[1], "top", "--interval", "0.2"])
    said, end = b"", time.time() + 30
    while said.count(b"NAME") < 3 and time.time() < end:
        if select.select([master], [], [], 0.2)[0]:
            said += os.read(master, 65536)
    assert b"busy" in said and b"\r\n" in said, said
    os.write(master, way) if way == b"q" else os.kill(pid, way)
    os.waitpid(pid, 0)
    for _ in range(100):
        if termios.tcgetattr(slave)[:6] == before[:6]:
            break
        time.sleep(0.05)
    assert termios.tcgetattr(slave)[:6] == before[:6], way
    os.close(master)
    os.close(slave)
END
exit $bad
