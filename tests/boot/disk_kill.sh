#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a guest was told is on the disk is on the disk after vireo is killed: a guest writes
# records with fsync and reports each; vireo gets SIGKILL at some moment; every record that was
# reported has to be in the image, and the image has to be whole.  KILLS=N for more than 4.
set -u
. "$(dirname "$0")/../lib/boot.sh" kill
need qemu-utils qemu-img
debian_kernel cloud virtio_blk

# Record i: 4 KiB that begin with "record i", at 80 KiB times i: a new cluster each time.
cat >"$work/session" <<'END'
cd /
while [ ! -c /dev/vport2p0 ]; do sleep 0.1; done
exec 3>/dev/vport2p0
for i in $(seq 1 700); do
	echo "record $i" >r
	dd if=r of=/dev/vda bs=4096 seek=$((i * 20)) conv=sync,fsync 2>/dev/null
	echo $i >&3
done
END
initramfs "file /session $work/session 755"

one() {
	local format=$1 turn=$2 last pid image=$work/image.$1 rc
	qemu-img create -q -f "$format" "$image" 64M || exit 1
	: >"$work/reported"
	timeout 100 "$build/vireo" run --engine "${ENGINE:-soft}" ${VIREO_OPTIONS:-} \
		--kernel "$kernel" --initrd "$work/cpio" --memory 256M --disk "$image,format=$format" \
		--console "out=$work/reported,name=report" \
		--cmdline "console=ttyS0 panic=-1 quiet run=\"sh /session\"" \
		</dev/null >"$work/log" 2>"$work/err" &
	pid=$!
	# Some records, then a moment more.
	for _ in $(seq 1800); do
		kill -0 $pid 2>/dev/null || break
		[ "$(wc -l <"$work/reported")" -gt $((turn * 13)) ] && break
		sleep 0.05
	done
	sleep "0.$((RANDOM % 300 + 100))"
	pkill -KILL -P $pid
	wait $pid 2>/dev/null
	last=$(tail -n 1 "$work/reported")
	[ "${last:-0}" -gt 0 ] || { tail -n 5 "$work/log" "$work/err"; echo "not ok kill/$format/$turn: nothing was reported"; bad=1; return; }
	qemu-img check -q "$image" >"$work/check" 2>&1
	rc=$?		# 3: leaked clusters, which hurt nobody
	if [ "$format" = qcow2 ] && [ $rc != 0 ] && [ $rc != 3 ]; then
		cat "$work/check"
		echo "not ok kill/$format/$turn: qemu-img check says $rc"
		bad=1
	fi
	qemu-img convert -f "$format" -O raw "$image" "$work/flat"
	if python3 - "$work/flat" "$last" <<-'END'
		import sys
		data = open(sys.argv[1], "rb").read()
		lost = [i for i in range(1, int(sys.argv[2]) + 1)
			if not data[i * 81920:].startswith(b"record %d\n" % i)]
		print("lost:", lost[:10]) if lost else None
		sys.exit(bool(lost))
	END
	then
		echo "ok kill/$format/$turn: all $last that were reported"
	else
		echo "not ok kill/$format/$turn: records are lost"
		bad=1
	fi
}

kills=${KILLS:-${LONG:+40}}
for turn in $(seq 1 "${kills:-4}"); do
	if ((turn % 2)); then one qcow2 "$turn"; else one raw "$turn"; fi
done
exit $bad
