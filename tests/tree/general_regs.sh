#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Code that runs while the guest's SIMD state is in the host's registers must not call
# libc's memory functions, which use them; compilers make such calls of loops and of
# structure copies.  space.c is the VMM's and devices'.
build=${BUILD:-build}
bad=0
# Functions that put the state away first, or run before or after a guest does.
allowed='cpu_model_init|dbt_translate|emit_insn_reachable|window_loop_head|insn_decode|soft_vcpu_add|dbt_vcpu_init|dbt_vcpu_destroy|trap_init|lockstep_[a-z]+|note_[a-z]+|put_back|compare_[a-z]+|cell_code_look|find_early|look_at_code|find_copy|show_copy|cell_map_check_copies|cell_map_fill|direct_leave'
for dir in cpu x86 engine/soft; do
	for o in "$build/obj/$dir"/*.o; do
		calls=$(objdump -dr "$o" | sed -nE 's/^[0-9a-f]+ <(.*)>:$/in \1/p
			s/.*R_X86_64_PLT32[ \t]+((mem(set|cpy|move|cmp)|str(len|cmp|cpy))).*/\1/p' |
			awk -v allowed="^($allowed)" '$1 == "in" { f = $2; next } f !~ allowed { print f ":" $1 }' |
			tr '\n' ' ')
		[ -z "$calls" ] || { echo "$o calls $calls"; bad=1; }
	done
done
exit $bad
