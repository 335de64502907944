#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's cloud kernel on Vireo's networks: DHCP, ping and checksummed transfers in both
directions on a user network, restrict=on, guestfwd, the death of the network's process, and
two VMs that exchange data on a switch.  VIREO_OPTIONS has more options for vireo run.
"""
import hashlib
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, debian_kernel, folder, log_text, net_initramfs, wait_for_text

check = Results("boot/net")
LIMIT = 240
SIZE = 6 << 20


class Vm:
    """One VM that runs @script; its console and log are in @log."""

    def __init__(self, name, net, script):
        self.path = os.path.join(WORK, name + ".log")
        self.log = open(self.path, "wb")
        args = [VIREO, "run", "--kernel", KERNEL, "--initrd", INITRD,
                "--memory", "256M", "--no-reboot", *os.environ.get("VIREO_OPTIONS", "").split()]
        for n in net:
            args += ["--net", n]
        args += ["--cmdline", f'console=ttyS0 panic=-1 quiet no_timer_check run="{script}"']
        self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)

    def text(self):
        return log_text(self.path)

    def wait_for(self, pattern):
        return wait_for_text(self.path, pattern, self.process, LIMIT)

    def finish(self):
        """What is wrong with how it ended, or None."""
        try:
            status = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "it did not end; see " + self.path
        finally:
            self.log.close()
        if status:
            return f"vireo's status is {status}; see {self.path}"
        if re.search(r"Oops|BUG:|WARNING:", self.text()):
            return "the kernel complains; see " + self.path
        return None


class Sink(threading.Thread):
    """A server on loopback that takes one connection's bytes."""

    def __init__(self):
        super().__init__(daemon=True)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(LIMIT)
        self.port = self.server.getsockname()[1]
        self.sum = None
        self.start()

    def run(self):
        sum = hashlib.md5()
        try:
            peer = self.server.accept()[0]
            peer.settimeout(LIMIT)
            while data := peer.recv(1 << 16):
                sum.update(data)
            self.sum = sum.hexdigest()
        except OSError:
            pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def send_to(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        s.recv(1)


def user_network():
    sink, forwarded = Sink(), free_port()
    data = random.Random(1).randbytes(SIZE)
    vm = Vm("user", [f"user,hostfwd={forwarded}:7"],
            "netup; ping -c 2 10.0.2.2 | grep received; "
            f"head -c {SIZE} /dev/urandom >/tmp/a; echo made $(md5sum </tmp/a); "
            f"nc 10.0.2.2 {sink.port} </tmp/a; "
            "nc -l -p 7 </dev/null >/tmp/b & until grep -q ':0007 .* 0A ' /proc/net/tcp*; do :; done; "
            "echo listening; wait; echo took $(md5sum </tmp/b)")
    if vm.wait_for("^listening"):
        send_to(forwarded, data)
    problem = vm.finish()
    text = vm.text()
    check.report("user-boot", problem)
    check.report("dhcp", None if "lease 10.0.2.15" in text else "no lease of 10.0.2.15")
    check.report("ping", None if "2 packets transmitted, 2 packets received" in text else
           "the gateway did not answer twice")
    made = re.search(r"^made ([0-9a-f]{32})", text, re.M)
    took = re.search(r"^took ([0-9a-f]{32})", text, re.M)
    check.report("to-host", None if made and sink.sum == made[1] else
           f"the guest sent {made and made[1]}, the host got {sink.sum}")
    want = hashlib.md5(data).hexdigest()
    check.report("to-guest", None if took and took[1] == want else
           f"the host sent {want}, the guest got {took and took[1]}")


def restricted():
    sink = Sink()
    vm = Vm("restrict", ["user,restrict=on"],
            f"netup; nc -w 3 10.0.2.2 {sink.port} </dev/null; echo left $?")
    problem = vm.finish()
    left = re.search(r"^left (\d+)", vm.text(), re.M)
    if not problem and (not left or left[1] == "0" or sink.sum is not None):
        problem = "the guest reached the host"
    check.report("restrict", problem)


class Echo(threading.Thread):
    """A server at a Unix socket that sends each connection back what came, when all has come."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen(4)
        self.start()

    def run(self):
        while True:
            peer = self.server.accept()[0]
            peer.settimeout(LIMIT)
            data = b""
            while len(data) < SIZE and (more := peer.recv(1 << 16)):
                data += more
            peer.sendall(data)
            peer.close()


def guest_forwarded():
    with tempfile.TemporaryDirectory() as runtime:
        path = os.path.join(runtime, "echo")
        Echo(path)
        get = "nc 10.0.2.100 77 </tmp/a | md5sum"
        vm = Vm("guestfwd", [f"user,restrict=on,guestfwd=tcp:10.0.2.100:77-unix:{path}"],
                f"netup; head -c {SIZE} /dev/urandom >/tmp/a; echo made $(md5sum </tmp/a); "
                f"echo first $({get}); echo second $({get})")
        problem = vm.finish()
        sums = re.findall(r"^(made|first|second) ([0-9a-f]{32})", vm.text(), re.M)
        if not problem and (len(sums) != 3 or len({s for _, s in sums}) != 1):
            problem = f"what came back is not what was sent: {sums}"
        check.report("guestfwd", problem)


def children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
            found += [int(c) for c in f.read().split()]
    return found


def helper_dies():
    vm = Vm("dies", ["user"], "netup; echo ready; cd /sys/class/net/eth0; i=0; "
            "while [ $(cat carrier) = 1 ] && [ $((i+=1)) -lt 100 ]; do sleep 1; done; "
            "echo carrier $(cat carrier)")
    vm.wait_for("^ready")
    helpers = [c for c in children(vm.process.pid)
               if open(f"/proc/{c}/cmdline", "rb").read().startswith(b"vireo\0net-user")]
    for c in helpers:
        os.kill(c, signal.SIGKILL)
    problem = vm.finish()
    if not problem and not helpers:
        problem = "there is no process of the network"
    if not problem and not re.search("^carrier 0", vm.text(), re.M):
        problem = "the link stayed up"
    if not problem and "the link is down" not in vm.text():
        problem = "the log does not tell"
    check.report("helper-dies", problem)


def kill_switch(runtime):
    """SIGKILLs the process that serves in @runtime; False: there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        try:
            s.connect(os.path.join(runtime, "vireo", "switch-test"))
        except OSError as e:
            print(f"# {e}")
            return False
        pid, _, _ = struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    os.kill(pid, signal.SIGKILL)
    return True


def switched():
    """Data from one VM to another; then again after the switch was killed."""
    with tempfile.TemporaryDirectory() as runtime:
        os.environ["XDG_RUNTIME_DIR"] = runtime
        take = "nc -l -p 7 >/tmp/a; echo took $(md5sum </tmp/a); "
        a = Vm("switch-a", ["switch=test"], f"ifconfig eth0 10.9.0.1; echo ready; {take}{take}")
        a.wait_for("^ready")
        give = ("until nc -w 5 10.9.0.1 7 </tmp/a || [ $((i+=1)) -gt 60 ]; do sleep 1; done; "
                "echo gave $(md5sum </tmp/a); ")
        b = Vm("switch-b", ["switch=test"],
               f"ifconfig eth0 10.9.0.2; i=0; head -c {SIZE} /dev/urandom >/tmp/a; {give}"
               f"sleep 6; {give}")
        a.wait_for("^took")
        killed = kill_switch(runtime)
        problems = [b.finish(), a.finish()]
        gave = re.findall(r"^gave ([0-9a-f]{32})", b.text(), re.M)
        took = re.findall(r"^took ([0-9a-f]{32})", a.text(), re.M)
        problem = problems[0] or problems[1]
        check.report("switch", problem if problem else
               None if len(took) > 0 and gave[:1] == took[:1] else f"gave {gave}, took {took}")
        check.report("switch-dies", "there was no switch to kill" if not killed else problem or
               (None if len(took) == 2 and gave == took else f"gave {gave}, took {took}"))


WORK = folder("net")
KERNEL = debian_kernel("virtio_net")
INITRD = net_initramfs(os.path.join(WORK, "net.cpio"), KERNEL)
user_network()
restricted()
guest_forwarded()
helper_dies()
switched()
check.end()
