#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vireo set NAME --engine: a guest that computes a checksum without end is moved from engine to
engine again and again, and each sum that it prints is the one that is computed here.  What
cannot be had is refused in a sentence, and the guest goes on.  MOVES: how often."""
import os
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

sys.path.append(sys.path[0] + "/../lib")
from testlib import BUILD, LONG, Results, VIREO

check = Results("set_engine")
MOVES = int(os.environ.get("MOVES", "60" if LONG else "16"))
IMAGE = os.path.join(BUILD, "guest", "sums64.elf")


class Guest:
    """sums64 until it is sent a q; its lines as they come."""

    def __init__(self, name, *options):
        self.name, self.lines = name, []
        self.process = subprocess.Popen(
            [VIREO, "run", "--name", name, "--debug-exit", "--memory", "64M", "--kernel", IMAGE,
             "--cmdline", "until q", *options], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.wait_for(1)

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def wait_for(self, more, seconds=60):
        """Until that many lines have come, or it ended."""
        want, end = len(self.lines) + more, time.monotonic() + seconds
        while len(self.lines) < want and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        return len(self.lines) >= want

    def set(self, engine):
        r = subprocess.run([VIREO, "set", self.name, "--engine", engine], capture_output=True,
                           text=True, timeout=60)
        return r.returncode, r.stderr.strip()

    def end(self):
        try:
            self.process.stdin.write("q")
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.reader.join(60)
        self.process.kill() if self.process.poll() is None and self.reader.is_alive() else None
        self.reader.join()
        err = self.process.stderr.read()
        return self.process.wait(), err


def sums(upto):
    """What the guest has after each round."""
    page, c = bytearray((i ^ i >> 8) & 0xff for i in range(4096)), 0
    for n in range(upto):
        c = zlib.crc32(page, c)
        struct.pack_into("<I", page, n * 4 % 4096, c)
        yield c


def wrong_sums(lines):
    told = {}
    for line in lines:
        m = re.fullmatch(r"sum (\d+) ([0-9a-f]+)", line)
        if m:
            told[int(m[1])] = int(m[2], 16)
    wrong = [n for n, c in enumerate(sums(max(told, default=0)), 1) if told.get(n, c) != c]
    return len(told), wrong


def judge(guest, name, moves):
    status, err = guest.end()
    count, wrong = wrong_sums(guest.lines)
    check(status == 1 and not wrong and count > moves and "ok tsc-forward" in guest.lines and
          "ok timer-ticks" in guest.lines, f"{name}, {moves} moves, {count} sums",
          (status, wrong[:3], [l for l in guest.lines if not l.startswith("sum")], err))
    return err


def test_moves(cpus):
    guest = Guest(f"moves{cpus}", "--sandbox", "auto,kvm", "--cpu", "vireo-v0", "--cpus", str(cpus))
    moved = 0
    for i in range(MOVES):
        status, err = guest.set("soft" if i % 2 else "kvm")
        if status or not guest.wait_for(1):
            check(False, f"move-{i}", (status, err))
            break
        moved += 1
    err = judge(guest, f"checksum-goes-on-{cpus}", moved)
    check(len(re.findall("engine kvm: chosen at the control socket", err)) == MOVES // 2,
          f"the-log-says-so-{cpus}", err)


def test_begins_on_kvm():
    guest = Guest("begins", "--engine", "kvm", "--cpu", "vireo-v0")
    for engine in "soft", "soft", "kvm":    # the second changes nothing
        status, err = guest.set(engine)
        check(status == 0 and guest.wait_for(2), f"from-kvm-to-{engine}", (status, err))
    judge(guest, "begins-on-kvm", 3)


def refused(guest, engine, status, pattern, name):
    got, err = guest.set(engine)
    check(got == status and re.search(pattern, err) and len(err.splitlines()) == 1 and
          guest.wait_for(2), name, (got, err))


def test_refusals(have_kvm):
    guest = Guest("refuses", "--sandbox", "auto,kvm")
    refused(guest, "hvf", 2, "'hvf' is no value for --engine", "no-such-engine")
    refused(guest, "auto", 2, "'auto' is no value for --engine", "auto-is-no-engine")
    if not have_kvm:
        refused(guest, "kvm", 2, "/dev/kvm", "no-kvm")
    elif guest.set("kvm")[0]:
        refused(guest, "kvm", 2, "cannot give a guest what the processor model vireo-v1 has",
                "model-not-possible")
    judge(guest, "refused-goes-on", 0)


def test_debugged():
    path = os.path.join(os.environ["XDG_RUNTIME_DIR"], "gdb")
    guest = Guest("debugged", "--gdb", "unix:" + path, "--cpu", "vireo-v0")
    refused(guest, "kvm", 2, "--gdb debugs what the engine soft runs", "a-debugger-keeps-it")
    judge(guest, "debugged-goes-on", 0)


def fast_kvm():
    said = subprocess.run([VIREO, "doctor"], capture_output=True, text=True, check=False).stdout
    return re.search("yes +engine kvm", said)


def test_sandboxed():
    """One that begins on the soft engine has no KVM any more: the filter would stop it."""
    for options in [["--engine", "soft"]] + ([] if fast_kvm() else [[]]):
        guest = Guest("kept", *options, "--cpu", "vireo-v0")
        refused(guest, "kvm", 2, "started on the engine soft, so its sandbox keeps KVM", "the-sandbox-keeps-it")
        judge(guest, "sandboxed-goes-on", 0)


def main():
    have_kvm = os.access("/dev/kvm", os.R_OK | os.W_OK)
    if subprocess.run(["make", "-s", "-C", "tests/guest", "BUILD=" + BUILD],
                      stdout=sys.stderr, check=False).returncode:
        sys.exit(2)
    with tempfile.TemporaryDirectory() as runtime:
        os.chmod(runtime, 0o700)
        os.environ["XDG_RUNTIME_DIR"] = runtime
        test_refusals(have_kvm)
        test_debugged()
        test_sandboxed()
        if have_kvm:
            test_moves(1)
            test_begins_on_kvm()
        else:
            check.skip("moves", "there is no /dev/kvm that may be opened")


os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
main()
check.end()
