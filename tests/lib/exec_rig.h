/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of single instructions: bytes are decoded, their handler is selected and
 * called once, on a vCPU with a few mapped pages.  No engine loop.
 *
 *	RW, RW + 1000h	two writable pages
 *	RW + 2000h	not present
 *	RO		read-only
 *	STACK		writable; rSP starts in its middle
 */
#ifndef VIREO_TESTS_EXEC_RIG_H
#define VIREO_TESTS_EXEC_RIG_H

#include "cpu/except.h"
#include "engine/soft/exec.h"
#include "guest_mem.h"

#define RW		0x10000ULL
#define ABSENT		(RW + 0x2000)
#define RO		0x14000ULL
#define STACK		0x18000ULL
#define STACK_TOP	(STACK + 0x800)
#define RIP		0x400000ULL

#define CODE(...) (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })

struct rig {
	struct guest *g;
	struct vcpu *v;
	struct insn insn;	/* the last one run */
};

static inline void *rig_mem(struct rig *r, gva_t gva)
{
	return gpa_to_hva(&r->g->space, gva, 1);	/* mapped one to one */
}

static inline uint64_t rig_get64(struct rig *r, gva_t gva)
{
	uint64_t value;

	memcpy(&value, rig_mem(r, gva), 8);
	return value;
}

static inline void rig_put64(struct rig *r, gva_t gva, uint64_t value)
{
	memcpy(rig_mem(r, gva), &value, 8);
}

static inline void rig_map32(struct rig *r, gva_t gva, uint32_t flags)
{
	*pt_entry32(r->g, gva, 12) = gva | PTE_P | PTE_U | flags;
}

static inline void rig_reset(struct rig *r, unsigned int mode)
{
	struct guest *g = r->g;
	const gva_t pages[] = { RW, RW + 0x1000, STACK };

	g->next_table = PT_POOL;
	if (mode == CODE_64)
		guest_long_mode(g);
	else
		guest_32bit_mode(g);
	for (unsigned int i = 0; i < ARRAY_SIZE(pages); i++) {
		if (mode == CODE_64)
			pt_map(g, pages[i], pages[i], 12, PTE_P | PTE_W | PTE_U);
		else
			rig_map32(r, pages[i], PTE_W);
		memset(rig_mem(r, pages[i]), 0, GUEST_PAGE_SIZE);
	}
	if (mode == CODE_64)
		pt_map(g, RO, RO, 12, PTE_P | PTE_U);
	else
		rig_map32(r, RO, 0);
	guest_set_cpl(g, 3);
	if (mode == CODE_16) {
		r->v->seg[SEG_CS].attr &= ~SEG_DB;
		r->v->seg[SEG_SS].attr &= ~SEG_DB;
		r->v->seg[SEG_SS].base = STACK;
		r->v->seg[SEG_CS].limit = r->v->seg[SEG_SS].limit = 0xffff;
	}
	vcpu_update_mode(r->v);
	memset(r->v->gpr, 0, sizeof(r->v->gpr));
	r->v->gpr[REG_RSP] = mode == CODE_16 ? 0x800 : STACK_TOP;
	r->v->rip = mode == CODE_16 ? 0x1000 : RIP;
	r->v->rflags = RFLAGS_FIXED;
}

static inline int rig_setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	r->g = guest_create("vireo-v1");
	r->v = r->g->v;
	*state = r;
	return 0;
}

static inline int rig_teardown(void **state)
{
	struct rig *r = *state;

	guest_destroy(r->g);
	free(r);
	return 0;
}

/* Runs the instruction at rip; the decoder's failure counts as #UD. */
static inline int rig_run(struct rig *r, const uint8_t *bytes, unsigned int len)
{
	if (insn_decode(&r->insn, bytes, len, r->v->code_size) != DECODE_OK)
		return raise_ud(r->v);
	return exec_select(&r->insn)(r->v, &r->insn);
}

/* What must be untouched after a fault. */
struct rig_snapshot {
	uint64_t gpr[16], rip, rflags;
	uint8_t rw[2 * GUEST_PAGE_SIZE];
};

static inline struct rig_snapshot *rig_snapshot(struct rig *r)
{
	struct rig_snapshot *s = malloc(sizeof(*s));

	memcpy(s->gpr, r->v->gpr, sizeof(s->gpr));
	s->rip = r->v->rip;
	s->rflags = r->v->rflags;
	memcpy(s->rw, rig_mem(r, RW), sizeof(s->rw));
	return s;
}

/* Frees @s. */
static inline bool rig_unchanged(struct rig *r, struct rig_snapshot *s)
{
	bool same = !memcmp(s->gpr, r->v->gpr, sizeof(s->gpr)) && s->rip == r->v->rip &&
		    s->rflags == r->v->rflags && !memcmp(s->rw, rig_mem(r, RW), sizeof(s->rw));

	free(s);
	return same;
}

#endif
