/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the handlers share: operand access, addresses, the stack, near branches, and
 * the selectors of the exec_*.c files.
 *
 * A handler commits nothing before its last possible fault.  Its shape: compute
 * addresses, read, compute with a local copy of the flags, write memory, then commit
 * registers, flags and rip.
 */
#ifndef VIREO_ENGINE_SOFT_EXEC_PRIV_H
#define VIREO_ENGINE_SOFT_EXEC_PRIV_H

#include "cpu/mmu.h"
#include "cpu/system.h"
#include "engine/soft/exec.h"
#include "engine/soft/exec_flags.h"
#include "x86/insn.h"

/* What a handler does on its fast path stands in it, calls are for the others. */
#define FAST static inline __attribute__((always_inline))

/* Returns from the handler when @expr is not EXEC_OK. */
#define TRY(expr) do { \
	int try_status_ = (expr); \
	if (unlikely(try_status_ != EXEC_OK)) \
		return try_status_; \
} while (0)

/* --- selection --- */

/* Kinds of the first two operands: register, memory, immediate. */
enum exec_form {
	FORM_R, FORM_M, FORM_I, FORM_RR, FORM_RM, FORM_RI, FORM_MR, FORM_MI,
	FORM_COUNT, FORM_OTHER = FORM_COUNT
};

/* Handlers of one mnemonic by form and operand size (index: log2 of bytes). */
typedef exec_fn exec_forms[FORM_COUNT][4];

#define FORM_ROW(op, form) { exec_##op##8_##form, exec_##op##16_##form, \
			     exec_##op##32_##form, exec_##op##64_##form }
#define SIZE_ROW(op) { exec_##op##8, exec_##op##16, exec_##op##32, exec_##op##64 }

enum exec_form exec_form(const struct insn *i);

static inline unsigned int size_index(unsigned int bytes)
{
	return __builtin_ctz(bytes | 8);
}

/* The handler for the form and the size of the first operand; NULL if there is none. */
exec_fn exec_from_forms(const exec_forms forms, const struct insn *i);

/* Each file's share of exec_select: NULL for what it does not have. */
exec_fn exec_alu_select(const struct insn *i);
exec_fn exec_shift_select(const struct insn *i);
exec_fn exec_muldiv_select(const struct insn *i);
exec_fn exec_bit_select(const struct insn *i);
exec_fn exec_mov_select(const struct insn *i);
exec_fn exec_stack_select(const struct insn *i);
exec_fn exec_string_select(const struct insn *i);
exec_fn exec_branch_select(const struct insn *i);
exec_fn exec_bcd_select(const struct insn *i);
exec_fn exec_atomic_select(const struct insn *i);
exec_fn exec_seg_select(const struct insn *i);
exec_fn exec_sys_select(const struct insn *i);
exec_fn exec_io_select(const struct insn *i);

/* --- general registers --- */

static inline uint8_t gpr_get8(const struct vcpu *v, const struct operand *o)
{
	return v->gpr[o->reg] >> (o->high * 8);
}

static inline uint16_t gpr_get16(const struct vcpu *v, const struct operand *o)
{
	return v->gpr[o->reg];
}

static inline uint32_t gpr_get32(const struct vcpu *v, const struct operand *o)
{
	return v->gpr[o->reg];
}

static inline uint64_t gpr_get64(const struct vcpu *v, const struct operand *o)
{
	return v->gpr[o->reg];
}

/*
 * Parts are written as whole registers: a later 64-bit load would otherwise stall on
 * the narrower store.
 */
static inline void gpr_set8(struct vcpu *v, const struct operand *o, uint8_t value)
{
	unsigned int shift = o->high * 8;

	v->gpr[o->reg] = (v->gpr[o->reg] & ~(0xffULL << shift)) | (uint64_t)value << shift;
}

static inline void reg_set16(struct vcpu *v, unsigned int reg, uint16_t value)
{
	v->gpr[reg] = (v->gpr[reg] & ~0xffffULL) | value;
}

static inline void gpr_set16(struct vcpu *v, const struct operand *o, uint16_t value)
{
	reg_set16(v, o->reg, value);
}

static inline void gpr_set32(struct vcpu *v, const struct operand *o, uint32_t value)
{
	v->gpr[o->reg] = value;
}

static inline void gpr_set64(struct vcpu *v, const struct operand *o, uint64_t value)
{
	v->gpr[o->reg] = value;
}

/* A register by number in the operand size @size: 32-bit results clear the upper half. */
static inline void reg_set(struct vcpu *v, unsigned int reg, unsigned int size, uint64_t value)
{
	if (size == 8)
		v->gpr[reg] = value;
	else if (size == 4)
		v->gpr[reg] = (uint32_t)value;
	else if (size == 2)
		reg_set16(v, reg, value);
	else
		v->gpr[reg] = (v->gpr[reg] & ~0xffULL) | (uint8_t)value;
}

static inline uint64_t size_mask(unsigned int size)
{
	return ~0ULL >> (64 - size * 8);
}

/* --- memory --- */

static inline unsigned int seg_access(unsigned int seg, unsigned int access)
{
	return seg == SEG_SS ? access | ACC_STACK : access;
}

/* In 64-bit mode: what the segment adds to an offset. */
static inline gva_t seg_base64(const struct vcpu *v, unsigned int seg)
{
	return unlikely(seg >= SEG_FS) ? v->seg[seg].base : 0;
}

/* The linear address of the memory operand; canonical only after the access. */
FAST int mem_linear(struct vcpu *v, const struct insn *i, unsigned int size,
			     unsigned int access, gva_t *gva)
{
	if (likely(i->mem.addr_size == 8)) {
		*gva = exec_offset(v, i) + seg_base64(v, i->mem.seg);
		return EXEC_OK;
	}
	return exec_linear(v, i->mem.seg, exec_offset(v, i), size, access, gva);
}

/* load and store of the memory operand, and of a segment:offset. */
#define DEFINE_LOAD_STORE(bits) \
FAST int load_at##bits(struct vcpu *v, gva_t gva, unsigned int seg, \
				uint##bits##_t *out) \
{ \
	const void *p = tlb_lookup(v->view, gva, bits / 8, TLB_READ); \
	if (unlikely(!p)) \
		return mem_status(mem_read(v, gva, out, bits / 8, \
					   seg_access(seg, ACC_READ))); \
	__builtin_memcpy(out, p, bits / 8); \
	return EXEC_OK; \
} \
FAST int store_at##bits(struct vcpu *v, gva_t gva, unsigned int seg, \
				 uint##bits##_t value) \
{ \
	void *p = tlb_lookup(v->view, gva, bits / 8, TLB_WRITE); \
	if (unlikely(!p)) \
		return mem_status(mem_write(v, gva, &value, bits / 8, \
					    seg_access(seg, ACC_WRITE))); \
	__builtin_memcpy(p, &value, bits / 8); \
	return EXEC_OK; \
} \
FAST int load##bits(struct vcpu *v, const struct insn *i, uint##bits##_t *out) \
{ \
	gva_t gva; \
	TRY(mem_linear(v, i, bits / 8, ACC_READ, &gva)); \
	return load_at##bits(v, gva, i->mem.seg, out); \
} \
FAST int store##bits(struct vcpu *v, const struct insn *i, uint##bits##_t value) \
{ \
	gva_t gva; \
	TRY(mem_linear(v, i, bits / 8, ACC_WRITE, &gva)); \
	return store_at##bits(v, gva, i->mem.seg, value); \
} \
static inline uint##bits##_t raw_get##bits(const void *p) \
{ \
	uint##bits##_t value; \
	__builtin_memcpy(&value, p, bits / 8); \
	return value; \
} \
static inline void raw_set##bits(void *p, uint##bits##_t value) \
{ \
	__builtin_memcpy(p, &value, bits / 8); \
} \
/* A source operand of any kind: register, memory or immediate. */ \
static inline int source##bits(struct vcpu *v, const struct insn *i, const struct operand *o, \
			       uint##bits##_t *out) \
{ \
	if (o->kind == OPND_MEM) \
		return load##bits(v, i, out); \
	*out = o->kind == OPND_GPR ? gpr_get##bits(v, o) : (uint##bits##_t)i->imm; \
	return EXEC_OK; \
} \
/* A destination operand, register or memory. */ \
static inline int dest##bits(struct vcpu *v, const struct insn *i, const struct operand *o, \
			     uint##bits##_t value) \
{ \
	if (o->kind == OPND_MEM) \
		return store##bits(v, i, value); \
	gpr_set##bits(v, o, value); \
	return EXEC_OK; \
}
FOR_SIZES(DEFINE_LOAD_STORE)

/* exec_addr.c: the same for a size known at run time only; @value is zero-extended. */
int exec_load(struct vcpu *v, const struct insn *i, unsigned int size, uint64_t *value);
int exec_store(struct vcpu *v, const struct insn *i, unsigned int size, uint64_t value);
int exec_source(struct vcpu *v, const struct insn *i, const struct operand *o,
		unsigned int size, uint64_t *value);
int exec_dest(struct vcpu *v, const struct insn *i, const struct operand *o,
	      unsigned int size, uint64_t value);
/* At an offset from the memory operand's start; for far pointers and pseudo-descriptors. */
int exec_load_part(struct vcpu *v, const struct insn *i, unsigned int at, unsigned int size,
		   uint64_t *value);

/*
 * Read-modify-write of memory.  rmw_open() gives a pointer to the operand, in the guest's
 * own memory where that is contiguous RAM, else to a copy; nothing faults any more until
 * rmw_close(), which stores the copy.
 */
struct rmw {
	void *p;
	gva_t gva;
	unsigned int size;
	enum { RMW_PLAIN, RMW_COPIED, RMW_PINNED } how;
	struct mem_pin pin;
	uint8_t copy[16] __attribute__((aligned(16)));
};

int rmw_open_slow(struct vcpu *v, struct rmw *m, unsigned int access, bool locked);
int rmw_close_slow(struct vcpu *v, struct rmw *m);

FAST int rmw_open_at(struct vcpu *v, gva_t gva, unsigned int seg, unsigned int size,
			      bool locked, struct rmw *m)
{
	m->gva = gva;
	m->size = size;
	m->how = RMW_PLAIN;
	m->p = tlb_lookup(v->view, gva, size, TLB_WRITE);
	if (likely(m->p != NULL))
		return EXEC_OK;
	return rmw_open_slow(v, m, seg_access(seg, ACC_WRITE), locked);
}

FAST int rmw_open(struct vcpu *v, const struct insn *i, unsigned int size, bool locked,
			   struct rmw *m)
{
	gva_t gva;

	TRY(mem_linear(v, i, size, ACC_WRITE, &gva));
	return rmw_open_at(v, gva, i->mem.seg, size, locked, m);
}

static inline int rmw_close(struct vcpu *v, struct rmw *m)
{
	return likely(m->how == RMW_PLAIN) ? EXEC_OK : rmw_close_slow(v, m);
}

/* --- the stack --- */

/* The stack pointer @delta bytes further, at the width of the stack segment. */
static inline uint64_t stack_at(const struct vcpu *v, int64_t delta)
{
	uint64_t sp = v->gpr[REG_RSP] + delta;

	if (likely(v->stack_size == 8))
		return sp;
	return v->stack_size == 4 ? (uint32_t)sp : (uint16_t)sp;
}

static inline void stack_set(struct vcpu *v, uint64_t sp)
{
	if (likely(v->stack_size == 8))
		v->gpr[REG_RSP] = sp;
	else
		reg_set(v, REG_RSP, v->stack_size, sp);
}

static inline int stack_linear(struct vcpu *v, uint64_t off, unsigned int size,
			       unsigned int access, gva_t *gva)
{
	if (likely(v->code_size == CODE_64)) {
		*gva = off;
		return EXEC_OK;
	}
	return exec_linear(v, SEG_SS, off, size, access, gva);
}

#define DEFINE_STACK(bits) \
static inline int stack_load##bits(struct vcpu *v, uint64_t off, uint##bits##_t *out) \
{ \
	gva_t gva; \
	TRY(stack_linear(v, off, bits / 8, ACC_READ, &gva)); \
	return load_at##bits(v, gva, SEG_SS, out); \
} \
static inline int stack_store##bits(struct vcpu *v, uint64_t off, uint##bits##_t value) \
{ \
	gva_t gva; \
	TRY(stack_linear(v, off, bits / 8, ACC_WRITE, &gva)); \
	return store_at##bits(v, gva, SEG_SS, value); \
} \
static inline int push##bits(struct vcpu *v, uint##bits##_t value) \
{ \
	uint64_t sp = stack_at(v, -(bits / 8)); \
	TRY(stack_store##bits(v, sp, value)); \
	stack_set(v, sp); \
	return EXEC_OK; \
}
DEFINE_STACK(16)
DEFINE_STACK(32)
DEFINE_STACK(64)

int exec_stack_load(struct vcpu *v, uint64_t off, unsigned int size, uint64_t *value);
int exec_stack_store(struct vcpu *v, uint64_t off, unsigned int size, uint64_t value);
int exec_stack_push(struct vcpu *v, unsigned int size, uint64_t value);

/* --- privilege --- */

static inline int require_cpl0(struct vcpu *v)
{
	return likely(!v->cpl) ? EXEC_OK : (int)raise_gp(v, 0);
}

/* --- near branches --- */

/* May the guest go on at @target?  Commits nothing. */
static inline int branch_check(struct vcpu *v, uint64_t target)
{
	if (likely(v->code_size == CODE_64))
		return likely(gva_canonical(target)) ? EXEC_OK : (int)raise_gp(v, 0);
	return likely(target <= v->seg[SEG_CS].limit) ? EXEC_OK : (int)raise_gp(v, 0);
}

/* The target of a relative branch: cut to the operand size. */
static inline uint64_t branch_target(const struct vcpu *v, const struct insn *i)
{
	uint64_t target = v->rip + i->len + i->imm;

	if (likely(i->opsize == 8))
		return target;
	return i->opsize == 4 ? (uint32_t)target : (uint16_t)target;
}

static inline int branch_to(struct vcpu *v, uint64_t target)
{
	TRY(branch_check(v, target));
	v->rip = target;
	return EXEC_OK;
}

#endif
