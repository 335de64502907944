#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Appliances: a machine goes into one file and comes out the same, holes and all; and files that
mean harm make no machine, nothing at all, and one sentence."""
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

sys.path.append(sys.path[0] + "/../lib")
from testlib import Results, VIREO, multiboot, skip, write

check = Results("appliance")


def vireo(*args, status=0):
    r = subprocess.run([VIREO, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    if status is not None and r.returncode != status:
        check(False, " ".join(args), (r.returncode, r.stderr))
    return r


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


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
        write(path, data)
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
    write("kernel", multiboot(b"\x66\xba\xf8\x03\xb0!\xee\xb0\x2a\xe6\xf4\xf4\xeb\xfd"))    # says '!'; status 85
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


OVF = """<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References><File ovf:href="%s" ovf:id="file1"/></References>
<DiskSection><Disk ovf:capacity="40" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="d1" ovf:fileRef="file1"/>
<Disk ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="d2"/></DiskSection>
<VirtualSystem ovf:id="vm"><VirtualHardwareSection>
<Item><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ResourceType>4</rasd:ResourceType>
<rasd:VirtualQuantity>768</rasd:VirtualQuantity></Item>
<Item><rasd:HostResource>ovf:/disk/d1</rasd:HostResource><rasd:ResourceType>17</rasd:ResourceType></Item>
<Item><rasd:HostResource>/disk/d2</rasd:HostResource><rasd:ResourceType>17</rasd:ResourceType></Item>
<Item><rasd:ResourceType>10</rasd:ResourceType></Item>
</VirtualHardwareSection></VirtualSystem></Envelope>
"""


def ova(path, members):
    with tarfile.open(path, "w") as t:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))


def manifests(home, vmdk):
    """Sums that are right, wrong, of no kind, of files that are not there, and left out; beside and in a tar."""
    name = "my router (2)-disk1.vmdk"
    descriptor = (OVF % name).encode()
    sums = {h: (f"{h.upper()}(r.ovf)= {hashlib.new(h, descriptor).hexdigest()}\r\n"
                f"{h.upper()} ({name}) = {hashlib.new(h, vmdk).hexdigest().upper()}\n\n").encode()
            for h in ("sha1", "sha256", "sha512")}
    other = sums["sha256"].replace(hashlib.sha256(vmdk).hexdigest().upper().encode(), b"0" * 64)
    for n, (what, manifest, content, pattern) in enumerate((
            ("sha1", sums["sha1"], vmdk, ""), ("sha256", sums["sha256"], vmdk, ""), ("sha512", sums["sha512"], vmdk, ""),
            ("wrong", other, vmdk, "is not what the manifest says"),
            ("damaged-disk", sums["sha256"], vmdk[:-1] + b"x", "is not what the manifest says"),
            ("no-line", sums["sha256"].split(b"\n")[0], vmdk, "does not name its disk"),
            ("unknown-sum", sums["sha256"].replace(b"SHA256", b"MD4"), vmdk, "a sum 'MD4'"),
            ("no-manifest", b"hello\0\xff" + sums["sha256"], vmdk, "does not name|no NAME and sum"),
            ("elsewhere", sums["sha256"] + b"SHA256(../../etc/passwd)= 00\n", vmdk, "no plain name"),
            ("not-there", sums["sha256"] + b"SHA256(gone)= 00\n", vmdk, "has no file 'gone'"))):
        ova("r.ova", [("r.ovf", descriptor), ("r.mf", manifest), (name, content)])
        os.makedirs("package", exist_ok=True)
        for path, data in (("r.ovf", descriptor), ("r.mf", manifest), (name, content)):
            write(os.path.join("package", path), data)
        for kind, path in (("ova", "r.ova"), ("ovf", "package/r.ovf")):
            vm = f"mf-{kind}-{n}"
            r = vireo("appliance", "import", path, vm, status=None)
            there = os.path.exists(os.path.join(home, vm))
            check(re.search(pattern, r.stderr) and (r.returncode, there) == ((2, False) if pattern else (0, True)),
                  f"manifest-{what}-{kind}", (r.returncode, r.stderr))
            vireo("rm", vm, status=None)


def other_products(home):
    """qemu-img makes the disk that is read, and compares it with what became of it."""
    with open("src.raw", "wb") as f:
        f.truncate(40 << 20)
        f.seek(3 << 20)
        f.write(os.urandom(2 << 20))
        f.seek((40 << 20) - 3000)
        f.write(b"end" * 1000)
    subprocess.run(["qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "src.raw", "d.vmdk"],
                   check=True)
    descriptor, vmdk = (OVF % "d.vmdk").encode(), open("d.vmdk", "rb").read()
    ova("router.ova", [("router.ovf", descriptor), ("d.vmdk", vmdk)])
    write("beside.ovf", descriptor)
    for path, name in (("router.ova", "router"), ("beside.ovf", "beside")):
        vireo("appliance", "import", path)
        disk = os.path.join(home, name, "disk0.img")
        r = subprocess.run(["qemu-img", "compare", "src.raw", disk], capture_output=True, text=True)
        check(r.returncode == 0, f"ovf-{name}-disk", r.stdout + r.stderr)
        config = json.load(open(os.path.join(home, name, "vm.json")))
        check((config["memory"], config["cpus"], config["net"], len(config["disk"])) == ("768M", 2, ["user"], 2),
              f"ovf-{name}-config", config)
        check(sorted(os.listdir(os.path.join(home, name))) == ["disk0.img", "disk1.img", "vm.json"],
              f"ovf-{name}-files", os.listdir(os.path.join(home, name)))
    manifests(home, vmdk)
    before = sorted(os.listdir(home))
    dtd = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + descriptor[21:]
    for what, members, pattern in (
            ("path", [("x.ovf", (OVF % "/etc/passwd").encode()), ("d.vmdk", vmdk)], "no plain name"),
            ("climbing", [("x.ovf", descriptor), ("../d.vmdk", vmdk)], "no plain file"),
            ("no-disk", [("x.ovf", descriptor)], "d.vmdk"),
            ("dtd", [("x.ovf", dtd), ("d.vmdk", vmdk)], "no OVF descriptor"),
            ("no-xml", [("x.ovf", b"hello"), ("d.vmdk", vmdk)], "no OVF descriptor"),
            ("cut-disk", [("x.ovf", descriptor), ("d.vmdk", vmdk[:len(vmdk) // 2])], "disk0|read|damaged"),
            ("raw-disk", [("x.ovf", descriptor), ("d.vmdk", bytes(100000))], "no VMDK"),
            ("empty", [], "empty|damaged")):
        ova("evil.ova", members)
        r = vireo("appliance", "import", "evil.ova", "evil", status=None)
        check(r.returncode in (2, 12) and re.search(pattern, r.stderr) and sorted(os.listdir(home)) == before,
              f"ovf-refuses-{what}", (r.returncode, r.stderr))
    r = vireo("appliance", "import", "--max-size", "1M", "router.ova", "big", status=None)
    check(r.returncode == 2 and "--max-size" in r.stderr and sorted(os.listdir(home)) == before, "ovf-max-size",
          r.stderr)


class Oci:
    """Image layouts made by hand, of layers that are lists of tar members."""

    def __init__(self, path):
        self.path = path
        os.makedirs(os.path.join(path, "blobs", "sha256"))
        write(os.path.join(path, "oci-layout"), '{"imageLayoutVersion": "1.0.0"}')

    def blob(self, data):
        name = hashlib.sha256(data).hexdigest()
        write(os.path.join(self.path, "blobs", "sha256", name), data)
        return {"digest": "sha256:" + name, "size": len(data)}

    def layer(self, members, pack):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
            for name, data in members:
                info = tarfile.TarInfo(name)
                if isinstance(data, str):
                    info.type, info.linkname, data = tarfile.SYMTYPE, data, b""
                elif data is None:
                    info.type, info.mode, data = tarfile.DIRTYPE, 0o755, b""
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))
        return self.blob(pack(out.getvalue()))

    def finish(self, layers):
        manifest = self.blob(json.dumps({"schemaVersion": 2, "layers": layers}).encode())
        other = {"digest": "sha256:" + "0" * 64, "platform": {"architecture": "arm64", "os": "linux"}}
        with open(os.path.join(self.path, "index.json"), "w") as f:
            json.dump({"schemaVersion": 2, "manifests": [
                other, {**manifest, "platform": {"architecture": "amd64", "os": "linux"}}]}, f)


def oci():
    image = Oci("image")
    image.finish([
        image.layer([("etc", None), ("etc/f", b"one\n"), ("gone", None), ("gone/x", b"x"), ("opq", None),
                     ("opq/old", b"old"), ("link", "etc"), ("sh", "busybox")], gzip.compress),
        image.layer([("etc/f", b"two\n"), (".wh.gone", b""), ("opq/.wh..wh..opq", b""), ("opq/new", b"new")], zstd),
        image.layer([("top", b"plain tar\n")], bytes)])
    vireo("appliance", "import", "image", "root")
    tree = sorted(os.path.join(d, f)[4:] for d, ds, fs in os.walk("root") for f in ds + fs)
    check(tree == ["/etc", "/etc/f", "/link", "/opq", "/opq/new", "/sh", "/top"], "oci-tree", tree)
    check(open("root/etc/f").read() == "two\n" and os.readlink("root/link") == "etc", "oci-contents")
    if shutil.which("debugfs"):
        vireo("appliance", "import", "image", "root.img")
        r = subprocess.run(["debugfs", "-R", "cat /etc/f", "root.img"], capture_output=True, text=True)
        check(r.stdout == "two\n", "oci-ext4", r.stdout + r.stderr)
        check(subprocess.run(["e2fsck", "-fn", "root.img"], capture_output=True).returncode == 0, "oci-ext4-fsck")
    os.mkdir("victim")
    write("victim/file", "untouched")
    here = os.getcwd()
    for n, (what, layers, pattern) in enumerate((
            ("climbing", [[("../victim/file", b"x")]], "cannot be unpacked"),
            ("absolute", [[(here + "/victim/file", b"x")]], "cannot be unpacked"),
            ("through-a-link", [[("l", here + "/victim")], [("l/file", b"x")]], "cannot be unpacked|^$"),
            ("whiteout-through-a-link", [[("l", here + "/victim")], [("l/.wh.file", b"")]], "^$"),
            ("whiteout-above", [[("a", None), ("a/../../victim/.wh.file", b"")]], "cannot be unpacked|^$"),
            ("opaque-through-a-link", [[("l", here + "/victim")], [("l/.wh..wh..opq", b"")]], "^$"))):
        evil = Oci(f"evil{n}")
        evil.finish([evil.layer(members, bytes) for members in layers])
        r = vireo("appliance", "import", f"evil{n}", f"evilroot{n}", status=None)
        check(re.search(pattern, r.stderr) and open("victim/file").read() == "untouched" and
              os.listdir("victim") == ["file"], f"oci-{what}", (r.returncode, r.stderr, os.listdir("victim")))
    for name in os.listdir("image/blobs/sha256"):
        path = os.path.join("image/blobs/sha256", name)
        data = open(path, "rb").read()
        write(path, data[:-1] + bytes([data[-1] ^ 1]))
        r = vireo("appliance", "import", "image", "never", status=None)
        check(r.returncode == 2 and "another digest" in r.stderr and not os.path.exists("never"),
              "oci-damaged-blob", r.stderr)
        write(path, data)
    r = vireo("appliance", "import", "--max-size", "1K", "image", "never", status=None)
    check(r.returncode == 2 and "--max-size" in r.stderr and not os.path.exists("never"), "oci-max-size", r.stderr)
    check(not [n for n in os.listdir(".") if ".import-" in n], "oci-nothing-left", os.listdir("."))


def main():
    if not shutil.which("zstd") or not shutil.which("qemu-img"):
        skip("no zstd or no qemu-img")
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        os.environ["XDG_DATA_HOME"] = os.path.join(work, "data")
        os.environ["XDG_RUNTIME_DIR"] = work
        home = os.path.join(work, "data", "vireo")
        round_trip(work, home)
        Forge(work, home).all()
        other_products(home)
        oci()
        os.chdir("/")
    check.end()


main()
