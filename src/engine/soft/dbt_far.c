// SPDX-License-Identifier: Apache-2.0
/*
 * Direct jumps from page to page in user code.  They are chained for good, and the page is
 * checked where they lead to, at the target's far entry:
 *
 *	mov	rcx, [cell]
 *	mov	r14, [calm]
 *	lea	rcx, [rcx + r14]
 *	jrcxz	code
 *	(in what hardly runs:)
 *	mov	r14, guest address
 *	jmp	indirect
 *
 * Each page of code at an address, for each mode that it was translated for, has a cell as long
 * as it has translations.  A cell holds while 'calm' is the one under which C code last saw the
 * page mapped so: calm has a number for the address space and mode, which is another one as soon as
 * a page that code was fetched from may be mapped otherwise (tlb.fetch_tag).  So a new process
 * is asked once for each page, not for each target.  While somebody wants attention calm is 0,
 * and no cell holds.
 *
 * An entry takes memory in the code cache.  So only addresses have one where functions begin, or
 * where code goes on behind the end of a page; other jumps from page to page go through the
 * jump cache.
 *
 * Cell 0 is for pages that found no room: it never holds, and their far entry does what any
 * jump to an address does.
 */
#include "engine/soft/dbt_tr.h"

#include <assert.h>

#define FUNCTION_ALIGN	16	/* compilers' */
#define NEVER		1	/* the sum with no calm is 0: all have zeros in bits 0-47 */
#define PROBES		16
#define PROBE_STEP	2053	/* programs' pages are in runs: the next places are far away */
#define FAR_BYTES	27	/* of code, but for what hardly runs */
#define CELL_AT		4	/* there: where the cell's address is */

bool far_entered(const struct dbt *d, uint32_t mode, gva_t gva)
{
	if (!(mode & MODE_USER) || gva >> 47 || d->lockstep || !with(d, TRANSLATOR_OPT_FAR))
		return false;
	return !(gva & (FUNCTION_ALIGN - 1)) || (gva & GUEST_PAGE_MASK) < INSN_MAX_LEN;
}

void *far_entry(const struct tblock *b)
{
	return b->code - b->entry_len - FAR_BYTES;
}

/* For cell 0: finish_block() and moves put another one in its place. */
uint8_t *emit_far_entry(struct tr *t)
{
	struct emit *e = &t->e;
	uint8_t *begin = e->p, *holds;

	e_load(e, H_TMP, IN_HOT(cell[0]));
	e_load(e, H_ADDR, IN_VCPU(calm[1]));
	e_lea(e, H_TMP, AT_INDEX(H_TMP, H_ADDR));
	holds = e_jrcxz(e);
	t->far_miss = e_jmp(e, emit_here(e));
	assert(e->p - begin == FAR_BYTES);
	return holds;
}

void emit_far_miss(struct tr *t)
{
	struct emit *e = &t->e;

	emit_patch32(t->far_miss, e->to_exec, emit_here(e));
	e_mov_gva(e, H_ADDR, t->b->gva);
	e_jmp(e, t->d->indirect[1]);
}

/* The cell with this key, or a free one, or 0. */
static unsigned int find_cell(const struct dbt *d, uint64_t key, uint64_t frame)
{
	uint64_t at = (key >> GUEST_PAGE_SHIFT) + (key & GUEST_PAGE_MASK) * 0x9e5;
	unsigned int empty = 0;

	for (unsigned int n = 0; n < PROBES; n++, at += PROBE_STEP) {
		const struct cell_page *p = &d->cell_page[at % CELLS];

		if (p->blocks && p->key == key && p->frame == frame)
			return at % CELLS;
		if (!p->blocks && !empty)
			empty = at % CELLS;
	}
	return empty;
}

static void set_cell(struct dbt *d, struct tblock *b, unsigned int n)
{
	uint8_t *at = (uint8_t *)far_entry(b) - d->rx + d->rw + CELL_AT;
	uint32_t address = (uintptr_t)&d->hot->cell[n];

	b->cell = n;
	__builtin_memcpy(at, &address, sizeof(address));
}

void cell_take(struct dbt *d, struct tblock *b)
{
	uint64_t key = (b->gva & ~(uint64_t)GUEST_PAGE_MASK) | b->mode, frame = b->gpa >> GUEST_PAGE_SHIFT;
	struct cell_page *p;
	unsigned int n;

	if (!far_entered(d, b->mode, b->gva))
		return;
	n = find_cell(d, key, frame);
	p = &d->cell_page[n];
	if (n && !p->blocks) {
		p->key = key;
		p->frame = frame;
		d->hot->cell[n] = NEVER;
	}
	if (n)
		p->blocks++;
	set_cell(d, b, n);
}

void cell_drop(struct dbt *d, struct tblock *b)
{
	if (b->cell)
		d->cell_page[b->cell].blocks--;
	b->cell = 0;
}

void cell_hold(struct dbt_hot *hot, const struct tblock *b)
{
	const struct side *s = side_of(hot, b->mode);

	if (b->cell && b->mode == (s->tag & (BIT(MODE_BITS) - 1)))
		hot->cell[b->cell] = -s->calm;
}

void cells_expire(struct dbt_hot *hot)
{
	hot->cell[0] = NEVER;
	for (unsigned int n = 1; n < CELLS; n++)
		if (hot->cell[n])	/* else it never was anybody's */
			hot->cell[n] = NEVER;
}

void cells_clear(struct dbt *d)
{
	for (unsigned int n = 1; n < CELLS; n++)
		if (d->cell_page[n].blocks)
			d->cell_page[n].blocks = 0;
	if (d->hot)
		cells_expire(d->hot);
}
