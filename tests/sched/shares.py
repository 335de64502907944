#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Weights, caps and pinning of VMs, by the CPU clocks of their threads.

Eight VMs of weights 1 to 8 on one processor get shares within 4 % of what the weights say; a
cap holds; both can be changed with `vireo set`; what one VM leaves goes to the others.  The same
of single vCPUs of a VM, among which the weights are.

SECONDS=10 is how long shares are measured, up to four times as long where others use the
processor.  On a machine that is busy with something else they are still ratios; a case is skipped
if there is too little of the processor to tell.
"""
import atexit
import glob
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, busiest_thread, multiboot, write

judge = Results("sched", always=True)
SECONDS = float(os.environ.get("SECONDS", "10"))
CPU = str(min(os.sched_getaffinity(0)))


class Vm:
    def __init__(self, kernel, *options):
        self.p = subprocess.Popen([VIREO, "run", "--memory", "4M", "--kernel", kernel,
                                   "--translator", "off", "--log-level", "error"] + list(options),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)
        atexit.register(self.end)

    def ran(self):
        return busiest_thread(self.p.pid)

    def vcpus(self):
        """Seconds that each vCPU's thread ran, by its number: the threads come in that order."""
        ran = []
        for path in glob.glob("/proc/%d/task/*" % self.p.pid):
            with open(path + "/comm") as f:
                name = f.read().strip()
            if name.startswith("vcpu"):
                with open(path + "/schedstat") as f:
                    ran.append((int(name[4:]), int(f.read().split()[0]) / 1e9))
        return [t for _, t in sorted(ran)]

    def end(self):
        self.p.kill()
        self.p.wait()


def rates(vms, seconds):
    before = [vm.ran() for vm in vms]
    t = time.monotonic()
    time.sleep(seconds)
    t = time.monotonic() - t
    return [(vm.ran() - b) / t for vm, b in zip(vms, before)]


def test_weights(spin):
    vms = [Vm(spin, "--cpu-weight", str(w), "--cpu-pin", CPU) for w in range(1, 9)]
    time.sleep(2)
    # The scheduler counts in slices: some seconds of the processor have to be shared.
    own = sum(rates(vms, 1))
    seconds = min(max(SECONDS, 0.7 * SECONDS / max(own, 0.01)), 4 * SECONDS)
    got = rates(vms, seconds)
    for vm in vms:
        vm.end()
    if sum(got) < 0.2:
        judge.skip("weights", "the processor is busy: %.2f of it is ours" % sum(got))
        return
    shares = [g / sum(got) for g in got]
    worst = max(abs(s / (w / 36) - 1) for w, s in zip(range(1, 9), shares))
    slice_of = 0.005 / (sum(got) * seconds / 36)    # the smallest share's
    print("# %.2f of the processor" % sum(got))
    judge(worst < 0.04 + slice_of, "weights", "each within %.1f %% of its share; %s" %
          (100 * worst, " ".join("%.3f" % s for s in shares)))


def test_cap(spin):
    vm = Vm(spin, "--cpu-cap", "30%", "--name", "cap%d" % os.getpid())
    time.sleep(1)
    got, = rates([vm], 3)
    judge(got < 0.33, "cap", "30 %% became %.1f %%" % (100 * got))
    capped = got
    subprocess.check_call([VIREO, "set", "cap%d" % os.getpid(), "--cpu-cap", "10%"])
    got, = rates([vm], 3)
    judge(got < 0.13, "cap-changed", "10 %% became %.1f %%" % (100 * got))
    subprocess.check_call([VIREO, "set", "cap%d" % os.getpid(), "--cpu-cap", "none"])
    got, = rates([vm], 2)
    if got < 0.4:
        judge.skip("cap-removed", "the processor is busy: %.2f of it is ours" % got)
    else:
        judge(capped > 0.2, "cap-is-given", "%.1f %% of 30 %%" % (100 * capped))
    vm.end()


def test_changed(spin):
    name = "w%d" % os.getpid()
    a = Vm(spin, "--cpu-weight", "100", "--cpu-pin", CPU, "--name", name)
    b = Vm(spin, "--cpu-weight", "100", "--cpu-pin", CPU)
    time.sleep(1)
    x, y = rates([a, b], 4)
    judge(abs(x / (x + y) - 0.5) < 0.04, "equal-weights", "%.3f" % (x / (x + y)))
    subprocess.check_call([VIREO, "set", name, "--cpu-weight", "300"])
    time.sleep(0.5)
    x, y = rates([a, b], 4)
    judge(abs(x / (x + y) - 0.75) < 0.04, "weight-changed", "%.3f" % (x / (x + y)))
    a.end()
    x, = rates([b], 2)
    judge(x > 1.5 * y, "the-rest-is-given", "%.2f of the processor instead of %.2f" % (x, y))
    b.end()


def each(vm, seconds):
    """The processors that each vCPU got, and their sum."""
    before, t = vm.vcpus(), time.monotonic()
    time.sleep(seconds)
    t = time.monotonic() - t
    got = [(a - b) / t for a, b in zip(vm.vcpus(), before)]
    return got, sum(got)


def test_vcpus(spin):
    name = "v%d" % os.getpid()
    vm = Vm(spin, "--cpus", "3", "--cpu-pin", CPU, "--vcpu", "0-1,weight=100",
            "--vcpu", "2,weight=300", "--name", name)
    time.sleep(2)
    got, whole = each(vm, 4)
    text = " ".join("%.3f" % (g / whole) for g in got)
    judge(all(abs(g / whole - w) < 0.04 for g, w in zip(got, (0.2, 0.2, 0.6))), "vcpu-weights", text)
    subprocess.check_call([VIREO, "set", name, "--vcpu", "1-2", "--cpu-weight", "200"])
    time.sleep(0.5)
    got, whole = each(vm, 4)
    text = " ".join("%.3f" % (g / whole) for g in got)
    judge(all(abs(g / whole - w) < 0.04 for g, w in zip(got, (0.2, 0.4, 0.4))),
          "vcpu-weight-changed", text)
    subprocess.check_call([VIREO, "set", name, "--vcpu", "0", "--cpu-cap", "10%"])
    time.sleep(0.5)
    got, whole = each(vm, 4)
    judge(got[0] < 0.12, "vcpu-cap", "10 %% became %.1f %%" % (100 * got[0]))
    if whole > 0.3:
        judge(got[0] > 0.05 and abs(got[1] - got[2]) < 0.04 * whole, "vcpu-cap-leaves-the-rest",
              " ".join("%.3f" % g for g in got))
    else:
        judge.skip("vcpu-cap-leaves-the-rest", "the processor is busy: %.2f of it is ours" % whole)
    refused = subprocess.run([VIREO, "set", name, "--vcpu", "3", "--cpu-cap", "10%"],
                             stderr=subprocess.PIPE, text=True)
    judge(refused.returncode and "vcpu" in refused.stderr, "vcpu-not-there", refused.stderr.strip())
    vm.end()


def test_capped_weight(spin):
    """Who may not use its share leaves it to others, and they do not wait for it."""
    a = Vm(spin, "--cpu-weight", "100", "--cpu-pin", CPU, "--cpu-cap", "20%")
    b = Vm(spin, "--cpu-weight", "100", "--cpu-pin", CPU)
    time.sleep(1)
    x, y = rates([a, b], 4)
    a.end()
    b.end()
    if x + y < 0.8:
        judge.skip("capped-weight", "the processor is busy: %.2f of it is ours" % (x + y))
    else:
        judge(y / (x + y) > 0.7, "capped-weight", "%.2f beside %.2f of a cap of 0.20" % (y, x))


def test_pin(spin):
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        judge.skip("pin", "there is one processor")
        return
    name = "pin%d" % os.getpid()
    vm = Vm(spin, "--cpu-pin", str(cpus[-1]), "--name", name)
    time.sleep(1)
    where = set()
    for path in glob.glob("/proc/%d/task/*/status" % vm.p.pid):
        with open(path) as f:
            where |= {line.split()[1] for line in f if line.startswith("Cpus_allowed_list")}
    judge(str(cpus[-1]) in where, "pin", " ".join(sorted(where)))
    refused = subprocess.run([VIREO, "set", name, "--vcpu", "0", "--cpu-pin", CPU],
                             stderr=subprocess.PIPE, text=True)
    judge(refused.returncode and "do not agree" in refused.stderr, "pin-outside-the-vm's",
          refused.stderr.strip())
    subprocess.check_call([VIREO, "set", name, "--cpu-pin", "none"])
    subprocess.check_call([VIREO, "set", name, "--vcpu", "0", "--cpu-pin", CPU])
    for path in glob.glob("/proc/%d/task/*/comm" % vm.p.pid):
        with open(path) as f, open(path.replace("comm", "status")) as status:
            if f.read().strip() == "vcpu0":
                where = re.search(r"Cpus_allowed_list:\t(.*)", status.read()).group(1)
    judge(where == CPU, "vcpu-pin", where)
    vm.end()


def main():
    with tempfile.TemporaryDirectory() as work:
        spin = os.path.join(work, "spin")
        write(spin, multiboot(b"\xeb\xfe"))			# jmp $
        spin_all = os.path.join(work, "spin_all")
        write(spin_all, multiboot(b"\x66\xc7\x05\x00\x80\x00\x00\xeb\xfe"	# movw $0xfeeb, 0x8000
              b"\xc7\x05\xf0\x00\xe0\xfe\xff\x01\x00\x00"		# movl $0x1ff, SVR
              b"\xc7\x05\x00\x03\xe0\xfe\x00\x45\x0c\x00"		# movl $INIT of the others, ICR
              b"\xc7\x05\x00\x03\xe0\xfe\x08\x46\x0c\x00"		# movl $SIPI of the others, ICR
              b"\xeb\xfe"))
        test_weights(spin)
        test_cap(spin)
        test_changed(spin)
        test_capped_weight(spin)
        test_vcpus(spin_all)
        test_pin(spin)


main()
judge.end()
