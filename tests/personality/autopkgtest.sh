#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# autopkgtest-virt-qemu (Debian's package autopkgtest) with the QEMU personality: a test runs in a
# Debian 12 of ours, over its consoles and a shared directory.  (Its --baseimage of this version sends a line without
# an end to the shell, and times out with any VM.)  The image gets the kernel that has 9p, by guestfish.  LONG=1 only.
. "$(dirname "$0")/../lib/cli.sh"
[ -n "${LONG:-}" ] || { echo "takes minutes and downloads Debian's packages: LONG=1"; exit 77; }
for tool in autopkgtest autopkgtest-virt-qemu guestfish mmdebstrap qemu-img; do
	command -v $tool >/dev/null || { echo "needs $tool (autopkgtest, guestfish, mmdebstrap, qemu-utils)"; exit 77; }
done
apt-get -qq --print-uris download base-files >uris 2>/dev/null ||
	{ echo "apt knows no packages here"; exit 77; }
ln -s "$VIREO" qemu-system-x86_64
export VIREO_ENGINE=soft LIBGUESTFS_BACKEND=direct LIBGUESTFS_HV=$WORK/qemu-system-x86_64
export LIBGUESTFS_BACKEND_SETTINGS=force_tcg LIBGUESTFS_CACHEDIR=$WORK TMPDIR=$WORK

# The shell that it starts outlives its login only where logind is.
LIMIT=900 run_vireo image create debian12 --size 4G --password sesame \
	--packages python3,dbus,libpam-systemd,dpkg-dev,linux-image-amd64 adt.qcow2
[ "$status" = 0 ] || { cat err; exit 1; }
in_image() { timeout 180 guestfish --ro -a adt.qcow2 -m /dev/sda "$@" </dev/null; }
release=$(in_image ls /boot | sed -n '/cloud/d; s/^vmlinuz-//p' | head -n 1)
in_image copy-out "/boot/vmlinuz-$release" "/boot/initrd.img-$release" . || { echo "no kernel in the image"; exit 1; }
mv "vmlinuz-$release" adt.qcow2.kernel
mv "initrd.img-$release" adt.qcow2.initrd

mkdir -p pkg/debian/tests
printf 'Source: trivial\nSection: misc\nPriority: optional\nMaintainer: A <a@example.org>\nStandards-Version: 4.6.2\n\nPackage: trivial\nArchitecture: all\nDescription: nothing\n' >pkg/debian/control
printf 'trivial (1.0) unstable; urgency=low\n\n  * Nothing.\n\n -- A <a@example.org>  Sat, 01 Jan 2022 00:00:00 +0000\n' >pkg/debian/changelog
printf 'Tests: smoke\nDepends: base-files\nRestrictions: needs-root, allow-stderr\n' >pkg/debian/tests/control
printf '#!/bin/sh\nset -e\ntest "$(id -u)" = 0\necho works in the guest\n' >pkg/debian/tests/smoke
chmod +x pkg/debian/tests/smoke
timeout 900 autopkgtest -o result -B pkg// -- qemu --qemu-command="$WORK/qemu-system-x86_64" --user=root \
	--password=sesame --timeout-reboot=300 --ram-size=768 --cpus=1 "$WORK/adt.qcow2" </dev/null >log 2>&1
status=$?
[ $status = 0 ] && grep -q '^smoke *PASS' result/summary && grep -q 'works in the guest' log ||
	complain "autopkgtest: status $status, $(tail -n 3 log)"
((bad)) || echo "ok autopkgtest"
exit $bad
