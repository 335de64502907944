// SPDX-License-Identifier: Apache-2.0
/*
 * 32-bit code (compatibility mode, and protected mode of 32-bit kernels) as 64-bit code.
 * Here is what decides whether it can be, and what has to be encoded otherwise; the rest of
 * the translator takes the size of a stack slot and of an address from the block's mode.
 *
 * 1. Only with flat segments: bases 0, limits of 4 GiB.  Then an offset is a linear address, and
 *    an access that runs over the limit crosses a page, which is the interpreter's.  FS and
 *    GS may have a base; operands there are the interpreter's while they have a limit.
 * 2. Host registers hold what the processor has in compatibility mode: 32-bit results are
 *    zero-extended.  Addresses are made by LEA with a 32-bit destination, and so wrap.
 * 3. An instruction is copied only if its bytes mean the same to a decoder for 64-bit mode, but
 *    for its address.  What does not exist there (PUSHA, AAA), is another one (ARPL, BOUND, LES)
 *    or has another size there (VEX.W) is left to the interpreter.
 *
 * Source: Intel SDM volume 1, "Operation with Code Segment Descriptors and Descriptors in
 * IA-32e Mode"; volume 2, "Instruction Format".
 */
#include "engine/soft/dbt_tr.h"
#include "x86/regs.h"

#define ATTR_DATA	(SEG_P | SEG_S | SEG_CODE | SEG_E | SEG_W | SEG_UNUSABLE)
#define IS_DATA		(SEG_P | SEG_S | SEG_W)		/* writable, upwards */
#define IS_CODE		(SEG_P | SEG_S | SEG_CODE | SEG_W)	/* readable */

static bool no_limit(const struct segment *s)
{
	return s->limit == UINT32_MAX && (s->attr & ATTR_DATA) == IS_DATA;
}

static bool flat_data(const struct segment *s)
{
	return !s->base && no_limit(s);
}

static bool flat_code(const struct segment *s)
{
	/* SEG_E of a code segment says that it is conforming. */
	return !s->base && s->limit == UINT32_MAX && (s->attr & ATTR_DATA & ~SEG_E) == IS_CODE;
}

bool code32_runs(const struct vcpu *v)
{
	return v->code_size == CODE_32 && v->cr0 & CR0_PE && v->stack_size == 4 &&
	       flat_code(&v->seg[SEG_CS]) && flat_data(&v->seg[SEG_SS]) &&
	       flat_data(&v->seg[SEG_DS]) && flat_data(&v->seg[SEG_ES]);
}

uint32_t code32_mode(const struct vcpu *v)
{
	return MODE_32 | (no_limit(&v->seg[SEG_FS]) ? MODE_FS : 0) |
	       (no_limit(&v->seg[SEG_GS]) ? MODE_GS : 0);
}

/* --- operands --- */

bool code32_reaches(const struct tr *t, const struct insn *i)
{
	const struct mem_operand *m = &i->mem;

	if (!(t->b->mode & MODE_32) || !(i->flags & INSN_HAS_MEM))
		return true;
	if (m->addr_size != 4)
		return false;
	if (m->is_address)
		return true;
	switch (m->seg) {
	case SEG_CS:
		return !(i->flags & INSN_MEM_WRITE);
	case SEG_FS:
		return t->b->mode & MODE_FS;
	case SEG_GS:
		return t->b->mode & MODE_GS;
	default:
		return true;
	}
}

/* To the interpreter if the @size bytes from offset r14 on go beyond the segment's end. */
static void emit_check_end(struct tr *t, unsigned int size)
{
	struct emit *e = &t->e;

	e_lea(e, H_TMP, AT_DISP(H_ADDR, size - 1));
	e_rorx(e, H_TMP, H_TMP, 32);
	e_mov32_rr(e, H_TMP, H_TMP);
	e_lea(e, H_TMP, AT_DISP(H_TMP, -1));
	emit_near_step(t, e_jrcxz(e));
}

void code32_segment_base(struct tr *t, const struct mem_operand *m, struct host_mem base)
{
	struct emit *e = &t->e;

	bool constant = m->base == REG_NONE && m->index == REG_NONE;

	if (m->size > 1 && (!constant || (uint32_t)m->disp > UINT32_MAX - m->size))
		emit_check_end(t, m->size);
	e_load32(e, H_TMP, base);
	e_lea32(e, H_ADDR, AT_INDEX(H_ADDR, H_TMP));
}

/* --- encodings --- */

/* INC and DEC of one byte: REX prefixes in 64-bit mode. */
static bool is_short(const struct insn *i)
{
	return (i->info->id == INSN_ID_INC || i->info->id == INSN_ID_DEC) && !i->modrm_at;
}

/* MOV with an absolute address: it has another length, but the copy has none. */
static bool is_moffs(const struct insn *i)
{
	return i->info->id == INSN_ID_MOV && i->encoding == ENC_LEGACY && !i->modrm_at &&
	       i->flags & INSN_HAS_MEM;
}

bool code32_lengthen(struct insn *i)
{
	unsigned int op = i->bytes[i->prefix_len];

	if (!is_short(i) || i->prefix_len + 1 == INSN_MAX_LEN)
		return false;
	i->bytes[i->prefix_len] = 0xff;
	i->modrm_at = i->prefix_len + 1;
	i->bytes[i->modrm_at] = 0xc0 | (op & 15);
	i->op[0].field = FIELD_RM;
	return true;
}

static bool same_operand(const struct operand *a, const struct operand *b)
{
	return a->kind == b->kind && a->reg == b->reg && a->field == b->field &&
	       a->size == b->size && a->high == b->high && a->read == b->read &&
	       a->written == b->written && a->implicit == b->implicit;
}

static bool same_layout(const struct insn *a, const struct insn *b)
{
	return a->len == b->len && a->encoding == b->encoding && a->prefix_len == b->prefix_len &&
	       a->ext_at == b->ext_at && a->modrm_at == b->modrm_at && a->imm_at == b->imm_at &&
	       a->imm_len == b->imm_len;
}

static bool same_meaning(const struct insn *a, const struct insn *b)
{
	if (a->info != b->info || a->opsize != b->opsize || a->imm != b->imm || a->imm2 != b->imm2 ||
	    a->flags != b->flags || a->cond != b->cond || a->op_count != b->op_count ||
	    a->gpr_read != b->gpr_read || a->gpr_written != b->gpr_written)
		return false;
	for (unsigned int k = 0; k < a->op_count; k++)
		if (!same_operand(&a->op[k], &b->op[k]))
			return false;
	return a->mem.size == b->mem.size && a->mem.is_address == b->mem.is_address &&
	       a->mem.vsib == b->mem.vsib && a->mem.elem == b->mem.elem && a->mem.mask == b->mem.mask;
}

bool code32_copies(const struct tr *t, const struct insn *i)
{
	struct insn other;

	if (!(t->b->mode & MODE_32) || i->info->id == INSN_ID_LEA)
		return true;
	/* They leave registers 8 to 15 alone. */
	if (i->info->id == INSN_ID_VZEROUPPER || i->info->id == INSN_ID_VZEROALL)
		return false;
	if (is_short(i))
		return i->prefix_len + 1 < INSN_MAX_LEN;
	if (is_moffs(i))
		return true;
	return t->d->cfg.decode(t->d->cfg.arg, t->v, &other, i->bytes, INSN_MAX_LEN,
				CODE_64) == DECODE_OK &&
	       same_layout(i, &other) && same_meaning(i, &other);
}

/* Of what dbt_system.c does in line: what is the same, or does not exist otherwise. */
bool code32_system(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_RDTSC: case INSN_ID_RDTSCP: case INSN_ID_MOV_SEG:
	case INSN_ID_CLI: case INSN_ID_STI: case INSN_ID_CLAC: case INSN_ID_STAC:
		return true;
	default:
		return false;
	}
}
