#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes an initramfs with a network: bench/net-image.sh OUTPUT KERNEL
# busybox, the kernel's virtio modules, a script for udhcpc, and iperf3 with its libraries
# where the host has it.  Needs build/mkinitramfs; no root.
set -eu
out=$(realpath -m "$1")
kernel=$2
cd "$(dirname "$0")/.."
list=$out.list
tools/modules.sh "$kernel" >"$list"
cat >"$out.udhcpc" <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ifconfig $interface $ip netmask $subnet
[ -z "$router" ] || route add default gw $router
[ -z "$dns" ] || echo "nameserver $dns" >/etc/resolv.conf
echo "lease $ip"
END
cat >"$out.netup" <<'END'
#!/bin/sh
ifconfig lo 127.0.0.1
ifconfig eth0 up
udhcpc -i eth0 -n -q -s /etc/udhcpc.sh
END
echo "file /etc/udhcpc.sh $out.udhcpc 755" >>"$list"
echo "file /bin/netup $out.netup 755" >>"$list"
if iperf3=$(command -v iperf3); then
	echo "file /bin/iperf3 $iperf3 755" >>"$list"
	ldd "$iperf3" | grep -o '/[^ ]*' | sort -u | while read -r lib; do
		dir=$(dirname "$lib")
		while [ "$dir" != / ]; do
			echo "dir $dir 755"
			dir=$(dirname "$dir")
		done
		echo "file $lib $lib 755"
	done | sort -u >>"$list"
fi
tools/initramfs.sh "$out" "$list"
