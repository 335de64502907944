// SPDX-License-Identifier: Apache-2.0
/*
 * From a linear address to a block: translate for execution, find, or decode and keep.
 *
 * Fetch faults are precise: an instruction that crosses into a page that faults, faults
 * only when it is the next one to run, because it starts a block of its own.
 */
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "engine/soft/host.h"
#include "engine/soft/soft_priv.h"

static int exec_too_long(struct vcpu *v, const struct insn *i)
{
	(void)i;
	return raise_gp(v, 0);
}

static bool supported(const struct soft_vcpu *sv, const struct insn *i)
{
	return sv->isa_ok[i->isa / 8] >> (i->isa % 8) & 1;
}

/* What is no instruction gets its handler here, the others once the block is complete. */
static void bind_failure(struct soft_vcpu *sv, struct insn *i, enum decode_result r)
{
	if (r == DECODE_OK && supported(sv, i) && i->info->how != HOW_UD)
		return;
	i->exec = r == DECODE_LONG ? exec_too_long : exec_ud;
	i->flags |= INSN_BRANCH;
}

static void bind(struct soft_vcpu *sv, struct insn *i)
{
	if (i->exec)
		return;
	if (i->info->how != HOW_HOST) {
		i->exec = exec_select(i);
		return;
	}
	fpu_put(sv->v);
	i->exec = host_select(sv, i);
}

bool insn_bind(struct soft_vcpu *sv, struct insn *i)
{
	bind_failure(sv, i, DECODE_OK);
	bind(sv, i);
	return i->exec != exec_ud;
}

/* Where the bytes of an instruction at the end of a page come from. */
struct fetch {
	uint8_t bytes[INSN_MAX_LEN];
	unsigned int avail;
	gpa_t second;		/* page of the rest, GPA_NONE until it was needed */
};

static void fetch_copy(struct fetch *f, const uint8_t *from, unsigned int n)
{
	while (n--)
		f->bytes[f->avail++] = *from++;
}

/* Adds bytes from the next page; *keep is cleared if no block may depend on that. */
static enum exec_status fetch_second(struct soft_vcpu *sv, gva_t linear, bool *keep,
				     struct fetch *f)
{
	struct vcpu *v = sv->v;
	gva_t next = ALIGN_UP(linear + 1, GUEST_PAGE_SIZE);
	enum mem_result r;
	const uint8_t *p, *opened;

	if (v->code_size != CODE_64)
		next = (uint32_t)next;
	r = gva_to_gpa(v, next, ACC_FETCH, &f->second);
	if (r != MEM_OK)
		return mem_status(r);
	p = gpa_to_hva(sv->engine->space, f->second, INSN_MAX_LEN);
	if (!p) {	/* a device: what it answers to fetches is all ones */
		p = (const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
	} else if (*keep) {
		opened = code_open(sv, f->second);
		*keep = opened != NULL;
		p = opened ? opened : p;
	}
	fetch_copy(f, p, INSN_MAX_LEN - f->avail);
	return EXEC_OK;
}

/*
 * Decodes the instruction at @linear, whose first @avail bytes are at @p.  A fault in the
 * second page is only for the first instruction of a block; @more tells of the others.
 */
static enum exec_status decode_one(struct soft_vcpu *sv, gva_t linear, const uint8_t *p,
				   unsigned int avail, bool *keep, bool first, struct insn *out,
				   struct fetch *f, bool *more)
{
	unsigned int code_size = sv->v->code_size;
	enum exec_status st;
	enum decode_result r;

	f->avail = 0;
	f->second = GPA_NONE;
	fetch_copy(f, p, MIN(avail, INSN_MAX_LEN));
	r = memo_decode(sv, out, f->bytes, f->avail, code_size);
	*more = r == DECODE_MORE;
	if (*more && first) {
		st = fetch_second(sv, linear, keep, f);
		if (st != EXEC_OK)
			return st;
		r = memo_decode(sv, out, f->bytes, f->avail, code_size);
	}
	if (!*more || first)
		bind_failure(sv, out, r);
	return EXEC_OK;
}

/* Bytes of code an instruction was made from; what is no instruction depends on all. */
static unsigned int insn_extent(const struct insn *i, const struct fetch *f)
{
	return i->len ? i->len : f->avail;
}

/* Decodes up to the end of the page or of the block into sv->scratch. */
static enum exec_status decode_block(struct soft_vcpu *sv, gva_t linear, const uint8_t *p,
				     bool *keep, unsigned int *count, unsigned int *len,
				     gpa_t *second)
{
	unsigned int room = GUEST_PAGE_SIZE - (linear & GUEST_PAGE_MASK);
	unsigned int limit = *keep ? BLOCK_INSNS : 1;
	enum exec_status st;
	struct fetch f;
	bool more;

	*count = *len = 0;
	*second = GPA_NONE;
	while (*count < limit && *len < room) {
		struct insn *i = &sv->scratch[*count];

		st = decode_one(sv, linear + *len, p + *len, room - *len, keep, !*count, i, &f,
				&more);
		if (st != EXEC_OK)
			return st;
		if (more && *count)
			break;
		*len += insn_extent(i, &f);
		++*count;
		if (f.second != GPA_NONE && *len > room)
			*second = ALIGN_DOWN(f.second, GUEST_PAGE_SIZE);
		if (i->flags & INSN_BRANCH)
			break;
	}
	return EXEC_OK;
}

/*
 * Neither faults nor leaves the block, and always writes the flags it writes at all (a
 * shift by zero does not).
 */
static bool is_plain(const struct insn *i)
{
	if (!i->info || (i->flags & INSN_HAS_MEM && !i->mem.is_address))
		return false;
	switch (i->info->id) {
	case INSN_ID_SHL: case INSN_ID_SHR: case INSN_ID_SAR:
		return i->op[1].kind == OPND_IMM && i->imm & 31;
	case INSN_ID_ADD: case INSN_ID_ADC: case INSN_ID_SUB: case INSN_ID_SBB:
	case INSN_ID_AND: case INSN_ID_OR: case INSN_ID_XOR: case INSN_ID_CMP:
	case INSN_ID_TEST: case INSN_ID_INC: case INSN_ID_DEC: case INSN_ID_NEG:
	case INSN_ID_NOT: case INSN_ID_MOV: case INSN_ID_MOVZX: case INSN_ID_MOVSX:
	case INSN_ID_MOVSXD: case INSN_ID_LEA: case INSN_ID_NOP:
	case INSN_ID_CDQE: case INSN_ID_CQO: case INSN_ID_CDQ: case INSN_ID_CWDE:
		return true;
	default:
		return false;
	}
}

/*
 * Marks instructions whose arithmetic flags are overwritten within the block before
 * anything could look at them: reading, faulting, or leaving the block.  A store may
 * invalidate the block behind it, so its own flags count as seen.  So do those of the
 * first instruction, which runs alone when single steps are taken.
 */
static void find_dead_flags(struct insn *insns, unsigned int count)
{
	uint16_t dead = 0;

	for (unsigned int n = count; n-- > 0; ) {
		struct insn *i = &insns[n];
		uint16_t written = i->flags_written & RFLAGS_ARITH;

		if (n && written && !(written & ~dead) && !(i->flags & INSN_MEM_WRITE))
			i->flags |= INSN_FLAGS_DEAD;
		dead = is_plain(i) ? (dead | written) & ~i->flags_read : 0;
	}
}

static enum exec_status block_make(struct soft_vcpu *sv, gva_t linear, gpa_t gpa,
				   struct block **out)
{
	const uint8_t *p = gpa_to_hva(sv->engine->space, gpa,
				      GUEST_PAGE_SIZE - (gpa & GUEST_PAGE_MASK));
	bool keep = p && !sv->stepping && block_worthwhile(sv, gpa);
	unsigned int count, len;
	enum exec_status st;
	gpa_t second = GPA_NONE;
	const uint8_t *opened;

	if (snippets_full(sv))
		snippets_flush(sv);
	if (keep) {
		opened = code_open(sv, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE));
		keep = opened != NULL;
		p = opened ? opened + (gpa & GUEST_PAGE_MASK) : p;
	}
	if (p) {
		st = decode_block(sv, linear, p, &keep, &count, &len, &second);
	} else {	/* code in a device's registers: FF FF, which is #UD */
		sv->scratch[0] = (struct insn){ .exec = exec_ud,
						.flags = INSN_BRANCH };
		count = len = 1;
		st = EXEC_OK;
	}
	if (st != EXEC_OK) {
		code_close(sv);
		return st;
	}
	find_dead_flags(sv->scratch, count);
	for (unsigned int i = 0; i < count; i++)
		bind(sv, &sv->scratch[i]);
	if (keep) {
		*out = block_insert(sv, gpa, second, len, count);
		if (*out)
			return EXEC_OK;
	}
	code_close(sv);
	sv->once->count = 1;
	sv->once->len = len;
	sv->once->insn[0] = sv->scratch[0];
	*out = sv->once;
	return EXEC_OK;
}

enum exec_status block_at(struct soft_vcpu *sv, gva_t linear, gpa_t gpa, struct block **out)
{
	struct vcpu *v = sv->v;
	enum exec_status made;
	enum mem_result r;
	struct block *b;
	gpa_t second;

	b = sv->stepping ? NULL : block_find(sv, gpa, v->code_size);
	if (b && b->second != GPA_NONE) {
		/* The second page may be another one here, or not be there. */
		r = gva_to_gpa(v, ALIGN_UP(linear + 1, GUEST_PAGE_SIZE), ACC_FETCH, &second);
		if (r != MEM_OK)
			return mem_status(r);
		if (second != b->second)
			b = NULL;
	}
	if (!b) {
		vcpu_does(v, VCPU_TRANSLATION);
		made = block_make(sv, linear, gpa, out);
		vcpu_does(v, VCPU_GUEST);
		return made;
	}
	*out = b;
	return EXEC_OK;
}

enum exec_status block_get(struct soft_vcpu *sv, gva_t linear, struct block **out)
{
	gpa_t gpa;
	enum mem_result r = gva_to_gpa(sv->v, linear, ACC_FETCH, &gpa);

	return r == MEM_OK ? block_at(sv, linear, gpa, out) : mem_status(r);
}
