#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The user's terminal: raw while the VM runs, restored however vireo ends.

Each case runs vireo on a pseudo-terminal of its own, with a guest that echoes.
Prints TAP.
"""
import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import VIREO, multiboot, write

LIMIT = 60

# Waits for a byte on the first serial port and sends it back, until a Z, after which it reads
# no more: poll: mov dx,0x3fd; in al,dx; test al,1; jz poll; mov dl,0xf8; in al,dx; out dx,al;
# cmp al,'Z'; jne poll; deaf: jmp deaf
ECHO = bytes.fromhex("66bafd03eca80174f7b2f8ecee3c5a75efebfe")


class Session:
    """vireo on a new pseudo-terminal, in a session of its own."""

    def __init__(self, work, *args):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        kernel = os.path.join(work, "echo")
        write(kernel, multiboot(ECHO))
        self.process = subprocess.Popen(
            [VIREO, "run", "--memory", "16M", "--kernel", kernel, *args],
            stdin=self.slave, stdout=self.slave, stderr=self.slave,
            preexec_fn=self.take_terminal)

    def take_terminal(self):
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def send(self, data):
        os.write(self.master, data)

    def wait_for(self, pattern, limit=LIMIT):
        end = time.monotonic() + limit
        while not re.search(pattern, self.output):
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{pattern!r} never came; there is {self.output!r}")
            if select.select([self.master], [], [], min(left, 0.2))[0]:
                try:
                    self.output += os.read(self.master, 4096)
                except OSError:
                    pass

    def wait_raw(self):
        end = time.monotonic() + LIMIT
        while termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG):
            assert time.monotonic() < end, "the terminal never became raw"
            time.sleep(0.02)

    def wait_end(self):
        return self.process.wait(LIMIT)

    def assert_restored(self, limit=5):
        end = time.monotonic() + limit
        while termios.tcgetattr(self.slave) != self.before:
            assert time.monotonic() < end, (
                f"not restored: {termios.tcgetattr(self.slave)[:4]}, was {self.before[:4]}")
            time.sleep(0.02)

    def started(self):
        self.wait_for(rb"Ctrl-\] then \. ends the VM")
        self.wait_raw()
        self.send(b"x")
        self.wait_for(rb"x$")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def test_escape_ends(s):
    s.started()
    s.send(b"\x1d.")
    status = s.wait_end()
    assert status == 10, f"status {status}"
    s.assert_restored()
    s.wait_for(rb"ended by the escape key")


def test_escape_twice_is_sent(s):
    s.started()
    s.send(b"\x1d\x1d")
    s.wait_for(rb"\x1d")


def test_escape_help(s):
    s.started()
    s.send(b"\x1d?")
    s.wait_for(rb"end the VM at once\r\n")


def test_escape_split_by_time(s):
    s.started()
    s.send(b"\x1d")
    time.sleep(0.3)
    s.send(b".")
    assert s.wait_end() == 10


def test_escape_from_deaf_guest(s):
    """The escape key is seen however much the guest has not read."""
    s.started()
    s.send(b"Z")
    s.wait_for(rb"Z$")
    os.set_blocking(s.master, False)
    left, end = 400000, time.monotonic() + LIMIT
    while left:
        assert time.monotonic() < end, f"{left} bytes are not taken"
        try:
            left -= os.write(s.master, b"y" * min(left, 1000))
        except BlockingIOError:
            time.sleep(0.01)
    os.set_blocking(s.master, True)
    s.send(b"\x1d.")
    assert s.wait_end() == 10
    s.assert_restored()


def test_control_characters_reach_guest(s):
    s.started()
    for key in b"\x03\x1a\x1c\x04\x11\x13\x16":
        s.send(bytes([key]))
        s.wait_for(re.escape(bytes([key])))
    assert s.process.poll() is None, "a control character ended vireo"


def test_no_echo_of_our_own(s):
    s.started()
    s.send(b"unique")
    s.wait_for(rb"unique")
    time.sleep(0.3)
    s.wait_for(rb"unique")
    assert s.output.count(b"unique") == 1, f"echoed twice: {s.output!r}"


def ends_by(number):
    def test(s):
        s.started()
        s.process.send_signal(number)
        status = s.wait_end()
        assert status == -number, f"status {status}"
        s.assert_restored()
    return test


def test_sigterm(s):
    s.started()
    s.process.send_signal(signal.SIGTERM)
    assert s.wait_end() == 10
    s.assert_restored()


def test_group_killed(s):
    """Also when the whole process group dies at once."""
    s.started()
    os.killpg(os.getpgid(s.process.pid), signal.SIGKILL)
    s.wait_end()
    s.assert_restored()


def test_others_settings_stay(s):
    """What somebody else set meanwhile (a shell, say) is not overwritten."""
    s.started()
    s.process.send_signal(signal.SIGSTOP)
    other = termios.tcgetattr(s.slave)
    other[3] |= termios.ICANON
    termios.tcsetattr(s.slave, termios.TCSANOW, other)
    other = termios.tcgetattr(s.slave)
    s.process.send_signal(signal.SIGKILL)
    s.wait_end()
    time.sleep(0.5)
    assert termios.tcgetattr(s.slave) == other, "somebody else's settings were overwritten"


def children(parent):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                if int(f.read().rsplit(")", 1)[1].split()[1]) == parent:
                    found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def test_no_guard_left(s):
    s.started()
    guards = children(s.process.pid)
    assert guards, "there is no guard process"
    s.send(b"\x1d.")
    s.wait_end()
    for pid in guards:
        assert not os.path.exists(f"/proc/{pid}"), "the guard is left behind"


def test_other_key(s):
    s.wait_for(rb"Ctrl-A then \. ends the VM")
    s.wait_raw()
    s.send(b"\x1d.\x01.")
    assert s.wait_end() == 10


def test_key_none(s):
    s.wait_raw()
    s.send(b"\x1d.")
    s.wait_for(rb"\x1d\.")
    assert s.process.poll() is None


CASES = [
    (test_escape_ends, []),
    (test_escape_twice_is_sent, []),
    (test_escape_help, []),
    (test_escape_split_by_time, []),
    (test_escape_from_deaf_guest, []),
    (test_control_characters_reach_guest, []),
    (test_no_echo_of_our_own, []),
    (ends_by(signal.SIGKILL), []),
    (ends_by(signal.SIGSEGV), []),
    (ends_by(signal.SIGABRT), []),
    (test_sigterm, []),
    (test_group_killed, []),
    (test_others_settings_stay, []),
    (test_no_guard_left, []),
    (test_other_key, ["--console-escape", "^A"]),
    (test_key_none, ["--console-escape", "none"]),
]
NAMES = {7: "SIGKILL", 8: "SIGSEGV", 9: "SIGABRT"}


def main():
    with tempfile.TemporaryDirectory() as work:
        return run_all(work)


def run_all(work):
    failed = 0
    for i, (test, args) in enumerate(CASES):
        name = f"{test.__name__} {NAMES.get(i, '')}".strip()
        s = Session(work, *args)
        try:
            test(s)
            print(f"ok {i + 1} - {name}", flush=True)
        except (AssertionError, subprocess.TimeoutExpired) as e:
            failed += 1
            print(f"not ok {i + 1} - {name}\n# {e}", flush=True)
        finally:
            s.close()
    print(f"1..{len(CASES)}")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
