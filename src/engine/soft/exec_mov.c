// SPDX-License-Identifier: Apache-2.0
/*
 * Moves between general registers and memory, extensions, conditional moves, LEA, and
 * what does nothing.  Moves of segment, control and debug registers are in exec_seg.c
 * and exec_sys.c.
 *
 * Source: Intel SDM volume 2.
 */
#include "engine/soft/exec_priv.h"

#define DEFINE_MOV(bits) \
static int exec_mov##bits##_rr(struct vcpu *v, const struct insn *i) \
{ \
	gpr_set##bits(v, &i->op[0], gpr_get##bits(v, &i->op[1])); \
	return exec_next(v, i); \
} \
static int exec_mov##bits##_ri(struct vcpu *v, const struct insn *i) \
{ \
	gpr_set##bits(v, &i->op[0], i->imm); \
	return exec_next(v, i); \
} \
static int exec_mov##bits##_rm(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t value; \
	TRY(load##bits(v, i, &value)); \
	gpr_set##bits(v, &i->op[0], value); \
	return exec_next(v, i); \
} \
static int exec_mov##bits##_mr(struct vcpu *v, const struct insn *i) \
{ \
	TRY(store##bits(v, i, gpr_get##bits(v, &i->op[1]))); \
	return exec_next(v, i); \
} \
static int exec_mov##bits##_mi(struct vcpu *v, const struct insn *i) \
{ \
	TRY(store##bits(v, i, i->imm)); \
	return exec_next(v, i); \
}
FOR_SIZES(DEFINE_MOV)

static const exec_forms mov_forms = {
	[FORM_RR] = FORM_ROW(mov, rr), [FORM_RI] = FORM_ROW(mov, ri),
	[FORM_RM] = FORM_ROW(mov, rm), [FORM_MR] = FORM_ROW(mov, mr),
	[FORM_MI] = FORM_ROW(mov, mi),
};

/* --- MOVZX, MOVSX, MOVSXD: from @src bits to @dst bits --- */

#define DEFINE_EXTEND(name, type, dst, src) \
static int exec_##name##dst##_##src##_r(struct vcpu *v, const struct insn *i) \
{ \
	gpr_set##dst(v, &i->op[0], (type##src##_t)gpr_get##src(v, &i->op[1])); \
	return exec_next(v, i); \
} \
static int exec_##name##dst##_##src##_m(struct vcpu *v, const struct insn *i) \
{ \
	uint##src##_t value; \
	TRY(load##src(v, i, &value)); \
	gpr_set##dst(v, &i->op[0], (type##src##_t)value); \
	return exec_next(v, i); \
}
#define DEFINE_EXTENDS(name, type) \
	DEFINE_EXTEND(name, type, 16, 8) DEFINE_EXTEND(name, type, 32, 8) \
	DEFINE_EXTEND(name, type, 64, 8) DEFINE_EXTEND(name, type, 16, 16) \
	DEFINE_EXTEND(name, type, 32, 16) DEFINE_EXTEND(name, type, 64, 16) \
	DEFINE_EXTEND(name, type, 16, 32) DEFINE_EXTEND(name, type, 32, 32) \
	DEFINE_EXTEND(name, type, 64, 32)
DEFINE_EXTENDS(movzx, uint)
DEFINE_EXTENDS(movsx, int)

#define EXTEND_ROW(name, src, form) { NULL, exec_##name##16_##src##_##form, \
	exec_##name##32_##src##_##form, exec_##name##64_##src##_##form }
#define EXTEND_TABLE(name) { \
	{ EXTEND_ROW(name, 8, r), EXTEND_ROW(name, 16, r), EXTEND_ROW(name, 32, r) }, \
	{ EXTEND_ROW(name, 8, m), EXTEND_ROW(name, 16, m), EXTEND_ROW(name, 32, m) } }

static exec_fn select_extend(const struct insn *i, bool sign)
{
	static const exec_fn table[2][2][3][4] = { EXTEND_TABLE(movzx), EXTEND_TABLE(movsx) };
	unsigned int src = size_index(i->op[1].size);

	if (src > 2)
		return NULL;
	return table[sign][i->op[1].kind == OPND_MEM][src][size_index(i->op[0].size)];
}

/* CBW CWDE CDQE: the lower half of rAX into all of it. */
static int exec_cbw(struct vcpu *v, const struct insn *i)
{
	reg_set16(v, REG_RAX, (int8_t)v->gpr[REG_RAX]);
	return exec_next(v, i);
}

static int exec_cwde(struct vcpu *v, const struct insn *i)
{
	v->gpr[REG_RAX] = (uint32_t)(int16_t)v->gpr[REG_RAX];
	return exec_next(v, i);
}

static int exec_cdqe(struct vcpu *v, const struct insn *i)
{
	v->gpr[REG_RAX] = (int32_t)v->gpr[REG_RAX];
	return exec_next(v, i);
}

/* CWD CDQ CQO: the sign of rAX into all of rDX. */
static int exec_cwd(struct vcpu *v, const struct insn *i)
{
	reg_set16(v, REG_RDX, (int16_t)v->gpr[REG_RAX] >> 15);
	return exec_next(v, i);
}

static int exec_cdq(struct vcpu *v, const struct insn *i)
{
	v->gpr[REG_RDX] = (uint32_t)((int32_t)v->gpr[REG_RAX] >> 31);
	return exec_next(v, i);
}

static int exec_cqo(struct vcpu *v, const struct insn *i)
{
	v->gpr[REG_RDX] = (int64_t)v->gpr[REG_RAX] >> 63;
	return exec_next(v, i);
}

/* --- LEA: the address, cut to the address size, then to the operand size --- */

static int exec_lea16(struct vcpu *v, const struct insn *i)
{
	gpr_set16(v, &i->op[0], exec_offset(v, i));
	return exec_next(v, i);
}

static int exec_lea32(struct vcpu *v, const struct insn *i)
{
	gpr_set32(v, &i->op[0], exec_offset(v, i));
	return exec_next(v, i);
}

static int exec_lea64(struct vcpu *v, const struct insn *i)
{
	gpr_set64(v, &i->op[0], exec_offset(v, i));
	return exec_next(v, i);
}

/* --- conditions; the operand is read, and 32-bit results zero-extended, either way --- */

#define DEFINE_CMOV(bits) \
static int exec_cmov##bits##_r(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t old = gpr_get##bits(v, &i->op[0]), new = gpr_get##bits(v, &i->op[1]); \
	gpr_set##bits(v, &i->op[0], flags_condition(v->rflags, i->cond) ? new : old); \
	return exec_next(v, i); \
} \
static int exec_cmov##bits##_m(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t old = gpr_get##bits(v, &i->op[0]), new; \
	TRY(load##bits(v, i, &new)); \
	gpr_set##bits(v, &i->op[0], flags_condition(v->rflags, i->cond) ? new : old); \
	return exec_next(v, i); \
}
DEFINE_CMOV(16)
DEFINE_CMOV(32)
DEFINE_CMOV(64)

static exec_fn select_cmov(const struct insn *i)
{
	static const exec_fn table[2][4] = {
		{ NULL, exec_cmov16_r, exec_cmov32_r, exec_cmov64_r },
		{ NULL, exec_cmov16_m, exec_cmov32_m, exec_cmov64_m },
	};

	return table[i->op[1].kind == OPND_MEM][size_index(i->op[0].size)];
}

static int exec_setcc_r(struct vcpu *v, const struct insn *i)
{
	gpr_set8(v, &i->op[0], flags_condition(v->rflags, i->cond));
	return exec_next(v, i);
}

static int exec_setcc_m(struct vcpu *v, const struct insn *i)
{
	TRY(store8(v, i, flags_condition(v->rflags, i->cond)));
	return exec_next(v, i);
}

/* --- byte order --- */

/* BSWAP of a 16-bit register is undefined; processors clear it. */
static int exec_bswap(struct vcpu *v, const struct insn *i)
{
	uint64_t *r = &v->gpr[i->op[0].reg];

	if (i->opsize == 8)
		*r = __builtin_bswap64(*r);
	else if (i->opsize == 4)
		*r = __builtin_bswap32(*r);
	else
		reg_set16(v, i->op[0].reg, 0);
	return exec_next(v, i);
}

static int exec_movbe(struct vcpu *v, const struct insn *i)
{
	unsigned int size = i->op[0].size;
	uint64_t value;

	TRY(exec_source(v, i, &i->op[1], size, &value));
	TRY(exec_dest(v, i, &i->op[0], size, __builtin_bswap64(value) >> (64 - size * 8)));
	return exec_next(v, i);
}

/* XLAT: AL from the table at rBX. */
static int exec_xlat(struct vcpu *v, const struct insn *i)
{
	uint64_t off = v->gpr[REG_RBX] + (uint8_t)v->gpr[REG_RAX];
	uint8_t value;
	gva_t gva;

	TRY(exec_linear(v, i->mem.seg, off & size_mask(i->mem.addr_size), 1, ACC_READ, &gva));
	TRY(load_at8(v, gva, i->mem.seg, &value));
	reg_set(v, REG_RAX, 1, value);
	return exec_next(v, i);
}

/*
 * NOP, ENDBR, prefetches, fences (the host's memory order is the guest's already),
 * and what is a hint where a feature is not there: MPX, CET.
 */
static int exec_nop(struct vcpu *v, const struct insn *i)
{
	return exec_next(v, i);
}

/* A fence that must also hold against other vCPUs' accesses to the same host memory. */
/*
 * The host's own: non-temporal stores are ordered by SFENCE, the time-stamp counter by LFENCE,
 * and no fence of the C language is sure to do either.
 */
static int exec_mfence(struct vcpu *v, const struct insn *i)
{
	__asm__ volatile("mfence" ::: "memory");
	return exec_next(v, i);
}

static int exec_lfence(struct vcpu *v, const struct insn *i)
{
	__asm__ volatile("lfence" ::: "memory");
	return exec_next(v, i);
}

static int exec_sfence(struct vcpu *v, const struct insn *i)
{
	__asm__ volatile("sfence" ::: "memory");
	return exec_next(v, i);
}

static int exec_pause(struct vcpu *v, const struct insn *i)
{
	vcpu_pause(v);
	return exec_next(v, i);
}

exec_fn exec_mov_select(const struct insn *i)
{
	static const exec_fn lea[4] = { NULL, exec_lea16, exec_lea32, exec_lea64 };

	switch (i->info->id) {
	case INSN_ID_MOV: return exec_from_forms(mov_forms, i);
	case INSN_ID_MOVZX: return select_extend(i, false);
	case INSN_ID_MOVSX:
	case INSN_ID_MOVSXD: return select_extend(i, true);
	case INSN_ID_LEA: return lea[size_index(i->op[0].size)];
	case INSN_ID_CBW: return exec_cbw;
	case INSN_ID_CWDE: return exec_cwde;
	case INSN_ID_CDQE: return exec_cdqe;
	case INSN_ID_CWD: return exec_cwd;
	case INSN_ID_CDQ: return exec_cdq;
	case INSN_ID_CQO: return exec_cqo;
	case INSN_ID_BSWAP: return exec_bswap;
	case INSN_ID_MOVBE: return exec_movbe;
	case INSN_ID_XLAT: return exec_xlat;
	case INSN_ID_MFENCE:
	case INSN_ID_SERIALIZE: return exec_mfence;
	case INSN_ID_LFENCE: return exec_lfence;
	case INSN_ID_SFENCE: return exec_sfence;
	case INSN_ID_PAUSE: return exec_pause;
	case INSN_ID_NOP: case INSN_ID_ENDBR32: case INSN_ID_ENDBR64:
	case INSN_ID_PREFETCH: case INSN_ID_PREFETCHNTA: case INSN_ID_PREFETCHT0:
	case INSN_ID_PREFETCHT1: case INSN_ID_PREFETCHT2: case INSN_ID_PREFETCHW:
	case INSN_ID_PREFETCHWT1: case INSN_ID_CLDEMOTE: case INSN_ID_RDSSPD:
	case INSN_ID_RDSSPQ: case INSN_ID_BNDCL: case INSN_ID_BNDCN: case INSN_ID_BNDCU:
	case INSN_ID_BNDLDX: case INSN_ID_BNDMK: case INSN_ID_BNDMOV: case INSN_ID_BNDSTX:
		return exec_nop;
	case INSN_ID_CMOVO: case INSN_ID_CMOVNO: case INSN_ID_CMOVB: case INSN_ID_CMOVNB:
	case INSN_ID_CMOVZ: case INSN_ID_CMOVNZ: case INSN_ID_CMOVBE: case INSN_ID_CMOVNBE:
	case INSN_ID_CMOVS: case INSN_ID_CMOVNS: case INSN_ID_CMOVP: case INSN_ID_CMOVNP:
	case INSN_ID_CMOVL: case INSN_ID_CMOVNL: case INSN_ID_CMOVLE: case INSN_ID_CMOVNLE:
		return select_cmov(i);
	case INSN_ID_SETO: case INSN_ID_SETNO: case INSN_ID_SETB: case INSN_ID_SETNB:
	case INSN_ID_SETZ: case INSN_ID_SETNZ: case INSN_ID_SETBE: case INSN_ID_SETNBE:
	case INSN_ID_SETS: case INSN_ID_SETNS: case INSN_ID_SETP: case INSN_ID_SETNP:
	case INSN_ID_SETL: case INSN_ID_SETNL: case INSN_ID_SETLE: case INSN_ID_SETNLE:
		return i->op[0].kind == OPND_MEM ? exec_setcc_m : exec_setcc_r;
	default: return NULL;
	}
}
