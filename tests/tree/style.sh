#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What every file keeps to: an SPDX line first, no unfinished work, no mutable data at file
# scope in src/ without const, no trailing blanks.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
complain() { echo "$1"; bad=1; }

mapfile -t code < <(find src tests tools -type f \( -name '*.[chS]' -o -name '*.def' \
	-o -name '*.inc' -o -name '*.sh' -o -name '*.py' \) 2>/dev/null)

for file in "${code[@]}"; do
	head -n 2 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' ||
		complain "$file: no SPDX line at its head"
done

# The words are written with a class, so that this file does not match itself.
marks='\b(TOD[O]|FIXM[E]|HAC[K])\b|#if[ ]0|not implemented ye[t]'
if grep -nE "$marks" "${code[@]}"; then
	complain "lines above: unfinished work is finished, or said in the documents"
fi
if grep -nE '[[:space:]]+$' "${code[@]}"; then
	complain "lines above: blanks at the end"
fi
# A definition at file scope that is neither const, extern, typedef nor a function.
if grep -nE '^(static )?(_Atomic |volatile |unsigned |struct [a-z0-9_]+ |u?int[0-9]*(_t)? |bool |char |size_t )+\*?[a-z0-9_]+(\[[^]]*\])?( = [^(]*)?;$' \
	$(find src -name '*.c'); then
	complain "lines above: mutable data at file scope"
fi
exit $bad
