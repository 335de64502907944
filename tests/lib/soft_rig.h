/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the software engine: one vCPU in 64-bit supervisor mode, RAM mapped one to
 * one, an IDT whose handlers are HLT.  A test puts code somewhere, runs it to its HLT and
 * looks at the registers.  Vector n's handler is at RIG_HANDLERS + 16 * n, so a run that
 * ended by an exception shows it in rip.
 */
#ifndef VIREO_TESTS_SOFT_RIG_H
#define VIREO_TESTS_SOFT_RIG_H

#include "cpu/cpuid.h"
#include "cpu/mmu.h"
#include "engine/soft/trap.h"
#include "processor.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RIG_RAM		(4ULL << 20)
#define RIG_TABLES	0x1000	/* page tables: PML4, PDPT, PD, PT for the first 2 MiB */
#define RIG_GDT		0x8000
#define RIG_IDT		0x9000
#define RIG_HANDLERS	0xb000
#define RIG_STACK	0x10000	/* grows down from here */
#define RIG_CODE	0x20000
#define RIG_DATA	0x40000

struct rig {
	struct gpa_space space;
	struct cpu_model model;
	struct clock clock;
	struct log log;
	struct engine *engine;
	struct vcpu *v;
	uint8_t *ram;
};

static inline uint64_t *rig_pte(struct rig *r, gva_t gva)
{
	return (uint64_t *)(r->ram + RIG_TABLES + 0x3000) + (gva >> 12 & 511);
}

static inline void rig_tables(struct rig *r)
{
	uint64_t *t = (uint64_t *)(r->ram + RIG_TABLES), *idt = (uint64_t *)(r->ram + RIG_IDT);
	uint64_t *gdt = (uint64_t *)(r->ram + RIG_GDT);

	t[0] = (RIG_TABLES + 0x1000) | PTE_P | PTE_W | PTE_U;
	t[512] = (RIG_TABLES + 0x2000) | PTE_P | PTE_W | PTE_U;
	t[1024] = (RIG_TABLES + 0x3000) | PTE_P | PTE_W | PTE_U;
	for (unsigned int i = 0; i < 512; i++)
		t[1536 + i] = i * GUEST_PAGE_SIZE | PTE_P | PTE_W;
	gdt[1] = 0x00209b0000000000ULL;		/* 64-bit code */
	gdt[2] = 0x00cf93000000ffffULL;		/* data */
	for (unsigned int n = 0; n < 32; n++) {
		uint64_t h = RIG_HANDLERS + 16 * n;

		idt[2 * n] = (h & 0xffff) | 8 << 16 | 0x8e00ULL << 32 | (h >> 16 << 48);
		idt[2 * n + 1] = h >> 32;
		r->ram[h] = 0xf4;
	}
}

static inline void rig_state(struct rig *r)
{
	struct vcpu *v = r->v;

	for (unsigned int s = 0; s < 6; s++)
		v->seg[s] = (struct segment){ .sel = 16, .attr = 0xc093, .limit = 0xffffffff };
	v->seg[SEG_CS] = (struct segment){ .sel = 8, .attr = 0x209b, .limit = 0xffffffff };
	v->gdtr = (struct table_reg){ .base = RIG_GDT, .limit = 23 };
	v->idtr = (struct table_reg){ .base = RIG_IDT, .limit = 32 * 16 - 1 };
	v->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_NE | CR0_MP;
	v->cr3 = RIG_TABLES;
	v->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	v->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	v->xcr0 = r->model.xcr0_max;
	v->rflags = RFLAGS_FIXED;
	v->gpr[REG_RSP] = RIG_STACK;
	vcpu_update_mode(v);
	tlb_switch_space(v, false);
}

static inline struct rig *rig_create_config(const char *model, const struct engine_config *config)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct err e;

	r->v = vcpu_alloc();
	if (!r->v)
		abort();
	log_init(&r->log, LOG_ERROR, stderr);
	clock_init(&r->clock, true);
	if (gpa_space_init(&r->space, &e) || gpa_space_add_ram(&r->space, 0, RIG_RAM, &e) ||
	    cpu_model_init(&r->model, model, &e))
		abort();
	r->ram = gpa_to_hva(&r->space, 0, RIG_RAM);
	processor_wire(r->v, &r->space, &r->model, &r->clock, &r->log);
	r->v->intc_ops = &no_intc;
	if (vcpu_init(r->v, &e) || engine_soft.create(&r->engine, &r->space, config, &r->log, &e) ||
	    engine_soft.vcpu_add(r->engine, r->v, &e))
		abort();
	rig_tables(r);
	rig_state(r);
	return r;
}

static inline struct rig *rig_create(const char *model)
{
	return rig_create_config(model, &(struct engine_config){ 0 });
}

static inline void rig_destroy(struct rig *r)
{
	processor_destroy(r->v, &engine_soft, r->engine);
	free(r);
}

static inline void rig_code(struct rig *r, gpa_t at, const void *code, size_t len)
{
	gpa_write(&r->space, at, code, len);
}

/* Bytes as code; PUT(rig, gpa, bytes) */
#define CODE(...)	((const uint8_t[]){ __VA_ARGS__ })
#define PUT(r, at, ...)	rig_code(r, at, CODE(__VA_ARGS__), sizeof(CODE(__VA_ARGS__)))
#define LE32(x)		(uint8_t)(x), (uint8_t)((x) >> 8), (uint8_t)((x) >> 16), (uint8_t)((x) >> 24)

/* Runs from @rip to HLT; the vector of the exception that ended it, -1: none did. */
static inline int rig_run(struct rig *r, gva_t rip)
{
	struct vcpu *v = r->v;

	/* cmocka puts handlers of its own before ours at the start of each test. */
	if (trap_init(NULL))
		return -3;
	v->rip = rip;
	v->halted = false;
	if (engine_soft.vcpu_run(r->engine, v) != VCPU_EXIT_HALT)
		return -2;
	if (v->rip - RIG_HANDLERS < 32 * 16)
		return (v->rip - RIG_HANDLERS) / 16;
	return -1;
}

static inline void *rig_stop_soon(void *arg)
{
	usleep(20000);
	vcpu_attention(arg, ATTN_STOP);
	return NULL;
}

/* Runs from @rip what does not end, until another thread wants attention; why it ended then. */
static inline int rig_run_endless(struct rig *r, gva_t rip)
{
	pthread_t thread;
	int why;

	if (trap_init(NULL) || pthread_create(&thread, NULL, rig_stop_soon, r->v))
		return -3;
	r->v->rip = rip;
	alarm(20);
	why = engine_soft.vcpu_run(r->engine, r->v);
	alarm(0);
	pthread_join(thread, NULL);
	return why;
}

#endif
