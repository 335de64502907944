#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Debian's fakemachine and debos with the QEMU personality, in a Debian 12 of their own: a command and its status, then
# a disk image that is partitioned, formatted and written to.  The kernel is Debian 11's, since fakemachine 0.0.4 loads
# modules in an order that later ones do not have, under QEMU as well.  LONG=1 only.
. "$(dirname "$0")/../lib/cli.sh"
[ -n "${LONG:-}" ] || { echo "takes minutes and downloads Debian's packages: LONG=1"; exit 77; }
[ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null || { echo "needs root and mount namespaces, for a chroot"; exit 77; }
command -v mmdebstrap >/dev/null || { echo "needs mmdebstrap"; exit 77; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keyring ] || { echo "needs debian-archive-keyring"; exit 77; }
mirror=$(apt-get -qq --print-uris download base-files 2>/dev/null | sed -n "s|^'\(.*\)/pool/.*|\1|p")
[ -n "$mirror" ] || { echo "apt knows no packages here"; exit 77; }

libraries=$(ldd "$VIREO" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | while read -r file; do
	dpkg -S "$file" "${file#/usr}" "$(realpath "$file")" 2>/dev/null
done | cut -d: -f1 | sort -u | paste -sd,)
tools=fakemachine,debos,kmod,systemd,systemd-resolved,busybox-static,parted,e2fsprogs,dosfstools,udev,fdisk
mmdebstrap --quiet --variant=apt --include="$tools,$libraries" bookworm root >log 2>&1 ||
	{ echo "mmdebstrap failed: $(tail -n 1 log)"; exit 77; }
mkdir -p lists/partial cache/archives/partial
echo "deb [signed-by=$keyring] $mirror bullseye main" >old.list
old() {
	apt-get -qq -o Dir::Etc::sourcelist="$WORK/old.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::State::lists="$WORK/lists" -o Dir::Cache="$WORK/cache" -o Acquire::Check-Valid-Until=false \
		-o APT::Sandbox::User=root "$@"
}
old update && name=$(apt-cache -o Dir::State::lists="$WORK/lists" -o Dir::Etc::sourcelist="$WORK/old.list" \
	-o Dir::Etc::sourceparts=/dev/null -o Dir::Cache="$WORK/cache" search --names-only \
	'^linux-image-5.10.0-[0-9]*-amd64$' | sort -V | tail -n 1 | cut -d' ' -f1) && [ -n "$name" ] &&
	old download "$name" || { echo "Debian 11's kernel cannot be had from $mirror"; exit 77; }
dpkg-deb --fsys-tarfile "$name"_*.deb | tar -C root --keep-directory-symlink -xf - ./boot ./lib/modules
chroot root depmod "${name#linux-image-}"
install "$VIREO" root/usr/local/bin/vireo
ln -s vireo root/usr/local/bin/qemu-system-x86_64
cat >root/root/recipe.yaml <<'END'
architecture: amd64
actions:
  - action: run
    command: mkdir -p "$ROOTDIR/etc"; echo content >"$ROOTDIR/file"
  - action: image-partition
    imagename: out.img
    imagesize: 64MB
    partitiontype: msdos
    mountpoints: [ { mountpoint: /, partition: root } ]
    partitions: [ { name: root, fs: ext4, start: 1MiB, end: 100% } ]
  - action: filesystem-deploy
    setup-kernel-cmdline: false
END

# inside COMMAND...: in the chroot, with the host's devices.
inside() {
	VIREO_ENGINE=soft TMPDIR=/tmp PATH=/usr/local/bin:/usr/sbin:/usr/bin timeout -k 5 300 unshare -m sh -c '
		mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount --rbind /sys "$0/sys" && exec chroot "$0" "$@"
	' "$WORK/root" "$@" </dev/null >log 2>&1
}
inside fakemachine -b qemu --show-boot -- echo in the fakemachine
[ $? = 0 ] && grep -qa '^in the fakemachine' log || complain "fakemachine: $(tail -n 3 log)"
inside fakemachine -b qemu -- false
[ $? = 1 ] || complain "fakemachine's status: $(tail -n 3 log)"
inside sh -c 'cd /root && debos --fakemachine-backend=qemu recipe.yaml'
[ $? = 0 ] || complain "debos: $(tail -n 3 log)"
[ "$(debugfs -R 'cat file' "root/root/out.img?offset=1048576" 2>/dev/null)" = content ] ||
	complain "what debos wrote is not in the image"
((bad)) || echo "ok fakemachine and debos"
exit $bad
