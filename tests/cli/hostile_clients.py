#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What clients may do to the sockets of a VM that is kept: half a line, 100 MB of one, no reading, many
at once, vanishing at any moment.  The VM runs on, answers the next, and has not grown; a reader
that asks at the same time is not kept waiting.  In the end nothing is left running."""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, multiboot, write

check = Results("hostile_clients")
# What the sanitizers keep of freed memory is no growth.
ROOM = (512 if os.environ.get("SAN", "0") == "1" else 32) << 20


def vireo(*words):
    return subprocess.run([VIREO, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=60)


def connect(path, buffer=None):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    if buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    for _ in range(200):
        try:
            s.connect(path)
            return s
        except BlockingIOError:     # as many wait as may
            time.sleep(0.05)
    raise TimeoutError(path)


def send_much(s, size):
    """How much of it was taken before the other end had enough."""
    piece, sent = b"x" * 65536, 0
    try:
        while sent < size:
            sent += s.send(piece)
    except OSError:
        pass
    return sent


def half_a_line(path):
    s = connect(path)
    s.sendall(b'{"execute": "query-sta')
    s.close()


def endless_line(path):
    s = connect(path)
    send_much(s, 100 << 20)
    s.close()


def endless_line_in_bytes(path):
    s = connect(path)
    try:
        for _ in range(2000):
            s.sendall(b'{"')
    except OSError:
        pass
    s.close()


def deaf(path):
    """Asks and never reads; then asks on."""
    s = connect(path, 4096)
    s.settimeout(1)
    try:
        for _ in range(5000):
            s.sendall(b'{"execute": "query-stats"}\n')
    except OSError:
        pass
    s.close()


def vanishing(path):
    for n in range(200):
        s = connect(path)
        s.sendall(b'{"execute": "query-status"}\n'[:n % 28])
        s.close()


def crowd(path):
    all_of_them = []
    try:
        for _ in range(300):
            s = socket.socket(socket.AF_UNIX)
            s.setblocking(False)
            s.connect(path)
            all_of_them.append(s)
    except OSError:
        pass
    time.sleep(0.2)
    for s in all_of_them:
        s.close()


def resident(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def runs(folder, name, before):
    """It answers at the control socket, and is as it was."""
    pid = json.loads(vireo("inspect", "victim").stdout).get("pid")
    if not pid:
        check(False, f"{name}-runs-on", (vireo("logs", "--vmm", "victim").stdout, vireo("inspect", "victim").stdout))
        sys.exit(1)
    r = vireo("ps", "--format", "json")
    states = {v["name"]: v["state"] for v in json.loads(r.stdout)}
    check(states.get("victim") == "running", f"{name}-runs-on", (r.stdout, r.stderr))
    for _ in range(100):
        if descriptors(pid) <= before[1]:
            break
        time.sleep(0.05)
    check(descriptors(pid) <= before[1], f"{name}-closed", (descriptors(pid), before))
    check(resident(pid) < before[0] + ROOM, f"{name}-no-larger", (resident(pid), before))


def main():
    with tempfile.TemporaryDirectory() as work:
        os.environ["XDG_DATA_HOME"] = os.environ["XDG_RUNTIME_DIR"] = work
        kernel = os.path.join(work, "echo")
        # Says "!", then reads and forgets: lsr 0x3fd bit 0, rbr 0x3f8.
        write(kernel, multiboot(bytes.fromhex("66baf803b021ee66bafd03eca80174fb66baf803ecebf0")))
        folder = os.path.join(work, "vireo", "victim")
        r = vireo("create", "victim", "--kernel", kernel, "--memory", "16M")
        check(r.returncode == 0, "create", r.stderr)
        with open(os.path.join(folder, "vm.json"), "w") as f:
            json.dump({"kernel": "kernel", "memory": "16M", "qmp": ["unix:qmp"], "monitor": ["unix:monitor"],
                       "vsock": "vsock", "serial": ["socket:serial"],
                       "sandbox": "auto,dump"}, f)
        r = vireo("start", "victim")
        check(r.returncode == 0, "start", r.stderr)
        pid = json.loads(vireo("inspect", "victim").stdout)["pid"]
        before = resident(pid), descriptors(pid)
        try:
            for place in "control.sock", "qmp", "monitor", "serial", "vsock":
                # What is sent to a serial line arrives at its speed, also after its sender has gone.
                large = () if place == "serial" else (endless_line, deaf)
                for attack in half_a_line, *large, endless_line_in_bytes, vanishing, crowd:
                    try:
                        attack(os.path.join(folder, place))
                    except OSError as e:
                        check(False, f"{place}-{attack.__name__}", e)
                runs(folder, place, before)
            # One who does not read keeps nobody else waiting.
            rude = connect(os.path.join(folder, "control.sock"))
            rude.sendall(b'{"execute": "query-stats"')
            begun = time.monotonic()
            r = vireo("pause", "victim")
            check(r.returncode == 0 and time.monotonic() - begun < 10, "nobody-waits", r.stderr)
            rude.close()
        finally:
            vireo("kill", "victim")
        for _ in range(100):
            if not os.path.exists(f"/proc/{pid}"):
                break
            time.sleep(0.05)
        check(not os.path.exists(f"/proc/{pid}"), "nothing-left-running")
    check.end()


main()
