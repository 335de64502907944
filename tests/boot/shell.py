#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's cloud kernel on a terminal: a shell that runs commands, Ctrl-C, power-off.

The VM runs on a pseudo-terminal of ours, as on a user's: what is typed reaches the
guest's shell, Ctrl-C interrupts the guest's program and not vireo, leaving the shell
powers the guest off with status 0, and the terminal is as it was.
"""
import os
import pty
import re
import select
import signal
import sys
import termios
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import ENGINE, Results, VIREO, debian_kernel, folder, initramfs

check = Results("shell")
PROMPT = rb"# (\x1b\[6n)?$"


def prepare():
    return [VIREO, "run", "--engine", ENGINE, "--kernel", debian_kernel(), "--initrd",
            initramfs(os.path.join(folder("boot"), "initramfs.shell")), "--memory", "256M",
            "--cmdline", "console=ttyS0 panic=-1 quiet"]


class Terminal:
    def __init__(self, argv):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(argv[0], argv)
        self.seen = b""
        self.before = None

    def wait_for(self, pattern, seconds):
        """Reads until the output since the last match ends in pattern; returns it."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            left = end - time.monotonic()
            ready = select.select([self.fd], [], [], max(left, 0))[0]
            if left <= 0 or not ready:
                raise TimeoutError(f"no {pattern!r} in {self.seen[-500:]!r}")
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            if not data:
                raise EOFError(f"ended before {pattern!r}: {self.seen[-500:]!r}")
            self.seen += data
            if b"\x1b[6n" in data:      # busybox asks where the cursor is
                os.write(self.fd, b"\x1b[1;1R")
        text, self.seen = self.seen, b""
        return text.decode(errors="replace").replace("\r", "")

    def command(self, line, seconds=60):
        os.write(self.fd, line.encode() + b"\r")
        return self.wait_for(PROMPT, seconds)

    def finish(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        raise TimeoutError(f"does not end: {self.seen[-500:]!r}")


def session(t):
    start = time.monotonic()
    t.wait_for(PROMPT, 300)
    print(f"# a prompt after {time.monotonic() - start:.1f} s")
    out = t.command("echo $((1234 * 3)) $(uname -s)")
    check("3702 Linux" in out, "command", out)
    out = t.command("(exit 3); echo status=$?")
    check("status=3" in out, "status", out)
    out = t.command("stty -a | head -n 1")
    check("speed" in out, "tty", out)
    os.write(t.fd, b"sleep 1000; echo slept $?\r")
    time.sleep(3)
    os.write(t.fd, b"\x03")
    t.wait_for(PROMPT, 60)
    out = t.command("echo alive")
    check("alive" in out, "ctrl-c", out)
    os.write(t.fd, b"exit\r")
    check((status := t.finish(60)) == 0, "exit-status", status)


def main():
    t = Terminal(prepare())
    before = termios.tcgetattr(t.fd)
    try:
        session(t)
        check(termios.tcgetattr(t.fd) == before, "terminal-restored")
    except (TimeoutError, EOFError) as e:
        check(False, "session", str(e))
        os.kill(t.pid, signal.SIGKILL)


main()
check.end()
