#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The sandbox of a running VM: what the kernel says is in force in each thread, what a debugger can
make the process do (as if a guest had taken it over), and --sandbox's values."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, multiboot, skip, write

check = Results("sandbox")
SAN = os.environ.get("SAN", "0") == "1"


class Vm:
    """A guest that says '!' and sleeps."""

    def __init__(self, work, *options):
        kernel = os.path.join(work, "sleep")
        write(kernel, multiboot(b"\x66\xba\xf8\x03\xb0!\xee\xf4\xeb\xfd"))
        self.err = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [VIREO, "run", "--engine", "soft", "--memory", "16M", "--kernel", kernel, *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.err,
            env=dict(os.environ, XDG_RUNTIME_DIR=work))
        self.said = self.process.stdout.read(1)
        self.pid = self.process.pid

    def log(self):
        self.err.seek(0)
        return self.err.read()

    def statuses(self, key):
        """What /proc says of @key, of each thread."""
        found = set()
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{thread}/status") as f:
                found.add(re.search(rf"^{key}:\s*(\S+)", f.read(), re.M).group(1))
        return found

    def hijack(self, number, *arguments):
        """Has the process make a system call; what it returned, or None if it died of it."""
        call = ",".join(str(a) for a in (number, *arguments))
        r = subprocess.run(["gdb", "-p", str(self.pid), "-batch", "-nx", "-ex",
                            "handle SIGSYS nostop noprint pass", "-ex",
                            f"print ((long(*)(long,...))syscall)({call})", "-ex",
                            "print *(int *)((void *(*)(void))__errno_location)()"],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        values = re.findall(r"^\$\d = (-?\d+)", r.stdout, re.M)
        return [int(v) for v in values], r.stdout + r.stderr

    def end(self):
        self.process.terminate()
        return self.process.wait(timeout=30)


def in_force(work):
    disk = os.path.join(work, "disk")
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    vm = Vm(work, "--disk", disk)
    check(vm.said == b"!", "starts", vm.log())
    check("sandbox: system calls are filtered" in vm.log(), "log", vm.log())
    check(vm.statuses("Seccomp") == {"2"}, "filter-in-all-threads", vm.statuses("Seccomp"))
    check(vm.statuses("NoNewPrivs") == {"1"}, "no-new-privileges", vm.statuses("NoNewPrivs"))
    check(vm.statuses("CapEff") == vm.statuses("CapPrm") == {"0" * 16}, "no-capabilities", vm.statuses("CapPrm"))
    with open(f"/proc/{vm.pid}/limits") as f:
        check(re.search(r"Max core file size +0 +0 ", f.read()), "no-core")
    check(vm.end() == 10, "ends", vm.log())
    # Files of others, which root may share, and nothing else of root's.
    vm = Vm(work, "--share", work + ",tag=t")
    check(vm.statuses("CapEff") <= {"0" * 16, f"{0x1f:016x}"},
          "few-capabilities", vm.statuses("CapEff"))
    vm.end()
    vm = Vm(work, "--sandbox", "off")
    check(vm.statuses("Seccomp") == {"0"} and "sandbox: off" in vm.log(), "off", vm.log())
    vm.end()


def hijacked(work, landlock):
    if SAN or not shutil.which("gdb"):
        check.skip("hijacked", "no gdb" if not SAN else "the sanitizers' filter is wider")
        return
    vm = Vm(work)
    values, text = vm.hijack(39)
    if not values:
        vm.end()
        check.skip("hijacked", "gdb may not attach")
        return
    check(values[0] == vm.pid, "allowed-call", text)
    values, text = vm.hijack(257, -100, '"/etc/passwd"', 0)
    check(values == [-1, 13], "no-files", text)
    for number, name in ((41, "socket"), (59, "execve"), (57, "fork"), (62, "kill")):
        v = vm if number == 41 else Vm(work)
        v.hijack(number, 2, 1, 0)
        try:
            status = v.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            v.process.kill()
            status = None
        check(status == 14, f"{name}-ends", (status, v.log()))
        check(f"system call {number} ({name})" in v.log(), f"{name}-is-named", v.log())
    # What docs/threat-model.md says ends the process; 0x7: readable, writable and executable.
    for number, name, arguments in ((101, "ptrace", (16, 1)), (321, "bpf", (0, 0, 0)), (165, "mount", (0, 0, 0)),
                                    (425, "io_uring_setup", (1, 0)), (426, "io_uring_enter", (0, 0, 0, 0)),
                                    (323, "userfaultfd", (0,)),
                                    (250, "keyctl", (0, 0)), (272, "unshare", (0x10000000,)),
                                    (9, "mmap", (0, 4096, 7, 0x22, -1, 0)), (16, "ioctl", (0, 0xae00, 0))):
        v = Vm(work, "--name", "hijack")
        v.hijack(number, *arguments)
        try:
            status = v.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            v.end()
            status = None
        check(status == 14, f"{name}-ends", (status, v.log()))
    if not landlock:
        check.skip("named-no-files", "this kernel has no Landlock")
        return
    vm = Vm(work, "--name", "hijack")
    values, text = vm.hijack(257, -100, '"/etc/passwd"', 0)
    check(values == [-1, 13], "named-no-files", text)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        vm.end()
        check.skip("named-no-kvm", "there is no /dev/kvm that may be opened")
        return
    values, text = vm.hijack(257, -100, '"/dev/kvm"', 2)
    check(values == [-1, 13], "named-no-kvm", text)
    vm.end()
    vm = Vm(work, "--name", "hijack", "--sandbox", "auto,kvm")
    values, text = vm.hijack(257, -100, '"/dev/kvm"', 2)
    check(values and values[0] >= 0, "kvm-if-asked-for", text)
    vm.end()


def ask(work, name, command, **arguments):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(os.path.join(work, "vireo", name + ".sock"))
    s.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    return json.loads(s.makefile().readline())


def disks(work, landlock):
    """Disks that are added later: in the directories that were named."""
    for folder in ("inside", "outside"):
        os.mkdir(os.path.join(work, folder))
        with open(os.path.join(work, folder, "disk"), "wb") as f:
            f.truncate(1 << 20)
    vm = Vm(work, "--name", "plug", "--sandbox", "auto,dir=" + os.path.join(work, "inside"))
    answer = ask(work, "plug", "disk-add", disk=os.path.join(work, "inside", "disk"))
    check("return" in answer, "dir-inside", answer)
    answer = ask(work, "plug", "disk-add", disk=os.path.join(work, "outside", "disk"))
    if landlock:
        check("--sandbox dir=DIR" in answer.get("error", {}).get("desc", ""), "dir-outside", answer)
    else:
        check.skip("dir-outside", "this kernel has no Landlock")
    answer = ask(work, "plug", "set-cpu", weight="50")
    check("return" in answer, "weight-later", answer)
    vm.end()
    check(not os.path.exists(os.path.join(work, "vireo", "plug.sock")), "socket-goes")


def backing(work, landlock):
    """What a disk of the start is based on, elsewhere: for reading, and for an overlay of later."""
    paths = {}
    for name in ("far/base", "far/other", "near/disk", "near/later"):
        paths[name] = os.path.join(work, name)
        os.makedirs(os.path.dirname(paths[name]), exist_ok=True)
    for name in ("far/base", "far/other"):
        with open(paths[name], "wb") as f:
            f.truncate(1 << 20)
    for name in ("near/disk", "near/later"):
        subprocess.run([VIREO, "image", "create", "--type", "qcow2", "--backing", paths["far/base"],
                        "--backing-type", "raw", paths[name]], check=True, stderr=subprocess.DEVNULL)
    vm = Vm(work, "--name", "over", "--disk", paths["near/disk"])
    for disk, ok in ((paths["far/base"] + ",format=raw,readonly=on", True), (paths["near/later"], True),
                     (paths["far/base"] + ",format=raw", False), (paths["far/other"] + ",readonly=on", False)):
        answer = ask(work, "over", "disk-add", disk=disk)
        name = "backing-" + disk[len(work) + 1:]
        if ok or landlock:
            check("return" in answer if ok else "error" in answer, name, answer)
        else:
            check.skip(name, "this kernel has no Landlock")
    vm.end()


def ring(work):
    """A disk with aio=io_uring: its ring may be submitted to, and no other be made."""
    disk = os.path.join(work, "ring.img")
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    disk += ",format=raw,aio=io_uring"
    vm = Vm(work, "--name", "ring", "--disk", disk)
    if "does not let vireo use io_uring" in vm.log():
        vm.process.wait(timeout=30)
        check.skip("ring", "this host has no io_uring for us")
        return
    check(vm.said == b"!" and vm.statuses("Seccomp") == {"2"}, "ring-starts", vm.log())
    answer = ask(work, "ring", "disk-add", disk=disk)
    check("when the VM starts" in answer.get("error", {}).get("desc", ""), "ring-not-later", answer)
    if not SAN and shutil.which("gdb"):
        values, text = vm.hijack(426, -1, 0, 0, 0)
        check(values in ([-1, 9], []), "ring-enter", text)
    check(vm.end() == 10, "ring-ends", vm.log())
    if SAN or not shutil.which("gdb") or os.geteuid():  # gdb may not attach
        return
    # What makes a ring, changes one, or enters one that polls.
    for name, arguments in (("setup", (425, 1, 0)), ("register", (427, 0, 0, 0, 0)),
                            ("enter-wakeup", (426, 0, 0, 0, 2))):
        vm = Vm(work, "--disk", disk)
        values, text = vm.hijack(*arguments)
        try:
            status = vm.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            vm.end()
            status = None
        check(status == 14, f"ring-{name}-ends", (status, text, vm.log()))


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(p) for p in f.read().split()]


def jail(work):
    doctor = subprocess.run([VIREO, "doctor"], capture_output=True, text=True).stdout
    if not re.search(r"yes +namespaces", doctor):
        check.skip("jail", "no namespaces for this user here")
        return
    # The search for leaks clones a process, for which there is no namespace outside of a jail.
    if SAN:
        os.environ["ASAN_OPTIONS"] = "detect_leaks=0"
    share, cwd = os.path.join(work, "share"), os.path.join(work, "cwd")
    os.mkdir(share)
    os.mkdir(cwd)
    disk = os.path.join(cwd, "disk")
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    host = os.getcwd()
    os.chdir(cwd)
    # An ordinary user may look into it only so.
    seen = () if os.geteuid() == 0 else ("--sandbox", "auto,dump")
    vm = Vm(work, "--jail", "--disk", "disk", "--net", "user", "--share", share + ",tag=t,readonly",
            "--serial", "stdio", "--serial", "socket:serial", *seen)
    os.chdir(host)
    check(vm.said == b"!", "jail-starts", vm.log())
    outside, vm.pid = vm.pid, children(vm.pid)[0]
    check(vm.statuses("CapBnd") == vm.statuses("CapPrm") == {"0" * 16}, "jail-no-capabilities")
    check(vm.statuses("Seccomp") == {"2"}, "jail-filter")
    check("jail: no network" in vm.log(), "jail-log", vm.log())
    namespaces = {name: {os.readlink(f"/proc/{vm.pid}/task/{t}/ns/{name}")
                         for t in os.listdir(f"/proc/{vm.pid}/task")}
                  for name in ("net", "mnt", "user", "ipc", "uts", "pid")}
    for name, those in namespaces.items():
        check(len(those) == 1 and those != {os.readlink(f"/proc/self/ns/{name}")},
              f"jail-own-{name}", those)
    if os.geteuid() == 0:
        root = f"/proc/{vm.pid}/root"
        check(set(os.listdir(root)) <= {"proc", work.split("/")[1]}, "jail-root", os.listdir(root))
        check(os.listdir(root + share) == os.listdir(share), "jail-share")
        check(set(os.listdir(root + work)) == {"share", "cwd"}, "jail-nothing-else")
        with open(f"/proc/{vm.pid}/mountinfo") as f:
            mounts = f.read()
        check(re.search(rf" {share} ro,", mounts), "jail-share-read-only", mounts)
        check(re.search(r" / / ro,", mounts), "jail-root-read-only", mounts)
    os.kill(outside, signal.SIGTERM)
    check(vm.process.wait(timeout=30) == 10, "jail-ends", vm.log())
    check(not os.path.exists(os.path.join(cwd, "serial")), "jail-socket-goes")
    vm = Vm(work, "--jail")
    inside = children(vm.process.pid)[0]
    vm.process.kill()
    vm.process.wait()
    for _ in range(100):
        if not os.path.exists(f"/proc/{inside}"):
            break
        time.sleep(0.1)
    check(not os.path.exists(f"/proc/{inside}"), "jail-ends-with-its-starter")
    vm = Vm(work, "--jail")
    os.kill(children(vm.process.pid)[0], signal.SIGKILL)
    check(vm.process.wait(timeout=30) == -signal.SIGKILL, "jail-killed", vm.process.returncode)
    if not SAN and shutil.which("gdb"):
        vm = Vm(work, "--jail", "--sandbox", "off")
        vm.pid = children(vm.process.pid)[0]
        values, text = vm.hijack(257, -100, '"/etc/passwd"', 0)
        check(values in ([-1, 2], []), "jail-alone-no-files", text)
        vm.end()


def values(work):
    kernel = os.path.join(work, "sleep")
    for value, what in (("of", "'of' is no value for --sandbox"), ("auto,dir=/nowhere", "/nowhere"),
                        ("auto,,", "'' is no value"), ("auto --jail --cpu-weight 5", "--limit"),
                        ("auto --jail --share /,tag=a,security=passthrough", "none or mapped"),
                        ("auto --limit cpu=0", "from 1 to"), ("auto --limit ram=1G", "'ram'")):
        r = subprocess.run([VIREO, "run", "--kernel", kernel, "--sandbox", *value.split()],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True)
        check(r.returncode == 2 and what in r.stderr, f"bad-value-{value}", r.stderr)


def main():
    r = subprocess.run([VIREO, "doctor"], capture_output=True, text=True)
    landlock = re.search(r"yes +Landlock", r.stdout)
    if not re.search(r"yes +system-call filter", r.stdout):
        skip("no system-call filter can be installed here")
    with tempfile.TemporaryDirectory() as work:
        in_force(work)
        hijacked(work, landlock)
        disks(work, landlock)
        backing(work, landlock)
        ring(work)
        jail(work)
        values(work)
    check.end()


signal.alarm(600)
main()
