#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A disk that QMP gives a running Linux guest (blockdev-add, device_add) and takes from it
(device_del, DEVICE_DELETED, blockdev-del), then the same by the monitor's commands, under the
names that QEMU's clients use: -device's id and -drive's."""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.realpath(os.environ.get("BUILD", "build"))
GUEST = """cd /
for i in 1 2; do
	while [ ! -b /dev/vdb ]; do sleep 0.1; done
	echo there $i $(cat /sys/block/vdb/serial)
	echo "round $i" | dd of=/dev/vdb bs=512 conv=sync,fsync 2>/dev/null
	echo written $i
	while [ -b /dev/vdb ]; do sleep 0.1; done
	echo gone $i
done
"""
failed = 0


def check(ok, name, detail=""):
    global failed
    failed += not ok
    print(f"ok qmp-disk/{name}" if ok else f"not ok qmp-disk/{name}: {detail!r}", flush=True)


class Machine:
    def __init__(self, work, kernel):
        self.log = os.path.join(work, "log")
        qmp = os.path.join(work, "q")
        args = [os.path.join(BUILD, "vireo"), "qemu", "-accel", "tcg", "-m", "256", "-nodefaults", "-kernel", kernel,
                "-initrd", os.path.join(work, "cpio"), "-append", 'console=ttyS0 panic=-1 quiet run="sh /session"',
                "-serial", f"file:{self.log}", "-qmp", f"unix:{qmp},server=on,wait=off",
                "-drive", f"if=none,id=d0,format=raw,file={work}/a", "-device", "virtio-blk-pci,drive=d0,id=first"]
        env = dict(os.environ, VIREO_ENGINE="soft")
        self.p = subprocess.Popen(args, stdin=subprocess.DEVNULL, env=env)
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(60)
        for _ in range(400):
            try:
                self.s.connect(qmp)
                break
            except OSError:
                time.sleep(0.05)
        self.f = self.s.makefile()
        self.events = []
        self.f.readline()
        self.ask("qmp_capabilities")

    def ask(self, name, **arguments):
        self.s.sendall(json.dumps({"execute": name, "arguments": {
            k.replace("_", "-"): v for k, v in arguments.items()}}).encode())
        while True:
            got = json.loads(self.f.readline())
            if "event" not in got:
                return got
            self.events.append(got)

    def human(self, line):
        return self.ask("human-monitor-command", command_line=line)["return"]

    def event(self, name):
        while True:
            for e in self.events:
                if e["event"] == name:
                    self.events.remove(e)
                    return e
            line = self.f.readline()
            if not line:
                return None
            got = json.loads(line)
            if "event" in got:
                self.events.append(got)

    def says(self, line):
        for _ in range(1200):
            if os.path.exists(self.log):
                with open(self.log, encoding="utf-8", errors="replace") as f:
                    if line in f.read().replace("\r", "").splitlines():
                        return True
            if self.p.poll() is not None:
                return False
            time.sleep(0.05)
        return False


def first_sector(path):
    with open(path, "rb") as f:
        return f.read(512).strip(b"\0\n")


def test(m, work):
    b = {"driver": "raw", "node-name": "n1", "file": {"driver": "file", "filename": f"{work}/b"}}
    check(m.ask("blockdev-add", **b) == {"return": {}}, "blockdev-add")
    check("error" in m.ask("blockdev-add", **b), "twice")
    check("error" in m.ask("device_add", driver="e1000", drive="n1", id="x"), "no such driver")
    check("error" in m.ask("device_add", driver="virtio-blk-pci", drive="n9", id="x"), "no such node")
    got = m.ask("device_add", driver="virtio-blk-pci", drive="n1", id="hot", serial="one")
    check(got == {"return": {}}, "device_add", got)
    check("error" in m.ask("device_add", driver="virtio-blk-pci", drive="n1", id="hot"), "the same id")
    check(m.says("there 1 one") and m.says("written 1"), "the guest sees it")
    blocks = {x["device"]: x for x in m.ask("query-block")["return"]}
    check(set(blocks) == {"d0", "n1"} and "/hot/" in blocks["n1"]["qdev"] and "/first/" in blocks["d0"]["qdev"],
          "query-block", blocks)
    names = [x["name"] for x in m.ask("qom-list", path="/machine/peripheral")["return"]]
    check(sorted(names) == ["first", "hot"], "qom-list", names)
    check("error" in m.ask("blockdev-del", node_name="n1"), "in use")
    check(m.ask("device_del", id="hot") == {"return": {}}, "device_del")
    check(m.event("DEVICE_DELETED")["data"]["device"] == "hot" and m.says("gone 1"), "DEVICE_DELETED")
    check(first_sector(f"{work}/b") == b"round 1", "written")
    check(m.ask("blockdev-del", node_name="n1") == {"return": {}}, "blockdev-del")
    check(m.human(f"drive_add 0 if=none,file={work}/b,id=n2,format=raw") == "OK\r\n", "drive_add")
    check(m.human("device_add virtio-blk-pci,drive=n2,id=hot2,serial=two") == "", "the monitor's device_add")
    check(m.says("there 2 two") and m.says("written 2"), "the guest sees it again")
    check(m.human("device_del hot2") == "" and m.event("DEVICE_DELETED")["data"]["device"] == "hot2",
          "the monitor's device_del")
    check(m.p.wait(60) == 0 and first_sector(f"{work}/b") == b"round 2", "the end")


with tempfile.TemporaryDirectory() as work:
    kernel = subprocess.run([os.path.join(TOP, "tools/kernel.sh"), "cloud"], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)
    if kernel.returncode:
        print(kernel.stderr[-200:].strip())
        sys.exit(77)
    kernel = kernel.stdout.strip()
    for disk in ("a", "b"):
        with open(os.path.join(work, disk), "wb") as f:
            f.truncate(4 << 20)
    with open(os.path.join(work, "session"), "w") as f:
        f.write(GUEST)
    with open(os.path.join(work, "list"), "w") as f:
        subprocess.run([os.path.join(TOP, "tools/modules.sh"), kernel], stdout=f, check=True)
        f.write(f"file /session {work}/session 755\n")
    if subprocess.call([os.path.join(TOP, "tools/initramfs.sh"), f"{work}/cpio", f"{work}/list"]):
        sys.exit(77)
    machine = Machine(work, kernel)
    try:
        test(machine, work)
    finally:
        machine.p.kill()
        machine.p.wait()
sys.exit(failed > 0)
