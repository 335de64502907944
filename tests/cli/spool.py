#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Spooled printers: two VMs print at the same time, and their jobs leave the queue whole and each
VM's in its order; jobs are listed, held, released and removed; a killed VM's job is kept; jobs
go to lp, which may fail."""
import os
import struct
import subprocess
import sys
import tempfile
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, multiboot, write

check = Results("spool")
SIZE, JOBS = 20000, 5


def port(number):
    return b"\x66\xba" + struct.pack("<H", number)


def print_bytes(letter, count):
    """Waits until the printer is not busy, puts the byte, strobes; count times."""
    one = (port(0x379) + b"\xec\xa8\x80\x74\xfb" + port(0x378) + b"\xb0" + letter + b"\xee" +
           port(0x37a) + b"\xb0\x05\xee\xb0\x04\xee\x49")
    return b"\xb9" + struct.pack("<I", count) + one + b"\x75" + bytes([-(len(one) + 2) & 0xff])


def jobs(letter):
    code = b""
    for i in range(JOBS):
        code += print_bytes(letter, SIZE + i) + print_bytes(b"\x04", 1)
    return code


EXIT = port(0xf4) + b"\xb0\x03\xee\xf4\xeb\xfd"
STOP = b"\xf4\xeb\xfd"


class Yard:
    def __init__(self, work):
        self.work = work
        self.env = dict(os.environ, VIREO_SPOOL=os.path.join(work, "spool"))
        self.out = os.path.join(work, "out")
        os.mkdir(self.out)

    def kernel(self, name, code):
        path = os.path.join(self.work, name)
        write(path, multiboot(code))
        return path

    def vm(self, kernel, printer):
        return subprocess.Popen([VIREO, "run", "--debug-exit", "--memory", "4M", "--kernel", kernel,
                                 "--serial", "none", "--printer", printer], env=self.env,
                                stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def spool(self, *args):
        p = subprocess.run([VIREO, "spool", *args], env=self.env, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=60)
        return p.returncode, p.stdout


def two_at_once(y):
    vms = [y.vm(y.kernel(c, jobs(c.encode()) + EXIT), f"office,out={y.out},name=vm-{c}")
           for c in "ab"]
    for vm in vms:
        said = vm.communicate(timeout=120)[1]
        check(vm.returncode == 7, "status", said)
    names = sorted(os.listdir(y.out))
    check(len(names) == 2 * JOBS, "all-jobs", names)
    for c in "ab":
        mine = [n for n in names if n.endswith(f".vm-{c}.prn")]
        texts = []
        for n in mine:
            with open(os.path.join(y.out, n), "rb") as f:
                texts.append(f.read())
        want = [c.encode() * (SIZE + i) + b"\x04" for i in range(JOBS)]
        check(texts == want, f"whole-and-in-order-{c}", [len(t) for t in texts])
    check(y.spool("ls", "office")[1].count("\n") == 1, "queue-empty", y.spool("ls", "office")[1])


def changes(y):
    vm = y.vm(y.kernel("c", jobs(b"c") + EXIT), "later,name=vm-c")
    vm.wait(60)
    status, text = y.spool("ls", "later")
    check(status == 0 and text.count("waiting") == JOBS, "stays-without-destination", text)
    numbers = [line.split()[1] for line in text.splitlines()[1:]]
    check(numbers == ["1", "2", "3", "4", "5"], "numbers", numbers)
    text = y.spool("ls")[1]
    check(text.count("later ") == JOBS and "office" not in text, "all-queues", text)
    check(y.spool("hold", "later", "2")[0] == 0, "hold")
    check(y.spool("rm", "later", "3")[0] == 0, "rm")
    status, text = y.spool("rm", "later", "4", "x")
    check(status == 2 and "no job's number" in text, "rm-wrong-number", text)
    status, text = y.spool("rm", "later", "3")
    check(status == 2 and "no job 3" in text, "rm-again", text)
    for name in os.listdir(y.out):
        os.unlink(os.path.join(y.out, name))
    vm = y.vm(y.kernel("d", EXIT), f"later,out={y.out}")
    vm.wait(60)
    names = sorted(n.split(".")[0] for n in os.listdir(y.out))
    check(names == ["00000001", "00000004", "00000005"], "held-stays", names)
    check(y.spool("release", "later", "2")[0] == 0, "release")
    check("00000002.vm-c.prn" in os.listdir(y.out), "released-goes", os.listdir(y.out))
    status, text = y.spool("ls")
    check(status == 0 and [line.split()[0] for line in text.splitlines()] == ["QUEUE"],
          "all-queues-empty", text)
    status, text = y.spool("ls", "nothing")
    check(status == 2 and "no print queue 'nothing'" in text, "no-queue", text)


def idle_and_killed(y):
    vm = y.vm(y.kernel("e", print_bytes(b"e", 3000) + STOP), "idle,idle=0.3,name=vm-e")
    end = time.monotonic() + 30
    while "waiting" not in y.spool("ls", "idle")[1] and time.monotonic() < end:
        time.sleep(0.1)
    check("waiting" in y.spool("ls", "idle")[1], "idle-ends-job", y.spool("ls", "idle")[1])
    vm.kill()
    vm.wait()
    vm = y.vm(y.kernel("f", print_bytes(b"f", 3000) + STOP), "killed,idle=60,name=vm-f")
    while "3000" not in y.spool("ls", "killed")[1] and time.monotonic() < end + 30:
        time.sleep(0.1)
    check("printing" in y.spool("ls", "killed")[1], "printing", y.spool("ls", "killed")[1])
    y.spool("put-out", "killed")
    check("printing" in y.spool("ls", "killed")[1], "living-keeps-its-job")
    vm.kill()
    vm.wait()
    time.sleep(6)
    y.spool("put-out", "killed")
    text = y.spool("ls", "killed")[1]
    check("held" in text and "3000" in text, "killed-is-held", text)


LP = """#!/bin/sh
[ ! -e "$0.fails" ] || { echo "lp: out of paper" >&2; exit 1; }
echo "$@" >>"$0.args"
cat >>"$0.paper"
"""


def to_lp(y):
    folder = os.path.join(y.work, "bin")
    os.mkdir(folder)
    lp = os.path.join(folder, "lp")
    write(lp, LP)
    os.chmod(lp, 0o755)
    y.env["PATH"] = folder + ":" + y.env["PATH"]
    with open(lp + ".fails", "w", encoding="ascii"):
        pass
    vm = y.vm(y.kernel("g", jobs(b"g") + EXIT), "laser,lp=floor2,name=vm-g")
    said = vm.communicate(timeout=60)[1]
    check(vm.returncode == 7, "lp-status", said)
    text = y.spool("ls", "laser")[1]
    check(text.count("vm-g") == JOBS, "lp-fails-jobs-stay", text)
    os.unlink(lp + ".fails")
    check(y.spool("put-out", "laser")[0] == 0, "lp-put-out")
    with open(lp + ".args", encoding="utf-8") as f:
        args = f.read().splitlines()
    check(len(args) == JOBS and all("floor2" in a for a in args), "lp-printer", args)
    with open(lp + ".paper", "rb") as f:
        paper = f.read()
    check(paper == b"".join(b"g" * (SIZE + i) + b"\x04" for i in range(JOBS)), "lp-in-order",
          len(paper))
    check(y.spool("ls", "laser")[1].count("\n") == 1, "lp-queue-empty")
    vm = y.vm(y.kernel("h", jobs(b"h") + EXIT), "laser,lp=floor2,name=vm-h")
    said = vm.communicate(timeout=60)[1]
    with open(lp + ".paper", "rb") as f:
        check(f.read()[len(paper):] == paper.replace(b"g", b"h"), "lp-by-the-vm", said)


def main():
    with tempfile.TemporaryDirectory() as work:
        y = Yard(work)
        two_at_once(y)
        changes(y)
        idle_and_killed(y)
        to_lp(y)


main()
check.end()
