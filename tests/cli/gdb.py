#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vireo run --gdb: what the protocol promises, by hand and with gdb itself; clients that send
nonsense, halves and too much, or vanish, do the VM no harm."""
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, multiboot, write

check = Results("gdb")
LOOP, NOP, COUNTER = 0x100020, 0x100026, 0x200000


# loop: inc dword [COUNTER]; nop; jmp loop
GUEST = multiboot(b"\xff\x05" + struct.pack("<I", COUNTER) + b"\x90\xeb\xf7")


class Client:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(20)
        for _ in range(100):
            try:
                self.s.connect(path)
                break
            except OSError:
                time.sleep(0.1)
        self.buf = b""

    def send(self, text):
        self.s.sendall(b"$%s#%02x" % (text, sum(text) & 255))

    def reply(self):
        while not (m := re.search(rb"\$([^#]*)#(..)", self.buf)):
            got = self.s.recv(65536)
            if not got:
                return None
            self.buf += got
        self.buf = self.buf[m.end():]
        return m.group(1) if int(m.group(2), 16) == sum(m.group(1)) & 255 else b"checksum"

    def ask(self, text):
        self.send(text)
        return self.reply()

    def reg(self, n):
        return int.from_bytes(bytes.fromhex(self.ask(b"p%x" % n).decode()), "little")

    def counter(self):
        return int.from_bytes(bytes.fromhex(self.ask(b"m%x,4" % COUNTER).decode()), "little")


def protocol(path, proc):
    c = Client(path)
    check(c.ask(b"?").startswith(b"T05thread:1"), "stopped")
    check(c.reg(16) == LOOP, "waits-at-entry", c.reg(16))
    check(c.ask(b"qfThreadInfo") == b"m1,2", "threads")
    check(len(c.ask(b"g")) == len(c.ask(b"g")) > 1000, "registers")
    xml, more = b"", b"m"
    while more[:1] == b"m":
        more = c.ask(b"qXfer:features:read:target.xml:%x,400" % len(xml))
        xml += more[1:]
    check(b"org.gnu.gdb.i386.avx" in xml and xml.endswith(b"</target>"), "description", xml[-60:])
    code = c.ask(b"m%x,9" % LOOP)
    check(c.ask(b"Z0,%x,1" % NOP) == b"OK" and c.ask(b"m%x,9" % LOOP) == code, "breakpoint-unseen")
    stop = c.ask(b"c")[:3] + b"%x" % c.reg(16)
    check(stop == b"T05%x" % NOP and c.counter() == 1, "breakpoint", stop)
    check(c.ask(b"s").startswith(b"T05") and c.reg(16) == NOP + 1, "step")
    check(c.ask(b"vCont;c").startswith(b"T05") and c.counter() == 2, "again", c.counter())
    c.ask(b"z0,%x,1" % NOP)
    c.ask(b"Z2,%x,4" % COUNTER)
    check(b"watch:%x;" % COUNTER in c.ask(b"c") and c.counter() == 3 and c.reg(16) == NOP,
          "watchpoint", c.counter())
    c.ask(b"z2,%x,4" % COUNTER)
    c.ask(b"Z2,%x,4" % COUNTER)
    check(c.ask(b"s").startswith(b"T05"), "step-past-nop")
    c.ask(b"s")
    check(b"watch:%x;" % COUNTER in c.ask(b"s") and c.counter() == 4, "watchpoint-step")
    c.ask(b"z2,%x,4" % COUNTER)
    check(c.ask(b"M%x,4:00010000" % COUNTER) == b"OK" and c.counter() == 256, "write-memory")
    check(c.ask(b"P0=8877665544332211") == b"OK" and c.reg(0) == 0x1122334455667788,
          "write-register")
    check(c.ask(b"mfff0000000000000,4") == b"E14" and c.ask(b"m10000000,4") == b"E14",
          "no-memory")
    for _ in range(100):    # a busy host may give it nothing in such a moment
        c.send(b"c")
        time.sleep(0.2)
        c.s.sendall(b"\x03")
        stop = c.reply()
        if not stop.startswith(b"T02") or c.counter() > 300:
            break
    check(stop.startswith(b"T02"), "interrupt", stop)
    check(c.counter() > 300, "ran")
    check(c.ask(b"D") == b"OK" and c.reply() is None, "detach")
    check(proc.poll() is None, "runs-on")


ABUSE = {
    "half": b"$m1000", "no-end": b"$" + b"a" * 9000, "noise": bytes(range(4, 256)) * 50,
    "bad-sum": b"$g#00" * 20, "escapes": b"$}}}}#f4", "short": b"$#00$Z#5a$H#48$p#70$M#4d",
    "numbers": b"", "gone": b"",
}
NUMBERS = [b"mffffffffffffffff,ffffffffffffffff", b"M0,ffffffff:00", b"M0,7fe:", b"Z9,0,1", b"Z0",
           b"Z2,ffffffffffffffff,ffffffff", b"Z2,0,0", b"pffffffffffffffff", b"P10=zz", b"G00",
           b"P10=0000000000000080", b"Hg7fffffff", b"Hc-1", b"vCont;s:99", b"vCont;", b"vCont;;:;c:77",
           b"T99999999", b"s1234", b"q", b"qXfer:features:read:target.xml:ffffffffffffffff,1",
           b"qThreadExtraInfo,", b"qThreadExtraInfo,63"]


def abuse(path, proc):
    for name, what in ABUSE.items():
        c = Client(path)
        if name == "numbers":
            for text in NUMBERS:
                check(c.ask(text) is not None, f"abuse-{text[:12].decode()}")
            for i in range(70):
                full = c.ask(b"Z0,%x,1" % (0x300000 + i))
            check(full == b"E28", "too-many", full)
            c.ask(b"Z2,%x,4" % COUNTER)
            c.send(b"c")
        elif name == "gone":
            c.send(b"g")
        else:
            c.s.sendall(what)
        c.s.close()
        time.sleep(0.1)
        check(proc.poll() is None, f"alive-after-{name}")
    c = Client(path)
    first = c.counter()
    for _ in range(100):
        c.s.close()
        time.sleep(0.2)
        c = Client(path)
        if c.counter() != first:
            break
    check(c.counter() != first, "runs-after-all")
    second = Client(path)
    check(second.s.recv(1) == b"", "one-at-a-time")
    c.send(b"k")
    check(proc.wait(20) is not None, "kill")


def real(path):
    if not shutil.which("gdb"):
        check.skip("gdb", "no gdb here: Debian package gdb")
        return
    cmds = ["set architecture i386:x86-64", f"target remote {path}", f"break *{NOP:#x}", "c",
            "stepi", "info registers", "info threads", "delete", f"watch -l *(int *){COUNTER:#x}",
            "c", f"x/1xw {COUNTER:#x}", "bt 1", "delete", "detach"]
    r = subprocess.run(["gdb", "-nx", "-batch"] + [a for c in cmds for a in ("-ex", c)], text=True,
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    for want in ["hit Breakpoint 1", r"0x0*100027 in", r"\bk_gs_base ", r"\befer ", "processor 1",
                 "Hardware watchpoint 2", "New value = ", r"#0 +0x0*100026", "detached"]:
        check(re.search(want, r.stdout), f"gdb-{want}", r.stdout[-600:] + r.stderr[-300:])


def main():
    with tempfile.TemporaryDirectory() as d:
        kernel, path = os.path.join(d, "kernel"), os.path.join(d, "gdb")
        write(kernel, GUEST)
        proc = subprocess.Popen([VIREO, "run", "--kernel", kernel, "--memory", "16M", "--cpus", "2",
                                 "--gdb", "unix:" + path, "--gdb-wait", "--log-level", "error"],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            protocol(path, proc)
            real(path)
            abuse(path, proc)
        finally:
            if proc.poll() is None:
                proc.kill()
            proc.wait()


main()
check.end()
