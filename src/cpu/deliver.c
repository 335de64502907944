// SPDX-License-Identifier: Apache-2.0
/*
 * Delivery of exceptions, interrupts and software interrupts through the real-mode
 * vector table, a 32-bit IDT and a 64-bit IDT, with the rules of double and triple
 * faults.
 *
 * Source: Intel SDM volume 3, "Interrupt and Exception Handling" (32-bit and 64-bit),
 * "Interrupt 8--Double Fault Exception", "Virtual-8086 Mode Interrupts" (without the VME
 * redirection map).
 */
#include "cpu/fpu.h"
#include "cpu/system_priv.h"

#define ERR_EXT		1U	/* error code: the event came from outside the program */
#define ERR_IDT		2U	/* error code: the index is of the IDT */

/*
 * Benign faults may follow each other for ever, as an #AC whose own frame is misaligned
 * does on the real processor.  Here they end in shutdown, so that no guest holds the
 * vCPU's thread.  The rules of double faults end all others after five.
 */
#define DELIVERIES_MAX	16

#define FLAGS_HANDLER_CLEARS	(RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM)

/* What an exception's own delivery may not meet (table "Conditions for a Double Fault"). */
enum fault_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

/* What is being delivered. */
struct event {
	enum fault_class class;	/* BENIGN for interrupts, whatever the vector */
	uint8_t vector;
	bool has_error;
	uint32_t error;
	bool soft;		/* INT n, INT3, INTO: the gate's DPL is checked */
	bool external;		/* faults of its delivery get the EXT bit */
	uint64_t rip;		/* to push */
	uint64_t rflags;	/* to push */
};

/* A gate of the IDT with the code segment it leads to, all checked. */
struct entry {
	struct segment cs;
	unsigned int cpl;	/* of the handler */
	uint64_t rip;
	unsigned int ist;
	unsigned int size;	/* of the words pushed */
	bool clears_if;
};

static uint32_t idt_error(const struct event *ev)
{
	return ev->vector * 8U + ERR_IDT;
}

/* What the last step of every delivery leaves: the handler about to run. */
static void enter_handler(struct vcpu *v, const struct entry *e)
{
	uint64_t clear = FLAGS_HANDLER_CLEARS | (e->clears_if ? RFLAGS_IF : 0);

	v->rflags &= ~clear;
	atomic_fetch_and_explicit(&v->attention, ~(uint32_t)ATTN_SHADOW, memory_order_relaxed);
	code_commit(v, &e->cs, e->cpl, e->rip);
}

static enum exec_status deliver_real(struct vcpu *v, const struct event *ev)
{
	struct stack st = stack_current(v);
	uint64_t words[3] = { ev->rflags & 0xffff, v->seg[SEG_CS].sel, ev->rip };
	enum exec_status rc;
	uint16_t vector[2];
	enum mem_result r;

	if (ev->vector * 4U + 3 > v->idtr.limit)
		return raise_gp(v, idt_error(ev));
	r = mem_read(v, (uint32_t)(v->idtr.base + ev->vector * 4U), vector, 4,
		     ACC_READ | ACC_SUPER);
	if (r != MEM_OK)
		return mem_status(r);
	rc = stack_push(v, &st, words, 3, 2);
	if (rc != EXEC_OK)
		return rc;

	stack_commit(v, &st);
	seg_load_real(v, SEG_CS, vector[1]);
	v->rip = vector[0];
	v->rflags &= ~(RFLAGS_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_RF);
	atomic_fetch_and_explicit(&v->attention, ~(uint32_t)ATTN_SHADOW, memory_order_relaxed);
	vcpu_update_mode(v);
	return EXEC_OK;
}

/* Reads the IDT's gate for @ev into @d and checks what concerns the gate alone. */
static enum exec_status read_gate(struct vcpu *v, const struct event *ev, struct descriptor *d)
{
	unsigned int size = in_long_mode(v) ? 16 : 8, type;
	uint64_t raw[2] = { 0, 0 };
	enum mem_result r;
	uint32_t known;

	d->at = v->idtr.base + ev->vector * size;
	if (!in_long_mode(v))
		d->at = (uint32_t)d->at;
	if (ev->vector * size + size - 1 > v->idtr.limit)
		return raise_gp(v, idt_error(ev));
	r = mem_read(v, d->at, raw, size, ACC_READ | ACC_SUPER);
	if (r != MEM_OK)
		return mem_status(r);
	d->low = raw[0];
	d->high = raw[1];
	desc_unpack(d, 0);

	known = BIT(DESC_INT32) | BIT(DESC_TRAP32);
	if (!in_long_mode(v))
		known |= BIT(DESC_INT16) | BIT(DESC_TRAP16) | BIT(DESC_TASK_GATE);
	type = desc_type(&d->seg);
	if (!(known & BIT(type)))
		return raise_gp(v, idt_error(ev));
	if (ev->soft && SEG_DPL(d->seg.attr) < v->cpl)
		return raise_gp(v, idt_error(ev));
	if (!(d->seg.attr & SEG_P))
		return raise_err(v, EXC_NP, idt_error(ev));
	return EXEC_OK;
}

/* The code segment behind the gate @d. */
static enum exec_status find_entry(struct vcpu *v, const struct descriptor *d, struct entry *e)
{
	unsigned int type = desc_type(&d->seg);
	struct gate g = desc_gate(d);
	struct descriptor cs;
	enum exec_status rc;
	unsigned int dpl;

	if (sel_null(g.sel))
		return raise_gp(v, 0);
	rc = desc_read(v, g.sel, EXC_GP, &cs);
	if (rc != EXEC_OK)
		return rc;
	dpl = SEG_DPL(cs.seg.attr);
	if (!seg_is_code(&cs.seg) || dpl > v->cpl)
		return raise_gp(v, sel_error(g.sel));
	if (!(cs.seg.attr & SEG_P))
		return raise_err(v, EXC_NP, sel_error(g.sel));
	if (in_long_mode(v) && (cs.seg.attr & (SEG_L | SEG_DB)) != SEG_L)
		return raise_gp(v, sel_error(g.sel));

	e->cpl = seg_is_conforming(&cs.seg) ? v->cpl : dpl;
	if (in_vm86(v) && e->cpl)
		return raise_gp(v, sel_error(g.sel));
	e->rip = type & 8 ? g.off : (uint16_t)g.off;
	e->ist = in_long_mode(v) ? g.ist : 0;
	e->size = in_long_mode(v) ? 8 : type & 8 ? 4 : 2;
	e->clears_if = !(type & 1);
	rc = code_check_target(v, &cs.seg, e->rip);
	if (rc == EXEC_OK)
		rc = desc_set_accessed(v, &cs);
	e->cs = cs.seg;
	return rc;
}

/* The stack that the handler starts on; *switched is true where SS:SP is pushed on it. */
static enum exec_status find_stack(struct vcpu *v, const struct entry *e, struct stack *st,
				   bool *switched)
{
	bool inner = e->cpl < v->cpl;
	enum exec_status rc = EXEC_OK;

	*switched = inner || in_long_mode(v);
	if (!in_long_mode(v)) {
		if (inner)
			return stack_inner(v, e->cpl, st);
		*st = stack_current(v);
		return EXEC_OK;
	}
	if (inner || e->ist) {
		rc = stack_inner64(v, e->cpl, e->ist, st);
		if (!inner)
			st->ss = v->seg[SEG_SS];
	} else {
		*st = (struct stack){
			.ss = v->seg[SEG_SS], .sp = v->gpr[REG_RSP], .mask = UINT64_MAX,
			.cpl = v->cpl,
		};
	}
	st->sp &= ~0xfULL;
	return rc;
}

/* Lists the frame in the order of its pushes; at most 10 words. */
static unsigned int build_frame(const struct vcpu *v, const struct event *ev, bool switched,
				uint64_t *words)
{
	static const uint8_t vm86_segs[] = { SEG_GS, SEG_FS, SEG_DS, SEG_ES };
	unsigned int n = 0;

	if (in_vm86(v))
		for (unsigned int i = 0; i < ARRAY_SIZE(vm86_segs); i++)
			words[n++] = v->seg[vm86_segs[i]].sel;
	if (switched) {
		words[n++] = v->seg[SEG_SS].sel;
		words[n++] = v->gpr[REG_RSP];
	}
	words[n++] = ev->rflags;
	words[n++] = v->seg[SEG_CS].sel;
	words[n++] = ev->rip;
	if (ev->has_error)
		words[n++] = ev->error;
	return n;
}

static enum exec_status deliver_gate(struct vcpu *v, const struct event *ev,
				     const struct descriptor *gate)
{
	static const uint8_t vm86_segs[] = { SEG_GS, SEG_FS, SEG_DS, SEG_ES };
	uint64_t words[10];
	enum exec_status rc;
	struct stack st;
	struct entry e;
	unsigned int n;
	bool switched;

	rc = find_entry(v, gate, &e);
	if (rc == EXEC_OK)
		rc = find_stack(v, &e, &st, &switched);
	if (rc != EXEC_OK)
		return rc;
	n = build_frame(v, ev, switched, words);
	rc = stack_push(v, &st, words, n, e.size);
	if (rc != EXEC_OK)
		return rc;

	if (in_vm86(v))
		for (unsigned int i = 0; i < ARRAY_SIZE(vm86_segs); i++)
			v->seg[vm86_segs[i]] = seg_null(0, 0);
	if (e.cpl < v->cpl)
		stack_load(v, &st);
	else
		stack_commit(v, &st);
	enter_handler(v, &e);
	return EXEC_OK;
}

/* One attempt; EXEC_FAULT leaves the vCPU as it was, with the new fault in v->fault. */
static enum exec_status deliver_once(struct vcpu *v, const struct event *ev)
{
	uint64_t rflags = v->rflags;
	uint16_t tr = v->tr.sel;
	struct descriptor d;
	enum exec_status rc;
	struct gate g;

	if (in_real_mode(v))
		return deliver_real(v, ev);
	rc = read_gate(v, ev, &d);
	if (rc != EXEC_OK)
		return rc;
	if (desc_type(&d.seg) != DESC_TASK_GATE)
		return deliver_gate(v, ev, &d);
	g = desc_gate(&d);
	v->rflags = ev->rflags;
	rc = task_switch(v, g.sel, TASK_GATE, ev->rip, ev->has_error, ev->error);
	if (rc != EXEC_OK && v->tr.sel == tr)
		v->rflags = rflags;	/* not even switched */
	return rc;
}

/* --- double faults --- */

static enum fault_class classify(const struct fault *f)
{
	if (f->soft)
		return BENIGN;
	switch (f->vector) {
	case EXC_DE: case EXC_TS: case EXC_NP: case EXC_SS: case EXC_GP:
		return CONTRIBUTORY;
	case EXC_PF:
		return PAGE_FAULT;
	case EXC_DF:
		return DOUBLE_FAULT;
	default:
		return BENIGN;
	}
}

static bool error_has_ext(unsigned int vector)
{
	return vector >= EXC_TS && vector <= EXC_GP;
}

/* Is it a fault in the manual's sense, pushed with RF set so that the retry passes? */
static bool pushes_rf(const struct fault *f)
{
	if (f->vector == EXC_DB)
		return f->dr6 & DR6_BD;
	return !f->soft && f->vector != EXC_NMI && f->vector != EXC_DF && f->vector != EXC_MC;
}

static struct event event_of_fault(struct vcpu *v, const struct fault *f)
{
	struct event ev = {
		.vector = f->vector, .has_error = f->has_error, .error = f->error,
		.soft = f->soft, .external = !f->soft, .class = classify(f),
		.rip = v->rip + (f->soft ? f->insn_len : 0), .rflags = v->rflags,
	};

	if (pushes_rf(f))
		ev.rflags |= RFLAGS_RF;
	return ev;
}

/* What an exception changes even if its handler is never reached. */
static void fault_side_effects(struct vcpu *v, const struct fault *f)
{
	stat_add(&v->stats.exceptions[f->vector & 31], 1);
	if (f->vector == EXC_PF)
		v->cr2 = f->cr2;
	if (f->vector == EXC_DB) {
		v->dr[6] = (v->dr[6] & ~0xfULL) | f->dr6;
		v->dr[7] &= ~DR7_GD;
	}
}

static enum exec_status triple_fault(struct vcpu *v)
{
	v->shutdown = true;
	fpu_put(v);
	log_guest(v->log, "vCPU %u: triple fault at %x:%llx (CR0 %llx, CR2 %llx)", v->index,
		  v->seg[SEG_CS].sel, (unsigned long long)v->rip, (unsigned long long)v->cr0,
		  (unsigned long long)v->cr2);
	return EXEC_EXIT;
}

/* Delivers @ev and whatever goes wrong on the way, until a handler is reached. */
static enum exec_status deliver(struct vcpu *v, struct event ev)
{
	for (unsigned int n = 0; n < DELIVERIES_MAX; n++) {
		enum fault_class first = ev.class;
		enum exec_status rc = deliver_once(v, &ev);
		struct fault f = v->fault;
		bool external = ev.external;

		if (rc != EXEC_FAULT)
			return rc;
		if (external && error_has_ext(f.vector))
			f.error |= ERR_EXT;
		fault_side_effects(v, &f);
		ev = event_of_fault(v, &f);
		if (first == DOUBLE_FAULT && ev.class != BENIGN)
			return triple_fault(v);
		if ((first == CONTRIBUTORY && ev.class == CONTRIBUTORY) ||
		    (first == PAGE_FAULT && ev.class != BENIGN)) {
			f = (struct fault){ .vector = EXC_DF, .has_error = true };
			fault_side_effects(v, &f);
			ev = event_of_fault(v, &f);
		}
	}
	return triple_fault(v);
}

enum exec_status vcpu_deliver(struct vcpu *v)
{
	struct fault f = v->fault;

	fault_side_effects(v, &f);
	return deliver(v, event_of_fault(v, &f));
}

enum exec_status vcpu_software_interrupt(struct vcpu *v, uint8_t vector, unsigned int insn_len,
					 bool int3_or_into)
{
	struct event ev = {
		.vector = vector, .soft = true, .rip = v->rip + insn_len, .rflags = v->rflags,
	};

	enum exec_status rc;

	if (in_vm86(v) && !int3_or_into && rflags_iopl(v) < 3)
		return raise_gp(v, 0);
	/* INT1 is no INT 1: its gate's DPL is not looked at. */
	if (vector == EXC_DB && int3_or_into) {
		ev.soft = false;
		ev.external = true;
		/*
		 * A data breakpoint that MOV SS held back is reported with it: were it to
		 * come after, it would find the handler's first instruction on the same
		 * interrupt stack.
		 */
		v->dr[6] |= v->db_pending;
		v->db_pending = 0;
		rc = deliver(v, ev);
	} else {
		rc = deliver_once(v, &ev);
	}
	v->step_void = rc == EXEC_OK && ev.rflags & RFLAGS_TF;
	return rc;
}

enum exec_status vcpu_interrupt(struct vcpu *v, uint8_t vector)
{
	struct event ev = {
		.vector = vector, .external = true, .rip = v->rip, .rflags = v->rflags,
	};

	v->halted = false;
	stat_add(&v->stats.interrupts, 1);
	return deliver(v, ev);
}

enum exec_status vcpu_nmi(struct vcpu *v)
{
	v->nmi_blocked = true;
	return vcpu_interrupt(v, EXC_NMI);
}
