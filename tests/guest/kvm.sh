#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The guest images on KVM: each check's answer must be the software engine's with the same
# processor model, or known-kvm says why not.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=$(realpath "${BUILD:-build}")
known=tests/guest/known-kvm

if [ ! -e /dev/kvm ]; then
	echo "there is no /dev/kvm"
	exit 77
elif [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
	echo "/dev/kvm may not be opened"
	exit 77
fi
make -s -C tests/guest BUILD="$build" >&2 || exit 2

# boot ENGINE IMAGE: the console's checks to stdout.
boot() {
	local cpus=1

	[[ $2 == smp* ]] && cpus=${CPUS:-2}
	timeout 100 "$build/vireo" run --engine "$1" --cpu "$model" --memory 64M --cpus $cpus \
		--debug-exit --kernel "$build/guest/$2.elf" </dev/null 2>"$build/guest/$2.$1.err" | tr -d '\r'
}

model=vireo-v1
boot kvm smc64 >/dev/null
if grep -q 'cannot give a guest' "$build/guest/smc64.kvm.err"; then
	model=vireo-v0
	echo "# with --cpu vireo-v0: $(sed -n 's/^vireo: //p' "$build/guest/smc64.kvm.err" | tail -n 1)"
fi

# reason IMAGE CHECK: why it may differ; nothing: it may not.
reason() {
	local image pattern why

	while read -r image pattern why; do
		# shellcheck disable=SC2053
		if [ "$image" = "$1" ] && [[ $2 == $pattern ]]; then
			echo "$why"
			return
		fi
	done < <(grep -v '^#' $known)
}

bad=0
# compare IMAGE: against soft's answers, check by check.
compare() {
	local line name other why ended=

	while IFS= read -r line; do
		[[ $line == "ok "* || $line == "not ok "* ]] || continue
		name=${line#not } name=${name#ok } name=${name%%:*} name=${name%% *}
		[ "$name" = unexpected ] && continue
		other=$(grep -E "^(not )?ok $name(:| |$)" "$build/guest/$1.kvm.log" | head -n 1)
		if [ "${line%% *}" = "${other%% *}" ]; then
			echo "ok $1/$name"
			continue
		fi
		why=$(reason "$1" "$name")
		if [ -z "$why" ] && [ -z "$other" ]; then
			why=$(reason "$1" ends)
			[ -n "$why" ] && ended=1
		fi
		if [ -n "$why" ]; then
			[ -z "$ended" ] && echo "ok $1/$name # known on KVM: $why"
		else
			echo "not ok $1/$name: soft '$line', kvm '$other'"
			bad=$((bad + 1))
		fi
	done <"$build/guest/$1.soft.log"
	[ -n "$ended" ] && echo "ok $1/ends # known on KVM: $(reason "$1" ends)"
}

for source in tests/guest/*64.c tests/guest/*32.c; do
	image=$(basename "$source" .c)
	if [[ $image == smp?* && $image != smp64 && -z ${LONG:-} ]]; then
		echo "ok $image # skip: takes minutes where KVM emulates: LONG=1"
		continue
	fi
	for engine in soft kvm; do
		boot $engine "$image" >"$build/guest/$image.$engine.log"
	done
	compare "$image"
done
((bad == 0))
