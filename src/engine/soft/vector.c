// SPDX-License-Identifier: Apache-2.0
/*
 * Vector memory operands of which only some elements are touched: AVX-512 masks, VMASKMOV
 * and VPMASKMOV, gathers and scatters.  What is masked out raises no fault.
 *
 * A masked operand that is mapped whole never comes here: the host's instruction does the
 * right thing on it.  Gathers and scatters are always done here, element by element, on
 * the state put away in v->xsave.
 *
 * Source: Intel SDM volume 2, "Exceptions Type E4" and the like, VMASKMOV, VGATHERDPS,
 * VPSCATTERDD.
 */
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "engine/soft/exec_priv.h"
#include "engine/soft/host.h"
#include "engine/soft/soft_priv.h"

#define XMM_AT		160
#define HEADER_AT	512
#define VECTOR_MAX	64
#define COMP_YMM	2
#define COMP_MASK	5
#define COMP_ZMM	6	/* upper halves of ZMM0-15 */
#define COMP_ZMM16	7	/* ZMM16-31 whole */

/* --- vector registers in the area --- */

/* Where byte @at of vector register @reg is. */
static uint8_t *vector_byte(struct vcpu *v, unsigned int reg, unsigned int at)
{
	const uint32_t *off = v->model->xsave_offset;

	if (reg >= 16)
		return v->xsave + off[COMP_ZMM16] + (reg - 16) * 64 + at;
	if (at < 16)
		return v->xsave + XMM_AT + reg * 16 + at;
	if (at < 32)
		return v->xsave + off[COMP_YMM] + reg * 16 + at - 16;
	return v->xsave + off[COMP_ZMM] + reg * 32 + at - 32;
}

/* An element of 4 or 8 bytes never lies in two parts. */
static uint64_t element(struct vcpu *v, unsigned int reg, unsigned int n, unsigned int size)
{
	const uint8_t *p = vector_byte(v, reg, n * size);
	uint32_t low;
	uint64_t x;

	if (size == 8) {
		__builtin_memcpy(&x, p, 8);
		return x;
	}
	__builtin_memcpy(&low, p, 4);
	return low;
}

static void set_element(struct vcpu *v, unsigned int reg, unsigned int n, unsigned int size,
			uint64_t x)
{
	uint8_t *p = vector_byte(v, reg, n * size);

	if (size == 8)
		__builtin_memcpy(p, &x, 8);
	else
		__builtin_memcpy(p, &x, 4);
}

/* Bytes the model's registers have. */
static unsigned int vector_bytes(const struct vcpu *v)
{
	return v->model->xsave_size[COMP_ZMM] ? 64 : 32;
}

static void clear_from(struct vcpu *v, unsigned int reg, unsigned int at)
{
	for (; at < vector_bytes(v); at += 4)
		set_element(v, reg, at / 4, 4, 0);
}

static uint64_t *mask_register(struct vcpu *v, unsigned int k)
{
	return (uint64_t *)(v->xsave + v->model->xsave_offset[COMP_MASK] + 8 * k);
}

/* What was written to the area is in use. */
static void mark_in_use(struct vcpu *v)
{
	uint64_t bv;

	__builtin_memcpy(&bv, v->xsave + HEADER_AT, 8);
	bv |= v->fpu_mask & ~(uint64_t)XCR0_X87;
	__builtin_memcpy(v->xsave + HEADER_AT, &bv, 8);
}

/* --- masked operands --- */

static bool is_maskmov(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_VMASKMOVPS: case INSN_ID_VMASKMOVPD:
	case INSN_ID_VPMASKMOVD: case INSN_ID_VPMASKMOVQ:
		return true;
	default:
		return false;
	}
}

/* Shuffles and the like read all of their operand whatever the mask says (type E4NF). */
static bool reads_all(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_VALIGND: case INSN_ID_VALIGNQ: case INSN_ID_VDBPSADBW:
	case INSN_ID_VPACKSSDW: case INSN_ID_VPACKSSWB: case INSN_ID_VPACKUSDW:
	case INSN_ID_VPACKUSWB: case INSN_ID_VPALIGNR: case INSN_ID_VPSHUFB:
	case INSN_ID_VPSHUFD: case INSN_ID_VPSHUFHW: case INSN_ID_VPSHUFLW:
	case INSN_ID_VPERMB: case INSN_ID_VPERMW: case INSN_ID_VPERMD: case INSN_ID_VPERMQ:
	case INSN_ID_VPERMPS: case INSN_ID_VPERMPD: case INSN_ID_VPERMILPS:
	case INSN_ID_VPERMILPD: case INSN_ID_VPERMI2B: case INSN_ID_VPERMI2W:
	case INSN_ID_VPERMI2D: case INSN_ID_VPERMI2Q: case INSN_ID_VPERMI2PS:
	case INSN_ID_VPERMI2PD: case INSN_ID_VPERMT2B: case INSN_ID_VPERMT2W:
	case INSN_ID_VPERMT2D: case INSN_ID_VPERMT2Q: case INSN_ID_VPERMT2PS:
	case INSN_ID_VPERMT2PD: case INSN_ID_VPMULTISHIFTQB: case INSN_ID_VPSLLW:
	case INSN_ID_VPSLLD: case INSN_ID_VPSLLQ: case INSN_ID_VPSRLW: case INSN_ID_VPSRLD:
	case INSN_ID_VPSRLQ: case INSN_ID_VPSRAW: case INSN_ID_VPSRAD: case INSN_ID_VPSRAQ:
	case INSN_ID_VPUNPCKHBW: case INSN_ID_VPUNPCKHWD: case INSN_ID_VPUNPCKHDQ:
	case INSN_ID_VPUNPCKHQDQ: case INSN_ID_VPUNPCKLBW: case INSN_ID_VPUNPCKLWD:
	case INSN_ID_VPUNPCKLDQ: case INSN_ID_VPUNPCKLQDQ: case INSN_ID_VSHUFPS:
	case INSN_ID_VSHUFPD: case INSN_ID_VSHUFF32X4: case INSN_ID_VSHUFF64X2:
	case INSN_ID_VSHUFI32X4: case INSN_ID_VSHUFI64X2: case INSN_ID_VUNPCKHPS:
	case INSN_ID_VUNPCKHPD: case INSN_ID_VUNPCKLPS: case INSN_ID_VUNPCKLPD:
	case INSN_ID_VMOVDDUP: case INSN_ID_VMOVSHDUP: case INSN_ID_VMOVSLDUP:
	case INSN_ID_VGF2P8AFFINEQB: case INSN_ID_VGF2P8AFFINEINVQB:
		return true;
	default:
		return false;
	}
}

bool vector_is_masked(const struct insn *i)
{
	return is_maskmov(i) || (i->mem.mask && !reads_all(i));
}

/* Those that read or write as many elements, one after the other, as the mask has bits. */
static bool is_packed(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_VPEXPANDB: case INSN_ID_VPEXPANDW: case INSN_ID_VPEXPANDD:
	case INSN_ID_VPEXPANDQ: case INSN_ID_VEXPANDPS: case INSN_ID_VEXPANDPD:
	case INSN_ID_VPCOMPRESSB: case INSN_ID_VPCOMPRESSW: case INSN_ID_VPCOMPRESSD:
	case INSN_ID_VPCOMPRESSQ: case INSN_ID_VCOMPRESSPS: case INSN_ID_VCOMPRESSPD:
		return true;
	default:
		return false;
	}
}

static uint64_t low_bits(unsigned int n)
{
	return n >= 64 ? ~0ULL : BIT(n) - 1;
}

/* A bit for each element of the memory operand that is to be touched. */
static uint64_t wanted(struct vcpu *v, const struct insn *i, unsigned int elem,
		       unsigned int count)
{
	uint64_t bits = 0;

	if (is_maskmov(i)) {
		for (unsigned int n = 0; n < count; n++)
			bits |= (element(v, i->op[1].reg, n, elem) >> (8 * elem - 1) & 1) << n;
		return bits;
	}
	bits = *mask_register(v, i->mem.mask);
	if (count == 1)		/* a broadcast, or a scalar; the latter has bit 0 alone */
		return i->op[0].size > i->mem.size ? bits != 0 : bits & 1;
	bits &= low_bits(count);
	return is_packed(i) ? low_bits(__builtin_popcountll(bits)) : bits;
}

struct pieces {
	uint8_t buf[VECTOR_MAX];
	unsigned int elem, count;
	uint64_t wanted;
	uint64_t off;
};

/* One pass over the wanted elements: read, check for writing, or write. */
enum pass { PASS_READ, PASS_PROBE, PASS_WRITE };

static int for_each(struct vcpu *v, const struct insn *i, struct pieces *p, enum pass pass)
{
	unsigned int access = seg_access(i->mem.seg, pass == PASS_READ ? ACC_READ : ACC_WRITE);
	enum mem_result r;
	gva_t gva;

	for (unsigned int n = 0; n < p->count; n++) {
		uint8_t *at = p->buf + n * p->elem;

		if (!(p->wanted >> n & 1))
			continue;
		TRY(exec_linear(v, i->mem.seg, p->off + n * p->elem, p->elem, access, &gva));
		if (pass == PASS_READ)
			r = mem_read(v, gva, at, p->elem, access);
		else if (pass == PASS_PROBE)
			r = mem_probe_write(v, gva, p->elem, access);
		else
			r = mem_write(v, gva, at, p->elem, access);
		if (r != MEM_OK)
			return mem_status(r);
	}
	return EXEC_OK;
}

int vector_run_masked(struct vcpu *v, const struct insn *i)
{
	struct pieces p __attribute__((aligned(64))) = {
		.elem = i->mem.elem ? i->mem.elem : i->mem.size,
		.off = exec_offset(v, i),
	};

	p.count = MIN(i->mem.size, VECTOR_MAX) / p.elem;
	fpu_put(v);
	p.wanted = wanted(v, i, p.elem, p.count);
	if (i->flags & INSN_MEM_WRITE)
		TRY(for_each(v, i, &p, PASS_PROBE));
	if (i->flags & INSN_MEM_READ)
		TRY(for_each(v, i, &p, PASS_READ));
	TRY(host_call(v, i, p.buf));
	if (i->flags & INSN_MEM_WRITE)
		TRY(for_each(v, i, &p, PASS_WRITE));
	return EXEC_OK;
}

/* --- gathers and scatters --- */

struct vsib {
	unsigned int data, index;	/* bytes of a data and an index element */
	unsigned int count;
	unsigned int reg;		/* destination or source */
	unsigned int mask;		/* mask or vector register with the mask */
	bool evex, scatter;
};

/* The opcode says the index's size, W the data's, L how many: all encodings agree. */
static struct vsib read_vsib(const struct insn *i)
{
	const uint8_t *b = &i->bytes[i->ext_at];
	uint8_t opcode = i->bytes[i->prefix_len];
	struct vsib s = { .evex = i->encoding == ENC_EVEX, .scatter = opcode >= 0xa0 };
	unsigned int length = s.evex ? b[3] >> 5 & 3 : b[2] >> 2 & 1;

	s.index = opcode & 1 ? 8 : 4;
	s.data = b[2] & 0x80 ? 8 : 4;
	s.count = (16 << length) / MAX(s.index, s.data);
	s.reg = i->op[s.scatter ? (i->op[0].kind == OPND_MEM ? 2 : 1) : 0].reg;
	s.mask = s.evex ? i->mem.mask : i->op[2].reg;
	return s;
}

static bool selected(struct vcpu *v, const struct vsib *s, unsigned int n)
{
	if (s->evex)
		return *mask_register(v, s->mask) >> n & 1;
	return element(v, s->mask, n, s->data) >> (8 * s->data - 1);
}

static void deselect(struct vcpu *v, const struct vsib *s, unsigned int n)
{
	if (s->evex)
		*mask_register(v, s->mask) &= ~BIT(n);
	else
		set_element(v, s->mask, n, s->data, 0);
}

/* The linear address of element @n. */
static int element_address(struct vcpu *v, const struct insn *i, const struct vsib *s,
			   unsigned int n, gva_t *gva)
{
	uint64_t raw = element(v, i->mem.index, n, s->index);
	int64_t index = s->index == 4 ? (int32_t)raw : (int64_t)raw;
	uint64_t off = exec_offset(v, i) + ((uint64_t)index << i->mem.scale);

	off &= size_mask(i->mem.addr_size);
	return exec_linear(v, i->mem.seg, off, s->data, s->scatter ? ACC_WRITE : ACC_READ, gva);
}

static int move_element(struct vcpu *v, const struct insn *i, const struct vsib *s, unsigned int n)
{
	uint64_t x = 0;
	enum mem_result r;
	gva_t gva;

	TRY(element_address(v, i, s, n, &gva));
	if (s->scatter) {
		x = element(v, s->reg, n, s->data);
		r = mem_write(v, gva, &x, s->data, seg_access(i->mem.seg, ACC_WRITE));
	} else {
		r = mem_read(v, gva, &x, s->data, seg_access(i->mem.seg, ACC_READ));
	}
	if (r != MEM_OK)
		return mem_status(r);
	if (!s->scatter)
		set_element(v, s->reg, n, s->data, x);
	return EXEC_OK;
}

/* Elements in order; a fault leaves those before it done and out of the mask. */
static int exec_vsib(struct vcpu *v, const struct insn *i)
{
	struct vsib s = read_vsib(i);

	TRY(s.evex ? host_check_avx512(v) : host_check_avx(v));
	fpu_put(v);
	mark_in_use(v);
	for (unsigned int n = 0; n < s.count; n++) {
		if (selected(v, &s, n))
			TRY(move_element(v, i, &s, n));
		deselect(v, &s, n);
	}
	if (s.evex)
		*mask_register(v, s.mask) = 0;
	else
		clear_from(v, s.mask, 0);
	if (!s.scatter)
		clear_from(v, s.reg, s.count * s.data);
	return exec_next(v, i);
}

exec_fn vector_gather_scatter(const struct insn *i)
{
	(void)i;
	return exec_vsib;
}
