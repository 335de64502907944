/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of cpu/: a vCPU with RAM and page tables that the test builds, without an
 * engine.  Page table pages are taken from PT_POOL upwards.
 */
#ifndef VIREO_TESTS_GUEST_MEM_H
#define VIREO_TESTS_GUEST_MEM_H

#include "cpu/cpuid.h"
#include "cpu/mmu.h"
#include "processor.h"

#include <stdlib.h>
#include <string.h>

#define GUEST_RAM	(16ULL << 20)
#define PT_POOL		(8ULL << 20)

struct guest {
	struct vcpu *v;
	struct gpa_space space;
	struct cpu_model model;
	struct log log;
	struct clock clock;
	gpa_t next_table;
};

static inline void guest_destroy(struct guest *g)
{
	processor_destroy(g->v, NULL, NULL);
	free(g);
}

/* A vCPU as it is in a VM of @cpus. */
static inline struct guest *guest_create_cpus(const char *model, unsigned int cpus)
{
	struct guest *g = calloc(1, sizeof(*g));

	g->v = processor_alloc();
	log_init(&g->log, LOG_ERROR, NULL);
	clock_init(&g->clock, true);
	if (gpa_space_init(&g->space, NULL) ||
	    gpa_space_add_ram(&g->space, 0, GUEST_RAM, NULL) ||
	    cpu_model_init(&g->model, model, NULL))
		abort();
	g->model.cpus = cpus;
	processor_wire(g->v, &g->space, &g->model, &g->clock, &g->log);
	if (vcpu_init(g->v, NULL))
		abort();
	g->next_table = PT_POOL;
	return g;
}

static inline struct guest *guest_create(const char *model)
{
	return guest_create_cpus(model, 1);
}

static inline gpa_t guest_new_table(struct guest *g)
{
	gpa_t gpa = g->next_table;

	g->next_table += GUEST_PAGE_SIZE;
	memset(gpa_to_hva(&g->space, gpa, GUEST_PAGE_SIZE), 0, GUEST_PAGE_SIZE);
	return gpa;
}

/* The entry of @gva at the level whose entries cover 1 << @shift; makes what is above. */
static inline uint64_t *pt_entry64(struct guest *g, gva_t gva, unsigned int shift)
{
	unsigned int top = g->v->efer & EFER_LMA ? 39 : 30;
	gpa_t table = g->v->cr3 & 0x3fffffffffe0;
	uint64_t *e;

	if (top == 39)
		table &= ~GUEST_PAGE_MASK;
	for (unsigned int s = top;; s -= 9) {
		uint64_t n = gva >> s & (top == 30 && s == 30 ? 3 : 511);

		e = (uint64_t *)gpa_to_hva(&g->space, table + n * 8, 8);
		if (s == shift)
			return e;
		if (!(*e & PTE_P))
			*e = guest_new_table(g) | (s == 30 && top == 30 ? PTE_P :
						   PTE_P | PTE_W | PTE_U);
		table = *e & 0x3ffffffff000;
	}
}

static inline void pt_map(struct guest *g, gva_t gva, gpa_t gpa, unsigned int shift,
			  uint64_t flags)
{
	*pt_entry64(g, gva, shift) = gpa | flags | (shift > 12 ? PTE_PS : 0);
}

/* 32-bit paging. */
static inline uint32_t *pt_entry32(struct guest *g, gva_t gva, unsigned int shift)
{
	uint32_t *e = (uint32_t *)gpa_to_hva(&g->space, (g->v->cr3 & 0xfffff000) +
					     (gva >> 22 & 1023) * 4, 4);

	if (shift == 22)
		return e;
	if (!(*e & PTE_P))
		*e = guest_new_table(g) | PTE_P | PTE_W | PTE_U;
	return (uint32_t *)gpa_to_hva(&g->space, (*e & 0xfffff000) + (gva >> 12 & 1023) * 4, 4);
}

/* Modes: control registers and segments, as a system would leave them. */
static inline void guest_flat(struct guest *g, unsigned int cpl)
{
	struct vcpu *v = g->v;
	bool lma = v->efer & EFER_LMA;

	for (int i = 0; i < 6; i++)
		v->seg[i] = (struct segment){
			.sel = 8 * (i + 1) | cpl, .limit = UINT32_MAX,
			.attr = SEG_P | SEG_S | SEG_W | SEG_A | SEG_G | cpl << SEG_DPL_SHIFT |
				(i == SEG_CS ? SEG_CODE | (lma ? SEG_L : SEG_DB) : SEG_DB),
		};
	vcpu_update_mode(v);
}

static inline void guest_set_cpl(struct guest *g, unsigned int cpl)
{
	guest_flat(g, cpl);
}

static inline void guest_long_mode(struct guest *g)
{
	struct vcpu *v = g->v;

	v->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET;
	v->cr4 = CR4_PAE | CR4_PGE;
	v->efer = EFER_LME | EFER_LMA | EFER_NXE;
	v->cr3 = guest_new_table(g);
	guest_flat(g, 0);
	tlb_switch_space(v, false);
}

static inline void guest_pae_mode(struct guest *g)
{
	struct vcpu *v = g->v;

	v->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET;
	v->cr4 = CR4_PAE;
	v->efer = EFER_NXE;
	v->cr3 = guest_new_table(g) + 0x20;
	guest_flat(g, 0);
	tlb_switch_space(v, false);
}

static inline void guest_32bit_mode(struct guest *g)
{
	struct vcpu *v = g->v;

	v->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET;
	v->cr4 = CR4_PSE;
	v->efer = 0;
	v->cr3 = guest_new_table(g);
	guest_flat(g, 0);
	tlb_switch_space(v, false);
}

#endif
