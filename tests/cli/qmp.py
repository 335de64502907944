#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vireo run --qmp and --monitor: by hand, with socat and, where Python has it, with QEMU's own
client (qemu.qmp); requests that are wrong, halved, too long; events; a core file for gdb."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, multiboot, write

check = Results("qmp")
BUSY = multiboot(b"\xb8\x78\x56\x34\x12\xe6\x80\xeb\xfc")    # mov eax, 12345678; out 80; jmp
# mov dx, 604; mov ax, 3400; out dx, ax: S5 in PM1_CNT
OFF = multiboot(b"\xba\x04\x06\x00\x00\xb8\x00\x34\x00\x00\x66\xef\xf4\xeb\xfd")
RESET = multiboot(b"\xb0\xfe\xe6\x64\xf4\xeb\xfd")           # the keyboard controller's
PANIC = multiboot(b"\xba\x05\x05\x00\x00\xb0\x01\xee\xf4\xeb\xfd")    # pvpanic


class VM:
    def __init__(self, kernel, *options, memory="16M"):
        self.path = os.path.join(work, "qmp")
        self.p = subprocess.Popen(
            [VIREO, "run", "--engine", "soft", "--kernel", kernel, "--memory", memory,
             "--qmp", f"unix:{self.path},server=on,wait=off", "--log-level", "error", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def client(self):
        return Client(self.path, self.p)

    def end(self, status=None):
        try:
            self.p.wait(30 if status is not None else 0.1)
        except subprocess.TimeoutExpired:
            pass
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        return self.p.returncode if status is None else self.p.returncode == status

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.end()
        if kind:
            print(self.p.returncode, self.p.stderr.read().decode(), flush=True)


class Client:
    def __init__(self, path, process):
        for _ in range(400):
            self.s = socket.socket(socket.AF_UNIX)
            self.s.settimeout(20)
            try:
                self.s.connect(path)
                break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError(process.stderr.read())
                time.sleep(0.05)
        self.f = self.s.makefile("rb")
        self.events = []
        self.greeting = self.read()

    def read(self):
        line = self.f.readline()
        return json.loads(line) if line else None

    def raw(self, data):
        """The answer to these bytes; events before it are put aside."""
        self.s.sendall(data)
        while True:
            got = self.read()
            if got is None or "event" not in got:
                return got
            self.events.append(got)

    def ask(self, name, **arguments):
        request = {"execute": name}
        if arguments:
            request["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        return self.raw(json.dumps(request).encode())    # without a newline, as clients may

    def event(self, name):
        while True:
            for i, e in enumerate(self.events):
                if e["event"] == name:
                    return self.events.pop(i)
            got = self.read()
            if got is None:
                return None
            if "event" in got:
                self.events.append(got)

    def ready(self):
        assert self.ask("qmp_capabilities") == {"return": {}}
        return self


def error(reply, kind="GenericError"):
    return (reply or {}).get("error", {}).get("class") == kind and len(reply["error"]["desc"]) > 9


def protocol():
    with VM(busy, "--cpus", "2", "--disk", f"{disk},format=raw,serial=one,readonly=on") as vm:
        c = vm.client()
        v = c.greeting["QMP"]["version"]
        check(v["qemu"] == {"major": 7, "minor": 2, "micro": 0} and "Vireo" in v["package"] and
              c.greeting["QMP"]["capabilities"] == [], "greeting", c.greeting)
        check(error(c.ask("query-status"), "CommandNotFound"), "capabilities come first")
        check(error(c.ask("qmp_capabilities", enable=["oob"])), "no capability to enable")
        check(c.ask("qmp_capabilities", enable=[]) == {"return": {}}, "capabilities")
        check(error(c.ask("qmp_capabilities"), "CommandNotFound"), "capabilities once")
        check(c.raw(b'{"execute":"query-name","id":{"a":[1]}}') == {"return": {}, "id": {"a": [1]}},
              "an id comes back")
        names = {r["name"] for r in c.ask("query-commands")["return"]}
        for name in sorted(names):
            if name.startswith("query-") and name != "query-balloon":    # there is none
                check("return" in c.ask(name), name)
        check({"stop", "cont", "quit", "system_reset", "system_powerdown", "qmp_capabilities",
               "dump-guest-memory", "human-monitor-command"} <= names, "commands", names)
        check(c.ask("query-status")["return"] ==
              {"running": True, "singlestep": False, "status": "running"}, "status")
        b = c.ask("query-block")["return"][0]
        check(b["inserted"]["ro"] and b["inserted"]["image"]["virtual-size"] == 1 << 20, "block", b)
        cpus = c.ask("query-cpus-fast")["return"]
        check([x["cpu-index"] for x in cpus] == [0, 1] and
              all(os.path.exists(f"/proc/{vm.p.pid}/task/{x['thread-id']}") for x in cpus), "cpus", cpus)
        check(c.ask("query-kvm")["return"] == {"enabled": False, "present": True}, "kvm")
        check(error(c.ask("no-such"), "CommandNotFound"), "no such command")
        check(error(c.ask("stop", force=True)), "unexpected argument")
        check(error(c.ask("human-monitor-command")), "missing argument")
        check(error(c.ask("device_del", id="cd0"), "DeviceNotFound"), "no such device")
        for wrong in ({}, {"": 1}, {"driver": 1, "drive": []}, {"driver": "virtio-blk-pci", "drive": "x", "drivex": 1},
                      {"driver": "virtio-blk-pci", "drive": "nothing"}):
            check(error(c.ask("device_add", **wrong)), f"device_add {wrong}")
        for wrong in ({"driver": "raw", "node-name": "n"}, {"driver": "raw", "node-name": "n", "file": {"": 1}},
                      {"driver": "raw", "node-name": "n", "file": {"driver": "file", "filename": "x" * 9000}},
                      {"driver": "raw", "node-name": "n", "file": "other"}, {"driver": "vvfat", "node-name": "n"},
                      {"driver": "file", "node-name": "a,b", "filename": "x"}, {"driver": "file", "filename": "x"},
                      {"driver": "raw", "node-name": "n" * 200, "file": {"driver": "file", "filename": "x"}}):
            check(error(c.ask("blockdev-add", **wrong)), f"blockdev-add {str(wrong)[:60]}")
        check(error(c.ask("blockdev-del", node_name="n")), "no such node")
        for text, id_ in (("/nowhere/a", "short"), ("/nowhere/a,,b,format=qcow2", "formatted")):
            got = c.ask("human-monitor-command", command_line=f"drive_add 0 if=none,file={text},id={id_}")
            check(got.get("return") == "OK\r\n", f"drive_add {text}", got)
            check(error(c.ask("blockdev-add", driver="raw", node_name="over", file=id_)), f"over {id_}")
        nodes = {n["node-name"]: n["file"] for n in c.ask("query-named-block-nodes")["return"]}
        check(nodes == {"short": "/nowhere/a", "formatted": "/nowhere/a,,b,format=qcow2"}, "nodes", nodes)
        check(error(c.ask("balloon", value=1), "DeviceNotActive"), "no balloon")
        check(error(c.ask("qom-list", path="/nowhere"), "DeviceNotFound"), "no such object")

        c.ask("stop")
        e = c.event("STOP")
        check(abs(e["timestamp"]["seconds"] - time.time()) < 60 and
              0 <= e["timestamp"]["microseconds"] < 1000000, "STOP", e)
        check(c.ask("query-status")["return"]["status"] == "paused", "paused")
        c.ask("cont")
        check(c.event("RESUME") is not None, "RESUME")
        late = vm.client()
        c.ask("system_reset")
        check(c.event("RESET")["data"] == {"guest": False, "reason": "host-qmp-system-reset"}, "RESET")
        check(error(late.ask("stop"), "CommandNotFound"), "no events before capabilities", late.events)
        check(not late.events, "no events before capabilities", late.events)

        def hmp(line):
            return c.ask("human-monitor-command", command_line=line)["return"]
        check(hmp("info status") == "VM status: running\r\n", "info status", hmp("info status"))
        for _ in range(200):
            if "RAX=0000000012345678" in hmp("info registers"):
                break
            time.sleep(0.05)    # it has only just been reset
        check("RAX=0000000012345678" in hmp("info registers"), "info registers", hmp("info registers"))
        check("CPU#1" in hmp("info registers"), "of all processors")
        check("raw, read-only" in hmp("info block"), "info block", hmp("info block"))
        check(all(hmp(x).startswith("Error: ") for x in ("savevm a", "loadvm a", "delvm a")), "no savevm")
        check("unknown command" in hmp("frobnicate"), "unknown in the monitor")
        check(hmp("stop") == "" and c.event("STOP") is not None, "stop in the monitor")

        check(error(c.ask("dump-guest-memory", paging=False, protocol="file:/nowhere/x")), "dump to nowhere")
        check(error(c.ask("dump-guest-memory", paging=False, protocol="fd:x")), "dump to fd:")
        check(error(c.ask("dump-guest-memory", paging=True, protocol=f"file:{work}/x.core")),
              "no page tables to dump")
        check(c.ask("quit") == {"return": {}}, "quit")
        check(c.event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-qmp-quit"}, "SHUTDOWN")
        check(vm.end(10), "status after quit", vm.p.returncode)
        check(not os.path.exists(vm.path), "the socket goes")


def ends():
    for image, options, name, data, status in (
            ("off", (), "guest-shutdown", {"guest": True}, 0),
            ("reset", ("--no-reboot",), "guest-reset", {"guest": True}, 4),
            ("panic", (), "guest-panic", {"guest": True}, 8)):
        with VM(os.path.join(work, image), "--paused", *options) as vm:
            c = vm.client().ready()
            check(c.ask("query-status")["return"]["running"] is False, f"{image} waits")
            c.s.sendall(b'{"execute":"cont"}')
            if image == "panic":
                check(c.event("GUEST_PANICKED")["data"] == {"action": "poweroff"}, "GUEST_PANICKED")
            check(c.event("SHUTDOWN")["data"] == {"reason": name, **data}, f"SHUTDOWN after {image}")
            check(vm.end(status), f"status after {image}", vm.p.returncode)

    with VM(busy) as vm:    # a guest without ACPI goes off at once
        c = vm.client().ready()
        c.ask("system_powerdown")
        check(c.event("POWERDOWN") is not None and c.event("SHUTDOWN") is not None, "POWERDOWN")
        check(vm.end(0), "status after the power button", vm.p.returncode)


def hostile():
    with VM(busy) as vm:
        c = vm.client().ready()
        for data in (b"nonsense\n", b"{]", b'{"execute": 1}', b'{"execute":"stop","x":1}', b"[1]",
                     b'"stop"\n', b'{"execute":"stop","execute":"stop"}', b"\xff", b"}",
                     b'{"execute":"query-status","arguments":[]}', b'{"a":' * 4000 + b"\xff",
                     b'{"execute":"\\ud800"}', b'\0\n', b'{"execute":"query-status\0"}'):
            check(error(c.raw(data)), f"refused: {data[:20]!r}", c.events)
        c.s.sendall(b'{"execute":\n\n "query-sta')
        time.sleep(0.1)
        check(c.raw(b'tus", "id": "}{"}')["id"] == "}{", "a request in pieces and lines")
        c.s.sendall(b'{"execute":"query-kvm","id":1}{"execute":"query-kvm","id":2}')
        check([c.read()["id"], c.read()["id"]] == [1, 2], "two requests at once")
        long = vm.client()
        try:
            for _ in range(100):
                long.s.sendall(b'{"' + b"x" * 65536)
            gone = long.f.read()
        except OSError:
            gone = b""
        check(b"too long" in gone or gone == b"", "too long a request", gone[:200])
        deaf = vm.client().ready()
        try:
            for _ in range(40000):
                deaf.s.sendall(b'{"execute":"query-commands"}')
        except OSError:
            pass
        vm.client().s.close()
        check(c.ask("query-status")["return"]["running"], "others are still served")
        c.ask("quit")
        check(vm.end(10), "status")


def tools():
    with VM(busy) as vm:
        vm.client().s.close()
        if shutil.which("socat"):
            r = subprocess.run(["socat", "-t5", "-", f"UNIX-CONNECT:{vm.path}"], timeout=30, text=True,
                               capture_output=True,
                               input='{"execute":"qmp_capabilities"}\n{"execute":"query-version"}\n')
            lines = [json.loads(x) for x in r.stdout.splitlines()]
            check(lines[0].keys() == {"QMP"} and lines[2]["return"]["qemu"]["major"] == 7, "socat", r)
        else:
            check.skip("socat", "it is not installed")
        try:
            from qemu.qmp import QMPClient
        except ImportError:
            check.skip("qemu.qmp", "Python has no qemu.qmp here")
            return
        import asyncio

        async def session():
            q = QMPClient("test")
            seen = []
            await q.connect(vm.path)
            with q.listener(("STOP", "RESUME", "SHUTDOWN")) as events:
                await q.execute("stop")
                await q.execute("cont")
                await q.execute("quit")
                async for e in events:
                    seen.append(e["event"])
                    if e["event"] == "SHUTDOWN":
                        break
            try:
                await q.disconnect()
            except EOFError:    # the VM hung up first
                pass
            return seen
        seen = asyncio.run(asyncio.wait_for(session(), 30))
        check(seen == ["STOP", "RESUME", "SHUTDOWN"], "qemu.qmp", seen)


def monitor():
    path = os.path.join(work, "monitor")
    with VM(busy, "--monitor", f"unix:{path}") as vm:
        vm.client()
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(20)
        s.connect(path)

        def until_prompt():
            got = b""
            while not got.endswith(b"(qemu) "):
                got += s.recv(4096)
            return got
        check(b"monitor" in until_prompt(), "the monitor's greeting")
        s.sendall(b"info status\n")
        got = until_prompt()
        check(got == b"info status\r\nVM status: running\r\n(qemu) ", "info status at the monitor", got)
        s.sendall(b"\n\0\n" + b"quit\n")
        check(vm.end(10), "quit at the monitor")


def core():
    """The Debian kernel's memory, with and without paging, as readelf and gdb see it."""
    kernel = subprocess.run(["tools/kernel.sh", "cloud"], capture_output=True, text=True, cwd=top)
    if kernel.returncode or not shutil.which("gdb"):
        check.skip("core", "no Debian kernel or no gdb: " + kernel.stderr.strip()[-80:])
        return
    vmlinuz = os.path.join(top, kernel.stdout.strip())
    with VM(vmlinuz, "--cpus", "2", "--sandbox", f"auto,dir={work}", "--serial", f"file:{work}/serial",
            "--cmdline", "console=ttyS0 nokaslr panic=0", memory="128M") as vm:
        c = vm.client().ready()
        for _ in range(1200):
            with open(os.path.join(work, "serial"), errors="replace") as f:
                if "Kernel panic" in f.read():    # it has no root
                    break
            time.sleep(0.1)
        for paging in (False, True):
            path = os.path.join(work, f"core{paging}")
            r = c.ask("dump-guest-memory", paging=paging, protocol=f"file:{path}")
            check(r == {"return": {}}, f"dump, paging {paging}", r)
        check(c.event("STOP") and c.event("RESUME"), "the VM stands still meanwhile")
        c.ask("quit")
    size = os.stat(f"{work}/coreFalse")
    check(size.st_size > 127 << 20 and size.st_blocks * 512 < size.st_size, "memory that was not used is a hole")
    elf = subprocess.run(["readelf", "-lnW", f"{work}/coreFalse"], capture_output=True, text=True)
    check(elf.stdout.count("NT_PRSTATUS") == 2 and elf.stdout.count("QEMU") == 2 and
          "warning" not in (elf.stdout + elf.stderr).lower(), "readelf", elf)
    gdb = subprocess.run(["gdb", "-nx", "-batch", "-ex", f"core {work}/coreTrue", "-ex", "info threads",
                          "-ex", "find /1 0xffffffff82000000, +0x800000, " +
                          ", ".join(f"'{x}'" for x in "Linux version 6"), "-ex", "x/s $_", "-ex", "p/x $rip"],
                         capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    check("Linux version 6" in gdb.stdout and gdb.stdout.count("LWP ") >= 2 and
          "0xffffffff8" in gdb.stdout, "gdb reads it", gdb.stdout + gdb.stderr)


top = os.getcwd()
work = tempfile.mkdtemp()
busy = os.path.join(work, "busy")
disk = os.path.join(work, "disk")
signal.alarm(400)
try:
    for name, image in (("busy", BUSY), ("off", OFF), ("reset", RESET), ("panic", PANIC)):
        write(os.path.join(work, name), image)
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    protocol()
    ends()
    hostile()
    tools()
    monitor()
    core()
finally:
    shutil.rmtree(work, ignore_errors=True)
check.end()
