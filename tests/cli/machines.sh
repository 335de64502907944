#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# VMs that are kept: made, started, listed, paused, ended, edited, copied, removed; and what
# people and crashes do to them.
. "$(dirname "$0")/../lib/cli.sh"
export XDG_RUNTIME_DIR=$WORK/run XDG_DATA_HOME=$WORK/data HOME=$WORK
mkdir -m 700 "$XDG_RUNTIME_DIR"
home=$XDG_DATA_HOME/vireo

end() {
	for lock in "$home"/*/lock "$WORK"/*/lock; do
		# Only what holds its lock is asked for; the number alone says nothing.
		"$VIREO" kill "$(dirname "$lock")" 2>/dev/null
	done
	rm -rf "$WORK"
}
trap end EXIT

# ok ARGS...: status 0 and nothing on stderr.
ok() {
	run_vireo "$@"
	[ "$status" = 0 ] || complain "vireo $*: status $status: $(cat err)"
	[ -s err ] && complain "vireo $*: says $(cat err)"
	return 0
}
# state NAME: what ls says.
state() { "$VIREO" ls --format json | python3 -c '
import json, sys
print(next((v["state"] for v in json.load(sys.stdin) if v["name"] == sys.argv[1]), "none"))' "$1"; }
is() { [ "$(state "$1")" = "$2" ] || complain "$1 is $(state "$1"), not $2"; }
# json NAME PYTHON: of vireo inspect, as v.
json() { "$VIREO" inspect "$1" | python3 -c "import json, sys; v = json.load(sys.stdin); assert $2, v" ||
	complain "inspect $1: not $2"; }

guest busy 'e6 80 eb fc'
# Prints "hi", then sends back what it reads: lsr 0x3fd bit 0, rbr 0x3f8.
guest echo '66 ba f8 03 b0 68 ee b0 69 ee b0 0a ee 66 ba fd 03 ec a8 01 74 f7 66 ba f8 03 ec ee eb ef'
guest triple '0f 01 1d 30 00 10 00 cc 90 90 90 90 90 90 90 90 00 00 00 00 00 00'

# --- making ---
ok create web --kernel busy --memory 16M --description 'a test'
[ "$(stat -c %a "$home/web")" = 700 ] || complain "the directory's mode is $(stat -c %a "$home/web")"
cmp -s busy "$home/web/kernel" || complain "the kernel was not copied"
python3 -c '
import json, sys
assert json.load(open(sys.argv[1])) == {"version": 1, "kernel": "kernel", "memory": "16M",
    "description": "a test"}' "$home/web/vm.json" || complain "vm.json: $(cat "$home/web/vm.json")"
is web stopped
expect 2 "there is a VM 'web' already" create web --kernel busy
mkdir "$home/folder"
expect 2 "is there already and is no VM" create folder --kernel busy
rmdir "$home/folder"
expect 2 "no VM's name" create .web --kernel busy
expect 2 'needs a NAME' create --kernel busy
expect 2 "could not open '.*/nothing'" create x --kernel nothing
expect 2 "could not open disk 'nodisk.img': No such file" create x --disk nodisk.img
expect 2 "no option '--memroy'; did you mean" create x --memroy 1
expect 2 "for machines that are not kept" create x --name y
expect 2 "no value for --disks" create x --disks some
expect 2 "size of memory" create x --kernel busy --memory much
expect 2 "wire" create x --kernel busy --net wire
[ -e "$home/x" ] && complain "failures left a directory: $(ls "$home/x")"
expect 2 "there is no VM 'nobody'" start nobody
expect 2 "no VM with the name 'nobody'" stop nobody
expect 2 "there is no VM 'nobody'" rm nobody

# --- its life ---
ok start web
is web running
[ "$(cat "/proc/$(cat "$home/web/lock")/comm")" = vireo ] || complain "its process is called otherwise"
ok ls
grep -qE '^web +running +1 +16M +[0-9]+ ' out || complain "ls: $(cat out)"
ok ps
grep -qE '^ *[0-9]+ web +running +soft ' out || complain "ps: $(cat out)"
json web 'v["config"]["kernel"] == "kernel" and v["cpus"] == 1 and v["memory"] == 16 << 20'
expect 2 "VM 'web' runs already, as process [0-9]+" start web
expect 2 "there is a VM 'web' already" run --name web --kernel busy
expect 2 "was not removed" rm web
ok pause web
is web paused
expect 2 "'web' is paused, so its guest cannot power off" stop web
ok resume web
is web running
ok reset web
ok stats web --count 1
ok set web --cpu-weight 100
ok set web --vcpu 0 --cpu-cap 90%
json web 'v["limits"] == {"weight": "100"} and v["vcpu-limits"] == {"0": {"cap": "90%"}}'
ok set web --vcpu 0 --cpu-cap none
json web 'v["limits"] == {"weight": "100"} and not "vcpu-limits" in v'
# No ACPI, no driver: the button works by itself only while a guest has not taken it over.
ok stop web
is web stopped
json web 'v["last-end"]["status"] == 0 and v["last-end"]["how"] == "the guest powered off"'

# --- what is done, and what is not, as JSON ---
ok create --format json made --kernel busy
[ "$(cat out)" = '{"name":"made","status":0}' ] || complain "create --format json: $(cat out)"
grep -q format "$home/made/vm.json" && complain "--format is in vm.json"
run_vireo start --format json made nobody
[ "$status" = 2 ] && [ "$(cat out)" = '{"name":"made","status":0}' ] || complain "start --format json: $(cat out)"
python3 -c 'import json; e = json.load(open("err")); assert e["status"] == 2 and "nobody" in e["error"], e' ||
	complain "start --format json: $(cat err)"
head -n 1 "$home/made/vireo.log" | grep -q '^vireo: ' || complain "the log of a VM is as its starter wanted"
run_vireo logs --vmm --lines 1 --format json made
python3 -c 'import json; assert json.load(open("out"))["line"].startswith("vireo: ")' || complain "logs --format json: $(cat out)"
ok kill --format json made
ok rm made
"$VIREO" run --format json --kernel echo --memory 16M >out 2>err </dev/null &
for _ in $(seq 1000); do [ -s out ] && break; sleep 0.02; done
kill -TERM $!
wait $!
python3 -c '
import json
said = [json.loads(line) for line in open("err")]
assert said[0]["level"] == "info" and said[-1]["status"] == 10 and "end" in said[-1], said' ||
	complain "run --format json: $(cat err)"

# --- a crash leaves nothing in the way ---
ok start web
kill -9 "$(cat "$home/web/lock")"
for _ in $(seq 100); do [ "$(state web)" = crashed ] && break; sleep 0.05; done
is web crashed
expect 2 "VM 'web' does not run" stop web
ok start web
is web running
# One that does not answer is listed, and can be killed.
kill -STOP "$(cat "$home/web/lock")"
is web unresponsive
ok kill web
is web crashed
# Many starts at once: one of them wins.
for i in 1 2 3 4 5 6; do "$VIREO" start web 2>"start.$i" & done
won=0
for job in $(jobs -p); do wait "$job" && won=$((won + 1)); done
[ $won = 1 ] || complain "$won of six starts won: $(cat start.*)"
ok kill web

# --- a copy is another VM, wherever it is ---
cp -a "$home/web" copy
ok start ./copy
ok start web
json ./copy 'v["state"] == "running" and v["directory"].endswith("/copy")'
ok kill ./copy web
# A path too long for a socket's address is none for us.
long=$WORK/$(printf 'l%.0s' $(seq 100))/$(printf 'm%.0s' $(seq 48))
mkdir "$(dirname "$long")"
cp -a "$home/web" "$long"
ok start "$long"
ok pause "$long"
ok kill "$long"

# --- what does not start says why, and is over ---
ok create bad --kernel triple --memory 16M
ok start bad
for _ in $(seq 100); do [ "$(state bad)" = stopped ] && break; sleep 0.05; done
json bad 'v["last-end"]["status"] == 6'
sed -i 's/"memory"/"memroy"/' "$home/bad/vm.json"
expect 2 'bad/vm.json, line 4, "memroy": there is no such key; did you mean "memory"' start bad
json bad '"line 4" in v["error"]'
printf '{\n "kernel": "kernel",\n}\n' >"$home/bad/vm.json"
expect 2 'bad/vm.json, line 3, column' start bad
printf '{ "kernel": "gone" }\n' >"$home/bad/vm.json"
expect 2 "'?gone'?" start bad
is bad stopped
# A disk that another VM uses.
"$VIREO" image create d.qcow2 1M
ok create one --kernel busy --memory 16M --disk d.qcow2 --disks in-place
ok create two --kernel busy --memory 16M --disk "$WORK/d.qcow2" --disks in-place
ok start one
expect 2 "d.qcow2.*(in use|locked|another)" start two
is two stopped
ok kill one
rm d.qcow2
expect 2 'd.qcow2' start two
# Copied and laid over, it is the VM's own.
"$VIREO" image create d.qcow2 1M
ok create three --kernel busy --memory 16M --disk d.qcow2,serial=S
ok create four --kernel busy --memory 16M --disk d.qcow2 --disks overlay
json three 'v["config"]["disk"] == ["disk0.img,format=qcow2,serial=S"]'
"$VIREO" image info "$home/four/disk0.img" | grep -q "$WORK/d.qcow2" || complain "no overlay"
ok start three four
ok kill three four

# --- the console, and the log ---
ok create talk --kernel echo --memory 16M
ok start talk
printf 'abc\n' | timeout 60 "$VIREO" console talk >said 2>said.err &
client=$!
for _ in $(seq 100); do grep -q abc "$home/talk/serial.log" && break; sleep 0.05; done
ok logs talk
[ "$(cat out)" = "hi
abc" ] || complain "the log has '$(cat out)'"
ok logs --lines 1 talk
[ "$(cat out)" = abc ] || complain "its last line is '$(cat out)'"
timeout 60 "$VIREO" logs -f talk >followed 2>&1 &
follower=$!
for _ in $(seq 200); do grep -q abc followed && break; sleep 0.05; done
ok kill talk
wait $client || complain "console: status $?: $(cat said.err)"
wait $follower || complain "logs -f: status $?: $(cat followed)"
[ "$(cat said)" = "hi
abc" ] || complain "the console showed '$(cat said)'"
grep -q abc followed || complain "logs -f showed '$(cat followed)'"
ok logs --vmm talk
grep -q 'engine soft' out || complain "the log of vireo: $(cat out)"
expect 2 "VM 'talk' does not run" console talk
ok start talk
[ -f "$home/talk/serial.log.1" ] || complain "the log before is gone"
ok kill talk

# On a terminal: Ctrl-] . leaves the VM running, and the terminal is as it was; also if killed.
python3 - "$VIREO" <<'END' || complain "the console on a terminal"
import fcntl, os, pty, select, signal, sys, termios, time
def expect(fd, text):
    said, end = b"", time.time() + 20
    while text not in said and time.time() < end:
        if select.select([fd], [], [], 0.2)[0]:
            said += os.read(fd, 4096)
    assert text in said, (text, said)
for words, way in ((["start", "talk", "--console"], b"\x1d."), (["console", "talk"], b"\x1d."),
                   (["console", "talk"], signal.SIGKILL)):
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    pid = os.fork()
    if not pid:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in range(3):
            os.dup2(slave, fd)
        os.execv(sys.argv[1], [sys.argv[1]] + words)
    expect(master, b"hi\n")
    os.write(master, b"typed")
    expect(master, b"typed")
    os.write(master, b"\x1d?")
    expect(master, b"the VM runs on)")
    os.write(master, way) if way == b"\x1d." else os.kill(pid, way)
    status = os.waitpid(pid, 0)[1]
    assert status == (0 if way == b"\x1d." else 9), status
    for _ in range(100):
        if termios.tcgetattr(slave)[:6] == before[:6]:
            break
        time.sleep(0.05)
    assert termios.tcgetattr(slave)[:6] == before[:6], "the terminal is not as it was"
    os.close(master)
    os.close(slave)
END
is talk running
ok kill talk

# --- editing ---
EDITOR='sed -i s/16M/24M/' ok edit web
json web 'v["memory"] == 24 << 20'
EDITOR='sed -i s/24M/24X/' expect 2 "line 4, \"memory\": '24X' is no size" edit web
EDITOR=false expect 2 'the editor .* failed' edit web
json web 'v["memory"] == 24 << 20'
[ "$(EDITOR=true "$VIREO" edit web 2>&1)" = 'vireo: nothing was changed' ] || complain "edit without a change"

# --- the schema that is published is the program's ---
"$VIREO" inspect --schema >schema
cmp -s schema "$TOP/docs/vm.schema.json" ||
	complain "docs/vm.schema.json differs: vireo inspect --schema >docs/vm.schema.json"

# --- transient VMs are listed, too ---
"$VIREO" run --name passing --kernel busy --memory 16M --log-level error </dev/null &
for _ in $(seq 100); do [ "$(state passing)" = running ] && break; sleep 0.05; done
is passing running
ok ps
grep -q ' passing ' out || complain "ps does not list a transient VM: $(cat out)"
expect 2 "'passing' runs, but 'vireo run --name' keeps nothing of it" logs passing
expect 2 "'passing' runs, but" rm passing
ok pause passing
is passing paused
ok kill passing
wait %1 2>/dev/null
is passing none

ok start web
ok rm --force web
ok rm bad one two three four talk
[ -z "$(ls "$home")" ] || complain "left: $(ls "$home")"
exit $bad
