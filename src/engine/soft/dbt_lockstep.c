// SPDX-License-Identifier: Apache-2.0
/*
 * Lockstep: before translated code runs, the interpreter runs the same instructions and
 * notes the state before each and what they store; then memory and state are put back,
 * translated code runs, and where it leaves, its state and memory must be what the
 * interpreter had at that instruction.
 *
 * Such code is neither chained nor in the jump cache, and jumps within a block leave it, so it
 * runs forward through one block and each address comes up once.  The interpreter stops
 * where it could not be undone: at sensitive instructions, at implicit operands other than
 * the stack's, at what is not plain RAM, at code pages and at faults.  Translated code that
 * goes beyond is not compared; stats.beyond counts.
 *
 * After a difference the same translated code is run again from the states noted before
 * later and later instructions: the last one from which it goes wrong is named.
 *
 * Not compared: x87 instruction and data pointers, AVX-512 state.
 */
#include "cpu/fpu.h"
#include "engine/soft/dbt_tr.h"
#include "engine/soft/exec.h"
#include "x86/regs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STORE_MAX	64
#define MXCSR_FLAGS	0x3fU
#define FPU_MXCSR	24	/* in the XSAVE area */
#define FPU_START	32	/* from ST0 ... */
#define FPU_END		416	/* ... to XMM15 */
#define AVX_START	576	/* the upper halves of YMM0 to YMM15 */
#define AVX_END		832

struct note {			/* before an instruction */
	uint64_t gpr[16], rip, rflags;
	uint8_t fpu[AVX_END];
	uint8_t *at[2];		/* where it stores, in one page each; NULL: it does not */
	unsigned int size[2];
	uint8_t before[STORE_MAX], after[STORE_MAX];
};

struct lockstep {
	struct note note[TBLOCK_INSNS + 1];
	unsigned int count;	/* instructions noted; note[count] is the end */
	bool whole;		/* up to where control leaves the block */
	bool quiet;		/* looking for the instruction: differences are known */
	uint8_t xsave[XSAVE_AREA_SIZE];
};

struct lockstep *lockstep_create(void)
{
	return calloc(1, sizeof(struct lockstep));
}

static void note_state(struct vcpu *v, struct note *n)
{
	fpu_get(v);	/* so that the area is as the host writes it */
	fpu_put(v);
	memcpy(n->gpr, v->gpr, sizeof(n->gpr));
	n->rip = v->rip;
	n->rflags = v->rflags;
	memcpy(n->fpu, v->xsave, AVX_END);
	n->at[0] = n->at[1] = NULL;
	n->size[0] = n->size[1] = 0;
}

/* The RAM behind [gva, gva+size) within a page, or NULL. */
static uint8_t *plain_ram(struct dbt *d, struct vcpu *v, gva_t gva, unsigned int size, bool write)
{
	unsigned int access = write ? ACC_WRITE : ACC_READ;
	struct ram_extent *x;
	gpa_t gpa;

	if (gva_to_gpa(v, gva, access | ACC_PROBE, &gpa) != MEM_OK)
		return NULL;
	if (ALIGN_DOWN(gpa, GUEST_PAGE_SIZE) == v->intc_ops->mmio_base(v->intc))
		return NULL;
	x = gpa_to_extent(d->space, gpa);
	if (!x || (write && (x->readonly ||
			     x->page_flags[(gpa - x->base) >> GUEST_PAGE_SHIFT] & PAGE_CODE)))
		return NULL;
	return gpa_to_hva(d->space, gpa, size);
}

static bool note_access(struct dbt *d, struct vcpu *v, struct note *n, gva_t gva,
			unsigned int size, bool write)
{
	unsigned int first = MIN(size, (unsigned int)(GUEST_PAGE_SIZE - (gva & GUEST_PAGE_MASK)));
	unsigned int len[2] = { first, size - first };

	if (write && n->at[0])
		return false;
	for (unsigned int k = 0; k < 2 && len[k]; k++) {
		uint8_t *p = plain_ram(d, v, gva + (k ? first : 0), len[k], write);

		if (!p)
			return false;
		if (write) {
			n->at[k] = p;
			n->size[k] = len[k];
			memcpy(n->before + (k ? first : 0), p, len[k]);
		}
	}
	return true;
}

/* Memory operands that are not in i->mem, apart from the stack's. */
static bool implicit_memory(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_ENTER: case INSN_ID_XLAT:
	case INSN_ID_PUSHA: case INSN_ID_PUSHAD: case INSN_ID_POPA: case INSN_ID_POPAD:
	case INSN_ID_MASKMOVQ: case INSN_ID_MASKMOVDQU: case INSN_ID_VMASKMOVDQU:
	case INSN_ID_MOVSB: case INSN_ID_MOVSW: case INSN_ID_MOVSD: case INSN_ID_MOVSQ:
	case INSN_ID_STOSB: case INSN_ID_STOSW: case INSN_ID_STOSD: case INSN_ID_STOSQ:
	case INSN_ID_LODSB: case INSN_ID_LODSW: case INSN_ID_LODSD: case INSN_ID_LODSQ:
	case INSN_ID_SCASB: case INSN_ID_SCASW: case INSN_ID_SCASD: case INSN_ID_SCASQ:
	case INSN_ID_CMPSB: case INSN_ID_CMPSW: case INSN_ID_CMPSD: case INSN_ID_CMPSQ:
		return true;
	case INSN_ID_BT: case INSN_ID_BTS: case INSN_ID_BTR: case INSN_ID_BTC:
		return i->flags & INSN_HAS_MEM && i->op[1].kind != OPND_IMM;
	default:
		return false;
	}
}

/* The linear address of @offset in segment @seg, in the mode that @i is of. */
static gva_t linear(const struct vcpu *v, const struct insn *i, unsigned int seg, uint64_t offset)
{
	gva_t gva = offset + (seg == SEG_FS || seg == SEG_GS ? v->seg[seg].base : 0);

	return i->code_size == CODE_64 ? gva : (uint32_t)gva;
}

static bool note_stack(struct dbt *d, struct vcpu *v, const struct insn *i, struct note *n,
		       uint64_t at, bool write)
{
	return note_access(d, v, n, linear(v, i, SEG_SS, at), insn_word(i), write);
}

/* Can @i be undone?  Notes what it will store. */
static bool note_insn(struct dbt *d, struct vcpu *v, const struct insn *i, struct note *n)
{
	const struct mem_operand *m = &i->mem;

	if (i->info->how == HOW_UD || i->info->insn_class != CLASS_INNOCUOUS ||
	    i->flags & (INSN_REP | INSN_REPNE) || implicit_memory(i))
		return false;
	if (i->op[0].kind == OPND_REL && !i->imm)
		return false;	/* taken or not cannot be told */
	if (i->flags & INSN_HAS_MEM && !m->is_address) {
		if (m->vsib || !m->size || m->size > STORE_MAX || m->addr_size != insn_word(i))
			return false;
		if (!note_access(d, v, n, linear(v, i, m->seg, exec_offset(v, i)), m->size,
				 i->flags & INSN_MEM_WRITE))
			return false;
	}
	switch (i->info->id) {
	case INSN_ID_PUSH: case INSN_ID_CALL:
		return i->stack_size == insn_word(i) &&
		       note_stack(d, v, i, n, v->gpr[REG_RSP] - insn_word(i), true);
	case INSN_ID_POP: case INSN_ID_RET:
		return i->op[0].kind != OPND_MEM && note_stack(d, v, i, n, v->gpr[REG_RSP], false);
	case INSN_ID_LEAVE:
		return note_stack(d, v, i, n, v->gpr[REG_RBP], false);
	default:
		return true;
	}
}

static void note_stored(struct vcpu *v, struct note *n)
{
	fpu_put(v);	/* memcpy() may use SIMD registers */
	for (unsigned int k = 0; k < 2 && n->at[k]; k++)
		memcpy(n->after + (k ? n->size[0] : 0), n->at[k], n->size[k]);
}

/* The instruction of @b at v->rip, or NULL: elsewhere, or partly in another page. */
static bool insn_of(struct dbt *d, struct vcpu *v, struct tblock *b, struct insn *i)
{
	uint64_t off = v->rip - b->gva;
	gpa_t gpa = b->gpa + off;
	unsigned int room = GUEST_PAGE_SIZE - (gpa & GUEST_PAGE_MASK);
	const uint8_t *p;

	if (off >= b->size)
		return false;
	p = gpa_to_hva(d->space, gpa, 1);
	return p && d->cfg.decode(d->cfg.arg, v, i, p, MIN(room, 15U),
				  mode_code_size(b->mode)) == DECODE_OK &&
	       d->cfg.bind(d->cfg.arg, v, i);
}

static void put_back(struct vcpu *v, struct lockstep *l)
{
	fpu_put(v);
	for (unsigned int k = l->count; k-- > 0; ) {
		struct note *n = &l->note[k];

		for (unsigned int w = 0; w < 2 && n->at[w]; w++)
			memcpy(n->at[w], n->before + (w ? n->size[0] : 0), n->size[w]);
	}
	memcpy(v->gpr, l->note[0].gpr, sizeof(v->gpr));
	v->rip = l->note[0].rip;
	v->rflags = l->note[0].rflags;
	memcpy(v->xsave, l->xsave, sizeof(l->xsave));
}

/* The interpreter's turn, from @rip in @b on. */
static void lockstep_before(struct dbt *d, struct vcpu *v, struct tblock *b, gva_t rip)
{
	struct lockstep *l = d->lockstep;
	uint32_t generation = d->generation;
	gva_t next = 0;

	v->rip = rip;
	fpu_put(v);
	memcpy(l->xsave, v->xsave, sizeof(l->xsave));
	l->whole = false;
	for (l->count = 0; l->count < TBLOCK_INSNS; l->count++) {
		struct note *n = &l->note[l->count];
		struct insn i;

		note_state(v, n);
		/* Where translated code leaves: at a jump, or behind the block. */
		l->whole = v->rip - b->gva >= b->size || (l->count && v->rip != next);
		if (l->whole || !insn_of(d, v, b, &i) || d->generation != generation)
			break;
		next = v->rip + i.len;
		if (!note_insn(d, v, &i, n) || i.exec(v, &i) != EXEC_OK) {
			n->at[0] = n->at[1] = NULL;
			v->rip = n->rip;
			break;
		}
		if (i.code_size != CODE_64)
			v->rip = (uint32_t)v->rip;
		note_stored(v, n);
	}
	if (l->count == TBLOCK_INSNS)
		note_state(v, &l->note[l->count]);
	put_back(v, l);
}

static int lockstep_differ(struct vcpu *v, const struct lockstep *l, const struct note *n,
			   const char *what, uint64_t interpreter, uint64_t translator)
{
	if (!l->quiet)
		log_error(v->log, "lockstep: %s before %llx is %llx interpreted, %llx translated",
			  what, (unsigned long long)n->rip, (unsigned long long)interpreter,
			  (unsigned long long)translator);
	return 1;
}

/* SIMD and x87 registers, eight bytes at a time. */
static int compare_fpu(struct vcpu *v, const struct lockstep *l, const struct note *n, bool begun)
{
	uint32_t mxcsr, wanted;
	uint64_t mine, other;
	int bad = 0;

	fpu_put(v);
	/* The flags that an instruction about to fault has set: it faults again, interpreted. */
	memcpy(&mxcsr, v->xsave + FPU_MXCSR, 4);
	memcpy(&wanted, n->fpu + FPU_MXCSR, 4);
	if ((mxcsr ^ wanted) & ~(begun ? MXCSR_FLAGS : 0))
		bad += lockstep_differ(v, l, n, "mxcsr", wanted, mxcsr);
	for (unsigned int k = FPU_START; k < AVX_END; k += 8) {
		if (k == FPU_END && !(v->fpu_mask & XCR0_AVX))
			break;
		if (k == FPU_END)
			k = AVX_START;
		memcpy(&mine, n->fpu + k, 8);
		memcpy(&other, v->xsave + k, 8);
		if (mine != other)
			bad += lockstep_differ(v, l, n, k < AVX_START ? "an ST or XMM register" :
					       "the upper half of a YMM register", mine, other);
	}
	return bad;
}

static int compare_state(struct vcpu *v, const struct lockstep *l, const struct note *n, bool begun)
{
	static const char *const names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
	int bad = 0;

	for (unsigned int r = 0; r < 16; r++)
		if (v->gpr[r] != n->gpr[r])
			bad += lockstep_differ(v, l, n, names[r], n->gpr[r], v->gpr[r]);
	if (v->rflags != n->rflags)
		bad += lockstep_differ(v, l, n, "rflags", n->rflags, v->rflags);
	return bad + compare_fpu(v, l, n, begun);
}

/* Memory as translated code has left it before note @end. */
static int compare_memory(struct vcpu *v, const struct lockstep *l, unsigned int end)
{
	int bad = 0;

	for (unsigned int k = 0; k < end; k++) {	/* a later store may lie over it */
		const struct note *n = &l->note[k];
		bool last = true;

		for (unsigned int j = k + 1; j < end; j++)
			for (unsigned int w = 0; w < 4; w++) {
				const struct note *m = &l->note[j];

				if (n->at[w & 1] && m->at[w >> 1] &&
				    n->at[w & 1] < m->at[w >> 1] + m->size[w >> 1] &&
				    m->at[w >> 1] < n->at[w & 1] + n->size[w & 1])
					last = false;
			}
		for (unsigned int w = 0; last && w < 2 && n->at[w]; w++)
			if (memcmp(n->at[w], n->after + (w ? n->size[0] : 0), n->size[w]))
				bad += lockstep_differ(v, l, n, "memory stored to",
						       n->after[w ? n->size[0] : 0], n->at[w][0]);
	}
	return bad;
}

/*
 * Translated code has left before the instruction at @rip; @begun: not by a jump, which
 * may go back to where it started.  The number of the note that its state should be, or
 * more than l->count: there is none, which is wrong if l->whole.
 */
static unsigned int note_of(const struct lockstep *l, gva_t rip, bool begun)
{
	unsigned int k = begun ? 0 : l->count + !l->whole;

	for (; k <= l->count && l->note[k].rip != rip; k++)
		;
	return k;
}

/* True: both agree, as far as can be told. */
static bool compare_end(struct vcpu *v, const struct lockstep *l, gva_t rip, bool begun)
{
	unsigned int k = note_of(l, rip, begun);

	if (k > l->count) {
		if (l->whole)
			lockstep_differ(v, l, &l->note[l->count], "rip", l->note[l->count].rip, rip);
		return !l->whole;
	}
	return !(compare_state(v, l, &l->note[k], begun) | compare_memory(v, l, k));
}

/* The guest address that translated code has left before. */
static gva_t lockstep_left(struct dbt *d, struct vcpu *v, bool *begun)
{
	const struct dbt_hot *hot = dbt_hot(v);
	struct tblock *b;

	*begun = false;
	switch ((enum dbt_reason)hot->reason) {
	case REASON_CHAIN:
		return slot_target(d, &d->slots[hot->arg]);
	case REASON_STEP:
		*begun = true;
		b = d->blocks[hot->arg >> 8];
		return b->gva + b->guest_off[hot->arg & 0xff];
	case REASON_SIGNAL:
		*begun = true;
		b = dbt_block_at(d, (const void *)hot->fault_pc);
		return b->gva + b->guest_off[dbt_insn_at(b, (const uint8_t *)hot->fault_pc)];
	default:
		return hot->target;
	}
}

/* The translator's turn. */
static bool lockstep_agrees(struct dbt *d, struct vcpu *v, void *code, bool *begun, gva_t *left)
{
	dbt_empty_private_stacks(d);
	dbt_enter_once(d, v, code);
	fpu_put(v);	/* saying what differs may use SIMD registers */
	*left = lockstep_left(d, v, begun);
	return compare_end(v, d->lockstep, *left, *begun);
}

/* Where @b is entered for the instruction at @rip, or NULL. */
static void *lockstep_entry(struct tblock *b, gva_t rip)
{
	for (unsigned int n = 0; n < b->count; n++)
		if (b->gva + b->guest_off[n] == rip)
			return block_entry(b, n);
	return NULL;
}

/* State and memory as the interpreter had them before note @k. */
static void lockstep_restore(struct vcpu *v, struct lockstep *l, unsigned int k)
{
	const struct note *n = &l->note[k];

	put_back(v, l);
	for (unsigned int j = 0; j < k; j++)
		for (unsigned int w = 0; w < 2 && l->note[j].at[w]; w++)
			memcpy(l->note[j].at[w], l->note[j].after + (w ? l->note[j].size[0] : 0),
			       l->note[j].size[w]);
	memcpy(v->gpr, n->gpr, sizeof(v->gpr));
	v->rip = n->rip;
	v->rflags = n->rflags;
	memcpy(v->xsave, n->fpu, FPU_END);
	memcpy(v->xsave + AVX_START, n->fpu + AVX_START, AVX_END - AVX_START);
}

/*
 * The notes between which the first wrong instruction is: from the last one at which the
 * block can be entered and goes wrong, to the next one at which it can be entered.
 */
static void lockstep_blame(struct dbt *d, struct vcpu *v, struct tblock *b,
			   unsigned int *from, unsigned int *to)
{
	struct lockstep *l = d->lockstep;
	unsigned int next = MAX(l->count, 1U);
	gva_t left;
	bool begun;

	*from = 0;
	*to = next;
	for (unsigned int k = l->count; k-- > 0; ) {
		void *code = lockstep_entry(b, l->note[k].rip);

		if (!code)
			continue;
		lockstep_restore(v, l, k);
		if (!lockstep_agrees(d, v, code, &begun, &left)) {
			*from = k;
			*to = next;
			break;
		}
		next = k;
	}
	put_back(v, l);
}

/* The mnemonic of the instruction noted in @n. */
static const char *lockstep_name(struct dbt *d, struct vcpu *v, struct tblock *b,
				 const struct note *n)
{
	struct insn i;

	v->rip = n->rip;
	return insn_of(d, v, b, &i) && i.info->name ? i.info->name : "an unknown instruction";
}

static void lockstep_report(struct dbt *d, struct vcpu *v, struct tblock *b, gva_t left)
{
	struct lockstep *l = d->lockstep;
	unsigned int from, to;
	char more[64] = "";

	l->quiet = true;
	lockstep_blame(d, v, b, &from, &to);
	if (to > from + 1)
		snprintf(more, sizeof(more), ", or one of the %u that share code with it", to - from - 1);
	log_error(v->log, "lockstep: in the code from %llx on, left at %llx",
		  (unsigned long long)l->note[0].rip, (unsigned long long)left);
	err_set(&v->err, EIO, "interpreter and translator differ in the instruction at 0x%llx (%s)%s",
		(unsigned long long)l->note[from].rip,
		lockstep_name(d, v, b, &l->note[from]), more);
	v->rip = l->note[0].rip;
}

/* Where in the guest host address @code of @b is an entry for. */
static gva_t lockstep_start(struct tblock *b, const void *code)
{
	unsigned int n = 0;

	while (n < b->count && block_entry(b, n) != code)
		n++;
	return b->gva + b->guest_off[n];
}

enum exec_status lockstep_run(struct dbt *d, struct vcpu *v, void *code, bool *ran)
{
	struct tblock *b = dbt_block_at(d, code);
	struct lockstep *l = d->lockstep;
	uint32_t generation = d->generation;
	unsigned int k;
	bool begun;
	gva_t left;

	lockstep_before(d, v, b, lockstep_start(b, code));
	*ran = d->generation == generation;	/* choosing handlers may empty the caches */
	if (!*ran)
		return EXEC_OK;
	if (!lockstep_agrees(d, v, code, &begun, &left)) {
		lockstep_report(d, v, b, left);
		return EXEC_EXIT;
	}
	k = note_of(l, left, begun);
	if (k > l->count) {
		d->stats.beyond++;
	} else {
		d->stats.compared += k;
		d->stats.compared_runs++;
	}
	return EXEC_OK;
}
