#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vireo run --serial: a serial device of the host (a pseudo-terminal here) is ours alone, takes
the guest's speed and format, and is given back as it was; files, descriptors, pty, none."""
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, multiboot, write

check = Results("serial")


def out(port, value):
    return b"\x66\xba" + struct.pack("<H", port) + b"\xb0" + bytes([value]) + b"\xee"


def inb(port):
    return b"\x66\xba" + struct.pack("<H", port) + b"\xec"


# COM2: 4800 baud, 7 bits, even parity, 2 stop bits; "hi"; wait for a byte; echo it; end.
ECHO = (out(0x2fb, 0x80) + out(0x2f8, 24) + out(0x2f9, 0) + out(0x2fb, 0x1e) +
        out(0x2f8, ord("h")) + out(0x2f8, ord("i")) +
        b"\x66\xba\xfd\x02\xec\xa8\x01\x74\xfb" +   # until LSR says that there is one
        inb(0x2f8) + b"\xee" + out(0xf4, 3) + b"\xf4\xeb\xfd")
SAY = b"".join(out(0x3f8, c) for c in b"said") + out(0xf4, 3) + b"\xf4\xeb\xfd"


def run(*args, **more):
    return subprocess.Popen([VIREO, "run", "--debug-exit", "--memory", "4M", *args],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **more)


def read_some(fd, count):
    got = b""
    while len(got) < count:
        got += os.read(fd, count - len(got))
    return got


def test_device(kernel):
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)
    before = termios.tcgetattr(theirs)
    vm = run("--kernel", kernel, "--serial", "none", "--serial", name)
    got = read_some(ours, 2)
    check(got == b"hi", "device-output", got)
    for _ in range(100):
        t = termios.tcgetattr(theirs)
        if t[5] == termios.B4800:
            break
        time.sleep(0.05)
    check(t[5] == termios.B4800, "device-speed", t[5])
    want = termios.CS7 | termios.PARENB | termios.CSTOPB
    mask = termios.CSIZE | termios.PARENB | termios.PARODD | termios.CSTOPB
    # Pseudo-terminals keep no size and parity of their own: Linux sets CS8 without parity.
    check(t[2] & mask in (want, termios.CS8 | termios.CSTOPB), "device-format", t[2] & mask)
    second = run("--kernel", kernel, "--serial", "none", "--serial", name)
    said = second.communicate(timeout=60)[1]
    check(second.returncode == 2 and "belongs to another" in said, "device-alone", said)
    os.write(ours, b"x")
    got = read_some(ours, 1)
    check(got == b"x", "device-input", got)
    check(vm.wait(60) == 7, "device-status", vm.returncode)
    check(termios.tcgetattr(theirs) == before, "device-restored")
    os.close(theirs)


def test_pty(kernel):
    vm = run("--kernel", kernel, "--serial", "none", "--serial", "pty")
    for line in vm.stderr:
        if found := re.search(r"COM2 is (/dev/pts/\d+)", line):
            break
    fd = os.open(found[1], os.O_RDWR | os.O_NOCTTY)
    got = read_some(fd, 2)
    check(got == b"hi", "pty-output", got)
    os.write(fd, b"y")
    check(read_some(fd, 1) == b"y", "pty-input")
    check(vm.wait(60) == 7, "pty-status", vm.returncode)
    os.close(fd)


def test_files(kernel, work):
    name = os.path.join(work, "out")
    vm = run("--kernel", kernel, "--serial", "file:" + name)
    stdout = vm.communicate(timeout=60)[0]
    with open(name, encoding="ascii") as f:
        check(f.read() == "said", "file")
    check(stdout == "" and vm.returncode == 7, "file-status", vm.returncode)
    r, w = os.pipe()
    vm = run("--kernel", kernel, "--serial", f"fd:{w}", pass_fds=[w])
    check(read_some(r, 4) == b"said", "descriptor")
    vm.wait(60)
    vm = run("--kernel", kernel, "--serial", "none")
    check(vm.communicate(timeout=60)[0] == "", "none")
    vm = run("--kernel", kernel, "--serial", "stdio")
    check(vm.communicate(timeout=60)[0] == "said", "stdio")


def main():
    with tempfile.TemporaryDirectory() as work:
        for name, code in (("echo", ECHO), ("say", SAY)):
            write(os.path.join(work, name), multiboot(code))
        test_device(os.path.join(work, "echo"))
        test_pty(os.path.join(work, "echo"))
        test_files(os.path.join(work, "say"), work)


main()
check.end()
