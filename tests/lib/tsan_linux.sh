#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make check-tsan with LONG=1: Debian's kernel with 2 and 4 processors, interpreted, under the thread
# sanitizer: it boots, forks, waits on futexes, reads and writes disks and a network, all at once,
# while the host pauses, pins, weighs and asks the VM, and processors come and go; then it powers off.  Any report of a race is a failure; tsan.supp has what is none.
set -u
cd "$(dirname "$0")/../.." || exit 2
[ -n "${LONG:-}" ] || { echo "takes minutes: LONG=1"; exit 77; }
build=${BUILD:-build-tsan}
work=$build/tests/tsan-linux
mkdir -p "$work/run" && chmod 700 "$work/run"
kernel=$(tools/kernel.sh cloud 2>/dev/null) || { echo "no kernel"; exit 77; }
export XDG_RUNTIME_DIR=$(realpath "$work/run")
export TSAN_OPTIONS="suppressions=$PWD/tests/lib/tsan.supp exitcode=66 die_after_fork=0 ${TSAN_OPTIONS:-}"

# What runs in the guest, with everything at once in the background.
cat >"$work/session" <<'END'
cd /
dd if=/dev/urandom of=/tmp/c bs=64k count=4 2>/dev/null
for p in disk ring net bench locks; do sh /part $p & done
wait
echo all are done
END
cat >"$work/part" <<'END'
case $1 in
disk)
	dd if=/dev/urandom of=/tmp/a bs=64k count=40 && dd if=/tmp/a of=/dev/vda bs=64k conv=fsync &&
		dd if=/dev/vda bs=64k count=40 iflag=direct | cmp - /tmp/a ;;
ring)
	dd if=/dev/vdb of=/tmp/b bs=64k count=40 && dd if=/tmp/b of=/dev/vdb bs=64k seek=40 conv=fsync &&
		blkdiscard -o 0 -l 65536 /dev/vdb ;;
net)
	netup && ping -c 3 10.0.2.2 && (cat /tmp/c | nc 10.0.2.100 7 | cmp - /tmp/c) ;;
bench)
	guestbench -s 0.01 fork futex pipe signal mutex fault ;;
locks)
	i=0; while [ $i -lt 40 ]; do (: | cat | cat); i=$((i+1)); done
	head -c 4000 /dev/hwrng | wc -c ;;
esac >/tmp/said.$1 2>&1 && echo done with $1 || { cat /tmp/said.$1; echo failed: $1; }
END
cc -O2 -static -pthread -o "$work/guestbench" bench/guestbench.c -lm || exit 2
bench/net-image.sh "$work/net" "$kernel" || { echo "no initramfs"; exit 77; }
{
	cat "$work/net.list"
	for f in session part; do echo "file /$f $work/$f 755"; done
	echo "file /bin/guestbench $work/guestbench 755"
} >"$work/list"
tools/initramfs.sh "$work/cpio" "$work/list" || { echo "no initramfs"; exit 77; }

# What the guest sends comes back.
cat >"$work/echo.py" <<'END'
import socket, sys, threading
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
def serve(c):
    while data := c.recv(65536):
        c.sendall(data)
    c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
END
rm -f "$work/run/echo"
python3 "$work/echo.py" "$work/run/echo" &
echo=$!
trap 'kill $echo' EXIT

# The host's side, until the VM ends.
host() {
	local me=$1 name=$2 cpus=$3

	sleep 5
	while kill -0 "$me" 2>/dev/null; do
		timeout 60 "$build/vireo" top --count 2 "$name"
		for what in --cpu-pin=0 --cpu-pin=0-1 --cpu-weight=300 --cpu-cap=150% --cpu-cap=none \
			--cpus=$((cpus + 1)) --cpus=$cpus; do
			timeout 60 "$build/vireo" set "$name" "${what%=*}" "${what#*=}"
		done
		timeout 60 "$build/vireo" pause "$name" && timeout 60 "$build/vireo" resume "$name"
		timeout 60 "$build/vireo" stats --count 1 "$name"
	done >"$work/$name.host" 2>&1
}

boot() {	# CPUS
	local log=$work/$1.log vm host status

	rm -f "$work/$1.img" "$work/$1.qcow2"
	truncate -s 16M "$work/$1.img"
	"$build/vireo" image create "$work/$1.qcow2" 16M >/dev/null || return 2
	timeout -k 10 2000 "$build/vireo" run --name "tsan$1" --engine soft --translator off --sandbox off \
		--cpus "$1" --max-cpus $(($1 + 1)) --memory 256M --kernel "$kernel" --initrd "$work/cpio" --no-reboot \
		--disk "$work/$1.qcow2" --disk "$work/$1.img,aio=io_uring" \
		--net user,guestfwd="tcp:10.0.2.100:7-unix:$XDG_RUNTIME_DIR/echo" --console name=port,out="$work/$1.port" --balloon 0 \
		--vsock "$work/run/$1.vsock" --watchdog none \
		--cmdline 'console=ttyS0 quiet panic=-1 run="sh /session"' </dev/null >"$log" 2>&1 &
	vm=$!
	host $vm "tsan$1" "$1" &
	host=$!
	wait $vm
	status=$?
	wait $host
	if ((status == 0)) && grep -q 'all are done' "$log" &&
		! grep -E 'WARNING: ThreadSanitizer|failed:|lockup|rcu.*stall|BUG:|Oops' "$log"; then
		echo "ok tsan/linux-$1"
	else
		grep SUMMARY "$log" | sort | uniq -c
		tail -n 5 "$log"
		echo "not ok tsan/linux-$1: status $status, see $log"
		return 1
	fi
}

# Side by side: much of it is done by one processor.
boot 2 &
other=$!
boot 4
bad=$?
wait $other && ((bad == 0))
