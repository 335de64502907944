#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Linux looks early if the timer's interrupt works: it counts ticks while the time-stamp counter
goes on.  A host without time for the guest must not make it panic ("IO-APIC + timer doesn't
work!"): here the vCPU's thread shares its processor with threads of the lowest niceness that
burn it, and the whole process is stopped and continued at odd moments of the boot.

nopv, since a guest of KVM's kind does not look at all.  LONG=1: more boots.
"""
import os
import random
import signal
import subprocess
import sys
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import LONG, Results, VIREO, debian_kernel, folder, initramfs

check = Results("timer_check")
BOOTS = 12 if LONG else 2
SEED = int(os.environ.get("SEED", "20261121"))


def boot(kernel, cpio, rnd, stops):
    argv = [VIREO, "run", "--engine", "soft", "--log-level", "error",
            "--kernel", kernel, "--initrd", cpio, "--memory", "160M", "--cmdline",
            'console=ttyS0 panic=-1 nopv run="echo it is up"', "--no-reboot"]
    cpu = min(os.sched_getaffinity(0))
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, errors="replace",
                         preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    end = time.monotonic() + 4
    while stops and time.monotonic() < end and p.poll() is None:
        time.sleep(rnd.uniform(0.002, 0.05))
        p.send_signal(signal.SIGSTOP)
        time.sleep(rnd.uniform(0.02, 0.2))
        p.send_signal(signal.SIGCONT)
    try:
        return p.communicate(timeout=200)[0]
    except subprocess.TimeoutExpired:
        p.kill()
        return "timed out\n" + p.communicate()[0]


def main():
    kernel = debian_kernel()
    cpio = initramfs(os.path.join(folder("boot"), "timer_check.cpio"))
    rnd = random.Random(SEED)
    cpu = min(os.sched_getaffinity(0))
    burners = [subprocess.Popen(["sh", "-c", "while :; do :; done"],
                                preexec_fn=lambda: os.sched_setaffinity(0, {cpu})) for _ in range(3)]
    try:
        for i in range(BOOTS):
            text = boot(kernel, cpio, rnd, stops=i > 0)
            ok = "it is up" in text and "doesn't work!" not in text
            second = text.count("MP-BIOS bug")
            check(ok, str(i) + (" (at the second look)" if second else ""), text[-1500:])
    finally:
        for b in burners:
            b.kill()
            b.wait()


main()
check.end()
