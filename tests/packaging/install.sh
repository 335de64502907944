#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make install into a folder: what is there, that it runs from there, that the unit names it.
. "$(dirname "$0")/../lib/cli.sh"
make -s -C "$TOP" BUILD="$BUILD" SAN="${SAN:-0}" DESTDIR="$WORK/dest" PREFIX=/opt/v install >out 2>&1 ||
	complain "make install: $(tail -n 5 out)"
d=$WORK/dest/opt/v
for f in bin/vireo share/man/man1/vireo.1 share/vireo/vm.schema.json share/doc/vireo/README.md \
	share/doc/vireo/threat-model.md share/doc/vireo/examples/kvm-min.c \
	lib/systemd/user/vireo@.service; do
	[ -s "$d/$f" ] || complain "no $f"
done
[ "$(find "$WORK/dest" -type f -perm /022 | wc -l)" = 0 ] || complain "files that others may write"
"$d/bin/vireo" --version >out 2>&1 || complain "the installed program: $(cat out)"
unit=$d/lib/systemd/user/vireo@.service
grep -q '^ExecStart=/opt/v/bin/vireo start --foreground %i$' "$unit" || complain "unit: $(cat "$unit")"
grep -q @ <<<"$(grep ^Exec "$unit")" && complain "something was not replaced in the unit"
if command -v systemd-analyze >/dev/null; then
	sed "s|/opt/v/bin/vireo|$d/bin/vireo|" "$unit" >vireo@.service
	systemd-analyze verify --user --man=no "$WORK/vireo@.service" >out 2>&1 ||
		grep -q 'vireo@' out && complain "systemd-analyze: $(cat out)"
fi
"$d/bin/vireo" start --help | grep -q -- --foreground || complain "start has no --foreground"
exit $bad
