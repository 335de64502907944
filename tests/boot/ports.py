#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Named ports of virtio-console: a program's output, errors and status arrive apart, and a
socket carries both directions; a client that leaves may be followed by another."""
import os
import socket
import subprocess
import sys
import time

sys.path.append(sys.path[0] + "/../lib")
from testlib import ENGINE, Results, VIREO, debian_kernel, folder, initramfs, write

check = Results("ports")
GUEST = """port() { grep -lx $1 /sys/class/virtio-ports/*/name | sed 's,/name,,;s,.*/,/dev/,'; }
# The names come after the ports.
for p in stdout stderr status talk; do
	while [ -z "$(port $p 2>/dev/null)" ]; do sleep 0.05; done
done
sh -c "seq 1 20000; echo wrong >&2; exit 7" >$(port stdout) 2>$(port stderr)
echo $? >$(port status)
exec 3<>$(port talk)
# While nobody is at the other end, reading ends at once.
for i in 1 2; do
	line=
	while [ -z "$line" ]; do read line <&3 || sleep 0.05; done
	echo "you said $line" >&3
done
until echo on the console >/dev/hvc0; do sleep 0.05; done 2>/dev/null
sleep 0.5"""


def path(name):
    return os.path.join(folder("boot"), "ports." + name)


def prepare():
    kernel = debian_kernel("virtio_console")
    initramfs(path("cpio"), kernel, {"/session": write(path("session"), GUEST)})
    return kernel


def content(name):
    with open(path(name)) as f:
        return f.read()


def start(kernel):
    ports = ["out=" + path("stdout") + ",name=stdout", "out=" + path("stderr") + ",name=stderr",
             "out=" + path("status") + ",name=status", "socket=" + path("talk") + ",name=talk",
             "out=" + path("console")]
    argv = [VIREO, "run", "--engine", ENGINE,
            "--kernel", kernel, "--initrd", path("cpio"), "--memory", "256M",
            "--cmdline", 'console=ttyS0 panic=-1 run="sh /session"']
    for p in ports:
        argv += ["--console", p]
    with open(path("log"), "w") as log:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def talk(line):
    for _ in range(600):
        try:
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(60)
            s.connect(path("talk"))
            break
        except OSError:
            time.sleep(0.1)
    s.sendall(line.encode() + b"\n")
    got = b""
    while not got.endswith(b"\n"):
        piece = s.recv(100)
        if not piece:
            break
        got += piece
    s.close()
    return got.decode()


def main():
    vm = start(prepare())
    try:
        said = talk("hello")
        check(said == "you said hello\n", "socket", said)
        said = talk("again")
        check(said == "you said again\n", "socket-second-client", said)
        check((status := vm.wait(300)) == 0, "status", status)
    except (subprocess.TimeoutExpired, OSError) as e:
        check(False, "session", str(e) + content("log")[-500:])
        vm.kill()
        vm.wait()
    want = "".join(f"{i}\n" for i in range(1, 20001))
    check(content("stdout") == want, "stdout", content("stdout")[-50:])
    check(content("stderr") == "wrong\n", "stderr", content("stderr"))
    check(content("status") == "7\n", "exit-status", content("status"))
    check(content("console") == "on the console\n", "console", content("console"))
    check(not os.path.exists(path("talk")), "socket-removed")


main()
check.end()
