// SPDX-License-Identifier: Apache-2.0
/* Which pages of the guest's are mapped in a cell; see cell_map.h. */
#include "cpu/cell_map.h"

#include "cpu/cpuid.h"
#include "cpu/mmu.h"
#include "cpu/tlb_priv.h"

#include <string.h>
#include <sys/mman.h>

#define CLUSTER		16U		/* pages that are mapped together */
#define REGIONS_MAX	4096U
#define CHANGES_MAX	50000U		/* the host allows some 65,000 mappings; each change may make two */
#define CHANGE		2U
#define COPIES_HELD	256U	/* so often they are compared, then who runs one has it shown again */
#define GIVE_BACK	16U		/* the tables' memory, when all was taken away so many times */

bool cell_map_init(struct cell_map *m, struct vcpu *v)
{
	m->cell = cell_create(v);
	m->host_xcr0 = host_xcr0();
	if (m->cell) {
		m->mapped = tlb_reserve(BIT(REGION_BITS) * sizeof(*m->mapped), PROT_READ | PROT_WRITE);
		m->code = tlb_reserve(BIT(REGION_BITS) * sizeof(*m->code), PROT_READ | PROT_WRITE);
		m->used = tlb_reserve(BIT(REGION_BITS), PROT_READ | PROT_WRITE);
		m->copy = tlb_reserve(CELL_COPIES * sizeof(*m->copy), PROT_READ | PROT_WRITE);
		m->regions = tlb_reserve(REGIONS_MAX * sizeof(*m->regions), PROT_READ | PROT_WRITE);
	}
	if (m->cell && m->mapped && m->code && m->used && m->regions && m->copy)
		return true;
	cell_map_destroy(m);
	return false;
}

void cell_map_destroy(struct cell_map *m)
{
	cell_destroy(m->cell);
	tlb_release(m->mapped, BIT(REGION_BITS) * sizeof(*m->mapped));
	tlb_release(m->code, BIT(REGION_BITS) * sizeof(*m->code));
	tlb_release(m->used, BIT(REGION_BITS));
	tlb_release(m->copy, CELL_COPIES * sizeof(*m->copy));
	tlb_release(m->regions, REGIONS_MAX * sizeof(*m->regions));
	*m = (struct cell_map){ 0 };
}

/* --- taking away --- */

static void change(struct cell_map *m)
{
	m->changes += CHANGE;
}

/* Programs come and go, each at addresses of its own: what was behind the last ones' goes. */
static void give_back(struct cell_map *m)
{
	madvise(m->mapped, BIT(REGION_BITS) * sizeof(*m->mapped), MADV_DONTNEED);
	madvise(m->code, BIT(REGION_BITS) * sizeof(*m->code), MADV_DONTNEED);
	madvise(m->used, BIT(REGION_BITS), MADV_DONTNEED);
}

void cell_map_drop_all(struct cell_map *m)
{
	if (!m->region_count)
		return;
	cell_unmap_all(m->cell);
	for (unsigned int i = 0; i < m->region_count; i++) {
		m->used[m->regions[i]] = 0;
		zero_entries(m->mapped[m->regions[i]], ARRAY_SIZE(m->mapped[0]));
		zero_entries(m->code[m->regions[i]], ARRAY_SIZE(m->code[0]));
	}
	m->region_count = m->changes = 0;
	if (++m->emptied % GIVE_BACK == 0)
		give_back(m);
	for (unsigned int i = 0; m->copies_shown && i < CELL_COPIES; i++)
		m->copy[i].shown = false;
	m->copies_shown = false;
}

static bool any_mapped(const struct cell_map *m, uint64_t region)
{
	uint64_t any = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(m->mapped[region]); i++)
		any |= m->mapped[region][i];
	return any;
}

/* It stays listed: other pages of it come again soon. */
void cell_map_drop_region(struct cell_map *m, uint64_t region)
{
	if (!any_mapped(m, region))
		return;
	cell_unmap(m->cell, region * REGION_PAGES << GUEST_PAGE_SHIFT, REGION_PAGES * GUEST_PAGE_SIZE);
	change(m);
	zero_entries(m->mapped[region], ARRAY_SIZE(m->mapped[region]));
	zero_entries(m->code[region], ARRAY_SIZE(m->code[region]));
}

static uint64_t *word_of(uint64_t (*map)[8], uint64_t index)
{
	return &map[tlb_region(index)][index % REGION_PAGES / 64];
}

static bool has(uint64_t (*map)[8], uint64_t index)
{
	return *word_of(map, index) >> index % 64 & 1;
}

void cell_map_drop_page(struct cell_map *m, uint64_t index)
{
	if (!has(m->mapped, index))
		return;
	cell_unmap(m->cell, index << GUEST_PAGE_SHIFT, GUEST_PAGE_SIZE);
	change(m);
	*word_of(m->mapped, index) &= ~BIT(index % 64);
	*word_of(m->code, index) &= ~BIT(index % 64);
}

static void drop_copy(struct cell_map *m, struct cell_copy *c)
{
	if (c->shown)
		cell_map_drop_page(m, c->index);
	c->shown = false;
	c->hva = NULL;
}

/* --- whose it is --- */

void cell_map_take(struct vcpu *v, struct cell_map *m)
{
	cell_map_drop_all(m);
	if (!m->owner)
		return;
	m->owner->rec.cell = NULL;
	m->owner = NULL;
	tlb_select_view(v);
}

void cell_map_give(struct vcpu *v, struct cell_map *m)
{
	cell_map_take(v, m);
	m->owner = v->tlb.current;
	m->owner->rec.cell = m;
	tlb_select_view(v);
}

/* --- filling --- */

/* One page as it may be mapped: hva NULL: not at all. */
struct shown {
	const uint8_t *hva;
	int prot;
	const uint8_t *before;	/* the page before it, where that counts, or NULL */
	bool patched;
};

static void note(struct cell_map *m, uint64_t index, bool code)
{
	uint64_t bit = BIT(index % 64);

	*word_of(m->mapped, index) |= bit;
	if (code)
		*word_of(m->code, index) |= bit;
	else
		*word_of(m->code, index) &= ~bit;
}

/* The copy of the page at @hva, if it still is what it was. */
static struct cell_copy *find_copy(struct cell_map *m, const uint8_t *hva)
{
	for (unsigned int i = 0; i < CELL_COPIES; i++)
		if (m->copy[i].hva == hva && !memcmp(hva, m->copy[i].page, GUEST_PAGE_SIZE))
			return &m->copy[i];
	return NULL;
}

/* What kind of code there is at @s; if PATCHED, it has a copy. */
static enum cell_code look_at_code(struct cell_map *m, const struct shown *s, bool same_xcr0)
{
	struct cell_copy *c = find_copy(m, s->hva);
	uint8_t scratch[GUEST_PAGE_SIZE];
	enum cell_code code;

	if (c)
		return CELL_CODE_PATCHED;
	code = cell_code_look(s->hva, s->before, same_xcr0, scratch);
	if (code != CELL_CODE_PATCHED)
		return code;
	c = &m->copy[m->copy_next++ % CELL_COPIES];
	drop_copy(m, c);
	c->hva = s->hva;
	__builtin_memcpy(c->page, s->hva, GUEST_PAGE_SIZE);
	return cell_code_look(c->page, s->before, same_xcr0, cell_copy(m->cell, c - m->copy));
}

static void show_copy(struct cell_map *m, uint64_t index, const uint8_t *hva)
{
	struct cell_copy *c = find_copy(m, hva);

	if (!c)
		return;		/* changed this moment: it is looked at again */
	if (c->shown && c->index != index)
		cell_map_drop_page(m, c->index);
	c->shown = m->copies_shown = true;
	c->index = index;
	m->mapped_now++;
	cell_map_copy(m->cell, index << GUEST_PAGE_SHIFT, c - m->copy, PROT_READ | PROT_EXEC);
	change(m);
	note(m, index, true);
}

/* Looking at them each time is dear, and most programs need theirs but when they begin. */
static void hide_copies(struct cell_map *m)
{
	for (unsigned int i = 0; i < CELL_COPIES; i++) {
		if (m->copy[i].shown)
			cell_map_drop_page(m, m->copy[i].index);
		m->copy[i].shown = false;
	}
	m->copies_shown = false;
	m->copies_checked = 0;
}

void cell_map_check_copies(struct cell_map *m)
{
	if (!m->copies_shown)
		return;
	for (unsigned int i = 0; i < CELL_COPIES; i++)
		if (m->copy[i].shown && memcmp(m->copy[i].hva, m->copy[i].page, GUEST_PAGE_SIZE))
			drop_copy(m, &m->copy[i]);
	if (++m->copies_checked == COPIES_HELD)
		hide_copies(m);
}

static const uint8_t *entered(const struct tlb_view *view, gva_t gva, enum tlb_access access)
{
	return tlb_lookup(view, gva, 1, access);
}

static struct shown look(struct cell_map *m, struct vcpu *v, gva_t gva, bool fetch)
{
	const struct tlb_view *view = &v->tlb.current->view[VIEW_USER];
	struct shown s = { .hva = entered(view, gva, TLB_READ), .prot = PROT_READ };
	enum cell_code code;
	gpa_t gpa;
	void *hva;

	if (!s.hva && mem_fill(v, gva, 1, ACC_READ, &hva) == MEM_OK)
		s.hva = entered(view, gva, TLB_READ);
	if (s.hva && fetch && gva_to_gpa(v, gva, ACC_FETCH, &gpa) == MEM_OK) {
		s.before = mem_fill(v, gva - GUEST_PAGE_SIZE, 1, ACC_READ, &hva) == MEM_OK ? hva : NULL;
		code = look_at_code(m, &s, v->xcr0 == m->host_xcr0);
		s.prot |= code == CELL_CODE_UNFIT ? 0 : PROT_EXEC;
		s.patched = code == CELL_CODE_PATCHED;
	} else if (s.hva && !fetch && entered(view, gva, TLB_WRITE)) {
		s.prot |= PROT_WRITE;
	}
	v->fault = (struct fault){ 0 };		/* nobody is told */
	return s;
}

/* Room for what is going to be mapped in @region. */
static void note_region(struct cell_map *m, uint64_t region)
{
	if (m->changes + 2 * CLUSTER * CHANGE >= CHANGES_MAX ||
	    (!m->used[region] && m->region_count == REGIONS_MAX))
		cell_map_drop_all(m);
	if (!m->used[region]) {
		m->used[region] = 1;
		m->regions[m->region_count++] = region;
	}
}

/* Pages from @first on that lie side by side and are the same otherwise: one mapping. */
static unsigned int map_run(struct cell_map *m, uint64_t first, const struct shown *s, unsigned int count)
{
	unsigned int n = 1;

	if (s[0].patched) {
		show_copy(m, first, s[0].hva);
		return 1;
	}
	while (n < count && !s[n].patched && s[n].hva == s[0].hva + n * GUEST_PAGE_SIZE && s[n].prot == s[0].prot)
		n++;
	if (cell_map(m->cell, first << GUEST_PAGE_SHIFT, s[0].hva, n * GUEST_PAGE_SIZE, s[0].prot)) {
		change(m);
		m->mapped_now++;
		for (unsigned int i = 0; i < n; i++)
			note(m, first + i, s[0].prot & PROT_EXEC);
	}
	return n;
}

/* What is taken away by region must not take the gate along. */
_Static_assert(CELL_GATE % (REGION_PAGES * GUEST_PAGE_SIZE) == 0 &&
	       CELL_GATE_SIZE <= REGION_PAGES * GUEST_PAGE_SIZE, "the gate is in a region of its own");

static bool in_reach(gva_t gva)
{
	return gva < CELL_TOP - CLUSTER * GUEST_PAGE_SIZE &&
	       tlb_region(tlb_index(gva)) != tlb_region(tlb_index(CELL_GATE));
}

bool cell_map_fill(struct cell_map *m, struct vcpu *v, gva_t gva, bool write, bool fetch)
{
	uint64_t index = tlb_index(gva), first = ALIGN_DOWN(index, (uint64_t)CLUSTER);
	struct shown s[CLUSTER];

	if (!in_reach(gva))
		return false;
	m->flips += has(m->mapped, index) && has(m->code, index) != fetch && (fetch || write);
	note_region(m, tlb_region(index));
	s[index - first] = look(m, v, gva & ~GUEST_PAGE_MASK, fetch);
	if (!s[index - first].hva || (write && !(s[index - first].prot & PROT_WRITE)) ||
	    (fetch && !(s[index - first].prot & PROT_EXEC)))
		return false;
	for (unsigned int i = 0; i < CLUSTER; i++) {
		if (first + i == index)
			continue;
		s[i].hva = NULL;
		if (!has(m->mapped, first + i))
			s[i] = look(m, v, (first + i) << GUEST_PAGE_SHIFT, fetch);
		if (fetch && (s[i].patched || !(s[i].prot & PROT_EXEC)))
			s[i].hva = NULL;	/* a copy is dear: it is shown when it runs */
	}
	for (unsigned int i = 0; i < CLUSTER;)
		i += s[i].hva ? map_run(m, first + i, s + i, CLUSTER - i) : 1;
	return has(m->mapped, index);
}
