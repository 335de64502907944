// SPDX-License-Identifier: Apache-2.0
/*
 * The stacks of control transfers: frames are pushed whole or not at all, on a stack
 * that is loaded only when nothing can fail any more.
 *
 * Source: Intel SDM volume 3, "Stack Switching" and "Task-State Segment (TSS)".
 */
#include "cpu/system_priv.h"

#define FRAME_MAX	320	/* bytes: a call gate's 31 parameters and 4 words */

static uint64_t size_mask(unsigned int bytes)
{
	return bytes == 8 ? UINT64_MAX : BIT(bytes * 8) - 1;
}

struct stack stack_current(const struct vcpu *v)
{
	uint64_t mask = size_mask(v->stack_size);

	return (struct stack){
		.ss = v->seg[SEG_SS], .sp = v->gpr[REG_RSP] & mask, .mask = mask,
		.cpl = v->cpl,
	};
}

struct stack stack_of(const struct segment *ss, uint64_t sp, uint8_t cpl)
{
	uint64_t mask = size_mask(ss->attr & SEG_DB ? 4 : 2);

	return (struct stack){
		.ss = *ss, .sp = sp & mask, .mask = mask, .cpl = cpl,
		.error = sel_error(ss->sel),
	};
}

static enum exec_status tss_read(struct vcpu *v, uint32_t off, void *buf, unsigned int size)
{
	gva_t at = v->tr.base + off;

	if (off + size - 1 > v->tr.limit)
		return raise_err(v, EXC_TS, sel_error(v->tr.sel));
	if (!in_long_mode(v))
		at = (uint32_t)at;
	return mem_status(mem_read(v, at, buf, size, ACC_READ | ACC_SUPER));
}

enum exec_status stack_inner(struct vcpu *v, unsigned int cpl, struct stack *st)
{
	bool tss32 = desc_type(&v->tr) & 8;
	enum exec_status rc;
	struct descriptor d;
	uint32_t words[2] = { 0, 0 };
	uint16_t half[2];

	if (tss32) {
		rc = tss_read(v, 4 + cpl * 8, words, 8);
	} else {
		rc = tss_read(v, 2 + cpl * 4, half, 4);
		if (rc == EXEC_OK) {
			words[0] = half[0];
			words[1] = half[1];
		}
	}
	if (rc != EXEC_OK)
		return rc;
	rc = stack_segment_check(v, words[1], cpl, EXC_TS, &d);
	if (rc != EXEC_OK)
		return rc;
	*st = stack_of(&d.seg, words[0], cpl);
	return EXEC_OK;
}

enum exec_status stack_inner64(struct vcpu *v, unsigned int cpl, unsigned int ist,
			       struct stack *st)
{
	enum exec_status rc;
	uint64_t rsp;

	rc = tss_read(v, ist ? 36 + (ist - 1) * 8 : 4 + cpl * 8, &rsp, 8);
	if (rc != EXEC_OK)
		return rc;
	if (!gva_canonical(rsp))
		return raise_err(v, EXC_SS, 0);
	*st = (struct stack){
		.ss = seg_null(cpl, cpl), .sp = rsp, .mask = UINT64_MAX, .cpl = cpl,
	};
	return EXEC_OK;
}

/* Is [off, off+len) within the stack segment?  @off was masked already. */
static bool within(const struct stack *st, uint64_t off, unsigned int len)
{
	uint64_t last = off + len - 1;
	uint64_t limit = st->ss.limit;

	if (st->mask == UINT64_MAX)
		return true;
	if (st->ss.attr & SEG_UNUSABLE || last > st->mask)
		return false;
	if ((st->ss.attr & (SEG_CODE | SEG_E)) == SEG_E)
		return off > limit && last <= (st->ss.attr & SEG_DB ? UINT32_MAX : 0xffff);
	return last <= limit;
}

static gva_t linear(const struct stack *st, uint64_t off)
{
	return st->mask == UINT64_MAX ? off : (uint32_t)(st->ss.base + off);
}

/* One contiguous access at the stack's own privilege. */
static enum mem_result access(struct vcpu *v, const struct stack *st, uint64_t off, void *buf,
			      unsigned int len, unsigned int kind)
{
	gva_t at = linear(st, off);
	uint8_t cpl = v->cpl;
	enum mem_result r;

	if (cpl != st->cpl) {
		vcpu_set_cpl(v, st->cpl);
		tlb_select_view(v);
	}
	if (kind & ACC_PROBE)
		r = mem_probe_write(v, at, len, ACC_WRITE | ACC_STACK);
	else if (kind & ACC_WRITE)
		r = mem_write(v, at, buf, len, ACC_WRITE | ACC_STACK);
	else
		r = mem_read(v, at, buf, len, ACC_READ | ACC_STACK);
	if (cpl != st->cpl) {
		vcpu_set_cpl(v, cpl);
		tlb_select_view(v);
	}
	return r;
}

static void pack(uint8_t *out, uint64_t word, unsigned int size)
{
	for (unsigned int i = 0; i < size; i++)
		out[i] = word >> i * 8;
}

static uint64_t unpack(const uint8_t *in, unsigned int size)
{
	uint64_t word = 0;

	for (unsigned int i = 0; i < size; i++)
		word |= (uint64_t)in[i] << i * 8;
	return word;
}

/* Each word is checked for its own alignment, which one access for all would not do. */
static bool checks_alignment(const struct vcpu *v, const struct stack *st)
{
	return st->cpl == 3 && v->cr0 & CR0_AM && v->rflags & RFLAGS_AC;
}

/* Word by word: a frame on both sides of the stack pointer's wrap, or alignment checks. */
static enum exec_status push_words(struct vcpu *v, struct stack *st, const uint64_t *words,
				     unsigned int count, unsigned int size)
{
	static const unsigned int passes[] = { ACC_WRITE | ACC_PROBE, ACC_WRITE };
	uint64_t sp = st->sp;

	for (unsigned int pass = 0; pass < ARRAY_SIZE(passes); pass++) {
		sp = st->sp;
		for (unsigned int i = 0; i < count; i++) {
			uint8_t word[8];
			enum mem_result r;

			sp = (sp - size) & st->mask;
			if (!within(st, sp, size))
				return raise_err(v, EXC_SS, st->error);
			pack(word, words[i], size);
			r = access(v, st, sp, word, size, passes[pass]);
			if (r != MEM_OK)
				return mem_status(r);
		}
	}
	st->sp = sp;
	return EXEC_OK;
}

enum exec_status stack_push(struct vcpu *v, struct stack *st, const uint64_t *words,
			    unsigned int count, unsigned int size)
{
	uint64_t len = (uint64_t)count * size;
	uint64_t sp = (st->sp - len) & st->mask;
	uint8_t frame[FRAME_MAX];
	enum mem_result r;

	if (sp > st->mask - len || checks_alignment(v, st))
		return push_words(v, st, words, count, size);
	if (!within(st, sp, len))
		return raise_err(v, EXC_SS, st->error);
	for (unsigned int i = 0; i < count; i++)
		pack(frame + (count - 1 - i) * size, words[i], size);
	r = access(v, st, sp, frame, len, ACC_WRITE);
	if (r != MEM_OK)
		return mem_status(r);
	st->sp = sp;
	return EXEC_OK;
}

enum exec_status stack_peek(struct vcpu *v, const struct stack *st, unsigned int off,
			    uint64_t *words, unsigned int count, unsigned int size)
{
	uint8_t word[8];

	for (unsigned int i = 0; i < count; i++) {
		uint64_t sp = (st->sp + off + i * size) & st->mask;
		enum mem_result r;

		if (!within(st, sp, size))
			return raise_err(v, EXC_SS, st->error);
		r = access(v, st, sp, word, size, ACC_READ);
		if (r != MEM_OK)
			return mem_status(r);
		words[i] = unpack(word, size);
	}
	return EXEC_OK;
}

void stack_commit(struct vcpu *v, const struct stack *st)
{
	uint64_t rsp = v->gpr[REG_RSP];

	if (st->mask == 0xffff)
		v->gpr[REG_RSP] = (rsp & ~0xffffULL) | st->sp;
	else
		v->gpr[REG_RSP] = st->sp;
}

void stack_load(struct vcpu *v, const struct stack *st)
{
	v->seg[SEG_SS] = st->ss;
	stack_commit(v, st);
}
