// SPDX-License-Identifier: Apache-2.0
/*
 * The loop of a vCPU: what attention asks for, KVM_RUN, what KVM came back for.
 *
 * While KVM has the state, only interrupts, NMIs and the end of a run are seen to here; all
 * else is done by cpu/attend.c with the state in struct vcpu.
 *
 * The kick: 'inside' is set before attention is looked at and cleared behind KVM_RUN.  Who
 * kicks has set attention first; if it then finds 'inside', it sets immediate_exit and sends
 * a signal.  A signal that comes before KVM_RUN is made up for by immediate_exit, one that
 * comes later ends it.
 *
 * Source: Linux, Documentation/virt/kvm/api.rst, "KVM_RUN".
 */
#include "cpu/pv.h"
#include "engine/kvm/kick.h"
#include "engine/kvm/kvm_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <time.h>

/* What KVM_RUN is left for.  ATTN_STEP and ATTN_SHADOW are in KVM's state meanwhile. */
#define KICKED_WITHIN	200000	/* ns */
#define ATTN_LOOK	(ATTN_SMI | ATTN_INIT | ATTN_SIPI | ATTN_STOP)
/*
 * Exits without end in the middle of one instruction would be KVM's fault.  Of a repeated one
 * that reads a device KVM does 1024 turns, each of them an exit or more, before it can stop.
 */
#define COMPLETIONS	8192

void kvm_vcpu_kick(struct engine *en, struct vcpu *v)
{
	struct kvm_cpu *c = ((struct kvm *)en)->cpu[v->index];

	if (!c || !atomic_load(&c->inside))
		return;
	__atomic_store_n(&c->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	kick_send(c->thread);
}

/* The thread that runs a vCPU may be another after a pause. */
static void know_thread(struct kvm_cpu *c)
{
	if (c->thread_known && pthread_equal(c->thread, pthread_self()))
		return;
	c->thread = pthread_self();
	c->thread_known = true;
	kick_accept();
}

static enum kvm_next enter_failed(struct kvm_cpu *c)
{
	switch (errno) {
	case EINTR:
		return NEXT_RUN;
	case EFAULT:
		kvm_report(c, "KVM cannot reach guest memory: the host is out of memory or of huge pages");
		return NEXT_ERROR;
	default:
		kvm_report(c, "KVM cannot run processor %u: error %d", c->v->index, errno);
		return NEXT_ERROR;
	}
}

/* One KVM_RUN and what it came back for; errno is left in place for -1. */
static int run_once(struct kvm_cpu *c, enum kvm_next *next)
{
	int rc = c->kvm->sys->ioctl(c->fd, KVM_RUN, 0);
	int error = errno;

	atomic_store(&c->inside, false);
	kvm_coalesced_take(c);
	kvm_tpr_in(c);
	/* Room for another, or the handler has begun. */
	if (c->run->ready_for_interrupt_injection || !c->run->if_flag)
		c->given = -1;
	c->counts.exits++;
	errno = error;
	*next = rc ? enter_failed(c) : kvm_exit(c);
	errno = error;
	return rc;
}

/*
 * An instruction that came here for a port, a device or a register is finished by the next
 * KVM_RUN, which this one is without running any further.
 */
static enum kvm_next finish_instruction(struct kvm_cpu *c)
{
	enum kvm_next next = NEXT_RUN;

	for (unsigned int i = 0; i < COMPLETIONS; i++) {
		kvm_tpr_out(c);
		c->run->request_interrupt_window = 0;
		c->run->immediate_exit = 1;
		if (run_once(c, &next) || next != NEXT_RUN)
			return next;
	}
	kvm_report(c, "KVM does not come to the end of an instruction");
	return NEXT_ERROR;
}

/* Runs with the state in KVM until something wants it in struct vcpu. */
static enum kvm_next run_in_kvm(struct kvm_cpu *c)
{
	enum kvm_next next = NEXT_RUN;

	c->run->ready_for_interrupt_injection = 0;
	while (next == NEXT_RUN) {
		uint32_t bits;

		/* The order in which the head of this file says why. */
		__atomic_store_n(&c->run->immediate_exit, 0, __ATOMIC_RELAXED);
		atomic_store(&c->inside, true);
		bits = atomic_load(&c->v->attention);
		if (bits & ATTN_LOOK) {
			atomic_store(&c->inside, false);
			next = finish_instruction(c);
			return next == NEXT_RUN ? NEXT_LOOK : next;
		}
		if (bits & ATTN_FLUSH)	/* of tables that are empty while KVM runs */
			atomic_fetch_and(&c->v->attention, ~(uint32_t)ATTN_FLUSH);
		pv_account(c->v);
		if (!kvm_inject(c, bits))
			next = NEXT_ERROR;
		kvm_tpr_out(c);
		if (next == NEXT_RUN)
			run_once(c, &next);
	}
	atomic_store(&c->inside, false);
	return next;
}

/*
 * HLT that came to us, which it does where the local APICs are ours.  KVM keeps kicks (pv.h) for
 * its own, so who may be waiting for one sleeps only for a moment: a waiter looks again.
 */
static void halt(struct vcpu *v)
{
	const struct timespec moment = { .tv_nsec = KICKED_WITHIN };

	stat_add(&v->stats.halts, 1);
	v->halted = !v->kicked;
	v->kicked = false;
	if (v->rflags & RFLAGS_IF || !pv_may_wait(v))
		return;
	nanosleep(&moment, NULL);	/* cut short by a kick's signal */
	v->halted = false;
}

/* Brings the state to struct vcpu and does what @next asks for; false: leave with *why. */
static bool after(struct kvm_cpu *c, enum kvm_next next, enum vcpu_exit *why)
{
	struct vcpu *v = c->v;

	*why = VCPU_EXIT_ERROR;
	if (next == NEXT_ERROR || !kvm_state_get(c))
		return false;
	switch (next) {
	case NEXT_HALT:
		halt(v);
		break;
	case NEXT_SHUTDOWN:
		v->shutdown = true;
		break;
	case NEXT_STEP:
		return kvm_step(c);
	case NEXT_DEBUG:
		raise_db(v, c->run->debug.arch.dr6);
		vcpu_deliver(v);
		break;
	default:
		break;
	}
	return true;
}

/*
 * What attention asks for, with the state in struct vcpu; false: leave with *why.  With local
 * APICs in KVM, interrupts, NMIs and waiting are KVM's.
 */
static bool attend(struct kvm_cpu *c, enum vcpu_exit *why)
{
	const uint32_t theirs = c->kvm->apics ? ATTN_INTR | ATTN_NMI : 0;
	struct vcpu *v = c->v;
	uint32_t kept = atomic_fetch_and(&v->attention, ~theirs) & theirs;
	bool go = vcpu_attend(v, false, why) == EXEC_OK;

	atomic_fetch_or(&v->attention, kept);
	go = go || (c->kvm->apics && *why == VCPU_EXIT_HALT);
	if (go && v->intr_parked) {	/* KVM says when IF is set */
		v->intr_parked = false;
		atomic_fetch_or(&v->attention, ATTN_INTR);
	}
	return go;
}

enum vcpu_exit kvm_vcpu_run(struct engine *en, struct vcpu *v)
{
	struct kvm *k = (struct kvm *)en;
	struct kvm_cpu *c = k->cpu[v->index];
	enum vcpu_exit why = VCPU_EXIT_ERROR;

	know_thread(c);
	if (!v->pv_steal)
		v->pv_no_calls = !k->vmcall;
	if (kvm_slots_sync(k, &v->err))
		return VCPU_EXIT_ERROR;
	do {
		if (!attend(c, &why))
			return why;
		if (!kvm_state_put(c))
			return VCPU_EXIT_ERROR;
	} while (after(c, run_in_kvm(c), &why));
	return why;
}
