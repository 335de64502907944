// SPDX-License-Identifier: Apache-2.0
/*
 * Lockstep: before translated code runs, the interpreter runs the same instructions and
 * notes the state before each and what they store; then memory and state are put back,
 * translated code runs, and where it leaves, its state and memory must be what the
 * interpreter had at that instruction.
 *
 * Nothing is chained or cached meanwhile and jumps within a block leave it, so translated
 * code runs forward through one block and each address comes up once.  The interpreter
 * stops where it could not be undone: at sensitive instructions, at implicit operands other
 * than the stack's, at what is not plain RAM, at code pages and at faults.  Translated code
 * that goes beyond is not compared; counted in struct lockstep.
 *
 * Not compared: x87 instruction and data pointers, AVX-512 state.
 */
#include "cpu/fpu.h"
#include "engine/soft/dbt_priv.h"
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

struct note {			/* before an instruction */
	uint64_t gpr[16], rip, rflags;
	uint8_t fpu[FPU_END];
	uint8_t *at[2];		/* where it stores, in one page each; NULL: it does not */
	unsigned int size[2];
	uint8_t before[STORE_MAX], after[STORE_MAX];
};

struct lockstep {
	struct note note[TBLOCK_INSNS + 1];
	unsigned int count;	/* instructions noted; note[count] is the end */
	bool whole;		/* up to where control leaves the block */
	uint8_t xsave[XSAVE_AREA_SIZE];
	uint64_t compared, beyond;
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
	memcpy(n->fpu, v->xsave, FPU_END);
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
		if (m->vsib || !m->size || m->size > STORE_MAX || m->addr_size != 8)
			return false;
		if (!note_access(d, v, n, exec_offset(v, i) + (m->seg >= SEG_FS ? v->seg[m->seg].base : 0),
				 m->size, i->flags & INSN_MEM_WRITE))
			return false;
	}
	switch (i->info->id) {
	case INSN_ID_PUSH: case INSN_ID_CALL:
		return i->stack_size == 8 && note_access(d, v, n, v->gpr[REG_RSP] - 8, 8, true);
	case INSN_ID_POP: case INSN_ID_RET:
		return i->op[0].kind != OPND_MEM && note_access(d, v, n, v->gpr[REG_RSP], 8, false);
	case INSN_ID_LEAVE:
		return note_access(d, v, n, v->gpr[REG_RBP], 8, false);
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
static bool insn_of(struct dbt *d, struct vcpu *v, const struct tblock *b, struct insn *i)
{
	uint64_t off = v->rip - b->gva;
	gpa_t gpa = b->gpa + off;
	unsigned int room = GUEST_PAGE_SIZE - (gpa & GUEST_PAGE_MASK);
	const uint8_t *p;

	if (off >= b->size)
		return false;
	p = gpa_to_hva(d->space, gpa, 1);
	return p && d->cfg.decode(d->cfg.arg, v, i, p, MIN(room, 15U)) == DECODE_OK &&
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

/* The interpreter's turn, from @code of @b on. */
void lockstep_before(struct dbt *d, struct vcpu *v, const struct tblock *b, gva_t rip)
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
		note_stored(v, n);
	}
	if (l->count == TBLOCK_INSNS)
		note_state(v, &l->note[l->count]);
	put_back(v, l);
}

static int differ(struct vcpu *v, const struct note *n, const char *what, uint64_t interpreter,
		  uint64_t translator)
{
	log_error(v->log, "lockstep: %s before %llx is %llx interpreted, %llx translated", what,
		  (unsigned long long)n->rip, (unsigned long long)interpreter,
		  (unsigned long long)translator);
	return 1;
}

static int compare_state(struct vcpu *v, const struct note *n, bool begun)
{
	static const char *const names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
	uint32_t mxcsr, wanted;
	int bad = 0;

	for (unsigned int r = 0; r < 16; r++)
		if (v->gpr[r] != n->gpr[r])
			bad += differ(v, n, names[r], n->gpr[r], v->gpr[r]);
	if (v->rflags != n->rflags)
		bad += differ(v, n, "rflags", n->rflags, v->rflags);
	fpu_put(v);
	/* The flags that an instruction about to fault has set: it faults again, interpreted. */
	memcpy(&mxcsr, v->xsave + FPU_MXCSR, 4);
	memcpy(&wanted, n->fpu + FPU_MXCSR, 4);
	if ((mxcsr ^ wanted) & ~(begun ? MXCSR_FLAGS : 0))
		bad += differ(v, n, "mxcsr", wanted, mxcsr);
	for (unsigned int k = FPU_START; k < FPU_END; k += 8)
		if (memcmp(v->xsave + k, n->fpu + k, 8))
			bad += differ(v, n, "SIMD state at XSAVE offset", k, k);
	return bad;
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
				bad += differ(v, n, "memory stored to", n->after[w ? n->size[0] : 0],
					      n->at[w][0]);
	}
	return bad;
}

/*
 * Translated code has left before the instruction at @rip; @begun: not by a jump, which
 * may go back to where it started.  True: both agree, as far as can be told.
 */
bool lockstep_after(struct dbt *d, struct vcpu *v, gva_t rip, bool begun)
{
	struct lockstep *l = d->lockstep;
	unsigned int k = begun ? 0 : l->count + !l->whole;

	for (; k <= l->count && l->note[k].rip != rip; k++)
		;
	if (k > l->count) {
		l->beyond++;
		if (!l->whole)
			return true;
		differ(v, &l->note[l->count], "rip", l->note[l->count].rip, rip);
	} else {
		l->compared += k;
		if (!(compare_state(v, &l->note[k], begun) | compare_memory(v, l, k)))
			return true;
	}
	log_error(v->log, "lockstep: in the code from %llx on, left at %llx after %u instructions",
		  (unsigned long long)l->note[0].rip, (unsigned long long)rip, k);
	err_set(&v->err, EIO, "interpreter and translator differ in the code at 0x%llx",
		(unsigned long long)l->note[0].rip);
	return false;
}

uint64_t lockstep_compared(const struct dbt *d)
{
	return d->lockstep ? d->lockstep->compared : 0;
}
