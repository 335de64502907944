// SPDX-License-Identifier: Apache-2.0
/*
 * From instruction bytes to struct insn, by Zydis; see decode.h.
 *
 * Branches with an operand-size prefix in 64-bit mode ignore it, as Intel's processors do.
 * MPX and CET encodings decode to their names; without those features they are hints
 * (NOP) or absent, which the instruction table says.
 */
#include "x86/decode.h"
#include "x86/regs.h"

#include <Zydis/Zydis.h>

#define OPERANDS	ZYDIS_MAX_OPERAND_COUNT

/* enum code_size of cpu/vcpu.h, which is above this layer. */
enum { MODE_16, MODE_32, MODE_64, MODE_MASK = 0xff };

static void decoder_init(ZydisDecoder *d, unsigned int mode)
{
	static const struct { ZydisMachineMode machine; ZydisStackWidth stack; } modes[] = {
		[MODE_16] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
		[MODE_32] = { ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
		[MODE_64] = { ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
	};

	ZydisDecoderInit(d, modes[mode & MODE_MASK].machine, modes[mode & MODE_MASK].stack);
	if (mode & DECODE_NO_TZCNT)
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_TZCNT, ZYAN_FALSE);
	if (mode & DECODE_NO_LZCNT)
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_LZCNT, ZYAN_FALSE);
}

static bool is_legacy_prefix(uint8_t b)
{
	switch (b) {
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
	case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3:
		return true;
	}
	return false;
}

/* Where the parts of the instruction are. */
static void fill_layout(struct insn *out, const ZydisDecodedInstruction *z, unsigned int mode)
{
	static const uint8_t length[] = {
		[ENC_VEX2] = 2, [ENC_VEX3] = 3, [ENC_XOP] = 3, [ENC_EVEX] = 4,
	};
	unsigned int n = 0;

	while (n < out->len && (is_legacy_prefix(out->bytes[n]) ||
				((mode & MODE_MASK) == MODE_64 && (out->bytes[n] & 0xf0) == 0x40)))
		n++;
	switch (z->encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
		out->encoding = z->raw.vex.size == 2 ? ENC_VEX2 : ENC_VEX3;
		break;
	case ZYDIS_INSTRUCTION_ENCODING_EVEX:
		out->encoding = ENC_EVEX;
		break;
	case ZYDIS_INSTRUCTION_ENCODING_XOP:
		out->encoding = ENC_XOP;
		break;
	default:
		out->encoding = ENC_LEGACY;
	}
	out->prefix_len = n + length[out->encoding];
	if (out->encoding != ENC_LEGACY)
		out->ext_at = n;
	else	/* REX counts only directly before the opcode */
		out->ext_at = n && !is_legacy_prefix(out->bytes[n - 1]) ? n - 1 : n;
	out->modrm_at = z->raw.modrm.offset;
	out->sib_at = z->raw.sib.offset;
	out->disp_at = z->raw.disp.offset;
	out->disp_len = z->raw.disp.size / 8;
	out->imm_at = z->raw.imm[0].offset;
	out->imm_len = z->raw.imm[0].size / 8 + z->raw.imm[1].size / 8;
}

static uint8_t segment_number(ZydisRegister r)
{
	switch (r) {
	case ZYDIS_REGISTER_ES: return SEG_ES;
	case ZYDIS_REGISTER_CS: return SEG_CS;
	case ZYDIS_REGISTER_SS: return SEG_SS;
	case ZYDIS_REGISTER_FS: return SEG_FS;
	case ZYDIS_REGISTER_GS: return SEG_GS;
	default: return SEG_DS;
	}
}

/* REG_* of any general register; AH..BH give the number of their 64-bit register. */
static uint8_t gpr_number(ZydisRegister r, bool *high)
{
	*high = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
	if (*high)
		return r - ZYDIS_REGISTER_AH;
	if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_BL)
		return r - ZYDIS_REGISTER_AL;
	if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B)
		return r - ZYDIS_REGISTER_SPL + REG_RSP;
	return ZydisRegisterGetId(r);
}

static uint8_t address_register(ZydisRegister r)
{
	bool high;

	if (r == ZYDIS_REGISTER_NONE)
		return REG_NONE;
	if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
		return REG_RIP;
	return gpr_number(r, &high);
}

static void fill_mem(struct insn *out, const ZydisDecodedInstruction *z,
		     const ZydisDecodedOperand *o)
{
	struct mem_operand *m = &out->mem;

	m->seg = segment_number(o->mem.segment);
	m->base = address_register(o->mem.base);
	m->scale = o->mem.scale ? __builtin_ctz(o->mem.scale) : 0;
	m->disp = o->mem.disp.has_displacement ? o->mem.disp.value : 0;
	m->addr_size = z->address_width / 8;
	m->size = o->size / 8;
	m->elem = o->element_size / 8;
	if (z->avx.mask.reg != ZYDIS_REGISTER_NONE)
		m->mask = ZydisRegisterGetId(z->avx.mask.reg);
	m->vsib = o->mem.type == ZYDIS_MEMOP_TYPE_VSIB;
	if (m->vsib)
		m->index = ZydisRegisterGetId(o->mem.index);
	else if (z->mnemonic == ZYDIS_MNEMONIC_XLAT)
		m->index = REG_NONE;
	else
		m->index = address_register(o->mem.index);
	m->is_address = o->mem.type == ZYDIS_MEMOP_TYPE_AGEN ||
			o->mem.type == ZYDIS_MEMOP_TYPE_MIB;
	if (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
		out->flags |= INSN_MEM_READ;
	if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
		out->flags |= INSN_MEM_WRITE;
}

static void fill_register(struct insn *out, struct operand *p, const ZydisDecodedOperand *o)
{
	ZydisRegister r = o->reg.value;
	bool high = false;

	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		p->kind = OPND_GPR;
		p->reg = gpr_number(r, &high);
		p->high = high;
		if (p->read)
			out->gpr_read |= BIT(p->reg);
		if (p->written)
			out->gpr_written |= BIT(p->reg);
		return;
	case ZYDIS_REGCLASS_SEGMENT:
		p->kind = OPND_SEG;
		p->reg = segment_number(r);
		return;
	case ZYDIS_REGCLASS_CONTROL:
		p->kind = OPND_CR;
		break;
	case ZYDIS_REGCLASS_DEBUG:
		p->kind = OPND_DR;
		break;
	case ZYDIS_REGCLASS_X87:
	case ZYDIS_REGCLASS_MMX:
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM:
	case ZYDIS_REGCLASS_ZMM:
	case ZYDIS_REGCLASS_MASK:
		p->kind = OPND_VEC;
		break;
	default:	/* rFLAGS, rIP, table registers, BND */
		p->kind = OPND_NONE;
		return;
	}
	p->reg = ZydisRegisterGetId(r);
}

static uint8_t operand_field(const ZydisDecodedOperand *o)
{
	switch (o->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG: return FIELD_REG;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM: return FIELD_RM;
	case ZYDIS_OPERAND_ENCODING_OPCODE: return FIELD_OPCODE;
	case ZYDIS_OPERAND_ENCODING_NDSNDD: return FIELD_VVVV;
	default: return FIELD_NONE;
	}
}

/* Zydis's operands are in the manual's order, hidden ones last. */
static void fill_operand(struct insn *out, const ZydisDecodedInstruction *z,
			 const ZydisDecodedOperand *o)
{
	struct operand p = {
		.field = operand_field(o),
		.size = MIN(o->size / 8, 255),
		.read = (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0,
		.written = (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0,
		.implicit = o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT,
	};

	switch (o->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		fill_register(out, &p, o);
		break;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		p.kind = OPND_MEM;
		if (!p.implicit && !(out->flags & INSN_HAS_MEM)) {
			out->flags |= INSN_HAS_MEM;
			fill_mem(out, z, o);
		}
		break;
	case ZYDIS_OPERAND_TYPE_POINTER:
		p.kind = OPND_IMM;
		out->imm = o->ptr.offset;
		out->imm2 = o->ptr.segment;
		break;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		p.kind = o->imm.is_relative ? OPND_REL : OPND_IMM;
		if (z->mnemonic == ZYDIS_MNEMONIC_ENTER && out->op_count) {
			p.kind = OPND_IMM2;
			out->imm2 = o->imm.value.s;
		} else {
			out->imm = o->imm.value.s;
		}
		break;
	default:
		return;
	}
	if (p.kind != OPND_NONE && out->op_count < ARRAY_SIZE(out->op))
		out->op[out->op_count++] = p;
}

/* String instructions and the like: the operand that a segment override applies to. */
static void fill_implicit_mem(struct insn *out, const ZydisDecodedInstruction *z,
			      const ZydisDecodedOperand *ops)
{
	const ZydisDecodedOperand *found = NULL;

	for (unsigned int i = 0; i < z->operand_count; i++) {
		uint8_t base;

		if (ops[i].type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		base = address_register(ops[i].mem.base);
		if (base == REG_RSP || base == REG_RBP)	/* the stack */
			continue;
		if (!found || base == REG_RSI)
			found = &ops[i];
	}
	if (found)
		fill_mem(out, z, found);
	out->flags &= ~(INSN_HAS_MEM | INSN_MEM_READ | INSN_MEM_WRITE);
}

static void fill_flags(struct insn *out, const ZydisDecodedInstruction *z)
{
	const uint64_t seen = RFLAGS_ARITH | RFLAGS_DF;
	const ZydisAccessedFlags *f = z->cpu_flags;

	out->flags_read = f->tested & seen;
	out->flags_written = (f->modified | f->set_0 | f->set_1 | f->undefined) & seen;
}

static uint8_t condition(const ZydisDecodedInstruction *z)
{
	bool short_jcc = z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (z->opcode & 0xf0) == 0x70;
	bool two_byte = z->opcode_map == ZYDIS_OPCODE_MAP_0F &&
			((z->opcode & 0xf0) == 0x40 || (z->opcode & 0xf0) == 0x80 ||
			 (z->opcode & 0xf0) == 0x90);

	return short_jcc || two_byte ? z->opcode & 15 : 0;
}

static bool has_operand(const struct insn *i, unsigned int kind)
{
	for (unsigned int n = 0; n < i->op_count; n++)
		if (i->op[n].kind == kind)
			return true;
	return false;
}

/* The row: Zydis's mnemonic, or the form of it that has a row of its own. */
static const struct insn_info *find_info(const struct insn *i, const ZydisDecodedInstruction *z)
{
	enum insn_id id = (enum insn_id)z->mnemonic;
	bool far = z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
	bool string = z->meta.category == ZYDIS_CATEGORY_STRINGOP;

	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		if (has_operand(i, OPND_CR))
			id = INSN_ID_MOV_CR;
		else if (has_operand(i, OPND_DR))
			id = INSN_ID_MOV_DR;
		else if (has_operand(i, OPND_SEG))
			id = INSN_ID_MOV_SEG;
		break;
	case ZYDIS_MNEMONIC_PUSH:
		if (has_operand(i, OPND_SEG))
			id = INSN_ID_PUSH_SEG;
		break;
	case ZYDIS_MNEMONIC_POP:
		if (has_operand(i, OPND_SEG))
			id = INSN_ID_POP_SEG;
		break;
	case ZYDIS_MNEMONIC_CALL:
		id = far ? INSN_ID_CALL_FAR : id;
		break;
	case ZYDIS_MNEMONIC_JMP:
		id = far ? INSN_ID_JMP_FAR : id;
		break;
	case ZYDIS_MNEMONIC_RET:
		id = far ? INSN_ID_RET_FAR : id;
		break;
	case ZYDIS_MNEMONIC_MOVSD:
		id = string ? id : INSN_ID_MOVSD_SSE;
		break;
	case ZYDIS_MNEMONIC_CMPSD:
		id = string ? id : INSN_ID_CMPSD_SSE;
		break;
	default:
		break;
	}
	return insn_info(id);
}

static bool is_string(const ZydisDecodedInstruction *z)
{
	return z->meta.category == ZYDIS_CATEGORY_STRINGOP ||
	       z->meta.category == ZYDIS_CATEGORY_IOSTRINGOP;
}

/* Address only, memory is not touched whatever Zydis says of the operand. */
static bool is_hint(const ZydisDecodedInstruction *z)
{
	switch (z->meta.category) {
	case ZYDIS_CATEGORY_NOP:
	case ZYDIS_CATEGORY_WIDENOP:
	case ZYDIS_CATEGORY_PREFETCH:
	case ZYDIS_CATEGORY_PREFETCHWT1:
	case ZYDIS_CATEGORY_CLDEMOTE:
	case ZYDIS_CATEGORY_MPX:
		return true;
	default:
		return z->mnemonic == ZYDIS_MNEMONIC_INVLPG;
	}
}

static bool ends_block(const struct insn *i, const ZydisDecodedInstruction *z)
{
	switch (z->meta.category) {
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_INTERRUPT:
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_SYSRET:
		return true;
	case ZYDIS_CATEGORY_STRINGOP:
	case ZYDIS_CATEGORY_IOSTRINGOP:
		if (i->flags & (INSN_REP | INSN_REPNE))
			return true;
		break;
	default:
		break;
	}
	switch (i->info->id) {
	case INSN_ID_MOV_SEG:	/* reading one changes nothing */
		return i->op[0].kind == OPND_SEG;
	case INSN_ID_CPUID:	/* behind them the engine has seen what others did to code */
	case INSN_ID_SERIALIZE:
		return true;
	default:
		break;
	}
	return i->info->insn_class & (CLASS_PRIVILEGED | CLASS_CONTROL);
}

static void fill(struct insn *out, const ZydisDecodedInstruction *z,
		 const ZydisDecodedOperand *ops, unsigned int mode)
{
	out->mem.base = out->mem.index = REG_NONE;
	out->opsize = out->stack_size = z->operand_width / 8;
	out->mem.addr_size = z->address_width / 8;
	out->mem.seg = SEG_DS;
	out->isa = z->meta.isa_set;
	out->cond = condition(z);
	if (z->attributes & ZYDIS_ATTRIB_HAS_LOCK)
		out->flags |= INSN_LOCK;
	if (z->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
		out->flags |= INSN_REP;
	if (z->attributes & ZYDIS_ATTRIB_HAS_REPNE)
		out->flags |= INSN_REPNE;
	fill_layout(out, z, mode);
	if (out->encoding != ENC_LEGACY)
		out->flags |= INSN_VEX;
	for (unsigned int i = 0; i < z->operand_count; i++)
		fill_operand(out, z, &ops[i]);
	if (is_string(z) || !(out->flags & INSN_HAS_MEM))
		fill_implicit_mem(out, z, ops);
	if (is_hint(z)) {
		out->mem.is_address = true;
		out->flags &= ~(INSN_MEM_READ | INSN_MEM_WRITE);
	}
	fill_flags(out, z);
}

static enum decode_result failure(ZyanStatus st, unsigned int avail)
{
	if (st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
		return DECODE_LONG;
	if (st == ZYDIS_STATUS_NO_MORE_DATA)
		return avail < INSN_MAX_LEN ? DECODE_MORE : DECODE_LONG;
	return DECODE_UD;
}

enum decode_result insn_decode(struct insn *out, const uint8_t *bytes, unsigned int avail,
			       unsigned int mode)
{
	ZydisDecodedOperand ops[OPERANDS];
	ZydisDecodedInstruction z;
	ZydisDecoderContext ctx;
	ZydisDecoder d;
	ZyanStatus st;

	*out = (struct insn){ .code_size = mode & MODE_MASK };
	decoder_init(&d, mode);
	avail = MIN(avail, INSN_MAX_LEN);
	st = ZydisDecoderDecodeInstruction(&d, &ctx, bytes, avail, &z);
	if (!ZYAN_SUCCESS(st))
		return failure(st, avail);
	st = ZydisDecoderDecodeOperands(&d, &ctx, &z, ops, OPERANDS);
	if (!ZYAN_SUCCESS(st))
		return DECODE_UD;
	out->len = z.length;
	__builtin_memcpy(out->bytes, bytes, z.length);
	fill(out, &z, ops, mode);
	out->info = find_info(out, &z);
	if (!out->info)
		return DECODE_UD;
	if (ends_block(out, &z))
		out->flags |= INSN_BRANCH;
	return DECODE_OK;
}
