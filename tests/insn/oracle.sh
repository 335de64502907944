#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The instruction oracle: 100,000 random cases, with LONG=1 ten minutes of them.
# ORACLE_SEED repeats a run; a single case is shown by oracle --seed S --case N.
oracle=${BUILD:-build}/tests/insn/oracle
if [ -n "${LONG:-}" ]; then
	exec "$oracle" --seed "${ORACLE_SEED:-$(date +%s)}" --seconds 600
fi
exec "$oracle" --seed "${ORACLE_SEED:-$(date +%s)}" --cases 100000
