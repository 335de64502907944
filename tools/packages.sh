#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sees to the Debian packages that vireo needs: tools/packages.sh build|run|check, each of which
# includes those before it.  Root installs what is missing, but for build; anyone else is told
# the line that does, status 1.
set -eu

list() {
	cat <<-END
	build gcc compiles vireo
	build libc6-dev the C library's headers
	build make runs the build
	build libzydis-dev decodes x86 instructions
	build libslirp-dev user-mode networking
	build libseccomp-dev confines the processes
	build liburing-dev disks with aio=io_uring
	build zlib1g-dev unpacks compressed clusters of disk images
	build libzstd-dev the same
	build libjansson-dev the control socket's messages
	build libarchive-dev appliances
	build nettle-dev their checksums
	build libxml2-dev those of other products
	END
	[ "$1" = build ] || echo "run busybox-static the guest's programs"
	[ "$1" != check ] || cat <<-END
	check libcmocka-dev unit tests
	check python3 tests of the terminal
	check qemu-utils tests of disk images
	check e2fsprogs makes and checks the file systems of test disks
	check gdb tests of --gdb and of the sandbox
	check acpica-tools iasl checks the ACPI tables
	check stress-ng stresses a guest with several processors
	END
}

command -v dpkg-query >/dev/null || {
	echo "not a Debian system: make sure of these yourself:" >&2
	list "${1:-run}" | sed 's/^[a-z]* /  /' >&2
	exit 0
}
missing=$(list "${1:-run}" | while read -r _ package why; do
	state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$state" = installed ] || { echo "missing: $package ($why)" >&2; echo "$package"; }
done)
[ -n "$missing" ] || exit 0
missing=$(echo "$missing" | tr '\n' ' ')
if [ "$1" = build ] || [ "$(id -u)" != 0 ]; then
	echo "Install what is missing with:" >&2
	echo "  sudo apt-get update && sudo apt-get install --no-install-recommends $missing" >&2
	exit 1
fi
echo "installing $missing" >&2
export DEBIAN_FRONTEND=noninteractive
# Lists may be absent or too old to find the packages.
apt-get install -qq -y --no-install-recommends $missing >/dev/null 2>&1 || {
	apt-get -qq update
	apt-get install -qq -y --no-install-recommends $missing >/dev/null
}
