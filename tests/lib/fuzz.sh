#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make fuzz: hostile drivers, clients, peers, images and code with the sanitizers, FUZZ_SECONDS (4: a
# minute or two in all) for each device, format and protocol, each from a seed that is printed and that
# FUZZ_SEED repeats (further runs count up from it).
set -u
cd "$(dirname "$0")/../.." || exit 2
export FUZZ_SECONDS=${FUZZ_SECONDS:-4}
bad=0

# Again and again, each time from another seed, until its time is over.
for name in virtio/fuzz virtio/mmio backend/qcow2_damage backend/p9_fuzz backend/net_frame backend/net_socket \
	backend/net_switch backend/user_ahead dev/chips_fuzz machine/board_fuzz machine/reset_vector soft/test_fuzz \
	soft/test_wild; do
	end=$((SECONDS + FUZZ_SECONDS)) runs=0 status=0
	log=$BUILD/tests/fuzz-${name/\//-}.log
	while ((runs == 0 || SECONDS < end)); do
		seed=${FUZZ_SEED:+$((FUZZ_SEED + runs))}
		seed=${seed:-$((RANDOM << 30 | RANDOM << 15 | RANDOM | 1))}
		FUZZ_SEED=$seed timeout $((300 + 20 * FUZZ_SECONDS)) "$BUILD/tests/unit/$name" >"$log" 2>&1 </dev/null
		status=$?
		runs=$((runs + 1))
		[ $status = 0 ] || break
	done
	if [ $status = 0 ]; then
		echo "ok fuzz/$name ($runs runs)"
	else
		tail -n 40 "$log"
		echo "not ok fuzz/$name: status $status with FUZZ_SEED=$seed FUZZ_SECONDS=$FUZZ_SECONDS"
		bad=1
	fi
done
exit $bad
