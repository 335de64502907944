// SPDX-License-Identifier: Apache-2.0
/*
 * MOVS, STOS, LODS, CMPS, SCAS, alone or repeated.
 *
 * Source: Intel SDM volume 2; volume 1, "String Operations".
 *
 * REP MOVS and REP STOS run page by page with the host's own instruction at the same
 * element size, so that overlapping operands come out as the processor has them.  What the
 * write table does not hold (devices, code pages) and elements across a page boundary are
 * done one by one.
 */
#include "engine/soft/exec_string.h"

/*
 * How many of @count elements from @reg on lie in one page that the table holds, in the
 * direction of DF; *@p is the host address of the first.  0: do one the slow way.
 */
static uint64_t string_run(struct vcpu *v, const struct insn *i, unsigned int reg,
			   unsigned int seg, unsigned int size, unsigned int access,
			   uint64_t count, void **p)
{
	bool down = v->rflags & RFLAGS_DF;
	uint64_t off = string_reg(v, i, reg), in_page, room, before;
	uint8_t *host;
	gva_t gva;

	if (string_linear(v, i, reg, seg, size, access, &gva) != EXEC_OK)
		return 0;
	in_page = gva & GUEST_PAGE_MASK;
	if (in_page + size > GUEST_PAGE_SIZE)
		return 0;
	room = down ? in_page / size + 1 : (GUEST_PAGE_SIZE - in_page) / size;
	count = MIN(count, room);
	before = down ? (count - 1) * size : 0;
	if (v->code_size != CODE_64) {
		if (off < before ||
		    exec_linear(v, seg, off - before, count * size, access, &gva) != EXEC_OK)
			return 0;
		gva += before;
	}
	host = tlb_lookup(v->view, gva - before, count * size,
			  access == ACC_WRITE ? TLB_WRITE : TLB_READ);
	if (!host)
		return 0;
	*p = host + before;
	return count;
}

/* A run ends where the offset wraps at the address size. */
static uint64_t until_wrap(const struct vcpu *v, const struct insn *i, unsigned int reg,
			   unsigned int size, uint64_t count)
{
	uint64_t off = string_reg(v, i, reg), top = size_mask(i->mem.addr_size);

	if (v->rflags & RFLAGS_DF)
		return MIN(count, off / size + 1);
	return off + size - 1 > top ? 1 : MIN(count, (top - off - (size - 1)) / size + 1);
}

#define DEFINE_HOST_STRING(bits, suffix) \
static inline void host_movs##bits(void *to, const void *from, uint64_t n, bool down) \
{ \
	if (down) \
		asm volatile("std\n\trep movs" #suffix "\n\tcld" \
			     : "+D" (to), "+S" (from), "+c" (n) : : "memory", "cc"); \
	else \
		asm volatile("rep movs" #suffix \
			     : "+D" (to), "+S" (from), "+c" (n) : : "memory"); \
} \
static inline void host_stos##bits(void *to, uint64_t value, uint64_t n, bool down) \
{ \
	if (down) \
		asm volatile("std\n\trep stos" #suffix "\n\tcld" \
			     : "+D" (to), "+c" (n) : "a" (value) : "memory", "cc"); \
	else \
		asm volatile("rep stos" #suffix \
			     : "+D" (to), "+c" (n) : "a" (value) : "memory"); \
}
DEFINE_HOST_STRING(8, b)
DEFINE_HOST_STRING(16, w)
DEFINE_HOST_STRING(32, l)
DEFINE_HOST_STRING(64, q)

/* --- one element --- */

#define DEFINE_ELEMENTS(bits) \
static inline int string_load##bits(struct vcpu *v, const struct insn *i, unsigned int reg, \
				    unsigned int seg, uint##bits##_t *value) \
{ \
	gva_t gva; \
	TRY(string_linear(v, i, reg, seg, bits / 8, ACC_READ, &gva)); \
	return load_at##bits(v, gva, seg, value); \
} \
static inline int string_store##bits(struct vcpu *v, const struct insn *i, \
				     uint##bits##_t value) \
{ \
	gva_t gva; \
	TRY(string_linear(v, i, REG_RDI, SEG_ES, bits / 8, ACC_WRITE, &gva)); \
	return store_at##bits(v, gva, SEG_ES, value); \
} \
static int movs##bits(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t value; \
	TRY(string_load##bits(v, i, REG_RSI, i->mem.seg, &value)); \
	TRY(string_store##bits(v, i, value)); \
	string_advance(v, i, REG_RSI, bits / 8, 1); \
	string_advance(v, i, REG_RDI, bits / 8, 1); \
	return EXEC_OK; \
} \
static int stos##bits(struct vcpu *v, const struct insn *i) \
{ \
	TRY(string_store##bits(v, i, v->gpr[REG_RAX])); \
	string_advance(v, i, REG_RDI, bits / 8, 1); \
	return EXEC_OK; \
} \
static int lods##bits(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t value; \
	TRY(string_load##bits(v, i, REG_RSI, i->mem.seg, &value)); \
	reg_set(v, REG_RAX, bits / 8, value); \
	string_advance(v, i, REG_RSI, bits / 8, 1); \
	return EXEC_OK; \
} \
static int cmps##bits(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t a, b; \
	TRY(string_load##bits(v, i, REG_RDI, SEG_ES, &b)); \
	TRY(string_load##bits(v, i, REG_RSI, i->mem.seg, &a)); \
	cmp##bits(&v->rflags, a, b); \
	string_advance(v, i, REG_RSI, bits / 8, 1); \
	string_advance(v, i, REG_RDI, bits / 8, 1); \
	return EXEC_OK; \
} \
static int scas##bits(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t b; \
	TRY(string_load##bits(v, i, REG_RDI, SEG_ES, &b)); \
	cmp##bits(&v->rflags, v->gpr[REG_RAX], b); \
	string_advance(v, i, REG_RDI, bits / 8, 1); \
	return EXEC_OK; \
}
FOR_SIZES(DEFINE_ELEMENTS)

/* --- repetition --- */

/*
 * As many elements as one run holds, else one; *@done says how many.  Under ATTN_STEP the
 * guest traps after each element.
 */
#define DEFINE_RUNS(bits) \
static int movs_run##bits(struct vcpu *v, const struct insn *i, uint64_t count, uint64_t *done) \
{ \
	void *from, *to; \
	uint64_t n = until_wrap(v, i, REG_RSI, bits / 8, \
				until_wrap(v, i, REG_RDI, bits / 8, count)); \
	n = string_run(v, i, REG_RSI, i->mem.seg, bits / 8, ACC_READ, n, &from); \
	if (n) \
		n = string_run(v, i, REG_RDI, SEG_ES, bits / 8, ACC_WRITE, n, &to); \
	*done = n ? n : 1; \
	if (!n) \
		return movs##bits(v, i); \
	host_movs##bits(to, from, n, v->rflags & RFLAGS_DF); \
	string_advance(v, i, REG_RSI, bits / 8, n); \
	string_advance(v, i, REG_RDI, bits / 8, n); \
	return EXEC_OK; \
} \
static int stos_run##bits(struct vcpu *v, const struct insn *i, uint64_t count, uint64_t *done) \
{ \
	void *to; \
	uint64_t n = until_wrap(v, i, REG_RDI, bits / 8, count); \
	n = string_run(v, i, REG_RDI, SEG_ES, bits / 8, ACC_WRITE, n, &to); \
	*done = n ? n : 1; \
	if (!n) \
		return stos##bits(v, i); \
	host_stos##bits(to, v->gpr[REG_RAX], n, v->rflags & RFLAGS_DF); \
	string_advance(v, i, REG_RDI, bits / 8, n); \
	return EXEC_OK; \
}
FOR_SIZES(DEFINE_RUNS)

static inline __attribute__((always_inline))
int string_rep_runs(struct vcpu *v, const struct insn *i,
		    int (*run)(struct vcpu *v, const struct insn *i, uint64_t count,
			       uint64_t *done))
{
	uint64_t count = string_reg(v, i, REG_RCX), done;

	if (!count)
		return exec_next(v, i);
	for (unsigned int n = 0; n < STRING_CHUNK; n++) {
		TRY(run(v, i, string_attention(v) ? 1 : count, &done));
		count -= done;
		reg_set(v, REG_RCX, i->mem.addr_size, count);
		if (!count)
			return exec_next(v, i);
		if (string_attention(v))
			break;
	}
	return EXEC_OK;
}

/*
 * REPE and REPNE: also ends when ZF disagrees.  A fault shows the flags from before the
 * instruction.
 */
static inline __attribute__((always_inline))
int string_rep_compare(struct vcpu *v, const struct insn *i,
		       int (*one)(struct vcpu *v, const struct insn *i))
{
	uint64_t count = string_reg(v, i, REG_RCX), flags = v->rflags;
	bool go_on = i->flags & INSN_REP;
	int status;

	if (!count)
		return exec_next(v, i);
	for (unsigned int n = 0; n < STRING_CHUNK; n++) {
		status = one(v, i);
		if (unlikely(status != EXEC_OK)) {
			v->rflags = flags;
			return status;
		}
		reg_set(v, REG_RCX, i->mem.addr_size, --count);
		if (!count || !(v->rflags & RFLAGS_ZF) == go_on)
			return exec_next(v, i);
		if (string_attention(v))
			break;
	}
	return EXEC_OK;
}

#define DEFINE_STRING(bits) \
static int exec_movs##bits(struct vcpu *v, const struct insn *i) \
{ \
	TRY(movs##bits(v, i)); \
	return exec_next(v, i); \
} \
static int exec_stos##bits(struct vcpu *v, const struct insn *i) \
{ \
	TRY(stos##bits(v, i)); \
	return exec_next(v, i); \
} \
static int exec_lods##bits(struct vcpu *v, const struct insn *i) \
{ \
	return string_repeat(v, i, lods##bits); \
} \
static int exec_cmps##bits(struct vcpu *v, const struct insn *i) \
{ \
	TRY(cmps##bits(v, i)); \
	return exec_next(v, i); \
} \
static int exec_scas##bits(struct vcpu *v, const struct insn *i) \
{ \
	TRY(scas##bits(v, i)); \
	return exec_next(v, i); \
} \
static int exec_rep_movs##bits(struct vcpu *v, const struct insn *i) \
{ \
	return string_rep_runs(v, i, movs_run##bits); \
} \
static int exec_rep_stos##bits(struct vcpu *v, const struct insn *i) \
{ \
	return string_rep_runs(v, i, stos_run##bits); \
} \
static int exec_rep_cmps##bits(struct vcpu *v, const struct insn *i) \
{ \
	return string_rep_compare(v, i, cmps##bits); \
} \
static int exec_rep_scas##bits(struct vcpu *v, const struct insn *i) \
{ \
	return string_rep_compare(v, i, scas##bits); \
}
FOR_SIZES(DEFINE_STRING)

#define STRING_CASES(NAME, name, rep_name) \
	case INSN_ID_##NAME##B: return rep ? exec_##rep_name##8 : exec_##name##8; \
	case INSN_ID_##NAME##W: return rep ? exec_##rep_name##16 : exec_##name##16; \
	case INSN_ID_##NAME##D: return rep ? exec_##rep_name##32 : exec_##name##32; \
	case INSN_ID_##NAME##Q: return rep ? exec_##rep_name##64 : exec_##name##64

exec_fn exec_string_select(const struct insn *i)
{
	bool rep = string_repeats(i);

	switch (i->info->id) {
	STRING_CASES(MOVS, movs, rep_movs);
	STRING_CASES(STOS, stos, rep_stos);
	STRING_CASES(LODS, lods, lods);
	STRING_CASES(CMPS, cmps, rep_cmps);
	STRING_CASES(SCAS, scas, rep_scas);
	default: return NULL;
	}
}
