#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The QEMU personality: what options become, what is refused and how, and real clients' command
# lines; the clients themselves where Debian's packages of them are installed.
. "$(dirname "$0")/../lib/cli.sh"
Q=$WORK/qemu-system-x86_64
ln -s "$VIREO" "$Q"
unset VIREO_ENGINE

# becomes WORDS ARGS...: what vireo run is given, without what is always there.
becomes() {
	local want=$1 got
	shift
	got=$("$Q" -print "$@" 2>&1 | sed 's/^vireo run//; s/ --log-level warn//; s/ --console-escape [^ ]*//; s/^ //')
	[ "$got" = "$want" ] || complain "qemu $*: '$got', not '$want'"
}

refused() {
	local pattern=$1
	shift
	timeout 20 "$Q" "$@" >out 2>err </dev/null
	[ $? = 1 ] || complain "qemu $*: the status is not 1"
	[ "$(wc -l <err)" = 1 ] && grep -qE -- "^qemu-system-x86_64: .*$pattern" err ||
		complain "qemu $*: '$(cat err)' does not match '$pattern'"
}

"$Q" --version | grep -qE '^QEMU emulator version 7\.2\.0 ' || complain "--version"
"$Q" -help | grep -q -- '-kernel' || complain "-help"
"$VIREO" qemu -version | grep -q '^QEMU emulator version' || complain "vireo qemu"

becomes '--kernel k --serial none' -nodefaults -kernel k
becomes '--serial none --net user'
becomes '--memory 1G --cpus 2 --serial stdio' -nodefaults -m size=1G,slots=2 -smp cpus=2,sockets=1 -serial stdio
becomes '--cpus 4 --max-cpus 8 --serial none' -nodefaults -smp cores=2,threads=2,maxcpus=8
becomes '--sandbox off --serial none' -nodefaults -sandbox off
becomes '--sandbox auto,dir=/var/tmp --serial none' -nodefaults -sandbox on,obsolete=deny,dir=/var/tmp
becomes '--transport mmio --serial none' -nodefaults -M microvm,acpi=off
becomes '--serial none --disk a,,b,format=raw,readonly=on,serial=s,node=d' -nodefaults \
	-drive if=none,id=d,file=a,,b,format=raw,read-only=on -device virtio-blk-pci,drive=d,serial=s
becomes '--serial none --disk a,aio=io_uring --disk b' -nodefaults -drive file=a,if=virtio,aio=io_uring -drive file=b,if=virtio,aio=native
becomes '--serial none --disk a,format=qcow2,snapshot=on' -nodefaults -snapshot -drive file=a,if=virtio,format=qcow2
becomes '--serial none --disk a,format=qcow2,bus=scsi,id=s,node=hd0 --disk b,format=raw,snapshot=on,bus=scsi,node=x' \
	-nodefaults -device virtio-scsi-pci,id=scsi -drive file.file.filename=a,file.driver=qcow2,cache=unsafe,id=hd0,if=none \
	-device scsi-hd,drive=hd0,id=s -drive file=b,snapshot=on,id=x,if=none,format=raw,file.backing.file.locking=off -device scsi-hd,drive=x
becomes '--serial none --disk a,format=qcow2,node=n' -nodefaults -blockdev driver=file,node-name=f,filename=a \
	-blockdev driver=qcow2,node-name=n,file=f -device virtio-blk-pci,drive=n
becomes '--serial none --net user,hostfwd=tcp::1-:2,mac=52:54:00:00:00:01,netdev=n' -nodefaults \
	-netdev user,id=n,hostfwd=tcp::1-:2 -device virtio-net-pci,netdev=n,mac=52:54:00:00:00:01
becomes '--serial none --net user' -net nic,model=virtio -net user
becomes '--serial none --net user,mac=52:54:00:00:00:09,mtu=9000,id=card,netdev=n' -nodefaults -netdev user,id=n \
	-device virtio-net-pci,netdev=n,id=card,mac=52:54:00:00:00:09,host_mtu=9000
becomes '--serial none --net socket,listen=:1234' -nodefaults -nic socket,listen=:1234,model=virtio
becomes '--serial none --net socket,connect=unix:/p,netdev=n' -nodefaults -netdev stream,id=n,server=off,addr.type=unix,addr.path=/p \
	-device virtio-net-pci,netdev=n
becomes '--serial none --net socket,udp=10.0.0.1:5,localaddr=:6,netdev=n' -nodefaults -netdev dgram,id=n,local.type=inet,local.port=6,remote.type=inet,remote.host=10.0.0.1,remote.port=5 \
	-device virtio-net-pci,netdev=n
becomes '--serial none' -net none
becomes '--serial none --net user' -nodefaults -nic user,id=x
becomes '--serial none --qmp unix:/q --spare-disk f,format=raw,node=d --spare-net user,netdev=n' -nodefaults -qmp unix:/q,server,nowait \
	-drive if=none,id=d,file=f,format=raw -netdev user,id=n
becomes '--kernel k --cmdline --version --serial none' -nodefaults -kernel k -append --version
becomes '--serial none --share /d,tag=t,security=none' -nodefaults -virtfs local,path=/d,mount_tag=t,security_model=none
becomes '--serial none --share /d,tag=t,security=mapped-xattr,readonly' -nodefaults \
	-fsdev local,id=f,path=/d,security_model=mapped,readonly=on -device virtio-9p-pci,fsdev=f,mount_tag=t
becomes '--serial unix:/s --console at=file:/l,truncate=on --console at=unix:/p,name=org.x' -nodefaults -device virtio-serial \
	-chardev file,id=l,path=/l -device virtconsole,chardev=l -chardev socket,id=p,path=/p,server=on,wait=off \
	-device virtserialport,chardev=p,name=org.x -serial unix:/s,server=on,wait=off
becomes '--serial none --console at=stdio' -nodefaults -chardev null,id=a -serial chardev:a \
	-chardev stdio,id=for-hvc0,signal=off -device virtconsole,chardev=for-hvc0
becomes '--serial unix:/s,wait=on --serial tcp::5,server=off' -nodefaults -serial unix:/s,server -serial tcp::5
becomes '--serial pty --console at=unix:/p,server=off,name=n --console at=pipe:/q' -nodefaults -serial pty \
	-chardev socket,id=p,path=/p -device virtserialport,chardev=p,name=n -chardev pipe,id=q,path=/q -device virtconsole,chardev=q
becomes '--mux mon0=stdio --serial mux:mon0 --monitor mux:mon0' -nodefaults -serial mon:stdio
becomes '--mux mon0=stdio --serial mux:mon0 --monitor mux:mon0 --net user' -nographic
becomes '--serial stdio --net user' -nographic -monitor none
becomes '--mux-key t --serial stdio' -nodefaults -echr 20 -serial stdio
becomes '--mux c=tcp:10.0.0.1:5,wait=on --serial mux:c --monitor mux:c' -nodefaults -chardev \
	socket,id=c,host=10.0.0.1,port=5,server=on,mux=on -serial chardev:c -mon c,mode=readline
becomes '--serial file:/l,truncate=on --monitor stdio --qmp unix:/q --qmp tcp:[::1]:7' -nodefaults -serial file:/l -monitor stdio \
	-qmp unix:/q,server=on,wait=off -chardev socket,id=m,host=::1,port=7,server=on,wait=off -mon chardev=m,mode=control
becomes '--serial file:/a --serial none' -nodefaults -chardev file,id=f,path=/a,append=on -serial chardev:f -serial null
becomes '--serial none --vsock /v,cid=7' -nodefaults -device vhost-vsock-pci,guest-cid=7,x-socket=/v
becomes '--gdb 1234 --gdb-wait --serial none' -nodefaults -s -S
becomes '--serial none --monitor unix:/m,wait=on --qmp unix:/q' -nodefaults \
	-qmp unix:/q,server,nowait -monitor unix:/m,server=on
becomes '--serial none --debug-exit --balloon 0 --watchdog none' -nodefaults -watchdog-action none \
	-device isa-debug-exit,iobase=0xf4 -device virtio-balloon-pci -device i6300esb -device pvpanic
becomes '--engine soft --serial none' -nodefaults -accel tcg
VIREO_ENGINE=soft becomes '--cpu host --engine soft --serial none' -nodefaults -enable-kvm -cpu host

refused "-frobnicate: invalid option" -m 1G -frobnicate -neither
refused '-m: requires an argument' -m
refused "CPU model 'host' requires KVM" -cpu host
refused "unable to find CPU model 'z80'" -cpu z80
refused "unsupported machine type: 'versatile'" -machine versatile
refused 'invalid accelerator xen' -accel xen
refused "'e1000e' is not a valid device model" -device e1000e
refused "Invalid parameter 'colour'" -device virtio-rng-pci,colour=red
refused "there is no drive 'x'" -device virtio-blk-pci,drive=x
refused 'only if=virtio' -drive file=a,if=ide
refused 'there is no IDE disk' disk.img
refused 'there is no display' -display gtk
refused 'iobase=0xf4' -device isa-debug-exit
refused "'udp::1' is not there" -qmp udp::1
refused "there is no chardev 'x'" -serial chardev:x
refused "the chardev 'c' is in use" -chardev stdio,id=c -serial chardev:c -mon c
refused 'cannot use stdio by multiple character devices' -nodefaults -serial stdio -monitor stdio
refused "Invalid parameter 'telnet'|'telnet' expects off" -serial tcp::1,server,telnet
refused "'reconnect' expects 0 here, not '5'" -chardev socket,id=c,path=/p,reconnect=5 -serial chardev:c
refused "Invalid parameter 'logfile'" -chardev stdio,id=c,logfile=/l -serial chardev:c
refused "-cpu: the model vireo-v1 lacks 'avx2'" -cpu qemu64,+avx2
refused "Invalid parameter 'frob'" -cpu qemu64,frob=on
refused "'la57' expects off" -cpu max,la57=on
refused "Unknown driver 'vmdk'" -drive if=virtio,file=a,format=vmdk
refused "'cache' expects none.writeback.unsafe here, not 'writethrough'" -drive if=virtio,file=a,cache=writethrough
refused "'media' expects disk" -drive if=virtio,file=a,media=cdrom
refused "Invalid parameter 'throttling.iops-total'" -drive if=virtio,file=a,throttling.iops-total=5
refused 'is a file or a device of the host' -drive if=virtio,file=nbd://host
refused 'werror=ignore' -drive if=virtio,file=a,werror=ignore
refused 'aio=posix' -drive if=virtio,file=a,aio=posix
refused 'order in which' -drive if=virtio,file=a,index=3
refused "No 'SCSI' bus" -drive if=none,file=a,id=d -device scsi-hd,drive=d
refused 'target 0' -device virtio-scsi-pci -drive if=none,file=a,id=d -device scsi-hd,drive=d,scsi-id=4
refused "Invalid parameter 'e1000.mac'" -global e1000.mac=1
refused "'base' expects utc" -rtc base=localtime
refused "'usb' expects off" -machine pc,usb=on
refused "Invalid parameter 'dmode'" -virtfs local,path=/,mount_tag=t,security_model=none,dmode=0700
refused "there is virtio-net-pci" -nic user,model=e1000
refused "'mem-lock' expects off" -overcommit mem-lock=on
refused 'panic=pause' -action panic=pause
refused "'filename' expects" -object rng-random,id=r,filename=/etc/passwd
refused "invalid option" -hda a
refused "-S: nobody could let the VM go on" -nodefaults -S
refused "'watchdog' does not accept value 'on'" -action watchdog
refused "'watchdog' does not accept value 'foo'" -watchdog-action foo
refused "'reboot' does not accept value 'foo'" -action reboot=foo
refused "failed to parse UUID" -uuid 0b1f4ef0-1111-2222-3333-44445555666
refused "-append only allowed with -kernel" -append x
refused "-initrd only allowed with -kernel" -initrd x
refused "Invalid CPU topology" -smp 2,cores=3
refused "Parameter 'id' is missing" -netdev user
refused "Parameter 'id' is missing" -chardev stdio
refused "Duplicate ID 'a' for chardev" -chardev null,id=a -chardev null,id=a
refused "Duplicate ID 'a' for netdev" -netdev user,id=a -netdev user,id=a
refused "Duplicate ID 'a' for drive" -drive if=none,id=a,file=x -drive if=none,id=a,file=y
refused "there is no 'udp' here" -chardev udp,id=a
refused "there are user, tap" -netdev vde,id=a
refused "-nographic cannot be used with -daemonize" -nographic -daemonize
# Says why before that, where /dev/kvm is not there or may not be opened.
if ! "$VIREO" doctor 2>/dev/null | grep -qi 'engine kvm: chosen'; then
	timeout 20 "$Q" -enable-kvm -nodefaults >out 2>err </dev/null
	[ $? = 1 ] && tail -n 1 err | grep -q '^qemu-system-x86_64: failed to initialize kvm' ||
		complain "qemu -enable-kvm: '$(cat err)'"
fi

# Statuses, and a VM behind: mov al, 0x10; out 0xf4, al.  S5.  An endless loop.
guest debugexit 'b010 e6f4 ebfe'
guest off '66ba0406 66b80034 66ef f4 ebfd'
guest busy 'e680 ebfc'
"$Q" -nodefaults -display none -kernel debugexit -device isa-debug-exit,iobase=0xf4,iosize=0x04 </dev/null
[ $? = 33 ] || complain "isa-debug-exit's status"
"$Q" -nodefaults -display none -kernel off </dev/null || complain "the status of a power-off"
timeout 60 "$Q" -nodefaults -display none -kernel busy -daemonize -pidfile pid -name guest=one -uuid \
	11111111-2222-3333-4444-555555555555 -qmp "unix:$WORK/q,server=on,wait=off" </dev/null || complain "-daemonize"
if kill -0 "$(cat pid)"; then
	python3 - <<'END' || complain "QMP of a VM behind"
import json, socket
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
s.connect("q")
f = s.makefile()
f.readline()
for command, want in (("qmp_capabilities", {}), ("query-name", {"name": "one"}),
                      ("query-uuid", {"UUID": "11111111-2222-3333-4444-555555555555"}), ("quit", {})):
    s.sendall(json.dumps({"execute": command}).encode())
    assert json.loads(f.readline())["return"] == want, command
while f.readline():
    pass
END
	for _ in $(seq 100); do kill -0 "$(cat pid 2>/dev/null)" 2>/dev/null || break; sleep 0.1; done
	[ ! -e pid ] || complain "the PID file stays"
else
	complain "no process behind"
fi
((bad)) || echo "ok personality/options"

# The line that kunit.py of Linux 6.1 makes, with a kernel that has no tests in it.
if kernel=$(cd "$TOP" && tools/kernel.sh cloud 2>/dev/null); then
	timeout 120 "$Q" -nodefaults -m 1024 -kernel "$kernel" -append 'mem=1G console=tty kunit_shutdown=halt panic=-1 console=ttyS0 kunit_shutdown=reboot' \
		-no-reboot -nographic -serial stdio -bios qboot.rom </dev/null >kunit.out 2>&1
	status=$?
	if [ $status = 0 ] && grep -q 'Linux version' kunit.out; then
		echo "ok personality/kunit.py's line"
	else
		complain "kunit.py's line: status $status, $(tail -n 2 kunit.out)"
	fi
else
	echo "ok personality/kunit.py's line # skip no Debian kernel"
fi

# kunit.py itself, from Debian's package linux-source-6.1, finding us in PATH.
sources=/usr/src/linux-source-6.1.tar.xz
if [ -n "${kernel:-}" ] && [ -f "$sources" ]; then
	tar xJf "$sources" --wildcards '*/tools/testing/kunit' '*/Kbuild' '*/COPYING' 2>/dev/null
	mkdir -p kb/arch/x86/boot && cp "$kernel" kb/arch/x86/boot/bzImage
	(cd linux-source-6.1 && PATH=$WORK:$PATH timeout 150 python3 tools/testing/kunit/kunit.py exec --arch=x86_64 \
		--build_dir="$WORK/kb" --raw_output=all --timeout 120 --kernel_args panic=-1 </dev/null >../kunit.log 2>&1)
	if grep -q 'qemu-system-x86_64 -nodefaults' kunit.log && grep -q 'Linux version' kunit.log && grep -q 'Kernel panic' kunit.log; then
		echo "ok personality/kunit.py"
	else
		complain "kunit.py: $(tail -n 3 kunit.log)"
	fi
else
	echo "ok personality/kunit.py # skip the package linux-source-6.1 is not installed"
fi

# fakemachine: a kernel with 9p in /boot and its modules are the host's.
if command -v fakemachine >/dev/null && compgen -G '/lib/modules/*/kernel/fs/9p' >/dev/null &&
	[ -e /lib/systemd/systemd-resolved ]; then
	PATH=$WORK:$PATH timeout 200 fakemachine -b qemu --show-boot -- echo in the fakemachine </dev/null >fm.log 2>&1
	if grep -qa '^in the fakemachine' fm.log; then
		echo "ok personality/fakemachine"
	elif grep -qa 'virtio: Unknown symbol' fm.log; then
		# It loads modules in an order that this kernel's do not have, in QEMU as well.
		echo "ok personality/fakemachine # skip its initramfs cannot load this kernel's virtio"
	else
		complain "fakemachine: $(tail -n 3 fm.log)"
	fi
else
	echo "ok personality/fakemachine # skip it wants fakemachine, a kernel with 9p and systemd-resolved on the host"
fi
exit $bad
