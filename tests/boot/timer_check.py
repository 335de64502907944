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

BUILD = os.path.realpath(os.environ.get("BUILD", "build"))
BOOTS = 12 if os.environ.get("LONG") else 2
SEED = int(os.environ.get("SEED", "20261121"))


def boot(kernel, cpio, rnd, stops):
    argv = [os.path.join(BUILD, "vireo"), "run", "--engine", "soft", "--log-level", "error",
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
    kernel = subprocess.run(["tools/kernel.sh", "cloud"], stdout=subprocess.PIPE, text=True)
    if kernel.returncode:
        print("no kernel")
        sys.exit(77)
    work = os.path.join(BUILD, "tests/timer_check")
    os.makedirs(work, exist_ok=True)
    subprocess.check_call(["tools/initramfs.sh", work + "/cpio"])
    rnd, bad = random.Random(SEED), 0
    cpu = min(os.sched_getaffinity(0))
    burners = [subprocess.Popen(["sh", "-c", "while :; do :; done"],
                                preexec_fn=lambda: os.sched_setaffinity(0, {cpu})) for _ in range(3)]
    try:
        for i in range(BOOTS):
            text = boot(kernel.stdout.strip(), work + "/cpio", rnd, stops=i > 0)
            ok = "it is up" in text and "doesn't work!" not in text
            second = text.count("MP-BIOS bug")
            print("%s timer_check/%d%s" % ("ok" if ok else "not ok", i,
                                           " (at the second look)" if second else ""), flush=True)
            if not ok:
                print(text[-1500:])
            bad |= not ok
    finally:
        for b in burners:
            b.kill()
            b.wait()
    return bad


sys.exit(main())
