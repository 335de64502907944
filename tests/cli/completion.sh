#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Completion: each shell takes its script; bash completes commands, options, words and VMs' names;
# zsh and fish are asked where they are installed.
. "$(dirname "$0")/../lib/cli.sh"
export XDG_RUNTIME_DIR=$WORK/run XDG_DATA_HOME=$WORK/data PATH=$BUILD:$PATH
mkdir -m 700 "$XDG_RUNTIME_DIR"
guest busy 'e6 80 eb fc'
"$VIREO" create web --kernel busy || complain "create"
"$VIREO" create worker --kernel busy || complain "create"

expect 2 "needs a bash|zsh|fish" completion
expect 2 "'csh' is no shell" completion csh
for shell in bash zsh fish; do
	"$VIREO" completion $shell >script.$shell || complain "completion $shell: status $?"
	command -v $shell >/dev/null || { echo "$shell was not tried: it is not here"; continue; }
	$shell -n script.$shell || complain "$shell does not take its script"
done

. ./script.bash
# gives WORDS... = what follows the last word.
gives() {
	local wanted=$1
	shift
	COMP_WORDS=(vireo "$@")
	COMP_CWORD=$#
	_vireo
	[ "${COMPREPLY[*]}" = "$wanted" ] || complain "vireo $*: '${COMPREPLY[*]}', not '$wanted'"
}
gives 'start stop stats' st
gives '--timeout' stop --t
gives 'web worker' stop ''
gives 'web' start we
gives '--kernel' run --ker
gives '--kernel' create --ker
gives 'json' ls --format j
gives 'copy overlay in-place' create --disks ''
gives 'create check convert commit' image c
gives '--backing --backing-type' image create --back
gives 'zsh' completion z
# Every command, and every option of each, is there.
for command in $("$VIREO" help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
	gives "$command" "$command"
	[ "$command" = help ] && continue
	for option in $("$VIREO" "$command" --help | sed -n 's/^  \(-[a-z], \)\?\(--[a-z-]*\).*/\2/p'); do
		COMP_WORDS=(vireo "$command" "$option") COMP_CWORD=2
		_vireo
		[[ " ${COMPREPLY[*]} " == *" $option "* ]] || complain "bash does not know $command $option"
		grep -q -- "--*[^ ]*${option#--}" script.zsh || complain "zsh does not know $command $option"
		grep -q -- "seen_subcommand_from $command'.* -l ${option#--}" script.fish || [ "$option" = --help ] ||
			complain "fish does not know $command $option"
	done
done
if command -v fish >/dev/null; then
	said=$(HOME=$WORK fish -c "source script.fish; complete -C 'vireo sta'" 2>&1 | cut -f 1 | sort | tr '\n' ' ')
	[ "$said" = 'start stats ' ] || complain "fish completes sta to '$said'"
	said=$(HOME=$WORK fish -c "source script.fish; complete -C 'vireo stop we'" 2>&1 | cut -f 1 | tr '\n' ' ')
	[ "$said" = 'web ' ] || complain "fish completes a name to '$said'"
fi
exit $bad
