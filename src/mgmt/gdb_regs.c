// SPDX-License-Identifier: Apache-2.0
/*
 * The registers as gdb numbers them, always those of a 64-bit processor: general, x87, SSE,
 * AVX, segment bases, and the system's own.  System registers are read-only, and so are
 * selectors and x87's pointers: a change of theirs has consequences that only an
 * instruction has.
 *
 * Source: GDB's manual, "Target Descriptions", "i386 Features"; Intel SDM volume 1, "Managing
 * State Using the XSAVE Feature Set".
 */
#include "mgmt/gdb_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XSAVE_FCW	0
#define XSAVE_FSW	2
#define XSAVE_FTW	4
#define XSAVE_FOP	6
#define XSAVE_MXCSR	24
#define XSAVE_ST	32
#define XSAVE_XMM	160
#define XSAVE_BV	512
#define XSAVE_YMMH	576
#define MXCSR_INIT	0x1f80
#define EFLAGS_MAY	(RFLAGS_ARITH | RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_NT | \
			 RFLAGS_RF | RFLAGS_AC | RFLAGS_ID)

enum component { X87, SSE, AVX };

enum reg_kind { R_GPR, R_RIP, R_FLAGS, R_SEG, R_BASE, R_ST, R_FCTL, R_XMM, R_MXCSR, R_YMMH,
		R_KGS, R_CR, R_CR8, R_EFER };

/* @count registers, whose names are NAME, or NAMEn with @suffix. */
struct reg_group {
	const char *name;	/* of one; or what precedes the number */
	const char *type;
	enum reg_kind kind;
	uint8_t size;		/* bytes */
	uint8_t index;		/* of the first */
	uint8_t count;
	const char *suffix;	/* NULL: count is 1 */
	const char *feature;	/* begins here */
};

#define GPR(n, r)	{ n, "int64", R_GPR, 8, r, 1, NULL, NULL }
#define SEG(n, s)	{ n, "int32", R_SEG, 4, s, 1, NULL, NULL }
#define FCTL(n, i)	{ n, "int", R_FCTL, 4, i, 1, NULL, NULL }
#define CR(n, i)	{ n, "int64", R_CR, 8, i, 1, NULL, NULL }

static const struct reg_group groups[] = {
	{ "rax", "int64", R_GPR, 8, REG_RAX, 1, NULL, "org.gnu.gdb.i386.core" },
	GPR("rbx", REG_RBX), GPR("rcx", REG_RCX), GPR("rdx", REG_RDX), GPR("rsi", REG_RSI),
	GPR("rdi", REG_RDI),
	{ "rbp", "data_ptr", R_GPR, 8, REG_RBP, 1, NULL, NULL },
	{ "rsp", "data_ptr", R_GPR, 8, REG_RSP, 1, NULL, NULL },
	{ "r", "int64", R_GPR, 8, REG_R8, 8, "", NULL },
	{ "rip", "code_ptr", R_RIP, 8, 0, 1, NULL, NULL },
	{ "eflags", "i386_eflags", R_FLAGS, 4, 0, 1, NULL, NULL },
	SEG("cs", SEG_CS), SEG("ss", SEG_SS), SEG("ds", SEG_DS), SEG("es", SEG_ES),
	SEG("fs", SEG_FS), SEG("gs", SEG_GS),
	{ "st", "i387_ext", R_ST, 10, 0, 8, "", NULL },
	FCTL("fctrl", 0), FCTL("fstat", 1), FCTL("ftag", 2), FCTL("fiseg", 3),
	FCTL("fioff", 4), FCTL("foseg", 5), FCTL("fooff", 6), FCTL("fop", 7),
	{ "xmm", "vec128", R_XMM, 16, 0, 16, "", "org.gnu.gdb.i386.sse" },
	{ "mxcsr", "i386_mxcsr", R_MXCSR, 4, 0, 1, NULL, NULL },
	{ "ymm", "uint128", R_YMMH, 16, 0, 16, "h", "org.gnu.gdb.i386.avx" },
	{ "fs_base", "int64", R_BASE, 8, SEG_FS, 1, NULL, "org.gnu.gdb.i386.segments" },
	{ "gs_base", "int64", R_BASE, 8, SEG_GS, 1, NULL, NULL },
	{ "k_gs_base", "int64", R_KGS, 8, 0, 1, NULL, "org.vireo.i386.system" },
	CR("cr0", 0), CR("cr2", 2), CR("cr3", 3), CR("cr4", 4),
	{ "cr8", "int64", R_CR8, 8, 0, 1, NULL, NULL },
	{ "efer", "int64", R_EFER, 8, 0, 1, NULL, NULL },
};

/* The group of register @n and its index there; NULL: there is no such register. */
static const struct reg_group *group_of(unsigned int *n)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(groups); i++) {
		if (*n < groups[i].count) {
			*n += groups[i].index;
			return &groups[i];
		}
		*n -= groups[i].count;
	}
	return NULL;
}

unsigned int gdb_reg_count(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(groups); i++)
		n += groups[i].count;
	return n;
}

unsigned int gdb_reg_size(unsigned int n)
{
	const struct reg_group *r = group_of(&n);

	return r ? r->size : 0;
}

/* --- the state of SIMD and x87 --- */

/* Is the component in v->xsave, or in its initial state?  Without XSAVE both old ones are. */
static bool holds(const struct vcpu *v, enum component c)
{
	uint64_t bv;

	if (!v->fpu_mask)
		return c != AVX;
	memcpy(&bv, v->xsave + XSAVE_BV, sizeof(bv));
	return bv >> c & 1;
}

static bool exists(const struct vcpu *v, enum component c)
{
	return c != AVX || v->fpu_mask >> AVX & 1;
}

/* Makes the component one that v->xsave holds, to be written. */
static void take(struct vcpu *v, enum component c)
{
	const uint16_t fcw = 0x37f;
	uint64_t bv;

	if (holds(v, c))
		return;
	if (c == X87) {
		memset(v->xsave, 0, XSAVE_MXCSR);
		memset(v->xsave + XSAVE_ST, 0, XSAVE_XMM - XSAVE_ST);
		memcpy(v->xsave + XSAVE_FCW, &fcw, sizeof(fcw));
	} else {
		memset(v->xsave + (c == SSE ? XSAVE_XMM : XSAVE_YMMH), 0, 256);
	}
	memcpy(&bv, v->xsave + XSAVE_BV, sizeof(bv));
	bv |= BIT(c);
	memcpy(v->xsave + XSAVE_BV, &bv, sizeof(bv));
}

static void read_part(const struct vcpu *v, enum component c, unsigned int offset,
		      unsigned int size, uint8_t *buf)
{
	if (holds(v, c))
		memcpy(buf, v->xsave + offset, size);
}

static bool write_part(struct vcpu *v, enum component c, unsigned int offset,
		       unsigned int size, const uint8_t *buf)
{
	if (!exists(v, c))
		return false;
	take(v, c);
	memcpy(v->xsave + offset, buf, size);
	return true;
}

/* fctrl, fstat, ftag, and so on as gdb numbers them. */
static uint32_t x87_control(const struct vcpu *v, unsigned int index)
{
	static const uint8_t offset[] = { XSAVE_FCW, XSAVE_FSW, XSAVE_FTW, 12, 8, 20, 16, XSAVE_FOP };
	uint32_t value = 0, tag = 0;
	uint16_t half;

	if (!holds(v, X87))
		return index == 0 ? 0x37f : index == 2 ? 0xffff : 0;
	memcpy(&half, v->xsave + offset[index], sizeof(half));
	if (index == 4 || index == 6)
		memcpy(&value, v->xsave + offset[index], sizeof(value));
	else
		value = half;
	if (index != 2)
		return value;
	for (unsigned int i = 0; i < 8; i++)	/* full is valid, whatever it holds */
		tag |= value >> i & 1 ? 0 : 3U << 2 * i;
	return tag;
}

/* --- one register --- */

static uint64_t plain_value(struct vcpu *v, enum reg_kind kind, unsigned int i)
{
	const uint64_t cr[] = { v->cr0, 0, v->cr2, v->cr3, v->cr4 };

	switch (kind) {
	case R_GPR: return v->gpr[i];
	case R_RIP: return v->rip;
	case R_FLAGS: return v->rflags;
	case R_SEG: return v->seg[i].sel;
	case R_BASE: return v->seg[i].base;
	case R_KGS: return v->kernel_gs_base;
	case R_CR: return cr[i];
	case R_CR8: return v->intc_ops && v->intc_ops->get_tpr ? v->intc_ops->get_tpr(v->intc) >> 4 : 0;
	case R_EFER: return v->efer;
	case R_FCTL: return x87_control(v, i);
	default: return 0;
	}
}

unsigned int gdb_reg_read(struct vcpu *v, unsigned int n, uint8_t *buf)
{
	const struct reg_group *r = group_of(&n);
	uint64_t value;

	if (!r)
		return 0;
	memset(buf, 0, 16);
	if (r->kind == R_ST) {
		read_part(v, X87, XSAVE_ST + 16 * n, r->size, buf);
	} else if (r->kind == R_XMM) {
		read_part(v, SSE, XSAVE_XMM + 16 * n, r->size, buf);
	} else if (r->kind == R_YMMH) {
		read_part(v, AVX, XSAVE_YMMH + 16 * n, r->size, buf);
	} else if (r->kind == R_MXCSR) {
		memcpy(buf, v->xsave + XSAVE_MXCSR, r->size);
	} else {
		value = plain_value(v, r->kind, n);
		memcpy(buf, &value, r->size);
	}
	return r->size;
}

static bool write_flags(struct vcpu *v, uint64_t value)
{
	v->rflags = (v->rflags & ~EFLAGS_MAY) | (value & EFLAGS_MAY);
	vcpu_update_mode(v);
	vcpu_recheck_interrupts(v);
	return true;
}

static bool write_plain(struct vcpu *v, enum reg_kind kind, unsigned int i, uint64_t value)
{
	const bool canonical = (uint64_t)((int64_t)(value << 16) >> 16) == value;

	switch (kind) {
	case R_GPR:
		v->gpr[i] = value;
		return true;
	case R_RIP:
		if (canonical) {
			v->rip = v->code_size == CODE_64 ? value : (uint32_t)value;
			v->halted = false;
		}
		return canonical;
	case R_FLAGS:
		return write_flags(v, value);
	case R_BASE:
		if (canonical && v->code_size == CODE_64)
			v->seg[i].base = value;
		return canonical && v->code_size == CODE_64;
	case R_KGS:
		if (canonical)
			v->kernel_gs_base = value;
		return canonical;
	default:
		return value == plain_value(v, kind, i);
	}
}

bool gdb_reg_write(struct vcpu *v, unsigned int n, const uint8_t *buf)
{
	const struct reg_group *r = group_of(&n);
	uint64_t value = 0;

	if (!r)
		return false;
	switch (r->kind) {
	case R_ST:
		return write_part(v, X87, XSAVE_ST + 16 * n, r->size, buf);
	case R_XMM:
		return write_part(v, SSE, XSAVE_XMM + 16 * n, r->size, buf);
	case R_YMMH:
		return write_part(v, AVX, XSAVE_YMMH + 16 * n, r->size, buf);
	case R_MXCSR:	/* reserved bits would make the host's own load fault */
		return !memcmp(buf, v->xsave + XSAVE_MXCSR, r->size);
	default:
		memcpy(&value, buf, MIN(r->size, sizeof(value)));
		return write_plain(v, r->kind, n, value);
	}
}

/* --- the description --- */

static const char *const types_of_sse =
	"<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
	"<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
	"<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
	"<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
	"<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
	"<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
	"<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
	"<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"
	"<field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
	"<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>"
	"<flags id=\"i386_mxcsr\" size=\"4\"><field name=\"IE\" start=\"0\" end=\"0\"/>"
	"<field name=\"PM\" start=\"12\" end=\"12\"/></flags>";

static const char *const types_of_core =
	"<flags id=\"i386_eflags\" size=\"4\">"
	"<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"PF\" start=\"2\" end=\"2\"/>"
	"<field name=\"AF\" start=\"4\" end=\"4\"/><field name=\"ZF\" start=\"6\" end=\"6\"/>"
	"<field name=\"SF\" start=\"7\" end=\"7\"/><field name=\"TF\" start=\"8\" end=\"8\"/>"
	"<field name=\"IF\" start=\"9\" end=\"9\"/><field name=\"DF\" start=\"10\" end=\"10\"/>"
	"<field name=\"OF\" start=\"11\" end=\"11\"/><field name=\"NT\" start=\"14\" end=\"14\"/>"
	"<field name=\"RF\" start=\"16\" end=\"16\"/><field name=\"VM\" start=\"17\" end=\"17\"/>"
	"<field name=\"AC\" start=\"18\" end=\"18\"/><field name=\"ID\" start=\"21\" end=\"21\"/>"
	"</flags>";

static void print_group(FILE *f, const struct reg_group *r)
{
	for (unsigned int i = 0; i < r->count; i++) {
		fprintf(f, "<reg name=\"%s", r->name);
		if (r->suffix)
			fprintf(f, "%u%s", r->index + i, r->suffix);
		fprintf(f, "\" bitsize=\"%u\" type=\"%s\"%s/>", r->size * 8, r->type,
			r->kind == R_FCTL ? " group=\"float\"" : "");
	}
}

char *gdb_reg_xml(void)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	fputs("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">"
	      "<target><architecture>i386:x86-64</architecture>", f);
	for (unsigned int i = 0; i < ARRAY_SIZE(groups); i++) {
		const struct reg_group *r = &groups[i];

		if (r->feature)
			fprintf(f, "%s<feature name=\"%s\">", i ? "</feature>" : "", r->feature);
		if (r->kind == R_XMM)
			fputs(types_of_sse, f);
		if (!i)
			fputs(types_of_core, f);
		print_group(f, r);
	}
	fputs("</feature></target>", f);
	fclose(f);
	return text;
}
