#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""virtio-vsock with Debian's cloud kernel: a program of the guest calls the host, programs of the
host call one of the guest, megabytes go both ways at once and arrive whole, ends are passed on."""
import os
import socket
import subprocess
import sys
import threading

sys.path.append(sys.path[0] + "/../lib")
from testlib import ENGINE, Results, TOP, VIREO, debian_kernel, folder, initramfs, skip

check = Results("vsock")
SIZE = 3 << 20


def path(name):
    return os.path.join(folder("boot"), "vsock." + name)


def prepare():
    kernel = debian_kernel("vsock")
    build = [os.environ.get("CC", "cc"), "-static", "-O1", "-o", path("guest"),
             os.path.join(TOP, "tests/lib/vsock_guest.c")]
    if subprocess.run(build, stderr=subprocess.DEVNULL).returncode:
        skip("cannot link a static program")
    initramfs(path("cpio"), kernel, {"/talk": path("guest")})
    return kernel


def start(kernel):
    return subprocess.Popen(
        [VIREO, "run", "--engine", ENGINE,
         "--kernel", kernel, "--initrd", path("cpio"), "--memory", "256M", "--vsock", path("s"),
         "--cmdline", 'console=ttyS0 panic=-1 quiet run="/talk"'],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(path("err"), "w"), text=True)


def read_all(s):
    got = bytearray()
    while piece := s.recv(1 << 16):
        got += piece
    return bytes(got)


def called(server):
    s, _ = server.accept()
    s.settimeout(60)
    want = bytes((i * 31 + (i >> 8)) & 0xff for i in range(1 << 20))
    got = read_all(s)
    check(got == want, "guest-to-host", f"{len(got)} bytes")
    s.sendall(b"thanks")
    s.close()


def call(port):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(path("s"))
    s.sendall(f"CONNECT {port}\n".encode())
    line = b""
    while not line.endswith(b"\n"):
        piece = s.recv(1)
        if not piece:
            break
        line += piece
    return s, line


def echo(name):
    s, line = call(1234)
    check(line.startswith(b"OK "), name + "-accepted", line)
    data = os.urandom(SIZE)

    def send():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    t = threading.Thread(target=send)
    t.start()
    got = read_all(s)
    t.join()
    check(got == data, name + "-echo", f"{len(got)} of {SIZE}")
    s.close()


def session(vm, server):
    called(server)
    for line in vm.stdout:
        if "the host says" in line:
            check("says thanks" in line, "host-to-guest", line)
        if "port 53" in line:
            check("refused" in line, "refused-by-host", line)
        if "listening" in line:
            break
    echo("first")
    echo("second")
    s, line = call(999)
    check(line == b"", "refused-by-guest", line)
    s.close()
    s, line = call(1234)
    s.close()       # and leave at once
    s, line = call(1234)
    s.sendall(b"end")
    check(s.recv(3) == b"end", "end")
    s.shutdown(socket.SHUT_WR)
    rest = vm.stdout.read()
    check("ended" in rest, "guest-ended", rest[-200:])
    check(vm.wait(60) == 0, "status")
    check(not os.path.exists(path("s")), "socket-removed")


def main():
    kernel = prepare()
    for name in (path("s"), path("s_52")):
        if os.path.exists(name):
            os.unlink(name)
    server = socket.socket(socket.AF_UNIX)
    server.settimeout(120)
    server.bind(path("s_52"))
    server.listen(1)
    vm = start(kernel)
    try:
        session(vm, server)
    except OSError as e:
        check(False, "session", repr(e))
        vm.kill()
        vm.wait()


main()
check.end()
