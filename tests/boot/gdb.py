#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gdb on a Debian kernel with two processors, by its symbols: a breakpoint by name, backtrace,
continue, single step, a watchpoint, threads, vector registers and segment bases.

Debian's debug package is too large to fetch for a test: the guest's own /proc/kallsyms says where
some functions are, and an ELF file with just these is made of them."""
import re
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, debian_kernel, initramfs, log_text, skip, wait_for_text, write

check = Results("boot/gdb")
# In the kernel; a program has a base of its own.
KERNEL_GS = "p $gs_base != 0 || ($cs & 3) == 3"
NAMES = ("__x64_sys_newuname", "do_syscall_64", "jiffies_64", "linux_banner", "_text")


def symbol_file(symbols):
    """vmlinux with these symbols and no contents."""
    base = symbols["_text"]
    lines = ['.section .kernel,"ax",@nobits']
    for name, at in sorted(symbols.items(), key=lambda s: s[1]):
        kind = "object" if name in ("jiffies_64", "linux_banner") else "function"
        lines += [f".org {at - base}", f".globl {name}", f".type {name}, @{kind}", f"{name}:"]
    lines += [".skip 4096", ""]
    write(f"{work}/s.s", "\n".join(lines))
    subprocess.run(["as", "-o", f"{work}/s.o", f"{work}/s.s"], check=True)
    subprocess.run(["ld", f"--section-start=.kernel={base:#x}", "-e", "_text", "-o", f"{work}/vmlinux",
                    f"{work}/s.o"], check=True)


if not shutil.which("gdb") or not shutil.which("as"):
    skip("gdb and binutils are not installed")
kernel = debian_kernel()
work = tempfile.mkdtemp()
vm = None
signal.alarm(400)
try:
    initramfs(f"{work}/initramfs")
    words = "|".join(NAMES)
    run = f"grep -E ' ({words})$' /proc/kallsyms; echo listed; while :; do uname -m >/dev/null; done"
    vm = subprocess.Popen(
        [VIREO, "run", "--kernel", kernel, "--initrd", f"{work}/initramfs", "--memory", "256M",
         "--cpus", "2", "--cpu", "host", "--gdb", f"unix:{work}/gdb", "--serial", f"file:{work}/serial",
         "--log-level", "error", "--cmdline", f'console=ttyS0 nokaslr panic=-1 run="{run}"'],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    check(wait_for_text(f"{work}/serial", r"^listed", vm, 120), "the guest lists its symbols")
    symbols = {m[1]: int(m[0], 16) for m in
               re.findall(r"^([0-9a-f]{16}) \w (\w+)$", log_text(f"{work}/serial"), re.M)}
    check(set(NAMES) <= set(symbols), "all of them", symbols)
    symbol_file(symbols)
    commands = (f"target remote {work}/gdb", "info threads", "p (char)*(char *)&linux_banner",
                "break __x64_sys_newuname", "c", "p $rip == (long)&__x64_sys_newuname", "bt 3", "stepi",
                "p $rip > (long)&__x64_sys_newuname", "c", "p $rip == (long)&__x64_sys_newuname", "delete",
                "watch *(long *)&jiffies_64", "c", "delete", "p $gs_base != 0", "p $cs", "p/x $ymm0",
                "p/x $xmm15", "p $cr0 & 1", "thread 1", KERNEL_GS, "thread 2", KERNEL_GS, "detach")
    gdb = ["gdb", "-nx", "-batch", f"{work}/vmlinux"]
    for c in commands:
        gdb += ["-ex", c]
    out = subprocess.run(gdb, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    text = out.stdout + out.stderr
    check(len(re.findall(r"^[* ] +[12] +Thread", out.stdout, re.M)) == 2, "two processors, two threads", text)
    check("76 'L'" in text, "memory by a symbol", text)
    check(text.count("__x64_sys_newuname ()") >= 2, "break by name, twice", text)
    check(re.search(r"#1 .* do_syscall_64 \(\)", text) is not None, "backtrace", text)
    values = re.findall(r"^\$\d+ = (.*)$", out.stdout, re.M)
    check(values[1:4] == ["1", "1", "1"], "where it stops, and after a step", values)
    check("Old value" in text and "New value" in text, "a watchpoint", text)
    check(values[4:6] == ["1", "16"], "the base of GS, and CS", values)
    check("v32_int8" in text and "uint128" in text, "vector registers", text)
    check(values[-3:] == ["1", "1", "1"], "each processor's own", values)
    check("detached" in text and vm.poll() is None, "detach", text)
finally:
    if vm:
        vm.kill()
        vm.wait()
    shutil.rmtree(work, ignore_errors=True)
check.end()
