// SPDX-License-Identifier: Apache-2.0
/*
 * Loading segment registers, LDTR and TR, and asking about selectors (LAR, LSL, VERR,
 * VERW).
 *
 * Real-mode loads change base and selector alone, so that limits and attributes of a
 * visit to protected mode live on, as programs in "unreal" mode expect.
 *
 * Source: Intel SDM volume 2, each instruction; volume 3, "Protection".
 */
#include "cpu/system_priv.h"

#define ATTR_REAL	(SEG_P | SEG_S | SEG_W | SEG_A)
#define ATTR_VM86	(ATTR_REAL | 3U << SEG_DPL_SHIFT)

void seg_load_real(struct vcpu *v, unsigned int seg, uint16_t sel)
{
	struct segment *s = &v->seg[seg];

	s->sel = sel;
	s->base = (uint64_t)sel << 4;
	if (in_vm86(v)) {
		s->limit = 0xffff;
		s->attr = ATTR_VM86;
	} else if (s->attr & SEG_UNUSABLE) {
		s->limit = 0xffff;
		s->attr = ATTR_REAL;
	}
}

/* After SS changed: its width, and the next boundary takes no interrupt and no trap. */
static void ss_loaded(struct vcpu *v)
{
	v->shadow_mov_ss = true;
	atomic_fetch_or_explicit(&v->attention, ATTN_SHADOW, memory_order_relaxed);
	vcpu_update_mode(v);
}

static enum exec_status load_null(struct vcpu *v, unsigned int seg, uint16_t sel)
{
	if (seg != SEG_SS) {
		v->seg[seg] = seg_null(sel, 0);
		return EXEC_OK;
	}
	if (v->code_size != CODE_64 || v->cpl == 3 || (sel & SEL_RPL) != v->cpl)
		return raise_gp(v, 0);
	v->seg[SEG_SS] = seg_null(sel, v->cpl);
	return EXEC_OK;
}

enum exec_status stack_segment_check(struct vcpu *v, uint16_t sel, unsigned int cpl,
				     unsigned int vector, struct descriptor *d)
{
	enum exec_status rc;

	if (sel_null(sel))
		return raise_err(v, vector, 0);
	rc = desc_read(v, sel, vector, d);
	if (rc != EXEC_OK)
		return rc;
	if ((sel & SEL_RPL) != cpl || SEG_DPL(d->seg.attr) != cpl ||
	    !seg_is_writable_data(&d->seg))
		return raise_err(v, vector, sel_error(sel));
	if (!(d->seg.attr & SEG_P))
		return raise_err(v, EXC_SS, sel_error(sel));
	return desc_set_accessed(v, d);
}

enum exec_status data_segment_check(struct vcpu *v, uint16_t sel, unsigned int vector,
				    struct descriptor *d)
{
	unsigned int dpl;
	enum exec_status rc;

	rc = desc_read(v, sel, vector, d);
	if (rc != EXEC_OK)
		return rc;
	dpl = SEG_DPL(d->seg.attr);
	if (!(d->seg.attr & SEG_S) || (seg_is_code(&d->seg) && !(d->seg.attr & SEG_W)))
		return raise_err(v, vector, sel_error(sel));
	if (!seg_is_conforming(&d->seg) && ((sel & SEL_RPL) > dpl || v->cpl > dpl))
		return raise_err(v, vector, sel_error(sel));
	if (!(d->seg.attr & SEG_P))
		return raise_err(v, EXC_NP, sel_error(sel));
	return desc_set_accessed(v, d);
}

enum exec_status seg_load(struct vcpu *v, unsigned int seg, uint16_t sel)
{
	struct descriptor d;
	enum exec_status rc;

	if (in_real_or_vm86(v)) {
		seg_load_real(v, seg, sel);
	} else if (sel_null(sel)) {
		rc = load_null(v, seg, sel);
		if (rc != EXEC_OK)
			return rc;
	} else {
		rc = seg == SEG_SS ? stack_segment_check(v, sel, v->cpl, EXC_GP, &d) :
				     data_segment_check(v, sel, EXC_GP, &d);
		if (rc != EXEC_OK)
			return rc;
		v->seg[seg] = d.seg;
	}
	if (seg == SEG_SS)
		ss_loaded(v);
	return EXEC_OK;
}

/* What LLDT and LTR have in common: *d is a system descriptor in the GDT. */
static enum exec_status system_segment_check(struct vcpu *v, uint16_t sel, unsigned int types,
					     struct descriptor *d)
{
	enum exec_status rc;

	if (sel & SEL_TI)
		return raise_gp(v, sel_error(sel));
	rc = desc_read(v, sel, EXC_GP, d);
	if (rc != EXEC_OK)
		return rc;
	if (d->seg.attr & SEG_S || !(types & BIT(desc_type(&d->seg))))
		return raise_gp(v, sel_error(sel));
	if (!(d->seg.attr & SEG_P))
		return raise_err(v, EXC_NP, sel_error(sel));
	rc = desc_read_high(v, sel, EXC_GP, d);
	if (rc != EXEC_OK)
		return rc;
	if (!gva_canonical(d->seg.base))
		return raise_gp(v, sel_error(sel));
	return EXEC_OK;
}

enum exec_status sys_lldt(struct vcpu *v, uint16_t sel)
{
	struct descriptor d;
	enum exec_status rc;

	if (in_real_or_vm86(v))
		return raise_ud(v);
	if (v->cpl)
		return raise_gp(v, 0);
	if (sel_null(sel)) {
		v->ldtr = seg_null(sel, 0);
		return EXEC_OK;
	}
	rc = system_segment_check(v, sel, BIT(DESC_LDT), &d);
	if (rc == EXEC_OK)
		v->ldtr = d.seg;
	return rc;
}

enum exec_status sys_ltr(struct vcpu *v, uint16_t sel)
{
	unsigned int types = BIT(DESC_TSS32) | (in_long_mode(v) ? 0 : BIT(DESC_TSS16));
	struct descriptor d;
	enum exec_status rc;

	if (in_real_or_vm86(v))
		return raise_ud(v);
	if (v->cpl || sel_null(sel))
		return raise_gp(v, 0);
	rc = system_segment_check(v, sel, types, &d);
	if (rc == EXEC_OK)
		rc = desc_set_type(v, &d, DESC_BUSY);
	if (rc == EXEC_OK)
		v->tr = d.seg;
	return rc;
}

/* The descriptor, if the present privilege and @sel's RPL may see it; conforming always. */
static enum exec_status visible(struct vcpu *v, uint16_t sel, struct descriptor *d, bool *ok)
{
	enum exec_status rc;
	unsigned int dpl;

	*ok = false;
	if (in_real_or_vm86(v))
		return raise_ud(v);
	if (sel_null(sel))
		return EXEC_OK;
	rc = desc_lookup(v, sel, d, ok);
	if (rc != EXEC_OK || !*ok)
		return rc;
	dpl = SEG_DPL(d->seg.attr);
	*ok = seg_is_conforming(&d->seg) || (v->cpl <= dpl && (sel & SEL_RPL) <= dpl);
	return EXEC_OK;
}

static bool type_in(const struct vcpu *v, const struct segment *s, unsigned int legacy,
		    unsigned int lng)
{
	return s->attr & SEG_S || BIT(desc_type(s)) & (in_long_mode(v) ? lng : legacy);
}

#define TYPES_LONG	(BIT(DESC_LDT) | BIT(DESC_TSS32) | BIT(DESC_TSS32_BUSY))
#define TYPES_LSL	(TYPES_LONG | BIT(DESC_TSS16) | BIT(DESC_TSS16_BUSY))
#define TYPES_LAR	(TYPES_LSL | BIT(DESC_CALL16) | BIT(DESC_TASK_GATE) | BIT(DESC_CALL32))

enum exec_status sys_lar(struct vcpu *v, uint16_t sel, uint32_t *value, bool *ok)
{
	struct descriptor d;
	enum exec_status rc = visible(v, sel, &d, ok);

	if (rc != EXEC_OK || !*ok)
		return rc;
	*ok = type_in(v, &d.seg, TYPES_LAR, TYPES_LONG | BIT(DESC_CALL32));
	if (*ok)
		*value = d.low >> 32 & 0x00ffff00;	/* limit bits too, as processors do */
	return EXEC_OK;
}

enum exec_status sys_lsl(struct vcpu *v, uint16_t sel, uint32_t *value, bool *ok)
{
	struct descriptor d;
	enum exec_status rc = visible(v, sel, &d, ok);

	if (rc != EXEC_OK || !*ok)
		return rc;
	*ok = type_in(v, &d.seg, TYPES_LSL, TYPES_LONG);
	if (*ok)
		*value = d.seg.limit;
	return EXEC_OK;
}

enum exec_status sys_verify(struct vcpu *v, uint16_t sel, bool write, bool *ok)
{
	struct descriptor d;
	enum exec_status rc = visible(v, sel, &d, ok);

	if (rc != EXEC_OK || !*ok)
		return rc;
	if (write)
		*ok = seg_is_writable_data(&d.seg);
	else
		*ok = d.seg.attr & SEG_S && (!seg_is_code(&d.seg) || d.seg.attr & SEG_W);
	return EXEC_OK;
}
