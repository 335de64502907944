#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Help: on stdout with status 0, an example in each; commands.py looks at each command's own.
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
for command in $("$VIREO" help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
	[ "$command" = help ] || says '^Example' help "$command"
done
run_vireo
[ "$status" = 2 ] || complain "vireo without a command: status $status"
exit $bad
