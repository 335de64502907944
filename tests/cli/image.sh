#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vireo image: each subcommand does what it says, qemu-img agrees, and bad input is one sentence
# with nothing left behind.
. "$(dirname "$0")/../lib/cli.sh"

ok() {
	run_vireo image "$@"
	[ "$status" = 0 ] || complain "vireo image $*: status $status: $(cat err)"
	[ -s err ] && complain "vireo image $*: something on stderr, which is no terminal: $(cat err)"
	return 0
}

have_qemu=
command -v qemu-img >/dev/null && have_qemu=yes
same() {
	[ -z "$have_qemu" ] || qemu-img compare -q "$@" >/dev/null || complain "qemu-img compare $*"
	return 0
}
sound() {
	ok check "$1"
	[ -z "$have_qemu" ] || qemu-img check -q "$1" >/dev/null 2>&1 || complain "qemu-img check $1"
	return 0
}

# --- create, info ---
ok create disk.qcow2 100M
sound disk.qcow2
ok info disk.qcow2
grep -q '^size: *104857600 bytes' out || complain "info: $(cat out)"
ok info --format json disk.qcow2
python3 -c 'import json; d = json.load(open("out")); assert d["type"] == "qcow2" and d["size"] == 100 << 20 and d["cluster_size"] == 65536, d' || complain "info --format json: $(cat out)"
ok create small.qcow2 --cluster-size 512 1M
sound small.qcow2
ok create disk.raw 3M
[ "$(stat -c %s disk.raw)" = 3145728 ] || complain "disk.raw has $(stat -c %s disk.raw) bytes"
ok create --type raw named 512
ok info named
grep -q '^type: *raw' out || complain "info of a raw image: $(cat out)"

# --- convert, there and back ---
head -c 3000000 /dev/urandom >data.raw
dd if=/dev/urandom of=data.raw bs=4096 seek=2000 count=3 2>/dev/null
truncate -s 10M data.raw
ok convert data.raw data.qcow2
sound data.qcow2
same -f raw data.raw data.qcow2
ok convert data.qcow2 again.raw
cmp data.raw again.raw || complain "converted there and back, the data differ"
[ "$(du -k again.raw | cut -f1)" -lt 5000 ] || complain "zeroes take room: $(du -k again.raw)"
if [ -n "$have_qemu" ]; then
	qemu-img convert -c -O qcow2 data.raw packed.qcow2
	ok convert packed.qcow2 --cluster-size 4K unpacked.qcow2
	same -f raw data.raw unpacked.qcow2
	sound unpacked.qcow2
fi

# --- interrupted: status 10, nothing left ---
truncate -s 4G long.raw
for i in $(seq 0 20); do head -c 8M /dev/urandom | dd of=long.raw bs=1M seek=$((i * 150)) conv=notrunc 2>/dev/null; done
"$VIREO" image convert long.raw --cluster-size 512 --force long.qcow2 >out 2>err </dev/null &
pid=$!
while [ ! -s long.qcow2.part ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
kill -TERM $pid
wait $pid
status=$?
[ $status = 10 ] || complain "interrupted: status $status: $(cat err)"
[ -e long.qcow2.part ] || [ -e long.qcow2 ] && complain "left behind: $(ls long*)"
rm long.raw

# --- overlays, commit ---
ok create --backing data.qcow2 --backing-type qcow2 over.qcow2
ok info --format json over.qcow2
grep -q '"backing": "data.qcow2"' out || complain "no backing image: $(cat out)"
same over.qcow2 data.qcow2
if [ -n "$have_qemu" ]; then
	qemu-io -c 'write -P 9 1M 2M' -c 'write -z 4M 1M' over.qcow2 >/dev/null
	qemu-img convert -O raw over.qcow2 want.raw
	ok commit over.qcow2
	same -f raw want.raw data.qcow2
	sound data.qcow2
fi

# --- resize ---
ok resize data.qcow2 +10M
ok resize data.qcow2 1G
sound data.qcow2
expect 2 "would become smaller.*--shrink" image resize data.qcow2 5M
ok resize --shrink data.qcow2 5M
sound data.qcow2
ok resize disk.raw +1M
[ "$(stat -c %s disk.raw)" = 4194304 ] || complain "disk.raw has $(stat -c %s disk.raw) bytes"

# --- damage ---
printf '\xff\xff' | dd of=disk.qcow2 bs=1 seek=$((65536 * 2 + 100)) conv=notrunc 2>/dev/null
ok check disk.qcow2
grep -q '1 clusters leaked' out || complain "a leak is not seen: $(cat out)"
ok check --repair disk.qcow2
sound disk.qcow2
printf '\0\0' | dd of=disk.qcow2 bs=1 seek=$((65536 * 2 + 2)) conv=notrunc 2>/dev/null
run_vireo image check disk.qcow2
[ "$status" = 2 ] || complain "a wrong refcount: status $status"
grep -q 'offset 0x10000' out || complain "the offset is not named: $(cat out)"
ok check --repair disk.qcow2
sound disk.qcow2

# --- a kernel beside the disk, or beside the one below ---
guest disk.qcow2.kernel 'b0 2a e6 f4 f4 eb fd'	# mov al, 42; out 0xf4, al
ok create --backing disk.qcow2 --backing-type qcow2 clone.qcow2
for disk in disk.qcow2 clone.qcow2; do
	run_vireo run --memory 16M --disk $disk --debug-exit
	[ "$status" = 85 ] || complain "the kernel beside $disk: status $status: $(cat err)"
done
expect 2 "no kernel is named, and 'small.qcow2.kernel' is not there" run --disk small.qcow2

# --- bad input ---
truncate -s 1M disk2.qcow2
before=$(ls)
expect 2 "has no 'crate'; did you mean 'create'" image crate x
expect 2 "needs to be told what to do" image
expect 2 "image create' needs" image create
expect 2 "a new image needs a size" image create new.qcow2
expect 2 "'12Q' is no size of a disk" image create new.qcow2 12Q
expect 2 "'disk.qcow2' exists; --force replaces it" image create disk.qcow2 1M
expect 2 "which type the backing image" image create --backing data.qcow2 new.qcow2
expect 2 "raw image cannot have a backing" image create --backing data.qcow2 --backing-type qcow2 new.raw
expect 2 "cannot open disk 'missing'" image create --backing missing --backing-type raw new.qcow2
expect 2 "no cluster size" image create --cluster-size 3000 new.qcow2 1M
expect 2 "'vmdk' is no value for --type" image create --type vmdk new 1M
expect 2 "cannot open disk 'missing'" image info missing
expect 2 "neither a regular file nor" image info /dev/null
expect 2 "has nothing that could be checked" image check data.raw
expect 2 "cannot open disk 'missing'" image convert missing new.qcow2
expect 2 "'data.raw' exists" image convert data.qcow2 data.raw
expect 2 "has no backing image" image commit small.qcow2
expect 2 "no size of a disk" image resize small.qcow2 x
expect 2 "takes one IMAGE" image create debian12 new.qcow2 5G
expect 2 "cannot read the keys in 'missing'" image create debian12 new.qcow2 --ssh-key missing
cp small.qcow2 cut.qcow2
before=$(ls)
truncate -s 700 cut.qcow2
expect 2 "damaged qcow2 image: .*\(header, offset" image info cut.qcow2
printf '\x40' | dd of=cut.qcow2 bs=1 seek=79 conv=notrunc 2>/dev/null
expect 2 "needs the qcow2 feature bit 6" image info cut.qcow2
[ "$(ls)" = "$before" ] || complain "left behind: $(diff <(echo "$before") <(ls))"
exit $bad
