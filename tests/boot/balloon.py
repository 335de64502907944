#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory goes back to the host: Debian's cloud kernel fills 200 MiB and frees them, and the file
behind guest memory shrinks by what it reports; another inflates a balloon, and goes on."""
import os
import subprocess
import sys
import time

BUILD = os.environ.get("BUILD", "build")
WORK = os.path.join(BUILD, "tests", "boot")
MIB = 1 << 20
# Each reads a line when the host has looked.
FILL = """dd if=/dev/urandom of=/tmp/fill bs=1M count=200 2>/dev/null; echo filled; read line
rm /tmp/fill; echo freed; read line; md5sum /bin/busybox >/dev/null && echo alive"""
LEND = """dd if=/dev/urandom of=/tmp/fill bs=1M count=100 2>/dev/null; rm /tmp/fill
free() { echo $(($(grep MemFree /proc/meminfo | tr -dc 0-9) / 1024)); }
i=0; while [ $(free) -ge 200 ] && [ $((i+=1)) -lt 120 ]; do sleep 0.5; done
echo free $(free); read line
seq 1 100000 | md5sum"""


def skip(why):
    print(why)
    sys.exit(77)


def check(ok, name, detail=""):
    print(f"ok balloon/{name}" if ok else f"not ok balloon/{name}: {detail}", flush=True)


def path(name):
    return os.path.join(WORK, "balloon." + name)


def prepare():
    os.makedirs(WORK, exist_ok=True)
    kernel = subprocess.run(["tools/kernel.sh", "cloud"], stdout=subprocess.PIPE, text=True)
    if kernel.returncode:
        skip("no kernel")
    kernel = kernel.stdout.strip()
    if not os.path.exists(os.path.join(os.path.dirname(kernel), "virtio_balloon.ko")):
        skip("no virtio_balloon.ko beside the kernel")
    for name, text in (("fill", FILL), ("lend", LEND)):
        with open(path(name), "w") as f:
            f.write(text)
    with open(path("list"), "w") as f:
        subprocess.run(["tools/modules.sh", kernel], stdout=f, check=True)
        f.write(f"file /fill {path('fill')} 755\nfile /lend {path('lend')} 755\n")
    subprocess.run(["tools/initramfs.sh", path("cpio"), path("list")], check=True)
    return kernel


def start(kernel, script, size):
    return subprocess.Popen(
        [os.path.join(BUILD, "vireo"), "run", "--engine", os.environ.get("ENGINE", "soft"),
         "--kernel", kernel, "--initrd", path("cpio"), "--memory", "512M", "--balloon", size,
         "--sandbox", "auto,dump",  # an ordinary user may look into it
         "--cmdline", f'console=ttyS0 panic=-1 quiet run="sh /{script}"'],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(path("err"), "w"), text=True)


def backed(vm):
    """Bytes that guest memory has on the host."""
    total = 0
    for fd in os.listdir(f"/proc/{vm.pid}/fd"):
        name = f"/proc/{vm.pid}/fd/{fd}"
        if os.readlink(name).startswith("/memfd:guest-ram"):
            total += os.stat(name).st_blocks * 512
    return total


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
    full = backed(vm)
    go_on(vm)
    wait_line(vm, "freed")
    least, end = full, time.monotonic() + 60
    while time.monotonic() < end and vm.poll() is None and full - least < 150 * MIB:
        time.sleep(0.2)
        least = min(least, backed(vm))
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
    while (now := backed(vm)) >= 260 * MIB and time.monotonic() < end:
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
