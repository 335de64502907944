#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory goes back to the host: Debian's cloud kernel fills 200 MiB and frees them, and the file
behind guest memory shrinks by what it reports; another inflates a balloon, and goes on."""
import os
import subprocess
import sys
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import ENGINE, MIB, Results, VIREO, debian_kernel, folder, guest_memory, initramfs, write

check = Results("balloon")
# Each reads a line when the host has looked.
FILL = """dd if=/dev/urandom of=/tmp/fill bs=1M count=200 2>/dev/null; echo filled; read line
rm /tmp/fill; echo freed; read line; md5sum /bin/busybox >/dev/null && echo alive"""
LEND = """dd if=/dev/urandom of=/tmp/fill bs=1M count=100 2>/dev/null; rm /tmp/fill
free() { echo $(($(grep MemFree /proc/meminfo | tr -dc 0-9) / 1024)); }
i=0; while [ $(free) -ge 200 ] && [ $((i+=1)) -lt 120 ]; do sleep 0.5; done
echo free $(free); read line
seq 1 100000 | md5sum"""


def path(name):
    return os.path.join(folder("boot"), "balloon." + name)


def prepare():
    kernel = debian_kernel("virtio_balloon")
    initramfs(path("cpio"), kernel, {"/fill": write(path("fill"), FILL), "/lend": write(path("lend"), LEND)})
    return kernel


def start(kernel, script, size):
    return subprocess.Popen(
        [VIREO, "run", "--engine", ENGINE,
         "--kernel", kernel, "--initrd", path("cpio"), "--memory", "512M", "--balloon", size,
         "--sandbox", "auto,dump",  # an ordinary user may look into it
         "--cmdline", f'console=ttyS0 panic=-1 quiet run="sh /{script}"'],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(path("err"), "w"), text=True)


def wait_line(vm, word):
    for line in vm.stdout:
        if word in line:
            return line.split()
    raise EOFError(word)


def go_on(vm):
    vm.stdin.write("\n")
    vm.stdin.flush()


def report(kernel):
    vm = start(kernel, "fill", "0")
    wait_line(vm, "filled")
    full = guest_memory(vm.pid)
    go_on(vm)
    wait_line(vm, "freed")
    least, end = full, time.monotonic() + 60
    while time.monotonic() < end and vm.poll() is None and full - least < 150 * MIB:
        time.sleep(0.2)
        least = min(least, guest_memory(vm.pid))
    check(full > 250 * MIB, "filled", f"{full // MIB} MiB")
    check(full - least > 150 * MIB, "reported", f"{full // MIB} to {least // MIB} MiB")
    go_on(vm)
    wait_line(vm, "alive")
    check(vm.wait(60) == 0, "report-status")
    print(f"# free pages reported: {full // MIB} MiB to {least // MIB} MiB")


def lend(kernel):
    vm = start(kernel, "lend", "256M,reporting=off")
    free = int(wait_line(vm, "free")[1])
    end = time.monotonic() + 60
    while (now := guest_memory(vm.pid)) >= 260 * MIB and time.monotonic() < end:
        time.sleep(0.2)
    go_on(vm)
    check(free < 200, "inflated", f"{free} MiB free in the guest")
    check(now < 260 * MIB, "host-has-it", f"{now // MIB} MiB of 512 backed")
    line = wait_line(vm, "-")
    want = subprocess.run("seq 1 100000 | md5sum", shell=True, stdout=subprocess.PIPE, text=True)
    check(line == want.stdout.split(), "works-on", line)
    check(vm.wait(60) == 0, "lend-status")
    print(f"# 256 MiB lent: {now // MIB} MiB backed")


def main():
    kernel = prepare()
    for case in (report, lend):
        try:
            case(kernel)
        except (EOFError, OSError, subprocess.TimeoutExpired) as e:
            check(False, case.__name__, repr(e))


main()
check.end()
