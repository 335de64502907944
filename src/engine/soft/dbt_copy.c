// SPDX-License-Identifier: Apache-2.0
/*
 * Copying innocuous instructions: the same instruction with its general registers renamed
 * (dbt_priv.h says to what) and its memory operand replaced by [r14 + rcx].  Whether it
 * is ADD, PSHUFB or VFMADD makes no difference here: only the encoding's fields do.
 *
 * Guest registers that have no host register are loaded into a temporary before and
 * stored after.  Two temporaries are free without a memory operand, one with it (the
 * address is then folded into the other).
 */
#include "engine/soft/dbt_tr.h"

/* What goes into the fields of the copy. */
struct fields {
	uint8_t reg, rm, vvvv, opcode;	/* host registers; NO_REG: as the original has it */
	bool mem;			/* ModRM.rm is 'm' */
	bool byte_rex;			/* needs a REX prefix for SPL..DIL */
	struct host_mem m;
};

/* The two temporaries: [0] rcx, [1] r14. */
struct temps {
	unsigned int max;	/* 1: only rcx is free */
	unsigned int count;
	uint8_t held[2];	/* what they hold from before, see tr.held */
	uint8_t guest[2];	/* what this instruction has there */
	bool used[2], written[2];
};

static const uint8_t temp_host[2] = { H_TMP, H_ADDR };

static unsigned int rex_of(const struct insn *i)
{
	return i->ext_at < i->prefix_len ? i->bytes[i->ext_at] : 0;
}

/* Prefixes but segment overrides and address size, which the new operand replaces. */
static void copy_prefixes(struct tr *t, const struct insn *i, const struct fields *f)
{
	if (f->mem && f->m.seg)
		e8(&t->e, f->m.seg);
	for (unsigned int k = 0; k < i->ext_at; k++) {
		unsigned int b = i->bytes[k];

		/* The model may lack TZCNT and LZCNT, which are BSF and BSR with F3. */
		if (b == 0xf3 && (i->info->id == INSN_ID_BSF || i->info->id == INSN_ID_BSR))
			continue;
		if (b == 0x66 || b == 0xf0 || b == 0xf2 || b == 0xf3)
			e8(&t->e, b);
	}
}

static void copy_tail(struct tr *t, const struct insn *i)
{
	if (!i->imm_len)
		return;
	for (unsigned int k = i->imm_at; k < i->len; k++)
		e8(&t->e, i->bytes[k]);
}

static void copy_modrm(struct tr *t, const struct insn *i, const struct fields *f)
{
	unsigned int modrm = i->bytes[i->modrm_at];
	unsigned int reg = f->reg != NO_REG ? f->reg : modrm >> 3 & 7;

	if (f->mem)
		e_modrm_mem(&t->e, reg, &f->m, t->i->encoding != ENC_EVEX);
	else
		e8(&t->e, 0xc0 | (reg & 7) << 3 | (f->rm != NO_REG ? f->rm & 7 : modrm & 7));
}

/* Extension bits R X B of the copy; those of untouched fields come from @old. */
static unsigned int extension(const struct fields *f, unsigned int old)
{
	unsigned int r = f->reg != NO_REG ? f->reg >> 3 : old >> 2 & 1;
	unsigned int x = old >> 1 & 1, b = old & 1;

	if (f->mem) {
		x = f->m.index != NO_REG ? f->m.index >> 3 : 0;
		b = f->m.base != NO_REG ? f->m.base >> 3 : 0;
	} else if (f->rm != NO_REG) {
		x = 0;
		b = f->rm >> 3;
	} else if (f->opcode != NO_REG) {
		b = f->opcode >> 3;
	}
	return r << 2 | x << 1 | b;
}

static void copy_legacy(struct tr *t, const struct insn *i, const struct fields *f)
{
	unsigned int old = rex_of(i), end = i->modrm_at ? i->modrm_at : i->imm_len ? i->imm_at : i->len;
	unsigned int rex = (old & 8) | extension(f, old & 7);

	copy_prefixes(t, i, f);
	if (rex || f->byte_rex)
		e8(&t->e, 0x40 | rex);
	for (unsigned int k = i->prefix_len; k < end; k++) {
		unsigned int b = i->bytes[k];

		if (k + 1 == end && f->opcode != NO_REG)
			b = (b & ~7U) | (f->opcode & 7);
		e8(&t->e, b);
	}
	if (i->modrm_at)
		copy_modrm(t, i, f);
	copy_tail(t, i);
}

static void copy_vex(struct tr *t, const struct insn *i, const struct fields *f)
{
	const uint8_t *v = &i->bytes[i->ext_at];
	bool two = i->encoding == ENC_VEX2;
	unsigned int old = two ? (~v[1] >> 5 & 4) : (~v[1] >> 5 & 7);
	unsigned int map = two ? 1 : v[1] & 0x1f;
	unsigned int last = two ? v[1] & 0x7f : v[2];	/* W vvvv L pp */

	if (f->vvvv != NO_REG)
		last = (last & ~0x78U) | (~f->vvvv & 15) << 3;
	if (f->mem && f->m.seg)
		e8(&t->e, f->m.seg);
	e8(&t->e, 0xc4);
	e8(&t->e, (~extension(f, old) & 7) << 5 | map);
	e8(&t->e, last);
	e8(&t->e, i->bytes[i->prefix_len]);
	if (i->modrm_at)
		copy_modrm(t, i, f);
	copy_tail(t, i);
}

/*
 * EVEX: the bits above R X B (R', V') name vector registers or, for V', the index of a
 * gather, which is not copied; general registers never use them.
 */
static void copy_evex(struct tr *t, const struct insn *i, const struct fields *f)
{
	const uint8_t *v = &i->bytes[i->ext_at];
	unsigned int ext = extension(f, ~v[1] >> 5 & 7);
	unsigned int p1 = v[2];

	if (f->vvvv != NO_REG)
		p1 = (p1 & ~0x78U) | (~f->vvvv & 15) << 3;
	if (f->mem && f->m.seg)
		e8(&t->e, f->m.seg);
	e8(&t->e, 0x62);
	e8(&t->e, (~ext & 7) << 5 | (v[1] & 0x1f));
	e8(&t->e, p1);
	e8(&t->e, v[3]);
	e8(&t->e, i->bytes[i->prefix_len]);
	copy_modrm(t, i, f);
	copy_tail(t, i);
}

static void emit_fields(struct tr *t, const struct insn *i, const struct fields *f)
{
	switch (i->encoding) {
	case ENC_LEGACY:
		copy_legacy(t, i, f);
		break;
	case ENC_EVEX:
		copy_evex(t, i, f);
		break;
	default:
		copy_vex(t, i, f);
	}
}

static bool temp_free(const struct temps *tp, unsigned int k)
{
	return k < tp->max && !tp->used[k];
}

/* Which temporary is best for @reg: one that holds it, else one that holds nothing. */
static unsigned int choose_temp(const struct temps *tp, unsigned int reg)
{
	if (reg == REG_RCX)
		return 0;
	for (unsigned int k = 0; k < 2; k++)
		if (temp_free(tp, k) && tp->held[k] == reg)
			return k;
	for (unsigned int k = 0; k < 2; k++)
		if (temp_free(tp, k) && tp->held[k] == NO_REG)
			return k;
	return temp_free(tp, 0) ? 0 : 1;
}

/* The temporary for guest register @reg, or NO_REG if there is none left. */
static unsigned int temp_for(struct temps *tp, unsigned int reg, bool written)
{
	unsigned int k;

	for (k = 0; k < 2; k++)
		if (tp->used[k] && tp->guest[k] == reg)
			break;
	if (k == 2) {
		k = choose_temp(tp, reg);
		if (!temp_free(tp, k))
			return NO_REG;
		tp->used[k] = true;
		tp->guest[k] = reg;
		tp->count++;
	}
	tp->written[k] |= written;
	return temp_host[k];
}

static bool is_extended(unsigned int host)
{
	return host != NO_REG && host > 7;
}

/*
 * Chooses a host register for each general register of @i.  False if it takes more
 * temporaries than there are or an encoding that does not exist (AH with REX).
 */
static bool assign(const struct tr *t, const struct insn *i, struct fields *f, struct temps *tp)
{
	bool high = false, rcx = (i->gpr_read | i->gpr_written) & BIT(REG_RCX);

	for (unsigned int k = 0; k < i->op_count; k++)
		high |= i->op[k].kind == OPND_GPR && i->op[k].high;
	/* RCX as an implicit operand (CL, CMPXCHG8B) must be in RCX: the first temporary. */
	for (unsigned int k = 0; k < i->op_count; k++) {
		const struct operand *o = &i->op[k];

		if (o->kind == OPND_GPR && o->reg == REG_RCX)
			rcx = false;
		if (o->kind == OPND_GPR && o->field == FIELD_NONE) {
			if (o->reg == REG_RSP || o->reg >= REG_R8)
				return false;
			if (o->reg == REG_RCX && temp_for(tp, REG_RCX, o->written) != H_TMP)
				return false;
		}
	}
	/* PCMPESTRI has more operands than are listed; its result is one of the others. */
	if (rcx && temp_for(tp, REG_RCX, i->gpr_written & BIT(REG_RCX)) != H_TMP)
		return false;
	if ((i->gpr_read | i->gpr_written) & BIT(REG_RCX) && high &&
	    temp_for(tp, REG_RCX, i->gpr_written & BIT(REG_RCX)) != H_TMP)
		return false;
	for (unsigned int k = 0; k < i->op_count; k++) {
		const struct operand *o = &i->op[k];
		unsigned int h;

		if (o->kind != OPND_GPR || o->field == FIELD_NONE)
			continue;
		h = host_reg(t, o->reg);
		if (h == IN_MEMORY || (tp->used[0] && tp->guest[0] == o->reg)) {
			h = temp_for(tp, o->reg, o->written);
			if (h == NO_REG)
				return false;
		}
		if (high && h == H_GRSP)
			return false;
		if (o->high)
			h += 4;	/* AH..BH: numbers 4-7 without REX */
		else if (o->size == 1 && h >= 4)
			f->byte_rex = true;
		switch (o->field) {
		case FIELD_REG: f->reg = h; break;
		case FIELD_RM: f->rm = h; break;
		case FIELD_VVVV: f->vvvv = h; break;
		case FIELD_OPCODE: f->opcode = h; break;
		}
	}
	return !high || (!f->byte_rex && !is_extended(f->reg) && !is_extended(f->rm) &&
			 !is_extended(f->opcode));
}

/* Bits 0 to @n. */
static uint64_t insns_to(unsigned int n)
{
	return ~0ULL >> (63 - n);
}

/*
 * Cannot leave translated code, so that what it writes may stay in a temporary until
 * something comes that can?
 */
bool copy_is_quiet(const struct tr *t, const struct insn *i)
{
	if (t->in_group || t->cold || i->flags & (INSN_HAS_MEM | INSN_BRANCH) ||
	    !with(t->d, TRANSLATOR_OPT_HOLD))
		return false;
	switch (i->info->id) {
	case INSN_ID_MOV: case INSN_ID_ADD: case INSN_ID_SUB: case INSN_ID_AND: case INSN_ID_OR:
	case INSN_ID_XOR: case INSN_ID_NOT: case INSN_ID_NEG: case INSN_ID_INC: case INSN_ID_DEC:
	case INSN_ID_CMP: case INSN_ID_TEST: case INSN_ID_ADC: case INSN_ID_SBB:
	case INSN_ID_SHL: case INSN_ID_SHR: case INSN_ID_SAR: case INSN_ID_ROL: case INSN_ID_ROR:
	case INSN_ID_RORX: case INSN_ID_IMUL: case INSN_ID_BSWAP: case INSN_ID_MOVZX:
	case INSN_ID_MOVSX: case INSN_ID_MOVSXD: case INSN_ID_XCHG:
		break;
	default:
		return false;
	}
	for (unsigned int k = 0; k < i->op_count; k++)
		if (i->op[k].kind != OPND_GPR && i->op[k].kind != OPND_IMM)
			return false;
	return true;
}

/* What temporary @k holds goes to its place in memory. */
static void put_temp(struct tr *t, unsigned int k)
{
	if (!t->known.dirty[k])
		return;
	e_store(&t->e, IN_GPR(t->known.held[k]), temp_host[k]);
	t->no_entry |= insns_to(t->n) & ~insns_to(t->known.held_by[k]);
	t->known.dirty[k] = false;
}

void put_temps(struct tr *t)
{
	put_temp(t, 0);
	put_temp(t, 1);
}

/* Temporaries that are to be used otherwise, or whose register is now in the other one. */
static void put_displaced(struct tr *t, const struct temps *tp)
{
	for (unsigned int k = 0; k < 2; k++)
		if (!(tp->used[k] && tp->guest[k] == t->known.held[k]) &&
		    (tp->used[k] || (tp->used[!k] && tp->guest[!k] == t->known.held[k])))
			put_temp(t, k);
}

/* Does @i set all of guest register @reg without looking at it? */
static bool only_written(const struct insn *i, unsigned int reg)
{
	switch (i->info->id) {
	case INSN_ID_MOV: case INSN_ID_MOVZX: case INSN_ID_MOVSX: case INSN_ID_MOVSXD:
	case INSN_ID_RORX:
		return !(i->gpr_read >> reg & 1) && i->op[0].kind == OPND_GPR &&
		       i->op[0].reg == reg && i->op[0].size >= 4;
	default:
		return false;
	}
}

static void load_temps(struct tr *t, const struct temps *tp)
{
	put_displaced(t, tp);
	for (unsigned int k = 0; k < 2; k++) {
		if (!tp->used[k] || only_written(t->i, tp->guest[k]))
			continue;
		if (tp->guest[k] == REG_RCX)
			e_mov_rr(&t->e, temp_host[k], H_GRCX);
		else if (t->known.held[k] == tp->guest[k])
			t->no_entry |= insns_to(t->n) & ~insns_to(t->known.held_by[k]);
		else
			e_load(&t->e, temp_host[k], IN_GPR(tp->guest[k]));
	}
}

static void store_temps(struct tr *t, const struct temps *tp)
{
	for (unsigned int k = 0; k < 2; k++) {
		if (!tp->used[k])
			continue;
		t->known.held[k] = tp->guest[k] == REG_RCX ? NO_REG : tp->guest[k];
		t->known.held_by[k] = t->n;
		if (t->known.held[!k] == t->known.held[k] && !tp->used[!k])
			t->known.held[!k] = NO_REG;
		if (!tp->written[k])
			continue;
		if (tp->guest[k] == REG_RCX) {
			e_mov_rr(&t->e, H_GRCX, temp_host[k]);
		} else {
			t->known.dirty[k] = true;
			if (!copy_is_quiet(t, t->i))
				put_temp(t, k);
		}
	}
}

static struct temps temps_of(const struct tr *t, unsigned int max)
{
	return (struct temps){ .max = max, .held = { t->known.held[0], t->known.held[1] } };
}

static bool has_high(const struct insn *i)
{
	for (unsigned int k = 0; k < i->op_count; k++)
		if (i->op[k].kind == OPND_GPR && i->op[k].high)
			return true;
	return false;
}

/* An operand of 16 bytes that faults unless it is aligned cannot cross a page. */
static bool must_be_aligned(const struct tr *t, const struct insn *i)
{
	if (!with(t->d, TRANSLATOR_OPT_ALIGNED) || i->encoding != ENC_LEGACY || i->info->how != HOW_HOST || i->mem.size != 16)
		return false;
	switch (i->info->id) {
	case INSN_ID_MOVUPS: case INSN_ID_MOVUPD: case INSN_ID_MOVDQU: case INSN_ID_LDDQU:
	case INSN_ID_PCMPESTRI: case INSN_ID_PCMPESTRM:
	case INSN_ID_PCMPISTRI: case INSN_ID_PCMPISTRM:
		return false;
	default:
		return true;
	}
}

static bool copy_memory(struct tr *t, const struct insn *i)
{
	struct fields f = { .reg = NO_REG, .rm = NO_REG, .vvvv = NO_REG, .opcode = NO_REG, .mem = true };
	bool direct = t->b->mode & MODE_WINDOW && window_direct(t, &i->mem);
	struct temps tp = { .max = direct ? 2 : 1, .held = { NO_REG, NO_REG } };
	bool high = has_high(i);

	if (!assign(t, i, &f, &tp) || (high && tp.count))
		return false;
	f.m = emit_operand(t, i, must_be_aligned(t, i) ? 1 : i->mem.size);
	if (high) {			/* no REX allowed: the address into rcx */
		unsigned int seg = f.m.seg;

		f.m.seg = SEG_NONE;
		e_lea(&t->e, H_TMP, f.m);
		f.m = AT(H_TMP);
		f.m.seg = seg;
		t->known.held[0] = NO_REG;
	} else if (tp.count && f.m.index == H_TMP) {
		e_lea(&t->e, H_ADDR, f.m);
		f.m = AT(H_ADDR);
		t->known.held[1] = NO_REG;
	}
	tp = temps_of(t, tp.max);	/* now that it is known what they hold */
	assign(t, i, &f, &tp);
	load_temps(t, &tp);
	emit_fields(t, i, &f);
	store_temps(t, &tp);
	return true;
}

bool emit_copy_at(struct tr *t, const struct insn *i, int32_t disp)
{
	struct fields f = { .reg = NO_REG, .rm = NO_REG, .vvvv = NO_REG, .opcode = NO_REG, .mem = true };
	struct temps tp = temps_of(t, 1);

	if (has_high(i) || !assign(t, i, &f, &tp))
		return false;
	f.m = AT_DISP(H_ADDR, disp);
	load_temps(t, &tp);
	emit_fields(t, i, &f);
	store_temps(t, &tp);
	return true;
}

unsigned int copy_temps(const struct tr *t, const struct insn *i)
{
	struct fields f = { .reg = NO_REG, .rm = NO_REG, .vvvv = NO_REG, .opcode = NO_REG };
	struct temps tp = { .max = 2, .held = { NO_REG, NO_REG } };

	return assign(t, i, &f, &tp) ? tp.count : 3;
}

static bool copy_registers(struct tr *t, const struct insn *i)
{
	struct fields f = { .reg = NO_REG, .rm = NO_REG, .vvvv = NO_REG, .opcode = NO_REG };
	struct temps tp = temps_of(t, t->in_group ? 1 : 2);

	if (!assign(t, i, &f, &tp))
		return false;
	load_temps(t, &tp);
	emit_fields(t, i, &f);
	store_temps(t, &tp);
	return true;
}

/* MOV between the accumulator and an absolute address has no ModRM byte: made a usual one. */
static bool copy_moffs(struct tr *t, const struct insn *i)
{
	struct insn m = *i;
	unsigned int op = i->bytes[i->prefix_len];

	/* a0 mov al,m  a1 mov eax,m  a2 mov m,al  a3 mov m,eax */
	m.bytes[i->prefix_len] = op < 0xa2 ? 0x8a | (op & 1) : 0x88 | (op & 1);
	m.modrm_at = i->prefix_len + 1;
	m.bytes[m.modrm_at] = 0;
	m.imm_len = 0;
	for (unsigned int k = 0; k < m.op_count; k++)
		if (m.op[k].kind == OPND_GPR)
			m.op[k].field = FIELD_REG;
	return copy_memory(t, &m);
}

bool emit_copy(struct tr *t, const struct insn *i)
{
	unsigned int op = i->bytes[i->prefix_len];
	struct insn longer;

	if (i->info->id == INSN_ID_LEA) {
		if (i->opsize == 2)
			return false;
		emit_lea(t, i);
		return true;
	}
	if (i->mem.is_address)		/* NOP, PREFETCH: nothing to do */
		return !i->gpr_written;
	if (!(i->flags & INSN_HAS_MEM)) {
		longer = *i;
		return copy_registers(t, t->b->mode & MODE_32 && code32_lengthen(&longer) ? &longer : i);
	}
	if (i->encoding == ENC_LEGACY && op >= 0xa0 && op <= 0xa3)
		return copy_moffs(t, i);
	return copy_memory(t, i);
}
