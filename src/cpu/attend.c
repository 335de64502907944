// SPDX-License-Identifier: Apache-2.0
/*
 * What is looked at between two instructions, in the order of the manual's table
 * "Priority Among Concurrent Events": INIT, traps of the instruction just done, NMI,
 * interrupts.  (Faults of the next instruction, its breakpoints among them, are the
 * engine's, which is the one to fetch it.)
 *
 * How ATTN_INTR and ATTN_NMI wait and come back: vcpu.h.
 *
 * Source: Intel SDM volume 3, "Interrupt and Exception Handling".
 */
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "cpu/pv.h"
#include "cpu/system_priv.h"

static uint32_t peek(struct vcpu *v)
{
	/* Acquire: pairs with the setter's release in vcpu_attention(). */
	return atomic_load_explicit(&v->attention, memory_order_acquire);
}

static void take(struct vcpu *v, uint32_t bits)
{
	/* Ordered before the look at what the bit announced: see vcpu.h. */
	atomic_fetch_and(&v->attention, ~bits);
}

/* INIT and SIPI; true if this processor now waits for a SIPI or has just had one. */
static void attend_init(struct vcpu *v, uint32_t bits)
{
	if (bits & ATTN_INIT) {
		take(v, ATTN_INIT);
		vcpu_reset(v, true);
		v->wait_sipi = v->index != 0;
	}
	if (bits & ATTN_SIPI) {
		take(v, ATTN_SIPI);
		if (v->wait_sipi) {
			uint8_t vector = __atomic_load_n(&v->sipi_vector, __ATOMIC_ACQUIRE);

			v->wait_sipi = false;
			seg_load_real(v, SEG_CS, vector << 8);
			v->rip = 0;
		}
	}
}

/* Single step and data breakpoints of the instruction just done. */
static enum exec_status attend_traps(struct vcpu *v, bool stepped, uint32_t bits)
{
	uint64_t dr6 = v->db_pending;

	stepped &= !v->step_void;
	v->step_void = false;
	/* Held off for one instruction; a single-step trap is lost then. */
	if (bits & ATTN_SHADOW && v->shadow_mov_ss)
		return EXEC_OK;
	if (stepped)
		dr6 |= DR6_BS;
	if (!dr6)
		return EXEC_OK;
	v->db_pending = 0;
	v->halted = false;
	raise_db(v, dr6);
	return vcpu_deliver(v);
}

static enum exec_status attend_nmi(struct vcpu *v)
{
	take(v, ATTN_NMI);
	if (v->nmi_blocked) {
		v->nmi_parked = true;
		return EXEC_OK;
	}
	return vcpu_nmi(v);
}

static enum exec_status attend_interrupt(struct vcpu *v)
{
	enum exec_status rc = EXEC_OK;
	int vector;

	take(v, ATTN_INTR);
	if (!(v->rflags & RFLAGS_IF)) {
		v->intr_parked = true;
		return EXEC_OK;
	}
	fpu_put(v);
	pv_account(v);
	vector = v->intc_ops->ack(v->intc);
	if (vector < 0)
		return EXEC_OK;
	rc = vcpu_interrupt(v, vector);
	/* There may be more; a handler behind a trap gate runs with IF set. */
	v->intr_parked = true;
	vcpu_recheck_interrupts(v);
	return rc;
}

enum exec_status vcpu_take_interrupt(struct vcpu *v)
{
	if (peek(v) != ATTN_INTR || v->db_pending || v->step_void || v->shutdown || v->wait_sipi)
		return EXEC_OK;
	return attend_interrupt(v);
}

static bool cannot_run(struct vcpu *v, enum vcpu_exit *why)
{
	if (v->err.code)
		*why = VCPU_EXIT_ERROR;
	else if (v->shutdown)
		*why = VCPU_EXIT_SHUTDOWN;
	else if (v->halted || v->wait_sipi)
		*why = VCPU_EXIT_HALT;
	else
		return false;
	return true;
}

/* A processor that waits for SIPI, or is shut down, keeps its requests for later. */
static void park_all(struct vcpu *v, uint32_t bits)
{
	take(v, bits & (ATTN_INTR | ATTN_NMI));
	v->intr_parked |= (bits & ATTN_INTR) != 0;
	/* As after reset: an NMI during the wait is lost. */
}

enum exec_status vcpu_attend(struct vcpu *v, bool stepped, enum vcpu_exit *why)
{
	uint32_t bits = peek(v);
	enum exec_status rc;

	if (bits & ATTN_FLUSH) {
		take(v, ATTN_FLUSH);
		tlb_flush_all(v);
	}
	attend_init(v, bits);
	if (v->shutdown || v->wait_sipi) {
		park_all(v, bits);
		goto out;
	}
	if (bits & ATTN_KICK) {
		take(v, ATTN_KICK);
		v->kicked = !v->halted;
		v->halted = false;
	}
	rc = attend_traps(v, stepped, bits);
	if (rc == EXEC_OK && !(peek(v) & ATTN_SHADOW)) {
		if (bits & ATTN_NMI)
			rc = attend_nmi(v);
		if (rc == EXEC_OK && bits & ATTN_INTR)
			rc = attend_interrupt(v);
	}
	(void)rc;	/* EXEC_EXIT left its reason in the vCPU */
out:
	if (bits & ATTN_STOP) {
		take(v, ATTN_STOP);
		*why = VCPU_EXIT_STOP;
		return EXEC_EXIT;
	}
	return cannot_run(v, why) ? EXEC_EXIT : EXEC_OK;
}
