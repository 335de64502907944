#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A VM of ours and one of QEMU's on one network: each side listens once, and both are on a
multicast group; data goes both ways and its sums agree.  Two of ours on a unix socket, too.
"""
import os
import re
import shutil
import socket
import subprocess
import sys

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, debian_kernel, folder, log_text, net_initramfs, wait_for_text

check = Results("boot/net-socket")
QEMU = shutil.which("qemu-system-x86_64", path="/usr/bin")
LIMIT = 200
SIZE = 1 << 20


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Vm:
    """On vireo run, on qemu-system-x86_64, or on our personality of that name."""

    def __init__(self, what, name, net, script):
        self.path = os.path.join(WORK, name + ".log")

        line = f'console=ttyS0 panic=-1 quiet no_timer_check run="{script}"'
        if what == "vireo":
            args = [VIREO, "run", "--kernel", KERNEL, "--initrd", INITRD,
                    "--memory", "256M", "--no-reboot", "--cmdline", line, "--net", "socket," + net]
        else:
            args = [QEMU] if what == "qemu" else [VIREO, "qemu"]
            args += ["-nodefaults", "-display", "none", "-m", "256", "-no-reboot", "-serial", "stdio",
                     "-accel", "tcg", "-kernel", KERNEL, "-initrd", INITRD, "-append", line,
                     "-netdev", "socket,id=n," + net, "-device", f"virtio-net-pci,netdev=n,mac=52:54:00:00:01:{len(name):02x}"]
        self.log = open(self.path, "wb")
        self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)

    def text(self):
        return log_text(self.path)

    def wait_for(self, pattern):
        return wait_for_text(self.path, pattern, self.process, LIMIT)

    def finish(self):
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "it did not end; see " + self.path
        finally:
            self.log.close()
        return None


def joined(name, a_kind, a_net, b_kind, b_net):
    """A listens for B's data, then gives it other data."""
    give = "until nc -w 5 {} 7 </tmp/a || [ $((i+=1)) -gt 60 ]; do sleep 1; done; echo gave $(md5sum </tmp/a); "
    take = "nc -l -p 7 >/tmp/b; echo took $(md5sum </tmp/b); "
    make = f"i=0; head -c {SIZE} /dev/urandom >/tmp/a; "
    a = Vm(a_kind, name + "-a", a_net, f"ifconfig eth0 10.9.0.1; {make} echo ready; {take}{give.format('10.9.0.2')}")
    a.wait_for("^ready")
    b = Vm(b_kind, name + "-b2", b_net, f"ifconfig eth0 10.9.0.2; {make}{give.format('10.9.0.1')}{take}")
    problem = b.finish() or a.finish()
    gave = sorted(re.findall(r"^gave ([0-9a-f]{32})", a.text() + b.text(), re.M))
    took = sorted(re.findall(r"^took ([0-9a-f]{32})", a.text() + b.text(), re.M))
    check.report(name, problem or (None if len(gave) == 2 and gave == took else f"gave {gave}, took {took}"))


WORK = folder("net_socket")
KERNEL = debian_kernel("virtio_net")
INITRD = net_initramfs(os.path.join(WORK, "net.cpio"), KERNEL)
path = os.path.join(WORK, "socket")
joined("unix", "vireo", "listen=unix:" + path, "vireo", "connect=unix:" + path)
if QEMU:
    port = free_port()
    joined("vireo-listens", "personality", f"listen=127.0.0.1:{port}", "qemu", f"connect=127.0.0.1:{port}")
    port = free_port()
    joined("qemu-listens", "qemu", f"listen=127.0.0.1:{port}", "vireo", f"connect=127.0.0.1:{port}")
    group = f"mcast=239.9.8.7:{port},localaddr=127.0.0.1"
    joined("group", "vireo", group, "qemu", group)
else:
    check.skip("qemu", "qemu-system-x86 is not installed")
check.end()
