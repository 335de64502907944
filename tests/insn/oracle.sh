#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The instruction oracle on the interpreter and on the translator: 100,000 random cases each
# and blocks of instructions, with LONG=1 ten minutes of each, under the sanitizers (SAN=1),
# which make it slow, a tenth.  ORACLE_SEED repeats a run; a single case is shown by oracle
# --seed S --case N.
oracle=${BUILD:-build}/tests/insn/oracle
seed=${ORACLE_SEED:-$(date +%s)}
worst=0
part=1
[ "${SAN:-0}" != 1 ] || { part=10; echo "# a tenth of the cases, since the sanitizers are slow"; }

try() {
	amount="--cases $(($1 / part))"
	[ -z "${LONG:-}" ] || amount="--seconds 600"
	shift
	# shellcheck disable=SC2086
	"$oracle" --seed "$seed" $amount "$@"
	rc=$?
	[ "$rc" -le "$worst" ] || worst=$rc
}

try 100000
try 100000 --engine translator
try 25000 --engine windows
try 5000 --form block
try 15000 --form block --engine translator
try 15000 --form block --engine windows
try 2000 --form block --engine lockstep
# KVM takes the model "host" only where the hardware is behind it.
if "${BUILD:-build}/vireo" doctor | grep -q '^  yes  engine kvm'; then
	try 50000 --engine kvm
else
	echo "# KVM: $("${BUILD:-build}/vireo" doctor | sed -n 's,^ *[a-z-]* */dev/kvm *,/dev/kvm ,p')"
	# An emulator is compared with the software engine instead, and emulated.def says what it
	# is known to do otherwise.
	# The seed is a fixed one, since that list knows what these cases came to.
	if [ -w /dev/kvm ] && [ "${SAN:-0}" != 1 ]; then
		"$oracle" --seed 5 --cases 20000 --engine kvm --cpu vireo-v0 --beside-soft
		rc=$?
		[ "$rc" -le "$worst" ] || worst=$rc
	fi
fi
exit "$worst"
