# SPDX-License-Identifier: Apache-2.0
"""What the Python tests share: where things are, results that tests/run counts, tiny kernels, and
Debian's kernel with an initramfs of its own.

A test says sys.path.append(sys.path[0] + "/../lib") before it imports this.
"""
import glob
import os
import re
import struct
import subprocess
import sys
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
BUILD = os.path.realpath(os.environ.get("BUILD") or os.path.join(TOP, "build"))
VIREO = os.path.join(BUILD, "vireo")
ENGINE = os.environ.get("ENGINE", "soft")
LONG = bool(os.environ.get("LONG"))
MIB = 1 << 20


def skip(why):
    """Ends the whole test as skipped."""
    print(why, flush=True)
    sys.exit(77)


class Results:
    """Prints each case of @area as a line for tests/run.  Called: is it @ok, and if not, what is
    the matter?  Truth is returned.  @always prints the detail of what went well, too."""

    def __init__(self, area, always=False):
        self.area, self.always, self.bad = area, always, 0

    def __call__(self, ok, name, detail=""):
        said = detail if isinstance(detail, str) and "\n" not in detail else repr(detail)
        print(("ok" if ok else "not ok") + f" {self.area}/{name}" +
              (f": {said}" if said and (self.always or not ok) else ""), flush=True)
        self.bad += not ok
        return bool(ok)

    def report(self, name, problem=None):
        """The other way round: @problem, a sentence, or none."""
        return self(not problem, name, problem or "")

    def skip(self, name, why):
        print(f"ok {self.area}/{name} # skip {why}", flush=True)

    def end(self):
        """Ends the test with the status that this had."""
        sys.exit(self.bad > 0)


# --- tiny kernels ---

def multiboot(code):
    """A kernel that runs these bytes in 32-bit protected mode, at 100020h."""
    magic, flags, end = 0x1badb002, 0x10000, 0x100020 + len(code)
    return struct.pack("<8I", magic, flags, -(magic + flags) & 0xffffffff, 0x100000, 0x100000,
                       end, 0, 0x100020) + code


def write(path, data):
    """A file of bytes or text; its path."""
    with open(path, "wb") as f:
        f.write(data.encode() if isinstance(data, str) else data)
    return path


# --- Debian's kernel ---

def folder(*names):
    """A folder below the build's tests; its name is short, since sockets may be made there."""
    path = os.path.relpath(os.path.join(BUILD, "tests", *names))
    os.makedirs(path, exist_ok=True)
    return path


def debian_kernel(*modules):
    """The path of the cloud kernel; the test is skipped if it, or a module of it, is not there."""
    r = subprocess.run([os.path.join(TOP, "tools/kernel.sh"), "cloud"], capture_output=True,
                       text=True, check=False)
    if r.returncode:
        skip("no kernel: " + r.stderr.strip()[-100:].replace("\n", "; "))
    kernel = os.path.join(TOP, r.stdout.strip())
    for module in modules:
        if not os.path.exists(os.path.join(os.path.dirname(kernel), module + ".ko")):
            skip(f"no {module}.ko beside the kernel")
    return kernel


def initramfs(cpio, kernel=None, files=None):
    """Makes @cpio with busybox, @kernel's modules, and @files: a path in the guest and the path
    of what is there."""
    tools = os.path.join(TOP, "tools")
    with open(cpio + ".list", "w", encoding="ascii") as f:
        if kernel:
            subprocess.run([tools + "/modules.sh", kernel], stdout=f, check=True)
            f.flush()
        f.writelines(f"file {name} {os.path.relpath(path, TOP)} 755\n" for name, path in (files or {}).items())
    r = subprocess.run([tools + "/initramfs.sh", cpio, cpio + ".list"], stderr=subprocess.PIPE,
                       stdout=subprocess.DEVNULL, text=True, check=False)
    if r.returncode:
        skip("no initramfs: " + r.stderr.strip()[-100:].replace("\n", "; "))
    return cpio


def net_initramfs(cpio, kernel):
    """Another, whose guest has the modules and programs of networks."""
    r = subprocess.run([os.path.join(TOP, "bench/net-image.sh"), cpio, kernel],
                       stderr=subprocess.PIPE, text=True, check=False)
    if r.returncode:
        skip("no initramfs: " + r.stderr.strip()[-100:].replace("\n", "; "))
    return cpio


# --- a process that runs a VM ---

def log_text(path):
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read().replace("\r", "")


def wait_for_text(path, pattern, process, seconds):
    """Until the file has what matches @pattern: the match.  None if that time is over, or the
    process, before it is there."""
    end = time.monotonic() + seconds
    over = False
    while True:
        if found := re.search(pattern, log_text(path), re.M):
            return found
        if over:
            return None
        over = time.monotonic() > end or process.poll() is not None
        time.sleep(0.05)


def guest_memory(pid):
    """Bytes that guest memory has on the host."""
    total = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        name = f"/proc/{pid}/fd/{fd}"
        if os.readlink(name).startswith("/memfd:guest-ram"):
            total += os.stat(name).st_blocks * 512
    return total


def children(pid):
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="ascii", errors="replace") as f:
                if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(path.split("/")[2]))
        except OSError:
            pass	# it has ended
    return found


def threads_ran(pid):
    """Nanoseconds that each thread of the process ran."""
    ran = []
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path, encoding="ascii") as f:
            ran.append(int(f.read().split()[0]))
    return ran


def busiest_thread(pid):
    """Seconds that the thread ran that ran most, a single vCPU's, and the processes that run its programs."""
    return (max(threads_ran(pid)) + sum(sum(threads_ran(child)) for child in children(pid))) / 1e9
