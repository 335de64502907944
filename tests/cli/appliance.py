#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Appliances: a machine goes into one file and comes out the same, holes and all; and files that
mean harm make no machine, nothing at all, and one sentence."""
import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile

BUILD = os.path.realpath(os.environ.get("BUILD", "build"))
VIREO = os.path.join(BUILD, "vireo")
bad = 0


def check(ok, name, detail=""):
    global bad
    print(f"ok appliance/{name}" if ok else f"not ok appliance/{name}: {detail!r}", flush=True)
    bad |= not ok


def vireo(*args, status=0):
    r = subprocess.run([VIREO, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    if status is not None and r.returncode != status:
        check(False, " ".join(args), (r.returncode, r.stderr))
    return r


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def multiboot(path):
    """A kernel that prints '!' and ends with status 85."""
    code = b"\x66\xba\xf8\x03\xb0!\xee\xb0\x2a\xe6\xf4\xf4\xeb\xfd"
    end = 0x100020 + len(code)
    with open(path, "wb") as f:
        f.write(struct.pack("<8I", 0x1badb002, 0x10000, -0x1baeb002 & 0xffffffff, 0x100000, 0x100000,
                            end, end, 0x100020) + code)


def zstd(data):
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


class Forge:
    """Appliances made by hand."""

    def __init__(self, work, home):
        self.work, self.home, self.n = work, home, 0
        self.config = json.dumps({"version": 1, "kernel": "kernel", "memory": "16M"}).encode()
        self.files = [("vm.json", self.config), ("kernel", open("kernel", "rb").read())]

    def manifest(self, files, **more):
        listed = [{"name": n, "size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in files]
        return json.dumps({"format": "vireo-appliance", "version": 1, "name": "x", "files": listed,
                           **more}).encode()

    def pack(self, entries):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
            for entry in entries:
                info = entry[0] if isinstance(entry[0], tarfile.TarInfo) else tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                t.addfile(info, io.BytesIO(entry[1]))
        return zstd(out.getvalue())

    def refused(self, what, data, pattern, *options):
        self.n += 1
        path = os.path.join(self.work, f"forged{self.n}.vap")
        with open(path, "wb") as f:
            f.write(data)
        before = sorted(os.listdir(self.home))
        r = vireo("appliance", "import", *options, path, "forged", status=None)
        check(r.returncode == 2 and re.search(pattern, r.stderr) and
              r.stderr.count("\n") == 1 and sorted(os.listdir(self.home)) == before,
              f"refuses-{what}", (r.returncode, r.stderr, os.listdir(self.home)))

    def all(self):
        good, files = self.manifest(self.files), self.files
        m = ("manifest.json", good)
        self.refused("no-manifest", self.pack(files), "does not begin with a manifest")
        self.refused("nothing", b"", "damaged or no archive|does not begin")
        self.refused("noise", os.urandom(5000), "damaged or no archive")
        self.refused("cut", self.pack([m, *files])[:-200], "damaged|early|ends before")
        self.refused("missing-file", self.pack([m, files[0]]), "ends before 'kernel'")
        self.refused("checksum", self.pack([m, files[0], ("kernel", files[1][1][:-1] + b"x")]), "checksum")
        self.refused("longer", self.pack([m, files[0], ("kernel", files[1][1] + b"x")]), "larger than it says")
        self.refused("unlisted", self.pack([m, *files, ("more", b"")]), "'more' is not in its manifest")
        self.refused("twice", self.pack([m, *files, files[1]]), "there twice")
        for name in ("../kernel", "/tmp/kernel", "a/kernel", ".kernel", "ker nel", ""):
            evil = [files[0], (name, files[1][1])]
            self.refused(f"name-{name}", self.pack([("manifest.json", self.manifest(evil)), *evil]),
                         "cannot be one of")
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            link = tarfile.TarInfo("kernel")
            link.type, link.linkname = kind, "/etc/passwd"
            self.refused(f"kind-{kind.decode()}", self.pack([m, files[0], (link, b"")]), "no plain file")
        zeroes = [files[0], ("kernel", bytes(20 << 20))]
        self.refused("bomb", self.pack([("manifest.json", self.manifest(zeroes)), *zeroes]),
                     "--max-size", "--max-size", "1M")
        lie = json.loads(self.manifest(zeroes))
        lie["files"][1]["size"] = 1000
        self.refused("bomb-that-lies", self.pack([("manifest.json", json.dumps(lie).encode()), *zeroes]),
                     "larger than it says", "--max-size", "1M")
        self.refused("later", self.pack([("manifest.json", self.manifest(files, version=2)), *files]),
                     "later version")
        self.refused("size", self.pack([("manifest.json", good.replace(b'"size": 46', b'"size": -1')
                                         .replace(b'"size": %d' % len(files[1][1]), b'"size": -1')), *files]),
                     "cannot be one of")

        def config(**keys):
            text = json.dumps({"version": 1, "kernel": "kernel", "memory": "16M", **keys}).encode()
            changed = [("vm.json", text), files[1]]
            return changed

        for what, changed, pattern in (
                ("outside", config(kernel="/etc/passwd"), "not in the machine's directory"),
                ("above", config(disk=["../x"]), "not in the machine's directory"),
                ("absent", config(disk=["d"]), "no file 'd'"),
                ("unknown-key", config(kernle="x"), "no such key")):
            self.refused(what, self.pack([("manifest.json", self.manifest(changed)), *changed]), pattern)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw",
                        "overlay", "1M"], check=True)
        changed = config(disk=["d,format=qcow2"]) + [("d", open("overlay", "rb").read())]
        self.refused("backing-file", self.pack([("manifest.json", self.manifest(changed)), *changed]),
                     "lies on another file")


def round_trip(work, home):
    multiboot("kernel")
    with open("raw.img", "wb") as f:
        f.truncate(300 << 20)
        f.seek(100 << 20)
        f.write(os.urandom(1 << 20))
    with open("empty.img", "wb") as f:
        f.truncate(5 << 20)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "d.qcow2", "50M"], check=True)
    vireo("create", "web", "--kernel", "kernel", "--memory", "16M", "--debug-exit", "--disk", "raw.img",
          "--disk", "d.qcow2", "--disk", "empty.img", "--net", "user", "--share", work + ",tag=t", "-p", "2222:22")
    vireo("appliance", "export", "web", "web.vap")
    check(os.path.getsize("web.vap") < 3 << 20, "holes-and-compression", os.path.getsize("web.vap"))
    names = subprocess.run("zstd -dcq web.vap | tar t", shell=True, capture_output=True, text=True).stdout
    check(names.split() == ["manifest.json", "vm.json", "kernel", "disk0.img", "disk1.img", "disk2.img"],
          "tar-lists-it", names)
    r = vireo("appliance", "import", "web.vap", "web2")
    check("left out of the machine: share" in r.stderr and "publish" in r.stderr, "left-out", r.stderr)
    a, b = os.path.join(home, "web"), os.path.join(home, "web2")
    for name in ("kernel", "disk0.img", "disk1.img", "disk2.img"):
        check(digest(os.path.join(a, name)) == digest(os.path.join(b, name)), f"same-{name}")
    check(os.stat(os.path.join(b, "disk0.img")).st_blocks * 512 < 4 << 20, "stays-sparse")
    config = json.load(open(os.path.join(b, "vm.json")))
    check("share" not in config and "publish" not in config and config["net"] == ["user"], "config", config)
    shutil.rmtree("x", ignore_errors=True)
    os.mkdir("x")
    subprocess.run("zstd -dcq web.vap | tar x -C x", shell=True, check=True)
    check(digest("x/disk0.img") == digest(os.path.join(a, "disk0.img")), "gnu-tar-reads-it")
    r = vireo("start", "--foreground", "web2", status=None)
    check(r.returncode == 85, "it-starts", (r.returncode, r.stderr))
    r = vireo("appliance", "import", "web.vap", "web2", status=2)
    check("already" in r.stderr, "name-taken", r.stderr)
    r = vireo("appliance", "export", "web", "web.vap", status=2)
    check("exists already" in r.stderr, "file-taken", r.stderr)
    vireo("create", "far", "--disks", "in-place", "--kernel", "kernel", "--memory", "16M")
    r = vireo("appliance", "export", "far", "far.vap", status=2)
    check("--disks copy" in r.stderr and not os.path.exists("far.vap.part"), "in-place", r.stderr)


def main():
    if not shutil.which("zstd") or not shutil.which("qemu-img"):
        print("no zstd or no qemu-img")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        os.environ["XDG_DATA_HOME"] = os.path.join(work, "data")
        os.environ["XDG_RUNTIME_DIR"] = work
        home = os.path.join(work, "data", "vireo")
        round_trip(work, home)
        Forge(work, home).all()
        os.chdir("/")
    sys.exit(bad)


main()
