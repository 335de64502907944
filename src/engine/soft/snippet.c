// SPDX-License-Identifier: Apache-2.0
/*
 * Re-encodes a guest instruction so that it runs on the host:
 *
 *	mov	r8, [rdi + gpr]		; ModRM.reg, if it names a general register
 *	mov	r9, [rdi + gpr]		; ModRM.rm, the same
 *	mov	r10, [rdi + gpr]	; VEX.vvvv, the same
 *	mov	rax/rcx/rdx, ...	; those the instruction reads without naming them
 *	<guest's arithmetic flags to the host's, if it reads any>
 *	<the instruction, registers renamed, memory operand [rsi]>
 *	<flags back, if it writes any>
 *	mov	[rdi + gpr], r9/r10/r8/rax/rcx/rdx	; those it writes
 *	xor	eax, eax
 *	ret
 *
 * Invariants:
 * 1. rdi is the vcpu, rsi the memory operand; only registers that a C call may clobber
 *    are used, and the stack is balanced at the instruction, so that a trap in it can
 *    return to the caller (host.c).
 * 2. Segment and address-size prefixes are gone: C code has made the address.
 * 3. The code does not depend on where it is.
 * 4. Outside 64-bit mode there is no register above 7: the encoding's bits for those are
 *    cleared, since the host would look at them.
 */
#include "engine/soft/snippet.h"

#include "cpu/vcpu.h"

#include <Zydis/MetaInfo.h>

enum { H_RAX, H_RCX, H_RDX, H_RSI = 6, H_RDI, H_R8 = 8, H_R9, H_R10, H_R11 };

#define GPR_OFF(n)	((uint32_t)(offsetof(struct vcpu, gpr) + 8 * (n)))
#define RFLAGS_OFF	((uint32_t)offsetof(struct vcpu, rflags))

struct out {
	uint8_t *p;
};

static void put8(struct out *o, unsigned int b)
{
	*o->p++ = b;
}

static void put32(struct out *o, uint32_t x)
{
	__builtin_memcpy(o->p, &x, 4);
	o->p += 4;
}

/* op reg64, [rdi + disp32] and its like, by opcode. */
static void put_rdi_mem(struct out *o, unsigned int opcode, unsigned int reg, uint32_t disp)
{
	put8(o, 0x48 | (reg >= 8 ? 4 : 0));
	put8(o, opcode);
	put8(o, 0x80 | (reg & 7) << 3 | H_RDI);
	put32(o, disp);
}

static void put_load(struct out *o, unsigned int reg, uint32_t disp)
{
	put_rdi_mem(o, 0x8b, reg, disp);
}

static void put_store(struct out *o, uint32_t disp, unsigned int reg)
{
	put_rdi_mem(o, 0x89, reg, disp);
}

/* shr reg64, 8 */
static void put_shift_high(struct out *o, unsigned int reg)
{
	put8(o, 0x49);
	put8(o, 0xc1);
	put8(o, 0xe8 | (reg & 7));
	put8(o, 8);
}

/* mov r11, [rdi + rflags]; and r11d, mask; push r11; popfq */
static void put_flags_in(struct out *o)
{
	put_load(o, H_R11, RFLAGS_OFF);
	put8(o, 0x41);
	put8(o, 0x81);
	put8(o, 0xe3);
	put32(o, RFLAGS_ARITH);
	put8(o, 0x41);
	put8(o, 0x53);
	put8(o, 0x9d);
}

/* pushfq; pop r11; and r11d, mask; and qword [rdi + rflags], ~mask; or [rdi + rflags], r11 */
static void put_flags_out(struct out *o)
{
	const uint32_t mask = RFLAGS_ARITH;

	put8(o, 0x9c);
	put8(o, 0x41);
	put8(o, 0x5b);
	put8(o, 0x41);
	put8(o, 0x81);
	put8(o, 0xe3);
	put32(o, mask);
	put8(o, 0x48);
	put8(o, 0x81);
	put8(o, 0xa7);
	put32(o, RFLAGS_OFF);
	put32(o, ~mask);
	put_rdi_mem(o, 0x09, H_R11, RFLAGS_OFF);
}

/*
 * Bit manipulation leaves flags undefined that processors leave alone: they see the guest's.
 * The others that write flags at all write all of them, whatever the table says.
 */
static bool keeps_some_flags(const struct insn *i)
{
	switch (i->isa) {
	case ZYDIS_ISA_SET_BMI1:
	case ZYDIS_ISA_SET_BMI2:
	case ZYDIS_ISA_SET_LZCNT:
	case ZYDIS_ISA_SET_ADOX_ADCX:
		return true;
	default:
		return false;
	}
}

/* The named general registers of an instruction. */
struct names {
	const struct operand *reg, *rm, *vvvv;
	bool mem;		/* ModRM.rm is memory */
	bool any;
};

static struct names find_names(const struct insn *i)
{
	struct names n = { .mem = (i->flags & INSN_HAS_MEM) != 0 };

	for (unsigned int k = 0; k < i->op_count; k++) {
		const struct operand *o = &i->op[k];

		if (o->kind != OPND_GPR)
			continue;
		if (o->field == FIELD_REG)
			n.reg = o;
		else if (o->field == FIELD_RM)
			n.rm = o;
		else if (o->field == FIELD_VVVV)
			n.vvvv = o;
	}
	n.any = n.reg || n.rm || n.vvvv;
	return n;
}

/* Does the operand size of this legacy instruction follow the code segment's? */
static bool follows_mode(const struct insn *i)
{
	switch (i->isa) {
	case ZYDIS_ISA_SET_POPCNT:
	case ZYDIS_ISA_SET_LZCNT:
	case ZYDIS_ISA_SET_BMI1:
	case ZYDIS_ISA_SET_RDRAND:
	case ZYDIS_ISA_SET_RDSEED:
	case ZYDIS_ISA_SET_X87:
		return true;
	default:
		return i->info->id == INSN_ID_CRC32;
	}
}

static unsigned int new_modrm(const struct insn *i, const struct names *n)
{
	unsigned int m = i->bytes[i->modrm_at];

	if (n->reg)
		m = (m & ~0x38u) | (H_R8 & 7) << 3;
	if (n->mem)
		m = (m & 0x38u) | H_RSI;
	else if (n->rm)
		m = (m & ~7u) | (H_R9 & 7);
	return m;
}

/* Opcode, ModRM, immediate. */
static void put_rest(struct out *o, const struct insn *i, const struct names *n)
{
	unsigned int end = i->modrm_at ? i->modrm_at : i->imm_at ? i->imm_at : i->len;

	for (unsigned int k = i->prefix_len; k < end; k++)
		put8(o, i->bytes[k]);
	if (i->modrm_at)
		put8(o, new_modrm(i, n));
	for (unsigned int k = 0; k < i->imm_len; k++)
		put8(o, i->bytes[i->imm_at + k]);
}

#define REX_W	8
#define REX_R	4
#define REX_X	2
#define REX_B	1

/* The W, R, X and B bits that the renamed instruction needs; @old are the guest's. */
static unsigned int new_rex(const struct names *n, unsigned int old)
{
	if (n->reg)
		old |= REX_R;
	if (n->mem)
		old &= ~(REX_X | REX_B);
	else if (n->rm)
		old = (old & ~REX_X) | REX_B;
	return old;
}

static void put_legacy(struct out *o, const struct insn *i, const struct names *n)
{
	unsigned int rex = i->ext_at < i->prefix_len ? i->bytes[i->ext_at] & 15 : 0;
	bool opsize = false;
	uint8_t rep = 0;

	for (unsigned int k = 0; k < i->prefix_len; k++) {
		if (i->bytes[k] == 0x66)
			opsize = true;
		else if (i->bytes[k] == 0xf2 || i->bytes[k] == 0xf3)
			rep = i->bytes[k];
	}
	if (i->code_size == CODE_16 && follows_mode(i))
		opsize = !opsize;
	if (opsize)
		put8(o, 0x66);
	if (rep)
		put8(o, rep);
	rex = new_rex(n, rex);
	if (rex)
		put8(o, 0x40 | rex);
	put_rest(o, i, n);
}

/* VEX and XOP fields, not inverted. */
struct vex {
	unsigned int rex, map, vvvv, length, pp;
};

static struct vex read_vex(const struct insn *i)
{
	const uint8_t *b = &i->bytes[i->ext_at];
	struct vex x;
	uint8_t last;

	if (i->encoding == ENC_VEX2) {
		x.rex = b[1] & 0x80 ? 0 : REX_R;
		x.map = 1;
		last = b[1];
	} else {
		x.rex = (~b[1] >> 5 & 7) | (b[2] & 0x80 ? REX_W : 0);
		x.map = b[1] & 0x1f;
		last = b[2];
	}
	x.vvvv = ~last >> 3 & 15;
	x.length = last >> 2 & 1;
	x.pp = last & 3;
	return x;
}

/*
 * W that stands for a 64-bit general register or integer is ignored outside 64-bit mode,
 * also where the integer is in memory.
 */
static bool w_is_ignored(const struct insn *i, const struct names *n)
{
	switch (i->info->id) {
	case INSN_ID_VMOVD: case INSN_ID_VPEXTRD: case INSN_ID_VPINSRD:
	case INSN_ID_VCVTSI2SS: case INSN_ID_VCVTSI2SD:
	case INSN_ID_VCVTUSI2SS: case INSN_ID_VCVTUSI2SD:
		return true;
	default:
		return n->any;
	}
}

static void put_vex(struct out *o, const struct insn *i, const struct names *n)
{
	struct vex x = read_vex(i);

	if (i->code_size != CODE_64) {
		x.rex &= w_is_ignored(i, n) ? 0 : REX_W;
		x.vvvv &= 7;
	}
	x.rex = new_rex(n, x.rex);
	if (n->vvvv)
		x.vvvv = H_R10;
	put8(o, i->encoding == ENC_XOP ? 0x8f : 0xc4);
	put8(o, (~x.rex & 7) << 5 | x.map);
	put8(o, (x.rex & REX_W ? 0x80 : 0) | (~x.vvvv & 15) << 3 | x.length << 2 | x.pp);
	put_rest(o, i, n);
	if (i->imm_len == 1 && i->code_size != CODE_64 && i->info->id != INSN_ID_RORX &&
	    i->op_count == 4 && i->op[3].kind == OPND_VEC)
		o->p[-1] &= 0x7f;	/* a register in the immediate */
}

static void put_evex(struct out *o, const struct insn *i, const struct names *n)
{
	const uint8_t *b = &i->bytes[i->ext_at];
	unsigned int rex = ~b[1] >> 5 & 7, high = b[1] & 0x10, vvvv = ~b[2] >> 3 & 15;
	unsigned int w = b[2] & 0x80, last = b[3];

	if (i->code_size != CODE_64) {
		rex = 0;
		vvvv &= 7;
		high = 0x10;
		last |= 8;
		if (w_is_ignored(i, n))
			w = 0;
	}
	rex = new_rex(n, rex);
	if (n->reg)
		high = 0x10;
	put8(o, 0x62);
	put8(o, (~rex & 7) << 5 | high | (b[1] & 0x0f));
	put8(o, w | (~vvvv & 15) << 3 | (b[2] & 7));
	put8(o, last);
	put_rest(o, i, n);
}

static void put_instruction(struct out *o, const struct insn *i, const struct names *n)
{
	switch (i->encoding) {
	case ENC_LEGACY:
		put_legacy(o, i, n);
		break;
	case ENC_EVEX:
		put_evex(o, i, n);
		break;
	default:
		put_vex(o, i, n);
	}
}

static void load_operand(struct out *o, const struct operand *p, unsigned int host)
{
	if (!p || !(p->read || p->size < 4))
		return;
	put_load(o, host, GPR_OFF(p->reg));
	if (p->high)
		put_shift_high(o, host);
}

static void store_operand(struct out *o, const struct operand *p, unsigned int host)
{
	if (p && p->written)
		put_store(o, GPR_OFF(p->reg), host);
}

static uint16_t written_by_name(const struct names *n)
{
	const struct operand *all[] = { n->reg, n->rm, n->vvvv };
	uint16_t mask = 0;

	for (unsigned int k = 0; k < ARRAY_SIZE(all); k++)
		if (all[k] && all[k]->written)
			mask |= BIT(all[k]->reg);
	return mask;
}

unsigned int snippet_make(const struct insn *i, uint8_t *out)
{
	const uint16_t fixed = BIT(REG_RAX) | BIT(REG_RCX) | BIT(REG_RDX);
	bool written = i->flags_written & RFLAGS_ARITH;
	struct names n = find_names(i);
	uint16_t implicit = i->gpr_written & ~written_by_name(&n);
	struct out o = { out };

	if (i->mem.vsib || (implicit & ~fixed))
		return 0;
	load_operand(&o, n.reg, H_R8);
	load_operand(&o, n.rm, H_R9);
	load_operand(&o, n.vvvv, H_R10);
	for (unsigned int r = H_RAX; r <= H_RDX; r++)
		if ((i->gpr_read | implicit) & BIT(r))
			put_load(&o, r, GPR_OFF(r));
	if (i->flags_read & RFLAGS_ARITH || (written && keeps_some_flags(i)))
		put_flags_in(&o);
	put_instruction(&o, i, &n);
	if (written)
		put_flags_out(&o);
	/* MULX with one destination twice keeps the half that ModRM.reg names. */
	store_operand(&o, n.rm, H_R9);
	store_operand(&o, n.vvvv, H_R10);
	store_operand(&o, n.reg, H_R8);
	for (unsigned int r = H_RAX; r <= H_RDX; r++)
		if (implicit & BIT(r))
			put_store(&o, GPR_OFF(r), r);
	put8(&o, 0x31);
	put8(&o, 0xc0);
	put8(&o, 0xc3);
	return o.p - out;
}
