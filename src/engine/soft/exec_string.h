/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What string instructions share: element addresses, and repetition in bounded chunks.
 *
 * Registers are brought up to date after each element or run of elements, so that a fault
 * or an interrupt finds them at the element that is next.
 */
#ifndef VIREO_ENGINE_SOFT_EXEC_STRING_H
#define VIREO_ENGINE_SOFT_EXEC_STRING_H

#include "engine/soft/exec_priv.h"

#include <stdatomic.h>

/* Elements, or runs within a page, done before the loop looks around. */
#define STRING_CHUNK	256

static inline bool string_repeats(const struct insn *i)
{
	return i->flags & (INSN_REP | INSN_REPNE);
}

/* rSI, rDI or rCX at the address size. */
static inline uint64_t string_reg(const struct vcpu *v, const struct insn *i, unsigned int reg)
{
	return v->gpr[reg] & size_mask(i->mem.addr_size);
}

static inline int string_linear(struct vcpu *v, const struct insn *i, unsigned int reg,
				unsigned int seg, unsigned int size, unsigned int access,
				gva_t *gva)
{
	uint64_t off = string_reg(v, i, reg);

	if (likely(v->code_size == CODE_64)) {
		*gva = off + seg_base64(v, seg);
		return EXEC_OK;
	}
	return exec_linear(v, seg, off, size, access, gva);
}

/* @n elements further, or back if DF is set. */
static inline void string_advance(struct vcpu *v, const struct insn *i, unsigned int reg,
				  unsigned int size, uint64_t n)
{
	uint64_t step = v->rflags & RFLAGS_DF ? -(n * size) : n * size;

	reg_set(v, reg, i->mem.addr_size, v->gpr[reg] + step);
}

static inline uint32_t string_attention(const struct vcpu *v)
{
	return atomic_load_explicit(&v->attention, memory_order_relaxed);
}

/*
 * Runs @one once, or as often as rCX says; leaves rip at the instruction when the chunk
 * is over or somebody asks for attention.
 */
static inline __attribute__((always_inline))
int string_repeat(struct vcpu *v, const struct insn *i,
		  int (*one)(struct vcpu *v, const struct insn *i))
{
	uint64_t count;

	if (!string_repeats(i)) {
		TRY(one(v, i));
		return exec_next(v, i);
	}
	count = string_reg(v, i, REG_RCX);
	if (!count)
		return exec_next(v, i);
	for (unsigned int n = 0; n < STRING_CHUNK; n++) {
		TRY(one(v, i));
		reg_set(v, REG_RCX, i->mem.addr_size, --count);
		if (!count)
			return exec_next(v, i);
		if (string_attention(v))
			break;
	}
	return EXEC_OK;
}

#endif
