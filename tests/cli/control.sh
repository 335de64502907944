#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A VM with a name: its control socket, good and bad requests, vireo stats, names that are taken
# and sockets that a killed VM left behind.
. "$(dirname "$0")/../lib/cli.sh"
export XDG_RUNTIME_DIR=$WORK/run
mkdir -m 700 "$XDG_RUNTIME_DIR"
socket=$XDG_RUNTIME_DIR/vireo/one.sock
pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null; rm -rf "$WORK"' EXIT

# jmp to itself, with port accesses: out 0x80, al; jmp
guest busy 'e6 80 eb fc'
start() {
	"$VIREO" run --name "$1" --kernel busy --memory 16M --log-level error >/dev/null 2>start.err </dev/null &
	pids+=($!)
	for _ in $(seq 200); do
		[ -S "$XDG_RUNTIME_DIR/vireo/$1.sock" ] && return
		sleep 0.05
	done
	complain "no socket for $1: $(cat start.err)"
}

expect 2 "no VM's name" run --name ../x --kernel busy
expect 2 "no VM's name" stats a+b
expect 2 "there is no VM 'a/b'" stats a/b
expect 2 "no VM with the name 'one' runs here" stats one
expect 2 'needs a NAME' stats
expect 2 'no value for --interval' stats one --interval 0
expect 2 'no value for --count' stats one --count x
expect 2 'no value for --format' stats one --format xml

start one
[ "$(stat -c %a "$socket")" = 600 ] || complain "the socket's mode is $(stat -c %a "$socket")"
expect 12 "the name 'one' is taken" run --name one --kernel busy --memory 16M --log-level error
run_vireo stats one --count 3 --interval 0.2
[ "$status" = 0 ] || complain "stats: status $status: $(cat err)"
[ "$(grep -c 'a second$' out)" = 3 ] || complain "not three samples: $(cat out)"
n=$(awk '/ port accesses$/ { print $2 }' out | tail -n 1)
[ "${n:-0}" -gt 0 ] || complain "no rate of port accesses: $(cat out)"
# On a busy host a VM may go without a processor for some of these times.
run_vireo stats one --count 10 --interval 0.2 --format json
python3 - out <<'END' || complain "not the JSON that was expected: $(cat out)"
import json, sys
all = [json.loads(line) for line in open(sys.argv[1])]
assert len(all) == 10 and all[-1]["counters"]["port accesses"] > all[0]["counters"]["port accesses"]
for a, b in zip(all, all[1:]):
    went = b["counters"]["port accesses"] - a["counters"]["port accesses"]
    assert b["seconds"] >= 0.2 and (b["rates"]["port accesses"] > 0) == (went > 0), (a, b)
END

# Requests as they should be and as they should not; each is answered, in order.
python3 - "$socket" <<'END' || complain "the control socket's answers"
import json, os, random, socket, sys
path = sys.argv[1]

def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(path)
    return s, s.makefile("rb")

def ask(line):
    s.sendall(line + b"\n")
    return json.loads(answers.readline())

s, answers = connect()
assert ask(b'{"execute": "query-name", "id": [1, "x"]}') == {"return": {"name": "one"}, "id": [1, "x"]}
names = [c["name"] for c in ask(b'{"execute": "query-commands"}')["return"]]
assert "query-stats" in names, names
def counted():
    return ask(b'{"execute": "query-stats"}')["return"]["counters"]["port accesses"]
assert ask(b'{"execute": "query-status"}') == {"return": {"status": "running", "running": True}}
for command in (b"stop", b"stop", b"system_reset"):
    assert ask(b'{"execute": "%s"}' % command) == {"return": {}}
assert ask(b'{"execute": "query-status"}')["return"]["status"] == "paused"
before = counted()
import time; time.sleep(0.2)
assert counted() == before, "a paused guest went on"
assert ask(b'{"execute": "cont"}') == {"return": {}}
end = time.monotonic() + 20
while counted() == before and time.monotonic() < end:
    time.sleep(0.02)
assert counted() > before, "a resumed guest did not go on"
assert ask(b'{"execute": "query-nothing", "id": 7}')["error"]["class"] == "CommandNotFound"
for bad in (b"{", b"[]", b"7", b'"x"', b'{"execute": 7}', b'{"execute": "query-name", "arguments": 1}',
            b"[" * 60000, b'{"execute": "query-name"', b"\0\0", b'{"a": 1, "a": 2}', b"\xff\xfe",
            b'{"execute": "query-name"} {}'):
    assert "error" in ask(bad), bad[:40]
s.sendall(b"\n  \n" + b'{"execute": "query-name"}\n' * 50)
for _ in range(50):
    assert "return" in json.loads(answers.readline())
# Too long: told, and cut off.
s.sendall(b"x" * 65536)
try:
    s.sendall(b"y" * 1000000)
except OSError:
    pass
try:
    s, answers = connect()
finally:
    pass
rng = random.Random(1)
good = b'{"execute": "query-stats", "arguments": {}, "id": 1}'
for n in range(400):
    line = bytearray(good)
    for _ in range(rng.randrange(4)):
        line[rng.randrange(len(line))] = rng.choice(b'{}[]",:0\\ntfe\x01\xc3')
    if b"\n" in line or not line.strip():
        continue
    answer = ask(bytes(line))
    assert ("return" in answer) != ("error" in answer), (line, answer)
END

# Watching ends with the VM; a name is free again after it, however it ended.
"$VIREO" stats one --interval 0.1 >watched 2>&1 </dev/null &
watcher=$!
for _ in $(seq 200); do [ -s watched ] && break; sleep 0.05; done
kill -TERM "${pids[0]}"
wait "$watcher" || complain "vireo stats when the VM ends: status $?: $(tail -n 2 watched)"
wait "${pids[0]}"
pids=()
[ -e "$socket" ] && complain "the socket was left behind"
[ -e "${socket%.sock}.lock" ] && complain "the lock was left behind"
# Many at once, again and again: one of them has the name, and nothing is left.
for round in 1 2 3 4; do
	racers=()
	for i in 1 2 3 4 5; do
		timeout 60 "$VIREO" run --name race --kernel busy --memory 16M --log-level error </dev/null 2>"race.$i" &
		racers+=($!)
	done
	# The others end while it runs.
	for i in 1 2 3 4; do
		wait -n -p ended "${racers[@]}"
		status=$?
		[ $status = 12 ] || complain "race $round: status $status, not 12"
		for n in "${!racers[@]}"; do
			[ "${racers[n]}" != "$ended" ] || unset "racers[n]"
		done
	done
	[ "$(cat race.? | grep -c "the name 'race' is taken")" = 4 ] || complain "race $round: $(cat race.?)"
	for _ in $(seq 100); do
		run_vireo stats race --count 1 --interval 0.1
		[ "$status" = 0 ] && break
		sleep 0.05
	done
	[ "$status" = 0 ] || complain "race $round: nobody has the name: $(cat err)"
	kill -TERM "${racers[@]}"
	wait "${racers[@]}"
done
[ -z "$(ls "$XDG_RUNTIME_DIR/vireo")" ] || complain "left behind: $(ls "$XDG_RUNTIME_DIR/vireo")"
start one
kill -9 "${pids[0]}"
wait "${pids[0]}" 2>/dev/null
pids=()
[ -S "$socket" ] || complain "no stale socket to try with"
expect 2 "no VM with the name 'one'" stats one
rm -f probe
start one
for _ in $(seq 100); do
	run_vireo stats one --count 1
	[ "$status" = 0 ] && break
	sleep 0.05
done
[ "$status" = 0 ] || complain "a stale socket was not replaced: $(cat err)"
# A folder that others can write to is not trusted.
chmod 777 "$XDG_RUNTIME_DIR/vireo"
expect 12 'not yours alone' run --name two --kernel busy --memory 16M --log-level error
exit $bad
