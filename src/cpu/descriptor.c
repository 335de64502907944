// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptors in the GDT and LDT: reading them once, unpacking, and writing their
 * accessed and busy bits.
 *
 * Source: Intel SDM volume 3, "Protected-Mode Memory Management" and "System Descriptor
 * Types".
 */
#include "cpu/system_priv.h"

/* Bits 40-55 without the limit's upper nibble, where SEG_UNUSABLE lives. */
#define ATTR_MASK	0xf0ffU
#define TYPE_BYTE	5	/* offset of the byte with type, S, DPL and P */

void desc_unpack(struct descriptor *d, uint16_t sel)
{
	uint64_t low = d->low;
	uint32_t limit = (low & 0xffff) | (low >> 32 & 0xf0000);

	d->seg.sel = sel;
	d->seg.attr = low >> 40 & ATTR_MASK;
	d->seg.limit = d->seg.attr & SEG_G ? limit << 12 | 0xfff : limit;
	d->seg.base = (low >> 16 & 0xffffff) | (low >> 32 & 0xff000000);
}

enum exec_status desc_lookup(struct vcpu *v, uint16_t sel, struct descriptor *d, bool *inside)
{
	uint64_t base = v->gdtr.base;
	uint32_t limit = v->gdtr.limit;
	uint32_t off = sel & ~(SEL_RPL | SEL_TI);
	enum mem_result r;

	*inside = false;
	if (sel & SEL_TI) {
		if (v->ldtr.attr & SEG_UNUSABLE || !(v->ldtr.attr & SEG_P))
			return EXEC_OK;
		base = v->ldtr.base;
		limit = v->ldtr.limit;
	} else if (sel_null(sel)) {
		return EXEC_OK;
	}
	if (off + 7 > limit)
		return EXEC_OK;

	d->at = base + off;
	if (!in_long_mode(v))
		d->at = (uint32_t)d->at;
	d->high = 0;
	r = mem_read(v, d->at, &d->low, 8, ACC_READ | ACC_SUPER);
	if (r != MEM_OK)
		return mem_status(r);
	desc_unpack(d, sel);
	*inside = true;
	return EXEC_OK;
}

enum exec_status desc_read(struct vcpu *v, uint16_t sel, unsigned int vector,
			   struct descriptor *d)
{
	enum exec_status st;
	bool inside;

	st = desc_lookup(v, sel, d, &inside);
	if (st == EXEC_OK && !inside)
		return raise_err(v, vector, sel_error(sel));
	return st;
}

enum exec_status desc_read_high(struct vcpu *v, uint16_t sel, unsigned int vector,
				struct descriptor *d)
{
	uint32_t limit = sel & SEL_TI ? v->ldtr.limit : v->gdtr.limit;
	enum mem_result r;

	if (!in_long_mode(v))
		return EXEC_OK;
	if ((sel & ~(SEL_RPL | SEL_TI)) + 15U > limit)
		return raise_err(v, vector, sel_error(sel));
	r = mem_read(v, d->at + 8, &d->high, 8, ACC_READ | ACC_SUPER);
	if (r != MEM_OK)
		return mem_status(r);
	/* The upper half's own type field: 0, so that it is no descriptor by itself. */
	if (d->high >> 40 & 0x1f)
		return raise_err(v, vector, sel_error(sel));
	if (!(d->seg.attr & SEG_S))
		d->seg.base = (uint32_t)d->seg.base | d->high << 32;
	return EXEC_OK;
}

/* Changes the type byte: bits of @or set, bits not in @and cleared, in one locked step. */
static enum exec_status type_byte_update(struct vcpu *v, struct descriptor *d, uint8_t and,
					 uint8_t or)
{
	uint8_t byte = ((uint8_t)(d->low >> 40) & and) | or;
	uint8_t cpl = v->cpl;
	struct mem_pin pin;
	enum mem_result r;

	/* mem_pin_write() goes by the CPL, and this is a supervisor's access at any. */
	vcpu_set_cpl(v, 0);
	tlb_select_view(v);
	r = mem_pin_write(v, d->at + TYPE_BYTE, 1, &pin);
	vcpu_set_cpl(v, cpl);
	tlb_select_view(v);
	if (r == MEM_OK && !pin.hva)
		r = mem_write(v, d->at + TYPE_BYTE, &byte, 1, ACC_WRITE | ACC_SUPER);
	if (r != MEM_OK)
		return mem_status(r);
	if (pin.hva && or)
		__atomic_fetch_or((uint8_t *)pin.hva, or, __ATOMIC_SEQ_CST);
	if (pin.hva && and != 0xff)
		__atomic_fetch_and((uint8_t *)pin.hva, and, __ATOMIC_SEQ_CST);
	if (pin.code)
		mem_unpin(v, &pin);
	d->low = (d->low & ~(0xffULL << 40)) | (uint64_t)byte << 40;
	d->seg.attr = (d->seg.attr & ~0xffU) | byte;
	return EXEC_OK;
}

enum exec_status desc_set_type(struct vcpu *v, struct descriptor *d, unsigned int bits)
{
	return type_byte_update(v, d, 0xff, bits);
}

enum exec_status desc_clear_type(struct vcpu *v, struct descriptor *d, unsigned int bits)
{
	return type_byte_update(v, d, ~bits, 0);
}

enum exec_status desc_set_accessed(struct vcpu *v, struct descriptor *d)
{
	if (d->seg.attr & SEG_A)
		return EXEC_OK;
	return desc_set_type(v, d, SEG_A);
}

struct gate desc_gate(const struct descriptor *d)
{
	return (struct gate){
		.sel = d->low >> 16,
		.off = (d->low & 0xffff) | (d->low >> 32 & 0xffff0000) | d->high << 32,
		.params = d->low >> 32 & 0x1f,
		.ist = d->low >> 32 & 7,
	};
}
