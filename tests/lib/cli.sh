# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# For tests of the command: expectations, and tiny Multiboot guests made of bytes.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
BUILD=$(realpath "${BUILD:-build}")
VIREO=$BUILD/vireo
TOP=$PWD
WORK=$(mktemp -d) || exit 1
trap 'rm -rf "$WORK"' EXIT
cd "$WORK" || exit 1
bad=0

complain() { echo "FAIL: $*"; bad=1; }

le32() { printf '%02x%02x%02x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }

# from_hex FILE HEX...: the bytes.
from_hex() {
	local file=$1 hex
	shift
	hex=$(printf '%s' "$@" | tr -d ' \n')
	printf '%b' "$(sed 's/../\\x&/g' <<<"$hex")" >"$file"
}

# guest FILE HEX: a Multiboot kernel that runs these bytes in 32-bit protected mode, at
# 0x100020.
guest() {
	local code=${2//[ ]/} size
	size=$((32 + ${#code} / 2))
	from_hex "$1" "$(le32 $((0x1badb002)))" "$(le32 $((0x10000)))" \
		"$(le32 $((-(0x1badb002 + 0x10000) & 0xffffffff)))" "$(le32 $((0x100000)))" \
		"$(le32 $((0x100000)))" "$(le32 $((0x100000 + size)))" "$(le32 0)" \
		"$(le32 $((0x100020)))" "$code"
}

# run_vireo ARGS...: sets status, and files out and err.
run_vireo() {
	timeout -k 5 "${LIMIT:-60}" "$VIREO" "$@" >out 2>err </dev/null
	status=$?
}

# expect STATUS PATTERN ARGS...: one sentence on stderr that matches, nothing on stdout.
expect() {
	local want=$1 pattern=$2
	shift 2
	run_vireo "$@"
	[ "$status" = "$want" ] || complain "vireo $*: status $status, not $want: $(cat err)"
	[ "$(wc -l <err)" = 1 ] || complain "vireo $*: not one line: $(cat err)"
	grep -qE -- "$pattern" err || complain "vireo $*: '$(cat err)' does not match '$pattern'"
	[ -s out ] && complain "vireo $*: something on stdout: $(head -c 200 out)"
	return 0
}
