#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the path of Debian's kernel image, getting it first if need be:
# tools/kernel.sh [cloud|standard|686].  The package is downloaded and unpacked into the cache
# (VIREO_CACHE, else ~/.cache/vireo), never installed; no root.  Offline once it is there.
# Beside it are those modules of tools/modules.list that the package has.  A kernel that was
# kept with a shorter list is got again, or used as it is where that fails, for a day.
# 686 is the 32-bit kernel (without PAE), of Debian's i386.
set -eu
flavour=${1:-cloud}
arch=
case $flavour in
cloud) meta=linux-image-cloud-amd64 ;;
standard) meta=linux-image-amd64 ;;
686) meta=linux-image-686 arch="-o APT::Architecture=i386 -o APT::Architectures=i386" ;;
*) echo "tools/kernel.sh: '$flavour' is none of cloud, standard and 686" >&2; exit 2 ;;
esac
cache=${VIREO_CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/vireo}
mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] ||
	cache=$(cd "$(dirname "$0")/.." && pwd)/build/cache
dir=$cache/kernel-$flavour
list=$(dirname "$0")/modules.list
whole() {
	[ -z "$(sort "$list" | comm -23 - "$dir/modules" 2>&1)" ] || [ -n "$(find "$dir/tried" -mmin -1440 2>/dev/null)" ]
}
if [ -f "$dir/vmlinuz" ] && whole; then
	echo "$dir/vmlinuz"
	exit 0
fi

work=$cache/work.$$
finish() {
	rc=$?
	rm -rf "$work"
	if [ $rc != 0 ] && [ -f "$dir/vmlinuz" ]; then
		echo "using the kernel in $dir without its modules" >&2
		touch "$dir/tried"
		echo "$dir/vmlinuz"
		exit 0
	fi
	exit $rc
}
trap finish EXIT
mkdir -p "$work"

# Without package lists on this machine, an ordinary user still may keep some of his own; there
# are none of another architecture.
lists=$arch
depends() { apt-cache $lists depends "$meta" 2>/dev/null |
	sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1; }
package=
[ -n "$arch" ] || package=$(depends)
if [ -z "$package" ]; then
	echo "getting Debian's package lists" >&2
	mkdir -p "$work/lists/partial" "$work/archives/partial"
	lists="$arch -o Dir::State::lists=$work/lists -o Dir::Cache=$work -o APT::Sandbox::User="
	apt-get $lists -qq update >&2 || true	# one list of several may not be had
	package=$(depends)
fi
[ -n "$package" ] || { echo "no package $meta is known here: is this Debian 12, and online?" >&2
	exit 1; }

echo "getting $package" >&2
(cd "$work" && apt-get $lists -o APT::Sandbox::User= -qq download "$package" >&2)
dpkg-deb --fsys-tarfile "$work/$package"_*.deb |
	tar -x -C "$work" --wildcards ./boot '*.ko'
mkdir -p "$dir"
# What was asked for, here or by another version of this script, whether it is there or not.
cat "$list" "$dir/modules" 2>/dev/null | sed 's/\.ko$//' | sort -u >"$work/asked"
while read -r name; do
	find "$work/lib" -name "$name.ko" -exec mv {} "$dir/" \;
done <"$work/asked"
mv "$work/asked" "$dir/modules"
echo "$package" >"$dir/package"
mv "$work"/boot/config-* "$dir/config"
mv "$work"/boot/vmlinuz-* "$dir/vmlinuz"
echo "$dir/vmlinuz"
