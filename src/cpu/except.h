/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exceptions and interrupts: raising (recording in v->fault) and delivering
 * (through the IVT, a 32-bit IDT or a 64-bit IDT).
 *
 * Source: Intel SDM volume 3, "Interrupt and Exception Handling".
 */
#ifndef VIREO_CPU_EXCEPT_H
#define VIREO_CPU_EXCEPT_H

#include "cpu/vcpu.h"

/* What executing one instruction (or a helper of it) came to. */
enum exec_status {
	EXEC_OK,	/* done; v->rip is the next instruction's */
	EXEC_FAULT,	/* v->fault is filled, v->rip is the faulting instruction's */
	EXEC_EXIT,	/* leave vcpu_run: halted, shut down or v->err */
};

/*
 * Record a fault and return EXEC_FAULT, so that handlers say "return raise_gp(v, 0)".
 * (raise() itself is the C library's: a symbol of ours of that name would replace it.)
 */
enum exec_status raise_exc(struct vcpu *v, unsigned int vector);
enum exec_status raise_err(struct vcpu *v, unsigned int vector, uint32_t error);
enum exec_status raise_pf(struct vcpu *v, gva_t gva, uint32_t error);
enum exec_status raise_db(struct vcpu *v, uint64_t dr6);
#define raise_ud(v)		raise_exc((v), EXC_UD)
#define raise_gp(v, error)	raise_err((v), EXC_GP, (error))

/* MEM_* as an exec_status: ok, fault, exit. */
static inline enum exec_status mem_status(enum mem_result r)
{
	return (enum exec_status)r;
}

/*
 * Delivers v->fault: pushes the frame, switches stacks and privilege; contributory
 * faults become #DF, a fault in #DF shutdown (v->shutdown, EXEC_EXIT).  v->rip is the
 * value to push for faults; for soft ones insn_len is added.
 */
enum exec_status vcpu_deliver(struct vcpu *v);

/* INT n, INT3, INT1, INTO (already found true): checks gate DPL, IOPL in VM86. */
enum exec_status vcpu_software_interrupt(struct vcpu *v, uint8_t vector, unsigned int insn_len,
					 bool int3_or_into);

/* Delivers an external interrupt or NMI at an instruction boundary. */
enum exec_status vcpu_interrupt(struct vcpu *v, uint8_t vector);
enum exec_status vcpu_nmi(struct vcpu *v);

/*
 * Looks at v->attention between instructions: INIT, SIPI, NMI, interrupts (if IF and no
 * shadow), single-step trap, flush, stop.  EXEC_OK: go on at v->rip (which may be a
 * handler's now); EXEC_EXIT: with *why.  @stepped: an instruction was just completed with
 * TF set at its start.
 */
enum exec_status vcpu_attend(struct vcpu *v, bool stepped, enum vcpu_exit *why);
/* The same for an interrupt alone: with anything else wanted or pending nothing happens. */
enum exec_status vcpu_take_interrupt(struct vcpu *v);

#endif
