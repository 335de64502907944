#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Help: on stdout with status 0, an example in each, every option in the manual page.
. "$(dirname "$0")/../lib/cli.sh"

says() {
	local pattern=$1
	shift
	run_vireo "$@"
	[ "$status" = 0 ] || complain "vireo $*: status $status"
	[ -s err ] && complain "vireo $*: something on stderr: $(cat err)"
	grep -qE -- "$pattern" out || complain "vireo $*: does not say '$pattern'"
	return 0
}

says "^vireo $(cat "$TOP/VERSION")\$" --version
says '^Exit status:' help
says '^Example' help
says '^Example' --help
for command in run kernel exec cp create start stop kill pause resume reset rm console ls ps top completion inspect logs edit \
	set trace stats image switch spool doctor audit; do
	says '^Example' "$command" --help
	says '^Example' help "$command"
	says "^  $command " help
	run_vireo "$command" --help
	[ "$(wc -L <out)" -le 100 ] || complain "vireo $command --help is wider than 100 columns"
	for option in $(sed -n 's/^  --\([a-z-]*\).*/\1/p' out); do
		sed 's/\\-/-/g' "$TOP/man/vireo.1" | grep -q -- "--$option" ||
			complain "man/vireo.1 does not know $command --$option"
	done
done
for sub in create info check convert resize commit; do
	says '^Example' image $sub --help
	[ "$(wc -L <out)" -le 100 ] || complain "vireo image $sub --help is wider than 100 columns"
	for option in $(sed -n 's/^  --\([a-z-]*\).*/\1/p' out); do
		sed 's/\\-/-/g' "$TOP/man/vireo.1" | grep -q -- "--$option" ||
			complain "man/vireo.1 does not know image $sub --$option"
	done
done
for sub in ls rm hold release put-out; do
	says '^Example' spool $sub --help
done
run_vireo
[ "$status" = 2 ] || complain "vireo without a command: status $status"
exit $bad
