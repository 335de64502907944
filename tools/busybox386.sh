#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the path of the static busybox of Debian's i386, getting it first if need be: the package is
# downloaded and unpacked into the cache (VIREO_CACHE, else ~/.cache/vireo), never installed; no
# root.  BUSYBOX386 names another.
set -eu
cache=${VIREO_CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/vireo}
mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] ||
	cache=$(cd "$(dirname "$0")/.." && pwd)/build/cache
busybox=${BUSYBOX386:-$cache/busybox-i386}
if [ -x "$busybox" ]; then
	echo "$busybox"
	exit 0
fi
work=$cache/work.$$
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial"
opts="-o APT::Architecture=i386 -o APT::Architectures=i386 -o Dir::State::lists=$work/lists
	-o Dir::Cache=$work -o APT::Sandbox::User= -qq"
cd "$work"
timeout 100 apt-get $opts update >&2 || true	# one list of several may not be had
timeout 100 apt-get $opts download busybox-static >&2
dpkg -x busybox-static_*_i386.deb x
mv x/bin/busybox "$busybox"
echo "$busybox"
