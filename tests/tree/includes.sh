#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Includes point only down: base < x86 < mem < cpu < {engine, dev, backend} < virtio < boot <
# machine < mgmt.
# Private headers (_priv.h) stay in their folder.
set -u
cd "$(dirname "$0")/../.." || exit 1

level() {
	case $1 in
	base) echo 0 ;; x86) echo 1 ;; mem) echo 2 ;; cpu) echo 3 ;;
	engine | dev | backend) echo 4 ;; virtio) echo 5 ;; boot) echo 6 ;; machine) echo 7 ;;
	mgmt | guest) echo 8 ;;
	*) echo "" ;;
	esac
}

bad=0
complain() { echo "$1"; bad=1; }

while IFS=: read -r file line text; do
	from=${file#src/} from=${from%%/*}
	to=${text#*\"} to=${to%%\"*}
	folder=${to%/*} top=${to%%/*}
	a=$(level "$from") b=$(level "$top")
	if [ "$folder" = "$to" ] || [ ! -f "src/$to" ]; then
		complain "$file:$line: \"$to\" is not named from src/"
	elif [ -z "$a" ] || [ -z "$b" ]; then
		complain "$file:$line: a folder without a place in the order"
	elif [ "$from" != "$top" ] && [ "$b" -ge "$a" ]; then
		complain "$file:$line: $from may not include $to"
	elif [[ $to == *_priv.h && $folder != "$(dirname "${file#src/}")" ]]; then
		complain "$file:$line: $to is private to its folder"
	fi
done < <(grep -rnE '^#[[:space:]]*include "' src --include='*.[ch]')
exit $bad
