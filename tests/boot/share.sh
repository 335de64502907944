#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Shared directories: Debian's standard kernel mounts them over virtio-9p and works on files in
# every way that busybox has; what the host sees then, must be what the guest did, and the other
# way round.  With the host's owners, with mapped ones, and read-only.
set -u
. "$(dirname "$0")/../lib/boot.sh" share
build=$(realpath "$build") work=$(realpath "$work")
chmod -R u+rwx "$work" 2>/dev/null
rm -rf "$work"
mkdir -p "$work"/{none,mapped,ro}
debian_kernel standard 9p

cat >"$work/session" <<'END'
torture() {
	cd "$1" || return
	mkdir -p a/b/c && echo deep >a/b/c/file && mv a/b z && cat z/c/file
	echo one >f && ln f g && ln -s f s && cat s && readlink s
	echo two >>g && cat f && stat -c '%h %s' f
	chmod 640 f && stat -c %a f
	mv f f2 && mv f2 f && rm g && stat -c %h f
	mkdir d && rmdir d && echo gone
	dd if=/dev/urandom of=big bs=1M count=8 2>/dev/null
	cp big copy && cmp big copy && md5sum big | cut -d ' ' -f 1 >big.md5
	dd if=copy of=big bs=4k count=100 seek=50 skip=50 conv=notrunc 2>/dev/null && cmp big copy && echo same
	truncate -s 12345 copy && stat -c %s copy
	mkdir many && (cd many && for i in $(seq 1 5000); do : >"f$i"; done)
	ls many | wc -l
	rm -rf a && ls -A | tr '\n' , && echo
	touch -d '2001-02-03 04:05:06' f && stat -c %Y f
	find . -type f | wc -l
	sync
}
mkdir /m /n /r
mount -t 9p -o version=9p2000.L,msize=262144 none /n && echo mounted none
mount -t 9p -o version=9p2000.L mapped /m && echo mounted mapped
mount -t 9p -o version=9p2000.L,ro ro /r && echo mounted ro
(torture /n) 2>&1 | sed 's/^/none: /'
(torture /m) 2>&1 | sed 's/^/mapped: /'
cd /m
mknod null c 1 3 && echo into >null && stat -c '%t,%T' null | sed 's/^/node /'
touch owned && chown 1234:567 owned && chmod 4711 owned && stat -c 'owner %u:%g %a' owned
mkfifo pipe && (echo through >pipe & cat pipe)
cd /r
cat from-host
cat link 2>&1
mount -o remount,rw /r
touch new 2>&1
ls /r/.. >/dev/null && echo still here
umount /n && echo unmounted
END
echo "file /session $work/session 755" >"$work/list"
tools/modules.sh "$kernel" >>"$work/list"
tools/initramfs.sh "$work/cpio" "$work/list" || { echo "no initramfs"; exit 77; }
mapped=mapped
touch "$work/mapped/.try"
setfattr -n user.try -v 1 "$work/mapped/.try" 2>/dev/null ||
	python3 -c "import os; os.setxattr('$work/mapped/.try', 'user.try', b'1')" 2>/dev/null || mapped=none
rm "$work/mapped/.try"
[ $mapped = mapped ] && security=mapped-xattr || security=none
echo hello from the host >"$work/ro/from-host"
ln -s /etc/hostname "$work/ro/link"

timeout 280 "$build/vireo" run --engine "${ENGINE:-soft}" --kernel "$kernel" --initrd "$work/cpio" \
	--memory 256M -v "$work/none:none" --share "$work/mapped,tag=mapped,security=$security" \
	-v "$work/ro:ro:ro" --cmdline 'console=ttyS0 panic=-1 quiet run="sh /session"' \
	</dev/null >"$work/log.raw" 2>"$work/err"
status=$?
tr -d '\r' <"$work/log.raw" >"$work/log"
check status [ $status = 0 ]

says() { if grep -qxF -- "$1" "$work/log"; then ok "$2"; else fail "$2" "no line '$1' in $work/log"; fi; }
expected='deep
one
f
one
two
2 8
640
1
gone
same
12345
5000
big,big.md5,copy,f,many,s,z,
981173106
5005'
for share in none mapped; do
	says "mounted $share" "$share-mounts"
	got=$(sed -n "s/^$share: //p" "$work/log")
	if [ "$got" = "$expected" ]; then ok "$share-session"; else
		fail "$share-session" "$(diff <(echo "$expected") <(echo "$got") | head -n 5)"; fi
	dir=$work/$share
	check $share-checksum [ "$(md5sum <"$dir/big" | cut -d ' ' -f 1)" = "$(cat "$dir/big.md5")" ]
	check $share-count [ "$(find "$dir/many" -type f | wc -l)" = 5000 ]
	check $share-text cmp -s "$dir/f" <(printf 'one\ntwo\n')
	check $share-time [ "$(stat -c %Y "$dir/f")" = 981173106 ]
done
check none-link [ "$(readlink "$work/none/s")" = f ]
check none-mode [ "$(stat -c %a "$work/none/f")" = 640 ]
if [ $mapped = mapped ]; then
	check mapped-link [ "$(cat "$work/mapped/s")" = f ]
	check mapped-mode [ "$(stat -c %a:%U "$work/mapped/owned")" = "600:$(id -un)" ]
	check mapped-node [ -f "$work/mapped/null" ]
	says 'node 1,3' node
	says 'owner 1234:567 4711' owner
	says through fifo
else
	echo "ok share/mapped-owners # skip no user attributes below $work"
fi
says 'hello from the host' ro
says "cat: can't open 'link': No such file or directory" ro-link
says 'touch: new: Read-only file system' ro-write
says unmounted unmount
check ro-untouched [ "$(ls "$work/ro" | tr '\n' ' ')" = 'from-host link ' ]
if grep 'Oops\|BUG:\|WARNING:' "$work/log"; then fail guest "the guest's kernel complains"; fi
exit $bad
