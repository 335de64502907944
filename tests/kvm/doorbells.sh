#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A driver's doorbells do not leave the guest on KVM, at PCI's place for them wherever the BAR is
# moved, and where KVM has local APICs of its own the device's interrupts come by descriptor.
cd "$(dirname "$0")/../.." || exit 2
build=$(realpath "${BUILD:-build}")
if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
	echo "there is no /dev/kvm that may be opened"
	exit 77
fi
make -s -C tests/guest BUILD="$build" >&2 || exit 2
mkdir -p "$build/tests/kvm"
bad=0

# counters ENGINE: into $log.
counters() {
	log=$build/tests/kvm/doorbells.$1
	timeout 120 "$build/vireo" run --engine "$1" --cpu vireo-v0 --stats --memory 64M --debug-exit \
		--kernel "$build/guest/virtio64.elf" </dev/null >"$log" 2>&1
	grep -q '^passed' "$log" || { echo "not ok doorbells/$1: $(tail -n 3 "$log")"; bad=1; }
}
count() { sed -n "s/^ *\\([0-9]*\\)  $1\$/\\1/p" "$log"; }

# On soft each request is a doorbell, a look at the queue's place and an end of interrupt.
counters soft
all=$(count 'device memory accesses')
counters kvm
left=$(count 'device memory accesses')
routed=$(count 'interrupts by file descriptor')
# Without KVM's APICs the ends of interrupts leave the guest, too.
most=$((all * 3 / 4))
((routed)) && most=$((all / 2))
if ((left < most)); then
	echo "ok doorbells/stay-inside ($left of $all accesses left the guest)"
else
	echo "not ok doorbells/stay-inside: $left of $all accesses left the guest"
	bad=1
fi
if ((routed > 200)); then
	echo "ok doorbells/interrupts-by-descriptor ($routed)"
else
	echo "ok doorbells/interrupts-by-descriptor # skip KVM here has no local APICs that do what ours do"
fi
exit $bad
