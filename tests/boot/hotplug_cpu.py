#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Processors that come and go under a running Linux guest, by `vireo set NAME --cpus`: they are
brought online, do work, and are let go of, again and again, also while they work; what the VM
has no room for is refused; a reset leaves as many as were asked for last."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.append(sys.path[0] + "/../lib")
from testlib import ENGINE, LONG, Results, VIREO, debian_kernel, initramfs, log_text, wait_for_text, write

check = Results("hotplug_cpu")
ROUNDS = 10 if LONG else 2
GUEST = """cd /sys/devices/system/cpu
echo start $(cat online possible)
wait_for() {	# CPU there or gone
	while [ $(ls -d cpu[0-9]* | wc -l) != $1 ]; do sleep 0.05; done
}
for i in $(seq %d); do
	wait_for 4
	for c in 1 2 3; do
		echo 1 2>/dev/null >cpu$c/online
	done
	echo up $i $(cat online)
	for c in 0 1 2 3; do
		(seq 1 500 | taskset -c $c md5sum >/tmp/sum.$c) &
	done
	wait
	echo sums $i $(sort -u /tmp/sum.* | wc -l)
	# It works while it is taken away.
	(while [ -d cpu2 ]; do taskset -c 2 true 2>/dev/null; done) &
	echo work $i done
	wait_for 1
	wait
	echo down $i $(cat online)
done
echo clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
wait_for 2
echo two $(ls -d cpu[0-9]*)
echo b >/proc/sysrq-trigger
""" % ROUNDS


class Machine:
    def __init__(self, work, kernel, translator):
        self.env = dict(os.environ, XDG_RUNTIME_DIR=work)
        self.log = os.path.join(work, "log." + translator)
        argv = [VIREO, "run", "--engine", ENGINE, "--name", "plug",
                "--translator", translator, "--max-cpus", "4", "--no-reboot",
                "--kernel", kernel, "--initrd", os.path.join(work, "cpio"), "--memory", "256M",
                "--cmdline", 'console=ttyS0 panic=-1 run="sh /session"']
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.env)

    def set(self, cpus):
        r = subprocess.run([VIREO, "set", "plug", "--cpus", str(cpus)], env=self.env,
                           stderr=subprocess.PIPE, text=True, timeout=30)
        return r.returncode, r.stderr

    def wait_for(self, pattern, name, seconds=150):
        return check(wait_for_text(self.log, pattern, self.process, seconds), name, log_text(self.log)[-1500:])


def session(m, tag):
    if not m.wait_for("^start 0 0-3$", tag + "/start"):
        return
    for bad in (5, 64):
        status, said = m.set(bad)
        check(status and "1 to 4 processors" in said, f"{tag}/refused-{bad}", said)
    for i in range(1, ROUNDS + 1):
        # Twice at once, and in two steps.
        m.set(2)
        status, said = m.set(4)
        check(not status, f"{tag}/set-{i}", said)
        if not (m.wait_for(f"^up {i} 0-3$", f"{tag}/up-{i}") and
                m.wait_for(f"^sums {i} 1$", f"{tag}/work-{i}") and
                m.wait_for(f"^work {i} done$", f"{tag}/busy-{i}")):
            return
        m.set(1)
        if not m.wait_for(f"^down {i} 0$", f"{tag}/down-{i}"):
            return
    m.set(2)
    m.wait_for("^two cpu0 cpu1$", tag + "/two")
    m.process.wait(60)
    bad = re.search(r"Eject incomplete|WARNING:|BUG:|Oops|lockup|rcu.*stall|unstable|ACPI.*rror",
                    log_text(m.log))
    check(not bad, tag + "/no-complaint", bad and bad.group(0))


def main():
    kernel = debian_kernel()
    work = tempfile.mkdtemp()
    os.chmod(work, 0o700)
    initramfs(work + "/cpio", None, {"/session": write(work + "/session", GUEST)})
    try:
        for translator in ("auto", "off"):
            m = Machine(work, kernel, translator)
            try:
                session(m, translator)
            except subprocess.TimeoutExpired as e:
                check(False, translator + "/session", str(e))
            finally:
                m.process.kill()
                m.process.wait()
    finally:
        shutil.rmtree(work)


main()
check.end()
