#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disks that come and go under a running Linux guest, through the control socket and ACPI:
also while the guest writes to them, and again and again in the same slot."""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import ENGINE, Results, VIREO, debian_kernel, initramfs, log_text, wait_for_text, write

check = Results("hotplug")
ROUNDS = 3
# What dd opened by name after the disk went would be a new file of that name, for ever in its place;
# what the kernel says of a disk that went in the middle of a write could end up within a line; and
# without the line that it reads, the guest could be off while its disks are still being asked for.
GUEST = """cd /
dmesg -n 1
for i in $(seq %d); do
	while [ ! -b /dev/vdb ]; do sleep 0.1; done
	echo there $i $(cat /sys/block/vdb/serial)
	echo "round $i" | dd of=/dev/vdb bs=512 conv=sync,fsync 2>/dev/null
	exec 3>/dev/vdb
	echo written $i
	# From the second round on it goes in the middle of this.
	[ $i = 1 ] || dd if=/dev/zero bs=64k seek=1 >&3 2>/dev/null
	exec 3>&-
	while [ -b /dev/vdb ]; do sleep 0.1; done
	echo gone $i
done
read line
dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null && echo first still there
""" % ROUNDS


class Machine:
    def __init__(self, work, kernel):
        self.work = work
        for disk in ("a", "b"):
            with open(os.path.join(work, disk), "wb") as f:
                f.truncate(8 << 20)
        env = dict(os.environ, XDG_RUNTIME_DIR=work)
        self.log = os.path.join(work, "log")
        argv = [VIREO, "run", "--engine", ENGINE, "--name", "plug", "--cpus", "2",
                "--kernel", kernel, "--initrd", os.path.join(work, "cpio"), "--memory", "256M",
                "--disk", os.path.join(work, "a"), "--cmdline",
                'console=ttyS0 panic=-1 quiet run="sh /session"']
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log,
                                            stderr=log, env=env)

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        for _ in range(300):
            try:
                self.socket.connect(os.path.join(self.work, "vireo", "plug.sock"))
                break
            except OSError:
                time.sleep(0.1)
        self.lines = self.socket.makefile("r")

    def ask(self, command, **arguments):
        request = {"execute": command, "arguments": arguments}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(self.lines.readline())

    def wait_for(self, pattern, seconds=100):
        found = wait_for_text(self.log, pattern, self.process, seconds)
        if not found:
            print(log_text(self.log)[-1500:])
        return bool(found)

    def disks(self):
        return [os.path.basename(d["file"]) for d in self.ask("query-disks")["return"]]


def one_round(m, n):
    image = os.path.join(m.work, "b")
    answer = m.ask("disk-add", disk=image + ",format=raw,serial=round" + str(n))
    if not check("return" in answer, f"add-{n}", answer):
        return False
    slot = answer["return"]["slot"]
    check(m.disks() == ["a", "b"], f"listed-{n}", m.disks())
    if not check(m.wait_for(rf"^there {n} *round{n}"), f"appears-{n}"):
        return False
    if not check(m.wait_for(rf"^written {n}"), f"works-{n}"):
        return False
    check(m.ask("disk-remove", slot=slot) == {"return": {}}, f"remove-{n}")
    if not check(m.wait_for(rf"^gone {n}"), f"goes-{n}"):
        return False
    for _ in range(100):
        if m.disks() == ["a"]:
            break
        time.sleep(0.1)
    check(m.disks() == ["a"], f"closed-{n}", m.disks())
    with open(image, "rb") as f:
        check(f.read(8) == b"round %d\n" % n, f"content-{n}")
    return True


def bad_requests(m):
    for arguments in ({}, {"disk": "/nonexistent/x"}, {"disk": 7}, {"disk": "a,nonsense=1"}):
        answer = m.ask("disk-add", **arguments)
        check("error" in answer, "bad-add", answer)
    for arguments in ({}, {"slot": "x"}, {"slot": 0}, {"slot": 1}, {"slot": 31}, {"slot": -1},
                      {"slot": 1 << 40}):
        answer = m.ask("disk-remove", **arguments)
        check("error" in answer, "bad-remove", answer)


def main():
    kernel = debian_kernel("virtio_blk")
    work = tempfile.mkdtemp()
    os.chmod(work, 0o700)
    initramfs(work + "/cpio", kernel, {"/session": write(work + "/session", GUEST)})
    m = Machine(work, kernel)
    try:
        m.connect()
        bad_requests(m)
        for n in range(1, ROUNDS + 1):
            if not one_round(m, n):
                break
        m.process.stdin.write(b"\n")
        m.process.stdin.flush()
        check(m.process.wait(60) == 0, "status", m.process.returncode)
        check(m.wait_for("^first still there", 1), "first")
    except (OSError, ValueError, subprocess.TimeoutExpired) as e:
        check(False, "session", str(e))
    finally:
        m.process.kill()
        m.process.wait()
        shutil.rmtree(work)


main()
check.end()
