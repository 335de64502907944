#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where vireo run's serial ports, consoles, monitors and QMP may lead: standard input and output,
TCP and unix sockets of both kinds, named pipes, a file; several on one terminal with Ctrl-A c."""
import json
import os
import pty
import select
import socket
import subprocess
import sys
import tempfile
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, multiboot, write

check = Results("places")
# COM1: '>'; then what comes in goes out, with 1 added.
ECHO = (b"\x66\xba\xf8\x03\xb0\x3e\xee"              # mov dx, 3f8; mov al, '>'; out dx, al
        b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xfb"      # until LSR says that there is a byte
        b"\x66\xba\xf8\x03\xec\xfe\xc0\xee\xeb\xed") # in; inc al; out; again


def start(*args, **more):
    more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **more}
    return subprocess.Popen([VIREO, "run", "--engine", "soft", "--kernel", kernel, "--memory", "16M",
                             "--log-level", "error", *args], **more)


def read_until(read, text, seconds=20):
    """What was read, up to and with @text; less if it does not come."""
    got, end = b"", time.monotonic() + seconds
    while text not in got and time.monotonic() < end:
        more = read()
        if not more:
            break
        got += more
    return got


def reader(fd):
    def read():
        return os.read(fd, 4096) if select.select([fd], [], [], 5)[0] else b""
    return read


def connect(make):
    for _ in range(200):
        try:
            s = make()
            s.settimeout(20)
            return s
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("nobody listens")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ended(p):
    try:
        return p.wait(20) is not None
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
        return False


def test_qmp_stdio():
    asked = b'{"execute":"qmp_capabilities"} {"execute":"query-status"} {"execute":"quit"}'
    p = start("--serial", "none", "--qmp", "stdio", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = p.communicate(asked, 30)
    said = [json.loads(x) for x in out.splitlines()]
    check(len(said) == 5 and said[0]["QMP"] and said[2]["return"]["running"] and said[3] == {"return": {}} and
          said[4]["event"] == "SHUTDOWN", "qmp on stdio", out)


def test_tcp():
    """QMP as a server that waits, a monitor as a client, COM1 as a server."""
    port, serial = free_port(), free_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        p = start("--serial", f"tcp:127.0.0.1:{serial}", "--qmp", f"tcp::{port},wait=on", "--monitor",
                  f"tcp:127.0.0.1:{listener.getsockname()[1]},server=off")
        qmp = connect(lambda: socket.create_connection(("127.0.0.1", port)))
        com = connect(lambda: socket.create_connection(("127.0.0.1", serial)))
        monitor = listener.accept()[0]
        check(read_until(lambda: qmp.recv(4096), b"\n").startswith(b'{"QMP"'), "qmp on tcp")
        check(b"(qemu) " in read_until(lambda: monitor.recv(4096), b"(qemu) "), "a monitor that connects")
        com.sendall(b"HAL")
        check(read_until(lambda: com.recv(4096), b"IBM").endswith(b"IBM"), "COM1 on tcp")
        # It hears others after one has gone, and a client that goes ends nothing.
        com.close()
        com = connect(lambda: socket.create_connection(("127.0.0.1", serial)))
        com.sendall(b"HAL")
        check(read_until(lambda: com.recv(4096), b"IBM").endswith(b"IBM"), "another client")
        monitor.sendall(b"info status\n")
        check(b"running" in read_until(lambda: monitor.recv(4096), b"running"), "info status")
        monitor.close()
        qmp.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-status"}')
        check(b'"running":true' in read_until(lambda: qmp.recv(4096), b'"running":true'), "it lives")
        qmp.sendall(b'{"execute":"quit"}')
        check(ended(p), "quit")


def test_unix_client(work):
    path = os.path.join(work, "listens")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(20)
        p = start("--serial", f"unix:{path},server=off", "--paused", "--qmp", f"unix:{work}/q")
        com = listener.accept()[0]
        com.settimeout(20)
        qmp = connect(lambda: connected(f"{work}/q"))
        qmp.sendall(b'{"execute":"qmp_capabilities"}{"execute":"cont"}')
        check(read_until(lambda: com.recv(4096), b">") == b">", "COM1 connects")
        com.close()     # what the guest says goes nowhere from now on
        qmp.sendall(b'{"execute":"quit"}')
        check(ended(p) and os.path.exists(path), "its socket is not ours to remove")


def connected(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    return s


def test_pipes(work):
    for name in ("p.in", "p.out", "both"):
        os.mkfifo(os.path.join(work, name))
    p = start("--serial", f"pipe:{work}/p", "--monitor", f"pipe:{work}/both")
    to = os.open(f"{work}/p.in", os.O_WRONLY)
    back = os.open(f"{work}/p.out", os.O_RDONLY)
    os.write(to, b"HAL")
    check(read_until(reader(back), b"IBM").endswith(b"IBM"), "named pipes")
    p.kill()
    p.wait()
    with open(f"{work}/plain", "w"):
        pass
    p = start("--serial", f"pipe:{work}/plain", stderr=subprocess.PIPE, text=True)
    check(p.wait(20) == 2 and "is no named pipe" in p.stderr.read(), "no named pipe")


def test_file(work):
    path = os.path.join(work, "file")
    for text, want in (("", b"old>"), (",truncate=on", b">")):
        write(path, b"old")
        p = start("--serial", f"file:{path}{text}", "--qmp", f"unix:{work}/f")
        for _ in range(200):
            with open(path, "rb") as f:
                got = f.read()
            if got == want:
                break
            time.sleep(0.05)
        check(got == want, "file" + text, got)
        p.kill()
        p.wait()


def test_mux(work):
    """The console and the monitor on one terminal, which is put back as it was."""
    import termios
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    p = start("--mux", "m=stdio", "--serial", "mux:m", "--monitor", "mux:m", stdin=theirs, stdout=theirs,
              stderr=theirs, preexec_fn=lambda: (os.setsid(), __import__("fcntl").ioctl(theirs, termios.TIOCSCTTY, 0)))
    read = reader(ours)
    check(b">" in read_until(read, b">"), "the console first")
    os.write(ours, b"HAL")
    check(b"IBM" in read_until(read, b"IBM"), "typed to the guest")
    os.write(ours, b"\001c")
    check(b"(qemu) " in read_until(read, b"(qemu) "), "the monitor greets")
    os.write(ours, b"info statux\x7fs\r")
    got = read_until(read, b"(qemu) ")
    check(b"info statux\b \bs\r\nVM status: running\r\n" in got, "typed to the monitor", got)
    os.write(ours, b"\001cHAL")
    check(b"IBM" in read_until(read, b"IBM"), "back")
    os.write(ours, b"\001h")
    check(b"Ctrl-A x" in read_until(read, b"Ctrl-A x"), "help")
    os.write(ours, b"\001x")
    check(ended(p), "Ctrl-A x")
    check(termios.tcgetattr(theirs)[:4] == before[:4], "the terminal is as before")
    os.close(ours)
    os.close(theirs)


def test_signals():
    """-serial stdio of the personality: Ctrl-C ends it, as QEMU's does."""
    import termios
    ours, theirs = pty.openpty()
    p = subprocess.Popen([VIREO, "qemu", "-accel", "tcg", "-m", "16", "-nodefaults", "-kernel", kernel,
                          "-serial", "stdio"], stdin=theirs, stdout=theirs, stderr=theirs,
                         preexec_fn=lambda: (os.setsid(), __import__("fcntl").ioctl(theirs, termios.TIOCSCTTY, 0)))
    read = reader(ours)
    check(b">" in read_until(read, b">"), "stdio")
    os.write(ours, b"\003")
    check(ended(p), "Ctrl-C")
    os.close(ours)
    os.close(theirs)


def test_wrong():
    for args, why in ((("--monitor", "stdio"), "used twice"), (("--serial", "mux:x"), "there is no --mux x"),
                      (("--mux", "x"), "no NAME=WHERE"), (("--mux", "x=none"), "cannot be shared"),
                      (("--qmp", "tcp:host:1"), "no HOST:PORT"), (("--qmp", "unix:/x,server=off,wait=on"), "wait=on"),
                      (("--qmp", "unix:/x,colour=red"), "knows no 'colour=red'"),
                      (("--serial", "unix:/nonexistent/x,server=off"), "could not connect"),
                      (("--monitor", "unix:" + "x" * 108), "at most 107 bytes")):
        p = start(*args, stderr=subprocess.PIPE, text=True)
        said = p.communicate(timeout=20)[1]
        check(p.returncode == 2 and why in said and said.count("\n") == 1, "wrong: " + " ".join(args)[:40], said)


with tempfile.TemporaryDirectory() as work:
    kernel = os.path.join(work, "kernel")
    write(kernel, multiboot(ECHO))
    test_qmp_stdio()
    test_tcp()
    test_unix_client(work)
    test_pipes(work)
    test_file(work)
    test_mux(work)
    test_signals()
    test_wrong()
check.end()
