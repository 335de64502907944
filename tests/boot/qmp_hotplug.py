#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A disk that QMP gives a running Linux guest (blockdev-add, device_add) and takes from it
(device_del, DEVICE_DELETED, blockdev-del), then the same by the monitor's commands, under the
names that QEMU's clients use: -device's id and -drive's.  The same of a SCSI disk and of network cards."""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, debian_kernel, initramfs, wait_for_text, write

check = Results("qmp-hotplug")
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
GUEST_OTHERS = """cd /
while [ ! -b /dev/sda ]; do sleep 0.1; done
echo there scsi $(cat /sys/block/sda/device/model)
echo scsi | dd of=/dev/sda bs=512 conv=sync,fsync 2>/dev/null
echo written scsi
while [ -b /dev/sda ]; do sleep 0.1; done
echo gone scsi
for i in 1 2; do
	while [ ! -d /sys/class/net/eth0 ]; do sleep 0.1; done
	echo net $i $(cat /sys/class/net/eth0/address)
	ifconfig eth0 10.0.2.15 up
	ping -c 1 -W 5 10.0.2.2 >/dev/null && echo pong $i
	while [ -d /sys/class/net/eth0 ]; do sleep 0.1; done
	echo gone $i
done
"""


class Machine:
    def __init__(self, work, kernel, session, *options):
        self.log = os.path.join(work, "log")
        qmp = os.path.join(work, "q")
        args = [VIREO, "qemu", "-accel", "tcg", "-m", "256", "-nodefaults", "-kernel", kernel,
                "-initrd", os.path.join(work, "cpio"),
                "-append", f'console=ttyS0 panic=-1 quiet modules="failover net_failover virtio_net" run="sh /{session}"',
                "-serial", f"file:{self.log}", "-qmp", f"unix:{qmp},server=on,wait=off",
                "-drive", f"if=none,id=d0,format=raw,file={work}/a", "-device", "virtio-blk-pci,drive=d0,id=first", *options]
        env = dict(os.environ, VIREO_ENGINE="soft")
        for path in (self.log, qmp):
            if os.path.exists(path):
                os.unlink(path)
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
        return bool(wait_for_text(self.log, "^" + re.escape(line) + "$", self.p, 60))


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


def test_others(m, work):
    b = {"driver": "raw", "node-name": "n1", "file": {"driver": "file", "filename": f"{work}/b"}}
    check(m.ask("blockdev-add", **b) == {"return": {}}, "blockdev-add for SCSI")
    got = m.ask("device_add", driver="scsi-hd", drive="n1", id="sd", bus="scsi0.0")
    check(got == {"return": {}} and m.says("written scsi"), "scsi-hd", got)
    stats = {x["qdev"]: x["stats"] for x in m.ask("query-blockstats")["return"]}
    check(stats["sd"]["wr_bytes"] == 4096 and stats["sd"]["wr_operations"] == 1 and stats["sd"]["rd_bytes"] > 512 and
          stats["sd"]["flush_operations"] >= 1, "query-blockstats", stats)
    check(m.ask("device_del", id="sd") == {"return": {}} and m.event("DEVICE_DELETED")["data"]["device"] == "sd" and
          m.says("gone scsi"), "scsi-hd goes")
    check(first_sector(f"{work}/b") == b"scsi", "written by SCSI")
    check("error" in m.ask("device_add", driver="virtio-net-pci", netdev="u", id="card"), "no such netdev")
    got = m.ask("netdev_add", type="user", id="u", hostfwd=[{"str": "tcp:127.0.0.1:0-:22"}])
    check("error" in got, "netdev_add says what is wrong", got)
    check(m.ask("netdev_add", type="user", id="u", hostname="hot") == {"return": {}}, "netdev_add")
    check("error" in m.ask("netdev_add", type="user", id="u"), "netdev_add twice")
    got = m.ask("device_add", driver="virtio-net-pci", netdev="u", id="card", mac="52:54:00:aa:bb:01")
    check(got == {"return": {}}, "virtio-net-pci", got)
    check("error" in m.ask("device_add", driver="virtio-net-pci", netdev="u", id="two"), "its netdev is in use")
    check(m.says("net 1 52:54:00:aa:bb:01") and m.says("pong 1"), "the guest pings")
    names = [x["name"] for x in m.ask("qom-list", path="/machine/peripheral")["return"]]
    check("card" in names and "card: type=user,netdev=u" in m.human("info network"), "the card is listed", names)
    check("error" in m.ask("netdev_del", id="u"), "netdev_del of one in use")
    check(m.ask("device_del", id="card") == {"return": {}} and
          m.event("DEVICE_DELETED")["data"]["device"] == "card" and m.says("gone 1"), "the card goes")
    check(m.ask("netdev_del", id="u") == {"return": {}} and
          m.ask("netdev_del", id="u")["error"]["class"] == "DeviceNotFound", "netdev_del")
    check(m.human("netdev_add user,id=u2,net=10.0.2.0/24") == "" and
          m.human("device_add virtio-net-pci,netdev=u2,id=card2") == "", "the monitor's netdev_add")
    check(m.says("pong 2") and m.human("device_del card2") == "" and
          m.event("DEVICE_DELETED")["data"]["device"] == "card2" and m.says("gone 2"), "the monitor's device_del of a card")
    check(m.p.wait(60) == 0, "the end of it")


def test_confined(m, work):
    got = m.ask("netdev_add", type="user", id="u")
    check("--sandbox off" in got.get("error", {}).get("desc", ""), "the sandbox keeps the network shut", got)
    # What was named without a device when it started.
    check(m.ask("device_add", driver="scsi-hd", drive="later", id="sd") == {"return": {}} and m.says("written scsi"),
          "-drive if=none for later")
    check(m.ask("device_del", id="sd") == {"return": {}} and m.event("DEVICE_DELETED")["data"]["device"] == "sd" and
          m.says("gone scsi"), "it goes")
    check("error" in m.ask("device_add", driver="virtio-net-pci", netdev="spare", id="first"), "a disk's id")
    got = m.ask("device_add", driver="virtio-net-pci", netdev="spare", id="card", mac="52:54:00:aa:bb:01")
    check(got == {"return": {}} and m.says("pong 1"), "-netdev for later", got)
    # The guest lets go of it before the host has taken it.
    check(m.ask("device_del", id="card") == {"return": {}} and m.event("DEVICE_DELETED")["data"]["device"] == "card" and
          m.says("gone 1"), "the card goes from a confined VM")
    got = m.ask("device_add", driver="virtio-net-pci", netdev="spare", id="card")
    check("--sandbox off" in got.get("error", {}).get("desc", ""), "only once", got)
    check(m.ask("netdev_del", id="spare") == {"return": {}}, "netdev_del of a confined VM")


with tempfile.TemporaryDirectory() as work:
    kernel = debian_kernel()
    for disk in ("a", "b"):
        with open(os.path.join(work, disk), "wb") as f:
            f.truncate(4 << 20)
    initramfs(f"{work}/cpio", kernel, {"/session": write(f"{work}/session", GUEST),
                                       "/others": write(f"{work}/others", GUEST_OTHERS)})
    for run, session, options in ((test, "session", []), (test_others, "others", ["-sandbox", "off"]),
                                  (test_confined, "others", [
                                      "-netdev", "user,id=spare",
                                      "-drive", f"if=none,id=later,format=raw,file={work}/b"])):
        machine = Machine(work, kernel, session, *options)
        try:
            run(machine, work)
        finally:
            machine.p.kill()
            machine.p.wait()
check.end()
