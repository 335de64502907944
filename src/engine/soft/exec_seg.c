// SPDX-License-Identifier: Apache-2.0
/*
 * Instructions on segment registers, descriptors and descriptor tables.  The checks of
 * selectors are in cpu/system.h; here operands are decoded.
 *
 * Source: Intel SDM volume 2.
 */
#include "engine/soft/exec_priv.h"

/* These have no meaning where there are no descriptors: #UD. */
static int require_descriptors(struct vcpu *v)
{
	return in_real_mode(v) || in_vm86(v) ? (int)raise_ud(v) : EXEC_OK;
}

static int require_no_umip(struct vcpu *v)
{
	return v->cr4 & CR4_UMIP && v->cpl ? (int)raise_gp(v, 0) : EXEC_OK;
}

/* --- segment registers --- */

static int exec_mov_to_seg(struct vcpu *v, const struct insn *i)
{
	uint16_t sel;

	if (i->op[0].reg == SEG_CS)
		return raise_ud(v);
	TRY(source16(v, i, &i->op[1], &sel));
	TRY(seg_load(v, i->op[0].reg, sel));
	return exec_next(v, i);
}

/* Memory gets 16 bits, a register is zero-extended from them. */
static int exec_mov_from_seg(struct vcpu *v, const struct insn *i)
{
	unsigned int size = i->op[0].kind == OPND_MEM ? 2 : i->op[0].size;

	TRY(exec_dest(v, i, &i->op[0], size, v->seg[i->op[1].reg].sel));
	return exec_next(v, i);
}

/* LDS LES LFS LGS LSS: offset, then selector, from memory. */
static int load_far(struct vcpu *v, const struct insn *i, unsigned int seg)
{
	uint64_t off, sel;

	TRY(exec_load(v, i, i->opsize, &off));
	TRY(exec_load_part(v, i, i->opsize, 2, &sel));
	TRY(seg_load(v, seg, sel));
	reg_set(v, i->op[0].reg, i->opsize, off);
	return exec_next(v, i);
}

static int exec_lds(struct vcpu *v, const struct insn *i)
{
	return load_far(v, i, SEG_DS);
}

static int exec_les(struct vcpu *v, const struct insn *i)
{
	return load_far(v, i, SEG_ES);
}

static int exec_lfs(struct vcpu *v, const struct insn *i)
{
	return load_far(v, i, SEG_FS);
}

static int exec_lgs(struct vcpu *v, const struct insn *i)
{
	return load_far(v, i, SEG_GS);
}

static int exec_lss(struct vcpu *v, const struct insn *i)
{
	return load_far(v, i, SEG_SS);
}

/* --- RDFSBASE and friends --- */

static int require_fsgsbase(struct vcpu *v)
{
	return v->cr4 & CR4_FSGSBASE ? EXEC_OK : (int)raise_ud(v);
}

static int read_base(struct vcpu *v, const struct insn *i, unsigned int seg)
{
	TRY(require_fsgsbase(v));
	reg_set(v, i->op[0].reg, i->opsize, v->seg[seg].base);
	return exec_next(v, i);
}

static int write_base(struct vcpu *v, const struct insn *i, unsigned int seg)
{
	uint64_t base = v->gpr[i->op[0].reg] & size_mask(i->opsize);

	TRY(require_fsgsbase(v));
	if (!gva_canonical(base))
		return raise_gp(v, 0);
	v->seg[seg].base = base;
	return exec_next(v, i);
}

static int exec_rdfsbase(struct vcpu *v, const struct insn *i)
{
	return read_base(v, i, SEG_FS);
}

static int exec_rdgsbase(struct vcpu *v, const struct insn *i)
{
	return read_base(v, i, SEG_GS);
}

static int exec_wrfsbase(struct vcpu *v, const struct insn *i)
{
	return write_base(v, i, SEG_FS);
}

static int exec_wrgsbase(struct vcpu *v, const struct insn *i)
{
	return write_base(v, i, SEG_GS);
}

static int exec_swapgs(struct vcpu *v, const struct insn *i)
{
	TRY(require_cpl0(v));
	TRY(sys_swapgs(v));
	return exec_next(v, i);
}

/* --- questions about descriptors --- */

static void set_zf(struct vcpu *v, bool on)
{
	v->rflags = (v->rflags & ~RFLAGS_ZF) | (on ? RFLAGS_ZF : 0);
}

static int query(struct vcpu *v, const struct insn *i,
		 enum exec_status (*ask)(struct vcpu *v, uint16_t sel, uint32_t *value, bool *ok))
{
	uint32_t value = 0;
	uint16_t sel;
	bool ok;

	TRY(require_descriptors(v));
	TRY(source16(v, i, &i->op[1], &sel));
	TRY(ask(v, sel, &value, &ok));
	set_zf(v, ok);
	if (ok)
		reg_set(v, i->op[0].reg, i->opsize, value);
	return exec_next(v, i);
}

static int exec_lar(struct vcpu *v, const struct insn *i)
{
	return query(v, i, sys_lar);
}

static int exec_lsl(struct vcpu *v, const struct insn *i)
{
	return query(v, i, sys_lsl);
}

static int verify(struct vcpu *v, const struct insn *i, bool write)
{
	uint16_t sel;
	bool ok;

	TRY(require_descriptors(v));
	TRY(source16(v, i, &i->op[0], &sel));
	TRY(sys_verify(v, sel, write, &ok));
	set_zf(v, ok);
	return exec_next(v, i);
}

static int exec_verr(struct vcpu *v, const struct insn *i)
{
	return verify(v, i, false);
}

static int exec_verw(struct vcpu *v, const struct insn *i)
{
	return verify(v, i, true);
}

/* ARPL: raises the RPL of the first selector to that of the second. */
static int exec_arpl(struct vcpu *v, const struct insn *i)
{
	uint16_t sel, rpl = v->gpr[i->op[1].reg] & 3;
	bool raised;

	TRY(require_descriptors(v));
	TRY(source16(v, i, &i->op[0], &sel));
	raised = (sel & 3) < rpl;
	if (raised)
		TRY(dest16(v, i, &i->op[0], (sel & ~3) | rpl));
	set_zf(v, raised);
	return exec_next(v, i);
}

/* --- LDT, task register --- */

static int exec_lldt(struct vcpu *v, const struct insn *i)
{
	uint16_t sel;

	TRY(require_descriptors(v));
	TRY(require_cpl0(v));
	TRY(source16(v, i, &i->op[0], &sel));
	TRY(sys_lldt(v, sel));
	return exec_next(v, i);
}

static int exec_ltr(struct vcpu *v, const struct insn *i)
{
	uint16_t sel;

	TRY(require_descriptors(v));
	TRY(require_cpl0(v));
	TRY(source16(v, i, &i->op[0], &sel));
	TRY(sys_ltr(v, sel));
	return exec_next(v, i);
}

static int store_selector(struct vcpu *v, const struct insn *i, uint16_t sel)
{
	unsigned int size = i->op[0].kind == OPND_MEM ? 2 : i->op[0].size;

	TRY(require_descriptors(v));
	TRY(require_no_umip(v));
	TRY(exec_dest(v, i, &i->op[0], size, sel));
	return exec_next(v, i);
}

static int exec_sldt(struct vcpu *v, const struct insn *i)
{
	return store_selector(v, i, v->ldtr.sel);
}

static int exec_str(struct vcpu *v, const struct insn *i)
{
	return store_selector(v, i, v->tr.sel);
}

/* --- GDTR, IDTR: a limit of 16 bits, then a base of 64, 32 or (when loaded) 24 --- */

static int load_table(struct vcpu *v, const struct insn *i, struct table_reg *t)
{
	bool wide = v->code_size == CODE_64;
	uint64_t limit, base;

	TRY(require_cpl0(v));
	TRY(exec_load(v, i, 2, &limit));
	TRY(exec_load_part(v, i, 2, wide ? 8 : 4, &base));
	if (!gva_canonical(base))
		return raise_gp(v, 0);
	t->limit = limit;
	t->base = wide || i->opsize != 2 ? base : base & 0xffffff;
	return exec_next(v, i);
}

/* All 32 bits of the base are stored even with an operand size of 16, as processors do. */
static int store_table(struct vcpu *v, const struct insn *i, const struct table_reg *t)
{
	unsigned int size = v->code_size == CODE_64 ? 10 : 6;
	struct { uint16_t limit; uint64_t base; } __attribute__((packed)) image = {
		.limit = t->limit, .base = t->base,
	};
	gva_t gva;

	TRY(require_no_umip(v));
	TRY(mem_linear(v, i, size, ACC_WRITE, &gva));
	TRY(mem_status(mem_write(v, gva, &image, size, seg_access(i->mem.seg, ACC_WRITE))));
	return exec_next(v, i);
}

static int exec_lgdt(struct vcpu *v, const struct insn *i)
{
	return load_table(v, i, &v->gdtr);
}

static int exec_lidt(struct vcpu *v, const struct insn *i)
{
	return load_table(v, i, &v->idtr);
}

static int exec_sgdt(struct vcpu *v, const struct insn *i)
{
	return store_table(v, i, &v->gdtr);
}

static int exec_sidt(struct vcpu *v, const struct insn *i)
{
	return store_table(v, i, &v->idtr);
}

exec_fn exec_seg_select(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_MOV_SEG:
		return i->op[0].kind == OPND_SEG ? exec_mov_to_seg : exec_mov_from_seg;
	case INSN_ID_LDS: return exec_lds;
	case INSN_ID_LES: return exec_les;
	case INSN_ID_LFS: return exec_lfs;
	case INSN_ID_LGS: return exec_lgs;
	case INSN_ID_LSS: return exec_lss;
	case INSN_ID_RDFSBASE: return exec_rdfsbase;
	case INSN_ID_RDGSBASE: return exec_rdgsbase;
	case INSN_ID_WRFSBASE: return exec_wrfsbase;
	case INSN_ID_WRGSBASE: return exec_wrgsbase;
	case INSN_ID_SWAPGS: return exec_swapgs;
	case INSN_ID_LAR: return exec_lar;
	case INSN_ID_LSL: return exec_lsl;
	case INSN_ID_VERR: return exec_verr;
	case INSN_ID_VERW: return exec_verw;
	case INSN_ID_ARPL: return exec_arpl;
	case INSN_ID_LLDT: return exec_lldt;
	case INSN_ID_LTR: return exec_ltr;
	case INSN_ID_SLDT: return exec_sldt;
	case INSN_ID_STR: return exec_str;
	case INSN_ID_LGDT: return exec_lgdt;
	case INSN_ID_LIDT: return exec_lidt;
	case INSN_ID_SGDT: return exec_sgdt;
	case INSN_ID_SIDT: return exec_sidt;
	default: return NULL;
	}
}
