#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make check-tsan: with the thread sanitizer, the unit tests of what has threads, and the guest
# images with two processors, interpreted.  (Translated code is not watched.)  Any report of
# a race is a failure; tsan.supp has what is none.
set -u
cd "$(dirname "$0")/../.." || exit 2
work=$BUILD/tests/tsan
mkdir -p "$work"
export TSAN_OPTIONS="suppressions=$PWD/tests/lib/tsan.supp exitcode=66 die_after_fork=0 ${TSAN_OPTIONS:-}"
bad=0

judge() {	# NAME STATUS WANTED LOG
	if [ "$2" = "$3" ] && ! grep -q 'WARNING: ThreadSanitizer' "$4"; then
		echo "ok tsan/$1"
	else
		grep -m 5 'SUMMARY\|FAILED\|not ok' "$4"
		echo "not ok tsan/$1: status $2, see $4"
		bad=1
	fi
}

for folder in base dev backend virtio machine mgmt kvm; do
	for source in tests/unit/"$folder"/*.c; do
		name=$folder/$(basename "$source" .c)
		[ $name = machine/set_engine ] && continue	# runs translated code
		[ $name = mgmt/session ] && continue	# gives a guest 300 ms
		[ $name = kvm/real ] && continue	# what KVM writes is not watched
		[ $name = base/confine ] && continue	# forbids what the sanitizer does
		log=$work/${name/\//-}.log
		timeout 600 "$BUILD/tests/unit/$name" </dev/null >"$log" 2>&1
		judge "$name" $? 0 "$log"
	done
done
make -s -C tests/guest BUILD="$(realpath "$BUILD")" >&2 || exit 2
for image in smp64 smpatomic64 smpcode64 timers64; do
	timeout 600 "$BUILD/vireo" run --engine soft --translator off --sandbox off --cpus 2 --memory 64M --debug-exit \
		--kernel "$BUILD/guest/$image.elf" </dev/null >"$work/$image.log" 2>&1
	judge "guest/$image" $? 1 "$work/$image.log"
done
((bad == 0))
