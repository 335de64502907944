#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes a Debian 12 system: sh debian12.sh FOLDER leaves root.ext4, kernel, initrd and cmdline
# in FOLDER.  It is part of the vireo program ("vireo image create debian12"), which sets
#   SIZE           of the file system, in bytes
#   NAME           of the host
#   PASSWORD       root's; empty: none is asked for on the console, and none is good for ssh
#   SSH_KEY        file with public keys that may log in as root; empty: none
#   MIRROR         "deb ..." line or address; empty: what the host's apt uses, else Debian's own
#   PACKAGES       more packages, with commas between
#
# Root is not needed: mmdebstrap then works in a user namespace, or with fakechroot where there
# are none, and the file system is filled under fakeroot.
set -eu
out=$1
suite=bookworm
say() { echo "vireo: $*" >&2; }
fail() { say "$*"; exit 1; }

need=
for tool in mmdebstrap:mmdebstrap mke2fs:e2fsprogs; do
	PATH=$PATH:/sbin:/usr/sbin command -v "${tool%:*}" >/dev/null || need="$need ${tool#*:}"
done
mode=root how="as root"
if [ "$(id -u)" != 0 ]; then
	command -v fakeroot >/dev/null || need="$need fakeroot"
	# User name spaces are quicker; fakechroot does where they are forbidden.
	if command -v newuidmap >/dev/null && unshare -U true 2>/dev/null; then
		mode=unshare how="without root, in a user name space"
	else
		mode=fakechroot how="without root, with fakechroot"
		command -v fakechroot >/dev/null || need="$need uidmap"
	fi
fi
[ -z "$need" ] || fail "a Debian system is made with packages that are missing here:$need" \
	"(apt-get install$need)"
export PATH="$PATH:/sbin:/usr/sbin"

work=$(mktemp -d "${TMPDIR:-/var/tmp}/vireo-debian.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"	# apt, or the name space's root, is not this user
trap 'exit 1' INT TERM HUP

# What the host's apt uses for this suite, one-line and deb822 style; and how it gets there.
host_sources() {
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ ! -r "$f" ] || grep -hE "^deb .* $suite" "$f" || true
	done
	for f in /etc/apt/sources.list.d/*.sources; do
		[ ! -r "$f" ] || awk -v suite="$suite" -v RS= '$0 ~ "Suites:[^\n]*" suite && $0 ~ "debian" {
			gsub(/(^|\n)#[^\n]*/, ""); print $0 "\n" }' "$f"
	done
}
sources=$work/debian.list
if [ -n "$MIRROR" ]; then
	case $MIRROR in
	deb\ *) echo "$MIRROR" ;;
	*) echo "deb $MIRROR $suite main" ;;
	esac >"$sources"
else
	host_sources >"$work/all"
	# mmdebstrap reads a file in the one style or in the other, by its name.
	grep -E '^deb ' "$work/all" >"$sources" || true
	if [ ! -s "$sources" ] && [ -s "$work/all" ]; then
		sources=$work/debian.sources
		cp "$work/all" "$sources"
	fi
	[ -s "$sources" ] || echo "deb http://deb.debian.org/debian $suite main" >"$sources"
fi
apt-config dump Acquire 2>/dev/null |
	grep -E '^Acquire::([a-z]+::(Proxy|Proxy-Auto-Detect|Verify-Peer|CaInfo|Timeout)|Retries)' \
	>"$work/apt.conf" || true

mkdir -p "$work/files/etc/systemd/network" "$work/files/etc/initramfs-tools/conf.d"
cat >"$work/files/etc/systemd/network/80-dhcp.network" <<-END
	[Match]
	Type=ether
	[Network]
	DHCP=yes
END
cat >"$work/files/etc/initramfs-tools/conf.d/vireo" <<-END
	MODULES=list
	COMPRESS=zstd
	RESUME=none
END
printf '%s\n' virtio_pci virtio_mmio virtio_blk ext4 >"$work/files/etc/initramfs-tools/modules"
printf '%s\n' 9p 9pnet_virtio virtio_console virtio_balloon virtio-rng i6300esb \
	>"$work/virtio.conf"
uuid=$(cat /proc/sys/kernel/random/uuid)
echo "UUID=$uuid / ext4 errors=remount-ro 0 1" >"$work/files/etc/fstab"
echo "$NAME" >"$work/files/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost\n' "$NAME" >"$work/files/etc/hosts"
tar -C "$work/files" --owner=0 --group=0 -cf "$work/files.tar" etc

# Runs in the new system, before it is packed up.
cat >"$work/setup" <<-'END'
	set -eu
	systemctl -q enable systemd-networkd systemd-resolved ssh
	# The serial consoles' logins come by themselves, for those that there are.
	systemctl -q disable getty@tty1 systemd-networkd-wait-online 2>/dev/null || true
	systemctl -q mask getty@tty1
	if [ -s /root/.password ]; then
		echo "root:$(cat /root/.password)" | chpasswd
		echo "PermitRootLogin yes" >/etc/ssh/sshd_config.d/vireo.conf
	else
		passwd -qd root
	fi
	rm -f /root/.password
	: >/etc/machine-id
	apt-get clean
	rm -rf /var/lib/apt/lists/* /var/log/apt/* /var/log/*.log /var/cache/debconf/*-old
	ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
END
printf %s "$PASSWORD" >"$work/password"
: >"$work/keys"
[ -z "$SSH_KEY" ] || cat "$SSH_KEY" >"$work/keys"
chmod 600 "$work/password" "$work/keys"

say "making a Debian 12 system $how, from $(sed -nE 's/^URIs: *//p; s/^deb (\[[^]]*\] )?([^ ]*) .*/\2/p' \
	"$sources" | sort -u | tr '\n' ' ')"
if [ $mode = root ]; then
	target=$work/root format=directory
else
	target=$work/root.tar format=tar
fi
verbosity=
[ -t 2 ] || verbosity=--quiet
list=systemd-sysv,udev,dbus,openssh-server,systemd-resolved,initramfs-tools,zstd,iproute2
list=$list,linux-image-cloud-amd64,e2fsprogs,kmod,procps,iputils-ping,less,ca-certificates
# What is put in before the packages' own scripts run decides how the initrd is made.
mmdebstrap $verbosity --mode=$mode --variant=minbase --format=$format \
	--include="$list${PACKAGES:+,$PACKAGES}" \
	--aptopt="$work/apt.conf" --aptopt='Apt::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt=force-confold \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--extract-hook="tar-in '$work/files.tar' /" \
	--customize-hook="upload '$work/virtio.conf' /etc/modules-load.d/virtio.conf" \
	--customize-hook="upload '$work/password' /root/.password" \
	--customize-hook='mkdir -p -m 700 "$1/root/.ssh"' \
	--customize-hook="upload '$work/keys' /root/.ssh/authorized_keys" \
	--customize-hook="upload '$work/setup' /root/setup" \
	--customize-hook='chroot "$1" sh /root/setup; rm "$1/root/setup"' \
	--customize-hook="download /vmlinuz '$out/kernel'" \
	--customize-hook="download /initrd.img '$out/initrd'" \
	"$suite" "$target" "$sources" || fail "mmdebstrap could not make the system"

say "making the file system"
truncate -s "$SIZE" "$out/root.ext4"
fill='mke2fs -q -t ext4 -U "$1" -L debian12 -m 1 -E assume_storage_prezeroed=1 -d "$2" "$3"'
if [ $mode = root ]; then
	sh -c "$fill" - "$uuid" "$target" "$out/root.ext4"
else
	mkdir "$work/root"
	fakeroot sh -c 'tar -C "$2" -xpf "$2.tar" && '"$fill" - "$uuid" "$work/root" "$out/root.ext4"
fi || fail "the file system could not be filled (is $SIZE bytes enough?)"
echo "root=UUID=$uuid rw console=ttyS0" >"$out/cmdline"
