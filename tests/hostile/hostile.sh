#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Hostile guests: whatever a guest does, vireo ends by itself in a documented way, or goes on
# and ends at a signal; it says so in one sentence, and writes no heap of messages.
#
# Bare images do random deeds: port and device accesses of every width, jumps into devices
# and stacks, page tables and descriptor tables there, MSRs, interrupts of misprogrammed
# chips, random code in ring 3 and ring 0 in 64-, 32- and 16-bit mode.  In Linux, root does so
# to ports (iopl) and devices (/dev/mem), and an ordinary user executes random bytes.
#
# HOSTILE_SEED repeats a run (printed), LONG=1 takes 20 times as long.
set -u
cd "$(dirname "$0")/../.." || exit 2
build=$(realpath "${BUILD:-build}")
work=$build/hostile
seconds=1
[ -n "${LONG:-}" ] && seconds=20
seed=${HOSTILE_SEED:-$((RANDOM << 15 | RANDOM))}
echo "# HOSTILE_SEED=$seed"
make -s -C tests/hostile BUILD="$build" || exit 1
bad=0

# The sentence that belongs to a status.
sentence() {
	case $1 in
	0) echo 'the guest powered off' ;;
	4) echo 'the guest reset' ;;
	6) echo 'triple fault' ;;
	8) echo 'the guest reported a panic' ;;
	10) echo 'ended by Terminated' ;;
	*[13579]) echo "debug-exit port, status $1" ;;
	*) echo 'no such status is documented' ;;
	esac
}

# ended NAME STATUS: is that, with $work/err, how a VM may end?
ended() {
	local log=$work/err last

	last=$(grep '^vireo: ' "$log" | tail -n 1)
	if ! grep -qF "$(sentence "$2")" <<<"$last"; then
		why="status $2, and the last word is '$last'"
	elif grep -qE 'Sanitizer|runtime error:|[Aa]ssert' "$log"; then
		why=$(grep -m 1 -E 'Sanitizer|runtime error:|[Aa]ssert' "$log")
	elif (($(wc -c <"$log") > 200000)); then
		why="$(wc -c <"$log") bytes of messages"
	else
		return 0
	fi
	echo "not ok $1: $why"
	tail -n 20 "$log" | cut -c 1-200
	bad=1
	return 1
}

# run_vireo LIMIT ARGS...: sets status; at the limit the VM is ended from outside.
run_vireo() {
	local limit=$1

	shift
	# A host may be so busy that it had not begun: the signal ended it as it would any process.
	for limit in "$limit" $((10 * limit)); do
		timeout --preserve-status -k 20 "$limit" "$build/vireo" run --engine "${ENGINE:-soft}" \
			--no-reboot ${VIREO_OPTIONS:-} "$@" >"$work/out" 2>"$work/err" </dev/null
		status=$?
		((status == 143)) || break
	done
}

options=("" "--translator off" "--cpu host" "--log-level debug" "--code-cache 4M")

# Machines of one kind, each with its own seed, until the time is over.
bare() {
	local image=$1 kind=$2 count=$3 end runs=0 n=$seed option
	local -A seen=()

	end=$((${EPOCHREALTIME/./} + seconds * 1000000))
	while ((${EPOCHREALTIME/./} < end || runs < ${#options[@]})); do
		option=${options[runs % ${#options[@]}]}
		run_vireo 2 --memory 64M --debug-exit $option --kernel "$work/$image.elf" \
			--cmdline "$kind $n $count"
		ended "$image/$kind" $status || {
			echo "# --debug-exit $option --cmdline '$kind $n $count'"
			return
		}
		seen[$status]=$((${seen[$status]:-0} + 1))
		n=$((n + 1)) runs=$((runs + 1))
	done
	echo "ok $image/$kind ($runs machines;$(for s in "${!seen[@]}"; do
		echo -n " status $s: ${seen[$s]}"; done))"
}

# Ends the VM of process $1, once its program has begun, if it does not so by itself.
end_in_time() {
	local n=0

	while kill -0 "$1" 2>/dev/null && ((n < 4000)) && ! grep -aq ': begun' "$work/out"; do
		sleep 0.1
		n=$((n + 1))
	done
	n=0
	while kill -0 "$1" 2>/dev/null && ((n < 30 * seconds + 60)); do
		sleep 0.1
		n=$((n + 1))
	done
	kill -TERM "$1" 2>/dev/null
}

# A program in Linux, as root.  It may spoil the console that it would tell of its end on.
in_linux() {
	local name=$1 program=$2 kind=$3

	printf 'file /hostile %s 755\n' "$work/$program" >"$work/list"
	tools/initramfs.sh "$work/initramfs" "$work/list" || exit 1
	timeout --preserve-status -k 20 "$((500 + 2 * seconds))" "$build/vireo" run \
		--engine "${ENGINE:-soft}" --no-reboot ${VIREO_OPTIONS:-} --memory 128M \
		--kernel "$kernel" --initrd "$work/initramfs" --cmdline "console=ttyS0 quiet \
		panic=-1 iomem=relaxed run=\"/hostile $kind $seed $((2 * seconds))\"" \
		>"$work/out" 2>"$work/err" </dev/null &
	end_in_time $!
	wait $!
	status=$?
	ended "linux/$name" $status || return
	if grep -aq "^$kind: begun" "$work/out"; then
		echo "ok linux/$name (status $status; $(grep -a "^$kind: [0-9]" "$work/out" | tr -d '\r'))"
	else
		echo "not ok linux/$name: it did not begin: $(tail -n 3 "$work/out" | cut -c 1-200)"
		bad=1
	fi
}

for image in hostile64 hostile32; do
	for kind in ports mmio jump msr chips; do
		bare $image $kind 20000
	done
	bare $image user 1000
	bare $image ring0 1000
done
bare hostile64 compat 1000
bare hostile32 code16 1000

if kernel=$(tools/kernel.sh cloud 2>"$work/kernel.err"); then
	in_linux ports linux64 ports
	in_linux mem linux64 mem
	in_linux code64 linux64 code
	if make -s -C tests/hostile BUILD="$build" "$work/linux32" 2>/dev/null; then
		in_linux code32 linux32 code
	else
		echo "ok linux/code32 # skip no 32-bit compiler and C library (gcc-multilib)"
	fi
else
	echo "ok linux # skip no kernel: $(tail -n 1 "$work/kernel.err")"
fi
exit $bad
