// SPDX-License-Identifier: Apache-2.0
/*
 * Translating a block: decode from the guest's page, then emit each instruction, copied,
 * done in line, or handed to the interpreter (emit_step).  A block goes on past calls,
 * branches not taken and steps, up to an unconditional transfer or the page's end; its last
 * instruction may reach into the next page.
 */
#include "cpu/fpu.h"
#include "engine/soft/dbt_tr.h"
#include "x86/regs.h"

#include <assert.h>

#define HEAT_TO_FOLLOW	2	/* runs of what follows a branch, to be part of its block */

/* The interpreter executes the present instruction, then the block goes on. */
void emit_step(struct tr *t)
{
	struct emit *e = &t->e;

	regs_lost(t);
	t->step[t->step_count++] = (struct far_exit){
		.rel32 = e_jmp(e, emit_here(e)), .n = t->n,
	};
}

static void emit_step_exits(struct tr *t)
{
	uint32_t id = t->d->block_count << 8;
	struct emit *e = &t->e;
	unsigned int last = 0;
	void *exit = NULL;

	for (unsigned int k = 0; k < t->step_count; k++) {
		if (t->step[k].group) {
			emit_patch32(t->step[k].rel32, e->to_exec, cold_code(t->b, t->step[k].n));
			continue;
		}
		if (!exit || t->step[k].n != last) {
			exit = emit_here(e);
			last = t->step[k].n;
			e_mov_imm(e, H_TMP, id | t->step[k].n);
			e_jmp(e, t->d->exit_step);
		}
		emit_patch32(t->step[k].rel32, e->to_exec, exit);
	}
}

/* Vector instructions run only where CR0, CR4 and XCR0 let the guest use them. */
static bool simd_usable(const struct tr *t, const struct insn *i)
{
	bool vector = i->encoding != ENC_LEGACY || i->info->how == HOW_HOST;
	uint32_t mode = t->b->mode;

	if (!vector)
		return true;
	switch (i->encoding) {
	case ENC_LEGACY:
		return mode & MODE_SSE;
	case ENC_EVEX:
		return mode & MODE_AVX512;
	case ENC_XOP:
		return false;
	default:
		return mode & MODE_AVX;
	}
}

/* Innocuous, and yet not to be copied: what it means depends on more than its fields. */
static bool copy_exempt(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_CLD: case INSN_ID_STD:	/* the host's DF stays clear */
	case INSN_ID_ENTER: case INSN_ID_XLAT: case INSN_ID_PUSH: case INSN_ID_POP:
	case INSN_ID_MOVSB: case INSN_ID_MOVSW: case INSN_ID_MOVSD: case INSN_ID_MOVSQ:
	case INSN_ID_STOSB: case INSN_ID_STOSW: case INSN_ID_STOSD: case INSN_ID_STOSQ:
	case INSN_ID_LODSB: case INSN_ID_LODSW: case INSN_ID_LODSD: case INSN_ID_LODSQ:
	case INSN_ID_SCASB: case INSN_ID_SCASW: case INSN_ID_SCASD: case INSN_ID_SCASQ:
	case INSN_ID_CMPSB: case INSN_ID_CMPSW: case INSN_ID_CMPSD: case INSN_ID_CMPSQ:
	case INSN_ID_MASKMOVQ: case INSN_ID_MASKMOVDQU: case INSN_ID_VMASKMOVDQU:
		return true;
	case INSN_ID_BT: case INSN_ID_BTS: case INSN_ID_BTR: case INSN_ID_BTC:
		/* the bit offset may reach beyond the operand */
		return i->flags & INSN_HAS_MEM && i->op[1].kind == OPND_GPR;
	default:
		return i->flags & INSN_BRANCH;
	}
}

static bool copyable_size(const struct insn *i)
{
	unsigned int size = i->mem.size;

	if (!(i->flags & INSN_HAS_MEM) || i->mem.is_address)
		return true;
	return !i->mem.vsib && size && size <= 64;
}

/* Is @i copied when it stands by itself? */
bool block_copies(struct tr *t, const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_CALL: case INSN_ID_RET: case INSN_ID_JMP: case INSN_ID_LEAVE:
		return false;
	default:
		return i->info->how != HOW_UD && i->info->insn_class == CLASS_INNOCUOUS &&
		       !(i->flags & INSN_BRANCH) && t->d->cfg.allowed(t->d->cfg.arg, t->v, i) &&
		       simd_usable(t, i) && !copy_exempt(i) && copyable_size(i) &&
		       code32_reaches(t, i) && code32_copies(t, i);
	}
}

static bool emit_in_line(struct tr *t, const struct insn *i, bool *ends)
{
	if (i->info->how == HOW_UD || !t->d->cfg.allowed(t->d->cfg.arg, t->v, i))
		return false;
	if (!code32_reaches(t, i))
		return false;
	if (i->info->insn_class != CLASS_INNOCUOUS)
		return (!(t->b->mode & MODE_32) || code32_system(i)) && emit_system(t, i, ends);
	if (emit_flow(t, i, ends) || emit_string(t, i) || emit_bit(t, i))
		return true;
	return simd_usable(t, i) && !copy_exempt(i) && copyable_size(i) && code32_copies(t, i) &&
	       emit_copy(t, i);
}

/* Steps after which control is surely elsewhere. */
static bool step_ends(const struct insn *i)
{
	if (!(i->flags & INSN_BRANCH))
		return false;
	switch (i->info->id) {
	case INSN_ID_SYSCALL: case INSN_ID_SYSRET: case INSN_ID_SYSENTER: case INSN_ID_SYSEXIT:
	case INSN_ID_IRET: case INSN_ID_IRETD: case INSN_ID_IRETQ: case INSN_ID_HLT:
	case INSN_ID_INT: case INSN_ID_INT1: case INSN_ID_INT3: case INSN_ID_UD2:
	case INSN_ID_CALL_FAR: case INSN_ID_JMP_FAR: case INSN_ID_RET_FAR:
	case INSN_ID_JMP: case INSN_ID_RET: case INSN_ID_CALL:
		return true;
	default:
		return i->info->how == HOW_UD;
	}
}

/*
 * What follows was made from bytes of another page: right while the address space is the
 * one it was made in (or the upper half's global pages are), else the interpreter's.
 */
static void emit_same_space(struct tr *t)
{
	struct dbt_hot *hot = dbt_hot(t->v);
	unsigned int half = t->b->gva >> 63;
	struct emit *e = &t->e;
	uint8_t *same;

	regs_lost(t);
	t->id = side_of(hot, t->b->mode)->id[half];
	e_mov_imm(e, H_TMP, -t->id);
	t->id_at = e->p - 8 - t->d->rw;
	e_load(e, H_ADDR, IN_SIDE(user_side(t), id[half]));
	e_lea(e, H_TMP, AT_INDEX(H_TMP, H_ADDR));
	same = e_jrcxz(e);
	emit_step(t);
	e_bind8(e, same);
}

/* The islands of waiting JRCXZs, if put here, would be in their reach. */
static bool islands_reachable(const struct tr *t)
{
	for (unsigned int k = 0; k < t->near_count; k++)
		if (t->e.p + 5 + ISLAND_MAX * k - (t->near[k].rel8 + 1) > 127)
			return false;
	return true;
}

/* Did it only ever fault where windows cannot help? */
static bool hopeless_site(const struct tr *t)
{
	return t->b->mode & MODE_WINDOW &&
	       windows_site(t->d, t->b->gpa + t->b->guest_off[t->n]) == SITE_STEP;
}

/* Emits the present instruction; true if nothing runs on behind it. */
static bool emit_insn(struct tr *t)
{
	bool crosses = t->second != GPA_NONE && t->n + 1 == t->count, ends = false;

	if ((t->known.dirty[0] || t->known.dirty[1]) &&
	    (crosses || !copy_is_quiet(t, t->i) || loop_end(t)))
		put_temps(t);
	if (t->in_group)
		return emit_group_member(t, t->i);
	if (crosses)
		emit_same_space(t);
	if (t->b->mode & MODE_WINDOW)
		window_loop_head(t);
	if (hopeless_site(t) || !emit_in_line(t, t->i, &ends)) {
		t->always_step |= BIT(t->n);
		put_temps(t);
		emit_step(t);
		t->known.rsp_off = 0;
		t->known.written = UINT16_MAX;
		t->known.sure = t->known.narrow = t->known.small = 0;
		window_entered(t);
	} else if (t->b->mode & MODE_WINDOW) {
		window_after(t, t->i);
	}
	return ends;
}

/* Two lookups, or one and long code behind it. */
static bool two_lookups(const struct tr *t, const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_RET:
		return !with(t->d, TRANSLATOR_OPT_RETURN);
	case INSN_ID_PUSH: case INSN_ID_CALL: case INSN_ID_JMP:
		return i->op[0].kind == OPND_MEM;
	case INSN_ID_IRETQ:
		return true;
	default:
		return string_is_long(i);
	}
}

/* The present instruction's code begins here; moving the stack pointer is the last one's. */
static void begin_code(struct tr *t)
{
	uint8_t *here;

	if (t->known.rsp_off && !stack_may_wait(t))
		emit_settle_stack(t);
	here = emit_here(&t->e);
	if (t->cold)
		cold_off(t->b)[t->n] = here - block_cold(t->b) + 1;
	else
		host_off(t->b)[t->n] = here - t->b->code;
	if (t->b->mode & MODE_WINDOW)
		rsp_off(t->b)[t->n] = t->known.rsp_off;
	if (t->known.rsp_off) {
		t->b->stack_waits = true;
		t->no_entry |= BIT(t->n);
	}
}

/*
 * The same, so that every JRCXZ reaches its island: if the instruction took too many
 * bytes it is taken back, islands are put first, and it is emitted again.
 */
static bool emit_insn_reachable(struct tr *t)
{
	struct { uint8_t *p; unsigned int near, step, jump, slots, probes; struct known known;
		 unsigned int loops, moves; } mark;
	bool ends;

	if (two_lookups(t, t->i))	/* puts islands itself, in between */
		emit_islands(t, true);
	mark.p = t->e.p;
	mark.near = t->near_count;
	mark.step = t->step_count;
	mark.jump = t->jump_count;
	mark.slots = t->d->slot_count;
	mark.probes = t->probe_calls;
	mark.known = t->known;
	mark.loops = t->loops;
	mark.moves = t->moves.count;
	begin_code(t);
	ends = emit_insn(t);

	if (!mark.near || (islands_reachable(t) && t->near_count < ARRAY_SIZE(t->near) - 4))
		return ends;
	t->e.p = mark.p;
	t->near_count = mark.near;
	t->step_count = mark.step;
	t->jump_count = mark.jump;
	t->d->slot_count = mark.slots;
	t->probe_calls = mark.probes;
	t->known = mark.known;
	t->loops = mark.loops;
	t->moves.count = mark.moves;
	emit_islands(t, true);
	begin_code(t);
	return emit_insn(t);
}

static enum decode_result decode(struct tr *t, struct insn *i, const uint8_t *bytes,
				 unsigned int room)
{
	return t->d->cfg.decode(t->d->cfg.arg, t->v, i, bytes, room, mode_code_size(t->b->mode));
}

/* The last instruction's bytes go on in the next page: it becomes part of the block. */
static bool decode_crossing(struct tr *t, struct insn *i, const uint8_t *bytes, unsigned int room)
{
	gva_t next = ALIGN_DOWN(t->b->gva, GUEST_PAGE_SIZE) + GUEST_PAGE_SIZE;
	uint8_t both[INSN_MAX_LEN];
	const uint8_t *p;
	gpa_t gpa;

	if (next != code_gva(t, next))
		return false;
	if (!with(t->d, TRANSLATOR_OPT_CROSS) || gva_to_gpa(t->v, next, ACC_FETCH, &gpa) != MEM_OK)
		return false;
	if (!gpa_to_hva(t->d->space, gpa, INSN_MAX_LEN) ||
	    (next >> 63 && !gva_is_global(t->v, next)))
		return false;
	p = t->d->cfg.open(t->d->cfg.arg, t->v, gpa);
	if (!p)
		return false;
	for (unsigned int k = 0; k < INSN_MAX_LEN; k++)
		both[k] = k < room ? bytes[k] : p[k - room];
	if (decode(t, i, both, INSN_MAX_LEN) != DECODE_OK || i->len <= room)
		return false;
	t->second = gpa;
	if (next >> 63)
		tlb_note_code(&t->v->tlb, next);
	return true;
}

static bool ends_decoding(const struct insn *i)
{
	return i->info->id == INSN_ID_RET || i->info->id == INSN_ID_JMP ||
	       (i->info->id != INSN_ID_CALL && step_ends(i));
}

/* What is behind a branch not taken, or a call: does it run, and not as a block of its own? */
static bool goes_on(const struct tr *t, unsigned int off)
{
	gva_t gva = ALIGN_DOWN(t->b->gva, GUEST_PAGE_SIZE) + off;
	gpa_t gpa = ALIGN_DOWN(t->b->gpa, GUEST_PAGE_SIZE) + off;

	uint32_t mode = t->b->mode;

	if (!with(t->d, TRANSLATOR_OPT_TRIM) || !with(t->d, TRANSLATOR_OPT_HEAT))
		return true;
	if (dbt_find(t->d, gva, gpa, mode))
		return false;
	return t->d->cfg.heat(t->d->cfg.arg, t->v, gpa) >= HEAT_TO_FOLLOW ||
	       dbt_find(t->d, gva, gpa, mode ^ MODE_WINDOW);
}

/* Decodes up to TBLOCK_INSNS instructions that begin in the page; returns how many. */
static unsigned int decode_block(struct tr *t, const uint8_t *page)
{
	unsigned int limit = with(t->d, TRANSLATOR_OPT_BLOCK) ? TBLOCK_INSNS : 1;
	unsigned int off = t->b->gva & GUEST_PAGE_MASK, n;

	for (n = 0; n < limit && off < GUEST_PAGE_SIZE; n++) {
		unsigned int room = GUEST_PAGE_SIZE - off;
		struct insn *i = &t->insn[n];
		enum decode_result r = decode(t, i, page + off, room);

		if (r == DECODE_MORE && decode_crossing(t, i, page + off, room))
			return n + 1;
		if (r != DECODE_OK)
			break;
		off += i->len;
		if (ends_decoding(i) || (i->flags & INSN_BRANCH && !goes_on(t, off)))
			return n + 1;
	}
	return n;
}

static void begin_insn(struct tr *t, unsigned int n)
{
	t->n = n;
	t->i = &t->insn[n];
	t->rip = t->b->gva + t->b->guest_off[n];
	t->next = code_gva(t, t->b->gva + t->b->guest_off[n + 1]);
	if (!with(t->d, TRANSLATOR_OPT_HOLD))
		temps_lost(t);
	if (!with(t->d, TRANSLATOR_OPT_CHECK))
		t->known.facts = 0;
}

/* Instruction @n is in a group, perhaps a new one? */
static void choose_group(struct tr *t, unsigned int n)
{
	if (t->in_group && n <= t->in_group->last)
		return;
	if (t->in_group)	/* the cold code comes here too, and holds nothing */
		temps_lost(t);
	t->in_group = NULL;
	if (group_find(t, n, &t->group[t->group_count])) {
		t->in_group = &t->group[t->group_count++];
		t->b->leaders |= BIT(n);
	}
}

/* The members of the groups once more, each by itself, if that is wanted. */
static void emit_cold_groups(struct tr *t)
{
	t->in_group = NULL;
	t->cold = true;
	for (unsigned int k = 0; t->b->cold_groups && k < t->group_count; k++) {
		const struct group *g = &t->group[k];

		for (unsigned int n = g->first; n <= g->last; n++) {
			begin_insn(t, n);
			temps_lost(t);
			emit_insn_reachable(t);
		}
		e_jmp(&t->e, t->b->code + host_off(t->b)[g->last + 1]);
		emit_islands(t, false);
	}
}

/* Members of groups but the first: entered in the cold code or not at all. */
static uint64_t group_members(const struct tr *t)
{
	uint64_t all = 0;

	for (unsigned int k = 0; k < t->group_count; k++)
		for (unsigned int n = t->group[k].first + 1; n <= t->group[k].last; n++)
			all |= BIT(n);
	return all;
}

/* And so the offsets hold each place. */
static void set_length(uint16_t *length, ptrdiff_t bytes)
{
	assert(bytes < BLOCK_ROOM);
	*length = bytes;
}

static void emit_block(struct tr *t)
{
	struct tblock *b = t->b;
	bool ends = false;
	unsigned int n;

	regs_lost(t);
	window_begin(t);
	for (n = 0; n < t->count; n++)
		b->guest_off[n + 1] = b->guest_off[n] + t->insn[n].len;
	for (n = 0; n < t->count && !ends; n++) {
		begin_insn(t, n);
		choose_group(t, n);
		ends = emit_insn_reachable(t);
		trace_insn(t);
	}
	if (!ends && (t->known.stack_moved || t->known.rsp_off || t->known.dirty[0] ||
		      t->known.dirty[1]))
		emit_islands(t, true);	/* a check or stores would come between */
	if (!ends)
		emit_settle_stack(t);
	if (!ends)
		put_temps(t);	/* as part of the last: what follows is entered by itself, too */
	t->n = b->count = n;
	b->size = b->guest_off[n];
	host_off(b)[n] = t->e.p + t->e.to_exec - b->code;
	if (!ends)	/* also behind a step: IRET may go to the next instruction */
		emit_continue(t, code_gva(t, b->gva + b->size));
	emit_islands(t, false);
	b->no_entry = t->no_entry & ~group_members(t);
	if (!b->cold_groups)
		b->no_entry |= group_members(t);
	emit_probes(t);
	set_length(&b->code_len, (uint8_t *)emit_here(&t->e) - b->code);
}

/* What hardly runs, in a place of its own: the rest of the code is denser for it. */
static void emit_cold(struct tr *t)
{
	struct tblock *b = t->b;

	t->end = t->e.p;
	t->e.p = t->d->next_cold;
	b->cold_at = (uint8_t *)emit_here(&t->e) - b->code;
	emit_cold_groups(t);
	t->n = b->count;
	emit_taken(t);
	emit_cross_exits(t);
	emit_step_exits(t);
	if (t->far_miss)
		emit_far_miss(t);
	set_length(&b->cold_len, (uint8_t *)emit_here(&t->e) - block_cold(b));
}

/*
 * The record of a block, behind the others'; it counts as in use once the block is done.
 * parts_make_room() made sure that there is room.
 */
static void *record_room(struct tr *t, size_t size)
{
	void *p = t->d->records + t->record_end;

	t->record_end += ALIGN_UP(size, RECORD_UNIT);
	__builtin_memset(p, 0, size);
	return p;
}

static unsigned int record_place(const struct tr *t, const void *p)
{
	return ((const uint8_t *)p - (const uint8_t *)t->b) / RECORD_UNIT;
}

/* With room for so many instructions in a block as there may be. */
static void record_begin(struct tr *t)
{
	t->record_end = t->d->records_used;
	t->b = record_room(t, offsetof(struct tblock, guest_off) +
			      3 * (TBLOCK_INSNS + 1) * sizeof(uint16_t));
	t->b->room = TBLOCK_INSNS + 1;
}

/* Now that it is known how many instructions there are. */
static void record_insns(struct tr *t)
{
	t->b->room = t->count + 1;
}

/* What comes next is put behind what is used of that. */
static void record_fit(struct tr *t)
{
	struct crossing *c;
	unsigned int arrays;

	t->b->cold_groups &= t->group_count > 0;
	arrays = t->b->cold_groups || t->b->stack_waits ? 3 : 2;
	t->record_end = t->d->records_used +
			ALIGN_UP(offsetof(struct tblock, guest_off) +
				 arrays * t->b->room * sizeof(uint16_t), RECORD_UNIT);
	if (t->second == GPA_NONE)
		return;
	c = record_room(t, sizeof(*c));
	c->block = t->b;
	c->second = t->second;
	c->id = t->id;
	c->id_at = t->id_at;
	t->b->crossing_at = record_place(t, c);
}

/* Keeps the instructions that are always stepped, ready to execute. */
static void keep_steps(struct tr *t)
{
	unsigned int count = __builtin_popcountll(t->always_step), k = 0;
	struct tblock *b = t->b;
	struct insn *steps;
	uint8_t *place;

	if (!count || !with(t->d, TRANSLATOR_OPT_STEPS))
		return;
	place = record_room(t, b->room);
	steps = record_room(t, count * sizeof(*steps));
	b->steps_at = record_place(t, place);
	for (unsigned int n = 0; n < b->count; n++) {
		if (!(t->always_step & BIT(n)))
			continue;
		/* The bytes in the other page may be others now: decoded when it runs. */
		if (t->second != GPA_NONE && n + 1U == b->count)
			continue;
		steps[k] = t->insn[n];
		if (t->d->cfg.bind(t->d->cfg.arg, t->v, &steps[k]))
			place[n] = ++k;
	}
}

static void keep_moves(struct tr *t)
{
	struct tblock *b = t->b;
	uint32_t *moves;

	b->slots = t->d->slot_count - b->first_slot;
	if (!(b->mode & MODE_USER) || t->moves.fixed)
		return;
	b->made_at = __builtin_ia32_rdtsc() >> MADE_AT_SHIFT;
	moves = record_room(t, t->moves.count * sizeof(*moves));
	b->moves_at = record_place(t, moves);
	b->move_count = t->moves.count;
	for (unsigned int k = 0; k < t->moves.count; k++)
		moves[k] = t->moves.at[k];
}

/* Where jumps from other pages lead; where the jump cache does: is r14 the block's address? */
static void emit_entries(struct tr *t)
{
	struct emit *e = &t->e;
	uint8_t *holds = NULL, *entry, *here;

	if (far_entered(t->d, t->b->mode, t->b->gva))
		holds = emit_far_entry(t);
	entry = emit_here(e);
	here = emit_if_address(e, t->b->gva);
	e_jmp(e, t->d->exit_indirect);
	e_bind8(e, here);
	if (holds)
		e_bind8(e, holds);
	t->b->code = emit_here(e);
	t->b->entry_len = t->b->code - entry;
}

/* Begins a block with what it depends on. */
static void begin_block(struct tr *t, struct dbt *d, struct vcpu *v, gva_t gva, gpa_t gpa)
{
	__builtin_memset(t, 0, offsetof(struct tr, insn));
	t->d = d;
	t->v = v;
	t->e = (struct emit){ .p = d->next, .to_exec = d->rx - d->rw, .vcpu = (uintptr_t)v,
			      .moves = &t->moves };
	t->moves.count = 0;
	t->moves.fixed = false;
	t->moves.base = d->rw;
	record_begin(t);
	t->b->first_slot = d->slot_count;
	t->b->gva = gva;
	t->b->gpa = gpa;
	t->b->mode = dbt_mode(v);
	/* Programs meet pages that are new to them all the time, the kernel rarely. */
	t->b->cold_groups = t->b->mode & MODE_USER || group_wants_cold(d, gpa);
	t->second = GPA_NONE;
}

/* Of code that changes: what there is in @page now may be there again. */
static void keep_bytes(struct tr *t, const uint8_t *page)
{
	struct dbt *d = t->d;
	uint8_t *room;

	if (t->second != GPA_NONE || !with(d, TRANSLATOR_OPT_AGAIN) ||
	    !d->cfg.changes(d->cfg.arg, t->b->gpa))
		return;
	room = record_room(t, t->b->size);
	t->b->bytes_at = record_place(t, room);
	sleep_keep_bytes(t->b, room, page);
}

static struct tblock *finish_block(struct tr *t)
{
	struct dbt *d = t->d;

	d->stats.bytes += t->end - d->next + (t->e.p - d->next_cold);
	d->next = t->end;
	d->next_cold = t->e.p;
	d->records_used = t->record_end;
	parts_add(d, t->b);
	dbt_insert(d, t->b);
	fpu_put(t->v);
	dbt_perf_block(d, t->b);
	trace_block(t);
	return t->b;
}

struct tblock *dbt_translate(struct dbt *d, struct vcpu *v, gva_t gva, gpa_t gpa)
{
	gpa_t base = ALIGN_DOWN(gpa, GUEST_PAGE_SIZE);
	const uint8_t *page;
	struct tr *t = d->work;
	uint32_t generation;
	struct tblock *b;

	fpu_put(v);
	if (!gpa_to_hva(d->space, base, GUEST_PAGE_SIZE))
		return NULL;
	parts_make_room(d);
	generation = d->generation;
	dbt_refresh(d, v);
	page = d->cfg.open(d->cfg.arg, v, base);
	b = page ? sleep_find(d, gva, gpa, dbt_mode(v), page) : NULL;
	if (b && d->cfg.keep(d->cfg.arg, v, true, gpa, GPA_NONE, b->size)) {
		sleep_end(d, b);
		return b;
	}
	if (b)
		return NULL;
	begin_block(t, d, v, gva, gpa);
	emit_entries(t);
	t->count = page ? decode_block(t, page) : 0;
	if (t->count) {
		record_insns(t);
		emit_block(t);
		emit_cold(t);
		record_fit(t);
		keep_steps(t);
		keep_moves(t);
		keep_bytes(t, page);
		/* Choosing handlers may have emptied the caches. */
		if (d->generation == generation &&
		    d->cfg.keep(d->cfg.arg, v, true, gpa, t->second, t->b->size))
			return finish_block(t);
	}
	d->cfg.keep(d->cfg.arg, v, false, gpa, GPA_NONE, 0);
	return NULL;
}
