#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# HACKING.md's map and the source agree: each folder of src has its row, each three files with the same
# first word are a group there, each file of the translator is named; and what the documents name is
# there.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
complain() { echo "$1"; bad=1; }

row() { grep "^| \`$1\` " HACKING.md; }

while read -r folder; do
	name=${folder#src/}
	[ -n "$(row "$name")" ] || [[ $name == */* && -n $(row "${name%/*}") ]] ||
		complain "HACKING.md: the map has no row for $name"
	for word in $(find "$folder" -maxdepth 1 -type f -printf '%f\n' | sed 's/[._].*//' | sort | uniq -c |
		      awk '$1 >= 3 { print $2 }'); do
		row "$name" | grep -q "\`$word\*\`" || complain "HACKING.md: no group $word* of $name"
	done
	for group in $(row "$name" | grep -o '`[a-z0-9_]*\*`' | tr -d '`*'); do
		compgen -G "$folder/$group*" >/dev/null || complain "HACKING.md: $name has no $group*"
	done
done < <(find src -type f -printf '%h\n' | sort -u)

for file in src/engine/soft/dbt_*.c; do
	grep -q "\`${file##*/}\`" HACKING.md || complain "HACKING.md does not name ${file##*/}"
done

# `dbt_run.c`, `mgmt/gdb.c`, `tests/boot/opts.sh` and the like.
for path in $(grep -ohE '`[a-z0-9_/-]+\.(c|h|sh|py|def)`' HACKING.md docs/*.md README.md | tr -d '`' |
	      grep -vE '\b(foo|chip)(_priv)?\.' | sort -u); do
	[ -e "$path" ] || compgen -G "src/$path" >/dev/null || compgen -G "src/*/$path" >/dev/null ||
		compgen -G "src/*/*/$path" >/dev/null || compgen -G "tests/*/$path" >/dev/null ||
		compgen -G "tests/*/*/$path" >/dev/null || compgen -G "bench/$path" >/dev/null ||
		complain "the documents name $path, which is not there"
done
exit $bad
