// SPDX-License-Identifier: Apache-2.0
/*
 * Compares how a case ended on two subjects, and prints cases and differences.
 */
#include "compare.h"

#include <Zydis/Zydis.h>
#include <stdio.h>
#include <string.h>

#define FLAGS_COMPARED	(RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT | RFLAGS_RF | RFLAGS_AC)
#define HAS_ERROR	0x227d00U	/* vectors 8, 10-14, 17, 21 */

static const char *const gpr_names[16] = {
	"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
};
static const char *const seg_names[6] = { "es", "cs", "ss", "ds", "fs", "gs" };

static unsigned int differ(FILE *f, const char *what, uint64_t in, uint64_t host, uint64_t guest)
{
	if (host == guest)
		return 0;
	if (f)
		fprintf(f, "  %-8s in %016llx  host %016llx  engine %016llx\n", what,
			(unsigned long long)in, (unsigned long long)host,
			(unsigned long long)guest);
	return 1;
}

/* Linux says "protection violation" of every access to its own half. */
static uint32_t error_seen(const struct cpu_image *g)
{
	return g->vector == EXC_PF && g->cr2 >> 63 ? g->error | PF_P : g->error;
}

/* The host's IRET to user mode makes null selectors 0. */
static uint16_t selector_seen(uint16_t sel)
{
	return sel & ~3 ? sel : 0;
}

static unsigned int compare_registers(FILE *f, const struct test_case *c,
				      const struct cpu_image *h, const struct cpu_image *g)
{
	bool wide = c->code_size == CODE_64;
	uint64_t mask = wide ? UINT64_MAX : UINT32_MAX;
	uint64_t flags = FLAGS_COMPARED & ~(uint64_t)c->form->undef;
	bool fault = h->vector != EXC_BP && h->vector != EXC_DB;
	unsigned int i, n = 0;

	if (fault && c->form->flags & F_FAULT_FLAGS)
		flags &= ~RFLAGS_ARITH;
	for (i = 0; i < (wide ? 16 : 8) && !(fault && c->form->flags & F_PARTIAL); i++)
		n += differ(f, gpr_names[i], c->in.gpr[i], h->gpr[i] & mask, g->gpr[i] & mask);
	n += differ(f, "rip", c->in.rip, h->rip & mask, g->rip & mask);
	n += differ(f, "rflags", c->in.rflags, h->rflags & flags, g->rflags & flags);
	if (fault && c->form->flags & F_ANY_FAULT)
		n += differ(f, "vector", 0, true, g->vector != EXC_BP && g->vector != EXC_DB);
	else
		n += differ(f, "vector", 0, h->vector, g->vector);
	if (h->vector == g->vector && !(c->form->flags & F_ANY_FAULT) && h->vector < 32 &&
	    (HAS_ERROR >> h->vector & 1))
		n += differ(f, "error", 0, h->error, error_seen(g));
	if (h->vector == EXC_PF && g->vector == EXC_PF &&
	    !(c->form->flags & (F_NO_CR2 | F_ANY_FAULT)))
		n += differ(f, "cr2", 0, h->cr2, g->cr2);
	for (i = 0; i < 6; i++)
		n += differ(f, seg_names[i], c->in.sel[i], selector_seen(h->sel[i]),
			    selector_seen(g->sel[i]));
	if (wide) {
		n += differ(f, "fs base", c->in.fs_base, h->fs_base, g->fs_base);
		n += differ(f, "gs base", c->in.gs_base, h->gs_base, g->gs_base);
	}
	return n;
}

/* One component, absent ones as zeroes; the x87 instruction and data pointers apart. */
static unsigned int compare_component(FILE *f, const struct test_case *c, unsigned int feature,
				      const uint8_t *h, const uint8_t *g)
{
	struct xpart p = xstate_part(feature);
	uint64_t hbv, gbv, a, b, in;
	unsigned int i, n = 0;
	char what[32];

	memcpy(&hbv, h + 512, 8);
	memcpy(&gbv, g + 512, 8);
	for (i = 0; i < p.size; i += 8) {
		memcpy(&a, h + p.offset + i, 8);
		memcpy(&b, g + p.offset + i, 8);
		memcpy(&in, c->in.xsave + p.offset + i, 8);
		a = hbv >> feature & 1 ? a : 0;
		b = gbv >> feature & 1 ? b : 0;
		snprintf(what, sizeof(what), "x%u+%u", feature, i);
		n += differ(f, what, in, a, b);
	}
	return n;
}

static unsigned int compare_x87(FILE *f, const struct test_case *c, const uint8_t *h,
				const uint8_t *g)
{
	bool hon = h[512] & 1, gon = g[512] & 1;
	uint64_t a, b, in;
	unsigned int i, n = 0;
	char what[32];

	memcpy(&in, c->in.xsave, 8);
	a = 0x37f;
	b = 0x37f;
	memcpy(&a, h, hon ? 5 : 0);
	memcpy(&b, g, gon ? 5 : 0);
	n += differ(f, "fcw/sw/tw", in, a, b);
	for (i = 32; i < 160; i += i % 16 ? 14 : 2) {
		memcpy(&a, h + i, 8);
		memcpy(&b, g + i, 8);
		memcpy(&in, c->in.xsave + i, 8);
		a = hon ? a : 0;
		b = gon ? b : 0;
		snprintf(what, sizeof(what), "st%u%s", (i - 32) / 16, i % 16 ? "h" : "");
		n += differ(f, what, in, a, b);
	}
	return n;
}

static unsigned int compare_xstate(FILE *f, const struct test_case *c, const uint8_t *h,
				   const uint8_t *g)
{
	static const uint8_t features[] = { 1, 2, 5, 6, 7 };
	uint32_t a, b, in;
	unsigned int i, n;

	n = compare_x87(f, c, h, g);
	memcpy(&a, h + 24, 4);
	memcpy(&b, g + 24, 4);
	memcpy(&in, c->in.xsave + 24, 4);
	n += differ(f, "mxcsr", in, a, b);
	for (i = 0; i < ARRAY_SIZE(features); i++)
		n += compare_component(f, c, features[i], h, g);
	return n;
}

static unsigned int compare_memory(FILE *f, const struct test_case *c, const struct outcome *h,
				   const struct outcome *g)
{
	unsigned int i, j, n = 0;
	uint64_t a, b, in;
	char what[32];

	for (i = DATA_PAGE; i < ARENA_PAGES; i++) {
		if (!(ARENA_MAPPED >> i & 1))
			continue;
		for (j = i * GUEST_PAGE_SIZE; j < (i + 1) * GUEST_PAGE_SIZE && n < 16; j += 8) {
			memcpy(&a, h->arena + j, 8);
			memcpy(&b, g->arena + j, 8);
			memcpy(&in, c->arena + j, 8);
			snprintf(what, sizeof(what), "%llx", ARENA_VA + j);
			n += differ(f, what, in, a, b);
		}
	}
	return n;
}

unsigned int case_compare(FILE *f, const struct test_case *c, const struct outcome *h,
			  const struct outcome *g)
{
	unsigned int n = compare_registers(f, c, &h->out, &g->out);

	if (g->out.vector >= 256)
		return n;
	n += compare_xstate(f, c, h->out.xsave, g->out.xsave);
	return n + compare_memory(f, c, h, g);
}

static bool disassemble(const struct test_case *c, unsigned int at,
			ZydisDisassembledInstruction *d)
{
	static const ZydisMachineMode modes[] = {
		[CODE_16] = ZYDIS_MACHINE_MODE_LONG_COMPAT_16,
		[CODE_32] = ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
		[CODE_64] = ZYDIS_MACHINE_MODE_LONG_64,
	};

	memset(d, 0, sizeof(*d));
	return ZYAN_SUCCESS(ZydisDisassembleIntel(modes[c->code_size], c->in.rip + at,
						  c->code + at, c->len - at, d));
}

bool case_decodes(const struct test_case *c)
{
	ZydisDisassembledInstruction d;

	return disassemble(c, 0, &d);
}

/* A line of disassembly for each instruction. */
static void block_print(FILE *f, const struct test_case *c)
{
	ZydisDisassembledInstruction d;
	unsigned int at = 0, i, n;

	fprintf(f, "block of %u bytes\n", c->len);
	while (at < c->len) {
		n = disassemble(c, at, &d) ? d.info.length : 1;
		fprintf(f, "  %llx: %s  [", (unsigned long long)c->in.rip + at,
			d.info.length ? d.text : "(no instruction)");
		for (i = at; i < at + n; i++)
			fprintf(f, i > at ? " %02x" : "%02x", c->code[i]);
		fprintf(f, "]\n");
		at += n;
	}
}

void case_print(FILE *f, const struct test_case *c)
{
	ZydisDisassembledInstruction d;
	unsigned int i;

	if (c->form == &forms[BLOCK_FORM]) {
		block_print(f, c);
		return;
	}
	if (!disassemble(c, 0, &d))
		strcpy(d.text, "(no instruction)");
	fprintf(f, "%s: %s  [", c->form->name, d.text);
	for (i = 0; i < c->len; i++)
		fprintf(f, i ? " %02x" : "%02x", c->code[i]);
	fprintf(f, "]  %u-bit\n", 16U << c->code_size);
}

void case_dump(FILE *f, const struct test_case *c, const struct outcome *o)
{
	unsigned int i;

	for (i = 0; i < 16; i++)
		fprintf(f, "  %-3s %016llx -> %016llx\n", gpr_names[i],
			(unsigned long long)c->in.gpr[i], (unsigned long long)o->out.gpr[i]);
	for (i = 0; i < 6; i++)
		fprintf(f, "  %s %04x -> %04x\n", seg_names[i], c->in.sel[i], o->out.sel[i]);
	fprintf(f, "  rip %llx -> %llx, rflags %llx -> %llx\n",
		(unsigned long long)c->in.rip, (unsigned long long)o->out.rip,
		(unsigned long long)c->in.rflags, (unsigned long long)o->out.rflags);
	fprintf(f, "  vector %u error %x cr2 %llx\n", o->out.vector, o->out.error,
		(unsigned long long)o->out.cr2);
}
