// SPDX-License-Identifier: Apache-2.0
/*
 * Instructions that move SIMD and x87 state as such: FXSAVE, FXRSTOR, XSAVE, XSAVEOPT,
 * XRSTOR; and MASKMOVQ, MASKMOVDQU.  The state is put away into v->xsave, which has the
 * standard format, and copied from or to there, so nothing the guest's image says reaches
 * the host's XRSTOR unchecked.
 *
 * Not modelled: the compacted format (no model has it).  The instruction and data pointers
 * of x87 read zero (see host.c).
 *
 * Source: Intel SDM volume 1, "Managing State Using the XSAVE Feature Set"; volume 2,
 * FXSAVE, FXRSTOR, MASKMOVQ.
 */
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "engine/soft/exec_priv.h"
#include "engine/soft/host.h"
#include "engine/soft/soft_priv.h"

#define LEGACY_SIZE	512
#define HEADER_AT	512
#define EXTENDED_AT	576
#define FCW_AT		0
#define FIP_AT		8	/* and FDP: 16 bytes */
#define MXCSR_AT	24
#define ST_AT		32
#define XMM_AT		160
#define FXSAVE_END	416	/* after XMM15 */
#define MXCSR_VALID	0xffffU
#define FCW_INIT	0x37f
#define COMPONENTS	8	/* of XCR0 that models can have */

/* --- small copies: no libc here --- */

/* Most are of whole words, and kernels do them at each switch of tasks. */
static void copy(uint8_t *to, const uint8_t *from, unsigned int n)
{
	for (; n >= 8; n -= 8, to += 8, from += 8)
		__builtin_memcpy(to, from, 8);
	while (n--)
		*to++ = *from++;
}

static void clear(uint8_t *p, unsigned int n)
{
	for (; n >= 8; n -= 8, p += 8)
		__builtin_memset(p, 0, 8);
	while (n--)
		*p++ = 0;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t x;

	__builtin_memcpy(&x, p, 8);
	return x;
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t x;

	__builtin_memcpy(&x, p, 4);
	return x;
}

static void put64(uint8_t *p, uint64_t x)
{
	__builtin_memcpy(p, &x, 8);
}

/* --- the parts of the area --- */

struct part {
	unsigned int at, size;
};

/* Component @n >= 2 as far as this mode reaches: half of the registers outside 64-bit mode. */
static struct part component(const struct vcpu *v, unsigned int n)
{
	struct part p = { v->model->xsave_offset[n], v->model->xsave_size[n] };

	if (v->code_size != CODE_64) {
		if (n == 2 || n == 6)
			p.size /= 2;
		else if (n == 7)
			p.size = 0;
	}
	return p;
}

static unsigned int xmm_size(const struct vcpu *v)
{
	return v->code_size == CODE_64 ? 256 : 128;
}

/* The end of the area that the components in @mask need. */
static unsigned int area_size(const struct vcpu *v, uint64_t mask)
{
	unsigned int end = EXTENDED_AT;

	for (unsigned int n = 2; n < COMPONENTS; n++)
		if (mask & BIT(n))
			end = MAX(end, v->model->xsave_offset[n] + v->model->xsave_size[n]);
	return end;
}

/* --- FXSAVE, FXRSTOR --- */

static enum exec_status operand(struct vcpu *v, const struct insn *i, unsigned int size,
				unsigned int align, unsigned int access, gva_t *gva)
{
	enum exec_status st;

	st = exec_linear(v, i->mem.seg, exec_offset(v, i), size, access, gva);
	if (st != EXEC_OK)
		return st;
	return *gva & (align - 1) ? raise_gp(v, 0) : EXEC_OK;
}

static int exec_fxsave(struct vcpu *v, const struct insn *i)
{
	unsigned int size = XMM_AT + xmm_size(v);
	uint8_t buf[FXSAVE_END];
	enum mem_result r;
	gva_t gva;
	int st;

	st = host_check_x87(v);
	if (st == EXEC_OK)
		st = operand(v, i, LEGACY_SIZE, 16, ACC_WRITE, &gva);
	if (st != EXEC_OK)
		return st;
	fpu_put(v);
	copy(buf, v->xsave, size);
	clear(buf + FIP_AT, 16);
	r = mem_write(v, gva, buf, size, ACC_WRITE);
	return r == MEM_OK ? exec_next(v, i) : (int)mem_status(r);
}

static int exec_fxrstor(struct vcpu *v, const struct insn *i)
{
	unsigned int size = XMM_AT + xmm_size(v);
	uint8_t buf[FXSAVE_END];
	enum mem_result r;
	gva_t gva;
	int st;

	st = host_check_x87(v);
	if (st == EXEC_OK)
		st = operand(v, i, LEGACY_SIZE, 16, ACC_READ, &gva);
	if (st != EXEC_OK)
		return st;
	r = mem_read(v, gva, buf, size, ACC_READ);
	if (r != MEM_OK)
		return mem_status(r);
	if (get32(buf + MXCSR_AT) & ~MXCSR_VALID)
		return raise_gp(v, 0);
	fpu_put(v);
	copy(v->xsave, buf, MXCSR_AT + 4);	/* MXCSR_MASK stays */
	copy(v->xsave + ST_AT, buf + ST_AT, size - ST_AT);
	v->xsave[HEADER_AT] |= XCR0_X87 | XCR0_SSE;
	return exec_next(v, i);
}

/* --- XSAVE, XSAVEOPT, XRSTOR --- */

static int check_xsave(struct vcpu *v)
{
	if (!(v->cr4 & CR4_OSXSAVE))
		return raise_ud(v);
	return v->cr0 & CR0_TS ? raise_exc(v, EXC_NM) : EXEC_OK;
}

static uint64_t requested(const struct vcpu *v)
{
	return ((uint32_t)v->gpr[REG_RAX] | v->gpr[REG_RDX] << 32) & v->xcr0;
}

/* Copies what @mask selects from v->xsave into the guest's image. */
static void image_fill(const struct vcpu *v, uint8_t *image, uint64_t mask, uint64_t write)
{
	const uint8_t *area = v->xsave;

	if (write & XCR0_X87) {
		copy(image, area, FIP_AT);
		clear(image + FIP_AT, 16);
		copy(image + ST_AT, area + ST_AT, XMM_AT - ST_AT);
	}
	if (mask & (XCR0_SSE | XCR0_AVX))
		copy(image + MXCSR_AT, area + MXCSR_AT, 8);
	if (write & XCR0_SSE)
		copy(image + XMM_AT, area + XMM_AT, xmm_size(v));
	for (unsigned int n = 2; n < COMPONENTS; n++) {
		struct part p = component(v, n);

		if (write & BIT(n))
			copy(image + p.at, area + p.at, p.size);
	}
}

static int xsave(struct vcpu *v, const struct insn *i, bool optimised)
{
	uint64_t mask = requested(v), in_use;
	uint8_t image[XSAVE_AREA_SIZE];
	unsigned int size = area_size(v, mask);
	enum mem_result r;
	gva_t gva;
	int st;

	st = check_xsave(v);
	if (st == EXEC_OK)
		st = operand(v, i, size, 64, ACC_WRITE, &gva);
	if (st != EXEC_OK)
		return st;
	/* What is not written keeps its contents: read, change, write. */
	r = mem_probe_write(v, gva, size, ACC_WRITE);
	if (r == MEM_OK)
		r = mem_read(v, gva, image, size, ACC_READ);
	if (r != MEM_OK)
		return mem_status(r);
	fpu_put(v);
	in_use = get64(v->xsave + HEADER_AT) & mask;
	image_fill(v, image, mask, optimised ? in_use : mask);
	put64(image + HEADER_AT, (get64(image + HEADER_AT) & ~mask) | in_use);
	r = mem_write(v, gva, image, size, ACC_WRITE);
	return r == MEM_OK ? exec_next(v, i) : (int)mem_status(r);
}

static int exec_xsave(struct vcpu *v, const struct insn *i)
{
	return xsave(v, i, false);
}

static int exec_xsaveopt(struct vcpu *v, const struct insn *i)
{
	return xsave(v, i, true);
}

/* x87 and SSE: @present says which are in the image, the other requested ones initialise. */
static void legacy_load(struct vcpu *v, const uint8_t *image, uint64_t mask, uint64_t present)
{
	static const uint8_t fcw_init[2] = { FCW_INIT & 0xff, FCW_INIT >> 8 };
	uint8_t *area = v->xsave;

	if (mask & XCR0_X87) {
		clear(area, MXCSR_AT);
		if (present & XCR0_X87) {
			copy(area, image, FIP_AT);
			copy(area + ST_AT, image + ST_AT, XMM_AT - ST_AT);
		} else {
			copy(area, fcw_init, 2);
			clear(area + ST_AT, XMM_AT - ST_AT);
		}
	}
	if (mask & (XCR0_SSE | XCR0_AVX))
		copy(area + MXCSR_AT, image + MXCSR_AT, 4);
	if (mask & XCR0_SSE) {
		if (present & XCR0_SSE)
			copy(area + XMM_AT, image + XMM_AT, xmm_size(v));
		else
			clear(area + XMM_AT, xmm_size(v));
	}
}

static void image_load(struct vcpu *v, const uint8_t *image, uint64_t mask)
{
	uint64_t present = get64(image + HEADER_AT);

	legacy_load(v, image, mask, present);
	for (unsigned int n = 2; n < COMPONENTS; n++) {
		struct part p = component(v, n);

		if (!(mask & BIT(n)))
			continue;
		if (present & BIT(n))
			copy(v->xsave + p.at, image + p.at, p.size);
		else
			clear(v->xsave + p.at, p.size);
	}
	put64(v->xsave + HEADER_AT, get64(v->xsave + HEADER_AT) | mask);
}

/* The standard format's header, and MXCSR if it is to be loaded. */
static bool image_valid(const struct vcpu *v, const uint8_t *image, uint64_t mask)
{
	const uint8_t *h = image + HEADER_AT;

	if (get64(h) & ~v->xcr0 || get64(h + 8) || get64(h + 16))
		return false;
	return !(mask & (XCR0_SSE | XCR0_AVX)) || !(get32(image + MXCSR_AT) & ~MXCSR_VALID);
}

static int exec_xrstor(struct vcpu *v, const struct insn *i)
{
	uint64_t mask = requested(v);
	uint8_t image[XSAVE_AREA_SIZE];
	unsigned int size = area_size(v, mask);
	enum mem_result r;
	gva_t gva;
	int st;

	st = check_xsave(v);
	if (st == EXEC_OK)
		st = operand(v, i, size, 64, ACC_READ, &gva);
	if (st != EXEC_OK)
		return st;
	r = mem_read(v, gva, image, size, ACC_READ);
	if (r != MEM_OK)
		return mem_status(r);
	if (!image_valid(v, image, mask))
		return raise_gp(v, 0);
	fpu_put(v);
	image_load(v, image, mask);
	return exec_next(v, i);
}

/* --- MASKMOVQ, MASKMOVDQU --- */

/* Stores the bytes of @src whose byte of @mask has its top bit set; all or none. */
static int masked_store(struct vcpu *v, const struct insn *i, const uint8_t *src,
			const uint8_t *mask, unsigned int size)
{
	uint64_t off = exec_offset(v, i);
	enum mem_result r = MEM_OK;
	gva_t gva;

	for (unsigned int pass = 0; pass < 2; pass++) {
		for (unsigned int n = 0; n < size; n++) {
			if (!(mask[n] & 0x80))
				continue;
			if (exec_linear(v, i->mem.seg, off + n, 1, ACC_WRITE, &gva) != EXEC_OK)
				return EXEC_FAULT;
			if (pass)
				r = mem_write(v, gva, &src[n], 1, ACC_WRITE);
			else
				r = mem_probe_write(v, gva, 1, ACC_WRITE);
			if (r != MEM_OK)
				return mem_status(r);
		}
	}
	return exec_next(v, i);
}

static int exec_maskmovdqu(struct vcpu *v, const struct insn *i)
{
	uint8_t src[16], mask[16];
	int st = i->flags & INSN_VEX ? host_check_avx(v) : host_check_sse(v);

	if (st != EXEC_OK)
		return st;
	fpu_put(v);
	copy(src, v->xsave + XMM_AT + 16 * i->op[0].reg, 16);
	copy(mask, v->xsave + XMM_AT + 16 * i->op[1].reg, 16);
	return masked_store(v, i, src, mask, 16);
}

/* MMn is the physical register n; the area has the stack's order. */
static const uint8_t *mmx_register(const struct vcpu *v, unsigned int n)
{
	unsigned int top = v->xsave[3] >> 3 & 7;	/* of FSW */

	return v->xsave + ST_AT + 16 * ((n - top) & 7);
}

static int exec_maskmovq(struct vcpu *v, const struct insn *i)
{
	uint8_t src[8], mask[8];

	if (v->cr0 & CR0_EM)
		return raise_ud(v);
	if (host_check_x87(v) != EXEC_OK)
		return EXEC_FAULT;
	fpu_put(v);
	if (v->xsave[2] & 0x80)		/* FSW.ES: an x87 exception is pending */
		return raise_exc(v, EXC_MF);
	copy(src, mmx_register(v, i->op[0].reg), 8);
	copy(mask, mmx_register(v, i->op[1].reg), 8);
	return masked_store(v, i, src, mask, 8);
}

/* --- VZEROALL, VZEROUPPER outside 64-bit mode: the host would clear all sixteen --- */

static int exec_vzero32(struct vcpu *v, const struct insn *i)
{
	struct part ymm = component(v, 2), zmm = component(v, 6);

	TRY(host_check_avx(v));
	fpu_put(v);
	if (i->info->id == INSN_ID_VZEROALL)
		clear(v->xsave + XMM_AT, xmm_size(v));
	clear(v->xsave + ymm.at, ymm.size);
	clear(v->xsave + zmm.at, zmm.size);
	return exec_next(v, i);
}

exec_fn host_special(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_FXSAVE: case INSN_ID_FXSAVE64:
		return exec_fxsave;
	case INSN_ID_FXRSTOR: case INSN_ID_FXRSTOR64:
		return exec_fxrstor;
	case INSN_ID_XSAVE: case INSN_ID_XSAVE64:
		return exec_xsave;
	case INSN_ID_XSAVEOPT: case INSN_ID_XSAVEOPT64:
		return exec_xsaveopt;
	case INSN_ID_XRSTOR: case INSN_ID_XRSTOR64:
		return exec_xrstor;
	case INSN_ID_MASKMOVDQU: case INSN_ID_VMASKMOVDQU:
		return exec_maskmovdqu;
	case INSN_ID_MASKMOVQ:
		return exec_maskmovq;
	case INSN_ID_VZEROALL: case INSN_ID_VZEROUPPER:
		return i->code_size == CODE_64 ? NULL : exec_vzero32;
	default:
		return NULL;
	}
}
