#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A TAP interface of the host as a VM's network: ping, and data in both directions, with the
interface named and with a descriptor of it that has no offload header; two VMs that share it
through a switch, each with its own address; then the interface is taken away.  It
all happens in a network namespace of its own, where no privileges are needed.
"""
import fcntl
import hashlib
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, debian_kernel, folder, log_text, net_initramfs, skip, wait_for_text

check = Results("boot/tap")
LIMIT = 240
SIZE = 4 << 20
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454ca, 2, 0x1000


def enter():
    """This script once more, as root of a network namespace of its own."""
    if not shutil.which("ip"):
        skip("the command ip (iproute2) is not installed")
    if subprocess.call(["unshare", "-Urn", "true"], stderr=subprocess.DEVNULL):
        skip("no user and network namespaces here")
    os.execvp("unshare", ["unshare", "-Urn", sys.executable, os.path.abspath(__file__), "inside"])


def ip(*words):
    return subprocess.run(["ip", *words], stderr=subprocess.PIPE, text=True)


def make_interface(name, address):
    made = ip("tuntap", "add", "dev", name, "mode", "tap")
    if made.returncode:
        skip("/dev/net/tun is refused: " + made.stderr.strip())
    ip("addr", "add", address + "/24", "dev", name)
    ip("link", "set", name, "up")


def descriptor(name):
    """Of the interface, inheritable, without the offload header."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    os.set_inheritable(fd, True)
    return fd


class Vm:
    def __init__(self, name, net, script, fds=()):
        self.path = os.path.join(WORK, name + ".log")
        words = f'console=ttyS0 panic=-1 quiet no_timer_check run="{script}"'
        with open(self.path, "wb") as log:
            self.process = subprocess.Popen(
                [VIREO, "run", "--kernel", KERNEL, "--initrd", INITRD,
                 "--memory", "256M", "--no-reboot", "--net", net, "--cmdline", words],
                stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, pass_fds=fds)

    def text(self):
        return log_text(self.path)

    def wait_for(self, pattern):
        return wait_for_text(self.path, pattern, self.process, LIMIT)

    def finish(self):
        try:
            self.process.stdin.close()
            status = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "it did not end; see " + self.path
        return f"vireo's status is {status}; see {self.path}" if status else None


class Peer(threading.Thread):
    """Takes a connection's bytes until it ends, then sends its own."""

    def __init__(self, host, data):
        super().__init__(daemon=True)
        self.server = socket.create_server((host, 0))
        self.server.settimeout(LIMIT)
        self.port = self.server.getsockname()[1]
        self.data, self.sum = data, None
        self.start()

    def run(self):
        peer = self.server.accept()[0]
        peer.settimeout(LIMIT)
        sum, got = hashlib.md5(), 0
        while got < SIZE and (data := peer.recv(1 << 16)):
            sum.update(data)
            got += len(data)
        self.sum = sum.hexdigest()
        peer.sendall(self.data)
        peer.close()


def exchange(name, net, host, guest, fds=()):
    peer = Peer(host, random.Random(1).randbytes(SIZE))
    vm = Vm(name, net, f"ifconfig eth0 {guest}; ping -c 2 {host} | grep received; "
            f"head -c {SIZE} /dev/urandom >/tmp/a; echo made $(md5sum </tmp/a); "
            f"echo took $(nc {host} {peer.port} </tmp/a | md5sum)", fds)
    problem = vm.finish()
    text = vm.text()
    sums = dict(re.findall(r"^(made|took) ([0-9a-f]{32})", text, re.M))
    check.report(name + "-boot", problem)
    check.report(name + "-ping", None if "2 packets transmitted, 2 packets received" in text else
           "the host did not answer twice")
    check.report(name + "-to-host", None if peer.sum and peer.sum == sums.get("made") else
           f"the guest sent {sums.get('made')}, the host got {peer.sum}")
    want = hashlib.md5(peer.data).hexdigest()
    check.report(name + "-to-guest", None if sums.get("took") == want else
           f"the host sent {want}, the guest got {sums.get('took')}")


def shared():
    """Several VMs on one card of the host: each answers at its own address, with its own MAC."""
    with tempfile.TemporaryDirectory() as runtime:
        os.environ["XDG_RUNTIME_DIR"] = runtime
        made = subprocess.run([VIREO, "switch", "--background", "--uplink",
                               "tap,ifname=tap0", "shared"], stderr=subprocess.PIPE, text=True,
                              timeout=LIMIT, stdin=subprocess.DEVNULL)
        vms = [Vm(f"shared-{n}", f"switch=shared,mac=52:54:00:aa:00:0{n}",
                  f"ifconfig eth0 10.78.0.{n}; ping -c 2 10.78.0.1 | grep received; "
                  f"i=0; until ping -c 1 10.78.0.{7 - n} >/dev/null || [ $((i+=1)) -gt 30 ]; "
                  "do :; done; "
                  f"ping -c 2 10.78.0.{7 - n} | grep received; echo heard; read line") for n in (3, 4)]
        problem = made.stderr if made.returncode else None
        for vm in vms:  # each is there until both have heard of the other
            vm.wait_for("^heard")
        for vm in vms:
            vm.process.stdin.write(b"\n")
        for vm in vms:
            problem = vm.finish() or problem
            if vm.text().count("2 packets transmitted, 2 packets received") != 2:
                problem = problem or "it does not reach the host and the other VM; see " + vm.path
        known = subprocess.run(["ip", "neigh", "show", "dev", "tap0"], stdout=subprocess.PIPE,
                               text=True).stdout
        for n in (3, 4):
            if not re.search(rf"10\.78\.0\.{n} .*52:54:00:aa:00:0{n}", known):
                problem = problem or f"the host knows these neighbours: {known}"
        check.report("shared", problem)


def taken_away():
    make_interface("tap1", "10.79.0.1")  # the switch may have the other for a moment yet
    vm = Vm("away", "tap,ifname=tap1",
            "ifconfig eth0 10.79.0.2; echo ready; cd /sys/class/net/eth0; i=0; "
            "while [ $(cat carrier) = 1 ] && [ $((i+=1)) -lt 60 ]; do sleep 1; done; "
            "echo carrier $(cat carrier)")
    vm.wait_for("^ready")
    ip("link", "delete", "tap1")
    problem = vm.finish()
    if not problem and ("carrier 0" not in vm.text() or "link is down" not in vm.text()):
        problem = "nobody noticed; see " + vm.path
    check.report("taken-away", problem)


if sys.argv[1:] != ["inside"]:
    enter()
WORK = folder("tap")
KERNEL = debian_kernel("virtio_net")
INITRD = net_initramfs(os.path.join(WORK, "net.cpio"), KERNEL)
make_interface("tap0", "10.78.0.1")
exchange("named", "tap,ifname=tap0", "10.78.0.1", "10.78.0.2")
FD = descriptor("tap0")
exchange("fd", f"tap,fd={FD}", "10.78.0.1", "10.78.0.2", (FD,))
os.close(FD)
shared()
taken_away()
check.end()
