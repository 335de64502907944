#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Code that runs while the guest's SIMD state is in the host's registers must not call
# libc's memory functions, which use them; compilers make such calls of loops and of
# structure copies.  space.c is the VMM's and devices'.
build=${BUILD:-build}
bad=0
for dir in cpu x86 engine/soft; do
	for o in "$build/obj/$dir"/*.o; do
		calls=$(nm -u "$o" | grep -wE 'mem(set|cpy|move|cmp)|str(len|cmp|cpy)' | tr -s ' \n' ' ')
		[ -z "$calls" ] || { echo "$o calls$calls"; bad=1; }
	done
done
exit $bad
