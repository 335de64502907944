/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the system instructions: a vCPU with descriptor tables, TSSs and stacks
 * at known places, in real mode, flat 32-bit protected mode (no paging) or 64-bit mode
 * (identity-mapped), at a chosen privilege.  There is no engine: tests set v->rip and
 * call what an engine would.
 */
#ifndef VIREO_TESTS_SYS_RIG_H
#define VIREO_TESTS_SYS_RIG_H

#include "guest_mem.h"
#include "unit.h"

#include "cpu/system.h"

#define RIG_GDT		0x1000U
#define RIG_IDT		0x2000U
#define RIG_LDT		0x3000U
#define RIG_TSS		0x4000U		/* the present task's, any size */
#define RIG_TSS2	0x5000U
#define RIG_STACK0	0x10000U	/* SS0:ESP0, RSP0 */
#define RIG_STACK1	0x14000U
#define RIG_IST1	0x18000U
#define RIG_STACK3	0x20000U	/* the stack in use at the start */
#define RIG_RIP		0x30000U
#define RIG_HANDLER	0x40000U

/* Selectors: RPL 0, to be ORed. */
enum {
	SEL_CODE0 = 0x08, SEL_DATA0 = 0x10, SEL_CODE3 = 0x18, SEL_DATA3 = 0x20,
	SEL_TSS = 0x28,			/* and 0x30 in long mode */
	SEL_CODE64 = 0x38, SEL_CODE64_3 = 0x40, SEL_CONFORMING = 0x48,
	SEL_ABSENT = 0x50, SEL_EXEC_ONLY = 0x58, SEL_READ_ONLY = 0x60,
	SEL_LDT = 0x68,			/* and 0x70 */
	SEL_TSS16 = 0x78, SEL_GATE = 0x80, /* and 0x88 */
	SEL_TASK_GATE = 0x90, SEL_TSS2 = 0x98, SEL_CODE1 = 0xa0, SEL_DATA1 = 0xa8,
	SEL_STACK16 = 0xb0, SEL_ABSENT_CODE = 0xb8, SEL_ABSENT_STACK = 0xc0,
	SEL_BAD_LONG = 0xc8, SEL_DOWN = 0xd0, SEL_BEYOND = 0xd8,
};

#define DPL(n)		((n) << SEG_DPL_SHIFT)
#define A_DATA		(SEG_P | SEG_S | SEG_W)
#define A_CODE		(SEG_P | SEG_S | SEG_CODE | SEG_W)
#define A_FLAT		(SEG_G | SEG_DB)

static inline uint64_t rig_desc(uint32_t base, uint32_t limit, uint16_t attr)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)attr << 40 |
	       (uint64_t)(limit & 0xf0000) << 32 | (uint64_t)(base >> 24) << 56;
}

/* @type with P and DPL, as bits 40-47. */
static inline uint64_t rig_gate(uint16_t sel, uint32_t off, uint8_t type, uint8_t extra)
{
	return (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)extra << 32 |
	       (uint64_t)type << 40 | (uint64_t)(off >> 16) << 48;
}

static inline void *rig_ptr(struct guest *g, gpa_t gpa)
{
	return gpa_to_hva(&g->space, gpa, 8);
}

static inline void put64(struct guest *g, gpa_t gpa, uint64_t value)
{
	memcpy(rig_ptr(g, gpa), &value, 8);
}

static inline void put32(struct guest *g, gpa_t gpa, uint32_t value)
{
	memcpy(rig_ptr(g, gpa), &value, 4);
}

static inline void put16(struct guest *g, gpa_t gpa, uint16_t value)
{
	memcpy(rig_ptr(g, gpa), &value, 2);
}

static inline uint64_t get64(struct guest *g, gpa_t gpa)
{
	uint64_t value;

	memcpy(&value, rig_ptr(g, gpa), 8);
	return value;
}

static inline uint32_t get32(struct guest *g, gpa_t gpa)
{
	return get64(g, gpa);
}

static inline uint16_t get16(struct guest *g, gpa_t gpa)
{
	return get64(g, gpa);
}

static inline void rig_gdt_set(struct guest *g, uint16_t sel, uint64_t desc)
{
	put64(g, RIG_GDT + (sel & ~7U), desc);
}

static inline uint64_t rig_gdt_get(struct guest *g, uint16_t sel)
{
	return get64(g, RIG_GDT + (sel & ~7U));
}

static inline void rig_tables(struct guest *g)
{
	static const struct {
		uint16_t sel;
		uint16_t attr;
	} flat[] = {
		{ SEL_CODE0, A_CODE | A_FLAT }, { SEL_DATA0, A_DATA | A_FLAT },
		{ SEL_CODE3, A_CODE | A_FLAT | DPL(3) }, { SEL_DATA3, A_DATA | A_FLAT | DPL(3) },
		{ SEL_CODE64, A_CODE | SEG_L | SEG_G },
		{ SEL_CODE64_3, A_CODE | SEG_L | SEG_G | DPL(3) },
		{ SEL_CONFORMING, A_CODE | A_FLAT | SEG_E },
		{ SEL_ABSENT, (A_DATA | A_FLAT | DPL(3)) & ~SEG_P },
		{ SEL_EXEC_ONLY, (A_CODE | A_FLAT | DPL(3)) & ~SEG_W },
		{ SEL_READ_ONLY, (A_DATA | A_FLAT | DPL(3)) & ~SEG_W },
		{ SEL_CODE1, A_CODE | A_FLAT | DPL(1) }, { SEL_DATA1, A_DATA | A_FLAT | DPL(1) },
		{ SEL_ABSENT_CODE, (A_CODE | A_FLAT) & ~SEG_P },
		{ SEL_ABSENT_STACK, (A_DATA | A_FLAT) & ~SEG_P },
		{ SEL_BAD_LONG, A_CODE | A_FLAT | SEG_L },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(flat); i++)
		rig_gdt_set(g, flat[i].sel, rig_desc(0, 0xfffff, flat[i].attr));
	rig_gdt_set(g, SEL_STACK16, rig_desc(0, 0xffff, A_DATA));
	rig_gdt_set(g, SEL_DOWN, rig_desc(0, 0xfff, A_DATA | SEG_E | SEG_DB));
	rig_gdt_set(g, SEL_LDT, rig_desc(RIG_LDT, 0xff, SEG_P | 2));
	rig_gdt_set(g, SEL_TSS, rig_desc(RIG_TSS, 0x1fff, SEG_P | 9));
	rig_gdt_set(g, SEL_TSS2, rig_desc(RIG_TSS2, 0x67, SEG_P | 9));
	rig_gdt_set(g, SEL_TSS16, rig_desc(RIG_TSS2, 0x2b, SEG_P | 1));
	g->v->gdtr = (struct table_reg){ .base = RIG_GDT, .limit = SEL_BEYOND - 1 };
	g->v->idtr = (struct table_reg){ .base = RIG_IDT, .limit = 0xfff };
}

static inline void rig_segment(struct guest *g, unsigned int seg, uint16_t sel)
{
	uint64_t d = rig_gdt_get(g, sel);
	uint32_t limit = (d & 0xffff) | (d >> 32 & 0xf0000);
	struct segment *s = &g->v->seg[seg];

	s->sel = sel;
	s->attr = (d >> 40 & 0xf0ff) | SEG_A;
	s->limit = s->attr & SEG_G ? limit << 12 | 0xfff : limit;
	s->base = (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000);
}

static inline void rig_start(struct guest *g, uint16_t code, uint16_t data)
{
	struct vcpu *v = g->v;

	rig_segment(g, SEG_CS, code);
	for (unsigned int i = 0; i < 6; i++)
		if (i != SEG_CS)
			rig_segment(g, i, data);
	v->gpr[REG_RSP] = RIG_STACK3;
	v->rip = RIG_RIP;
	v->rflags = RFLAGS_FIXED | RFLAGS_IF;
	vcpu_update_mode(v);
}

/* Flat 32-bit protected mode without paging at @cpl 0 or 3, TR loaded. */
static inline void rig_prot32(struct guest *g, unsigned int cpl)
{
	struct vcpu *v = g->v;

	v->cr0 = CR0_PE | CR0_ET;
	rig_tables(g);
	rig_start(g, SEL_CODE0, SEL_DATA0);
	assert_int_equal(sys_ltr(v, SEL_TSS), EXEC_OK);
	put32(g, RIG_TSS + 4, RIG_STACK0);
	put16(g, RIG_TSS + 8, SEL_DATA0);
	put32(g, RIG_TSS + 12, RIG_STACK1);
	put16(g, RIG_TSS + 16, SEL_DATA1 | 1);
	if (cpl == 3)
		rig_start(g, SEL_CODE3 | 3, SEL_DATA3 | 3);
}

/* 64-bit mode, the first 8 MiB mapped to themselves for all, TR loaded. */
static inline void rig_long(struct guest *g, unsigned int cpl)
{
	struct vcpu *v = g->v;

	guest_long_mode(g);
	for (gpa_t at = 0; at < 0x800000; at += 0x200000)
		pt_map(g, at, at, 21, PTE_P | PTE_W | PTE_U);
	rig_tables(g);
	rig_gdt_set(g, SEL_TSS + 8, 0);
	rig_gdt_set(g, SEL_LDT + 8, 0);
	rig_start(g, SEL_CODE64, SEL_DATA0);
	assert_int_equal(sys_ltr(v, SEL_TSS), EXEC_OK);
	put64(g, RIG_TSS + 4, RIG_STACK0);
	put64(g, RIG_TSS + 12, RIG_STACK1);
	put64(g, RIG_TSS + 36, RIG_IST1);
	if (cpl == 3)
		rig_start(g, SEL_CODE64_3 | 3, SEL_DATA3 | 3);
}

/* Real mode with the vector table at 0, CS 0x1000, SS 0. */
static inline void rig_real(struct guest *g)
{
	struct vcpu *v = g->v;

	vcpu_reset(v, false);
	v->wait_sipi = false;
	v->idtr = (struct table_reg){ .base = 0, .limit = 0x3ff };
	seg_load_real(v, SEG_CS, 0x1000);
	v->rip = 0x100;
	v->gpr[REG_RSP] = 0x8000;
	v->rflags = RFLAGS_FIXED | RFLAGS_IF;
	vcpu_update_mode(v);
}

static inline void rig_idt32(struct guest *g, unsigned int vector, uint64_t gate)
{
	put64(g, RIG_IDT + vector * 8, gate);
}

static inline void rig_idt64(struct guest *g, unsigned int vector, uint64_t gate, uint32_t high)
{
	put64(g, RIG_IDT + vector * 16, gate);
	put64(g, RIG_IDT + vector * 16 + 8, high);
}

/* Interrupt gates for all exceptions, each to RIG_HANDLER + vector * 16. */
static inline void rig_idt_fill(struct guest *g)
{
	bool lng = in_long_mode(g->v);

	for (unsigned int n = 0; n < 64; n++) {
		uint64_t gate = rig_gate(lng ? SEL_CODE64 : SEL_CODE0, RIG_HANDLER + n * 16,
					 SEG_P | 14, 0);

		if (lng)
			rig_idt64(g, n, gate, 0);
		else
			rig_idt32(g, n, gate);
	}
}

static inline int rig_setup(void **state)
{
	*state = guest_create("vireo-v1");
	return 0;
}

static inline int rig_teardown(void **state)
{
	guest_destroy(*state);
	return 0;
}

#define rig_test(f)	cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

#define assert_raised(v, expression, vec, err) do { \
	memset(&(v)->fault, 0xee, sizeof((v)->fault)); \
	assert_int_equal(expression, EXEC_FAULT); \
	assert_int_equal((v)->fault.vector, vec); \
	assert_true((v)->fault.has_error); \
	assert_int_equal((v)->fault.error, err); \
} while (0)

#define assert_raised_ud(v, expression) do { \
	(v)->fault.vector = 0xff; \
	assert_int_equal(expression, EXEC_FAULT); \
	assert_int_equal((v)->fault.vector, EXC_UD); \
	assert_false((v)->fault.has_error); \
} while (0)

#endif
