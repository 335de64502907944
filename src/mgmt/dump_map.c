// SPDX-License-Identifier: Apache-2.0
/*
 * What a core file's segments are; see dump_map.h.  The page tables are the guest's: they may lead
 * in circles, so only so many of them are looked at.
 *
 * Source: Intel SDM volume 3, "4-Level Paging and 5-Level Paging".
 */
#include "mgmt/dump_map.h"
#include "cpu/vcpu.h"

#include <errno.h>
#include <stdlib.h>

#define TABLES_MAX	(1U << 17)	/* of 4 KiB; map 256 GiB of small pages */
#define ENTRIES		512
#define ENTRY_P		BIT(0)
#define ENTRY_PS	BIT(7)
#define ENTRY_ADDRESS	0x000ffffffffff000ULL

static int add(struct dump_map *m, const struct dump_piece *p, struct err *e)
{
	struct dump_piece *last = m->count ? &m->piece[m->count - 1] : NULL, *more;

	if (last && last->gva + last->size == p->gva && last->gpa + last->size == p->gpa &&
	    last->offset + last->size == p->offset) {
		last->size += p->size;
		return 0;
	}
	if (m->count == DUMP_PIECES_MAX)
		return err_set(e, E2BIG, "the guest's memory is mapped in more than %u pieces: dump it "
			       "without paging", DUMP_PIECES_MAX);
	if (m->count == m->room) {
		more = realloc(m->piece, (m->room * 2 + 64) * sizeof(*more));
		if (!more)
			return err_set(e, ENOMEM, "out of memory for the dump's headers");
		m->piece = more;
		m->room = m->room * 2 + 64;
	}
	m->piece[m->count++] = *p;
	return 0;
}

/* What of [@gpa, @gpa+@size), which is seen at @gva, is RAM. */
static int add_mapping(struct dump_map *m, const struct gpa_space *s, uint64_t gva, gpa_t gpa,
		       uint64_t size, struct err *e)
{
	uint64_t offset = 0;
	int rc = 0;

	for (unsigned int i = 0; i < s->ram_count && !rc; i++) {
		const struct ram_extent *x = &s->ram[i];
		const gpa_t from = MAX(gpa, x->base), to = MIN(gpa + size, x->base + x->size);
		const struct dump_piece p = { gva + (from - gpa), from, to - from,
					      offset + (from - x->base) };

		if (from < to)
			rc = add(m, &p, e);
		offset += x->size;
	}
	return rc;
}

/* One table of @level (3: PML4 ... 0: page table) at @gpa, for addresses from @gva on. */
static int walk_table(struct dump_map *m, struct gpa_space *s, gpa_t gpa, unsigned int level,
		      uint64_t gva, struct err *e)
{
	const unsigned int shift = GUEST_PAGE_SHIFT + 9 * level;
	const uint64_t *table = gpa_to_hva(s, gpa, GUEST_PAGE_SIZE);
	int rc = 0;

	if (!table)
		return 0;
	if (!m->tables--)
		return err_set(e, E2BIG, "the guest's page tables are too many: dump it without paging");
	for (uint64_t i = 0; i < ENTRIES && !rc; i++) {
		const uint64_t entry = __atomic_load_n(&table[i], __ATOMIC_RELAXED);
		const bool leaf = !level || (level < 3 && entry & ENTRY_PS);
		const uint64_t size = 1ULL << shift, to = entry & ENTRY_ADDRESS;
		uint64_t at = gva + (i << shift);

		if (!(entry & ENTRY_P))
			continue;
		if (level == 3 && i >= ENTRIES / 2)
			at |= 0xffffULL << 48;
		if (leaf)
			rc = add_mapping(m, s, at, to & ~(size - 1), size, e);
		else
			rc = walk_table(m, s, to, level - 1, at, e);
	}
	return rc;
}

static int map_physical(struct dump_map *m, const struct gpa_space *s, struct err *e)
{
	int rc = 0;

	for (unsigned int i = 0; i < s->ram_count && !rc; i++)
		rc = add_mapping(m, s, s->ram[i].base, s->ram[i].base, s->ram[i].size, e);
	return rc;
}

int dump_map_make(struct dump_map *m, struct gpa_space *s, const struct vcpu *v, struct err *e)
{
	int rc;

	*m = (struct dump_map){ .tables = TABLES_MAX };
	if (!v)
		rc = map_physical(m, s, e);
	else if (!in_long_mode(v))
		rc = err_set(e, ENOTSUP, "the guest's first processor is not in 64-bit mode: dump its "
			     "memory without paging");
	else
		rc = walk_table(m, s, v->cr3 & ENTRY_ADDRESS, 3, 0, e);
	if (rc)
		dump_map_free(m);
	return rc;
}

void dump_map_move(struct dump_map *m, uint64_t offset)
{
	for (unsigned int i = 0; i < m->count; i++)
		m->piece[i].offset += offset;
}

void dump_map_free(struct dump_map *m)
{
	free(m->piece);
	*m = (struct dump_map){ 0 };
}
