// SPDX-License-Identifier: Apache-2.0
/*
 * Segmentation outside 64-bit mode, and the slow paths of operand access.
 *
 * Source: Intel SDM volume 3, "Protection": "Limit Checking", "Type Checking".
 *
 * An access that runs over the end of a segment of 4 GiB faults like any other; the manual
 * leaves that to the processor.
 */
#include "engine/soft/exec_priv.h"

static enum exec_status segment_fault(struct vcpu *v, unsigned int seg)
{
	return raise_err(v, seg == SEG_SS ? EXC_SS : EXC_GP, 0);
}

static bool segment_allows(const struct vcpu *v, const struct segment *s, unsigned int access)
{
	if (in_real_mode(v) || in_vm86(v))
		return true;
	if (s->attr & SEG_UNUSABLE)
		return false;
	if (access & ACC_WRITE)
		return (s->attr & (SEG_CODE | SEG_W)) == SEG_W;
	return (s->attr & (SEG_CODE | SEG_W)) != SEG_CODE;
}

static bool segment_holds(const struct segment *s, uint64_t first, uint64_t last)
{
	if ((s->attr & (SEG_CODE | SEG_E)) == SEG_E)
		return first > s->limit &&
		       last <= (s->attr & SEG_DB ? 0xffffffffULL : 0xffffULL);
	return last <= s->limit;
}

enum exec_status exec_linear(struct vcpu *v, unsigned int seg, uint64_t off, unsigned int size,
			     unsigned int access, gva_t *gva)
{
	const struct segment *s = &v->seg[seg];

	if (v->code_size == CODE_64) {
		*gva = off + seg_base64(v, seg);
		return gva_canonical(*gva) ? EXEC_OK : segment_fault(v, seg);
	}
	if (!segment_allows(v, s, access) || !segment_holds(s, off, off + size - 1))
		return segment_fault(v, seg);
	*gva = (uint32_t)(s->base + off);
	return EXEC_OK;
}

static int load_linear(struct vcpu *v, gva_t gva, unsigned int seg, unsigned int size,
		       uint64_t *value)
{
	*value = 0;
	return mem_status(mem_read(v, gva, value, size, seg_access(seg, ACC_READ)));
}

int exec_load(struct vcpu *v, const struct insn *i, unsigned int size, uint64_t *value)
{
	return exec_load_part(v, i, 0, size, value);
}

int exec_load_part(struct vcpu *v, const struct insn *i, unsigned int at, unsigned int size,
		   uint64_t *value)
{
	uint64_t off = exec_offset(v, i) + at;
	gva_t gva;

	if (i->mem.addr_size != 8)
		off &= size_mask(i->mem.addr_size);
	TRY(exec_linear(v, i->mem.seg, off, size, ACC_READ, &gva));
	return load_linear(v, gva, i->mem.seg, size, value);
}

int exec_store(struct vcpu *v, const struct insn *i, unsigned int size, uint64_t value)
{
	gva_t gva;

	TRY(mem_linear(v, i, size, ACC_WRITE, &gva));
	return mem_status(mem_write(v, gva, &value, size, seg_access(i->mem.seg, ACC_WRITE)));
}

int exec_source(struct vcpu *v, const struct insn *i, const struct operand *o,
		unsigned int size, uint64_t *value)
{
	if (o->kind == OPND_MEM)
		return exec_load(v, i, size, value);
	if (o->kind == OPND_GPR)
		*value = v->gpr[o->reg] >> o->high * 8 & size_mask(size);
	else
		*value = i->imm & size_mask(size);
	return EXEC_OK;
}

int exec_dest(struct vcpu *v, const struct insn *i, const struct operand *o,
	      unsigned int size, uint64_t value)
{
	if (o->kind == OPND_MEM)
		return exec_store(v, i, size, value);
	if (size == 1)
		gpr_set8(v, o, value);
	else
		reg_set(v, o->reg, size, value);
	return EXEC_OK;
}

int exec_stack_load(struct vcpu *v, uint64_t off, unsigned int size, uint64_t *value)
{
	gva_t gva;

	TRY(stack_linear(v, off, size, ACC_READ, &gva));
	return load_linear(v, gva, SEG_SS, size, value);
}

int exec_stack_store(struct vcpu *v, uint64_t off, unsigned int size, uint64_t value)
{
	gva_t gva;

	TRY(stack_linear(v, off, size, ACC_WRITE, &gva));
	return mem_status(mem_write(v, gva, &value, size, ACC_WRITE | ACC_STACK));
}

int exec_stack_push(struct vcpu *v, unsigned int size, uint64_t value)
{
	uint64_t sp = stack_at(v, -(int64_t)size);

	TRY(exec_stack_store(v, sp, size, value));
	stack_set(v, sp);
	return EXEC_OK;
}

/*
 * The operand is not in the write table.  Write permission is asked for before anything
 * is read, so that a #PF says "write" as the manual has it for read-modify-write.
 */
int rmw_open_slow(struct vcpu *v, struct rmw *m, unsigned int access, bool locked)
{
	enum mem_result r;

	if (unlikely(!gva_canonical(m->gva)))
		return raise_err(v, access & ACC_STACK ? EXC_SS : EXC_GP, 0);
	if (locked) {
		r = mem_pin_write(v, m->gva, m->size, &m->pin);
		m->p = m->pin.hva;
		m->how = m->pin.code ? RMW_PINNED : RMW_PLAIN;
	} else {
		r = mem_fill(v, m->gva, m->size, access, &m->p);
	}
	if (r != MEM_OK || m->p)
		return mem_status(r);
	r = mem_probe_write(v, m->gva, m->size, access);
	if (r == MEM_OK)
		r = mem_read(v, m->gva, m->copy, m->size, access & ~ACC_WRITE);
	m->p = m->copy;
	m->how = RMW_COPIED;
	return mem_status(r);
}

int rmw_close_slow(struct vcpu *v, struct rmw *m)
{
	if (m->how == RMW_COPIED)
		return mem_status(mem_write(v, m->gva, m->copy, m->size, ACC_WRITE));
	mem_unpin(v, &m->pin);
	return EXEC_OK;
}
