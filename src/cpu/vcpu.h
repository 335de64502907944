/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual processor: its architectural state, what is pending, its TLB, and
 * its wires to the interrupt controller.  Engine-neutral: an engine may keep
 * state elsewhere while it runs, and puts all of it here when vcpu_run returns.
 *
 * Locks: everything belongs to the vCPU's thread, except 'attention' and what
 * the (a) tags name, which any thread may write atomically.
 *
 * The struct is below 2 GiB (vcpu_alloc): translated code has its fields' addresses in
 * instructions.
 *
 * Source: Intel SDM volume 3, "System Architecture Overview".
 */
#ifndef VIREO_CPU_VCPU_H
#define VIREO_CPU_VCPU_H

#include "base/clock.h"
#include "base/log.h"
#include "base/types.h"
#include "base/wire.h"
#include "cpu/tlb.h"
#include "mem/space.h"
#include "x86/regs.h"

#include <stdatomic.h>

struct cpu_model;
struct debugger;

/* A segment register with its hidden part. */
struct segment {
	uint16_t sel;
	uint16_t attr;		/* descriptor bits 40-55: type, S, DPL, P, AVL, L, D/B, G (SEG_*) */
	uint32_t limit;		/* in bytes, G already applied */
	uint64_t base;
};

struct table_reg {		/* GDTR, IDTR */
	uint64_t base;
	uint16_t limit;
};

/* An exception on its way into the guest. */
struct fault {
	uint8_t vector;
	bool has_error;
	bool soft;		/* INT n, INT3, INTO: a trap of an instruction of insn_len bytes */
	uint8_t insn_len;
	uint32_t error;
	uint64_t cr2;		/* for #PF: goes into CR2 at delivery */
	uint64_t dr6;		/* for #DB: bits to set in DR6 at delivery */
};

/* How the decoder and the memory tables see the present mode. */
enum code_size { CODE_16, CODE_32, CODE_64 };

/*
 * A local APIC as an engine with local APICs of its own takes it over and gives it back: the
 * registers of its page by offset / 16, the current count among them, and what is not there.
 */
struct apic_state {
	uint64_t base;		/* MSR APIC_BASE */
	uint64_t tsc_deadline;
	uint32_t reg[64];
};

/* The wires to the interrupt controllers; functions are thread-safe. */
struct vcpu_intc_ops {
	/* The vector to take at the present priority, acknowledged; -1: none after all. */
	int (*ack)(void *intc);
	/* True if ack() would give a vector now. */
	bool (*pending)(void *intc);
	uint8_t (*get_tpr)(void *intc);			/* CR8 << 4 */
	void (*set_tpr)(void *intc, uint8_t tpr);
	/* APIC_BASE, TSC_DEADLINE and 0x800-0x8ff; false: #GP. */
	bool (*read_msr)(void *intc, uint32_t index, uint64_t *value);
	bool (*write_msr)(void *intc, uint32_t index, uint64_t value);
	/*
	 * The page of this vCPU's own registers, GPA_NONE while there is none (APIC disabled
	 * or in x2APIC mode).  It lies over RAM and devices for accesses of this vCPU, so
	 * its slow path asks before it looks anywhere else, and the TLB never holds the
	 * page; when the page moves, the controller asks for ATTN_FLUSH.
	 */
	gpa_t (*mmio_base)(void *intc);
	/* @off within the page, @size 1, 2, 4 or 8, not beyond the page. */
	uint64_t (*mmio_read)(void *intc, uint32_t off, unsigned int size);
	void (*mmio_write)(void *intc, uint32_t off, unsigned int size, uint64_t value);
	/*
	 * For an engine with local APICs of its own.  From host(true) to host(false) the
	 * controller here stands still but for the PIC's INTR, which pending() and ack() tell of
	 * whatever LINT0 is set to.  get_state() is true if the state was made anew (reset, load)
	 * since it was taken last, so that the engine has to take it again.
	 */
	void (*host)(void *intc, bool by_engine);
	bool (*get_state)(void *intc, struct apic_state *s);
	void (*set_state)(void *intc, const struct apic_state *s);
	/* A level-triggered interrupt has ended there: the I/O APICs want to hear of it. */
	void (*end_of_interrupt)(void *intc, uint8_t vector);
};

#define GPA_NONE	UINT64_MAX

/*
 * Bits of vcpu.attention: why the engine must look up before the next instruction.
 *
 * ATTN_INTR and ATTN_NMI are requests that may have to wait (IF clear, NMIs blocked), and
 * must not make every poll slow meanwhile.  The protocol: the controller changes its
 * state, then sets ATTN_INTR, from any thread.  Only vcpu_attend() on the vCPU's own
 * thread clears it, before it looks at the controller; so a request that comes in between
 * sets the bit again.  Where it did not take everything, it sets intr_parked instead
 * (plain, the vCPU thread's own), and whoever sets RFLAGS.IF, or ends a shadow, turns that
 * back into ATTN_INTR through vcpu_recheck_interrupts().  When ack() gave nothing although
 * IF was set, nothing is parked: what the controller holds is below the priority, and
 * the controller sets ATTN_INTR when the priority falls (EOI, TPR).  NMIs are parked in
 * nmi_parked until IRET.
 */
#define ATTN_INTR	BIT(0)	/* (a) the interrupt controller may have something */
#define ATTN_NMI	BIT(1)	/* (a) */
#define ATTN_SMI	BIT(2)	/* (a) reserved */
#define ATTN_INIT	BIT(3)	/* (a) */
#define ATTN_SIPI	BIT(4)	/* (a) vector in sipi_vector */
#define ATTN_STOP	BIT(5)	/* (a) leave vcpu_run with VCPU_EXIT_STOP */
#define ATTN_FLUSH	BIT(6)	/* (a) flush the whole TLB (another vCPU or the VMM asks) */
#define ATTN_STEP	BIT(7)	/* RFLAGS.TF is set, or a debugger single-steps */
#define ATTN_ENGINE	BIT(9)	/* (a) the engine's own: other vCPUs want something of it */
#define ATTN_KICK	BIT(10)	/* (a) another vCPU ends this one's HLT: pv.h */
#define ATTN_SHADOW	BIT(8)	/* the last instruction was STI, MOV SS or POP SS */

/* Why vcpu_run came back. */
enum vcpu_exit {
	VCPU_EXIT_STOP,		/* ATTN_STOP was set */
	VCPU_EXIT_HALT,		/* HLT (or MWAIT): wait for attention, then run again */
	VCPU_EXIT_SHUTDOWN,	/* triple fault */
	VCPU_EXIT_ERROR,	/* the host failed; vcpu.err says how */
	VCPU_EXIT_DEBUGGER,	/* a debugger's break- or watchpoint: vcpu.debug_hit */
};

enum debug_point { DEBUG_NONE, DEBUG_BREAK, DEBUG_WRITE, DEBUG_READ, DEBUG_ACCESS };

struct debug_hit {
	enum debug_point kind;
	gva_t addr;		/* of the instruction to come, or of the watchpoint */
};

#define ENGINE_AREA	4063232
#define XSAVE_AREA_SIZE	4096	/* standard format: legacy, AVX, AVX-512 */

/* What a vCPU's thread does, as far as it says. */
enum vcpu_doing {
	VCPU_GUEST,		/* runs the guest: see cpl */
	VCPU_TRANSLATION,	/* decodes or translates its code */
	VCPU_DEVICE,		/* is in a device for it */
};

/* Counters that vireo stats shows; written by the vCPU's thread only, with stat_add(). */
struct vcpu_stats {
	uint64_t insns;			/* retired, as far as the engine counts them */
	uint64_t exceptions[32];
	uint64_t interrupts;
	uint64_t mmio, pio, halts;
	uint64_t tlb_fills, tlb_flushes, page_walks;
	uint64_t blocks_decoded, blocks_invalidated;
};

struct vcpu {
	/* --- hot: known to translated code --- */
	uint64_t gpr[16];	/* RAX RCX RDX RBX RSP RBP RSI RDI R8-R15 (REG_*) */
	uint64_t rip;		/* at an exception: of the faulting instruction */
	uint64_t rflags;	/* all of them; arithmetic flags are always up to date here */
	_Atomic uint32_t attention;	/* ATTN_* */
	_Atomic uint64_t calm[2]; /* 0 after another thread set attention: see vcpu_attention */
	uint64_t pauses;	/* PAUSEs until vcpu_pause() gives the host's core away; not 0 */
	uint8_t cpl;
	uint8_t code_size;	/* enum code_size of CS and EFER.LMA */
	uint8_t stack_size;	/* 2, 4 or 8: width of the stack pointer (SS.B) */
	bool fpu_live;		/* SIMD and x87 state is in the host's registers, not in xsave */
	struct tlb_view *view;	/* the tables for data accesses at the present CPL and AC */
	struct segment seg[6];	/* ES CS SS DS FS GS (SEG_ES ...), the encoding's order */

	/* --- control state --- */
	uint64_t cr0, cr2, cr3, cr4;	/* CR8 is in the local APIC */
	uint64_t efer;
	uint64_t xcr0;
	uint64_t dr[8];		/* DR0-3, DR6, DR7; 4 and 5 unused */
	struct segment ldtr, tr;
	struct table_reg gdtr, idtr;

	/* --- MSRs that are plain storage --- */
	uint64_t star, lstar, cstar, sfmask;
	uint64_t kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, misc_enable, spec_ctrl, xss, tsc_aux, debugctl;
	uint64_t tsc_offset;	/* guest TSC = host TSC + this */
	uint64_t tsc_adjust;
	uint64_t tsc_boot_offset; /* tsc_offset at power-on, the same on all vCPUs */
	uint64_t pv_wall, pv_clock, pv_steal; /* pv.c: addresses of records, bit 0: in use */
	bool pv_no_calls;	/* the engine at the guest's start had no PV_CALLS */
	uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
	uint64_t mcg_status;

	/* --- what is pending or blocked --- */
	struct fault fault;	/* filled by vcpu_raise*, delivered by vcpu_deliver */
	bool nmi_blocked;	/* from NMI delivery to IRET */
	bool nmi_parked;	/* an NMI waits for nmi_blocked to end */
	bool intr_parked;	/* ATTN_INTR is to be set again when RFLAGS.IF is */
	bool step_void;		/* the instruction cleared TF on the way to its handler: no trap */
	bool shadow_mov_ss;	/* ATTN_SHADOW is of MOV SS or POP SS: holds traps off as well */
	bool halted;
	bool kicked;		/* the next HLT ends at once: see ATTN_KICK */
	bool shutdown;
	bool wait_sipi;
	uint8_t sipi_vector;	/* (a) */
	uint64_t db_pending;	/* DR6 bits of data breakpoints hit by this instruction */

	/* --- SIMD, x87: XSAVE standard format, valid while !fpu_live --- */
	uint8_t xsave[XSAVE_AREA_SIZE] __attribute__((aligned(64)));

	struct tlb tlb;
	bool has_checks;			/* it is from vcpu_alloc(): see cpu/window.h */
	struct vcpu_stats stats;
	uint8_t doing;			/* enum vcpu_doing; a sampler reads it from another thread */

	/* --- identity and wires, constant after vcpu_init --- */
	unsigned int index;		/* = initial APIC ID */
	struct gpa_space *space;
	const struct cpu_model *model;
	struct clock *clock;
	struct log *log;
	const struct vcpu_intc_ops *intc_ops;
	void *intc;
	void *engine;			/* the engine's own state for this vCPU */
	uint8_t engine_area[ENGINE_AREA] __attribute__((aligned(64))); /* and what it wants nearby */
	void (*wake)(void *arg);	/* called after attention got a bit: ends a halt */
	void *wake_arg;
	/* Sets ATTN_KICK at another vCPU; NULL: there is none.  @arg: wake_arg */
	void (*kick)(void *arg, uint32_t apic_id);
	/* Is there another that wants to run?  Only then is the host's core given away. */
	bool (*awaited)(void *arg);
	/* Nanoseconds for which it wanted to run and could not; NULL: not known.  @arg: wake_arg */
	uint64_t (*stolen)(void *arg);
	uint64_t pv_accounted;		/* TSC of the steal record's last update */
	uint64_t tsc_hz;		/* of the host, and so of the guest */
	uint64_t fpu_mask;		/* XSAVE components kept in xsave; 0: host has FXSAVE only */
	struct err err;			/* of VCPU_EXIT_ERROR */
	/* A debugger outside the guest; changed only while the vCPU does not run. */
	const struct debugger *debugger;	/* its break- and watchpoints, NULL: it has none */
	struct debug_hit debug_hit;	/* of VCPU_EXIT_DEBUGGER; whoever looks clears it */
};

/*
 * Prepares a zeroed @v (allocate it 64-byte aligned) and resets it to power-on
 * state.  The wires must already be filled in: space, model, clock, log, intc_ops, intc.
 */
int vcpu_init(struct vcpu *v, struct err *e);
void vcpu_destroy(struct vcpu *v);
/* Power-on state (SDM volume 3, "Processor State After Reset"); @init: after INIT. */
void vcpu_reset(struct vcpu *v, bool init);

/*
 * Sets ATTN_* bits from any thread and ends a halt.  Then it clears both words of 'calm', of
 * which an engine may poll either instead: it sets them first and looks at attention after that.
 */
void vcpu_attention(struct vcpu *v, uint32_t bits);

static inline void vcpu_disturb(struct vcpu *v)
{
	atomic_store(&v->calm[0], 0);
	atomic_store(&v->calm[1], 0);
}

/* PAUSE: who spins for long may be waiting for a vCPU that waits for this core. */
void vcpu_pause(struct vcpu *v);
/* Gives the host's core away: another vCPU is waited for. */
void vcpu_yield(struct vcpu *v);

/*
 * To be called when RFLAGS.IF became 1 or a shadow ended: makes the engine look at
 * interrupts that had to wait (see ATTN_INTR).
 */
static inline void vcpu_recheck_interrupts(struct vcpu *v)
{
	if (v->intr_parked && v->rflags & RFLAGS_IF) {
		v->intr_parked = false;
		atomic_fetch_or_explicit(&v->attention, ATTN_INTR, memory_order_relaxed);
	}
}

/*
 * Derives cpl, code_size, stack_size, view and ATTN_STEP from the control state.  Whoever
 * changes CS, SS, CR0, CR4, EFER or RFLAGS.AC/TF/VM calls it once the change is complete.
 */
void vcpu_update_mode(struct vcpu *v);

/* For counters that only one thread writes, and others read: no lock, and no torn values. */
static inline void stat_add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static inline uint64_t stat_get(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static inline void vcpu_does(struct vcpu *v, enum vcpu_doing what)
{
	__atomic_store_n(&v->doing, what, __ATOMIC_RELAXED);
}

/* (A sampler reads it, too.) */
static inline void vcpu_set_cpl(struct vcpu *v, unsigned int cpl)
{
	__atomic_store_n(&v->cpl, cpl, __ATOMIC_RELAXED);
}

static inline bool in_long_mode(const struct vcpu *v)	/* 64-bit or compatibility */
{
	return v->efer & EFER_LMA;
}

static inline bool in_real_mode(const struct vcpu *v)
{
	return !(v->cr0 & CR0_PE);
}

static inline bool in_vm86(const struct vcpu *v)
{
	return (v->rflags & RFLAGS_VM) != 0;
}

#endif
