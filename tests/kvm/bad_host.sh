#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Hosts whose /dev/kvm is missing, is something else, or is not for this user: --engine kvm ends
# with a sentence and status 2, --engine auto goes on without, vireo doctor says why.
. "$(dirname "$0")/../lib/cli.sh"

guest image.elf 'b0 01 e6 f4 f4'	# mov al,1; out 0f4h,al; hlt
cp "$VIREO" vireo && chmod 755 "$WORK" vireo && chmod 644 image.elf

# A shell that sees the host otherwise: as root in a mount namespace, else nothing can be hidden.
if ! unshare -m true 2>/dev/null; then
	echo "mount namespaces cannot be made here"
	exit 77
fi
if [ ! -e /dev/kvm ]; then
	echo "there is no /dev/kvm to hide"
	exit 77
fi

# host NAME SETUP PATTERN DOCTOR AUTO: what the command says on a host that SETUP makes.
host() {
	local name=$1 setup=$2 kvm=$3 doctor=$4 auto=$5

	unshare -m bash -c "$setup ./vireo run --engine kvm --memory 16M --kernel image.elf" \
		>out 2>err </dev/null
	status=$?
	if [ $status != 2 ] || [ "$(wc -l <err)" != 1 ] || ! grep -qE "$kvm" err; then
		complain "$name: --engine kvm: status $status: $(cat out err)"
	fi
	unshare -m bash -c "$setup ./vireo run --debug-exit --memory 16M --kernel image.elf" \
		>out 2>err </dev/null
	status=$?
	if [ $status != 3 ] || ! head -n 1 err | grep -qE "engine soft: chosen automatically, since $auto"; then
		complain "$name: --engine auto: status $status: $(cat out err)"
	fi
	unshare -m bash -c "$setup ./vireo doctor" >out 2>err </dev/null
	grep -qE "no +/dev/kvm +$doctor" out || complain "$name: doctor: $(grep kvm out)"
}

missing='mkdir -p d; mount -t tmpfs none d; for f in null zero random urandom shm; do touch d/$f;
	mount --bind /dev/$f d/$f 2>/dev/null; done; mount --move d /dev;'
host missing "$missing" '/dev/kvm cannot be opened: load the module kvm_intel or kvm_amd' \
	'does not exist' 'there is no /dev/kvm'
host other 'mount --bind /dev/null /dev/kvm;' "/dev/kvm is not KVM's device: use --engine soft" \
	'cannot be used: KVM_GET_API_VERSION' '/dev/kvm does not run guests'
if id nobody >/dev/null 2>&1 && mknod -m 600 kvm-node c 10 232 2>/dev/null; then
	chmod 755 "$WORK"
	host denied 'mount --bind kvm-node /dev/kvm; exec setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/ ' \
		'/dev/kvm may not be opened by this user: adduser YOU kvm' \
		'exists, but this user may not open it' 'this user may not open /dev/kvm'
fi
exit $bad
