#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The Debian package: it builds, lintian finds nothing, and what it has in it runs.  With LONG=1,
# since all is compiled once more; DEB=FILE looks at a package that is there.
. "$(dirname "$0")/../lib/cli.sh"
if [ -z "${DEB:-}" ]; then
	[ -n "${LONG:-}" ] || { echo "only with LONG=1: compiles everything again"; exit 77; }
	for tool in dpkg-buildpackage dh git; do
		command -v $tool >/dev/null || { echo "no $tool"; exit 77; }
	done
	"$TOP/tools/deb.sh" "$WORK/deb" >log 2>&1 </dev/null || {
		echo "FAIL: dpkg-buildpackage: $(tail -n 20 log)"
		exit 1
	}
	DEB=$(echo "$WORK"/deb/vireo_*_amd64.deb)
fi
dpkg-deb -x "$DEB" x || complain "dpkg-deb -x"
x/usr/bin/vireo --version >out 2>&1 || complain "the packaged program: $(cat out)"
dpkg-deb -f "$DEB" Depends | grep -q libslirp0 || complain "its libraries are not depended on"
# No drop of packages to install at what a user has: nothing but files, no scripts, no setuid.
dpkg-deb -e "$DEB" control
ls control/preinst control/postinst 2>/dev/null && complain "it runs scripts"
[ -z "$(find x -perm /7000)" ] || complain "setuid or setgid: $(find x -perm /7000)"
if command -v lintian >/dev/null; then
	lintian --fail-on error,warning "$DEB" >out 2>&1 || complain "lintian: $(cat out)"
else
	echo "(no lintian here)"
fi
exit $bad
