// SPDX-License-Identifier: Apache-2.0
/*
 * Port I/O: IN, OUT, INS, OUTS.
 *
 * Source: Intel SDM volume 2; volume 1, "Input/Output".  Permission, then memory, is
 * checked before a device sees anything.
 */
#include "engine/soft/exec_string.h"

static uint16_t port_of(const struct vcpu *v, const struct insn *i, const struct operand *o)
{
	return o->kind == OPND_IMM ? (uint8_t)i->imm : (uint16_t)v->gpr[REG_RDX];
}

static int exec_in(struct vcpu *v, const struct insn *i)
{
	uint16_t port = port_of(v, i, &i->op[1]);
	unsigned int size = i->op[0].size;

	TRY(io_permitted(v, port, size));
	reg_set(v, REG_RAX, size, io_in(v, port, size));
	return exec_next(v, i);
}

static int exec_out(struct vcpu *v, const struct insn *i)
{
	uint16_t port = port_of(v, i, &i->op[0]);
	unsigned int size = i->op[1].size;

	TRY(io_permitted(v, port, size));
	io_out(v, port, size, v->gpr[REG_RAX] & size_mask(size));
	return exec_next(v, i);
}

static int ins_one(struct vcpu *v, const struct insn *i, unsigned int size)
{
	uint16_t port = v->gpr[REG_RDX];
	uint32_t value;
	gva_t gva;

	TRY(string_linear(v, i, REG_RDI, SEG_ES, size, ACC_WRITE, &gva));
	TRY(mem_status(mem_probe_write(v, gva, size, ACC_WRITE)));
	value = io_in(v, port, size);
	TRY(mem_status(mem_write(v, gva, &value, size, ACC_WRITE)));
	string_advance(v, i, REG_RDI, size, 1);
	return EXEC_OK;
}

static int outs_one(struct vcpu *v, const struct insn *i, unsigned int size)
{
	uint16_t port = v->gpr[REG_RDX];
	uint32_t value = 0;
	gva_t gva;

	TRY(string_linear(v, i, REG_RSI, i->mem.seg, size, ACC_READ, &gva));
	TRY(mem_status(mem_read(v, gva, &value, size, seg_access(i->mem.seg, ACC_READ))));
	io_out(v, port, size, value);
	string_advance(v, i, REG_RSI, size, 1);
	return EXEC_OK;
}

/* Permission is asked for even when rCX is zero. */
#define DEFINE_IO_STRING(name, suffix, size) \
static int name##suffix##_one(struct vcpu *v, const struct insn *i) \
{ \
	return name##_one(v, i, size); \
} \
static int exec_##name##suffix(struct vcpu *v, const struct insn *i) \
{ \
	TRY(io_permitted(v, v->gpr[REG_RDX], size)); \
	return string_repeat(v, i, name##suffix##_one); \
}
DEFINE_IO_STRING(ins, b, 1)
DEFINE_IO_STRING(ins, w, 2)
DEFINE_IO_STRING(ins, d, 4)
DEFINE_IO_STRING(outs, b, 1)
DEFINE_IO_STRING(outs, w, 2)
DEFINE_IO_STRING(outs, d, 4)

exec_fn exec_io_select(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_IN: return exec_in;
	case INSN_ID_OUT: return exec_out;
	case INSN_ID_INSB: return exec_insb;
	case INSN_ID_INSW: return exec_insw;
	case INSN_ID_INSD: return exec_insd;
	case INSN_ID_OUTSB: return exec_outsb;
	case INSN_ID_OUTSW: return exec_outsw;
	case INSN_ID_OUTSD: return exec_outsd;
	default: return NULL;
	}
}
