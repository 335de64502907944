#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory beside the guest's: Debian's cloud kernel boots with an initramfs of 50 MB and is kept
busy with ever other programs; the process's share (Pss) less what stands behind guest memory
stays within 100 MiB, and with a small code cache within less.  A guest of 1 GiB then runs the
host's gcc, which is more code than the default code cache holds: within 100 MiB, too."""
import os
import shutil
import subprocess
import sys
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import MIB, Results, TOP, VIREO, children, debian_kernel, folder, guest_memory, initramfs, skip, write

check = Results("memory")
PAD = 48 * MIB		# of the initramfs
WORDS = """for i in 1 2 3; do for a in $(busybox --list); do
case $a in init|linuxrc|halt|poweroff|reboot|getty|sulogin|sh|ash) ;;
*) busybox $a --help >/dev/null 2>&1 </dev/null;; esac; done; done
echo busy
"""
SOURCES = ["engine/soft/dbt_flow.c", "engine/soft/exec_sys.c", "cpu/walk.c", "x86/decode.c"]
COMPILE = """for i in /root/*.i; do
/bin/ld-linux-x86-64.so.2 --library-path /bin /bin/cc1 -quiet -fpreprocessed -O2 $i -o /out.s || echo failed; done
test -s /out.s && echo busy
"""


def path(name):
    return os.path.join(folder("boot"), "memory." + name)


def prepare():
    with open(VIREO, "rb") as f:
        if b"__asan_init" in f.read():
            skip("a sanitizer's memory counts, too")
    kernel = debian_kernel()
    initramfs(path("cpio"), None, {"/busy": write(path("busy"), WORDS),
                                   "/pad": write(path("pad"), os.urandom(MIB) * (PAD // MIB))})
    return kernel


def said(*words):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=True).stdout


def prepare_compiler():
    """An initramfs with the host's gcc proper, its libraries, and some of our sources: in folders
    that there are."""
    cc1 = said("gcc", "-print-prog-name=cc1").strip()
    files = {"/bin/cc1": cc1}
    for word in said("ldd", cc1).split():
        if word.startswith("/"):
            files["/bin/" + os.path.basename(word)] = word
    for name in SOURCES:
        out = path(name.replace("/", ".") + ".i")
        write(out, said("gcc", "-E", "-D_GNU_SOURCE", "-I" + os.path.join(TOP, "src"),
                        os.path.join(TOP, "src", name)))
        files["/root/" + os.path.basename(out)] = out
    files["/busy"] = write(path("compile"), COMPILE)
    initramfs(path("gcc.cpio"), None, files)


def share(pid):
    """The process's and its children's, in which the guest's programs run."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        total = next((int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:")), None)
    if total is None:
        raise OSError("no Pss")
    return total + sum(share(child) for child in children(pid))


def peak_beside(vm):
    """The most that @vm took beside its guest's memory until it ended; and the guest's."""
    most = guest = samples = 0
    while vm.poll() is None:
        try:
            ram = guest_memory(vm.pid)	# first: what is touched meanwhile counts against us
            beside = share(vm.pid) - ram
            if guest_memory(vm.pid) - ram < MIB:	# much was, on a busy host
                most = max(most, beside)
        except OSError:
            break			# it ends
        guest = max(guest, ram)
        samples += 1
        time.sleep(0.1)
    vm.wait(60)
    return most, guest, samples


def run(kernel, name, limit, options, cpio="cpio", memory="512M"):
    vm = subprocess.Popen(
        [VIREO, "run", "--engine", "soft", "--kernel", kernel,
         "--initrd", path(cpio), "--memory", memory, "--no-reboot",
         "--sandbox", "auto,dump",  # an ordinary user may look into it
         "--cmdline", 'console=ttyS0 panic=-1 quiet run="sh /busy"'] + options,
        stdin=subprocess.DEVNULL, stdout=open(path("out"), "w"), stderr=open(path("err"), "w"))
    most, guest, samples = peak_beside(vm)
    with open(path("out")) as f:
        text = f.read()
        busy = "busy" in text and "failed" not in text
    check(busy and vm.returncode == 0, name + "-works", f"status {vm.returncode}")
    check(samples >= 10 and guest > 100 * MIB, name + "-seen", f"{samples} samples, {guest // MIB} MiB")
    check(most <= limit * MIB, name, f"{most // MIB} MiB beside the guest's {guest // MIB}")
    print(f"# {name}: at most {most // MIB} MiB beside the guest's {guest // MIB}")


def main():
    kernel = prepare()
    run(kernel, "default", 100, [])
    run(kernel, "small", 50, ["--code-cache", "16M"])
    if shutil.which("gcc"):
        prepare_compiler()
        run(kernel, "compiler", 100, [], "gcc.cpio", "1G")


main()
check.end()
