#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the Debian package in the folder OUTPUT, from a copy of what git knows of the source:
# tools/deb.sh OUTPUT.  Needs dpkg-dev and debhelper.
set -eu
out=$(realpath -m "$1")
cd "$(dirname "$0")/.."
rm -rf "$out"
mkdir -p "$out/vireo"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$out/vireo"
cd "$out/vireo"
exec dpkg-buildpackage -us -uc -b
