#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Bad input: one clear sentence on stderr, status 2, nothing left behind.
. "$(dirname "$0")/../lib/cli.sh"

guest good 'f4 eb fd'			# hlt; jmp to it
head -c 20 good >truncated		# half a Multiboot header
head -c 100000 /dev/zero >zeros
: >empty
mkfifo fifo
printf '\x7fELF' >elf4
head -c 600 "$VIREO" >elf_cut		# an ELF file, and not a kernel
truncate -s 100M initrd_large
host=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)

before=$(ls)

# --- the command ---
expect 2 "no command 'rnu'; did you mean 'run'\?" rnu
expect 2 "no command 'frobnicate'; 'vireo help' lists them" frobnicate
expect 2 "no command '--verison'" --verison

# --- options ---
expect 2 "no option '--kernle'; did you mean '--kernel'\?" run --kernle good
expect 2 "no option '--frobnicate'; 'vireo run --help' lists" run --frobnicate
expect 2 "'--kernel' needs a value" run --kernel
expect 2 "'--no-reboot' takes no value" run --no-reboot=yes --kernel good
expect 2 "'-k' is no option; options are long" run -k good
expect 2 "does not know what to do with 'more'" run good more
expect 2 "no kernel is named" run
expect 2 "'loud' is no value for --log-level; it takes one of error" run --kernel good --log-level loud
expect 2 "'qemu' is no value for --engine" run --kernel good --engine qemu
expect 2 "'yes' is no value for --translator" run --kernel good --translator yes
expect 2 "whole MiB, at least one" run --kernel good --code-cache 0
[ -e /dev/kvm ] || expect 2 "load the module kvm_intel or kvm_amd" run --kernel good --engine kvm
expect 2 "--serial knows no 'com9'" run --kernel good --serial com9
expect 2 "is no serial device" run --kernel good --serial /dev/null
expect 2 "'77' is no open descriptor" run --kernel good --serial fd:77
expect 2 "--printer knows no 'x'" run --kernel good --printer q,x
expect 2 "'a/b' is no name of a queue" run --kernel good --printer a/b
expect 2 "0.1 to 3600 seconds" run --kernel good --printer q,idle=0
expect 2 "'x' is no job's number" spool rm q x
expect 2 "--gdb: 'x' is none of PORT" run --kernel good --gdb x
expect 2 "--gdb debugs what --engine soft runs" run --kernel good --gdb 1234 --engine kvm
expect 2 "--gdb WHERE says where" run --kernel good --gdb-wait
expect 2 "'bark' is no value for --watchdog" run --kernel good --watchdog bark
expect 2 "'2' is no CID of a guest" run --kernel good --vsock v,cid=2
expect 2 "--vsock knows no 'x'" run --kernel good --vsock v,x
expect 2 "'lots' is no size of memory" run --kernel good --balloon lots
expect 2 "--balloon knows no 'x=y'" run --kernel good --balloon 0,x=y
expect 2 "cannot take 600 MiB from a guest with 512" run --kernel good --balloon 600M
expect 2 "not DIR:TAG" run --kernel good -v /tmp
expect 2 "name the mount tag" run --kernel good --share /tmp
expect 2 "knows no 'frozen'" run --kernel good --share /tmp,tag=x,frozen
expect 2 "knows no security=high" run --kernel good --share /tmp,tag=x,security=high
expect 2 "could not share the directory missing" run --kernel good -v missing:x
expect 2 "two shared directories have the tag 'x'" run --kernel good -v /:x -v /tmp:x
expect 2 "'x' is no escape key" run --kernel good --console-escape x
expect 2 "vireo-v1" run --kernel good --cpu pentium
expect 2 "'doctor' does not know|no option|does not know what to do with 'x'" doctor x

expect 2 "a number from 1 to 64" run --kernel good --cpus 0
expect 2 "a number from 1 to 64" run --kernel good --cpus 65
expect 2 "a number from 1 to 64" run --kernel good --cpus 2x
expect 2 "a number from 1 to 64" run --kernel good --cpus -1
expect 2 "use it with --cpus 1" run --kernel good --cpus 2 --translator lockstep

expect 2 "number from 1 to 10000" run --kernel good --cpu-weight 0
expect 2 "number from 1 to 10000" run --kernel good --cpu-weight 10001
expect 2 "per cent of a processor" run --kernel good --cpu-cap 50
expect 2 "per cent of a processor" run --kernel good --cpu-cap 0%
expect 2 "list of the host's processors" run --kernel good --cpu-pin 1-0
expect 2 "list of the host's processors" run --kernel good --cpu-pin 0,
expect 2 "list of the host's processors" run --kernel good --cpu-pin -1
expect 2 "below 64" run --kernel good --vcpu 64,cap=5%
expect 2 "says nothing of a processor" run --kernel good --vcpu 0
expect 2 "says nothing of a processor" run --kernel good --vcpu 0,
expect 2 "says nothing of a processor" run --kernel good --vcpu cap=5%
expect 2 "knows no 'x'" run --kernel good --vcpu 0,x=5
expect 2 "knows no ''" run --kernel good --vcpu 0,weight=5,,
expect 2 "number from 1 to 10000" run --kernel good --vcpu 0,weight=
expect 2 "list of the host's processors" run --kernel good --vcpu 0,pin=0,cap=5%
expect 2 "speaks of processor 1: this VM has 0 to 0" run --kernel good --vcpu 0-1,cap=5%
expect 2 "give one of them" set somebody --vcpu 0
expect 2 "list of processors below 64" set somebody --vcpu x --cpu-cap 5%
expect 2 "nothing is to be set" set somebody
expect 2 "per cent of a processor" set somebody --cpu-cap x

# --- memory ---
expect 2 "whole MiB, at least one" run --kernel good --memory 0
expect 2 "whole MiB, at least one" run --kernel good --memory 0M
expect 2 "whole MiB, at least one" run --kernel good --memory 100K
expect 2 "no size of memory" run --kernel good --memory -5M
expect 2 "no size of memory" run --kernel good --memory 12Q
expect 2 "no size of memory" run --kernel good --memory ''
expect 2 "no size of memory" run --kernel good --memory 99999999999999999999
expect 2 "no size of memory" run --kernel good --memory 99999999999T
expect 2 "cannot have [0-9]+ MiB of memory: .* has [0-9]+ MiB" run --kernel good --memory $((host + 1))M

# --- files ---
expect 2 "cannot open kernel 'missing': No such file" run --kernel missing
expect 2 "kernel 'empty' is empty" run --kernel empty
expect 2 "kernel '/' is not a regular file" run --kernel /
expect 2 "kernel 'fifo' is not a regular file" run --kernel fifo
expect 2 "'zeros' is not a kernel" run --kernel zeros
expect 2 "'truncated' is truncated" run --kernel truncated
expect 2 "truncated|not a kernel" run --kernel elf4
expect 2 "not a fixed-address executable|truncated" run --kernel elf_cut
expect 2 "cannot open initrd 'missing'" run --kernel good --initrd missing
expect 2 "initrd 'initrd_large' .* does not fit" run --kernel good --initrd initrd_large --memory 64M
if kernel=$(ls "${VIREO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vireo}"/kernel-cloud/vmlinuz 2>/dev/null); then
	head -c 1000000 "$kernel" >bz_cut
	expect 2 "'bz_cut' is truncated: 1000000 bytes" run --kernel bz_cut
	rm bz_cut
	expect 2 "needs [0-9]+ MiB of memory in one piece" run --kernel "$kernel" --memory 32M
	expect 2 "initrd_large.* does not fit" run --kernel "$kernel" --initrd initrd_large --memory 128M
	expect 2 "command line has [0-9]+ characters" run --kernel "$kernel" \
		--cmdline "$(printf '%3000s' x)"
fi
expect 2 "audit' needs a FILE" audit
expect 2 "'17' is no mode" audit --mode 17 good
expect 2 "'nope' is no address" audit --base nope good
expect 2 "cannot open file 'missing'" audit missing
expect 2 "file 'empty' is empty" audit empty

# --- nothing left behind ---
rm -f out err
[ "$(ls)" = "$before" ] || complain "files were left: $(ls)"
for p in /proc/[0-9]*/cmdline; do
	tr '\0' ' ' 2>/dev/null <"$p" | grep "^$VIREO "
done >left 2>/dev/null
[ -s left ] && complain "processes were left: $(cat left)"
# A path that no socket can have: what it is, and a way out.
long=$(printf 'l%.0s' $(seq 120))
for option in "--serial socket:$long" "--qmp unix:$long" "--monitor unix:$long" "--vsock $long" "--gdb unix:$long" \
	"--console socket=$long"; do
	# shellcheck disable=SC2086
	expect 2 "name of a socket has at most [0-9]+ bytes .a relative one may do.: $long|vsock's socket" \
		run --kernel good $option --log-level error
done
mkdir -m 700 "$long"
XDG_RUNTIME_DIR=$WORK/$long expect 12 'too long for a socket: set XDG_RUNTIME_DIR' run --kernel good --name x --log-level error
exit $bad
