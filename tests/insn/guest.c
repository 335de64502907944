// SPDX-License-Identifier: Apache-2.0
/*
 * Runs cases on an engine, through nothing but engine.h and struct vcpu: a vCPU in user
 * mode under a tiny supervisor whose every exception handler is a HLT.  Tables:
 *
 *   guest-physical 0x1000	page tables
 *   0x8000			GDT and LDT with the entries that Linux and host.c have
 *   0x9000			IDT, gates to HANDLERS + vector
 *   0xb000			256 HLT instructions
 *   0xc000			TSS
 *   0xd000			exception stack
 *   0x10000			the arena
 *
 * The first megabyte is mapped for the supervisor at SUPER; the arena at ARENA_VA.
 */
#include "case.h"
#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "processor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SUPER		0xffff800000000000ULL
#define GPA_TABLES	0x1000
#define GPA_GDT		0x8000
#define GPA_LDT		0x8800
#define GPA_IDT		0x9000
#define GPA_HANDLERS	0xb000
#define GPA_TSS		0xc000
#define GPA_STACK_TOP	0xe000
#define GPA_ARENA	0x10000
#define GDT_LIMIT	127
#define KERNEL_CS	0x10
#define RESERVED_LEAST	(1UL << 30)	/* bytes of a mapping that is not for the cases */
#define SANITIZERS_END	(1UL << 45)	/* below: what the address sanitizer knows of memory */
#define HAS_ERROR	0x227d00U	/* vectors 8, 10-14, 17, 21 */

struct guest {
	struct gpa_space space;
	struct cpu_model model;
	struct clock clock;
	struct log log;
	const struct engine_ops *ops;
	struct engine *engine;
	struct vcpu *v;
	struct segment cs64, cs32, data;
	uint8_t *low;			/* guest-physical 0 */
	unsigned int runs;		/* of each case: a translator wants code to be hot */
};

static void put64(struct guest *g, gpa_t at, uint64_t v)
{
	memcpy(g->low + at, &v, 8);
}

static void map(struct guest *g, gva_t gva, gpa_t gpa, uint64_t flags)
{
	gpa_t table = GPA_TABLES, *next = (gpa_t *)(g->low + 0x800);
	unsigned int shift;
	uint64_t *e;

	for (shift = 39; shift > 12; shift -= 9) {
		e = (uint64_t *)(g->low + table) + (gva >> shift & 511);
		if (!*e) {
			*next += 0x1000;
			*e = (GPA_TABLES + *next) | PTE_P | PTE_W | PTE_U | PTE_A;
		}
		table = *e & ~0xfffULL;
	}
	e = (uint64_t *)(g->low + table) + (gva >> 12 & 511);
	*e = gpa | flags | PTE_P | PTE_A | PTE_D;
}

static void make_page_tables(struct guest *g)
{
	unsigned int i;

	for (i = 0; i < ARENA_PAGES; i++) {
		uint64_t flags = i < 2 ? PTE_W | PTE_U : i == RO_PAGE ? PTE_U | PTE_NX :
				 PTE_W | PTE_U | PTE_NX;

		if (ARENA_MAPPED >> i & 1)
			map(g, PAGE_VA(i), GPA_ARENA + i * GUEST_PAGE_SIZE, flags);
	}
	for (i = 8; i < 16; i++)
		map(g, SUPER + i * GUEST_PAGE_SIZE, i * GUEST_PAGE_SIZE, PTE_W);
}

static uint64_t ldt_descriptor(const struct ldt_entry *e)
{
	uint64_t type = 0x71 | (e->code ? 8 | 2 * !e->no_write :
				4 * e->down | 2 * !e->no_write);
	uint64_t attr = type | 0x1000 | (e->pages ? 0x8000 : 0) | (e->big ? 0x4000 : 0) |
			(e->absent ? 0 : 0x80);

	return (e->limit & 0xffff) | (uint64_t)(e->base & 0xffffff) << 16 | attr << 40 |
		(uint64_t)(e->limit >> 16 & 15) << 48 | (uint64_t)(e->base >> 24) << 56;
}

static void make_tables(struct guest *g)
{
	static const uint64_t gdt[] = {
		[1] = 0x00cf9b000000ffff, [2] = 0x00af9b000000ffff, [3] = 0x00cf93000000ffff,
		[4] = 0x00cffb000000ffff, [5] = 0x00cff3000000ffff, [6] = 0x00affb000000ffff,
		[8] = 0x00008b0000000067, [10] = 0x0000820000000fff,
		[15] = 0x0040f50000000000,	/* the CPU's number as a limit */
	};
	unsigned int i;

	memcpy(g->low + GPA_GDT, gdt, sizeof(gdt));
	for (i = 0; i < LDT_COUNT; i++)
		put64(g, GPA_LDT + 8 * i, ldt_descriptor(&ldt_entries[i]));
	for (i = 0; i < 256; i++) {
		uint64_t at = SUPER + GPA_HANDLERS + i, dpl = i == 3 || i == 4 ? 3 : 0;

		put64(g, GPA_IDT + 16 * i, (at & 0xffff) | KERNEL_CS << 16 |
		      (0x8e00 | dpl << 13) << 32 | (at >> 16 & 0xffff) << 48);
		put64(g, GPA_IDT + 16 * i + 8, at >> 32);
		g->low[GPA_HANDLERS + i] = 0xf4;
	}
	put64(g, GPA_TSS + 4, SUPER + GPA_STACK_TOP);
	g->low[GPA_TSS + 0x66] = 0x68;	/* no I/O bitmap */
}

static struct segment segment_of(uint16_t sel, uint64_t d)
{
	struct segment s = { .sel = sel };
	uint32_t limit = (d & 0xffff) | (d >> 48 & 15) << 16;

	s.attr = (d >> 40 & 0xf0ff);
	s.base = (d >> 16 & 0xffffff) | d >> 56 << 24;
	s.limit = s.attr & SEG_G ? limit << 12 | 0xfff : limit;
	return s;
}

static struct segment user_segment(struct guest *g, uint16_t sel)
{
	uint64_t d;

	if (!(sel & ~3))
		return (struct segment){ .sel = sel, .attr = SEG_UNUSABLE };
	memcpy(&d, g->low + (sel & 4 ? GPA_LDT : GPA_GDT) + (sel & ~7), 8);
	return segment_of(sel, d);
}

static void set_control_state(struct vcpu *v)
{
	v->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	v->cr3 = GPA_TABLES;
	v->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	if (model_has(v->model, FEAT_XSAVE))	/* "host", then */
		v->cr4 |= CR4_FSGSBASE | CR4_OSXSAVE | CR4_UMIP | CR4_SMEP;
	v->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	v->xcr0 = model_has(v->model, FEAT_XSAVE) ? xstate_host_features() : XCR0_X87;
	v->gdtr = (struct table_reg){ SUPER + GPA_GDT, GDT_LIMIT };
	v->idtr = (struct table_reg){ SUPER + GPA_IDT, 4095 };
	v->ldtr = (struct segment){ .sel = 0x50, .base = SUPER + GPA_LDT,
				    .limit = 8 * LDT_COUNT - 1, .attr = SEG_P | 2 };
	v->tr = (struct segment){ .sel = 0x40, .base = SUPER + GPA_TSS, .limit = 0x67,
				  .attr = SEG_P | 11 };
}

static int make_vcpu(struct guest *g, struct err *e)
{
	struct vcpu *v = vcpu_alloc();

	if (!v)
		return err_set(e, ENOMEM, "no memory for a vCPU");
	g->v = v;
	processor_wire(v, &g->space, &g->model, &g->clock, &g->log);
	v->intc_ops = &no_intc;
	v->tsc_hz = NS_PER_SEC;
	return vcpu_init(v, e);
}

/*
 * The engine reserves terabytes of addresses for its tables.  host.c's children shall not have
 * them: a wild pointer of a case would find memory there every few thousand cases.
 */
static void keep_from_children(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from >= SANITIZERS_END &&
		    to - from >= RESERVED_LEAST)
			madvise((void *)from, to - from, MADV_DONTFORK);
	if (f)
		fclose(f);
}

int guest_open(struct guest **out, const struct engine_ops *ops,
	       const struct engine_config *config, const char *model, unsigned int runs)
{
	struct guest *g = calloc(1, sizeof(*g));
	struct err e = { 0 };
	int r;

	if (!g)
		return -ENOMEM;
	*out = g;
	g->ops = ops;
	g->runs = MAX(runs, 1U);
	clock_init(&g->clock, true);
	log_init(&g->log, LOG_WARN, stderr);
	r = ops->probe ? ops->probe(&e) : 0;
	r = r ? r : gpa_space_init(&g->space, &e);
	r = r ? r : gpa_space_add_ram(&g->space, 0, 1 << 20, &e);
	r = r ? r : cpu_model_init(&g->model, model, &e);
	r = r ? r : ops->create(&g->engine, &g->space, config, &g->log, &e);
	r = r ? r : make_vcpu(g, &e);
	r = r ? r : ops->vcpu_add(g->engine, g->v, &e);
	if (r) {
		fprintf(stderr, "%s\n", e.text);
		return r;
	}
	g->low = gpa_to_hva(&g->space, 0, 1 << 20);
	make_page_tables(g);
	make_tables(g);
	memset(g->low + GPA_ARENA, 0xcc, 2 * GUEST_PAGE_SIZE);
	set_control_state(g->v);
	tlb_switch_space(g->v, false);
	tlb_flush_all(g->v);
	keep_from_children();
	return 0;
}

/* Writes what differs in the code pages: the last case's code, and what it stored there. */
static void load_code(struct guest *g, const struct test_case *c)
{
	const uint8_t *have = g->low + GPA_ARENA;
	unsigned int first = 0, end = 2 * GUEST_PAGE_SIZE;

	while (first < end && have[first] == c->arena[first])
		first++;
	while (end > first && have[end - 1] == c->arena[end - 1])
		end--;
	if (end > first)
		gpa_write(&g->space, GPA_ARENA + first, c->arena + first, end - first);
}

static void load_data(struct guest *g, const struct test_case *c)
{
	unsigned int i;

	for (i = DATA_PAGE; i < ARENA_PAGES; i++) {
		if (ARENA_MAPPED >> i & 1)
			memcpy(g->low + GPA_ARENA + i * GUEST_PAGE_SIZE,
			       c->arena + i * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE);
	}
}

static void load_state(struct guest *g, const struct cpu_image *in)
{
	struct vcpu *v = g->v;
	unsigned int i;

	memcpy(v->gpr, in->gpr, sizeof(v->gpr));
	v->rip = in->rip;
	v->rflags = in->rflags;
	for (i = 0; i < 6; i++)
		v->seg[i] = user_segment(g, in->sel[i]);
	if (!in->sel[SEG_FS])
		v->seg[SEG_FS].base = in->fs_base;
	if (!in->sel[SEG_GS])
		v->seg[SEG_GS].base = in->gs_base;
	v->cr2 = 0;
	v->cr3 = GPA_TABLES;
	v->dr[6] = DR6_FIXED;
	v->halted = false;
	v->attention &= ATTN_ENGINE;	/* the code was changed: see load_code() */
	fpu_put(v);
	memset(v->xsave, 0, sizeof(v->xsave));
	memcpy(v->xsave, in->xsave, XSAVE_MAX);
	vcpu_update_mode(v);
}

static void note_state(struct guest *g, struct cpu_image *out)
{
	const struct vcpu *v = g->v;
	uint64_t frame[6], *f = frame;
	unsigned int i, vector = v->rip - 1 - (SUPER + GPA_HANDLERS);
	bool has_error = vector < 32 && (HAS_ERROR >> vector & 1);
	uint64_t components;

	memcpy(frame, g->low + GPA_STACK_TOP - sizeof(frame), sizeof(frame));
	memcpy(out->gpr, v->gpr, sizeof(out->gpr));
	out->vector = vector;
	out->error = has_error ? f[0] : 0;
	out->cr2 = v->cr2;
	out->rip = f[1];
	out->rflags = f[3];
	out->gpr[REG_RSP] = f[4];
	for (i = 0; i < 6; i++)
		out->sel[i] = v->seg[i].sel;
	out->sel[SEG_CS] = f[2];
	out->sel[SEG_SS] = f[5];
	out->fs_base = v->seg[SEG_FS].base;
	out->gs_base = v->seg[SEG_GS].base;
	memcpy(out->xsave, v->xsave, XSAVE_MAX);
	/* A lesser model than the host has fewer components. */
	memcpy(&components, out->xsave + 512, 8);
	components &= v->fpu_mask;
	memcpy(out->xsave + 512, &components, 8);
}

void guest_run(struct guest *g, const struct test_case *c, struct outcome *o)
{
	struct vcpu *v = g->v;
	enum vcpu_exit why = VCPU_EXIT_ERROR;
	unsigned int i;

	for (i = 0; i < g->runs; i++) {
		load_code(g, c);
		load_data(g, c);
		load_state(g, &c->in);
		why = g->ops->vcpu_run(g->engine, v);
	}
	fpu_put(v);
	o->valid = true;
	if (why != VCPU_EXIT_HALT || v->rip - 1 - (SUPER + GPA_HANDLERS) > 255) {
		o->out.vector = 256 + why;
		o->out.rip = v->rip;
		return;
	}
	note_state(g, &o->out);
	for (i = 0; i < ARENA_PAGES; i++) {
		if (ARENA_MAPPED >> i & 1)
			memcpy(o->arena + i * GUEST_PAGE_SIZE, g->low + GPA_ARENA + i * GUEST_PAGE_SIZE,
			       GUEST_PAGE_SIZE);
	}
}

void guest_close(struct guest *g)
{
	processor_destroy(g->v, g->ops, g->engine);
	free(g);
}
