// SPDX-License-Identifier: Apache-2.0
/*
 * Memory operands in translated code: effective address, lookup in the table of page
 * deltas, and the way out where the table does not help.  Nothing here touches flags.
 *
 *	lea	r14, [effective address]
 *	movzx	ecx, r14b			; more than a byte: may it cross a page?
 *	movzx	ecx, in_chunk[rcx + size - 1]	; 0 if it crosses 256 bytes
 *	jrcxz	island 1
 * back: rorx	rcx, r14, 48			; bits 12-47 to the top ...
 *	shrx	rcx, rcx, r15			; ... and down: r15 is 28 modulo 64
 *	mov	rcx, [r15 + rcx * 8 - 28]	; r13 for writes
 *	jrcxz	island 2			; a miss
 *	op	[r14 + rcx]
 *
 * In code for windows there is none of this: dbt_window_emit.c.
 *
 * island 1: to code behind the block that asks whether it crosses a page (emit_cross_checks) and
 * goes back if not.
 * island 2: jmp step: the interpreter executes the instruction, which also fills
 * the table.  JRCXZ reaches 127 bytes, so islands are put between instructions.
 */
#include "engine/soft/dbt_tr.h"

#include <assert.h>

/* The host register holding guest register @reg; IN_MEMORY ones are loaded into @tmp. */
static unsigned int address_part(struct tr *t, unsigned int reg, unsigned int tmp)
{
	if (host_reg(t, reg) != IN_MEMORY)
		return host_reg(t, reg);
	e_load(&t->e, tmp, IN_GPR(reg));
	return tmp;
}

/* @dst = the effective address; @narrow: its low 32 bits.  Clobbers rcx, and r14 as @dst. */
void emit_effective(struct tr *t, const struct mem_operand *m, unsigned int dst, bool narrow)
{
	struct host_mem h = AT_SCALE(NO_REG, NO_REG, m->scale);
	struct emit *e = &t->e;

	temps_lost(t);
	if (m->base == REG_RIP || (m->base == REG_NONE && m->index == REG_NONE)) {
		uint64_t a = m->disp + (m->base == REG_RIP ? t->next : 0);

		if (m->base == REG_RIP)
			e_mov_gva(e, dst, narrow ? (uint32_t)a : a);
		else
			e_mov_imm(e, dst, narrow ? (uint32_t)a : a);
		return;
	}
	if (m->base != REG_NONE)
		h.base = address_part(t, m->base, H_ADDR);
	if (m->index != REG_NONE)
		h.index = address_part(t, m->index, H_TMP);
	h.disp = base_disp(t, m->base, m->disp);
	if (narrow)
		e_lea32(e, dst, h);
	else if (h.index == NO_REG && !h.disp && h.base == dst)
		;
	else if (h.index == NO_REG && !h.disp && h.base != NO_REG)
		e_mov_rr(e, dst, h.base);
	else
		e_lea(e, dst, h);
}

void emit_segment_base(struct tr *t, const struct mem_operand *m)
{
	struct host_mem base = segment_base(m->seg);

	if (m->seg != SEG_FS && m->seg != SEG_GS)
		return;
	if (t->b->mode & MODE_32) {
		code32_segment_base(t, m, base);
		return;
	}
	e_load(&t->e, H_TMP, base);
	e_lea(&t->e, H_ADDR, AT_INDEX(H_ADDR, H_TMP));
}

/* r14 = linear address of @i's memory operand; clobbers rcx. */
static void emit_address(struct tr *t, const struct insn *i)
{
	emit_effective(t, &i->mem, H_ADDR, i->mem.addr_size == 4);
	emit_segment_base(t, &i->mem);
}

/* LEA: the address is the value. */
void emit_lea(struct tr *t, const struct insn *i)
{
	unsigned int dst = host_reg(t, i->op[0].reg);
	bool narrow = i->mem.addr_size == 4 || i->opsize == 4;

	emit_effective(t, &i->mem, dst == IN_MEMORY ? H_ADDR : dst, narrow);
	if (dst == IN_MEMORY)
		e_store(&t->e, IN_GPR(i->op[0].reg), H_ADDR);
}

static void near_exit(struct tr *t, const struct near_exit *x)
{
	t->near[t->near_count++] = *x;
}

/* The JRCXZ at @rel8 goes to the interpreter with the present instruction. */
void emit_near_step(struct tr *t, uint8_t *rel8)
{
	near_exit(t, &(struct near_exit){ .rel8 = rel8, .n = t->n });
}

/* To the interpreter: few of these ever run, so they are short, and slow. */
static void far_exit(struct tr *t, const struct near_exit *x)
{
	if (x->group) {
		t->step[t->step_count++] = (struct far_exit){
			.rel32 = e_jmp(&t->e, emit_here(&t->e)), .n = x->n, .group = true,
		};
		return;
	}
	e_call(&t->e, t->d->exit_here);
	e8(&t->e, x->n);	/* where it would return to */
}

/*
 * An access that crosses 256 bytes, if it can be seen to here: back, unless it crosses a
 * page.  See emit_cross_checks().
 */
static bool cross_island(struct tr *t, const struct near_exit *x)
{
	struct emit *e = &t->e;
	ptrdiff_t back = (uint8_t *)x->back - ((uint8_t *)emit_here(e) + 5 + 2);

	if (x->group || x->size & (x->size - 1) || back < INT8_MIN)
		return false;
	e_call(e, t->d->crosses_here[__builtin_ctz(x->size)]);
	e8(e, 0xeb);		/* jmp */
	e8(e, back);
	e8(e, x->n);
	return true;
}

/*
 * Puts islands for the waiting JRCXZs here; @fallthrough: code before it runs on to what
 * follows and must jump over them.
 */
void emit_islands(struct tr *t, bool fallthrough)
{
	struct emit *e = &t->e;
	bool far = t->near_count * ISLAND_MAX > INT8_MAX;
	uint8_t *over = NULL;

	if (!t->near_count)
		return;
	if (fallthrough)
		over = far ? e_jmp(e, emit_here(e)) : e_jmp8(e);
	for (unsigned int k = 0; k < t->near_count; k++) {
		const struct near_exit *x = &t->near[k];

		assert(e->p - (x->rel8 + 1) <= 127);
		e_bind8(e, x->rel8);
		if (x->size && !cross_island(t, x)) {
			t->cross[t->cross_count].exit = *x;
			t->cross[t->cross_count++].rel32 = e_jmp(e, emit_here(e));
		} else if (!x->size) {
			far_exit(t, x);
		}
	}
	t->near_count = 0;
	if (over && far)
		emit_patch32(over, e->to_exec, emit_here(e));
	else if (over)
		e_bind8(e, over);
}

/* rcx = 0 if an access of @size bytes at r14 crosses a page */
static void emit_page_check(struct emit *e, unsigned int size)
{
	struct host_mem in_page = IN_HOT(in_page);

	in_page.disp += size - 1;
	in_page.base = H_TMP;
	e_pext(e, H_TMP, H_ADDR, IN_HOT(offset_mask));
	e_movzx8(e, H_TMP, in_page);
}

/*
 * Fixed code, one for each log2 of a size, called with r14 = the address of an access that
 * crosses 256 bytes: returns, unless it crosses a page.  Then it goes on 5 bytes behind that,
 * or leaves with the instruction whose index is 2 bytes behind.
 */
static void *emit_cross_code(struct dbt *d, struct emit *e, unsigned int k, bool here)
{
	void *code = emit_here(e);
	uint8_t *crosses;

	emit_page_check(e, 1U << k);
	crosses = e_jrcxz(e);
	e8(e, 0xc3);
	e_bind8(e, crosses);
	e8(e, 0x59);		/* pop rcx */
	e_lea(e, H_TMP, AT_DISP(H_TMP, here ? 2 : 5));
	if (here) {
		e8(e, 0x51);	/* push rcx */
		e_jmp(e, d->exit_here);
	} else {
		e8(e, 0xff);	/* jmp rcx */
		e8(e, 0xe1);
	}
	return code;
}

void emit_cross_checks(struct dbt *d, struct emit *e)
{
	for (unsigned int k = 1; k < ARRAY_SIZE(d->crosses); k++) {
		d->crosses[k] = emit_cross_code(d, e, k, false);
		d->crosses_here[k] = emit_cross_code(d, e, k, true);
	}
}

/* Behind the block: accesses that cross 256 bytes.  Only those that cross a page matter. */
void emit_cross_exits(struct tr *t)
{
	struct emit *e = &t->e;

	for (unsigned int k = 0; k < t->cross_count; k++) {
		const struct near_exit *x = &t->cross[k].exit;
		uint8_t *crosses = NULL;

		emit_patch32(t->cross[k].rel32, e->to_exec, emit_here(e));
		if (x->size & (x->size - 1)) {
			emit_page_check(e, x->size);
			crosses = e_jrcxz(e);
		} else {
			e_call(e, t->d->crosses[__builtin_ctz(x->size)]);
		}
		e_jmp(e, x->back);
		if (crosses)
			e_bind8(e, crosses);
		far_exit(t, x);
	}
}

void emit_table_load(struct emit *e, unsigned int table)
{
	struct host_mem entry = AT_SCALE(table, H_TMP, 3);

	entry.disp = -TABLE_BIAS;
	e_rorx(e, H_TMP, H_ADDR, 48);
	e_shrx(e, H_TMP, H_TMP, table);
	e_load(e, H_TMP, entry);
}

/*
 * Fixed code for lookups that need not be fast: called with r14 = the address, returns with
 * rcx, or leaves with the instruction whose index is 2 bytes behind.
 */
static void *emit_lookup_code(struct dbt *d, struct emit *e, unsigned int k, bool write)
{
	uint8_t *crosses = NULL, *miss;
	void *code = emit_here(e);

	if (k) {
		emit_page_check(e, 1U << k);
		crosses = e_jrcxz(e);
	}
	emit_table_load(e, write ? H_WRITE : H_READ);
	miss = e_jrcxz(e);
	e8(e, 0xc3);
	if (crosses)
		e_bind8(e, crosses);
	e_bind8(e, miss);
	e_load(e, H_TMP, AT(H_RSP));
	e_lea(e, H_TMP, AT_DISP(H_TMP, 2));
	e_store(e, AT(H_RSP), H_TMP);
	e_jmp(e, d->exit_here);
	return code;
}

void emit_lookups(struct dbt *d, struct emit *e)
{
	for (unsigned int write = 0; write < 2; write++)
		for (unsigned int k = 0; k < ARRAY_SIZE(d->looks_up[0]); k++)
			d->looks_up[write][k] = emit_lookup_code(d, e, k, write);
}

/* The same for what hardly runs: short. */
static void short_lookup(struct tr *t, unsigned int size, bool write)
{
	struct emit *e = &t->e;

	e_call(e, t->d->looks_up[write][__builtin_ctz(size)]);
	e8(e, 0xeb);	/* jmp over the index */
	e8(e, 1);
	e8(e, t->n);
}

static void emit_cross_check(struct tr *t, unsigned int size, bool group)
{
	struct host_mem in_chunk = IN_HOT(in_chunk);
	struct emit *e = &t->e;
	struct near_exit x = { .n = t->n, .group = group && t->b->cold_groups };

	if (size > 64 || !with(t->d, TRANSLATOR_OPT_CHUNK)) {
		emit_page_check(e, size);
		x.rel8 = e_jrcxz(e);
	} else {
		in_chunk.disp += size - 1;
		in_chunk.base = H_TMP;
		e_movzx8_rr(e, H_TMP, H_ADDR);
		e_movzx8(e, H_TMP, in_chunk);
		x.rel8 = e_jrcxz(e);
		x.size = size;
		x.back = emit_here(e);
	}
	near_exit(t, &x);
}

static void lookup(struct tr *t, unsigned int size, bool write, bool group)
{
	struct emit *e = &t->e;

	temps_lost(t);
	if (t->cold && size <= 64 && !(size & (size - 1))) {
		short_lookup(t, size, write);
		return;
	}
	if (size > 1)
		emit_cross_check(t, size, group);
	emit_table_load(e, write ? H_WRITE : H_READ);
	near_exit(t, &(struct near_exit){ .rel8 = e_jrcxz(e), .n = t->n,
					  .group = group && t->b->cold_groups });
}

struct host_mem emit_looked_up(struct tr *t, unsigned int size, bool write)
{
	lookup(t, size, write, false);
	return AT_INDEX(H_ADDR, H_TMP);
}

/*
 * @i's memory operand, of @size bytes: what takes its place in the copy.  It may use r14
 * and rcx.  @size 1 for operands that fault unless they are aligned.
 */
struct host_mem emit_operand(struct tr *t, const struct insn *i, unsigned int size)
{
	if (t->b->mode & MODE_WINDOW)
		return emit_window_operand(t, &i->mem);
	emit_address(t, i);
	return emit_looked_up(t, size, i->flags & INSN_MEM_WRITE);
}

/* The same for a word at guest register @reg, which has a host register, + @disp. */
struct host_mem emit_pointed(struct tr *t, unsigned int reg, int disp, bool write)
{
	const struct mem_operand m = { .base = reg, .index = REG_NONE, .seg = SEG_SS,
				       .addr_size = 8, .disp = disp };

	if (t->b->mode & MODE_WINDOW)
		return emit_window_operand(t, &m);
	emit_effective(t, &m, H_ADDR, t->b->mode & MODE_32);
	return emit_looked_up(t, word_of(t), write);
}

/* The same for @size bytes at guest register @reg, not in code for windows. */
struct host_mem emit_bytes_at(struct tr *t, unsigned int reg, unsigned int size, bool write)
{
	const struct mem_operand m = { .base = reg, .index = REG_NONE };

	emit_effective(t, &m, H_ADDR, t->b->mode & MODE_32);
	return emit_looked_up(t, size, write);
}

/* r14 = host address of the group's @size bytes at r14, or to its cold code if there is any. */
void emit_group_lookup(struct tr *t, unsigned int size, bool write)
{
	lookup(t, size, write, true);
	e_lea(&t->e, H_ADDR, AT_INDEX(H_ADDR, H_TMP));
}
