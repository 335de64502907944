/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter's handlers: what one instruction does, in C.
 *
 * The rules between the engine's loop (soft.c) and the handlers (exec_*.c):
 *
 * 1. On entry v->rip is the start of the instruction.
 * 2. EXEC_OK: the handler has set v->rip to what comes next; straight-line handlers
 *    end with "return exec_next(v, i)".  The loop truncates v->rip to 32 bits outside
 *    64-bit mode, so exec_next() does not look at the mode; branches with a 16-bit
 *    operand truncate their target themselves and check it against CS.limit
 *    (#GP(0) before anything is committed); in 64-bit mode they check that it is
 *    canonical.
 * 3. EXEC_FAULT: v->fault is filled, v->rip is untouched and so is every register and
 *    byte of memory that the manual says is.
 * 4. EXEC_EXIT: leave vcpu_run (halted, shutdown or v->err); v->rip is where the guest
 *    goes on.
 * 5. Handlers of instructions without INSN_BRANCH always leave v->rip at the next one
 *    and change nothing that decoding or the mode depends on.  INSN_BRANCH means "ends
 *    the block", also set for what changes the mode, the interrupt flag, TF or the
 *    paging: CLI, STI, POPF, MOV SS, MOV CR, WRMSR, INVLPG, IN, OUT ...
 * 6. A string instruction with REP has INSN_BRANCH: its handler works on a bounded
 *    number of elements, keeps the registers up to date, and leaves v->rip at the
 *    instruction when some are left.
 * 7. STI, MOV SS, POP SS: sys_sti() and seg_load() set ATTN_SHADOW; the loop clears it
 *    after the instruction that follows.
 * 8. SIMD state may be live in the host's registers (cpu/fpu.h): handlers are built
 *    with -mgeneral-regs-only and call nothing from libc; use __builtin_memcpy with
 *    constant sizes only.
 * 9. The decoder has refused (#UD) what is not encodable in the mode, a LOCK prefix on
 *    the wrong instruction, and what the CPU model lacks.  Handlers check the privilege,
 *    CR4 and the like.
 * 10. INSN_FLAGS_DEAD: the arithmetic flags this instruction writes are overwritten
 *    before anybody can look, so they need not be computed.  exec_select() may use it.
 */
#ifndef VIREO_ENGINE_SOFT_EXEC_H
#define VIREO_ENGINE_SOFT_EXEC_H

#include "cpu/except.h"
#include "x86/decode.h"

typedef int (*exec_fn)(struct vcpu *v, const struct insn *i);

/*
 * The handler of a decoded HOW_C instruction, specialised by operand size and form;
 * never NULL (exec_ud for what has none).  Called once, when a block is made.
 */
exec_fn exec_select(const struct insn *i);

/* Raises #UD. */
int exec_ud(struct vcpu *v, const struct insn *i);

static inline int exec_next(struct vcpu *v, const struct insn *i)
{
	v->rip += i->len;
	return EXEC_OK;
}

/*
 * The offset within its segment of the instruction's memory operand, truncated to the
 * address size.
 */
static inline uint64_t exec_offset(const struct vcpu *v, const struct insn *i)
{
	const struct mem_operand *m = &i->mem;
	uint64_t a = m->disp;

	if (m->base == REG_RIP)
		a += v->rip + i->len;
	else if (m->base != REG_NONE)
		a += v->gpr[m->base];
	if (m->index != REG_NONE && !m->vsib)
		a += v->gpr[m->index] << m->scale;
	if (m->addr_size == 8)
		return a;
	return m->addr_size == 4 ? (uint32_t)a : (uint16_t)a;
}

/*
 * exec_addr.c: the linear address of the memory operand for an access of @size bytes:
 * segment limit, type and canonical checks (#GP(0), #SS(0)), segment base.
 * @access is ACC_READ or ACC_WRITE.  @off is normally exec_offset(v, i).
 */
enum exec_status exec_linear(struct vcpu *v, unsigned int seg, uint64_t off, unsigned int size,
			     unsigned int access, gva_t *gva);

#endif
