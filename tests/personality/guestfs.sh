#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# libguestfs (Debian's packages guestfish, libguestfs-tools) with the QEMU personality as its
# hypervisor: a disk image is looked into, written to, and a new one is partitioned and filled.
. "$(dirname "$0")/../lib/cli.sh"
PATH=$PATH:/usr/sbin:/sbin
for tool in guestfish virt-cat virt-ls virt-df mke2fs debugfs e2fsck; do
	command -v $tool >/dev/null || { echo "needs $tool (guestfish, libguestfs-tools, e2fsprogs)"; exit 77; }
done
compgen -G '/boot/vmlinuz-*' >/dev/null && compgen -G '/lib/modules/*/kernel/drivers/scsi' >/dev/null ||
	{ echo "supermin wants a kernel in /boot and its modules on the host"; exit 77; }
ln -s "$VIREO" qemu-system-x86_64
unset VIREO_ENGINE
export LIBGUESTFS_BACKEND=direct LIBGUESTFS_HV=$WORK/qemu-system-x86_64 LIBGUESTFS_CACHEDIR=$WORK/cache TMPDIR=$WORK
# It asks for KVM first where there is a device, however slow.
export LIBGUESTFS_BACKEND_SETTINGS=force_tcg
mkdir -p cache files/etc
echo "of the host" >files/etc/greeting
mke2fs -q -F -t ext4 -d files disk.img 32M >/dev/null 2>&1 || { echo "no image"; exit 1; }

# try NAME PATTERN COMMAND...: its output matches.
try() {
	local name=$1 pattern=$2
	shift 2
	local began=$SECONDS
	if timeout 180 "$@" </dev/null >out 2>err && grep -qE -- "$pattern" out; then
		echo "ok guestfs/$name	# $((SECONDS - began)) s"
	else
		complain "guestfs/$name: $(tail -n 2 out) $(tail -n 3 err)"
	fi
}

try list '^greeting$' guestfish --ro -a disk.img -m /dev/sda ls /etc
if ((bad)) && grep -q 'supermin' err && ! grep -q qemu err; then
	echo "supermin makes no appliance here: $(tail -n 1 err)"
	exit 77
fi
try cat '^of the host$' virt-cat -a disk.img -m /dev/sda /etc/greeting
[ -z "${LONG:-}" ] || try ls '^lost\+found$' virt-ls -a disk.img -m /dev/sda /
try df '^disk.img:/dev/sda' virt-df -a disk.img
try write '^true$' guestfish -a disk.img -m /dev/sda write /etc/new 'from the guest' : exists /etc/new
[ "$(debugfs -R 'cat /etc/new' disk.img 2>/dev/null)" = 'from the guest' ] && e2fsck -fn disk.img >/dev/null 2>&1 ||
	complain "guestfs/write: the host does not find it"
try new '^/dev/sda1: ext4$' guestfish -N new.img=part:40M mkfs ext4 /dev/sda1 : mount /dev/sda1 / : \
	mkdir-p /a/b : list-filesystems
exit $bad
